//! Token usage from a body or an event (spec/wire.md 4.5). Unparsable usage never fails a request.

use super::json;

/// Tokens of one call as its provider reports them; what is missing or null is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Prompt tokens, cached ones included.
    pub input: u64,
    /// Completion tokens, reasoning included.
    pub output: u64,
    /// Those of the prompt that came from a cache.
    pub cached_input: u64,
    /// Those of the completion that were spent on reasoning.
    pub reasoning_output: u64,
}

impl Usage {
    /// Reads a `usage` object in the dialect of chat and completions or of responses; none if it is no object.
    pub fn of_object(usage: &[u8]) -> Option<Self> {
        if usage.first() != Some(&b'{') {
            return None;
        }
        let count = |names: [&str; 2]| names.iter().find_map(|name| number(json::find(usage, name)?)).unwrap_or(0);
        let detail = |names: [&str; 2], part: &str| {
            let parts = names.iter().find_map(|name| json::find(usage, name).filter(|value| value[0] == b'{'));
            parts.and_then(|parts| number(json::find(parts, part)?)).unwrap_or(0)
        };
        Some(Self {
            input: count(["prompt_tokens", "input_tokens"]),
            output: count(["completion_tokens", "output_tokens"]),
            cached_input: detail(["prompt_tokens_details", "input_tokens_details"], "cached_tokens"),
            reasoning_output: detail(["completion_tokens_details", "output_tokens_details"], "reasoning_tokens"),
        })
    }

    /// Reads the top-level `usage` of a whole answer; none if it has none.
    pub fn of_body(body: &[u8]) -> Option<Self> {
        Self::of_object(json::find(body, "usage")?)
    }
}

/// A count; fractions are floored, negatives and nonsense are none.
fn number(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    text.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_dialects_and_odd_values() {
        let chat = br#"{"id":"x","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":7,"total_tokens":17,
            "prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":2}}}"#;
        assert_eq!(Usage::of_body(chat), Some(Usage { input: 10, output: 7, cached_input: 4, reasoning_output: 2 }));
        let responses = br#"{"input_tokens":3,"output_tokens":5,"input_tokens_details":{"cached_tokens":1},"output_tokens_details":null}"#;
        assert_eq!(
            Usage::of_object(responses),
            Some(Usage { input: 3, output: 5, cached_input: 1, reasoning_output: 0 })
        );
        assert_eq!(Usage::of_object(b"null"), None);
        assert_eq!(Usage::of_object(b"{}"), Some(Usage::default()));
        assert_eq!(Usage::of_object(br#"{"prompt_tokens":-1,"output_tokens":2.0}"#).map(|usage| usage.output), Some(2));
        assert_eq!(Usage::of_body(b"<html>"), None);
        assert_eq!(Usage::of_body(br#"{"usage":{"prompt_tokens":"x"}"#), None, "a body that is not closed");
    }
}
