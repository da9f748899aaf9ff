//! All decisions about one backend in one value: breaker and quota, fed with what happened, read for what to publish.

use std::time::Duration;

use super::circuit_breaker::{Change, CircuitBreaker, Record, State, StateName};
use super::outcome::{Class, Effect, Outcome};
use super::quota::{Blocked, Quota};
use super::status::{Beside, Circuit, Override};
use crate::clock::Instant;
use crate::config::BackendPolicy;

/// One thing a permit had to say.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// The permit's number.
    pub permit: u64,
    /// The generation it was taken in.
    pub generation: u32,
    /// When its attempt began.
    pub started: Instant,
    /// What happened.
    pub what: What,
}

/// What happened to a permit.
#[derive(Clone, Copy, Debug)]
pub enum What {
    /// A probe was claimed; its right ends at the lease.
    Claimed {
        /// End of its right.
        lease: Instant,
    },
    /// It worked, after this long to the first content.
    Succeeded {
        /// Time to first content, or to the whole answer.
        after: Duration,
    },
    /// It did not.
    Failed {
        /// How, and for how long the provider wants to be left alone.
        outcome: Outcome,
    },
    /// It broke after its success had been told.
    BrokeLater {
        /// How.
        class: Class,
    },
    /// It was dropped without an outcome: the client left, or our own fault.
    Dropped,
}

/// An operator's wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Sets or releases an override.
    Override(Override),
    /// Closes the circuit, level 0; blocks too if asked.
    Reset {
        /// Whether blocks are lifted as well.
        blocks: bool,
    },
}

/// What became visible by a step, for the log and the metrics.
#[derive(Clone, Copy, Debug)]
pub enum Edge {
    /// The circuit changed.
    Circuit(Change),
    /// A block was set.
    Blocked(Blocked),
    /// A probe ended.
    Probe(&'static str),
    /// A result came too late to count.
    Late,
    /// The override changed.
    Override(Override),
}

/// Breaker and quota of one backend, and the word they stand for.
#[derive(Debug)]
pub struct Machine {
    policy: BackendPolicy,
    breaker: CircuitBreaker,
    quota: Quota,
    hand: Override,
    /// Probe places to give back with the next publication.
    returned: u32,
    random: fastrand::Rng,
    edges: Vec<Edge>,
}

impl Machine {
    /// Starts closed.
    pub fn new(policy: BackendPolicy, seed: u64, now: Instant) -> Self {
        let breaker = CircuitBreaker::new(policy.circuit_breaker.clone(), 0, now);
        Self::with_breaker(policy, breaker, Override::Auto, seed)
    }

    /// Starts anew for a cell that has been published before: closed, in slow start, and at the next generation, so that
    /// every earlier permit is late.
    pub fn restarted(policy: BackendPolicy, seen: Circuit, seed: u64, now: Instant) -> Self {
        let generation = seen.generation.wrapping_add(1);
        let breaker = CircuitBreaker::restarted(policy.circuit_breaker.clone(), generation, now);
        Self::with_breaker(policy, breaker, seen.hand, seed)
    }

    fn with_breaker(policy: BackendPolicy, breaker: CircuitBreaker, hand: Override, seed: u64) -> Self {
        let hand = if policy.circuit_breaker.enabled { hand } else { Override::Disabled };
        let random = fastrand::Rng::with_seed(seed);
        Self { policy, breaker, quota: Quota::default(), hand, returned: 0, random, edges: Vec::new() }
    }

    /// Takes over what stands in the word, and lets time pass.
    pub fn advance(&mut self, seen: Circuit, now: Instant) {
        self.take_over(seen, now);
        let jitter = self.random.f64();
        let advanced = self.breaker.advance(now, jitter);
        self.returned += advanced.returned;
        for _ in 0..advanced.returned {
            self.edges.push(Edge::Probe("expired"));
        }
        self.edges.extend(advanced.change.map(Edge::Circuit));
    }

    /// A worker's claim turned open into half-open: follow it.
    pub fn take_over(&mut self, seen: Circuit, now: Instant) {
        let claimed = seen.state == StateName::HalfOpen && matches!(self.breaker.state(), State::Open { .. });
        if claimed && seen.generation == self.breaker.generation().wrapping_add(1) {
            let change = self.breaker.enter_half_open(now);
            self.edges.push(Edge::Circuit(change));
        }
    }

    /// Takes in what permits had to say.
    pub fn settle(&mut self, events: &[Event], now: Instant) {
        for event in events {
            self.settle_one(event, now);
        }
    }

