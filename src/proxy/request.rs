//! The few fields of a JSON body that the gateway acts on, found in one forward scan; all else passes untouched.
//!
//! A [`RequestBody`] keeps the received bytes and the places of what matters (spec/wire.md 1.4, 1.5, 2.3). Splicing it for a
//! backend is [`super::rewrite`]'s work. It judges no value that the gateway does not need: the provider answers for those.

use std::borrow::Cow;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;

use super::json::{self, Member, Members};
use crate::error::Fault;

/// A scanned request body: a JSON object and where its interesting fields lie.
#[derive(Clone, Debug)]
pub struct RequestBody {
    pub(super) bytes: Bytes,
    /// All values of `model` in order; the last one routes.
    pub(super) models: SmallVec<[Range<usize>; 1]>,
    model: ModelText,
    pub(super) stream_options: Option<Range<usize>>,
    /// The value of `include_usage` inside the last `stream_options`.
    pub(super) include_usage: Option<Range<usize>>,
    /// Members that never reach a provider, in order.
    pub(super) removable: Vec<Removable>,
    /// How many members the object has.
    pub(super) member_count: usize,
    /// Offset of the closing brace.
    pub(super) close: usize,
    flags: Flags,
    object_ids: Vec<Range<usize>>,
    choices: u64,
    max_output: [Option<u64>; 3],
    limits: ClientLimits,
}

/// A member that is cut out: whether it is `priority`, its position among all, and its span.
#[derive(Clone, Debug)]
pub(super) struct Removable {
    pub(super) is_priority: bool,
    pub(super) position: usize,
    pub(super) member: Member,
}

#[derive(Clone, Debug)]
enum ModelText {
    Missing,
    Invalid,
    Plain(Range<usize>),
    Decoded(String),
}

#[derive(Clone, Copy, Debug, Default)]
struct Flags {
    stream: bool,
    store: Option<bool>,
    background: bool,
    reasoning: bool,
    reasoning_effort: bool,
    thinking: bool,
}

/// What the caller asked of the gateway in the body; honoured only where it lowers a limit (spec/wire.md 1.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientLimits {
    /// `timeout`: the whole request.
    pub timeout: Option<Duration>,
    /// `stream_timeout`: up to the first content.
    pub stream_timeout: Option<Duration>,
    /// `num_retries`.
    pub num_retries: Option<u32>,
    /// `disable_fallbacks: true`: the plan ends at its first backend.
    pub disable_fallbacks: bool,
}

/// Scans a body that is not multipart. A leading UTF-8 byte order mark is dropped.
///
/// # Errors
/// [`Fault::InvalidJson`] with the offset in the body as received.
pub fn scan(body: Bytes) -> Result<RequestBody, Fault> {
    let mark = if body.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    let mut found = RequestBody::over(body.slice(mark..));
    found.read_members().map_err(|flaw| Fault::InvalidJson { at: flaw.at + mark, what: flaw.what })?;
    Ok(found)
}

impl RequestBody {
    fn over(bytes: Bytes) -> Self {
        Self {
            bytes,
            models: SmallVec::new(),
            model: ModelText::Missing,
            stream_options: None,
            include_usage: None,
            removable: Vec::new(),
            member_count: 0,
            close: 0,
            flags: Flags::default(),
            object_ids: Vec::new(),
            choices: 1,
            max_output: [None; 3],
            limits: ClientLimits::default(),
        }
    }

    /// The body as received, without a byte order mark.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The decoded model, none if it is missing, empty or no string.
    pub fn model(&self) -> Option<&str> {
        match &self.model {
            ModelText::Missing | ModelText::Invalid => None,
            ModelText::Plain(span) => std::str::from_utf8(&self.bytes[span.clone()]).ok(),
            ModelText::Decoded(text) => Some(text),
        }
    }

    /// The decoded model.
    ///
    /// # Errors
    /// [`Fault::MissingModel`] without the key, [`Fault::InvalidModel`] if its value is no non-empty string.
    pub fn required_model(&self) -> Result<&str, Fault> {
        match &self.model {
            ModelText::Missing => Err(Fault::MissingModel),
            ModelText::Invalid | ModelText::Plain(_) | ModelText::Decoded(_) => self.model().ok_or(Fault::InvalidModel),
        }
    }

    /// Whether `"stream": true` was asked.
    pub fn stream(&self) -> bool {
        self.flags.stream
    }

    /// Whether the caller asked for usage in the stream itself.
    pub fn asks_usage(&self) -> bool {
        self.include_usage.clone().is_some_and(|span| &self.bytes[span] == b"true")
    }

    /// Whether the body asks for reasoning (spec/resilience.md 7.2).
    pub fn is_reasoning(&self) -> bool {
        self.flags.reasoning || self.flags.reasoning_effort || self.flags.thinking
    }

    /// What `store` asks for, where it is said.
    pub fn store(&self) -> Option<bool> {
        self.flags.store
    }

    /// Whether `"background": true` was asked.
    pub fn background(&self) -> bool {
        self.flags.background
    }

    /// What the caller asked of the gateway.
    pub fn client_limits(&self) -> ClientLimits {
        self.limits
    }

