//! `x-breakwater-*` and their `x-litellm-*` aliases: the only place (spec/wire.md 1.6).

use std::time::Duration;

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::config::ResponseHeaders;
use crate::proxy::hold::Shown;
use crate::proxy::record::Record;
use crate::proxy::trail::{AttemptResult, Entry};
use crate::telemetry::figures::push_millis;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-breakwater-request-id");
const ROUTE: HeaderName = HeaderName::from_static("x-breakwater-route");
const BACKEND: HeaderName = HeaderName::from_static("x-breakwater-backend");
const ATTEMPTS: HeaderName = HeaderName::from_static("x-breakwater-attempts");
const OVERHEAD: HeaderName = HeaderName::from_static("x-breakwater-overhead-ms");
const CALL_ID: HeaderName = HeaderName::from_static("x-litellm-call-id");
const MODEL_GROUP: HeaderName = HeaderName::from_static("x-litellm-model-group");
const MODEL_ID: HeaderName = HeaderName::from_static("x-litellm-model-id");
const FALLBACKS: HeaderName = HeaderName::from_static("x-litellm-attempted-fallbacks");
const RETRY_COUNT: HeaderName = HeaderName::from_static("x-stainless-retry-count");
const RETRIES: HeaderName = HeaderName::from_static("x-litellm-attempted-retries");

/// The provider's own id on answers; ours on errors that we made.
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id that a client may choose.
const MAX_ID: usize = 128;

/// What is not known.
const UNKNOWN: HeaderValue = HeaderValue::from_static("-");

/// The id of a request: the client's own where it is a plain word, else a new one that sorts by time.
pub(super) fn request_id(headers: &HeaderMap) -> std::sync::Arc<str> {
    let chosen = [X_REQUEST_ID, CALL_ID].iter().find_map(|name| {
        let value = headers.get(name)?.to_str().ok()?;
        let is_plain = value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        (is_plain && (1..=MAX_ID).contains(&value.len())).then_some(value)
    });
    chosen.map_or_else(fresh_id, std::sync::Arc::from)
}

/// A UUID of version 7 out of our own clock and generator.
fn fresh_id() -> std::sync::Arc<str> {
    let millis = crate::clock::unix_now().as_millis() as u64;
    let mut random = [0; 10];
    fastrand::fill(&mut random);
    let id = uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
    std::sync::Arc::from(&*id.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()))
}

/// Says who served, and what it took. A provider's headers of these names were not let through: each is there once.
pub(super) fn stamp(out: &mut HeaderMap, record: &Record, overhead: Duration, shape: ResponseHeaders) {
    let id = record.shown_id.clone();
    match shape {
        ResponseHeaders::None => return,
        ResponseHeaders::Minimal => {
            out.append(REQUEST_ID, id);
            return;
        }
        ResponseHeaders::Full => {}
    }
    out.append(CALL_ID, id.clone());
    out.append(REQUEST_ID, id);
    let route = record.route.as_ref().map(|route| route.shown.clone());
    set(out, ROUTE, Some(MODEL_GROUP), route);
    set(out, BACKEND, Some(MODEL_ID), record.shown_backend.clone());
    let trail = &record.trail;
    set(out, ATTEMPTS, None, shown_trail(record));
    if !trail.entries().is_empty() {
        out.append(FALLBACKS, count(trail.attempted_fallbacks()));
        out.append(RETRIES, count(trail.attempted_retries()));
    }
    let mut text = Vec::with_capacity(16);
    push_millis(&mut text, overhead);
    out.append(OVERHEAD, HeaderValue::try_from(text).unwrap_or(UNKNOWN));
}

/// Says what is known of a stream whose head leaves before anybody has served it.
pub(super) fn stamp_held(out: &mut HeaderMap, id: HeaderValue, shown: Shown, shape: ResponseHeaders) {
    match shape {
        ResponseHeaders::None => return,
        ResponseHeaders::Minimal => {
            out.append(REQUEST_ID, id);
            return;
        }
        ResponseHeaders::Full => {}
    }
    out.append(CALL_ID, id.clone());
    out.append(REQUEST_ID, id);
    set(out, ROUTE, Some(MODEL_GROUP), shown.route);
    set(out, BACKEND, Some(MODEL_ID), shown.backend);
    set(out, ATTEMPTS, None, shown.attempts);
}

/// What was tried, where that may be shown.
fn shown_trail(record: &Record) -> Option<HeaderValue> {
    let served = record.shown_served.as_ref()?;
    match record.trail.entries() {
        [] => None,
        [Entry { result: AttemptResult::Served(200), .. }] => Some(served.clone()),
        _ => HeaderValue::try_from(record.trail.header()).ok(),
    }
}

/// A count as a header; the usual ones without an allocation.
fn count(count: usize) -> HeaderValue {
    match count {
        0 => HeaderValue::from_static("0"),
        1 => HeaderValue::from_static("1"),
        2 => HeaderValue::from_static("2"),
        count => HeaderValue::from(count),
    }
}

fn set(out: &mut HeaderMap, name: HeaderName, alias: Option<HeaderName>, value: Option<HeaderValue>) {
    match (value, alias) {
        (Some(value), Some(alias)) => {
            out.append(alias, value.clone());
            out.append(name, value);
        }
        (Some(value), None) => {
            out.append(name, value);
        }
        (None, _) => {
            out.append(name, UNKNOWN);
        }
    }
}

/// The request id alone, for health and metrics.
pub(super) fn stamp_id(out: &mut HeaderMap, id: &str) {
    if let Ok(value) = HeaderValue::from_str(id) {
        out.insert(REQUEST_ID, value);
    }
}

/// Whether a client says that this is its own second try of a request.
pub(super) fn is_client_retry(headers: &HeaderMap) -> bool {
    let count = headers.get(&RETRY_COUNT).and_then(|value| value.to_str().ok()?.parse::<u32>().ok());
    count.is_some_and(|count| 0 < count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_the_clients_or_new() {
        let with = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(X_REQUEST_ID, HeaderValue::from_static(value));
            request_id(&headers)
        };
        assert_eq!(&*with("my-id_1.2"), "my-id_1.2");
        for odd in ["a b", "", "é"] {
            let id = request_id(&{
                let mut headers = HeaderMap::new();
                headers.insert(X_REQUEST_ID, HeaderValue::from_bytes(odd.as_bytes()).unwrap());
                headers
            });
            assert_eq!(id.len(), 36, "{id}");
            assert_eq!(id.as_bytes()[14], b'7');
        }
    }
}
