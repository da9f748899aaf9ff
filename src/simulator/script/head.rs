//! The head of an answer as text.

use std::fmt::Write;

use super::writer::Framing;
use crate::simulator::answer::{Answer, Payload};

/// How a head is to be written.
pub(super) struct Style {
    pub(super) framing: Framing,
    pub(super) keeps_alive: bool,
    /// HTTP/1.`version`.
    pub(super) version: u8,
}

/// Writes the head with its empty line.
pub(super) fn text(answer: &Answer, style: &Style) -> String {
    let mut head = String::with_capacity(EXPECTED_BYTES);
    let content_type = match &answer.payload {
        Payload::Whole { content_type, .. } => content_type,
        Payload::Events(_) => "text/event-stream; charset=utf-8",
    };
    // Writing to a String cannot fail.
    let _ = write!(head, "HTTP/1.{} {} {}\r\n", style.version, answer.status, reason(answer.status));
    if !answer.has("content-type") {
        let _ = write!(head, "content-type: {content_type}\r\n");
    }
    match style.framing {
        Framing::Length(length) => {
            let _ = write!(head, "content-length: {length}\r\n");
        }
        Framing::Chunked => head.push_str("transfer-encoding: chunked\r\n"),
        Framing::UntilClose => {}
    }
    for (name, value) in &answer.fields {
        head.extend([name, ": ", value, "\r\n"]);
    }
    if !style.keeps_alive {
        head.push_str("connection: close\r\n");
    }
    head.push_str("\r\n");
    head
}

/// What the heads of all dialects stay below, so that one allocation is enough.
const EXPECTED_BYTES: usize = 1024;

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        307 => "Temporary Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Simulated",
    }
}
