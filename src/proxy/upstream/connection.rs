//! The connection that awc is given instead of its own: what tames its hazards (platform notes 1).
//!
//! [`Connection`] sets TCP_NODELAY, speaks TLS itself so that everything below is plain text to it, drops interim 1xx answers,
//! follows each answer's framing, takes an early answer during an upload, and refuses bytes that nobody asked for, so that
//! one request can never be given another's answer.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use actix_rt::net::{ActixStream, Ready};
use actix_service::Service;
use actix_tls::connect::{ConnectError, ConnectInfo, Connection as Connected};
use actix_web::http::Uri;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::exchange::{Exchange, Fault};
use super::framing::{self, Body, Head};
use super::socket::{Socket, dial};

/// Most bytes of an answer read while its request is still being sent.
const EARLY_READ_BYTES: usize = 16 << 10;

/// Where a connection stands between and within answers.
enum Stage {
    /// No request is under way: any byte is surplus.
    Idle,
    /// A request went out, its answer's final head has not been seen whole.
    Head,
    /// The final head was handed over.
    Body(Body),
    /// Not to be used again.
    Spoilt,
}

/// One upstream connection.
pub(super) struct Connection {
    socket: Socket,
    stage: Stage,
    /// Requests begun on this connection.
    requests: u64,
    /// The request under way.
    exchange: Option<Rc<Exchange>>,
    /// Bytes read but not handed over: a head in pieces, or what came behind an interim answer.
    held: Vec<u8>,
    /// The rest of `held` may be handed over as it is.
    held_is_ready: bool,
    /// The server answered or closed during the upload: what is still written is dropped.
    deaf: bool,
}

impl Connection {
    fn new(socket: Socket) -> Self {
        let (held, exchange) = (Vec::new(), None);
        Self { socket, stage: Stage::Idle, requests: 0, exchange, held, held_is_ready: false, deaf: false }
    }

    /// The first write after an answer begins the next request.
    fn begin_request(&mut self) {
        if !matches!(self.stage, Stage::Idle) {
            return;
        }
        self.exchange = Exchange::current();
        if let Some(exchange) = &self.exchange {
            exchange.bind(self.requests);
        }
        self.requests += 1;
        self.stage = Stage::Head;
    }

    /// Hands over what is held, as far as `buf` has room.
    fn hand_over(&mut self, buf: &mut ReadBuf<'_>) {
        let length = buf.remaining().min(self.held.len());
        buf.put_slice(&self.held[..length]);
        self.held.drain(..length);
        if self.held.is_empty() {
            self.held_is_ready = false;
        }
    }

    /// Takes in the bytes from `start` on in `buf`. True if there is something to hand over.
    fn take_in(&mut self, buf: &mut ReadBuf<'_>, start: usize) -> io::Result<bool> {
        match self.stage {
            Stage::Idle | Stage::Spoilt => {
                self.stage = Stage::Spoilt;
                Ok(true)
            }
            Stage::Body(_) => {
                let taken = self.take_body(&buf.filled()[start..])?;
                buf.set_filled(start + taken);
                Ok(taken > 0)
            }
            Stage::Head if self.held.is_empty() => match framing::read_head(&buf.filled()[start..]) {
                Head::Final { length, body, close_delimited } => {
                    if close_delimited {
                        say_http_1_0(&mut buf.filled_mut()[start..]);
                    }
                    self.enter_body(body);
                    let taken = self.take_body(&buf.filled()[start + length..])?;
                    buf.set_filled(start + length + taken);
                    Ok(true)
                }
                Head::Partial | Head::Interim(_) | Head::Invalid => {
                    self.held.extend_from_slice(&buf.filled()[start..]);
                    buf.set_filled(start);
                    self.take_held()
                }
            },
            Stage::Head => {
                self.held.extend_from_slice(&buf.filled()[start..]);
                buf.set_filled(start);
                self.take_held()
            }
        }
    }

    /// Looks at a held head again; drops interim answers. True once the final head is there.
    fn take_held(&mut self) -> io::Result<bool> {
        loop {
            match framing::read_head(&self.held) {
                Head::Partial => return Ok(false),
                Head::Interim(length) => {
                    self.held.drain(..length);
                }
                Head::Invalid => return Err(self.spoil(Fault::Malformed)),
                Head::Final { length, body, close_delimited } => {
                    if close_delimited {
                        say_http_1_0(&mut self.held);
                    }
                    self.enter_body(body);
                    let held = std::mem::take(&mut self.held);
                    let taken = self.take_body(&held[length..])?;
                    self.held = held;
                    self.held.truncate(length + taken);
                    self.held_is_ready = true;
                    return Ok(true);
                }
            }
        }
    }

    fn enter_body(&mut self, body: Body) {
        self.stage = Stage::Body(body);
        if let Some(exchange) = &self.exchange {
            exchange.set_body(body);
        }
    }

    /// Follows the body over `bytes` and says how many of them belong to it. Surplus spoils the connection, not the answer.
    fn take_body(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Stage::Body(mut body) = self.stage else { return Ok(0) };
        let taken = body.take(bytes);
        if let Some(exchange) = &self.exchange {
            exchange.set_body(body);
        }
        if body == Body::Broken {
            return Err(self.spoil(Fault::Malformed));
        }
        self.stage = match body {
            Body::Complete if taken < bytes.len() || self.deaf => Stage::Spoilt,
            Body::Complete => Stage::Idle,
            Body::Length(_) | Body::Chunked(_) | Body::UntilClose | Body::Broken => Stage::Body(body),
        };
        Ok(taken)
    }

