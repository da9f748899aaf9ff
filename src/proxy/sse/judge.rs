//! Looks into the data of one event: an error, content, the end, or nothing yet (spec/wire.md 4.2, 4.3).
//!
//! A walk over spans of the text: no tree, no allocation. Strings are skipped whole, so that the word "error" inside content
//! is never seen.

use super::super::finish::FinishReason;
use super::super::json::{self, Elements, Members};
use super::super::usage::Usage;

/// What one event says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Finding {
    /// What it means for the stream.
    pub meaning: Meaning,
    /// Token usage in it.
    pub usage: Option<Usage>,
    /// Choices that stand in it, as bits by index.
    pub seen: u128,
    /// Those of them with a finish reason.
    pub finished: u128,
    /// Why one of them stopped.
    pub finish_reason: Option<FinishReason>,
    /// Whether `choices` is empty, `usage` an object and nothing else said: the event that injected usage brings.
    pub is_usage_event: bool,
    /// `sequence_number`, on responses.
    pub sequence: Option<u64>,
}

/// What an event means for the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Meaning {
    /// Not content: held before the commit point.
    #[default]
    Preamble,
    /// Commits; passes.
    Content,
    /// The last event of its API.
    Terminal,
    /// An error; `is_flat` if no SDK would recognise it.
    Error {
        /// Whether the `error` object is missing around it.
        is_flat: bool,
    },
    /// Not JSON where it must be.
    Malformed,
}

/// Judges an event of chat/completions or completions.
pub fn chat(event: &[u8], data: &[u8]) -> Finding {
    let mut finding = Finding::default();
    let (mut choices, mut has_error, mut is_flat, mut has_filter) = (None, false, false, false);
    for member in Members::of(data) {
        let Ok(member) = member else { return Finding { meaning: Meaning::Malformed, ..finding } };
        let value = &data[member.value];
        match &data[member.key] {
            b"choices" => choices = Some(value),
            b"usage" => finding.usage = Usage::of_object(value),
            b"error" => has_error = value != b"null",
            b"object" => is_flat = value == b"\"error\"",
            b"prompt_filter_results" => has_filter = true,
            _ => {}
        }
    }
    if has_error || is_flat || (event == b"error" && choices.is_none()) {
        finding.meaning = Meaning::Error { is_flat: !has_error };
        return finding;
    }
    let Some(choices) = choices else {
        // An event of a kind we do not know counts as content: holding it back could hold it for ever.
        finding.meaning = Meaning::Content;
        return finding;
    };
    let mut is_empty = true;
    for choice in Elements::of(choices) {
        is_empty = false;
        if read_choice(choice, &mut finding) {
            finding.meaning = Meaning::Content;
        }
    }
    if is_empty && finding.usage.is_some() {
        finding.meaning = Meaning::Content;
        finding.is_usage_event = choices.starts_with(b"[") && !has_filter;
    }
    finding
}

/// Highest choice index told apart; OpenAI allows 128 choices.
const LAST_CHOICE: u32 = 127;

/// Notes a choice's index and finish reason; says whether it has content.
fn read_choice(choice: &[u8], finding: &mut Finding) -> bool {
    let (mut index, mut is_finished, mut has_content) = (0, false, false);
    for member in Members::of(choice).map_while(Result::ok) {
        let value = &choice[member.value];
        match &choice[member.key] {
            b"index" => index = number(value).map_or(0, |index| index.min(LAST_CHOICE.into())),
            b"finish_reason" => {
                is_finished = value != b"null";
                finding.finish_reason = FinishReason::of_value(value).or(finding.finish_reason);
            }
            b"text" => has_content |= says_something(value),
            b"delta" => has_content |= delta_says_something(value),
            _ => {}
        }
    }
    let bit = 1_u128 << index;
    finding.seen |= bit;
    if is_finished {
        finding.finished |= bit;
    }
    has_content || is_finished
}

fn delta_says_something(delta: &[u8]) -> bool {
    Members::of(delta).map_while(Result::ok).any(|member| {
        matches!(
            &delta[member.key],
            b"content" | b"reasoning_content" | b"reasoning" | b"refusal" | b"tool_calls" | b"function_call" | b"audio"
        ) && says_something(&delta[member.value])
    })
}

fn says_something(value: &[u8]) -> bool {
    !matches!(value, b"null" | b"\"\"" | b"[]")
}

fn number(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// Judges an event of responses. The type in the data wins over the event's name.
pub fn responses(event: &[u8], data: &[u8]) -> Finding {
    let mut finding = Finding::default();
    let (mut kind, mut response, mut has_error, mut is_flat) = (event, None, false, false);
    for member in Members::of(data) {
        let Ok(member) = member else { return Finding { meaning: Meaning::Malformed, ..finding } };
        let value = &data[member.value];
        match &data[member.key] {
            b"type" => kind = value.strip_prefix(b"\"").and_then(|kind| kind.strip_suffix(b"\"")).unwrap_or(kind),
            b"sequence_number" => finding.sequence = number(value),
            b"response" => response = Some(value),
            b"error" => has_error = value != b"null",
            b"object" => is_flat = value == b"\"error\"",
            _ => {}
        }
    }
    let usage = || Usage::of_object(json::find(response?, "usage")?);
    finding.meaning = match kind {
        // The bare `error` event is the API's own and passes as it is.
        b"error" | b"response.error" => Meaning::Error { is_flat: false },
        b"response.failed" => {
            finding.usage = usage();
            Meaning::Error { is_flat: false }
        }
        _ if has_error || is_flat => Meaning::Error { is_flat: !has_error },
        b"response.completed" | b"response.incomplete" => {
            finding.usage = usage();
            Meaning::Terminal
        }
        b"response.created" | b"response.queued" | b"response.in_progress" | b"ping" | b"keepalive" => {
            Meaning::Preamble
        }
        _ if kind.ends_with(b".added") => Meaning::Preamble,
        _ => Meaning::Content,
    };
    finding
}

/// Judges an event of any other API: what is no error is content, JSON or not.
pub fn other(event: &[u8], data: &[u8]) -> Finding {
    let mut finding = Finding { meaning: Meaning::Content, ..Finding::default() };
    let (mut kind, mut has_error, mut is_flat) = (event, false, false);
    for member in Members::of(data).map_while(Result::ok) {
        let value = &data[member.value];
        match &data[member.key] {
            b"type" => kind = value.strip_prefix(b"\"").and_then(|kind| kind.strip_suffix(b"\"")).unwrap_or(kind),
            b"error" => has_error = value != b"null",
            b"object" => is_flat = value == b"\"error\"",
            b"usage" => finding.usage = Usage::of_object(value),
            _ => {}
        }
    }
    if has_error || is_flat || kind == b"error" {
        finding.meaning = Meaning::Error { is_flat: is_flat && !has_error };
    } else if matches!(
        kind,
        b"speech.audio.done" | b"transcript.text.done" | b"image_generation.completed" | b"image_edit.completed"
    ) {
        finding.meaning = Meaning::Terminal;
    }
    finding
}
