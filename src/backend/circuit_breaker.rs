//! Closed, open, half-open: when a backend is not called, and how it comes back (spec/resilience.md 3).
//!
//! The machine is pure: it is handed `now`, the start of each call, and its jitter. Outcomes are booked by the *start* of
//! their call, because successes of language models take seconds and failures milliseconds: judged by their end, an outage
//! starts late and a cold start looks like one. Calls under way count for the backend as long as they may be expected to
//! succeed.

mod books;
mod pace;
mod pending;
mod run;
mod state;
#[cfg(test)]
mod tests;
mod window;

use std::time::Duration;

use self::books::Books;
pub use self::pace::Kind;
pub use self::state::{Cause, Change, Closed, HalfOpen, Hand, State, StateName};
use self::window::Entry;
use super::outcome::Effect;
use super::status::Override;
use crate::clock::Instant;
use crate::config::CircuitBreaker as Policy;

/// Caller faults in a row that prove a half-open backend alive.
const CALLER_FAULTS_THAT_CLOSE: u32 = 3;

/// Expired leases in a row after which half-open gives up.
const EXPIRED_LEASES_THAT_OPEN: u32 = 3;

/// No open time is shorter.
const MIN_OPEN: Duration = Duration::from_secs(1);

/// Whole of a ratio kept in 1/10 000.
const WHOLE: f64 = 10_000.0;

/// A call that begins.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// The permit's number.
    pub permit: u64,
    /// The permit's generation.
    pub generation: u32,
    /// When it began.
    pub started: Instant,
    /// When it will count as a success.
    pub kind: Kind,
    /// Its own limit.
    pub limit: Duration,
}

/// One outcome as it is told to the machine.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// The permit's number.
    pub permit: u64,
    /// The permit's generation.
    pub generation: u32,
    /// When the call began.
    pub started: Instant,
    /// What success would have been.
    pub kind: Kind,
    /// How long it took, or had waited.
    pub after: Duration,
    /// What it means.
    pub effect: Effect,
}

/// What passing time did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Advanced {
    /// Probe places that come back.
    pub returned: u32,
    /// The edge, if it was one.
    pub change: Option<Change>,
    /// Whether an override ended by itself.
    pub released: bool,
}

/// What an outcome did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Probe places that come back within the same generation.
    pub returned: u32,
    /// The edge, if it was one.
    pub change: Option<Change>,
    /// It came too late to count.
    pub late: bool,
    /// Why the circuit would have opened, had it not been forced closed; said once.
    pub would_open: Option<Cause>,
}

impl Recorded {
    const LATE: Self = Self { returned: 0, change: None, late: true, would_open: None };
    const NOTHING: Self = Self { returned: 0, change: None, late: false, would_open: None };

    fn changed(change: Change) -> Self {
        Self { change: Some(change), ..Self::NOTHING }
    }
}

/// The circuit breaker of one backend.
#[derive(Clone, Debug)]
pub struct CircuitBreaker {
    policy: Policy,
    state: State,
    hand: Hand,
    generation: u32,
    level: u32,
    last_wait: Option<Duration>,
    /// The end of the last open time.
    opened_until: Option<Instant>,
    books: Books,
    slow_start_from: Option<Instant>,
}

impl CircuitBreaker {
    /// Starts closed.
    pub fn new(policy: Policy, generation: u32, now: Instant) -> Self {
        Self {
            state: State::Closed(Closed::from(now)),
            hand: if policy.enabled { Hand::Auto } else { Hand::Disabled },
            generation,
            level: 0,
            last_wait: None,
            opened_until: None,
            books: Books::new(policy.sliding_window),
            slow_start_from: None,
            policy,
        }
    }

    /// Starts closed and in slow start, as after a panic of its actor; the operator's hand stays.
    pub fn restarted(policy: Policy, generation: u32, hand: Hand, now: Instant) -> Self {
        let breaker = Self::new(policy, generation, now);
        let hand = if breaker.policy.enabled { hand } else { Hand::Disabled };
        Self { hand, slow_start_from: Some(now), ..breaker }
    }

