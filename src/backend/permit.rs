//! Leave for one attempt: whatever happens to it, it is settled once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Backend;
use super::machine::{Event, What};
use super::outbox::Outbox;
use super::outcome::{Class, Outcome};
use super::status::Slot;
use crate::clock::Instant;

/// Leave to call one backend once. Dropped unsettled, it counts as cancelled and leaves nothing behind.
pub struct Permit {
    backend: Arc<Backend>,
    outbox: Arc<Outbox>,
    slot: Option<Slot>,
    number: u64,
    started: Instant,
    tokens: u64,
    succeeded: bool,
}

impl Permit {
    /// Makes the permit of a slot that was just taken.
    pub(super) fn new(
        backend: &Arc<Backend>,
        outbox: &Arc<Outbox>,
        slot: Slot,
        started: Instant,
        tokens: u64,
        lease: Instant,
    ) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let (backend, outbox) = (Arc::clone(backend), Arc::clone(outbox));
        let permit = Self { backend, outbox, slot: Some(slot), number, started, tokens, succeeded: false };
        if slot.probe {
            permit.tell(slot, What::Claimed { lease });
        }
        permit
    }

    /// The backend that may be called.
    pub fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }

    /// When it was taken.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Whether it is a half-open circuit's trial.
    pub fn is_probe(&self) -> bool {
        self.slot.is_some_and(|slot| slot.probe)
    }

    /// The first content of a stream has come: the backend works.
    pub fn first_content(&mut self, now: Instant) {
        if let Some(slot) = self.slot.filter(|_| !self.succeeded) {
            self.succeeded = true;
            self.tell(slot, What::Succeeded { after: now.since(self.started) });
        }
    }

    /// Settles the estimate of tokens by what the provider reported.
    pub fn usage(&self, used: u64) {
        self.backend.limiter().settle(self.tokens, used);
    }

    /// Says what came of the attempt.
    pub fn settle(mut self, outcome: Outcome, now: Instant) {
        let Some(slot) = self.slot.take() else { return };
        self.backend.status().release();
        let what = match (outcome, self.succeeded) {
            (Outcome::Success, true) => return,
            (Outcome::Success, false) => What::Succeeded { after: now.since(self.started) },
            (Outcome::Failure { class, .. }, true) => What::BrokeLater { class },
            (Outcome::Failure { .. }, false) => What::Failed { outcome },
        };
        self.tell(slot, what);
    }

    /// How long it has been held.
    pub fn age(&self, now: Instant) -> Duration {
        now.since(self.started)
    }

    fn tell(&self, slot: Slot, what: What) {
        let event = Event { permit: self.number, generation: slot.generation, started: self.started, what };
        self.outbox.tell(&self.backend, event);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(slot) = self.slot.take() else { return };
        self.backend.status().release();
        if std::thread::panicking() {
            let outcome = Outcome::failure(Class::Local);
            self.tell(slot, What::Failed { outcome });
        } else if !self.succeeded {
            self.tell(slot, What::Dropped);
        }
    }
}
