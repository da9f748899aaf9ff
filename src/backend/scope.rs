//! Blocks where they hold: at one backend, at all that share a credential, or at all that share a quota
//! (spec/resilience.md 1, 4.3).
//!
//! Backends' actors write, all of them on the control arbiter; workers read the deadlines.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::outcome::Block;
use super::quota::{Blocked, Quota};
use crate::clock::Instant;
use crate::config::Quota as Policy;

/// How far a block reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// One backend.
    Backend,
    /// All backends with the same credential at the same host.
    Credential,
    /// Those of them with the same model or deployment.
    Quota,
}

impl Reach {
    /// How far a block reaches.
    pub const fn of(block: Block) -> Self {
        match block {
            Block::Overload | Block::NotFound => Self::Backend,
            Block::Money | Block::Auth => Self::Credential,
            Block::Rate | Block::Permission => Self::Quota,
        }
    }

    /// The stable word for the status document and the log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Backend => "backend",
            Self::Credential => "credential",
            Self::Quota => "quota",
        }
    }
}

/// The blocks of one scope: their books, and what workers read of them.
#[derive(Debug, Default)]
pub struct Scope {
    /// Only ever locked on the control arbiter, so never waited for.
    books: Mutex<Quota>,
    until: [AtomicU64; Block::ALL.len()],
    /// The latest of these: most readers want to know no more.
    latest: AtomicU64,
}

impl Scope {
    fn blocked_until(&self, block: Block) -> Instant {
        Instant::from_nanos(self.until[block as usize].load(Ordering::Acquire))
    }

    fn write<T>(&self, change: impl FnOnce(&mut Quota) -> T) -> T {
        let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = change(&mut books);
        let deadlines = books.deadlines();
        for (cell, until) in self.until.iter().zip(deadlines) {
            cell.store(until.as_nanos(), Ordering::Release);
        }
        let latest = deadlines.into_iter().max().unwrap_or_default();
        self.latest.store(latest.as_nanos(), Ordering::Release);
        changed
    }
}

/// All blocks that can hold at one backend.
#[derive(Clone, Debug, Default)]
pub struct Blocks {
    own: Arc<Scope>,
    credential: Arc<Scope>,
    quota: Arc<Scope>,
}

impl Blocks {
    /// Those of a backend of its own, with the scopes it shares.
    pub fn new(credential: Arc<Scope>, quota: Arc<Scope>) -> Self {
        Self { own: Arc::default(), credential, quota }
    }

    /// The same backend's with other scopes, as after its credential was rotated.
    #[must_use]
    pub fn moved_to(&self, other: &Self) -> Self {
        Self { own: Arc::clone(&self.own), ..other.clone() }
    }

