//! What the models put around the real cell, machine, permit and outbox: a backend whose mailbox is a lock instead of actix's,
//! and the one who reads it. Everything else of the protocol is the code of `src/backend`, compiled once more with the
//! atomics of the model.

use std::sync::Arc;
use std::time::Duration;

use super::circuit_breaker::Kind;
use super::limiter::Limiter;
use super::machine::{Command, Edge, Event, Machine};
use super::outbox::Outbox;
use super::permit::{Permit, Taken};
use super::scope::Blocks;
use super::status::{BackendStatus, Reason, Rejection, Slot};
use super::sync::Mutex;
use crate::clock::Instant;
use crate::config::BackendPolicy;

/// When every model begins; what `crate::clock` reads too.
pub const START: Instant = Instant::from_nanos(86_400_000_000_000);

/// Right of a probe.
pub const LEASE: Duration = Duration::from_secs(40);

/// As `src/backend.rs` has it.
#[derive(Clone, Copy)]
pub struct Call {
    pub tokens: u64,
    pub kind: Kind,
    pub limit: Duration,
    pub lease: Instant,
}

/// The handle of the backend.
pub struct Backend {
    status: BackendStatus,
    blocks: Blocks,
    limiter: Arc<Limiter>,
    told: Mutex<Vec<Event>>,
}

impl Backend {
    fn new(policy: &BackendPolicy) -> Arc<Self> {
        let (status, limiter) = (BackendStatus::new(policy), Limiter::new(policy, true));
        Arc::new(Self { status, blocks: Blocks::default(), limiter, told: Mutex::new(Vec::new()) })
    }

    pub fn status(&self) -> &BackendStatus {
        &self.status
    }

    pub fn limiter(&self) -> &Limiter {
        &self.limiter
    }

    pub(super) fn tell(&self, batch: Vec<Event>) {
        self.told.lock().unwrap().extend(batch);
    }

    /// As `src/backend.rs` does it.
    fn try_take(self: &Arc<Self>, call: Call, now: Instant, outbox: &Arc<Outbox>) -> Result<Permit, Rejection> {
        self.take(call, now, outbox, false)
    }

    fn take(
        self: &Arc<Self>,
        call: Call,
        now: Instant,
        outbox: &Arc<Outbox>,
        early: bool,
    ) -> Result<Permit, Rejection> {
        if let Some((block, until)) = self.blocks.longest(now) {
            return Err(Rejection::lasting(Reason::Blocked(block), until.since(now)));
        }
        let slot = if early { self.status.try_take_early(now) } else { self.status.try_take(now) }?;
        let places = Taken { slot, host: Slot::NONE, early };
        let mut permit = Permit::new(self, outbox, places, now, call);
        self.limiter.try_charge(call.tokens)?;
        permit.begin(call.limit);
        Ok(permit)
    }
}

/// A worker: it takes permits, and has an outbox of its own.
pub struct Worker {
    backend: Arc<Backend>,
    outbox: Arc<Outbox>,
}

impl Worker {
    pub fn take(&self, now: Instant) -> Result<Permit, Rejection> {
        let call = Call { tokens: 1, kind: Kind::Unary, limit: LEASE, lease: now.plus(LEASE) };
        self.backend.try_take(call, now, &self.outbox)
    }

    /// The least bad: an open circuit before its time.
    pub fn take_early(&self, now: Instant) -> Result<Permit, Rejection> {
        let call = Call { tokens: 1, kind: Kind::Unary, limit: LEASE, lease: now.plus(LEASE) };
        self.backend.take(call, now, &self.outbox, true)
    }

    pub fn status(&self) -> &BackendStatus {
        self.backend.status()
    }

    /// The few milliseconds of gathering are over.
    pub fn flush(&self) {
        self.outbox.flush();
    }
}

/// The owner of the machine: what the backend's actor is.
pub struct Control {
    backend: Arc<Backend>,
    pub machine: Machine,
    /// Results that came too late.
    pub late: usize,
    /// Probes by how they ended.
    pub probes: Vec<&'static str>,
}

impl Control {
    /// A closed circuit.
    pub fn new(policy: BackendPolicy) -> Self {
        let backend = Backend::new(&policy);
        let machine = Machine::new(policy, 1, START).with_blocks(backend.blocks.clone());
        let mut control = Self { backend, machine, late: 0, probes: Vec::new() };
        control.step(START, |_, _| {});
        control
    }

    /// A circuit that has been opened by failures, and the end of its open time.
    pub fn opened(policy: BackendPolicy) -> (Self, Instant) {
        let mut control = Self::new(policy);
        control.fail(START);
        let until = control.status().open_until();
        (control, until)
    }

    /// Calls that begin and fail at `now` until the circuit opens.
    pub fn fail(&mut self, now: Instant) {
        let worker = self.worker();
        while let Ok(permit) = worker.take(now) {
            permit.settle(super::outcome::Outcome::failure(super::outcome::Class::ServerError), now);
            self.hear(now);
        }
    }

    pub fn worker(&self) -> Worker {
        Worker { backend: Arc::clone(&self.backend), outbox: Outbox::new() }
    }

    pub fn status(&self) -> &BackendStatus {
        self.backend.status()
    }

    /// As the actor does it.
    pub fn step(&mut self, now: Instant, change: impl FnOnce(&mut Machine, Instant)) {
        self.machine.advance(self.backend.status.circuit(), now);
        change(&mut self.machine, now);
        self.machine.publish(&self.backend.status, now);
        for edge in self.machine.take_edges() {
            match edge {
                Edge::Late => self.late += 1,
                Edge::Probe(end) => self.probes.push(end),
                Edge::Circuit(_)
                | Edge::Blocked(_)
                | Edge::Lifted(_)
                | Edge::Override(_)
                | Edge::WouldOpen(_)
                | Edge::Checked(_)
                | Edge::Health(_) => {}
            }
        }
    }

    /// Takes in what was told so far.
    pub fn hear(&mut self, now: Instant) {
        let told = std::mem::take(&mut *self.backend.told.lock().unwrap());
        self.step(now, |machine, now| machine.settle(&told, now));
    }

    pub fn order(&mut self, command: Command, now: Instant) {
        self.step(now, |machine, now| machine.command(command, now));
    }

    pub fn reload(&mut self, policy: BackendPolicy, now: Instant) {
        self.backend.status.set_limits(&policy);
        self.step(now, |machine, now| machine.reconfigure(policy, now));
    }

    /// The actor has panicked, and another takes its place.
    pub fn restart(&mut self, policy: BackendPolicy, now: Instant) {
        let (seen, until) = (self.backend.status.circuit(), self.backend.status.open_until());
        self.machine = Machine::restarted(policy, seen, until, 2, now).with_blocks(self.backend.blocks.clone());
        self.step(now, |_, _| {});
    }
}
