//! The schema against the committed file, the loader's own questions, the shipped files, and mistakes.

use std::collections::BTreeSet;
use std::path::Path;

use boon::{Compiler, SchemaIndex, Schemas};

use super::super::section::asked_for;
use super::super::{Source, load_text};
use super::*;

const COMMITTED: &str = "config/breakwater.schema.json";

const FILES: [(&str, &str); 7] = [
    ("reference.yaml", include_str!("../../../config/reference.yaml")),
    ("gateway.yaml", include_str!("../../../config/gateway.yaml")),
    ("multi-region.yaml", include_str!("../../../config/multi-region.yaml")),
    ("load-balance.yaml", include_str!("../../../config/load-balance.yaml")),
    ("environments.yaml", include_str!("../../../config/environments.yaml")),
    ("litellm-compatible.yaml", include_str!("../../../config/litellm-compatible.yaml")),
    ("demo.yaml", include_str!("../../../config/demo.yaml")),
];

/// A file in which every section stands that the shipped ones lack.
const REST: &str = "\
include: []
credential_list: [{credential_name: c, credential_values: {api_key: k}, credential_info: {}}]
model_list:
  - {model_name: m, litellm_params: {model: m, api_base: 'http://h/v1', litellm_credential_name: c}, model_info: {id: x}, resilience: {classify: [{class: timeout_error, status: 418}], quota: {jitter: 0}, health_check: {type: off}}}
router:
  - {model_name: r, models: [{name: x}], resilience: {timeouts: {total: 9s, first_token: 8s}, attempts: {}, retry_budget: {}, hedge: {}, stream: {}, queue: {}}}
router_settings: {routing_groups: [{group_name: g, models: [m]}, {model_name: h, models: [m]}], model_group_alias: {a: m, b: {model: m, hidden: true}}}
litellm_settings: {num_retries: 2}
";

/// What the schema has against a file.
fn complaint(yaml: &str, (schemas, index): &(Schemas, SchemaIndex)) -> Option<String> {
    let value: Value = serde_yaml::from_str(yaml).unwrap();
    schemas.validate(&value, *index).err().map(|error| format!("{error:#}"))
}

fn compiled() -> (Schemas, SchemaIndex) {
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    compiler.add_resource("schema.json", serde_json::from_str(&schema()).unwrap()).unwrap();
    let index = compiler.compile("schema.json", &mut schemas).unwrap();
    (schemas, index)
}

struct Anything;

impl Source for Anything {
    fn read(&self, _path: &Path) -> std::io::Result<Vec<u8>> {
        Err(std::io::ErrorKind::NotFound.into())
    }

    fn variable(&self, name: &str) -> Option<String> {
        let known = match name {
            "AZURE_OPENAI_ENDPOINT" | "AZURE_EASTUS_ENDPOINT" | "AZURE_WESTEUROPE_ENDPOINT" => {
                "https://h.openai.azure.com"
            }
            "AZURE_OPENAI_API_VERSION" => "2024-10-21",
            key if key.contains("KEY") => return Some(format!("a-long-value-of-{key}")),
            _ => return None,
        };
        Some(known.to_owned())
    }
}

#[test]
fn the_committed_schema_is_the_generated_one() {
    let committed = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(COMMITTED)).unwrap();
    assert!(committed == schema(), "write it anew: cargo run -- schema > {COMMITTED}");
}

#[test]
fn shipped_files_fit() {
    let compiled = compiled();
    for (name, text) in FILES.into_iter().chain([("rest", REST)]) {
        assert_eq!(complaint(text, &compiled), None, "{name}");
    }
}

