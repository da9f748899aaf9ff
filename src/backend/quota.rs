//! Blocked until when: what 429, spent credit and refused credentials do to whoever shares them (spec/resilience.md 4.3).
//!
//! A rate-limited backend is not sick: its circuit never hears of it.

use std::time::Duration;

use super::outcome::Block;
use crate::clock::Instant;
use crate::config::Quota as Policy;

/// A hint of zero means "soon".
const LEAST_HINT: Duration = Duration::from_millis(250);

/// Cap of a provider's wait for spent credit.
const MAX_MONEY_WAIT: Duration = Duration::from_secs(3_600);

/// Whole of a ratio kept in 1/10 000.
const WHOLE: f64 = 10_000.0;

/// Own wait of a block without a hint at level 0, and its cap; none: such a block needs a hint.
const fn own_wait(block: Block) -> Option<(Duration, Duration)> {
    const fn seconds(base: u64, cap: u64) -> Option<(Duration, Duration)> {
        Some((Duration::from_secs(base), Duration::from_secs(cap)))
    }
    match block {
        Block::Rate => seconds(1, 60),
        Block::Overload => None,
        Block::Money => seconds(300, 3_600),
        Block::Auth | Block::Permission | Block::NotFound => seconds(60, 900),
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Episode {
    until: Instant,
    set_at: Instant,
    level: u32,
    /// From the first block to the next success: one alert.
    running: bool,
    /// The provider itself named its end.
    is_hinted: bool,
}

/// The blocks of one scope.
#[derive(Clone, Debug, Default)]
pub struct Quota {
    episodes: [Episode; Block::ALL.len()],
}

/// A block that was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// Which.
    pub block: Block,
    /// Until when.
    pub until: Instant,
    /// Whether the provider said so.
    pub hinted: bool,
    /// Whether an episode begins with it.
    pub first: bool,
}

impl Quota {
    /// Until when each block lasts, in the order of [`Block::ALL`]; zero where none was set.
    pub fn deadlines(&self) -> [Instant; Block::ALL.len()] {
        self.episodes.map(|episode| episode.until)
    }

    /// Sets a block for an attempt that began at `started`. `jitter` is drawn from 0..1. None if nothing changed.
    pub fn block(
        &mut self,
        block: Block,
        hint: Option<Duration>,
        started: Instant,
        now: Instant,
        policy: &Policy,
        jitter: f64,
    ) -> Option<Blocked> {
        let episode = &mut self.episodes[block as usize];
        let hinted = hint.map(|hint| {
            let cap = if block == Block::Money { MAX_MONEY_WAIT } else { policy.max_retry_after };
            if hint.is_zero() { LEAST_HINT } else { hint.min(cap) }
        });
        // One burst is one step: attempts that began before the running block change its level no further.
        let counts = episode.set_at <= started || !episode.running;
        let own = own_wait(block).filter(|_| counts || hinted.is_some()).map(|(base, cap)| {
            let wait = base.saturating_mul(1 << episode.level.min(16)).min(cap);
            wait.mul_f64(1.0 + f64::from(policy.jitter) / WHOLE * jitter)
        });
        let wait = match (block, hinted, own) {
            (Block::Money, Some(hinted), Some(own)) => hinted.max(own),
            (_, Some(hinted), _) => hinted,
            (_, None, Some(own)) => {
                episode.level = episode.level.saturating_add(1);
                own
            }
            (_, None, None) => return None,
        };
        let first = !episode.running;
        episode.running = true;
        episode.set_at = now;
        // A later, lower hint never shortens.
        if episode.until < now.plus(wait) {
            episode.until = now.plus(wait);
            episode.is_hinted = hinted.is_some();
        }
        Some(Blocked { block, until: episode.until, hinted: hinted.is_some(), first })
    }

    /// A success of an attempt that began at `started` ends the episodes set before it; it never shortens a running block.
    pub fn succeed(&mut self, started: Instant) {
        for episode in self.episodes.iter_mut().filter(|episode| episode.running && episode.set_at <= started) {
            episode.level = 0;
            episode.running = false;
        }
    }

    /// Ends a running block whose cause has been seen to be gone by a check that began at `started`. Never one that was set
    /// after that, nor one whose end the provider named. Level and episode stay: only a success of a call ends those. True if
    /// it did.
    pub fn lift_one(&mut self, block: Block, started: Instant, now: Instant) -> bool {
        let episode = &mut self.episodes[block as usize];
        let may_end = now < episode.until && episode.set_at <= started && !episode.is_hinted;
        if may_end {
            episode.until = now;
        }
        may_end
    }

    /// Lifts every block: an operator's reset.
    pub fn lift(&mut self) {
        self.episodes = Default::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_nanos(1_000_000_000_000);

    fn at(millis: u64) -> Instant {
        NOW.plus(Duration::from_millis(millis))
    }

    /// Blocks without jitter and says for how many milliseconds from `now` on.
    fn wait(quota: &mut Quota, block: Block, hint: Option<u64>, started: u64, now: u64) -> Option<u128> {
        let hint = hint.map(Duration::from_millis);
        let blocked = quota.block(block, hint, at(started), at(now), &Policy::default(), 0.0)?;
        Some(blocked.until.since(at(now)).as_millis())
    }

    #[test]
    fn a_hint_is_used_to_the_millisecond_and_never_shortened() {
        let mut quota = Quota::default();
        assert_eq!(wait(&mut quota, Block::Rate, Some(43), 0, 10), Some(43));
        assert_eq!(wait(&mut quota, Block::Rate, Some(7_000), 0, 20), Some(7_000));
        assert_eq!(wait(&mut quota, Block::Rate, Some(1_000), 0, 30), Some(6_990));
        assert_eq!(wait(&mut Quota::default(), Block::Rate, Some(0), 0, 0), Some(250));
        assert_eq!(wait(&mut Quota::default(), Block::Rate, Some(86_400_000), 0, 0), Some(300_000));
    }

    #[test]
    fn without_a_hint_the_wait_doubles_once_per_burst_and_a_success_forgets() {
        let mut quota = Quota::default();
        assert_eq!(wait(&mut quota, Block::Rate, None, 0, 10), Some(1_000));
        assert_eq!(wait(&mut quota, Block::Rate, None, 5, 20), None, "the same burst");
        assert_eq!(wait(&mut quota, Block::Rate, None, 1_010, 1_020), Some(2_000));
        assert_eq!(wait(&mut quota, Block::Rate, None, 3_020, 3_030), Some(4_000));
        quota.succeed(at(8_000));
        assert_eq!(wait(&mut quota, Block::Rate, None, 9_000, 9_000), Some(1_000));
    }

    #[test]
    fn each_block_has_its_own_wait() {
        for (block, expected) in [
            (Block::Money, Some(300_000)),
            (Block::Auth, Some(60_000)),
            (Block::Permission, Some(60_000)),
            (Block::NotFound, Some(60_000)),
            (Block::Overload, None),
        ] {
            assert_eq!(wait(&mut Quota::default(), block, None, 0, 0), expected, "{block:?}");
        }
        assert_eq!(wait(&mut Quota::default(), Block::Money, Some(1_000), 0, 0), Some(300_000), "only lengthened");
    }

    #[test]
    fn an_episode_is_reported_once() {
        let mut quota = Quota::default();
        let mut first = |now| quota.block(Block::Rate, None, at(now), at(now), &Policy::default(), 0.0).unwrap().first;
        assert!(first(0));
        assert!(!first(5_000));
    }
}
