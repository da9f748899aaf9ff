//! What a virtual backend is like while nothing goes wrong.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::delay::Delay;
use super::options::Dialect;
use super::read;

/// Most words of one answer, all its choices together: streams are planned whole before their first byte.
pub(super) const MAX_WORDS: u64 = 16_384;

/// Most numbers of one embedding.
const MAX_DIMENSIONS: usize = 4096;

/// A virtual backend's settings; `PATCH /backends/{b}/settings` changes some, `null` puts one back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Accepted keys; null accepts any (but not none, except `compat`).
    pub keys: Option<Vec<String>>,
    /// Known models or deployments; a trailing `*` stands for any rest.
    pub models: Vec<String>,
    /// Words per answer when the request names no limit.
    pub words: u64,
    /// The `finish_reason` of complete answers.
    pub finish_reason: String,
    /// Wait before the head.
    pub latency_ms: Delay,
    /// Wait before the first content.
    pub ttft_ms: Delay,
    /// Rate of words; null sends them at once.
    pub tokens_per_second: Option<f64>,
    /// How much each gap between words varies: 0 not at all, 1 from none to double.
    pub jitter: f64,
    /// Each event is a write of its own, even if nothing waits between them; else they go out together.
    pub flush_events: bool,
    /// Unknown top-level fields of a JSON body are answered with 400.
    pub strict: bool,
    /// `stream_options` is answered with 400, as old servers do.
    pub reject_stream_options: bool,
    /// Numbers in an embedding when the request names none.
    pub dimensions: usize,
    /// The requests per minute that `x-ratelimit-*` counts down; only the fault `quota` enforces any.
    pub rpm: NonZeroU32,
    /// The tokens per minute that `x-ratelimit-*` counts down; may go below zero, as on Azure.
    pub tpm: NonZeroU32,
    /// Streams begin with Azure's `prompt_filter_results` chunk.
    pub prompt_filter: bool,
    /// Streams carry annotation chunks without a delta in the middle and after the stop.
    pub annotations: bool,
    /// Chunks have an empty `id` and `model`.
    pub empty_ids: bool,
    /// Streamed `/responses` answer 200 and then an error, as Azure does when it is out of tokens.
    pub responses_error: bool,
    /// `connection: close` never comes of itself; an idle connection is closed after this long.
    pub idle_timeout_ms: u64,
    /// Whether requests are kept in the journal; counts go on without.
    pub record: bool,
}

/// Idle connections live longer than any gateway's pool keeps them, so that closing early is a fault and no accident.
const IDLE_TIMEOUT_MS: u64 = 120_000;

/// Model names that OpenAI serves, as far as tests need them; none matches a route name such as `gpt-4-router`.
const OPENAI_MODELS: [&str; 17] = [
    "gpt-3.5-turbo",
    "gpt-3.5-turbo-instruct",
    "gpt-4",
    "gpt-4-turbo",
    "gpt-4o*",
    "gpt-4.1*",
    "gpt-5*",
    "o1*",
    "o3*",
    "o4*",
    "chatgpt-*",
    "text-embedding-*",
    "omni-moderation-*",
    "tts-*",
    "whisper-*",
    "gpt-image-*",
    "dall-e-*",
];

impl Settings {
    /// What a backend of this dialect begins with.
    pub fn new(dialect: Dialect) -> Self {
        let models: &[&str] = match dialect {
            Dialect::OpenAi | Dialect::Azure => &OPENAI_MODELS,
            Dialect::Compat => &["*"],
        };
        Self {
            keys: None,
            models: models.iter().map(|&model| model.to_owned()).collect(),
            words: 16,
            finish_reason: "stop".to_owned(),
            latency_ms: Delay::NONE,
            ttft_ms: Delay::NONE,
            tokens_per_second: None,
            jitter: 0.0,
            flush_events: false,
            strict: true,
            reject_stream_options: false,
            dimensions: 16,
            rpm: NonZeroU32::MIN.saturating_add(9_999),
            tpm: NonZeroU32::MIN.saturating_add(1_999_999),
            prompt_filter: dialect == Dialect::Azure,
            annotations: false,
            empty_ids: false,
            responses_error: false,
            idle_timeout_ms: IDLE_TIMEOUT_MS,
            record: true,
        }
    }

