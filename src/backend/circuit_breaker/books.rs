//! What a closed circuit remembers of its calls, and the rules by which that opens it (spec/resilience.md 3.3, 3.4).

use std::time::Duration;

use super::pace::{Kind, Pace};
use super::pending::Pending;
use super::run::Run;
use super::state::Cause;
use super::window::{Entry, Sums, Window};
use crate::clock::Instant;
use crate::config::CircuitBreaker as Policy;

/// Whole of a ratio kept in 1/10 000.
const WHOLE: u64 = 10_000;

/// Tenths of all calls since a run began that a short run must make up. With fewer, five fast failures among any ten
/// neighbours would open a backend whose successes are merely slower than its failures.
const SHORT_RUN_TENTHS: u64 = 8;

/// The same for a long run. With more, a failure of 60 % of long calls would stay unseen.
const LONG_RUN_TENTHS: u64 = 5;

/// A run is long from so many times its threshold on.
const LONG_RUN: u64 = 3;

/// The calls of one generation, and the pace of all.
#[derive(Clone, Debug)]
pub(super) struct Books {
    window: Window,
    run: Run,
    pending: Pending,
    pace: Pace,
}

impl Books {
    /// Empty books with a window of this length.
    pub(super) fn new(window: Duration) -> Self {
        Self { window: Window::new(window), run: Run::default(), pending: Pending::default(), pace: Pace::default() }
    }

    /// A window of another length; it starts empty.
    pub(super) fn resize(&mut self, window: Duration) {
        self.window = Window::new(window);
    }

    /// A new generation. How long calls take has not changed by that.
    pub(super) fn clear(&mut self) {
        self.window.clear();
        self.run.clear();
        self.pending.clear();
    }

    /// A call began.
    pub(super) fn begin(&mut self, permit: u64, started: Instant, kind: Kind, limit: Duration) {
        self.pending.begin(permit, started, kind, limit);
    }

    /// A call ended.
    pub(super) fn end(&mut self, permit: u64) {
        self.pending.end(permit);
    }

    /// A success took this long.
    pub(super) fn note_pace(&mut self, kind: Kind, after: Duration) {
        self.pace.note(kind, after);
    }

    /// Whether a call waited longer than successes lead one to expect; not, while too little is known.
    pub(super) fn is_overdue(&self, kind: Kind, after: Duration) -> bool {
        self.pace.expected().of(kind).is_some_and(|expected| expected < after)
    }

    /// Books what came of a call that began at `started`.
    pub(super) fn book(&mut self, started: Instant, now: Instant, entry: Entry, is_slow: bool) {
        self.window.book(started, now, entry, is_slow);
        match entry {
            Entry::Success => self.run.succeed(started),
            Entry::Failure => self.run.fail(started),
            Entry::Abandoned => {}
        }
    }

    /// Length of the run.
    pub(super) fn run(&self) -> usize {
        self.run.len()
    }

    /// What lies in the window.
    pub(super) fn sums(&self, now: Instant) -> Sums {
        self.window.sums(now)
    }

    /// Calls under way.
    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Whether at least half of the calls since the run began have failed (spec/resilience.md 7.4).
    pub(super) fn is_failing(&self, now: Instant) -> bool {
        self.run.began().is_some_and(|began| self.run_makes_up(LONG_RUN_TENTHS, began, now))
    }

    /// The first rule that is true.
    pub(super) fn trip(&self, policy: &Policy, now: Instant) -> Option<Cause> {
        let sums = self.sums(now);
        match () {
            () if self.run_trips(policy, now) => Some(Cause::Run),
            () if self.ratio_trips(policy, sums, now) => Some(Cause::Ratio),
            () if slow_trips(policy, sums) => Some(Cause::Slow),
            () => None,
        }
    }

    fn run_trips(&self, policy: &Policy, now: Instant) -> bool {
        let (Some(limit), Some(began)) = (policy.consecutive_failures, self.run.began()) else { return false };
        let (run, limit) = (self.run.len() as u64, u64::from(limit));
        let tenths = if run < LONG_RUN * limit { SHORT_RUN_TENTHS } else { LONG_RUN_TENTHS };
        limit <= run && self.run_makes_up(tenths, began, now)
    }

    fn run_makes_up(&self, tenths: u64, began: Instant, now: Instant) -> bool {
        let run = self.run.len() as u64;
        tenths * (run + self.young(began, now)) <= run * 10
    }

    fn ratio_trips(&self, policy: &Policy, sums: Sums, now: Instant) -> bool {
        let Some(threshold) = policy.failure_rate_threshold else { return false };
        let over = |calls: u64| u64::from(threshold) * calls <= sums.failures * WHOLE;
        // Young calls can only speak against it: they are counted where it is true without them.
        u64::from(policy.minimum_calls) <= sums.resolved()
            && over(sums.resolved())
            && over(sums.resolved() + self.young(self.window.begins(now), now))
    }

    fn young(&self, from: Instant, now: Instant) -> u64 {
        self.pending.young(from, now, self.pace.expected())
    }
}

fn slow_trips(policy: &Policy, sums: Sums) -> bool {
    let (slow, calls) = (sums.slow + sums.abandoned, sums.resolved() + sums.abandoned);
    policy.slow_call_duration.is_some()
        && u64::from(policy.minimum_calls) <= calls
        && u64::from(policy.slow_call_rate_threshold) * calls <= slow * WHOLE
}
