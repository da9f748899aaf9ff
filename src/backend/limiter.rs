//! Requests and tokens per minute of one backend, by governor's GCRA.
//!
//! A limiter is immutable: a reload that changes a limit brings a new one. Its clock is a parameter, so that tests run it in
//! simulated time.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::Clock;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{NotUntil, Quota, RateLimiter};

use super::status::{Reason, Rejection};
use crate::clock;
use crate::config::BackendPolicy;

/// Burst of the request limit: Azure enforces requests per minute over slices of 1 to 10 seconds.
const REQUEST_BURST: Duration = Duration::from_secs(10);

/// Tokens that were charged and not used are given back for this long: a provider's minute.
const CREDIT_LASTS: Duration = Duration::from_secs(60);

/// Part of the tokens per minute that may be given back at most: ten seconds of them.
const CREDIT_PART: u64 = 6;

/// Output tokens assumed of a call that names no maximum, until answers have told (spec/resilience.md 4.1).
const FIRST_OUTPUT: u64 = 512;

/// Weight of one more answer in the mean of output tokens, as one part of this: some dozens of answers count.
const MEAN_PARTS: u64 = 32;

/// Tells governor the time of the gateway's clock.
#[derive(Clone, Debug)]
pub struct GatewayClock;

impl Clock for GatewayClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from(clock::now().as_nanos())
    }
}

type Gate<C> = RateLimiter<NotKeyed, InMemoryState, C, governor::middleware::NoOpMiddleware<Nanos>>;

/// The two limits of a backend; an unset one admits everything.
#[derive(Debug)]
pub struct Limiter<C: Clock<Instant = Nanos> = GatewayClock> {
    requests: Option<Gate<C>>,
    tokens: Option<(Gate<C>, NonZeroU32)>,
    /// Tokens used beyond their estimates, charged with the next admission.
    debt: AtomicU64,
    /// Tokens charged and not used, taken before governor is asked; none where the provider itself counts estimates.
    credit: Option<Credit>,
    /// Mean of the output tokens of an answer.
    mean_output: AtomicU64,
    clock: C,
}

/// What was charged and not used.
#[derive(Debug, Default)]
struct Credit {
    tokens: AtomicU64,
    /// When the last of it was given.
    given_at: AtomicU64,
}

impl Credit {
    fn give(&self, tokens: u64, most: u64, now: Nanos) {
        let is_over = self.is_over(now);
        let more = |known: u64| Some(if is_over { 0 } else { known }.saturating_add(tokens).min(most));
        let _ = self.tokens.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        self.given_at.store(now.as_u64(), Ordering::Relaxed);
    }

    /// Takes as much of `wanted` as is there.
    fn take(&self, wanted: u64, now: Nanos) -> u64 {
        if self.is_over(now) {
            return 0;
        }
        let rest = |known: u64| Some(known.saturating_sub(wanted));
        let before = self.tokens.fetch_update(Ordering::Relaxed, Ordering::Relaxed, rest);
        before.unwrap_or_default().min(wanted)
    }

    fn is_over(&self, now: Nanos) -> bool {
        CREDIT_LASTS.as_nanos() <= u128::from(now.as_u64().saturating_sub(self.given_at.load(Ordering::Relaxed)))
    }
}

impl Limiter {
    /// The limits of a policy on the gateway's clock. `earns_credit`: the provider counts what was used, not the estimate.
    pub fn new(policy: &BackendPolicy, earns_credit: bool) -> Arc<Self> {
        Arc::new(Self::with_clock(policy, earns_credit, GatewayClock))
    }
}

impl<C: Clock<Instant = Nanos> + Clone> Limiter<C> {
    /// The limits of a policy on a given clock.
    pub fn with_clock(policy: &BackendPolicy, earns_credit: bool, clock: C) -> Self {
        let requests = policy.requests_per_minute.map(|limit| {
            let burst = u64::from(limit.get()) * REQUEST_BURST.as_secs();
            let burst = NonZeroU32::new(burst.div_ceil(60) as u32).unwrap_or(NonZeroU32::MIN);
            RateLimiter::direct_with_clock(Quota::per_minute(limit).allow_burst(burst), clock.clone())
        });
        let tokens = policy
            .tokens_per_minute
            .map(|limit| (RateLimiter::direct_with_clock(Quota::per_minute(limit), clock.clone()), limit));
        let credit = earns_credit.then(Credit::default);
        let mean_output = AtomicU64::new(FIRST_OUTPUT * MEAN_PARTS);
        Self { requests, tokens, debt: AtomicU64::new(0), credit, mean_output, clock }
    }

