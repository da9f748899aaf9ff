//! Gathers an answer's bytes into writes and waits.

use std::num::NonZeroU64;
use std::ops::ControlFlow;
use std::time::Duration;

use super::cut::{Cut, Place};
use super::head::{self, Style};
use super::spelling::{self, COMMENT_CHUNK};
use super::{Connection, End, Script, Step};
use crate::simulator::answer::{Answer, Event, Payload};
use crate::simulator::fault::{Fault, Malformed, Slow, Wire};
use crate::simulator::record::Ended;

/// Bytes gathered into one write; beyond it a long unpaced stream goes out in several.
const MAX_WRITE_BYTES: usize = 64 << 10;

/// How often a throttled body is fed per second.
const THROTTLE_TICKS: u64 = 20;

/// Most comments within one wait: all are planned before it begins.
const MAX_COMMENTS_PER_WAIT: u32 = 10_000;

/// How the body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
}

/// Gathers bytes into writes.
pub(super) struct Writer {
    steps: Vec<Step>,
    pending: Vec<u8>,
    pending_events: u64,
    framing: Framing,
    pub(super) keeps_alive: bool,
    wire: Wire,
    slow: Slow,
    is_broken_chunk: bool,
    flushes_events: bool,
}

const GO_ON: ControlFlow<()> = ControlFlow::Continue(());
const CUT: ControlFlow<()> = ControlFlow::Break(());

impl Writer {
    pub(super) fn new(fault: Option<&Fault>, connection: Connection, flushes_events: bool) -> Self {
        let wire = match fault {
            Some(Fault::Wire(wire)) => wire.clone(),
            _ => Wire::default(),
        };
        let slow = match fault {
            Some(Fault::Slow(slow)) => slow.clone(),
            _ => Slow::default(),
        };
        let takes_chunks = connection.takes_chunks && !wire.http10;
        Self {
            steps: Vec::new(),
            pending: Vec::new(),
            pending_events: 0,
            framing: if takes_chunks { Framing::Chunked } else { Framing::UntilClose },
            keeps_alive: connection.keeps_alive && !wire.connection_close && !wire.http10,
            wire,
            slow,
            is_broken_chunk: matches!(fault, Some(Fault::Malformed(Malformed::BadChunk))),
            flushes_events,
        }
    }

    fn flush(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let bytes = std::mem::take(&mut self.pending);
        let events = std::mem::take(&mut self.pending_events);
        self.steps.push(Step::Send { bytes, events });
    }

    pub(super) fn pause(&mut self, wait: Duration) {
        if wait.is_zero() {
            return;
        }
        self.flush();
        self.steps.push(Step::Wait(wait));
    }

    /// A pause within a stream: comments go on meanwhile.
    fn wait_with_comments(&mut self, wait: Duration) {
        let Some(every) = self.wire.comments_ms else { return self.pause(wait) };
        let every = Duration::from_millis(every.get()).max(wait / MAX_COMMENTS_PER_WAIT);
        let mut left = wait;
        while every < left {
            self.pause(every);
            self.comment();
            left -= every;
        }
        self.pause(left);
        self.comment();
    }

    pub(super) fn head(&mut self, answer: &Answer, cut: &Cut) -> ControlFlow<()> {
        match &answer.payload {
            Payload::Whole { body, .. } if cut.place != Place::HalfInChunks => {
                self.framing = Framing::Length(body.len());
            }
            Payload::Events(events) if cut.place == Place::HalfOfLength => {
                let blocks = events.iter().enumerate().map(|(index, event)| spelling::block(&self.wire, index, event));
                self.framing = Framing::Length(blocks.map(|block| block.len()).sum());
            }
            Payload::Whole { .. } | Payload::Events(_) => {}
        }
        self.keeps_alive &= self.framing != Framing::UntilClose;
        let version = if self.wire.http10 { 0 } else { 1 };
        let head = head::text(answer, &Style { framing: self.framing, keeps_alive: self.keeps_alive, version });
        if self.slow.head_byte_ms == 0 {
            self.pending.extend_from_slice(head.as_bytes());
        } else {
            for byte in head.bytes() {
                self.pending.push(byte);
                self.pause(Duration::from_millis(self.slow.head_byte_ms));
            }
        }
        if cut.place == Place::AfterHead { CUT } else { GO_ON }
    }

