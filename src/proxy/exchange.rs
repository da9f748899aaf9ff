//! One attempt: send, read what comes back, judge it; then either an answer that may go to the client, or a failure.
//!
//! It changes nothing of its request, so that two of them can run side by side: what came of it is told by its result.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use actix_web::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use bytes::{Bytes, BytesMut};

use super::attempt::{Attempt, MAX_ERROR_BODY_BYTES};
use super::classify::{self, Event};
use super::drain_limit::DrainLimit;
use super::error_fields::{ErrorFields, find_error};
use super::failure::{ErrorAnswer, Failure, Said};
use super::finish::FinishReason;
use super::operation::Group;
use super::passage::{ToProvider, relay_headers};
use super::pins::{Pins, created_in_event};
use super::relay::{Pace, Relay, Source, Start};
use super::sse::{EventStream, Failure as StreamFailure, Options, Step};
use super::trip::{Errand, Run};
use super::unary::{self, Expected, Judgement};
use super::upstream::{self, Answer, AnswerBody, Fields, Limits};
use super::usage::Usage;
use super::wanted::{api, expected};
use super::{Head, Proxy, Reply, WholeReply, forward, hint_headers};
use crate::backend::ledger::Sample;
use crate::backend::outcome::{Class, ConnectPhase, TimeoutKind};
use crate::clock::{self, Instant};
use crate::router::{Candidate, Chosen, Plan};
use crate::telemetry::labels::{Endpoint, RequestOutcome, ResendReason};
use crate::telemetry::trace_context::SpanId;

/// Largest answer read to its end before it is handed on; a larger one commits there (spec/resilience.md 8.1).
const MAX_WHOLE_BYTES: usize = 8 << 20;

/// Whole of a ratio kept in 1/10 000.
const WHOLE: u32 = 10_000;

/// What an attempt brought.
pub(super) enum Attempted {
    /// An answer that may go to the client.
    Served(Box<Served>),
    /// Nothing that may.
    Failed(Failure),
}

/// The answer of an attempt, and what the request's record has to know of it.
pub(super) struct Served {
    /// The provider's status.
    pub(super) status: u16,
    /// When it was there, or its first content.
    pub(super) at: Instant,
    /// Whether that is a stream's first token.
    pub(super) is_first_token: bool,
    /// Tokens as reported so far.
    pub(super) usage: Option<Usage>,
    /// Why the model stopped, where that is known so far.
    pub(super) finish_reason: Option<FinishReason>,
    /// The provider's own id of it.
    pub(super) upstream_id: Option<HeaderValue>,
    /// The answer.
    pub(super) reply: Reply,
}

/// The limits of one attempt.
#[derive(Clone, Copy)]
struct Clocks {
    begun: Instant,
    connect: Instant,
    /// Unary: the head. Stream: the first content.
    head: Instant,
    /// The attempt's own limit, and whether the request's deadline comes before it.
    head_limit: Duration,
    is_cut: bool,
    idle: Duration,
    deadline: Instant,
}

impl Clocks {
    fn of(candidate: &Candidate, plan: &Plan, begun: Instant) -> Self {
        let need = &plan.need;
        let left = need.deadline.since(begun);
        let share = plan.route().config.policy.attempt_time_share.min(WHOLE);
        let shared = left.mul_f64(f64::from(share) / f64::from(WHOLE));
        let own = candidate.head_limit(need);
        let head_limit = own.min(shared);
        let head = begun.plus(head_limit);
        Self {
            begun,
            connect: begun.plus(candidate.timeouts.connect).min(head),
            head,
            head_limit,
            is_cut: left < own && share == WHOLE,
            idle: candidate.timeouts.idle,
            deadline: need.deadline,
        }
    }
}

/// What one attempt works with.
struct Stage<'a> {
    errand: &'a Errand<'a>,
    plan: &'a Plan,
    candidate: &'a Candidate,
    clocks: Clocks,
    span: Option<SpanId>,
    pins: &'a Pins,
    drain_limit: &'a Arc<DrainLimit>,
}

/// Why a body could not be read to its end.
enum Unread {
    TimedOut,
    Broken(upstream::Error),
    /// It is longer than allowed: what was read so far.
    TooLong(VecDeque<Bytes>),
}

