//! What an answer cost: tokens and their parts, answers that do not say, how fast a backend talks, and streams under way.

use breakwater::simulator::{Fault, HangAt};
use serde_json::json;

use crate::support::{Ask, Gateway, Providers, Scripted, in_chunks, wait_for, with_length};

/// Usage with all its parts.
const USAGE: &str = r#"{"prompt_tokens":9,"completion_tokens":7,"prompt_tokens_details":{"cached_tokens":4,"cache_write_tokens":2},"completion_tokens_details":{"reasoning_tokens":3}}"#;

fn parts(gateway: &Gateway) -> [f64; 5] {
    let scrape = gateway.scrape();
    let tokens = |kind| scrape.sum("breakwater_tokens_total", &[("route", "r"), ("type", kind)]);
    let detail = |kind| scrape.sum("breakwater_token_details_total", &[("backend", "r"), ("type", kind)]);
    [tokens("input"), tokens("output"), detail("cached_input"), detail("cache_write_input"), detail("reasoning_output")]
}

#[test]
fn the_parts_of_the_tokens_are_counted_of_answers_and_of_streams() {
    let whole = with_length(&format!(r#"{{"choices":[],"usage":{USAGE}}}"#));
    let events = format!(
        "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"x\"}},\"finish_reason\":\"stop\"}}]}}\n\n\
         data: {{\"choices\":[],\"usage\":{USAGE}}}\n\ndata: [DONE]\n\n"
    );
    let upstream = Scripted::start(vec![whole, in_chunks(events.as_bytes(), 1 << 20)]);
    let gateway = Gateway::start(upstream.yaml(""));
    gateway.ask(&Ask::chat("r"));
    assert_eq!(parts(&gateway), [9.0, 7.0, 4.0, 2.0, 3.0]);
    gateway.ask(&Ask::stream("r"));
    assert_eq!(parts(&gateway), [18.0, 14.0, 8.0, 4.0, 6.0]);
    let scrape = gateway.scrape();
    assert_eq!(scrape.sum("breakwater_usage_missing_total", &[]), 0.0);
    // One event with content shows no pace.
    assert_eq!(scrape.sum("breakwater_time_per_output_token_seconds_count", &[]), 0.0);
}

#[test]
fn what_tokens_cost_is_counted_where_they_have_a_price_and_nowhere_else() {
    let whole = with_length(&format!(r#"{{"choices":[],"usage":{USAGE}}}"#));
    let events = format!(
        "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"x\"}},\"finish_reason\":\"stop\"}}]}}\n\n\
         data: {{\"choices\":[],\"usage\":{USAGE}}}\n\ndata: [DONE]\n\n"
    );
    let upstream = Scripted::start(vec![whole, in_chunks(events.as_bytes(), 1 << 20)]);
    let entry = |name: &str, prices: &str| {
        let base = upstream.address();
        format!(
            "  - {{model_name: {name}, litellm_params: {{model: openai/x, api_key: k, api_base: \"http://{base}/v1\"{prices}}}}}\n"
        )
    };
    let priced = ", input_cost_per_token: 2.5e-6, output_cost_per_token: 1e-5, cache_read_input_token_cost: 1.25e-6";
    let yaml = format!("model_list:\n{}{}logging: {{access_log: true}}\n", entry("priced", priced), entry("free", ""));
    let gateway = Gateway::start(yaml);
    let cost = || gateway.scrape().sum("breakwater_cost_usd_total", &[("route", "priced"), ("backend", "priced")]);
    let dollars = 5.0 * 2.5e-6 + 4.0 * 1.25e-6 + 7.0 * 1e-5;
    for (times, ask) in [(1.0, Ask::chat("priced")), (2.0, Ask::stream("priced"))] {
        gateway.ask(&ask);
        assert!((cost() - times * dollars).abs() < 1e-12, "{} of {}", cost(), times * dollars);
    }
    gateway.ask(&Ask::chat("free"));
    let text = gateway.ask(&Ask::get("/metrics")).text();
    let series: Vec<_> = text.lines().filter(|line| line.starts_with("breakwater_cost_usd_total{")).collect();
    assert_eq!(series.len(), 1, "no price, no series: {series:?}");
    let lines = gateway.wait_lines(3);
    let costs: Vec<_> = lines.iter().map(|line| line["cost_usd"].as_f64()).collect();
    assert!((costs[0].unwrap() - dollars).abs() < 1e-12 && costs[1] == costs[0] && costs[2].is_none(), "{costs:?}");
}

#[test]
fn an_answer_that_does_not_say_what_it_cost_is_a_gap_that_is_counted() {
    let events = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"},\"finish_reason\":\"stop\"}]}\n\n\
                  data: [DONE]\n\n";
    let whole = with_length(r#"{"choices":[]}"#);
    let moderation = with_length(r#"{"results":[]}"#);
    let upstream = Scripted::start(vec![whole, in_chunks(events.as_bytes(), 1 << 20), moderation]);
    let gateway = Gateway::start(upstream.yaml(""));
    gateway.ask(&Ask::chat("r"));
    gateway.ask(&Ask::stream("r"));
    let missing =
        |gateway: &Gateway| gateway.scrape().sum("breakwater_usage_missing_total", &[("route", "r"), ("backend", "r")]);
    assert_eq!(missing(&gateway), 2.0);
    // What makes no tokens owes none.
    gateway.ask(&Ask::post("/v1/moderations", r#"{"model":"r","input":"x"}"#));
    assert_eq!((missing(&gateway), upstream.calls()), (2.0, 3));
}

#[test]
fn a_stream_counts_as_under_way_from_its_first_content_to_its_end_and_shows_its_pace() {
    let providers = Providers::pair();
    let gateway = Gateway::start(providers.yaml(""));
    let open = || gateway.scrape().sum("breakwater_streams_in_flight", &[("route", "r")]);
    providers.fault("openai", Fault::Hang(HangAt::AfterEvents(3)));
    let mut client = gateway.connect();
    client.send(&Ask::stream("r"));
    client.read_until("content");
    assert_eq!(open(), 1.0);
    drop(client);
    wait_for("the stream to be gone", || (open() == 0.0).then_some(()));
    providers.heal("openai");
    providers.settings("openai", json!({"tokens_per_second": 200}));
    gateway.ask(&Ask::stream("r"));
    let scrape = gateway.scrape();
    let pace = [("backend", "openai")];
    assert_eq!(scrape.sum("breakwater_time_per_output_token_seconds_count", &pace), 1.0, "a broken stream shows none");
    assert!(0.0 < scrape.sum("breakwater_time_per_output_token_seconds_sum", &pace));
    assert_eq!(open(), 0.0);
}

#[test]
fn use_is_counted_by_the_name_of_the_clients_key() {
    let providers = Providers::pair();
    let keys = "auth: {keys: [{name: batch, key: sk-batch}, {name: chat, key: sk-chat}]}\n";
    let gateway = Gateway::start(providers.yaml(keys));
    for (key, times) in [("sk-batch", 2), ("sk-chat", 1), ("sk-wrong", 3)] {
        for _ in 0..times {
            gateway.ask(&Ask::chat_with("r", r#","max_tokens":5"#).header("authorization", &format!("Bearer {key}")));
        }
    }
    gateway.ask(&Ask::get("/v1/nowhere").header("authorization", "Bearer sk-batch"));
    let scrape = gateway.scrape();
    let requests = |key, outcome| scrape.sum("breakwater_client_requests_total", &[("key", key), ("outcome", outcome)]);
    assert_eq!((requests("batch", "success"), requests("chat", "success")), (2.0, 1.0));
    // Nobody has shown a key, or nobody has looked at it yet.
    assert_eq!(requests("_none", "rejected"), 4.0);
    assert_eq!(scrape.sum("breakwater_client_requests_total", &[]), scrape.sum("breakwater_requests_total", &[]));
    let tokens = |key| scrape.sum("breakwater_client_tokens_total", &[("key", key), ("type", "output")]);
    assert_eq!((tokens("batch"), tokens("chat"), tokens("_none")), (10.0, 5.0, 0.0));
}
