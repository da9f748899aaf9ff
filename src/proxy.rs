//! The walk of one request: plan → permit → send → classify → relay (style 1.3, steps 2 to 7).
//!
//! A worker's [`Proxy`] takes a [`Call`] and its [`Record`] and gives back a [`Reply`]. The only loop is failover, bounded by
//! the [`budget`] and the plan, and nothing loops once a byte has gone to the client.

pub mod attempt;
pub mod budget;
pub mod classify;
mod destination;
pub mod ending;
pub mod error_fields;
mod exchange;
pub mod failure;
pub mod final_error;
pub mod finish;
pub mod forward;
mod hedge;
pub mod hint;
pub mod hint_headers;
pub mod hold;
pub mod json;
pub mod multipart;
pub mod operation;
mod passage;
pub mod pins;
pub mod record;
pub mod relay;
pub mod request;
pub mod rewrite;
mod seek;
mod spans;
pub mod sse;
#[cfg(test)]
mod tests;
pub mod trail;
pub mod unary;
pub mod upstream;
pub mod usage;
mod wanted;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use bytes::Bytes;
use futures_util::future::{Either, select};
use tokio::sync::Notify;

use self::budget::{Budget, Next};
use self::destination::{Destination, Finder};
use self::ending::{Ending, Facts, Final, Ground, Waits, Why, Words};
use self::exchange::{Attempted, Served};
use self::failure::{Failure, Said};
use self::final_error::FinalBody;
use self::hold::Hold;
use self::operation::Operation;
use self::pins::{Owner, Pins};
use self::record::Record;
use self::relay::Relay;
use self::trail::{AttemptResult, Entry};
use self::upstream::Upstream;
use self::wanted::Wanted;
pub use self::wanted::may_use;
use crate::backend::Rejection;
use crate::backend::outcome::Class;
use crate::clock::{self, Instant};
use crate::config::{BackendId, ClientKey, OnExhausted};
use crate::error::{ErrorType, Fault};
use crate::router::{Candidate, Chosen, Exhausted, Plan, RouteEntry, Router};
use crate::telemetry::labels::{AttemptKind, ExhaustedReason, FallbackAfter, FallbackResult, RequestOutcome};
use crate::telemetry::trace_context::{SpanId, TraceContext};
use crate::telemetry::tracer::AttemptEnd;

/// One call as the front door hands it in.
pub struct Call<'a> {
    /// The HTTP method.
    pub method: &'a actix_web::http::Method,
    /// What is asked for.
    pub operation: Operation,
    /// The query, empty if there is none.
    pub query: &'a str,
    /// The client's headers.
    pub headers: &'a HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// The client's key, where keys are asked for.
    pub key: Option<&'a ClientKey>,
    /// Who hears what becomes of it, where its head may leave before its answer is known.
    pub hold: Option<&'a Hold>,
}

impl Call<'_> {
    /// Whether its answer should say what it cost: it makes tokens, and every provider counts them.
    pub fn is_metered(&self) -> bool {
        *self.method == actix_web::http::Method::POST
            && matches!(&*self.operation.text, "chat/completions" | "completions" | "embeddings" | "responses")
    }
}

/// What becomes of a call.
pub enum Reply {
    /// A whole answer of a provider, or made from one.
    Whole(Box<WholeReply>),
    /// A committed answer that is still coming.
    Relay(StatusCode, HeaderMap, Box<Relay>),
    /// The request was wrong.
    Fault(Fault),
    /// The gateway's own error.
    Own(Words, Waits, RequestOutcome),
}

/// A whole answer.
pub struct WholeReply {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub head: Head,
    /// Its body.
    pub body: Bytes,
    /// What it says about coming back, where it is an error.
    pub waits: Option<Waits>,
    /// What it means for the request.
    pub outcome: RequestOutcome,
}

/// The headers of a whole answer.
pub enum Head {
    /// Those of the provider's answer, as received: not all of them are for clients.
    Provider(upstream::Fields),
    /// These, all of them.
    Own(HeaderMap),
}

