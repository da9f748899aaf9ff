//! All decisions about one backend in one value: breaker, quota and health, fed with what happened, read for what to publish.

mod checks;

use std::time::Duration;

use super::circuit_breaker::{Cause, Change, CircuitBreaker, Hand, Kind, Record, Recorded, Start, State, StateName};
use super::figures::Books;
use super::health::Health;
use super::outcome::{Block, Class, Effect};
use super::quota::Blocked;
use super::scope::{Blocks, Reach};
use super::status::{BackendStatus, Beside, Circuit, Override, Slot};
use crate::clock::Instant;
use crate::config::BackendPolicy;

/// One thing a permit had to say.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// The permit's number.
    pub permit: u64,
    /// The generation it was taken in.
    pub generation: u32,
    /// What it holds of the host's circuit.
    pub host: Slot,
    /// When its attempt began.
    pub started: Instant,
    /// What success would be.
    pub kind: Kind,
    /// What happened.
    pub what: What,
}

/// What happened to a permit.
#[derive(Clone, Copy, Debug)]
pub enum What {
    /// Its attempt began.
    Started {
        /// What it may take at most by its own limits.
        limit: Duration,
    },
    /// A probe was claimed; its right ends at the lease.
    Claimed {
        /// End of its right.
        lease: Instant,
    },
    /// The same before its time, because nobody else could serve.
    ClaimedEarly {
        /// End of its right.
        lease: Instant,
    },
    /// A probe of the host's circuit was claimed.
    ClaimedHost {
        /// End of its right.
        lease: Instant,
    },
    /// Its host is there: the answer's head has come.
    Reached {
        /// How long that took.
        after: Duration,
    },
    /// It worked, after this long to the first content.
    Succeeded {
        /// Time to first content, or to the whole answer.
        after: Duration,
    },
    /// It did not.
    Failed {
        /// How.
        class: Class,
        /// The provider's own wait.
        hint: Option<Duration>,
        /// How long that took.
        after: Duration,
    },
    /// It broke after its success had been told.
    BrokeLater {
        /// How.
        class: Class,
        /// From its start to the cut.
        after: Duration,
    },
    /// Another call beside it answered first, and it was dropped: that says nothing about it.
    Overtaken {
        /// How long it had waited.
        after: Duration,
    },
    /// It was dropped without an outcome: the client left.
    Dropped {
        /// How long it had waited.
        after: Duration,
    },
}

/// An operator's wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Sets or releases an override.
    Override(Override),
    /// Opens the circuit for this long; then a probe decides.
    ForceOpenFor(Duration),
    /// Closes the circuit, level 0; blocks too if asked.
    Reset {
        /// Whether blocks are lifted as well.
        blocks: bool,
    },
    /// The gateway has got another token for it: the block of one that was refused or missing ends.
    CredentialRenewed,
}

/// What became visible by a step, for the log and the metrics.
#[derive(Clone, Copy, Debug)]
pub enum Edge {
    /// The circuit changed.
    Circuit(Change),
    /// A block was set.
    Blocked(Blocked),
    /// A block's cause is gone: it was lifted before its time.
    Lifted(Block),
    /// A health check ended, well or badly.
    Checked(&'static str),
    /// The health gate changed.
    Health(HealthChange),
    /// A probe ended.
    Probe(&'static str),
    /// A result came too late to count.
    Late,
    /// The override changed.
    Override(Override),
    /// The circuit would have opened, had it not been forced closed.
    WouldOpen(Cause),
}

/// An edge of the health gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthChange {
    /// How it stands now.
    pub is_healthy: bool,
    /// What is checked.
    pub check: &'static str,
    /// Failures in a row.
    pub failures: u32,
    /// What the last check met.
    pub detail: &'static str,
}

/// Breaker, quota and health of one backend, and the word they stand for.
#[derive(Debug)]
pub struct Machine {
    policy: BackendPolicy,
    breaker: CircuitBreaker,
    blocks: Blocks,
    /// Since when it has the scopes that it shares.
    shared_since: Instant,
    health: Health,
    /// Probe places to give back with the next publication.
    returned: u32,
    random: fastrand::Rng,
    edges: Vec<Edge>,
}

impl Machine {
    /// Starts closed.
    pub fn new(policy: BackendPolicy, seed: u64, now: Instant) -> Self {
        let breaker = CircuitBreaker::new(policy.circuit_breaker.clone(), 0, now);
        Self::with_breaker(policy, breaker, seed)
    }

