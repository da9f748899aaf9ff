//! What backends have in common, over real sockets: a key, a quota, a host; and what a route does when all are gone.

use std::time::Duration;

use breakwater::simulator::{Dialect, Fault, Rule};
use serde_json::{Value, json};

use crate::support::{Ask, Gateway, Providers, rate_limited, route, status, wait_for};

/// Two deployments at one provider with one key, and another provider.
fn deployments(providers: &Providers, more: &str) -> String {
    let (one, two) = (providers.url("one"), providers.url("two"));
    let entry = |name: &str, url: &str, model: &str| {
        format!("  - {{model_name: {name}, litellm_params: {{model: {model}, api_key: k, api_base: '{url}/v1'}}}}\n")
    };
    let models =
        [entry("large", &one, "gpt-4o"), entry("small", &one, "gpt-4o-mini"), entry("other", &two, "gpt-4o")].concat();
    format!("model_list:\n{models}router:\n{}{more}", route("r", &["large", "small", "other"], ""))
}

fn two() -> Providers {
    Providers::start(&[("one", Dialect::OpenAi), ("two", Dialect::OpenAi)])
}

/// Asks, without an error for the client, until a host's circuit has come to this.
fn ask_until_endpoint(gateway: &Gateway, to: &str) -> Value {
    let mut client = gateway.connect();
    wait_for("the edge", || {
        assert_eq!(client.ask(&Ask::chat("r")).status(), 200);
        gateway.events("endpoint changed").into_iter().find(|event| event["to"] == to)
    })
}

#[test]
fn a_refused_key_is_not_tried_again_with_another_model() {
    let providers = two();
    let gateway = Gateway::start(deployments(&providers, ""));
    providers.fault("one", status(401));
    // The first request tries both; from then on the key is known to be refused.
    assert_eq!(gateway.ask(&Ask::chat("large")).status(), 502);
    let event = gateway.wait_event("backend blocked");
    assert_eq!((&event["block"], &event["scope"]), (&json!("auth_blocked"), &json!("credential")), "{event}");
    let calls = providers.calls("one");
    assert_eq!(gateway.ask(&Ask::chat("r")).trail(), "other=200");
    assert_eq!(providers.calls("one"), calls);
    let scrape = gateway.scrape();
    for backend in ["large", "small"] {
        let until = scrape.sum(
            "breakwater_backend_blocked_until_timestamp_seconds",
            &[("backend", backend), ("block", "auth_blocked")],
        );
        assert!(0.0 < until, "{backend}");
    }
    assert_eq!(scrape.sum("breakwater_blocks_total", &[("block", "auth_blocked")]), 1.0, "one episode");
}

#[test]
fn a_rate_limit_of_one_model_leaves_the_other_alone() {
    let providers = two();
    let gateway = Gateway::start(deployments(&providers, ""));
    providers.rules("one", vec![Rule::from(rate_limited(Duration::from_secs(60))).times(1)]);
    assert_eq!(gateway.ask(&Ask::chat("r")).trail(), "large=rate_limit_error;small=200");
    gateway.wait_event("backend blocked");
    assert_eq!(gateway.ask(&Ask::chat("r")).trail(), "small=200");
    let status = gateway.operate(&Ask::get("/admin/status")).json();
    let large = &status["backends"][0];
    assert_eq!((&large["name"], &large["blocks"][0]["scope"]), (&json!("large"), &json!("quota")), "{status}");
}

#[test]
fn a_dead_host_is_left_for_all_its_deployments_and_found_again() {
    let providers = two();
    let more = "resilience: {circuit_breaker: {wait_duration_in_open_state: 1s, jitter: 0, slow_start: off}}\n";
    let gateway = Gateway::start(deployments(&providers, more));
    providers.fault("one", Fault::Refuse);
    let event = ask_until_endpoint(&gateway, "open");
    assert_eq!(event["reason"], "run", "{event}");
    assert_eq!(gateway.ask(&Ask::chat("r")).trail(), "other=200");
    let status = gateway.operate(&Ask::get("/admin/status")).json();
    assert_eq!(status["backends"][0]["endpoint"]["state"], "open", "{status}");
    assert_eq!(gateway.scrape().sum("breakwater_endpoint_circuit_transitions_total", &[("to", "open")]), 1.0);
    providers.heal("one");
    let back = ask_until_endpoint(&gateway, "closed");
    assert_eq!(back["reason"], "probes_succeeded", "{back}");
}

#[test]
fn a_quota_that_is_spent_is_left_before_the_provider_refuses() {
    let providers = two();
    let gateway = Gateway::start(deployments(&providers, ""));
    // Its head says that two more requests are left.
    providers.settings("one", json!({"rpm": 3}));
    let trails: Vec<String> = (0..4).map(|_| gateway.ask(&Ask::chat("r")).trail().to_owned()).collect();
    assert_eq!(trails, ["large=200", "large=200", "large=200", "small=200"]);
    let passed = [("backend", "large"), ("reason", "learned_quota")];
    assert_eq!(gateway.scrape().sum("breakwater_rejections_total", &passed), 1.0);
    let status = gateway.operate(&Ask::get("/admin/status")).json();
    let quota = &status["backends"][0]["provider_quota"]["requests"];
    assert_eq!((&quota["limit"], &quota["remaining"]), (&json!(3), &json!(0)), "{status}");
}

#[test]
fn where_all_circuits_are_open_the_least_bad_is_asked_before_its_time() {
    let providers = Providers::start(&[("one", Dialect::OpenAi)]);
    let more = "resilience: {circuit_breaker: {minimum_calls: 2, wait_duration_in_open_state: 60s}, on_exhausted: [least_bad, reject]}\n";
    let gateway = Gateway::start(providers.yaml(more));
    providers.fault("one", status(500));
    for _ in 0..2 {
        assert_eq!(gateway.ask(&Ask::chat("r")).status(), 500);
    }
    gateway.wait_event_where("circuit changed", |event| event["to"] == "open");
    let before = providers.calls("one");
    assert_eq!(gateway.ask(&Ask::chat("r")).status(), 500, "asked, and as bad as before");
    assert_eq!(providers.calls("one"), before + 1);
    gateway.wait_event_where("circuit changed", |event| event["reason"] == "probe_failed");
    providers.heal("one");
    assert_eq!(gateway.ask(&Ask::chat("r")).trail(), "one=200");
}
