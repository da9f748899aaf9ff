//! How long calls take: measured by kind, shown to operators, kept over a reload, and obeyed by `lowest_latency`.

use breakwater::simulator::{CutAt, Dialect, Fault};
use serde_json::json;

use crate::support::{Ask, Gateway, Providers, status, wait_for};

/// How long the slow backend takes, in milliseconds: far longer than the fast one ever does.
const SLOW: u64 = 1_000;

/// Both providers as equals of the route `r`, the faster of which is to be chosen.
fn equals(providers: &Providers) -> String {
    let route = "  - {model_name: r, routing_strategy: load_balance, load_balance_strategy: lowest_latency, models: [{name: openai}, {name: azure}]}\n";
    format!("{}router:\n{route}", providers.models(&[]))
}

#[test]
fn the_faster_one_is_chosen() {
    let providers = Providers::pair();
    providers.settings("openai", json!({"latency_ms": SLOW}));
    let gateway = Gateway::start(equals(&providers));
    let mut client = gateway.connect();
    wait_for("an answer of each", || {
        assert_eq!(client.ask(&Ask::chat("r")).status(), 200);
        let is_known = |name| gateway.latency(name)["whole_ewma_ms"].is_number();
        (is_known("openai") && is_known("azure")).then_some(())
    });
    let before = providers.calls("openai");
    for _ in 0..20 {
        assert_eq!(client.ask(&Ask::chat("r")).trail(), "azure=200");
    }
    assert_eq!(providers.calls("openai"), before);
}

#[test]
fn a_backend_of_unknown_latency_is_tried_by_one_call_at_a_time() {
    let providers = Providers::start(&[("openai", Dialect::OpenAi), ("other", Dialect::OpenAi)]);
    let route = "  - {model_name: r, routing_strategy: load_balance, load_balance_strategy: lowest_latency, models: [{name: openai}, {name: other}]}\n";
    let gateway = Gateway::start(format!("{}router:\n{route}", providers.models(&[])));
    providers.fault("openai", Fault::Hang(breakwater::simulator::HangAt::BeforeHeaders));
    let mut waiting = gateway.connect();
    waiting.send(&Ask::chat("r"));
    wait_for("the first call", || (providers.calls("openai") == 1).then_some(()));
    let mut client = gateway.connect();
    for _ in 0..20 {
        assert_eq!(client.ask(&Ask::chat("r")).trail(), "other=200");
    }
    assert_eq!(providers.calls("openai"), 1);
}

#[test]
fn figures_are_kept_by_kind_and_outlive_a_reload() {
    let providers = Providers::pair();
    let yaml = providers.yaml("");
    let gateway = Gateway::start(yaml.clone());
    let unknown = json!({
        "ttft_p50_ms": null, "ttft_p95_ms": null, "samples": 0, "ttft_ewma_ms": null,
        "whole_p50_ms": null, "whole_p95_ms": null, "whole_samples": 0, "whole_ewma_ms": null,
    });
    assert_eq!(gateway.latency("openai"), unknown);
    let mut client = gateway.connect();
    (0..3).for_each(|_| assert_eq!(client.ask(&Ask::stream("r")).status(), 200));
    (0..2).for_each(|_| assert_eq!(client.ask(&Ask::chat("r")).status(), 200));
    let known = gateway.wait_samples("openai", "whole_samples", 2);
    assert_eq!((&known["samples"], &known["whole_samples"]), (&json!(3), &json!(2)), "{known}");
    assert!(known["ttft_p50_ms"].as_f64() <= known["ttft_p95_ms"].as_f64(), "{known}");
    // A failure is no sample, but five seconds slow; a stream that breaks later is both.
    providers.fault("openai", status(503));
    assert_eq!(gateway.ask(&Ask::chat("r")).trail(), "openai=service_unavailable_error;azure=200");
    let failed = wait_for("the failure", || {
        Some(gateway.latency("openai")).filter(|known| 4_000.0 < known["ttft_ewma_ms"].as_f64().unwrap_or_default())
    });
    assert_eq!((&failed["samples"], &failed["whole_samples"]), (&json!(3), &json!(2)), "{failed}");
    providers.fault("openai", Fault::Reset(CutAt::AfterEvents(4)));
    gateway.ask(&Ask::stream("r"));
    gateway.wait_samples("openai", "samples", 4);
    // Another price of the same upstream is the same backend.
    gateway.save(&yaml.replace("key-openai, ", "key-openai, rpm: 600, "));
    gateway.wait_event("config applied");
    let after = gateway.latency("openai");
    assert_eq!((&after["samples"], &after["whole_samples"]), (&json!(4), &json!(2)), "{after}");
    assert_eq!(gateway.latency("azure")["whole_samples"], 1);
}