impl Head {
    /// Fills in those that are for clients.
    pub fn fill(self, out: &mut HeaderMap) {
        match self {
            Self::Provider(fields) => passage::relay_headers(out, &fields),
            Self::Own(own) => *out = own,
        }
    }
}

/// One worker's proxy. Not `Send`.
pub struct Proxy {
    router: Router,
    upstream: Upstream,
    /// Who holds which object; the whole process's.
    pins: Arc<Pins>,
    /// Woken when the drain limit is over: every wait of this worker ends.
    cut: Arc<Notify>,
}

/// What every attempt of a request goes by, and none changes.
struct Errand<'a> {
    call: &'a Call<'a>,
    wanted: Wanted,
    /// The request's id, as the provider is told it.
    shown_id: HeaderValue,
    /// Whether any of its backends may hold what it asks for: who says 404 is passed over.
    is_search: bool,
    /// Whose the objects are that it makes.
    owner: Option<Owner>,
    /// The trace whose spans its attempts are, where it is traced.
    trace: Option<TraceContext>,
}

/// The state of one request on its way.
struct Trip<'a> {
    errand: &'a Errand<'a>,
    record: &'a mut Record,
    budget: Budget,
    grounds: Vec<Ground>,
    /// Whether, since the last attempt, the retry budget held a backend back.
    is_out_of_budget: bool,
    /// What stood before each backend of the route at the last look.
    passed: Vec<Rejection>,
    /// Who has only said "later", and until when; none: something else came of it too.
    limited: Vec<(BackendId, Option<Instant>)>,
    /// How a wait in the queue of this route ended in vain.
    queued: Option<ExhaustedReason>,
    /// Retries on the same backend allowed so far.
    retries: u32,
    last: Option<Failure>,
    kind: AttemptKind,
    /// Whether a second call has been made beside a slow one.
    is_hedged: bool,
    /// The visit to a fallback route that has not been counted yet.
    visit: Option<Visit>,
}

/// One attempt among those of its request.
#[derive(Clone, Copy)]
struct Run {
    kind: AttemptKind,
    /// Whom it calls: tier and position on the plan's route.
    place: (usize, usize),
    begun: Instant,
    /// Its span, where the request is traced.
    span: Option<SpanId>,
}

impl Run {
    fn candidate(self, plan: &Plan) -> &Candidate {
        &plan.route().tiers[self.place.0][self.place.1]
    }
}

/// A visit to a fallback route.
struct Visit {
    /// The route that was left for it.
    from: Arc<RouteEntry>,
    after: FallbackAfter,
    /// Whether an attempt was made there: only then it counts.
    is_begun: bool,
}

impl Proxy {
    /// A worker's proxy with empty pools.
    pub fn new(router: Router, pins: Arc<Pins>, cut: Arc<Notify>) -> Self {
        Self { router, upstream: Upstream::new(), pins, cut }
    }

    /// The worker's router.
    pub fn router(&self) -> &Router {
        &self.router
    }

    /// Serves a call. When the drain limit is over, whatever it waits for is given up.
    pub async fn serve(&self, record: &mut Record, call: &Call<'_>) -> Reply {
        let cut = pin!(Arc::clone(&self.cut).notified_owned());
        match select(pin!(self.walk(record, call)), cut).await {
            Either::Left((reply, _)) => reply,
            Either::Right(_) => draining(RequestOutcome::Shutdown),
        }
    }

