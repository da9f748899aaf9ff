//! One request on its way from backend to backend: what it has met, and what follows from it.
//!
//! [`Trip`] decides after each attempt whether there is a next one, and if not, what the client is told.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};

use super::budget::{Budget, Next};
use super::ending::{self, Ending, Facts, Final, Ground, Waits, Why};
use super::exchange::Served;
use super::failure::{Failure, Said};
use super::final_error::{self, FinalBody};
use super::pins::Owner;
use super::record::Record;
use super::trail::{AttemptResult, Entry};
use super::wanted::Wanted;
use super::{Call, Head, Reply, WholeReply, internal};
use crate::backend::Rejection;
use crate::backend::outcome::Class;
use crate::clock::{self, Instant};
use crate::config::{BackendId, OnExhausted};
use crate::error::ErrorType;
use crate::router::{Candidate, Chosen, Exhausted, Plan, RouteEntry};
use crate::telemetry::labels::{AttemptKind, ExhaustedReason, FallbackAfter, FallbackResult, RequestOutcome};
use crate::telemetry::trace_context::{SpanId, TraceContext};
use crate::telemetry::tracer::AttemptEnd;

/// What every attempt of a request goes by, and none changes.
pub(super) struct Errand<'a> {
    pub(super) call: &'a Call<'a>,
    pub(super) wanted: Wanted,
    /// The request's id, as the provider is told it.
    pub(super) shown_id: HeaderValue,
    /// Whether any of its backends may hold what it asks for: who says 404 is passed over.
    pub(super) is_search: bool,
    /// Whose the objects are that it makes.
    pub(super) owner: Option<Owner>,
    /// The trace whose spans its attempts are, where it is traced.
    pub(super) trace: Option<TraceContext>,
}

/// The state of one request on its way.
pub(super) struct Trip<'a> {
    pub(super) errand: &'a Errand<'a>,
    pub(super) record: &'a mut Record,
    pub(super) budget: Budget,
    pub(super) grounds: Vec<Ground>,
    /// Whether, since the last attempt, the retry budget held a backend back.
    pub(super) is_out_of_budget: bool,
    /// What stood before each backend of the route at the last look.
    pub(super) passed: Vec<Rejection>,
    /// Who has only said "later", and until when; none: something else came of it too.
    pub(super) limited: Vec<(BackendId, Option<Instant>)>,
    /// How a wait in the queue of this route ended in vain.
    pub(super) queued: Option<ExhaustedReason>,
    /// Retries on the same backend allowed so far.
    pub(super) retries: u32,
    pub(super) last: Option<Failure>,
    pub(super) kind: AttemptKind,
    /// Whether a second call has been made beside a slow one.
    pub(super) is_hedged: bool,
    /// The visit to a fallback route that has not been counted yet.
    pub(super) visit: Option<Visit>,
}

/// One attempt among those of its request.
#[derive(Clone, Copy)]
pub(super) struct Run {
    pub(super) kind: AttemptKind,
    /// Whom it calls: tier and position on the plan's route.
    pub(super) place: (usize, usize),
    pub(super) begun: Instant,
    /// Its span, where the request is traced.
    pub(super) span: Option<SpanId>,
}

impl Run {
    pub(super) fn candidate(self, plan: &Plan) -> &Candidate {
        &plan.route().tiers[self.place.0][self.place.1]
    }
}

/// A visit to a fallback route.
pub(super) struct Visit {
    /// The route that was left for it.
    pub(super) from: Arc<RouteEntry>,
    pub(super) after: FallbackAfter,
    /// Whether an attempt was made there: only then it counts.
    pub(super) is_begun: bool,
}

impl<'a> Trip<'a> {
    /// A request sets out.
    pub(super) fn new(errand: &'a Errand<'a>, record: &'a mut Record, budget: Budget) -> Self {
        Self {
            errand,
            record,
            budget,
            grounds: Vec::new(),
            is_out_of_budget: false,
            passed: Vec::new(),
            limited: Vec::new(),
            queued: None,
            retries: 0,
            last: None,
            kind: AttemptKind::First,
            is_hedged: false,
            visit: None,
        }
    }

    /// Nobody can serve now: what each of them has to say.
    pub(super) fn pass_over(&mut self, asked: &RouteEntry, exhausted: Exhausted) {
        self.is_out_of_budget |= exhausted.is_out_of_budget;
        if exhausted.is_out_of_budget {
            asked.handles.retry_budget_exhausted.inc();
        }
        self.passed.clear();
        for (backend, rejection) in exhausted.reasons {
            self.passed.push(rejection);
            self.set_ground(Ground { backend, why: Why::PassedOver(rejection) });
        }
    }

