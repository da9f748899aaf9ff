//! What a request may try beyond its first attempt: the route's retry budget, the same backend again, a larger context.

use breakwater::simulator::{Dialect, Rule, Template};

use crate::support::{Ask, Gateway, Providers, Scripted, route, status, status_as, words_of};

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

/// The pair with this many retries on the same backend.
fn retrying(providers: &Providers, retries: u32) -> Gateway {
    Gateway::start(providers.yaml(&format!("resilience: {{attempts: {{same_backend_retries: {retries}}}}}\n")))
}

#[test]
fn the_same_backend_again_when_nobody_else_is_left() {
    let providers = Providers::pair();
    let gateway = retrying(&providers, 1);
    providers.fault("openai", status(503));
    providers.rules("azure", vec![Rule::from(status(503)).times(1)]);
    let answer = gateway.ask(&Ask::chat("r"));
    let failed = "service_unavailable_error";
    assert_eq!(answer.trail(), format!("openai={failed};azure={failed};azure=200"), "{answer:?}");
    assert_eq!(answer.words(), words_of("azure", 16));
    let scrape = gateway.scrape();
    let sum = |name: &str, labels: &[(&str, &str)]| scrape.sum(name, labels) as u64;
    assert_eq!(sum("breakwater_retries_total", &[("backend", "azure")]), 1);
    assert_eq!(sum("breakwater_retries_total", &[]), 1);
    assert_eq!(sum("breakwater_attempts_started_total", &[("kind", "retry")]), 1);
    assert_eq!(sum("breakwater_failovers_total", &[]), 1);
}

#[test]
fn retries_end_with_their_number_and_with_the_attempts() {
    let providers = Providers::start(&[("one", Dialect::OpenAi)]);
    for (retries, calls) in [(0, 1), (1, 2), (2, 3), (9, 3)] {
        providers.reset();
        providers.fault("one", status(500));
        let answer = retrying(&providers, retries).ask(&Ask::chat("r"));
        assert_eq!((answer.status(), providers.calls("one")), (500, calls), "{retries}: {answer:?}");
    }
}

#[test]
fn a_retry_that_would_not_help_is_not_made() {
    let providers = Providers::start(&[("one", Dialect::OpenAi)]);
    for fault in [status(429), status(408), status(401), status_as(429, Template::InsufficientQuota)] {
        providers.reset();
        providers.fault("one", fault.clone());
        let answer = retrying(&providers, 2).ask(&Ask::chat("r"));
        assert_eq!(providers.calls("one"), 1, "{fault:?}: {answer:?}");
    }
    let body = r#"{"error":{"message":"no","type":"server_error","param":null,"code":null}}"#;
    let answer = |more: &str| {
        let length = body.len();
        format!("HTTP/1.1 500 No\r\ncontent-type: application/json\r\n{more}content-length: {length}\r\n\r\n{body}")
    };
    for (more, calls) in [("x-should-retry: false\r\n", 1), ("", 2)] {
        let provider = Scripted::start(vec![answer(more).into_bytes(); 3]);
        let yaml = provider.yaml("resilience: {attempts: {same_backend_retries: 1}}\n");
        let answer = Gateway::start(yaml).ask(&Ask::chat("r"));
        assert_eq!((answer.status(), provider.calls()), (500, calls), "{more:?}: {answer:?}");
    }
}

#[test]
fn what_is_too_long_for_one_goes_only_to_a_larger_one() {
    let backends = [("one", 1_000), ("smaller", 1_000), ("larger", 2_000)];
    let providers = Providers::start(&backends.map(|(name, _)| (name, Dialect::OpenAi)));
    let mut models = providers.models(&[]);
    for (name, size) in backends {
        let size = format!("  - model_name: {name}\n    model_info: {{max_input_tokens: {size}}}\n");
        models = models.replace(&format!("  - model_name: {name}\n"), &size);
    }
    let too_long = || status_as(400, Template::ContextLength);
    let listed = "fallback_on_error_types: [context_window_exceeded_error]";
    let gateway = Gateway::start(format!("{models}router:\n{}", route("r", &["one", "smaller", "larger"], listed)));
    providers.fault("one", too_long());
    let answer = gateway.ask(&Ask::chat("r"));
    assert_eq!(answer.trail(), "one=context_window_exceeded_error;larger=200", "{answer:?}");
    providers.fault("larger", too_long());
    let answer = gateway.ask(&Ask::chat("r"));
    let kind = "context_window_exceeded_error";
    assert_eq!((answer.status(), answer.trail()), (400, format!("one={kind};larger={kind}").as_str()), "{answer:?}");
    assert_eq!(answer.code(), "context_length_exceeded");
    assert_eq!(providers.calls("smaller"), 0);
    let passed = gateway.scrape().sum("breakwater_rejections_total", &[("reason", "incompatible")]);
    assert!(0.0 < passed);
    // An unknown size is worth a try.
    let unknown = providers.models(&[]);
    let gateway = Gateway::start(format!("{unknown}router:\n{}", route("r", &["one", "smaller"], listed)));
    assert_eq!(gateway.ask(&Ask::chat("r")).trail(), "one=context_window_exceeded_error;smaller=200");
}
