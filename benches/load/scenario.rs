//! What is asked, how often, and what goes wrong meanwhile.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use crate::peers::Kind;
use crate::primary::Primary;
use crate::window::Wanted;

/// Words of a plain answer: together with its frame about 700 bytes.
const PLAIN_WORDS: u32 = 20;

/// Words of a stream: with role, finish, usage and `[DONE]` 50 events.
const STREAM_WORDS: u32 = 46;

/// Words of a stream that does not end while it is looked at.
const LONG_WORDS: u32 = 600;

/// Size of a large request's prompt.
const LARGE_BYTES: usize = 20_000;

/// Size of a huge one's.
const HUGE_BYTES: usize = 1_000_000;

/// What a user asks.
const QUESTION: &str = "Explain streaming vs batching in LLMs. ";

/// The load's client key, which the gateway checks.
pub(crate) const KEY: &str = "sk-load-0123456789";

/// One scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// How soon after its start a process answers, and what it holds then.
    Start,
    /// A short chat.
    Plain,
    /// The same at a given rate, which every gateway here can serve.
    Calm,
    /// The same at a rate that only the fast ones can.
    Brisk,
    /// A stream without pauses.
    Stream,
    /// A stream with an event every 20 ms.
    Paced,
    /// A prompt of 20 kB.
    Large,
    /// A prompt of 1 MB.
    Huge,
    /// The primary answers 503 each time.
    Failover,
    /// The primary refuses each connection.
    Refused,
    /// The primary hangs.
    Hang,
    /// The primary has failed, and is tried no more.
    Open,
    /// Half of eight equals have.
    Half,
    /// The upstream speaks TLS.
    Tls,
    /// The file changes all the while.
    Reload,
    /// A thousand backends in three hundred routes, against those of the scenarios alone.
    Many,
    /// Ten thousand client keys, against one.
    Keys,
    /// Two workers on both cores, against one.
    Workers,
    /// Two thousand streams at once, an event a second.
    Slow,
    /// Whole answers of a run for endurance.
    Endure,
    /// Its streams.
    EndureStreams,
}

/// How the load comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Each connection asks again as soon as it is answered.
    Closed,
    /// Requests come by the clock, so many a second, whether earlier ones are answered or not.
    Open {
        /// A second.
        rate: u32,
    },
    /// Streams are begun and looked at while all of them run.
    Held,
    /// Processes are started.
    Starts,
}

impl Scenario {
    /// All that a usual run has, in their order.
    pub(crate) const ALL: [Self; 19] = [
        Self::Start,
        Self::Plain,
        Self::Calm,
        Self::Brisk,
        Self::Stream,
        Self::Paced,
        Self::Large,
        Self::Huge,
        Self::Failover,
        Self::Refused,
        Self::Hang,
        Self::Open,
        Self::Half,
        Self::Tls,
        Self::Reload,
        Self::Many,
        Self::Keys,
        Self::Workers,
        Self::Slow,
    ];

    /// The word on the command line and in the table.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Plain => "plain",
            Self::Calm => "calm",
            Self::Brisk => "brisk",
            Self::Stream => "stream",
            Self::Paced => "paced",
            Self::Large => "large",
            Self::Huge => "huge",
            Self::Failover => "failover",
            Self::Refused => "refused",
            Self::Hang => "hang",
            Self::Open => "open",
            Self::Half => "half",
            Self::Tls => "tls",
            Self::Reload => "reload",
            Self::Many => "many",
            Self::Keys => "keys",
            Self::Workers => "workers",
            Self::Slow => "slow",
            Self::Endure => "endure",
            Self::EndureStreams => "endure streams",
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

    /// What stands behind the proxies.
    pub(crate) const fn primary(self) -> Primary {
        match self {
            Self::Start
            | Self::Plain
            | Self::Calm
            | Self::Brisk
            | Self::Stream
            | Self::Large
            | Self::Huge
            | Self::Reload
            | Self::Many
            | Self::Keys
            | Self::Workers => Primary::Working,
            Self::Paced => Primary::Paced,
            Self::Slow => Primary::Slow,
            Self::Failover => Primary::Failing,
            Self::Refused => Primary::Refusing,
            Self::Hang => Primary::Hanging,
            Self::Open => Primary::Tripped,
            Self::Half => Primary::Half,
            Self::Tls => Primary::Tls,
            Self::Endure | Self::EndureStreams => Primary::Troubled,
        }
    }

