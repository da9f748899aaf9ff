//! What is told about a request: its line and its metrics.

use std::hint::black_box;
use std::time::Duration;

use breakwater::telemetry::Metrics;
use breakwater::telemetry::access_log::line::{Key, Line, Number, Word};
use breakwater::telemetry::labels::{Asked, AttemptKind, AttemptOutcome, Code, Endpoint, RequestOutcome, TokenType};

use crate::meter::Meter;

/// When the line was written; any time will do.
const AT: Duration = Duration::from_millis(1_795_478_462_345);

macro_rules! key {
    ($name:literal) => {
        Key { name: $name, json: concat!(",\"", $name, "\":") }
    };
}

pub(crate) fn measure(meter: &mut Meter) {
    measure_line(meter);
    measure_metrics(meter);
}

/// The line of a request that failed over, as the proxy's record writes it.
fn measure_line(meter: &mut Meter) {
    let words = [
        (key!("request_id"), Word::Free("019a1b2c-3d4e-7f60-8a9b-0c1d2e3f4a5b")),
        (key!("method"), Word::Free("POST")),
        (key!("endpoint"), Word::Own("chat_completions")),
        (key!("model"), Word::Free("gpt-4-router")),
        (key!("route"), Word::Free("gpt-4-router")),
        (key!("stream"), Word::Own("false")),
        (key!("outcome"), Word::Own("success")),
        (key!("error_type"), Word::Own("rate_limit_error")),
        (key!("error_code"), Word::Own("")),
        (key!("backend"), Word::Free("azure-gpt4o")),
        (key!("provider"), Word::Own("azure")),
        (key!("upstream_model"), Word::Free("gpt-4o-prod")),
        (key!("attempts"), Word::Free("openai-gpt4o=rate_limit_error;azure-gpt4o=200")),
        (key!("skipped"), Word::Free("")),
        (key!("exhausted_reason"), Word::Own("")),
        (key!("upstream_request_id"), Word::Free("req_0123456789abcdef0123456789abcdef")),
        (key!("key"), Word::Free("batch")),
        (key!("config"), Word::Free("88aa01c3d2f1")),
    ];
    let numbers = [
        (key!("status"), Some(Number::Count(200))),
        (key!("attempt_count"), Some(Number::Count(2))),
        (key!("duration_ms"), Some(Number::Millis(Duration::from_micros(812_345)))),
        (key!("overhead_ms"), Some(Number::Millis(Duration::from_micros(123)))),
        (key!("ttft_ms"), None),
        (key!("input_tokens"), Some(Number::Count(17))),
        (key!("output_tokens"), Some(Number::Count(128))),
        (key!("request_bytes"), Some(Number::Count(578))),
        (key!("response_bytes"), Some(Number::Count(712))),
    ];
    let line = Line { at: AT, level: "info", words: &words, numbers: &numbers };
    let mut text = Vec::with_capacity(1 << 10);
    meter.measure("access log: encode a line", |count| {
        for _ in 0..count {
            text.clear();
            black_box(&line).write_json(&mut text);
        }
    });
    let is_json = text.is_empty() || serde_json::from_slice::<serde_json::Value>(&text).is_ok();
    meter.check(is_json, "a line of the access log is no JSON");
}

/// All metrics of a request that succeeds at its first attempt, through the handles that the routing table holds.
fn measure_metrics(meter: &mut Meter) {
    let metrics = Metrics::new();
    let route = metrics.route("gpt-4-router");
    let pair = metrics.pair("gpt-4-router", "openai-gpt4o");
    let mut requests = 0;
    meter.measure("metrics: a request and its attempt, 13 updates", |count| {
        for _ in 0..count {
            route.in_flight.inc();
            route.started(AttemptKind::First).inc();
            pair.in_flight.inc();
            pair.tokens(TokenType::Input).inc_by(17);
            pair.tokens(TokenType::Output).inc_by(128);
            pair.in_flight.dec();
            pair.attempts(AttemptOutcome::Success).inc();
            pair.duration(true).observe(black_box(0.812));
            route.requests(RequestOutcome::Success, Asked::Whole).inc();
            route.responses(Endpoint::ChatCompletions, Code::of(black_box(200))).inc();
            route.duration(Asked::Whole).observe(black_box(0.812));
            route.overhead(Asked::Whole).observe(black_box(0.000_1));
            route.in_flight.dec();
        }
        requests += count;
    });
    meter.check(
        route.requests(RequestOutcome::Success, Asked::Whole).get() == requests,
        "the counter of requests lost some",
    );
}
