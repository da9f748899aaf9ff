//! Requests as clients really send them: in chunks, with the model anywhere, as forms. What is not ours passes byte by byte.

use serde_json::Value;

use crate::support::{Answer, Ask, Ending, Gateway, Providers, words_of};

fn sent(providers: &Providers) -> String {
    String::from_utf8_lossy(providers.last("openai").body()).into_owned()
}

#[test]
fn chunks_of_any_size_are_one_body() {
    let providers = Providers::pair();
    let gateway = Gateway::start(providers.yaml("server: {max_request_bytes: 4KiB}\n"));
    let body = r#"{"messages":[{"role":"user","content":"héllo"}],"max_tokens":3,"model":"r"}"#;
    for size in [1, 5, 64, 4_096] {
        let answer = gateway.ask(&Ask::post("/v1/chat/completions", body).in_chunks(size));
        assert_eq!((answer.status(), answer.words()), (200, words_of("openai", 3)), "{size}: {answer:?}");
        assert_eq!(sent(&providers), body.replace("\"r\"", "\"gpt-4o\""), "{size}");
        let call = providers.last("openai");
        assert_eq!(call.header("transfer-encoding"), None, "bodies go out with their length");
        assert_eq!(call.header("content-length"), Some(&*call.body().len().to_string()));
    }
    let large = Ask::chat_with("r", &format!(r#","user":"{}""#, "x".repeat(8_000))).in_chunks(1_000);
    let refused = gateway.ask(&large);
    assert_eq!((refused.status(), refused.code().as_str()), (413, "request_too_large"), "{refused:?}");
}

#[test]
fn only_the_model_changes_wherever_it_stands() {
    let providers = Providers::pair();
    let gateway = Gateway::start(providers.yaml(""));
    let table = [
        (
            r#"{"model":"elsewhere","messages":[{"content":"a"}],"model":"r"}"#,
            r#"{"model":"gpt-4o","messages":[{"content":"a"}],"model":"gpt-4o"}"#,
        ),
        (r#"{"\u006dodel":"r","messages":[]}"#, r#"{"\u006dodel":"gpt-4o","messages":[]}"#),
        (r#"{"model":"\u0072","messages":[]}"#, r#"{"model":"gpt-4o","messages":[]}"#),
        ("\u{feff}{\"model\":\"r\",\"messages\":[]}", r#"{"model":"gpt-4o","messages":[]}"#),
        (
            r#"{"messages":[{"model":"r","content":"\"model\":\"r\""}],"model":"r","tags":[1],"n":1}"#,
            r#"{"messages":[{"model":"r","content":"\"model\":\"r\""}],"model":"gpt-4o","n":1}"#,
        ),
    ];
    for (body, expected) in table {
        let answer = gateway.ask(&Ask::post("/v1/chat/completions", body));
        assert_eq!(answer.trail(), "openai=200", "{body}: {answer:?}");
        assert_eq!(sent(&providers), expected, "{body}");
    }
}

#[test]
fn every_attempt_is_spliced_from_what_was_received() {
    let providers = Providers::pair();
    let gateway = Gateway::start(providers.yaml(""));
    providers.fault("openai", crate::support::status(503));
    let body = r#"{"model":"r","messages":[{"role":"user","content":"gpt-4o r"}],"temperature":0.70}"#;
    assert_eq!(gateway.ask(&Ask::post("/v1/chat/completions", body)).status(), 200);
    assert_eq!(sent(&providers), body.replacen("\"r\"", "\"gpt-4o\"", 1));
    let azure = providers.last("azure");
    assert_eq!(String::from_utf8_lossy(azure.body()), body.replacen("\"r\"", "\"gpt-4o-prod\"", 1));
}

#[test]
fn a_form_keeps_all_but_the_model() {
    let providers = Providers::pair();
    let gateway = Gateway::start(providers.yaml(""));
    let file =
        "--xx\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\nRIFF\r\n--x\0\u{1}model\r\n";
    let model = "--xx\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nr\r\n";
    for parts in [[file, model], [model, file]] {
        let form = format!("{}--xx--\r\n", parts.concat());
        let ask = Ask::form("/v1/audio/transcriptions", "multipart/form-data; boundary=xx", form.clone());
        let answer = gateway.ask(&ask);
        assert_eq!((answer.status(), answer.trail()), (200, "openai=200"), "{answer:?}");
        assert_eq!(sent(&providers), form.replace("\r\n\r\nr\r\n", "\r\n\r\ngpt-4o\r\n"));
        assert_eq!(providers.last("openai").header("content-type"), Some("multipart/form-data; boundary=xx"));
    }
    // It is held whole, so it can fail over too.
    providers.fault("openai", crate::support::status(503));
    let form = format!("{file}{model}--xx--\r\n");
    let answer = gateway.ask(&Ask::form("/v1/audio/transcriptions", "multipart/form-data; boundary=xx", form));
    assert_eq!(answer.trail(), "openai=service_unavailable_error;azure=200", "{answer:?}");
    let broken = gateway.ask(&Ask::form("/v1/audio/transcriptions", "multipart/form-data; boundary=xx", "--xx\r\n"));
    assert_eq!((broken.status(), broken.code().as_str()), (400, "invalid_multipart"), "{broken:?}");
}

/// What an answer calls its model, once for each of its pieces that name one.
fn models(answer: &Answer) -> Vec<String> {
    let events = answer.data().into_iter().filter_map(|data| serde_json::from_str(&data).ok());
    let pieces: Vec<Value> =
        if answer.header("content-type") == Some("application/json") { vec![answer.json()] } else { events.collect() };
    let named = |piece: &Value| {
        [&piece["model"], &piece["response"]["model"]].into_iter().find_map(Value::as_str).map(str::to_owned)
    };
    pieces.iter().filter_map(named).collect()
}

#[test]
fn an_answer_names_the_model_that_was_asked_for_where_that_is_wanted() {
    let providers = Providers::pair();
    let yaml = |more: &str| {
        let wild = "  - {model_name: 'wild/*', litellm_params: {model: 'openai/*', api_key: k, api_base: BASE}}\n";
        let wild = wild.replace("BASE", &format!("{}/v1", providers.url("openai")));
        providers.yaml(more).replacen("model_list:\n", &format!("model_list:\n{wild}"), 1)
    };
    let gateway = Gateway::start(yaml(""));
    let asks = [
        ("r", Ask::chat("r")),
        ("r", Ask::stream("r")),
        ("r", Ask::embedding("r", "a")),
        ("r", Ask::post("/v1/responses", r#"{"model":"r","input":"a"}"#)),
        ("r", Ask::post("/v1/responses", r#"{"model":"r","input":"a","stream":true}"#)),
        ("wild/gpt-4o", Ask::chat("wild/gpt-4o")),
    ];
    for (_, ask) in &asks {
        let plain = gateway.ask(ask);
        let named = models(&plain);
        assert!(!named.is_empty() && named.iter().all(|name| name.starts_with("gpt-4o")), "{named:?} in {plain:?}");
    }
    gateway.save(&yaml("defaults: {rewrite_response_model: true}\n"));
    gateway.wait_event("config applied");
    for (name, ask) in &asks {
        let stamped = gateway.ask(ask);
        assert_eq!(stamped.ending, Some(Ending::Whole), "{stamped:?}");
        let named = models(&stamped);
        assert!(!named.is_empty() && named.iter().all(|found| found == name), "{name}: {named:?}");
    }
    // Whoever serves: the name is that of the route.
    providers.fault("openai", crate::support::status(503));
    let failed_over = gateway.ask(&Ask::stream("r"));
    assert_eq!(failed_over.trail(), "openai=service_unavailable_error;azure=200");
    assert!(models(&failed_over).iter().all(|name| name == "r"), "{failed_over:?}");
}
