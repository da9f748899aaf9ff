//! What a virtual backend has received and how each request ended: a bounded ring and a few counts.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::base64;
use super::request::Request;

/// Most requests kept per backend; the oldest goes first (spec/wire.md 8.3).
const MAX_RECORDS: usize = 10_000;

/// Largest body kept; of larger ones the SHA-256.
const MAX_RECORDED_BODY_BYTES: usize = 1 << 20;

/// Bodies kept in memory per backend, all together: ten thousand bodies of 1 MiB would be 10 GiB.
const MAX_JOURNAL_BYTES: usize = 256 << 20;

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

/// Sums since the start or the last reset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Accepted connections.
    pub connections: u64,
    /// Connections that met a fault before any request: `blackhole`, `accept_reset`.
    pub connection_faults: u64,
    /// Requests whose head and body were read.
    pub requests: u64,
    /// Requests that did not arrive whole or were no HTTP.
    pub broken_requests: u64,
    /// Requests that ended, whichever way.
    pub ended: u64,
    /// Requests whose answer was sent whole.
    pub complete: u64,
    /// Requests whose client left.
    pub client_closed: u64,
    /// Requests that a fault ended.
    pub faults: u64,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
}

/// A backend's records and counts.
#[derive(Default)]
pub(super) struct Journal {
    records: VecDeque<Recorded>,
    body_bytes: usize,
    counts: Counts,
}

/// What is known when a request has been answered.
pub(super) struct Settled {
    pub(super) status: Option<u16>,
    pub(super) events: u64,
    pub(super) bytes: u64,
    pub(super) first_byte: Option<Duration>,
    pub(super) end: Duration,
    pub(super) ended: Ended,
}

impl Journal {
    pub(super) fn counts(&self) -> &Counts {
        &self.counts
    }

    pub(super) fn counts_mut(&mut self) -> &mut Counts {
        &mut self.counts
    }

    /// The records after this sequence, oldest first.
    pub(super) fn after(&self, sequence: u64) -> impl Iterator<Item = &Recorded> {
        let start = self.records.partition_point(|record| record.sequence <= sequence);
        self.records.range(start..)
    }

    pub(super) fn clear(&mut self) {
        self.records.clear();
        self.body_bytes = 0;
    }

    /// Keeps a request that is about to be answered.
    pub(super) fn record(&mut self, mut record: Recorded) {
        if let RecordedBody::Whole(body) = &record.body
            && MAX_RECORDED_BODY_BYTES < body.len()
        {
            record.body = digest(body);
        }
        if self.records.len() == MAX_RECORDS
            && let Some(oldest) = self.records.pop_front()
        {
            self.body_bytes -= oldest.body.kept();
        }
        self.body_bytes += record.body.kept();
        self.records.push_back(record);
        self.shrink();
    }

    /// Notes how a request ended.
    pub(super) fn settle(&mut self, sequence: u64, settled: &Settled) {
        self.counts.ended += 1;
        match settled.ended {
            Ended::Complete => self.counts.complete += 1,
            Ended::ClientClosed => self.counts.client_closed += 1,
            Ended::Fault => self.counts.faults += 1,
            Ended::Stopped => {}
        }
        if let Some(status) = settled.status {
            *self.counts.statuses.entry(status).or_default() += 1;
        }
        let Ok(index) = self.records.binary_search_by_key(&sequence, |record| record.sequence) else { return };
        let record = &mut self.records[index];
        record.status = settled.status;
        record.events = settled.events;
        record.bytes = settled.bytes;
        record.times.first_byte = settled.first_byte;
        record.times.end = Some(settled.end);
        record.ended = Some(settled.ended);
    }

    /// Old bodies become digests while all together are too large.
    fn shrink(&mut self) {
        let mut records = self.records.iter_mut();
        while MAX_JOURNAL_BYTES < self.body_bytes
            && let Some(record) = records.next()
        {
            if let RecordedBody::Whole(body) = &record.body {
                self.body_bytes -= body.len();
                record.body = digest(body);
            }
        }
    }
}

impl RecordedBody {
    fn kept(&self) -> usize {
        match self {
            Self::Whole(body) => body.len(),
            Self::Digest { .. } => 0,
        }
    }
}

fn digest(body: &[u8]) -> RecordedBody {
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

impl Counts {
    /// The control API's form.
    pub fn to_json(&self) -> Value {
        let statuses: serde_json::Map<_, _> =
            self.statuses.iter().map(|(status, count)| (status.to_string(), (*count).into())).collect();
        json!({
            "connections": self.connections,
            "connection_faults": self.connection_faults,
            "requests": self.requests,
            "broken_requests": self.broken_requests,
            "in_flight": self.requests.saturating_sub(self.ended),
            "ended": self.ended,
            "complete": self.complete,
            "client_closed": self.client_closed,
            "faults": self.faults,
            "statuses": statuses,
        })
    }
}

fn lossy(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(sequence: u64, body: usize) -> Recorded {
        let head = "POST / HTTP/1.1\r\n\r\n";
        let request = Request::parse(head.as_bytes()).unwrap().unwrap().with_body(vec![b'x'; body].into());
        Recorded { sequence, ..Recorded::new(&request, Times::default()) }
    }

    #[test]
    fn the_ring_is_bounded_and_found_by_sequence() {
        let mut journal = Journal::default();
        for sequence in 1..=MAX_RECORDS as u64 + 5 {
            journal.record(record(sequence, 1));
        }
        assert_eq!(journal.after(0).next().unwrap().sequence, 6);
        assert_eq!(journal.after(10_003).map(|record| record.sequence).collect::<Vec<_>>(), [10_004, 10_005]);
        assert_eq!(journal.body_bytes, MAX_RECORDS);
    }

    #[test]
    fn large_bodies_become_digests() {
        let mut journal = Journal::default();
        journal.record(record(1, MAX_RECORDED_BODY_BYTES));
        journal.record(record(2, MAX_RECORDED_BODY_BYTES + 1));
        let bodies: Vec<_> = journal.after(0).map(|record| record.body.kept()).collect();
        assert_eq!(bodies, [MAX_RECORDED_BODY_BYTES, 0]);
        assert_eq!(journal.after(1).next().unwrap().to_json()["body_bytes"], MAX_RECORDED_BODY_BYTES + 1);
        for sequence in 3..=260 {
            journal.record(record(sequence, MAX_RECORDED_BODY_BYTES));
        }
        assert!(journal.body_bytes <= MAX_JOURNAL_BYTES);
        assert_eq!(journal.after(0).next().unwrap().body.kept(), 0);
    }

    #[test]
    fn endings_are_counted_once() {
        let mut journal = Journal::default();
        journal.record(record(1, 1));
        let settled = Settled {
            status: Some(200),
            events: 3,
            bytes: 9,
            first_byte: None,
            end: Duration::from_millis(2),
            ended: Ended::ClientClosed,
        };
        journal.settle(1, &settled);
        journal.settle(7, &settled);
        assert_eq!(journal.counts().client_closed, 2);
        let json = journal.after(0).next().unwrap().to_json();
        assert_eq!((&json["ended"], &json["times_ms"]["end"]), (&json!("client_closed"), &json!(2.0)));
    }
}
