//! One HTTP exchange with a backend: the only room that sees an upstream's bytes as they are.
//!
//! [`Upstream`] is a worker's client. A request whose body fits into one write, which is nearly every one, goes over a `link`
//! of our own; an upload goes over awc, which sends a body as the socket takes it (`upload`). Both give a connect limit and a
//! head limit of one's own, one free resend when a reused connection turns out dead, and bodies that say when they are
//! truncated. Nothing here decides what an answer means; that is `classify`'s.

mod connection;
mod exchange;
mod framing;
#[cfg(fuzzing)]
pub mod fuzzing;
mod head;
mod link;
mod multiplex;
mod names;
mod pool;
mod socket;
#[cfg(test)]
mod tests;
pub mod tls;
pub mod tunnel;
mod upload;

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::http::header::{HeaderMap, HeaderValue};
use actix_web::http::{Method, StatusCode, Uri};
use bytes::Bytes;

pub use self::head::{Fields, Headers, Lines};
use self::link::LinkBody;
use self::multiplex::{Missed, Multiplex, StreamBody};
pub use self::names::Asked;
use self::pool::Pool;
use self::upload::{UploadBody, Uploads};
use crate::clock::Instant;

/// Idle upstream connections are not reused after this: below the idle limits of Azure's and OpenAI's front ends.
const POOL_IDLE: Duration = Duration::from_secs(30);

/// Upstream connections are renewed after this, so that a changed DNS answer is noticed.
const POOL_LIFETIME: Duration = Duration::from_secs(600);

/// Largest body of a request that is put behind its head in one buffer and travels over a link of our own: a long prompt still
/// does. At 20 kB that takes a quarter less CPU than awc.
const SHORT_BYTES: usize = 64 << 10;

/// A dead connection shows within a round trip. A server that ends one later than this after a request began to go out may
/// well have worked on it.
const STALE_WITHIN: Duration = Duration::from_secs(1);

/// Why an exchange brought no (further) answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The host's name could not be resolved.
    Dns,
    /// TCP was refused or failed.
    Connect,
    /// The TLS handshake failed.
    Tls,
    /// No connection within the connect limit.
    ConnectTimeout,
    /// No answer's head within the head limit.
    HeadTimeout,
    /// The connection ended or was reset before an answer's head.
    Reset,
    /// The connection ended within the answer.
    Truncated,
    /// What came is no HTTP answer.
    Malformed,
}

/// Time limits of one exchange up to the answer's head.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// When the exchange begins.
    pub begun: Instant,
    /// No connection by then: [`Error::ConnectTimeout`].
    pub connect: Instant,
    /// No head by then: [`Error::HeadTimeout`].
    pub head: Instant,
}

/// One request as it goes out. It is built anew for a resend, so it borrows.
pub struct Request<'a> {
    /// Scheme `http` (TLS is told by `tls`), authority, path and query.
    pub uri: &'a Uri,
    /// The method.
    pub method: &'a Method,
    /// TLS roots; none: plain TCP.
    pub tls: Option<&'a Arc<rustls::ClientConfig>>,
    /// Fills in the headers; `content-length` is added from the body.
    pub headers: &'a dyn Headers,
    /// The body's slices, in order.
    pub body: &'a [Bytes],
}

/// An answer whose head has arrived.
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its body.
    pub body: AnswerBody,
    /// Whether a dead reused connection was replaced on the way: a free resend.
    pub resent: bool,
    /// When its head had come.
    pub at: Instant,
    fields: Fields,
}

impl Answer {
    /// Its headers as received.
    pub fn headers(&self) -> &HeaderMap {
        self.fields.map()
    }

    /// The text of one of them, empty if it is missing or no text.
    pub fn text(&self, asked: Asked) -> &str {
        self.fields.text(asked)
    }

    /// The provider's own id of it, by which its support finds it.
    pub fn request_id(&self) -> Option<HeaderValue> {
        self.fields.request_id()
    }

    /// The same headers without a map of them.
    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    /// What is left of it once its body was read.
    pub fn into_fields(self) -> Fields {
        self.fields
    }
}

