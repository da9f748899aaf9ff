//! `stream.head_hold`: 200 and comments while attempts go on, for clients whose load balancers cut silent connections.

use breakwater::simulator::{Delay, Fault, HangAt};
use serde_json::json;

use crate::support::{Answer, Ask, Ending, Gateway, Providers, status, words_of};

/// What a comment looks like.
const COMMENT: &str = ": keepalive\n\n";

/// The head leaves soon, comments come often, and a first token may take this long.
fn setting(first_token: &str) -> (Providers, Gateway) {
    let providers = Providers::pair();
    let hold = "stream: {head_hold: 100ms, keepalive: 100ms}";
    let more = format!("resilience: {{{hold}, timeouts: {{first_token: {first_token}, connect: 100ms}}}}\n");
    let gateway = Gateway::start(providers.yaml(&more));
    (providers, gateway)
}

fn closing(trail: &str) -> String {
    format!(": x-breakwater-attempts: {trail}\n\n")
}

/// The head of a stream that nobody has served yet.
fn check_head(answer: &Answer, backend: &str, trail: &str) {
    assert_eq!((answer.status(), answer.header("content-type")), (200, Some("text/event-stream; charset=utf-8")));
    assert_eq!((answer.header("x-breakwater-backend"), answer.trail()), (Some(backend), trail), "{answer:?}");
    assert_eq!(answer.header("x-breakwater-route"), Some("r"));
    assert!(answer.header("x-breakwater-request-id").is_some());
}

#[test]
fn a_slow_first_token_is_bridged_by_comments() {
    let (providers, gateway) = setting("30s");
    providers.fault("openai", Fault::Ttft(Delay::Fixed(600.0)));
    let answer = gateway.ask(&Ask::stream("r").header("accept-encoding", "gzip"));
    check_head(&answer, "openai", "-");
    let text = answer.text();
    assert!(text.starts_with(COMMENT), "{text}");
    assert!(text.ends_with(&closing("openai=200")), "{text}");
    assert_eq!((answer.words(), answer.ending), (words_of("openai", 16), Some(Ending::Whole)));
    let line = gateway.wait_lines(1).remove(0);
    assert_eq!(
        (&line["status"], &line["outcome"], &line["backend"]),
        (&json!(200), &json!("success"), &json!("openai"))
    );
    assert!(line["ttft_ms"].as_f64().unwrap() >= 500.0, "{line}");
    assert_eq!(providers.last("openai").header("accept-encoding"), Some("identity"), "a held head names no coding");
}

#[test]
fn failover_goes_on_behind_a_head_that_has_left() {
    let (providers, gateway) = setting("400ms");
    providers.fault("openai", Fault::Hang(HangAt::AfterHeaders));
    let answer = gateway.ask(&Ask::stream("r"));
    check_head(&answer, "openai", "-");
    assert_eq!((answer.words(), answer.ending), (words_of("azure", 16), Some(Ending::Whole)), "{answer:?}");
    assert!(answer.text().ends_with(&closing("openai=timeout_error;azure=200")), "{answer:?}");
    let scrape = gateway.wait_scrape("the request", |scrape| scrape.sum("breakwater_requests_total", &[]) == 1.0);
    assert_eq!(scrape.sum("breakwater_requests_recovered_total", &[]), 1.0);
    let ended = [("backend", "azure"), ("reason", "completed")];
    gateway.wait_scrape("the stream", |scrape| scrape.sum("breakwater_streams_ended_total", &ended) == 1.0);
}

#[test]
fn a_head_that_leaves_during_a_failover_names_what_was_tried() {
    let (providers, gateway) = setting("30s");
    providers.fault("openai", status(503));
    providers.fault("azure", Fault::Ttft(Delay::Fixed(400.0)));
    let answer = gateway.ask(&Ask::stream("r"));
    check_head(&answer, "azure", "openai=service_unavailable_error");
    assert_eq!(answer.words(), words_of("azure", 16));
}