    fn settle_one(&mut self, event: &Event, now: Instant) {
        match event.what {
            What::Claimed { lease } => self.breaker.claimed(event.permit, event.generation, lease),
            What::Succeeded { after } => {
                self.quota.succeed(event.started);
                let slow = self.policy.circuit_breaker.slow_call_duration.is_some_and(|limit| limit < after);
                self.record(event, slow, Effect::Success, now);
            }
            What::Failed { outcome: Outcome::Success } => self.record(event, false, Effect::Success, now),
            What::Failed { outcome: Outcome::Failure { class, hint } } => {
                self.record(event, false, class.effect(), now);
                self.block(class, hint, event.started, now);
            }
            What::BrokeLater { class } => {
                self.block(class, None, event.started, now);
                if class.effect() == Effect::Failure && self.records() {
                    let jitter = self.random.f64();
                    let change = self.breaker.record_mid_stream(event.generation, now, jitter);
                    self.edges.extend(change.map(Edge::Circuit));
                }
            }
            What::Dropped => self.record(event, false, Effect::None, now),
        }
    }

    fn records(&self) -> bool {
        match self.hand {
            Override::Auto => true,
            Override::ForceOpen | Override::ForceClosed | Override::Disabled => false,
        }
    }

    fn record(&mut self, event: &Event, slow: bool, effect: Effect, now: Instant) {
        if !self.records() {
            return;
        }
        let was_probing = self.breaker.name() == StateName::HalfOpen;
        let late = self.breaker.late();
        let record =
            Record { permit: event.permit, generation: event.generation, started: event.started, slow, effect };
        let jitter = self.random.f64();
        let recorded = self.breaker.record(record, now, jitter);
        self.returned += recorded.returned;
        if self.breaker.late() != late {
            self.edges.push(Edge::Late);
        } else if was_probing {
            self.edges.push(Edge::Probe(match effect {
                Effect::Success => "success",
                Effect::Failure => "failure",
                Effect::Neutral | Effect::Caller | Effect::None => "neutral",
            }));
        }
        self.edges.extend(recorded.change.map(Edge::Circuit));
    }

    fn block(&mut self, class: Class, hint: Option<Duration>, started: Instant, now: Instant) {
        let Some(block) = class.block() else { return };
        let jitter = self.random.f64();
        let blocked = self.quota.block(block, hint, started, now, &self.policy.quota, jitter);
        self.edges.extend(blocked.map(Edge::Blocked));
    }

    /// Does what an operator wants.
    pub fn command(&mut self, command: Command, now: Instant) {
        match command {
            Command::Override(hand) if hand == self.hand => {}
            Command::Override(hand) => {
                self.hand = hand;
                self.returned = 0;
                if hand == Override::Auto {
                    let change = self.breaker.reset(now);
                    self.edges.extend(change.map(Edge::Circuit));
                } else {
                    self.breaker.renew();
                }
                self.edges.push(Edge::Override(hand));
            }
            Command::Reset { blocks } => {
                let change = self.breaker.reset(now);
                self.edges.extend(change.map(Edge::Circuit));
                if blocks {
                    self.quota.lift();
                }
            }
        }
    }

    /// New thresholds from the next outcome on.
    pub fn reconfigure(&mut self, policy: BackendPolicy) {
        self.breaker.reconfigure(policy.circuit_breaker.clone());
        self.policy = policy;
    }

    /// When it next has something to do by itself.
    pub fn wake_at(&self) -> Option<Instant> {
        self.breaker.wake_at()
    }

    /// How often it has opened without being forgiven.
    pub fn level(&self) -> u32 {
        self.breaker.level()
    }

    /// Length of the current run of failures.
    pub fn run(&self) -> usize {
        self.breaker.run()
    }

    /// What became visible since the last call.
    pub fn take_edges(&mut self) -> Vec<Edge> {
        std::mem::take(&mut self.edges)
    }

    /// What lies beside the word.
    pub(super) fn beside(&self) -> Beside {
        Beside {
            open_until: match self.breaker.state() {
                State::Open { until } => *until,
                State::Closed { .. } | State::HalfOpen(_) => Instant::ZERO,
            },
            blocks: self.quota.deadlines(),
            slow_start_from: self.breaker.slow_start_from().unwrap_or(Instant::ZERO),
            failing: self.breaker.run() > 0,
            healthy: true,
        }
    }

    /// The word that follows `seen`: places given back are taken off what workers have claimed meanwhile.
    pub(super) fn word(&self, seen: Circuit) -> Circuit {
        let generation = self.breaker.generation();
        let state = self.breaker.name();
        let (probes, ok) = match self.breaker.state() {
            State::HalfOpen(half) if seen.generation == generation => {
                (seen.probes.saturating_sub(self.returned.min(255) as u8), half.ok.min(255) as u8)
            }
            State::HalfOpen(half) => (0, half.ok.min(255) as u8),
            State::Closed { .. } | State::Open { .. } => (0, 0),
        };
        Circuit { generation, state, hand: self.hand, probes, ok }
    }

    /// The last word was published.
    pub(super) fn published(&mut self) {
        self.returned = 0;
    }
}
