//! One attempt: send, read what comes back, judge it; then either an answer that may go to the client, or a failure.
//!
//! It changes nothing of its request, so that two of them can run side by side: what came of it is told by its result.

mod reading;
mod stream;
mod whole;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::HeaderValue;

use self::reading::{Unread, read};
use super::attempt::{Attempt, MAX_ERROR_BODY_BYTES};
use super::classify::{self, Event};
use super::drain_limit::DrainLimit;
use super::error_fields::ErrorFields;
use super::failure::{Failure, Said};
use super::finish::FinishReason;
use super::operation::Group;
use super::passage::ToProvider;
use super::pins::Pins;
use super::restamp::Restamp;
use super::trip::{Errand, Run};
use super::unary;
use super::upstream::{self, Answer, Asked, Fields, Limits};
use super::usage::Usage;
use super::{Proxy, Reply, hint_headers};
use crate::backend::ledger::Sample;
use crate::backend::outcome::{Class, ConnectPhase, TimeoutKind};
use crate::clock::{self, Instant};
use crate::config::Origin;
use crate::router::{Candidate, Chosen, Plan};
use crate::telemetry::labels::ResendReason;
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
    /// How answers name the model, where not as the provider does.
    restamp: Option<Restamp>,
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
        let restamp = self.restamp(errand, plan);
        let stage = Stage {
            errand,
            plan,
            candidate,
            clocks,
            span: run.span,
            pins: &self.pins,
            drain_limit: &self.drain_limit,
            restamp,
        };
        self.carry_out(stage, attempt)
    }

    /// How answers to this call name their model: as the route that was asked for, of which a wildcard has the client's word.
    fn restamp(&self, errand: &Errand<'_>, plan: &Plan) -> Option<Restamp> {
        if !self.router.look(|table| table.config.defaults.rewrite_response_model) {
            return None;
        }
        let asked = errand.wanted.model.as_deref()?;
        let route = &plan.asked().config;
        Some(Restamp::new(if route.origin == Origin::Wildcard { asked } else { route.name.as_str() }))
    }

    async fn carry_out(&self, stage: Stage<'_>, mut attempt: Attempt) -> Attempted {
        let (answer, injected) = match self.send(&stage, &mut attempt).await {
            Ok(sent) => sent,
            Err((class, said)) => return stage.fail(attempt, class, None, said),
        };
        stage.learn(&attempt, &answer);
        let status = answer.status;
        if !status.is_success() {
            return stage.answered(attempt, answer).await;
        }
        // Compressed events cannot be looked into: `whole` knows what to do with any body like that.
        if coding(&answer).is_some() {
            return stage.whole(attempt, answer).await;
        }
        if unary::is_type(answer.text(Asked::ContentType), "text/event-stream") {
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
        let Clocks { begun, connect, head, .. } = stage.clocks;
        let mut limits = Limits { begun, connect, head };
        let bearer = match target.token() {
            None => None,
            // To the provider it would be a call without a credential: the answer is known.
            Some(token) => {
                let header = token.header(limits.connect).await.ok_or((Class::Auth, Said::Nothing))?;
                limits.begun = clock::now();
                Some(header)
            }
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
                let (class, said, _) = stage.error_answer(answer, body);
                return Err((class, said));
            }
            limits.begun = clock::now();
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
    fn learn(&self, attempt: &Attempt, answer: &Answer) {
        let (head, at) = (answer.fields(), answer.at);
        attempt.reached(at);
        let backend = &self.candidate.backend;
        let quota = &backend.config().policy.quota;
        if quota.learned {
            let left = hint_headers::left(head);
            if left != Sample::default() {
                backend.scopes().ledger.note(&left, at);
            }
        }
        if quota.ptu_target_utilization.is_some()
            && let Some(share) = hint_headers::utilization(head)
        {
            backend.scopes().ledger.note_utilization(share, at);
        }
    }

    fn judge(&self, event: Event<'_>) -> Class {
        let config = self.candidate.backend.config();
        classify::classify(event, &config.provider, &config.policy.classify)
    }

    /// An error inside a 2xx answer.
    fn in_band(&self, attempt: Attempt, head: &Fields, fields: ErrorFields) -> Attempted {
        let class = self.judge(Event::InBand(&fields));
        let limited = matches!(class, Class::RateLimited | Class::QuotaExhausted);
        let hint = if limited { hint_headers::wait(429, head, &fields) } else { None };
        self.fail(attempt, class, hint, Said::InBand(fields))
    }
}

/// How a body is compressed, in lower case; none if it is not.
fn coding(answer: &Answer) -> Option<String> {
    let coding = Some(answer.text(Asked::ContentEncoding)).filter(|coding| !coding.is_empty())?.to_ascii_lowercase();
    (coding != "identity").then_some(coding)
}
