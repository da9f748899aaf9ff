//! Labels of backends: what holds them back.

use super::{Label, words};

words! {
    /// Why a backend was passed over (spec/resilience.md 6.1, 9.2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum PassedOver {
        /// Its circuit is open.
        CircuitOpen = "circuit_open",
        /// Its host's circuit is open.
        EndpointOpen = "endpoint_open",
        /// All probes are taken.
        HalfOpenBusy = "half_open_busy",
        /// An operator forced it open.
        ForcedOpen = "forced_open",
        /// Blocked by a rate limit.
        RateLimited = "rate_limited",
        /// Blocked by an overload.
        Overloaded = "overloaded",
        /// Blocked by spent credit.
        QuotaExhausted = "quota_exhausted",
        /// Blocked by a refused credential.
        AuthBlocked = "auth_blocked",
        /// Blocked by a missing permission.
        PermissionBlocked = "permission_blocked",
        /// Blocked by an unknown model.
        NotFound = "not_found",
        /// Our own requests per minute.
        LocalRpm = "local_rpm",
        /// Our own tokens per minute.
        LocalTpm = "local_tpm",
        /// Our own cap of calls in flight.
        Saturated = "saturated",
        /// The provider's figures say it is nearly spent.
        LearnedQuota = "learned_quota",
        /// The health check says no.
        Unhealthy = "unhealthy",
        /// It is being drained.
        Draining = "draining",
        /// It cannot serve this request.
        Incompatible = "incompatible",
    }

    /// What blocks a backend (spec/resilience.md 4.3).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum BlockKind {
        /// A rate limit.
        Rate = "rate_limited",
        /// An overload with a hint.
        Overload = "overloaded",
        /// Spent credit.
        Money = "quota_exhausted",
        /// A refused credential.
        Auth = "auth_blocked",
        /// A missing permission.
        Permission = "permission_blocked",
        /// An unknown model.
        NotFound = "not_found",
    }

    /// What came of a half-open trial call.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum ProbeResult {
        /// It succeeded.
        Success = "success",
        /// It failed.
        Failure = "failure",
        /// It said nothing about the backend.
        Neutral = "neutral",
        /// Its lease ran out.
        Expired = "expired",
    }

    /// What came of an active check, or of an attempt as its duration is kept.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum CheckResult {
        /// It succeeded.
        Success = "success",
        /// It failed.
        Failure = "failure",
    }

    /// A state of a circuit as read (spec/observability.md 1.3).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum CircuitState {
        /// Calls pass.
        Closed = "closed",
        /// Probes pass; also open with its time over.
        HalfOpen = "half_open",
        /// Nothing passes; also forced open.
        Open = "open",
    }
}
