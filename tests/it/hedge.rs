//! A second call beside a slow one: the first content wins, the loser is cancelled and nobody is blamed; and where no second
//! call may go, none does.

use std::time::Duration;

use breakwater::simulator::{Delay, Dialect, Fault, HangAt, Status};
use serde_json::json;

use crate::support::{Answer, Ask, Gateway, Providers, status, wait_for, words_of};

/// So many samples are needed before a route hedges.
const SAMPLES: u64 = 20;

/// Calls of each kind before a story begins: so many that the two or three slow ones of a story are no twentieth of them, and
/// move no 95th percentile.
const WARM_UP: u64 = 3 * SAMPLES;

/// Fast requests of the route, from which its few hedges are reckoned.
const FAST: u64 = 40;

/// How long a slow backend takes: far longer than any call of the warm-up, by which slowness is judged.
const SLOW: Duration = Duration::from_secs(1);

/// Hedging as eager as it can be.
const EAGER: &str =
    "resilience: {hedge: {enabled: true, min_delay: 50ms, max_extra: 1.0}, retry_budget: {min_retries: 100}}\n";

/// Providers, and a gateway that knows how fast the first of them is.
struct Setting {
    providers: Providers,
    gateway: Gateway,
}

impl Setting {
    fn new(names: &[(&str, Dialect)], more: &str) -> Self {
        let providers = Providers::start(names);
        let gateway = Gateway::start(providers.yaml(more));
        let setting = Self { providers, gateway };
        let mut client = setting.gateway.connect();
        // By the backend's own name, where nobody stands beside it: a stall here is no slow call of the story.
        for _ in 0..WARM_UP {
            assert_eq!(client.ask(&Ask::chat("openai")).trail(), "openai=200");
            assert_eq!(client.ask(&Ask::stream("openai")).trail(), "openai=200");
        }
        setting.gateway.wait_samples("openai", "whole_samples", WARM_UP);
        setting.gateway.wait_samples("openai", "samples", WARM_UP);
        setting
    }

    fn pair() -> Self {
        Self::new(&[("openai", Dialect::OpenAi), ("azure", Dialect::Azure)], EAGER)
    }

    fn slow(&self, name: &str, by: Duration) {
        self.providers.settings(name, json!({"latency_ms": by.as_millis() as u64}));
    }

    fn ask(&self, ask: &Ask) -> Answer {
        self.gateway.ask(ask)
    }

    /// Everything was given back, the books balance, no circuit has moved, and so many hedges ended like this.
    fn check_books(&self, won: u64, lost: u64, failed: u64) {
        let scrape = self.gateway.wait_scrape("the end of the attempts", |scrape| {
            scrape.sum("breakwater_attempts_in_flight", &[]) == 0.0
                && scrape.sum("breakwater_requests_in_flight", &[]) == 0.0
        });
        for (result, expected) in [("won", won), ("lost", lost), ("failed", failed)] {
            assert_eq!(scrape.sum("breakwater_hedges_total", &[("result", result)]), expected as f64, "{result}");
        }
        let started = |kind| scrape.sum("breakwater_attempts_started_total", &[("kind", kind)]);
        assert_eq!(started("hedge"), (won + lost + failed) as f64);
        let all = scrape.sum("breakwater_attempts_started_total", &[]);
        assert_eq!(scrape.sum("breakwater_attempts_total", &[]), all);
        let extra = scrape.sum("breakwater_failovers_total", &[]) + scrape.sum("breakwater_hedges_total", &[]);
        assert_eq!(started("first") + extra, all);
        assert_eq!(scrape.sum("breakwater_circuit_transitions_total", &[]), 0.0);
        let log = self.gateway.wait_lines(scrape.sum("breakwater_requests_total", &[]) as usize);
        let recovered = log.iter().filter(|line| {
            line["outcome"] == "success" && line["attempts"].as_str().is_some_and(|trail| trail.contains("_error"))
        });
        assert_eq!(scrape.sum("breakwater_requests_recovered_total", &[]), recovered.count() as f64);
    }
}

/// An answered error that takes its time.
fn slow_status(code: u16) -> Fault {
    Fault::Status(Status { latency: Some(Delay::fixed(SLOW)), ..Status::new(code) })
}

#[test]
fn a_slow_call_is_overtaken_and_cancelled_and_nobody_is_blamed() {
    let setting = Setting::pair();
    let Setting { providers, gateway } = &setting;
    let before = providers.counts("openai").requests;
    // Often enough to open a circuit, if it counted.
    for number in 1..=8 {
        let fault = if number % 2 == 0 { HangAt::BeforeHeaders } else { HangAt::AfterHeaders };
        providers.fault("openai", Fault::Hang(fault));
        let answer = setting.ask(&Ask::chat("r"));
        assert_eq!((answer.status(), answer.words()), (200, words_of("azure", 16)), "{answer:?}");
        assert_eq!(answer.trail(), "openai=cancelled;azure=200");
        assert_eq!(answer.header("x-breakwater-backend"), Some("azure"));
        assert_eq!(answer.header("x-litellm-attempted-fallbacks"), Some("1"));
        assert_eq!(providers.wait_ended("openai", before + number).client_closed, number);
    }
    setting.check_books(8, 0, 0);
    let scrape = gateway.scrape();
    let cancelled = [("backend", "openai"), ("outcome", "cancelled")];
    assert_eq!(scrape.sum("breakwater_attempts_total", &cancelled), 8.0);
    assert_eq!(scrape.sum("breakwater_circuit_state", &[]), 0.0);
    let line = gateway.wait_lines(2 * WARM_UP as usize + 8).pop().unwrap();
    assert_eq!(
        (&line["backend"], &line["attempts"]),
        (&json!("azure"), &json!("openai=cancelled;azure=200")),
        "{line}"
    );
    assert_eq!(line["attempt_count"], 2);
    providers.heal("openai");
    assert_eq!(setting.ask(&Ask::chat("r")).trail(), "openai=200");
}

