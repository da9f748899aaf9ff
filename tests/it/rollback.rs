//! A configuration that does worse than the one before goes back: by itself where that is wanted, by hand always.

use serde_json::{Value, json};

use crate::support::{Ask, Gateway, Providers, status, wait_for};

/// Both routes ask `name` alone; failures come as they are.
fn only(providers: &Providers, name: &str, rollback: &str) -> String {
    let route = |route: &str| format!("  - {{model_name: {route}, models: [{{name: {name}}}]}}\n");
    format!(
        "reload: {{debounce: 50ms, rollback: {rollback}}}\nresilience: {{circuit_breaker: {{enabled: false}}}}\n{}router:\n{}{}",
        providers.models(&[]),
        route("live"),
        route("quiet")
    )
}

fn known(gateway: &Gateway, key: &str) -> Value {
    gateway.operate(&Ask::get("/admin/status")).json()["config"][key].clone()
}

/// Asks until `backend` answers or fails.
fn ask_until(gateway: &Gateway, backend: &str, code: u16) {
    wait_for("that answer", || {
        let answer = gateway.ask(&Ask::chat("live"));
        (answer.header("x-breakwater-backend") == Some(backend) && answer.status() == code).then_some(())
    });
}

#[test]
fn an_edit_that_makes_a_route_fail_is_taken_back_and_stays_back_until_the_file_changes() {
    let providers = Providers::pair();
    let good = only(&providers, "openai", "{enabled: true, watch: 60s}");
    let gateway = Gateway::start(good.clone());
    for _ in 0..20 {
        assert_eq!(gateway.ask(&Ask::chat("live")).status(), 200);
    }
    let first = known(&gateway, "hash");
    providers.fault("azure", status(500));
    let bad = only(&providers, "azure", "{enabled: true, watch: 60s}");
    gateway.save(&bad);
    gateway.wait_event("config applied");
    wait_for("the trial", || (known(&gateway, "rollback")["watching"] == json!(["live"])).then_some(()));
    let back = wait_for("the way back", || {
        gateway.ask(&Ask::chat("live"));
        gateway.events("config rolled back").pop()
    });
    assert_eq!((&back["level"], &back["trigger"]), (&json!("ERROR"), &json!("rollback")), "{back}");
    let because = back["because"].as_str().unwrap();
    assert!(because.starts_with("route live: 0 % of ") && because.ends_with("100 % before the change"), "{because}");
    ask_until(&gateway, "openai", 200);
    assert_eq!((known(&gateway, "hash"), known(&gateway, "on_disk")), (first.clone(), json!("rolled_back")));
    assert_eq!(known(&gateway, "rollback")["earlier"], json!([]));
    let scrape = gateway.wait_scrape("the count", |scrape| scrape.sum("breakwater_config_rollbacks_total", &[]) == 1.0);
    assert_eq!(scrape.sum("breakwater_config_last_reload_successful", &[]), 0.0, "the file is not in force");

    // The same bytes again are no other content.
    gateway.save(&bad);
    assert_eq!(gateway.operate(&Ask::post("/admin/reload?dry_run=true", "")).json()["result"], "applied");
    providers.rules("azure", Vec::new());
    gateway.save(&format!("# mended\n{bad}"));
    let applied = || gateway.events("config applied").len();
    wait_for("the mended file", || (1 < applied()).then_some(()));
    ask_until(&gateway, "azure", 200);
    assert_eq!(known(&gateway, "on_disk"), "in_force");
    assert_eq!(applied(), 2, "once each, and not for the same bytes");
    assert_eq!(known(&gateway, "rollback")["earlier"], json!([first]));
}

#[test]
fn an_operator_goes_back_one_step_at_a_time() {
    let providers = Providers::pair();
    let gateway = Gateway::start(only(&providers, "openai", "{enabled: false}"));
    let back = || gateway.operate(&Ask::post("/admin/config/rollback", ""));
    let answer = back();
    assert_eq!((answer.status(), answer.code().as_str()), (409, "no_earlier_configuration"), "{answer:?}");
    let hashes: Vec<Value> = ["azure", "openai"]
        .iter()
        .map(|name| {
            let before = known(&gateway, "hash");
            gateway.save(&format!("# {name}\n{}", only(&providers, name, "{enabled: false}")));
            wait_for("the reload", || (known(&gateway, "hash") != before).then_some(()));
            before
        })
        .collect();
    assert_eq!(known(&gateway, "rollback")["earlier"], json!([hashes[1], hashes[0]]));
    for (expected, backend) in [(&hashes[1], "azure"), (&hashes[0], "openai")] {
        let answer = back();
        let report = answer.json();
        assert_eq!((answer.status(), &report["to"]), (200, expected), "{answer:?}");
        assert_eq!(report["trigger"], "rollback by hand", "{report}");
        assert!(report["changes"].as_array().is_some_and(|changes| !changes.is_empty()), "{report}");
        ask_until(&gateway, backend, 200);
    }
    assert_eq!(back().status(), 409);
    let answer = gateway.operate(&Ask::post("/admin/reload", ""));
    assert_eq!((answer.status(), known(&gateway, "on_disk")), (200, json!("in_force")), "who asks gets the file");
}

#[test]
fn an_edit_that_stands_is_said_to() {
    let providers = Providers::pair();
    let gateway = Gateway::start(only(&providers, "openai", "{enabled: true, watch: 1s}"));
    gateway.ask(&Ask::chat("live"));
    gateway.save(&only(&providers, "azure", "{enabled: true, watch: 1s}"));
    ask_until(&gateway, "azure", 200);
    gateway.wait_event("config stands: no changed route has fallen");
    assert_eq!(known(&gateway, "rollback")["watching"], json!([]));
    gateway.wait_scrape("no rollback", |scrape| scrape.sum("breakwater_config_rollbacks_total", &[]) == 0.0);
}
