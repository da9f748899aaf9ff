//! Active checks over real sockets: who fails them is passed over, who passes them comes back, and nobody is asked in vain.

use std::time::Duration;

use breakwater::clock;
use breakwater::simulator::{Dialect, Fault, HangAt, Match, Recorded, Rule, Template};
use serde_json::{Value, json};

use crate::support::{Ask, Gateway, Providers, rate_limited, route, status, status_as, wait_for};

/// Checks so often that a story is told in no time.
const OFTEN: &str = "interval: 20ms, timeout: 10s";

/// Turns of another backend's checker that show that one has had the time for some of its own.
const TURNS: u64 = 10;

fn checks(kind: &str, more: &str) -> String {
    format!("resilience: {{health_check: {{type: {kind}, {OFTEN}}}{more}}}\n")
}

/// This fault, for the list of models alone.
fn on_models(fault: Fault) -> Vec<Rule> {
    let matches = Match { path: Some("/models".to_owned()), ..Match::default() };
    vec![Rule::from(fault).matching(matches)]
}

fn wait_health(gateway: &Gateway, backend: &str, healthy: bool) -> Value {
    let fits = |event: &Value| event["backend"] == backend && event["healthy"] == healthy;
    gateway.wait_event_where("backend health changed", fits)
}

/// Waits until it has been asked so many times more.
fn wait_calls(providers: &Providers, name: &str, more: u64) {
    let wanted = providers.counts(name).requests + more;
    wait_for("further checks", || (wanted <= providers.counts(name).requests).then_some(()));
}

/// What the status document says of a backend.
fn shown(gateway: &Gateway, backend: &str) -> Value {
    let document = gateway.operate(&Ask::get("/admin/status")).json();
    let backends = document["backends"].as_array().expect("a list");
    backends.iter().find(|shown| shown["name"] == backend).expect("a backend of that name").clone()
}

#[test]
fn who_fails_its_checks_is_passed_over_until_it_is_well() {
    let providers = Providers::pair();
    // Chats would succeed all the time: only the checks can be the reason.
    providers.rules("openai", on_models(status(503)));
    let gateway = Gateway::start(providers.yaml(&checks("models", "")));
    let event = wait_health(&gateway, "openai", false);
    assert_eq!((&event["level"], &event["failures"], &event["check"]), (&"WARN".into(), &3.into(), &"models".into()));
    assert_eq!(event["detail"], "service_unavailable_error", "{event}");
    assert_eq!(gateway.ask(&Ask::chat("r")).trail(), "azure=200");
    let scrape = gateway.scrape();
    let of = |name: &str, more: &[(&str, &str)]| scrape.sum(name, &[&[("backend", "openai")], more].concat());
    assert_eq!((of("breakwater_backend_healthy", &[]), of("breakwater_backend_selectable", &[])), (0.0, 1.0));
    assert_eq!(of("breakwater_rejections_total", &[("reason", "unhealthy")]), 1.0);
    assert!(3.0 <= of("breakwater_health_checks_total", &[("result", "failure")]));
    assert_eq!(of("breakwater_circuit_transitions_total", &[]), 0.0);
    assert_eq!(scrape.sum("breakwater_backend_healthy", &[("backend", "azure")]), 1.0);
    let health = shown(&gateway, "openai")["health"].clone();
    assert_eq!((&health["check"], &health["healthy"]), (&"models".into(), &false.into()), "{health}");
    assert!(3 <= health["failures"].as_u64().unwrap() && health["last_at"].is_string(), "{health}");

    providers.heal("openai");
    let event = wait_health(&gateway, "openai", true);
    assert_eq!((&event["level"], &event["failures"]), (&"INFO".into(), &0.into()), "{event}");
    assert_eq!(gateway.ask(&Ask::chat("r")).trail(), "openai=200");
    assert_eq!(gateway.events("backend health changed").len(), 2, "one event per edge");
    let sent = &providers.requests("openai")[0];
    assert_eq!((sent.method.as_str(), sent.target.as_str()), ("GET", "/v1/models"));
    assert!(sent.headers.iter().any(|(_, value)| value == "Bearer key-openai"), "its own credential");
}

#[test]
fn where_nobody_is_well_the_gate_is_ignored_and_traffic_says_more() {
    let providers = Providers::start(&[("openai", Dialect::OpenAi)]);
    providers.rules("openai", on_models(status(503)));
    let gateway = Gateway::start(providers.yaml(&checks("models", "")));
    wait_health(&gateway, "openai", false);
    assert_eq!(gateway.ask(&Ask::chat("r")).trail(), "openai=200");
    // The list of models is still out of order, but the backend serves.
    let mut client = gateway.connect();
    wait_for("its recovery", || {
        assert_eq!(client.ask(&Ask::chat("r")).status(), 200);
        let is_well = |event: &Value| event["healthy"] == true && event["detail"] == "traffic";
        gateway.events("backend health changed").into_iter().find(is_well)
    });
}

