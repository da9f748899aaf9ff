//! When the next token is asked for. Pure.

use std::time::Duration;

use crate::provider::token::LONGEST;

/// A token is renewed this long before its end, as Azure's own SDKs do, or halfway if it lives shorter than twice that.
const MARGIN: Duration = Duration::from_secs(300);

/// Up to this part of the time until then is left out by chance, so that gateways started together do not ask together.
const SPREAD: f64 = 0.1;

/// Waits after failures: the first, and the longest.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// When the next token is asked for.
#[derive(Debug, Default)]
pub(super) struct Renewal {
    failures: u32,
}

impl Renewal {
    /// The wait after a token that lives for `lifetime`; `refresh_in` is what the authority said itself. `jitter` is drawn from
    /// 0..1.
    pub(super) fn after_success(&mut self, lifetime: Duration, refresh_in: Option<Duration>, jitter: f64) -> Duration {
        self.failures = 0;
        let lifetime = lifetime.min(LONGEST);
        let own = lifetime.saturating_sub(MARGIN).max(lifetime / 2);
        refresh_in.unwrap_or(own).min(own).mul_f64(1.0 - SPREAD * jitter)
    }

    /// The wait after an attempt that brought none: doubled each time, half of it by chance.
    pub(super) fn after_failure(&mut self, jitter: f64) -> Duration {
        let (first, longest) = BACK_OFF;
        let wait = first.saturating_mul(1 << self.failures.min(16)).min(longest);
        self.failures = self.failures.saturating_add(1);
        wait.mul_f64(0.5 + 0.5 * jitter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_token_is_renewed_before_its_end_and_a_failure_is_retried_ever_later() {
        let mut renewal = Renewal::default();
        assert_eq!(renewal.after_success(seconds(3_600), None, 0.0), seconds(3_300));
        assert_eq!(renewal.after_success(seconds(3_600), None, 1.0), seconds(2_970));
        assert_eq!(renewal.after_success(seconds(400), None, 0.0), seconds(200));
        assert_eq!(renewal.after_success(seconds(86_400), Some(seconds(43_200)), 0.0), seconds(43_200));
        assert_eq!(renewal.after_success(seconds(60), Some(seconds(600)), 0.0), seconds(30), "never after its end");
        assert_eq!(renewal.after_success(Duration::MAX, None, 0.0), seconds(86_100));
        let waits: Vec<f64> = (0..9).map(|_| renewal.after_failure(1.0).as_secs_f64()).collect();
        assert_eq!(waits, [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]);
        renewal.after_success(seconds(60), None, 0.0);
        assert_eq!(renewal.after_failure(0.0), Duration::from_millis(500));
    }
}
