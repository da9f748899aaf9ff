//! Heads and what stands in them: answers by HTTP/1.1, waits, quotas, trace contexts, paths, error bodies.
#![no_main]

use std::time::Duration;

use breakwater::proxy::error_fields::find_error;
use breakwater::proxy::operation::Operation;
use breakwater::proxy::request::parse_seconds;
use breakwater::proxy::unary::{self, Expected};
use breakwater::proxy::{hint, upstream};
use breakwater::telemetry::trace_context::TraceContext;
use libfuzzer_sys::fuzz_target;

/// No provider's wait is longer than that (`proxy::hint`).
const LONGEST: Duration = Duration::from_secs(7 * 86_400);

fuzz_target!(|input: (u8, &[u8])| {
    let (choice, bytes) = input;
    upstream::fuzzing::answer(bytes, usize::from(choice) + 1);
    let _ = TraceContext::parse(bytes);
    let found = find_error(bytes);
    let _ = unary::judge(Expected::Json, "application/json", bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = parse_seconds(text);
    let method = ["GET", "POST", "DELETE"][usize::from(choice) % 3];
    if let Ok(operation) = Operation::of(method, text) {
        let _ =
            (operation.object_id(), operation.models_id(), operation.creates_object(), operation.segments().count());
    }
    // One line per header that is looked at.
    let lines: Vec<&str> = text.lines().collect();
    let header = |field: hint::Field| lines.get(field as usize % lines.len().max(1)).copied();
    let now = Duration::from_secs(1_800_000_000);
    let fields = found.map(|found| found.fields).unwrap_or_default();
    if let Some(found) = hint::find(&header, &fields, now) {
        assert!(found.wait <= LONGEST);
    }
    let _ = hint::left(&header, || now);
    let _ = hint::utilization(&header);
});