    async fn walk(&self, record: &mut Record, call: &Call<'_>) -> Reply {
        let wanted = match Wanted::read(call) {
            Ok(wanted) => wanted,
            Err(fault) => return Reply::Fault(fault),
        };
        record.model = wanted.shown_model();
        record.asked = wanted.asked();
        let found = self
            .router
            .plan_by(|table| Finder { call, wanted: &wanted, table, pins: &self.pins, now: record.received() }.find());
        let Destination { mut plan, is_search } = match found {
            Ok(found) => found,
            Err(fault) => return Reply::Fault(fault),
        };
        record.set_route(plan.asked());
        if let Some(key) = call.key
            && !may_use(key, plan.asked().config.name.as_str())
        {
            return Reply::Fault(Fault::RouteNotAllowed(key.name.to_string()));
        }
        let route = Arc::clone(plan.route());
        // An SDK's retry is itself an extra attempt.
        if !record.is_client_retry {
            route.retry_budget.count_request(record.received());
        }
        count_hedgeable(&route, record.received());
        let limits = wanted.limits();
        let started = record.started();
        let budget = Budget::new(&route.config.policy, route.tiers.len(), limits, wanted.streams(), started);
        plan.need.deadline = budget.deadline();
        if let Some(hold) = call.hold.filter(|_| wanted.streams() && call.operation.must_stream()) {
            hold.begin(plan.asked(), wanted::api(&call.operation), started);
        }
        let trace = record.spans.as_ref().map(|spans| spans.context);
        let owner = wanted.makes_pins.then(|| Owner::of(call.key));
        let errand = Errand { call, wanted, shown_id: record.shown_id.clone(), is_search, owner, trace };
        let mut trip = Trip {
            errand: &errand,
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
        };
        self.travel(&mut trip, plan).await
    }

    /// The loop: one backend after the other, until one serves or nothing is left.
    async fn travel(&self, trip: &mut Trip<'_>, mut plan: Plan) -> Reply {
        loop {
            let (returned, chosen) = match self.seek(trip, plan).await {
                Ok(sought) => sought,
                Err(reply) => return reply,
            };
            plan = returned;
            let run = trip.begin(&plan, &chosen, clock::now());
            let (last, attempted) = match trip.hedges_after(&plan, run) {
                None => (run, self.attempt(trip.errand, &plan, chosen, run, None).await),
                Some(delay) => {
                    let raced = Box::pin(self.race(trip, plan, chosen, run, delay)).await;
                    plan = raced.plan;
                    if let Some(other) = raced.other {
                        trip.note_other(other, &mut plan);
                    }
                    trip.show(raced.last.0, &plan);
                    raced.last
                }
            };
            // Its permit has been given back, unless it rides on in a relay.
            self.router.queues().wake();
            let now = clock::now();
            trip.record.outside += now.since(run.begun);
            match attempted {
                Attempted::Served(served) => return trip.serve(*served, last, &plan),
                Attempted::Failed(failure) => {
                    if let Some(reply) = trip.after(failure, last, &mut plan, now) {
                        return reply;
                    }
                }
            }
        }
    }
}