/// One worker's client: its pools live and die with it. Not `Send`.
pub struct Upstream {
    links: Rc<Pool>,
    uploads: Uploads,
    multiplex: Multiplex,
}

impl Upstream {
    /// Makes a client with empty pools.
    pub fn new() -> Self {
        Self { links: Rc::new(Pool::new()), uploads: Uploads::new(), multiplex: Multiplex::default() }
    }

    /// Sends a request and waits for the answer's head.
    ///
    /// A reused connection that ends before any byte came back, and before anything was sent or soon after, is replaced once;
    /// that is no attempt (spec/resilience.md 2.2).
    ///
    /// # Errors
    /// Why no head came, in the order of the phases.
    pub async fn send(&self, request: &Request<'_>, limits: Limits) -> Result<Answer, Error> {
        if let Some(tls) = request.tls.filter(|tls| tls::offers_http2(tls)) {
            // In a box, like all that is rare: every request would carry its room.
            return match Box::pin(self.multiplex.send(request, tls, limits)).await {
                Ok(answer) => Ok(answer),
                Err(Missed::Failed(error)) => Err(error),
                Err(Missed::Declined(http1)) => {
                    let Request { uri, method, headers, body, .. } = *request;
                    self.send_http1(&Request { uri, method, tls: Some(&http1), headers, body }, limits).await
                }
            };
        }
        self.send_http1(request, limits).await
    }

    async fn send_http1(&self, request: &Request<'_>, limits: Limits) -> Result<Answer, Error> {
        if is_short(request) {
            link::send(&self.links, request, limits).await
        } else {
            Box::pin(self.uploads.send(request, limits)).await
        }
    }

    /// Opens a connection, TLS included, and closes it again.
    ///
    /// # Errors
    /// Why there is none by `limit`.
    pub async fn connect(uri: &Uri, tls: Option<&Arc<rustls::ClientConfig>>, limit: Instant) -> Result<(), Error> {
        link::connect(uri, tls, limit).await.map(drop)
    }
}

impl Default for Upstream {
    fn default() -> Self {
        Self::new()
    }
}

/// What was seen of an exchange whose connection has ended.
#[derive(Clone, Copy, Debug)]
struct Sight {
    /// The connection had carried a request before.
    is_reused: bool,
    /// Something of the request was sent.
    has_sent: bool,
    /// Something came back.
    has_heard: bool,
}

impl Sight {
    /// Whether the connection was dead before the request: the one case for a free reconnect. Nothing was sent, or the end
    /// came in silence and so soon that nobody can have done much.
    fn is_stale(self, lasted: Duration) -> bool {
        self.is_reused && (!self.has_sent || !self.has_heard && lasted <= STALE_WITHIN)
    }
}

/// Whether the links carry a request. An answer to HEAD has a head that speaks of a body which does not come.
fn is_short(request: &Request<'_>) -> bool {
    let length: usize = request.body.iter().map(Bytes::len).sum();
    length <= SHORT_BYTES && !matches!(*request.method, Method::HEAD | Method::CONNECT)
}

/// An answer's body. Dropped before its end, it closes the connection; read to its end, it gives it back.
pub struct AnswerBody(Source);

enum Source {
    Link(LinkBody),
    Upload(Box<UploadBody>),
    Stream(Box<StreamBody>),
}

impl AnswerBody {
    /// Whether nothing more has to come; before the first read: whether it came together with the head.
    pub fn came_whole(&self) -> bool {
        match &self.0 {
            Source::Link(body) => body.came_whole(),
            Source::Upload(_) | Source::Stream(_) => false,
        }
    }

    /// The next bytes, `None` at a whole body's end.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        match &mut self.0 {
            Source::Link(body) => body.poll_chunk(cx),
            Source::Upload(body) => body.poll_chunk(cx),
            Source::Stream(body) => body.poll_chunk(cx),
        }
    }

    /// The next bytes, `None` at a whole body's end.
    pub async fn chunk(&mut self) -> Option<Result<Bytes, Error>> {
        std::future::poll_fn(|cx| self.poll_chunk(cx)).await
    }
}