impl Proxy {
    /// Makes one attempt with the permit of `chosen`. It has begun when this returns: one that nobody polls is counted too.
    /// `overtaken`: see [`Attempt::begin`].
    pub(super) fn attempt<'a>(
        &'a self,
        errand: &'a Errand<'a>,
        plan: &'a Plan,
        chosen: Chosen,
        run: Run,
        overtaken: Option<Rc<Cell<bool>>>,
    ) -> impl Future<Output = Attempted> + use<'a> {
        let candidate = chosen.candidate(plan);
        let attempt = Attempt::begin(chosen.permit, plan.handles(candidate), overtaken, run.begun);
        let clocks = Clocks::of(candidate, plan, run.begun);
        let stage =
            Stage { errand, plan, candidate, clocks, span: run.span, pins: &self.pins, drain_limit: &self.drain_limit };
        self.carry_out(stage, attempt)
    }

    async fn carry_out(&self, stage: Stage<'_>, mut attempt: Attempt) -> Attempted {
        let (answer, injected) = match self.send(&stage, &mut attempt).await {
            Ok(sent) => sent,
            Err((class, said)) => return stage.fail(attempt, class, None, said),
        };
        stage.learn(&attempt, answer.fields());
        let status = answer.status;
        if !status.is_success() {
            return stage.answered(attempt, answer).await;
        }
        // Compressed events cannot be looked into: `whole` knows what to do with any body like that.
        if coding(&answer).is_some() {
            return stage.whole(attempt, answer).await;
        }
        if unary::is_type(answer.text(&CONTENT_TYPE), "text/event-stream") {
            return stage.events(attempt, answer, injected).await;
        }
        if stage.errand.wanted.streams() && stage.errand.call.operation.must_stream() {
            return stage.no_stream(attempt, answer).await;
        }
        stage.whole(attempt, answer).await
    }

    /// Sends the call; once more where the provider refuses the `stream_options` that we added. Says whether they went out.
    async fn send(&self, stage: &Stage<'_>, attempt: &mut Attempt) -> Result<(Answer, bool), (Class, Said)> {
        let (errand, candidate, matched) = (stage.errand, stage.candidate, stage.plan.matched());
        let target = &candidate.target;
        let operation = &errand.call.operation;
        let query = if operation.group == Group::Model { "" } else { errand.call.query };
        let uri = target.uri_with(&operation.text, matched, query).map_err(|_| (Class::Local, Said::Nothing))?;
        let also = &self.router.table().config.defaults.forward_client_headers;
        let trace = errand.trace.zip(stage.span).map(|(trace, span)| trace.header(&span));
        let trace = trace.and_then(|header| HeaderValue::try_from(header).ok());
        let (client, own) = (errand.call.headers, target.headers());
        let limits = Limits { connect: stage.clocks.connect, head: stage.clocks.head };
        let bearer = match target.token() {
            None => None,
            // To the provider it would be a call without a credential: the answer is known.
            Some(token) => Some(token.header(limits.connect).await.ok_or((Class::Auth, Said::Nothing))?),
        };
        let (request_id, trace) = (&errand.shown_id, trace.as_ref());
        let headers = ToProvider { client, also, own, request_id, bearer: bearer.as_ref(), trace };
        loop {
            let (parts, injected) = errand.wanted.body_for(operation, candidate.backend.config(), target, matched);
            let request = upstream::Request {
                uri: &uri,
                method: errand.call.method,
                tls: candidate.tls.as_ref(),
                headers: &headers,
                body: &parts.slices,
            };
            let answer = self.upstream.send(&request, limits).await.map_err(|error| stage.unanswered(error))?;
            if answer.status == StatusCode::UNAUTHORIZED
                && let (Some(token), Some(bearer)) = (target.token(), &bearer)
            {
                token.refuse(bearer);
            }
            if answer.resent {
                attempt.resent(ResendReason::StaleConnection);
            }
            if !injected || !matches!(answer.status.as_u16(), 400 | 422) {
                return Ok((answer, injected));
            }
            let mut answer = answer;
            let body = read(&mut answer.body, MAX_ERROR_BODY_BYTES, &stage.clocks).await.unwrap_or_default();
            if memchr::memmem::find(&body, b"stream_options").is_none() {
                return Err(stage.error_answer(answer.status, answer.headers(), body));
            }
            target.note_usage_refused();
            attempt.resent(ResendReason::StreamOptions);
        }
    }
}

