//! Token usage from a body or an event (spec/wire.md 4.5). Unparsable usage never fails a request.

use super::json::{self, Flaw};
use crate::config::Prices;

/// Tokens of one call as its provider reports them; what is missing or null is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Prompt tokens, cached ones included.
    pub input: u64,
    /// Completion tokens, reasoning included.
    pub output: u64,
    /// Those of the prompt that came from a cache.
    pub cached_input: u64,
    /// Those of the prompt that were written to a cache, where the provider bills that.
    pub cache_write_input: u64,
    /// Those of the completion that were spent on reasoning.
    pub reasoning_output: u64,
}

impl Usage {
    /// What it costs by these prices, in US dollars. Details that exceed the whole, as some providers report them, are taken
    /// for the whole.
    pub fn cost(&self, prices: &Prices) -> f64 {
        let cached = self.cached_input.min(self.input);
        let written = self.cache_write_input.min(self.input - cached);
        let plain = self.input - cached - written;
        let parts = [
            (plain, prices.input),
            (cached, prices.cached_input.unwrap_or(prices.input)),
            (written, prices.cache_write_input.unwrap_or(prices.input)),
            (self.output, prices.output),
        ];
        parts.into_iter().map(|(tokens, price)| tokens as f64 * price).sum()
    }

    /// Reads a `usage` object in the dialect of chat and completions or of responses; none if it is no object.
    pub fn of_object(usage: &[u8]) -> Option<Self> {
        (usage.first() == Some(&b'{')).then(|| Self::read(usage, 0).0)
    }

    /// Reads the `usage` object that begins at `at`, as far as it is one, and says where it ends.
    ///
    /// # Errors
    /// The first flaw, beside what stood before it.
    pub fn read(text: &[u8], at: usize) -> (Self, Result<usize, Flaw>) {
        let mut found = Self::default();
        let end = json::walk(text, at, |key, at| match key {
            b"prompt_tokens_details" | b"input_tokens_details" => {
                let parts = [
                    (&b"cached_tokens"[..], &mut found.cached_input),
                    (b"cache_write_tokens", &mut found.cache_write_input),
                ];
                details(text, at, parts)
            }
            b"completion_tokens_details" | b"output_tokens_details" => {
                details(text, at, [(&b"reasoning_tokens"[..], &mut found.reasoning_output)])
            }
            b"prompt_tokens" | b"input_tokens" => count(text, at, &mut found.input),
            b"completion_tokens" | b"output_tokens" => count(text, at, &mut found.output),
            // Of providers that speak OpenAI's dialect with Anthropic's words for it.
            b"cache_creation_input_tokens" => count(text, at, &mut found.cache_write_input),
            _ => json::skip_value(text, at),
        });
        (found, end)
    }
}

/// Reads a count; what is none is 0.
fn count(text: &[u8], at: usize, into: &mut u64) -> Result<usize, Flaw> {
    let end = json::skip_value(text, at)?;
    *into = number(&text[at..end]).unwrap_or(0);
    Ok(end)
}

/// Reads counts inside a details object; what is not there stays as it is.
fn details<const N: usize>(text: &[u8], at: usize, mut wanted: [(&[u8], &mut u64); N]) -> Result<usize, Flaw> {
    if text.get(at) != Some(&b'{') {
        return json::skip_value(text, at);
    }
    json::walk(text, at, |key, at| match wanted.iter_mut().find(|(name, _)| *name == key) {
        Some((_, into)) => count(text, at, into),
        None => json::skip_value(text, at),
    })
}

/// A count; fractions are floored, negatives and nonsense are none.
fn number(value: &[u8]) -> Option<u64> {
    let mut count = None;
    for byte in value {
        match byte {
            b'0'..=b'9' => count = Some(count.unwrap_or(0_u64).checked_mul(10)?.checked_add(u64::from(byte - b'0'))?),
            b'.' => break,
            _ => return None,
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_token_is_paid_for_once() {
        let usage = Usage { input: 100, output: 10, cached_input: 60, cache_write_input: 30, reasoning_output: 5 };
        let plain = Prices { input: 2.0, output: 8.0, ..Prices::default() };
        assert_eq!(usage.cost(&plain), 280.0);
        let cached = Prices { cached_input: Some(1.0), cache_write_input: Some(3.0), ..plain };
        assert_eq!(usage.cost(&cached), 60.0 + 90.0 + 20.0 + 80.0);
        let odd = Usage { input: 10, cached_input: 50, cache_write_input: 50, ..Usage::default() };
        assert_eq!(odd.cost(&cached), 10.0);
    }

    #[test]
    fn both_dialects_and_odd_values() {
        let chat = br#"{"prompt_tokens":10,"completion_tokens":7,"total_tokens":17,
            "prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":2}}"#;
        let usage = Usage { input: 10, output: 7, cached_input: 4, reasoning_output: 2, ..Usage::default() };
        assert_eq!(Usage::of_object(chat), Some(usage));
        for written in [
            r#"{"prompt_tokens_details":{"cached_tokens":1,"cache_write_tokens":3}}"#,
            r#"{"prompt_tokens_details":{"cached_tokens":1},"cache_creation_input_tokens":3}"#,
        ] {
            let usage = Usage::of_object(written.as_bytes()).unwrap();
            assert_eq!((usage.cached_input, usage.cache_write_input), (1, 3), "{written}");
        }
        let responses = br#"{"input_tokens":3,"output_tokens":5,"input_tokens_details":{"cached_tokens":1},"output_tokens_details":null}"#;
        assert_eq!(
            Usage::of_object(responses),
            Some(Usage { input: 3, output: 5, cached_input: 1, ..Usage::default() })
        );
        assert_eq!(Usage::of_object(b"null"), None);
        assert_eq!(Usage::of_object(b"{}"), Some(Usage::default()));
        assert_eq!(Usage::of_object(br#"{"prompt_tokens":-1,"output_tokens":2.0}"#).map(|usage| usage.output), Some(2));
        assert_eq!(Usage::of_object(b"<html>"), None);
        for (text, count) in [
            ("0", Some(0)),
            ("007", Some(7)),
            ("12.9", Some(12)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("-1", None),
            ("1e3", None),
            (".5", None),
            ("\"7\"", None),
            ("", None),
        ] {
            assert_eq!(number(text.as_bytes()), count, "{text}");
        }
    }
}
