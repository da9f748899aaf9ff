//! How much a route's extra attempts may add to the load on its backends (spec/resilience.md 7.4).
//!
//! One per route, shared by all workers: ten buckets of a second each count requests and extra attempts. A bucket is one
//! word, so that its second and its counts are never seen in halves.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Instant;
use crate::config::RoutePolicy;

/// Buckets of the window.
const BUCKETS: u64 = 10;

/// What one bucket covers.
const BUCKET: Duration = Duration::from_secs(1);

/// Bits of a count: a million per second and route is far beyond one process; beyond it a count stays where it is.
const COUNT_BITS: u32 = 20;

/// Largest count, and the mask of one.
const MOST: u64 = (1 << COUNT_BITS) - 1;

/// Whole of a ratio kept in 1/10 000.
const WHOLE: u64 = 10_000;

/// Requests and extra attempts of one route in the last ten seconds.
#[derive(Debug, Default)]
pub struct RetryBudget {
    /// Each word: the bucket's second 24 bits, requests 20, extra attempts 20.
    buckets: [AtomicU64; BUCKETS as usize],
}

/// One bucket, unpacked.
#[derive(Clone, Copy)]
struct Bucket {
    second: u64,
    requests: u64,
    extras: u64,
}

impl Bucket {
    const fn unpack(word: u64) -> Self {
        Self { second: word >> (2 * COUNT_BITS), requests: (word >> COUNT_BITS) & MOST, extras: word & MOST }
    }

    const fn pack(self) -> u64 {
        self.second << (2 * COUNT_BITS) | self.requests << COUNT_BITS | self.extras
    }
}

impl RetryBudget {
    /// A request has come that is not itself an SDK's retry.
    pub fn count_request(&self, now: Instant) {
        self.change(now, |bucket| bucket.requests = (bucket.requests + 1).min(MOST));
    }

    /// An extra attempt begins that needs no leave.
    pub fn count_extra(&self, now: Instant) {
        self.change(now, |bucket| bucket.extras = (bucket.extras + 1).min(MOST));
    }

    /// Takes leave for one extra attempt, by the policy's `min_retries` and `budget_ratio`.
    pub fn try_extra(&self, policy: &RoutePolicy, now: Instant) -> bool {
        // Counted first and taken back if it was too much: two workers at once may both be told no, never both yes.
        self.count_extra(now);
        let (requests, extras) = self.totals(now);
        let allowed = WHOLE * u64::from(policy.retry_budget_min) + u64::from(policy.retry_budget_ratio) * requests;
        let is_granted = WHOLE * extras <= allowed;
        if !is_granted {
            self.give_back(now);
        }
        is_granted
    }

    /// An extra attempt that was counted at `at` has not been made after all.
    pub fn give_back(&self, at: Instant) {
        self.change(at, |bucket| bucket.extras = bucket.extras.saturating_sub(1));
    }

    /// Requests and extra attempts of the last ten seconds.
    pub fn totals(&self, now: Instant) -> (u64, u64) {
        let second = second(now);
        let recent = self.buckets.iter().map(|word| Bucket::unpack(word.load(Ordering::Acquire)));
        // The second wraps after half a year, and so does the difference.
        let recent = recent.filter(|bucket| age(second, bucket.second) < BUCKETS);
        recent.fold((0, 0), |(requests, extras), bucket| (requests + bucket.requests, extras + bucket.extras))
    }

    fn change(&self, now: Instant, change: impl Fn(&mut Bucket)) {
        let second = second(now);
        let word = &self.buckets[(second % BUCKETS) as usize];
        let changed = |seen: u64| {
            let mut bucket = Bucket::unpack(seen);
            if bucket.second != second {
                bucket = Bucket { second, requests: 0, extras: 0 };
            }
            change(&mut bucket);
            Some(bucket.pack())
        };
        // Never `Err`: the change always has a result.
        let _ = word.fetch_update(Ordering::AcqRel, Ordering::Acquire, changed);
    }
}

/// The second of a time, as far as a bucket keeps it.
fn second(now: Instant) -> u64 {
    (now.as_nanos() / BUCKET.as_nanos() as u64) & SECONDS
}

/// Mask of a bucket's second.
const SECONDS: u64 = (1 << (u64::BITS - 2 * COUNT_BITS)) - 1;

/// Seconds from an earlier one to a later one.
fn age(later: u64, earlier: u64) -> u64 {
    later.wrapping_sub(earlier) & SECONDS
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Instant = Instant::from_nanos(1_000_000_000_000);

    fn policy(min: u32, ratio: u32) -> RoutePolicy {
        RoutePolicy { retry_budget_min: min, retry_budget_ratio: ratio, ..RoutePolicy::default() }
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
    fn the_seconds_wrap_without_harm() {
        let budget = RetryBudget::default();
        let last = Instant::from_nanos(SECONDS * 1_000_000_000);
        budget.count_request(last);
        assert_eq!(budget.totals(last.plus(Duration::from_secs(1))), (1, 0));
        assert_eq!(budget.totals(last.plus(Duration::from_secs(10))), (0, 0));
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
