//! What is counted of one client key.

use prometheus::IntCounter;

use super::super::labels::{RequestOutcome, TokenType};
use super::{Metrics, Set};

/// The metrics of one client key.
pub struct ClientHandles {
    key: Box<str>,
    requests: Set<IntCounter>,
    tokens: Set<IntCounter>,
}

impl ClientHandles {
    /// Makes them, and all of their series.
    pub(super) fn new(metrics: &Metrics, key: &str) -> Self {
        Self {
            key: key.into(),
            requests: Set::new::<RequestOutcome>(|outcome| metrics.client_requests.child(&[key, outcome])),
            tokens: Set::new::<TokenType>(|kind| metrics.client_tokens.child(&[key, kind])),
        }
    }

    /// The key's name.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Its requests that ended so.
    pub fn requests(&self, outcome: RequestOutcome) -> &IntCounter {
        self.requests.at(outcome)
    }

    /// Tokens as reported.
    pub fn tokens(&self, kind: TokenType) -> &IntCounter {
        self.tokens.at(kind)
    }
}
