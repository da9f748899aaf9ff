//! What is refused or passed over before any call: local limits of backends, limits and faults of requests, client keys.

use breakwater::simulator::{Fault, HangAt};

use crate::support::{Answer, Ask, Gateway, Providers, route, wait_for};

/// A pair where `openai` has this limit.
fn limited(providers: &Providers, limit: &str) -> Gateway {
    let models = providers.models(&[("openai", limit)]);
    Gateway::start(format!("{models}router:\n{}", route("r", &["openai", "azure"], "")))
}

fn passed_over(gateway: &Gateway, reason: &str) -> f64 {
    gateway.scrape().sum("breakwater_rejections_total", &[("backend", "openai"), ("reason", reason)])
}

#[test]
fn requests_per_minute_skip_to_the_next() {
    let providers = Providers::pair();
    // Six a minute is a burst of one, and the next in ten seconds.
    let gateway = limited(&providers, "rpm: 6");
    assert_eq!(gateway.ask(&Ask::chat("r")).trail(), "openai=200");
    assert_eq!(gateway.ask(&Ask::chat("r")).trail(), "azure=200");
    assert_eq!((providers.calls("openai"), passed_over(&gateway, "local_rpm")), (1, 1.0));
    let alone = gateway.ask(&Ask::chat("openai"));
    assert_eq!((alone.status(), alone.code().as_str()), (429, "all_backends_rate_limited"), "{alone:?}");
    let wait: u64 = alone.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=10).contains(&wait) && alone.header("x-should-retry").is_none(), "{alone:?}");
    assert_eq!(providers.calls("openai"), 1);
}