impl Trip<'_> {
    /// Nobody can serve now: what each of them has to say.
    fn pass_over(&mut self, asked: &RouteEntry, exhausted: Exhausted) {
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
    fn set_ground(&mut self, ground: Ground) {
        let known = self.grounds.iter_mut().find(|known| known.backend == ground.backend);
        match (known, ground.why) {
            (Some(known), Why::PassedOver(_)) if matches!(known.why, Why::Tried(..)) => {}
            (Some(known), _) => *known = ground,
            (None, _) => self.grounds.push(ground),
        }
    }

    /// An attempt begins: what it counts as.
    fn begin(&mut self, plan: &Plan, chosen: &Chosen, now: Instant) -> Run {
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

    fn run(&mut self, plan: &Plan, chosen: &Chosen, kind: AttemptKind, begun: Instant) -> Run {
        let (place, backend) = (chosen.place, chosen.candidate(plan).backend.config());
        let span = self.record.spans.as_mut().map(|spans| spans.begin_attempt(backend, kind, place.0 + 1, begun));
        Run { kind, place, begun, span }
    }

    /// What the record tells of the way so far.
    fn remember(&mut self, plan: &Plan) {
        if self.record.passed_over.len() != plan.passed_over().len() {
            self.record.passed_over = plan.passed_over().to_vec();
        }
        if !Arc::ptr_eq(plan.route(), plan.asked()) {
            self.record.fallback_route = Some(plan.route().config.name.clone());
        }
    }

    /// Whom the answer's headers name.
    fn show(&mut self, run: Run, plan: &Plan) {
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
    fn track(&mut self, run: Run, plan: &Plan, result: AttemptResult, at: Instant) {
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
    fn serve(&mut self, served: Served, run: Run, plan: &Plan) -> Reply {
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
    fn count_visit(&mut self, to: &RouteEntry, result: FallbackResult) {
        if let Some(visit) = self.visit.take().filter(|visit| visit.is_begun) {
            visit.from.handles.fallback(to.config.name.as_str(), visit.after, result).inc();
        }
    }

    /// What follows a failed attempt: nothing, if there is a next one, else the reply.
    fn after(&mut self, failure: Failure, run: Run, plan: &mut Plan, now: Instant) -> Option<Reply> {
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
    fn note(&mut self, failure: &Failure, run: Run, plan: &mut Plan, at: Instant) {
        self.track(run, plan, AttemptResult::Failed(failure.kind()), at);
        self.record.error = Some((failure.kind().name(), ""));
        if let Said::Answer(answer) = &failure.said {
            self.record.upstream_id = upstream::REQUEST_IDS.iter().find_map(|name| answer.headers.get(name)).cloned();
        }
        self.set_ground(Ground::tried(failure));
        self.note_limited(failure, at);
        if failure.class == Class::ContextWindow {
            plan.note_too_small(&failure.backend);
        }
    }

    /// Leaves the route for the next of its fallbacks. False if there is none, or the route does not want it.
    fn fall_back(&mut self, plan: &mut Plan, after: Option<ErrorType>) -> bool {
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
    fn unmoved(&mut self, plan: &Plan, class: Class) -> Reply {
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
    fn exhausted(&mut self, plan: &Plan, next: Next) -> Reply {
        let ending = self.decide(plan, next == Next::NoTime, matches!(next, Next::Fallback | Next::Spent));
        let waited = self.queued.filter(|_| next == Next::Failover && !self.is_out_of_budget);
        self.record.exhausted = Some(waited.unwrap_or(ending.reason));
        self.reply(plan, ending, RequestOutcome::Exhausted)
    }

    fn decide(&self, plan: &Plan, out_of_time: bool, attempts_spent: bool) -> Ending {
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

    fn reply(&mut self, plan: &Plan, ending: Ending, outcome: RequestOutcome) -> Reply {
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
fn count_hedgeable(route: &RouteEntry, now: Instant) {
    if route.config.policy.hedge.is_some() {
        route.hedge_budget.count_request(now);
    }
}

/// Whether the route names fallbacks for this very error.
fn has_own_fallback(route: &RouteEntry, kind: ErrorType) -> bool {
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
fn provider_reply(last: &Failure, status: u16, waits: Waits, outcome: RequestOutcome, expose: bool) -> Reply {
    let backend = if expose { last.backend.as_str() } else { "the backend" };
    let mut headers = HeaderMap::new();
    let json = HeaderValue::from_static("application/json");
    let (status, body) = match &last.said {
        Said::Answer(answer) => {
            headers = forward::for_client(answer.headers.clone());
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

/// The gateway is shutting down.
pub fn draining(outcome: RequestOutcome) -> Reply {
    let words = Words {
        status: 503,
        kind: "service_unavailable_error",
        code: "gateway_draining",
        message: "the gateway is shutting down: try again".to_owned(),
    };
    let waits = Waits { retry_after: Some(Duration::from_secs(1)), should_not_retry: false };
    Reply::Own(words, waits, outcome)
}

/// A bug of ours: nothing about it leaves but the request's id.
pub fn internal() -> Reply {
    Reply::Own(internal_words(), Waits::default(), RequestOutcome::InternalError)
}

fn internal_words() -> Words {
    Words {
        status: 500,
        kind: "server_error",
        code: "internal_error",
        message: "the gateway failed; its log knows this request by its id".to_owned(),
    }
}
