//! The latest times of something, and what most of them keep within.

use std::collections::VecDeque;
use std::time::Duration;

/// Times kept (spec/resilience.md 3.3): enough for a percentile, few enough to follow a change.
const KEPT: usize = 64;

/// Whole of a percentage.
const WHOLE: usize = 100;

/// The last 64 times.
#[derive(Clone, Debug, Default)]
pub(super) struct Times {
    /// As they came, in nanoseconds: every outcome looks for two among them, and a number is compared at once.
    latest: VecDeque<u64>,
    /// The same by length. Every outcome adds one and asks for two percentiles: to keep the order costs a twentieth of finding
    /// them among times that have none.
    sorted: Vec<u64>,
}

impl Times {
    /// Takes in one more, and forgets the oldest if there are too many.
    pub(super) fn push(&mut self, time: Duration) {
        let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        if self.latest.len() == KEPT
            && let Some(oldest) = self.latest.pop_front()
        {
            self.sorted.remove(self.below(oldest));
        }
        self.latest.push_back(time);
        self.sorted.insert(self.below(time), time);
    }

    /// How many are shorter.
    fn below(&self, time: u64) -> usize {
        self.sorted.partition_point(|known| *known < time)
    }

    /// How many are kept.
    pub(super) fn len(&self) -> usize {
        self.latest.len()
    }

    /// What so many percent of them keep within, by nearest rank; none without any. `percent` in 1..=100.
    pub(super) fn percentile(&self, percent: usize) -> Option<Duration> {
        let rank = (self.sorted.len() * percent).div_ceil(WHOLE).checked_sub(1)?;
        self.sorted.get(rank).copied().map(Duration::from_nanos)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_percentile_is_the_nearest_rank_of_the_last_sixty_four() {
        // So many from 1 on, then the percentile.
        let table = [
            (0, 95, None),
            (1, 95, Some(1)),
            (20, 95, Some(19)),
            (21, 95, Some(20)),
            (20, 50, Some(10)),
            (64, 90, Some(58)),
            (164, 95, Some(161)),
            (64, 100, Some(64)),
        ];
        for (count, percent, expected) in table {
            let mut times = Times::default();
            (0..count).for_each(|millis| times.push(Duration::from_millis(millis + 1)));
            let found = times.percentile(percent).map(|time| time.as_millis() as u64);
            assert_eq!(found, expected, "{percent} % of {count}");
            assert!(times.len() <= KEPT);
        }
    }

    proptest! {
        #[test]
        fn percentiles_are_those_of_the_latest_sorted(
            all in proptest::collection::vec(0_u64..40, 1..300),
            percent in 1_usize..=100,
        ) {
            let mut times = Times::default();
            all.iter().for_each(|millis| times.push(Duration::from_millis(*millis)));
            let mut latest = all[all.len().saturating_sub(KEPT)..].to_vec();
            latest.sort_unstable();
            let rank = (latest.len() * percent).div_ceil(WHOLE) - 1;
            prop_assert_eq!(times.percentile(percent), Some(Duration::from_millis(latest[rank])));
        }
    }
}
