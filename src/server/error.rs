//! Faults → status and OpenAI error body: the only place (spec/wire.md 3.2, 3.3).

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use bytes::Bytes;

use crate::error::Fault;
use crate::proxy::ending::{Waits, Words};

/// Milliseconds to wait, as the SDKs read it.
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

/// Whether an SDK should try again, which it obeys before the status.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// An error answer.
pub(super) struct ErrorAnswer {
    /// Its status.
    pub(super) status: StatusCode,
    /// Its type, for the log.
    pub(super) kind: &'static str,
    /// Its code, for the log.
    pub(super) code: &'static str,
    /// Its headers, `content-type` among them.
    pub(super) headers: HeaderMap,
    /// Its body.
    pub(super) body: Bytes,
    /// Whether the connection is closed after it: what the client still sends is not wanted.
    pub(super) closes: bool,
}

impl ErrorAnswer {
    /// The answer to a request that was wrong.
    pub(super) fn of_fault(fault: &Fault) -> Self {
        let invalid = "invalid_request_error";
        let (status, kind, code, param, message) = match fault {
            Fault::InvalidJson { at, what } => {
                (400, invalid, "invalid_json", None, format!("could not parse the JSON body at byte {at}: {what}"))
            }
            Fault::InvalidMultipart(what) => {
                (400, invalid, "invalid_multipart", None, format!("could not read the multipart form: {what}"))
            }
            Fault::MissingModel => {
                let message = "you must provide a model parameter".to_owned();
                (400, invalid, "missing_required_parameter", Some("model"), message)
            }
            Fault::InvalidModel => {
                (400, invalid, "invalid_type", Some("model"), "model must be a string that is not empty".to_owned())
            }
            Fault::UnknownModel(name) => {
                let message = format!("the model `{name}` does not exist; GET /v1/models lists the routes");
                (404, invalid, "model_not_found", Some("model"), message)
            }
            Fault::UnknownHeader { code, name } => (400, invalid, *code, None, format!("`{name}` is not known here")),
            Fault::UnknownResource(what) => {
                let message = format!(
                    "no backend is known for \"{what}\": send x-breakwater-backend or x-breakwater-route with the name of one"
                );
                (404, invalid, "unknown_resource", None, message)
            }
            Fault::UnknownUrl(url) => (404, invalid, "unknown_url", None, format!("Unknown request URL: {url}")),
            Fault::Unsupported(what) => {
                (404, invalid, "unsupported_endpoint", None, format!("not served by this gateway: {what}"))
            }
            Fault::MethodNotAllowed(allowed) => {
                (405, invalid, "method_not_allowed", None, format!("this path allows {allowed}"))
            }
            Fault::BodyTimeout(limit) => {
                let message = format!("no part of the body arrived within {} s", limit.as_secs_f64());
                (408, invalid, "request_body_timeout", None, message)
            }
            Fault::TooLarge(limit) => {
                (413, invalid, "request_too_large", None, format!("the body is larger than {limit} bytes"))
            }
            Fault::ContentEncoding(coding) => {
                let message = format!("content-encoding `{coding}` is not accepted: send the body as it is");
                (415, invalid, "unsupported_content_encoding", None, message)
            }
            Fault::MissingKey => {
                let message = "no API key: send `Authorization: Bearer …`, `api-key` or `x-api-key`".to_owned();
                (401, "authentication_error", "missing_api_key", None, message)
            }
            Fault::InvalidKey => {
                (401, "authentication_error", "invalid_api_key", None, "the API key is not known here".to_owned())
            }
            Fault::RouteNotAllowed(key) => {
                let message = format!("the key `{key}` may not use this model");
                (403, "permission_denied_error", "route_not_allowed", Some("model"), message)
            }
            Fault::ClientGone => (400, invalid, "client_closed_request", None, "the body ended early".to_owned()),
        };
        let mut answer = Self::new(status, kind, code, param, &message);
        match fault {
            Fault::MissingKey | Fault::InvalidKey => {
                answer.headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Fault::MethodNotAllowed(allowed) => {
                answer.headers.insert(ALLOW, HeaderValue::from_static(allowed));
            }
            Fault::TooLarge(_) | Fault::BodyTimeout(_) | Fault::ClientGone => answer.closes = true,
            Fault::InvalidJson { .. }
            | Fault::InvalidMultipart(_)
            | Fault::MissingModel
            | Fault::InvalidModel
            | Fault::UnknownModel(_)
            | Fault::UnknownHeader { .. }
            | Fault::UnknownResource(_)
            | Fault::UnknownUrl(_)
            | Fault::Unsupported(_)
            | Fault::ContentEncoding(_)
            | Fault::RouteNotAllowed(_) => {}
        }
        answer
    }

    /// The answer with the gateway's own words.
    pub(super) fn of_words(words: &Words, waits: Waits) -> Self {
        let mut answer = Self::new(words.status, words.kind, words.code, None, &words.message);
        say_waits(&mut answer.headers, waits);
        answer
    }

    /// An error answer of these words; `param` is the field that was wrong.
    pub(super) fn new(status: u16, kind: &'static str, code: &'static str, param: Option<&str>, message: &str) -> Self {
        let error = serde_json::json!({"message": message, "type": kind, "param": param, "code": code});
        let body = Bytes::from(serde_json::json!({"error": error}).to_string());
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, kind, code, headers, body, closes: false }
    }
}

/// Says when to come back, in place of what a provider said. A provider's own `x-should-retry: false` stays.
pub(super) fn say_waits(headers: &mut HeaderMap, waits: Waits) {
    headers.remove(RETRY_AFTER);
    headers.remove(&RETRY_AFTER_MS);
    if let Some(wait) = waits.retry_after {
        let seconds = wait.as_millis().div_ceil(1_000) as u64;
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        headers.insert(RETRY_AFTER_MS, HeaderValue::from(wait.as_millis() as u64));
    }
    if waits.should_not_retry {
        headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
    } else if headers.get(&SHOULD_RETRY).is_some_and(|value| value != "false") {
        headers.remove(&SHOULD_RETRY);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_error_has_all_four_keys() {
        let answer = ErrorAnswer::of_fault(&Fault::UnknownModel("x".to_owned()));
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        let expected = serde_json::json!({"error": {
            "message": "the model `x` does not exist; GET /v1/models lists the routes",
            "type": "invalid_request_error", "param": "model", "code": "model_not_found",
        }});
        assert_eq!((answer.status.as_u16(), body), (404, expected));
        let refused = ErrorAnswer::of_fault(&Fault::MissingKey);
        assert_eq!(refused.headers.get(WWW_AUTHENTICATE).unwrap(), "Bearer");
    }

    #[test]
    fn waits_are_said_in_seconds_rounded_up_and_in_milliseconds() {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_static("99"));
        say_waits(&mut headers, Waits { retry_after: Some(Duration::from_millis(3_200)), should_not_retry: false });
        assert_eq!(
            (headers.get(RETRY_AFTER).unwrap(), headers.get(&RETRY_AFTER_MS).unwrap()),
            (&HeaderValue::from_static("4"), &HeaderValue::from_static("3200"))
        );
        assert!(!headers.contains_key(&SHOULD_RETRY));
        headers.insert(SHOULD_RETRY, HeaderValue::from_static("true"));
        say_waits(&mut headers, Waits { retry_after: None, should_not_retry: true });
        assert!(!headers.contains_key(RETRY_AFTER));
        assert_eq!(headers.get(&SHOULD_RETRY).unwrap(), "false");
    }
}
