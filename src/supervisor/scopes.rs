//! What backends have in common: who shares a credential, a quota or a host (spec/resilience.md 1).

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Weak};

use sha2::{Digest as _, Sha256};

use crate::backend::Scopes;
use crate::backend::circuit_breaker::Change;
use crate::backend::endpoint::{self, Endpoint};
use crate::backend::ledger::Ledger;
use crate::backend::scope::{Blocks, Scope};
use crate::clock;
use crate::config::{Backend, BackendPolicy, Config, Credential};

/// A digest keyed for this process: it tells credentials apart and says nothing about them elsewhere.
type Fingerprint = [u8; 32];

/// Scheme, host and port.
type Host = (bool, String);

/// Every scope that some backend uses.
pub(super) struct Registry {
    key: [u8; 32],
    credentials: HashMap<Fingerprint, Weak<Scope>>,
    quotas: HashMap<Fingerprint, Weak<Scope>>,
    ledgers: HashMap<Fingerprint, Weak<Ledger>>,
    endpoints: HashMap<Host, Weak<Endpoint>>,
}

impl Registry {
    /// An empty registry with a key of its own.
    pub(super) fn new() -> Self {
        let mut key = [0; 32];
        fastrand::fill(&mut key);
        Self {
            key,
            credentials: HashMap::new(),
            quotas: HashMap::new(),
            ledgers: HashMap::new(),
            endpoints: HashMap::new(),
        }
    }

    /// The scopes of a backend: those that others have, where they share them.
    pub(super) fn scopes(&mut self, backend: &Backend) -> Scopes {
        let credential = account(self, backend);
        let quota = self.fingerprint(&[&credential, backend.upstream_model.as_bytes()]);
        let blocks = Blocks::new(
            shared(&mut self.credentials, credential, Arc::default),
            shared(&mut self.quotas, quota, Arc::default),
        );
        let policy = endpoint::policy(&backend.policy);
        let new = || Endpoint::new(backend.base_url.endpoint(), policy, fastrand::u64(..), clock::now());
        let endpoint = shared(&mut self.endpoints, host(backend), new);
        Scopes { blocks, ledger: shared(&mut self.ledgers, quota, Arc::default), endpoint }
    }

    /// Gives every host the settings of its backends, and forgets what nobody uses any more. Says which hosts' circuits that
    /// changed.
    pub(super) fn settle(&mut self, config: &Config) -> Vec<(String, Change)> {
        let now = clock::now();
        let mut changed = Vec::new();
        let mut policies: HashMap<Host, BackendPolicy> = HashMap::new();
        for backend in config.backends.values() {
            let mine = endpoint::policy(&backend.policy);
            let known = policies.entry(host(backend)).or_insert_with(|| mine.clone());
            // The backend that would rather come back soon decides for its host.
            if mine.circuit_breaker.wait_duration_in_open_state < known.circuit_breaker.wait_duration_in_open_state {
                *known = mine;
            }
        }
        for (host, policy) in policies {
            if let Some(endpoint) = self.endpoints.get(&host).and_then(Weak::upgrade) {
                let changes = endpoint.reconfigure(policy, now);
                changed.extend(changes.into_iter().map(|change| (endpoint.name().to_owned(), change)));
            }
        }
        self.credentials.retain(|_, scope| 0 < scope.strong_count());
        self.quotas.retain(|_, scope| 0 < scope.strong_count());
        self.ledgers.retain(|_, ledger| 0 < ledger.strong_count());
        self.endpoints.retain(|_, endpoint| 0 < endpoint.strong_count());
        changed
    }

    /// Parts are told apart by their lengths, so that no two lists read alike.
    fn fingerprint(&self, parts: &[&[u8]]) -> Fingerprint {
        let mut digest = Sha256::new_with_prefix(self.key);
        for part in parts {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        digest.finalize().into()
    }
}

/// The account of a provider that a backend uses.
fn account(registry: &Registry, backend: &Backend) -> Fingerprint {
    let key = match &backend.credential {
        Some(Credential::Bearer(key) | Credential::ApiKeyHeader(key)) => [key.expose(), "", ""],
        Some(Credential::Entra(identity)) => [identity.secret.expose(), &identity.tenant, &identity.client],
        None => [""; 3],
    };
    let organization = backend.organization.as_deref().unwrap_or_default();
    let (provider, endpoint) = (backend.provider.name(), backend.base_url.endpoint());
    // A header may name another project or organization, or be the credential itself.
    let extra = backend.extra_headers.iter().flat_map(|(name, value)| [name.as_str(), value.expose()]);
    let parts: Vec<&[u8]> =
        [provider, &endpoint, organization].into_iter().chain(key).chain(extra).map(str::as_bytes).collect();
    registry.fingerprint(&parts)
}

fn host(backend: &Backend) -> Host {
    (backend.base_url.tls, backend.base_url.endpoint())
}

fn shared<K: Eq + Hash, V>(known: &mut HashMap<K, Weak<V>>, key: K, new: impl FnOnce() -> Arc<V>) -> Arc<V> {
    let slot = known.entry(key).or_default();
    slot.upgrade().unwrap_or_else(|| {
        let made = new();
        *slot = Arc::downgrade(&made);
        made
    })
}