#[test]
fn a_stream_is_hedged_before_its_first_content_alone() {
    let setting = Setting::pair();
    let providers = &setting.providers;
    // A head and a role, but no word.
    providers.fault("openai", Fault::Hang(HangAt::BeforeFirstContent));
    let answer = setting.ask(&Ask::stream("r"));
    assert_eq!(answer.trail(), "openai=cancelled;azure=200");
    assert_eq!(answer.words(), words_of("azure", 16), "of one backend alone");
    assert_eq!(answer.data().iter().filter(|data| *data == "[DONE]").count(), 1);
    // Words that come slowly are not overtaken.
    providers.heal("openai");
    providers.settings("openai", json!({"tokens_per_second": 20.0}));
    let answer = setting.ask(&Ask::stream("r"));
    assert_eq!((answer.trail(), answer.words()), ("openai=200", words_of("openai", 16)));
    assert_eq!(providers.calls("azure"), 1);
    setting.check_books(1, 0, 0);
}

#[test]
fn the_slow_one_may_still_win() {
    let setting = Setting::pair();
    setting.slow("openai", SLOW);
    setting.providers.fault("azure", Fault::Hang(HangAt::BeforeHeaders));
    let answer = setting.ask(&Ask::chat("r"));
    assert_eq!((answer.trail(), answer.words()), ("azure=cancelled;openai=200", words_of("openai", 16)));
    assert_eq!(answer.header("x-breakwater-backend"), Some("openai"));
    assert_eq!(setting.providers.wait_ended("azure", 1).client_closed, 1);
    setting.check_books(0, 1, 0);
}

#[test]
fn where_one_fails_the_other_is_awaited() {
    let setting = Setting::pair();
    setting.providers.fault("openai", slow_status(503));
    setting.slow("azure", 2 * SLOW);
    let answer = setting.ask(&Ask::chat("r"));
    assert_eq!((answer.trail(), answer.words()), ("openai=service_unavailable_error;azure=200", words_of("azure", 16)));
    setting.providers.heal("openai");
    setting.slow("openai", 2 * SLOW);
    setting.providers.fault("azure", status(503));
    let answer = setting.ask(&Ask::chat("r"));
    assert_eq!(
        (answer.trail(), answer.words()),
        ("azure=service_unavailable_error;openai=200", words_of("openai", 16))
    );
    assert_eq!(answer.header("x-breakwater-backend"), Some("openai"));
    setting.check_books(1, 0, 1);
}

#[test]
fn where_both_fail_the_later_error_counts_and_both_are_told() {
    let three = [("openai", Dialect::OpenAi), ("azure", Dialect::Azure), ("third", Dialect::OpenAi)];
    let setting = Setting::new(&three, EAGER);
    setting.providers.fault("openai", slow_status(503));
    setting.providers.fault("azure", status(500));
    let answer = setting.ask(&Ask::chat("r"));
    let both = "azure=service_unavailable_error;openai=service_unavailable_error";
    assert_eq!((answer.status(), answer.trail()), (200, format!("{both};third=200").as_str()));
    let failovers = |from: &str| setting.gateway.scrape().sum("breakwater_failovers_total", &[("from", from)]);
    assert_eq!((failovers("openai"), failovers("azure")), (1.0, 0.0), "one decision");
    setting.check_books(0, 0, 1);
}

#[test]
fn attempts_and_deadline_hold() {
    let limits = "resilience: {hedge: {enabled: true, min_delay: 50ms, max_extra: 1.0}, attempts: {max_attempts: 2}}\n";
    let three = [("openai", Dialect::OpenAi), ("azure", Dialect::Azure), ("third", Dialect::OpenAi)];
    let setting = Setting::new(&three, limits);
    setting.providers.fault("openai", slow_status(500));
    setting.providers.fault("azure", status(503));
    let answer = setting.ask(&Ask::chat("r"));
    assert_eq!(answer.trail(), "azure=service_unavailable_error;openai=service_unavailable_error");
    assert_eq!((answer.status(), answer.header("x-should-retry")), (500, Some("false")), "{answer:?}");
    assert_eq!(setting.providers.calls("third"), 0);
    // Less time than an attempt must have: no second call, and the end when it is over.
    setting.providers.fault("openai", Fault::Hang(HangAt::BeforeHeaders));
    let calls = setting.providers.calls("azure");
    let answer = setting.ask(&Ask::chat("r").header("x-request-timeout", "0.9"));
    assert_eq!((answer.status(), answer.trail()), (504, "openai=timeout_error"));
    assert_eq!(setting.providers.calls("azure"), calls);
    setting.check_books(0, 0, 1);
}

