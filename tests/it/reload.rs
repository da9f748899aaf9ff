//! A saved file is taken over while serving; a bad one changes nothing.

use crate::support::{Ask, Ending, Gateway, Providers, wait_for, words_of};

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
