//! The body of an answer on its way to the client: it carries the attempt's permit and the request's record, and settles
//! both at its end, at an error, or by `Drop` when the client leaves.

mod deadlines;

use std::cell::LazyCell;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;

pub use self::deadlines::Pace;
use self::deadlines::{Deadlines, Due};
use super::attempt::Attempt;
use super::classify::{self, Event};
use super::drain_limit::DrainLimit;
use super::record::Record;
use super::sse::dialect::ErrorWords;
use super::sse::{Api, End, EventStream, Step, error_event};
use super::upstream::{self, AnswerBody};
use crate::backend::outcome::{Class, TimeoutKind};
use crate::clock::{self, Instant};
use crate::config::Backend;
use crate::error::ErrorType;
use crate::telemetry::labels::{RequestOutcome, StreamEnd};
use crate::telemetry::{Lazily, PairHandles};

/// The time of one turn.
type Now = LazyCell<Instant>;

/// How long the rest of a finished answer may take to arrive before its connection is given up.
const DRAIN_LIMIT: Duration = Duration::from_secs(1);

/// What a waiting client sees while an upstream says nothing (spec/wire.md 4.4).
pub(super) const KEEPALIVE: Bytes = Bytes::from_static(b": keepalive\n\n");

/// The body ended before its end: the connection is closed without a last chunk.
#[derive(Debug)]
pub struct Aborted;

impl fmt::Display for Aborted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the answer was cut short")
    }
}

impl std::error::Error for Aborted {}

/// What an upstream's bytes are.
pub enum Source {
    /// Events, looked at one by one.
    Events(Box<EventStream>),
    /// Anything else, passed as it comes.
    Raw,
}

/// What a relay needs of the attempt that it continues.
pub struct Start {
    /// The rest of the answer.
    pub upstream: AnswerBody,
    /// How to read it.
    pub source: Source,
    /// What is to leave first.
    pub queue: VecDeque<Bytes>,
    /// Whether the queue is already all of it.
    pub is_end: bool,
    /// Length of the whole body, where the provider named it and it is not changed.
    pub length: Option<u64>,
    /// Whose stream it is.
    pub api: Api,
    /// Whether it should say in the end what it cost.
    pub is_metered: bool,
    /// The attempt.
    pub attempt: Attempt,
    /// The backend's configuration, for judging an error inside the stream.
    pub backend: Arc<Backend>,
    /// Whether messages name the backend.
    pub expose_backend: bool,
    /// The time limits.
    pub pace: Pace,
    /// When it is given up however it stands.
    pub drain_limit: Arc<DrainLimit>,
}

/// Where a relay is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Flowing,
    /// All was said: what is queued, then the end.
    Finished,
    /// What is queued, then the connection is closed.
    Aborting,
    /// What was queued has been handed over; it needs a turn to be flushed.
    Flushing,
}

/// A committed answer.
pub struct Relay {
    upstream: Option<AnswerBody>,
    source: Source,
    queue: VecDeque<Bytes>,
    stage: Stage,
    length: Option<u64>,
    api: Api,
    is_metered: bool,
    attempt: Option<Attempt>,
    handles: Arc<Lazily<PairHandles>>,
    backend: Arc<Backend>,
    expose_backend: bool,
    end: Option<StreamEnd>,
    record: Option<Box<Record>>,
    deadlines: Deadlines,
    /// First and last content so far.
    content: (Instant, Instant),
    /// Bytes handed over: the record, which lies elsewhere, hears of them at the end.
    sent: u64,
}