#[test]
fn nobody_is_slow_for_having_been_overtaken() {
    // Each has waited longer than a call may; two of them would open the circuit.
    let slow = "resilience: {hedge: {enabled: true, min_delay: 400ms, max_extra: 1.0}, retry_budget: {min_retries: 100}, \
         circuit_breaker: {slow_call_duration: 300ms, slow_call_rate_threshold: 0.01, minimum_calls: 121}}\n";
    let setting = Setting::new(&[("openai", Dialect::OpenAi), ("azure", Dialect::Azure)], slow);
    setting.slow("openai", SLOW);
    for _ in 0..2 {
        assert_eq!(setting.ask(&Ask::chat("r")).trail(), "openai=cancelled;azure=200");
    }
    setting.check_books(2, 0, 0);
}

#[test]
fn a_client_that_leaves_cancels_both() {
    let setting = Setting::pair();
    let before = setting.providers.counts("openai").requests;
    for name in ["openai", "azure"] {
        setting.providers.fault(name, Fault::Hang(HangAt::BeforeHeaders));
    }
    let mut client = setting.gateway.connect();
    client.send(&Ask::stream("r"));
    wait_for("the second call", || (setting.providers.calls("azure") == 1).then_some(()));
    drop(client);
    assert_eq!(setting.providers.wait_ended("openai", before + 1).client_closed, 1);
    assert_eq!(setting.providers.wait_ended("azure", 1).client_closed, 1);
    setting.check_books(0, 1, 0);
    let cancelled = setting.gateway.scrape().sum("breakwater_attempts_total", &[("outcome", "cancelled")]);
    assert_eq!(cancelled, 2.0);
}

#[test]
fn some_calls_are_never_hedged() {
    let setting = Setting::pair();
    setting.slow("openai", SLOW);
    for more in [r#","store":true"#, r#","reasoning_effort":"high""#] {
        assert_eq!(setting.ask(&Ask::chat_with("r", more)).trail(), "openai=200", "{more}");
    }
    assert_eq!(setting.providers.calls("azure"), 0);
    assert_eq!(setting.ask(&Ask::chat("r")).trail(), "openai=cancelled;azure=200", "but others are");
    setting.check_books(1, 0, 0);
}

#[test]
fn without_samples_nobody_knows_what_is_slow() {
    let providers = Providers::pair();
    let gateway = Gateway::start(providers.yaml(EAGER));
    providers.settings("openai", json!({"latency_ms": SLOW.as_millis() as u64}));
    assert_eq!(gateway.ask(&Ask::chat("r")).trail(), "openai=200");
    assert_eq!(providers.calls("azure"), 0);
}

#[test]
fn hedges_are_few_among_the_requests() {
    let few = "resilience: {hedge: {enabled: true, min_delay: 500ms}}\n";
    let setting = Setting::new(&[("openai", Dialect::OpenAi), ("azure", Dialect::Azure)], few);
    let mut client = setting.gateway.connect();
    for _ in 0..FAST {
        assert_eq!(client.ask(&Ask::chat("r")).trail(), "openai=200");
    }
    setting.slow("openai", SLOW);
    // One in twenty of those that were fast; the requests themselves add less than one.
    let most = FAST / 20;
    let trails: Vec<String> = (0..most + 2).map(|_| setting.ask(&Ask::chat("r")).trail().to_owned()).collect();
    let hedged = trails.iter().filter(|trail| *trail == "openai=cancelled;azure=200").count() as u64;
    assert_eq!((hedged, trails.last().map(String::as_str)), (most, Some("openai=200")), "{trails:?}");
    setting.check_books(most, 0, 0);
    assert_eq!(setting.gateway.scrape().sum("breakwater_retry_budget_exhausted_total", &[]), 0.0);
}

#[test]
fn a_spent_retry_budget_forbids_it() {
    let none = "resilience: {hedge: {enabled: true, min_delay: 50ms, max_extra: 1.0}, retry_budget: {min_retries: 0, budget_ratio: 0.0001}}\n";
    let setting = Setting::new(&[("openai", Dialect::OpenAi), ("azure", Dialect::Azure)], none);
    setting.slow("openai", SLOW);
    assert_eq!(setting.ask(&Ask::chat("r")).trail(), "openai=200");
    setting.check_books(0, 0, 0);
    assert_eq!(setting.gateway.scrape().sum("breakwater_retry_budget_exhausted_total", &[]), 1.0);
}

#[test]
fn a_route_that_does_not_ask_for_it_does_not_hedge() {
    let setting = Setting::new(&[("openai", Dialect::OpenAi), ("azure", Dialect::Azure)], "");
    setting.slow("openai", SLOW);
    assert_eq!(setting.ask(&Ask::chat("r")).trail(), "openai=200");
    setting.check_books(0, 0, 0);
}
