//! The latest times of something, and what most of them keep within.

use std::collections::VecDeque;
use std::time::Duration;

/// Times kept (spec/resilience.md 3.3): enough for a percentile, few enough to follow a change.
const KEPT: usize = 64;

/// Whole of a percentage.
const WHOLE: usize = 100;

/// The last 64 times.
#[derive(Clone, Debug, Default)]
pub(super) struct Times(VecDeque<Duration>);

impl Times {
    /// Takes in one more, and forgets the oldest if there are too many.
    pub(super) fn push(&mut self, time: Duration) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(time);
    }

    /// How many are kept.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// What so many percent of them keep within, by nearest rank; none without any. `percent` in 1..=100.
    pub(super) fn percentile(&self, percent: usize) -> Option<Duration> {
        let mut sorted = [Duration::ZERO; KEPT];
        let sorted = sorted.get_mut(..self.0.len())?;
        for (place, time) in sorted.iter_mut().zip(&self.0) {
            *place = *time;
        }
        let rank = (sorted.len() * percent).div_ceil(WHOLE).checked_sub(1)?;
        // Every outcome asks: sorting all of them took a fortieth of a request's instructions.
        Some(*sorted.select_nth_unstable(rank).1)
    }
}

#[cfg(test)]
mod tests {
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
}
