//! One request's book-keeping: whatever happens to it, it is counted and logged exactly once, when its record drops.

use std::borrow::Cow;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use actix_web::http::Method;
use actix_web::http::header::HeaderValue;
use bytes::Bytes;

use super::finish::FinishReason;
use super::hold::Hold;
use super::spans;
use super::trail::{AttemptResult, Entry, Trail};
use super::usage::Usage;
use crate::backend::Reason;
use crate::clock::{self, Instant};
use crate::config::{self, BackendId, RouteName};
use crate::provider::push_name;
use crate::router::RouteEntry;
use crate::telemetry::access_log::line::{Line, Number, Word, key};
use crate::telemetry::access_log::{self, WorkerLog};
use crate::telemetry::labels::{
    Asked, Code, Endpoint, ExhaustedReason, Label as _, RequestOutcome, StreamEnd, TokenType,
};
use crate::telemetry::trace_context::TraceContext;
use crate::telemetry::tracer::RequestTrace;
use crate::telemetry::{ClientHandles, Lazily, RouteHandles};

/// Status that stands for a client that left before the head.
const CLIENT_GONE: u16 = 499;

/// The record of one request, from its complete head to its last byte.
pub struct Record {
    /// The request's id.
    pub id: Arc<str>,
    /// The same as a header.
    pub shown_id: HeaderValue,
    /// What was asked for.
    pub endpoint: Endpoint,
    /// Whether a stream was asked for.
    pub asked: Asked,
    /// The model as asked for.
    pub model: String,
    /// The route, once it is known.
    pub route: Option<Arc<RouteEntry>>,
    /// What was tried.
    pub trail: Trail,
    /// The backend tried last, as the answer's header shows it.
    pub shown_backend: Option<HeaderValue>,
    /// The trail of a request that it served at once with a 200.
    pub shown_served: Option<HeaderValue>,
    /// Tokens as reported.
    pub usage: Option<Usage>,
    /// Why the model stopped.
    pub finish_reason: Option<FinishReason>,
    /// The type and the code of the error it ended with.
    pub error: Option<(&'static str, &'static str)>,
    /// Why nothing more could be tried.
    pub exhausted: Option<ExhaustedReason>,
    /// Receipt to first content.
    pub first_content: Option<Duration>,
    /// Attempts begun, the one under way included, which is in no trail yet.
    pub attempts: u32,
    /// Time so far in attempts and deliberate waits, and until the whole request was here: all that is not ours.
    pub outside: Duration,
    /// Time spent in a queue, as a part of it.
    pub queued: Duration,
    /// The backend called last, as it is configured.
    pub called: Option<Arc<config::Backend>>,
    /// Who was passed over, and why.
    pub passed_over: Vec<(BackendId, Reason)>,
    /// The route that it came to in the end, where that is not the one asked for.
    pub fallback_route: Option<RouteName>,
    /// The provider's own id of the answer that counts.
    pub upstream_id: Option<HeaderValue>,
    /// How its stream ended.
    pub stream_end: Option<StreamEnd>,
    /// The HTTP method.
    pub method: Method,
    /// The trace it belongs to, where its client says so.
    pub trace: Option<TraceContext>,
    /// Its spans, where it is traced.
    pub spans: Option<Box<RequestTrace>>,
    /// The configuration it was served by.
    pub config: Option<Rc<str>>,
    /// Its client's address, where that is to be written down.
    pub peer: Option<IpAddr>,
    /// Bytes received.
    pub request_bytes: usize,
    /// Bytes of the answer's body handed over.
    pub response_bytes: u64,
    /// Whether it is an SDK's own second try.
    pub is_client_retry: bool,
    /// Whose key it was, where keys are asked for.
    pub client: Option<Arc<ClientHandles>>,
    /// Who knows whether its head has left before its answer is known.
    pub head_hold: Option<Rc<Hold>>,
    is_streaming: bool,
    started: Instant,
    received: Instant,
    head_at: Option<Instant>,
    status: u16,
    outcome: Option<RequestOutcome>,
    intended: Option<RequestOutcome>,
    unrouted: Arc<Lazily<RouteHandles>>,
    log: Option<(WorkerLog, f64)>,
    _live: Live,
    _held: Option<Live>,
}

/// One request under way among those of its worker; gone with its record.
pub struct Live(Arc<AtomicU32>);

