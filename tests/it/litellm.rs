//! LiteLLM's own files, each mechanism as its documentation says, over real sockets.

use breakwater::simulator::{Dialect, Fault, Template};
use serde_json::json;

use crate::support::{Answer, Ask, Gateway, Providers, Setup, status, status_as, wait_for};

/// The key of all these gateways.
const KEY: &str = "sk-a-key-that-is-long";

fn four() -> Providers {
    Providers::start(&[
        ("eu", Dialect::Azure),
        ("us", Dialect::Azure),
        ("open", Dialect::OpenAi),
        ("long", Dialect::OpenAi),
    ])
}

/// One group of two Azure deployments and an OpenAI model behind them, a model with a longer window, and a wildcard.
fn yaml(providers: &Providers, settings: &str) -> String {
    let url = |name| providers.url(name);
    format!(
        "\
model_list:
  - model_name: gpt-4o
    litellm_params: {{model: azure/gpt-4o, api_base: '{}', api_key: os.environ/AZURE_KEY, api_version: 2024-10-21, order: 1, weight: 3}}
    model_info: {{id: eu}}
  - model_name: gpt-4o
    litellm_params: {{model: azure/gpt-4o, api_base: '{}', api_key: os.environ/AZURE_KEY, api_version: 2024-10-21, order: 1, weight: 1}}
    model_info: {{id: us}}
  - model_name: gpt-4o
    litellm_params: {{model: openai/gpt-4o, api_base: '{}/v1', api_key: sk-o, order: 2}}
    model_info: {{id: open}}
  - model_name: long
    litellm_params: {{model: gpt-4.1, api_base: '{}/v1', api_key: sk-l}}
  - model_name: 'mine/*'
    litellm_params: {{model: 'openai/*', api_base: '{}/v1', api_key: sk-w}}
    model_info: {{id: wild}}
  - model_name: other
    litellm_params: {{model: anthropic/claude-x, api_key: os.environ/NOBODY_HAS_SET_THIS}}
general_settings: {{master_key: os.environ/MASTER_KEY}}
{settings}",
        url("eu"),
        url("us"),
        url("open"),
        url("long"),
        url("open"),
    )
}

fn start(providers: &Providers, settings: &str) -> Gateway {
    Setup::new(yaml(providers, settings)).variable("AZURE_KEY", "azure-key").variable("MASTER_KEY", KEY).start()
}

fn ask(gateway: &Gateway, model: &str) -> Answer {
    gateway.ask(&Ask::chat(model).header("authorization", &format!("Bearer {KEY}")))
}

#[test]
fn the_master_key_is_wanted_and_only_what_is_not_hidden_is_listed() {
    let providers = four();
    let settings = "router_settings: {model_group_alias: {gpt-4: gpt-4o, secret: {model: gpt-4o, hidden: true}}}";
    let gateway = start(&providers, settings);
    assert_eq!(gateway.ask(&Ask::chat("gpt-4o")).status(), 401);
    for model in ["gpt-4o", "gpt-4", "secret"] {
        assert_eq!(ask(&gateway, model).status(), 200, "{model}");
    }
    let listed = gateway.ask(&Ask::get("/v1/models").header("x-litellm-api-key", KEY)).json();
    let listed: Vec<&str> =
        listed["data"].as_array().unwrap().iter().filter_map(|model| model["id"].as_str()).collect();
    assert!(listed.contains(&"gpt-4o") && listed.contains(&"gpt-4") && listed.contains(&"long"), "{listed:?}");
    assert!(!listed.contains(&"secret") && !listed.contains(&"other") && !listed.contains(&"eu"), "{listed:?}");
    assert_eq!(ask(&gateway, "other").status(), 404, "another vendor's model is left out");
}

#[test]
fn order_comes_before_weight_and_weight_is_a_share() {
    let providers = four();
    let gateway = start(&providers, "router_settings: {routing_strategy: simple-shuffle}");
    let asked = 400;
    for _ in 0..asked {
        assert_eq!(ask(&gateway, "gpt-4o").status(), 200);
    }
    let eu = providers.calls("eu");
    assert_eq!((eu + providers.calls("us"), providers.calls("open")), (asked, 0), "the second order waits");
    // Three of four, each draw by itself: five standard deviations of that binomial.
    assert!((eu as f64 - 300.0).abs() < 5.0 * (400.0_f64 * 0.75 * 0.25).sqrt(), "{eu} of {asked}");
    providers.fault("eu", status(503));
    providers.fault("us", status(503));
    let answer = ask(&gateway, "gpt-4o");
    assert_eq!((answer.status(), answer.header("x-breakwater-backend")), (200, Some("open")), "{answer:?}");
}

#[test]
fn fallbacks_go_where_each_kind_says() {
    let providers = four();
    let settings = "\
litellm_settings:
  num_retries: 0
  context_window_fallbacks: [{gpt-4o: [long]}]
  content_policy_fallbacks: [{gpt-4o: ['mine/gpt-4o-mini']}]
  default_fallbacks: [long]";
    let gateway = start(&providers, settings);
    let all = |fault: Fault| ["eu", "us", "open"].map(|name| providers.fault(name, fault.clone()));
    all(status_as(400, Template::ContextLength));
    let answer = ask(&gateway, "gpt-4o");
    assert_eq!((answer.status(), answer.header("x-breakwater-backend")), (200, Some("long")), "{answer:?}");

    for name in ["eu", "us"] {
        providers.fault(name, status_as(400, Template::ContentFilter));
    }
    providers.heal("open");
    let answer = ask(&gateway, "gpt-4o");
    assert_eq!((answer.status(), answer.header("x-breakwater-backend")), (200, Some("wild")), "{answer:?}");
    let sent = String::from_utf8_lossy(providers.last("open").body()).into_owned();
    assert!(sent.contains("\"gpt-4o-mini\""), "the wildcard hands on what it matched: {sent}");

    all(status(500));
    let answer = ask(&gateway, "gpt-4o");
    assert_eq!((answer.status(), answer.header("x-breakwater-backend")), (200, Some("long")), "{answer:?}");
    // One attempt for each order at least: else `num_retries: 0` would switch failover off.
    assert_eq!(answer.trail().split(';').count(), 3, "{}", answer.trail());
}

#[test]
fn a_deployment_cools_down_after_its_allowed_fails() {
    let providers = four();
    let gateway = start(&providers, "router_settings: {allowed_fails: 1, cooldown_time: 3600}");
    providers.fault("eu", status(500));
    wait_for("two failures", || {
        assert_eq!(ask(&gateway, "gpt-4o").status(), 200);
        (2 <= providers.calls("eu")).then_some(())
    });
    gateway.wait_event("circuit changed");
    for _ in 0..20 {
        assert_eq!(ask(&gateway, "gpt-4o").status(), 200);
    }
    assert_eq!(providers.calls("eu"), 2, "one failure is allowed, after the second it is left alone");
    let status = gateway.operate(&Ask::get("/admin/status").header("authorization", &format!("Bearer {KEY}"))).json();
    let backends = status["backends"].as_array().unwrap();
    let eu = backends.iter().find(|backend| backend["name"] == "eu").unwrap();
    assert_eq!(eu["circuit"]["state"], json!("open"), "{eu}");
}
