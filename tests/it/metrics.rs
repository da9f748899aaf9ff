//! The books balance: after a mixture of everything that can happen, the text of `/metrics` agrees with itself, with the
//! access log, with the providers' journals and with what the clients saw (spec/observability.md 1.4).

use std::collections::{BTreeMap, BTreeSet};

use breakwater::simulator::{CutAt, Fault, HangAt, Rule, Stale, Template};
use serde_json::Value;

use crate::support::{Answer, Ask, Client, Ending, Gateway, Providers, Scrape, status, status_as, wait_for};

/// A model name that only a client knows.
const STRANGE: &str = "strange-canary-model";

/// A driver that counts what it sends and what it is told.
struct Driver<'a> {
    gateway: &'a Gateway,
    providers: &'a Providers,
    sent: u64,
    words: u64,
}

impl Driver<'_> {
    /// Asks so often; all answers have this status.
    fn ask(&mut self, times: u64, ask: &Ask, status: u16) {
        let mut client = self.gateway.connect();
        for _ in 0..times {
            let answer = client.ask(ask);
            self.sent += 1;
            assert_eq!(answer.status(), status, "{ask:?}: {answer:?}");
            self.words += reported(&answer);
            if answer.header("connection") == Some("close") || answer.ending != Some(Ending::Whole) {
                client = self.gateway.connect();
            }
        }
    }

    /// Sends a request and leaves when its answer holds this text, or without one when the provider was called.
    fn leave(&mut self, ask: &Ask, after: Option<&str>) {
        let calls = self.providers.calls("openai");
        let mut client: Client = self.gateway.connect();
        client.send(ask);
        self.sent += 1;
        match after {
            Some(text) => client.read_until(text),
            None => wait_for("the call", || (calls < self.providers.calls("openai")).then_some(())),
        }
    }
}

/// The words that an answer's provider reported as output, which it does in whole answers.
fn reported(answer: &Answer) -> u64 {
    let has_usage = answer.status() == 200 && answer.ending == Some(Ending::Whole);
    if !has_usage || !answer.text().contains("chat.completion") {
        return 0;
    }
    answer.words().split_whitespace().count() as u64
}

