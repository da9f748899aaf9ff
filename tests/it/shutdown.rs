//! SIGTERM: not ready, no new connections, what runs may finish; past the limit it is told and cut.

use breakwater::simulator::{Fault, HangAt};
use serde_json::Value;

use crate::support::{Ask, Client, Ending, Gateway, Providers, wait_for, words_of};

/// Words of a stream that outlasts the delay below at [`RATE`].
const WORDS: usize = 35;

/// Words per second.
const RATE: f64 = 10.0;

#[test]
fn a_running_stream_finishes_and_nothing_new_begins() {
    let providers = Providers::pair();
    let mut gateway = Gateway::start(providers.yaml("server: {shutdown: {delay: 2s, timeout: 30s}}\n"));
    providers.fault("openai", Fault::TokensPerSecond(RATE));
    let mut stream = gateway.connect();
    stream.send(&Ask::chat_with("r", &format!(r#","stream":true,"max_tokens":{WORDS}"#)));
    stream.read_until("openai:0");
    let mut idle = gateway.connect();
    assert_eq!(idle.ask(&Ask::get("/readyz")).status(), 200);

    gateway.signal("TERM");
    gateway.wait_event("draining");
    let unready = idle.ask(&Ask::get("/readyz"));
    assert_eq!((unready.status(), unready.json()["status"].as_str()), (503, Some("draining")), "{unready:?}");
    assert_eq!(unready.header("connection"), Some("close"), "{unready:?}");
    wait_for("the closed door", || Client::connect(gateway.address()).is_err().then_some(()));

    let answer = stream.finish();
    assert_eq!((answer.words(), answer.ending), (words_of("openai", WORDS), Some(Ending::Whole)), "{answer:?}");
    assert!(gateway.wait_exit().success());
    gateway.wait_event("drained");
    gateway.wait_event("stopped");
    assert_eq!(gateway.wait_lines(1)[0]["outcome"], "success", "the log is written to its end");
}

#[test]
fn past_the_limit_everyone_is_told_and_cut() {
    let providers = Providers::pair();
    let mut gateway = Gateway::start(providers.yaml("server: {shutdown: {timeout: 1s}}\n"));
    providers.fault("openai", Fault::Hang(HangAt::AfterEvents(3)));
    providers.fault("azure", Fault::Hang(HangAt::BeforeHeaders));
    let mut stream = gateway.connect();
    stream.send(&Ask::stream("openai"));
    stream.read_until("openai:1");
    let mut waiting = gateway.connect();
    waiting.send(&Ask::chat("azure"));
    wait_for("the waiting call", || (1 <= providers.calls("azure")).then_some(()));

    gateway.signal("TERM");
    let answer = stream.finish();
    assert_eq!((answer.words(), answer.ending), (words_of("openai", 2), Some(Ending::Cut)), "{answer:?}");
    let last: Value = serde_json::from_str(answer.data().last().unwrap()).unwrap();
    assert_eq!(last["error"]["code"], "gateway_draining", "{answer:?}");
    assert_eq!(last["error"]["type"], "service_unavailable_error", "{answer:?}");
    let answer = waiting.finish();
    assert_eq!((answer.status(), answer.code().as_str()), (503, "gateway_draining"), "{answer:?}");
    assert_eq!(answer.header("retry-after"), Some("1"), "{answer:?}");
    assert!(gateway.wait_exit().success());
    gateway.wait_event("stopped before all was answered");
    for line in gateway.wait_lines(2) {
        assert_eq!(line["outcome"], "shutdown", "{line}");
    }
    assert_eq!(providers.wait_ended("openai", 1).client_closed, 1);
}

#[test]
fn a_second_signal_ends_at_once() {
    let providers = Providers::pair();
    let mut gateway = Gateway::start(providers.yaml("server: {shutdown: {timeout: 300s}}\n"));
    providers.fault("openai", Fault::Hang(HangAt::AfterEvents(3)));
    let mut stream = gateway.connect();
    stream.send(&Ask::stream("r"));
    stream.read_until("openai:1");
    gateway.signal("TERM");
    gateway.wait_event("draining");
    gateway.signal("TERM");
    gateway.wait_exit();
    assert_eq!(stream.finish().ending, Some(Ending::Cut));
}

#[test]
fn with_nothing_to_do_either_signal_ends_it_well() {
    let providers = Providers::pair();
    for name in ["TERM", "INT"] {
        let mut gateway = Gateway::start(providers.yaml(""));
        assert_eq!(gateway.ask(&Ask::chat("r")).status(), 200);
        gateway.signal(name);
        assert!(gateway.wait_exit().success(), "{name}");
    }
}
