//! Leave for one attempt: whatever happens to it, it is settled once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::circuit_breaker::Kind;
use super::machine::{Event, What};
use super::outbox::Outbox;
use super::outcome::{Class, Outcome};
use super::status::Slot;
use super::{Backend, Call};
use crate::clock::{self, Instant};

/// Leave to call one backend once. Dropped unsettled, it counts as cancelled and leaves nothing behind.
pub struct Permit {
    backend: Arc<Backend>,
    outbox: Arc<Outbox>,
    slot: Option<Slot>,
    /// What it holds of the host's circuit.
    host: Slot,
    number: u64,
    started: Instant,
    tokens: u64,
    kind: Kind,
    stage: Stage,
}

/// The places of one permit.
#[derive(Clone, Copy)]
pub(super) struct Taken {
    /// Of the backend's circuit.
    pub(super) slot: Slot,
    /// Of its host's.
    pub(super) host: Slot,
    /// Whether the backend's is a probe before its time.
    pub(super) early: bool,
}

/// How far its attempt has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// A later gate may still deny it.
    Taken,
    /// Under way.
    Begun,
    /// Its success is told, its stream goes on.
    Succeeded,
}

impl Permit {
    /// Makes the permit of places that were just taken, `early` before their time.
    pub(super) fn new(
        backend: &Arc<Backend>,
        outbox: &Arc<Outbox>,
        taken: Taken,
        started: Instant,
        call: Call,
    ) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let (backend, outbox) = (Arc::clone(backend), Arc::clone(outbox));
        let Call { tokens, kind, lease, .. } = call;
        let Taken { slot, host, early } = taken;
        let stage = Stage::Taken;
        let permit = Self { backend, outbox, slot: Some(slot), host, number, started, tokens, kind, stage };
        if host.probe {
            permit.tell(slot, What::ClaimedHost { lease });
        }
        if slot.probe {
            permit.tell(slot, if early { What::ClaimedEarly { lease } } else { What::Claimed { lease } });
        }
        permit
    }

    /// Every gate has let it through: the attempt begins. Of a probe its claim has told that.
    pub(super) fn begin(&mut self, limit: Duration) {
        self.stage = Stage::Begun;
        if let Some(slot) = self.slot.filter(|slot| !slot.probe) {
            self.tell(slot, What::Started { limit });
        }
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

    /// Whether it is a trial of its backend's circuit, or of its host's.
    pub fn is_any_probe(&self) -> bool {
        self.is_probe() || self.host.probe
    }

    /// The first content of a stream has come: the backend works.
    pub fn first_content(&mut self, now: Instant) {
        if let Some(slot) = self.slot.filter(|_| self.stage != Stage::Succeeded) {
            self.stage = Stage::Succeeded;
            self.tell(slot, What::Succeeded { after: self.age(now) });
        }
    }

    /// The head of an answer has come: the host is there, which a probe of its circuit says at once.
    pub fn reached(&self, now: Instant) {
        if let Some(slot) = self.slot.filter(|_| self.host.probe) {
            self.tell(slot, What::Reached { after: self.age(now) });
        }
    }

    /// Settles the estimate of tokens by what the provider reported.
    pub fn usage(&self, input: u64, output: u64) {
        self.backend.limiter().settle(self.tokens, input.saturating_add(output), output);
    }

    /// Says what came of the attempt.
    pub fn settle(mut self, outcome: Outcome, now: Instant) {
        let Some(slot) = self.slot.take() else { return };
        self.backend.status().release();
        let after = self.age(now);
        let what = match (outcome, self.stage) {
            (Outcome::Success, Stage::Succeeded) => return,
            (Outcome::Success, Stage::Taken | Stage::Begun) => What::Succeeded { after },
            (Outcome::Failure { class, .. }, Stage::Succeeded) => What::BrokeLater { class, after },
            (Outcome::Failure { class, hint }, Stage::Taken | Stage::Begun) => What::Failed { class, hint, after },
        };
        self.tell(slot, what);
    }

    /// Another call beside it answered first: it is given back, and nobody is blamed for what it had waited.
    pub fn give_way(mut self, now: Instant) {
        let Some(slot) = self.slot.take() else { return };
        self.backend.status().release();
        if self.stage == Stage::Begun {
            self.tell(slot, What::Overtaken { after: self.age(now) });
        }
    }

    /// How long it has been held.
    pub fn age(&self, now: Instant) -> Duration {
        now.since(self.started)
    }

    fn tell(&self, slot: Slot, what: What) {
        let Slot { generation, .. } = slot;
        let (permit, host, started, kind) = (self.number, self.host, self.started, self.kind);
        let event = Event { permit, generation, host, started, kind, what };
        self.outbox.tell(&self.backend, event);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(slot) = self.slot.take() else { return };
        self.backend.status().release();
        let after = self.age(clock::now());
        match self.stage {
            // Our own fault says nothing about the backend, whatever it took.
            Stage::Taken | Stage::Begun if std::thread::panicking() => {
                self.tell(slot, What::Failed { class: Class::Local, hint: None, after });
            }
            Stage::Begun => self.tell(slot, What::Dropped { after }),
            Stage::Taken if slot.probe || self.host.probe => self.tell(slot, What::Dropped { after }),
            // Nothing has been told of it, or all.
            Stage::Taken | Stage::Succeeded => {}
        }
    }
}

#[cfg(test)]
mod tests;
