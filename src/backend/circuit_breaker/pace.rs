//! How long calls take until they succeed: what tells a call that is merely under way from one that is overdue.

use std::time::Duration;

use crate::backend::times::Times;

/// Fewer times say nothing yet.
const LEAST_SAMPLES: usize = 10;

/// Most calls keep within this percentile.
const MOST: usize = 90;

/// A call is expected within so many times that.
const PATIENCE: u32 = 2;

/// What counts as success of a call, and so how long it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Its first content.
    Stream,
    /// Its whole answer.
    Unary,
}

/// The latest times to success, by kind.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace {
    stream: Times,
    unary: Times,
}

/// By when a call should have succeeded; none while too little is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    stream: Option<Duration>,
    unary: Option<Duration>,
}

impl Expected {
    /// That of one kind.
    pub(super) fn of(&self, kind: Kind) -> Option<Duration> {
        match kind {
            Kind::Stream => self.stream,
            Kind::Unary => self.unary,
        }
    }
}

impl Pace {
    /// Takes in the time of a success.
    pub(super) fn note(&mut self, kind: Kind, after: Duration) {
        match kind {
            Kind::Stream => self.stream.push(after),
            Kind::Unary => self.unary.push(after),
        }
    }

    /// Twice the 90th percentile by nearest rank, of both kinds.
    pub(super) fn expected(&self) -> Expected {
        Expected { stream: expected(&self.stream), unary: expected(&self.unary) }
    }
}

fn expected(times: &Times) -> Option<Duration> {
    let most = if times.len() < LEAST_SAMPLES { None } else { times.percentile(MOST) };
    most.map(|most| most.saturating_mul(PATIENCE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(times: impl IntoIterator<Item = u64>) -> Option<u64> {
        let mut pace = Pace::default();
        times.into_iter().for_each(|millis| pace.note(Kind::Stream, Duration::from_millis(millis)));
        assert_eq!(pace.expected().of(Kind::Unary), None, "the kinds are kept apart");
        pace.expected().of(Kind::Stream).map(|expected| expected.as_millis() as u64)
    }

    #[test]
    fn it_is_twice_the_nearest_rank_of_the_last_sixty_four() {
        assert_eq!(after(1..=9), None);
        assert_eq!(after(1..=10), Some(18), "rank 9 of 10");
        assert_eq!(after((1..=11).rev()), Some(20), "rank 10 of 11, in any order");
        assert_eq!(after(1..=64), Some(116), "rank 58 of 64");
        assert_eq!(after((0..100).map(|_| 1_000_000).chain(1..=64)), Some(116), "what is older is forgotten");
    }
}
