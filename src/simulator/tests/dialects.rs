//! What healthy backends answer, dialect by dialect.

use serde_json::{Value, json};

use super::client::{self, Client, Closing, ask, chat, post};
use super::simulator;

fn azure(operation: &str, body: &str) -> String {
    let target = format!("/openai/deployments/gpt-4o-azure-prod/{operation}?api-version=2024-10-21");
    client::request("POST", &target, "api-key: azure-key\r\n", body)
}

const MESSAGES: &str = r#""messages":[{"role":"user","content":"hello"}]"#;

#[actix::test]
async fn chat_answers_numbered_words() {
    let simulator = simulator().await;
    let got = ask(simulator.address("openai").unwrap(), &chat(r#","max_tokens":3"#)).await;
    assert_eq!((got.status(), got.closing), (Some(200), Closing::Open));
    let body = got.json();
    assert_eq!(body["choices"][0]["message"]["content"], "openai:0 openai:1 openai:2");
    assert_eq!(body["model"], "gpt-4o-2024-08-06");
    assert_eq!(body["usage"]["prompt_tokens"], 2);
    assert_eq!(body["usage"]["total_tokens"], 5);
    for name in ["x-request-id", "openai-processing-ms", "openai-version", "set-cookie"] {
        assert!(got.header(name).is_some(), "{name}");
    }
    assert_eq!(got.header("x-ratelimit-remaining-requests").as_deref(), Some("9999"));
    simulator.stop().await;
}

#[actix::test]
async fn streams_begin_with_the_role_and_end_with_done() {
    let simulator = simulator().await;
    let address = simulator.address("openai").unwrap();
    let got = ask(address, &chat(r#","max_tokens":3,"stream":true"#)).await;
    assert_eq!(got.header("content-type").as_deref(), Some("text/event-stream; charset=utf-8"));
    assert_eq!(got.streamed(), "openai:0 openai:1 openai:2");
    let data = got.data();
    assert_eq!(data.len(), 6);
    assert!(data[0].contains(r#""delta":{"role":"assistant","content":"""#));
    assert!(data[4].contains(r#""finish_reason":"stop""#));
    assert_eq!(data[5], "[DONE]");
    assert!(!got.text().contains("usage"));

    let got = ask(address, &chat(r#","max_tokens":3,"stream":true,"stream_options":{"include_usage":true}"#)).await;
    let data = got.data();
    assert!(data[1].contains(r#""usage":null"#));
    let last: Value = serde_json::from_str(&data[5]).unwrap();
    assert_eq!((&last["choices"], &last["usage"]["completion_tokens"]), (&json!([]), &json!(3)));
    simulator.stop().await;
}

#[actix::test]
async fn azure_has_its_paths_headers_and_filter_chunks() {
    let simulator = simulator().await;
    let address = simulator.address("azure").unwrap();
    let got =
        ask(address, &azure("chat/completions", &format!(r#"{{"max_tokens":2,"stream":true,{MESSAGES}}}"#))).await;
    assert_eq!((got.status(), got.streamed().as_str()), (Some(200), "azure:0 azure:1"));
    assert!(got.data()[0].contains("prompt_filter_results"));
    assert!(got.header("apim-request-id").is_some() && got.header("x-ms-region").is_some());

    simulator.patch_settings("azure", json!({"annotations": true, "empty_ids": true, "prompt_filter": false})).unwrap();
    let got =
        ask(address, &azure("chat/completions", &format!(r#"{{"max_tokens":2,"stream":true,{MESSAGES}}}"#))).await;
    let data = got.data();
    assert!(data.iter().all(|data| data == "[DONE]" || data.contains(r#""id":"""#)));
    let annotations: Vec<_> = (0..data.len()).filter(|&index| data[index].contains("content_filter_offsets")).collect();
    let stop = data.iter().position(|data| data.contains(r#""finish_reason":"stop""#)).unwrap();
    assert!(matches!(annotations[..], [middle, after] if middle < stop && stop < after), "{data:?}");
    simulator.stop().await;
}

#[actix::test]
async fn refusals_have_the_shape_of_their_provider() {
    let simulator = simulator().await;
    simulator.patch_settings("openai", json!({"keys": ["sk-test"], "reject_stream_options": true})).unwrap();
    let v1 = "/v1/chat/completions";
    let body = format!(r#"{{"model":"gpt-4o",{MESSAGES}}}"#);
    let keyless = |target: &str| client::request("POST", target, "", &body);
    let dated = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21";
    let table = [
        ("openai", post("/v1/chat", &body), 404, "Invalid URL"),
        ("openai", client::request("GET", v1, "authorization: Bearer sk-test\r\n", ""), 405, "Not allowed"),
        ("openai", keyless(v1), 401, "API key"),
        ("openai", client::request("POST", v1, "authorization: Bearer sk-x\r\n", &body), 401, "invalid_api_key"),
        ("openai", post(v1, &body.replace("gpt-4o", "gpt-4-router")), 404, "model_not_found"),
        ("openai", post(v1, &body.replace(r#""model":"gpt-4o","#, "")), 400, "you must provide a model"),
        ("openai", post(v1, &body.replace(MESSAGES, r#""n":1"#)), 400, "Missing required parameter: 'messages'"),
        ("openai", post(v1, &body.replace(MESSAGES, &format!(r#"{MESSAGES},"mock_x":1"#))), 400, "mock_x"),
        (
            "openai",
            post(v1, &body.replace(MESSAGES, &format!(r#"{MESSAGES},"stream_options":{{}}"#))),
            400,
            "stream_opt",
        ),
        ("openai", post(v1, "{"), 400, "could not parse"),
        ("azure", keyless(dated), 401, "invalid subscription key"),
        ("azure", post(&dated.replace("gpt-4o", "nope"), &body), 404, "DeploymentNotFound"),
        ("azure", post("/openai/deployments/gpt-4o/chat/completions", &body), 404, "Resource not found"),
        ("azure", post(dated, &body), 200, "azure:0"),
        ("azure", post("/openai/v1/chat/completions", &body), 200, "azure:0"),
        ("compat", keyless(v1), 200, "compat:0"),
        ("compat", post(v1, &body.replace("gpt-4o", "qwen")), 200, "qwen"),
    ];
    for (backend, request, status, part) in table {
        let got = ask(simulator.address(backend).unwrap(), &request).await;
        assert_eq!(got.status(), Some(status), "{request}");
        assert!(got.text().contains(part), "{part}: {}", got.text());
    }
    simulator.stop().await;
}

#[actix::test]
async fn tools_and_schemas_are_answered_in_kind() {
    let simulator = simulator().await;
    let address = simulator.address("openai").unwrap();
    let tools = r#","tools":[{"type":"function","function":{"name":"weather","parameters":{"type":"object","properties":{"city":{"type":"string"},"days":{"type":"integer"}}}}}]"#;
    let got = ask(address, &chat(tools)).await.json();
    let call = &got["choices"][0]["message"]["tool_calls"][0]["function"];
    assert_eq!((&call["name"], &got["choices"][0]["finish_reason"]), (&json!("weather"), &json!("tool_calls")));
    let arguments: Value = serde_json::from_str(call["arguments"].as_str().unwrap()).unwrap();
    assert_eq!(arguments["days"], 1);

    let got = ask(address, &chat(&format!(r#"{tools},"stream":true"#))).await;
    let pieces = got.data().into_iter().filter_map(|data| serde_json::from_str::<Value>(&data).ok());
    let streamed: String = pieces
        .filter_map(|chunk| {
            Some(chunk["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"].as_str()?.to_owned())
        })
        .collect();
    assert_eq!(serde_json::from_str::<Value>(&streamed).unwrap(), arguments);

    let schema = r#","response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{"properties":{"ok":{"type":"boolean"}}}}}"#;
    let got = ask(address, &chat(schema)).await.json();
    assert_eq!(got["choices"][0]["message"]["content"], r#"{"ok":true}"#);
    simulator.stop().await;
}

#[actix::test]
async fn responses_are_numbered_stored_and_deleted() {
    let simulator = simulator().await;
    let address = simulator.address("openai").unwrap();
    let body = r#"{"model":"gpt-4o","input":"hi","max_output_tokens":2,"stream":true}"#;
    let got = ask(address, &post("/v1/responses", body)).await;
    assert_eq!(got.streamed(), "openai:0 openai:1");
    let events: Vec<Value> = got.data().iter().map(|data| serde_json::from_str(data).unwrap()).collect();
    let kinds: Vec<_> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(
        kinds[..4],
        ["response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"]
    );
    assert_eq!(kinds.last(), Some(&"response.completed"));
    let numbers: Vec<_> = events.iter().map(|event| event["sequence_number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..events.len() as u64).collect::<Vec<_>>());
    assert_eq!(events.last().unwrap()["response"]["usage"]["output_tokens"], 2);

    let id = events[0]["response"]["id"].as_str().unwrap();
    let by_id = |method| client::request(method, &format!("/v1/responses/{id}"), "authorization: Bearer k\r\n", "");
    for (method, status) in [("GET", 200), ("DELETE", 200), ("GET", 404)] {
        assert_eq!(ask(address, &by_id(method)).await.status(), Some(status), "{method}");
    }

    simulator.patch_settings("azure", json!({"responses_error": true})).unwrap();
    let target = "/openai/responses?api-version=2025-04-01-preview";
    let got = ask(simulator.address("azure").unwrap(), &post(target, body)).await;
    assert_eq!((got.status(), got.header("retry-after").as_deref()), (Some(200), Some("4")));
    assert_eq!(got.header("x-ratelimit-remaining-tokens").as_deref(), Some("-27689"));
    assert!(got.text().contains("event: error") && got.text().contains("event: response.failed"));
    simulator.stop().await;
}

#[actix::test]
async fn the_smaller_operations_have_their_shapes() {
    let simulator = simulator().await;
    let address = simulator.address("openai").unwrap();
    let key = "authorization: Bearer k\r\n";
    let get = |target: &str| client::request("GET", target, key, "");
    let form = |target: &str, fields: &[(&str, &str)]| {
        let part = |(name, value): &(&str, &str)| {
            let file = if *name == "file" { "; filename=\"a\"" } else { "" };
            format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n{value}\r\n")
        };
        let body = fields.iter().map(part).collect::<String>() + "--b--\r\n";
        client::request("POST", target, &format!("{key}content-type: multipart/form-data; boundary=b\r\n"), &body)
    };
    let table = [
        (post("/v1/completions", r#"{"model":"gpt-3.5-turbo-instruct","prompt":"a","max_tokens":1}"#), "openai:0"),
        (
            post("/v1/completions", r#"{"model":"gpt-4o","prompt":"a","max_tokens":1,"stream":true}"#),
            "\"text\":\"openai:0",
        ),
        (post("/v1/embeddings", r#"{"model":"text-embedding-3-small","input":"a","dimensions":2}"#), "\"embedding\":["),
        (
            post("/v1/embeddings", r#"{"model":"text-embedding-3-small","input":["a"],"encoding_format":"base64"}"#),
            "\"embedding\":\"",
        ),
        (post("/v1/moderations", r#"{"input":"a"}"#), "\"flagged\":false"),
        (post("/v1/images/generations", r#"{"model":"gpt-image-1","prompt":"a"}"#), "b64_json"),
        (post("/v1/audio/speech", r#"{"model":"tts-1","input":"a b","voice":"alloy"}"#), "\0\0"),
        (form("/v1/audio/transcriptions", &[("file", "x"), ("model", "whisper-1")]), "{\"text\":\"openai:0"),
        (get("/v1/models"), "\"id\":\"gpt-4o\""),
        (get("/v1/models/gpt-4o-mini"), "\"owned_by\":\"openai\""),
        (form("/v1/files", &[("purpose", "batch"), ("file", "{}")]), "\"bytes\":2"),
    ];
    let mut client = Client::connect(address).await;
    for (request, part) in &table {
        let got = client.ask(request).await;
        assert_eq!(got.status(), Some(200), "{request}: {}", got.text());
        assert!(got.text().contains(part), "{part}: {}", got.text());
    }
    let file = client.ask(&get("/v1/files")).await.json()["data"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(client.ask(&get(&format!("/v1/files/{file}/content"))).await.text(), "{}");
    let batch = format!(r#"{{"input_file_id":"{file}","endpoint":"/v1/chat/completions","completion_window":"24h"}}"#);
    let batch = client.ask(&post("/v1/batches", &batch)).await.json()["id"].as_str().unwrap().to_owned();
    let cancelled = client.ask(&post(&format!("/v1/batches/{batch}/cancel"), "")).await;
    assert_eq!(cancelled.json()["status"], "cancelling");
    assert_eq!(simulator.counts("openai").connections, 1);
    simulator.stop().await;
}
