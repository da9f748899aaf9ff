//! Client keys: one look-up by digest however many there are, then one constant-time equality (spec/wire.md 1.7).

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use actix_web::http::header::{AUTHORIZATION, HeaderMap, HeaderName};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::key_limits::{KeyLimit, KeyLimits};
use crate::config::{ApiKey, ClientKey, Config};
use crate::error::Fault;
use crate::telemetry::{ClientHandles, Metrics};

/// Headers that may carry a key after `authorization`, in this order.
const KEY_HEADERS: [HeaderName; 2] = [HeaderName::from_static("api-key"), HeaderName::from_static("x-api-key")];

/// Under which name requests without a valid key are counted.
const NOBODY: &str = "_none";

/// The keys of one configuration.
pub(super) struct Keys {
    config: Arc<Config>,
    /// The configuration's hash, for this worker's own use.
    pub(super) hash: Rc<str>,
    by_digest: HashMap<[u8; 32], usize>,
    /// Their limits, in the order of the configuration.
    limits: Vec<Arc<KeyLimit>>,
    /// Their metrics, in the same order, and behind them those of requests without a valid key; empty where no keys are
    /// asked for.
    handles: Vec<Arc<ClientHandles>>,
    /// Where a key may stand when `authorization` has none.
    headers: Vec<HeaderName>,
}

/// A key that a request has brought, and its limits.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) key: &'a ClientKey,
    pub(super) limit: &'a KeyLimit,
    pub(super) handles: &'a Arc<ClientHandles>,
}

impl Keys {
    /// Indexes the keys of a configuration.
    pub(super) fn of(config: &Arc<Config>, limits: &KeyLimits, metrics: &Metrics) -> Self {
        let limits = config.auth.keys.iter().map(|key| limits.of(key)).collect();
        let keys = config.auth.keys.iter().enumerate();
        let by_digest = keys.map(|(index, key)| (digest(key.key.expose()), index)).collect();
        let names = config.auth.keys.iter().map(|key| &*key.name).chain([NOBODY]);
        let handles =
            if config.auth.keys.is_empty() { Vec::new() } else { names.map(|name| metrics.client(name)).collect() };
        let own = config.auth.header_names.iter().filter_map(|name| name.parse().ok());
        let headers = KEY_HEADERS.into_iter().chain(own).collect();
        let hash = Rc::from(&*config.hash);
        Self { config: Arc::clone(config), hash, by_digest, limits, handles, headers }
    }

    /// Whether they are those of `config`.
    pub(super) fn is_of(&self, config: &Arc<Config>) -> bool {
        Arc::ptr_eq(&self.config, config)
    }

    /// Counts requests that have shown no valid key; none where no keys are asked for.
    pub(super) fn nobody(&self) -> Option<&Arc<ClientHandles>> {
        self.handles.last()
    }

    /// The key that a request brings; none where no keys are configured.
    ///
    /// # Errors
    /// [`Fault::MissingKey`] or [`Fault::InvalidKey`].
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<Option<Known<'_>>, Fault> {
        if self.config.auth.keys.is_empty() {
            return Ok(None);
        }
        let brought = self.brought(headers).ok_or(Fault::MissingKey)?;
        let brought = digest(brought);
        let index = *self.by_digest.get(&brought).ok_or(Fault::InvalidKey)?;
        let (key, limit, handles) = (&self.config.auth.keys[index], &*self.limits[index], &self.handles[index]);
        let is_equal = bool::from(digest(key.key.expose()).ct_eq(&brought));
        if is_equal { Ok(Some(Known { key, limit, handles })) } else { Err(Fault::InvalidKey) }
    }

    /// The first key that is not empty.
    fn brought<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        let value = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
        std::iter::once(bearer(headers)).chain(self.headers.iter().map(value)).flatten().find(|key| !key.is_empty())
    }
}

/// Checks the operators' token, which stands in `Authorization: Bearer` and nowhere else.
///
/// # Errors
/// [`Fault::MissingKey`] or [`Fault::InvalidKey`].
pub(super) fn check_token(token: &ApiKey, headers: &HeaderMap) -> Result<(), Fault> {
    let brought = bearer(headers).filter(|brought| !brought.is_empty()).ok_or(Fault::MissingKey)?;
    let is_equal = bool::from(digest(token.expose()).ct_eq(&digest(brought)));
    if is_equal { Ok(()) } else { Err(Fault::InvalidKey) }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, key) = headers.get(AUTHORIZATION)?.to_str().ok()?.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

fn digest(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}