    /// One ground per backend: the latest, but what came of an attempt outweighs why there was no other.
    pub(super) fn set_ground(&mut self, ground: Ground) {
        let known = self.grounds.iter_mut().find(|known| known.backend == ground.backend);
        match (known, ground.why) {
            (Some(known), Why::PassedOver(_)) if matches!(known.why, Why::Tried(..)) => {}
            (Some(known), _) => *known = ground,
            (None, _) => self.grounds.push(ground),
        }
    }

    /// An attempt begins: what it counts as.
    pub(super) fn begin(&mut self, plan: &Plan, chosen: &Chosen, now: Instant) -> Run {
        self.budget.spend();
        (self.is_out_of_budget, self.queued) = (false, None);
        if chosen.is_again {
            self.kind = AttemptKind::Retry;
            plan.handles(chosen.candidate(plan)).retries.inc();
        }
        if let Some(visit) = &mut self.visit {
            visit.is_begun = true;
        }
        self.record.attempts += 1;
        let asked = &plan.asked().handles;
        asked.started(self.kind).inc();
        if self.kind == AttemptKind::Failover
            && let Some(last) = &self.last
        {
            asked.failover(last.backend.as_str(), chosen.permit.backend().id().as_str()).inc();
        }
        let run = self.run(plan, chosen, self.kind, now);
        self.show(run, plan);
        self.remember(plan);
        run
    }

    pub(super) fn run(&mut self, plan: &Plan, chosen: &Chosen, kind: AttemptKind, begun: Instant) -> Run {
        let (place, backend) = (chosen.place, chosen.candidate(plan).backend.config());
        let span = self.record.spans.as_mut().map(|spans| spans.begin_attempt(backend, kind, place.0 + 1, begun));
        Run { kind, place, begun, span }
    }

    /// What the record tells of the way so far.
    pub(super) fn remember(&mut self, plan: &Plan) {
        if self.record.passed_over.len() != plan.passed_over().len() {
            self.record.passed_over = plan.passed_over().to_vec();
        }
        if !Arc::ptr_eq(plan.route(), plan.asked()) {
            self.record.fallback_route = Some(plan.route().config.name.clone());
        }
    }

    /// Whom the answer's headers name.
    pub(super) fn show(&mut self, run: Run, plan: &Plan) {
        self.record.called = Some(Arc::clone(run.candidate(plan).backend.config()));
        if plan.asked().config.policy.expose_backends {
            let target = &run.candidate(plan).target;
            self.record.shown_backend = Some(target.shown().clone());
            self.record.shown_served = Some(target.shown_served().clone());
        }
        if let Some(hold) = self.errand.call.hold {
            hold.see(self.record);
        }
    }

    /// What the trail tells of an attempt that has ended, or has got its answer's head.
    pub(super) fn track(&mut self, run: Run, plan: &Plan, result: AttemptResult, at: Instant) {
        let backend = run.candidate(plan).backend.id().clone();
        if let (Some(spans), Some(span)) = (&mut self.record.spans, run.span) {
            let end = match result {
                AttemptResult::Served(status) => AttemptEnd::Served(status),
                AttemptResult::Failed(kind) => AttemptEnd::Failed(kind),
                AttemptResult::Cancelled => AttemptEnd::Cancelled,
            };
            spans.end_attempt(span, end, at);
        }
        self.record.trail.push(Entry { backend, result, elapsed: at.since(run.begun), kind: run.kind });
    }

    /// The answer of this attempt goes to the client.
    pub(super) fn serve(&mut self, served: Served, run: Run, plan: &Plan) -> Reply {
        self.count_visit(plan.route(), FallbackResult::Served);
        self.track(run, plan, AttemptResult::Served(served.status), served.at);
        self.record.error = None;
        self.record.upstream_id = served.upstream_id;
        if let Some(usage) = served.usage {
            self.record.usage = Some(usage);
        }
        self.record.finish_reason = served.finish_reason;
        if served.is_first_token {
            self.record.first_content = Some(served.at.since(self.record.started()));
        }
        served.reply
    }

    /// The request leaves a route, or ends on it: a visit to a fallback route is counted by what came of it.
    pub(super) fn count_visit(&mut self, to: &RouteEntry, result: FallbackResult) {
        if let Some(visit) = self.visit.take().filter(|visit| visit.is_begun) {
            visit.from.handles.fallback(to.config.name.as_str(), visit.after, result).inc();
        }
    }

