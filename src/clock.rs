//! Time as a plain value, and the one place that reads a clock.
//!
//! The decision core is handed `now` as an [`Instant`]: nanoseconds since an origin that lies a day before the process's
//! first reading, so that a test or a subtraction near the start never meets zero. Arithmetic saturates: no jump of a clock
//! may panic or wedge a breaker (spec/resilience.md, arithmetic).

use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A monotonic point in time, in nanoseconds since the process's origin. Zero is earlier than any reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The point before all others; cells use it for "not set".
    pub const ZERO: Self = Self(0);
    /// The point after all others: a deadline that never comes.
    pub const NEVER: Self = Self(u64::MAX);

    /// Takes a number of nanoseconds since the origin, as read from an atomic or written in a test.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// The nanoseconds since the origin, for storing in an atomic.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to here, zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The later point `wait` from here; stays at [`Instant::NEVER`] on overflow.
    pub const fn plus(self, wait: Duration) -> Self {
        let nanos = wait.as_nanos();
        if nanos > u64::MAX as u128 { Self::NEVER } else { Self(self.0.saturating_add(nanos as u64)) }
    }

    /// The earlier point `span` before here, at least [`Instant::ZERO`].
    pub const fn minus(self, span: Duration) -> Self {
        let nanos = span.as_nanos();
        if nanos > u64::MAX as u128 { Self::ZERO } else { Self(self.0.saturating_sub(nanos as u64)) }
    }
}

/// How far the origin lies before the first reading.
const HEAD_START: Duration = Duration::from_secs(86_400);

fn origin() -> tokio::time::Instant {
    static ORIGIN: OnceLock<tokio::time::Instant> = OnceLock::new();
    #[expect(clippy::disallowed_methods, reason = "this file is the clock")]
    *ORIGIN.get_or_init(tokio::time::Instant::now)
}

/// Reads the monotonic clock; under tokio's paused time it reads that.
pub fn now() -> Instant {
    let origin = origin();
    #[expect(clippy::disallowed_methods, reason = "this file is the clock")]
    let now = tokio::time::Instant::now();
    reading(now, origin)
}

/// A reading as a point. Paused clocks of other runtimes may be behind the one that was read first; all others go the way of
/// one subtraction, since a request reads the clock ten times.
fn reading(now: tokio::time::Instant, origin: tokio::time::Instant) -> Instant {
    let first = Instant::ZERO.plus(HEAD_START);
    match now.checked_duration_since(origin) {
        Some(since) => first.plus(since),
        None => first.minus(origin.saturating_duration_since(now)),
    }
}

/// The same point for tokio's timers.
pub fn to_tokio(at: Instant) -> tokio::time::Instant {
    /// Timers beyond a year never fire in practice; tokio's wheel and its arithmetic stay far from overflow.
    const FARTHEST: Duration = Duration::from_secs(365 * 86_400);
    let first = Instant::ZERO.plus(HEAD_START);
    let later = origin() + at.since(first).min(FARTHEST);
    later.checked_sub(first.since(at)).unwrap_or(later)
}

/// Wall-clock time since the Unix epoch: for HTTP dates, epoch values and log lines only.
pub fn unix_now() -> Duration {
    #[expect(clippy::disallowed_methods, reason = "this file is the clock")]
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates() {
        let at = Instant::from_nanos(5);
        assert_eq!(at.since(Instant::from_nanos(9)), Duration::ZERO);
        assert_eq!(at.plus(Duration::MAX), Instant::NEVER);
        assert_eq!(at.minus(Duration::MAX), Instant::ZERO);
        assert_eq!(at.plus(Duration::from_nanos(4)).since(at), Duration::from_nanos(4));
    }

    #[test]
    fn a_clock_behind_the_first_reading_goes_on_all_the_same() {
        let origin = origin();
        let (first, second) = (Instant::ZERO.plus(HEAD_START), Duration::from_secs(1));
        assert_eq!(reading(origin, origin), first);
        assert_eq!(reading(origin - second, origin), first.minus(second));
        assert_eq!(reading(origin + second, origin), first.plus(second));
        for point in [first.minus(second), first, first.plus(second)] {
            assert_eq!(reading(to_tokio(point), origin), point);
        }
    }

    #[test]
    fn now_is_monotonic_and_converts() {
        let first = now();
        let second = now();
        assert!(first <= second);
        assert!(to_tokio(second) >= to_tokio(first));
    }
}
