//! Whether a whole 2xx answer is one (spec/wire.md 3.1): truncation, garbage, an HTML page and an error in disguise fail over.

use super::error_fields::{FoundError, find_error};
use super::json;
use super::usage::Usage;

/// What a whole answer turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Relay it; what it cost, where it says so.
    Good(Option<Usage>),
    /// Not what was asked for.
    Malformed,
    /// An error despite its status.
    Failed(FoundError),
}

/// What an operation may answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// A JSON object.
    Json,
    /// A JSON object whose `status` may be `failed`: `responses`.
    Response,
    /// A JSON object that may tell of its own error, which is not the answer's: a stored response, a job.
    Object,
    /// Audio, text or a file's content.
    Anything,
}

/// Judges a whole 2xx answer of a call that asked for no stream.
pub fn judge(expected: Expected, content_type: &str, body: &[u8]) -> Judgement {
    if is_type(content_type, "text/html") {
        return Judgement::Malformed;
    }
    match expected {
        Expected::Anything => Judgement::Good(None),
        Expected::Object => {
            if json::is_object(body) {
                Judgement::Good(None)
            } else {
                Judgement::Malformed
            }
        }
        Expected::Json | Expected::Response => judge_json(expected, body),
    }
}

/// Judges a 200 that should have been an event stream and is not: by its error, else malformed.
pub fn judge_no_stream(body: &[u8]) -> Judgement {
    match json::find(body, "error").and_then(|_| find_error(body)) {
        Some(error) => Judgement::Failed(error),
        None => Judgement::Malformed,
    }
}

/// Whether a content type is `wanted`, parameters and case aside.
pub fn is_type(content_type: &str, wanted: &str) -> bool {
    let Some((kind, rest)) = content_type.trim_ascii_start().as_bytes().split_at_checked(wanted.len()) else {
        return false;
    };
    kind.eq_ignore_ascii_case(wanted.as_bytes()) && matches!(rest.trim_ascii_start().first(), None | Some(b';'))
}

fn judge_json(expected: Expected, body: &[u8]) -> Judgement {
    let (mut has_error, mut has_answer, mut is_failed, mut usage) = (false, false, false, None);
    let end = json::walk(body, json::skip_blanks(body, 0), |key, at| {
        if key == b"usage" && body.get(at) == Some(&b'{') {
            let (found, end) = Usage::read(body, at);
            usage = Some(found);
            // An odd one fails no answer whose brackets match.
            return end.or_else(|_| json::skip_value(body, at));
        }
        let end = json::skip_value(body, at)?;
        match key {
            b"error" => has_error = &body[at..end] != b"null",
            b"choices" | b"data" | b"output" => has_answer |= &body[at..end] != b"null",
            b"usage" => usage = None,
            b"status" => is_failed = &body[at..end] == b"\"failed\"",
            _ => {}
        }
        Ok(end)
    });
    if !end.is_ok_and(|end| json::skip_blanks(body, end) == body.len()) {
        return Judgement::Malformed;
    }
    if has_error && !has_answer {
        return find_error(body).map_or(Judgement::Malformed, Judgement::Failed);
    }
    let is_failed_response = expected == Expected::Response && is_failed && has_error;
    match is_failed_response.then(|| find_error(body)).flatten() {
        Some(error) if matches!(error.fields.code.as_deref(), Some("server_error" | "rate_limit_exceeded")) => {
            Judgement::Failed(error)
        }
        _ => Judgement::Good(usage),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_answers() {
        let check = |body: &str| judge(Expected::Response, "application/json", body.as_bytes());
        for body in [
            r#"{"choices":[]}"#,
            r#" {"id":"r","error":null,"output":[]} "#,
            r#"{"error":{"message":"x"},"choices":[]}"#,
            r#"{"status":"failed","error":{"code":"invalid_prompt","message":"x"},"output":[]}"#,
            r#"{"text":"hello"}"#,
        ] {
            assert_eq!(check(body), Judgement::Good(None), "{body}");
        }
        for body in ["", "[]", "{\"choices\":[", "{} {}", "<html>", r#"{"a":1"#] {
            assert_eq!(check(body), Judgement::Malformed, "{body}");
        }
        for body in [
            r#"{"error":{"message":"x","code":"insufficient_quota"}}"#,
            r#"{"status":"failed","error":{"code":"server_error","message":"x"},"output":[]}"#,
            r#"{"error":"text"}"#,
            r#"{"error":{"message":"x"},"choices":null}"#,
        ] {
            assert!(matches!(check(body), Judgement::Failed(_)), "{body}");
        }
        let failed = br#"{"status":"failed","error":{"code":"server_error","message":"x"},"output":[]}"#;
        assert_eq!(judge(Expected::Json, "application/json", failed), Judgement::Good(None));
        assert_eq!(judge(Expected::Anything, "audio/mpeg", b"ID3"), Judgement::Good(None));
        let answer = br#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#;
        let usage = Usage { input: 3, output: 4, ..Usage::default() };
        assert_eq!(judge(Expected::Json, "application/json", answer), Judgement::Good(Some(usage)));
        let odd = br#"{"usage":{"prompt_tokens":3,"completion_tokens" 4,"x":[{}]},"choices":[]}"#;
        let usage = Usage { input: 3, ..Usage::default() };
        assert_eq!(judge(Expected::Json, "application/json", odd), Judgement::Good(Some(usage)));
        assert_eq!(judge(Expected::Anything, "Text/HTML; charset=utf-8", b"<html>"), Judgement::Malformed);
    }

    #[test]
    fn a_type_is_what_stands_before_its_parameters() {
        for said in ["text/html", "Text/HTML; charset=utf-8", " text/html ;x", "text/html;", "text/html "] {
            assert!(is_type(said, "text/html"), "{said}");
        }
        for said in ["", "text", "text/htmlx", "text/html x", "text/x-html", "text/plain;text/html"] {
            assert!(!is_type(said, "text/html"), "{said}");
        }
        assert!(is_type(" ; charset=utf-8", "") && !is_type("x", ""));
    }

    #[test]
    fn a_stream_that_is_none() {
        let body = br#"{"error":{"message":"x","code":"insufficient_quota"}}"#;
        assert!(
            matches!(judge_no_stream(body), Judgement::Failed(error) if error.fields.code.as_deref() == Some("insufficient_quota"))
        );
        assert_eq!(judge_no_stream(br#"{"choices":[]}"#), Judgement::Malformed);
        assert_eq!(judge_no_stream(b"<html>"), Judgement::Malformed);
    }
}