    /// What follows a failed attempt: nothing, if there is a next one, else the reply.
    pub(super) fn after(&mut self, failure: Failure, run: Run, plan: &mut Plan, now: Instant) -> Option<Reply> {
        self.note(&failure, run, plan, now);
        let (kind, class) = (failure.kind(), failure.class);
        let is_elsewhere = self.errand.is_search && failure.is_missing_object();
        let may_leave = is_elsewhere || !self.errand.wanted.creates_object || failure.left_nothing_behind();
        let listed = plan.route().config.failover_on.contains(kind);
        let fails_over = is_elsewhere || listed && may_leave && class != Class::Local;
        if is_elsewhere {
            // To look for an object is one attempt, however many backends are asked.
            self.budget.refund();
        }
        // Who could not say whether it is there outweighs who says that it is not there.
        if !is_elsewhere || self.last.as_ref().is_none_or(Failure::is_missing_object) {
            self.last = Some(failure);
        }
        let has_own_fallback = may_leave && has_own_fallback(plan.route(), kind);
        if !fails_over && !has_own_fallback {
            return Some(self.unmoved(plan, class));
        }
        let next = match self.budget.after(now) {
            Next::Failover if !fails_over => Next::Fallback,
            next @ (Next::Failover | Next::Fallback | Next::Spent | Next::NoTime) => next,
        };
        match next {
            Next::Failover => {
                self.kind = AttemptKind::Failover;
                None
            }
            Next::Fallback if self.fall_back(plan, Some(kind)) => None,
            Next::Fallback | Next::Spent | Next::NoTime => Some(self.exhausted(plan, next)),
        }
    }

    /// Keeps in mind what came of a failed attempt.
    pub(super) fn note(&mut self, failure: &Failure, run: Run, plan: &mut Plan, at: Instant) {
        self.track(run, plan, AttemptResult::Failed(failure.kind()), at);
        self.record.error = Some((failure.kind().name(), ""));
        if let Said::Answer(answer) = &failure.said {
            self.record.upstream_id = answer.headers.request_id();
        }
        self.set_ground(Ground::tried(failure));
        self.note_limited(failure, at);
        if failure.class == Class::ContextWindow {
            plan.note_too_small(&failure.backend);
        }
    }

    /// Leaves the route for the next of its fallbacks. False if there is none, or the route does not want it.
    pub(super) fn fall_back(&mut self, plan: &mut Plan, after: Option<ErrorType>) -> bool {
        let left = Arc::clone(plan.route());
        let wants = left.config.policy.on_exhausted.contains(&OnExhausted::FallbackRoute);
        let limits = self.errand.wanted.limits();
        let has_more = matches!(self.budget.after(clock::now()), Next::Failover | Next::Fallback);
        if !wants || !has_more || limits.disable_fallbacks || !plan.fall_back(after) {
            return false;
        }
        self.queued = None;
        self.count_visit(&left, FallbackResult::Failed);
        count_hedgeable(plan.route(), clock::now());
        let config = &plan.route().config;
        self.budget.enter(&config.policy, plan.route().tiers.len(), limits);
        let after = if self.last.is_some() { FallbackAfter::Failure } else { FallbackAfter::Unavailable };
        self.visit = Some(Visit { from: left, after, is_begun: false });
        if self.last.is_some() {
            self.kind = AttemptKind::Fallback;
        }
        true
    }

    /// The failure does not fail over: it is the answer.
    pub(super) fn unmoved(&mut self, plan: &Plan, class: Class) -> Reply {
        let outcome = match class {
            Class::CallerFault | Class::Policy | Class::ContextWindow => RequestOutcome::ClientFault,
            Class::Local => RequestOutcome::InternalError,
            Class::Connect(_)
            | Class::Reset
            | Class::Truncated
            | Class::Malformed
            | Class::ServerError
            | Class::Timeout(_)
            | Class::Overloaded
            | Class::RateLimited
            | Class::QuotaExhausted
            | Class::Auth
            | Class::Permission
            | Class::NotFound
            | Class::ClientGone
            | Class::Cut => RequestOutcome::UpstreamError,
        };
        let ending = self.decide(plan, false, false);
        self.reply(plan, ending, outcome)
    }

