//! TLS towards upstreams: the platform's roots, and a backend's own beside them.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

/// The protocols by their names in ALPN (RFC 7301 6, RFC 9113 3.2).
pub(super) const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

/// Makes a client configuration that trusts the platform's roots and those in `ca_file`, if one is named.
///
/// HTTP/1.1 alone is offered, or HTTP/2 before it.
///
/// # Errors
/// A sentence without secrets: no usable root at all, or an unreadable `ca_file`.
pub fn client_config(ca_file: Option<&str>, http2: bool) -> Result<Arc<ClientConfig>, String> {
    trusting(&Arc::new(roots(ca_file)?), http2)
}

/// The platform's roots, and those in `ca_file`, as they are now.
///
/// # Errors
/// As [`client_config`].
pub fn roots(ca_file: Option<&str>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(native.certs);
    if let Some(path) = ca_file {
        let certificates = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| format!("cannot read certificates from `{path}`: {error}"))?;
        let (added, _) = roots.add_parsable_certificates(certificates);
        if added == 0 {
            return Err(format!("`{path}` holds no usable certificate"));
        }
    }
    if roots.is_empty() {
        return Err("the platform has no root certificates: install `ca-certificates` or set `ca_file`".to_owned());
    }
    Ok(roots)
}

/// Makes a client configuration that trusts these roots and no others.
///
/// # Errors
/// TLS itself cannot be set up.
pub fn trusting(roots: &Arc<RootCertStore>, http2: bool) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?
        .with_root_certificates(Arc::clone(roots))
        .with_no_client_auth();
    config.alpn_protocols = vec![HTTP1.to_vec()];
    if http2 {
        config.alpn_protocols.insert(0, HTTP2.to_vec());
    }
    Ok(Arc::new(config))
}

/// Whether a configuration offers HTTP/2.
pub(super) fn offers_http2(config: &ClientConfig) -> bool {
    config.alpn_protocols.first().is_some_and(|first| first == HTTP2)
}

/// The same without that offer.
pub(super) fn only_http1(config: &ClientConfig) -> Arc<ClientConfig> {
    let mut config = config.clone();
    config.alpn_protocols = vec![HTTP1.to_vec()];
    Arc::new(config)
}