    /// New thresholds, from the next outcome on; nothing is judged again. A changed window starts empty. Says whether
    /// the override changed with it.
    pub fn reconfigure(&mut self, policy: Policy, now: Instant) -> Option<Change> {
        if policy.sliding_window != self.policy.sliding_window {
            self.books.resize(policy.sliding_window);
        }
        let was_enabled = std::mem::replace(&mut self.policy, policy).enabled;
        match (was_enabled, self.policy.enabled, self.hand) {
            (true, false, Hand::Auto) => self.lay(Hand::Disabled, now),
            (false, true, Hand::Disabled) => self.lay(Hand::Auto, now),
            // An operator's hand outlasts a reload.
            (
                true | false,
                true | false,
                Hand::Auto | Hand::Disabled | Hand::ForceOpen | Hand::ForceOpenUntil(_) | Hand::ForceClosed { .. },
            ) => self.close_if_proven(now),
        }
    }

    /// Probes that were too few under the former policy may be enough under this one: then no further probe has room, and
    /// none would come to close the circuit.
    fn close_if_proven(&mut self, now: Instant) -> Option<Change> {
        match &self.state {
            State::HalfOpen(half) if self.policy.half_open_calls <= half.ok => {
                Some(self.close_after_probes(now, Cause::ProbesSucceeded))
            }
            State::HalfOpen(_) | State::Open { .. } | State::Closed(_) => None,
        }
    }

    fn close_after_probes(&mut self, now: Instant, cause: Cause) -> Change {
        let change = self.enter(State::Closed(Closed::from(now)), cause);
        self.slow_start_from = self.policy.slow_start.map(|_| now);
        change
    }

    /// Its state beneath the operator's hand.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The operator's hand.
    pub fn hand(&self) -> Hand {
        self.hand
    }

    /// The word of its state as calls meet it.
    pub fn name(&self) -> StateName {
        match (self.hand, &self.state) {
            (Hand::ForceOpen | Hand::ForceOpenUntil(_), _) => StateName::Open,
            (Hand::ForceClosed { .. } | Hand::Disabled, _) | (Hand::Auto, State::Closed(_)) => StateName::Closed,
            (Hand::Auto, State::Open { .. }) => StateName::Open,
            (Hand::Auto, State::HalfOpen(_)) => StateName::HalfOpen,
        }
    }

    /// Number of changes of state or override so far.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Opens not yet forgiven.
    pub fn level(&self) -> u32 {
        self.level
    }

    /// When the ramp after closing began.
    pub fn slow_start_from(&self) -> Option<Instant> {
        self.slow_start_from
    }

    /// Length of the current run of failures.
    pub fn run(&self) -> usize {
        self.books.run()
    }

    /// Failures and resolved calls in the window.
    pub fn window(&self, now: Instant) -> (u64, u64) {
        let sums = self.books.sums(now);
        (sums.failures, sums.resolved())
    }

    /// Calls under way of which no end is known.
    pub fn pending(&self) -> usize {
        self.books.pending()
    }

    /// Whether its last calls failed, though it may be closed (spec/resilience.md 7.4).
    pub fn is_failing(&self, now: Instant) -> bool {
        self.books.is_failing(now)
    }

    /// When the machine next has something to do by itself.
    pub fn wake_at(&self) -> Option<Instant> {
        match (self.hand, &self.state) {
            (Hand::ForceOpenUntil(until), _) => Some(until),
            (Hand::ForceOpen | Hand::ForceClosed { .. } | Hand::Disabled, _) | (Hand::Auto, State::Closed(_)) => None,
            (Hand::Auto, State::Open { until }) => Some(*until),
            (Hand::Auto, State::HalfOpen(half)) => {
                let limit = self.policy.max_wait_duration_in_half_open_state.map(|limit| half.since.plus(limit));
                half.probes.iter().map(|(_, lease)| *lease).chain(limit).min()
            }
        }
    }

    /// A worker claimed the first probe: open becomes half-open.
    pub fn enter_half_open(&mut self, now: Instant) -> Change {
        self.enter(State::HalfOpen(HalfOpen::from(now)), Cause::WaitOver)
    }

    /// A worker claimed a probe of the generation that has meanwhile become something else: its permit must be late.
    pub fn skip_generation(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }

    /// Notes a call that begins. Calls of other generations say nothing, nor do calls that nobody will judge.
    pub fn begin(&mut self, start: Start) {
        match (self.hand, &self.state) {
            (Hand::Auto | Hand::ForceClosed { .. }, State::Closed(_)) if start.generation == self.generation => {
                self.books.begin(start.permit, start.started, start.kind, start.limit);
            }
            (Hand::Auto | Hand::ForceClosed { .. }, State::Closed(_) | State::Open { .. } | State::HalfOpen(_))
            | (Hand::ForceOpen | Hand::ForceOpenUntil(_) | Hand::Disabled, _) => {}
        }
    }

    /// Notes a probe's lease. Claims of other generations say nothing.
    pub fn claimed(&mut self, permit: u64, generation: u32, lease: Instant) {
        let generation_now = self.generation;
        if let State::HalfOpen(half) = &mut self.state
            && generation == generation_now
        {
            half.probes.push((permit, lease));
        }
    }

    /// The same for a probe that was sent before the open time was over.
    pub fn claimed_early(&mut self, permit: u64, generation: u32, lease: Instant) {
        self.claimed(permit, generation, lease);
        if let State::HalfOpen(half) = &mut self.state
            && generation == self.generation
        {
            half.early_until = self.opened_until.filter(|until| half.since < *until);
        }
    }

    /// Lets leases, levels and overrides pass. `jitter` is drawn from 0..1.
    pub fn advance(&mut self, now: Instant, jitter: f64) -> Advanced {
        if let Hand::ForceOpenUntil(until) = self.hand
            && until <= now
        {
            // The next claim is a probe.
            let change = self.enter(State::Open { until: now }, Cause::Override);
            self.hand = Hand::Auto;
            return Advanced { returned: 0, change: visible(change), released: true };
        }
        self.forgive(now);
        let State::HalfOpen(half) = &mut self.state else { return Advanced::default() };
        let before = half.probes.len();
        half.probes.retain(|(_, lease)| now < *lease);
        let expired = (before - half.probes.len()) as u32;
        half.expired += expired;
        let gave_up = half.expired >= EXPIRED_LEASES_THAT_OPEN;
        let too_long =
            self.policy.max_wait_duration_in_half_open_state.is_some_and(|limit| half.since.plus(limit) <= now);
        let change = match (gave_up, too_long) {
            (true, _) => Some(self.reopen(now, jitter, Cause::ProbesExpired)),
            (false, true) => Some(self.reopen(now, jitter, Cause::HalfOpenTimeout)),
            (false, false) => None,
        };
        Advanced { returned: expired, change, released: false }
    }

    /// Takes in an outcome. Says how many probe places come back and which edge it was.
    pub fn record(&mut self, record: Record, now: Instant, jitter: f64) -> Recorded {
        if record.generation != self.generation {
            return Recorded::LATE;
        }
        match (self.hand, &self.state) {
            (Hand::ForceOpen | Hand::ForceOpenUntil(_) | Hand::Disabled, _) => Recorded::NOTHING,
            (Hand::Auto | Hand::ForceClosed { .. }, State::Closed(_)) => self.record_closed(record, now, jitter),
            // Nothing of this generation can end while it is open: every outcome that comes is late.
            (Hand::Auto | Hand::ForceClosed { .. }, State::Open { .. }) => Recorded::LATE,
            (Hand::Auto | Hand::ForceClosed { .. }, State::HalfOpen(_)) => self.record_half_open(record, now, jitter),
        }
    }

    /// A stream broke after its first content had been booked as a success: a failure that began at the cut.
    pub fn record_mid_stream(&mut self, record: Record, now: Instant, jitter: f64) -> Recorded {
        let is_current = record.generation == self.generation;
        let cut = record.started.plus(record.after);
        let failure = Record { started: cut, after: Duration::ZERO, effect: Effect::Failure, ..record };
        match (self.hand, &self.state) {
            (Hand::ForceOpen | Hand::ForceOpenUntil(_) | Hand::Disabled, _) if is_current => Recorded::NOTHING,
            (Hand::ForceOpen | Hand::ForceOpenUntil(_) | Hand::Disabled, _) => Recorded::LATE,
            (Hand::Auto | Hand::ForceClosed { .. }, State::Closed(closed))
                // Also in the closed time that its own success helped to begin.
                if is_current || closed.probes.contains(&record.permit) =>
            {
                self.record_closed(failure, now, jitter)
            }
            (Hand::Auto | Hand::ForceClosed { .. }, State::HalfOpen(half))
                if is_current && half.succeeded.contains(&record.permit) =>
            {
                Recorded::changed(self.fail_probe(now, jitter))
            }
            (Hand::Auto | Hand::ForceClosed { .. }, State::Closed(_) | State::HalfOpen(_) | State::Open { .. }) => {
                Recorded::LATE
            }
        }
    }