    /// Charges a call of about `tokens` tokens.
    ///
    /// # Errors
    /// Which limit is used up, and how long until it admits.
    pub fn try_charge(&self, tokens: u64) -> Result<(), Rejection> {
        let charged = self.try_tokens(tokens)?;
        let Some(gate) = &self.requests else { return Ok(()) };
        gate.check().map_err(|not_until| {
            // governor cannot refund: what the tokens were charged for in vain is used by the next call.
            self.give(charged);
            self.rejection(Reason::LocalRpm, &not_until)
        })
    }

    /// Charges the tokens; says how many.
    fn try_tokens(&self, tokens: u64) -> Result<u64, Rejection> {
        let Some((gate, limit)) = &self.tokens else { return Ok(0) };
        let debt = self.debt.swap(0, Ordering::Relaxed);
        // A charge above the capacity is clipped: no request is barred for ever.
        let charge = tokens.saturating_add(debt).clamp(1, u64::from(limit.get()));
        let credit = self.credit.as_ref().map_or(0, |credit| credit.take(charge, self.clock.now()));
        let Some(rest) = NonZeroU32::new((charge - credit) as u32) else { return Ok(charge) };
        if let Ok(Err(not_until)) = gate.check_n(rest) {
            self.debt.fetch_add(debt, Ordering::Relaxed);
            self.give(credit);
            return Err(self.rejection(Reason::LocalTpm, &not_until));
        }
        Ok(charge)
    }

    /// Settles an estimate by the reported figures: what was used beyond it is owed, what was not used is given back.
    pub fn settle(&self, estimated: u64, used: u64, output: u64) {
        let mean = |known: u64| Some(known - known / MEAN_PARTS + output.min(u64::MAX / MEAN_PARTS));
        let _ = self.mean_output.fetch_update(Ordering::Relaxed, Ordering::Relaxed, mean);
        if let Some((_, limit)) = &self.tokens {
            // As much was charged, and no more.
            let estimated = estimated.min(u64::from(limit.get()));
            self.debt.fetch_add(used.saturating_sub(estimated), Ordering::Relaxed);
            self.give(estimated.saturating_sub(used));
        }
    }

    /// Output tokens to expect of a call that names no maximum.
    pub fn mean_output(&self) -> u64 {
        self.mean_output.load(Ordering::Relaxed) / MEAN_PARTS
    }

    fn give(&self, tokens: u64) {
        if let (Some(credit), Some((_, limit))) = (&self.credit, &self.tokens)
            && 0 < tokens
        {
            credit.give(tokens, u64::from(limit.get()) / CREDIT_PART, self.clock.now());
        }
    }

