//! A saved file is taken over while serving; a bad one changes nothing.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use serde_json::{Value, json};

use crate::support::{Ask, Ending, Gateway, Providers, Scrape, Setup, status, wait_for, words_of};

/// Reloads while others ask.
const RELOADS: usize = 6;

/// Enough that both workers get some.
const CONNECTIONS: usize = 16;

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
    // On every worker, from when it is told.
    for _ in 0..CONNECTIONS {
        assert_eq!(gateway.ask(&Ask::chat("live")).trail(), "azure=200");
    }
    let answer = stream.finish();
    assert_eq!((answer.words(), answer.ending), (words_of("openai", 30), Some(Ending::Whole)), "{answer:?}");
    gateway.wait_scrape("the reload", |scrape| {
        scrape.sum("breakwater_config_reloads_total", &[("result", "applied")]) == 1.0
    });
}

#[test]
fn who_is_answered_that_a_reload_is_done_is_served_by_it() {
    let providers = Providers::pair();
    let without_watch = |name| first(&providers, name).replace("debounce: 50ms", "enabled: false");
    let gateway = Setup::new(without_watch("openai")).workers(4).start();
    let mut clients: Vec<_> = (0..CONNECTIONS).map(|_| gateway.connect()).collect();
    for name in ["azure", "openai"].into_iter().cycle().take(RELOADS) {
        gateway.save(&without_watch(name));
        assert_eq!(gateway.operate(&Ask::post("/admin/reload", "")).json()["result"], "applied");
        for client in &mut clients {
            assert_eq!(client.ask(&Ask::chat("live")).trail(), format!("{name}=200"));
        }
    }
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

/// The newest report of `/admin/status`, once `fits` it.
fn wait_report(gateway: &Gateway, fits: impl Fn(&Value) -> bool) -> Value {
    wait_for("the report", || {
        let status = gateway.operate(&Ask::get("/admin/status")).json();
        status["reloads"].get(0).filter(|report| fits(report)).cloned()
    })
}

#[test]
fn a_report_says_in_words_what_has_changed() {
    let providers = Providers::pair();
    let before = first(&providers, "openai");
    let gateway = Gateway::start(before.clone());
    gateway.save(&first(&providers, "azure"));
    let report = wait_report(&gateway, |report| report["result"] == "applied");
    let lines = ["~ route live: azure moves from priority 2 to 1; openai moves from priority 1 to 2"];
    assert_eq!((&report["changes"], &report["trigger"]), (&json!(lines), &json!("file event")), "{report}");
    assert_eq!(gateway.wait_event("config applied")["changes"], json!(lines[0]));

    gateway.save(&format!("# a comment\n{}", first(&providers, "azure")));
    let report = wait_report(&gateway, |report| report["result"] == "no_effect");
    assert_eq!(report["changes"], json!([]));
    let status = gateway.operate(&Ask::get("/admin/status")).json();
    assert_eq!(status["config"]["hash"], report["to"], "the file that is in force is the one on disk");

    let answer = gateway.operate(&Ask::post("/admin/reload", ""));
    assert_eq!((answer.status(), &answer.json()["result"]), (200, &json!("unchanged")));
    let reloads =
        |result| move |scrape: &Scrape| scrape.sum("breakwater_config_reloads_total", &[("result", result)]) == 1.0;
    for result in ["applied", "no_effect", "unchanged"] {
        gateway.wait_scrape(result, reloads(result));
    }
}

#[test]
fn what_cannot_change_live_is_told_and_the_rest_holds() {
    let providers = Providers::pair();
    let gateway = Gateway::start(first(&providers, "openai"));
    let more =
        "server: {keep_alive: 5s, max_request_bytes: 100, response_headers: minimal}\nlogging: {access_log: false}\n";
    gateway.save(&format!("{more}{}", first(&providers, "openai")));
    let report = wait_report(&gateway, |report| report["result"] == "applied");
    assert_eq!(report["restart_required"], json!(["server.keep_alive"]), "{report}");
    let lines = report["changes"].as_array().unwrap();
    assert_eq!(lines.last().unwrap(), "! restart needed: server.keep_alive 75s -> 5s", "{report}");
    gateway.wait_scrape("the gauge", |scrape| scrape.sum("breakwater_config_restart_required", &[]) == 1.0);
    let answer = gateway.ask(&Ask::chat("live"));
    assert_eq!((answer.status(), answer.header("x-breakwater-backend")), (200, None), "{answer:?}");
    assert!(answer.header("x-breakwater-request-id").is_some());
    assert_eq!(gateway.ask(&Ask::chat_with("live", &format!(r#","user":"{}""#, "u".repeat(100)))).status(), 413);
    assert_eq!(gateway.stdout(), [""; 0], "no line is wanted any more");
    gateway.save(&first(&providers, "openai"));
    wait_report(&gateway, |report| report["restart_required"] == json!([]));
    gateway.wait_scrape("the gauge", |scrape| scrape.sum("breakwater_config_restart_required", &[]) == 0.0);
    gateway.ask(&Ask::chat("live"));
    gateway.wait_lines(1);
}

#[test]
fn a_level_that_is_none_is_refused_and_another_holds_at_once() {
    let providers = Providers::pair();
    let gateway = Gateway::start(first(&providers, "openai"));
    gateway.save(&format!("logging: {{level: \"breakwater=loud\"}}\n{}", first(&providers, "openai")));
    let report = wait_report(&gateway, |report| report["result"] == "rejected");
    assert!(report["refused"].as_str().unwrap().contains("logging.level"), "{report}");
    gateway.save(&format!("logging: {{level: error}}\n{}", first(&providers, "azure")));
    wait_report(&gateway, |report| report["result"] == "applied");
    assert_eq!(gateway.events("config applied").len(), 0, "such an event is not written any more");
}

#[test]
fn two_files_are_compared_without_a_gateway() {
    let providers = Providers::pair();
    let folder = std::env::temp_dir().join(format!("breakwater-diff-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (one, two) = (file("1.yaml", &first(&providers, "openai")), file("2.yaml", &first(&providers, "azure")));
    let broken = file("3.yaml", "model_list: 7\n");
    let diff = |before: &Path, after: &Path| {
        let command =
            Command::new(env!("CARGO_BIN_EXE_breakwater")).arg("diff").args([before, after]).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (command.status.code(), text(command.stdout), text(command.stderr))
    };
    let moved = "~ route live: azure moves from priority 2 to 1; openai moves from priority 1 to 2\n";
    assert_eq!(diff(&one, &two), (Some(1), moved.to_owned(), String::new()));
    assert_eq!(diff(&one, &one), (Some(0), "no difference\n".to_owned(), String::new()));
    let command = Command::new(env!("CARGO_BIN_EXE_breakwater"))
        .args(["diff", "--format", "json"])
        .args([&one, &two])
        .output()
        .unwrap();
    let told: Value = serde_json::from_slice(&command.stdout).unwrap();
    assert_eq!(
        (&told["change"], &told["what"], told["details"].as_array().map(Vec::len)),
        (&json!("changed"), &json!("route live"), Some(2))
    );
    let (code, said, problems) = diff(&one, &broken);
    assert_eq!((code, said.as_str()), (Some(2), ""));
    assert!(problems.contains("3.yaml:1:13"), "{problems}");
    std::fs::remove_dir_all(&folder).unwrap();
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

#[test]
fn a_deleted_file_is_said_to_be_missing_and_settings_of_the_watch_hold_at_once() {
    let providers = Providers::pair();
    let gateway = Gateway::start(first(&providers, "openai"));
    let known = |key: &str| gateway.operate(&Ask::get("/admin/status")).json()["config"][key].clone();
    assert_eq!((known("on_disk"), known("watch")), (json!("in_force"), json!("notify")));
    std::fs::remove_file(gateway.path()).unwrap();
    gateway.wait_event("config missing, the running one stays in force");
    assert_eq!(known("on_disk"), "missing");
    assert_eq!(gateway.ask(&Ask::chat("live")).status(), 200);
    let answer = gateway.operate(&Ask::post("/admin/reload", ""));
    assert_eq!((answer.status(), &answer.json()["refused"]), (422, &json!("the file is not there")));
    gateway.wait_scrape("the loss", |scrape| scrape.sum("breakwater_config_last_reload_successful", &[]) == 0.0);

    let polled =
        first(&providers, "azure").replace("debounce: 50ms", "debounce: 50ms, mode: poll, poll_interval: 50ms");
    gateway.save(&polled);
    let report = wait_report(&gateway, |report| report["result"] == "applied");
    assert_eq!(report["restart_required"], json!([]), "{report}");
    let mode = |mode| move |scrape: &Scrape| scrape.sum("breakwater_config_watch_info", &[("mode", mode)]) == 1.0;
    gateway.wait_scrape("polling", mode("poll"));
    assert_eq!((known("on_disk"), known("watch")), (json!("in_force"), json!("poll")));
    gateway.save(&polled.replace("mode: poll", "enabled: false"));
    gateway.wait_scrape("no watch", mode("off"));
    gateway.save(&first(&providers, "openai"));
    assert_eq!(gateway.operate(&Ask::post("/admin/reload", "")).json()["result"], "applied");
    gateway.wait_scrape("events again", mode("notify"));
    gateway.save(&first(&providers, "azure"));
    wait_report(&gateway, |report| report["trigger"] == "file event" && report["result"] == "applied");
}

#[test]
fn a_reload_that_replaces_every_backend_fails_nobody() {
    let providers = Providers::pair();
    let yaml = |model: &str| {
        let text = first(&providers, "openai");
        let text = text.replace("model: gpt-4o,", &format!("model: {model},"));
        text.replace("azure_deployment: gpt-4o-prod", &format!("azure_deployment: {model}-prod"))
    };
    let models = ["gpt-4o", "gpt-4o-mini"];
    let gateway = Gateway::start(yaml(models[0]));
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut client = gateway.connect();
                while !is_over.load(Ordering::Relaxed) {
                    let answer = client.ask(&Ask::chat("live"));
                    assert_eq!(answer.status(), 200, "{answer:?}");
                }
            });
        }
        for number in 1..=RELOADS {
            gateway.save(&yaml(models[number % models.len()]));
            wait_for("the reload", || (number <= gateway.events("config applied").len()).then_some(()));
        }
        is_over.store(true, Ordering::Relaxed);
    });
    let removed = || gateway.events("backend removed").len();
    wait_for("the end of the replaced", || (2 <= removed()).then_some(()));
}
