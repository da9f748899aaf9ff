//! Everything about a configuration that can fail, done before anything becomes visible.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::sign::CertifiedKey;

use super::trust::Trust;
use crate::certificate;
use crate::config::{BackendId, BaseUrl, Config, Credential};
use crate::provider::Target;
use crate::provider::token::Token;
use crate::tokens::Renewers;

/// What a configuration needs beside its actors.
pub(super) struct Prepared {
    /// Every identity whose tokens are renewed, and the roots for its authority.
    pub(super) tokens: Vec<(Arc<Token>, Option<Arc<rustls::ClientConfig>>)>,
    /// Every backend's share of it.
    pub(super) backends: HashMap<BackendId, PreparedBackend>,
    /// The roots they trust.
    pub(super) trust: Trust,
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

/// Reads the listener's certificate and works out how every backend is spoken to. Backends
/// with the same roots share one TLS configuration, and so its sessions: that of `trust` where nothing has changed.
///
/// # Errors
/// A sentence without secrets that names the backend or the file.
pub(super) fn prepare(config: &Config, known: &Renewers, trust: &Trust) -> Result<Prepared, String> {
    let files = config.server.tls.as_ref();
    let certificate = files.map(|(cert, key)| certificate::read(cert, key)).transpose()?;
    let (earlier, mut trust) = (trust, Trust::default());
    let mut backends = HashMap::new();
    let mut tokens: Vec<(Arc<Token>, _)> = Vec::new();
    for (id, backend) in &config.backends {
        let named = |problem: String| format!("backend `{id}`: {problem}");
        let ca_file = backend.ca_file.as_deref().or(config.defaults.ca_file.as_deref());
        let http2 = backend.http2.unwrap_or(config.defaults.http2);
        let mut tls_for =
            |base: &BaseUrl, http2| base.tls.then(|| trust.config(ca_file, http2, earlier).map_err(named)).transpose();
        let tls = tls_for(&backend.base_url, http2)?;
        let token = match &backend.credential {
            Some(Credential::Entra(identity)) => match tokens.iter().find(|(token, _)| token.identity() == &**identity)
            {
                Some((token, _)) => Some(Arc::clone(token)),
                None => {
                    let token = known.token(identity);
                    let token = token.unwrap_or_else(|| Arc::new(Token::new(Arc::clone(identity))));
                    tokens.push((Arc::clone(&token), tls_for(&identity.authority, false)?));
                    Some(token)
                }
            },
            Some(Credential::Bearer(_) | Credential::ApiKeyHeader(_)) | None => None,
        };
        let target = Arc::new(Target::with_token(backend, token).map_err(named)?);
        backends.insert(id.clone(), PreparedBackend { target, tls });
    }
    Ok(Prepared { tokens, backends, trust, certificate })
}
