//! One HTTP exchange with a backend: the only room that sees awc.
//!
//! [`Upstream`] is a worker's client. It gives what awc does not: a connect limit and a head limit of one's own, one free
//! resend when a reused connection turns out dead, and bodies that say when they are truncated. Nothing here decides what an
//! answer means; that is `classify`'s.

mod connection;
mod exchange;
mod framing;
#[cfg(test)]
mod tests;
pub mod tls;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_web::body::{BodySize, MessageBody};
use actix_web::http::header::HeaderMap;
use actix_web::http::{Method, StatusCode, Uri};
use awc::{Client, ClientRequest, ClientResponse};
use bytes::Bytes;
use futures_util::Stream as _;
use tokio::time::Sleep;

use crate::clock::{self, Instant};
use connection::{Dialer, dial};
use exchange::{Exchange, Fault, Phase, Within, poll_within};

/// Idle upstream connections are not reused after this: below the idle limits of Azure's and OpenAI's front ends.
const POOL_IDLE: Duration = Duration::from_secs(30);

/// Upstream connections are renewed after this, so that a changed DNS answer is noticed.
const POOL_LIFETIME: Duration = Duration::from_secs(600);

/// awc's own connect limit, far beyond ours, which it must not forestall.
const NEVER: Duration = Duration::from_secs(86_400);

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
    pub headers: &'a dyn Fn(&mut HeaderMap),
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
}

impl Answer {
    /// Its headers as received.
    pub fn headers(&self) -> &HeaderMap {
        self.body.response.headers()
    }
}

/// One worker's client: its pools live and die with it. Not `Send`.
pub struct Upstream {
    plain: Client,
    tls: RefCell<Vec<(Arc<rustls::ClientConfig>, Client)>>,
}

impl Upstream {
    /// Makes a client with empty pools.
    pub fn new() -> Self {
        Self { plain: client(None), tls: RefCell::new(Vec::new()) }
    }

    /// Sends a request and waits for the answer's head.
    ///
    /// A reused connection that is reset before any byte came back is replaced once; that is no attempt
    /// (spec/resilience.md 2.2).
    ///
    /// # Errors
    /// Why no head came, in the order of the phases.
    pub async fn send(&self, request: &Request<'_>, limits: Limits) -> Result<Answer, Error> {
        let client = self.client(request.tls);
        match exchange_once(&client, request, limits).await {
            Ok(answer) => Ok(answer),
            Err(Missed { is_stale: true, .. }) => match exchange_once(&client, request, limits).await {
                Ok(answer) => Ok(Answer { resent: true, ..answer }),
                Err(missed) => Err(missed.error),
            },
            Err(missed) => Err(missed.error),
        }
    }

    /// Opens a connection, TLS included, and closes it again.
    ///
    /// # Errors
    /// Why there is none by `limit`.
    pub async fn connect(uri: &Uri, tls: Option<&Arc<rustls::ClientConfig>>, limit: Instant) -> Result<(), Error> {
        let exchange = Exchange::new();
        let dialing = Within { exchange: Rc::clone(&exchange), future: Box::pin(dial(uri, tls.cloned())) };
        match limited(dialing, &exchange, Limits { connect: limit, head: limit }).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(reason(&exchange)),
            Err(error) => Err(error),
        }
    }

    fn client(&self, tls: Option<&Arc<rustls::ClientConfig>>) -> Client {
        let Some(config) = tls else { return self.plain.clone() };
        let mut clients = self.tls.borrow_mut();
        if let Some((_, client)) = clients.iter().find(|(known, _)| Arc::ptr_eq(known, config)) {
            return client.clone();
        }
        let made = client(Some(Arc::clone(config)));
        clients.push((Arc::clone(config), made.clone()));
        made
    }
}

impl Default for Upstream {
    fn default() -> Self {
        Self::new()
    }
}

fn client(tls: Option<Arc<rustls::ClientConfig>>) -> Client {
    let connector = awc::Connector::new()
        .connector(Dialer { tls })
        .timeout(NEVER)
        .handshake_timeout(NEVER)
        .limit(0)
        .conn_keep_alive(POOL_IDLE)
        .conn_lifetime(POOL_LIFETIME);
    Client::builder().connector(connector).disable_timeout().disable_redirects().no_default_headers().finish()
}

/// A failed exchange, and whether a free resend is right.
struct Missed {
    error: Error,
    is_stale: bool,
}

