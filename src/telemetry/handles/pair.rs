//! What is counted of one backend on one route, and of the backend itself.

use std::sync::LazyLock;

use prometheus::{Counter, Histogram, IntCounter, IntGauge};

use super::super::labels::{
    AttemptOutcome, FailureDetail, PassedOver, ResendReason, StreamEnd, TokenDetail, TokenType,
};
use super::{Lazily, Metrics, Set};

/// The metrics of one backend on one route, and of the backend itself.
pub struct PairHandles {
    attempts: Set<IntCounter>,
    streams: Set<IntCounter>,
    tokens: Set<IntCounter>,
    token_details: Set<IntCounter>,
    details: Set<IntCounter>,
    rejections: Set<IntCounter>,
    durations: [Histogram; 2],
    resends: Set<IntCounter>,
    /// From the call's begin to its first content.
    pub first_token: Histogram,
    /// From content to content, by output token.
    pub output_token: Histogram,
    /// Answers that should have said what they cost.
    pub usage_missing: IntCounter,
    /// What its tokens cost, in US dollars; a series only where they have a price.
    pub cost: Lazily<Counter>,
    /// Times it was called again by the request it had failed.
    pub retries: IntCounter,
    /// Calls running.
    pub in_flight: IntGauge,
}

impl PairHandles {
    /// Makes them, and every series that is not lazy itmetrics.
    pub(super) fn new(metrics: &Metrics, route: &str, backend: &str) -> Self {
        let duration = |result| metrics.attempt_durations.child(&[backend, result]);
        Self {
            attempts: Set::new::<AttemptOutcome>(|outcome| metrics.attempts.child(&[route, backend, outcome])),
            streams: Set::new::<StreamEnd>(|end| metrics.streams.child(&[route, backend, end])),
            tokens: Set::new::<TokenType>(|kind| metrics.tokens.child(&[route, backend, kind])),
            token_details: Set::new::<TokenDetail>(|detail| metrics.token_details.child(&[backend, detail])),
            details: Set::new::<FailureDetail>(|detail| metrics.details.child(&[backend, detail])),
            rejections: Set::new::<PassedOver>(|reason| metrics.rejections.child(&[backend, reason])),
            durations: [duration("success"), duration("failure")],
            resends: Set::new::<ResendReason>(|reason| metrics.resends.child(&[backend, reason])),
            first_token: metrics.attempt_first_token.child(&[backend]),
            output_token: metrics.output_token.child(&[backend]),
            usage_missing: metrics.usage_missing.child(&[route, backend]),
            cost: {
                let (costs, route, backend) = (metrics.cost.clone(), route.to_owned(), backend.to_owned());
                LazyLock::new(Box::new(move || costs.child(&[&route, &backend])))
            },
            retries: metrics.retries.child(&[route, backend]),
            in_flight: metrics.attempts_in_flight.child(&[backend]),
        }
    }

    /// Attempts that ended so.
    pub fn attempts(&self, outcome: AttemptOutcome) -> &IntCounter {
        self.attempts.at(outcome)
    }

    /// Streams that ended so.
    pub fn streams(&self, end: StreamEnd) -> &IntCounter {
        self.streams.at(end)
    }

    /// Tokens as reported.
    pub fn tokens(&self, kind: TokenType) -> &IntCounter {
        self.tokens.at(kind)
    }

    /// Parts of them.
    pub fn token_details(&self, detail: TokenDetail) -> &IntCounter {
        self.token_details.at(detail)
    }

    /// What exactly broke.
    pub fn detail(&self, detail: FailureDetail) -> &IntCounter {
        self.details.at(detail)
    }

    /// Free second sends, which are no attempts.
    pub fn resends(&self, reason: ResendReason) -> &IntCounter {
        self.resends.at(reason)
    }

    /// Times the backend was passed over.
    pub fn rejections(&self, reason: PassedOver) -> &IntCounter {
        self.rejections.at(reason)
    }

    /// Duration of attempts that succeeded, or failed.
    pub fn duration(&self, success: bool) -> &Histogram {
        &self.durations[usize::from(!success)]
    }
}
