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
    clock: C,
}

impl Limiter {
    /// The limits of a policy on the gateway's clock.
    pub fn new(policy: &BackendPolicy) -> Arc<Self> {
        Arc::new(Self::with_clock(policy, GatewayClock))
    }
}

impl<C: Clock<Instant = Nanos> + Clone> Limiter<C> {
    /// The limits of a policy on a given clock.
    pub fn with_clock(policy: &BackendPolicy, clock: C) -> Self {
        let requests = policy.requests_per_minute.map(|limit| {
            let burst = u64::from(limit.get()) * REQUEST_BURST.as_secs();
            let burst = NonZeroU32::new(burst.div_ceil(60) as u32).unwrap_or(NonZeroU32::MIN);
            RateLimiter::direct_with_clock(Quota::per_minute(limit).allow_burst(burst), clock.clone())
        });
        let tokens = policy
            .tokens_per_minute
            .map(|limit| (RateLimiter::direct_with_clock(Quota::per_minute(limit), clock.clone()), limit));
        Self { requests, tokens, debt: AtomicU64::new(0), clock }
    }

    /// Charges a call of about `tokens` tokens.
    ///
    /// # Errors
    /// Which limit is used up, and how long until it admits.
    pub fn try_charge(&self, tokens: u64) -> Result<(), Rejection> {
        if let Some((gate, limit)) = &self.tokens {
            let debt = self.debt.swap(0, Ordering::Relaxed);
            // A charge above the capacity is clipped: no request is barred for ever.
            let charge = tokens.saturating_add(debt).clamp(1, u64::from(limit.get())) as u32;
            let charge = NonZeroU32::new(charge).unwrap_or(NonZeroU32::MIN);
            if let Ok(Err(not_until)) = gate.check_n(charge) {
                self.debt.fetch_add(debt, Ordering::Relaxed);
                return Err(self.rejection(Reason::LocalTpm, &not_until));
            }
        }
        let Some(gate) = &self.requests else { return Ok(()) };
        gate.check().map_err(|not_until| {
            // governor cannot refund: what the tokens were charged for in vain is lost to this backend only for a moment.
            self.rejection(Reason::LocalRpm, &not_until)
        })
    }

    /// Settles an estimate by the reported figure: what was used beyond it is owed.
    pub fn settle(&self, estimated: u64, used: u64) {
        if self.tokens.is_some() {
            self.debt.fetch_add(used.saturating_sub(estimated), Ordering::Relaxed);
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
        let limiter = Limiter::with_clock(&policy(60, 0), clock.clone());
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
        let limiter = Limiter::new(&policy(60, 0));
        let admitted = || (0..100).take_while(|_| limiter.try_charge(1).is_ok()).count();
        assert_eq!(admitted(), 10);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(admitted(), 2);
    }

    #[test]
    fn tokens_are_charged_clipped_and_settled_by_debt() {
        let clock = FakeRelativeClock::default();
        let limiter = Limiter::with_clock(&policy(0, 1_000), clock.clone());
        assert!(limiter.try_charge(5_000).is_ok(), "clipped to the capacity");
        assert_eq!(limiter.try_charge(1).unwrap_err().reason, Reason::LocalTpm);
        clock.advance(Duration::from_secs(60));
        assert!(limiter.try_charge(100).is_ok());
        limiter.settle(100, 600);
        assert!(limiter.try_charge(100).is_ok(), "100 and a debt of 500 fit");
        assert!(limiter.try_charge(400).is_err());
        assert!(limiter.try_charge(300).is_ok());
    }
}
