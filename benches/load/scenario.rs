//! What is asked, and what goes wrong meanwhile.

use std::net::SocketAddr;

use bytes::Bytes;

use crate::window::Wanted;

/// Words of a plain answer: together with its frame about 700 bytes.
const PLAIN_WORDS: u32 = 20;

/// Words of a stream: with role, finish, usage and `[DONE]` 50 events.
const STREAM_WORDS: u32 = 46;

/// Size of a large request's prompt.
const LARGE_BYTES: usize = 20_000;

/// What a user asks.
const QUESTION: &str = "Explain streaming vs batching in LLMs. ";

/// One scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// A short chat.
    Plain,
    /// A stream.
    Stream,
    /// A long prompt.
    Large,
    /// The primary fails each time.
    Failover,
    /// The primary's circuit is open.
    Open,
    /// The primary refuses connections.
    Refused,
}

impl Scenario {
    /// All of them, in the order they run.
    pub(crate) const ALL: [Self; 6] =
        [Self::Plain, Self::Stream, Self::Large, Self::Failover, Self::Open, Self::Refused];

    /// The word on the command line, in the table, and the name of its route.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Stream => "stream",
            Self::Large => "large",
            Self::Failover => "failover",
            Self::Open => "open",
            Self::Refused => "refused",
        }
    }

    /// The scenario of that name.
    ///
    /// # Errors
    /// What there is.
    pub(crate) fn named(name: &str) -> Result<Self, String> {
        let names = Self::ALL.map(Self::name).join(", ");
        let known = Self::ALL.into_iter().find(|scenario| scenario.name() == name);
        known.ok_or_else(|| format!("`{name}` is no scenario; there are {names}"))
    }

    /// The backend that its route tries first.
    pub(crate) const fn primary(self) -> &'static str {
        match self {
            Self::Plain | Self::Stream | Self::Large => "working",
            Self::Failover => "failing",
            Self::Open => "tripped",
            Self::Refused => "refusing",
        }
    }

    /// How often a request of it must fail over.
    pub(crate) const fn failovers_per_request(self) -> f64 {
        match self {
            Self::Plain | Self::Stream | Self::Large | Self::Open => 0.0,
            Self::Failover | Self::Refused => 1.0,
        }
    }

    /// What its answers must be.
    pub(crate) const fn wanted(self) -> Wanted {
        match self {
            Self::Stream => Wanted::Stream,
            Self::Plain | Self::Large | Self::Failover | Self::Open | Self::Refused => Wanted::Whole,
        }
    }

    /// The bytes of its request for a model, head and body.
    pub(crate) fn request(self, address: SocketAddr, model: &str) -> Bytes {
        let (prompt, words, stream) = match self {
            Self::Plain | Self::Failover | Self::Open | Self::Refused => (QUESTION.to_owned(), PLAIN_WORDS, false),
            Self::Stream => (QUESTION.to_owned(), STREAM_WORDS, true),
            Self::Large => (QUESTION.repeat(LARGE_BYTES / QUESTION.len()), PLAIN_WORDS, false),
        };
        let options = if stream { r#","stream_options":{"include_usage":true}"# } else { "" };
        let body = format!(
            r#"{{"model":"{model}","messages":[{{"role":"user","content":"{prompt}"}}],"max_tokens":{words},"stream":{stream}{options}}}"#
        );
        http("POST", "/v1/chat/completions", address, &body)
    }
}

/// The bytes of a request.
pub(crate) fn http(method: &str, path: &str, address: SocketAddr, body: &str) -> Bytes {
    Bytes::from(format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer bench\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    ))
}
