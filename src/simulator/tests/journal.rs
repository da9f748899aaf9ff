//! What is recorded: bytes as sent, connections, endings.

use serde_json::json;

use super::client::{Client, PATIENCE, ask, chat};
use super::simulator;
use crate::simulator::Ended;

#[actix::test]
async fn requests_are_kept_as_they_came() {
    let simulator = simulator().await;
    let mut client = Client::connect(simulator.address("openai").unwrap()).await;
    let body = r#"{ "model" : "gpt-4o","messages":[]}"#;
    let head = "POST /v1/chat/completions?a=%20b HTTP/1.1\r\nHOST: x\r\nauthorization: Bearer sk-9\r\nX-Twice: 1\r\nx-twice: 2\r\n";
    client.ask(&format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())).await;
    let chunked = format!(
        "{head}Transfer-Encoding: chunked\r\n\r\n5\r\n{}\r\n{:x};x=y\r\n{}\r\n0\r\n\r\n",
        &body[..5],
        body.len() - 5,
        &body[5..]
    );
    client.ask(&chunked).await;
    let counts = simulator.wait_for("openai", 2, PATIENCE).await.unwrap();
    assert_eq!((counts.connections, counts.complete, counts.statuses[&200]), (1, 2, 2));
    let records = simulator.requests("openai");
    let places: Vec<_> =
        records.iter().map(|record| (record.sequence, record.connection, record.request_on_connection)).collect();
    assert_eq!(places, [(1, 1, 1), (2, 1, 2)]);
    for record in &records {
        assert_eq!((record.method.as_str(), record.target.as_str()), ("POST", "/v1/chat/completions?a=%20b"));
        assert_eq!((record.body(), record.version, record.status), (body.as_bytes(), 1, Some(200)));
        let names: Vec<_> = record.headers.iter().take(4).map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["HOST", "authorization", "X-Twice", "x-twice"]);
        assert!(record.times.accept <= record.times.head && record.times.head <= record.times.body_end);
        assert!(record.times.first_byte <= record.times.end);
    }
    simulator.stop().await;
}

#[actix::test]
async fn expectations_are_met_before_the_body() {
    let simulator = simulator().await;
    let mut client = Client::connect(simulator.address("compat").unwrap()).await;
    let body = r#"{"model":"m","messages":[]}"#;
    client
        .send(&format!(
            "POST /v1/chat/completions HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
            body.len()
        ))
        .await;
    client.read_until(b"HTTP/1.1 100 Continue\r\n\r\n").await;
    client.send(body).await;
    client.read_until(b"compat:0").await;
    simulator.stop().await;
}

#[actix::test]
async fn what_is_no_request_is_counted_and_answered() {
    let simulator = simulator().await;
    let address = simulator.address("openai").unwrap();
    for request in ["nonsense\r\n\r\n", "POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n"] {
        let mut client = Client::connect(address).await;
        client.send(request).await;
        client.read_until(b"HTTP/1.1 400").await;
    }
    let mut client = Client::connect(address).await;
    client.send("POST / HTTP/1.1\r\ncontent-length: 99999999\r\n\r\n").await;
    client.read_until(b"HTTP/1.1 413").await;
    assert_eq!(simulator.counts("openai").broken_requests, 3);
    assert!(simulator.requests("openai").is_empty());
    simulator.stop().await;
}

#[actix::test]
async fn a_client_that_leaves_mid_stream_is_seen() {
    let simulator = simulator().await;
    simulator.patch_settings("openai", json!({"tokens_per_second": 20, "words": 1000})).unwrap();
    let mut client = Client::connect(simulator.address("openai").unwrap()).await;
    client.send(&chat(r#","stream":true"#)).await;
    client.read_until(b"openai:1").await;
    drop(client);
    let counts = simulator.wait_for("openai", 1, PATIENCE).await.unwrap();
    assert_eq!(counts.client_closed, 1);
    let record = &simulator.requests("openai")[0];
    assert_eq!(record.ended, Some(Ended::ClientClosed));
    assert!(record.events < 100, "{}", record.events);
    simulator.stop().await;
}

#[actix::test]
async fn stopping_and_resetting_settle_what_is_under_way() {
    let simulator = simulator().await;
    let address = simulator.address("openai").unwrap();
    simulator
        .set_rules("openai", vec![serde_json::from_value(json!({"fault": {"hang": "after_headers"}})).unwrap()])
        .unwrap();
    let mut client = Client::connect(address).await;
    client.send(&chat("")).await;
    client.read_until(b"\r\n\r\n").await;
    simulator.reset().unwrap();
    drop(client);
    ask(address, &chat("")).await;
    let counts = simulator.wait_for("openai", 1, PATIENCE).await.unwrap();
    assert_eq!(
        (counts.requests, counts.ended, counts.client_closed),
        (1, 1, 0),
        "what began before a reset does not count"
    );
    let mut client = Client::connect(address).await;
    simulator.stop().await;
    assert_eq!(client.read_to_end().await.bytes.len(), 0);
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[actix::test]
async fn recording_can_be_switched_off() {
    let simulator = simulator().await;
    simulator.patch_settings("openai", json!({"record": false})).unwrap();
    ask(simulator.address("openai").unwrap(), &chat("")).await;
    let counts = simulator.wait_for("openai", 1, PATIENCE).await.unwrap();
    assert_eq!((counts.requests, simulator.requests("openai").len()), (1, 0));
    let problem = simulator.wait_for("openai", 2, std::time::Duration::ZERO).await.unwrap_err();
    assert!(problem.contains("1 of 2"), "{problem}");
    simulator.stop().await;
}
