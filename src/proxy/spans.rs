//! What a finished request says of itself as spans: one of its own, and one below it for each attempt (spec/observability.md
//! 3). Nothing of a prompt, of an answer or of a credential.

use std::time::Duration;

use serde_json::Value;

use super::record::Record;
use crate::clock::{self, Instant};
use crate::config::Provider;
use crate::telemetry::labels::{Endpoint, Label as _, RequestOutcome};
use crate::telemetry::spans::{self, Side, Span, event, millis, number, text};
use crate::telemetry::tracer::{AttemptEnd, AttemptTrace, RequestTrace};

/// What happened, as of its end.
pub(super) struct Ended {
    pub(super) outcome: RequestOutcome,
    pub(super) at: Instant,
    pub(super) status: u16,
    pub(super) head_at: Option<Instant>,
    pub(super) overhead: Option<Duration>,
}

/// All spans of a request.
pub(super) fn of(record: &Record, trace: &RequestTrace, ended: &Ended) -> Vec<Value> {
    let unix = clock::unix_now();
    let date = |at: Instant| unix.saturating_sub(ended.at.since(at));
    let attempts = trace.attempts.iter().map(|attempt| of_attempt(record, trace, attempt, ended, date));
    std::iter::once(of_request(record, trace, ended, date)).chain(attempts).collect()
}

fn of_request(record: &Record, trace: &RequestTrace, ended: &Ended, date: impl Fn(Instant) -> Duration) -> Value {
    let path = template(record.endpoint);
    let mut attributes = vec![
        text(spans::HTTP_METHOD, record.method.as_str()),
        text(spans::HTTP_ROUTE, path),
        number(spans::HTTP_STATUS, ended.status.into()),
        text(spans::OUTCOME, ended.outcome.name()),
        number(spans::ATTEMPTS, trace.attempts.len() as u64),
        text(spans::REQUEST_ID, &record.id),
    ];
    if let Some(route) = &record.route {
        attributes.push(text(spans::ROUTE, route.config.name.as_str()));
    }
    attributes.extend(ended.overhead.map(|overhead| millis(spans::OVERHEAD_MS, overhead)));
    if !record.queued.is_zero() {
        attributes.push(millis(spans::QUEUE_MS, record.queued));
    }
    let is_error = ended.outcome.is_bad();
    if is_error {
        attributes.push(text(spans::ERROR_TYPE, ended.outcome.name()));
    }
    let start = date(record.started());
    let skipped = record.passed_over.iter().map(|(backend, reason)| {
        let why = vec![text(spans::BACKEND, backend.as_str()), text(spans::REASON, reason.name())];
        event("candidate skipped", start, why)
    });
    let committed = ended.head_at.map(|at| event("committed", date(at), Vec::new()));
    let span = Span {
        trace: &trace.context,
        id: trace.span,
        parent: trace.context.parent_id().unwrap_or_default(),
        name: format!("{} {path}", record.method),
        side: Side::Server,
        start,
        end: date(ended.at),
        attributes,
        events: skipped.chain(committed).collect(),
        is_error,
    };
    span.to_json()
}

fn of_attempt(
    record: &Record,
    trace: &RequestTrace,
    attempt: &AttemptTrace,
    ended: &Ended,
    date: impl Fn(Instant) -> Duration,
) -> Value {
    let backend = &attempt.backend;
    let operation = operation(record.endpoint);
    let mut attributes = vec![
        text(spans::GEN_AI_OPERATION, operation),
        text(spans::GEN_AI_PROVIDER, provider(&backend.provider)),
        text(spans::GEN_AI_MODEL, &backend.upstream_model),
        text(spans::SERVER_ADDRESS, &backend.base_url.host),
        number(spans::SERVER_PORT, backend.base_url.port.into()),
        text(spans::BACKEND, backend.id.as_str()),
        text(spans::KIND, attempt.kind.name()),
        number(spans::TIER, attempt.tier as u64),
    ];
    let (mut end, mut error) = (ended.at, None);
    match attempt.end {
        // It goes on until the last byte, and may break on the way.
        Some((AttemptEnd::Served(status), _)) => {
            attributes.push(number(spans::HTTP_STATUS, status.into()));
            if ended.outcome == RequestOutcome::StreamError {
                error = record.error.map(|(kind, _)| kind);
            }
            if let Some(usage) = record.usage {
                attributes.push(number(spans::GEN_AI_INPUT_TOKENS, usage.input));
                attributes.push(number(spans::GEN_AI_OUTPUT_TOKENS, usage.output));
                attributes.push(number(spans::GEN_AI_CACHED_TOKENS, usage.cached_input));
            }
        }
        Some((AttemptEnd::Failed(kind), at)) => (end, error) = (at, Some(kind.name())),
        Some((AttemptEnd::Cancelled, at)) => (end, error) = (at, Some("cancelled")),
        None => error = Some("cancelled"),
    }
    attributes.extend(error.map(|error| text(spans::ERROR_TYPE, error)));
    let span = Span {
        trace: &trace.context,
        id: attempt.span,
        parent: trace.span.as_str(),
        name: format!("{operation} {}", backend.upstream_model),
        side: Side::Client,
        start: date(attempt.begun),
        end: date(end),
        attributes,
        events: Vec::new(),
        is_error: error.is_some_and(|error| error != "cancelled"),
    };
    span.to_json()
}

/// The path of an operation without what is a single request's.
fn template(endpoint: Endpoint) -> &'static str {
    match endpoint {
        Endpoint::ChatCompletions => "/v1/chat/completions",
        Endpoint::Completions => "/v1/completions",
        Endpoint::Embeddings => "/v1/embeddings",
        Endpoint::Responses => "/v1/responses",
        Endpoint::Images => "/v1/images",
        Endpoint::Audio => "/v1/audio",
        Endpoint::Moderations => "/v1/moderations",
        Endpoint::Models => "/v1/models",
        Endpoint::Other => "/v1",
    }
}

/// The conventions' word for an operation.
fn operation(endpoint: Endpoint) -> &'static str {
    match endpoint {
        Endpoint::ChatCompletions | Endpoint::Responses => "chat",
        Endpoint::Completions => "text_completion",
        Endpoint::Embeddings => "embeddings",
        Endpoint::Images | Endpoint::Audio => "generate_content",
        Endpoint::Moderations | Endpoint::Models | Endpoint::Other => endpoint.name(),
    }
}

/// The conventions' word for a provider.
fn provider(provider: &Provider) -> &'static str {
    match provider {
        Provider::AzureDated { .. } | Provider::AzureV1 => "azure.ai.openai",
        Provider::OpenAi | Provider::Compatible(_) => provider.name(),
    }
}