    /// Nothing more can be tried.
    pub(super) fn exhausted(&mut self, plan: &Plan, next: Next) -> Reply {
        let ending = self.decide(plan, next == Next::NoTime, matches!(next, Next::Fallback | Next::Spent));
        let waited = self.queued.filter(|_| next == Next::Failover && !self.is_out_of_budget);
        self.record.exhausted = Some(waited.unwrap_or(ending.reason));
        self.reply(plan, ending, RequestOutcome::Exhausted)
    }

    pub(super) fn decide(&self, plan: &Plan, out_of_time: bool, attempts_spent: bool) -> Ending {
        let route = plan.asked();
        let untried = plan.route().candidates().any(|member| plan.is_new(member.backend.id()));
        let was_passed = |ground: &Ground| matches!(ground.why, Why::PassedOver(_));
        // One that could not be asked may hold it: nobody knows that it is not there.
        let is_unsure = self.errand.is_search && self.grounds.iter().any(was_passed);
        let last = self.last.as_ref().filter(|last| !(is_unsure && last.is_missing_object()));
        ending::decide(&Facts {
            route: route.config.name.as_str(),
            grounds: &self.grounds,
            last,
            out_of_time,
            out_of_attempts: attempts_spent && untried,
            out_of_budget: self.is_out_of_budget && !out_of_time,
            attempts: self.record.trail.entries().len(),
            trail: &self.record.trail.message(),
            expose_backends: route.config.policy.expose_backends,
        })
    }

    pub(super) fn reply(&mut self, plan: &Plan, ending: Ending, outcome: RequestOutcome) -> Reply {
        self.count_visit(plan.route(), FallbackResult::Failed);
        self.remember(plan);
        let policy = &plan.asked().config.policy;
        let mut waits = ending.waits;
        waits.should_not_retry &= policy.send_x_should_retry;
        match (ending.what, &self.last) {
            (Final::Own(words), _) => {
                self.record.error = Some((words.kind, words.code));
                Reply::Own(words, waits, outcome)
            }
            (Final::Provider(status), Some(last)) => {
                provider_reply(last, status, waits, outcome, policy.expose_backends)
            }
            (Final::Provider(_), None) => internal(),
        }
    }
}

/// A request comes to a route: among how many its hedges must stay rare.
pub(super) fn count_hedgeable(route: &RouteEntry, now: Instant) {
    if route.config.policy.hedge.is_some() {
        route.hedge_budget.count_request(now);
    }
}

/// Whether the route names fallbacks for this very error.
pub(super) fn has_own_fallback(route: &RouteEntry, kind: ErrorType) -> bool {
    match kind {
        ErrorType::ContextWindowExceeded => !route.config.context_window_fallbacks.is_empty(),
        ErrorType::ContentPolicyViolation => !route.config.content_policy_fallbacks.is_empty(),
        ErrorType::RateLimit
        | ErrorType::InsufficientQuota
        | ErrorType::ServiceUnavailable
        | ErrorType::ApiConnection
        | ErrorType::Timeout
        | ErrorType::Authentication
        | ErrorType::PermissionDenied
        | ErrorType::NotFound
        | ErrorType::BadRequest => false,
    }
}

/// A provider's error as the client's answer: its own bytes where clients can read them (spec/wire.md 3.4).
pub(super) fn provider_reply(
    last: &Failure,
    status: u16,
    waits: Waits,
    outcome: RequestOutcome,
    expose: bool,
) -> Reply {
    let backend = if expose { last.backend.as_str() } else { "the backend" };
    let mut headers = HeaderMap::new();
    let json = HeaderValue::from_static("application/json");
    let (status, body) = match &last.said {
        Said::Answer(answer) => {
            answer.headers.append_relayed(&mut headers);
            let body =
                match final_error::normalise(backend, answer.status, &answer.content_type, &answer.body, last.kind()) {
                    FinalBody::Verbatim => answer.body.clone(),
                    FinalBody::Wrapped(body) => {
                        headers.insert(CONTENT_TYPE, json);
                        headers.remove(CONTENT_ENCODING);
                        body
                    }
                };
            (status, body)
        }
        Said::InBand(fields) => {
            headers.insert(CONTENT_TYPE, json);
            let (own, body) = final_error::from_in_band(backend, fields, last.class, last.kind());
            (if status == 429 { status } else { own }, body)
        }
        Said::Nothing | Said::TooLate(_) => return internal(),
    };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    // Faults of the caller keep what the provider says about coming back.
    let waits = (outcome != RequestOutcome::ClientFault).then_some(waits);
    Reply::Whole(Box::new(WholeReply { status, head: Head::Own(headers), body, waits, outcome }))
}