    fn rejection(&self, reason: Reason, not_until: &NotUntil<Nanos>) -> Rejection {
        Rejection::lasting(reason, not_until.wait_time_from(self.clock.now()))
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn policy(requests: u32, tokens: u32) -> BackendPolicy {
        BackendPolicy {
            requests_per_minute: NonZeroU32::new(requests),
            tokens_per_minute: NonZeroU32::new(tokens),
            ..BackendPolicy::default()
        }
    }

    fn admitted(limiter: &Limiter<FakeRelativeClock>, tokens: u64) -> usize {
        std::iter::from_fn(|| limiter.try_charge(tokens).ok()).take(10_000).count()
    }

    #[test]
    fn requests_burst_for_ten_seconds_and_never_exceed_the_minute() {
        let clock = FakeRelativeClock::default();
        let limiter = Limiter::with_clock(&policy(60, 0), true, clock.clone());
        assert_eq!(admitted(&limiter, 1), 10);
        assert_eq!(limiter.try_charge(1).unwrap_err().reason, Reason::LocalRpm);
        let mut total = 0;
        for _ in 0..60 {
            clock.advance(Duration::from_secs(1));
            total += admitted(&limiter, 1);
        }
        assert_eq!(total, 60);
    }

    #[actix::test]
    async fn the_gateways_limiter_follows_the_gateways_clock() {
        tokio::time::pause();
        let limiter = Limiter::new(&policy(60, 0), true);
        let admitted = || (0..100).take_while(|_| limiter.try_charge(1).is_ok()).count();
        assert_eq!(admitted(), 10);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(admitted(), 2);
    }

    #[test]
    fn tokens_are_charged_clipped_and_settled_by_debt() {
        let clock = FakeRelativeClock::default();
        let limiter = Limiter::with_clock(&policy(0, 1_000), true, clock.clone());
        assert!(limiter.try_charge(5_000).is_ok(), "clipped to the capacity");
        assert_eq!(limiter.try_charge(1).unwrap_err().reason, Reason::LocalTpm);
        clock.advance(Duration::from_secs(60));
        assert!(limiter.try_charge(100).is_ok());
        limiter.settle(100, 600, 500);
        assert!(limiter.try_charge(100).is_ok(), "100 and a debt of 500 fit");
        assert!(limiter.try_charge(400).is_err());
        assert!(limiter.try_charge(300).is_ok());
    }
    /// A limiter of 1,200 tokens per minute, emptied.
    fn spent(earns_credit: bool, clock: &FakeRelativeClock) -> Limiter<FakeRelativeClock> {
        // governor's clock begins at nothing, and a credit given then would look like none.
        clock.advance(Duration::from_secs(100));
        let limiter = Limiter::with_clock(&policy(0, 1_200), earns_credit, clock.clone());
        assert!(limiter.try_charge(1_200).is_ok());
        limiter
    }

    #[test]
    fn tokens_not_used_are_given_back_up_to_a_sixth_and_for_a_minute() {
        let clock = FakeRelativeClock::default();
        let limiter = spent(true, &clock);
        limiter.settle(1_200, 100, 50);
        assert!(limiter.try_charge(201).is_err(), "a sixth is 200");
        assert!(limiter.try_charge(150).is_ok() && limiter.try_charge(50).is_ok());
        assert!(limiter.try_charge(1).is_err());
        // Given in one minute, wanted in the next: 1,200 have come back, and no credit beyond them.
        limiter.settle(1_200, 100, 50);
        clock.advance(Duration::from_secs(60));
        assert_eq!(admitted(&limiter, 100), 12);
    }

    #[test]
    fn an_estimate_above_the_capacity_is_settled_by_what_was_charged() {
        let clock = FakeRelativeClock::default();
        clock.advance(Duration::from_secs(100));
        let limiter = Limiter::with_clock(&policy(0, 1_000), true, clock.clone());
        assert!(limiter.try_charge(5_000).is_ok());
        limiter.settle(5_000, 1_700, 100);
        clock.advance(Duration::from_secs(60));
        assert!(limiter.try_charge(200).is_ok(), "and a debt of 700");
        assert!(limiter.try_charge(101).is_err());
    }

    #[test]
    fn where_the_provider_counts_estimates_nothing_is_given_back() {
        let clock = FakeRelativeClock::default();
        let limiter = spent(false, &clock);
        limiter.settle(1_200, 100, 50);
        assert!(limiter.try_charge(1).is_err());
    }

    #[test]
    fn a_charge_in_vain_is_used_by_the_next_call() {
        let clock = FakeRelativeClock::default();
        clock.advance(Duration::from_secs(100));
        let limiter = Limiter::with_clock(&policy(6, 1_200), true, clock.clone());
        assert!(limiter.try_charge(1_000).is_ok());
        assert_eq!(limiter.try_charge(150).unwrap_err().reason, Reason::LocalRpm);
        clock.advance(Duration::from_secs(10));
        assert!(limiter.try_charge(150 + 200 + 50).is_ok(), "50 were left, 200 have come back, 150 are credit");
    }

    #[test]
    fn the_mean_output_begins_at_512_and_follows_the_answers() {
        let limiter = Limiter::with_clock(&policy(0, 0), true, FakeRelativeClock::default());
        assert_eq!(limiter.mean_output(), 512);
        for _ in 0..400 {
            limiter.settle(0, 0, 100);
        }
        assert!((100..105).contains(&limiter.mean_output()), "{}", limiter.mean_output());
    }
}
