//! What a provider's error becomes when it is the end: its own bytes where clients can read them, else wrapped
//! (spec/wire.md 3.4).

use bytes::Bytes;

use super::error_fields::{ErrorFields, Shape, find_error};
use super::unary::is_type;
use crate::backend::outcome::Class;
use crate::error::ErrorType;

/// The body of a final provider error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FinalBody {
    /// The provider's own bytes and content type.
    Verbatim,
    /// Four keys made from them, as `application/json`.
    Wrapped(Bytes),
}

/// A provider error answered over HTTP that ends a request. `backend` is its name, or a neutral word where names are not
/// shown; `kind` its class as error type.
pub fn normalise(backend: &str, status: u16, content_type: &str, body: &[u8], kind: ErrorType) -> FinalBody {
    let found = find_error(body);
    if found.as_ref().is_some_and(|error| error.shape == Shape::Wrapped) {
        return FinalBody::Verbatim;
    }
    let shown = content_type.split(';').next().unwrap_or_default().trim();
    let shown = if is_type(shown, "") { "no content type" } else { shown };
    let message = format!("{backend} answered {status} ({shown}, {} bytes)", body.len());
    let fields = found.map(|error| error.fields).unwrap_or_default();
    FinalBody::Wrapped(fields.to_body(kind.name(), "upstream_error", &message).into())
}

/// The body and status of an in-band error that ends a request before anything was sent.
pub fn from_in_band(backend: &str, fields: &ErrorFields, class: Class, kind: ErrorType) -> (u16, Bytes) {
    let status = fields.status().unwrap_or(status_of(class));
    let message = format!("{backend} failed in its stream");
    (status, fields.to_body(kind.name(), "upstream_error", &message).into())
}

fn status_of(class: Class) -> u16 {
    match class {
        Class::RateLimited | Class::QuotaExhausted => 429,
        Class::Timeout(_) | Class::Cut => 504,
        Class::ContextWindow | Class::Policy | Class::CallerFault => 400,
        Class::Connect(_)
        | Class::Reset
        | Class::Truncated
        | Class::Malformed
        | Class::ServerError
        | Class::Overloaded
        | Class::Auth
        | Class::Permission
        | Class::NotFound
        | Class::Local
        | Class::ClientGone => 502,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn wrapped(body: &str, content_type: &str) -> Value {
        match normalise("azure-gpt4o", 502, content_type, body.as_bytes(), ErrorType::ServiceUnavailable) {
            FinalBody::Verbatim => Value::Null,
            FinalBody::Wrapped(bytes) => serde_json::from_slice::<Value>(&bytes).unwrap()["error"].take(),
        }
    }

    #[test]
    fn readable_errors_pass_verbatim_and_others_get_four_keys() {
        assert_eq!(wrapped(r#"{"error":{"message":"m","code":null}}"#, "application/json"), Value::Null);
        let kind = "service_unavailable_error";
        for (body, expected) in [
            (r#"{"error":"boom"}"#, json!({"message":"boom","type":kind,"param":null,"code":"upstream_error"})),
            (
                r#"{"object":"error","message":"m","type":"BadRequestError","param":"p","code":400}"#,
                json!({"message":"m","type":"BadRequestError","param":"p","code":"400"}),
            ),
            (r#"{"statusCode":429,"message":"m"}"#, json!({"message":"m","type":kind,"param":null,"code":"429"})),
            (
                r#"{"error":{"code":7}}"#,
                json!({"message":"azure-gpt4o answered 502 (application/json, 20 bytes)","type":kind,"param":null,"code":"7"}),
            ),
        ] {
            assert_eq!(wrapped(body, "application/json"), expected, "{body}");
        }
        let page = wrapped("<html>", "text/html; charset=utf-8");
        assert_eq!(page["message"], "azure-gpt4o answered 502 (text/html, 6 bytes)");
        assert_eq!(page["code"], "upstream_error");
        assert_eq!(wrapped("", "")["message"], "azure-gpt4o answered 502 (no content type, 0 bytes)");
    }

    #[test]
    fn in_band_errors_get_a_true_status() {
        let status = |code: &str, class| {
            let fields = ErrorFields { code: Some(code.to_owned()), ..ErrorFields::default() };
            from_in_band("b", &fields, class, ErrorType::BadRequest).0
        };
        assert_eq!(status("418", Class::ServerError), 418);
        assert_eq!(status("700", Class::ServerError), 502);
        assert_eq!(status("rate_limit_exceeded", Class::RateLimited), 429);
        assert_eq!(status("content_filter", Class::Policy), 400);
    }
}