#[test]
fn who_serves_is_not_checked() {
    let providers = Providers::pair();
    let more = "resilience: {health_check: {type: models, interval: 2s}}\n";
    let gateway = Gateway::start(providers.yaml(more));
    let mut client = gateway.connect();
    wait_for("two checks of the idle one", || {
        assert_eq!(client.ask(&Ask::chat("r")).trail(), "openai=200");
        (2 <= providers.counts("azure").requests).then_some(())
    });
    let checked = providers.requests("openai").into_iter().filter(|request| request.method == "GET").count();
    assert_eq!(checked, 0);
}

#[test]
fn a_completion_costs_one_token_and_closes_a_circuit_when_its_time_is_over() {
    let providers = Providers::pair();
    let breaker = ", circuit_breaker: {wait_duration_in_open_state: 1s, jitter: 0, slow_start: off}";
    let more = checks("completion", breaker).replace("timeout: 10s", "timeout: 10s, unhealthy_threshold: 1000000");
    providers.fault("openai", status(503));
    let gateway = Gateway::start(providers.yaml(&more));
    // However many checks fail, the breaker has not heard of them.
    wait_calls(&providers, "openai", 3 * TURNS);
    assert_eq!(gateway.scrape().sum("breakwater_circuit_transitions_total", &[]), 0.0);
    let before = clock::now();
    let mut client = gateway.connect();
    for _ in 0..5 {
        assert_eq!(client.ask(&Ask::chat("r")).trail(), "openai=service_unavailable_error;azure=200");
    }
    gateway.wait_event_where("circuit changed", |event| event["to"] == "open");
    providers.heal("openai");
    let traffic = client.ask(&Ask::chat("r"));
    assert_eq!(traffic.trail(), "azure=200");
    // Nobody asks any more: the checks are the probes.
    let closed = gateway.wait_event_where("circuit changed", |event| event["to"] == "closed");
    assert_eq!(closed["reason"], "probes_succeeded", "{closed}");
    assert!(Duration::from_secs(1) <= clock::now().since(before), "it closed too early");
    assert_eq!(client.ask(&Ask::chat("r")).trail(), "openai=200");
    gateway.wait_scrape("three probes", |scrape| {
        let probes = scrape.sum("breakwater_circuit_probes_total", &[("backend", "openai"), ("result", "success")]);
        (probes, scrape.sum("breakwater_circuit_state", &[])) == (3.0, 0.0)
    });
    let is_check = |request: &Recorded| request.header("x-client-request-id") == Some("breakwater-health-check");
    let sent = providers.requests("openai");
    let bodies = sent.iter().filter(|request| is_check(request)).map(Recorded::body);
    let bodies: Vec<Value> = bodies.map(|body| serde_json::from_slice(body).unwrap()).collect();
    assert!(!bodies.is_empty());
    assert!(bodies.iter().all(|body| body["max_tokens"] == 1 && body["stream"].is_null()), "{bodies:?}");
}

#[test]
fn a_refused_key_blocks_and_is_seen_to_work_again() {
    let providers = Providers::pair();
    providers.settings("openai", json!({"keys": ["another"]}));
    let gateway = Gateway::start(providers.yaml(&checks("models", "")));
    gateway.wait_event_where("backend blocked", |event| event["block"] == "auth_blocked");
    assert_eq!(gateway.ask(&Ask::chat("r")).trail(), "azure=200");
    wait_calls(&providers, "openai", TURNS);
    assert_eq!(gateway.events("backend health changed"), Vec::<Value>::new(), "refused is not sick");
    providers.settings("openai", json!({"keys": null}));
    // Of itself the block would last a minute.
    let event = gateway.wait_event("backend unblocked");
    assert_eq!((&event["backend"], &event["block"]), (&"openai".into(), &"auth_blocked".into()));
    assert_eq!(gateway.ask(&Ask::chat("r")).trail(), "openai=200");
}

#[test]
fn too_many_requests_is_a_wait_and_no_failure() {
    let providers = Providers::pair();
    providers.rules("openai", on_models(rate_limited(Duration::from_secs(60))));
    let gateway = Gateway::start(providers.yaml(&checks("models", "")));
    let event = gateway.wait_event_where("backend blocked", |event| event["block"] == "rate_limited");
    assert_eq!(event["source"], "provider", "{event}");
    // A list that can be read again is no leave to ask before the time is over.
    providers.heal("openai");
    wait_calls(&providers, "openai", TURNS);
    assert_eq!(gateway.ask(&Ask::chat("r")).trail(), "azure=200");
    assert_eq!(gateway.events("backend unblocked").len() + gateway.events("backend health changed").len(), 0);
    assert_eq!(gateway.scrape().sum("breakwater_health_checks_total", &[("result", "failure")]), 0.0);
}

