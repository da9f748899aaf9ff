//! The circuit over real sockets: a dead backend is soon not called any more, and found again when it is back.

use std::time::Duration;

use breakwater::clock;
use breakwater::simulator::{Fault, HangAt};

use crate::support::{Ask, Gateway, Providers, rate_limited, status, wait_for};

/// The breaker's default number of failures in a row.
const FAILURES: u64 = 5;

/// The shortest open time there is, and no ramp afterwards.
const BRISK: &str = "resilience: {circuit_breaker: {wait_duration_in_open_state: 1s, jitter: 0, slow_start: off}}\n";

/// Asks until the answer has this trail; every answer on the way must be a success.
fn ask_until(gateway: &Gateway, trail: &str) {
    let mut client = gateway.connect();
    wait_for(trail, || {
        let answer = client.ask(&Ask::chat("r"));
        assert_eq!(answer.status(), 200, "{answer:?}");
        (answer.trail() == trail).then_some(())
    });
}

/// Fails until the circuit is open.
fn open(gateway: &Gateway) {
    let mut client = gateway.connect();
    for _ in 0..FAILURES {
        assert_eq!(client.ask(&Ask::chat("r")).status(), 200);
    }
    let event = gateway.wait_event_where("circuit changed", |event| event["to"] == "open");
    assert_eq!((&event["backend"], &event["reason"]), (&"openai".into(), &"run".into()), "{event}");
}

#[test]
fn five_failures_open_it_and_then_nobody_calls() {
    for fault in [status(503), Fault::Refuse, Fault::AcceptReset] {
        let providers = Providers::pair();
        let more = "resilience: {circuit_breaker: {wait_duration_in_open_state: 300s}}\n";
        let gateway = Gateway::start(providers.yaml(more));
        providers.fault("openai", fault.clone());
        open(&gateway);
        // It would answer now, but nobody is to find out before the time is over.
        providers.heal("openai");
        let before = providers.calls("openai");
        let mut client = gateway.connect();
        for _ in 0..20 {
            assert_eq!(client.ask(&Ask::chat("r")).trail(), "azure=200", "{fault:?}");
        }
        assert_eq!(providers.calls("openai"), before, "{fault:?}");
        let scrape = gateway.scrape();
        assert_eq!(scrape.sum("breakwater_circuit_state", &[("backend", "openai")]), 2.0);
        assert_eq!(scrape.sum("breakwater_backend_selectable", &[("backend", "openai")]), 0.0);
        let opened = [("backend", "openai"), ("to", "open"), ("reason", "run")];
        assert_eq!(scrape.sum("breakwater_circuit_transitions_total", &opened), 1.0);
        // Where its host refused connections, both circuits are open, and the one that lasts longer is the reason.
        let passed = |reason| scrape.sum("breakwater_rejections_total", &[("backend", "openai"), ("reason", reason)]);
        assert_eq!(passed("circuit_open") + passed("endpoint_open"), 20.0, "{fault:?}");
        assert_eq!(scrape.sum("breakwater_circuit_state", &[("backend", "azure")]), 0.0);
        let health = gateway.ask(&Ask::get("/health")).json();
        assert_eq!((&health["healthy_count"], &health["unhealthy_count"]), (&1.into(), &1.into()), "{health}");
    }
}

#[test]
fn a_backend_that_is_back_is_found_by_probes() {
    let providers = Providers::pair();
    let gateway = Gateway::start(providers.yaml(BRISK));
    providers.fault("openai", status(503));
    open(&gateway);
    providers.heal("openai");
    ask_until(&gateway, "openai=200");
    let mut client = gateway.connect();
    let closed = |event: &serde_json::Value| event["from"] == "half_open" && event["to"] == "closed";
    wait_for("the closed circuit", || {
        assert_eq!(client.ask(&Ask::chat("r")).status(), 200);
        gateway.events("circuit changed").into_iter().find(closed)
    });
    let before = providers.calls("azure");
    for _ in 0..10 {
        assert_eq!(client.ask(&Ask::chat("r")).trail(), "openai=200");
    }
    assert_eq!(providers.calls("azure"), before, "all traffic has returned");
    gateway.wait_scrape("three probes and a closed circuit", |scrape| {
        let probes = scrape.sum("breakwater_circuit_probes_total", &[("result", "success")]);
        (probes, scrape.sum("breakwater_circuit_state", &[])) == (3.0, 0.0)
    });
}

