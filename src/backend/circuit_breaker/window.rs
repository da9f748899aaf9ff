//! The sliding window: ten buckets, in which every outcome lies by the start of its call.

use std::time::Duration;

use crate::clock::Instant;

/// Buckets of the window.
const BUCKETS: u64 = 10;

/// What a call adds to the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// A success.
    Success,
    /// A failure.
    Failure,
    /// A client that left after any answer would have been slow.
    Abandoned,
}

/// What lies in the window, or in one bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) successes: u64,
    pub(super) failures: u64,
    /// Slow ones among those two.
    pub(super) slow: u64,
    pub(super) abandoned: u64,
}

impl Sums {
    /// Successes and failures.
    pub(super) fn resolved(&self) -> u64 {
        self.successes + self.failures
    }

    fn add(&mut self, entry: Entry, is_slow: bool) {
        match entry {
            Entry::Success => self.successes += 1,
            Entry::Failure => self.failures += 1,
            Entry::Abandoned => {
                self.abandoned += 1;
                return;
            }
        }
        self.slow += u64::from(is_slow);
    }

    fn plus(self, other: Self) -> Self {
        Self {
            successes: self.successes + other.successes,
            failures: self.failures + other.failures,
            slow: self.slow + other.slow,
            abandoned: self.abandoned + other.abandoned,
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    epoch: u64,
    sums: Sums,
}

/// The outcomes of the calls that began lately.
#[derive(Clone, Debug)]
pub(super) struct Window {
    bucket_nanos: u64,
    buckets: [Bucket; BUCKETS as usize],
    /// What lay in it at the newest outcome: each outcome is followed by a look at the sums.
    total: Bucket,
}

impl Window {
    /// An empty window of this length.
    pub(super) fn new(length: Duration) -> Self {
        let nanos = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
        Self { bucket_nanos: nanos.div_ceil(BUCKETS).max(1), buckets: Default::default(), total: Bucket::default() }
    }

    /// Empties it.
    pub(super) fn clear(&mut self) {
        (self.buckets, self.total) = Default::default();
    }

    /// Books an outcome by the start of its call; one from before the window, or from the future, is not.
    pub(super) fn book(&mut self, started: Instant, now: Instant, entry: Entry, is_slow: bool) {
        let (epoch, newest) = (self.epoch(started), self.epoch(now));
        if !is_live(epoch, newest) {
            return;
        }
        if self.total.epoch != newest {
            self.total = Bucket { epoch: newest, sums: self.add_up(newest) };
        }
        let bucket = &mut self.buckets[(epoch % BUCKETS) as usize];
        if bucket.epoch != epoch {
            *bucket = Bucket { epoch, sums: Sums::default() };
        }
        bucket.sums.add(entry, is_slow);
        self.total.sums.add(entry, is_slow);
    }

    /// What lies in it now. A jump over its whole length leaves nothing.
    pub(super) fn sums(&self, now: Instant) -> Sums {
        let newest = self.epoch(now);
        if self.total.epoch == newest { self.total.sums } else { self.add_up(newest) }
    }

    fn add_up(&self, newest: u64) -> Sums {
        let live = self.buckets.iter().filter(|bucket| is_live(bucket.epoch, newest));
        live.fold(Sums::default(), |sums, bucket| sums.plus(bucket.sums))
    }

    /// The first point that lies in it.
    pub(super) fn begins(&self, now: Instant) -> Instant {
        let oldest = (self.epoch(now) + 1).saturating_sub(BUCKETS);
        Instant::from_nanos(oldest.saturating_mul(self.bucket_nanos))
    }

    fn epoch(&self, at: Instant) -> u64 {
        // Below the largest u64 in any case, so that one more never overflows.
        (at.as_nanos() / self.bucket_nanos).min(u64::MAX - 1)
    }
}

/// Whether a bucket lies in the window whose newest one is `newest`.
const fn is_live(epoch: u64, newest: u64) -> bool {
    epoch <= newest && newest - epoch < BUCKETS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn outcomes_count_by_their_start_for_ten_buckets() {
        // Buckets of 4 s; the call began in that of 100 s..104 s.
        let mut window = Window::new(Duration::from_secs(40));
        window.book(at(101), at(130), Entry::Failure, false);
        let failures = |now| window.sums(at(now)).failures;
        assert_eq!([130, 139, 140, 5_000_000].map(failures), [1, 1, 0, 0]);
        assert_eq!((window.begins(at(139)), window.begins(at(140))), (at(100), at(104)));
    }

    #[test]
    fn no_time_is_too_far_for_it() {
        let mut window = Window::new(Duration::ZERO);
        window.book(Instant::NEVER, Instant::NEVER, Entry::Failure, true);
        assert_eq!(window.sums(Instant::NEVER).failures, 1);
        assert!(window.begins(Instant::NEVER) < Instant::NEVER);
        assert_eq!(Window::new(Duration::MAX).begins(Instant::NEVER), Instant::ZERO);
    }

    #[test]
    fn what_began_too_early_or_in_the_future_is_not_booked() {
        let mut window = Window::new(Duration::from_secs(40));
        window.book(at(99), at(139), Entry::Success, false);
        window.book(at(140), at(139), Entry::Success, false);
        assert_eq!([139, 140].map(|now| window.sums(at(now)).resolved()), [0, 0]);
    }

    proptest! {
        #[test]
        fn what_is_kept_is_what_the_buckets_come_to(
            script in proptest::collection::vec((0_u64..90, 0_u64..90, 0..3_u8, any::<bool>()), 0..60),
            looks in proptest::collection::vec(0_u64..90, 1..5),
        ) {
            let mut window = Window::new(Duration::from_secs(40));
            for (started, now, entry, is_slow) in script {
                let entry = [Entry::Success, Entry::Failure, Entry::Abandoned][usize::from(entry)];
                window.book(at(started), at(now), entry, is_slow);
                for now in looks.iter().copied().chain([now]) {
                    prop_assert_eq!(window.sums(at(now)), window.add_up(window.epoch(at(now))));
                }
            }
        }
    }
}
