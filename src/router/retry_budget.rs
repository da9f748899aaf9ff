//! How much a route's extra attempts may add to the load on its backends (spec/resilience.md 7.4).
//!
//! One per route, shared by all workers.

use super::window::{WHOLE, Window};
use crate::clock::Instant;
use crate::config::RoutePolicy;

/// Requests and extra attempts of one route in the last ten seconds.
#[derive(Debug, Default)]
pub struct RetryBudget(Window<1>);

impl RetryBudget {
    /// A request has come that is not itself an SDK's retry.
    pub fn count_request(&self, now: Instant) {
        self.0.count_request(now);
    }

    /// An extra attempt begins that needs no leave.
    pub fn count_extra(&self, now: Instant) {
        self.0.count_extra(now);
    }

    /// Takes leave for one extra attempt, by the policy's `min_retries` and `budget_ratio`.
    pub fn try_extra(&self, policy: &RoutePolicy, now: Instant) -> bool {
        let (least, ratio) = (u64::from(policy.retry_budget_min), u64::from(policy.retry_budget_ratio));
        self.0.try_extra(now, |requests, extras| WHOLE * extras <= WHOLE * least + ratio * requests)
    }

    /// An extra attempt that was counted at `at` has not been made after all.
    pub fn give_back(&self, at: Instant) {
        self.0.give_back(at);
    }

    /// Extra attempts for which leave would be given now, if no request came meanwhile.
    pub fn left(&self, policy: &RoutePolicy, now: Instant) -> u64 {
        let (requests, extras) = self.0.totals(now);
        let allowed = u64::from(policy.retry_budget_min) + u64::from(policy.retry_budget_ratio) * requests / WHOLE;
        allowed.saturating_sub(extras)
    }

    /// Requests and extra attempts of the last ten seconds.
    pub fn totals(&self, now: Instant) -> (u64, u64) {
        self.0.totals(now)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use super::*;

    const START: Instant = Instant::from_nanos(1_000_000_000_000);

    fn policy(min: u32, ratio: u32) -> RoutePolicy {
        RoutePolicy { retry_budget_min: min, retry_budget_ratio: ratio, ..RoutePolicy::default() }
    }

    #[test]
    fn what_is_left_is_what_would_be_given() {
        for (min, ratio, requests) in [(0, 0, 9), (3, 0, 0), (0, 2_500, 10), (2, 1_000, 37)] {
            let (budget, policy) = (RetryBudget::default(), policy(min, ratio));
            (0..requests).for_each(|_| budget.count_request(START));
            let left = budget.left(&policy, START);
            let given = (0..100).take_while(|_| budget.try_extra(&policy, START)).count();
            assert_eq!((left, budget.left(&policy, START)), (given as u64, 0), "{min} {ratio} {requests}");
        }
    }

    /// Steps of "second what": `R` a request, `X` an extra attempt without leave, `+` leave is given, `-` it is not.
    fn check(policy: &RoutePolicy, script: &str) {
        let budget = RetryBudget::default();
        for step in script.split(", ") {
            let (seconds, what) = step.split_once(' ').unwrap();
            let now = START.plus(Duration::from_secs(seconds.parse().unwrap()));
            for what in what.chars() {
                match what {
                    'R' => budget.count_request(now),
                    'X' => budget.count_extra(now),
                    '+' => assert!(budget.try_extra(policy, now), "{step} of {script}"),
                    '-' => assert!(!budget.try_extra(policy, now), "{step} of {script}"),
                    other => unreachable!("{other}"),
                }
            }
        }
    }

    #[test]
    fn extra_attempts_need_requests_or_the_least_that_is_always_allowed() {
        let usual = policy(3, 2_000);
        check(&usual, "0 +++-, 0 RRRR-, 0 R+-, 5 RRRRR+-");
        check(&policy(0, 2_000), "0 -, 0 RRRRR+-");
        check(&policy(0, 0), "0 RRRRRRRRRR-");
        check(&policy(0, 10_000), "0 RR++-");
    }

    #[test]
    fn what_is_exempt_counts_against_what_is_not() {
        check(&policy(3, 2_000), "0 XX+-, 0 XXX-, 1 RRRRRRRRRRRRRRRRRRRR+-");
    }

    #[test]
    fn ten_seconds_later_it_is_forgotten() {
        check(&policy(3, 2_000), "0 +++-, 9 -, 10 +++-, 19 -, 20 +");
        check(&policy(0, 2_000), "0 RRRRR, 9 +-, 10 -, 18 R, 19 RRRR+-");
    }

    #[test]
    fn workers_at_once_never_get_more_than_there_is() {
        let budget = RetryBudget::default();
        let policy = policy(3, 2_000);
        (0..500).for_each(|_| budget.count_request(START));
        let granted = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let mine = (0..1_000).filter(|_| budget.try_extra(&policy, START)).count();
                    granted.fetch_add(mine as u64, Ordering::Relaxed);
                });
            }
        });
        assert_eq!((granted.into_inner(), budget.totals(START)), (103, (500, 103)));
    }
}
