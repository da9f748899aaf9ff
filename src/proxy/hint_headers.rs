//! What an answer's head says about waiting and about what is left: `hint`'s grammar over real headers.

use std::time::Duration;

use super::error_fields::ErrorFields;
use super::hint::{self, Field};
use super::upstream::{Asked, Fields};
use crate::backend::ledger::Sample;
use crate::clock;

/// The provider's own wait, on the statuses that may name one.
pub fn wait(status: u16, head: &Fields, fields: &ErrorFields) -> Option<Duration> {
    if !matches!(status, 429 | 503 | 529) {
        return None;
    }
    hint::find(&|field| text(head, field), fields, clock::unix_now()).map(|hint| hint.wait)
}

/// What the provider says is left.
pub fn left(head: &Fields) -> Sample {
    hint::left(&|field| text(head, field), clock::unix_now)
}

/// How full a provisioned deployment says it is, in 1/10 000.
pub fn utilization(head: &Fields) -> Option<u32> {
    hint::utilization(&|field| text(head, field))
}

fn text(head: &Fields, field: Field) -> Option<&str> {
    Some(head.text(Asked::Hint(field))).filter(|text| !text.is_empty())
}
