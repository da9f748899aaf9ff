//! One received request as it is kept: bytes as they came, times, and how it ended.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::base64;
use super::request::Request;

/// One received request.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Counts the backend's requests from 1.
    pub sequence: u64,
    /// Counts the backend's connections from 1.
    pub connection: u64,
    /// Counts the requests on that connection from 1: 2 and more mean that it was reused.
    pub request_on_connection: u64,
    /// When what happened, since the simulator's start.
    pub times: Times,
    /// HTTP/1.`version`.
    pub version: u8,
    /// The method as sent.
    pub method: String,
    /// The raw target: path and query as sent.
    pub target: String,
    /// The headers in order, names spelled as sent.
    pub headers: Vec<(String, String)>,
    /// The body after transfer decoding.
    pub body: RecordedBody,
    /// The index of the rule that applied.
    pub rule: Option<usize>,
    /// The answer's status; none if no head was to be sent.
    pub status: Option<u16>,
    /// SSE events sent.
    pub events: u64,
    /// Bytes sent, heads and framing included.
    pub bytes: u64,
    /// How it ended; none while it is under way.
    pub ended: Option<Ended>,
}

/// When what happened, since the simulator's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// The connection was accepted.
    pub accept: Duration,
    /// The head was complete.
    pub head: Duration,
    /// The body was complete.
    pub body_end: Duration,
    /// The first byte was sent.
    pub first_byte: Option<Duration>,
    /// The end, whichever.
    pub end: Option<Duration>,
}

/// A recorded body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordedBody {
    /// All of it.
    Whole(Bytes),
    /// Of a large or old one only how long it was and its SHA-256.
    Digest {
        /// Its length in bytes.
        length: usize,
        /// Its digest.
        sha256: [u8; 32],
    },
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The answer was sent whole.
    Complete,
    /// The client was gone before the answer was whole; [`Times::end`] says when that was seen.
    ClientClosed,
    /// The fault ended it.
    Fault,
    /// The simulator stopped.
    Stopped,
}

impl Ended {
    /// The word in the control API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::ClientClosed => "client_closed",
            Self::Fault => "fault",
            Self::Stopped => "stopped",
        }
    }
}

impl RecordedBody {
    /// Bytes held in memory.
    pub(super) fn kept(&self) -> usize {
        match self {
            Self::Whole(body) => body.len(),
            Self::Digest { .. } => 0,
        }
    }
}

/// Forgets a body but for its digest.
pub(super) fn digest(body: &[u8]) -> RecordedBody {
    RecordedBody::Digest { length: body.len(), sha256: Sha256::digest(body).into() }
}

impl Recorded {
    /// A request that has been read and not answered yet.
    pub(super) fn new(request: &Request, times: Times) -> Self {
        Self {
            sequence: 0,
            connection: 0,
            request_on_connection: 0,
            times,
            version: request.version(),
            method: request.method().to_owned(),
            target: request.target().to_owned(),
            headers: request.headers().map(|(name, value)| (name.to_owned(), lossy(value))).collect(),
            body: RecordedBody::Whole(request.body().clone()),
            rule: None,
            status: None,
            events: 0,
            bytes: 0,
            ended: None,
        }
    }

    /// The first header of this name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.headers.iter();
        fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The whole body, or nothing if only its digest was kept.
    pub fn body(&self) -> &[u8] {
        match &self.body {
            RecordedBody::Whole(body) => body,
            RecordedBody::Digest { .. } => &[],
        }
    }

    /// The control API's form; times are milliseconds since the simulator's start.
    pub fn to_json(&self) -> Value {
        let millis = |time: Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
        let mut record = json!({
            "sequence": self.sequence,
            "connection": self.connection,
            "request_on_connection": self.request_on_connection,
            "times_ms": {
                "accept": millis(self.times.accept),
                "head": millis(self.times.head),
                "body_end": millis(self.times.body_end),
                "first_byte": self.times.first_byte.map(millis),
                "end": self.times.end.map(millis),
            },
            "version": format!("HTTP/1.{}", self.version),
            "method": self.method,
            "target": self.target,
            "headers": self.headers,
            "rule": self.rule,
            "status": self.status,
            "events": self.events,
            "bytes": self.bytes,
            "ended": self.ended.map(Ended::name),
        });
        match &self.body {
            RecordedBody::Whole(body) => match std::str::from_utf8(body) {
                Ok(text) => record["body"] = text.into(),
                Err(_) => record["body_base64"] = base64::encode(body).into(),
            },
            RecordedBody::Digest { length, sha256 } => {
                record["body_bytes"] = (*length).into();
                record["body_sha256"] = sha256.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into();
            }
        }
        record
    }
}

fn lossy(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}