    /// These settings with some replaced; null means the dialect's own. The error names the field.
    pub(super) fn patched(&self, dialect: Dialect, changes: Map<String, Value>) -> Result<Self, String> {
        let object = |settings: &Self| match serde_json::to_value(settings) {
            Ok(Value::Object(object)) => object,
            Ok(_) | Err(_) => Map::new(),
        };
        let defaults = object(&Self::new(dialect));
        let mut merged = object(self);
        for (name, value) in changes {
            let value = if value.is_null() { defaults.get(&name).cloned().unwrap_or(value) } else { value };
            merged.insert(name, value);
        }
        let settings: Self = read::value(Value::Object(merged))?;
        settings.check()?;
        Ok(settings)
    }

    /// Whether a model or deployment of this name exists here.
    pub(super) fn knows(&self, model: &str) -> bool {
        self.models.iter().any(|known| match known.strip_suffix('*') {
            Some(prefix) => model.starts_with(prefix),
            None => known == model,
        })
    }

    fn check(&self) -> Result<(), String> {
        if MAX_WORDS < self.words {
            return Err(format!("words: must be at most {MAX_WORDS}"));
        }
        if !(1..=MAX_DIMENSIONS).contains(&self.dimensions) {
            return Err(format!("dimensions: must be 1 to {MAX_DIMENSIONS}"));
        }
        if !(0.0..=1.0).contains(&self.jitter) {
            return Err("jitter: must be 0 to 1".to_owned());
        }
        if self.tokens_per_second.is_some_and(|rate| !(0.001..=1e9).contains(&rate)) {
            return Err("tokens_per_second: must be 0.001 to 1e9, or null".to_owned());
        }
        if !["stop", "length", "content_filter"].contains(&self.finish_reason.as_str()) {
            return Err("finish_reason: must be one of `stop`, `length`, `content_filter`".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patch(text: &str) -> Result<Settings, String> {
        let changes: Value = serde_json::from_str(text).unwrap();
        let Value::Object(changes) = changes else { panic!("an object is needed") };
        Settings::new(Dialect::OpenAi).patched(Dialect::OpenAi, changes)
    }

    #[test]
    fn some_change_and_the_rest_stays() {
        let settings = patch(r#"{"words":3,"ttft_ms":{"uniform":[1,2]},"keys":["sk-a"],"jitter":null}"#).unwrap();
        assert_eq!(settings.words, 3);
        assert_eq!(settings.ttft_ms, Delay::Uniform(1.0, 2.0));
        let rest = Settings { words: 16, ttft_ms: Delay::NONE, keys: None, ..settings };
        assert_eq!(rest, Settings::new(Dialect::OpenAi));
    }

    #[test]
    fn errors_name_the_field() {
        let table = [
            (r#"{"wurds":3}"#, "unknown field `wurds`, expected one of `keys`, `models`"),
            (r#"{"words":"x"}"#, "words: invalid type"),
            (r#"{"words":100000}"#, "words: must be at most"),
            (r#"{"ttft_ms":{"normal":1}}"#, "ttft_ms.normal: unknown variant"),
            (r#"{"jitter":2}"#, "jitter: must be 0 to 1"),
            (r#"{"finish_reason":"x"}"#, "`stop`, `length`"),
        ];
        for (text, part) in table {
            let error = patch(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_route_name_is_no_model() {
        let settings = Settings::new(Dialect::Azure);
        for model in ["gpt-4o", "gpt-4o-azure-prod", "text-embedding-3-small"] {
            assert!(settings.knows(model), "{model}");
        }
        for model in ["gpt-4-router", "azure-gpt4o", ""] {
            assert!(!settings.knows(model), "{model}");
        }
    }
}
