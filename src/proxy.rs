//! The walk of one request: plan → permit → send → classify → relay (style 1.3, steps 2 to 7).
//!
//! A worker's [`Proxy`] takes a [`Call`] and its [`Record`] and gives back a [`Reply`]. The only loop is failover, bounded by
//! the [`budget`] and the plan, and nothing loops once a byte has gone to the client.

pub mod attempt;
pub mod budget;
pub mod classify;
mod destination;
pub mod drain_limit;
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
pub mod reply_body;
pub mod request;
pub mod restamp;
pub mod rewrite;
mod seek;
mod spans;
pub mod sse;
#[cfg(test)]
mod tests;
pub mod trail;
mod trip;
pub mod unary;
pub mod upstream;
pub mod usage;
mod wanted;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::HeaderMap;
use bytes::Bytes;
use futures_util::future::{Either, select};

use self::budget::Budget;
use self::destination::{Destination, Finder};
use self::drain_limit::DrainLimit;
use self::ending::{Waits, Words};
use self::exchange::Attempted;
use self::hold::Hold;
use self::operation::Operation;
use self::pins::{Owner, Pins};
use self::record::Record;
use self::relay::Relay;
use self::trip::{Errand, Trip, count_hedgeable};
use self::upstream::Upstream;
use self::wanted::Wanted;
pub use self::wanted::may_use;
use crate::clock;
use crate::config::ClientKey;
use crate::error::Fault;
use crate::router::{Plan, Router};
use crate::telemetry::labels::RequestOutcome;

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
            Self::Provider(fields) => fields.append_relayed(out),
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
    /// When it is over, every wait of this worker ends.
    drain_limit: Arc<DrainLimit>,
}

impl Proxy {
    /// A worker's proxy with empty pools.
    pub fn new(router: Router, pins: Arc<Pins>, drain_limit: Arc<DrainLimit>) -> Self {
        Self { router, upstream: Upstream::new(), pins, drain_limit }
    }

    /// The worker's router.
    pub fn router(&self) -> &Router {
        &self.router
    }

    /// Serves a call. When the drain limit is over, whatever it waits for is given up.
    pub async fn serve(&self, record: &mut Record, call: &Call<'_>) -> Reply {
        let ended = pin!(self.drain_limit.ended());
        match select(pin!(self.walk(record, call)), ended).await {
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
        let mut trip = Trip::new(&errand, record, budget);
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
            match attempted {
                Attempted::Served(served) => {
                    trip.record.outside += served.at.since(run.begun);
                    return trip.serve(*served, last, &plan);
                }
                Attempted::Failed(failure) => {
                    let now = clock::now();
                    trip.record.outside += now.since(run.begun);
                    if let Some(reply) = trip.after(failure, last, &mut plan, now) {
                        return reply;
                    }
                }
            }
        }
    }
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
