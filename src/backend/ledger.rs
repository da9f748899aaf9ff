//! What a provider's own figures say is left, so that calls go elsewhere before it has to refuse (spec/resilience.md 4.4).
//!
//! One ledger per quota scope. Whoever reads an answer's head writes it, one at a time; the newest head wins. A reading in the
//! midst of that may defer a backend for a moment or let one call through: it is a guess, and never rejects.

use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, TryLockError};
use std::time::Duration;

use crate::clock::Instant;

/// A sample without a reset says nothing after this.
const STALE_AFTER: Duration = Duration::from_secs(60);

/// What one answer's head says about one dimension.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dimension {
    /// The whole allowance.
    pub limit: Option<i64>,
    /// What is left; Azure sends negatives, which mean nothing is left.
    pub remaining: Option<i64>,
    /// Time until it is full again.
    pub reset: Option<Duration>,
}

/// What one answer's head says about what is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Requests per window.
    pub requests: Dimension,
    /// Tokens per window.
    pub tokens: Dimension,
}

/// What the ledger knows of one dimension, for those who look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// The whole allowance, where it was said.
    pub limit: Option<i64>,
    /// What was left at the newest head.
    pub remaining: i64,
    /// What should be left now; none if nothing is known any more.
    pub predicted: Option<i64>,
    /// When the newest head came.
    pub seen_at: Instant,
    /// When it is full again, where that was said.
    pub reset_at: Option<Instant>,
}

/// The newest figures of one quota scope.
#[derive(Debug, Default)]
pub struct Ledger {
    requests: Account,
    tokens: Account,
    /// How full a provisioned deployment said it is, in 1/10 000, and when.
    utilization: AtomicU32,
    utilization_at: AtomicU64,
}

/// One dimension.
#[derive(Debug, Default)]
struct Account {
    /// Zero: never.
    seen_at: AtomicU64,
    /// Negative: not said.
    limit: AtomicI64,
    remaining: AtomicI64,
    /// Zero: not said.
    reset_at: AtomicU64,
    /// Estimates admitted since the process began, and how many of them when the newest head came.
    admitted: AtomicU64,
    admitted_before: AtomicU64,
    /// Held by the one who writes; whoever finds it held lets his head go by, since another comes with the next answer.
    writing: Mutex<()>,
}

impl Ledger {
    /// Takes in what an answer's head said. An older head than the newest changes nothing.
    pub fn note(&self, sample: &Sample, now: Instant) {
        self.requests.note(&sample.requests, now);
        self.tokens.note(&sample.tokens, now);
    }

    /// A call of about `tokens` tokens was admitted.
    pub fn admit(&self, tokens: u64) {
        self.requests.admitted.fetch_add(1, Ordering::Relaxed);
        self.tokens.admitted.fetch_add(tokens, Ordering::Relaxed);
    }

    /// Whether the provider would probably refuse a call of about `tokens` tokens now.
    pub fn is_spent(&self, tokens: u64, now: Instant) -> bool {
        let is_short = |account: &Account, need: i64| account.predicted(now).is_some_and(|left| left < need);
        is_short(&self.requests, 1) || is_short(&self.tokens, i64::try_from(tokens).unwrap_or(i64::MAX))
    }

    /// Takes in how full a provisioned deployment says it is, in 1/10 000.
    pub fn note_utilization(&self, share: u32, now: Instant) {
        self.utilization.store(share, Ordering::Relaxed);
        self.utilization_at.store(now.as_nanos(), Ordering::Release);
    }

    /// Whether a provisioned deployment is as full as `target`, in 1/10 000, as far as is known.
    pub fn is_full(&self, target: u32, now: Instant) -> bool {
        let seen_at = Instant::from_nanos(self.utilization_at.load(Ordering::Acquire));
        seen_at != Instant::ZERO
            && now < seen_at.plus(STALE_AFTER)
            && target <= self.utilization.load(Ordering::Relaxed)
    }

    /// Forgets all figures: the next head's are the first.
    pub fn forget(&self) {
        for seen_at in [&self.requests.seen_at, &self.tokens.seen_at, &self.utilization_at] {
            seen_at.store(0, Ordering::Release);
        }
    }

    /// What is known of requests and of tokens.
    pub fn known(&self, now: Instant) -> (Option<Known>, Option<Known>) {
        (self.requests.known(now), self.tokens.known(now))
    }
}

