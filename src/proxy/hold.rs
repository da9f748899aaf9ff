//! A head that leaves before its answer is known (`stream.head_hold`, spec/wire.md 4.4): 200 and comments while attempts go on.
//!
//! Such a call is carried as a future of its own, which the answer's body takes over when the time is up. No provider's byte
//! has left by then, so all of failover goes on inside; what comes of it follows in the body.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::http::header::HeaderValue;
use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Sleep;

use super::error_fields::find_error;
use super::record::Record;
use super::relay::{Aborted, KEEPALIVE, Relay};
use super::sse::dialect::ErrorWords;
use super::sse::{Api, error_event};
use super::{Reply, WholeReply};
use crate::clock::{self, Instant};
use crate::router::RouteEntry;
use crate::telemetry::labels::RequestOutcome;

/// Status of a held head: the only one that an event stream can have.
const SENT: u16 = 200;

/// What a call and the body that may take it over tell each other.
#[derive(Default)]
pub struct Hold {
    terms: Cell<Option<Terms>>,
    has_terms: Notify,
    is_sent: Cell<bool>,
    shown: RefCell<Shown>,
}

/// What the route lays down.
#[derive(Clone, Copy)]
struct Terms {
    /// When the head leaves.
    at: Instant,
    keepalive: Option<Duration>,
    api: Api,
}

/// Whom the head can name when it leaves.
#[derive(Clone, Default)]
pub struct Shown {
    /// The route.
    pub route: Option<HeaderValue>,
    /// The backend that is being asked.
    pub backend: Option<HeaderValue>,
    /// What was tried before it.
    pub attempts: Option<HeaderValue>,
}

impl Hold {
    /// Lays down when the head leaves, if this call's route holds it at all.
    pub(super) fn begin(&self, route: &RouteEntry, api: Api, started: Instant) {
        let policy = &route.config.policy;
        let Some(after) = policy.head_hold else { return };
        self.shown.borrow_mut().route = Some(route.shown.clone());
        self.terms.set(Some(Terms { at: started.plus(after), keepalive: policy.keepalive, api }));
        self.has_terms.notify_one();
    }

    /// Notes whom a call is waiting for.
    pub(super) fn see(&self, record: &Record) {
        let mut shown = self.shown.borrow_mut();
        shown.backend.clone_from(&record.shown_backend);
        let is_shown = shown.backend.is_some() && !record.trail.entries().is_empty();
        shown.attempts = is_shown.then(|| HeaderValue::try_from(record.trail.header()).ok()).flatten();
    }

    /// Ends when the head is to leave; never, if its route does not hold it.
    pub async fn due(&self) {
        loop {
            match self.terms.get() {
                Some(terms) => return tokio::time::sleep_until(clock::to_tokio(terms.at)).await,
                None => self.has_terms.notified().await,
            }
        }
    }

    /// The head leaves now: whom it names.
    pub fn leave(&self) -> Shown {
        self.is_sent.set(true);
        self.shown.borrow().clone()
    }

    /// What the client has seen as status, if it has seen any.
    pub(super) fn status(&self) -> Option<u16> {
        self.is_sent.get().then_some(SENT)
    }
}

/// A call on its way, with its record.
pub type Flight = Pin<Box<dyn Future<Output = (Box<Record>, Reply)>>>;

/// The body behind a head that has left.
pub struct Held {
    flight: Option<Flight>,
    terms: Terms,
    queue: VecDeque<Bytes>,
    relay: Option<Box<Relay>>,
    /// Whom the closing comment names.
    trail: Option<String>,
    end: End,
    timer: Pin<Box<Sleep>>,
}

/// How a held body ends once its queue is empty and nothing more can come.
#[derive(Clone, Copy, PartialEq)]
enum End {
    /// As the relay does.
    Whole,
    /// After an error event, the connection is closed: no SDK takes that for a clean end.
    Aborted,
    /// The same, and what was queued has had its turn to be flushed.
    Flushed,
}

