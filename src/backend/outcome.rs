//! What can become of an attempt, and which state each end touches (spec/resilience.md 2.1).

use std::time::Duration;

use crate::error::ErrorType;

/// Where connecting failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnectPhase {
    /// Name resolution.
    Dns,
    /// TCP.
    Connect,
    /// TLS.
    Tls,
}

/// Which limit ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimeoutKind {
    /// Connecting.
    Connect,
    /// The answer's head.
    FirstByte,
    /// The first content of a stream.
    FirstToken,
    /// A gap between bytes or events.
    Idle,
    /// The whole request or stream.
    Total,
    /// The backend itself answered 408 or 425.
    Status,
}

/// The classes of an attempt that did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// No connection.
    Connect(ConnectPhase),
    /// The connection was cut before an answer.
    Reset,
    /// The answer ended early.
    Truncated,
    /// The answer made no sense.
    Malformed,
    /// An answered 5xx or an in-band server error.
    ServerError,
    /// A limit ran out.
    Timeout(TimeoutKind),
    /// 529 with a hint.
    Overloaded,
    /// 429 for too many requests or tokens.
    RateLimited,
    /// Spent credit.
    QuotaExhausted,
    /// 401.
    Auth,
    /// 403.
    Permission,
    /// 404 for a model or deployment.
    NotFound,
    /// The prompt is too long.
    ContextWindow,
    /// A content policy refused.
    Policy,
    /// Any other fault of the caller.
    CallerFault,
    /// Our own cap or bug.
    Local,
    /// The client left.
    ClientGone,
    /// The request's own deadline ended the attempt before the attempt's limit.
    Cut,
}

impl Class {
    /// The error type a route's list and the metrics speak of; none where no backend is to blame.
    pub const fn error_type(self) -> Option<ErrorType> {
        Some(match self {
            Self::Connect(_) | Self::Reset | Self::Truncated | Self::Malformed => ErrorType::ApiConnection,
            Self::ServerError | Self::Overloaded => ErrorType::ServiceUnavailable,
            Self::Timeout(_) | Self::Cut => ErrorType::Timeout,
            Self::RateLimited => ErrorType::RateLimit,
            Self::QuotaExhausted => ErrorType::InsufficientQuota,
            Self::Auth => ErrorType::Authentication,
            Self::Permission => ErrorType::PermissionDenied,
            Self::NotFound => ErrorType::NotFound,
            Self::ContextWindow => ErrorType::ContextWindowExceeded,
            Self::Policy => ErrorType::ContentPolicyViolation,
            Self::CallerFault => ErrorType::BadRequest,
            Self::Local | Self::ClientGone => return None,
        })
    }

    /// The class that an operator's `classify` rule names by its error type.
    pub const fn of(kind: ErrorType) -> Self {
        match kind {
            ErrorType::RateLimit => Self::RateLimited,
            ErrorType::InsufficientQuota => Self::QuotaExhausted,
            ErrorType::ServiceUnavailable => Self::ServerError,
            ErrorType::ApiConnection => Self::Malformed,
            ErrorType::Timeout => Self::Timeout(TimeoutKind::Status),
            ErrorType::Authentication => Self::Auth,
            ErrorType::PermissionDenied => Self::Permission,
            ErrorType::NotFound => Self::NotFound,
            ErrorType::ContextWindowExceeded => Self::ContextWindow,
            ErrorType::ContentPolicyViolation => Self::Policy,
            ErrorType::BadRequest => Self::CallerFault,
        }
    }

    /// What exactly broke, for the two transport types (spec/observability.md 1.2).
    pub const fn detail(self) -> Option<&'static str> {
        Some(match self {
            Self::Connect(ConnectPhase::Dns) => "dns",
            Self::Connect(ConnectPhase::Connect) => "connect",
            Self::Connect(ConnectPhase::Tls) => "tls",
            Self::Reset => "reset",
            Self::Truncated => "truncated",
            Self::Malformed => "malformed",
            Self::Timeout(TimeoutKind::Connect) => "connect_timeout",
            Self::Timeout(TimeoutKind::FirstByte) => "first_byte_timeout",
            Self::Timeout(TimeoutKind::FirstToken) => "first_token_timeout",
            Self::Timeout(TimeoutKind::Idle) => "idle_timeout",
            Self::Timeout(TimeoutKind::Total) | Self::Cut => "total_timeout",
            Self::Timeout(TimeoutKind::Status) => "status_408",
            Self::ServerError
            | Self::Overloaded
            | Self::RateLimited
            | Self::QuotaExhausted
            | Self::Auth
            | Self::Permission
            | Self::NotFound
            | Self::ContextWindow
            | Self::Policy
            | Self::CallerFault
            | Self::Local
            | Self::ClientGone => return None,
        })
    }

    /// What the circuit breaker makes of it.
    pub const fn effect(self) -> Effect {
        match self {
            Self::Connect(_)
            | Self::Reset
            | Self::Truncated
            | Self::Malformed
            | Self::ServerError
            | Self::Timeout(_) => Effect::Failure,
            Self::CallerFault => Effect::Caller,
            Self::Overloaded
            | Self::RateLimited
            | Self::QuotaExhausted
            | Self::Auth
            | Self::Permission
            | Self::NotFound
            | Self::ContextWindow
            | Self::Policy => Effect::Neutral,
            Self::Local => Effect::None,
            Self::ClientGone => Effect::Gone,
            Self::Cut => Effect::Cut,
        }
    }

    /// The block it sets on the backend, if any.
    pub const fn block(self) -> Option<Block> {
        match self {
            Self::RateLimited => Some(Block::Rate),
            Self::Overloaded => Some(Block::Overload),
            Self::QuotaExhausted => Some(Block::Money),
            Self::Auth => Some(Block::Auth),
            Self::Permission => Some(Block::Permission),
            Self::NotFound => Some(Block::NotFound),
            // A 503 blocks only where it brings a hint; the quota asks for that itself.
            Self::ServerError => Some(Block::Overload),
            Self::Connect(_)
            | Self::Reset
            | Self::Truncated
            | Self::Malformed
            | Self::Timeout(_)
            | Self::ContextWindow
            | Self::Policy
            | Self::CallerFault
            | Self::Local
            | Self::ClientGone
            | Self::Cut => None,
        }
    }
}