impl Account {
    fn note(&self, said: &Dimension, now: Instant) {
        let Some(remaining) = said.remaining else { return };
        let _writing = match self.writing.try_lock() {
            Ok(writing) => writing,
            Err(TryLockError::Poisoned(writing)) => writing.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let newer = |seen: u64| (seen < now.as_nanos()).then_some(now.as_nanos());
        if self.seen_at.fetch_update(Ordering::AcqRel, Ordering::Acquire, newer).is_err() {
            return;
        }
        self.limit.store(said.limit.unwrap_or(-1), Ordering::Relaxed);
        self.reset_at.store(said.reset.map_or(0, |reset| now.plus(reset).as_nanos()), Ordering::Relaxed);
        self.admitted_before.store(self.admitted.load(Ordering::Relaxed), Ordering::Relaxed);
        self.remaining.store(remaining, Ordering::Relaxed);
    }

    fn predicted(&self, now: Instant) -> Option<i64> {
        let seen_at = self.seen_at.load(Ordering::Acquire);
        if seen_at == 0 {
            return None;
        }
        match self.reset_at.load(Ordering::Relaxed) {
            0 if Instant::from_nanos(seen_at).plus(STALE_AFTER) <= now => return None,
            reset if reset != 0 && Instant::from_nanos(reset) <= now => return self.limit(),
            _ => {}
        }
        let admitted = self.admitted.load(Ordering::Relaxed);
        let since = admitted.saturating_sub(self.admitted_before.load(Ordering::Relaxed));
        let remaining = self.remaining.load(Ordering::Relaxed);
        Some(remaining.saturating_sub(i64::try_from(since).unwrap_or(i64::MAX)))
    }

    fn limit(&self) -> Option<i64> {
        Some(self.limit.load(Ordering::Relaxed)).filter(|limit| 0 <= *limit)
    }

    fn known(&self, now: Instant) -> Option<Known> {
        let seen_at = Instant::from_nanos(self.seen_at.load(Ordering::Acquire));
        let reset_at = Instant::from_nanos(self.reset_at.load(Ordering::Relaxed));
        (seen_at != Instant::ZERO).then(|| Known {
            limit: self.limit(),
            remaining: self.remaining.load(Ordering::Relaxed),
            predicted: self.predicted(now),
            seen_at,
            reset_at: (reset_at != Instant::ZERO).then_some(reset_at),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_nanos(1_000_000_000_000);

    fn after(seconds: u64) -> Instant {
        NOW.plus(Duration::from_secs(seconds))
    }

    fn said(limit: i64, remaining: i64, reset: Option<u64>) -> Dimension {
        Dimension { limit: Some(limit), remaining: Some(remaining), reset: reset.map(Duration::from_secs) }
    }

    fn requests(requests: Dimension) -> Sample {
        Sample { requests, tokens: Dimension::default() }
    }

    #[test]
    fn what_is_left_shrinks_with_every_call_and_is_whole_again_at_the_reset() {
        let ledger = Ledger::default();
        assert!(!ledger.is_spent(1_000_000, NOW), "nothing is known");
        ledger.admit(10);
        ledger.note(&requests(said(500, 2, Some(30))), NOW);
        assert!(!ledger.is_spent(10, NOW), "what was admitted before the head is in it");
        ledger.admit(10);
        assert!(!ledger.is_spent(10, NOW));
        ledger.admit(10);
        assert!(ledger.is_spent(10, after(29)));
        assert!(!ledger.is_spent(10, after(30)));
        let known = ledger.known(after(30)).0.unwrap();
        assert_eq!((known.predicted, known.limit, known.reset_at), (Some(500), Some(500), Some(after(30))));
    }

    #[test]
    fn tokens_are_held_against_the_need() {
        let ledger = Ledger::default();
        ledger.note(&Sample { requests: said(500, 499, None), tokens: said(10_000, 900, None) }, NOW);
        assert!(!ledger.is_spent(900, NOW));
        assert!(ledger.is_spent(901, NOW));
        ledger.admit(400);
        assert!(ledger.is_spent(501, NOW) && !ledger.is_spent(500, NOW));
    }

    #[test]
    fn without_a_reset_a_figure_is_forgotten_after_a_minute() {
        let ledger = Ledger::default();
        ledger.note(&requests(Dimension { remaining: Some(-3), ..Dimension::default() }), NOW);
        assert!(ledger.is_spent(1, after(59)), "a negative figure is nothing left");
        assert!(!ledger.is_spent(1, after(60)));
        // A reset without the allowance says no more than that.
        ledger.note(&requests(Dimension { limit: None, ..said(0, 0, Some(5)) }), after(61));
        assert!(ledger.is_spent(1, after(65)) && !ledger.is_spent(1, after(66)));
        assert_eq!(ledger.known(after(66)).0.map(|known| (known.limit, known.predicted)), Some((None, None)));
    }

    #[test]
    fn the_newest_head_wins() {
        let ledger = Ledger::default();
        ledger.note(&requests(said(500, 0, Some(30))), after(2));
        ledger.note(&requests(said(500, 400, Some(30))), after(1));
        assert!(ledger.is_spent(1, after(2)), "an older head changes nothing");
        ledger.note(&requests(said(500, 400, Some(30))), after(3));
        assert!(!ledger.is_spent(1, after(3)));
        ledger.forget();
        assert!(!ledger.is_spent(1, after(3)) && ledger.known(after(3)) == (None, None));
        ledger.note(&requests(said(500, 0, Some(30))), after(3));
        assert!(ledger.is_spent(1, after(3)));
        ledger.note(&Sample::default(), after(4));
        assert_eq!(ledger.known(after(4)).0.unwrap().seen_at, after(3), "a head without figures says nothing");
    }

    #[test]
    fn a_full_deployment_is_full_for_a_minute() {
        let ledger = Ledger::default();
        assert!(!ledger.is_full(0, NOW), "nothing is known");
        ledger.note_utilization(8_500, NOW);
        assert!(ledger.is_full(8_500, after(59)) && !ledger.is_full(8_501, after(59)));
        assert!(!ledger.is_full(8_500, after(60)));
        ledger.note_utilization(9_000, after(60));
        ledger.forget();
        assert!(!ledger.is_full(8_500, after(60)));
        ledger.note_utilization(2_000, after(61));
        assert!(!ledger.is_full(8_500, after(61)));
    }
}
