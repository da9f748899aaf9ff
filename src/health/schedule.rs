//! When a backend is checked, and when that is not needed (spec/resilience.md 5).

use std::time::Duration;

use crate::clock::Instant;

/// A turn comes a tenth of the interval earlier or later, so that gateways and backends that were started together do not
/// check together.
const JITTER: f64 = 0.1;

/// Shortest gap between two turns, whatever the interval: more often would only burn the thread that all backends share.
const LEAST_GAP: Duration = Duration::from_millis(1);

/// What to do at a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Check.
    Check,
    /// The backend has served a request within the last interval: that is better evidence, and costs nothing.
    Skip,
}

/// The turns of one backend's checker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    interval: Duration,
    due: Instant,
    /// When the checker's own call last counted as a success of the backend.
    own: Instant,
}

impl Schedule {
    /// The first turn comes one interval from `now`. `chance` is drawn from 0..1.
    pub(super) fn new(interval: Duration, now: Instant, chance: f64) -> Self {
        Self { interval, due: next(interval, now, chance), own: Instant::ZERO }
    }

    /// When the next turn is.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// The turn has come: what to do, given when the backend last served a call. The next turn is one interval from `now`,
    /// however long the check takes.
    pub(super) fn turn(&mut self, now: Instant, served_at: Instant, chance: f64) -> Turn {
        self.due = next(self.interval, now, chance);
        let is_recent = served_at != Instant::ZERO && now < served_at.plus(self.interval);
        // What the check itself brought about is no traffic.
        if is_recent && served_at != self.own { Turn::Skip } else { Turn::Check }
    }

    /// The check's own call counted as a success at this moment.
    pub(super) fn note_own(&mut self, at: Instant) {
        self.own = at;
    }
}

fn next(interval: Duration, now: Instant, chance: f64) -> Instant {
    let nanos = interval.as_nanos().min(u128::from(u64::MAX)) as f64;
    let gap = Duration::from_nanos((nanos * (1.0 - JITTER + 2.0 * JITTER * chance)) as u64);
    now.plus(gap.max(LEAST_GAP))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: Instant = Instant::from_nanos(86_400_000_000_000);
    const INTERVAL: Duration = Duration::from_secs(30);

    fn at(seconds: u64) -> Instant {
        START.plus(Duration::from_secs(seconds))
    }

    #[test]
    fn turns_come_an_interval_apart_give_or_take_a_tenth() {
        for (chance, millis) in [(0.0, 27_000), (0.5, 30_000), (1.0, 33_000)] {
            let mut schedule = Schedule::new(INTERVAL, START, chance);
            let gap =
                |schedule: &Schedule, from: Instant| (schedule.due().since(from).as_nanos() + 500_000) / 1_000_000;
            assert_eq!(gap(&schedule, START), millis);
            let first = schedule.due();
            schedule.turn(first, Instant::ZERO, chance);
            assert_eq!(gap(&schedule, first), millis);
        }
    }

    #[test]
    fn a_backend_that_has_just_served_is_not_checked() {
        // Seconds of the turn, of the backend's last success, of the checker's own; and whether it is checked.
        let table = [
            (30, None, None, Turn::Check),
            (30, Some(0), None, Turn::Check),
            (30, Some(1), None, Turn::Skip),
            (30, Some(29), Some(2), Turn::Skip),
            (30, Some(2), Some(2), Turn::Check),
            (90, Some(59), None, Turn::Check),
        ];
        for (turn, served, own, expected) in table {
            let mut schedule = Schedule::new(INTERVAL, START, 0.5);
            schedule.note_own(own.map_or(Instant::ZERO, at));
            let seen = schedule.turn(at(turn), served.map_or(Instant::ZERO, at), 0.5);
            assert_eq!(seen, expected, "{turn} {served:?} {own:?}");
        }
    }

    proptest! {
        #[test]
        fn no_turn_is_lost_and_none_overflows(
            interval in 1..=u64::MAX,
            gaps in proptest::collection::vec((0..u64::MAX / 64, 0.0..1.0_f64), 1..60),
        ) {
            let interval = Duration::from_nanos(interval);
            let mut now = START;
            let mut schedule = Schedule::new(interval, now, 0.5);
            for (gap, chance) in gaps {
                now = now.plus(Duration::from_nanos(gap));
                schedule.turn(now, now.minus(Duration::from_nanos(gap)), chance);
                prop_assert!(now < schedule.due() || now == Instant::NEVER);
                let most = interval.mul_f64(1.0 + JITTER).max(LEAST_GAP).saturating_add(Duration::from_micros(2));
                prop_assert!(schedule.due().since(now) <= most);
            }
        }
    }
}
