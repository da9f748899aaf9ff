//! What is kept of a failed attempt: its class for the next decision, its answer in case it is the last word.

use std::time::Duration;

use bytes::Bytes;

use super::error_fields::ErrorFields;
use super::upstream::Fields;
use crate::backend::outcome::{Class, TimeoutKind};
use crate::config::BackendId;
use crate::error::ErrorType;

/// A failed attempt.
#[derive(Debug)]
pub struct Failure {
    /// Which backend failed.
    pub backend: BackendId,
    /// How.
    pub class: Class,
    /// The provider's own wait.
    pub hint: Option<Duration>,
    /// What it said.
    pub said: Said,
}

/// What a failed backend said.
#[derive(Debug)]
pub enum Said {
    /// Nothing that could be shown.
    Nothing,
    /// The limit that ran out.
    TooLate(Duration),
    /// An answer that is no success.
    Answer(Box<ErrorAnswer>),
    /// An error inside a 2xx answer.
    InBand(ErrorFields),
}

/// A provider's error over HTTP.
#[derive(Debug)]
pub struct ErrorAnswer {
    /// Its status.
    pub status: u16,
    /// Its headers, as received.
    pub headers: Fields,
    /// Its `content-type`, empty if it has none.
    pub content_type: String,
    /// Its body, at most [`super::attempt::MAX_ERROR_BODY_BYTES`].
    pub body: Bytes,
}

impl Failure {
    /// The error type of its class; our own faults count as a service that is not there.
    pub fn kind(&self) -> ErrorType {
        self.class.error_type().unwrap_or(ErrorType::ServiceUnavailable)
    }

    /// Whether the provider says that it has no such object.
    pub fn is_missing_object(&self) -> bool {
        matches!(&self.said, Said::Answer(answer) if answer.status == 404) && self.class == Class::CallerFault
    }

    /// Whether the provider cannot have acted on the call: then also one that creates an object may go elsewhere
    /// (spec/wire.md 1.4 rule 6).
    pub fn left_nothing_behind(&self) -> bool {
        let status = match &self.said {
            Said::Answer(answer) => Some(answer.status),
            Said::Nothing | Said::TooLate(_) | Said::InBand(_) => None,
        };
        match self.class {
            Class::Connect(_)
            | Class::Timeout(TimeoutKind::Connect)
            | Class::RateLimited
            | Class::QuotaExhausted
            | Class::Auth
            | Class::Permission
            | Class::NotFound
            | Class::Local => true,
            Class::ServerError | Class::Overloaded => status == Some(503),
            Class::Reset
            | Class::Truncated
            | Class::Malformed
            | Class::Timeout(_)
            | Class::ContextWindow
            | Class::Policy
            | Class::CallerFault
            | Class::ClientGone
            | Class::Cut => false,
        }
    }

    /// What happened, in a few words for an error message: no URL, no key, nothing of what the provider wrote.
    pub fn words(&self) -> String {
        use crate::backend::outcome::ConnectPhase;
        let within = |what: &str| match self.said {
            Said::TooLate(limit) => format!("{what} within {} s", limit.as_secs_f64()),
            Said::Nothing | Said::Answer(_) | Said::InBand(_) => format!("{what} in time"),
        };
        let answered = || match &self.said {
            Said::Answer(answer) => format!("answered {}", answer.status),
            Said::Nothing | Said::TooLate(_) | Said::InBand(_) => "failed in its answer".to_owned(),
        };
        match self.class {
            Class::Connect(ConnectPhase::Dns) => "its name could not be resolved".to_owned(),
            Class::Connect(ConnectPhase::Connect) => "connection refused or failed".to_owned(),
            Class::Connect(ConnectPhase::Tls) => "the TLS handshake failed".to_owned(),
            Class::Reset => "connection reset before an answer".to_owned(),
            Class::Truncated => "the answer ended early".to_owned(),
            Class::Malformed => "the answer made no sense".to_owned(),
            Class::Timeout(TimeoutKind::Connect) => within("no connection"),
            Class::Timeout(TimeoutKind::FirstByte) => within("no answer"),
            Class::Timeout(TimeoutKind::FirstToken) => within("no first token"),
            Class::Timeout(TimeoutKind::Idle) => within("no further data"),
            Class::Timeout(TimeoutKind::Total) | Class::Cut => "the request's time was over".to_owned(),
            // Without an answer it was not even asked.
            Class::Auth if matches!(self.said, Said::Nothing) => "no token is to be had for it".to_owned(),
            Class::Auth => "rejected the gateway's credentials".to_owned(),
            Class::Permission => "refused the gateway's credentials permission".to_owned(),
            Class::NotFound => "does not know the model or deployment it is configured with".to_owned(),
            Class::RateLimited => "rate limited".to_owned(),
            Class::QuotaExhausted => "out of quota".to_owned(),
            Class::Local => "the gateway could not make the call".to_owned(),
            Class::ClientGone => "the client left".to_owned(),
            Class::Timeout(TimeoutKind::Status)
            | Class::ServerError
            | Class::Overloaded
            | Class::ContextWindow
            | Class::Policy
            | Class::CallerFault => answered(),
        }
    }
}