    /// Who takes part, the direct way first.
    pub(crate) const fn contestants(self) -> &'static [Kind] {
        use Kind::{
            Breakwater, Direct, Haproxy, Litellm, ManyBackends, ManyKeys, Nginx, OneWorker, Portkey, TwoWorkers,
            Unlogged,
        };
        match self {
            Self::Start => &[Breakwater, Nginx, Haproxy, Portkey],
            Self::Plain => &[Direct, Breakwater, Unlogged, Nginx, Haproxy, Litellm, Portkey],
            Self::Calm | Self::Large | Self::Failover | Self::Refused => {
                &[Direct, Breakwater, Nginx, Haproxy, Litellm, Portkey]
            }
            // Portkey 1.15.2 answers each stream from such an upstream with 500 (`TypeError: immutable`).
            Self::Stream => &[Direct, Breakwater, Nginx, Haproxy, Litellm],
            Self::Brisk | Self::Paced | Self::Huge | Self::Hang | Self::Open | Self::Half => {
                &[Direct, Breakwater, Nginx, Haproxy]
            }
            // HAProxy 2.6 lets about half of so many begin, whatever its limits say.
            Self::Slow => &[Direct, Breakwater, Nginx],
            // The load speaks no TLS itself: nobody goes the direct way.
            Self::Tls => &[Breakwater, Nginx, Haproxy],
            Self::Reload => &[Direct, Breakwater],
            Self::Many => &[Direct, Breakwater, ManyBackends],
            Self::Keys => &[Direct, Breakwater, ManyKeys],
            Self::Workers => &[Direct, OneWorker, TwoWorkers],
            Self::Endure | Self::EndureStreams => &[Breakwater],
        }
    }

    /// The concurrencies it is measured at, if the command line names none.
    pub(crate) const fn connections(self) -> &'static [usize] {
        match self {
            Self::Plain => &[1, 16, 64, 256],
            Self::Start => &[1],
            Self::Calm | Self::Large | Self::Hang => &[16],
            Self::Failover | Self::Refused => &[1, 16, 64],
            Self::Huge => &[4],
            Self::Slow => &[2_000],
            Self::Brisk
            | Self::Stream
            | Self::Paced
            | Self::Open
            | Self::Half
            | Self::Tls
            | Self::Reload
            | Self::Many
            | Self::Keys
            | Self::Workers
            | Self::Endure
            | Self::EndureStreams => &[64],
        }
    }

    /// How its load comes.
    pub(crate) const fn form(self) -> Form {
        if matches!(self, Self::Start) {
            Form::Starts
        } else if matches!(self, Self::Calm) {
            Form::Open { rate: 50 }
        } else if matches!(self, Self::Brisk) {
            Form::Open { rate: 5_000 }
        } else if matches!(self, Self::Slow) {
            Form::Held
        } else {
            Form::Closed
        }
    }

    /// The shortest window that says something.
    pub(crate) const fn least_span(self) -> Duration {
        if matches!(self, Self::Paced) {
            // Two and a half of its streams, so that their ends count as often as their beginnings.
            Duration::from_millis(2_500)
        } else if matches!(self, Self::Reload) {
            // Some edits.
            Duration::from_secs(3)
        } else {
            Duration::ZERO
        }
    }

    /// How often a request of it must fail over; none where that is not the same each time.
    pub(crate) const fn failovers_per_request(self) -> Option<f64> {
        if matches!(self, Self::Failover | Self::Refused) {
            Some(1.0)
        } else if matches!(self, Self::Hang) {
            None
        } else {
            Some(0.0)
        }
    }

    /// What its answers must be.
    pub(crate) const fn wanted(self) -> Wanted {
        if matches!(self, Self::Stream | Self::Paced | Self::Slow | Self::EndureStreams) {
            Wanted::Stream
        } else {
            Wanted::Whole
        }
    }

    /// The bytes of its request for a model, head and body. `route` is a header line of its own, or empty.
    pub(crate) fn request(self, address: SocketAddr, model: &str, route: &str) -> Bytes {
        let words = if self == Self::Slow { LONG_WORDS } else { PLAIN_WORDS };
        let (words, stream) = match self.wanted() {
            Wanted::Stream => (words.max(STREAM_WORDS), true),
            Wanted::Whole => (words, false),
        };
        let large = if self == Self::Large { LARGE_BYTES } else { 0 };
        let prompt_bytes = if self == Self::Huge { HUGE_BYTES } else { large };
        let prompt = QUESTION.repeat((prompt_bytes / QUESTION.len()).max(1));
        let options = if stream { r#","stream_options":{"include_usage":true}"# } else { "" };
        let body = format!(
            r#"{{"model":"{model}","messages":[{{"role":"user","content":"{prompt}"}}],"max_tokens":{words},"stream":{stream}{options}}}"#
        );
        http("POST", "/v1/chat/completions", address, route, &body)
    }
}

/// The bytes of a request.
pub(crate) fn http(method: &str, path: &str, address: SocketAddr, more: &str, body: &str) -> Bytes {
    Bytes::from(format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {KEY}\r\ncontent-type: application/json\r\n\
         {more}content-length: {}\r\n\r\n{body}",
        body.len()
    ))
}