    /// Ids of provider objects that the body names, in order (spec/wire.md 1.4 rule 4).
    pub fn object_ids(&self) -> Vec<Cow<'_, str>> {
        self.object_ids.iter().filter_map(|span| json::string(&self.bytes[span.clone()])).collect()
    }

    /// Tokens this call may cost (spec/resilience.md 4.1): those of its prompt and of the maximum it names, and how many
    /// outputs have none.
    pub fn token_estimate(&self) -> (u64, u64) {
        let prompt = self.bytes.len() as u64 / 4;
        match self.max_output.into_iter().flatten().next() {
            Some(most) => (prompt.saturating_add(self.choices.saturating_mul(most)), 0),
            None => (prompt, self.choices),
        }
    }

    fn read_members(&mut self) -> Result<(), json::Flaw> {
        let bytes = self.bytes.clone();
        let mut members = Members::of(&bytes);
        for member in members.by_ref() {
            let member = member?;
            let written = &bytes[member.key.clone()];
            let at = member.key.start;
            if written.contains(&b'\\') {
                let key = json::decode(written).ok_or(json::Flaw { at, what: "a key has an invalid escape" })?;
                self.read_member(key.as_bytes(), &bytes, member)?;
            } else {
                self.read_member(written, &bytes, member)?;
            }
            self.member_count += 1;
        }
        self.close = members.end() - 1;
        let end = json::skip_blanks(&bytes, members.end());
        if end < bytes.len() {
            return Err(json::Flaw { at: end, what: "expected nothing after the object" });
        }
        Ok(())
    }

    fn read_member(&mut self, key: &[u8], bytes: &Bytes, member: Member) -> Result<(), json::Flaw> {
        let span = member.value.clone();
        let value = &bytes[span.clone()];
        match key {
            b"model" => return self.read_model(span),
            b"stream" => self.flags.stream = value == b"true",
            b"stream_options" => {
                self.include_usage = last_member(value, "include_usage", span.start);
                self.stream_options = Some(span);
            }
            b"store" => self.flags.store = Some(value == b"true"),
            b"background" => self.flags.background = value == b"true",
            b"reasoning" => self.flags.reasoning = asks_reasoning(value),
            b"reasoning_effort" => self.flags.reasoning_effort = asks_reasoning(value),
            b"thinking" => self.flags.thinking = asks_reasoning(value),
            b"n" => self.choices = number(value).unwrap_or(1).max(1),
            b"max_completion_tokens" => self.max_output[0] = number(value),
            b"max_tokens" => self.max_output[1] = number(value),
            b"max_output_tokens" => self.max_output[2] = number(value),
            b"previous_response_id" | b"input_file_id" | b"training_file" if value[0] == b'"' => {
                self.object_ids.push(span)
            }
            b"conversation" if value[0] == b'"' => self.object_ids.push(span),
            b"conversation" => self.object_ids.extend(last_member(value, "id", span.start)),
            _ if is_removed(key) => self.read_removed(key, value, member),
            _ => {}
        }
        Ok(())
    }

    fn read_model(&mut self, span: Range<usize>) -> Result<(), json::Flaw> {
        let value = &self.bytes[span.clone()];
        self.model = match value {
            [b'"', b'"'] => ModelText::Invalid,
            [b'"', inner @ .., b'"'] => match json::decode(inner) {
                Some(Cow::Borrowed(_)) => ModelText::Plain(span.start + 1..span.end - 1),
                Some(Cow::Owned(text)) => ModelText::Decoded(text),
                None => return Err(json::Flaw { at: span.start, what: "model has an invalid escape or is not UTF-8" }),
            },
            _ => ModelText::Invalid,
        };
        self.models.push(span);
        Ok(())
    }

    fn read_removed(&mut self, key: &[u8], value: &[u8], member: Member) {
        match key {
            b"timeout" => self.limits.timeout = seconds(value),
            b"stream_timeout" => self.limits.stream_timeout = seconds(value),
            b"num_retries" => self.limits.num_retries = number(value).and_then(|count| u32::try_from(count).ok()),
            b"disable_fallbacks" => self.limits.disable_fallbacks = value == b"true",
            _ => {}
        }
        self.removable.push(Removable { is_priority: key == b"priority", position: self.member_count, member });
    }
}

/// The fields of spec/wire.md 1.5. `priority` goes for some providers only, which the rewrite knows.
fn is_removed(key: &[u8]) -> bool {
    matches!(
        key,
        b"fallbacks"
            | b"num_retries"
            | b"stream_timeout"
            | b"timeout"
            | b"disable_fallbacks"
            | b"include_fallback_errors"
            | b"router_settings_override"
            | b"context_window_fallbacks"
            | b"tags"
            | b"guardrails"
            | b"litellm_session_id"
            | b"priority"
    ) || key.starts_with(b"mock_")
        || key.starts_with(b"litellm_")
}

/// The place of the last value of `key` in the object `value`, which itself begins at `base`.
fn last_member(value: &[u8], key: &str, base: usize) -> Option<Range<usize>> {
    let found = Members::of(value)
        .map_while(Result::ok)
        .filter(|member| json::is_key(&value[member.key.clone()], key))
        .last()?;
    Some(base + found.value.start..base + found.value.end)
}

/// Something other than nothing: `null`, `"none"`, `{"effort":"none"}` and `{"type":"disabled"}` switch reasoning off.
fn asks_reasoning(value: &[u8]) -> bool {
    match value {
        b"null" | b"false" | b"\"none\"" => false,
        [b'{', ..] => {
            json::find(value, "effort") != Some(b"\"none\"") && json::find(value, "type") != Some(b"\"disabled\"")
        }
        _ => true,
    }
}

fn number(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// Longest time a client can name; beyond it `Duration` arithmetic would have to be watched everywhere.
const MAX_CLIENT_SECONDS: f64 = 604_800.0;

/// Seconds as a number or a string of one; nothing below or at zero.
fn seconds(value: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(value).ok()?.trim_matches('"');
    parse_seconds(text)
}

/// A positive time in decimal seconds, as headers and body fields spell it; at most seven days.
pub fn parse_seconds(text: &str) -> Option<Duration> {
    let seconds: f64 = text.trim().parse().ok()?;
    (seconds > 0.0).then(|| Duration::from_secs_f64(seconds.min(MAX_CLIENT_SECONDS)))
}

#[cfg(test)]
mod tests;
