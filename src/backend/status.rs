//! The cell: what a backend's actor publishes and every worker reads (spec/resilience.md 3.8).
//!
//! One u64, the circuit word, holds generation, state, override, probes in flight and ok, so that a fact that belongs together
//! is never seen in halves. The actor is its only writer, with one exception: the claim of a probe by a worker, one
//! compare-and-swap. Deadlines lie beside the word and are written before it.

mod rejection;
mod word;

use std::time::Duration;

pub use self::rejection::{Admission, Reason, Rejection};
pub use self::word::{Circuit, Override};
use super::circuit_breaker::StateName;
use super::figures::Figures;
use super::health::{Health, HealthCell};
use super::latency::LatencyCell;
use super::sync::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use crate::clock::Instant;

/// Whole of a ratio kept in 1/10 000.
const WHOLE: u32 = 10_000;

/// How soon a request that found all probes taken may come back.
const HALF_OPEN_RETRY: Duration = Duration::from_secs(1);

/// How soon a request that found a backend at its cap may come back.
const SATURATED_RETRY: Duration = Duration::from_secs(2);

/// One reading of the cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether a call may go.
    pub admission: Admission,
    /// Calls under way.
    pub in_flight: u32,
    /// Weight factor of slow start, in 1/10 000.
    pub slow_start: u32,
    /// Its last calls failed, though the circuit is closed.
    pub failing: bool,
    /// The health gate.
    pub healthy: bool,
    /// The provider's own figures say that it would refuse, or has no room.
    pub deferred: bool,
}

impl Standing {
    /// Of all candidates those of the lowest rank are asked: a guess about a quota, or a check, never rejects. What it alone
    /// holds back serves where nobody else can (spec/resilience.md 6.1.3).
    pub const fn rank(&self) -> u8 {
        match (self.healthy, self.deferred) {
            (true, false) => 0,
            (true, true) => 1,
            (false, _) => 2,
        }
    }
}

/// What a claimed slot has to say at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The generation it was taken in.
    pub generation: u32,
    /// Whether it is a probe.
    pub probe: bool,
}

impl Slot {
    /// No place in any circuit.
    pub const NONE: Self = Self { generation: 0, probe: false };
}

/// The shared cell of one backend.
#[derive(Debug)]
pub struct BackendStatus {
    circuit: AtomicU64,
    open_until: AtomicU64,
    slow_start_from: AtomicU64,
    failing: AtomicBool,
    health: HealthCell,
    draining: AtomicBool,
    in_flight: AtomicU32,
    latency: LatencyCell,
    limits: Limits,
    figures: Figures,
}

/// The few settings that readers need; changed by a reload.
#[derive(Debug)]
struct Limits {
    max_in_flight: AtomicU32,
    half_open_calls: AtomicU32,
    slow_start_nanos: AtomicU64,
    slow_start_min: AtomicU32,
}

impl BackendStatus {
    /// A closed, idle cell.
    pub fn new(policy: &crate::config::BackendPolicy) -> Self {
        let closed = Circuit { generation: 0, state: StateName::Closed, hand: Override::Auto, probes: 0, ok: 0 };
        let status = Self {
            circuit: AtomicU64::new(closed.pack()),
            open_until: AtomicU64::new(0),
            slow_start_from: AtomicU64::new(0),
            failing: AtomicBool::new(false),
            health: HealthCell::default(),
            draining: AtomicBool::new(false),
            in_flight: AtomicU32::new(0),
            latency: LatencyCell::default(),
            limits: Limits {
                max_in_flight: AtomicU32::new(0),
                half_open_calls: AtomicU32::new(0),
                slow_start_nanos: AtomicU64::new(0),
                slow_start_min: AtomicU32::new(0),
            },
            figures: Figures::default(),
        };
        status.set_limits(policy);
        status
    }

    /// Takes over the settings that readers need.
    pub fn set_limits(&self, policy: &crate::config::BackendPolicy) {
        let breaker = &policy.circuit_breaker;
        self.limits.max_in_flight.store(policy.max_in_flight, Ordering::Relaxed);
        self.limits.half_open_calls.store(breaker.half_open_calls.min(u32::from(u8::MAX)), Ordering::Relaxed);
        let ramp = breaker.slow_start.map_or(0, |ramp| ramp.as_nanos() as u64);
        self.limits.slow_start_nanos.store(ramp, Ordering::Relaxed);
        self.limits.slow_start_min.store(breaker.slow_start_min_weight, Ordering::Relaxed);
    }

    /// What is published for people.
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    /// The circuit word.
    pub fn circuit(&self) -> Circuit {
        Circuit::unpack(self.circuit.load(Ordering::Acquire))
    }

    /// When an open circuit becomes claimable.
    pub fn open_until(&self) -> Instant {
        Instant::from_nanos(self.open_until.load(Ordering::Acquire))
    }