impl Stage<'_> {
    /// Why no head came, as a class.
    fn unanswered(&self, error: upstream::Error) -> (Class, Said) {
        let class = match error {
            upstream::Error::Dns => Class::Connect(ConnectPhase::Dns),
            upstream::Error::Connect => Class::Connect(ConnectPhase::Connect),
            upstream::Error::Tls => Class::Connect(ConnectPhase::Tls),
            upstream::Error::ConnectTimeout => {
                let limit = self.candidate.timeouts.connect;
                return (Class::Timeout(TimeoutKind::Connect), Said::TooLate(limit));
            }
            upstream::Error::HeadTimeout => return self.too_late(),
            upstream::Error::Reset => Class::Reset,
            upstream::Error::Truncated => Class::Truncated,
            upstream::Error::Malformed => Class::Malformed,
        };
        (class, Said::Nothing)
    }

    /// The head or the first content did not come in time: by its own limit, or because the request's time was over.
    fn too_late(&self) -> (Class, Said) {
        if self.clocks.is_cut {
            return (Class::Cut, Said::Nothing);
        }
        let kind = if self.errand.wanted.streams() { TimeoutKind::FirstToken } else { TimeoutKind::FirstByte };
        (Class::Timeout(kind), Said::TooLate(self.clocks.head_limit))
    }

    /// A body did not go on.
    fn unread(&self, unread: &Unread) -> (Class, Said) {
        match unread {
            Unread::TimedOut if self.clocks.deadline <= clock::now() => (Class::Cut, Said::Nothing),
            Unread::TimedOut => (Class::Timeout(TimeoutKind::Idle), Said::TooLate(self.clocks.idle)),
            Unread::Broken(upstream::Error::Malformed) | Unread::TooLong(_) => (Class::Malformed, Said::Nothing),
            Unread::Broken(_) => (Class::Truncated, Said::Nothing),
        }
    }

    fn fail(&self, attempt: Attempt, class: Class, hint: Option<Duration>, said: Said) -> Attempted {
        attempt.fail(class, hint, clock::now());
        let backend = self.candidate.backend.id().clone();
        Attempted::Failed(Failure { backend, class, hint, said })
    }

    /// What the head of an answer says beside the answer: that the host is there, and what is left of the quota.
    fn learn(&self, attempt: &Attempt, head: &Fields) {
        attempt.reached();
        let backend = &self.candidate.backend;
        let quota = &backend.config().policy.quota;
        if quota.learned {
            let left = hint_headers::left(head);
            if left != Sample::default() {
                backend.scopes().ledger.note(&left, clock::now());
            }
        }
        if quota.ptu_target_utilization.is_some()
            && let Some(share) = hint_headers::utilization(head)
        {
            backend.scopes().ledger.note_utilization(share, clock::now());
        }
    }

    fn judge(&self, event: Event<'_>) -> Class {
        let config = self.candidate.backend.config();
        classify::classify(event, &config.provider, &config.policy.classify)
    }

    /// An answer that is no success: its class, its hint, and itself in case it is the last word.
    async fn answered(&self, attempt: Attempt, mut answer: Answer) -> Attempted {
        // What is left of a broken or endless error body says nothing that its status does not.
        let body = read(&mut answer.body, MAX_ERROR_BODY_BYTES, &self.clocks).await.unwrap_or_default();
        let (class, said) = self.error_answer(answer.status, answer.headers(), body);
        let hint = self.hint_of(&said);
        self.fail(attempt, class, hint, said)
    }

    fn error_answer(&self, status: StatusCode, headers: &HeaderMap, body: Bytes) -> (Class, Said) {
        let status = status.as_u16();
        let fields = find_error(&body).map(|error| error.fields).unwrap_or_default();
        let has_hint = hint_headers::wait(status, headers, &fields).is_some();
        let names_model = self.errand.wanted.model.is_some();
        let class = self.judge(Event::Answered(classify::Answer { status, fields: &fields, names_model, has_hint }));
        let content_type = forward::text(headers, &CONTENT_TYPE).to_owned();
        (class, Said::Answer(ErrorAnswer { status, headers: headers.clone(), content_type, body }))
    }

    fn hint_of(&self, said: &Said) -> Option<Duration> {
        let Said::Answer(answer) = said else { return None };
        let fields = find_error(&answer.body).map(|error| error.fields).unwrap_or_default();
        hint_headers::wait(answer.status, &answer.headers, &fields)
    }

    /// An error inside a 2xx answer.
    fn in_band(&self, attempt: Attempt, headers: &HeaderMap, fields: ErrorFields) -> Attempted {
        let class = self.judge(Event::InBand(&fields));
        let limited = matches!(class, Class::RateLimited | Class::QuotaExhausted);
        let hint = if limited { hint_headers::wait(429, headers, &fields) } else { None };
        self.fail(attempt, class, hint, Said::InBand(fields))
    }

    /// A stream was asked for and something else came: an error in disguise, or nonsense.
    async fn no_stream(&self, attempt: Attempt, mut answer: Answer) -> Attempted {
        let body = match read(&mut answer.body, MAX_ERROR_BODY_BYTES, &self.clocks).await {
            Ok(body) => body,
            Err(unread) => {
                let (class, said) = self.unread(&unread);
                return self.fail(attempt, class, None, said);
            }
        };
        match unary::judge_no_stream(&body) {
            Judgement::Failed(error) => self.in_band(attempt, answer.headers(), error.fields),
            Judgement::Good(_) | Judgement::Malformed => self.fail(attempt, Class::Malformed, None, Said::Nothing),
        }
    }

    /// An answer that is read to its end before a byte leaves: so truncation, garbage and an HTML page still fail over.
    async fn whole(&self, attempt: Attempt, mut answer: Answer) -> Attempted {
        let expected = expected(&self.errand.call.operation, self.errand.call.method);
        let content_type = answer.text(&CONTENT_TYPE).to_owned();
        let is_json = unary::is_type(&content_type, "application/json");
        if let Some(coding) = coding(&answer) {
            let accepted = forward::text(self.errand.call.headers, &ACCEPT_ENCODING).to_ascii_lowercase();
            if !accepted.split(',').any(|name| name.split(';').next().unwrap_or_default().trim() == coding) {
                return self.fail(attempt, Class::Malformed, None, Said::Nothing);
            }
            return self.raw(attempt, answer).await;
        }
        if expected == Expected::Anything && !is_json && !unary::is_type(&content_type, "text/html") {
            return self.raw(attempt, answer).await;
        }
        let body = match read(&mut answer.body, MAX_WHOLE_BYTES, &self.clocks).await {
            Ok(body) => body,
            Err(Unread::TooLong(chunks)) => return self.commit_raw(attempt, answer, chunks),
            Err(unread) => {
                let (class, said) = self.unread(&unread);
                return self.fail(attempt, class, None, said);
            }
        };
        let usage = match unary::judge(expected, &content_type, &body) {
            Judgement::Good(usage) => usage,
            Judgement::Malformed => return self.fail(attempt, Class::Malformed, None, Said::Nothing),
            Judgement::Failed(error) => return self.in_band(attempt, answer.headers(), error.fields),
        };
        match usage {
            Some(usage) => attempt.usage(usage),
            None if self.errand.call.is_metered() && !self.errand.wanted.is_background() => {
                attempt.handles().usage_missing.inc();
            }
            None => {}
        }
        let at = clock::now();
        self.note_objects(&body, at);
        attempt.succeed(at);
        // No other answers have one, and those of embeddings and images are long.
        let may_finish =
            matches!(self.errand.call.operation.endpoint, Endpoint::ChatCompletions | Endpoint::Completions);
        let finish_reason = if may_finish { FinishReason::of_answer(&body) } else { None };
        let (status, outcome) = (answer.status, RequestOutcome::Success);
        let upstream_id = answer.request_id();
        let head = Head::Provider(answer.into_fields());
        let reply = Reply::Whole(Box::new(WholeReply { status, head, body, waits: None, outcome }));
        Attempted::Served(Box::new(Served {
            status: status.as_u16(),
            at,
            is_first_token: false,
            usage,
            finish_reason,
            upstream_id,
            reply,
        }))
    }

    /// Remembers who holds what a good answer speaks of, or that it is gone.
    fn note_objects(&self, body: &[u8], now: Instant) {
        let call = self.errand.call;
        if call.operation.group == Group::Object && *call.method == Method::DELETE {
            if let Some(id) = call.operation.segments().next_back() {
                self.pins.remove(&id);
            }
            return;
        }
        let Some(owner) = self.errand.owner else { return };
        let backend = self.candidate.backend.config().identity;
        self.pins.put_named(body, owner, backend, now);
        if *call.method == Method::GET
            && let Some(id) = call.operation.object_id()
        {
            self.pins.put(&id, owner, backend, now);
        }
    }

    /// The same for a stream that says at its beginning what it makes.
    fn note_created(&self, blocks: &[Bytes], now: Instant) {
        let Some(owner) = self.errand.owner else { return };
        if let Some(id) = blocks.iter().find_map(|block| created_in_event(block)) {
            self.pins.put(&id, owner, self.candidate.backend.config().identity, now);
        }
    }

    /// An answer whose bytes nobody here can read: it commits at its first byte.
    async fn raw(&self, attempt: Attempt, mut answer: Answer) -> Attempted {
        let first = within(self.clocks.begun.plus(self.clocks.head_limit), answer.body.chunk()).await;
        match first {
            Some(Some(Ok(chunk))) => self.commit_raw(attempt, answer, VecDeque::from([chunk])),
            Some(None) => self.commit_raw(attempt, answer, VecDeque::new()),
            Some(Some(Err(error))) => {
                let (class, said) = self.unread(&Unread::Broken(error));
                self.fail(attempt, class, None, said)
            }
            None => {
                let (class, said) = self.too_late();
                self.fail(attempt, class, None, said)
            }
        }
    }

    fn commit_raw(&self, mut attempt: Attempt, answer: Answer, queue: VecDeque<Bytes>) -> Attempted {
        let at = clock::now();
        self.note_objects(&[], at);
        attempt.first_content(at);
        let (status, length) = (answer.status.as_u16(), forward::content_length(answer.headers()));
        let length = length.map(|length| length as u64);
        let upstream_id = answer.request_id();
        let reply = self.relay(attempt, answer, Source::Raw, queue, false, length);
        Attempted::Served(Box::new(Served {
            status,
            at,
            is_first_token: false,
            usage: None,
            finish_reason: None,
            upstream_id,
            reply,
        }))
    }

    /// An event stream: nothing leaves before its first content.
    async fn events(&self, mut attempt: Attempt, mut answer: Answer, drop_usage_event: bool) -> Attempted {
        let policy = &self.plan.route().config.policy;
        let operation = &self.errand.call.operation;
        let api = api(operation);
        let holdback = if api == super::sse::Api::Responses { policy.responses_holdback } else { policy.holdback };
        let is_background = self.errand.wanted.is_background();
        let options = Options { api, holdback, drop_usage_event, is_background };
        let mut events = Box::new(EventStream::new(options));
        let mut is_over = false;
        loop {
            for step in events.by_ref() {
                match step {
                    Step::Hold => {}
                    Step::Commit { blocks, is_first_token, is_end } => {
                        let at = clock::now();
                        self.note_created(&blocks, at);
                        attempt.first_content(at);
                        let (status, queue) = (answer.status.as_u16(), VecDeque::from(blocks));
                        let upstream_id = answer.request_id();
                        let reply = self.relay(attempt, answer, Source::Events(events), queue, is_end, None);
                        let served =
                            Served { status, at, is_first_token, usage: None, finish_reason: None, upstream_id, reply };
                        return Attempted::Served(Box::new(served));
                    }
                    Step::Fail(StreamFailure::InBand(fields)) => {
                        return self.in_band(attempt, answer.headers(), fields);
                    }
                    Step::Fail(StreamFailure::Malformed) => {
                        return self.fail(attempt, Class::Malformed, None, Said::Nothing);
                    }
                    Step::Fail(StreamFailure::Truncated) => {
                        return self.fail(attempt, Class::Truncated, None, Said::Nothing);
                    }
                    // Only after the commit point.
                    Step::Pass { .. }
                    | Step::Comment(_)
                    | Step::Drop
                    | Step::Error(..)
                    | Step::Done(_)
                    | Step::TooLarge => {}
                }
            }
            if is_over {
                return self.fail(attempt, Class::Truncated, None, Said::Nothing);
            }
            match within(self.clocks.head, answer.body.chunk()).await {
                Some(Some(Ok(chunk))) => events.push(chunk),
                Some(Some(Err(upstream::Error::Malformed))) => {
                    return self.fail(attempt, Class::Malformed, None, Said::Nothing);
                }
                Some(Some(Err(_)) | None) => {
                    events.close();
                    is_over = true;
                }
                None => {
                    let (class, said) = self.too_late();
                    return self.fail(attempt, class, None, said);
                }
            }
        }
    }

    /// The body that goes on with a committed answer.
    fn relay(
        &self,
        attempt: Attempt,
        answer: Answer,
        source: Source,
        queue: VecDeque<Bytes>,
        is_end: bool,
        length: Option<u64>,
    ) -> Reply {
        let policy = &self.plan.route().config.policy;
        let status = answer.status;
        let mut headers = HeaderMap::new();
        relay_headers(&mut headers, answer.fields());
        let (total, keepalive) = match &source {
            Source::Events(_) => (clock::now().plus(policy.stream_total), policy.keepalive),
            Source::Raw => (self.clocks.deadline, None),
        };
        if let Source::Events(_) = &source {
            // Proxies on the way must not gather events.
            headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
        }
        let relay = Relay::new(Start {
            upstream: answer.body,
            source,
            queue,
            is_end,
            length,
            api: api(&self.errand.call.operation),
            is_metered: self.errand.call.is_metered(),
            attempt,
            backend: Arc::clone(self.candidate.backend.config()),
            expose_backend: policy.expose_backends,
            pace: Pace { idle: self.clocks.idle, total, keepalive },
            drain_limit: Arc::clone(self.drain_limit),
        });
        Reply::Relay(status, headers, Box::new(relay))
    }
}

