//! What a virtual backend has received and how each request ended: a bounded ring and a few counts.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde_json::{Value, json};

use super::record::{Ended, Recorded, RecordedBody, digest};

/// Most requests kept per backend; the oldest goes first (spec/wire.md 8.3).
const MAX_RECORDS: usize = 10_000;

/// Largest body kept; of larger ones the SHA-256.
const MAX_RECORDED_BODY_BYTES: usize = 1 << 20;

/// Bodies kept in memory per backend, all together: ten thousand bodies of 1 MiB would be 10 GiB.
const MAX_JOURNAL_BYTES: usize = 256 << 20;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::record::Times;
    use crate::simulator::request::Request;

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