    /// The socket has ended.
    fn end(&mut self) {
        let whole = match self.stage {
            Stage::Body(body) => body.is_complete_at_end(),
            Stage::Idle | Stage::Spoilt => true,
            Stage::Head => false,
        };
        if let Some(exchange) = self.exchange.as_ref().filter(|_| !whole) {
            exchange.set_fault(Fault::Truncated);
        }
        self.stage = Stage::Spoilt;
    }

    fn spoil(&mut self, fault: Fault) -> io::Error {
        if let Some(exchange) = &self.exchange {
            exchange.set_fault(fault);
        }
        self.stage = Stage::Spoilt;
        io::Error::new(io::ErrorKind::InvalidData, "not an HTTP answer")
    }

    /// While a write is stuck, or has failed: has the server already answered? If not, the task is woken by what comes next,
    /// unless nothing more can come.
    ///
    /// # Errors
    /// What came is no HTTP answer.
    fn answered_early(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        if self.held_is_ready {
            return Ok(true);
        }
        let mut space = [0; EARLY_READ_BYTES];
        while matches!(self.stage, Stage::Head) {
            let mut buf = ReadBuf::new(&mut space);
            let read = self.socket.poll_read(cx, &mut buf);
            if !matches!(read, Poll::Ready(Ok(()))) || buf.filled().is_empty() {
                break;
            }
            if let Some(exchange) = &self.exchange {
                exchange.received(buf.filled().len());
            }
            self.held.extend_from_slice(buf.filled());
            self.deaf = true;
            let answered = self.take_held();
            self.deaf = matches!(answered, Ok(true));
            if answered? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Makes a status line say HTTP/1.0, so that awc reads the body up to the connection's end.
fn say_http_1_0(head: &mut [u8]) {
    if let Some(minor) = head.get_mut(b"HTTP/1.".len()) {
        *minor = b'0';
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.held_is_ready {
            this.hand_over(buf);
            return Poll::Ready(Ok(()));
        }
        // For awc's look at an idle connection this is its end: a spoilt one is never taken again.
        while !matches!(this.stage, Stage::Spoilt) {
            let start = buf.filled().len();
            ready!(this.socket.poll_read(cx, buf))?;
            let received = buf.filled().len() - start;
            if received == 0 {
                this.end();
                return Poll::Ready(Ok(()));
            }
            if let Some(exchange) = &this.exchange {
                exchange.received(received);
            }
            if this.take_in(buf, start)? {
                if this.held_is_ready {
                    this.hand_over(buf);
                }
                return Poll::Ready(Ok(()));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.begin_request();
        if this.deaf {
            return Poll::Ready(Ok(bytes.len()));
        }
        if matches!(this.stage, Stage::Spoilt) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let written = this.socket.poll_write(cx, bytes);
        if let (Poll::Ready(Ok(_)), Some(exchange)) = (&written, &this.exchange) {
            exchange.sent();
        }
        if matches!(written, Poll::Ready(Ok(_))) || !this.answered_early(cx)? {
            return written;
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().socket.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().socket.poll_shutdown(cx)
    }
}

impl ActixStream for Connection {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        ActixStream::poll_read_ready(self.socket.tcp(), cx)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        ActixStream::poll_write_ready(self.socket.tcp(), cx)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("requests", &self.requests).finish_non_exhaustive()
    }
}

/// Opens connections for one client: plain ones, or TLS with one set of roots.
#[derive(Clone)]
pub(super) struct Dialer {
    pub(super) tls: Option<Arc<rustls::ClientConfig>>,
}

impl Service<ConnectInfo<Uri>> for Dialer {
    type Response = Connected<Uri, Connection>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>>>>;

    actix_service::always_ready!();

    fn call(&self, info: ConnectInfo<Uri>) -> Self::Future {
        let tls = self.tls.clone();
        Box::pin(async move {
            let uri = info.request().clone();
            let enter = |phase| {
                if let Some(exchange) = Exchange::current() {
                    exchange.enter(phase);
                }
            };
            let socket = dial(&uri, tls.as_ref(), enter).await.map_err(ConnectError::Io)?;
            Ok(Connected::new(uri, Connection::new(socket)))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use tokio::io::AsyncWriteExt as _;
    use tokio::net::{TcpListener, TcpStream};

    use super::super::tests::jam;
    use super::*;

    #[test]
    fn a_stuck_write_is_woken_by_the_rest_of_an_early_answer() {
        let table = [
            ("HTTP/1.1 413 Payload Too Large\r\ncontent-le", "ngth: 0\r\n\r\n", true),
            ("HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 413 Payload Too Large\r\ncontent-length: 0\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\ncontent-le", "ngth: -1\r\n\r\n", false),
        ];
        for (first, second, is_taken) in table {
            actix_rt::System::new().block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
                let (mut server, _) = listener.accept().await.unwrap();
                jam(&socket).await;
                server.write_all(first.as_bytes()).await.unwrap();
                socket.readable().await.unwrap();
                let mut connection = Connection::new(Socket::Plain(socket));
                // As a task of its own, which nothing but its own waker polls, and not once more when its time is up.
                let stuck = actix_rt::spawn(async move {
                    tokio::select! {
                        biased;
                        () = tokio::time::sleep(Duration::from_secs(5)) => None,
                        written = poll_fn(|cx| Pin::new(&mut connection).poll_write(cx, b"more")) => Some(written),
                    }
                });
                for _ in 0..3 {
                    tokio::task::yield_now().await;
                }
                server.write_all(second.as_bytes()).await.unwrap();
                let written = stuck.await.unwrap();
                assert_eq!(written.unwrap().ok(), is_taken.then_some(4), "{first:?}");
            });
        }
    }
}
