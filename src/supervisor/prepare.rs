//! Everything about a configuration that can fail, done before anything becomes visible.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::sign::CertifiedKey;

use crate::certificate;
use crate::config::{BackendId, Config};
use crate::provider::Target;
use crate::proxy::upstream::tls;

/// What a configuration needs beside its actors.
pub(super) struct Prepared {
    /// Every backend's share of it.
    pub(super) backends: HashMap<BackendId, PreparedBackend>,
    /// What the listener shows, where it speaks TLS.
    pub(super) certificate: Option<Arc<CertifiedKey>>,
}

/// What one backend needs beside its actor.
pub(super) struct PreparedBackend {
    /// How it is spoken to.
    pub(super) target: Arc<Target>,
    /// TLS roots; none: plain TCP.
    pub(super) tls: Option<Arc<rustls::ClientConfig>>,
}

/// Reads the listener's certificate and works out how every backend is spoken to. Backends with the same roots share one TLS configuration, and so its sessions.
///
/// # Errors
/// A sentence without secrets that names the backend or the file.
pub(super) fn prepare(config: &Config) -> Result<Prepared, String> {
    let files = config.server.tls.as_ref();
    let certificate = files.map(|(cert, key)| certificate::read(cert, key)).transpose()?;
    let mut roots: HashMap<Option<&str>, Arc<rustls::ClientConfig>> = HashMap::new();
    let mut backends = HashMap::new();
    for (id, backend) in &config.backends {
        let named = |problem: String| format!("backend `{id}`: {problem}");
        let target = Arc::new(Target::new(backend).map_err(named)?);
        let ca_file = backend.ca_file.as_deref().or(config.defaults.ca_file.as_deref());
        let tls = match (backend.base_url.tls, roots.get(&ca_file)) {
            (false, _) => None,
            (true, Some(known)) => Some(Arc::clone(known)),
            (true, None) => {
                let made = tls::client_config(ca_file).map_err(named)?;
                roots.insert(ca_file, Arc::clone(&made));
                Some(made)
            }
        };
        backends.insert(id.clone(), PreparedBackend { target, tls });
    }
    Ok(Prepared { backends, certificate })
}
