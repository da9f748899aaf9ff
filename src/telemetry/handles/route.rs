//! What is counted of one route.

use std::sync::OnceLock;

use prometheus::{Histogram, IntCounter, IntGauge};

use super::super::labels::{
    Asked, AttemptKind, Code, Endpoint, ExhaustedReason, FallbackAfter, FallbackResult, HedgeResult, Label,
    RequestOutcome,
};
use super::super::metrics::Family;
use super::{Metrics, Set};

/// The metrics of one route.
pub struct RouteHandles {
    requests: [Set<IntCounter>; 2],
    durations: Set<Histogram>,
    overheads: Set<Histogram>,
    started: Set<IntCounter>,
    exhausted: Set<IntCounter>,
    hedges: Set<IntCounter>,
    responses: Vec<OnceLock<IntCounter>>,
    responses_family: Family<IntCounter>,
    failovers: Family<IntCounter>,
    fallbacks: Family<IntCounter>,
    name: String,
    /// Requests under way.
    pub in_flight: IntGauge,
    /// Requests without an upstream call.
    pub unattempted: IntCounter,
    /// Requests saved.
    pub recovered: IntCounter,
    /// Extra attempts that were wanted and not granted.
    pub retry_budget_exhausted: IntCounter,
    /// Requests waiting for a backend.
    pub queue_depth: IntGauge,
    /// How long they waited.
    pub queue_wait: Histogram,
    /// SDKs' own retries.
    pub client_retries: IntCounter,
    /// Streams whose first content has gone out.
    pub streams_in_flight: IntGauge,
    /// What users feel.
    pub time_to_first_token: Histogram,
}

impl RouteHandles {
    /// Makes them, and every series that is not lazy itmetrics.
    pub(super) fn new(metrics: &Metrics, route: &str) -> Self {
        let requests = |stream: &'static str| {
            Set::new::<RequestOutcome>(|outcome| metrics.requests.child(&[route, outcome, stream]))
        };
        Self {
            requests: [requests("false"), requests("true")],
            durations: Set::new::<Asked>(|stream| metrics.durations.child(&[route, stream])),
            overheads: Set::new::<Asked>(|stream| metrics.overheads.child(&[stream])),
            started: Set::new::<AttemptKind>(|kind| metrics.started.child(&[route, kind])),
            exhausted: Set::new::<ExhaustedReason>(|reason| metrics.exhausted.child(&[route, reason])),
            hedges: Set::new::<HedgeResult>(|result| metrics.hedges.child(&[route, result])),
            responses: (0..Endpoint::ALL.len() * Code::ALL.len()).map(|_| OnceLock::new()).collect(),
            responses_family: metrics.responses.clone(),
            failovers: metrics.failovers.clone(),
            fallbacks: metrics.fallbacks.clone(),
            name: route.to_owned(),
            in_flight: metrics.in_flight.child(&[route]),
            unattempted: metrics.unattempted.child(&[route]),
            recovered: metrics.recovered.child(&[route]),
            retry_budget_exhausted: metrics.retry_budget_exhausted.child(&[route]),
            queue_depth: metrics.queue_depth.child(&[route]),
            queue_wait: metrics.queue_wait.child(&[route]),
            client_retries: metrics.client_retries.child(&[route]),
            streams_in_flight: metrics.streams_in_flight.child(&[route]),
            time_to_first_token: metrics.first_token.child(&[route]),
        }
    }

    /// Requests that ended so.
    pub fn requests(&self, outcome: RequestOutcome, asked: Asked) -> &IntCounter {
        self.requests[asked.index()].at(outcome)
    }

    /// Durations of requests.
    pub fn duration(&self, asked: Asked) -> &Histogram {
        self.durations.at(asked)
    }

    /// Our own share of them.
    pub fn overhead(&self, asked: Asked) -> &Histogram {
        self.overheads.at(asked)
    }

    /// Attempts begun.
    pub fn started(&self, kind: AttemptKind) -> &IntCounter {
        self.started.at(kind)
    }

    /// Requests for which nothing more could be tried.
    pub fn exhausted(&self, reason: ExhaustedReason) -> &IntCounter {
        self.exhausted.at(reason)
    }

    /// Second calls beside a slow one that ended so.
    pub fn hedges(&self, result: HedgeResult) -> &IntCounter {
        self.hedges.at(result)
    }

    /// Answers by operation and status, made on first use.
    pub fn responses(&self, endpoint: Endpoint, code: Code) -> &IntCounter {
        let slot = &self.responses[endpoint.index() * Code::ALL.len() + code.index()];
        slot.get_or_init(|| self.responses_family.child(&[&self.name, endpoint.name(), code.name()]))
    }

    /// A failover from one backend to another. Looked up: it happens per failure, not per request.
    pub fn failover(&self, from: &str, to: &str) -> IntCounter {
        self.failovers.child(&[&self.name, from, to])
    }

    /// A visit to a fallback route, this one having been left for it.
    pub fn fallback(&self, to: &str, after: FallbackAfter, result: FallbackResult) -> IntCounter {
        self.fallbacks.child(&[&self.name, to, after.name(), result.name()])
    }
}
