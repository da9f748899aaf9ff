//! JSON bodies: what is rewritten is the same document but for what was to change, read by a parser that is not ours.
#![no_main]

use breakwater::proxy::request::scan;
use breakwater::proxy::rewrite::{ModelRewrite, Rewrite};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// What is meant for a gateway and goes no further (spec/wire.md 2.4).
const CONTROLS: [&str; 12] = [
    "fallbacks",
    "num_retries",
    "stream_timeout",
    "timeout",
    "disable_fallbacks",
    "include_fallback_errors",
    "router_settings_override",
    "context_window_fallbacks",
    "tags",
    "guardrails",
    "litellm_session_id",
    "priority",
];

const NAME: &str = "deploy\"ment\u{e9}";

fuzz_target!(|input: (u8, &[u8])| {
    let (choice, text) = input;
    let Ok(body) = scan(Bytes::copy_from_slice(text)) else { return };
    let defaults = [("temperature".to_owned(), "0.5".to_owned()), ("user".to_owned(), "\"u\"".to_owned())];
    let rewrite = Rewrite {
        model: if choice & 1 == 0 { ModelRewrite::Replace(NAME) } else { ModelRewrite::ReplaceOrAdd(NAME) },
        inject_usage: choice & 2 != 0,
        defaults: if choice & 4 != 0 { &defaults } else { &[] },
        strip_priority: choice & 8 != 0,
    };
    let parts = body.rewrite(&rewrite);
    let written: Vec<u8> = parts.slices.iter().flat_map(|slice| slice.iter().copied()).collect();
    assert_eq!(written.len(), parts.length, "the content-length is wrong");
    let _ = (body.model(), body.stream(), body.client_limits(), body.object_ids(), body.token_estimate());
    // Our scanner takes what a parser with more rules (depth, numbers, surrogates) may not.
    let Ok(Value::Object(before)) = serde_json::from_slice::<Value>(text) else { return };
    let after: Value = serde_json::from_slice(&written).expect("a document became none");
    let after = after.as_object().expect("an object became none");
    for (key, value) in &before {
        let is_changed = key == "model"
            || key == "stream_options"
            || defaults.iter().any(|(name, _)| name == key)
            || ["mock_", "litellm_"].iter().any(|prefix| key.starts_with(prefix))
            || CONTROLS.contains(&key.as_str());
        if !is_changed {
            assert_eq!(after.get(key), Some(value), "{key} changed");
        }
    }
    if before.contains_key("model") || choice & 1 != 0 {
        assert_eq!(after.get("model").and_then(Value::as_str), Some(NAME));
    }
    // For options of another type the provider answers.
    if choice & 2 != 0 && before.get("stream_options").is_none_or(|options| options.is_object() || options.is_null()) {
        assert_eq!(after["stream_options"]["include_usage"], Value::Bool(true));
    }
});
