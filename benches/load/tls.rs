//! TLS in front of a simulated backend, in this process.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::folder::Folder;

/// Takes TLS connections and passes their bytes on. Must run inside a `LocalSet`. The file holds the root that vouches for it.
///
/// # Errors
/// What could not be set up.
pub(crate) fn start(folder: &Folder, address: SocketAddr, backend: SocketAddr) -> Result<PathBuf, String> {
    let failed = |error: &dyn std::fmt::Display| format!("no TLS upstream: {error}");
    let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).map_err(|error| failed(&error))?;
    let file = folder.write("root.pem", &own.cert.pem())?;
    let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).map_err(|error| failed(&error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = versions.map_err(|error| failed(&error))?.with_no_client_auth();
    let config = config.with_single_cert(vec![own.cert.der().clone()], key).map_err(|error| failed(&error))?;
    let socket = std::net::TcpListener::bind(address).map_err(|error| failed(&error))?;
    socket.set_nonblocking(true).map_err(|error| failed(&error))?;
    let listener = TcpListener::from_std(socket).map_err(|error| failed(&error))?;
    tokio::task::spawn_local(accept(listener, TlsAcceptor::from(Arc::new(config)), backend));
    Ok(file)
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, backend: SocketAddr) {
    while let Ok((stream, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        tokio::task::spawn_local(async move {
            // Whoever leaves ends it.
            let _ = pass(stream, &acceptor, backend).await;
        });
    }
}

async fn pass(stream: TcpStream, acceptor: &TlsAcceptor, backend: SocketAddr) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut outside = acceptor.accept(stream).await?;
    let mut inside = TcpStream::connect(backend).await?;
    inside.set_nodelay(true)?;
    copy_bidirectional(&mut outside, &mut inside).await.map(drop)
}
