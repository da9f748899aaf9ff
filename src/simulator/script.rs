//! From an answer and a fault to what goes over the wire and when: bytes, waits, and an end.
//!
//! Pure: the connection plays a script without knowing what it means.

use std::fmt::Write;
use std::num::NonZeroU64;
use std::ops::ControlFlow;
use std::time::Duration;

use super::answer::{Answer, Event, Field, Payload};
use super::fault::{CutAt, Fault, HangAt, Malformed, Slow, Stale, Truncate, Wire};
use super::journal::Ended;

/// Bytes gathered into one write; beyond it a long unpaced stream goes out in several.
const MAX_WRITE_BYTES: usize = 64 << 10;

/// A comment as a chunk, for a stream that sends nothing else.
pub(super) const COMMENT_CHUNK: &[u8] = b"d\r\n: simulated\n\n\r\n";

/// How often a throttled body is fed per second.
const THROTTLE_TICKS: u64 = 20;

/// One thing to do on the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// One write.
    Send {
        /// The bytes.
        bytes: Vec<u8>,
        /// Events that are complete with it.
        events: u64,
    },
    /// A pause, in which the client is watched.
    Wait(Duration),
}

/// What happens to the connection after the last step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The next request may come.
    KeepAlive,
    /// FIN.
    Close,
    /// RST.
    Reset,
    /// Nothing more, until the client leaves.
    Hang,
    /// The same, with a comment now and then.
    Comment(Duration),
    /// The next request may come, but only for so long.
    CloseIdle(Duration),
    /// The next request is answered by a reset.
    ResetOnReuse,
}

/// All that is done about one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Script {
    pub(super) steps: Vec<Step>,
    pub(super) end: End,
    /// How the request has ended when all steps are done and the client is still there.
    pub(super) ended: Ended,
    /// The status in the head; none if there is no head.
    pub(super) status: Option<u16>,
}

impl Script {
    /// RST and nothing else.
    pub(super) fn reset() -> Self {
        Self { steps: Vec::new(), end: End::Reset, ended: Ended::Fault, status: None }
    }
}

/// How the connection is to be used after a healthy answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Connection {
    /// The client takes chunks: it speaks HTTP/1.1.
    pub(super) takes_chunks: bool,
    /// The client keeps the connection.
    pub(super) keeps_alive: bool,
}

/// Writes the script of an answer under a fault.
pub(super) fn write(answer: &Answer, fault: Option<&Fault>, connection: Connection) -> Script {
    let cut = Cut::of(fault, &answer.payload);
    let mut writer = Writer::new(fault, connection, answer.flushes_events);
    writer.pause(answer.lead);
    if cut.place == Place::BeforeHead {
        return writer.finish(cut.end, Ended::Fault, None);
    }
    let status = Some(answer.status);
    let is_whole = writer.head(answer, &cut).is_continue() && writer.payload(answer, &cut).is_continue();
    if !is_whole {
        return writer.finish(cut.end, Ended::Fault, status);
    }
    writer.last_chunk(&answer.payload);
    let end = match fault {
        Some(Fault::Stale(Stale::CloseIdle(millis))) => End::CloseIdle(Duration::from_millis(*millis)),
        Some(Fault::Stale(Stale::ResetOnReuse)) => End::ResetOnReuse,
        _ if writer.keeps_alive => End::KeepAlive,
        _ => End::Close,
    };
    writer.finish(end, Ended::Complete, status)
}

/// Where an answer stops, and what then happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cut {
    place: Place,
    end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Nowhere,
    BeforeHead,
    AfterHead,
    BeforeContent,
    AfterEvents(usize),
    AfterBytes(usize),
    /// After half of it, under a content-length that names all of it.
    HalfOfLength,
    /// After half of it, in chunks.
    HalfInChunks,
    /// In the middle by a chunk that is none.
    BadChunk,
}

/// Good events before a broken chunk.
const EVENTS_BEFORE_BAD_CHUNK: usize = 3;

