//! A client that leaves: the upstream call ends at once, everything is given back, and no backend is blamed.

use breakwater::simulator::{Fault, HangAt, Recorded};
use serde_json::json;

use crate::support::{Ask, Gateway, Providers, wait_for};

/// Clients that leave one after the other: enough to open a circuit many times over, if they counted.
const LEAVERS: u64 = 20;

fn setting() -> (Providers, Gateway) {
    let providers = Providers::pair();
    let gateway = Gateway::start(providers.yaml(""));
    (providers, gateway)
}

/// Waits until `openai` has so many requests.
fn wait_called(providers: &Providers, calls: u64) -> Recorded {
    wait_for("the call", || (calls <= providers.calls("openai")).then(|| providers.last("openai")))
}

/// Everything was given back and nobody is blamed.
fn check_books(gateway: &Gateway, left: u64) {
    let scrape = gateway.wait_scrape("the end of the attempts", |scrape| {
        scrape.sum("breakwater_attempts_in_flight", &[]) == 0.0
            && scrape.sum("breakwater_requests_in_flight", &[]) == 0.0
            && scrape.sum("breakwater_requests_total", &[("outcome", "client_closed")]) == left as f64
    });
    assert_eq!(scrape.sum("breakwater_attempts_total", &[("outcome", "cancelled")]), left as f64);
    assert_eq!(scrape.sum("breakwater_attempts_total", &[]), left as f64, "nothing else was tried");
    assert_eq!(scrape.sum("breakwater_attempt_failure_details_total", &[]), 0.0);
    assert_eq!(scrape.sum("breakwater_circuit_transitions_total", &[]), 0.0);
    assert_eq!(scrape.sum("breakwater_circuit_state", &[("backend", "openai")]), 0.0);
}

#[test]
fn leaving_while_waiting_ends_the_call_and_blames_nobody() {
    let (providers, gateway) = setting();
    providers.fault("openai", Fault::Hang(HangAt::BeforeHeaders));
    for number in 1..=LEAVERS {
        let mut client = gateway.connect();
        client.send(&if number % 2 == 0 { Ask::stream("r") } else { Ask::chat("r") });
        wait_called(&providers, number);
        drop(client);
        let counts = providers.wait_ended("openai", number);
        assert_eq!(counts.client_closed, number);
    }
    assert_eq!(providers.calls("azure"), 0);
    check_books(&gateway, LEAVERS);
    for line in gateway.wait_lines(LEAVERS as usize) {
        assert_eq!((&line["status"], &line["outcome"]), (&json!(499), &json!("client_closed")), "{line}");
    }
    providers.heal("openai");
    assert_eq!(gateway.ask(&Ask::chat("r")).trail(), "openai=200");
}

#[test]
fn leaving_within_a_stream_ends_the_call_and_blames_nobody() {
    let (providers, gateway) = setting();
    providers.fault("openai", Fault::Hang(HangAt::AfterEvents(3)));
    for number in 1..=LEAVERS {
        let mut client = gateway.connect();
        client.send(&Ask::stream("r"));
        client.read_until("openai:1");
        drop(client);
        let counts = providers.wait_ended("openai", number);
        assert_eq!(counts.client_closed, number);
    }
    check_books(&gateway, LEAVERS);
    let scrape = gateway.scrape();
    let ended = [("backend", "openai"), ("reason", "client_closed")];
    assert_eq!(scrape.sum("breakwater_streams_ended_total", &ended), LEAVERS as f64);
    for line in gateway.wait_lines(LEAVERS as usize) {
        assert_eq!((&line["status"], &line["outcome"]), (&json!(200), &json!("client_closed")), "{line}");
    }
}

#[test]
fn a_client_that_closes_its_half_has_left() {
    let (providers, gateway) = setting();
    providers.fault("openai", Fault::Hang(HangAt::BeforeHeaders));
    let mut client = gateway.connect();
    client.send(&Ask::chat("r"));
    wait_called(&providers, 1);
    client.half_close();
    assert_eq!(providers.wait_ended("openai", 1).client_closed, 1);
    check_books(&gateway, 1);
}

#[test]
fn a_call_that_a_client_left_is_not_used_again() {
    let (providers, gateway) = setting();
    providers.fault("openai", Fault::Hang(HangAt::AfterEvents(3)));
    let mut client = gateway.connect();
    client.send(&Ask::stream("r"));
    client.read_until("openai:1");
    let left = providers.last("openai").connection;
    drop(client);
    providers.wait_ended("openai", 1);
    providers.heal("openai");
    assert_eq!(gateway.ask(&Ask::chat("r")).trail(), "openai=200");
    assert_ne!(providers.last("openai").connection, left);
}