/// How a body is compressed, in lower case; none if it is not.
fn coding(answer: &Answer) -> Option<String> {
    let coding = answer.text(&CONTENT_ENCODING).to_ascii_lowercase();
    (!coding.is_empty() && coding != "identity").then_some(coding)
}

/// Waits no longer than `at`. The timer is only made where the future is not ready at once.
async fn within<F: Future>(at: Instant, future: F) -> Option<F::Output> {
    tokio::time::timeout_at(clock::to_tokio(at), future).await.ok()
}

/// Reads a body to its end: at most `most` bytes, each gap at most the idle limit, all of it before the deadline. One that
/// came in one piece is not copied.
async fn read(body: &mut AnswerBody, most: usize, clocks: &Clocks) -> Result<Bytes, Unread> {
    let Some(first) = next(body, clocks).await? else { return Ok(Bytes::new()) };
    if most < first.len() {
        return Err(Unread::TooLong(VecDeque::from([first])));
    }
    let Some(second) = next(body, clocks).await? else { return Ok(first) };
    let mut length = first.len() + second.len();
    let mut chunks = VecDeque::from([first, second]);
    while length <= most {
        let Some(chunk) = next(body, clocks).await? else {
            let mut joined = BytesMut::with_capacity(length);
            chunks.iter().for_each(|chunk| joined.extend_from_slice(chunk));
            return Ok(joined.freeze());
        };
        length += chunk.len();
        chunks.push_back(chunk);
    }
    Err(Unread::TooLong(chunks))
}

/// The next piece of a body, none at its end.
async fn next(body: &mut AnswerBody, clocks: &Clocks) -> Result<Option<Bytes>, Unread> {
    // What has already arrived needs neither clock nor timer.
    let ready = std::future::poll_fn(|cx| match body.poll_chunk(cx) {
        Poll::Ready(piece) => Poll::Ready(Some(piece)),
        Poll::Pending => Poll::Ready(None),
    });
    let piece = match ready.await {
        Some(piece) => Some(piece),
        None => within(clock::now().plus(clocks.idle).min(clocks.deadline), body.chunk()).await,
    };
    match piece {
        Some(Some(Ok(chunk))) => Ok(Some(chunk)),
        Some(Some(Err(error))) => Err(Unread::Broken(error)),
        Some(None) => Ok(None),
        None => Err(Unread::TimedOut),
    }
}