    /// Starts anew for a cell that has been published before: closed, in slow start, and at the next generation, so that
    /// every earlier permit is late. An override stays as the cell has it, until `forced_until` where that is set.
    pub fn restarted(policy: BackendPolicy, seen: Circuit, forced_until: Instant, seed: u64, now: Instant) -> Self {
        let generation = seen.generation.wrapping_add(1);
        let hand = match seen.hand {
            Override::ForceOpen if forced_until != Instant::ZERO => Hand::ForceOpenUntil(forced_until),
            Override::ForceOpen | Override::Auto | Override::ForceClosed | Override::Disabled => Hand::from(seen.hand),
        };
        let breaker = CircuitBreaker::restarted(policy.circuit_breaker.clone(), generation, hand, now);
        Self::with_breaker(policy, breaker, seed)
    }

    /// The same with blocks that others share.
    #[must_use]
    pub fn with_blocks(self, blocks: Blocks) -> Self {
        Self { blocks, ..self }
    }

    fn with_breaker(policy: BackendPolicy, breaker: CircuitBreaker, seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        let (blocks, health) = (Blocks::default(), Health::default());
        Self { policy, breaker, blocks, shared_since: Instant::ZERO, health, returned: 0, random, edges: Vec::new() }
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
        if advanced.released {
            self.edges.push(Edge::Override(Override::Auto));
        }
    }

    /// A worker's claim turned open into half-open: follow it. If the actor has decided otherwise meanwhile, that claim is
    /// of a generation that must not be.
    pub fn take_over(&mut self, seen: Circuit, now: Instant) {
        if seen.state != StateName::HalfOpen || seen.hand != Override::Auto {
            return;
        }
        let generation = self.breaker.generation();
        match self.breaker.name() {
            StateName::Open if seen.generation == generation.wrapping_add(1) && self.hand() == Override::Auto => {
                let change = self.breaker.enter_half_open(now);
                self.edges.push(Edge::Circuit(change));
            }
            StateName::Open | StateName::Closed if seen.generation == generation => self.breaker.skip_generation(),
            StateName::Open | StateName::Closed | StateName::HalfOpen => {}
        }
    }

    /// Takes in what permits had to say.
    pub fn settle(&mut self, events: &[Event], now: Instant) {
        for event in events {
            self.settle_one(event, now);
        }
    }

    fn settle_one(&mut self, event: &Event, now: Instant) {
        let &Event { permit, generation, started, kind, what, host: _ } = event;
        let jitter = self.random.f64();
        let record = |effect, after| Record { permit, generation, started, kind, after, effect };
        match what {
            What::Started { limit } => self.breaker.begin(Start { permit, generation, started, kind, limit }),
            What::Claimed { lease } => self.breaker.claimed(permit, generation, lease),
            What::ClaimedEarly { lease } => self.breaker.claimed_early(permit, generation, lease),
            // The host's circuit hears of them.
            What::ClaimedHost { .. } | What::Reached { .. } => {}
            What::Succeeded { after } => {
                self.blocks.succeed(started, self.shared_since);
                self.health.served(started.plus(after));
                self.record(record(Effect::Success, after), now);
            }
            What::Failed { class, hint, after } => {
                self.record(record(class.effect(), after), now);
                self.block(class, hint, started, now);
            }
            What::BrokeLater { class, after } => {
                self.block(class, None, started, now);
                if class.effect() == Effect::Failure {
                    let recorded = self.breaker.record_mid_stream(record(Effect::Failure, after), now, jitter);
                    self.note(recorded);
                }
            }
            What::Overtaken { after } => self.record(record(Effect::None, after), now),
            What::Dropped { after } => self.record(record(Effect::Gone, after), now),
        }
    }

    fn record(&mut self, record: Record, now: Instant) {
        let was_probing = self.breaker.name() == StateName::HalfOpen;
        let jitter = self.random.f64();
        let recorded = self.breaker.record(record, now, jitter);
        if was_probing && !recorded.late {
            self.edges.push(Edge::Probe(match (recorded.change.map(|change| change.cause), record.effect) {
                (Some(Cause::ProbeFailed), _) => "failure",
                (_, Effect::Success) => "success",
                (_, Effect::Failure | Effect::Neutral | Effect::Caller | Effect::Gone | Effect::Cut | Effect::None) => {
                    "neutral"
                }
            }));
        }
        self.note(recorded);
    }

    fn note(&mut self, recorded: Recorded) {
        self.returned += recorded.returned;
        if recorded.late {
            self.edges.push(Edge::Late);
        }
        self.edges.extend(recorded.change.map(Edge::Circuit));
        self.edges.extend(recorded.would_open.map(Edge::WouldOpen));
    }

    fn block(&mut self, class: Class, hint: Option<Duration>, started: Instant, now: Instant) {
        let Some(block) = class.block() else { return };
        // What a credential was told that is gone says nothing of the one that took its place.
        if started < self.shared_since && Reach::of(block) != Reach::Backend {
            return;
        }
        let jitter = self.random.f64();
        let blocked = self.blocks.block(block, hint, started, now, &self.policy.quota, jitter);
        self.edges.extend(blocked.map(Edge::Blocked));
    }