    /// Calls under way.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// How long its calls take.
    pub fn latency(&self) -> &LatencyCell {
        &self.latency
    }

    /// Whether its last calls failed, though its circuit is closed.
    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// Whether the health gate is open.
    pub fn is_healthy(&self) -> bool {
        self.health.is_healthy()
    }

    /// What health checks, and calls that were served, have shown.
    pub fn health(&self) -> Health {
        self.health.read()
    }

    /// Whether it takes no new calls.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Takes no new calls from now on, or does again.
    pub fn set_draining(&self, draining: bool) {
        self.draining.store(draining, Ordering::Relaxed);
    }

    /// The circuit as read at `now`: open with its time over reads as half-open.
    pub fn state(&self, now: Instant) -> StateName {
        let circuit = self.circuit();
        match circuit.hand {
            Override::ForceOpen => StateName::Open,
            Override::ForceClosed | Override::Disabled => StateName::Closed,
            Override::Auto if circuit.state == StateName::Open && self.open_until() <= now => StateName::HalfOpen,
            Override::Auto => circuit.state,
        }
    }

    /// Reads the cell, which knows of no block and no host. Changes nothing.
    pub fn read(&self, now: Instant) -> Standing {
        Standing {
            admission: self.admission(now),
            in_flight: self.in_flight(),
            slow_start: self.slow_start(now),
            failing: self.is_failing(),
            healthy: self.is_healthy(),
            deferred: false,
        }
    }

    fn admission(&self, now: Instant) -> Admission {
        self.admission_beside(self.saturated(), now)
    }

    /// The admission, given whether the cap of calls in flight is reached.
    fn admission_beside(&self, saturated: Option<Rejection>, now: Instant) -> Admission {
        if self.is_draining() {
            return Admission::Denied(Rejection::endless(Reason::Draining));
        }
        let circuit = self.admission_by_circuit(now);
        saturated.map_or(circuit, |rejection| circuit.and(Admission::Denied(rejection)))
    }

    /// What the circuit alone says.
    pub(super) fn admission_by_circuit(&self, now: Instant) -> Admission {
        let circuit = self.circuit();
        match circuit.hand {
            Override::ForceOpen => return Admission::Denied(self.forced_open(now)),
            Override::ForceClosed | Override::Disabled => return Admission::Free,
            Override::Auto => {}
        }
        match circuit.state {
            StateName::Closed => Admission::Free,
            StateName::Open if now < self.open_until() => {
                Admission::Denied(Rejection::lasting(Reason::CircuitOpen, self.open_until().since(now)))
            }
            StateName::Open => Admission::Probe(self.open_until()),
            StateName::HalfOpen if self.has_probe(circuit) => Admission::Probe(self.open_until()),
            StateName::HalfOpen => Admission::Denied(Rejection::lasting(Reason::HalfOpenBusy, HALF_OPEN_RETRY)),
        }
    }

    fn forced_open(&self, now: Instant) -> Rejection {
        match self.open_until() {
            Instant::ZERO => Rejection::endless(Reason::ForcedOpen),
            until => Rejection::lasting(Reason::ForcedOpen, until.since(now)),
        }
    }

    /// Staged probes: one at a time at first, then as many as have succeeded and one, at most N in all. Where a reload has
    /// lowered N to what has succeeded already, one more goes: its success closes.
    fn has_probe(&self, circuit: Circuit) -> bool {
        let (probes, ok) = (u32::from(circuit.probes), u32::from(circuit.ok));
        let calls = self.limits.half_open_calls.load(Ordering::Relaxed);
        probes < calls.min(ok + 1) && ok + probes < calls.max(ok + 1)
    }

    fn saturated(&self) -> Option<Rejection> {
        let full = self.limits.max_in_flight.load(Ordering::Relaxed) <= self.in_flight();
        full.then_some(Rejection::lasting(Reason::Saturated, SATURATED_RETRY))
    }

    fn slow_start(&self, now: Instant) -> u32 {
        let from = self.slow_start_from.load(Ordering::Relaxed);
        let ramp = self.limits.slow_start_nanos.load(Ordering::Relaxed);
        if from == 0 || ramp == 0 {
            return WHOLE;
        }
        let passed = now.since(Instant::from_nanos(from)).as_nanos();
        let grown = (passed * u128::from(WHOLE) / u128::from(ramp)).min(u128::from(WHOLE)) as u32;
        grown.max(self.limits.slow_start_min.load(Ordering::Relaxed))
    }

    /// Takes a place among the calls in flight, and a probe where the circuit asks for one. On a lost race: the rejection.
    ///
    /// # Errors
    /// Why no call may go now.
    pub fn try_take(&self, now: Instant) -> Result<Slot, Rejection> {
        let cap = self.limits.max_in_flight.load(Ordering::Relaxed);
        if self.in_flight.fetch_add(1, Ordering::Relaxed) >= cap {
            self.in_flight.fetch_sub(1, Ordering::Relaxed);
            return Err(Rejection::lasting(Reason::Saturated, SATURATED_RETRY));
        }
        let taken = self.claim(now);
        if taken.is_err() {
            self.release();
        }
        taken
    }