#[test]
fn tokens_per_minute_skip_to_the_next() {
    let providers = Providers::pair();
    let gateway = limited(&providers, "tpm: 1000");
    let ask = Ask::chat_with("r", r#","max_tokens":900"#);
    assert_eq!(gateway.ask(&ask).trail(), "openai=200");
    assert_eq!(gateway.ask(&ask).trail(), "azure=200");
    assert_eq!(passed_over(&gateway, "local_tpm"), 1.0);
}

#[test]
fn calls_in_flight_skip_to_the_next() {
    let providers = Providers::pair();
    let gateway = limited(&providers, "max_parallel_requests: 1");
    providers.fault("openai", Fault::Hang(HangAt::AfterEvents(3)));
    let mut first = gateway.connect();
    first.send(&Ask::stream("r"));
    first.read_until("openai:0");
    providers.heal("openai");
    assert_eq!(gateway.ask(&Ask::chat("r")).trail(), "azure=200");
    assert_eq!(passed_over(&gateway, "saturated"), 1.0);
    drop(first);
    wait_for("the free place", || (gateway.ask(&Ask::chat("r")).trail() == "openai=200").then_some(()));
}

#[test]
fn too_many_requests_in_all() {
    let providers = Providers::pair();
    let gateway = Gateway::start(providers.yaml("server: {max_in_flight: 1}\n"));
    providers.fault("openai", Fault::Hang(HangAt::AfterEvents(3)));
    let mut first = gateway.connect();
    first.send(&Ask::stream("r"));
    first.read_until("openai:0");
    let refused = gateway.ask(&Ask::chat("r"));
    assert_eq!((refused.status(), refused.code().as_str()), (503, "gateway_overloaded"), "{refused:?}");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(gateway.ask(&Ask::get("/readyz")).status(), 200, "health is no request");
}

#[test]
fn bodies_have_a_limit() {
    let providers = Providers::pair();
    let gateway = Gateway::start(providers.yaml("server: {max_request_bytes: 1KiB}\n"));
    let fits = Ask::chat_with("r", &format!(r#","user":"{}""#, "x".repeat(800)));
    assert_eq!(gateway.ask(&fits).status(), 200);
    let large = Ask::chat_with("r", &format!(r#","user":"{}""#, "x".repeat(1_024)));
    let refused = gateway.ask(&large);
    assert_eq!((refused.status(), refused.code().as_str()), (413, "request_too_large"), "{refused:?}");
    assert_eq!(refused.header("connection"), Some("close"), "{refused:?}");
    assert_eq!(providers.calls("openai"), 1);
}

/// The request is refused like this, and no provider hears of it.
fn check_refused(gateway: &Gateway, ask: &Ask, status: u16, code: &str) -> Answer {
    let answer = gateway.ask(ask);
    assert_eq!((answer.status(), answer.code().as_str()), (status, code), "{ask:?}: {answer:?}");
    assert_eq!(answer.error()["type"], if status == 401 { "authentication_error" } else { "invalid_request_error" });
    assert!(answer.header("x-breakwater-request-id").is_some(), "{answer:?}");
    answer
}

#[test]
fn requests_that_make_no_sense() {
    let providers = Providers::pair();
    let gateway = Gateway::start(providers.yaml(""));
    let post = |body: &str| Ask::post("/v1/chat/completions", body);
    let table = [
        (post(r#"{"model":"nobody"}"#), 404, "model_not_found"),
        (post(r#"{"model":"R"}"#), 404, "model_not_found"),
        (post(r#"{"model":"r" "messages":[]}"#), 400, "invalid_json"),
        (post(r#"[{"model":"r"}]"#), 400, "invalid_json"),
        (post(r#"{"model":"r"}{}"#), 400, "invalid_json"),
        (post(""), 400, "invalid_json"),
        (post(r#"{"messages":[{"model":"r"}]}"#), 400, "missing_required_parameter"),
        (post(r#"{"model":7}"#), 400, "invalid_type"),
        (post(r#"{"model":""}"#), 400, "invalid_type"),
        (post(r#"{"model":"r"}"#).header("content-encoding", "gzip"), 415, "unsupported_content_encoding"),
        (Ask::post("/v1/foo", "{}"), 404, "unknown_url"),
        (Ask::post("/", "{}"), 404, "unknown_url"),
        (Ask::get("/v1/embeddings"), 405, "method_not_allowed"),
        (Ask::chat("r").by("PUT"), 405, "method_not_allowed"),
        (Ask::get("/v1/models").by("POST"), 405, "method_not_allowed"),
        (Ask::get("/v1/models/nobody"), 404, "model_not_found"),
        (Ask::get("/v1/realtime"), 404, "unsupported_endpoint"),
        (Ask::get("/v1/organization/users"), 404, "unsupported_endpoint"),
        (Ask::get("/v1/files"), 404, "unsupported_endpoint"),
    ];
    for (ask, status, code) in &table {
        check_refused(&gateway, ask, *status, code);
    }
    let at = check_refused(&gateway, &table[2].0, 400, "invalid_json");
    assert!(at.error()["message"].as_str().unwrap().contains("at byte 13"), "{at:?}");
    let allowed = |ask: &Ask| gateway.ask(ask).header("allow").unwrap_or_default().to_owned();
    assert_eq!(allowed(&Ask::get("/v1/embeddings")), "POST");
    assert_eq!(allowed(&Ask::get("/v1/models").by("POST")), "GET, HEAD");
    assert_eq!((providers.calls("openai"), providers.calls("azure")), (0, 0));
}

#[test]
fn a_clients_name_for_a_model_is_cut_and_escaped() {
    let providers = Providers::pair();
    let gateway = Gateway::start(providers.yaml(""));
    let name = format!("a\\u001b[31m{}", "x".repeat(1_000));
    let answer = check_refused(&gateway, &Ask::chat(&name), 404, "model_not_found");
    let message = answer.error()["message"].as_str().unwrap().to_owned();
    assert!(message.len() < 300 && !message.contains('\u{1b}'), "{message}");
    let line = gateway.wait_lines(1).remove(0);
    assert!(line["model"].as_str().unwrap().len() < 200 && !line.to_string().contains('\u{1b}'), "{line}");
}

#[test]
fn with_a_master_key_everything_but_health_wants_it() {
    let providers = Providers::pair();
    let gateway = Gateway::start(providers.yaml("general_settings: {master_key: sk-master}\n"));
    let missing = check_refused(&gateway, &Ask::chat("r"), 401, "missing_api_key");
    assert_eq!(missing.header("www-authenticate"), Some("Bearer"), "{missing:?}");
    for (name, value) in [
        ("authorization", "Bearer sk-wrong"),
        ("authorization", "bearer sk-master-and-more"),
        ("api-key", "sk-maste"),
        ("x-api-key", "SK-MASTER"),
    ] {
        let wrong = check_refused(&gateway, &Ask::chat("r").header(name, value), 401, "invalid_api_key");
        assert_eq!(wrong.header("www-authenticate"), Some("Bearer"), "{wrong:?}");
        assert!(!wrong.text().contains(value), "a key is never echoed");
    }
    check_refused(&gateway, &Ask::get("/v1/models"), 401, "missing_api_key");
    check_refused(&gateway, &Ask::get("/health"), 401, "missing_api_key");
    assert_eq!(providers.calls("openai"), 0);
    for (name, value) in [
        ("authorization", "Bearer sk-master"),
        ("Authorization", "bearer  sk-master"),
        ("api-key", "sk-master"),
        ("x-api-key", "sk-master"),
        ("x-litellm-api-key", "sk-master"),
    ] {
        let answer = gateway.ask(&Ask::chat("r").header(name, value));
        assert_eq!(answer.status(), 200, "{name}: {answer:?}");
        let call = providers.last("openai");
        assert_eq!(call.header("authorization"), Some("Bearer key-openai"), "the client's key stays here");
    }
    for path in ["/livez", "/readyz", "/health/liveliness", "/health/liveness", "/health/readiness", "/metrics"] {
        assert_eq!(gateway.ask(&Ask::get(path)).status(), 200, "{path}");
    }
    let failures = |reason| gateway.scrape().sum("breakwater_auth_failures_total", &[("reason", reason)]);
    assert_eq!(failures("invalid"), 4.0);
}

#[test]
fn a_key_reaches_its_routes_only() {
    let providers = Providers::pair();
    let keys = "auth: {keys: [{name: batch, key: sk-batch, routes: [\"az*\"]}]}\n";
    let gateway = Gateway::start(providers.yaml(keys));
    let ask = |route: &str| gateway.ask(&Ask::chat(route).header("authorization", "Bearer sk-batch"));
    assert_eq!(ask("azure").status(), 200);
    let refused = ask("r");
    assert_eq!((refused.status(), refused.code().as_str()), (403, "route_not_allowed"), "{refused:?}");
    let listed = gateway.ask(&Ask::get("/v1/models").header("api-key", "sk-batch"));
    assert_eq!(listed.json()["data"].as_array().unwrap().len(), 1, "{listed:?}");
    assert_eq!(providers.calls("openai"), 0);
}

#[test]
fn a_key_has_limits_of_its_own() {
    let providers = Providers::pair();
    let keys = "auth: {keys: [{name: few, key: sk-few, rpm: 2}, {name: one, key: sk-one, max_in_flight: 1}]}\n";
    let gateway = Gateway::start(providers.yaml(keys));
    let by = |key: &str| Ask::chat("r").header("authorization", &format!("Bearer {key}"));
    assert_eq!([gateway.ask(&by("sk-few")).status(), gateway.ask(&by("sk-few")).status()], [200, 200]);
    let refused = gateway.ask(&by("sk-few"));
    assert_eq!((refused.status(), refused.code().as_str()), (429, "client_rate_limit_exceeded"), "{refused:?}");
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=30).contains(&wait), "{refused:?}");
    providers.fault("openai", Fault::Hang(HangAt::BeforeHeaders));
    let mut waiting = gateway.connect();
    waiting.send(&by("sk-one"));
    wait_for("the waiting call", || (3 <= providers.calls("openai")).then_some(()));
    assert_eq!(gateway.ask(&by("sk-one")).status(), 429);
    drop(waiting);
    providers.heal("openai");
    wait_for("its place", || (gateway.ask(&by("sk-one")).status() == 200).then_some(()));
}

#[test]
fn a_client_that_asks_before_it_sends_is_answered_here() {
    let providers = Providers::pair();
    let gateway = Gateway::start(providers.yaml(""));
    let answer = gateway.ask(&Ask::chat("r").header("expect", "100-continue"));
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert_eq!(providers.last("openai").header("expect"), None);
}
