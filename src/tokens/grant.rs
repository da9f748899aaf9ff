//! What is asked of an authority, and what its answer means. Pure.

use std::time::Duration;

use actix_web::http::header::HeaderValue;
use serde_json::Value;

use crate::config::EntraIdentity;

/// Most characters of an authority's own words that are passed on.
const MAX_WORDS: usize = 200;

/// A token as it was given.
#[derive(Debug)]
pub(super) struct Grant {
    /// `Bearer` and the token; marked as sensitive.
    pub(super) header: HeaderValue,
    /// How long it lives.
    pub(super) lifetime: Duration,
    /// When the authority wants to be asked again, where it says so.
    pub(super) refresh_in: Option<Duration>,
}

/// The body of the question, a form.
pub(super) fn question(identity: &EntraIdentity) -> String {
    let fields = [
        ("grant_type", "client_credentials"),
        ("client_id", &identity.client),
        ("client_secret", identity.secret.expose()),
        ("scope", &identity.scope),
    ];
    let pairs = fields.map(|(name, value)| format!("{name}={}", form_encode(value)));
    pairs.join("&")
}

/// Percent-encodes all but unreserved characters (RFC 3986 2.3), which forms and paths both take.
pub(super) fn form_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// Reads an answer.
///
/// # Errors
/// A sentence: the authority's own words where it refuses (RFC 6749 5.2), never a part of a token.
pub(super) fn read(status: u16, body: &[u8]) -> Result<Grant, String> {
    let answer: Value = serde_json::from_slice(body).map_err(|_| format!("status {status} and no JSON"))?;
    if status != 200 {
        return Err(refusal(status, &answer));
    }
    let is_bearer = answer["token_type"].as_str().is_none_or(|kind| kind.eq_ignore_ascii_case("bearer"));
    let token = answer["access_token"].as_str().filter(|token| is_bearer && !token.is_empty());
    let token = token.ok_or("the answer holds no bearer token")?;
    let lifetime = seconds(&answer["expires_in"]).filter(|lifetime| !lifetime.is_zero());
    let mut header = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| "the token fits in no header")?;
    header.set_sensitive(true);
    Ok(Grant {
        header,
        lifetime: lifetime.ok_or("the answer does not say how long its token lives")?,
        refresh_in: seconds(&answer["refresh_in"]).filter(|time| !time.is_zero()),
    })
}

/// A number of seconds; version 1 of the protocol writes it as text.
fn seconds(value: &Value) -> Option<Duration> {
    let seconds = value.as_u64().or_else(|| value.as_str()?.parse().ok())?;
    Some(Duration::from_secs(seconds))
}

fn refusal(status: u16, answer: &Value) -> String {
    let error = answer["error"].as_str().unwrap_or("no reason");
    let words = answer["error_description"].as_str().and_then(|words| words.lines().next()).unwrap_or_default();
    let words: String = format!("{error}: {words}").chars().filter(|c| !c.is_control()).take(MAX_WORDS).collect();
    format!("status {status}, {words}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ApiKey, BaseUrl};

    #[test]
    fn the_question_is_a_form() {
        let identity = EntraIdentity {
            tenant: "t".to_owned(),
            client: "c d".to_owned(),
            secret: ApiKey::new("a~b&c=+ü"),
            secret_reference: "env:S".to_owned(),
            scope: "https://cognitiveservices.azure.com/.default".to_owned(),
            authority: BaseUrl { tls: true, host: "a".to_owned(), port: 443, path: String::new() },
        };
        assert_eq!(
            question(&identity),
            "grant_type=client_credentials&client_id=c%20d&client_secret=a~b%26c%3D%2B%C3%BC\
             &scope=https%3A%2F%2Fcognitiveservices.azure.com%2F.default"
        );
    }

    #[test]
    fn answers_are_taken_as_they_are_meant() {
        let good = [
            (r#"{"token_type":"Bearer","expires_in":3599,"ext_expires_in":3599,"access_token":"ey.J"}"#, 3_599, None),
            (r#"{"expires_in":"86399","refresh_in":"43199","access_token":"ey.J"}"#, 86_399, Some(43_199)),
        ];
        for (body, lifetime, refresh_in) in good {
            let grant = read(200, body.as_bytes()).unwrap();
            assert_eq!((grant.header.to_str().unwrap(), grant.lifetime.as_secs()), ("Bearer ey.J", lifetime));
            assert_eq!(grant.refresh_in.map(|time| time.as_secs()), refresh_in);
            assert!(!format!("{grant:?}").contains("ey.J"), "a secret in no `Debug`");
        }
        let bad = [
            (200, r#"{"access_token":"ey.J"}"#, "the answer does not say how long its token lives"),
            (200, r#"{"access_token":"","expires_in":1}"#, "the answer holds no bearer token"),
            (200, r#"{"access_token":"a","token_type":"pop","expires_in":1}"#, "the answer holds no bearer token"),
            (200, r#"{"access_token":"a\nb","expires_in":1}"#, "the token fits in no header"),
            (200, "<html>", "status 200 and no JSON"),
            (503, "", "status 503 and no JSON"),
            (400, r#"{"error":"invalid_scope"}"#, "status 400, invalid_scope: "),
            (
                401,
                r#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret.\r\nTrace ID: 1"}"#,
                "status 401, invalid_client: AADSTS7000215: Invalid client secret.",
            ),
        ];
        for (status, body, problem) in bad {
            assert_eq!(read(status, body.as_bytes()).err().as_deref(), Some(problem), "{body}");
        }
    }
}