#[test]
fn mistakes_do_not_fit_and_odd_spellings_do() {
    let compiled = compiled();
    let mistakes = [
        "sevrer: {port: 1}",
        "server: {prot: 1}",
        "server: {port: [1]}",
        "server: {response_headers: all}",
        "resilience: {timeouts: {connect: soon}}",
        "resilience: {timeouts: {first_tokens: 1s}}",
        "resilience: {circuit_breaker: {failure_rate_threshold: 7}}",
        "resilience: {attempts: {max_attempts: 0}}",
        "router: [{model_name: r, models: [{nme: x}]}]",
        "model_list: {a: b}",
        "model_list: [{model_name: m, resilience: {timeouts: {total: 1s}}}]",
        "reload: {enabled: maybe}",
    ];
    for text in mistakes {
        assert!(complaint(text, &compiled).is_some(), "{text}");
    }
    let odd = [
        "x-anchors: {a: [1, {b: c}]}",
        "server: {port: \"${PORT:-4000}\", workers: os.environ/WORKERS, max_request_bytes: 10_000, keep_alive: 1m30s}",
        "server:\nrouter:\n",
        "resilience: {fallback_on_error_types: RateLimitError, max_in_flight: '80_000', circuit_breaker: {slow_start: off}}",
        "reload: {enabled: yes, debounce: 0.5}",
        "resilience: {circuit_breaker: {failure_rate_threshold: 50 %, sliding_window: auto}, quota: {learned: off}}",
        "model_list: [{model_name: m, litellm_params: {model: 4.10, whatever: 1, input_cost_per_token: 0.1}, inject_usage: true}]",
        "general_settings: {database_url: x, master_key: 1234}",
    ];
    for text in odd {
        assert_eq!(complaint(text, &compiled), None, "{text}");
    }
}

/// The keys of a section by its path, such as `router[].models[]`.
fn keys_at(path: &str) -> (BTreeSet<String>, bool) {
    let whole: Value = serde_json::from_str(&schema()).unwrap();
    let mut here = &whole;
    for step in path.split('.').filter(|step| !step.is_empty()) {
        let (name, lists) = step.split_once('[').map_or((step, 0), |(name, _)| (name, step.matches('[').count()));
        here = &here["properties"][name];
        (0..lists).for_each(|_| here = &here["items"]);
    }
    let keys = here["properties"].as_object().map(|keys| keys.keys().cloned().collect()).unwrap_or_default();
    (keys, here["additionalProperties"] == json!(false))
}

/// What is asked for only to refuse it with better words: section, key.
const REFUSED: [(&str, &str); 2] =
    [("model_list[].resilience.timeouts", "total"), ("model_list[].resilience.timeouts", "stream_total")];

#[test]
fn the_schema_has_the_keys_that_the_loader_asks_for() {
    for (name, text) in FILES.into_iter().chain([("rest", REST)]) {
        let loaded = load_text(name, text, &Anything);
        assert!(loaded.is_ok(), "{}", loaded.err().map(|report| report.to_string()).unwrap_or_default());
    }
    let mut closed = 0;
    for (path, asked) in asked_for::all() {
        // A mapping of names, each with a section of its own, is free in the schema.
        if path.starts_with("router_settings.model_group_alias.") {
            continue;
        }
        let (mut known, is_closed) = keys_at(&path);
        if path.is_empty() {
            known.retain(|key| !litellm_keys::TOP.contains(&key.as_str()) && !TOP_PROTECTIVE.contains(&key.as_str()));
        }
        let mut wanted: BTreeSet<String> = asked.iter().map(|key| (*key).to_owned()).collect();
        wanted.retain(|key| !REFUSED.contains(&(path.as_str(), key)));
        if is_closed {
            assert_eq!(known, wanted, "{path}: the schema's keys and those that are read");
            closed += 1;
        } else {
            assert!(known.is_subset(&wanted), "{path} in the schema: {:?}", known.difference(&wanted));
            assert!(!known.is_empty(), "{path} is not in the schema");
        }
    }
    assert!(closed > 25, "{closed} sections were met");
}

#[test]
fn every_key_is_explained() {
    let whole: Value = serde_json::from_str(&schema()).unwrap();
    let mut open = vec![&whole];
    let mut seen = 0;
    while let Some(here) = open.pop() {
        for (name, property) in here["properties"].as_object().into_iter().flatten() {
            let about = property["description"].as_str().unwrap_or_default();
            assert!(!about.is_empty(), "{name}");
            seen += 1;
            open.push(property);
            open.push(&property["items"]);
        }
    }
    assert!(seen > 200, "{seen}");
}