    pub(super) fn payload(&mut self, answer: &Answer, cut: &Cut) -> ControlFlow<()> {
        match (&answer.payload, cut.place) {
            (Payload::Whole { body, .. }, Place::AfterBytes(count)) => self.cut_piece(body, count),
            (Payload::Whole { body, .. }, Place::HalfOfLength | Place::HalfInChunks) => {
                self.piece(&body[..body.len() / 2]);
                CUT
            }
            (Payload::Whole { body, .. }, _) => {
                self.piece(body);
                GO_ON
            }
            (Payload::Events(events), Place::HalfOfLength) => {
                self.events(&events[..events.len() / 2], cut)?;
                CUT
            }
            (Payload::Events(events), Place::AfterBytes(count)) => self.cut_events(events, count),
            (Payload::Events(events), _) => self.events(events, cut),
        }
    }

    fn events(&mut self, events: &[Event], cut: &Cut) -> ControlFlow<()> {
        for (index, event) in events.iter().enumerate() {
            if cut.is_before(index, event) {
                if self.is_broken_chunk {
                    self.pending.extend_from_slice(b"zz\r\ndata: {}\n\n\r\n");
                }
                return CUT;
            }
            self.wait_with_comments(event.wait);
            let block = spelling::block(&self.wire, index, event);
            self.pending_events += 1;
            self.piece(&block);
            if self.flushes_events {
                self.flush();
            }
        }
        GO_ON
    }

    fn cut_events(&mut self, events: &[Event], count: usize) -> ControlFlow<()> {
        let mut left = count;
        for (index, event) in events.iter().enumerate() {
            self.pause(event.wait);
            let block = spelling::block(&self.wire, index, event);
            if left < block.len() {
                return self.cut_piece(&block, left);
            }
            left -= block.len();
            self.pending_events += 1;
            self.piece(&block);
        }
        GO_ON
    }

    /// The first bytes of a piece whose framing promises all of it.
    fn cut_piece(&mut self, bytes: &[u8], count: usize) -> ControlFlow<()> {
        if bytes.len() <= count {
            self.piece(bytes);
            return GO_ON;
        }
        if self.framing == Framing::Chunked {
            self.pending.extend_from_slice(format!("{:x}\r\n", bytes.len()).as_bytes());
        }
        self.pending.extend_from_slice(&bytes[..count]);
        CUT
    }

    fn comment(&mut self) {
        self.piece(spelling::comment(&self.wire).as_bytes());
    }

    /// A piece of the body, in as many chunks and writes as the fault wants.
    fn piece(&mut self, bytes: &[u8]) {
        let rate = self.slow.body_bytes_per_second.map(NonZeroU64::get);
        let size = match (self.wire.split_bytes, rate) {
            (Some(size), _) => size.get(),
            (None, Some(rate)) => (rate / THROTTLE_TICKS).max(1) as usize,
            (None, None) => return self.chunk(bytes),
        };
        let events = std::mem::take(&mut self.pending_events);
        let last = bytes.len().div_ceil(size).saturating_sub(1);
        for (index, part) in bytes.chunks(size).enumerate() {
            self.flush();
            // Bytes take their time before they are there.
            let seconds = rate.map_or(0.0, |rate| part.len() as f64 / rate as f64);
            self.pause(Duration::from_secs_f64(seconds));
            // The event is complete with its last part.
            self.pending_events = if index == last { events } else { 0 };
            self.chunk(part);
        }
        self.flush();
    }

    fn chunk(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if self.framing == Framing::Chunked {
            self.pending.extend_from_slice(format!("{:x}\r\n", bytes.len()).as_bytes());
        }
        self.pending.extend_from_slice(bytes);
        if self.framing == Framing::Chunked {
            self.pending.extend_from_slice(b"\r\n");
        }
        if MAX_WRITE_BYTES < self.pending.len() {
            self.flush();
        }
    }

    pub(super) fn last_chunk(&mut self, payload: &Payload) {
        match (payload, self.framing) {
            (Payload::Events(_), Framing::Chunked) => self.pending.extend_from_slice(b"0\r\n\r\n"),
            (Payload::Whole { .. } | Payload::Events(_), _) => {}
        }
    }

    pub(super) fn finish(mut self, end: End, ended: Ended, status: Option<u16>) -> Script {
        self.flush();
        let end = match (end, self.framing) {
            (End::Comment { every, .. }, Framing::Chunked) => End::Comment { every, bytes: COMMENT_CHUNK },
            (end, Framing::Chunked | Framing::Length(_) | Framing::UntilClose) => end,
        };
        Script { steps: self.steps, end, ended, status }
    }
}
