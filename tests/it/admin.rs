//! The operators' listener over real sockets: what it does holds for the next request of every worker, and what it says is
//! what a request then meets.

use std::net::TcpListener;
use std::time::Duration;

use breakwater::simulator::{Fault, HangAt};
use serde_json::{Value, json};

use crate::support::{
    Answer, Ask, Client, Ending, Gateway, Providers, Setup, rate_limited, status, wait_for, words_of,
};

/// The breaker's default number of failures in a row.
const FAILURES: usize = 5;

/// Enough connections for each of four workers to have some.
const CONNECTIONS: usize = 32;

/// No circuit comes back by itself within a story, and none ramps up.
const PATIENT: &str = "resilience: {circuit_breaker: {wait_duration_in_open_state: 300s, slow_start: off}}\n";

/// The shortest open time there is, and no ramp afterwards.
const BRISK: &str = "resilience: {circuit_breaker: {wait_duration_in_open_state: 1s, jitter: 0, slow_start: off}}\n";

/// What an operator does to a backend's circuit.
fn circuit(gateway: &Gateway, backend: &str, body: Value) -> Value {
    let answer = gateway.operate(&Ask::post(&format!("/admin/backends/{backend}/circuit"), body.to_string()));
    assert_eq!(answer.status(), 200, "{answer:?}");
    answer.json()
}

fn act(gateway: &Gateway, backend: &str, action: &str) -> Value {
    circuit(gateway, backend, json!({"action": action}))
}

fn post(gateway: &Gateway, path: &str) -> Answer {
    gateway.operate(&Ask::post(path, ""))
}

fn document(gateway: &Gateway) -> Value {
    let answer = gateway.operate(&Ask::get("/admin/status"));
    assert_eq!(answer.status(), 200, "{answer:?}");
    answer.json()
}

/// The entry of that name in a list of the status document.
fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    let entries = list.as_array().expect("a list");
    entries.iter().find(|entry| entry["name"] == name).unwrap_or_else(|| panic!("{name}: {list}"))
}

/// The trails of a request on each of many connections.
fn trails(gateway: &Gateway) -> Vec<String> {
    let mut clients: Vec<Client> = (0..CONNECTIONS).map(|_| gateway.connect()).collect();
    clients.iter_mut().map(|client| client.ask(&Ask::chat("r")).trail().to_owned()).collect()
}

fn assert_all(gateway: &Gateway, trail: &str) {
    let trails = trails(gateway);
    assert!(trails.iter().all(|seen| seen == trail), "{trail}: {trails:?}");
}

/// Fails until the first backend's circuit is open.
fn open(gateway: &Gateway) {
    let mut client = gateway.connect();
    for _ in 0..FAILURES {
        assert_eq!(client.ask(&Ask::chat("r")).status(), 200);
    }
    gateway.wait_event_where("circuit changed", |event| event["to"] == "open" && event["reason"] != "override");
}

