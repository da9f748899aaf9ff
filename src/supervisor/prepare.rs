//! Everything about a configuration that can fail, done before anything becomes visible.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::sign::CertifiedKey;

use crate::certificate;
use crate::config::{BackendId, BaseUrl, Config, Credential};
use crate::provider::Target;
use crate::provider::token::Token;
use crate::proxy::upstream::tls;
use crate::tokens::Renewers;

/// What a configuration needs beside its actors.
pub(super) struct Prepared {
    /// Every identity whose tokens are renewed, and the roots for its authority.
    pub(super) tokens: Vec<(Arc<Token>, Option<Arc<rustls::ClientConfig>>)>,
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
pub(super) fn prepare(config: &Config, known: &Renewers) -> Result<Prepared, String> {
    let files = config.server.tls.as_ref();
    let certificate = files.map(|(cert, key)| certificate::read(cert, key)).transpose()?;
    let mut roots: HashMap<(Option<&str>, bool), Arc<rustls::ClientConfig>> = HashMap::new();
    let mut backends = HashMap::new();
    let mut tokens: Vec<(Arc<Token>, _)> = Vec::new();
    for (id, backend) in &config.backends {
        let named = |problem: String| format!("backend `{id}`: {problem}");
        let ca_file = backend.ca_file.as_deref().or(config.defaults.ca_file.as_deref());
        let http2 = backend.http2.unwrap_or(config.defaults.http2);
        let mut tls_for = |base: &BaseUrl, http2| match (base.tls, roots.get(&(ca_file, http2))) {
            (false, _) => Ok::<_, String>(None),
            (true, Some(known)) => Ok(Some(Arc::clone(known))),
            (true, None) => {
                let made = tls::client_config(ca_file, http2).map_err(named)?;
                roots.insert((ca_file, http2), Arc::clone(&made));
                Ok(Some(made))
            }
        };
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
    Ok(Prepared { tokens, backends, certificate })
}
