//! Requests and further calls of one route in the last while: what its budgets are reckoned from.
//!
//! Ten buckets, shared by all workers. A bucket is one word, so that its number and its counts are never seen in halves.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::Instant;

/// Buckets of a window.
const BUCKETS: u64 = 10;

/// Bits of a count: a million per bucket and route is far beyond one process; beyond it a count stays where it is.
const COUNT_BITS: u32 = 20;

/// Largest count, and the mask of one.
const MOST: u64 = (1 << COUNT_BITS) - 1;

/// Mask of a bucket's number.
const NUMBERS: u64 = (1 << (u64::BITS - 2 * COUNT_BITS)) - 1;

/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;

/// Whole of a ratio kept in 1/10 000.
pub(super) const WHOLE: u64 = 10_000;

/// Two counts over ten buckets of so many seconds.
#[derive(Debug, Default)]
pub(super) struct Window<const SECONDS: u64> {
    /// Each word: the bucket's number 24 bits, requests 20, further calls 20.
    buckets: [AtomicU64; BUCKETS as usize],
}

/// One bucket, unpacked.
#[derive(Clone, Copy)]
struct Bucket {
    number: u64,
    requests: u64,
    extras: u64,
}

impl Bucket {
    const fn unpack(word: u64) -> Self {
        Self { number: word >> (2 * COUNT_BITS), requests: (word >> COUNT_BITS) & MOST, extras: word & MOST }
    }

    const fn pack(self) -> u64 {
        self.number << (2 * COUNT_BITS) | self.requests << COUNT_BITS | self.extras
    }
}

impl<const SECONDS: u64> Window<SECONDS> {
    /// A request has come.
    pub(super) fn count_request(&self, now: Instant) {
        self.change(now, |bucket| bucket.requests = (bucket.requests + 1).min(MOST));
    }

    /// A further call begins.
    pub(super) fn count_extra(&self, now: Instant) {
        self.change(now, |bucket| bucket.extras = (bucket.extras + 1).min(MOST));
    }

    /// Counts a further call if it is allowed, by requests and further calls with this one.
    pub(super) fn try_extra(&self, now: Instant, is_allowed: impl Fn(u64, u64) -> bool) -> bool {
        // Counted first and taken back if it was too much: two workers at once may both be told no, never both yes.
        self.count_extra(now);
        let (requests, extras) = self.totals(now);
        let is_granted = is_allowed(requests, extras);
        if !is_granted {
            self.give_back(now);
        }
        is_granted
    }

    /// A further call that was counted at `at` has not been made after all.
    pub(super) fn give_back(&self, at: Instant) {
        self.change(at, |bucket| bucket.extras = bucket.extras.saturating_sub(1));
    }

    /// Requests and further calls of the last ten buckets.
    pub(super) fn totals(&self, now: Instant) -> (u64, u64) {
        let number = Self::number(now);
        let recent = self.buckets.iter().map(|word| Bucket::unpack(word.load(Ordering::Acquire)));
        // The number wraps, with buckets of a second after half a year, and so does the difference.
        let recent = recent.filter(|bucket| age(number, bucket.number) < BUCKETS);
        recent.fold((0, 0), |(requests, extras), bucket| (requests + bucket.requests, extras + bucket.extras))
    }

    fn change(&self, now: Instant, change: impl Fn(&mut Bucket)) {
        let number = Self::number(now);
        let word = &self.buckets[(number % BUCKETS) as usize];
        let changed = |seen: u64| {
            let mut bucket = Bucket::unpack(seen);
            if bucket.number != number {
                bucket = Bucket { number, requests: 0, extras: 0 };
            }
            change(&mut bucket);
            Some(bucket.pack())
        };
        // Never `Err`: the change always has a result.
        let _ = word.fetch_update(Ordering::AcqRel, Ordering::Acquire, changed);
    }

    /// The number of the bucket of a time, as far as a bucket keeps it.
    fn number(now: Instant) -> u64 {
        (now.as_nanos() / (SECONDS * SECOND)) & NUMBERS
    }
}

/// Buckets from an earlier one to a later one.
fn age(later: u64, earlier: u64) -> u64 {
    later.wrapping_sub(earlier) & NUMBERS
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_numbers_wrap_without_harm() {
        let window = Window::<1>::default();
        let last = Instant::from_nanos(NUMBERS * SECOND);
        window.count_request(last);
        assert_eq!(window.totals(last.plus(Duration::from_secs(1))), (1, 0));
        assert_eq!(window.totals(last.plus(Duration::from_secs(10))), (0, 0));
    }

    #[test]
    fn it_is_ten_buckets_long() {
        let window = Window::<6>::default();
        let start = Instant::from_nanos(6_000 * SECOND);
        window.count_request(start);
        window.count_extra(start);
        let after = |seconds| window.totals(start.plus(Duration::from_secs(seconds)));
        assert_eq!([after(0), after(59), after(60)], [(1, 1), (1, 1), (0, 0)]);
        window.give_back(start);
        window.give_back(start);
        assert_eq!(after(0), (1, 0), "never below nothing");
    }
}