    /// Lays an operator's hand on the breaker, or lifts it: from then on it is closed and empty beneath. The same hand again
    /// is no event, but for the time it lies there. Says what calls then meet, if that changed.
    pub fn lay(&mut self, hand: Hand, now: Instant) -> Option<Change> {
        if self.hand.name() == hand.name() {
            // What was told stays told.
            self.hand = if hand.name() == Override::ForceClosed { self.hand } else { hand };
            return None;
        }
        if self.hand == Hand::Disabled {
            self.level = 0;
        }
        let from = self.name();
        self.hand = hand;
        self.slow_start_from = None;
        let change = self.enter(State::Closed(Closed::from(now)), Cause::Override);
        visible(Change { from, ..change })
    }

    /// An operator's reset: closed, level 0.
    pub fn reset(&mut self, now: Instant) -> Option<Change> {
        self.level = 0;
        self.last_wait = None;
        self.slow_start_from = None;
        visible(self.enter(State::Closed(Closed::from(now)), Cause::Reset))
    }

    fn record_closed(&mut self, record: Record, now: Instant, jitter: f64) -> Recorded {
        self.books.end(record.permit);
        let (effect, is_slow) = self.resolve(record);
        let State::Closed(closed) = &mut self.state else { return Recorded::NOTHING };
        let entry = match effect {
            Effect::Success => {
                closed.succeeded = true;
                self.books.note_pace(record.kind, record.after);
                Entry::Success
            }
            Effect::Failure => {
                closed.failed = true;
                Entry::Failure
            }
            Effect::Gone | Effect::Cut if is_slow => Entry::Abandoned,
            Effect::Gone | Effect::Cut | Effect::Neutral | Effect::Caller | Effect::None => return Recorded::NOTHING,
        };
        self.books.book(record.started, now, entry, is_slow);
        match (self.books.trip(&self.policy, now), self.hand) {
            (None, _) | (Some(_), Hand::ForceClosed { told: true }) => Recorded::NOTHING,
            (Some(cause), Hand::ForceClosed { told: false }) => {
                self.hand = Hand::ForceClosed { told: true };
                Recorded { would_open: Some(cause), ..Recorded::NOTHING }
            }
            (Some(cause), Hand::Auto | Hand::ForceOpen | Hand::ForceOpenUntil(_) | Hand::Disabled) => {
                Recorded::changed(self.open_further(now, jitter, cause))
            }
        }
    }

    fn record_half_open(&mut self, record: Record, now: Instant, jitter: f64) -> Recorded {
        let (effect, is_slow) = self.resolve(record);
        let calls = self.policy.half_open_calls;
        let State::HalfOpen(half) = &mut self.state else { return Recorded::NOTHING };
        if !half.give_back(record.permit) {
            return Recorded::LATE;
        }
        if effect == Effect::Success {
            self.books.note_pace(record.kind, record.after);
        }
        let closes = match effect {
            Effect::Failure => return Recorded::changed(self.fail_probe(now, jitter)),
            Effect::Success | Effect::Gone | Effect::Cut if is_slow => {
                return Recorded::changed(self.fail_probe(now, jitter));
            }
            Effect::Success => {
                (half.ok, half.caller, half.expired, half.since) = (half.ok + 1, 0, 0, now);
                half.early_until = None;
                half.succeeded.push(record.permit);
                (calls <= half.ok).then_some(Cause::ProbesSucceeded)
            }
            Effect::Caller => {
                (half.caller, half.expired) = (half.caller + 1, 0);
                (CALLER_FAULTS_THAT_CLOSE <= half.caller).then_some(Cause::CallerFaults)
            }
            Effect::Neutral => {
                (half.caller, half.expired) = (0, 0);
                None
            }
            Effect::Gone | Effect::Cut | Effect::None => None,
        };
        // A probe before its time that came to nothing leaves the circuit as it was.
        if let Some(until) = half.early_until.filter(|_| closes.is_none() && half.probes.is_empty()) {
            return Recorded::changed(self.enter(State::Open { until }, Cause::ProbesExpired));
        }
        let Some(cause) = closes else { return Recorded { returned: 1, ..Recorded::NOTHING } };
        Recorded::changed(self.close_after_probes(now, cause))
    }

