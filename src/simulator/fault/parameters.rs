//! The parameters of faults, each with its JSON.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::simulator::delay::Delay;

/// How slowly to send.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Slow {
    /// The wait after each byte of the head.
    pub head_byte_ms: u64,
    /// The rate of the body.
    pub body_bytes_per_second: Option<NonZeroU64>,
}

/// An error answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// The status code, 200 to 599.
    pub code: u16,
    /// The body's shape; the dialect's own if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Template>,
    /// Further headers; they replace the usual ones of the same name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// When to come back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<RetryAfter>,
    /// The wait before the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Delay>,
}

impl Status {
    /// This code in the dialect's own shape.
    pub fn new(code: u16) -> Self {
        Self { code, body: None, headers: BTreeMap::new(), retry_after: None, latency: None }
    }
}

/// Error bodies as providers send them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Template {
    /// `{"error":{"message","type","param","code"}}`.
    Openai,
    /// OpenAI's `insufficient_quota`.
    InsufficientQuota,
    /// `{"error":{"code","message"}}`.
    Azure,
    /// `{"statusCode","message"}` without a wrapper.
    AzureFlat,
    /// Azure's content filter with its inner error.
    ContentFilter,
    /// `context_length_exceeded`.
    ContextLength,
    /// `{"type":"error","error":{"type","message"}}`.
    Anthropic,
    /// vLLM's flat object.
    Vllm,
    /// `{"error":"text"}`.
    Ollama,
    /// A page of some box in between.
    Html,
    /// No body.
    Empty,
    /// These bytes, as `application/json`.
    Raw(String),
}

/// The `Retry-After` of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RetryAfter {
    /// `retry-after: 2` (86400 is a day).
    Seconds(u64),
    /// `retry-after: 0.5`.
    Float(f64),
    /// `retry-after: <HTTP date this many seconds ahead>`.
    Date(u64),
    /// `retry-after-ms: 43` and the whole seconds beside it.
    Ms(u64),
}

/// A limit that is really counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quota {
    /// Requests per minute; a window holds its share of them, at least one.
    pub rpm: Option<NonZeroU32>,
    /// Tokens per minute.
    pub tpm: Option<NonZeroU32>,
    /// The window's length in seconds, 1 to 3600.
    pub window_s: u32,
    /// What the 429 looks like.
    pub style: QuotaStyle,
}

impl Default for Quota {
    fn default() -> Self {
        Self { rpm: None, tpm: None, window_s: 60, style: QuotaStyle::RateLimit }
    }
}

/// What an exhausted quota answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuotaStyle {
    /// The dialect's rate limit error with remaining, reset and Retry-After.
    RateLimit,
    /// `insufficient_quota`, no Retry-After.
    InsufficientQuota,
    /// Provisioned throughput: `retry-after-ms` of some tens of milliseconds, utilization above 100.
    Ptu,
}

/// Where to stop sending. An answer that ends before that place ends well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum HangAt {
    /// Nothing is sent.
    BeforeHeaders,
    /// Only the head.
    AfterHeaders,
    /// Everything before the first content: the role chunk. Streams only.
    BeforeFirstContent,
    /// The same, with a comment every so many milliseconds. Streams only.
    CommentsBeforeFirstContent(NonZeroU64),
    /// So many events. Streams only.
    AfterEvents(usize),
}

/// Where to cut the connection. An answer that ends before that place ends well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum CutAt {
    /// Nothing is sent.
    AfterRequest,
    /// Only the head.
    AfterHeaders,
    /// So many events. Streams only.
    AfterEvents(usize),
    /// So many bytes of the body: inside an event, if it falls there.
    AfterBytes(usize),
}

/// How a kept-alive connection dies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Stale {
    /// Closed (FIN) after this much idleness, although the answer did not say `connection: close`.
    CloseIdle(u64),
    /// Reset as soon as the next request on it has arrived.
    ResetOnReuse,
}

/// How an answer ends too early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Truncate {
    /// `content-length` names more than is sent, then FIN.
    ContentLength,
    /// Chunked, and FIN in place of the rest.
    Chunked,
    /// A stream that ends cleanly without `finish_reason` and without `[DONE]`. Streams only.
    NoDone,
    /// A stream with `finish_reason` but without `[DONE]`. Streams only.
    FinishNoDone,
}

/// What is unusable about a 200.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Malformed {
    /// The JSON ends in the middle (of the body, or of one event of a stream).
    JsonCut,
    /// An HTML page.
    Html,
    /// No body at all.
    Empty,
    /// The right body as `text/plain`.
    ContentType,
    /// Broken chunked framing after the third event. Streams only.
    BadChunk,
    /// A JSON answer to a stream request. Streams only.
    JsonToStream,
    /// Compressed, though nobody asked.
    Gzip,
    /// Not even a 200: 307 to another place.
    Redirect,
}

/// An error as an event of a stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InBandError {
    /// How many events go before it.
    #[serde(default)]
    pub at: usize,
    /// Its shape.
    #[serde(default)]
    pub form: ErrorForm,
    /// The error's `code`, text or number, in place of the form's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Value>,
    /// The error's message in place of the form's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Further headers of the 200, such as `retry-after`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
}

/// Shapes of an error inside a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorForm {
    /// `data: {"error":{…}}`, then the end.
    #[default]
    Openai,
    /// The same under `event: error`.
    EventError,
    /// The `/responses` event `error`.
    ResponsesError,
    /// The `/responses` event `response.failed`.
    ResponsesFailed,
    /// vLLM: an object with a numeric code, then `[DONE]`.
    Vllm,
    /// `data: {"object":"error",…}` without a wrapper.
    Flat,
    /// OpenAI's shape with an HTTP status as `code`.
    NumericCode,
    /// `event: error` with `{"type":"error","error":{…}}`.
    Anthropic,
}

/// Legal but unusual bytes on the wire; all that are set apply together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Wire {
    /// The body goes out in chunks and writes of this many bytes.
    pub split_bytes: Option<NonZeroUsize>,
    /// The line end of streams.
    pub line_end: LineEnd,
    /// A byte order mark before the first event.
    pub bom: bool,
    /// Each event's JSON over several `data:` lines.
    pub multi_line_data: bool,
    /// `id:` lines.
    pub ids: bool,
    /// A `retry:` block after the first event.
    pub retry: bool,
    /// A block with `event:` and no `data:` after the first event.
    pub event_without_data: bool,
    /// A comment before each event, and every so many milliseconds of waiting.
    pub comments_ms: Option<NonZeroU64>,
    /// One content event is padded to this many bytes, at most 64 MiB.
    pub large_event_bytes: Option<NonZeroUsize>,
    /// `connection: close`.
    pub connection_close: bool,
    /// Answers as HTTP/1.0: no chunks, the end of the connection is the end of the stream.
    pub http10: bool,
}

/// Line ends that SSE allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LineEnd {
    /// `\n`.
    #[default]
    Lf,
    /// `\r\n`.
    Crlf,
    /// `\r`.
    Cr,
}

impl LineEnd {
    /// The bytes.
    pub(in crate::simulator) fn bytes(self) -> &'static str {
        match self {
            Self::Lf => "\n",
            Self::Crlf => "\r\n",
            Self::Cr => "\r",
        }
    }
}