async fn exchange_once(client: &Client, request: &Request<'_>, limits: Limits) -> Result<Answer, Missed> {
    let exchange = Exchange::new();
    let mut outgoing: ClientRequest = client.request(request.method.clone(), request.uri.clone());
    (request.headers)(outgoing.headers_mut());
    let sending = Within { exchange: Rc::clone(&exchange), future: outgoing.send_body(Slices::new(request.body)) };
    let outcome = limited(sending, &exchange, limits).await;
    match outcome {
        Ok(Ok(response)) => {
            let status = response.status();
            Ok(Answer { status, body: AnswerBody { response, exchange, ended: false }, resent: false })
        }
        Ok(Err(_)) => Err(Missed {
            error: reason(&exchange),
            is_stale: exchange.is_stale() && exchange.fault() != Some(Fault::Malformed),
        }),
        Err(error) => Err(Missed { error, is_stale: false }),
    }
}

/// Waits for `sending` within the limits. One timer serves both: the connect limit first, then the head's.
async fn limited<F: Future + Unpin>(mut sending: F, exchange: &Exchange, limits: Limits) -> Result<F::Output, Error> {
    let mut timer = std::pin::pin!(tokio::time::sleep_until(clock::to_tokio(limits.connect.min(limits.head))));
    std::future::poll_fn(|cx| {
        if let Poll::Ready(output) = Pin::new(&mut sending).poll(cx) {
            return Poll::Ready(Ok(output));
        }
        poll_limit(timer.as_mut(), exchange, limits, cx).map(Err)
    })
    .await
}

fn poll_limit(mut timer: Pin<&mut Sleep>, exchange: &Exchange, limits: Limits, cx: &mut Context<'_>) -> Poll<Error> {
    ready!(timer.as_mut().poll(cx));
    if exchange.phase() != Phase::Sent {
        return Poll::Ready(Error::ConnectTimeout);
    }
    let head = clock::to_tokio(limits.head);
    if timer.deadline() >= head {
        return Poll::Ready(Error::HeadTimeout);
    }
    timer.as_mut().reset(head);
    timer.poll(cx).map(|()| Error::HeadTimeout)
}

/// What an error of awc means, by how far the exchange had come.
fn reason(exchange: &Exchange) -> Error {
    match (exchange.phase(), exchange.fault()) {
        (Phase::Resolving, _) => Error::Dns,
        (Phase::Waiting | Phase::Connecting, _) => Error::Connect,
        (Phase::Handshaking, _) => Error::Tls,
        (Phase::Sent, Some(Fault::Malformed)) => Error::Malformed,
        (Phase::Sent, Some(Fault::Truncated) | None) => Error::Reset,
    }
}

/// An answer's body. Dropped before its end, it closes the connection; read to its end, it gives it back.
pub struct AnswerBody {
    response: ClientResponse,
    exchange: Rc<Exchange>,
    ended: bool,
}

impl AnswerBody {
    /// The next bytes, `None` at a whole body's end.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let exchange = Rc::clone(&self.exchange);
        let next = ready!(poll_within(&exchange, cx, |cx| Pin::new(&mut self.response).poll_next(cx)));
        let next = match next {
            Some(Ok(chunk)) => Some(Ok(chunk)),
            Some(Err(_)) if self.exchange.fault() == Some(Fault::Malformed) => Some(Err(Error::Malformed)),
            Some(Err(_)) => Some(Err(Error::Truncated)),
            None if self.exchange.is_whole() => None,
            None => Some(Err(Error::Truncated)),
        };
        self.ended = !matches!(next, Some(Ok(_)));
        Poll::Ready(next)
    }

    /// The next bytes, `None` at a whole body's end.
    pub async fn chunk(&mut self) -> Option<Result<Bytes, Error>> {
        std::future::poll_fn(|cx| self.poll_chunk(cx)).await
    }
}

/// A body in slices: what was received, with a few of them replaced, and never copied together.
struct Slices {
    first: Option<Bytes>,
    rest: VecDeque<Bytes>,
    length: u64,
}

impl Slices {
    fn new(slices: &[Bytes]) -> Self {
        let length = slices.iter().map(|slice| slice.len() as u64).sum();
        let mut slices = slices.iter().cloned();
        Self { first: slices.next(), rest: slices.collect(), length }
    }
}

impl MessageBody for Slices {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.length)
    }

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        let next = self.first.take().or_else(|| self.rest.pop_front());
        Poll::Ready(next.map(Ok))
    }
}
