//! The listener's certificate (`server.tls`): read and checked by each reload, handed to each TLS handshake as it then is.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// The certificate in force, shared by every worker's handshakes and the reload that replaces it.
///
/// Its lock is taken once per handshake, which costs some thousand times as much.
#[derive(Clone, Default)]
pub struct Certificate(Arc<Mutex<Option<Arc<CertifiedKey>>>>);

impl Certificate {
    /// The TLS settings of a listener that always shows the certificate in force: TLS 1.2 and 1.3, resumption by ticket.
    ///
    /// # Errors
    /// A sentence: the platform lacks what TLS needs.
    pub fn server_config(&self) -> Result<ServerConfig, String> {
        let unusable = |error: rustls::Error| format!("TLS cannot be set up: {error}");
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(self.clone()));
        config.ticketer = ring::Ticketer::new().map_err(unusable)?;
        Ok(config)
    }

    /// Puts another in force, for all handshakes from now on. Without one, the last stays: a listener that was started with
    /// TLS keeps it until a restart.
    pub fn renew(&self, key: Option<Arc<CertifiedKey>>) {
        if key.is_some() {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = key;
        }
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificate")
    }
}

/// What is wrong with a certificate and its key. Never holds a part of the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// No certificate can be read.
    Chain(String),
    /// No private key can be read, or its kind is not known.
    Key(String),
    /// The key belongs to another certificate.
    Pair,
}

/// Reads a certificate chain, leaf first, and its private key, both PEM.
///
/// # Errors
/// What is wrong with which of them.
pub fn parse(chain: &[u8], key: &[u8]) -> Result<Arc<CertifiedKey>, Flaw> {
    let chain = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Flaw::Chain(format!("is no PEM file with certificates: {error}")))?;
    if chain.is_empty() {
        return Err(Flaw::Chain("holds no certificate".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|error| Flaw::Key(format!("is no PEM file with a private key: {error}")))?;
    let certified = CertifiedKey::from_der(chain, key, &ring::default_provider());
    certified.map(Arc::new).map_err(|error| {
        if matches!(error, rustls::Error::InconsistentKeys(_)) {
            Flaw::Pair
        } else if matches!(error, rustls::Error::InvalidCertificate(_)) {
            Flaw::Chain(format!("cannot be used: {error}"))
        } else {
            Flaw::Key(format!("cannot be used: {error}"))
        }
    })
}

/// The same from two files.
///
/// # Errors
/// A sentence that names the file.
pub fn read(cert_file: &str, key_file: &str) -> Result<Arc<CertifiedKey>, String> {
    let open = |key: &str, file: &str| {
        std::fs::read(file).map_err(|error| format!("server.tls.{key}: `{file}` cannot be read: {error}"))
    };
    parse(&open("cert_file", cert_file)?, &open("key_file", key_file)?).map_err(|flaw| match flaw {
        Flaw::Chain(text) => format!("server.tls.cert_file: `{cert_file}` {text}"),
        Flaw::Key(text) => format!("server.tls.key_file: `{key_file}` {text}"),
        Flaw::Pair => format!("server.tls: the key in `{key_file}` is not that of the certificate in `{cert_file}`"),
    })
}
