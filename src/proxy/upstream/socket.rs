//! A socket to an upstream, plain or with TLS over it, and how it is opened.

use std::future::Future as _;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use actix_web::http::Uri;
use bytes::BytesMut;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::tls::HTTP2;
use super::tunnel::Outbound;

/// How far a connection attempt has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Waiting for a connection: none needed yet.
    Waiting,
    /// Looking the host's name up.
    Resolving,
    /// TCP.
    Connecting,
    /// TLS.
    Handshaking,
    /// The request is on its way on some connection.
    Sent,
}

/// Plain TCP or TLS over it.
pub(super) enum Socket {
    /// Plain TCP.
    Plain(TcpStream),
    /// TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Socket {
    /// Reads what there is.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Tls(socket) => Pin::new(socket.as_mut()).poll_read(cx, buf),
        }
    }

    /// Reads what there is, as far as `buf` has room.
    pub(super) fn poll_read_into(&mut self, cx: &mut Context<'_>, buf: &mut BytesMut) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(socket) => pin!(socket.read_buf(buf)).poll(cx),
            Self::Tls(socket) => pin!(socket.read_buf(buf)).poll(cx),
        }
    }

    /// Writes what can be taken.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Tls(socket) => Pin::new(socket.as_mut()).poll_write(cx, bytes),
        }
    }

    /// Hands on what TLS still holds.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(socket) => Pin::new(socket.as_mut()).poll_flush(cx),
        }
    }

    /// Says that nothing more will be written.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(socket) => Pin::new(socket.as_mut()).poll_shutdown(cx),
        }
    }

    /// Whether HTTP/2 was agreed upon.
    pub(super) fn speaks_http2(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(socket) => socket.get_ref().1.alpn_protocol() == Some(HTTP2),
        }
    }

    /// The TCP socket below.
    pub(super) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(socket) => socket.get_ref().0,
        }
    }
}

/// As HTTP/2 takes it.
impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Self::poll_read(&mut self, cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Self::poll_write(&mut self, cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_flush(&mut self, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_shutdown(&mut self, cx)
    }
}

/// Opens a socket to the host of `uri`, with TLS if `tls` has roots for it. `enter` hears how far it has come.
///
/// # Errors
/// The system's, or TLS's.
pub(super) async fn dial(
    uri: &Uri,
    tls: Option<&Arc<rustls::ClientConfig>>,
    enter: impl Fn(Phase),
) -> io::Result<Socket> {
    let host = uri.host().ok_or(io::ErrorKind::InvalidInput)?.trim_start_matches('[').trim_end_matches(']');
    let port = uri.port_u16().unwrap_or(if tls.is_some() { 443 } else { 80 });
    let socket = match Outbound::for_host(host, port).filter(|_| tls.is_some()) {
        Some(outbound) => {
            enter(Phase::Connecting);
            outbound.connect(host, port).await?
        }
        None => reach(host, port, &enter).await?,
    };
    let Some(config) = tls else { return Ok(Socket::Plain(socket)) };
    enter(Phase::Handshaking);
    let name = ServerName::try_from(host.to_owned()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let socket = TlsConnector::from(Arc::clone(config)).connect(name, socket).await?;
    Ok(Socket::Tls(Box::new(socket)))
}

/// TCP to a host that is reached directly.
async fn reach(host: &str, port: u16, enter: &impl Fn(Phase)) -> io::Result<TcpStream> {
    enter(Phase::Resolving);
    let addresses: Vec<_> = tokio::net::lookup_host((host, port)).await?.collect();
    if addresses.is_empty() {
        return Err(io::ErrorKind::NotFound.into());
    }
    enter(Phase::Connecting);
    let socket = TcpStream::connect(addresses.as_slice()).await?;
    socket.set_nodelay(true)?;
    Ok(socket)
}