#[test]
fn a_server_without_a_list_is_left_alone_and_a_missing_model_is_seen_in_it() {
    let providers = Providers::pair();
    providers.rules("openai", on_models(status_as(404, Template::Empty)));
    let gateway = Gateway::start(providers.yaml(&checks("models", "")));
    wait_calls(&providers, "openai", TURNS);
    assert_eq!(gateway.ask(&Ask::chat("r")).trail(), "openai=200");
    assert_eq!(gateway.events("backend health changed").len() + gateway.events("backend blocked").len(), 0);

    let missing = r#"{"error":{"message":"no","type":"invalid_request_error","param":null,"code":"model_not_found"}}"#;
    providers.fault("openai", status_as(404, Template::Raw(missing.to_owned())));
    gateway.wait_event_where("backend blocked", |event| event["block"] == "not_found");
    // A list that does not name it.
    providers.settings("openai", json!({"models": ["another"]}));
    providers.heal("openai");
    wait_calls(&providers, "openai", TURNS);
    assert_eq!(gateway.ask(&Ask::chat("r")).trail(), "azure=200");
    providers.settings("openai", json!({"models": null}));
    gateway.wait_event_where("backend unblocked", |event| event["block"] == "not_found");
    assert_eq!(gateway.ask(&Ask::chat("r")).trail(), "openai=200");
}

#[test]
fn a_connection_is_enough_for_connect() {
    let providers = Providers::pair();
    let gateway = Gateway::start(providers.yaml(&checks("connect", "")));
    wait_for("connections", || (3 <= providers.counts("openai").connections).then_some(()));
    providers.fault("openai", Fault::Refuse);
    let event = wait_health(&gateway, "openai", false);
    assert_eq!((&event["detail"], &event["check"]), (&"connect".into(), &"connect".into()), "{event}");
    assert_eq!(gateway.ask(&Ask::chat("r")).trail(), "azure=200");
    providers.heal("openai");
    wait_health(&gateway, "openai", true);
    assert_eq!(providers.counts("openai").requests, 0, "nothing was asked");
    assert_eq!(gateway.ask(&Ask::chat("r")).trail(), "openai=200");
}

/// One route over both; the first is checked so, the second often.
fn with_first(providers: &Providers, check: &str, more: &str) -> String {
    let yaml = providers.models(&[]);
    let (first, rest) = yaml.split_once("  - model_name: azure").unwrap();
    let own = format!("    resilience: {{health_check: {{{check}}}}}\n");
    let router = route("r", &["openai", "azure"], "");
    let all = checks("models", more);
    format!("reload: {{debounce: 20ms}}\n{first}{own}  - model_name: azure{rest}router:\n{router}{all}")
}

#[test]
fn off_is_off() {
    let providers = Providers::pair();
    let gateway = Gateway::start(with_first(&providers, "type: off", ""));
    wait_calls(&providers, "azure", TURNS);
    assert_eq!(providers.counts("openai").connections, 0);
    assert_eq!(gateway.scrape().sum("breakwater_health_checks_total", &[("backend", "openai")]), 0.0);
    let health = shown(&gateway, "openai")["health"].clone();
    assert_eq!(health, json!({"check": "off", "healthy": true, "last_at": null, "failures": 0}));
}

#[test]
fn one_check_at_a_time_and_one_checker_through_every_reload() {
    let providers = Providers::pair();
    providers.rules("openai", on_models(Fault::Hang(HangAt::BeforeHeaders)));
    let asked = |wanted: u64, left: u64, what: &str| {
        wait_for(what, || (wanted <= providers.counts("openai").requests).then_some(()));
        providers.wait_ended("openai", left);
        // Time enough for any second one to show.
        wait_calls(&providers, "azure", TURNS);
        let counts = providers.counts("openai");
        assert_eq!((counts.requests, counts.client_closed), (wanted, left), "{what}");
    };
    let applied = |gateway: &Gateway, count: usize| {
        wait_for("the reload", || (count <= gateway.events("config applied").len()).then_some(()));
    };
    let gateway = Gateway::start(with_first(&providers, "interval: 20ms, timeout: 60s", ""));
    asked(1, 0, "the next waits for the first");
    gateway.save(&with_first(&providers, "interval: 30ms, timeout: 60s", ""));
    applied(&gateway, 1);
    asked(2, 1, "one in place of the other");
    gateway.save(&with_first(&providers, "interval: 30ms, timeout: 60s", ", attempts: {max_attempts: 2}"));
    applied(&gateway, 2);
    asked(2, 1, "what is not about checks leaves the checker alone");
    gateway.save(&with_first(&providers, "type: off", ""));
    applied(&gateway, 3);
    asked(2, 2, "gone with its setting");
}

#[test]
fn a_checker_goes_with_its_backend() {
    let providers = Providers::pair();
    providers.rules("openai", on_models(Fault::Hang(HangAt::BeforeHeaders)));
    let gateway = Gateway::start(with_first(&providers, "interval: 20ms, timeout: 60s", ""));
    wait_calls(&providers, "openai", 1);
    let yaml = with_first(&providers, "interval: 20ms, timeout: 60s", "");
    let (before, rest) = yaml.split_once("  - model_name: openai").unwrap();
    let (_, rest) = rest.split_once("  - model_name: azure").unwrap();
    let without = format!("{before}  - model_name: azure{rest}").replace("{name: openai, priority: 1}, ", "");
    gateway.save(&without);
    gateway.wait_event("config applied");
    providers.wait_ended("openai", 1);
    wait_calls(&providers, "azure", TURNS);
    assert_eq!(providers.counts("openai").requests, 1);
}