impl Cut {
    fn of(fault: Option<&Fault>, payload: &Payload) -> Self {
        let (place, end) = match fault {
            Some(Fault::Hang(at)) => Self::hang(at),
            Some(Fault::Reset(at)) => (Self::cut(at), End::Reset),
            Some(Fault::Close(at)) => (Self::cut(at), End::Close),
            Some(Fault::Truncate(Truncate::ContentLength)) => (Place::HalfOfLength, End::Close),
            Some(Fault::Truncate(Truncate::Chunked)) => (Place::HalfInChunks, End::Close),
            Some(Fault::Malformed(Malformed::BadChunk)) => (Place::BadChunk, End::Close),
            Some(
                Fault::Latency(_)
                | Fault::Ttft(_)
                | Fault::TokensPerSecond(_)
                | Fault::Slow(_)
                | Fault::Status(_)
                | Fault::Quota(_)
                | Fault::Refuse
                | Fault::Blackhole
                | Fault::AcceptReset
                | Fault::Stale(_)
                | Fault::Truncate(_)
                | Fault::Malformed(_)
                | Fault::InBandError(_)
                | Fault::Wire(_),
            )
            | None => (Place::Nowhere, End::Close),
        };
        let place = match (place, payload) {
            (Place::HalfInChunks, Payload::Events(events)) => Place::AfterEvents(events.len() / 2),
            (Place::BadChunk, Payload::Events(_)) => Place::AfterEvents(EVENTS_BEFORE_BAD_CHUNK),
            (place, Payload::Whole { .. } | Payload::Events(_)) => place,
        };
        Self { place, end }
    }

    fn hang(at: &HangAt) -> (Place, End) {
        match at {
            HangAt::BeforeHeaders => (Place::BeforeHead, End::Hang),
            HangAt::AfterHeaders => (Place::AfterHead, End::Hang),
            HangAt::BeforeFirstContent => (Place::BeforeContent, End::Hang),
            HangAt::CommentsBeforeFirstContent(every) => {
                (Place::BeforeContent, End::Comment(Duration::from_millis(every.get())))
            }
            HangAt::AfterEvents(count) => (Place::AfterEvents(*count), End::Hang),
        }
    }

    fn cut(at: &CutAt) -> Place {
        match at {
            CutAt::AfterRequest => Place::BeforeHead,
            CutAt::AfterHeaders => Place::AfterHead,
            CutAt::AfterEvents(count) => Place::AfterEvents(*count),
            CutAt::AfterBytes(count) => Place::AfterBytes(*count),
        }
    }

    fn is_before(&self, index: usize, event: &Event) -> bool {
        match self.place {
            Place::AfterEvents(count) => count <= index,
            Place::BeforeContent => event.is_content,
            Place::Nowhere
            | Place::BeforeHead
            | Place::AfterHead
            | Place::AfterBytes(_)
            | Place::HalfOfLength
            | Place::HalfInChunks
            | Place::BadChunk => false,
        }
    }
}

/// How the body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
}

/// Gathers bytes into writes.
struct Writer {
    steps: Vec<Step>,
    pending: Vec<u8>,
    pending_events: u64,
    framing: Framing,
    keeps_alive: bool,
    wire: Wire,
    slow: Slow,
    is_broken_chunk: bool,
    flushes_events: bool,
}

const GO_ON: ControlFlow<()> = ControlFlow::Continue(());
const CUT: ControlFlow<()> = ControlFlow::Break(());

