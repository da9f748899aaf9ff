//! One request on one connection, as the connection wrapper sees it.
//!
//! awc does not say which connection carries a request, whether it was used before, or whether anything came back. The
//! [`Exchange`] is in a thread-local slot while awc's future for that request is being polled, and the wrapper, which is
//! polled from within, writes down what it sees. Everything happens on one worker thread.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::Sight;
use super::framing::Body;
use super::socket::Phase;
use crate::clock::{self, Instant};

/// What the wrapper saw of one request.
pub(super) struct Exchange {
    phase: Cell<Phase>,
    reused: Cell<bool>,
    bound: Cell<Instant>,
    has_sent: Cell<bool>,
    bytes_back: Cell<u64>,
    body: Cell<Option<Body>>,
    fault: Cell<Option<Fault>>,
}

/// What was wrong with the bytes of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The connection ended inside the answer.
    Truncated,
    /// The bytes are no HTTP answer, or their framing is broken.
    Malformed,
}

impl Exchange {
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self {
            phase: Cell::new(Phase::Waiting),
            reused: Cell::new(false),
            bound: Cell::new(Instant::ZERO),
            has_sent: Cell::new(false),
            bytes_back: Cell::new(0),
            body: Cell::new(None),
            fault: Cell::new(None),
        })
    }

    /// The exchange whose future is being polled on this thread.
    pub(super) fn current() -> Option<Rc<Self>> {
        CURRENT.with_borrow(Clone::clone)
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase.get()
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.phase.set(phase);
    }

    /// The request's first bytes go out on a connection that has carried `earlier` requests.
    pub(super) fn bind(&self, earlier: u64) {
        self.phase.set(Phase::Sent);
        self.reused.set(earlier > 0);
        self.bound.set(clock::now());
        self.has_sent.set(false);
        self.bytes_back.set(0);
        self.body.set(None);
        self.fault.set(None);
    }

    pub(super) fn sent(&self) {
        self.has_sent.set(true);
    }

    pub(super) fn received(&self, bytes: usize) {
        self.bytes_back.set(self.bytes_back.get() + bytes as u64);
    }

    pub(super) fn set_body(&self, body: Body) {
        self.body.set(Some(body));
    }

    pub(super) fn set_fault(&self, fault: Fault) {
        self.fault.set(Some(fault));
    }

    pub(super) fn fault(&self) -> Option<Fault> {
        self.fault.get()
    }

    /// Whether the connection, which has ended, was dead before the request.
    pub(super) fn is_stale(&self) -> bool {
        let has_heard = self.bytes_back.get() > 0;
        let sight = Sight { is_reused: self.reused.get(), has_sent: self.has_sent.get(), has_heard };
        sight.is_stale(clock::now().since(self.bound.get()))
    }

    /// Whether the answer's body is whole, now that awc says it is over.
    pub(super) fn is_whole(&self) -> bool {
        self.fault.get().is_none() && self.body.get().is_none_or(Body::is_complete_at_end)
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Rc<Exchange>>> = const { RefCell::new(None) };
}

/// Polls `inner` with `exchange` in the thread's slot.
pub(super) fn poll_within<T>(
    exchange: &Rc<Exchange>,
    cx: &mut Context<'_>,
    inner: impl FnOnce(&mut Context<'_>) -> Poll<T>,
) -> Poll<T> {
    let _slot = Slot(CURRENT.replace(Some(Rc::clone(exchange))));
    inner(cx)
}

/// Puts back what was in the slot before, also when a poll panics.
struct Slot(Option<Rc<Exchange>>);

impl Drop for Slot {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

/// A future polled with its exchange in the slot.
pub(super) struct Within<F> {
    pub(super) exchange: Rc<Exchange>,
    pub(super) future: F,
}

impl<F: Future + Unpin> Future for Within<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        poll_within(&this.exchange, cx, |cx| Pin::new(&mut this.future).poll(cx))
    }
}
