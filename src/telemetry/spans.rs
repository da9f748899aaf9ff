//! Spans as OTLP/HTTP wants them in its JSON encoding (<https://opentelemetry.io/docs/specs/otlp/>), and the names of what
//! they say. No other file holds an attribute's name.

use std::time::Duration;

use serde_json::{Value, json};

use super::trace_context::{SpanId, TraceContext};

/// The version of the semantic conventions that the names follow; those for GenAI are still in development.
const SCHEMA: &str = "https://opentelemetry.io/schemas/1.38.0";

pub(crate) const HTTP_METHOD: &str = "http.request.method";
pub(crate) const HTTP_ROUTE: &str = "http.route";
pub(crate) const HTTP_STATUS: &str = "http.response.status_code";
pub(crate) const ERROR_TYPE: &str = "error.type";
pub(crate) const SERVER_ADDRESS: &str = "server.address";
pub(crate) const SERVER_PORT: &str = "server.port";
pub(crate) const GEN_AI_OPERATION: &str = "gen_ai.operation.name";
pub(crate) const GEN_AI_PROVIDER: &str = "gen_ai.provider.name";
pub(crate) const GEN_AI_MODEL: &str = "gen_ai.request.model";
pub(crate) const GEN_AI_INPUT_TOKENS: &str = "gen_ai.usage.input_tokens";
pub(crate) const GEN_AI_OUTPUT_TOKENS: &str = "gen_ai.usage.output_tokens";
pub(crate) const GEN_AI_CACHED_TOKENS: &str = "gen_ai.usage.cache_read.input_tokens";
pub(crate) const ROUTE: &str = "breakwater.route";
pub(crate) const OUTCOME: &str = "breakwater.outcome";
pub(crate) const ATTEMPTS: &str = "breakwater.attempts";
pub(crate) const OVERHEAD_MS: &str = "breakwater.overhead_ms";
pub(crate) const QUEUE_MS: &str = "breakwater.queue_ms";
pub(crate) const REQUEST_ID: &str = "breakwater.request_id";
pub(crate) const BACKEND: &str = "breakwater.backend";
pub(crate) const KIND: &str = "breakwater.kind";
pub(crate) const TIER: &str = "breakwater.tier";
pub(crate) const REASON: &str = "breakwater.reason";

/// Who a span is to its neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// It serves a request.
    Server,
    /// It calls another.
    Client,
}

/// One span.
#[derive(Clone, Debug)]
pub struct Span<'a> {
    /// The trace.
    pub trace: &'a TraceContext,
    /// Its own id.
    pub id: SpanId,
    /// Whose child it is; empty for nobody's.
    pub parent: &'a str,
    /// What it does, without anything of a single request.
    pub name: String,
    /// Who it is.
    pub side: Side,
    /// Its begin, since the epoch.
    pub start: Duration,
    /// Its end.
    pub end: Duration,
    /// Made by [`text`] and its like.
    pub attributes: Vec<Value>,
    /// Made by [`event`].
    pub events: Vec<Value>,
    /// Whether it went wrong.
    pub is_error: bool,
}

impl Span<'_> {
    /// Its OTLP form.
    pub fn to_json(&self) -> Value {
        let mut span = json!({
            "traceId": self.trace.trace_id(),
            "spanId": self.id.as_str(),
            "name": self.name,
            "kind": match self.side { Side::Server => 2, Side::Client => 3 },
            "startTimeUnixNano": self.start.as_nanos().to_string(),
            "endTimeUnixNano": self.end.as_nanos().to_string(),
            "attributes": self.attributes,
        });
        if !self.parent.is_empty() {
            span["parentSpanId"] = self.parent.into();
        }
        if !self.events.is_empty() {
            span["events"] = self.events.clone().into();
        }
        if self.is_error {
            span["status"] = json!({"code": 2});
        }
        span
    }
}

/// An attribute that is a text.
pub fn text(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

/// An attribute that is a whole number.
pub fn number(key: &str, value: u64) -> Value {
    json!({"key": key, "value": {"intValue": value.to_string()}})
}

/// An attribute that is a time in milliseconds.
pub fn millis(key: &str, value: Duration) -> Value {
    json!({"key": key, "value": {"doubleValue": value.as_micros() as f64 / 1e3}})
}

/// Something that happened within a span.
pub fn event(name: &str, at: Duration, attributes: Vec<Value>) -> Value {
    json!({"name": name, "timeUnixNano": at.as_nanos().to_string(), "attributes": attributes})
}

/// The body of one export.
pub fn export(service: &str, instance: &str, spans: Vec<Value>) -> Value {
    let version = env!("CARGO_PKG_VERSION");
    let resource =
        [text("service.name", service), text("service.version", version), text("service.instance.id", instance)];
    json!({"resourceSpans": [{
        "resource": {"attributes": resource},
        "scopeSpans": [{"scope": {"name": "breakwater", "version": version}, "schemaUrl": SCHEMA, "spans": spans}],
    }]})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_in_its_json_form() {
        let trace = TraceContext::parse(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
        let id = SpanId::new(&mut fastrand::Rng::with_seed(1));
        let span = Span {
            trace: &trace,
            id,
            parent: trace.parent_id().unwrap(),
            name: "chat m".to_owned(),
            side: Side::Client,
            start: Duration::new(1_795_737_600, 1),
            end: Duration::new(1_795_737_601, 0),
            attributes: vec![text("a", "b"), number("n", u64::MAX), millis("t", Duration::from_micros(1_500))],
            events: vec![event("e", Duration::from_nanos(7), vec![text("x", "y")])],
            is_error: true,
        };
        let expected = json!({
            "traceId": "4bf92f3577b34da6a3ce929d0e0e4736", "spanId": id.as_str(), "parentSpanId": "00f067aa0ba902b7",
            "name": "chat m", "kind": 3,
            "startTimeUnixNano": "1795737600000000001", "endTimeUnixNano": "1795737601000000000",
            "attributes": [
                {"key": "a", "value": {"stringValue": "b"}},
                {"key": "n", "value": {"intValue": "18446744073709551615"}},
                {"key": "t", "value": {"doubleValue": 1.5}},
            ],
            "events": [{"name": "e", "timeUnixNano": "7", "attributes": [{"key": "x", "value": {"stringValue": "y"}}]}],
            "status": {"code": 2},
        });
        assert_eq!(span.to_json(), expected);
        let plain = Span { parent: "", events: Vec::new(), is_error: false, ..span }.to_json();
        assert!(["parentSpanId", "events", "status"].iter().all(|key| plain.get(key).is_none()), "{plain}");
    }
}
