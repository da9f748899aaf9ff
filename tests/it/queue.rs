//! `on_exhausted: queue`: whoever finds nobody waits a little, in order, within bounds.

use std::time::Duration;

use breakwater::simulator::{Delay, Dialect, Fault, HangAt, Rule};

use crate::support::{Ask, Client, Gateway, Providers, Setup, rate_limited};

/// One backend with one place, and one worker, since each has a line of its own.
fn narrow(providers: &Providers, queue: &str) -> Gateway {
    let more = format!("resilience: {{max_in_flight: 1, on_exhausted: [queue, reject], queue: {{{queue}}}}}\n");
    Setup::new(providers.yaml(&more)).workers(1).start()
}

fn one() -> Providers {
    Providers::start(&[("one", Dialect::OpenAi)])
}

fn numbered(number: usize) -> Ask {
    Ask::chat("r").header("x-client-request-id", &number.to_string())
}

/// Sends a request and waits until so many wait in the line.
fn send_and_wait(gateway: &Gateway, ask: &Ask, depth: f64) -> Client {
    let mut client = gateway.connect();
    client.send(ask);
    gateway.wait_scrape("the line", |scrape| scrape.sum("breakwater_queue_depth", &[("route", "r")]) == depth);
    client
}

#[test]
fn those_who_wait_are_served_in_their_order() {
    let providers = one();
    let gateway = narrow(&providers, "max_wait: 10s");
    providers.rules("one", vec![Rule::from(Fault::Latency(Delay::Fixed(2_500.0))).times(1)]);
    let mut first = gateway.connect();
    first.send(&numbered(0));
    gateway.wait_scrape("the call", |scrape| scrape.sum("breakwater_attempts_in_flight", &[]) == 1.0);
    let waiting: Vec<_> = (1..5).map(|number| send_and_wait(&gateway, &numbered(number), number as f64)).collect();
    for mut client in std::iter::once(first).chain(waiting) {
        let answer = client.finish();
        assert_eq!((answer.status(), answer.trail()), (200, "one=200"), "{answer:?}");
    }
    let served: Vec<_> =
        providers.requests("one").iter().map(|call| call.header("x-client-request-id").map(str::to_owned)).collect();
    assert_eq!(served, ["0", "1", "2", "3", "4"].map(|number| Some(number.to_owned())));
    let scrape = gateway.scrape();
    assert_eq!(scrape.sum("breakwater_queue_depth", &[]), 0.0);
    assert_eq!(scrape.sum("breakwater_queue_wait_seconds_count", &[("route", "r")]), 4.0);
    let overheads: Vec<f64> = gateway.wait_lines(5).iter().map(|line| line["overhead_ms"].as_f64().unwrap()).collect();
    assert!(overheads.iter().all(|overhead| *overhead < 300.0), "a wait is no work of ours: {overheads:?}");
}

#[test]
fn a_rate_limit_is_waited_for_and_tried_again() {
    let providers = one();
    let gateway = narrow(&providers, "max_wait: 5s");
    providers.rules("one", vec![Rule::from(rate_limited(Duration::from_secs(1))).times(1)]);
    let answer = gateway.ask(&Ask::chat("r"));
    assert_eq!((answer.status(), answer.trail()), (200, "one=rate_limit_error;one=200"), "{answer:?}");
    assert!(Duration::from_secs(1) <= answer.elapsed, "never earlier than told: {answer:?}");
    assert_eq!(gateway.scrape().sum("breakwater_retries_total", &[("backend", "one")]), 1.0);
    // Longer than it may wait: at once.
    providers.fault("one", rate_limited(Duration::from_secs(30)));
    let answer = gateway.ask(&Ask::chat("r"));
    assert_eq!((answer.status(), answer.header("retry-after")), (429, Some("30")), "{answer:?}");
    assert!(answer.elapsed < Duration::from_secs(5), "{answer:?}");
}

#[test]
fn a_full_line_and_a_wait_that_is_over() {
    let providers = one();
    let gateway = narrow(&providers, "max_wait: 800ms, max_size: 1");
    providers.fault("one", Fault::Hang(HangAt::BeforeHeaders));
    let mut running = gateway.connect();
    running.send(&Ask::chat("r"));
    gateway.wait_scrape("the call", |scrape| scrape.sum("breakwater_attempts_in_flight", &[]) == 1.0);
    let mut waiting = send_and_wait(&gateway, &Ask::chat("r"), 1.0);
    let full = gateway.ask(&Ask::chat("r"));
    let over = waiting.finish();
    for answer in [&full, &over] {
        assert_eq!((answer.status(), answer.code().as_str()), (503, "no_backend_available"), "{answer:?}");
        assert_eq!((answer.header("retry-after"), answer.trail()), (Some("2"), "-"), "{answer:?}");
    }
    assert!(Duration::from_millis(800) <= over.elapsed && over.elapsed < Duration::from_secs(10), "{over:?}");
    let mut reasons: Vec<_> = gateway.wait_lines(2).iter().map(|line| line["exhausted_reason"].to_string()).collect();
    reasons.sort();
    assert_eq!(reasons, ["\"queue_full\"", "\"queue_timeout\""]);
    assert_eq!(providers.calls("one"), 1);
}

#[test]
fn never_longer_than_half_the_time_left() {
    let providers = one();
    let gateway = narrow(&providers, "max_wait: 60s");
    providers.fault("one", Fault::Hang(HangAt::BeforeHeaders));
    let mut running = gateway.connect();
    running.send(&Ask::chat("r"));
    gateway.wait_scrape("the call", |scrape| scrape.sum("breakwater_attempts_in_flight", &[]) == 1.0);
    let answer = gateway.ask(&Ask::chat("r").header("x-request-timeout", "3"));
    assert_eq!(answer.status(), 503, "{answer:?}");
    assert!(Duration::from_millis(1_400) <= answer.elapsed && answer.elapsed < Duration::from_secs(3), "{answer:?}");
}

#[test]
fn who_leaves_the_line_lets_the_others_move_up() {
    let providers = one();
    let gateway = narrow(&providers, "max_wait: 10s");
    providers.rules("one", vec![Rule::from(Fault::Latency(Delay::Fixed(2_500.0))).times(1)]);
    let mut first = gateway.connect();
    first.send(&numbered(0));
    gateway.wait_scrape("the call", |scrape| scrape.sum("breakwater_attempts_in_flight", &[]) == 1.0);
    let leaving = send_and_wait(&gateway, &numbered(1), 1.0);
    let mut staying = send_and_wait(&gateway, &numbered(2), 2.0);
    drop(leaving);
    assert_eq!((first.finish().status(), staying.finish().status()), (200, 200));
    assert_eq!(providers.calls("one"), 2, "nobody was called for a client that had left");
}
