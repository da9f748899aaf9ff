//! Failures in a row, in the order of their starts.

use std::collections::VecDeque;

use crate::clock::Instant;

/// Starts of failures kept; far beyond any threshold.
const MAX_RUN: usize = 4_096;

/// Failures that began later than the latest success did.
#[derive(Clone, Debug, Default)]
pub(super) struct Run {
    /// Ascending.
    starts: VecDeque<Instant>,
    last_ok_start: Instant,
}

impl Run {
    /// A success cancels only failures of calls that began no later than its own.
    pub(super) fn succeed(&mut self, started: Instant) {
        self.last_ok_start = self.last_ok_start.max(started);
        while self.starts.front().is_some_and(|start| *start <= self.last_ok_start) {
            self.starts.pop_front();
        }
    }

    /// A failure lengthens the run, unless a later call has already succeeded.
    pub(super) fn fail(&mut self, started: Instant) {
        if started <= self.last_ok_start {
            return;
        }
        let at = self.starts.partition_point(|start| *start <= started);
        self.starts.insert(at, started);
        if MAX_RUN < self.starts.len() {
            self.starts.pop_front();
        }
    }

    /// Begins anew.
    pub(super) fn clear(&mut self) {
        self.starts.clear();
        self.last_ok_start = Instant::ZERO;
    }

    /// How long it is.
    pub(super) fn len(&self) -> usize {
        self.starts.len()
    }

    /// The oldest start in it, if there is a run.
    pub(super) fn began(&self) -> Option<Instant> {
        self.starts.front().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_starts_are_kept_whatever_order_they_come_in() {
        let mut run = Run::default();
        (1..=5_000).for_each(|start| run.fail(Instant::from_nanos(start)));
        assert_eq!((run.len(), run.began()), (MAX_RUN, Some(Instant::from_nanos(905))));
        run.fail(Instant::from_nanos(1));
        assert_eq!((run.len(), run.began()), (MAX_RUN, Some(Instant::from_nanos(905))), "an old one takes no place");
    }

    #[test]
    fn a_success_ends_what_began_before_it_and_nothing_else() {
        let mut run = Run::default();
        [10, 20, 30].into_iter().for_each(|start| run.fail(Instant::from_nanos(start)));
        run.succeed(Instant::from_nanos(20));
        assert_eq!((run.len(), run.began()), (1, Some(Instant::from_nanos(30))));
        run.succeed(Instant::from_nanos(5));
        run.fail(Instant::from_nanos(20));
        assert_eq!(
            run.len(),
            1,
            "an earlier success changes nothing, a failure that began with a success is cancelled"
        );
    }
}
