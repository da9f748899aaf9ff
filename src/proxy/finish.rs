//! Why a model stopped, as chat and completions say it.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::json::skip_blanks;

/// A finish reason. Words that nobody knows are one, so that a log's readers can group by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// It had said everything, or came to a stop sequence.
    Stop,
    /// The most tokens were reached.
    Length,
    /// It calls tools.
    ToolCalls,
    /// It calls a function, in the older words.
    FunctionCall,
    /// A filter has cut it.
    ContentFilter,
    /// Anything else.
    Other,
}

/// The member that says it. Within a string its quotes would be escaped, so this is never content.
const KEY: &[u8] = b"\"finish_reason\"";

/// Finds it; made once.
static KEY_FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(KEY));

impl FinishReason {
    /// Of a member's value; none if it is no word yet.
    pub fn of_value(value: &[u8]) -> Option<Self> {
        let word = value.strip_prefix(b"\"")?.split(|byte| *byte == b'"').next()?;
        Some(match word {
            b"stop" => Self::Stop,
            b"length" => Self::Length,
            b"tool_calls" => Self::ToolCalls,
            b"function_call" => Self::FunctionCall,
            b"content_filter" => Self::ContentFilter,
            _ => Self::Other,
        })
    }

    /// Of a whole answer's first choice that says one.
    pub fn of_answer(body: &[u8]) -> Option<Self> {
        let colon = skip_blanks(body, KEY_FINDER.find(body)? + KEY.len());
        let value = skip_blanks(body, colon + 1);
        if body.get(colon) == Some(&b':') { Self::of_value(body.get(value..)?) } else { None }
    }

    /// Its word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
            Self::FunctionCall => "function_call",
            Self::ContentFilter => "content_filter",
            Self::Other => "other",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_found_and_never_in_content() {
        let table = [
            (r#"{"choices":[{"index":0,"finish_reason":"stop"}]}"#, Some("stop")),
            (r#"{"choices":[{"finish_reason" : "length"}]}"#, Some("length")),
            (
                r#"{"choices":[{"message":{"content":"\"finish_reason\":\"stop\""},"finish_reason":"tool_calls"}]}"#,
                Some("tool_calls"),
            ),
            (r#"{"choices":[{"finish_reason":"eos"}]}"#, Some("other")),
            (r#"{"choices":[{"finish_reason":null}]}"#, None),
            (r#"{"choices":[{"finish_reason":"#, None),
            (r#"{"choices":["finish_reason"]}"#, None),
            ("\"finish_reason\"", None),
            ("", None),
        ];
        for (body, expected) in table {
            assert_eq!(FinishReason::of_answer(body.as_bytes()).map(FinishReason::name), expected, "{body}");
        }
        let all = ["stop", "length", "tool_calls", "function_call", "content_filter"];
        for word in all {
            assert_eq!(FinishReason::of_value(format!("\"{word}\"").as_bytes()).map(FinishReason::name), Some(word));
        }
    }
}