impl Relay {
    /// Goes on with an attempt whose answer has committed.
    pub fn new(start: Start) -> Self {
        let now = clock::now();
        let mut relay = Self {
            upstream: Some(start.upstream),
            source: start.source,
            queue: start.queue,
            stage: Stage::Flowing,
            length: start.length,
            api: start.api,
            is_metered: start.is_metered,
            handles: Arc::clone(start.attempt.handles()),
            attempt: Some(start.attempt),
            backend: start.backend,
            expose_backend: start.expose_backend,
            end: None,
            record: None,
            deadlines: Deadlines::new(start.pace, &start.drain_limit, now),
            content: (now, now),
            sent: 0,
        };
        if start.is_end {
            relay.succeed(StreamEnd::Completed);
        }
        relay
    }

    /// Length of the whole body, where it is known.
    pub(super) fn length(&self) -> Option<u64> {
        self.length
    }

    /// Takes over the request's record, which now ends with the body.
    pub fn attach(&mut self, mut record: Box<Record>) {
        if let Source::Events(_) = self.source {
            record.begin_stream();
        }
        self.record = Some(record);
        // The whole answer may have come with its first content.
        if self.stage == Stage::Finished {
            self.book_usage();
            self.say(RequestOutcome::Success);
        }
    }

    /// The next bytes.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Aborted>>> {
        let next = self.poll_next(cx);
        if let Poll::Ready(Some(Ok(bytes))) = &next {
            self.sent += bytes.len() as u64;
        }
        next
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Aborted>>> {
        // Read at most once, and not by those who wait in vain.
        let now: Now = LazyCell::new(clock::now);
        loop {
            if let Some(bytes) = self.queue.pop_front() {
                return Poll::Ready(Some(Ok(bytes)));
            }
            match self.stage {
                Stage::Flowing => {}
                Stage::Finished => {
                    self.let_go(cx);
                    self.close_record();
                    return Poll::Ready(None);
                }
                Stage::Aborting => {
                    // actix drops what it has not flushed when a body yields an error: give it this turn.
                    self.stage = Stage::Flushing;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Stage::Flushing => {
                    self.close_record();
                    return Poll::Ready(Some(Err(Aborted)));
                }
            }
            match self.take_step(&now) {
                Some(Some(bytes)) => return Poll::Ready(Some(Ok(bytes))),
                Some(None) => continue,
                None => {}
            }
            let Some(upstream) = &mut self.upstream else { return Poll::Ready(Some(Err(Aborted))) };
            match upstream.poll_chunk(cx) {
                Poll::Ready(Some(Ok(chunk))) => self.arrived(chunk, *now),
                Poll::Ready(Some(Err(error))) => self.ended(Some(error), &now),
                Poll::Ready(None) => self.ended(None, &now),
                Poll::Pending if self.poll_limits(cx) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Takes the next step of the events that have arrived; none if there is none. Hands over what leaves by it, unless that is
    /// queued.
    fn take_step(&mut self, now: &Now) -> Option<Option<Bytes>> {
        let Source::Events(events) = &mut self.source else { return None };
        match events.next()? {
            Step::Pass { bytes, is_content } => {
                self.deadlines.alive(**now);
                if is_content {
                    self.content.1 = **now;
                }
                return Some(Some(bytes));
            }
            Step::Comment(bytes) => return Some(Some(bytes)),
            Step::Drop => self.deadlines.alive(**now),
            Step::Done(bytes) => {
                let end = if events.done_without_finish() && self.api == Api::Chat {
                    StreamEnd::DoneWithoutFinish
                } else {
                    StreamEnd::Completed
                };
                self.queue.push_back(bytes);
                self.succeed(end);
            }
            Step::Error(bytes, fields) => {
                let class =
                    classify::classify(Event::InBand(&fields), &self.backend.provider, &self.backend.policy.classify);
                self.queue.push_back(bytes);
                self.fail(class, StreamEnd::UpstreamError, "upstream_error");
            }
            Step::TooLarge => {
                let message = "an event was too large";
                self.break_off(Class::Malformed, StreamEnd::Truncated, "stream_event_too_large", message);
            }
            // Only before the commit point, which lies behind us.
            Step::Hold | Step::Commit { .. } | Step::Fail(_) => {}
        }
        Some(None)
    }

    fn arrived(&mut self, chunk: Bytes, now: Instant) {
        match &mut self.source {
            Source::Events(events) => events.push(chunk),
            Source::Raw => {
                self.queue.push_back(chunk);
                self.deadlines.alive(now);
            }
        }
        if self.deadlines.is_overrun(now) {
            self.overrun();
        }
    }

    /// The upstream has ended, cleanly or not.
    fn ended(&mut self, error: Option<upstream::Error>, now: &Now) {
        self.upstream = None;
        let end = match &mut self.source {
            Source::Raw if error.is_none() => return self.succeed(StreamEnd::Completed),
            Source::Raw => End::Truncated,
            Source::Events(events) => {
                events.close();
                while let Some(left) = self.take_step(now) {
                    self.queue.extend(left);
                }
                if self.stage != Stage::Flowing {
                    return;
                }
                let Source::Events(events) = &self.source else { return };
                events.end()
            }
        };
        match end {
            End::Complete => self.succeed(StreamEnd::Completed),
            End::NeedsDone(bytes) => {
                self.queue.push_back(bytes);
                self.succeed(StreamEnd::Completed);
            }
            End::AfterError => self.stage = Stage::Aborting,
            End::Truncated => {
                let events = if let Source::Events(events) = &self.source { events.events() } else { 0 };
                let (class, code) = match error {
                    Some(upstream::Error::Malformed) => (Class::Malformed, "stream_malformed"),
                    Some(_) | None => (Class::Truncated, "stream_interrupted"),
                };
                self.break_off(class, StreamEnd::Truncated, code, &format!("stream ended early after {events} events"));
            }
        }
    }

    /// Looks at the limits. True if something is to be done.
    fn poll_limits(&mut self, cx: &mut Context<'_>) -> bool {
        while let Some(due) = self.deadlines.poll(cx) {
            match due {
                Due::Shutdown => self.cut_off(),
                Due::Total => self.overrun(),
                Due::Idle => {
                    let message = format!("no data within {} s", self.deadlines.idle().as_secs_f64());
                    let class = Class::Timeout(TimeoutKind::Idle);
                    self.break_off(class, StreamEnd::IdleTimeout, "stream_idle_timeout", &message);
                }
                Due::Comment => {
                    let Source::Events(events) = &self.source else { continue };
                    if !events.may_comment() {
                        continue;
                    }
                    self.queue.push_back(KEEPALIVE);
                }
            }
            return true;
        }
        false
    }

    /// The whole answer has gone by.
    fn succeed(&mut self, end: StreamEnd) {
        self.stage = Stage::Finished;
        self.end = Some(end);
        self.book_usage();
        self.book_pace();
        if let Some(attempt) = self.attempt.take() {
            attempt.succeed(clock::now());
        }
        self.say(RequestOutcome::Success);
    }

    /// The backend broke the stream; its own words are already queued.
    fn fail(&mut self, class: Class, end: StreamEnd, code: &'static str) {
        self.stage = Stage::Aborting;
        self.upstream = None;
        self.end = Some(end);
        self.book_usage();
        if let Some(attempt) = self.attempt.take() {
            attempt.fail(class, None, clock::now());
        }
        self.note_error(class.error_type().unwrap_or(ErrorType::ServiceUnavailable), code);
        self.say(RequestOutcome::StreamError);
    }

    /// The backend broke the stream: one event tells the client, then the connection is closed.
    fn break_off(&mut self, class: Class, end: StreamEnd, code: &'static str, what: &str) {
        let kind = class.error_type().unwrap_or(ErrorType::ServiceUnavailable);
        self.tell(kind, code, what);
        self.fail(class, end, code);
    }

    /// The stream's own time is over, which is nobody's fault.
    fn overrun(&mut self) {
        self.tell(ErrorType::Timeout, "total_timeout", "the stream's time was over");
        self.stage = Stage::Aborting;
        self.upstream = None;
        self.end = Some(StreamEnd::TotalTimeout);
        self.book_usage();
        if let Some(attempt) = self.attempt.take() {
            attempt.end_unblamed(Class::Timeout(TimeoutKind::Total), clock::now());
        }
        self.note_error(ErrorType::Timeout, "total_timeout");
        self.say(RequestOutcome::StreamError);
    }

    /// The drain limit is over.
    fn cut_off(&mut self) {
        self.tell(ErrorType::ServiceUnavailable, "gateway_draining", "the gateway is shutting down");
        self.stage = Stage::Aborting;
        self.upstream = None;
        self.end = Some(StreamEnd::Shutdown);
        self.book_usage();
        self.attempt = None;
        self.note_error(ErrorType::ServiceUnavailable, "gateway_draining");
        self.say(RequestOutcome::Shutdown);
    }

    fn tell(&mut self, kind: ErrorType, code: &str, what: &str) {
        let Source::Events(events) = &self.source else { return };
        let who = if self.expose_backend { self.backend.id.as_str() } else { "the backend" };
        let message = format!("{who}: {what}");
        let words = ErrorWords { message: &message, kind: kind.name(), code };
        self.queue.push_back(error_event(self.api, words, events.next_sequence()));
    }

    /// The answer has left: its record ends.
    fn close_record(&mut self) {
        if let Some(mut record) = self.record.take() {
            record.response_bytes = self.sent;
        }
    }

    fn note_error(&mut self, kind: ErrorType, code: &'static str) {
        if let Some(record) = &mut self.record {
            record.error = Some((kind.name(), code));
        }
    }

    fn say(&mut self, outcome: RequestOutcome) {
        if let Some(record) = &mut self.record {
            record.end(outcome);
            if let Source::Events(events) = &self.source {
                record.stream_end = self.end;
                record.finish_reason = events.finish_reason();
            }
        }
    }

    /// What a completed stream says of its backend: how fast it talked, or that it did not say what it cost.
    fn book_pace(&self) {
        let Source::Events(events) = &self.source else { return };
        match events.usage() {
            None if self.is_metered => self.handles.usage_missing.inc(),
            // What came all at once shows no pace.
            Some(usage) if 1 < usage.output && self.content.0 < self.content.1 => {
                let span = self.content.1.since(self.content.0).as_secs_f64();
                self.handles.output_token.observe(span / (usage.output - 1) as f64);
            }
            Some(_) | None => {}
        }
    }

    fn book_usage(&mut self) {
        let Source::Events(events) = &self.source else { return };
        let Some(usage) = events.usage() else { return };
        if let Some(attempt) = &self.attempt {
            attempt.usage(usage);
        }
        if let Some(record) = &mut self.record {
            record.usage = Some(usage);
        }
    }

    /// Reads what little may be left of a finished answer, so that its connection can be used again.
    fn let_go(&mut self, cx: &mut Context<'_>) {
        let Some(mut upstream) = self.upstream.take() else { return };
        match upstream.poll_chunk(cx) {
            Poll::Ready(Some(Ok(_))) | Poll::Pending => {
                actix_rt::spawn(async move {
                    let rest = async { while let Some(Ok(_)) = upstream.chunk().await {} };
                    let _ = tokio::time::timeout(DRAIN_LIMIT, rest).await;
                });
            }
            Poll::Ready(Some(Err(_)) | None) => {}
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if self.attempt.is_some() {
            self.book_usage();
        }
        if let Source::Events(_) = self.source {
            let panicking = std::thread::panicking();
            let unset = if panicking { StreamEnd::InternalError } else { StreamEnd::ClientClosed };
            let end = self.end.unwrap_or(unset);
            self.handles.streams(end).inc();
            if let Some(record) = &mut self.record {
                record.stream_end = Some(end);
            }
        }
        self.close_record();
    }
}