#[test]
fn an_error_behind_the_head_is_an_event_and_no_clean_end() {
    let (providers, gateway) = setting("300ms");
    for name in ["openai", "azure"] {
        providers.fault(name, Fault::Hang(HangAt::BeforeHeaders));
    }
    let answer = gateway.ask(&Ask::stream("r"));
    check_head(&answer, "openai", "-");
    let data = answer.data();
    let error: serde_json::Value = serde_json::from_str(&data[0]).unwrap();
    assert_eq!((data.len(), &error["error"]["type"]), (1, &json!("timeout_error")), "{answer:?}");
    assert!(error["error"]["code"].is_string() && error["error"]["message"].is_string(), "{error}");
    assert!(answer.text().ends_with(&closing("openai=timeout_error;azure=timeout_error")), "{answer:?}");
    assert_ne!(answer.ending, Some(Ending::Whole));
    let line = gateway.wait_lines(1).remove(0);
    assert_eq!((&line["status"], &line["outcome"]), (&json!(200), &json!("exhausted")), "{line}");
    assert_eq!(line["error_type"], json!("timeout_error"), "{line}");
}

#[test]
fn what_ends_before_the_head_leaves_keeps_its_status() {
    let (providers, gateway) = setting("30s");
    assert_eq!(gateway.ask(&Ask::stream("r")).trail(), "openai=200");
    let answer = gateway.ask(&Ask::stream("nobody"));
    assert_eq!((answer.status(), answer.code().as_str()), (404, "model_not_found"));
    for name in ["openai", "azure"] {
        providers.fault(name, status(503));
    }
    assert_eq!(gateway.ask(&Ask::stream("r")).status(), 503);
    // Whole answers are never held.
    providers.fault("openai", Fault::Latency(Delay::Fixed(400.0)));
    let answer = gateway.ask(&Ask::chat("r"));
    assert_eq!((answer.status(), answer.trail()), (200, "openai=200"), "{answer:?}");
}

#[test]
fn a_client_that_leaves_behind_a_held_head_ends_the_call_and_blames_nobody() {
    let (providers, gateway) = setting("30s");
    providers.fault("openai", Fault::Hang(HangAt::BeforeHeaders));
    let mut client = gateway.connect();
    client.send(&Ask::stream("r"));
    client.read_until(COMMENT);
    drop(client);
    assert_eq!(providers.wait_ended("openai", 1).client_closed, 1);
    let scrape = gateway.wait_scrape("the end", |scrape| {
        scrape.sum("breakwater_requests_total", &[("outcome", "client_closed")]) == 1.0
    });
    assert_eq!(scrape.sum("breakwater_attempts_total", &[("outcome", "cancelled")]), 1.0);
    assert_eq!(scrape.sum("breakwater_attempts_in_flight", &[]), 0.0);
    assert_eq!(scrape.sum("breakwater_requests_in_flight", &[]), 0.0);
    assert_eq!(providers.calls("azure"), 0);
    let line = gateway.wait_lines(1).remove(0);
    assert_eq!((&line["status"], &line["outcome"]), (&json!(200), &json!("client_closed")), "{line}");
}

#[test]
fn a_shutdown_is_said_behind_a_held_head() {
    let providers = Providers::pair();
    let more = "server: {shutdown: {timeout: 1s}}\nresilience: {stream: {head_hold: 100ms, keepalive: 100ms}}\n";
    let mut gateway = Gateway::start(providers.yaml(more));
    providers.fault("openai", Fault::Hang(HangAt::BeforeHeaders));
    let mut client = gateway.connect();
    client.send(&Ask::stream("r"));
    client.read_until(COMMENT);
    gateway.signal("TERM");
    let answer = client.finish();
    assert!(answer.data()[0].contains("gateway_draining"), "{answer:?}");
    assert_ne!(answer.ending, Some(Ending::Whole));
    assert!(gateway.wait_exit().success());
}