#[test]
fn a_hand_on_a_circuit_is_felt_by_the_next_request_of_every_worker() {
    let providers = Providers::pair();
    let gateway = Setup::new(providers.yaml(PATIENT)).workers(4).start();
    assert_all(&gateway, "openai=200");
    let before = providers.calls("openai");
    let shown = act(&gateway, "openai", "force_open");
    assert_eq!((&shown["circuit"]["state"], &shown["circuit"]["override"]), (&json!("open"), &json!("force_open")));
    assert_all(&gateway, "azure=200");
    assert_eq!(providers.calls("openai"), before, "nobody called it");
    let event = gateway.wait_event("operator command");
    assert_eq!((&event["backend"], &event["action"]), (&json!("openai"), &json!("force_open")), "{event}");
    assert!(event["peer"].as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:")), "{event}");

    act(&gateway, "azure", "force_open");
    let answer = gateway.ask(&Ask::chat("r"));
    assert_eq!((answer.status(), answer.code().as_str()), (503, "no_backend_available"), "{answer:?}");
    assert_eq!(answer.header("retry-after"), None, "nobody knows when an operator lets go");

    let shown = act(&gateway, "openai", "auto");
    assert_eq!((&shown["circuit"]["state"], &shown["circuit"]["override"]), (&json!("closed"), &Value::Null));
    assert_all(&gateway, "openai=200");
}

#[test]
fn a_circuit_opened_for_a_time_comes_back_by_itself() {
    let providers = Providers::pair();
    let gateway = Gateway::start(providers.yaml(PATIENT));
    let shown = circuit(&gateway, "openai", json!({"action": "force_open", "ttl": "1s"}));
    assert_eq!(shown["circuit"]["override"], "force_open", "{shown}");
    assert_all(&gateway, "azure=200");
    wait_for("its way back", || {
        let answer = gateway.ask(&Ask::chat("r"));
        (answer.header("x-breakwater-backend") == Some("openai")).then_some(())
    });
}

#[test]
fn a_circuit_held_closed_lets_everything_through_and_never_opens() {
    for action in ["force_closed", "disabled"] {
        let providers = Providers::pair();
        let gateway = Gateway::start(providers.yaml(PATIENT));
        providers.fault("openai", status(503));
        open(&gateway);
        assert_all(&gateway, "azure=200");
        assert_eq!(act(&gateway, "openai", action)["circuit"]["state"], "closed");
        assert_all(&gateway, "openai=service_unavailable_error;azure=200");
        let opened = gateway.events("circuit changed").iter().filter(|event| event["to"] == "open").count();
        assert_eq!(opened, 1, "{action}");
    }
}

#[test]
fn a_reset_closes_a_circuit_and_lifts_blocks_if_asked() {
    let providers = Providers::pair();
    let gateway = Gateway::start(providers.yaml(PATIENT));
    providers.fault("openai", status(503));
    open(&gateway);
    providers.heal("openai");
    assert_all(&gateway, "azure=200");
    assert_eq!(act(&gateway, "openai", "reset")["circuit"]["state"], "closed");
    assert_all(&gateway, "openai=200");

    providers.fault("openai", rate_limited(Duration::from_secs(60)));
    assert_eq!(gateway.ask(&Ask::chat("r")).trail(), "openai=rate_limit_error;azure=200");
    gateway.wait_event("backend blocked");
    providers.heal("openai");
    let shown = act(&gateway, "openai", "reset");
    assert_eq!(shown["blocks"][0]["block"], "rate_limited", "{shown}");
    assert_all(&gateway, "azure=200");
    let shown = circuit(&gateway, "openai", json!({"action": "reset", "blocks": true}));
    assert_eq!(shown["blocks"], json!([]), "{shown}");
    assert_all(&gateway, "openai=200");
}

#[test]
fn a_drained_backend_finishes_what_it_has_and_takes_nothing_new() {
    let providers = Providers::pair();
    let gateway = Setup::new(providers.yaml("")).workers(4).start();
    providers.fault("openai", Fault::TokensPerSecond(20.0));
    let mut stream = gateway.connect();
    stream.send(&Ask::chat_with("r", r#","stream":true,"max_tokens":20"#));
    stream.read_until("openai:0");
    let drained = post(&gateway, "/admin/backends/openai/drain").json();
    assert_eq!((&drained["drained"], &drained["in_flight"]), (&json!(true), &json!(1)), "{drained}");
    assert_eq!(drained["why_not"][0]["reason"], "draining", "{drained}");
    assert_all(&gateway, "azure=200");
    let answer = stream.finish();
    assert_eq!((answer.words(), answer.ending), (words_of("openai", 20), Some(Ending::Whole)), "{answer:?}");
    providers.heal("openai");
    assert_all(&gateway, "azure=200");
    let enabled = post(&gateway, "/admin/backends/openai/enable").json();
    assert_eq!((&enabled["drained"], &enabled["selectable"]), (&json!(false), &json!(true)), "{enabled}");
    assert_all(&gateway, "openai=200");
}

/// In whatever state a backend is: what the document says, what the metrics say and what a request meets are one.
fn agree(gateway: &Gateway, state: &str, reason: Option<&str>, trail: &str) {
    let whole = document(gateway);
    let scrape = gateway.scrape();
    let openai = named(&whole["backends"], "openai");
    let member = &named(&whole["routes"], "r")["tiers"][0]["backends"][0];
    let selectable = reason.is_none();
    for shown in [openai, member] {
        assert_eq!(shown["selectable"], selectable, "{shown}");
        assert_eq!(shown["why_not"][0]["reason"].as_str(), reason, "{shown}");
    }
    assert_eq!(openai["circuit"]["state"], state, "{openai}");
    let next = if selectable { "openai" } else { "azure" };
    assert_eq!(named(&whole["routes"], "r")["next"], next, "{whole}");
    let label = [("backend", "openai")];
    let number = ["closed", "half_open", "open"].iter().position(|known| *known == state).unwrap();
    assert_eq!(scrape.sum("breakwater_circuit_state", &label), number as f64, "{state}");
    assert_eq!(scrape.sum("breakwater_backend_selectable", &label), f64::from(u8::from(selectable)), "{state}");
    assert_eq!(gateway.ask(&Ask::chat("r")).trail(), trail, "{state} {reason:?}");
}

#[test]
fn the_document_says_what_a_request_then_meets() {
    let providers = Providers::pair();
    let gateway = Gateway::start(providers.yaml(BRISK));
    agree(&gateway, "closed", None, "openai=200");

    act(&gateway, "openai", "force_open");
    agree(&gateway, "open", Some("forced_open"), "azure=200");
    act(&gateway, "openai", "auto");

    post(&gateway, "/admin/backends/openai/drain");
    agree(&gateway, "closed", Some("draining"), "azure=200");
    post(&gateway, "/admin/backends/openai/enable");

    providers.fault("openai", rate_limited(Duration::from_secs(60)));
    gateway.ask(&Ask::chat("r"));
    gateway.wait_event("backend blocked");
    agree(&gateway, "closed", Some("rate_limited"), "azure=200");
    circuit(&gateway, "openai", json!({"action": "reset", "blocks": true}));

    providers.fault("openai", status(503));
    open(&gateway);
    let whole = document(&gateway);
    let shown = &named(&whole["backends"], "openai");
    wait_for("the end of the open time", || {
        (named(&document(&gateway)["backends"], "openai")["circuit"]["state"] == "half_open").then_some(())
    });
    assert_eq!(shown["why_not"][0]["reason"], "circuit_open", "{shown}");
    assert!((1..=1_000).contains(&shown["why_not"][0]["remaining_ms"].as_u64().unwrap()), "{shown}");
    // It may be tried now, and the request that tries it is saved by the other.
    agree(&gateway, "half_open", None, "openai=service_unavailable_error;azure=200");

    providers.fault("openai", Fault::Hang(HangAt::BeforeHeaders));
    wait_for("the end of the open time", || {
        (named(&document(&gateway)["backends"], "openai")["circuit"]["state"] == "half_open").then_some(())
    });
    let mut probing = gateway.connect();
    probing.send(&Ask::chat("r"));
    wait_for("the probe", || {
        (named(&document(&gateway)["backends"], "openai")["circuit"]["probes"]["in_flight"] == 1).then_some(())
    });
    agree(&gateway, "half_open", Some("half_open_busy"), "azure=200");
}

#[test]
fn the_document_shows_a_circuit_that_is_open_and_a_backend_that_is_full() {
    let providers = Providers::pair();
    let gateway = Gateway::start(providers.yaml(PATIENT));
    providers.fault("openai", status(503));
    open(&gateway);
    agree(&gateway, "open", Some("circuit_open"), "azure=200");

    let models = providers.models(&[("openai", "max_parallel_requests: 1")]);
    let yaml = format!("{models}router:\n{}", crate::support::route("r", &["openai", "azure"], ""));
    let gateway = Gateway::start(yaml);
    providers.fault("openai", Fault::TokensPerSecond(5.0));
    let mut stream = gateway.connect();
    stream.send(&Ask::chat_with("r", r#","stream":true,"max_tokens":200"#));
    stream.read_until("openai:0");
    agree(&gateway, "closed", Some("saturated"), "azure=200");
    let whole = document(&gateway);
    assert_eq!(named(&whole["backends"], "openai")["in_flight"], 1, "{whole}");
    assert_eq!(whole["gateway"]["requests_in_flight"], 1, "{whole}");
}

#[test]
fn the_document_counts_and_keeps_its_secrets() {
    let providers = Providers::pair();
    let models = providers.models(&[]).replace("key-openai", "canary-key-of-openai");
    let yaml = format!(
        "{models}router:\n{}general_settings: {{master_key: canary-master-key}}\nadmin: {{token: canary-admin-token}}\n",
        crate::support::route("r", &["openai", "azure"], "")
    );
    let gateway = Gateway::start(yaml);
    let chat = Ask::chat("r").header("authorization", "Bearer canary-master-key");
    for _ in 0..3 {
        assert_eq!(gateway.ask(&chat).status(), 200);
    }
    let with_token = |ask: Ask| ask.header("authorization", "Bearer canary-admin-token");
    let whole = wait_for("the counts", || {
        let answer = gateway.operate(&with_token(Ask::get("/admin/status")));
        (named(&answer.json()["backends"], "openai")["totals"]["attempts"] == 3).then_some(answer)
    });
    assert!(!whole.text().contains("canary"), "{whole:?}");
    let whole = whole.json();
    assert_eq!((&whole["schema"], &whole["gateway"]["workers"]), (&json!(1), &json!(2)));
    assert_eq!(named(&whole["backends"], "openai")["totals"], json!({"attempts": 3, "success": 3, "late": 0}));
    let shares: Vec<&Value> = named(&whole["routes"], "r")["tiers"].as_array().unwrap().iter().collect();
    assert_eq!((shares.len(), &shares[0]["backends"][0]["share"]), (2, &json!(1.0)));
    assert!(!gateway.stderr().concat().contains("canary"));
}

#[test]
fn the_document_tells_what_has_happened_and_whether_anything_has() {
    let providers = Providers::pair();
    let gateway = Gateway::start(providers.yaml(""));
    let ask = |query: &str| gateway.operate(&Ask::get(&format!("/admin/status{query}")));
    // The file's watch begins beside the listeners, and says so here.
    let whole = wait_for("the watch", || Some(ask("").json()).filter(|whole| whole["config"]["watch"].is_string()));
    let revision = whole["revision"].as_u64().unwrap();
    gateway.ask(&Ask::chat("r"));
    assert_eq!(ask(&format!("?since={revision}")).status(), 304, "a request changes nothing but counts");
    let actor = &named(&whole["backends"], "openai")["actor"];
    assert_eq!((&actor["alive"], &actor["restarts"]), (&json!(true), &json!(0)));
    let route = named(&whole["routes"], "r");
    assert_eq!((&route["in_flight"], &route["queue"]), (&json!(0), &json!(0)));
    assert!(route["retry_budget_left"].is_u64(), "{route}");

    act(&gateway, "openai", "force_open");
    let changed = ask(&format!("?since={revision}"));
    assert_eq!(changed.status(), 200);
    let changed = changed.json();
    assert!(revision < changed["revision"].as_u64().unwrap());
    let events = changed["events"].as_array().unwrap();
    let event = events.iter().find(|event| event["message"] == "circuit override changed").unwrap();
    assert_eq!(event["fields"], json!({"backend": "openai", "override": "force_open"}));
    assert!(event["at"].is_string() && event["level"] == "warn", "{event}");
    providers.fault("azure", Fault::Hang(HangAt::AfterEvents(3)));
    let mut client = gateway.connect();
    client.send(&Ask::stream("r"));
    client.read_until("content");
    let during = ask("").json();
    assert_eq!(
        (&during["gateway"]["streams_in_flight"], &named(&during["routes"], "r")["in_flight"]),
        (&json!(1), &json!(1))
    );
    for wrong in ["?since=x", "?since=", "?sinc=1"] {
        assert_eq!(ask(wrong).status(), 400, "{wrong}");
    }
}

#[test]
fn only_the_token_opens_the_door() {
    let providers = Providers::pair();
    let status = |gateway: &Gateway, header: Option<&str>| {
        let ask = Ask::get("/admin/status");
        let ask = header.map_or(ask.clone(), |value| ask.header("authorization", value));
        let answer = gateway.operate(&ask);
        let code = if answer.status() == 200 { String::new() } else { answer.code() };
        (answer.status(), code)
    };
    let master = "general_settings: {master_key: operators-master-key}\n";
    for (more, token) in [
        (format!("{master}admin: {{token: token-of-its-own}}\n"), "token-of-its-own"),
        (master.to_owned(), "operators-master-key"),
    ] {
        let gateway = Gateway::start(providers.yaml(&more));
        assert_eq!(status(&gateway, None), (401, "missing_api_key".to_owned()));
        for wrong in ["Bearer wrong", "Bearer ", "Basic token-of-its-own"] {
            assert_eq!(status(&gateway, Some(wrong)).0, 401, "{wrong}");
        }
        assert_eq!(status(&gateway, Some(&format!("Bearer {token}"))), (200, String::new()));
        let refused = gateway.operate(&Ask::post("/admin/backends/openai/drain", ""));
        assert_eq!(refused.status(), 401, "{refused:?}");
        assert_eq!(gateway.events("operator command"), Vec::<Value>::new());
    }
    let gateway = Gateway::start(providers.yaml(""));
    assert_eq!(status(&gateway, None), (200, String::new()), "open on loopback");
    let page = Ask::post("/admin/backends/openai/drain", "").header("origin", "https://page.example");
    let refused = gateway.operate(&page);
    assert_eq!((refused.status(), refused.code().as_str()), (403, "admin_token_required"), "{refused:?}");
    assert_eq!(gateway.ask(&Ask::get("/admin/status")).status(), 404, "nothing of it on the clients' port");
}

#[test]
fn what_is_wrong_with_a_call_is_said() {
    let providers = Providers::pair();
    let gateway = Gateway::start(providers.yaml(""));
    let circuit = "/admin/backends/openai/circuit";
    let table = [
        (Ask::post(circuit, r#"{"action":"open"}"#), 400, "invalid_value", json!("action")),
        (Ask::post(circuit, r#"{"action":"force_open","ttl":"soon"}"#), 400, "invalid_value", json!("ttl")),
        (Ask::post(circuit, r#"{"action":"auto","blocks":true}"#), 400, "invalid_value", json!("blocks")),
        (Ask::post(circuit, "force_open"), 400, "invalid_json", Value::Null),
        (Ask::post(circuit, vec![b' '; 20 << 10]), 413, "request_too_large", Value::Null),
        (Ask::post("/admin/backends/nobody/circuit", r#"{"action":"auto"}"#), 404, "unknown_backend", Value::Null),
        (Ask::post("/admin/backends/nobody/drain", ""), 404, "unknown_backend", Value::Null),
        (Ask::get("/admin/backends/openai/drain"), 405, "method_not_allowed", Value::Null),
        (Ask::post("/admin/status", ""), 405, "method_not_allowed", Value::Null),
        (Ask::get("/admin/nothing"), 404, "unknown_url", Value::Null),
        (Ask::get("/status"), 404, "unknown_url", Value::Null),
        (Ask::post("/admin/log-level", r#"{"level":"breakwater=shout"}"#), 400, "invalid_value", json!("level")),
        (Ask::post("/admin/reload?dry_run=maybe", ""), 400, "invalid_value", json!("dry_run")),
    ];
    for (ask, expected, code, param) in table {
        let answer = gateway.operate(&ask);
        assert_eq!((answer.status(), answer.code().as_str()), (expected, code), "{ask:?} {answer:?}");
        assert_eq!(answer.error()["param"], param, "{answer:?}");
    }
    let answer = gateway.operate(&Ask::post(circuit, r#"{"action":"open"}"#));
    let message = answer.error()["message"].to_string();
    for word in ["force_open", "force_closed", "disabled", "auto", "reset"] {
        assert!(message.contains(word), "{message}");
    }
    assert_all(&gateway, "openai=200");
}

#[test]
fn a_reload_answers_with_its_report() {
    let providers = Providers::pair();
    // Nobody watches: only the call loads.
    let first = |name: &str| {
        let second = if name == "openai" { "azure" } else { "openai" };
        let route = crate::support::route("r", &[name, second], "");
        format!("reload: {{enabled: false}}\n{}router:\n{route}", providers.models(&[]))
    };
    let gateway = Gateway::start(first("openai"));
    gateway.save(&first("azure"));
    let rehearsed = post(&gateway, "/admin/reload?dry_run=true");
    assert_eq!((rehearsed.status(), &rehearsed.json()["dry_run"]), (200, &json!(true)), "{rehearsed:?}");
    assert_eq!(
        rehearsed.json()["changes"],
        json!(["~ route r: azure moves from priority 2 to 1; openai moves from priority 1 to 2"]),
        "{rehearsed:?}"
    );
    assert_all(&gateway, "openai=200");
    let applied = post(&gateway, "/admin/reload");
    assert_eq!((applied.status(), &applied.json()["result"]), (200, &json!("applied")), "{applied:?}");
    assert_eq!(applied.json()["to"], rehearsed.json()["to"]);
    // Workers are told of the table; nobody waits for them.
    wait_for("the new order", || trails(&gateway).iter().all(|trail| trail == "azure=200").then_some(()));
    assert_eq!(document(&gateway)["config"]["hash"], applied.json()["to"]);

    gateway.save(&first("openai").replace("priority: 2", "priority: two"));
    for path in ["/admin/reload?dry_run=true", "/admin/reload"] {
        let refused = post(&gateway, path);
        let report = refused.json();
        let problem =
            report["problems"].as_array().unwrap().iter().find(|problem| problem["severity"] == "error").unwrap();
        assert_eq!((refused.status(), &problem["path"]), (422, &json!("router[0].models[1].priority")), "{refused:?}");
        assert_eq!(problem["line"], 10, "{problem}");
    }
    let whole = document(&gateway);
    assert_eq!(whole["config"]["on_disk"], "rejected", "{whole}");
    let results: Vec<&Value> = whole["reloads"].as_array().unwrap().iter().map(|report| &report["result"]).collect();
    assert_eq!(results, ["rejected", "applied"], "newest first, and no rehearsals");
    assert_all(&gateway, "azure=200");
}

#[test]
fn the_log_can_be_made_to_say_more() {
    let providers = Providers::pair();
    let gateway = Gateway::start(providers.yaml(""));
    assert_eq!(post(&gateway, "/admin/reload").json()["result"], "unchanged");
    assert_eq!(gateway.events("config unchanged"), Vec::<Value>::new(), "it is a debug event");
    let set = gateway.operate(&Ask::post("/admin/log-level", r#"{"level":"debug"}"#));
    assert_eq!((set.status(), set.json()), (200, json!({"level": "debug"})), "{set:?}");
    post(&gateway, "/admin/reload");
    gateway.wait_event("config unchanged");
}

#[test]
fn a_taken_address_ends_the_start_only_where_somebody_asked_for_it() {
    let providers = Providers::pair();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let yaml = providers.yaml(&format!("admin: {{port: {port}}}\n"));
    let mut gateway = Setup::new(yaml).admin_as_configured().launch();
    assert_eq!(gateway.wait_exit().code(), Some(3), "{:?}", gateway.stderr());

    // If this fails, somebody else has it, which is as good.
    let _usual = TcpListener::bind("127.0.0.1:4001");
    let gateway = Setup::new(providers.yaml("")).admin_as_configured().start();
    gateway.wait_event("no admin listener: its address is taken");
    assert_eq!(gateway.ask(&Ask::chat("r")).status(), 200);

    let gateway = Setup::new(providers.yaml("admin: {enabled: false}\n")).start();
    assert_eq!(gateway.ask(&Ask::chat("r")).status(), 200);
    assert_eq!(gateway.events("admin listening"), Vec::<Value>::new());
}

#[test]
fn it_ends_with_the_gateway() {
    let providers = Providers::pair();
    let mut gateway = Gateway::start(providers.yaml("server: {shutdown: {delay: 300ms}}\n"));
    gateway.admin_address();
    gateway.signal("TERM");
    gateway.wait_event("draining");
    assert_eq!(document(&gateway)["gateway"]["state"], "draining", "it can be watched while it drains");
    assert!(gateway.wait_exit().success());
}
