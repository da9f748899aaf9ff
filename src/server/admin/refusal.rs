//! "No" to an operator, in the shape of all our errors.

use actix_web::HttpResponse;

use crate::error::Fault;
use crate::server::error::ErrorAnswer;

/// Why an operator's call is not done.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Wrong as any request can be.
    Fault(Fault),
    /// The address is not loopback and no token is configured (any more).
    NoToken,
    /// An open listener obeys no web page.
    FromAPage,
    /// No backend has this name (cut and escaped).
    UnknownBackend(String),
    /// A field of the body or the query; what it may be.
    Field(&'static str, String),
    /// The body is no JSON object.
    NoObject(&'static str),
    /// The backend's actor has just panicked and is not replaced yet.
    ActorGone(String),
    /// No configuration was in force before this one.
    NothingEarlier,
    /// Who changes configurations did not answer in time.
    NoAnswer,
}

impl Refusal {
    /// A field that is missing or wrong, and what it may be.
    pub(super) fn field(name: &'static str, may_be: impl Into<String>) -> Self {
        Self::Field(name, may_be.into())
    }

    /// A backend that is not configured.
    pub(super) fn unknown_backend(name: &str) -> Self {
        Self::UnknownBackend(name.chars().take(128).flat_map(char::escape_debug).collect())
    }

    fn answer(&self) -> ErrorAnswer {
        let invalid = "invalid_request_error";
        let (status, kind, code, param, message) = match self {
            Self::Fault(fault) => return ErrorAnswer::of_fault(fault),
            Self::NoToken => {
                let message = "this listener is not on loopback and has no token: set `admin.token`".to_owned();
                (403, "permission_denied_error", "admin_token_required", None, message)
            }
            Self::FromAPage => {
                let message = "without `admin.token` no call from a web page is accepted".to_owned();
                (403, "permission_denied_error", "admin_token_required", None, message)
            }
            Self::UnknownBackend(name) => {
                let message = format!("no backend is called `{name}`; GET /admin/status lists all");
                (404, invalid, "unknown_backend", None, message)
            }
            Self::Field(name, may_be) => (400, invalid, "invalid_value", Some(*name), format!("`{name}`: {may_be}")),
            Self::NoObject(example) => {
                (400, invalid, "invalid_json", None, format!("the body must be a JSON object such as {example}"))
            }
            Self::ActorGone(name) => {
                let message = format!("the actor of `{name}` is being replaced: try again in a moment");
                (503, "service_unavailable_error", "actor_restarting", None, message)
            }
            Self::NothingEarlier => {
                let message = "there is nothing to go back to: this is the first configuration".to_owned();
                (409, invalid, "no_earlier_configuration", None, message)
            }
            Self::NoAnswer => {
                let message = "a reload under way takes too long: see GET /admin/status".to_owned();
                (503, "service_unavailable_error", "reload_under_way", None, message)
            }
        };
        ErrorAnswer::new(status, kind, code, param, &message)
    }

    /// The answer.
    pub(super) fn response(&self) -> HttpResponse {
        let answer = self.answer();
        let mut response = HttpResponse::build(answer.status).body(answer.body);
        *response.headers_mut() = answer.headers;
        if answer.closes {
            response.head_mut().set_connection_type(actix_web::http::ConnectionType::Close);
        }
        response
    }
}
