//! How many attempts a request may make and until when (spec/resilience.md 7.1, 7.3).
//!
//! The only loop of the program is failover, and this is its bound.

use std::time::Duration;

use super::request::ClientLimits;
use crate::clock::Instant;
use crate::config::RoutePolicy;

/// What may follow a failed attempt that fails over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another backend of the same route.
    Failover,
    /// The route's attempts are used up: only another route.
    Fallback,
    /// All attempts are used up.
    Spent,
    /// Less time is left than an attempt must have.
    NoTime,
}

/// The attempts and the time of one request.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    deadline: Instant,
    min_attempt: Duration,
    on_route: u32,
    in_all: u32,
    made: u32,
}

impl Budget {
    /// The budget of a request received at `started` for a route with `tiers` tiers. The caller's limits only lower it.
    pub fn new(policy: &RoutePolicy, tiers: usize, limits: ClientLimits, stream: bool, started: Instant) -> Self {
        let asked = limits.timeout.into_iter().chain(limits.stream_timeout.filter(|_| stream));
        let total = asked.fold(policy.total, Duration::min);
        let on_route = attempts_on(policy, tiers, limits);
        let in_all = if limits.disable_fallbacks { 1 } else { policy.max_total_attempts.max(policy.max_attempts) };
        Self { deadline: started.plus(total), min_attempt: policy.min_attempt, on_route, in_all, made: 0 }
    }

    /// When the request must be over; a stream up to its first content.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Attempts begun so far.
    pub fn made(&self) -> u32 {
        self.made
    }

    /// Attempts that are left on this route.
    pub fn left(&self) -> u32 {
        self.on_route.min(self.in_all)
    }

    /// An attempt begins.
    pub fn spend(&mut self) {
        self.made += 1;
        self.on_route = self.on_route.saturating_sub(1);
        self.in_all = self.in_all.saturating_sub(1);
    }

    /// What was spent last was no attempt after all.
    pub fn refund(&mut self) {
        self.made = self.made.saturating_sub(1);
        self.on_route = self.on_route.saturating_add(1);
        self.in_all = self.in_all.saturating_add(1);
    }

    /// The request goes on with another route.
    pub fn enter(&mut self, policy: &RoutePolicy, tiers: usize, limits: ClientLimits) {
        self.on_route = attempts_on(policy, tiers, limits);
        self.min_attempt = policy.min_attempt;
    }

    /// What may follow an attempt that failed by `now`.
    pub fn after(&self, now: Instant) -> Next {
        if self.deadline.since(now) < self.min_attempt || self.deadline <= now {
            return Next::NoTime;
        }
        match (self.in_all, self.on_route) {
            (0, _) => Next::Spent,
            (_, 0) => Next::Fallback,
            (_, _) => Next::Failover,
        }
    }
}

/// `num_retries: 0` must not switch failover off: every tier keeps its turn.
fn attempts_on(policy: &RoutePolicy, tiers: usize, limits: ClientLimits) -> u32 {
    if limits.disable_fallbacks {
        return 1;
    }
    let tiers = u32::try_from(tiers).unwrap_or(u32::MAX);
    let asked = limits.num_retries.map_or(u32::MAX, |retries| retries.saturating_add(1).max(tiers));
    policy.max_attempts.min(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Instant = Instant::from_nanos(1_000_000_000_000);

    fn policy(max_attempts: u32, max_total_attempts: u32) -> RoutePolicy {
        RoutePolicy { max_attempts, max_total_attempts, ..RoutePolicy::default() }
    }

    fn after(budget: &Budget, seconds: u64) -> Next {
        budget.after(START.plus(Duration::from_secs(seconds)))
    }

    #[test]
    fn attempts_end_on_the_route_and_then_in_all() {
        let policy = policy(2, 3);
        let mut budget = Budget::new(&policy, 2, ClientLimits::default(), false, START);
        budget.spend();
        assert_eq!(after(&budget, 1), Next::Failover);
        budget.spend();
        assert_eq!(after(&budget, 1), Next::Fallback);
        budget.enter(&policy, 2, ClientLimits::default());
        assert_eq!(after(&budget, 1), Next::Failover);
        budget.spend();
        assert_eq!((after(&budget, 1), budget.made()), (Next::Spent, 3));
    }

    #[test]
    fn time_ends_before_the_deadline_does() {
        let budget = Budget::new(&RoutePolicy::default(), 2, ClientLimits::default(), false, START);
        assert_eq!(after(&budget, 599), Next::Failover);
        assert_eq!(after(&budget, 600), Next::NoTime);
        let half = START.plus(Duration::from_millis(599_500));
        assert_eq!(budget.after(half), Next::NoTime, "less than min_attempt is left");
    }

    #[test]
    fn the_caller_only_lowers() {
        let seconds = |count| Some(Duration::from_secs(count));
        let limits = ClientLimits { timeout: seconds(5), stream_timeout: seconds(2), ..ClientLimits::default() };
        let deadline = |limits, stream| Budget::new(&policy(3, 5), 2, limits, stream, START).deadline().since(START);
        assert_eq!(deadline(limits, false), Duration::from_secs(5));
        assert_eq!(deadline(limits, true), Duration::from_secs(2));
        let longer = ClientLimits { timeout: seconds(9_999), ..ClientLimits::default() };
        assert_eq!(deadline(longer, false), Duration::from_secs(600));
        let retries = ClientLimits { num_retries: Some(0), ..ClientLimits::default() };
        assert_eq!(attempts_on(&policy(3, 5), 2, retries), 2, "every tier keeps its turn");
        let alone = ClientLimits { disable_fallbacks: true, ..ClientLimits::default() };
        let mut budget = Budget::new(&policy(3, 5), 2, alone, false, START);
        budget.spend();
        assert_eq!(after(&budget, 1), Next::Spent);
    }
}
