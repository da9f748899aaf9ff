use proptest::prelude::*;
use serde_json::{Map, Value};

use super::super::rewrite::{ModelRewrite, Parts, Rewrite};
use super::*;

fn plain(model: &str) -> Rewrite<'_> {
    Rewrite { model: ModelRewrite::Replace(model), inject_usage: false, defaults: &[], strip_priority: true }
}

fn body(text: &str) -> RequestBody {
    scan(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

fn joined(parts: &Parts) -> String {
    assert_eq!(parts.length, parts.slices.iter().map(Bytes::len).sum::<usize>());
    String::from_utf8(parts.slices.concat()).unwrap()
}

fn spliced(text: &str) -> String {
    joined(&body(text).rewrite(&plain("gpt-4o-prod")))
}

#[test]
fn the_splice_table() {
    for (input, model, output) in [
        (r#"{"model" : "r","messages":[]}"#, "r", r#"{"model" : "gpt-4o-prod","messages":[]}"#),
        (r#"{"model":"a","x":1,"model":"r"}"#, "r", r#"{"model":"gpt-4o-prod","x":1,"model":"gpt-4o-prod"}"#),
        (r#"{"\u006dodel":"r"}"#, "r", r#"{"\u006dodel":"gpt-4o-prod"}"#),
        (r#"{"messages":[{"model":"r"}],"model":"r"}"#, "r", r#"{"messages":[{"model":"r"}],"model":"gpt-4o-prod"}"#),
        (
            r#"{"messages":[{"content":"\"model\":\"r\""}],"model":"r"}"#,
            "r",
            r#"{"messages":[{"content":"\"model\":\"r\""}],"model":"gpt-4o-prod"}"#,
        ),
        (r#"{"model":"r","tags":["a"],"n":1}"#, "r", r#"{"model":"gpt-4o-prod","n":1}"#),
        (r#"{"tags":["a"],"model":"r"}"#, "r", r#"{"model":"gpt-4o-prod"}"#),
        (r#"{"model":"r","tags":["a"]}"#, "r", r#"{"model":"gpt-4o-prod"}"#),
        (
            r#"{"tags":[],"timeout":1, "model":"r","mock_x":{} , "litellm_y":"," }"#,
            "r",
            r#"{ "model":"gpt-4o-prod"  }"#,
        ),
        ("\u{feff}{\"model\":\"r\"}", "r", r#"{"model":"gpt-4o-prod"}"#),
        (r#"{"model":"\ud83d\ude00\/r"}"#, "😀/r", r#"{"model":"gpt-4o-prod"}"#),
    ] {
        assert_eq!(body(input).model(), Some(model), "{input}");
        assert_eq!(spliced(input), output, "{input}");
    }
}

#[test]
fn faults_name_their_place() {
    let at = |text: &str| match scan(Bytes::copy_from_slice(text.as_bytes())) {
        Err(Fault::InvalidJson { at, .. }) => Some(at),
        _ => None,
    };
    assert_eq!(at("[]"), Some(0));
    assert_eq!(at(""), Some(0));
    assert_eq!(at("{\"model\":\"r\"} x"), Some(14));
    assert_eq!(at("\u{feff}{]"), Some(4));
    assert_eq!(at(r#"{"\q":1}"#), Some(2));
    assert_eq!(at(r#"{"model":"\ud800"}"#), Some(9));
    assert_eq!(at(r#"{"model":"r","x":"\q"}"#), None, "values that are not needed are not judged");
    assert_eq!(body(r#"{"model":42}"#).required_model(), Err(Fault::InvalidModel));
    assert_eq!(body(r#"{"model":""}"#).required_model(), Err(Fault::InvalidModel));
    assert_eq!(body("{}").required_model(), Err(Fault::MissingModel));
}

#[test]
fn an_equal_model_keeps_the_buffer() {
    let bytes = Bytes::from_static(br#"{"model":"gpt-4o-prod","n":1}"#);
    let parts = scan(bytes.clone()).unwrap().rewrite(&plain("gpt-4o-prod"));
    assert_eq!(parts.slices.len(), 1);
    assert_eq!(parts.slices[0].as_ptr(), bytes.as_ptr());
}

#[test]
fn large_bodies_become_slices_of_the_one_buffer() {
    let text = format!(r#"{{"model":"r","x":"{}"}}"#, "y".repeat(20_000));
    let bytes = Bytes::from(text);
    let parts = scan(bytes.clone()).unwrap().rewrite(&plain("m"));
    assert_eq!(parts.slices.len(), 3);
    assert_eq!(parts.slices[2].as_ptr(), bytes[11..].as_ptr());
    assert!(joined(&parts).starts_with(r#"{"model":"m","x":"y"#));
}

#[test]
fn usage_is_asked_for_in_the_callers_own_words() {
    let ask = Rewrite { inject_usage: true, ..plain("r") };
    for (input, output) in [
        (r#"{"model":"r"}"#, r#"{"model":"r","stream_options":{"include_usage":true}}"#),
        (r#"{"stream_options":{}}"#, r#"{"stream_options":{"include_usage":true}}"#),
        (r#"{"stream_options":{ "a":1}}"#, r#"{"stream_options":{"include_usage":true, "a":1}}"#),
        (r#"{"stream_options":null}"#, r#"{"stream_options":{"include_usage":true}}"#),
        (r#"{"stream_options":{"include_usage":false}}"#, r#"{"stream_options":{"include_usage":true}}"#),
        (r#"{"stream_options":{"include_usage":true}}"#, r#"{"stream_options":{"include_usage":true}}"#),
        (r#"{"stream_options":7}"#, r#"{"stream_options":7}"#),
        (r#"{ }"#, r#"{ "stream_options":{"include_usage":true}}"#),
        (r#"{"tags":[]}"#, r#"{"stream_options":{"include_usage":true}}"#),
    ] {
        assert_eq!(joined(&body(input).rewrite(&ask)), output, "{input}");
    }
    assert!(body(r#"{"stream_options":{"include_usage":true}}"#).asks_usage());
}

#[test]
fn defaults_fill_gaps_only_and_a_model_can_be_added() {
    let defaults = [("temperature".to_owned(), "0.2".to_owned()), ("top_p".to_owned(), "1".to_owned())];
    let rewrite = Rewrite { defaults: &defaults, model: ModelRewrite::ReplaceOrAdd("m\"x"), ..plain("") };
    assert_eq!(
        joined(&body(r#"{"temperature":1}"#).rewrite(&rewrite)),
        r#"{"temperature":1,"model":"m\"x","top_p":1}"#
    );
}

#[test]
fn priority_goes_by_provider() {
    let keep = Rewrite { strip_priority: false, ..plain("r") };
    let text = r#"{"priority":3,"tags":[],"model":"r"}"#;
    assert_eq!(joined(&body(text).rewrite(&keep)), r#"{"priority":3,"model":"r"}"#);
    assert_eq!(joined(&body(text).rewrite(&plain("r"))), r#"{"model":"r"}"#);
}

#[test]
fn fields_that_steer_the_gateway() {
    let found = body(
        r#"{"stream":true,"store":true,"background":true,"n":2,"max_tokens":100,"conversation":{"id":"c_1"},
        "previous_response_id":"resp_1","timeout":2.5,"stream_timeout":"1","num_retries":0,"disable_fallbacks":true}"#,
    );
    assert!(found.stream() && found.store() == Some(true) && found.background());
    assert_eq!(found.object_ids(), ["c_1", "resp_1"]);
    assert_eq!(found.token_estimate(), (found.bytes().len() as u64 / 4 + 200, 0));
    assert_eq!(body("{}").token_estimate(), (0, 1));
    let limits = found.client_limits();
    assert_eq!(limits.timeout, Some(Duration::from_millis(2_500)));
    assert_eq!(limits.stream_timeout, Some(Duration::from_secs(1)));
    assert_eq!((limits.num_retries, limits.disable_fallbacks), (Some(0), true));
}

#[test]
fn reasoning_is_asked_unless_it_is_none() {
    for (text, expected) in [
        (r#"{"reasoning_effort":"low"}"#, true),
        (r#"{"reasoning_effort":"none"}"#, false),
        (r#"{"reasoning":{"effort":"high"}}"#, true),
        (r#"{"reasoning":{"effort":"none"}}"#, false),
        (r#"{"thinking":{"type":"enabled"}}"#, true),
        (r#"{"thinking":{"type":"disabled"}}"#, false),
        (r#"{"reasoning":null}"#, false),
        (r#"{"messages":[{"reasoning":1}]}"#, false),
    ] {
        assert_eq!(body(text).is_reasoning(), expected, "{text}");
    }
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec(("\\PC{0,6}", inner), 0..4)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

const KEYS: [&str; 9] =
    ["model", "stream", "tags", "timeout", "priority", "mock_response", "messages", "litellm_x", "stream_options"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn scan_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(found) = scan(Bytes::from(bytes)) {
            found.rewrite(&Rewrite { inject_usage: true, ..plain("m") });
        }
    }

    #[test]
    fn rewriting_is_the_change_and_nothing_else(
        members in proptest::collection::vec((proptest::sample::select(&KEYS[..]), json_value()), 0..7),
        is_pretty in any::<bool>(),
    ) {
        let original: Map<String, Value> = members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let text = if is_pretty { serde_json::to_string_pretty(&original) } else { serde_json::to_string(&original) }.unwrap();
        let found = body(&text);
        let model = original.get("model").and_then(Value::as_str).filter(|model| !model.is_empty());
        prop_assert_eq!(found.model(), model);

        let rewrite = Rewrite { inject_usage: true, ..plain("the-model") };
        let after: Map<String, Value> = serde_json::from_str(&joined(&found.rewrite(&rewrite))).unwrap();
        let mut expected = original;
        expected.retain(|key, _| !is_removed(key.as_bytes()));
        if let Some(model) = expected.get_mut("model") {
            *model = "the-model".into();
        }
        let options = expected.entry("stream_options").or_insert(Value::Null);
        if options.is_null() {
            *options = serde_json::json!({});
        }
        if let Some(options) = options.as_object_mut() {
            options.insert("include_usage".to_owned(), true.into());
        }
        prop_assert_eq!(Value::Object(after), Value::Object(expected));
    }
}
