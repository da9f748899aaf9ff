//! Token usage from a body or an event (spec/wire.md 4.5). Unparsable usage never fails a request.

use super::json::Members;

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
        let mut found = Self::default();
        for member in Members::of(usage).map_while(Result::ok) {
            let value = &usage[member.value];
            match &usage[member.key] {
                b"prompt_tokens" | b"input_tokens" => found.input = number(value).unwrap_or(0),
                b"completion_tokens" | b"output_tokens" => found.output = number(value).unwrap_or(0),
                b"prompt_tokens_details" | b"input_tokens_details" => {
                    found.cached_input = part(value, b"cached_tokens")
                }
                b"completion_tokens_details" | b"output_tokens_details" => {
                    found.reasoning_output = part(value, b"reasoning_tokens");
                }
                _ => {}
            }
        }
        Some(found)
    }
}

/// A count inside a details object; 0 if it is not there.
fn part(details: &[u8], key: &[u8]) -> u64 {
    let mut members = Members::of(details).map_while(Result::ok);
    members
        .find(|member| &details[member.key.clone()] == key)
        .and_then(|member| number(&details[member.value]))
        .unwrap_or(0)
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
        let chat = br#"{"prompt_tokens":10,"completion_tokens":7,"total_tokens":17,
            "prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":2}}"#;
        assert_eq!(Usage::of_object(chat), Some(Usage { input: 10, output: 7, cached_input: 4, reasoning_output: 2 }));
        let responses = br#"{"input_tokens":3,"output_tokens":5,"input_tokens_details":{"cached_tokens":1},"output_tokens_details":null}"#;
        assert_eq!(
            Usage::of_object(responses),
            Some(Usage { input: 3, output: 5, cached_input: 1, reasoning_output: 0 })
        );
        assert_eq!(Usage::of_object(b"null"), None);
        assert_eq!(Usage::of_object(b"{}"), Some(Usage::default()));
        assert_eq!(Usage::of_object(br#"{"prompt_tokens":-1,"output_tokens":2.0}"#).map(|usage| usage.output), Some(2));
        assert_eq!(Usage::of_object(b"<html>"), None);
    }
}
