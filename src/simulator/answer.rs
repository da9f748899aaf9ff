//! An answer before it becomes bytes: status, fields, and a whole body or events with the waits between them.

use std::borrow::Cow;
use std::time::Duration;

use fastrand::Rng;
use serde_json::Value;

/// A header field.
pub(super) type Field = (Cow<'static, str>, Cow<'static, str>);

/// What a provider answers.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) fields: Vec<Field>,
    /// The wait before the first byte.
    pub(super) lead: Duration,
    /// Whether each event is a write of its own.
    pub(super) flushes_events: bool,
    pub(super) payload: Payload,
}

/// A body.
#[derive(Clone, Debug)]
pub(super) enum Payload {
    Whole { content_type: Cow<'static, str>, body: Vec<u8> },
    Events(Vec<Event>),
}

/// One event of a stream.
#[derive(Clone, Debug)]
pub(super) struct Event {
    /// The `event:` line.
    pub(super) name: Option<&'static str>,
    pub(super) data: String,
    /// The wait before it.
    pub(super) wait: Duration,
    /// Whether it carries content: words, arguments, or their end.
    pub(super) is_content: bool,
}

impl Answer {
    /// A JSON answer.
    pub(super) fn json(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self::whole(status, "application/json", body)
    }

    /// An answer with this body.
    pub(super) fn whole(status: u16, content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        let payload = Payload::Whole { content_type: content_type.into(), body: body.into() };
        Self { status, fields: Vec::new(), lead: Duration::ZERO, flushes_events: false, payload }
    }

    /// A stream.
    pub(super) fn stream(events: Vec<Event>) -> Self {
        Self {
            status: 200,
            fields: Vec::new(),
            lead: Duration::ZERO,
            flushes_events: false,
            payload: Payload::Events(events),
        }
    }

    /// Whether it has a field of its own by this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|(field, _)| field.eq_ignore_ascii_case(name))
    }

    /// Sets a field in place of those of the same name.
    pub(super) fn set(&mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Cow<'static, str>>) {
        let name = name.into();
        self.fields.retain(|(field, _)| !field.eq_ignore_ascii_case(&name));
        self.fields.push((name, value.into()));
    }
}

impl Event {
    /// An event before or after the content.
    pub(super) fn plain(data: impl Into<String>) -> Self {
        Self { name: None, data: data.into(), wait: Duration::ZERO, is_content: false }
    }

    /// An event with content.
    pub(super) fn content(data: impl Into<String>, wait: Duration) -> Self {
        Self { name: None, data: data.into(), wait, is_content: true }
    }

    /// A typed event, named by its `type`.
    pub(super) fn typed(name: &'static str, data: &Value) -> Self {
        Self { name: Some(name), ..Self::plain(data.to_string()) }
    }

    /// The end of a stream.
    pub(super) fn done() -> Self {
        Self::plain("[DONE]")
    }

    pub(super) fn is_done(&self) -> bool {
        self.data == "[DONE]"
    }
}

/// How fast words come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// Before the first.
    pub(super) ttft: Duration,
    /// Between two.
    pub(super) gap: Duration,
    /// How much a gap varies, 0 to 1.
    pub(super) jitter: f64,
}

impl Pace {
    /// The wait before the word of this index.
    pub(super) fn wait(&self, index: usize, rng: &mut Rng) -> Duration {
        match index {
            0 => self.ttft,
            _ if self.gap.is_zero() => Duration::ZERO,
            _ => self.gap.mul_f64(1.0 + self.jitter * (2.0 * rng.f64() - 1.0)),
        }
    }

    /// The wait before an answer of so many words that comes in one piece.
    pub(super) fn whole(&self, words: usize, rng: &mut Rng) -> Duration {
        (0..words).map(|index| self.wait(index, rng)).sum()
    }
}
