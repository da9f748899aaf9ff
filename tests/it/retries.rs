//! What a request may try beyond its first attempt: the route's retry budget.

use crate::support::{Ask, Gateway, Providers, status};

/// Breakers that never open, so that only the budget bounds the load.
const NEVER_OPEN: &str = "circuit_breaker: {consecutive_failures: 1000000, failure_rate_threshold: off}";

#[test]
fn an_exhausted_budget_ends_a_request_with_its_last_error() {
    // Requests that count allow one extra attempt each at this ratio; an SDK's retries do not count.
    for (ask, most) in [(Ask::chat("r"), 30), (Ask::chat("r").header("x-stainless-retry-count", "1"), 5)] {
        let providers = Providers::pair();
        let more = format!("resilience: {{{NEVER_OPEN}, retry_budget: {{min_retries: 3, budget_ratio: 1.0}}}}\n");
        let gateway = Gateway::start(providers.yaml(&more));
        providers.fault("openai", status(500));
        providers.fault("azure", status(500));
        let mut client = gateway.connect();
        let answers: Vec<_> = (0..30).map(|_| client.ask(&ask)).collect();
        let held = answers.iter().filter(|answer| answer.trail() == "openai=service_unavailable_error").count() as u64;
        assert!(answers.iter().all(|answer| answer.status() == 500), "{answers:?}");
        assert_eq!((providers.calls("openai"), providers.calls("azure")), (30, 30 - held));
        // Two may go before azure is known to fail: its failure is told to its actor, not waited for.
        assert!(30 - held <= most && (most == 30) == (held == 0), "{held} of 30 held back");
        let lines = gateway.wait_lines(30);
        let ended = lines.iter().filter(|line| line["exhausted_reason"] == "retry_budget").count() as u64;
        let scrape = gateway.scrape();
        let counted = scrape.sum("breakwater_retry_budget_exhausted_total", &[("route", "r")]);
        assert_eq!((ended, counted as u64), (held, held));
    }
}

#[test]
fn a_good_backend_is_reached_whatever_the_budget_says() {
    let providers = Providers::pair();
    let more = format!("resilience: {{{NEVER_OPEN}, retry_budget: {{min_retries: 1, budget_ratio: 0.01}}}}\n");
    let gateway = Gateway::start(providers.yaml(&more));
    providers.fault("openai", status(500));
    let mut client = gateway.connect();
    for _ in 0..30 {
        assert_eq!(client.ask(&Ask::chat("r")).trail(), "openai=service_unavailable_error;azure=200");
    }
}
