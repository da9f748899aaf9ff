//! What clients ask for, and its policy. Defaults are those of spec/config.md 9.

use std::time::Duration;

use super::{BackendId, RouteName};
use crate::error::ErrorSet;

/// What clients ask for: tiers of weighted backends.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Its name; for a wildcard the pattern.
    pub name: RouteName,
    /// Where it comes from.
    pub origin: Origin,
    /// Callable but not listed.
    pub hidden: bool,
    /// Backends of equal priority, best first. Never empty, no tier is empty.
    pub tiers: Vec<Tier>,
    /// Choice within a tier.
    pub strategy: Strategy,
    /// Which failures fail over.
    pub failover_on: ErrorSet,
    /// Routes tried next.
    pub fallbacks: Vec<RouteName>,
    /// Routes tried next when the prompt was too long.
    pub context_window_fallbacks: Vec<RouteName>,
    /// Routes tried next when a content policy refused.
    pub content_policy_fallbacks: Vec<RouteName>,
    /// The (r) blocks.
    pub policy: RoutePolicy,
}

/// Where a route comes from (spec/config.md 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A `router[]` entry.
    Router,
    /// `routing_groups[]`.
    Group,
    /// `model_group_alias`.
    Alias,
    /// A `model_name`.
    Implicit,
    /// A backend's own id.
    BackendId,
    /// A `model_name` with `*`.
    Wildcard,
}

/// Backends of equal priority.
#[derive(Clone, Debug, PartialEq)]
pub struct Tier {
    /// As written, or the position.
    pub priority: u32,
    /// Its backends in file order.
    pub members: Vec<Member>,
}

/// One backend within one route.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Which.
    pub backend: BackendId,
    /// Its share; 0 drains it here.
    pub weight: f64,
    /// The time limits of a call, nearest value first (spec/config.md 1 rule 6).
    pub timeouts: AttemptTimeouts,
}

/// Time limits of one attempt (spec/resilience.md 7.2).
#[derive(Clone, Debug, PartialEq)]
pub struct AttemptTimeouts {
    /// DNS, TCP and TLS.
    pub connect: Duration,
    /// Stream: to the first content.
    pub first_token: Duration,
    /// Stream of a reasoning call: to the first content.
    pub first_token_reasoning: Duration,
    /// Unary: to the answer's head.
    pub first_byte: Duration,
    /// Unary reasoning call: to the answer's head.
    pub first_byte_reasoning: Duration,
    /// Gap between bytes or events.
    pub idle: Duration,
}

impl Default for AttemptTimeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            first_token: Duration::from_secs(30),
            first_token_reasoning: Duration::from_secs(120),
            first_byte: Duration::from_secs(120),
            first_byte_reasoning: Duration::from_secs(300),
            idle: Duration::from_secs(60),
        }
    }
}

/// `load_balance_strategy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Smooth, by weight; the default.
    WeightedRoundRobin,
    /// Smooth, equal shares.
    RoundRobin,
    /// One uniform draw.
    Random,
    /// One draw by weight.
    RandomWeighted,
    /// Fewest calls in flight per weight.
    LeastBusy,
    /// Two choices, the faster.
    LowestLatency,
}

impl Strategy {
    /// The word of the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::WeightedRoundRobin => "weighted_round_robin",
            Self::RoundRobin => "round_robin",
            Self::Random => "random",
            Self::RandomWeighted => "random_weighted",
            Self::LeastBusy => "least_busy",
            Self::LowestLatency => "lowest_latency",
        }
    }
}

/// The (r) blocks of `resilience:` for one route.
#[derive(Clone, Debug, PartialEq)]
pub struct RoutePolicy {
    /// The whole request; a stream up to its first content.
    pub total: Duration,
    /// A running stream.
    pub stream_total: Duration,
    /// Share of the time left that one attempt may take, in 1/10 000.
    pub attempt_time_share: u32,
    /// With less time left no further attempt starts.
    pub min_attempt: Duration,
    /// Attempts on this route.
    pub max_attempts: u32,
    /// Attempts with all fallback routes.
    pub max_total_attempts: u32,
    /// Same backend again.
    pub same_backend_retries: u32,
    /// Extra attempts allowed per request, in 1/10 000.
    pub retry_budget_ratio: u32,
    /// Extra attempts always allowed per 10 s.
    pub retry_budget_min: u32,
    /// Hedging, off where none.
    pub hedge: Option<Hedge>,
    /// Bytes held before the first content.
    pub holdback: usize,
    /// The same on /responses.
    pub responses_holdback: usize,
    /// After this time without content: 200 and comments.
    pub head_hold: Option<Duration>,
    /// Gap between comments.
    pub keepalive: Option<Duration>,
    /// What happens when nothing can be selected, in order; `reject` is always the implicit last.
    pub on_exhausted: Vec<OnExhausted>,
    /// Longest wait in the queue.
    pub queue_max_wait: Duration,
    /// Most requests waiting per worker and route.
    pub queue_max_size: usize,
    /// Tell SDKs when retrying is pointless.
    pub send_x_should_retry: bool,
    /// Backend names and reasons in errors and headers.
    pub expose_backends: bool,
}

/// `hedge:` where it is enabled.
#[derive(Clone, Debug, PartialEq)]
pub struct Hedge {
    /// Shortest delay.
    pub min_delay: Duration,
    /// Share of requests that may be hedged, in 1/10 000.
    pub max_extra: u32,
}

/// A word of `on_exhausted`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExhausted {
    /// The next route in `fallbacks`.
    FallbackRoute,
    /// Wait for a backend.
    Queue,
    /// The open backend soonest to expire.
    LeastBad,
    /// Answer now.
    Reject,
}

impl Default for RoutePolicy {
    fn default() -> Self {
        Self {
            total: Duration::from_secs(600),
            stream_total: Duration::from_secs(3_600),
            attempt_time_share: 10_000,
            min_attempt: Duration::from_secs(1),
            max_attempts: 3,
            max_total_attempts: 5,
            same_backend_retries: 0,
            retry_budget_ratio: 2_000,
            retry_budget_min: 3,
            hedge: None,
            holdback: 64 << 10,
            responses_holdback: 256 << 10,
            head_hold: None,
            keepalive: Some(Duration::from_secs(15)),
            on_exhausted: vec![OnExhausted::FallbackRoute, OnExhausted::Reject],
            queue_max_wait: Duration::from_secs(2),
            queue_max_size: 128,
            send_x_should_retry: true,
            expose_backends: true,
        }
    }
}
