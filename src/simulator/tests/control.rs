//! The control API by its own wire.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::client::{self, Client, Closing, ask, chat};
use super::simulator;

async fn call(control: SocketAddr, line: &str, body: &str) -> (u16, Value) {
    let (method, target) = line.split_once(' ').unwrap();
    let got = ask(control, &client::request(method, target, "", body)).await;
    (got.status().unwrap(), got.json())
}

#[actix::test]
async fn rules_go_round() {
    let simulator = simulator().await;
    let control = simulator.control();
    let rules = json!([
        {"match": {"stream": true}, "probability": 0.5, "count": 2, "fault": {"reset": {"after_events": 4}}},
        {"probability": 1.0, "count": null, "fault": {"latency": {"uniform": [1.0, 2.0]}}},
    ]);
    let (status, body) = call(control, "PUT /backends/openai/rules", &rules.to_string()).await;
    assert_eq!((status, &body["rules"], &body["applied"]), (200, &rules, &json!([0, 0])));
    let (_, body) = call(control, "PATCH /backends/openai/rules", r#"{"fault":"refuse"}"#).await;
    assert_eq!(body["rules"][2]["fault"], "refuse");
    let address = simulator.address("openai").unwrap();
    assert_eq!(ask(address, &chat("")).await.closing, Closing::Refused);
    let put_again = json!({"rules": body["rules"]}).to_string();
    let (status, again) = call(control, "PUT /backends/openai/rules", &put_again).await;
    assert_eq!((status, &again["rules"]), (200, &body["rules"]));
    let (_, body) = call(control, "DELETE /backends/openai/rules", "").await;
    assert_eq!(body["rules"], json!([]));
    assert_eq!(ask(address, &chat("")).await.status(), Some(200));
    simulator.stop().await;
}

#[actix::test]
async fn errors_name_the_field_and_the_words() {
    let simulator = simulator().await;
    let put = "PUT /backends/openai/rules";
    let table = [
        (put, r#"[{"fault":{"status":{"code":"x"}}}]"#, "rules[0].fault.status.code: invalid type: string \"x\""),
        (
            put,
            r#"[{"fault":"refuse"},{"fault":"explode"}]"#,
            "rules[1].fault: unknown variant `explode`, expected one of `latency`",
        ),
        (put, r#"[{"fault":{"hang":"sometimes"}}]"#, "expected one of `before_headers`"),
        (put, r#"[{"fault":{"status":{"code":503,"colour":1}}}]"#, "unknown field `colour`"),
        (put, r#"[{"fault":{"status":{"code":99}}}]"#, "rules[0].fault.status.code: must be 200 to 599"),
        (put, r#"[{"fault":{"status":{"code":503,"headers":{"a b":"c"}}}}]"#, "is no header name"),
        (put, r#"[{"probability":2,"fault":"refuse"}]"#, "rules[0].probability: must be 0 to 1"),
        (put, r#"[{"count":2,"fault":"refuse"}]"#, "rules[0].refuse"),
        (put, r#"[{"match":{"stream":true},"fault":"blackhole"}]"#, "rules[0].match"),
        (put, r#"[{"match":{"path":7},"fault":"blackhole"}]"#, "rules[0].match.path: invalid type"),
        (put, r#"[{"fault":{"latency":{"list":[]}}}]"#, "list needs at least one wait"),
        (put, r#"[{"fault":{"quota":{}}}]"#, "needs `rpm` or `tpm`"),
        (put, "[{}]", "rules[0]: missing field `fault`"),
        (put, "7", "must be a list"),
        (put, "[", "not JSON"),
        ("PATCH /backends/openai/settings", r#"{"ttft_ms":"fast"}"#, "ttft_ms: invalid type"),
        ("PATCH /backends/openai/settings", r#"{"speed":1}"#, "unknown field `speed`, expected one of `keys`"),
        ("PUT /backends/openai/preset/rain", "", "outage, brownout, azure_429_burst"),
        ("GET /backends/openai/requests?after=x", "", "after: must be a whole number"),
        ("GET /backends/openai/requests?since=1", "", "since=1: the parameters are"),
    ];
    for (line, body, part) in table {
        let (status, answer) = call(simulator.control(), line, body).await;
        let error = answer["error"].as_str().unwrap();
        assert!(status == 400 && error.contains(part), "{line} {body}: {status} {error}");
    }
    for (line, part) in
        [("GET /backends/nobody/rules", "there are openai, azure, compat"), ("POST /backends", "GET /health")]
    {
        let (status, answer) = call(simulator.control(), line, "").await;
        assert!(status == 404 && answer["error"].as_str().unwrap().contains(part), "{line}: {answer}");
    }
    assert_eq!(ask(simulator.address("openai").unwrap(), &chat("")).await.status(), Some(200), "nothing was applied");
    simulator.stop().await;
}

#[actix::test]
async fn requests_are_waited_for() {
    let simulator = simulator().await;
    let control = simulator.control();
    let address = simulator.address("openai").unwrap();
    let mut waiting = Client::connect(control).await;
    waiting.send(&client::request("GET", "/backends/openai/requests?after=1&wait=60000&ended=1", "", "")).await;
    for _ in 0..2 {
        ask(address, &chat("")).await;
    }
    let seen = waiting.read_until(b"\"has_more\":false}\n").await;
    let seen = String::from_utf8_lossy(&seen);
    assert!(seen.contains("\"sequence\":2") && !seen.contains("\"sequence\":1,"), "{seen}");
    assert!(seen.contains("\"ended\":\"complete\""));
    let (_, body) = call(control, "GET /backends/openai/requests?after=0", "").await;
    let first = &body["requests"][0];
    assert_eq!((&first["target"], &first["version"]), (&json!("/v1/chat/completions"), &json!("HTTP/1.1")));
    assert!(first["headers"].as_array().unwrap().contains(&json!(["Host", "sim"])));
    assert!(first["body"].as_str().unwrap().starts_with("{\"model\":\"gpt-4o\""));
    call(control, "DELETE /backends/openai/requests", "").await;
    let (_, body) = call(control, "GET /backends/openai/requests", "").await;
    assert_eq!(body["requests"], json!([]));
    let (_, body) = call(control, "GET /backends/openai/requests?after=2&wait=1", "").await;
    assert_eq!(body["requests"], json!([]));
    let (_, counts) = call(control, "GET /backends/openai/counts", "").await;
    assert_eq!((&counts["requests"], &counts["statuses"]["200"]), (&json!(2), &json!(2)));
    simulator.stop().await;
}

#[actix::test]
async fn settings_presets_reset_and_health() {
    let simulator = simulator().await;
    let control = simulator.control();
    let (_, settings) = call(control, "PATCH /backends/openai/settings", r#"{"words":2}"#).await;
    assert_eq!((&settings["words"], &settings["strict"]), (&json!(2), &json!(true)));
    let address = simulator.address("openai").unwrap();
    assert_eq!(ask(address, &chat("")).await.json()["usage"]["completion_tokens"], 2);
    let (_, body) = call(control, "PUT /backends/openai/preset/azure_429_burst", "").await;
    assert_eq!(body["rules"][0]["count"], 20);
    let got = ask(address, &chat("")).await;
    assert_eq!((got.status(), got.header("retry-after-ms").as_deref()), (Some(429), Some("1650")));
    let (_, backends) = call(control, "GET /backends", "").await;
    let names: Vec<_> = backends.as_array().unwrap().iter().map(|backend| &backend["name"]).collect();
    assert_eq!(names, ["openai", "azure", "compat"]);
    assert_eq!(backends[0]["address"], address.to_string());
    call(control, "POST /reset", "").await;
    let (_, openai) = call(control, "GET /backends/openai", "").await;
    assert_eq!(
        (&openai["settings"]["words"], &openai["rules"], &openai["counts"]["requests"]),
        (&json!(16), &json!([]), &json!(0))
    );
    let (_, health) = call(control, "GET /health", "").await;
    assert_eq!(health, json!({"status": "ok", "backends": 3}));
    simulator.stop().await;
}

#[actix::test]
async fn long_journals_come_in_pages() {
    let simulator = simulator().await;
    let mut client = Client::connect(simulator.address("openai").unwrap()).await;
    for _ in 0..1001 {
        client.ask(&chat(r#","max_tokens":1"#)).await;
    }
    let (_, page) = call(simulator.control(), "GET /backends/openai/requests", "").await;
    let requests = page["requests"].as_array().unwrap();
    assert_eq!((requests.len(), &page["has_more"]), (1000, &json!(true)));
    let (_, page) = call(simulator.control(), "GET /backends/openai/requests?after=1000", "").await;
    let numbers: Vec<_> = page["requests"].as_array().unwrap().iter().map(|request| &request["sequence"]).collect();
    assert_eq!((numbers, &page["has_more"]), (vec![&json!(1001)], &json!(false)));
    simulator.stop().await;
}
