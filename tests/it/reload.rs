//! A saved file is taken over while serving; a bad one changes nothing.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::support::{Ask, Ending, Gateway, Providers, status, wait_for, words_of};

/// Reloads while others ask.
const RELOADS: usize = 6;

/// Who asks meanwhile.
const CLIENTS: usize = 3;

/// One route over both providers, the named one first.
fn first(providers: &Providers, name: &str) -> String {
    let second = if name == "openai" { "azure" } else { "openai" };
    let models = format!("[{{name: {name}, priority: 1}}, {{name: {second}, priority: 2}}]");
    let reload = "reload: {debounce: 50ms}\n";
    format!("{reload}{}router:\n  - {{model_name: live, models: {models}}}\n", providers.models(&[]))
}

#[test]
fn an_edited_priority_holds_from_the_next_request_and_running_streams_go_on() {
    let providers = Providers::pair();
    let gateway = Gateway::start(first(&providers, "openai"));
    providers.fault("openai", breakwater::simulator::Fault::TokensPerSecond(20.0));
    let mut stream = gateway.connect();
    stream.send(&Ask::chat_with("live", r#","stream":true,"max_tokens":30"#));
    stream.read_until("openai:0");
    gateway.save(&first(&providers, "azure"));
    gateway.wait_event("config applied");
    wait_for("the new order", || {
        let answer = gateway.ask(&Ask::chat("live"));
        (answer.header("x-breakwater-backend") == Some("azure")).then_some(())
    });
    let answer = stream.finish();
    assert_eq!((answer.words(), answer.ending), (words_of("openai", 30), Some(Ending::Whole)), "{answer:?}");
    gateway.wait_scrape("the reload", |scrape| {
        scrape.sum("breakwater_config_reloads_total", &[("result", "applied")]) == 1.0
    });
}

#[test]
fn a_broken_file_is_told_and_the_running_configuration_stays() {
    let providers = Providers::pair();
    let gateway = Gateway::start(first(&providers, "openai"));
    gateway.save(&first(&providers, "openai").replace("priority: 2", "priority: two"));
    gateway.wait_event("config rejected");
    assert_eq!(gateway.ask(&Ask::chat("live")).status(), 200);
    gateway.wait_scrape("the refusal", |scrape| scrape.sum("breakwater_config_last_reload_successful", &[]) == 0.0);
    gateway.save(&first(&providers, "azure"));
    gateway.wait_event("config applied");
    gateway.wait_scrape("the mend", |scrape| scrape.sum("breakwater_config_last_reload_successful", &[]) == 1.0);
}

/// Promise 14 of spec/resilience.md: no reload loses a request or an open circuit.
#[test]
fn reloads_under_load_lose_no_request_and_no_circuit() {
    let providers = Providers::pair();
    let edited = |attempts: usize| {
        let resilience = "circuit_breaker: {wait_duration_in_open_state: 300s}";
        let attempts = format!("attempts: {{max_attempts: {}}}", 2 + attempts % 2);
        format!("{}resilience: {{{resilience}, {attempts}}}\n", first(&providers, "openai"))
    };
    let gateway = Gateway::start(edited(0));
    providers.fault("openai", status(503));
    let mut client = gateway.connect();
    wait_for("the open circuit", || {
        (client.ask(&Ask::chat("live")).header("x-breakwater-attempts") == Some("azure=200")).then_some(())
    });
    // It would answer again, but nobody is to find out.
    providers.heal("openai");
    let before = providers.calls("openai");
    let (is_over, asked) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut client = gateway.connect();
                while !is_over.load(Ordering::Acquire) {
                    let answer = client.ask(&Ask::chat("live"));
                    assert_eq!(
                        (answer.status(), answer.header("x-breakwater-backend")),
                        (200, Some("azure")),
                        "{answer:?}"
                    );
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for reload in 1..=RELOADS {
            let seen = asked.load(Ordering::Relaxed);
            gateway.save(&edited(reload));
            wait_for("the reload", || (reload <= gateway.events("config applied").len()).then_some(()));
            wait_for("requests after it", || (seen < asked.load(Ordering::Relaxed)).then_some(()));
        }
        is_over.store(true, Ordering::Release);
    });
    assert_eq!(providers.calls("openai"), before, "the circuit stayed open");
    let scrape = gateway.scrape();
    assert_eq!(scrape.sum("breakwater_circuit_state", &[("backend", "openai")]), 2.0);
    assert_eq!(scrape.sum("breakwater_circuit_transitions_total", &[("backend", "openai")]), 1.0);
}
