//! What one client key may use, over all workers: requests per minute and requests at once (spec/wire.md 3.3).

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::clock::Clock as _;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use crate::backend::GatewayClock;
use crate::config::ClientKey;
use crate::proxy::record::Live;

/// How soon a client that has too many requests at once may come back.
const AT_ONCE_RETRY: Duration = Duration::from_secs(1);

type Gate = RateLimiter<NotKeyed, InMemoryState, GatewayClock, NoOpMiddleware<Nanos>>;

/// The limits of one key.
pub(super) struct KeyLimit {
    per_minute: Option<(NonZeroU32, Gate)>,
    at_once: Option<NonZeroU32>,
    in_flight: Arc<AtomicU32>,
}

/// A limit that is used up.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Over {
    /// Which, for the message.
    pub(super) what: &'static str,
    /// Its value.
    pub(super) limit: u32,
    /// When to come back.
    pub(super) wait: Duration,
}

impl KeyLimit {
    fn of(key: &ClientKey) -> Self {
        let per_minute = key.requests_per_minute.map(|limit| {
            // A client may spend its minute as it likes: the limit guards the operator's purse, not a provider's slices.
            (limit, RateLimiter::direct_with_clock(Quota::per_minute(limit), GatewayClock))
        });
        Self { per_minute, at_once: key.max_in_flight, in_flight: Arc::default() }
    }

    fn is_of(&self, key: &ClientKey) -> bool {
        self.at_once == key.max_in_flight
            && self.per_minute.as_ref().map(|(limit, _)| *limit) == key.requests_per_minute
    }

    /// Lets a request begin; it counts until what is returned drops.
    ///
    /// # Errors
    /// The limit that is used up.
    pub(super) fn try_begin(&self) -> Result<Option<Live>, Over> {
        let live = self.at_once.map(|limit| (limit.get(), Live::begin(&self.in_flight)));
        if let Some((limit, _)) = live.as_ref().filter(|(limit, _)| *limit < self.in_flight.load(Ordering::Relaxed)) {
            return Err(Over { what: "requests at once", limit: *limit, wait: AT_ONCE_RETRY });
        }
        if let Some((limit, gate)) = &self.per_minute
            && let Err(until) = gate.check()
        {
            let wait = until.wait_time_from(GatewayClock.now());
            return Err(Over { what: "requests per minute", limit: limit.get(), wait });
        }
        Ok(live.map(|(_, live)| live))
    }
}

/// The limits of all keys by their names. Looked up when keys are indexed, never for a request.
#[derive(Default)]
pub(super) struct KeyLimits(Mutex<HashMap<Arc<str>, Arc<KeyLimit>>>);

impl KeyLimits {
    /// The limits of a key: the same ones for every worker, and over a reload as long as they are not changed.
    pub(super) fn of(&self, key: &ClientKey) -> Arc<KeyLimit> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get(&key.name) {
            Some(limit) if limit.is_of(key) => Arc::clone(limit),
            Some(_) | None => {
                let made = Arc::new(KeyLimit::of(key));
                known.insert(Arc::clone(&key.name), Arc::clone(&made));
                made
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ApiKey;

    fn key(per_minute: u32, at_once: u32) -> ClientKey {
        ClientKey {
            key_reference: String::new(),
            name: Arc::from("batch"),
            key: ApiKey::new("secret"),
            routes: Vec::new(),
            requests_per_minute: NonZeroU32::new(per_minute),
            max_in_flight: NonZeroU32::new(at_once),
        }
    }

    #[test]
    fn requests_at_once_come_back_with_their_end() {
        let limit = KeyLimit::of(&key(0, 2));
        let (first, _second) = (limit.try_begin().unwrap(), limit.try_begin().unwrap());
        let over = limit.try_begin().err().unwrap();
        assert_eq!((over.what, over.limit), ("requests at once", 2));
        drop(first);
        assert!(limit.try_begin().is_ok());
    }

    #[test]
    fn a_minute_may_be_spent_at_once_and_says_when_the_next_may_come() {
        let limit = KeyLimit::of(&key(3, 0));
        assert!((0..3).all(|_| limit.try_begin().is_ok()));
        let over = limit.try_begin().err().unwrap();
        assert_eq!(over.what, "requests per minute");
        assert!(over.wait <= Duration::from_secs(20));
    }

    #[test]
    fn a_reload_keeps_limits_that_did_not_change() {
        let limits = KeyLimits::default();
        let first = limits.of(&key(3, 1));
        assert!(Arc::ptr_eq(&first, &limits.of(&key(3, 1))));
        assert!(!Arc::ptr_eq(&first, &limits.of(&key(4, 1))));
    }
}