    /// Whether both share the same scopes with others.
    pub fn shares_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.credential, &other.credential) && Arc::ptr_eq(&self.quota, &other.quota)
    }

    /// Until when a block lasts; zero if it is not set.
    pub fn until(&self, block: Block) -> Instant {
        self.scope(block).blocked_until(block)
    }

    /// The block that lasts longest at `now`, if any holds.
    pub fn longest(&self, now: Instant) -> Option<(Block, Instant)> {
        if self.scopes().into_iter().all(|scope| scope.latest.load(Ordering::Acquire) <= now.as_nanos()) {
            return None;
        }
        let all = Block::ALL.iter().map(|block| (*block, self.until(*block)));
        all.max_by_key(|(_, until)| *until).filter(|(_, until)| now < *until)
    }

    /// Sets a block, as [`Quota::block`].
    pub fn block(
        &self,
        block: Block,
        hint: Option<Duration>,
        started: Instant,
        now: Instant,
        policy: &Policy,
        jitter: f64,
    ) -> Option<Blocked> {
        self.scope(block).write(|books| books.block(block, hint, started, now, policy, jitter))
    }

    /// A success of an attempt that began at `started`: the back-off of every scope it went through begins anew; of its own
    /// alone where it went with another credential, which was in use until `since`.
    pub fn succeed(&self, started: Instant, since: Instant) {
        let reached = if started < since { 1 } else { 3 };
        for scope in self.scopes().into_iter().take(reached) {
            scope.books.lock().unwrap_or_else(PoisonError::into_inner).succeed(started);
        }
    }

    /// Lifts one block wherever it holds, as [`Quota::lift_one`].
    pub fn lift(&self, block: Block, started: Instant, now: Instant) -> bool {
        self.scope(block).write(|books| books.lift_one(block, started, now))
    }

    /// Lifts every block: an operator's reset.
    pub fn lift_all(&self) {
        for scope in self.scopes() {
            scope.write(Quota::lift);
        }
    }

    fn scope(&self, block: Block) -> &Scope {
        match Reach::of(block) {
            Reach::Backend => &self.own,
            Reach::Credential => &self.credential,
            Reach::Quota => &self.quota,
        }
    }

    fn scopes(&self) -> [&Scope; 3] {
        [&self.own, &self.credential, &self.quota]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_nanos(1_000_000_000_000);

    const SECOND: Duration = Duration::from_secs(1);

    fn set(blocks: &Blocks, block: Block) -> Option<Blocked> {
        blocks.block(block, Some(Duration::from_secs(7)), NOW, NOW, &Policy::default(), 0.0)
    }

    #[test]
    fn a_block_holds_for_whoever_shares_its_scope_and_for_nobody_else() {
        let credential: Arc<Scope> = Arc::default();
        let first = Blocks::new(Arc::clone(&credential), Arc::default());
        // Another model with the same key, and the same model again.
        let model = Blocks::new(Arc::clone(&credential), Arc::default());
        let twin = Blocks::new(credential, Arc::clone(&first.quota));
        for (block, at_model, at_twin) in [
            (Block::Rate, false, true),
            (Block::Permission, false, true),
            (Block::Money, true, true),
            (Block::Auth, true, true),
            (Block::Overload, false, false),
            (Block::NotFound, false, false),
        ] {
            set(&first, block).unwrap();
            let is_set = |blocks: &Blocks| NOW < blocks.until(block);
            assert_eq!((is_set(&first), is_set(&model), is_set(&twin)), (true, at_model, at_twin), "{block:?}");
        }
    }

    #[test]
    fn one_episode_is_told_once_however_many_meet_it() {
        let first = Blocks::default();
        let twin = Blocks::new(Arc::clone(&first.credential), Arc::clone(&first.quota));
        assert!(set(&first, Block::Auth).unwrap().first);
        assert!(!set(&twin, Block::Auth).unwrap().first);
        // A success of either ends it for both.
        twin.succeed(NOW, Instant::ZERO);
        assert!(set(&first, Block::Auth).unwrap().first);
    }

    #[test]
    fn a_rotated_credential_leaves_its_blocks_behind_and_takes_its_own_along() {
        let before = Blocks::default();
        for block in Block::ALL {
            set(&before, block).unwrap();
        }
        let after = before.moved_to(&Blocks::default());
        let held: Vec<Block> = Block::ALL.into_iter().filter(|block| NOW < after.until(*block)).collect();
        assert_eq!(held, [Block::Overload, Block::NotFound]);
    }

    #[test]
    fn lifting_one_leaves_the_others() {
        let blocks = Blocks::default();
        let twin = blocks.clone();
        for block in Block::ALL {
            blocks
                .block(block, (block == Block::Overload).then_some(SECOND), NOW, NOW, &Policy::default(), 0.0)
                .unwrap();
        }
        assert!(twin.lift(Block::Auth, NOW, NOW));
        assert_eq!(blocks.until(Block::Auth), NOW);
        assert!(NOW < blocks.until(Block::Money));
        blocks.lift_all();
        assert_eq!(blocks.longest(NOW), None);
    }

    #[test]
    fn reaches_have_their_words() {
        let words = Block::ALL.map(|block| Reach::of(block).name());
        assert_eq!(words, ["quota", "backend", "credential", "credential", "quota", "backend"]);
    }

    #[test]
    fn two_share_only_if_credential_and_quota_are_the_same() {
        let one = Blocks::default();
        assert!(one.shares_with(&Blocks::new(Arc::clone(&one.credential), Arc::clone(&one.quota))));
        assert!(!one.shares_with(&Blocks::new(Arc::clone(&one.credential), Arc::default())));
        assert!(!one.shares_with(&Blocks::new(Arc::default(), Arc::clone(&one.quota))));
    }

    #[test]
    fn the_longest_holds_until_its_end_and_not_at_it() {
        let blocks = Blocks::default();
        set(&blocks, Block::Auth).unwrap();
        let end = blocks.until(Block::Auth);
        assert_eq!(blocks.longest(end.minus(Duration::from_nanos(1))), Some((Block::Auth, end)));
        assert_eq!(blocks.longest(end), None);
    }

    #[test]
    fn a_success_with_an_earlier_credential_ends_only_what_is_the_backends_own() {
        let since = NOW.plus(SECOND);
        for (started, own_ends, shared_ends) in [(NOW, true, false), (since, true, true)] {
            let blocks = Blocks::default();
            set(&blocks, Block::Overload).unwrap();
            set(&blocks, Block::Auth).unwrap();
            blocks.succeed(started, since);
            let is_new = |block| set(&blocks, block).unwrap().first;
            assert_eq!((is_new(Block::Overload), is_new(Block::Auth)), (own_ends, shared_ends));
        }
    }
}
