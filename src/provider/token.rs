//! A bearer token that is renewed while it is used: what requests read.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::HeaderValue;
use tokio::sync::{Notify, watch};

use crate::clock::{self, Instant};
use crate::config::EntraIdentity;

/// Longest time a token is kept, whatever is said of it: Entra's own longest life.
pub const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// A token is not sent in its last seconds: it must be valid where it arrives, by another clock.
const LAST_SECONDS: Duration = Duration::from_secs(10);

/// The tokens of one identity, one after another. Any number of workers read it, one task renews it.
pub struct Token {
    identity: Arc<EntraIdentity>,
    held: watch::Sender<Held>,
    refused: Notify,
}

#[derive(Default)]
struct Held {
    bearer: Option<Bearer>,
    /// The last attempt to get one failed: nobody need wait for it.
    has_failed: bool,
}

struct Bearer {
    header: HeaderValue,
    /// Not sent from then on.
    until: Instant,
}

impl Held {
    fn usable(&self, now: Instant) -> Option<HeaderValue> {
        self.bearer.as_ref().filter(|bearer| now < bearer.until).map(|bearer| bearer.header.clone())
    }
}

impl Token {
    /// An identity that has no token yet.
    pub fn new(identity: Arc<EntraIdentity>) -> Self {
        Self { identity, held: watch::Sender::new(Held::default()), refused: Notify::new() }
    }

    /// Whose it is.
    pub fn identity(&self) -> &EntraIdentity {
        &self.identity
    }

    /// The `Authorization` header to send now. Where none was got yet, waits for the attempt under way, at most until `limit`;
    /// none if there is none to be had.
    pub async fn header(&self, limit: Instant) -> Option<HeaderValue> {
        if let Some(header) = self.held.borrow().usable(clock::now()) {
            return Some(header);
        }
        let mut changes = self.held.subscribe();
        let found = changes.wait_for(|held| held.has_failed || held.usable(clock::now()).is_some());
        let held = tokio::time::timeout_at(clock::to_tokio(limit), found).await.ok()?.ok()?;
        held.usable(clock::now())
    }

    /// A provider has refused that header: if no other has taken its place, one is wanted before its time.
    pub fn refuse(&self, header: &HeaderValue) {
        if self.held.borrow().bearer.as_ref().is_some_and(|bearer| bearer.header == *header) {
            self.refused.notify_one();
        }
    }

    /// Puts another in force, which lives for `lifetime` from `now` on.
    pub fn renew(&self, header: HeaderValue, lifetime: Duration, now: Instant) {
        let lifetime = lifetime.min(LONGEST);
        let until = now.plus(lifetime.saturating_sub(LAST_SECONDS.min(lifetime / 10)));
        self.held.send_replace(Held { bearer: Some(Bearer { header, until }), has_failed: false });
    }

    /// There was none to be had. One that still lives stays in force.
    pub fn fail(&self) {
        self.held.send_modify(|held| held.has_failed = true);
    }

    /// Returns when a provider has refused the one in force.
    pub async fn refused(&self) {
        self.refused.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ApiKey, BaseUrl};

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn token() -> Token {
        let authority = BaseUrl { tls: true, host: "a".to_owned(), port: 443, path: String::new() };
        let [tenant, client, scope, secret_reference] = ["t", "c", "s", "env:S"].map(str::to_owned);
        let secret = ApiKey::new("secret");
        Token::new(Arc::new(EntraIdentity { tenant, client, secret, secret_reference, scope, authority }))
    }

    const ONE: HeaderValue = HeaderValue::from_static("Bearer one");

    #[tokio::test(start_paused = true)]
    async fn a_request_waits_for_the_first_token_and_no_longer_than_it_may() {
        let token = token();
        let limit = clock::now().plus(seconds(5));
        assert_eq!(token.header(limit).await, None);
        assert!(limit <= clock::now(), "it waited");
        let later = clock::now().plus(seconds(5));
        let (got, ()) = tokio::join!(token.header(later), async {
            tokio::time::sleep(seconds(1)).await;
            token.renew(ONE, seconds(3_600), clock::now());
        });
        assert_eq!(got, Some(ONE));
        assert!(clock::now() < later);
    }

    #[tokio::test(start_paused = true)]
    async fn without_any_to_be_had_nobody_waits_and_one_that_lives_is_used() {
        let token = token();
        token.fail();
        let now = clock::now();
        assert_eq!(token.header(now.plus(seconds(5))).await, None);
        assert_eq!(clock::now(), now);
        token.renew(ONE, seconds(100), now);
        token.fail();
        assert_eq!(token.header(now).await, Some(ONE));
        tokio::time::advance(seconds(90)).await;
        assert_eq!(token.header(clock::now().plus(seconds(5))).await, None, "its last seconds are not used");
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_one_in_force_can_be_refused() {
        let token = token();
        let is_wanted = async || tokio::time::timeout(seconds(1), token.refused()).await.is_ok();
        token.refuse(&ONE);
        assert!(!is_wanted().await);
        token.renew(ONE, seconds(100), clock::now());
        token.refuse(&HeaderValue::from_static("Bearer zero"));
        assert!(!is_wanted().await);
        token.refuse(&ONE);
        assert!(is_wanted().await);
    }
}
