//! Each fault, seen from the wire.

use std::time::Duration;

use serde_json::{Value, json};

use super::client::{Client, Closing, Got, PATIENCE, ask, chat, post};
use super::{seeded, simulator};
use crate::clock;
use crate::simulator::{Ended, Fault, Rule, Simulator};

fn rule(fault: Value) -> Rule {
    serde_json::from_value(json!({ "fault": fault })).unwrap()
}

/// What a fault did to one request.
struct Seen {
    got: Got,
    ended: Ended,
}

/// Sends one request under a fault and waits for its end.
async fn under(simulator: &Simulator, backend: &str, fault: Value, request: &str) -> Seen {
    simulator.reset().unwrap();
    simulator.set_rules(backend, vec![rule(fault)]).unwrap();
    let got = ask(simulator.address(backend).unwrap(), request).await;
    simulator.wait_for(backend, 1, PATIENCE).await.unwrap();
    let ended = simulator.requests(backend)[0].ended.unwrap();
    Seen { got, ended }
}

fn streamed() -> String {
    chat(r#","stream":true,"max_tokens":8"#)
}

#[actix::test]
async fn connections_are_cut_where_told() {
    let simulator = simulator().await;
    // fault, streamed, closing, status, whole body, words seen
    let table = [
        (json!({"reset": "after_request"}), false, Closing::Reset, None, 0),
        (json!({"close": "after_request"}), false, Closing::Fin, None, 0),
        (json!({"reset": "after_headers"}), false, Closing::Reset, Some(200), 0),
        (json!({"close": "after_headers"}), true, Closing::Fin, Some(200), 0),
        (json!({"reset": {"after_events": 4}}), true, Closing::Reset, Some(200), 3),
        (json!({"close": {"after_events": 4}}), true, Closing::Fin, Some(200), 3),
        (json!({"close": {"after_bytes": 900}}), true, Closing::Fin, Some(200), 2),
        (json!({"reset": {"after_bytes": 10}}), false, Closing::Reset, Some(200), 0),
        (json!({"truncate": "content_length"}), false, Closing::Fin, Some(200), 0),
        (json!({"truncate": "content_length"}), true, Closing::Fin, Some(200), 4),
        (json!({"truncate": "chunked"}), false, Closing::Fin, Some(200), 0),
        (json!({"truncate": "chunked"}), true, Closing::Fin, Some(200), 4),
        (json!({"malformed": "bad_chunk"}), true, Closing::Fin, Some(200), 2),
    ];
    for (fault, streams, closing, status, words) in table {
        let request = if streams { streamed() } else { chat("") };
        let seen = under(&simulator, "openai", fault.clone(), &request).await;
        assert_eq!((seen.got.closing, seen.got.status(), seen.ended), (closing, status, Ended::Fault), "{fault}");
        assert!(!seen.got.is_complete(), "{fault}");
        assert_eq!(seen.got.streamed().split_whitespace().count(), words, "{fault}: {}", seen.got.text());
    }
    simulator.stop().await;
}

#[actix::test]
async fn streams_that_end_cleanly_but_too_early() {
    let simulator = simulator().await;
    let finish = r#""finish_reason":"stop""#;
    let seen = under(&simulator, "openai", json!({"truncate": "no_done"}), &streamed()).await;
    assert!(seen.got.is_complete() && !seen.got.text().contains("[DONE]") && !seen.got.text().contains(finish));
    assert_eq!(seen.got.streamed().split_whitespace().count(), 8);
    let seen = under(&simulator, "openai", json!({"truncate": "finish_no_done"}), &streamed()).await;
    assert!(seen.got.is_complete() && !seen.got.text().contains("[DONE]") && seen.got.text().contains(finish));
    let responses = post("/v1/responses", r#"{"model":"gpt-4o","input":"a","stream":true}"#);
    let seen = under(&simulator, "openai", json!({"truncate": "no_done"}), &responses).await;
    assert!(seen.got.is_complete() && !seen.got.text().contains("response.completed"));
    simulator.stop().await;
}

#[actix::test]
async fn hangs_last_until_the_client_leaves() {
    let simulator = simulator().await;
    let table = [
        (json!({"hang": "before_headers"}), "", 0),
        (json!({"hang": "after_headers"}), "\r\n\r\n", 0),
        (json!({"hang": "before_first_content"}), "\"role\"", 1),
        (json!({"hang": {"comments_before_first_content": 1}}), ": simulated\n\n\r\nd\r\n: simulated", 1),
        (json!({"hang": {"after_events": 3}}), "openai:1", 3),
    ];
    for (fault, part, events) in table {
        simulator.reset().unwrap();
        simulator.set_rules("openai", vec![rule(fault.clone())]).unwrap();
        let mut client = Client::connect(simulator.address("openai").unwrap()).await;
        client.send(&streamed()).await;
        let seen = client.read_until(part.as_bytes()).await;
        assert!(!String::from_utf8_lossy(&seen).contains("[DONE]"), "{fault}");
        let is_begun = async {
            while simulator.counts("openai").requests == 0 {
                tokio::task::yield_now().await
            }
        };
        tokio::time::timeout(PATIENCE, is_begun).await.unwrap();
        assert_eq!(simulator.counts("openai").ended, 0, "{fault}");
        drop(client);
        simulator.wait_for("openai", 1, PATIENCE).await.unwrap();
        let record = &simulator.requests("openai")[0];
        assert_eq!((record.ended, record.events), (Some(Ended::ClientClosed), events), "{fault}");
        assert!(record.times.end.unwrap() >= record.times.body_end);
    }
    simulator.stop().await;
}

#[actix::test]
async fn doors_close_and_open_at_once() {
    let simulator = simulator().await;
    let address = simulator.address("openai").unwrap();
    let mut kept = Client::connect(address).await;
    assert_eq!(kept.ask(&chat("")).await.closing, Closing::Open);
    for _ in 0..3 {
        simulator.preset("openai", "outage").unwrap();
        assert_eq!(ask(address, &chat("")).await.closing, Closing::Refused);
        simulator.clear_rules("openai").unwrap();
        assert_eq!(ask(address, &chat("")).await.status(), Some(200));
    }
    assert_eq!(kept.read_to_end().await.closing, Closing::Fin);
    simulator.stop().await;
}

#[actix::test]
async fn connections_are_judged_on_accept() {
    let simulator = simulator().await;
    let address = simulator.address("openai").unwrap();
    simulator.set_rules("openai", vec![Rule::from(Fault::AcceptReset).times(1)]).unwrap();
    let got = ask(address, &chat("")).await;
    assert_eq!((got.closing, got.bytes.len()), (Closing::Reset, 0));
    assert_eq!(ask(address, &chat("")).await.status(), Some(200));

    simulator.set_rules("openai", vec![Rule::from(Fault::Blackhole).times(1)]).unwrap();
    let mut swallowed = Client::connect(address).await;
    swallowed.send(&chat("")).await;
    let healthy = ask(address, &chat("")).await;
    assert_eq!(healthy.status(), Some(200));
    let counts = simulator.counts("openai");
    assert_eq!((counts.requests, counts.connections, counts.connection_faults), (2, 4, 2));
    simulator.stop().await;
}

#[actix::test]
async fn kept_connections_turn_out_dead() {
    let simulator = simulator().await;
    let address = simulator.address("openai").unwrap();
    simulator.set_rules("openai", vec![rule(json!({"stale": "reset_on_reuse"}))]).unwrap();
    let mut client = Client::connect(address).await;
    let first = client.ask(&chat("")).await;
    assert_eq!((first.status(), first.header("connection")), (Some(200), None));
    let second = client.ask(&chat("")).await;
    assert_eq!((second.closing, second.bytes.len()), (Closing::Reset, 0));
    simulator.wait_for("openai", 2, PATIENCE).await.unwrap();
    let reused = &simulator.requests("openai")[1];
    assert_eq!((reused.request_on_connection, reused.rule, reused.ended), (2, Some(0), Some(Ended::Fault)));

    simulator.set_rules("openai", vec![rule(json!({"stale": {"close_idle": 1}}))]).unwrap();
    let mut client = Client::connect(address).await;
    let first = client.ask(&chat("")).await;
    assert_eq!((first.status(), first.header("connection")), (Some(200), None));
    assert_eq!(client.read_to_end().await.closing, Closing::Fin);
    simulator.stop().await;
}

#[actix::test]
async fn error_statuses_wear_every_template() {
    let simulator = simulator().await;
    let table = [
        (json!({"code": 503}), 503, r#""code":"server_is_overloaded""#),
        (json!({"code": 429, "body": "insufficient_quota"}), 429, r#""type":"insufficient_quota""#),
        (json!({"code": 429, "body": "azure"}), 429, r#""error":{"code":"429""#),
        (json!({"code": 401, "body": "azure_flat"}), 401, r#"{"statusCode":401"#),
        (json!({"code": 400, "body": "content_filter"}), 400, "ResponsibleAIPolicyViolation"),
        (json!({"code": 400, "body": "context_length"}), 400, "context_length_exceeded"),
        (json!({"code": 529, "body": "anthropic"}), 529, "overloaded_error"),
        (json!({"code": 400, "body": "vllm"}), 400, r#""object":"error""#),
        (json!({"code": 404, "body": "ollama"}), 404, r#"{"error":"The resource"#),
        (json!({"code": 502, "body": "html"}), 502, "<html>"),
        (json!({"code": 500, "body": "empty"}), 500, ""),
        (json!({"code": 418, "body": {"raw": "{\"tea\":1}"}}), 418, r#"{"tea":1}"#),
    ];
    for (status, code, part) in table {
        let seen = under(&simulator, "openai", json!({ "status": status }), &chat("")).await;
        assert_eq!((seen.got.status(), seen.ended), (Some(code), Ended::Complete));
        assert!(seen.got.text().contains(part) && (!part.is_empty() || seen.got.body().is_empty()), "{part}");
    }
    let azure = post("/openai/v1/chat/completions", "{}");
    let seen = under(&simulator, "azure", json!({"status": {"code": 503}}), &azure).await;
    assert_eq!(seen.got.json()["error"]["code"], "503");
    simulator.stop().await;
}

#[actix::test]
async fn retry_after_in_every_spelling() {
    let simulator = simulator().await;
    let table = [
        (json!({"seconds": 86400}), "retry-after", "86400"),
        (json!({"float": 0.5}), "retry-after", "0.5"),
        (json!({"ms": 1650}), "retry-after-ms", "1650"),
        (json!({"ms": 1650}), "retry-after", "2"),
    ];
    for (retry_after, name, value) in table {
        let fault = json!({"status": {"code": 429, "retry_after": retry_after, "headers": {"X-Own": "1"}}});
        let seen = under(&simulator, "openai", fault, &chat("")).await;
        assert_eq!(seen.got.header(name).as_deref(), Some(value));
        assert_eq!(seen.got.header("x-own").as_deref(), Some("1"));
    }
    let fault = json!({"status": {"code": 429, "retry_after": {"date": 30}}});
    let seen = under(&simulator, "openai", fault, &chat("")).await;
    let date = httpdate::parse_http_date(&seen.got.header("retry-after").unwrap()).unwrap();
    let ahead = date.duration_since(std::time::UNIX_EPOCH + clock::unix_now()).unwrap();
    assert!((25..=30).contains(&ahead.as_secs()), "{ahead:?}");
    simulator.stop().await;
}

#[actix::test]
async fn quotas_are_really_counted() {
    let simulator = simulator().await;
    let address = simulator.address("openai").unwrap();
    let styles = [("rate_limit", "rate_limit_exceeded"), ("insufficient_quota", "insufficient_quota"), ("ptu", "429")];
    for (style, word) in styles {
        let quota = json!({"quota": {"rpm": 2, "window_s": 3600, "style": style}});
        let quota: Value = serde_json::from_value(quota).unwrap();
        simulator.set_rules("openai", vec![rule(quota)]).unwrap();
        let mut statuses = Vec::new();
        // An hour's share of 2 a minute is 120.
        for _ in 0..119 {
            statuses.push(ask(address, &chat(r#","max_tokens":1"#)).await.status().unwrap());
        }
        let last = ask(address, &chat("")).await;
        assert_eq!(last.header("x-ratelimit-remaining-requests").as_deref(), Some("0"));
        assert_eq!(last.header("x-ratelimit-limit-requests").as_deref(), Some("120"));
        assert!(statuses.iter().all(|&status| status == 200));
        let limited = ask(address, &chat("")).await;
        assert_eq!(limited.status(), Some(429), "{style}");
        assert!(limited.text().contains(word) || limited.head().contains(word));
        assert_eq!(limited.header("retry-after-ms").is_some(), style != "insufficient_quota");
    }
    simulator.set_rules("openai", vec![rule(json!({"quota": {"tpm": 60, "window_s": 60}}))]).unwrap();
    let sent = [50, 50, 50].map(|limit| chat(&format!(r#","max_tokens":{limit}"#)));
    let mut statuses = Vec::new();
    for request in &sent {
        statuses.push(ask(address, request).await.status().unwrap());
    }
    assert_eq!(statuses, [200, 200, 429]);
    simulator.stop().await;
}

#[actix::test]
async fn malformed_answers() {
    let simulator = simulator().await;
    let kind = |got: &Got| got.header("content-type").unwrap_or_default();
    let seen = under(&simulator, "openai", json!({"malformed": "json_cut"}), &chat("")).await;
    assert!(seen.got.is_complete() && serde_json::from_slice::<Value>(&seen.got.body()).is_err());
    let seen = under(&simulator, "openai", json!({"malformed": "json_cut"}), &streamed()).await;
    let broken = seen.got.data().iter().filter(|data| serde_json::from_str::<Value>(data).is_err()).count();
    assert_eq!(broken, 2, "one broken event and [DONE]");
    let seen = under(&simulator, "openai", json!({"malformed": "html"}), &streamed()).await;
    assert_eq!((seen.got.status(), kind(&seen.got).as_str()), (Some(200), "text/html"));
    let seen = under(&simulator, "openai", json!({"malformed": "empty"}), &chat("")).await;
    assert_eq!((seen.got.status(), seen.got.header("content-length").as_deref()), (Some(200), Some("0")));
    let seen = under(&simulator, "openai", json!({"malformed": "content_type"}), &chat("")).await;
    assert_eq!((kind(&seen.got).as_str(), seen.got.json()["object"].as_str()), ("text/plain", Some("chat.completion")));
    let seen = under(&simulator, "openai", json!({"malformed": "json_to_stream"}), &streamed()).await;
    assert_eq!((seen.got.status(), kind(&seen.got).as_str()), (Some(200), "application/json"));
    let seen = under(&simulator, "openai", json!({"malformed": "gzip"}), &chat("")).await;
    assert_eq!(
        (seen.got.header("content-encoding").as_deref(), &seen.got.body()[..2]),
        (Some("gzip"), &[0x1f, 0x8b][..])
    );
    let seen = under(&simulator, "openai", json!({"malformed": "redirect"}), &chat("")).await;
    assert!(seen.got.status() == Some(307) && seen.got.header("location").is_some());
    simulator.stop().await;
}

#[actix::test]
async fn in_band_errors_in_every_form() {
    let simulator = simulator().await;
    let table = [
        (json!({"at": 3}), r#"data: {"error":{"message""#, 2),
        (json!({"form": "event_error"}), "event: error\ndata: {\"error\":{", 0),
        (json!({"form": "responses_error", "at": 1}), "\"sequence_number\":1", 0),
        (json!({"form": "responses_failed"}), "event: response.failed\n", 0),
        (json!({"form": "vllm", "at": 2}), "\"code\":400}}\n\ndata: [DONE]", 1),
        (json!({"form": "flat"}), "data: {\"object\":\"error\"", 0),
        (json!({"form": "numeric_code"}), "\"code\":429}}", 0),
        (json!({"form": "anthropic"}), "overloaded_error", 0),
        (json!({"code": "rate_limit_exceeded", "message": "slow down"}), "slow down", 0),
    ];
    for (error, part, words) in table {
        let seen = under(&simulator, "openai", json!({"in_band_error": error}), &streamed()).await;
        assert_eq!((seen.got.status(), seen.ended), (Some(200), Ended::Complete));
        assert!(seen.got.is_complete() && seen.got.text().contains(part), "{part}: {}", seen.got.text());
        assert_eq!(seen.got.streamed().split_whitespace().count(), words);
        assert!(!seen.got.text().contains("\"stop\""));
    }
    let fault = json!({"in_band_error": {"headers": {"retry-after": "4"}}});
    let seen = under(&simulator, "openai", fault, &streamed()).await;
    assert_eq!(seen.got.header("retry-after").as_deref(), Some("4"));
    simulator.stop().await;
}

#[actix::test]
async fn unusual_bytes_on_the_wire() {
    let simulator = simulator().await;
    let table = [
        (json!({"line_end": "crlf"}), "}\r\n\r\ndata: "),
        (json!({"line_end": "cr"}), "}\r\rdata: "),
        (json!({"bom": true}), "\u{feff}data: "),
        (json!({"multi_line_data": true}), "data: {\ndata:   \"id\""),
        (json!({"ids": true}), "id: 1\ndata: "),
        (json!({"retry": true}), "\n\nretry: 3000\n\n"),
        (json!({"event_without_data": true}), "\n\nevent: ping\n\n"),
        (json!({"comments_ms": 1000}), "\n\n: simulated\n\ndata: "),
    ];
    for (wire, part) in table {
        let seen = under(&simulator, "openai", json!({ "wire": wire }), &streamed()).await;
        assert!(seen.got.is_complete() && seen.got.text().contains(part), "{part:?}: {:?}", seen.got.text());
        assert_eq!(seen.ended, Ended::Complete);
    }
    let plain = under(&simulator, "openai", json!({"latency": 0}), &streamed()).await;
    let seen = under(&simulator, "openai", json!({"wire": {"split_bytes": 1}}), &streamed()).await;
    assert_eq!(seen.got.data().len(), plain.got.data().len());
    assert!(seen.got.bytes.len() > 5 * plain.got.body().len(), "each byte has a chunk of its own");
    let seen = under(&simulator, "openai", json!({"wire": {"large_event_bytes": 3_000_000}}), &streamed()).await;
    let longest = seen.got.data().iter().map(String::len).max();
    assert_eq!((longest, seen.got.streamed().split_whitespace().count()), (Some(3_000_000), 8));
    let seen = under(&simulator, "openai", json!({"wire": {"connection_close": true}}), &chat("")).await;
    assert_eq!(seen.got.header("connection").as_deref(), Some("close"));
    let seen = under(&simulator, "openai", json!({"wire": {"http10": true}}), &streamed()).await;
    assert!(seen.got.head().starts_with("HTTP/1.0 200") && seen.got.header("transfer-encoding").is_none());
    assert_eq!((seen.got.closing, seen.got.streamed().split_whitespace().count()), (Closing::Fin, 8));
    simulator.stop().await;
}

#[actix::test]
async fn waits_are_waited() {
    let simulator = simulator().await;
    // fault, request, at least this long, at most this long: the machine may be busy, so only grossly
    let table = [
        (json!({"latency": 60}), chat(""), 60),
        (json!({"ttft": {"list": [60]}}), streamed(), 60),
        (json!({"tokens_per_second": 100}), streamed(), 70),
        (json!({"slow": {"body_bytes_per_second": 10000}}), chat(r#","max_tokens":1"#), 50),
        (json!({"slow": {"head_byte_ms": 1}}), chat(""), 100),
        (json!({"status": {"code": 503, "latency": 60}}), chat(""), 60),
    ];
    for (fault, request, least) in table {
        let started = clock::now();
        let seen = under(&simulator, "openai", fault.clone(), &request).await;
        let took = clock::now().since(started);
        assert!(Duration::from_millis(least) <= took, "{fault}: {took:?}");
        assert!(seen.got.is_complete() && seen.ended == Ended::Complete, "{fault}");
    }
    simulator.stop().await;
}

#[actix::test]
async fn rules_apply_in_order_and_by_count() {
    let simulator = simulator().await;
    let address = simulator.address("openai").unwrap();
    let rules = json!([
        {"match": {"header": {"name": "X-Test", "value": "1"}}, "fault": {"status": {"code": 501}}},
        {"match": {"stream": true, "nth": 2}, "fault": {"status": {"code": 502}}},
        {"match": {"path": "embeddings"}, "fault": {"status": {"code": 504}}},
        {"match": {"model": "gpt-4o-mini", "every": 2}, "fault": {"status": {"code": 505}}},
        {"count": 2, "fault": {"status": {"code": 503}}},
        {"match": {"alternating": {"on_ms": 3600000, "off_ms": 1}}, "probability": 0, "fault": {"status": {"code": 599}}},
    ]);
    let rules: Vec<Rule> = serde_json::from_value(rules).unwrap();
    simulator.set_rules("openai", rules).unwrap();
    let mini = post("/v1/chat/completions", r#"{"model":"gpt-4o-mini","messages":[]}"#);
    let with_header = chat("").replacen("Host", "x-test: 1\r\nHost", 1);
    let embeddings = post("/v1/embeddings", r#"{"model":"text-embedding-3-small","input":"a"}"#);
    let script = [
        (with_header.clone(), 501),
        (streamed(), 503),
        (embeddings, 504),
        (streamed(), 502),
        (mini.clone(), 503),
        (mini, 505),
        (streamed(), 200),
        (chat(""), 200),
        (with_header, 501),
    ];
    for (index, (request, status)) in script.iter().enumerate() {
        assert_eq!(ask(address, request).await.status(), Some(*status), "{index}: {request}");
    }
    let rules: Vec<_> = simulator.requests("openai").iter().map(|record| record.rule).collect();
    assert_eq!(rules, [Some(0), Some(4), Some(2), Some(1), Some(4), Some(3), None, None, Some(0)]);
    simulator.stop().await;
}

#[actix::test]
async fn seeds_repeat() {
    let mut runs = Vec::new();
    for seed in [7, 7, 8] {
        let simulator = seeded(seed).await;
        let failing = Rule { probability: 0.5, ..rule(json!({"status": {"code": 503}})) };
        simulator.set_rules("openai", vec![failing.clone()]).unwrap();
        let mut client = Client::connect(simulator.address("openai").unwrap()).await;
        for _ in 0..2 {
            let mut run = Vec::new();
            for _ in 0..40 {
                run.push(client.ask(&chat("")).await.status().unwrap());
            }
            runs.push(run);
            simulator.reset().unwrap();
            simulator.set_rules("openai", vec![failing.clone()]).unwrap();
        }
        simulator.stop().await;
    }
    assert!(runs[0].contains(&200) && runs[0].contains(&503));
    assert_eq!((&runs[0], &runs[0]), (&runs[1], &runs[2]), "the same after a reset and in another process");
    assert_ne!(runs[0], runs[4]);
}
