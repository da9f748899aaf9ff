//! Nothing that is secret or private leaves by a side door: keys, prompts, headers and queries stand in no log, metric, error
//! or header that is sent back.

use std::process::Command;

use breakwater::simulator::Template;

use crate::support::{Ask, Gateway, Providers, Setup, route, status, status_as};

/// Part of every value that must not be seen again.
const CANARY: &str = "canary";

fn gateway(providers: &Providers) -> Gateway {
    let models = providers
        .models(&[("openai", "extra_headers: {x-team: canary-header-of-ours}, extra_query: {tenant: canary-query}")])
        .replace("key-openai", "\"${OPENAI_KEY}\"")
        .replace("key-azure", "canary-literal-azure");
    let listed = "fallback_on_error_types: [rate_limit_error, service_unavailable_error]";
    let yaml = format!(
        "{models}router:\n{}general_settings: {{master_key: canary-master}}\nlogging: {{level: trace}}\n",
        route("r", &["openai", "azure"], listed)
    );
    Setup::new(yaml).variable("OPENAI_KEY", "canary-environment-openai").start()
}

/// A request full of things that are nobody's business; the model it names is no secret.
fn private(path: &str, model: &str, more: &str) -> Ask {
    let body = format!(
        r#"{{"model":"{model}","messages":[{{"role":"user","content":"canary-prompt"}}],"user":"canary-user"{more}}}"#
    );
    Ask::post(path, body)
        .header("authorization", "Bearer canary-master")
        .header("cookie", "session=canary-cookie")
        .header("x-private", "canary-private")
        .header("user-agent", "canary-agent")
}

#[test]
fn no_secret_is_seen_again() {
    let providers = Providers::pair();
    let gateway = gateway(&providers);
    let chat = "/v1/chat/completions?api-key=canary-query-of-client";
    let mut answers = Vec::new();
    let mut ask = |ask: Ask| answers.push(gateway.ask(&ask));
    ask(private(chat, "r", ""));
    ask(private(chat, "r", r#","stream":true"#));
    let call = providers.last("openai");
    assert_eq!(call.header("authorization"), Some("Bearer canary-environment-openai"));
    assert_eq!(call.header("x-team"), Some("canary-header-of-ours"));
    assert_eq!(call.target, "/v1/chat/completions?tenant=canary-query");

    let quoting = |code: u16| {
        let body =
            r#"{"error":{"message":"wrong key canary-environment-openai","type":null,"param":null,"code":null}}"#;
        status_as(code, Template::Raw(body.to_owned()))
    };
    for code in [401, 403, 404] {
        providers.fault("openai", quoting(code));
        ask(private(chat, "r", ""));
        ask(private(chat, "r", r#","stream":true"#));
    }
    providers.fault("openai", status(503));
    providers.fault("azure", breakwater::simulator::Fault::Refuse);
    ask(private(chat, "r", ""));
    ask(private(chat, "nobody", ""));
    ask(private("/v1/foo?secret=canary-query-of-client", "r", ""));
    ask(private(chat, "r", r#","broken": canary-broken"#));
    ask(private(chat, "r", "").header("content-encoding", "br"));
    ask(Ask::chat("r").header("authorization", "Bearer canary-wrong"));
    ask(Ask::chat("r").header("x-api-key", "canary-wrong"));
    ask(Ask::get("/health").header("authorization", "Bearer canary-master"));
    ask(Ask::get("/v1/models").header("authorization", "Bearer canary-master"));
    ask(Ask::get("/metrics"));
    let served: Vec<u16> = answers.iter().map(|answer| answer.status()).collect();
    assert!(served.contains(&200) && served.contains(&401) && served.contains(&502), "{served:?}");
    for answer in &answers {
        assert!(!format!("{}{}", answer.head, answer.text()).contains(CANARY), "{answer:?}");
    }
    // The scrape and the health check write no line.
    gateway.wait_lines(answers.len() - 2);
    for line in gateway.stdout().iter().chain(&gateway.stderr()) {
        assert!(!line.contains(CANARY), "{line}");
    }
}

#[test]
fn a_configuration_that_is_refused_shows_no_secret() {
    let yaml = "model_list:\n  - model_name: a\n    litellm_params: {model: gpt-4o, api_key: canary-literal, api_base: \
                \"htp://canary-user:canary-password@host\", wieght: 1, extra_headers: {x-a: canary-header}}\n\
                general_settings: {master_key: canary-master, mastre_key: canary-master}\nrouter: canary-router-is-no-list\n";
    let yaml = yaml.replace("canary-router-is-no-list", "none");
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("secrets.yaml");
    std::fs::write(&file, yaml).unwrap();
    for format in ["human", "short", "json", "github"] {
        let checked = Command::new(env!("CARGO_BIN_EXE_breakwater"))
            .args(["check", "--format", format, "--config"])
            .arg(&file)
            .env_clear()
            .output()
            .unwrap();
        let said = String::from_utf8([checked.stdout, checked.stderr].concat()).unwrap();
        assert_eq!(checked.status.code(), Some(1), "{said}");
        assert!(said.contains("BW"), "{said}");
        assert!(!said.contains(CANARY), "{format}: {said}");
    }
}
