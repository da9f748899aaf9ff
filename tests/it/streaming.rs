//! Streams: nothing leaves before the first content, every byte passes as it came, and no stream ends cleanly that is not
//! complete.

use std::time::Duration;

use breakwater::simulator::{CutAt, ErrorForm, Fault, HangAt, InBandError, Malformed, Truncate, Wire};
use serde_json::{Value, json};

use crate::support::{Answer, Ask, Ending, Gateway, Providers, Scripted, in_chunks, words_of};

/// Short limits of a running stream, for the faults that only a limit ends.
const SHORT_IDLE: &str = "resilience: {timeouts: {idle: 300ms}}\n";

fn in_band(at: usize, form: ErrorForm, code: Option<Value>) -> Fault {
    Fault::InBandError(InBandError { at, form, code, message: None, headers: Default::default() })
}

/// A stream with everything that may stand in one, with these line ends.
fn unusual_stream(end: &str) -> String {
    let chunk = |delta: &str, finish: &str| {
        format!(r#"{{"id":"c","choices":[{{"index":0,"delta":{delta},"finish_reason":{finish}}}]}}"#)
    };
    let blocks = [
        r#"data: {"id":"","choices":[],"prompt_filter_results":[{"prompt_index":0}]}"#.to_owned(),
        format!("data: {}", chunk(r#"{"role":"assistant","content":""}"#, "null")),
        format!("data:{}", chunk(r#"{"content":"\u00e9 é 😀 {\"error\":1}"}"#, "null")),
        ": a comment of the provider".to_owned(),
        format!("data: {{\"id\":\"c\",{end}data: \"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"x\"}}}}]}}"),
        format!("event: message{end}data: {}", chunk(r#"{"content":" data: [DONE] "}"#, "null")),
        r#"data: {"choices":[{"index":0,"finish_reason":null,"content_filter_offsets":{"check_offset":1}}]}"#
            .to_owned(),
        format!("data: {}", chunk("{}", r#""stop""#)),
        r#"data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#.to_owned(),
        "data: [DONE]".to_owned(),
    ];
    blocks.iter().map(|block| format!("{block}{end}{end}")).collect()
}

#[test]
fn every_byte_passes_however_it_is_cut() {
    let ask = Ask::chat_with("r", r#","stream":true,"stream_options":{"include_usage":true}"#);
    for end in ["\n", "\r\n", "\r"] {
        let sent = unusual_stream(end);
        for size in [1, 2, 7, 1 << 20] {
            let upstream = Scripted::start(vec![in_chunks(sent.as_bytes(), size)]);
            let answer = Gateway::start(upstream.yaml("")).ask(&ask);
            assert_eq!(answer.text(), sent, "{end:?} in pieces of {size}");
            assert_eq!((answer.ending, upstream.calls()), (Some(Ending::Whole), 1));
        }
    }
}

#[test]
fn only_the_usage_event_that_nobody_asked_for_is_dropped() {
    let sent = unusual_stream("\n");
    let (before, rest) = sent.split_once(r#"data: {"choices":[],"usage""#).unwrap();
    let (_, after) = rest.split_once("\n\n").unwrap();
    let upstream = Scripted::start(vec![in_chunks(sent.as_bytes(), 3)]);
    let answer = Gateway::start(upstream.yaml("")).ask(&Ask::stream("r"));
    assert_eq!(answer.text(), format!("{before}{after}"));
}

#[test]
fn usage_is_asked_for_upstream_and_counted() {
    let providers = Providers::pair();
    let gateway = Gateway::start(providers.yaml(""));
    let sent = |providers: &Providers| String::from_utf8_lossy(providers.last("openai").body()).into_owned();
    let usage = |answer: &Answer| answer.data().iter().filter(|data| data.contains(r#""choices":[],"#)).count();

    let unasked = gateway.ask(&Ask::chat_with("r", r#","stream":true,"max_tokens":5"#));
    assert_eq!((unasked.words(), usage(&unasked)), (words_of("openai", 5), 0), "{unasked:?}");
    assert!(sent(&providers).ends_with(r#","max_tokens":5,"stream_options":{"include_usage":true}}"#));

    let ask = Ask::chat_with("r", r#","stream":true,"stream_options":{"include_usage":true},"max_tokens":5"#);
    let asked = gateway.ask(&ask);
    assert_eq!((asked.words(), usage(&asked)), (words_of("openai", 5), 1), "{asked:?}");
    assert_eq!(sent(&providers), String::from_utf8_lossy(ask.body()).replacen("\"r\"", "\"gpt-4o\"", 1));

    let lines = gateway.wait_lines(2);
    for line in &lines {
        assert_eq!((&line["output_tokens"], &line["outcome"]), (&json!(5), &json!("success")), "{line}");
        assert!(line["ttft_ms"].is_number(), "{line}");
    }
}

#[test]
fn a_server_that_knows_no_stream_options_is_asked_without() {
    let providers = Providers::pair();
    let gateway = Gateway::start(providers.yaml(""));
    providers.settings("openai", json!({"reject_stream_options": true}));
    let answer = gateway.ask(&Ask::stream("r"));
    assert_eq!((answer.trail(), answer.words()), ("openai=200", words_of("openai", 16)));
    assert_eq!(providers.calls("openai"), 2);
    let scrape = gateway.scrape();
    let resends = [("backend", "openai"), ("reason", "stream_options")];
    assert_eq!(scrape.sum("breakwater_attempt_resends_total", &resends), 1.0);
    assert_eq!(scrape.sum("breakwater_attempts_total", &[("backend", "openai")]), 1.0, "no attempt of its own");
    gateway.ask(&Ask::stream("r"));
    assert_eq!(providers.calls("openai"), 3, "it is remembered");
    // A client that asks by itself gets the provider's refusal.
    let asked = gateway.ask(&Ask::chat_with("r", r#","stream":true,"stream_options":{"include_usage":true}"#));
    assert_eq!(asked.status(), 400, "{asked:?}");
}

#[test]
fn errors_before_the_first_content_fail_over_as_what_they_are() {
    let table = [
        (in_band(0, ErrorForm::Openai, None), "service_unavailable_error"),
        (in_band(1, ErrorForm::Openai, None), "service_unavailable_error"),
        (in_band(1, ErrorForm::Openai, Some(json!("rate_limit_exceeded"))), "rate_limit_error"),
        (in_band(1, ErrorForm::Openai, Some(json!("insufficient_quota"))), "insufficient_quota_error"),
        (in_band(1, ErrorForm::EventError, None), "service_unavailable_error"),
        (in_band(0, ErrorForm::NumericCode, None), "rate_limit_error"),
        (in_band(1, ErrorForm::NumericCode, Some(json!(503))), "service_unavailable_error"),
        (in_band(1, ErrorForm::Flat, None), "service_unavailable_error"),
    ];
    let providers = Providers::pair();
    for (fault, kind) in table {
        providers.reset();
        providers.fault("openai", fault.clone());
        let answer = Gateway::start(providers.yaml("")).ask(&Ask::stream("r"));
        assert_eq!(answer.trail(), format!("openai={kind};azure=200"), "{fault:?}: {answer:?}");
        assert_eq!((answer.words(), answer.ending), (words_of("azure", 16), Some(Ending::Whole)), "{fault:?}");
    }
}

#[test]
fn an_in_band_error_that_is_the_end_has_a_true_status() {
    let providers = Providers::pair();
    let table = [
        (in_band(1, ErrorForm::Openai, Some(json!("rate_limit_exceeded"))), 429),
        (in_band(1, ErrorForm::NumericCode, Some(json!(503))), 503),
        (in_band(1, ErrorForm::Openai, None), 502),
        (in_band(1, ErrorForm::Openai, Some(json!("context_length_exceeded"))), 400),
    ];
    for (fault, status) in table {
        for name in ["openai", "azure"] {
            providers.fault(name, fault.clone());
        }
        let answer = Gateway::start(providers.yaml("")).ask(&Ask::stream("r"));
        assert_eq!(answer.status(), status, "{fault:?}: {answer:?}");
        assert!(answer.json()["error"]["message"].is_string(), "{answer:?}");
    }
}

#[test]
fn azures_preamble_is_held_and_then_passes() {
    let providers = Providers::pair();
    let gateway = Gateway::start(providers.yaml(""));
    providers.settings("azure", json!({"prompt_filter": true, "annotations": true}));
    let answer = gateway.ask(&Ask::stream("azure"));
    let data = answer.data();
    assert!(data[0].contains("prompt_filter_results") && data[1].contains(r#""role":"assistant""#), "{answer:?}");
    assert_eq!(answer.words(), words_of("azure", 16));
    assert_eq!(data.iter().filter(|data| data.contains("content_filter_offsets")).count(), 2);
    // The preamble alone is no content.
    providers.fault("azure", Fault::Close(CutAt::AfterEvents(2)));
    let cut = gateway.ask(&Ask::stream("azure"));
    assert_eq!((cut.status(), cut.code().as_str()), (502, "upstream_malformed_response"), "{cut:?}");
}

/// A stream that broke after three words: they came, then one error event with this code, no `[DONE]`, no clean end.
fn check_broken(answer: &Answer, code: &str, fault: &Fault) {
    assert_eq!((answer.status(), answer.trail()), (200, "openai=200"), "{fault:?}: {answer:?}");
    assert_eq!(answer.words(), words_of("openai", 3), "{fault:?}: {answer:?}");
    let data = answer.data();
    let errors: Vec<Value> = data.iter().filter_map(|data| serde_json::from_str(data).ok()).collect();
    let errors: Vec<&Value> = errors.iter().filter(|event| event["error"].is_object()).collect();
    assert_eq!(errors.len(), 1, "{fault:?}: {answer:?}");
    assert_eq!(errors[0]["error"]["code"], code, "{fault:?}: {answer:?}");
    assert_eq!(data.last(), Some(&errors[0].to_string()), "nothing follows it");
    assert!(!data.iter().any(|data| data == "[DONE]"), "{fault:?}: {answer:?}");
    assert_eq!(answer.ending, Some(Ending::Cut), "{fault:?}: {answer:?}");
}

#[test]
fn a_stream_that_dies_says_so_once_and_is_aborted() {
    let table = [
        (Fault::Reset(CutAt::AfterEvents(4)), "stream_interrupted"),
        (Fault::Close(CutAt::AfterEvents(4)), "stream_interrupted"),
        (Fault::Hang(HangAt::AfterEvents(4)), "stream_idle_timeout"),
    ];
    let providers = Providers::pair();
    let gateway = Gateway::start(providers.yaml(SHORT_IDLE));
    for (fault, code) in &table {
        providers.fault("openai", fault.clone());
        check_broken(&gateway.ask(&Ask::stream("r")), code, fault);
    }
    providers.settings("openai", json!({"words": 3}));
    // A clean end of the connection is no clean end of the stream.
    let fault = Fault::Truncate(Truncate::NoDone);
    providers.fault("openai", fault.clone());
    check_broken(&gateway.ask(&Ask::stream("r")), "stream_interrupted", &fault);
    assert_eq!(providers.calls("azure"), 0, "nothing is tried again after the first content");

    let broken = table.len() + 1;
    for line in gateway.wait_lines(broken) {
        assert_eq!((&line["outcome"], &line["level"]), (&json!("stream_error"), &json!("warn")), "{line}");
    }
    // A stream is counted when its body is gone, which its client may see a little earlier.
    gateway.wait_scrape("the ends of the streams", |scrape| {
        let ends = |reason| scrape.sum("breakwater_streams_ended_total", &[("reason", reason)]);
        (ends("truncated"), ends("idle_timeout"), ends("completed")) == (3.0, 1.0, 0.0)
    });
}

#[test]
fn a_broken_framing_is_told_apart() {
    let providers = Providers::pair();
    let gateway = Gateway::start(providers.yaml(""));
    // The first word has long left when the second comes, and the nonsense right behind it.
    providers.settings("openai", json!({"flush_events": true, "tokens_per_second": 2}));
    providers.fault("openai", Fault::Malformed(Malformed::BadChunk));
    let answer = gateway.ask(&Ask::stream("r"));
    assert!(answer.words().starts_with("openai:0") && answer.ending == Some(Ending::Cut), "{answer:?}");
    let last: Value = serde_json::from_str(answer.data().last().unwrap()).unwrap();
    assert_eq!(last["error"]["code"], "stream_malformed", "{answer:?}");
}

#[test]
fn a_finished_stream_gets_the_done_that_is_missing() {
    let providers = Providers::pair();
    let gateway = Gateway::start(providers.yaml(""));
    providers.fault("openai", Fault::Truncate(Truncate::FinishNoDone));
    let answer = gateway.ask(&Ask::stream("r"));
    assert_eq!((answer.words(), answer.ending), (words_of("openai", 16), Some(Ending::Whole)));
    assert_eq!(answer.data().iter().filter(|data| *data == "[DONE]").count(), 1, "{answer:?}");
    assert_eq!(gateway.wait_lines(1)[0]["outcome"], "success");
}

#[test]
fn an_error_inside_a_running_stream_passes_and_ends_it() {
    let providers = Providers::pair();
    let gateway = Gateway::start(providers.yaml(""));
    for form in [ErrorForm::Openai, ErrorForm::EventError, ErrorForm::Vllm, ErrorForm::Flat] {
        providers.fault("openai", in_band(4, form, None));
        let answer = gateway.ask(&Ask::stream("r"));
        assert_eq!((answer.words(), answer.ending), (words_of("openai", 3), Some(Ending::Cut)), "{form:?}: {answer:?}");
        let last: Value = serde_json::from_str(answer.data().last().unwrap()).unwrap();
        let message = last["error"]["message"].as_str().unwrap_or_default();
        assert_eq!(message, "The server had an error while processing your request.", "{form:?}: {answer:?}");
    }
    gateway.wait_scrape("the ends of the streams", |scrape| {
        scrape.sum("breakwater_streams_ended_total", &[("reason", "upstream_error")]) == 4.0
    });
}

#[test]
fn events_are_not_held_back_for_more_of_them() {
    let providers = Providers::pair();
    let gateway = Gateway::start(providers.yaml(""));
    providers.fault("openai", Fault::Hang(HangAt::AfterEvents(3)));
    let mut client = gateway.connect();
    client.send(&Ask::stream("r"));
    client.read_until("openai:1");
    assert_eq!(client.so_far().words(), words_of("openai", 2));
}

#[test]
fn silence_is_filled_with_comments() {
    let providers = Providers::pair();
    let gateway = Gateway::start(providers.yaml("resilience: {stream: {keepalive: 100ms}}\n"));
    providers.fault("openai", Fault::TokensPerSecond(2.0));
    let answer = gateway.ask(&Ask::chat_with("r", r#","stream":true,"max_tokens":3"#));
    assert_eq!((answer.words(), answer.ending), (words_of("openai", 3), Some(Ending::Whole)), "{answer:?}");
    let text = answer.text();
    assert!(text.contains("\n\n: keepalive\n\n") && text.starts_with("data: "), "{answer:?}");
}

#[test]
fn an_event_without_end_fails_over_before_the_first_content() {
    let providers = Providers::pair();
    let gateway = Gateway::start(providers.yaml(""));
    let wire = Wire { large_event_bytes: (17 << 20).try_into().ok(), ..Wire::default() };
    providers.fault("openai", Fault::Wire(wire));
    let answer = gateway.ask(&Ask::stream("r"));
    assert_eq!(answer.trail(), "openai=api_connection_error;azure=200", "{:?}", answer.head);
}

#[test]
fn unusual_wires_say_the_same() {
    let providers = Providers::pair();
    let gateway = Gateway::start(providers.yaml(""));
    let split = Wire { split_bytes: 1.try_into().ok(), ..Wire::default() };
    let wires = [
        Wire { bom: true, ..split.clone() },
        Wire { multi_line_data: true, ..split.clone() },
        Wire { ids: true, ..split.clone() },
        Wire { retry: true, event_without_data: true, ..split.clone() },
        Wire { comments_ms: 1.try_into().ok(), ..split.clone() },
        Wire { http10: true, ..Wire::default() },
        Wire { connection_close: true, ..split },
    ];
    for wire in wires {
        providers.fault("openai", Fault::Wire(wire.clone()));
        let answer = gateway.ask(&Ask::chat_with("r", r#","stream":true,"max_tokens":4"#));
        assert_eq!((answer.trail(), answer.ending), ("openai=200", Some(Ending::Whole)), "{wire:?}: {answer:?}");
        assert!(answer.text().starts_with("data: ") || wire.ids || wire.comments_ms.is_some(), "{wire:?}: {answer:?}");
        let told = (0..4).all(|word| answer.text().contains(&format!("openai:{word}")));
        assert!(told && answer.text().contains("data: [DONE]"), "{wire:?}: {answer:?}");
        assert!(!answer.text().contains("retry:"), "{wire:?}: {answer:?}");
    }
}

fn respond(more: &str) -> Ask {
    Ask::post("/v1/responses", format!(r#"{{"model":"r","input":"hi","stream":true{more}}}"#))
}

#[test]
fn responses_stream_in_their_own_dialect() {
    let providers = Providers::pair();
    let gateway = Gateway::start(providers.yaml(SHORT_IDLE));
    let answer = gateway.ask(&respond(""));
    assert_eq!((answer.trail(), answer.ending), ("openai=200", Some(Ending::Whole)), "{answer:?}");
    assert_eq!(answer.words(), words_of("openai", 16), "{answer:?}");
    assert!(answer.text().starts_with("event: response.created\n"), "{answer:?}");
    assert!(answer.data().last().unwrap().contains(r#""type":"response.completed""#), "{answer:?}");

    providers.fault("openai", in_band(2, ErrorForm::ResponsesError, None));
    let saved = gateway.ask(&respond(""));
    assert_eq!(saved.trail(), "openai=service_unavailable_error;azure=200", "{saved:?}");
    assert_eq!(saved.words(), words_of("azure", 16));

    for fault in [Fault::Close(CutAt::AfterEvents(8)), Fault::Hang(HangAt::AfterEvents(8))] {
        providers.fault("openai", fault.clone());
        let cut = gateway.ask(&respond(""));
        assert_eq!(cut.ending, Some(Ending::Cut), "{fault:?}: {cut:?}");
        let data = cut.data();
        let last: Value = serde_json::from_str(data.last().unwrap()).unwrap();
        assert!(cut.text().contains("\n\nevent: error\ndata: "), "{fault:?}: {cut:?}");
        assert_eq!((&last["type"], &last["sequence_number"]), (&json!("error"), &json!(8)), "{fault:?}: {last}");
        assert_eq!(last["error"]["code"], last["code"], "SDKs read the object, the API names the member");
        assert_eq!(data.iter().filter(|data| data.contains(r#""type":"error""#)).count(), 1, "{cut:?}");
    }
}

#[test]
fn other_streams_of_text_pass() {
    let providers = Providers::pair();
    let gateway = Gateway::start(providers.yaml(""));
    let body = r#"{"model":"r","prompt":"hi","stream":true,"max_tokens":3}"#;
    let answer = gateway.ask(&Ask::post("/v1/completions", body));
    let words: String = answer
        .data()
        .iter()
        .filter_map(|data| serde_json::from_str::<Value>(data).ok())
        .map(|event| event["choices"][0]["text"].as_str().unwrap_or_default().to_owned())
        .collect();
    // Its model list has the chat model too: the simulator does not tell them apart.
    assert_eq!((words, answer.ending), (words_of("openai", 3), Some(Ending::Whole)), "{answer:?}");
    assert!(answer.elapsed < Duration::from_secs(10));
}
