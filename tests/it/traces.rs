//! Traces: the caller's goes on to the provider, and where a collector is named, a request and its attempts become spans of it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use breakwater::simulator::{CutAt, Fault};
use serde_json::{Value, json};

use crate::support::{Ask, Gateway, Providers, Scrape, status, wait_for};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// A collector that keeps every span it is sent.
struct Collector {
    address: SocketAddr,
    spans: Arc<Mutex<Vec<Value>>>,
}

impl Collector {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let spans = Arc::<Mutex<Vec<Value>>>::default();
        let kept = Arc::clone(&spans);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                serve(stream, &kept);
            }
        });
        Self { address, spans }
    }

    fn yaml(&self, more: &str) -> String {
        format!("telemetry: {{otlp_endpoint: 'http://{}', sample_ratio: 0{more}}}\n", self.address)
    }

    /// Waits for so many spans of requests, each with those of its attempts.
    fn wait(&self, requests: usize) -> Vec<Value> {
        wait_for("the spans", || {
            let spans = self.spans.lock().unwrap().clone();
            (spans.iter().filter(|span| span["kind"] == 2).count() == requests).then_some(spans)
        })
    }
}

fn serve(mut stream: TcpStream, kept: &Mutex<Vec<Value>>) {
    let mut buffer = Vec::new();
    loop {
        let head = loop {
            if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            if !read(&mut stream, &mut buffer) {
                return;
            }
        };
        let text = String::from_utf8_lossy(&buffer[..head]).to_ascii_lowercase();
        assert!(text.starts_with("post /v1/traces http/1.1\r\n"), "{text}");
        assert!(text.contains("content-type: application/json\r\n"), "{text}");
        let length =
            text.split_once("content-length: ").unwrap().1.split("\r\n").next().unwrap().parse::<usize>().unwrap();
        while buffer.len() < head + length {
            assert!(read(&mut stream, &mut buffer), "a cut export");
        }
        let export: Value = serde_json::from_slice(&buffer[head..head + length]).unwrap();
        buffer.drain(..head + length);
        let resource = &export["resourceSpans"][0];
        assert_eq!(
            resource["resource"]["attributes"][0],
            json!({"key": "service.name", "value": {"stringValue": "breakwater"}})
        );
        kept.lock().unwrap().extend(resource["scopeSpans"][0]["spans"].as_array().unwrap().iter().cloned());
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").unwrap();
    }
}

fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> bool {
    let mut piece = [0; 4096];
    match stream.read(&mut piece) {
        Ok(read) if 0 < read => {
            buffer.extend_from_slice(&piece[..read]);
            true
        }
        Ok(_) | Err(_) => false,
    }
}

/// The value of an attribute, whatever its type.
fn attribute<'a>(span: &'a Value, key: &str) -> &'a Value {
    let found = span["attributes"].as_array().unwrap().iter().find(|attribute| attribute["key"] == key);
    found.map_or(&Value::Null, |found| found["value"].as_object().unwrap().values().next().unwrap())
}

fn traced(ask: Ask, flags: &str) -> Ask {
    ask.header("traceparent", &format!("00-{TRACE}-{CALLER}-{flags}"))
}