impl Held {
    /// Takes over a call whose head has left.
    pub fn new(hold: &Hold, flight: Flight) -> Self {
        let unset = Terms { at: Instant::NEVER, keepalive: None, api: Api::Other };
        let terms = hold.terms.get().unwrap_or(unset);
        let mut held = Self {
            flight: Some(flight),
            terms,
            queue: VecDeque::new(),
            relay: None,
            trail: None,
            end: End::Whole,
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
        };
        held.wind();
        held
    }

    /// The next comment's time begins anew.
    fn wind(&mut self) {
        let next = self.terms.keepalive.map_or(Instant::NEVER, |gap| clock::now().plus(gap));
        self.timer.as_mut().reset(clock::to_tokio(next));
    }

    /// The next bytes.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Aborted>>> {
        loop {
            if let Some(bytes) = self.queue.pop_front() {
                return Poll::Ready(Some(Ok(bytes)));
            }
            if let Some(relay) = &mut self.relay {
                let polled = relay.poll(cx);
                if matches!(polled, Poll::Ready(None)) {
                    self.relay = None;
                    self.close();
                    continue;
                }
                return polled;
            }
            let Some(flight) = &mut self.flight else { return self.poll_end(cx) };
            match flight.as_mut().poll(cx) {
                Poll::Ready((record, reply)) => {
                    self.flight = None;
                    self.land(record, reply);
                }
                Poll::Pending if self.timer.as_mut().poll(cx).is_ready() => {
                    self.queue.push_back(KEEPALIVE);
                    self.wind();
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Aborted>>> {
        match self.end {
            End::Whole => Poll::Ready(None),
            End::Aborted => {
                // actix drops what it has not flushed when a body yields an error: give it this turn.
                self.end = End::Flushed;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            End::Flushed => Poll::Ready(Some(Err(Aborted))),
        }
    }

    /// The call is decided: its stream follows, or its error as an event.
    fn land(&mut self, mut record: Box<Record>, reply: Reply) {
        record.head(SENT, clock::now());
        self.trail = record.shown_backend.is_some().then(|| record.trail.header());
        match reply {
            Reply::Relay(_, _, mut relay) => {
                relay.attach(record);
                self.relay = Some(relay);
            }
            Reply::Own(words, _, outcome) => {
                self.fail(&mut record, &words.message, (words.kind, words.code), outcome);
            }
            Reply::Whole(whole) => {
                let WholeReply { body, outcome, .. } = *whole;
                let fields = find_error(&body).map(|error| error.fields).unwrap_or_default();
                let message = fields.message.as_deref().unwrap_or("the provider's answer was no event stream");
                let kind = fields.kind.as_deref().unwrap_or("api_error");
                self.say(message, kind, fields.code.as_deref().unwrap_or(kind));
                record.end(outcome);
            }
            // What is wrong with a request is known before its first attempt.
            Reply::Fault(_) => {
                let words = super::internal_words();
                self.fail(&mut record, &words.message, (words.kind, words.code), RequestOutcome::InternalError);
            }
        }
    }

    fn fail(
        &mut self,
        record: &mut Record,
        message: &str,
        words: (&'static str, &'static str),
        outcome: RequestOutcome,
    ) {
        self.say(message, words.0, words.1);
        record.error.get_or_insert(words);
        record.end(outcome);
    }

    fn say(&mut self, message: &str, kind: &str, code: &str) {
        self.queue.push_back(error_event(self.terms.api, ErrorWords { message, kind, code }, 0));
        self.end = End::Aborted;
        self.close();
    }

    /// The head could not name who served: a comment at the end does.
    fn close(&mut self) {
        if let Some(trail) = self.trail.take() {
            self.queue.push_back(Bytes::from(format!(": x-breakwater-attempts: {trail}\n\n")));
        }
    }
}