    /// Does what an operator wants.
    pub fn command(&mut self, command: Command, now: Instant) {
        match command {
            Command::Override(hand) => self.lay(Hand::from(hand), now),
            Command::ForceOpenFor(time) => self.lay(Hand::ForceOpenUntil(now.plus(time)), now),
            Command::Reset { blocks } => {
                let change = self.breaker.reset(now);
                self.edges.extend(change.map(Edge::Circuit));
                if blocks {
                    self.blocks.lift_all();
                }
            }
            Command::CredentialRenewed => self.lift(Block::Auth, now, now),
        }
    }

    fn lay(&mut self, hand: Hand, now: Instant) {
        let before = self.hand();
        let change = self.breaker.lay(hand, now);
        self.tell_hand(before, change);
    }

    fn tell_hand(&mut self, before: Override, change: Option<Change>) {
        self.edges.extend(change.map(Edge::Circuit));
        if self.hand() != before {
            self.edges.push(Edge::Override(self.hand()));
        }
    }

    /// New thresholds from the next outcome on.
    pub fn reconfigure(&mut self, policy: BackendPolicy, now: Instant) {
        let before = self.hand();
        let change = self.breaker.reconfigure(policy.circuit_breaker.clone(), now);
        self.tell_hand(before, change);
        let earlier = std::mem::replace(&mut self.policy, policy);
        self.follow_health_check(&earlier.health_check);
    }

    /// Other scopes for its blocks, as after its credential was rotated.
    pub fn share(&mut self, blocks: Blocks, now: Instant) {
        if !self.blocks.shares_with(&blocks) {
            self.shared_since = now;
        }
        self.blocks = blocks;
    }

    fn hand(&self) -> Override {
        self.breaker.hand().name()
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

    /// The breaker's books, for people.
    pub(super) fn books(&self, now: Instant) -> Books {
        let (failures, resolved) = self.breaker.window(now);
        let (run, pending) = (self.breaker.run() as u64, self.breaker.pending() as u64);
        Books { level: self.breaker.level(), run, failures, resolved, pending }
    }

    /// What became visible since the last call.
    pub fn take_edges(&mut self) -> Vec<Edge> {
        std::mem::take(&mut self.edges)
    }

    /// Publishes what it has come to: what lies beside the word, then the word. A claim in between is taken over first.
    pub(super) fn publish(&mut self, status: &BackendStatus, now: Instant) {
        let mut seen = status.circuit();
        loop {
            self.take_over(seen, now);
            let beside = self.beside(now);
            status.publish_beside(&beside);
            match status.publish_word(seen, self.word(seen), &beside) {
                Ok(()) => break,
                Err(claimed) => seen = claimed,
            }
        }
        self.returned = 0;
    }

    /// Gives back the places of probes that were claimed in the word and of which no news came: what would have registered them
    /// is lost with a mailbox.
    pub(super) fn recount(&mut self, seen: Circuit) {
        if let State::HalfOpen(half) = self.breaker.state()
            && seen.generation == self.breaker.generation()
        {
            self.returned = u32::from(seen.probes).saturating_sub(half.probes.len() as u32);
        }
    }

    /// What lies beside the word.
    fn beside(&self, now: Instant) -> Beside {
        let open_until = match (self.breaker.hand(), self.breaker.state()) {
            (Hand::ForceOpenUntil(until), _) => until,
            (Hand::ForceOpen | Hand::ForceClosed { .. } | Hand::Disabled, _) => Instant::ZERO,
            (Hand::Auto, State::Open { until }) => *until,
            (Hand::Auto, State::Closed(_) | State::HalfOpen(_)) => Instant::ZERO,
        };
        Beside {
            open_until,
            slow_start_from: self.breaker.slow_start_from().unwrap_or(Instant::ZERO),
            failing: self.breaker.is_failing(now),
            health: self.health,
        }
    }

    /// The word that follows `seen`: places given back are taken off what workers have claimed meanwhile.
    fn word(&self, seen: Circuit) -> Circuit {
        let generation = self.breaker.generation();
        let (state, hand) = (self.breaker.name(), self.hand());
        let (probes, ok) = match self.breaker.state() {
            State::HalfOpen(half) if seen.generation == generation => {
                (seen.probes.saturating_sub(self.returned.min(255) as u8), half.ok.min(255) as u8)
            }
            State::HalfOpen(half) => (0, half.ok.min(255) as u8),
            State::Closed(_) | State::Open { .. } => (0, 0),
        };
        Circuit { generation, state, hand, probes, ok }
    }
}

#[cfg(test)]
mod tests;
