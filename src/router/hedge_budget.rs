//! How many of a route's requests may be hedged (spec/resilience.md 7.6).
//!
//! One per route, shared by all workers, beside the retry budget, which a hedge needs as well. Its window is longer: at the
//! usual 5 % a hedge takes twenty requests, and a quiet route does not have them in ten seconds.

use super::window::{WHOLE, Window};
use crate::clock::Instant;
use crate::config::Hedge;

/// Requests and hedges of one route in the last minute.
#[derive(Debug, Default)]
pub struct HedgeBudget(Window<6>);

impl HedgeBudget {
    /// A request has come to a route that hedges.
    pub fn count_request(&self, now: Instant) {
        self.0.count_request(now);
    }

    /// Takes leave for one hedge, by the policy's `max_extra`.
    pub fn try_hedge(&self, policy: &Hedge, now: Instant) -> bool {
        self.0.try_extra(now, |requests, hedges| WHOLE * hedges <= u64::from(policy.max_extra) * requests)
    }

    /// A hedge that was counted at `at` has not been made after all.
    pub fn give_back(&self, at: Instant) {
        self.0.give_back(at);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const START: Instant = Instant::from_nanos(1_000_000_000_000);

    /// Steps of "second what": so many requests come, and so many hedges of a hundred wishes are granted.
    fn check(max_extra: u32, script: &[(u64, u32, u32)]) {
        let policy = Hedge { min_delay: Duration::from_secs(1), max_extra };
        let budget = HedgeBudget::default();
        for (seconds, requests, expected) in script {
            let now = START.plus(Duration::from_secs(*seconds));
            (0..*requests).for_each(|_| budget.count_request(now));
            let granted = (0..100).filter(|_| budget.try_hedge(&policy, now)).count();
            assert_eq!(granted as u32, *expected, "{seconds} of {script:?}");
        }
    }

    #[test]
    fn hedges_are_a_share_of_the_requests_of_a_minute() {
        check(500, &[(0, 19, 0), (1, 1, 1), (2, 19, 0), (3, 21, 2)]);
        check(500, &[(0, 40, 2), (30, 40, 2), (65, 0, 0), (70, 20, 1)]);
        check(10_000, &[(0, 3, 3), (0, 1, 1)]);
        check(1, &[(0, 9_999, 0), (0, 1, 1)]);
    }

    #[test]
    fn what_is_given_back_is_there_again() {
        let policy = Hedge { min_delay: Duration::from_secs(1), max_extra: 10_000 };
        let budget = HedgeBudget::default();
        budget.count_request(START);
        assert!(budget.try_hedge(&policy, START) && !budget.try_hedge(&policy, START));
        budget.give_back(START);
        assert!(budget.try_hedge(&policy, START));
    }
}