impl Live {
    /// Counts a request in.
    pub fn begin(count: &Arc<AtomicU32>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An id as the owner of a header's bytes: its copies on the way share it.
struct IdText(Arc<str>);

impl AsRef<[u8]> for IdText {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl Record {
    /// Begins the record of a request. `unrouted` counts it as long as it has no route; without a `log` it writes no line,
    /// and of plain successes the share that stands beside it. `live` is dropped with it.
    pub fn new(
        id: Arc<str>,
        started: Instant,
        unrouted: &Arc<Lazily<RouteHandles>>,
        log: Option<(WorkerLog, f64)>,
        live: Live,
    ) -> Self {
        let shown_id = Bytes::from_owner(IdText(Arc::clone(&id)));
        let shown_id = HeaderValue::from_maybe_shared(shown_id).unwrap_or(HeaderValue::from_static("-"));
        Self {
            id,
            shown_id,
            endpoint: Endpoint::Other,
            asked: Asked::Whole,
            model: String::new(),
            route: None,
            trail: Trail::default(),
            shown_backend: None,
            shown_served: None,
            usage: None,
            finish_reason: None,
            error: None,
            exhausted: None,
            first_content: None,
            attempts: 0,
            outside: Duration::ZERO,
            queued: Duration::ZERO,
            called: None,
            passed_over: Vec::new(),
            fallback_route: None,
            upstream_id: None,
            stream_end: None,
            method: Method::POST,
            trace: None,
            spans: None,
            config: None,
            peer: None,
            request_bytes: 0,
            response_bytes: 0,
            is_streaming: false,
            started,
            received: started,
            head_at: None,
            status: CLIENT_GONE,
            outcome: None,
            intended: None,
            unrouted: Arc::clone(unrouted),
            log,
            is_client_retry: false,
            client: None,
            head_hold: None,
            _live: live,
            _held: None,
        }
    }

    /// When the request was received.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// All of the request is here. A client may take its time to send.
    pub fn receive(&mut self, now: Instant) {
        self.received = now;
        self.outside = now.since(self.started);
    }

    /// When all of the request was here.
    pub fn received(&self) -> Instant {
        self.received
    }

    /// Notes the route that was asked for.
    pub fn set_route(&mut self, route: &Arc<RouteEntry>) {
        route.handles.in_flight.inc();
        self.route = Some(Arc::clone(route));
    }

    /// Its answer is a stream that has committed.
    pub fn begin_stream(&mut self) {
        self.is_streaming = true;
        self.handles().streams_in_flight.inc();
    }

    /// The head is handed over now. Returns our own share of the time so far.
    pub fn head(&mut self, status: u16, now: Instant) -> Duration {
        self.status = status;
        self.head_at = Some(now);
        self.overhead(now)
    }

    /// Says how it ended. The first word counts.
    pub fn end(&mut self, outcome: RequestOutcome) {
        self.outcome.get_or_insert(outcome);
    }

    /// Holds what counts as long as the request runs.
    pub fn hold(&mut self, live: Option<Live>) {
        self._held = live;
    }

    /// Says how it ends once its body has been handed over.
    pub fn will_end(&mut self, outcome: RequestOutcome) {
        self.intended = Some(outcome);
    }

    /// The body has been handed over.
    pub fn handed_over(&mut self) {
        if let Some(outcome) = self.intended {
            self.end(outcome);
        }
    }

    fn overhead(&self, now: Instant) -> Duration {
        now.since(self.started).saturating_sub(self.outside)
    }

    fn handles(&self) -> &RouteHandles {
        self.route.as_ref().map_or(&self.unrouted, |route| &route.handles)
    }

    fn count(&self, outcome: RequestOutcome, now: Instant) {
        let handles = self.handles();
        handles.requests(outcome, self.asked).inc();
        handles.responses(self.endpoint, Code::of(self.status)).inc();
        handles.duration(self.asked).observe(now.since(self.started).as_secs_f64());
        if let Some(head_at) = self.head_at {
            handles.overhead(self.asked).observe(self.overhead(head_at).as_secs_f64());
        }
        if let Some(waited) = self.first_content {
            handles.time_to_first_token.observe(waited.as_secs_f64());
        }
        if self.attempts == 0 {
            handles.unattempted.inc();
        }
        if outcome == RequestOutcome::Success && self.trail.has_failures() {
            handles.recovered.inc();
        }
        if let Some(reason) = self.exhausted.filter(|_| outcome == RequestOutcome::Exhausted) {
            handles.exhausted(reason).inc();
        }
        if self.is_client_retry {
            handles.client_retries.inc();
        }
        if let Some(client) = &self.client {
            client.requests(outcome).inc();
            if let Some(usage) = self.usage {
                client.tokens(TokenType::Input).inc_by(usage.input);
                client.tokens(TokenType::Output).inc_by(usage.output);
            }
        }
        if self.is_streaming {
            handles.streams_in_flight.dec();
        }
        if self.route.is_some() {
            handles.in_flight.dec();
        }
    }

    /// `openai=circuit_open;azure=local_rpm`.
    fn passed_over_text(&self) -> String {
        let mut text = String::new();
        for (backend, reason) in &self.passed_over {
            if !text.is_empty() {
                text.push(';');
            }
            push_name(&mut text, backend.as_str());
            text.push('=');
            text.push_str(reason.name());
        }
        text
    }

    fn write(&self, outcome: RequestOutcome, now: Instant) {
        let Some((log, share)) = &self.log else { return };
        // Only what went well at once may be left out: it is all alike.
        let is_plain = outcome == RequestOutcome::Success && self.trail.entries().len() <= 1;
        if is_plain && *share < 1.0 && !access_log::is_sampled(&self.id, *share) {
            return;
        }
        let called = self.called.as_deref();
        let passed_over = self.passed_over_text();
        let route = self.route.as_ref().map_or("", |route| route.config.name.as_str());
        let trail = match (&self.shown_served, self.trail.entries()) {
            (_, []) => Cow::Borrowed(""),
            (Some(served), [Entry { result: AttemptResult::Served(200), .. }]) => {
                Cow::Borrowed(served.to_str().unwrap_or_default())
            }
            _ => Cow::Owned(self.trail.header()),
        };
        let upstream_id = self.upstream_id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or_default();
        let peer = self.peer.map_or(Cow::Borrowed(""), |peer| Cow::Owned(peer.to_string()));
        let millis = |span: Duration| Some(Number::Millis(span));
        let some = |count: u64| (0 < count).then_some(Number::Count(count));
        let count = |count: u64| Some(Number::Count(count));
        let words = [
            // Checked where it was taken: a plain word.
            (key!("request_id"), Word::Free(&self.id)),
            (key!("trace_id"), Word::Free(self.trace.as_ref().map_or("", TraceContext::trace_id))),
            (key!("method"), Word::Free(self.method.as_str())),
            (key!("endpoint"), Word::Own(self.endpoint.name())),
            (key!("model"), Word::Free(&self.model)),
            (key!("route"), Word::Free(route)),
            (key!("stream"), Word::Own(self.asked.name())),
            (key!("outcome"), Word::Own(outcome.name())),
            (key!("error_type"), Word::Own(self.error.map_or("", |(kind, _)| kind))),
            (key!("error_code"), Word::Own(self.error.map_or("", |(_, code)| code))),
            (key!("backend"), Word::Free(called.map_or("", |called| called.id.as_str()))),
            (key!("provider"), Word::Own(called.map_or("", |called| called.provider.name()))),
            (key!("upstream_model"), Word::Free(called.map_or("", |called| &called.upstream_model))),
            (key!("attempts"), Word::Free(&trail)),
            (key!("skipped"), Word::Free(&passed_over)),
            (key!("fallback_route"), Word::Free(self.fallback_route.as_ref().map_or("", RouteName::as_str))),
            (key!("exhausted_reason"), Word::Own(self.exhausted.map_or("", |reason| reason.name()))),
            (key!("finish_reason"), Word::Own(self.finish_reason.map_or("", FinishReason::name))),
            (key!("stream_end"), Word::Own(self.stream_end.map_or("", |end| end.name()))),
            (key!("upstream_request_id"), Word::Free(upstream_id)),
            (key!("client_retry"), Word::Own(if self.is_client_retry { "true" } else { "" })),
            (key!("key"), Word::Free(self.client.as_ref().map_or("", |client| client.key()))),
            (key!("config"), Word::Free(self.config.as_deref().unwrap_or_default())),
            (key!("client"), Word::Free(&peer)),
        ];
        let numbers = [
            (key!("status"), count(u64::from(self.status))),
            (key!("attempt_count"), count(self.trail.entries().len() as u64)),
            (key!("duration_ms"), millis(now.since(self.started))),
            (key!("overhead_ms"), self.head_at.and_then(|at| millis(self.overhead(at)))),
            (key!("ttft_ms"), self.first_content.and_then(millis)),
            (key!("queue_ms"), Some(self.queued).filter(|queued| !queued.is_zero()).and_then(millis)),
            (key!("input_tokens"), self.usage.and_then(|usage| count(usage.input))),
            (key!("output_tokens"), self.usage.and_then(|usage| count(usage.output))),
            (key!("cached_input_tokens"), self.usage.and_then(|usage| some(usage.cached_input))),
            (key!("reasoning_output_tokens"), self.usage.and_then(|usage| some(usage.reasoning_output))),
            (
                key!("cost_usd"),
                self.usage
                    .zip(called.and_then(|called| called.prices))
                    .map(|(usage, prices)| Number::Ratio(usage.cost(&prices))),
            ),
            (key!("request_bytes"), count(self.request_bytes as u64)),
            (key!("response_bytes"), count(self.response_bytes)),
            (key!("sample"), (is_plain && *share < 1.0).then_some(Number::Ratio(*share))),
        ];
        let level = match outcome {
            RequestOutcome::Success
            | RequestOutcome::ClientFault
            | RequestOutcome::Rejected
            | RequestOutcome::ClientClosed => "info",
            RequestOutcome::Exhausted
            | RequestOutcome::UpstreamError
            | RequestOutcome::StreamError
            | RequestOutcome::Shutdown => "warn",
            RequestOutcome::InternalError => "error",
        };
        log.write(&Line { at: clock::unix_now(), level, words: &words, numbers: &numbers });
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let unset = if std::thread::panicking() { RequestOutcome::InternalError } else { RequestOutcome::ClientClosed };
        let outcome = self.outcome.unwrap_or(unset);
        let now = clock::now();
        if let Some(status) = self.head_hold.as_ref().and_then(|hold| hold.status()) {
            self.status = status;
        }
        self.count(outcome, now);
        self.write(outcome, now);
        if let Some(trace) = &self.spans {
            let (status, head_at) = (self.status, self.head_at);
            let overhead = head_at.map(|at| self.overhead(at));
            trace.hand_on(spans::of(self, trace, &spans::Ended { outcome, at: now, status, head_at, overhead }));
        }
    }
}