#[test]
fn a_failed_over_request_is_one_span_with_one_below_it_for_each_attempt() {
    let (providers, collector) = (Providers::pair(), Collector::start());
    let gateway = Gateway::start(providers.yaml(&collector.yaml("")));
    providers.fault("openai", status(503));
    gateway.ask(&traced(Ask::chat("r"), "01"));
    // Neither its caller nor the dice want these.
    gateway.ask(&traced(Ask::chat("r"), "00"));
    gateway.ask(&Ask::chat("r"));
    let unsampled = providers.requests("azure");
    gateway.signal("TERM");
    let spans = collector.wait(1);
    assert_eq!(spans.len(), 3, "{spans:?}");
    let (request, failed, served) = (&spans[0], &spans[1], &spans[2]);
    assert!(spans.iter().all(|span| span["traceId"] == TRACE), "{spans:?}");
    assert_eq!((&request["parentSpanId"], &request["name"]), (&json!(CALLER), &json!("POST /v1/chat/completions")));
    for (key, value) in [
        ("http.request.method", json!("POST")),
        ("http.route", json!("/v1/chat/completions")),
        ("http.response.status_code", json!("200")),
        ("breakwater.route", json!("r")),
        ("breakwater.outcome", json!("success")),
        ("breakwater.attempts", json!("2")),
        ("error.type", Value::Null),
    ] {
        assert_eq!(*attribute(request, key), value, "{key} of {request}");
    }
    for (attempt, backend, kind, error) in
        [(failed, "openai", "first", json!("service_unavailable_error")), (served, "azure", "failover", Value::Null)]
    {
        assert_eq!((&attempt["parentSpanId"], &attempt["kind"]), (&request["spanId"], &json!(3)), "{attempt}");
        let told = [
            attribute(attempt, "breakwater.backend"),
            attribute(attempt, "breakwater.kind"),
            attribute(attempt, "error.type"),
        ];
        assert_eq!(told, [&json!(backend), &json!(kind), &error], "{attempt}");
        assert_eq!(attempt["status"]["code"] == 2, !error.is_null(), "{attempt}");
    }
    assert_eq!(attribute(served, "gen_ai.provider.name"), "azure.ai.openai");
    assert_eq!(
        (attribute(served, "gen_ai.operation.name"), attribute(served, "gen_ai.usage.output_tokens")),
        (&json!("chat"), &json!("16"))
    );
    // Each provider was told the attempt's own span as its parent, and of untraced requests what the client had said.
    for (backend, attempt) in [("openai", failed), ("azure", served)] {
        let parent = format!("00-{TRACE}-{}-01", attempt["spanId"].as_str().unwrap());
        let told = providers.requests(backend);
        assert_eq!(told[0].header("traceparent"), Some(parent.as_str()), "{backend}");
    }
    let passed: Vec<Option<&str>> = unsampled[1..].iter().map(|request| request.header("traceparent")).collect();
    assert_eq!(passed, [Some(format!("00-{TRACE}-{CALLER}-00").as_str()), None]);
    let text = serde_json::to_string(&spans).unwrap();
    assert!(!text.contains("hello") && !text.contains("key-openai"), "neither prompts nor keys: {text}");
}

#[test]
fn a_broken_stream_and_a_client_that_left_are_told_apart() {
    let (providers, collector) = (Providers::pair(), Collector::start());
    let gateway = Gateway::start(providers.yaml(&collector.yaml("")));
    providers.fault("openai", Fault::Reset(CutAt::AfterEvents(3)));
    gateway.ask(&traced(Ask::stream("r"), "01"));
    providers.fault("openai", Fault::Hang(breakwater::simulator::HangAt::BeforeHeaders));
    let mut client = gateway.connect();
    client.send(&traced(Ask::chat("r"), "01"));
    wait_for("the call", || (providers.calls("openai") == 2).then_some(()));
    drop(client);
    let spans = collector.wait(2);
    let of = |scrape: &Scrape, result| scrape.sum("breakwater_trace_spans_total", &[("result", result)]);
    let scrape = gateway.wait_scrape("the count of what was sent", |scrape| of(scrape, "exported") == 4.0);
    assert_eq!((of(&scrape, "failed"), of(&scrape, "dropped")), (0.0, 0.0));
    let of = |outcome: &str| {
        let request = spans.iter().find(|span| attribute(span, "breakwater.outcome") == outcome).unwrap();
        let attempt = spans.iter().find(|span| span["parentSpanId"] == request["spanId"]).unwrap();
        (request, attempt)
    };
    let (request, attempt) = of("stream_error");
    assert_eq!((attribute(request, "error.type"), &request["status"]["code"]), (&json!("stream_error"), &json!(2)));
    assert_eq!(attribute(attempt, "error.type"), "api_connection_error", "{attempt}");
    let (request, attempt) = of("client_closed");
    assert_eq!((&request["status"], attribute(attempt, "error.type")), (&Value::Null, &json!("cancelled")));
    assert_eq!(spans.len() as f64, 4.0);
}

#[test]
fn a_collector_that_is_not_there_costs_spans_and_nothing_else() {
    let providers = Providers::pair();
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let yaml = providers.yaml(&format!("telemetry: {{otlp_endpoint: 'http://{gone}', sample_ratio: 1}}\n"));
    let mut gateway = Gateway::start(yaml);
    assert_eq!(gateway.ask(&Ask::chat("r")).status(), 200);
    let line = &gateway.wait_lines(1)[0];
    assert_eq!(line["trace_id"].as_str().map(str::len), Some(32), "a new trace is told in the log: {line}");
    gateway.signal("TERM");
    assert!(gateway.wait_exit().success());
    assert_eq!(gateway.wait_event("spans lost")["count"], 2);
}
