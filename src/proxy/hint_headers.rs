//! What an answer's head says about waiting and about what is left: `hint`'s grammar over real headers.

use std::sync::LazyLock;
use std::time::Duration;

use actix_web::http::header::{HeaderMap, HeaderName};

use super::error_fields::ErrorFields;
use super::hint::{self, Field};
use crate::backend::ledger::Sample;
use crate::clock;

/// The provider's own wait, on the statuses that may name one.
pub fn wait(status: u16, headers: &HeaderMap, fields: &ErrorFields) -> Option<Duration> {
    if !matches!(status, 429 | 503 | 529) {
        return None;
    }
    hint::find(&|field| header(headers, field), fields, clock::unix_now()).map(|hint| hint.wait)
}

/// What the provider says is left.
pub fn left(headers: &HeaderMap) -> Sample {
    hint::left(&|field| header(headers, field), clock::unix_now)
}

/// How full a provisioned deployment says it is, in 1/10 000.
pub fn utilization(headers: &HeaderMap) -> Option<u32> {
    hint::utilization(&|field| header(headers, field))
}

/// Names are made once: a look-up by text would make one each time.
fn header(headers: &HeaderMap, field: Field) -> Option<&str> {
    static NAMES: LazyLock<[HeaderName; Field::ALL.len()]> =
        LazyLock::new(|| Field::ALL.map(|field| HeaderName::from_static(field.name())));
    headers.get(&NAMES[field as usize])?.to_str().ok()
}