    /// What the effect comes to, and whether it was slow. A call that the request's deadline cut is a failure if it was
    /// overdue, and else as if the client had left: then any answer would have come later still.
    fn resolve(&self, record: Record) -> (Effect, bool) {
        let limit = self.policy.slow_call_duration;
        let took_too_long = limit.is_some_and(|limit| limit < record.after);
        let waited_too_long = limit.is_some_and(|limit| limit <= record.after);
        match record.effect {
            Effect::Success | Effect::Failure => (record.effect, took_too_long),
            Effect::Cut if self.books.is_overdue(record.kind, record.after) => (Effect::Failure, took_too_long),
            Effect::Cut | Effect::Gone => (Effect::Gone, waited_too_long),
            Effect::Neutral | Effect::Caller | Effect::None => (record.effect, false),
        }
    }

    /// A probe failed. One that was sent before its time only shows that the time was not over.
    fn fail_probe(&mut self, now: Instant, jitter: f64) -> Change {
        match &self.state {
            State::HalfOpen(half) if half.early_until.is_some() => self.reopen(now, jitter, Cause::ProbeFailed),
            State::HalfOpen(_) | State::Open { .. } | State::Closed(_) => {
                self.open_further(now, jitter, Cause::ProbeFailed)
            }
        }
    }

    /// Opens for the time of the current level, and counts one level more.
    fn open_further(&mut self, now: Instant, jitter: f64, cause: Cause) -> Change {
        let wait = open_wait(&self.policy, self.level, jitter);
        self.level = self.level.saturating_add(1);
        self.last_wait = Some(wait);
        self.enter(State::Open { until: now.plus(wait) }, cause)
    }

    /// Opens again without a verdict on the backend: for the time last used, level unchanged.
    fn reopen(&mut self, now: Instant, jitter: f64, cause: Cause) -> Change {
        let wait = self.last_wait.unwrap_or_else(|| open_wait(&self.policy, self.level, jitter));
        self.enter(State::Open { until: now.plus(wait) }, cause)
    }

    /// The one door of every change.
    fn enter(&mut self, state: State, cause: Cause) -> Change {
        let from = self.name();
        if let State::Open { until } = &state {
            self.opened_until = Some(*until);
        }
        let before = std::mem::replace(&mut self.state, state);
        if let (State::HalfOpen(half), State::Closed(closed)) = (before, &mut self.state) {
            closed.probes = half.succeeded;
        }
        self.generation = self.generation.wrapping_add(1);
        // Late outcomes must not count for or against the new state.
        self.books.clear();
        Change { from, to: self.name(), cause }
    }

    /// One level falls for each full `level_decay` spent closed, by the breaker's own decision.
    fn forgive(&mut self, now: Instant) {
        let State::Closed(closed) = &mut self.state else { return };
        if self.hand.name() != Override::Auto {
            return;
        }
        while 0 < self.level && closed.since.plus(self.policy.level_decay) <= now {
            self.level -= u32::from(closed.forgives());
            let (probes, since) = (std::mem::take(&mut closed.probes), closed.since.plus(self.policy.level_decay));
            *closed = Closed { probes, ..Closed::from(since) };
        }
    }
}

/// A change that calls can see.
fn visible(change: Change) -> Option<Change> {
    (change.from != change.to).then_some(change)
}

/// How long a circuit stays open at `level`; `jitter` in 0..1 picks the place within the spread.
fn open_wait(policy: &Policy, level: u32, jitter: f64) -> Duration {
    let base = policy.wait_duration_in_open_state;
    let cap = policy.max_wait_duration_in_open_state;
    let wait = base.saturating_mul(1_u32.checked_shl(level.min(31)).unwrap_or(u32::MAX)).min(cap);
    let spread = f64::from(policy.jitter) / WHOLE;
    // Through nanoseconds as a number: that saturates where a `Duration` would panic.
    let nanos = (wait.as_nanos() as f64 * (1.0 - spread + 2.0 * spread * jitter)) as u64;
    Duration::from_nanos(nanos).clamp(MIN_OPEN, cap.max(MIN_OPEN))
}
