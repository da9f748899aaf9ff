//! Closed, open, half-open: when a backend is not called, and how it comes back (spec/resilience.md 3).
//!
//! The machine is pure: it is handed `now`, the start of each attempt, and its jitter. Outcomes are booked by the *start* of
//! their attempt, because successes of language models take seconds and failures milliseconds: judged by their end, an
//! outage starts late and a cold start looks like one.

use std::collections::VecDeque;
use std::time::Duration;

use super::outcome::Effect;
use crate::clock::Instant;
use crate::config::CircuitBreaker as Policy;

/// Buckets of the sliding window.
const BUCKETS: u64 = 10;

/// Starts of failures kept for the run; far beyond any threshold.
const MAX_RUN: usize = 4_096;

/// Caller faults in a row that prove a half-open backend alive.
const CALLER_FAULTS_THAT_CLOSE: u32 = 3;

/// Expired leases in a row after which half-open gives up.
const EXPIRED_LEASES_THAT_OPEN: u32 = 3;

/// No open time is shorter.
const MIN_OPEN: Duration = Duration::from_secs(1);

/// Whole of a ratio kept in 1/10 000.
const WHOLE: u64 = 10_000;

/// The state, with the data that is true in it.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// Calls pass.
    Closed {
        /// Since when, for forgiving levels and slow start.
        since: Instant,
    },
    /// No call passes before `until`.
    Open {
        /// When the first probe may go.
        until: Instant,
    },
    /// A few probes pass.
    HalfOpen(HalfOpen),
}

/// The data of a half-open circuit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HalfOpen {
    /// When it was entered.
    pub since: Instant,
    /// Successes so far.
    pub ok: u32,
    /// Caller faults in a row.
    pub caller: u32,
    /// Expired leases in a row.
    pub expired: u32,
    /// Probes under way: permit number and end of its right.
    pub probes: Vec<(u64, Instant)>,
}

/// The stable word of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StateName {
    /// Calls pass.
    Closed,
    /// Probes pass.
    HalfOpen,
    /// No call passes.
    Open,
}

impl StateName {
    /// For logs and labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }
}

/// Why the circuit changed (spec/observability.md 1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Failures in a row.
    Run,
    /// Share of failures.
    Ratio,
    /// Share of slow calls.
    Slow,
    /// The open time is over.
    WaitOver,
    /// Probes succeeded.
    ProbesSucceeded,
    /// Probes were answered with caller faults.
    CallerFaults,
    /// A probe failed.
    ProbeFailed,
    /// Probes brought no outcome by their lease.
    ProbesExpired,
    /// Half-open lasted too long.
    HalfOpenTimeout,
    /// An operator's reset.
    Reset,
    /// The actor was re-created after a panic.
    ActorRestart,
}

impl Cause {
    /// For logs and labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Ratio => "ratio",
            Self::Slow => "slow",
            Self::WaitOver => "wait_over",
            Self::ProbesSucceeded => "probes_succeeded",
            Self::CallerFaults => "caller_faults",
            Self::ProbeFailed => "probe_failed",
            Self::ProbesExpired => "probes_expired",
            Self::HalfOpenTimeout => "half_open_timeout",
            Self::Reset => "reset",
            Self::ActorRestart => "actor_restart",
        }
    }
}

/// One edge of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// From which state.
    pub from: StateName,
    /// To which state.
    pub to: StateName,
    /// Why.
    pub cause: Cause,
}

/// One outcome as it is told to the machine.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// The permit's number.
    pub permit: u64,
    /// The permit's generation.
    pub generation: u32,
    /// When the attempt began.
    pub started: Instant,
    /// Whether it took longer than `slow_call_duration`.
    pub slow: bool,
    /// What it means.
    pub effect: Effect,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    epoch: u64,
    successes: u64,
    failures: u64,
    slow: u64,
}

/// The circuit breaker of one backend.
#[derive(Clone, Debug)]
pub struct CircuitBreaker {
    policy: Policy,
    state: State,
    generation: u32,
    level: u32,
    last_wait: Option<Duration>,
    buckets: [Bucket; BUCKETS as usize],
    /// Starts of failures later than the latest start of a success, ascending.
    run: VecDeque<Instant>,
    last_ok_start: Instant,
    slow_start_from: Option<Instant>,
    /// Results that no longer counted.
    late: u64,
}

impl CircuitBreaker {
    /// Starts closed.
    pub fn new(policy: Policy, generation: u32, now: Instant) -> Self {
        Self {
            policy,
            state: State::Closed { since: now },
            generation,
            level: 0,
            last_wait: None,
            buckets: [Bucket::default(); BUCKETS as usize],
            run: VecDeque::new(),
            last_ok_start: Instant::ZERO,
            slow_start_from: None,
            late: 0,
        }
    }

    /// Starts closed and in slow start, as after a panic of its actor.
    pub fn restarted(policy: Policy, generation: u32, now: Instant) -> Self {
        let mut breaker = Self::new(policy, generation, now);
        breaker.slow_start_from = Some(now);
        breaker
    }