/// Everything that can happen to a request, often enough that no identity holds by being empty.
fn mixture(driver: &mut Driver<'_>) {
    let chat = Ask::chat_with("r", r#","max_tokens":3"#);
    let stream = Ask::chat_with("r", r#","max_tokens":4,"stream":true"#);
    let providers = driver.providers;
    driver.ask(6, &chat, 200);
    driver.ask(3, &stream, 200);
    driver.ask(2, &Ask::embedding("r", "text"), 200);
    driver.ask(2, &Ask::get("/v1/models"), 200);
    driver.ask(1, &Ask::chat(STRANGE), 404);
    driver.ask(1, &Ask::post("/v1/chat/completions", "{"), 400);
    driver.ask(1, &Ask::post("/v1/strange-canary-path", "{}"), 404);
    driver.ask(1, &Ask::get("/v1/embeddings"), 405);
    driver.ask(1, &chat.clone().header("x-stainless-retry-count", "1"), 200);

    providers.fault("openai", status_as(400, Template::ContextLength));
    driver.ask(2, &chat, 400);
    providers.fault("openai", status(503));
    driver.ask(2, &chat, 200);
    driver.ask(1, &stream, 200);
    providers.fault("openai", Fault::Refuse);
    driver.ask(1, &chat, 200);
    providers.heal("openai");
    driver.ask(1, &chat, 200);
    providers.fault("azure", status(500));
    providers.fault("openai", status(500));
    driver.ask(2, &chat, 500);
    providers.heal("azure");
    providers.heal("openai");
    driver.ask(1, &chat, 200);

    providers.fault("openai", Fault::Reset(CutAt::AfterEvents(3)));
    driver.ask(2, &stream, 200);
    providers.fault("openai", Fault::Hang(HangAt::AfterEvents(3)));
    driver.leave(&stream, Some("openai:1"));
    providers.fault("openai", Fault::Hang(HangAt::BeforeHeaders));
    driver.leave(&chat, None);
    driver.ask(1, &chat.clone().header("x-request-timeout", "1"), 504);
    providers.rules("openai", vec![Rule::from(Fault::Stale(Stale::ResetOnReuse)).times(3)]);
    driver.ask(8, &chat, 200);
    // Enough in a row to open the circuit, and one that finds it open.
    providers.fault("openai", status(502));
    driver.ask(30, &chat, 200);
    driver.gateway.wait_event_where("circuit changed", |event| event["to"] == "open");
    driver.ask(1, &chat, 200);
}

#[test]
fn the_books_balance() {
    let providers = Providers::pair();
    // Far above what the mixture brings before its end, so that no order of news from two workers opens it early.
    let late = "resilience: {circuit_breaker: {consecutive_failures: 25, minimum_calls: 1000}}\n";
    let gateway = Gateway::start(providers.yaml(late));
    let mut driver = Driver { gateway: &gateway, providers: &providers, sent: 0, words: 0 };
    mixture(&mut driver);
    let (sent, words) = (driver.sent as f64, driver.words as f64);
    let scrape = gateway.wait_scrape("the end of all requests", |scrape| {
        scrape.sum("breakwater_requests_total", &[]) == sent && scrape.sum("breakwater_attempts_in_flight", &[]) == 0.0
    });
    let lines = gateway.wait_lines(driver.sent as usize);
    assert_eq!(lines.len() as f64, sent, "one line per request");
    requests_balance(&scrape, sent, &lines);
    attempts_balance(&scrape);
    streams_balance(&scrape);
    let total = |name: &str, labels: &[(&str, &str)]| scrape.sum(name, labels);

    // The gateway's own figures against those of the others.
    assert_eq!(total("breakwater_tokens_total", &[("type", "output")]), words);
    assert_eq!(total("breakwater_client_retries_total", &[]), 1.0);
    for name in ["openai", "azure"] {
        let of = [("backend", name)];
        let unconnected = [("backend", name), ("detail", "connect")];
        let expected = total("breakwater_attempts_total", &of) + total("breakwater_attempt_resends_total", &of)
            - total("breakwater_attempt_failure_details_total", &unconnected);
        assert_eq!(providers.calls(name) as f64, expected, "calls of {name}");
    }
    let circuit = total("breakwater_circuit_transitions_total", &[("backend", "openai"), ("to", "closed")])
        - total("breakwater_circuit_transitions_total", &[("backend", "openai"), ("from", "closed")]);
    assert_eq!((1.0 + circuit, total("breakwater_circuit_state", &[("backend", "openai")])), (0.0, 2.0));
    let strange = scrape.0.iter().find(|sample| sample.labels.values().any(|value| value.contains("canary")));
    assert!(strange.is_none(), "what a client chose became a label: {strange:?}");
}

/// Identities 1, 2, 3, 6 and 9.
fn requests_balance(scrape: &Scrape, sent: f64, lines: &[Value]) {
    let total = |name: &str, labels: &[(&str, &str)]| scrape.sum(name, labels);
    assert_eq!(total("breakwater_requests_total", &[]), sent);
    assert_eq!(total("breakwater_responses_total", &[]), sent);
    for route in ["r", "_none"] {
        for stream in ["true", "false"] {
            let labels = [("route", route), ("stream", stream)];
            let durations = total("breakwater_request_duration_seconds_count", &labels);
            assert_eq!(durations, total("breakwater_requests_total", &labels), "{labels:?}");
        }
        let of = [("route", route)];
        let first = total("breakwater_attempts_started_total", &[("route", route), ("kind", "first")]);
        let unattempted = total("breakwater_requests_unattempted_total", &of);
        assert_eq!(first + unattempted, total("breakwater_requests_total", &of), "route {route}");
        let exhausted = [("route", route), ("outcome", "exhausted")];
        let reasons = total("breakwater_requests_exhausted_total", &of);
        assert_eq!(reasons, total("breakwater_requests_total", &exhausted), "route {route}");
    }
    let gone = total("breakwater_responses_total", &[("code", "499")]);
    assert_eq!(total("breakwater_overhead_seconds_count", &[]), sent - gone);
    assert_eq!(gone, 1.0);
    let recovered = lines.iter().filter(|line| {
        line["outcome"] == "success" && line["attempts"].as_str().is_some_and(|trail| trail.contains("_error"))
    });
    assert_eq!(total("breakwater_requests_recovered_total", &[]), recovered.count() as f64);
    assert_eq!(total("breakwater_requests_in_flight", &[]), 0.0);
    let outcomes: BTreeMap<&str, f64> = lines.iter().fold(BTreeMap::new(), |mut outcomes, line| {
        *outcomes.entry(line["outcome"].as_str().unwrap()).or_default() += 1.0;
        outcomes
    });
    for (outcome, count) in &outcomes {
        assert_eq!(total("breakwater_requests_total", &[("outcome", outcome)]), *count, "{outcome}");
    }
    let met: Vec<&str> = outcomes.keys().copied().collect();
    assert_eq!(met, ["client_closed", "client_fault", "exhausted", "rejected", "stream_error", "success"]);
}

/// Identities 4 and 5.
fn attempts_balance(scrape: &Scrape) {
    let total = |name: &str, labels: &[(&str, &str)]| scrape.sum(name, labels);
    let ended = total("breakwater_attempts_total", &[]);
    assert_eq!(ended, total("breakwater_attempts_started_total", &[]));
    let (requests, unattempted) =
        (total("breakwater_requests_total", &[]), total("breakwater_requests_unattempted_total", &[]));
    let failovers = total("breakwater_failovers_total", &[]);
    assert_eq!(failovers, total("breakwater_attempts_started_total", &[("kind", "failover")]));
    assert_eq!(ended, requests - unattempted + failovers);
    let succeeded = total("breakwater_attempts_total", &[("outcome", "success")]);
    assert_eq!(total("breakwater_attempt_duration_seconds_count", &[("result", "success")]), succeeded);
    let cancelled = total("breakwater_attempts_total", &[("outcome", "cancelled")]);
    assert_eq!((cancelled, total("breakwater_attempts_total", &[("outcome", "local_error")])), (2.0, 0.0));
    let failed = total("breakwater_attempt_duration_seconds_count", &[("result", "failure")]);
    assert_eq!(failed, ended - succeeded - cancelled);
    let transport = ["api_connection_error", "timeout_error"]
        .map(|kind| total("breakwater_attempts_total", &[("outcome", kind)]))
        .iter()
        .sum::<f64>();
    assert_eq!(total("breakwater_attempt_failure_details_total", &[]), transport);
    assert!(0.0 < transport && 0.0 < failovers);
}

/// Identity 7.
fn streams_balance(scrape: &Scrape) {
    let total = |name: &str, labels: &[(&str, &str)]| scrape.sum(name, labels);
    let ended = |reasons: &[&str]| -> f64 {
        reasons.iter().map(|reason| total("breakwater_streams_ended_total", &[("reason", reason)])).sum()
    };
    let streamed = |outcome| total("breakwater_requests_total", &[("outcome", outcome), ("stream", "true")]);
    let broken = ended(&["upstream_error", "truncated", "idle_timeout", "total_timeout"]);
    assert_eq!((broken, broken), (streamed("stream_error"), 2.0));
    assert_eq!(ended(&["completed", "done_without_finish"]), streamed("success"));
    let all = total("breakwater_streams_ended_total", &[]);
    assert!(total("breakwater_time_to_first_token_seconds_count", &[]) <= all);
}

#[test]
fn histograms_add_up_and_no_counter_falls() {
    let providers = Providers::pair();
    let gateway = Gateway::start(providers.yaml(""));
    let mut before: Option<Scrape> = None;
    for round in 0..6 {
        if round % 2 == 1 {
            providers.fault("openai", status(503));
        } else {
            providers.heal("openai");
        }
        gateway.ask(&Ask::chat("r"));
        gateway.ask(&Ask::stream("r"));
        let scrape = gateway.scrape();
        histograms_add_up(&scrape);
        if let Some(before) = &before {
            none_falls(before, &scrape);
        }
        before = Some(scrape);
    }
}

pub(crate) fn histograms_add_up(scrape: &Scrape) {
    let mut last: BTreeMap<(String, BTreeMap<String, String>), (f64, f64)> = BTreeMap::new();
    for sample in &scrape.0 {
        let Some(name) = sample.name.strip_suffix("_bucket") else { continue };
        let mut labels = sample.labels.clone();
        let bound: f64 = labels.remove("le").unwrap().replace("+Inf", "inf").parse().unwrap();
        let key = (name.to_owned(), labels);
        if let Some((below, count)) = last.get(&key) {
            assert!(*below < bound && *count <= sample.value, "buckets are cumulative: {sample:?}");
        }
        last.insert(key, (bound, sample.value));
    }
    assert!(!last.is_empty());
    for ((name, labels), (bound, count)) in &last {
        let labels: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!((*bound, scrape.sum(&format!("{name}_count"), &labels)), (f64::INFINITY, *count), "{name}");
    }
}

pub(crate) fn none_falls(before: &Scrape, after: &Scrape) {
    let is_sum = |name: &str| ["_total", "_bucket", "_count", "_sum"].iter().any(|suffix| name.ends_with(suffix));
    let series = |scrape: &Scrape| -> BTreeMap<(String, BTreeMap<String, String>), f64> {
        let sums = scrape.0.iter().filter(|sample| is_sum(&sample.name));
        sums.map(|sample| ((sample.name.clone(), sample.labels.clone()), sample.value)).collect()
    };
    let after = series(after);
    for (key, value) in series(before) {
        let now = after.get(&key).unwrap_or_else(|| panic!("{key:?} is gone"));
        assert!(value <= *now, "{key:?} fell from {value} to {now}");
    }
}

#[test]
fn the_text_is_what_prometheus_reads() {
    let providers = Providers::pair();
    let gateway = Gateway::start(providers.yaml(""));
    gateway.ask(&Ask::chat("r"));
    let answer = gateway.ask(&Ask::get("/metrics"));
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = answer.text();
    let mut typed = BTreeMap::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        assert!(typed.insert(name, kind).is_none(), "{name} has two types");
        assert!(text.contains(&format!("# HELP {name} ")), "{name} has no help");
    }
    let mut seen = BTreeSet::new();
    for sample in Scrape::parse(&text).0 {
        assert!(seen.insert((sample.name.clone(), sample.labels.clone())), "twice: {sample:?}");
        let base = ["_bucket", "_count", "_sum"].iter().find_map(|suffix| sample.name.strip_suffix(suffix));
        let kind = base.and_then(|base| typed.get(base)).or_else(|| typed.get(sample.name.as_str()));
        let is_counter = sample.name.ends_with("_total");
        assert_eq!(kind == Some(&"counter"), is_counter, "{sample:?} is a {kind:?}");
        assert!(sample.name.starts_with("breakwater_") || sample.name.starts_with("process_"), "{sample:?}");
    }
}

#[test]
fn gauges_of_a_scrape_say_who_could_serve_and_with_which_share() {
    let providers = Providers::pair();
    let models = providers.models(&[("azure", "rpm: 60")]);
    let gateway = Gateway::start(format!(
        "{models}router:\n  - {{model_name: r, models: [{{name: openai, priority: 1, weight: 3}}, {{name: azure, priority: 1, weight: 1}}]}}\n"
    ));
    let open = |action: &str| {
        let body = format!(r#"{{"action":"{action}"}}"#);
        assert_eq!(gateway.operate(&Ask::post("/admin/backends/openai/circuit", body)).status(), 200);
    };
    let scrape = gateway.scrape();
    let of = |scrape: &Scrape, name: &str, labels: &[(&str, &str)]| scrape.sum(&format!("breakwater_{name}"), labels);
    assert_eq!(of(&scrape, "route_selectable_backends", &[("route", "r")]), 2.0);
    assert_eq!(of(&scrape, "candidate_weight", &[("route", "r"), ("backend", "openai"), ("tier", "1")]), 3.0);
    assert_eq!(of(&scrape, "backend_limit", &[("backend", "azure"), ("limit", "rpm")]), 60.0);
    assert_eq!(of(&scrape, "backend_limit", &[("backend", "openai")]), 1024.0, "unlimited by the minute");
    assert!(scrape.sum("process_resident_memory_bytes", &[]) > 1e6);
    open("force_open");
    let scrape =
        gateway.wait_scrape("the hand", |scrape| of(scrape, "circuit_override", &[("override", "force_open")]) == 1.0);
    assert_eq!(of(&scrape, "route_selectable_backends", &[("route", "r")]), 1.0);
    assert_eq!(of(&scrape, "circuit_open_until_timestamp_seconds", &[]), 0.0, "a hand has no end of its own");
    open("auto");
    gateway.wait_scrape("no hand", |scrape| of(scrape, "circuit_override", &[]) == 0.0);
    assert_eq!(of(&scrape, "candidate_weight", &[("route", "openai")]), 0.0, "nobody has asked for it by its own name");
}
