//! `breakwater explain`: what it says of a file is what a gateway with that file does, and what it says of a running gateway
//! is what the next request meets.

use std::path::PathBuf;
use std::process::{Command, Output};

use breakwater::simulator::Dialect;
use serde_json::Value;

use crate::support::{Ask, Gateway, Providers, Setup, route, status};

/// Statuses of providers, and what they are called.
const ERRORS: [(u16, &str); 6] = [
    (503, "service_unavailable_error"),
    (429, "rate_limit_error"),
    (401, "authentication_error"),
    (403, "permission_denied_error"),
    (404, "not_found_error"),
    (400, "bad_request_error"),
];

fn explain(words: &[&str], token: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_breakwater"));
    command.arg("explain").args(words).env_clear().env("BREAKWATER_ADMIN_TOKEN", token).output().unwrap()
}

fn file(name: &str, yaml: &str) -> PathBuf {
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&file, yaml).unwrap();
    file
}

fn json(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The attempts header that a rehearsed request would bring home.
fn trail(explained: &Value) -> String {
    let steps = explained["steps"].as_array().unwrap().iter();
    let entry = |step: &Value| {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        match step["step"].as_str().unwrap() {
            "fails" => Some(format!("{}={}", text(&step["backend"]), text(&step["error"]))),
            "serves" => Some(format!("{}=200", text(&step["among"][0]["backend"]))),
            _ => None,
        }
    };
    steps.filter_map(entry).collect::<Vec<_>>().join(";")
}

#[test]
fn a_rehearsal_goes_the_way_of_a_request() {
    let providers =
        Providers::start(&[("openai", Dialect::OpenAi), ("azure", Dialect::Azure), ("spare", Dialect::OpenAi)]);
    let yaml = format!(
        "server: {{host: 127.0.0.1}}\n{}router:\n{}{}",
        providers.models(&[]),
        route("r", &["openai", "azure"], "fallbacks: [s]"),
        route("s", &["azure", "spare"], "")
    );
    let file = file("explained.yaml", &yaml);
    let failing: [&[&str]; 4] = [&[], &["openai"], &["openai", "azure"], &["openai", "azure", "spare"]];
    for (code, error) in ERRORS {
        for failing in failing {
            let gateway = Gateway::start(yaml.clone());
            providers.reset();
            let mut words = vec!["-c", file.to_str().unwrap(), "--model", "r", "--format", "json"];
            let fails: Vec<String> = failing.iter().map(|name| format!("{name}={error}")).collect();
            for (name, fail) in failing.iter().zip(&fails) {
                providers.fault(name, status(code));
                words.extend(["--fail", fail]);
            }
            let explained = json(&explain(&words, ""));
            let answer = gateway.ask(&Ask::chat("r"));
            assert_eq!(trail(&explained), answer.trail(), "{fails:?} {explained} {answer:?}");
            assert_eq!(explained["end"] == "served", answer.status() == 200, "{explained} {answer:?}");
        }
    }
}

#[test]
fn a_running_gateway_says_who_stands_where() {
    let providers = Providers::pair();
    let gateway = Setup::new(providers.yaml("admin: {token: token-of-operators}\n")).start();
    let url = format!("http://{}", gateway.admin_address());
    let text = || {
        let output = explain(&["--admin", &url, "--model", "r"], "token-of-operators");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let said = text();
    assert!(said.contains("priority 1: openai yes, 100 %\n"), "{said}");
    assert!(said.contains("priority 2: azure only if nobody before it can"), "{said}");
    let force = Ask::post("/admin/backends/openai/circuit", r#"{"action":"force_open"}"#);
    let forced = gateway.operate(&force.header("authorization", "Bearer token-of-operators"));
    assert_eq!(forced.status(), 200, "{forced:?}");
    let said = text();
    assert!(said.contains("priority 1: openai no: forced_open\n"), "{said}");
    assert!(said.contains("priority 2: azure yes, 100 %"), "{said}");
    let explained = json(&explain(&["--admin", &url, "--model", "r", "--format", "json"], "token-of-operators"));
    let answer = gateway.ask(&Ask::chat("r"));
    assert_eq!(explained["chosen"][0]["backend"].as_str(), answer.header("x-breakwater-backend"), "{explained}");
}

#[test]
fn each_end_has_its_exit_code() {
    let providers = Providers::pair();
    let yaml = providers.yaml("admin: {token: token-of-operators}\n");
    let kept = file("explained-ends.yaml", &yaml);
    let broken = file("explained-broken.yaml", "model_list: 7\n");
    let file = kept.to_str().unwrap();
    let gateway = Gateway::start(yaml.clone());
    let url = format!("http://{}", gateway.admin_address());
    let table: [(&[&str], &str, i32, &str); 9] = [
        (&["-c", file, "--model", "r"], "", 0, ""),
        (&["-c", file, "--model", "nobody"], "", 1, "nobody"),
        (&["-c", broken.to_str().unwrap(), "--model", "r"], "", 1, "model_list"),
        (&["-c", file], "", 2, "--model"),
        (&["-c", file, "--model", "r", "--fail", "nobody=timeout_error"], "", 2, "nobody"),
        (&["-c", file, "--model", "r", "--fail", "openai=boom"], "", 2, "timeout_error"),
        (&["--admin", &url, "--model", "nobody"], "token-of-operators", 1, "nobody"),
        (&["--admin", &url, "--model", "r"], "wrong", 2, "BREAKWATER_ADMIN_TOKEN"),
        (&["--admin", &url, "--model", "r", "--fail", "openai=timeout_error"], "token-of-operators", 2, "--fail"),
    ];
    for (words, token, code, said) in table {
        let output = explain(words, token);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {error}");
        assert!(error.contains(said) && !error.contains("token-of-operators"), "{words:?}: {error}");
    }
}