    /// New thresholds, from the next outcome on. A changed window starts empty.
    pub fn reconfigure(&mut self, policy: Policy) {
        if policy.sliding_window != self.policy.sliding_window {
            self.buckets = [Bucket::default(); BUCKETS as usize];
        }
        self.policy = policy;
    }

    /// Its policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Its state.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Its state's word.
    pub fn name(&self) -> StateName {
        match self.state {
            State::Closed { .. } => StateName::Closed,
            State::Open { .. } => StateName::Open,
            State::HalfOpen(_) => StateName::HalfOpen,
        }
    }

    /// Number of state changes so far.
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
        self.run.len()
    }

    /// Results of earlier generations so far.
    pub fn late(&self) -> u64 {
        self.late
    }

    /// Failures and resolved calls in the window.
    pub fn window(&self, now: Instant) -> (u64, u64) {
        let (successes, failures, _) = self.sums(now);
        (failures, successes + failures)
    }

    /// When the machine next has something to do by itself.
    pub fn wake_at(&self) -> Option<Instant> {
        match &self.state {
            State::Closed { .. } => None,
            State::Open { until } => Some(*until),
            State::HalfOpen(half) => {
                let limit = self.policy.max_wait_duration_in_half_open_state.map(|limit| half.since.plus(limit));
                half.probes.iter().map(|(_, lease)| *lease).chain(limit).min()
            }
        }
    }

    /// A worker claimed the first probe: open becomes half-open.
    pub fn enter_half_open(&mut self, now: Instant) -> Change {
        self.enter(State::HalfOpen(HalfOpen { since: now, ..HalfOpen::default() }), Cause::WaitOver)
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

    /// Lets leases and levels pass. `jitter` is drawn from 0..1.
    pub fn advance(&mut self, now: Instant, jitter: f64) -> Advanced {
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
        Advanced { returned: expired, change }
    }

    /// Takes in an outcome. Says how many probe places come back and which edge it was.
    pub fn record(&mut self, record: Record, now: Instant, jitter: f64) -> Recorded {
        if record.generation != self.generation {
            self.late += 1;
            return Recorded::default();
        }
        match &self.state {
            State::Closed { .. } => Recorded { change: self.record_closed(record, now, jitter), ..Recorded::default() },
            // Nothing of this generation can end while it is open: every outcome that comes is late.
            State::Open { .. } => {
                self.late += 1;
                Recorded::default()
            }
            State::HalfOpen(_) => self.record_half_open(record, now, jitter),
        }
    }

    /// A stream broke after its first content had been booked as a success: a failure dated at the cut.
    pub fn record_mid_stream(&mut self, generation: u32, now: Instant, jitter: f64) -> Option<Change> {
        let is_current = generation == self.generation;
        let closed = matches!(self.state, State::Closed { .. });
        // The closed period that its own success may have begun.
        let followed = closed && generation.wrapping_add(1) == self.generation;
        match (&self.state, is_current || followed) {
            (State::Closed { .. }, true) => {
                let generation = self.generation;
                let effect = Effect::Failure;
                self.record_closed(Record { permit: 0, generation, started: now, slow: false, effect }, now, jitter)
            }
            (State::HalfOpen(_), true) => Some(self.open_further(now, jitter, Cause::ProbeFailed)),
            (State::Closed { .. } | State::HalfOpen(_), false) | (State::Open { .. }, _) => {
                self.late += 1;
                None
            }
        }
    }

    /// An operator's reset: closed, level 0.
    pub fn reset(&mut self, now: Instant) -> Option<Change> {
        self.level = 0;
        self.slow_start_from = None;
        let was_closed = matches!(self.state, State::Closed { .. });
        let change = self.enter(State::Closed { since: now }, Cause::Reset);
        (!was_closed).then_some(change)
    }

    /// A new generation without a change of state: an override came or went.
    pub fn renew(&mut self) {
        self.generation = self.generation.wrapping_add(1);
        self.forget();
    }

    fn record_closed(&mut self, record: Record, now: Instant, jitter: f64) -> Option<Change> {
        if !self.policy.enabled {
            return None;
        }
        match record.effect {
            Effect::Success => self.book(record, now, false),
            Effect::Failure => self.book(record, now, true),
            Effect::Neutral | Effect::Caller | Effect::None => return None,
        }
        let cause = self.trip(now)?;
        Some(self.open_further(now, jitter, cause))
    }

    fn record_half_open(&mut self, record: Record, now: Instant, jitter: f64) -> Recorded {
        let calls = self.policy.half_open_calls;
        let State::HalfOpen(half) = &mut self.state else { return Recorded::default() };
        let before = half.probes.len();
        half.probes.retain(|(permit, _)| *permit != record.permit);
        if half.probes.len() == before {
            self.late += 1;
            return Recorded::default();
        }
        let effect = if record.slow && record.effect != Effect::Neutral && record.effect != Effect::Caller {
            Effect::Failure
        } else {
            record.effect
        };
        let closes = match effect {
            Effect::Failure => {
                let change = self.open_further(now, jitter, Cause::ProbeFailed);
                return Recorded { returned: 0, change: Some(change) };
            }
            Effect::Success => {
                (half.ok, half.caller, half.expired) = (half.ok + 1, 0, 0);
                (half.ok >= calls).then_some(Cause::ProbesSucceeded)
            }
            Effect::Caller => {
                (half.caller, half.expired) = (half.caller + 1, 0);
                (half.caller >= CALLER_FAULTS_THAT_CLOSE).then_some(Cause::CallerFaults)
            }
            Effect::Neutral => {
                (half.caller, half.expired) = (0, 0);
                None
            }
            Effect::None => None,
        };
        let Some(cause) = closes else { return Recorded { returned: 1, change: None } };
        let change = self.enter(State::Closed { since: now }, cause);
        self.slow_start_from = self.policy.slow_start.map(|_| now);
        Recorded { returned: 0, change: Some(change) }
    }

    /// The first trip rule that is true (spec/resilience.md 3.4).
    fn trip(&self, now: Instant) -> Option<Cause> {
        if self.policy.consecutive_failures.is_some_and(|limit| self.run.len() >= limit as usize) {
            return Some(Cause::Run);
        }
        let (successes, failures, slow) = self.sums(now);
        let resolved = successes + failures;
        if resolved < u64::from(self.policy.minimum_calls) {
            return None;
        }
        let over = |count: u64, threshold: u32| count * WHOLE >= u64::from(threshold) * resolved;
        if self.policy.failure_rate_threshold.is_some_and(|threshold| over(failures, threshold)) {
            return Some(Cause::Ratio);
        }
        let slow_rule = self.policy.slow_call_duration.is_some();
        (slow_rule && over(slow, self.policy.slow_call_rate_threshold)).then_some(Cause::Slow)
    }

    fn book(&mut self, record: Record, now: Instant, failed: bool) {
        let bucket_nanos = self.bucket_nanos();
        let epoch = record.started.as_nanos() / bucket_nanos;
        let newest = now.as_nanos() / bucket_nanos;
        if epoch <= newest && newest - epoch < BUCKETS {
            let bucket = &mut self.buckets[(epoch % BUCKETS) as usize];
            if bucket.epoch != epoch {
                *bucket = Bucket { epoch, ..Bucket::default() };
            }
            bucket.failures += u64::from(failed);
            bucket.successes += u64::from(!failed);
            bucket.slow += u64::from(record.slow);
        }
        if failed {
            self.extend_run(record.started);
        } else {
            self.last_ok_start = self.last_ok_start.max(record.started);
            // A success cancels only failures of attempts that began no later than its own.
            let ok = self.last_ok_start;
            self.run.retain(|start| ok < *start);
        }
    }

    fn extend_run(&mut self, started: Instant) {
        if started <= self.last_ok_start {
            return;
        }
        if self.run.len() == MAX_RUN {
            self.run.pop_front();
        }
        let at = self.run.partition_point(|start| *start <= started);
        self.run.insert(at, started);
    }

    fn sums(&self, now: Instant) -> (u64, u64, u64) {
        let newest = now.as_nanos() / self.bucket_nanos();
        let live = self.buckets.iter().filter(|bucket| bucket.epoch <= newest && newest - bucket.epoch < BUCKETS);
        live.fold((0, 0, 0), |sum, bucket| (sum.0 + bucket.successes, sum.1 + bucket.failures, sum.2 + bucket.slow))
    }

    fn bucket_nanos(&self) -> u64 {
        (self.policy.sliding_window.as_nanos() as u64).div_ceil(BUCKETS).max(1)
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
        self.state = state;
        self.generation = self.generation.wrapping_add(1);
        self.forget();
        Change { from, to: self.name(), cause }
    }

    fn forget(&mut self) {
        self.buckets = [Bucket::default(); BUCKETS as usize];
        self.run.clear();
        self.last_ok_start = Instant::ZERO;
    }

    /// One level falls for each full `level_decay` spent closed.
    fn forgive(&mut self, now: Instant) {
        let State::Closed { since } = &mut self.state else { return };
        while self.level > 0 && since.plus(self.policy.level_decay) <= now && self.run.is_empty() {
            *since = since.plus(self.policy.level_decay);
            self.level -= 1;
        }
    }
}

/// What passing time did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Advanced {
    /// Probe places that come back.
    pub returned: u32,
    /// The edge, if it was one.
    pub change: Option<Change>,
}

/// What an outcome did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Recorded {
    /// Probe places that come back within the same generation.
    pub returned: u32,
    /// The edge, if it was one.
    pub change: Option<Change>,
}

/// How long a circuit stays open at `level`; `jitter` in 0..1 picks the place within the spread.
fn open_wait(policy: &Policy, level: u32, jitter: f64) -> Duration {
    let base = policy.wait_duration_in_open_state;
    let cap = policy.max_wait_duration_in_open_state;
    let wait = base.saturating_mul(1_u32.checked_shl(level.min(31)).unwrap_or(u32::MAX)).min(cap);
    let spread = f64::from(policy.jitter) / WHOLE as f64;
    wait.mul_f64(1.0 - spread + 2.0 * spread * jitter).clamp(MIN_OPEN, cap.max(MIN_OPEN))
}