impl Writer {
    fn new(fault: Option<&Fault>, connection: Connection, flushes_events: bool) -> Self {
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

    fn pause(&mut self, wait: Duration) {
        if wait.is_zero() {
            return;
        }
        self.flush();
        self.steps.push(Step::Wait(wait));
    }

    /// A pause within a stream: comments go on meanwhile.
    fn wait_with_comments(&mut self, wait: Duration) {
        let Some(every) = self.wire.comments_ms else { return self.pause(wait) };
        let every = Duration::from_millis(every.get());
        let mut left = wait;
        while every < left {
            self.pause(every);
            self.comment();
            left -= every;
        }
        self.pause(left);
        self.comment();
    }

    fn head(&mut self, answer: &Answer, cut: &Cut) -> ControlFlow<()> {
        match &answer.payload {
            Payload::Whole { body, .. } if cut.place != Place::HalfInChunks => {
                self.framing = Framing::Length(body.len());
            }
            Payload::Events(events) if cut.place == Place::HalfOfLength => {
                self.framing = Framing::Length(events.iter().enumerate().map(|(i, e)| self.block(i, e).len()).sum());
            }
            Payload::Whole { .. } | Payload::Events(_) => {}
        }
        self.keeps_alive &= self.framing != Framing::UntilClose;
        let head = self.head_text(answer);
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

    fn head_text(&self, answer: &Answer) -> String {
        let mut head = String::with_capacity(1024);
        let version = if self.wire.http10 { 0 } else { 1 };
        let content_type = match &answer.payload {
            Payload::Whole { content_type, .. } => content_type,
            Payload::Events(_) => "text/event-stream; charset=utf-8",
        };
        // Writing to a String cannot fail.
        let _ = write!(head, "HTTP/1.{version} {} {}\r\n", answer.status, reason(answer.status));
        let has_own = |name: &str| answer.fields.iter().any(|(field, _)| field.eq_ignore_ascii_case(name));
        if !content_type.is_empty() && !has_own("content-type") {
            let _ = write!(head, "content-type: {content_type}\r\n");
        }
        match self.framing {
            Framing::Length(length) => {
                let _ = write!(head, "content-length: {length}\r\n");
            }
            Framing::Chunked => head.push_str("transfer-encoding: chunked\r\n"),
            Framing::UntilClose => {}
        }
        for (name, value) in &answer.fields {
            field(&mut head, &(name.clone(), value.clone()));
        }
        if !self.keeps_alive {
            head.push_str("connection: close\r\n");
        }
        head.push_str("\r\n");
        head
    }

    fn payload(&mut self, answer: &Answer, cut: &Cut) -> ControlFlow<()> {
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
            let block = self.block(index, event);
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
            let block = self.block(index, event);
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
        let end = self.wire.line_end.bytes();
        self.piece(format!(": simulated{end}{end}").as_bytes());
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

    fn last_chunk(&mut self, payload: &Payload) {
        match (payload, self.framing) {
            (Payload::Events(_), Framing::Chunked) => self.pending.extend_from_slice(b"0\r\n\r\n"),
            (Payload::Whole { .. } | Payload::Events(_), _) => {}
        }
    }

    /// An event as a block, in the fault's spelling.
    fn block(&self, index: usize, event: &Event) -> Vec<u8> {
        let end = self.wire.line_end.bytes();
        let mut block = String::with_capacity(event.data.len() + 32);
        if self.wire.bom && index == 0 {
            block.push('\u{feff}');
        }
        if self.wire.ids {
            let _ = write!(block, "id: {index}{end}");
        }
        if let Some(name) = event.name {
            let _ = write!(block, "event: {name}{end}");
        }
        if self.wire.multi_line_data && !event.is_done() {
            for line in lines(&event.data) {
                let _ = write!(block, "data: {line}{end}");
            }
        } else {
            let _ = write!(block, "data: {}{end}", event.data);
        }
        block.push_str(end);
        if index == 0 && self.wire.retry {
            let _ = write!(block, "retry: 3000{end}{end}");
        }
        if index == 0 && self.wire.event_without_data {
            let _ = write!(block, "event: ping{end}{end}");
        }
        block.into_bytes()
    }

    fn finish(mut self, end: End, ended: Ended, status: Option<u16>) -> Script {
        self.flush();
        Script { steps: self.steps, end, ended, status }
    }
}

/// One JSON document over several lines.
fn lines(data: &str) -> Vec<String> {
    let document: Result<serde_json::Value, _> = serde_json::from_str(data);
    let text =
        document.and_then(|document| serde_json::to_string_pretty(&document)).unwrap_or_else(|_| data.to_owned());
    text.lines().map(str::to_owned).collect()
}

fn field(head: &mut String, (name, value): &Field) {
    head.push_str(name);
    head.push_str(": ");
    head.push_str(value);
    head.push_str("\r\n");
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        307 => "Temporary Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Simulated",
    }
}
