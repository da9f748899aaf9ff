//! Whose fault it was: the error types that the whole program speaks, and the errors that end a request.
//!
//! [`ErrorType`] is the vocabulary of `fallback_on_error_types` and of metric labels (spec/resilience.md 2.1). [`Fault`] is
//! what can be wrong with a request before any backend is asked; `server::error` alone turns it into HTTP.

use std::time::Duration;

/// What kind of failure an attempt met: the vocabulary of `fallback_on_error_types`, metrics and trails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ErrorType {
    /// 429 for too many requests or tokens.
    RateLimit,
    /// Spent credit: 402, `insufficient_quota`.
    InsufficientQuota,
    /// The backend answered 5xx, or an in-band server error.
    ServiceUnavailable,
    /// No usable answer: DNS, connect, TLS, reset, truncated, malformed.
    ApiConnection,
    /// One of our timers ran out, or the backend answered 408 or 425.
    Timeout,
    /// The gateway's credential was refused (401).
    Authentication,
    /// The gateway's credential may not do this (403).
    PermissionDenied,
    /// The model or deployment does not exist (404).
    NotFound,
    /// The prompt is longer than the model's context.
    ContextWindowExceeded,
    /// The provider's content policy refused the prompt.
    ContentPolicyViolation,
    /// Any other fault of the caller.
    BadRequest,
}

impl ErrorType {
    /// All types, in the order of their discriminants.
    pub const ALL: [Self; 11] = [
        Self::RateLimit,
        Self::InsufficientQuota,
        Self::ServiceUnavailable,
        Self::ApiConnection,
        Self::Timeout,
        Self::Authentication,
        Self::PermissionDenied,
        Self::NotFound,
        Self::ContextWindowExceeded,
        Self::ContentPolicyViolation,
        Self::BadRequest,
    ];

    /// The stable word for configuration, headers, logs and labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RateLimit => "rate_limit_error",
            Self::InsufficientQuota => "insufficient_quota_error",
            Self::ServiceUnavailable => "service_unavailable_error",
            Self::ApiConnection => "api_connection_error",
            Self::Timeout => "timeout_error",
            Self::Authentication => "authentication_error",
            Self::PermissionDenied => "permission_denied_error",
            Self::NotFound => "not_found_error",
            Self::ContextWindowExceeded => "context_window_exceeded_error",
            Self::ContentPolicyViolation => "content_policy_violation_error",
            Self::BadRequest => "bad_request_error",
        }
    }

    /// The type of that name, exactly as [`ErrorType::name`] spells it.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Position in [`ErrorType::ALL`], for arrays of handles.
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// A set of error types: which failures fail over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorSet(u16);

impl ErrorSet {
    /// No type at all.
    pub const EMPTY: Self = Self(0);

    /// The eight types that fail over when a configuration does not say (spec/resilience.md 2.1).
    pub fn default_failover() -> Self {
        ErrorType::ALL[..8].iter().fold(Self::EMPTY, |set, kind| set.with(*kind))
    }

    /// The set with `kind` added. `rate_limit_error` brings `insufficient_quota_error` with it: the guide's users who list
    /// the one mean every 429.
    #[must_use]
    pub const fn with(self, kind: ErrorType) -> Self {
        let bits = self.0 | 1 << kind as u16;
        let quota = if matches!(kind, ErrorType::RateLimit) { 1 << ErrorType::InsufficientQuota as u16 } else { 0 };
        Self(bits | quota)
    }

    /// Whether `kind` is in the set.
    pub const fn contains(self, kind: ErrorType) -> bool {
        self.0 & (1 << kind as u16) != 0
    }

    /// The types in the set, in the order of [`ErrorType::ALL`].
    pub fn iter(self) -> impl Iterator<Item = ErrorType> {
        ErrorType::ALL.into_iter().filter(move |kind| self.contains(*kind))
    }
}

/// What was wrong with a request before any backend was asked (spec/wire.md 3.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The body is not a JSON object; where and why.
    InvalidJson {
        /// Byte offset of the first thing that does not fit.
        at: usize,
        /// What was expected there.
        what: &'static str,
    },
    /// The multipart form cannot be read.
    InvalidMultipart(&'static str),
    /// No `model` was named.
    MissingModel,
    /// `model` is not a non-empty string.
    InvalidModel,
    /// No route has this name (cut and escaped).
    UnknownModel(String),
    /// A routing header names nothing.
    UnknownHeader {
        /// `unknown_route` or `unknown_backend`.
        code: &'static str,
        /// The value, cut and escaped.
        name: String,
    },
    /// Nobody is known to hold the object, or to be meant (cut and escaped).
    UnknownResource(String),
    /// No such path.
    UnknownUrl(String),
    /// A known path that this gateway does not serve; why.
    Unsupported(String),
    /// A known path with another method; the allowed ones.
    MethodNotAllowed(&'static str),
    /// The body took too long to arrive.
    BodyTimeout(Duration),
    /// The body is larger than the limit, in bytes.
    TooLarge(usize),
    /// The body is compressed; the coding.
    ContentEncoding(String),
    /// No client key was sent.
    MissingKey,
    /// The client key is not known.
    InvalidKey,
    /// The client's key is not for this route; the key's name.
    RouteNotAllowed(String),
    /// The client left while its body was being read.
    ClientGone,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_index() {
        for (index, kind) in ErrorType::ALL.into_iter().enumerate() {
            assert_eq!(ErrorType::from_name(kind.name()), Some(kind));
            assert_eq!(kind.index(), index);
        }
    }

    #[test]
    fn rate_limit_brings_quota_and_nothing_else() {
        let set = ErrorSet::EMPTY.with(ErrorType::RateLimit);
        assert_eq!(set.iter().collect::<Vec<_>>(), [ErrorType::RateLimit, ErrorType::InsufficientQuota]);
        assert!(!ErrorSet::default_failover().contains(ErrorType::BadRequest));
        assert_eq!(ErrorSet::default_failover().iter().count(), 8);
    }
}
