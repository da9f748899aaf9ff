//! Written and read again: the same.

use std::path::Path;

use super::*;
use crate::config::{Source, diff, load_text};

struct Made;

impl Source for Made {
    fn read(&self, path: &Path) -> std::io::Result<Vec<u8>> {
        match path.to_str() {
            Some("key") => Ok(b"filed-secret".to_vec()),
            _ => Err(std::io::ErrorKind::NotFound.into()),
        }
    }

    fn variable(&self, name: &str) -> Option<String> {
        match name {
            "AZURE_OPENAI_ENDPOINT" | "AZURE_EASTUS_ENDPOINT" => Some("https://e.openai.azure.com/".to_owned()),
            "AZURE_WESTEUROPE_ENDPOINT" => Some("https://w.openai.azure.com".to_owned()),
            "AZURE_OPENAI_API_VERSION" => Some("2024-02-01".to_owned()),
            name if name.contains("KEY") => Some(format!("a-secret-called-{name}")),
            _ => None,
        }
    }
}

fn load(text: &str) -> std::sync::Arc<Config> {
    load_text("config.yaml", text, &Made).unwrap_or_else(|report| panic!("{text}\n{report}")).config
}

/// What a second reading of what is written would change; none is wanted.
fn lost(text: &str) -> Vec<String> {
    let before = load(text);
    let written = effective(&before);
    assert!(!written.contains("a-secret-called") && !written.contains("filed-secret"), "{written}");
    let after = load(&written);
    let changes = diff::changes(&before, &before, &after);
    let told = changes.iter().map(ToString::to_string);
    // Of several entries of one name each gets its own, which members can name.
    let is_renamed =
        |change: &String| change.contains(": model_name ") && change.ends_with("(state kept)") && !change.contains(';');
    let lost: Vec<String> = told.filter(|change| !is_renamed(change)).collect();
    let again = effective(&after);
    let differing = again.lines().zip(written.lines()).find(|(again, written)| again != written);
    assert_eq!((&lost, differing), (&Vec::new(), None), "written once more, it is the same");
    lost
}

const EVERYTHING: &str = "\
server: {host: 127.0.0.1, port: 4100, workers: 2, max_in_flight: 900, response_headers: minimal, cors_origins: ['*', 'https://a.example'], shutdown: {delay: 1500ms}}
admin: {port: 4101, token: '${ADMIN_KEY}'}
general_settings: {master_key: '${MASTER_KEY}'}
auth: {header_names: [x-key], keys: [{name: batch, key: '${BATCH_KEY}', routes: ['r*'], rpm: 60}, {name: other, key: '${OTHER_KEY}'}]}
defaults: {forward_client_headers: ['x-*']}
logging: {level: 'breakwater=debug,info', access_log: false}
reload: {debounce: 1s, rollback: {enabled: true, watch: 5m, min_success_ratio: 95%}}
model_list:
  - model_name: a
    litellm_params: {model: 'openai/gpt 4o: \"x\"', api_key: '${KEY_A}', organization: org, temperature: 0.2, extra_query: {v: '1 2'}, extra_body: {metadata: {k: [1, null]}}}
    resilience: {circuit_breaker: {preset: tolerant, slow_call_duration: 3s}, classify: [{status: 418, message_contains: 'a: b', class: timeout_error}], timeouts: {first_token: 7s}}
    rpm: 50
  - {model_name: b, litellm_params: {model: azure/d, api_base: 'https://r.openai.azure.com', api_version: 2024-10-21, api_key: '${KEY_B}'}, model_info: {id: 'b/1', max_input_tokens: 100}, reasoning: true}
  - {model_name: c, litellm_params: {model: d2, api_base: 'https://r.openai.azure.com/openai/v1', api_key: '${file:key}'}, model_info: {blocked: true}}
  - {model_name: d, litellm_params: {model: groq/llama, api_key: '${KEY_D}', timeout: 60}}
  - {model_name: e, litellm_params: {model: 'true', api_base: 'http://10.0.0.1:8000/v1'}, inject_usage: false}
router:
  - {model_name: r, load_balance_strategy: least_busy, fallback_on_error_types: [timeout_error], models: [{name: a, priority: 1, weight: 3}, {name: b, priority: 1, weight: 1}, {name: e, priority: 7}], fallbacks: [s], resilience: {timeouts: {total: 90s, idle: 5s}, attempts: {max_attempts: 6}, stream: {head_hold: 2s}, hedge: {enabled: true}, on_exhausted: [queue, reject]}}
  - {model_name: s, models: [{name: d}, {name: e}], hidden: true}
resilience: {max_in_flight: 50, quota: {jitter: 0.3}, endpoint_breaker: {consecutive_failures: 9}, retry_budget: {budget_ratio: 0.5}, send_x_should_retry: false}
";

#[test]
fn everything_that_can_be_said_is_said_again() {
    assert_eq!(lost(EVERYTHING), [""; 0], "{}", effective(&load(EVERYTHING)));
}

#[test]
fn shipped_files_and_the_guide_are_said_again() {
    let files = [
        include_str!("../../../config/gateway.yaml"),
        include_str!("../../../config/multi-region.yaml"),
        include_str!("../../../config/load-balance.yaml"),
        include_str!("../../../config/environments.yaml"),
        include_str!("../../../config/demo.yaml")
            .split("api_key")
            .next()
            .map_or("", |_| include_str!("../../../config/gateway.yaml")),
        include_str!("../../../config/litellm-compatible.yaml"),
        include_str!("../../../config/reference.yaml"),
    ];
    for text in files {
        assert_eq!(lost(text), [""; 0], "{text}\n{}", effective(&load(text)));
    }
}

#[test]
fn a_litellm_file_becomes_one_of_ours() {
    let text = "\
model_list:
  - {model_name: gpt-4o, litellm_params: {model: azure/eu, api_base: 'https://eu.openai.azure.com', api_version: 2024-10-21, api_key: os.environ/KEY_EU, weight: 3, order: 1, rpm: 60}}
  - {model_name: gpt-4o, litellm_params: {model: azure/us, api_base: 'https://us.openai.azure.com', api_version: 2024-10-21, api_key: os.environ/KEY_US, weight: 1, order: 1, timeout: 20, stream_timeout: 9}}
  - {model_name: gpt-4o, litellm_params: {model: gpt-4o, api_key: os.environ/OPENAI_API_KEY, order: 2, cooldown_time: 9}}
  - {model_name: mini, litellm_params: {model: gpt-4o-mini, api_key: os.environ/OPENAI_API_KEY}}
  - {model_name: 'openai/*', litellm_params: {model: 'openai/*', api_key: os.environ/OPENAI_API_KEY}}
router_settings: {routing_strategy: simple-shuffle, num_retries: 2, allowed_fails: 3, cooldown_time: 30, model_group_alias: {gpt-4: gpt-4o}, fallbacks: [{gpt-4o: [mini]}]}
litellm_settings: {request_timeout: 300, context_window_fallbacks: [{gpt-4o: [mini]}]}
general_settings: {master_key: os.environ/MASTER_KEY, enforce_model_rate_limits: true}
";
    assert_eq!(lost(text), [""; 0], "{}", effective(&load(text)));
    let written = effective(&load(text));
    for part in [
        "- model_name: gpt-4o\n    models:\n      - {name: gpt-4o, priority: 1, weight: 3}\n",
        "api_key: \"${KEY_EU}\"",
        "    fallbacks: [mini]\n    context_window_fallbacks: [mini]\n",
        "master_key: \"${MASTER_KEY}\"",
    ] {
        assert!(written.contains(part), "{part} in\n{written}");
    }
}