/// What the end of an attempt means to the circuit breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The backend works.
    Success,
    /// The backend does not.
    Failure,
    /// It answered, but that proves nothing about the model.
    Neutral,
    /// It found fault with the caller, which three times in a row proves that it lives.
    Caller,
    /// The client left before it could tell, which counts only where any answer would have been slow.
    Gone,
    /// The request's deadline ended it: a failure if it was overdue, else as if the client had left.
    Cut,
    /// Nothing was learned.
    None,
}

/// Why a backend is passed over for a while without being unhealthy (spec/resilience.md 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Block {
    /// 429.
    Rate,
    /// 503 or 529 with a hint.
    Overload,
    /// Spent credit.
    Money,
    /// 401.
    Auth,
    /// 403.
    Permission,
    /// 404.
    NotFound,
}

impl Block {
    /// All blocks, in the order of their discriminants.
    pub const ALL: [Self; 6] = [Self::Rate, Self::Overload, Self::Money, Self::Auth, Self::Permission, Self::NotFound];

    /// The stable word for logs and labels; the same as the reason for passing a backend over.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate_limited",
            Self::Overload => "overloaded",
            Self::Money => "quota_exhausted",
            Self::Auth => "auth_blocked",
            Self::Permission => "permission_blocked",
            Self::NotFound => "not_found",
        }
    }
}

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The whole answer, or the whole stream, was there.
    Success,
    /// It failed, and the provider may have said how long to wait.
    Failure {
        /// How.
        class: Class,
        /// The provider's own wait (spec/resilience.md 4.2).
        hint: Option<Duration>,
    },
}

impl Outcome {
    /// A failure without a hint.
    pub const fn failure(class: Class) -> Self {
        Self::Failure { class, hint: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// spec/resilience.md 2.1: error type, detail, what the breaker makes of it, block.
    #[test]
    fn each_class_has_its_row() {
        use ErrorType as E;
        let timeout = |kind| (Class::Timeout(kind), Some(E::Timeout));
        let connect = |phase| (Class::Connect(phase), Some(E::ApiConnection));
        let table = [
            (connect(ConnectPhase::Dns), Some("dns"), Effect::Failure, None),
            (connect(ConnectPhase::Connect), Some("connect"), Effect::Failure, None),
            (connect(ConnectPhase::Tls), Some("tls"), Effect::Failure, None),
            ((Class::Reset, Some(E::ApiConnection)), Some("reset"), Effect::Failure, None),
            ((Class::Truncated, Some(E::ApiConnection)), Some("truncated"), Effect::Failure, None),
            ((Class::Malformed, Some(E::ApiConnection)), Some("malformed"), Effect::Failure, None),
            ((Class::ServerError, Some(E::ServiceUnavailable)), None, Effect::Failure, Some(Block::Overload)),
            (timeout(TimeoutKind::Connect), Some("connect_timeout"), Effect::Failure, None),
            (timeout(TimeoutKind::FirstByte), Some("first_byte_timeout"), Effect::Failure, None),
            (timeout(TimeoutKind::FirstToken), Some("first_token_timeout"), Effect::Failure, None),
            (timeout(TimeoutKind::Idle), Some("idle_timeout"), Effect::Failure, None),
            (timeout(TimeoutKind::Total), Some("total_timeout"), Effect::Failure, None),
            (timeout(TimeoutKind::Status), Some("status_408"), Effect::Failure, None),
            ((Class::Overloaded, Some(E::ServiceUnavailable)), None, Effect::Neutral, Some(Block::Overload)),
            ((Class::RateLimited, Some(E::RateLimit)), None, Effect::Neutral, Some(Block::Rate)),
            ((Class::QuotaExhausted, Some(E::InsufficientQuota)), None, Effect::Neutral, Some(Block::Money)),
            ((Class::Auth, Some(E::Authentication)), None, Effect::Neutral, Some(Block::Auth)),
            ((Class::Permission, Some(E::PermissionDenied)), None, Effect::Neutral, Some(Block::Permission)),
            ((Class::NotFound, Some(E::NotFound)), None, Effect::Neutral, Some(Block::NotFound)),
            ((Class::ContextWindow, Some(E::ContextWindowExceeded)), None, Effect::Neutral, None),
            ((Class::Policy, Some(E::ContentPolicyViolation)), None, Effect::Neutral, None),
            ((Class::CallerFault, Some(E::BadRequest)), None, Effect::Caller, None),
            ((Class::Local, None), None, Effect::None, None),
            ((Class::ClientGone, None), None, Effect::Gone, None),
            ((Class::Cut, Some(E::Timeout)), Some("total_timeout"), Effect::Cut, None),
        ];
        for ((class, kind), detail, effect, block) in table {
            let found = (class.error_type(), class.detail(), class.effect(), class.block());
            assert_eq!(found, (kind, detail, effect, block), "{class:?}");
            // An operator's rule that names the type gets a class of that type.
            assert!(kind.is_none_or(|kind| Class::of(kind).error_type() == Some(kind)), "{class:?}");
        }
    }
}