#[test]
fn a_probe_that_fails_costs_nobody_an_error() {
    let providers = Providers::pair();
    let gateway = Gateway::start(providers.yaml(BRISK));
    providers.fault("openai", status(503));
    open(&gateway);
    ask_until(&gateway, "openai=service_unavailable_error;azure=200");
    let event = gateway.wait_event_where("circuit changed", |event| event["reason"] == "probe_failed");
    assert_eq!((&event["from"], &event["to"]), (&"half_open".into(), &"open".into()), "{event}");
    assert_eq!(providers.calls("openai"), FAILURES + 1);
}

#[test]
fn nobody_left_is_a_503_that_says_when() {
    let providers = Providers::pair();
    // Extra calls enough for both circuits to open in five requests.
    let more = "resilience: {circuit_breaker: {wait_duration_in_open_state: 30s, jitter: 0}, retry_budget: {min_retries: 9}}\n";
    let gateway = Gateway::start(providers.yaml(more));
    providers.fault("openai", status(500));
    providers.fault("azure", status(500));
    for _ in 0..FAILURES {
        assert_eq!(gateway.ask(&Ask::chat("r")).status(), 500);
    }
    gateway.wait_event_where("circuit changed", |event| event["backend"] == "openai");
    gateway.wait_event_where("circuit changed", |event| event["backend"] == "azure");
    let answer = gateway.ask(&Ask::chat("r"));
    assert_eq!((answer.status(), answer.code().as_str()), (503, "no_backend_available"), "{answer:?}");
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=30).contains(&wait), "{answer:?}");
    assert_eq!((answer.trail(), answer.header("x-should-retry")), ("-", None), "{answer:?}");
    assert_eq!((providers.calls("openai"), providers.calls("azure")), (FAILURES, FAILURES));
}

#[test]
fn timeouts_open_it_too() {
    let providers = Providers::pair();
    let yaml = providers.yaml("");
    let (first, rest) = yaml.split_once("  - model_name: azure").unwrap();
    let short = "    resilience: {timeouts: {first_byte: 100ms}}\n";
    let gateway = Gateway::start(format!("{first}{short}  - model_name: azure{rest}"));
    providers.fault("openai", Fault::Hang(HangAt::BeforeHeaders));
    open(&gateway);
}

#[test]
fn rate_limits_never_open_it() {
    let providers = Providers::pair();
    let gateway = Gateway::start(providers.yaml(""));
    providers.fault("openai", rate_limited(Duration::from_millis(1)));
    let wanted = 1_000;
    let limited = || providers.counts("openai").statuses.get(&429).copied().unwrap_or(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = gateway.connect();
                while limited() < wanted {
                    let answer = client.ask(&Ask::chat_with("r", r#","max_tokens":1"#));
                    assert_eq!(answer.status(), 200, "{answer:?}");
                }
            });
        }
    });
    let scrape = gateway.scrape();
    assert_eq!(scrape.sum("breakwater_circuit_transitions_total", &[]), 0.0);
    assert_eq!(scrape.sum("breakwater_circuit_state", &[]), 0.0);
    assert!(wanted as f64 <= scrape.sum("breakwater_attempts_total", &[("outcome", "rate_limit_error")]));
}

#[test]
fn a_backend_is_left_alone_for_as_long_as_it_said() {
    let wait = Duration::from_secs(2);
    let providers = Providers::pair();
    let gateway = Gateway::start(providers.yaml(""));
    providers.fault("openai", rate_limited(wait));
    let before = clock::now();
    assert_eq!(gateway.ask(&Ask::chat("r")).trail(), "openai=rate_limit_error;azure=200");
    gateway.wait_event_where("backend blocked", |event| event["block"] == "rate_limited");
    providers.heal("openai");
    ask_until(&gateway, "openai=200");
    assert!(wait <= clock::now().since(before), "it was called again too early");
    assert_eq!(providers.calls("openai"), 2);
}
