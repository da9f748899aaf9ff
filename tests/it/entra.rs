//! An application in Entra ID: its tokens are got, renewed before their end, and again where they were refused.

use breakwater::simulator::Dialect;
use serde_json::json;

use crate::support::{Ask, Gateway, Providers, Scripted, missing, wait_for, with_length};

const SECRET: &str = "the-secret~of/an+application";

fn grant(token: &str, lifetime: u64) -> Vec<u8> {
    with_length(&json!({"token_type": "Bearer", "expires_in": lifetime, "access_token": token}).to_string())
}

/// Two Azure backends of one application, and the route `r` over both.
fn start(providers: &Providers, authority: &Scripted) -> Gateway {
    let entry = |name: &str| {
        format!(
            "  - {{model_name: {name}, litellm_params: {{model: azure/gpt-4o-prod, api_version: 2024-10-21, api_base: \"{}\", \
             tenant_id: the-tenant, client_id: the-client, client_secret: \"{SECRET}\", \
             azure_authority_host: \"http://{}\"}}}}\n",
            providers.url(name),
            authority.address(),
        )
    };
    let models = format!("model_list:\n{}{}", entry("one"), entry("two"));
    let route = "router: [{model_name: r, models: [{name: one, priority: 1}, {name: two, priority: 2}]}]\n";
    Gateway::start(format!("{models}{route}"))
}

fn providers() -> Providers {
    Providers::start(&[("one", Dialect::Azure), ("two", Dialect::Azure)])
}

/// With what a provider was last called.
fn credential(providers: &Providers, name: &str) -> String {
    providers.last(name).header("authorization").unwrap_or_default().to_owned()
}

#[test]
fn one_token_serves_all_backends_of_an_application_and_is_renewed_before_its_end() {
    let (providers, authority) = (providers(), Scripted::start(vec![grant("first", 2), grant("second", 3_600)]));
    let gateway = start(&providers, &authority);
    for name in ["one", "two", "r"] {
        let answer = gateway.ask(&Ask::chat(name));
        assert_eq!(answer.status(), 200, "{answer:?}");
    }
    assert_eq!(
        (credential(&providers, "one"), credential(&providers, "two")),
        ("Bearer first".into(), "Bearer first".into())
    );
    assert!(providers.last("one").header("api-key").is_none());
    wait_for("the second token", || {
        assert_eq!(gateway.ask(&Ask::stream("r")).status(), 200, "never without one");
        (credential(&providers, "one") == "Bearer second").then_some(())
    });
    assert_eq!(authority.targets(), ["/the-tenant/oauth2/v2.0/token"; 2]);
    // A reload goes on with it.
    gateway.save(&format!("{}logging: {{level: debug}}\n", std::fs::read_to_string(gateway.path()).unwrap()));
    gateway.wait_event("config applied");
    assert_eq!(gateway.ask(&Ask::chat("r")).status(), 200);
    assert_eq!(authority.calls(), 2);
}

#[test]
fn without_a_token_another_backend_serves_until_there_is_one() {
    let (providers, authority) = (providers(), Scripted::start(vec![missing(), missing(), grant("late", 3_600)]));
    let gateway = start(&providers, &authority);
    let failed = gateway.wait_event("no token");
    assert!(!failed.to_string().contains(SECRET) && failed["tenant"] == "the-tenant", "{failed}");
    let answer = gateway.ask(&Ask::chat("r"));
    assert_eq!((answer.status(), answer.code().as_str()), (502, "upstream_authentication_error"), "{answer:?}");
    assert_eq!(providers.calls("one") + providers.calls("two"), 0, "nobody is called without a credential");
    gateway.wait_event("token renewed");
    wait_for("the block's end", || (gateway.ask(&Ask::chat("one")).status() == 200).then_some(()));
    assert_eq!(credential(&providers, "one"), "Bearer late");
}

#[test]
fn a_refused_token_is_replaced_and_its_backends_come_back() {
    let (providers, authority) = (providers(), Scripted::start(vec![grant("revoked", 3_600), grant("good", 3_600)]));
    providers.settings("one", json!({"keys": ["good"]}));
    let gateway = start(&providers, &authority);
    let answer = gateway.ask(&Ask::chat("r"));
    assert_eq!((answer.status(), answer.trail()), (200, "one=authentication_error;two=200"), "{answer:?}");
    wait_for("the first backend", || (gateway.ask(&Ask::chat("r")).trail() == "one=200").then_some(()));
    assert_eq!((credential(&providers, "one"), authority.calls()), ("Bearer good".into(), 2));
}
