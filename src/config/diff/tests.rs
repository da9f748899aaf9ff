//! Edits of a file and what is said of each: tables and scripts.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::config::{Source, load};

/// A file and an environment that a test writes.
#[derive(Default)]
struct Made {
    files: BTreeMap<&'static str, String>,
    variables: BTreeMap<&'static str, &'static str>,
}

impl Source for Made {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let name = path.to_str().unwrap_or_default();
        self.files.get(name).map(|text| text.clone().into_bytes()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).map(|value| (*value).to_owned())
    }
}

const FIRST: &str = "\
server: {host: 127.0.0.1}
model_list:
  - {model_name: one, litellm_params: {model: gpt-4o, api_key: \"${KEY_1}\", api_base: http://127.0.0.1:1/v1}}
  - {model_name: two, litellm_params: {model: gpt-4o, api_key: \"${KEY_2}\", api_base: http://127.0.0.1:2/v1}}
router:
  - model_name: r
    models: [{name: one, priority: 1, weight: 7}, {name: two, priority: 1, weight: 3}]
";

fn config_of(text: &str, secret: &str) -> Arc<Config> {
    let variables = BTreeMap::from([("KEY_1", "first-secret"), ("KEY_2", "second-secret"), ("KEY_3", "third-secret")]);
    let files = BTreeMap::from([("c.yaml", text.to_owned()), ("secret", secret.to_owned())]);
    load(Path::new("c.yaml"), &Made { files, variables }).unwrap_or_else(|report| panic!("{report:?}")).config
}

fn shown(before: &str, after: &str) -> Vec<String> {
    let (before, after) = (config_of(before, "s"), config_of(after, "s"));
    changes(&before, &before, &after).iter().map(Change::to_string).collect()
}

/// What an edit of the first file is told as.
fn edit(from: &str, to: &str) -> Vec<String> {
    assert!(FIRST.contains(from), "{from}");
    shown(FIRST, &FIRST.replacen(from, to, 1))
}

#[test]
fn the_same_is_the_same_whatever_is_written_around_it() {
    let commented = format!("# a comment\n{FIRST}");
    let (before, after) = (config_of(FIRST, "s"), config_of(&commented, "s"));
    assert_ne!(before.hash, after.hash);
    assert!(is_same(&before, &after));
    assert_eq!(changes(&before, &before, &after), []);
    for (from, to) in [
        ("weight: 7", "weight: 8"),
        ("http://127.0.0.1:2/v1", "http://127.0.0.1:3/v1"),
        ("server: {host: 127.0.0.1}", "server: {host: 127.0.0.1, port: 4100}"),
        ("router:", "logging: {level: debug}\nrouter:"),
    ] {
        assert!(!is_same(&before, &config_of(&FIRST.replacen(from, to, 1), "s")), "{to}");
    }
}

#[test]
fn edits_are_told_by_key_and_value() {
    let table: &[(&str, &str, &[&str])] = &[
        ("weight: 7", "weight: 9", &["~ route r: one share 70 % -> 75 %; two share 30 % -> 25 %"]),
        (
            "{name: two, priority: 1, weight: 3}",
            "{name: two, priority: 2}",
            &["~ route r: one share 70 % -> 100 %; two moves from priority 1 to 2; two share 30 % -> 100 %"],
        ),
        // Nothing stands in for either any more, which its breaker takes into account.
        (
            ", {name: two, priority: 1, weight: 3}",
            "",
            &[
                "~ all backends: circuit_breaker.consecutive_failures 5 -> off; \
             circuit_breaker.wait_duration_in_open_state 5s -> 2s; \
             circuit_breaker.max_wait_duration_in_open_state 5m -> 30s (state kept)",
                "~ route r: one share 70 % -> 100 %; two leaves",
            ],
        ),
        (
            "    models:",
            "    resilience: {attempts: {max_attempts: 4}, stream: {head_hold: 15s}}\n    models:",
            &["~ route r: attempts.max_attempts 3 -> 4; stream.head_hold off -> 15s"],
        ),
        (
            "    models:",
            "    fallback_on_error_types: [timeout_error]\n    fallbacks: [two]\n    models:",
            &[
                "~ route r: fallback_on_error_types [rate_limit_error, insufficient_quota_error, service_unavailable_error, \
               api_connection_error, timeout_error, authentication_error, permission_denied_error, not_found_error] -> \
               [timeout_error]; fallbacks [] -> [two]",
            ],
        ),
        ("${KEY_2}", "${KEY_3}", &["~ backend two: api_key now from ${KEY_3} (starts fresh)"]),
        (
            "model: gpt-4o, api_key: \"${KEY_1}\"",
            "model: gpt-4.1, api_key: \"${KEY_1}\"",
            &["~ backend one: model gpt-4o -> gpt-4.1 (starts fresh)"],
        ),
        (
            "api_key: \"${KEY_1}\",",
            "api_key: \"${KEY_1}\", rpm: 60, stream_timeout: 10,",
            &[
                "~ backend one: circuit_breaker.sliding_window 40s -> 20s; rpm off -> 60; timeouts.first_token 30s -> 10s; \
               timeouts.first_token of reasoning calls 2m -> 10s; timeouts.idle 60s -> 10s (state kept)",
            ],
        ),
        (
            "router:",
            "resilience: {circuit_breaker: {half_open_calls: 5}, attempts: {max_attempts: 2}}\nrouter:",
            &[
                "~ all backends: circuit_breaker.half_open_calls 3 -> 5 (state kept)",
                "~ all routes: attempts.max_attempts 3 -> 2",
            ],
        ),
        (
            "server: {host: 127.0.0.1}",
            "server: {host: 127.0.0.1, port: 4100, max_request_bytes: 1MiB}",
            &["~ server.max_request_bytes 32MiB -> 1MiB", "! restart needed: server.port 4000 -> 4100"],
        ),
        (
            "router:",
            "logging: {level: debug}\nreload: {debounce: 1s}\nrouter:",
            &["~ reload.debounce 250ms -> 1s", "~ logging.level info -> debug"],
        ),
        ("router:", "auth: {keys: [{name: batch, key: \"${KEY_3}\", rpm: 6}]}\nrouter:", &["+ client key batch"]),
    ];
    for (from, to, expected) in table {
        assert_eq!(edit(from, to), *expected, "{to}");
    }
}

#[test]
fn what_comes_goes_and_is_renamed() {
    let third =
        "  - {model_name: three, litellm_params: {model: m, api_base: \"http://h:3/v1\", api_key: \"${KEY_3}\"}}\n";
    let more = FIRST.replace("router:", &format!("{third}router:\n  - {{model_name: s, models: [{{name: three}}]}}"));
    assert_eq!(shown(FIRST, &more), ["+ backend three (compatible m at h:3)", "+ route s (priority 1: three 100 %)"]);
    assert_eq!(shown(&more, FIRST), ["- backend three", "- route s"]);
    let renamed = FIRST.replace("model_name: two", "model_name: deux").replace("name: two", "name: deux");
    assert_eq!(
        shown(FIRST, &renamed),
        [
            "~ backend deux: was two (state kept); model_name two -> deux (state kept)",
            "~ route r: deux joins at priority 1 with 30 %; two leaves",
        ]
    );
}

#[test]
fn a_rotated_secret_is_told_without_it() {
    let text = FIRST.replace("\"${KEY_1}\"", "\"${file:secret}\"");
    let (before, after) = (config_of(&text, "old-secret"), config_of(&text, "new-secret"));
    assert_eq!(before.hash, after.hash);
    assert!(!is_same(&before, &after));
    let lines: Vec<String> = changes(&before, &before, &after).iter().map(Change::to_string).collect();
    assert_eq!(lines, ["~ backend one: api_key changed (state kept)"]);
}

#[test]
fn a_restart_key_is_measured_against_the_start() {
    let moved = FIRST.replace("server: {host: 127.0.0.1}", "server: {host: 127.0.0.1, port: 4100}");
    let (started, moved) = (config_of(FIRST, "s"), config_of(&moved, "s"));
    let lines = |before: &Config, after: &Config| -> Vec<String> {
        changes(&started, before, after).iter().map(Change::to_string).collect()
    };
    assert_eq!(lines(&started, &moved), ["! restart needed: server.port 4000 -> 4100"]);
    assert_eq!(lines(&moved, &moved), ["! restart needed: server.port 4000 -> 4100"], "it still waits");
    assert_eq!(lines(&moved, &started), [""; 0], "and is taken back");
    assert_eq!(needs_restart(&started, &moved), ["server.port"]);
    assert_eq!(needs_restart(&started, &started), [""; 0]);
}
