//! The closed sets of label values (spec/observability.md 1.2): no label value ever comes from a client.
//!
//! Every set is a [`Label`], so that a set of metric handles is an array and a count is an index and an add.

use crate::error::ErrorType;

/// A closed set of label values.
pub trait Label: Copy + 'static {
    /// All values in the order of their indexes.
    const ALL: &'static [Self];
    /// The stable word for labels and logs.
    fn name(self) -> &'static str;
    /// Position in [`Label::ALL`].
    fn index(self) -> usize;
}

impl Label for ErrorType {
    const ALL: &'static [Self] = &Self::ALL;

    fn name(self) -> &'static str {
        Self::name(self)
    }

    fn index(self) -> usize {
        Self::index(self)
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RequestOutcome {
    /// Answered well.
    Success,
    /// An upstream blamed the request; relayed.
    ClientFault,
    /// Answered without upstream for a cause outside the plan: bad body, unknown model, ingress auth or limit, draining.
    Rejected,
    /// The client left.
    ClientClosed,
    /// No further attempt was possible.
    Exhausted,
    /// A backend fault that does not fail over here; relayed.
    UpstreamError,
    /// Broken after commit.
    StreamError,
    /// Cut by the drain limit.
    Shutdown,
    /// Our own bug or panic.
    InternalError,
}

impl RequestOutcome {
    /// Whether the gateway failed its client.
    pub fn is_bad(self) -> bool {
        match self {
            Self::Success | Self::ClientFault | Self::Rejected | Self::ClientClosed => false,
            Self::Exhausted | Self::UpstreamError | Self::StreamError | Self::Shutdown | Self::InternalError => true,
        }
    }
}

impl Label for RequestOutcome {
    const ALL: &'static [Self] = &[
        Self::Success,
        Self::ClientFault,
        Self::Rejected,
        Self::ClientClosed,
        Self::Exhausted,
        Self::UpstreamError,
        Self::StreamError,
        Self::Shutdown,
        Self::InternalError,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::ClientFault => "client_fault",
            Self::Rejected => "rejected",
            Self::ClientClosed => "client_closed",
            Self::Exhausted => "exhausted",
            Self::UpstreamError => "upstream_error",
            Self::StreamError => "stream_error",
            Self::Shutdown => "shutdown",
            Self::InternalError => "internal_error",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// Why an attempt was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AttemptKind {
    /// The request's first, wherever it lands.
    First,
    /// The same backend again.
    Retry,
    /// The next backend of the same route.
    Failover,
    /// A backend of another route.
    Fallback,
    /// A second call beside a slow one.
    Hedge,
}

impl Label for AttemptKind {
    const ALL: &'static [Self] = &[Self::First, Self::Retry, Self::Failover, Self::Fallback, Self::Hedge];

    fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Retry => "retry",
            Self::Failover => "failover",
            Self::Fallback => "fallback",
            Self::Hedge => "hedge",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// Why nothing more could be tried (spec/resilience.md 9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExhaustedReason {
    /// The request's time was over.
    Deadline,
    /// Every backend is rate limited.
    RateLimited,
    /// Every backend is out of quota.
    QuotaExhausted,
    /// No backend could be selected.
    NoBackend,
    /// The queue was full.
    QueueFull,
    /// The wait in the queue was over.
    QueueTimeout,
    /// Every backend of the plan was tried.
    PlanSpent,
    /// The attempts were used up.
    AttemptLimit,
    /// The retry budget was used up.
    RetryBudget,
}

impl Label for ExhaustedReason {
    const ALL: &'static [Self] = &[
        Self::Deadline,
        Self::RateLimited,
        Self::QuotaExhausted,
        Self::NoBackend,
        Self::QueueFull,
        Self::QueueTimeout,
        Self::PlanSpent,
        Self::AttemptLimit,
        Self::RetryBudget,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Deadline => "deadline",
            Self::RateLimited => "rate_limited",
            Self::QuotaExhausted => "quota_exhausted",
            Self::NoBackend => "no_backend",
            Self::QueueFull => "queue_full",
            Self::QueueTimeout => "queue_timeout",
            Self::PlanSpent => "plan_spent",
            Self::AttemptLimit => "attempt_limit",
            Self::RetryBudget => "retry_budget",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// Why a backend was passed over (spec/resilience.md 6.1, 9.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PassedOver {
    /// Its circuit is open.
    CircuitOpen,
    /// Its host's circuit is open.
    EndpointOpen,
    /// All probes are taken.
    HalfOpenBusy,
    /// An operator forced it open.
    ForcedOpen,
    /// Blocked by a rate limit.
    RateLimited,
    /// Blocked by an overload.
    Overloaded,
    /// Blocked by spent credit.
    QuotaExhausted,
    /// Blocked by a refused credential.
    AuthBlocked,
    /// Blocked by a missing permission.
    PermissionBlocked,
    /// Blocked by an unknown model.
    NotFound,
    /// Our own requests per minute.
    LocalRpm,
    /// Our own tokens per minute.
    LocalTpm,
    /// Our own cap of calls in flight.
    Saturated,
    /// The provider's figures say it is nearly spent.
    LearnedQuota,
    /// The health check says no.
    Unhealthy,
    /// It is being drained.
    Draining,
    /// It cannot serve this request.
    Incompatible,
}

impl Label for PassedOver {
    const ALL: &'static [Self] = &[
        Self::CircuitOpen,
        Self::EndpointOpen,
        Self::HalfOpenBusy,
        Self::ForcedOpen,
        Self::RateLimited,
        Self::Overloaded,
        Self::QuotaExhausted,
        Self::AuthBlocked,
        Self::PermissionBlocked,
        Self::NotFound,
        Self::LocalRpm,
        Self::LocalTpm,
        Self::Saturated,
        Self::LearnedQuota,
        Self::Unhealthy,
        Self::Draining,
        Self::Incompatible,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::CircuitOpen => "circuit_open",
            Self::EndpointOpen => "endpoint_open",
            Self::HalfOpenBusy => "half_open_busy",
            Self::ForcedOpen => "forced_open",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::QuotaExhausted => "quota_exhausted",
            Self::AuthBlocked => "auth_blocked",
            Self::PermissionBlocked => "permission_blocked",
            Self::NotFound => "not_found",
            Self::LocalRpm => "local_rpm",
            Self::LocalTpm => "local_tpm",
            Self::Saturated => "saturated",
            Self::LearnedQuota => "learned_quota",
            Self::Unhealthy => "unhealthy",
            Self::Draining => "draining",
            Self::Incompatible => "incompatible",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// What blocks a backend (spec/resilience.md 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlockKind {
    /// A rate limit.
    Rate,
    /// An overload with a hint.
    Overload,
    /// Spent credit.
    Money,
    /// A refused credential.
    Auth,
    /// A missing permission.
    Permission,
    /// An unknown model.
    NotFound,
}

impl Label for BlockKind {
    const ALL: &'static [Self] =
        &[Self::Rate, Self::Overload, Self::Money, Self::Auth, Self::Permission, Self::NotFound];

    fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate_limited",
            Self::Overload => "overloaded",
            Self::Money => "quota_exhausted",
            Self::Auth => "auth_blocked",
            Self::Permission => "permission_blocked",
            Self::NotFound => "not_found",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// What exactly broke in a transport failure or a timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureDetail {
    /// Name resolution.
    Dns,
    /// TCP connect.
    Connect,
    /// TLS handshake.
    Tls,
    /// The connection was cut.
    Reset,
    /// The answer ended early.
    Truncated,
    /// The answer made no sense.
    Malformed,
    /// Connecting took too long.
    ConnectTimeout,
    /// The answer's head took too long.
    FirstByteTimeout,
    /// The first content took too long.
    FirstTokenTimeout,
    /// A gap was too long.
    IdleTimeout,
    /// The request's time was over.
    TotalTimeout,
    /// The backend answered 408 or 425.
    Status408,
}

impl Label for FailureDetail {
    const ALL: &'static [Self] = &[
        Self::Dns,
        Self::Connect,
        Self::Tls,
        Self::Reset,
        Self::Truncated,
        Self::Malformed,
        Self::ConnectTimeout,
        Self::FirstByteTimeout,
        Self::FirstTokenTimeout,
        Self::IdleTimeout,
        Self::TotalTimeout,
        Self::Status408,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Reset => "reset",
            Self::Truncated => "truncated",
            Self::Malformed => "malformed",
            Self::ConnectTimeout => "connect_timeout",
            Self::FirstByteTimeout => "first_byte_timeout",
            Self::FirstTokenTimeout => "first_token_timeout",
            Self::IdleTimeout => "idle_timeout",
            Self::TotalTimeout => "total_timeout",
            Self::Status408 => "status_408",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// How a committed stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StreamEnd {
    /// As it should.
    Completed,
    /// `[DONE]` without any finish reason; passes.
    DoneWithoutFinish,
    /// The client left.
    ClientClosed,
    /// Cut by the drain limit.
    Shutdown,
    /// Our own bug or panic.
    InternalError,
    /// An in-band error.
    UpstreamError,
    /// Cut before its end.
    Truncated,
    /// A gap was too long.
    IdleTimeout,
    /// The stream's time was over.
    TotalTimeout,
}

impl Label for StreamEnd {
    const ALL: &'static [Self] = &[
        Self::Completed,
        Self::DoneWithoutFinish,
        Self::ClientClosed,
        Self::Shutdown,
        Self::InternalError,
        Self::UpstreamError,
        Self::Truncated,
        Self::IdleTimeout,
        Self::TotalTimeout,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::DoneWithoutFinish => "done_without_finish",
            Self::ClientClosed => "client_closed",
            Self::Shutdown => "shutdown",
            Self::InternalError => "internal_error",
            Self::UpstreamError => "upstream_error",
            Self::Truncated => "truncated",
            Self::IdleTimeout => "idle_timeout",
            Self::TotalTimeout => "total_timeout",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// Which operation was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `chat/completions` and below.
    ChatCompletions,
    /// `completions`.
    Completions,
    /// `embeddings`.
    Embeddings,
    /// `responses` and below.
    Responses,
    /// `images/…`.
    Images,
    /// `audio/…`.
    Audio,
    /// `moderations`.
    Moderations,
    /// `models`.
    Models,
    /// Anything else.
    Other,
}

impl Label for Endpoint {
    const ALL: &'static [Self] = &[
        Self::ChatCompletions,
        Self::Completions,
        Self::Embeddings,
        Self::Responses,
        Self::Images,
        Self::Audio,
        Self::Moderations,
        Self::Models,
        Self::Other,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::ChatCompletions => "chat_completions",
            Self::Completions => "completions",
            Self::Embeddings => "embeddings",
            Self::Responses => "responses",
            Self::Images => "images",
            Self::Audio => "audio",
            Self::Moderations => "moderations",
            Self::Models => "models",
            Self::Other => "other",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// Why a client was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuthFailure {
    /// No key was sent.
    Missing,
    /// The key is not known.
    Invalid,
    /// The key is not for this route.
    RouteNotAllowed,
}

impl Label for AuthFailure {
    const ALL: &'static [Self] = &[Self::Missing, Self::Invalid, Self::RouteNotAllowed];

    fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Invalid => "invalid",
            Self::RouteNotAllowed => "route_not_allowed",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// Why a call was sent again within one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResendReason {
    /// A reused connection was dead.
    StaleConnection,
    /// The provider refused the `stream_options` we added.
    StreamOptions,
}

impl Label for ResendReason {
    const ALL: &'static [Self] = &[Self::StaleConnection, Self::StreamOptions];

    fn name(self) -> &'static str {
        match self {
            Self::StaleConnection => "stale_connection",
            Self::StreamOptions => "stream_options",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// What made a request leave its route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FallbackAfter {
    /// An attempt had failed.
    Failure,
    /// Nothing had been tried.
    Unavailable,
}

impl Label for FallbackAfter {
    const ALL: &'static [Self] = &[Self::Failure, Self::Unavailable];

    fn name(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::Unavailable => "unavailable",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// What came of a fallback route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FallbackResult {
    /// It answered.
    Served,
    /// It did not.
    Failed,
}

impl Label for FallbackResult {
    const ALL: &'static [Self] = &[Self::Served, Self::Failed];

    fn name(self) -> &'static str {
        match self {
            Self::Served => "served",
            Self::Failed => "failed",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// What came of a second call beside a slow one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HedgeResult {
    /// Its answer was served.
    Won,
    /// It was cancelled: the other answered first, or the client left.
    Lost,
    /// It failed.
    Failed,
}

impl Label for HedgeResult {
    const ALL: &'static [Self] = &[Self::Won, Self::Lost, Self::Failed];

    fn name(self) -> &'static str {
        match self {
            Self::Won => "won",
            Self::Lost => "lost",
            Self::Failed => "failed",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// What came of a half-open trial call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProbeResult {
    /// It succeeded.
    Success,
    /// It failed.
    Failure,
    /// It said nothing about the backend.
    Neutral,
    /// Its lease ran out.
    Expired,
}

impl Label for ProbeResult {
    const ALL: &'static [Self] = &[Self::Success, Self::Failure, Self::Neutral, Self::Expired];

    fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Neutral => "neutral",
            Self::Expired => "expired",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// What came of an active check, or of an attempt as its duration is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CheckResult {
    /// It succeeded.
    Success,
    /// It failed.
    Failure,
}

impl Label for CheckResult {
    const ALL: &'static [Self] = &[Self::Success, Self::Failure];

    fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// Which way tokens went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenType {
    /// Prompt tokens.
    Input,
    /// Completion tokens.
    Output,
}

impl Label for TokenType {
    const ALL: &'static [Self] = &[Self::Input, Self::Output];

    fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// Parts of the tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenDetail {
    /// Prompt tokens read from a cache.
    CachedInput,
    /// Prompt tokens written to a cache.
    CacheWriteInput,
    /// Output tokens spent on reasoning.
    ReasoningOutput,
}

impl Label for TokenDetail {
    const ALL: &'static [Self] = &[Self::CachedInput, Self::CacheWriteInput, Self::ReasoningOutput];

    fn name(self) -> &'static str {
        match self {
            Self::CachedInput => "cached_input",
            Self::CacheWriteInput => "cache_write_input",
            Self::ReasoningOutput => "reasoning_output",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// What came of a reload (spec/config.md 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReloadResult {
    /// Changes are in force.
    Applied,
    /// Other text, same meaning.
    NoEffect,
    /// The same text.
    Unchanged,
    /// The file cannot be used.
    Rejected,
}

impl Label for ReloadResult {
    const ALL: &'static [Self] = &[Self::Applied, Self::NoEffect, Self::Unchanged, Self::Rejected];

    fn name(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::NoEffect => "no_effect",
            Self::Unchanged => "unchanged",
            Self::Rejected => "rejected",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// Which kind of actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ActorKind {
    /// A backend's.
    Backend,
    /// A worker's router.
    Router,
    /// The watcher of the file.
    ConfigWatcher,
}

impl Label for ActorKind {
    const ALL: &'static [Self] = &[Self::Backend, Self::Router, Self::ConfigWatcher];

    fn name(self) -> &'static str {
        match self {
            Self::Backend => "backend",
            Self::Router => "router",
            Self::ConfigWatcher => "config_watcher",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// Which log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogKind {
    /// The access log.
    Access,
    /// The events.
    Events,
}

impl Label for LogKind {
    const ALL: &'static [Self] = &[Self::Access, Self::Events];

    fn name(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Events => "events",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// What became of spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SpanResult {
    /// The collector has them.
    Exported,
    /// It did not take them.
    Failed,
    /// Too many waited for it.
    Dropped,
}

impl Label for SpanResult {
    const ALL: &'static [Self] = &[Self::Exported, Self::Failed, Self::Dropped];

    fn name(self) -> &'static str {
        match self {
            Self::Exported => "exported",
            Self::Failed => "failed",
            Self::Dropped => "dropped",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// Whether a stream was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Asked {
    /// One whole answer.
    Whole,
    /// A stream.
    Stream,
}

impl Label for Asked {
    const ALL: &'static [Self] = &[Self::Whole, Self::Stream];

    fn name(self) -> &'static str {
        match self {
            Self::Whole => "false",
            Self::Stream => "true",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// Statuses with a label of their own; all others are `other`.
const STATUSES: [(u16, &str); 16] = [
    (200, "200"),
    (400, "400"),
    (401, "401"),
    (403, "403"),
    (404, "404"),
    (405, "405"),
    (408, "408"),
    (413, "413"),
    (415, "415"),
    (422, "422"),
    (429, "429"),
    (499, "499"),
    (500, "500"),
    (502, "502"),
    (503, "503"),
    (504, "504"),
];

/// The label of an HTTP status; 499 stands for a client that left before the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Code(u8);

impl Code {
    /// The label for `status`.
    pub fn of(status: u16) -> Self {
        let place = STATUSES.iter().position(|(known, _)| *known == status).unwrap_or(STATUSES.len());
        Self(u8::try_from(place).unwrap_or_default())
    }
}

impl Label for Code {
    const ALL: &'static [Self] = &[
        Self(0),
        Self(1),
        Self(2),
        Self(3),
        Self(4),
        Self(5),
        Self(6),
        Self(7),
        Self(8),
        Self(9),
        Self(10),
        Self(11),
        Self(12),
        Self(13),
        Self(14),
        Self(15),
        Self(16),
    ];

    fn name(self) -> &'static str {
        STATUSES.get(self.index()).map_or("other", |(_, name)| name)
    }

    fn index(self) -> usize {
        self.0.into()
    }
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AttemptOutcome {
    /// The backend served.
    Success,
    /// It failed like this.
    Failure(ErrorType),
    /// Client gone, hedge lost, shutdown.
    Cancelled,
    /// Our own fault: cap, descriptors, panic.
    LocalError,
}

impl Label for AttemptOutcome {
    const ALL: &'static [Self] = &[
        Self::Success,
        Self::Failure(ErrorType::RateLimit),
        Self::Failure(ErrorType::InsufficientQuota),
        Self::Failure(ErrorType::ServiceUnavailable),
        Self::Failure(ErrorType::ApiConnection),
        Self::Failure(ErrorType::Timeout),
        Self::Failure(ErrorType::Authentication),
        Self::Failure(ErrorType::PermissionDenied),
        Self::Failure(ErrorType::NotFound),
        Self::Failure(ErrorType::ContextWindowExceeded),
        Self::Failure(ErrorType::ContentPolicyViolation),
        Self::Failure(ErrorType::BadRequest),
        Self::Cancelled,
        Self::LocalError,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure(kind) => kind.name(),
            Self::Cancelled => "cancelled",
            Self::LocalError => "local_error",
        }
    }

    fn index(self) -> usize {
        match self {
            Self::Success => 0,
            Self::Failure(kind) => 1 + kind.index(),
            Self::Cancelled => 12,
            Self::LocalError => 13,
        }
    }
}

/// A state of a circuit as read (spec/observability.md 1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CircuitState {
    /// Calls pass.
    Closed,
    /// Probes pass; also open with its time over.
    HalfOpen,
    /// Nothing passes; also forced open.
    Open,
}

impl Label for CircuitState {
    const ALL: &'static [Self] = &[Self::Closed, Self::HalfOpen, Self::Open];

    fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<L: Label>() {
        let mut names = std::collections::BTreeSet::new();
        for (index, label) in L::ALL.iter().enumerate() {
            assert_eq!(label.index(), index);
            assert!(names.insert(label.name()), "{} stands twice", label.name());
            assert!(label.name().bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_')));
        }
    }

    #[test]
    fn indexes_are_positions_and_names_are_unique() {
        check::<ErrorType>();
        check::<AttemptOutcome>();
        check::<CircuitState>();
        check::<Code>();
        check::<RequestOutcome>();
        check::<AttemptKind>();
        check::<ExhaustedReason>();
        check::<PassedOver>();
        check::<BlockKind>();
        check::<FailureDetail>();
        check::<StreamEnd>();
        check::<Endpoint>();
        check::<AuthFailure>();
        check::<ResendReason>();
        check::<FallbackAfter>();
        check::<FallbackResult>();
        check::<HedgeResult>();
        check::<ProbeResult>();
        check::<CheckResult>();
        check::<TokenType>();
        check::<TokenDetail>();
        check::<ReloadResult>();
        check::<ActorKind>();
        check::<LogKind>();
        check::<SpanResult>();
        check::<Asked>();
    }

    #[test]
    fn unknown_statuses_share_a_label() {
        assert_eq!(Code::of(429).name(), "429");
        assert_eq!(Code::of(418).name(), "other");
        assert_eq!(Code::of(0), Code::of(599));
    }
}
