//! The line of a request: who was asked, who was passed over, who served, and whose it was.

use std::time::Duration;

use breakwater::clock;
use breakwater::simulator::{Delay, Fault};
use serde_json::{Value, json};

use crate::support::{Ask, Gateway, Providers, route, status, wait_for};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn last(gateway: &Gateway, count: usize) -> Value {
    gateway.wait_lines(count).pop().unwrap()
}

#[test]
fn a_line_says_who_was_passed_over_and_who_served() {
    let providers = Providers::pair();
    let keys = "auth: {keys: [{name: batch, key: sk-batch}]}\nlogging: {client_address: true}\n";
    let gateway = Gateway::start(providers.yaml(keys));
    let key = |ask: Ask| ask.header("authorization", "Bearer sk-batch");
    let body = json!({"action": "force_open"}).to_string();
    gateway.operate(&Ask::post("/admin/backends/openai/circuit", body));
    let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let answer =
        gateway.ask(&key(Ask::chat("r")).header("traceparent", &parent).header("x-stainless-retry-count", "1"));
    let line = last(&gateway, 1);
    for (field, value) in [
        ("backend", json!("azure")),
        ("provider", json!("azure")),
        ("upstream_model", json!("gpt-4o-prod")),
        ("attempts", json!("azure=200")),
        ("skipped", json!("openai=forced_open")),
        ("method", json!("POST")),
        ("key", json!("batch")),
        ("client", json!("127.0.0.1")),
        ("client_retry", json!("true")),
        ("trace_id", json!(TRACE)),
        ("response_bytes", json!(answer.body.len())),
        ("finish_reason", json!("stop")),
    ] {
        assert_eq!(line[field], value, "{field} of {line}");
    }
    assert_eq!(line["config"].as_str().map(str::len), Some(12), "{line}");
    // The provider knows the answer by it, and got the client's trace.
    assert!(line["upstream_request_id"].as_str().is_some_and(|id| !id.is_empty()), "{line}");
    let sent = providers.last("azure");
    assert_eq!(sent.header("traceparent"), Some(parent.as_str()));

    gateway.ask(&key(Ask::stream("r")));
    let line = last(&gateway, 2);
    assert_eq!(
        (&line["stream_end"], &line["finish_reason"], &line["trace_id"], &line["client_retry"]),
        (&json!("completed"), &json!("stop"), &Value::Null, &Value::Null)
    );
}

#[test]
fn a_line_tells_of_a_fallback_route_and_of_waiting() {
    let providers = Providers::pair();
    let yaml = format!(
        "{}router:\n{}{}resilience: {{max_in_flight: 1, on_exhausted: [fallback_route, queue, reject], queue: {{max_wait: 5s}}}}\n",
        providers.models(&[]),
        route("r", &["openai"], "fallbacks: [s]"),
        route("s", &["azure"], ""),
    );
    let gateway = Gateway::start(yaml);
    providers.fault("openai", status(503));
    gateway.ask(&Ask::chat("r"));
    let line = last(&gateway, 1);
    assert_eq!(
        (&line["route"], &line["fallback_route"], &line["backend"]),
        (&json!("r"), &json!("s"), &json!("azure"))
    );
    assert_eq!((&line["queue_ms"], &line["stream_end"]), (&Value::Null, &Value::Null));
    providers.fault("azure", Fault::Latency(Delay::Fixed(100.0)));
    let mut first = gateway.connect();
    first.send(&Ask::chat("s"));
    wait_for("the first call", || (providers.calls("azure") == 2).then_some(()));
    gateway.ask(&Ask::chat("s"));
    let lines = gateway.wait_lines(3);
    let waited: Vec<bool> = lines.iter().map(|line| line["queue_ms"].is_number()).collect();
    assert_eq!(waited, [false, false, true], "{lines:?}");
    let [overhead, queued] = ["overhead_ms", "queue_ms"].map(|field| lines[2][field].as_f64().unwrap());
    assert!(overhead < queued, "a wait is no overhead: {}", lines[2]);
}

#[test]
fn a_client_that_takes_its_time_to_send_is_no_overhead() {
    const PAUSE: Duration = Duration::from_millis(500);
    let providers = Providers::pair();
    let gateway = Gateway::start(providers.yaml(""));
    let mut client = gateway.connect();
    client.send_in_two(&Ask::chat("r"), 10, || {
        let in_flight = || gateway.operate(&Ask::get("/admin/status")).json()["gateway"]["requests_in_flight"].clone();
        wait_for("the head", || (in_flight() == 1).then_some(()));
        let until = clock::now().plus(PAUSE);
        wait_for("the rest", || (until <= clock::now()).then_some(()));
    });
    assert_eq!(client.finish().status(), 200);
    let line = last(&gateway, 1);
    let [overhead, whole] = ["overhead_ms", "duration_ms"].map(|field| line[field].as_f64().unwrap());
    let pause = PAUSE.as_secs_f64() * 1_000.0;
    assert!(overhead < pause && pause <= whole, "{line}");
}

#[test]
fn of_plain_successes_only_the_share_that_is_wanted_is_written() {
    let providers = Providers::pair();
    let gateway = Gateway::start(providers.yaml("logging: {access_log_sample: 0.25}\n"));
    let mut client = gateway.connect();
    for number in 0..200 {
        client.ask(&Ask::chat_with("r", r#","max_tokens":1"#).header("x-request-id", &format!("req-{number}")));
    }
    providers.fault("openai", status(503));
    for _ in 0..3 {
        gateway.ask(&Ask::chat("r"));
    }
    gateway.ask(&Ask::chat("nobody"));
    let scrape = gateway.scrape();
    assert_eq!(scrape.sum("breakwater_requests_total", &[]), 204.0, "all are counted");
    let is_written = |line: &Value| line["attempts"].as_str().is_some_and(|trail| trail.starts_with("openai=200"));
    // Which of them are is decided by their ids alone.
    let expected =
        (0..200).filter(|number| breakwater::telemetry::access_log::is_sampled(&format!("req-{number}"), 0.25)).count();
    let lines = gateway.wait_lines(expected + 4);
    assert_eq!((lines.len(), lines.iter().filter(|line| is_written(line)).count()), (expected + 4, expected));
    for line in &lines {
        assert_eq!(line["sample"], if is_written(line) { json!(0.25) } else { Value::Null }, "{line}");
    }
    assert!((20..90).contains(&expected), "{expected}");
}