    /// Takes the only place of an open circuit before its time, as a probe: where nobody else can serve, and nobody is there
    /// already (spec/resilience.md 9.1, `least_bad`).
    ///
    /// # Errors
    /// Why no call may go even so.
    pub fn try_take_early(&self, now: Instant) -> Result<Slot, Rejection> {
        let seen = self.circuit();
        if self.is_draining() || seen.hand != Override::Auto || seen.state != StateName::Open {
            return Err(match self.admission(now) {
                Admission::Denied(rejection) => rejection,
                Admission::Free | Admission::Probe(_) => Rejection::lasting(Reason::HalfOpenBusy, HALF_OPEN_RETRY),
            });
        }
        let is_alone = self.in_flight.fetch_add(1, Ordering::Relaxed) == 0;
        let next = Circuit {
            generation: seen.generation.wrapping_add(1),
            state: StateName::HalfOpen,
            probes: 1,
            ok: 0,
            ..seen
        };
        let (seen, claimed) = (seen.pack(), next.pack());
        let (success, failure) = (Ordering::AcqRel, Ordering::Acquire);
        if is_alone && self.circuit.compare_exchange(seen, claimed, success, failure).is_ok() {
            return Ok(Slot { generation: next.generation, probe: true });
        }
        self.release();
        Err(Rejection::lasting(Reason::HalfOpenBusy, HALF_OPEN_RETRY))
    }

    /// Takes a probe where the circuit asks for one.
    ///
    /// # Errors
    /// Why no call may go now.
    pub(super) fn claim(&self, now: Instant) -> Result<Slot, Rejection> {
        loop {
            // The place in flight is taken already, and may be the last: that gate is passed.
            if let Admission::Denied(rejection) = self.admission_beside(None, now) {
                return Err(rejection);
            }
            let seen = self.circuit.load(Ordering::Acquire);
            let circuit = Circuit::unpack(seen);
            let free = Ok(Slot { generation: circuit.generation, probe: false });
            match circuit.hand {
                Override::Auto => {}
                Override::ForceClosed | Override::Disabled => return free,
                // Laid since: its rejection is read above.
                Override::ForceOpen => continue,
            }
            let next = match circuit.state {
                StateName::Open if self.open_until() <= now => Circuit {
                    generation: circuit.generation.wrapping_add(1),
                    state: StateName::HalfOpen,
                    probes: 1,
                    ok: 0,
                    ..circuit
                },
                StateName::HalfOpen if self.has_probe(circuit) => Circuit { probes: circuit.probes + 1, ..circuit },
                StateName::HalfOpen => return Err(Rejection::lasting(Reason::HalfOpenBusy, HALF_OPEN_RETRY)),
                StateName::Closed => return free,
                // Opened since, as above.
                StateName::Open => continue,
            };
            if self.circuit.compare_exchange(seen, next.pack(), Ordering::AcqRel, Ordering::Acquire).is_ok() {
                return Ok(Slot { generation: next.generation, probe: true });
            }
        }
    }

    /// Gives back a place among the calls in flight. A probe's place is given back by the actor alone.
    pub fn release(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Writes what lies beside the word; before the word. The open time is only raised here: read with the earlier word, a
    /// shorter one would let a probe go too soon.
    pub(super) fn publish_beside(&self, beside: &Beside) {
        if self.open_until() < beside.open_until {
            self.open_until.store(beside.open_until.as_nanos(), Ordering::Release);
        }
        renew(&self.slow_start_from, beside.slow_start_from);
        if self.is_failing() != beside.failing {
            self.failing.store(beside.failing, Ordering::Relaxed);
        }
        self.health.publish(&beside.health);
    }

    /// Swaps the word, and then lowers the open time to what goes with it. On failure, because a claim came between: what
    /// stands there now.
    pub(super) fn publish_word(&self, seen: Circuit, next: Circuit, beside: &Beside) -> Result<(), Circuit> {
        self.circuit
            .compare_exchange(seen.pack(), next.pack(), Ordering::AcqRel, Ordering::Acquire)
            .map(|_| renew(&self.open_until, beside.open_until))
            .map_err(Circuit::unpack)
    }
}

/// Stores a time if it has changed: workers' caches keep what is not written.
fn renew(cell: &AtomicU64, time: Instant) {
    if cell.load(Ordering::Relaxed) != time.as_nanos() {
        cell.store(time.as_nanos(), Ordering::Release);
    }
}

/// What the actor publishes beside the word.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beside {
    pub(super) open_until: Instant,
    pub(super) slow_start_from: Instant,
    pub(super) failing: bool,
    pub(super) health: Health,
}

#[cfg(test)]
mod tests;
