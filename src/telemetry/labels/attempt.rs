//! Labels of attempts: why they were made, and how they ended.

use super::{Label, words};
use crate::error::ErrorType;

words! {
    /// Why an attempt was made.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum AttemptKind {
        /// The request's first, wherever it lands.
        First = "first",
        /// The same backend again.
        Retry = "retry",
        /// The next backend of the same route.
        Failover = "failover",
        /// A backend of another route.
        Fallback = "fallback",
        /// A second call beside a slow one.
        Hedge = "hedge",
    }

    /// What exactly broke in a transport failure or a timeout.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum FailureDetail {
        /// Name resolution.
        Dns = "dns",
        /// TCP connect.
        Connect = "connect",
        /// TLS handshake.
        Tls = "tls",
        /// The connection was cut.
        Reset = "reset",
        /// The answer ended early.
        Truncated = "truncated",
        /// The answer made no sense.
        Malformed = "malformed",
        /// Connecting took too long.
        ConnectTimeout = "connect_timeout",
        /// The answer's head took too long.
        FirstByteTimeout = "first_byte_timeout",
        /// The first content took too long.
        FirstTokenTimeout = "first_token_timeout",
        /// A gap was too long.
        IdleTimeout = "idle_timeout",
        /// The request's time was over.
        TotalTimeout = "total_timeout",
        /// The backend answered 408 or 425.
        Status408 = "status_408",
    }

    /// Why a call was sent again within one attempt.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum ResendReason {
        /// A reused connection was dead.
        StaleConnection = "stale_connection",
        /// The provider refused the `stream_options` we added.
        StreamOptions = "stream_options",
    }

    /// What came of a second call beside a slow one.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum HedgeResult {
        /// Its answer was served.
        Won = "won",
        /// It was cancelled: the other answered first, or the client left.
        Lost = "lost",
        /// It failed.
        Failed = "failed",
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
