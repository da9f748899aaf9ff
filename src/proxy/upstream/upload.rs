//! Requests too large for one write, over awc: it sends a body piece by piece as the socket takes them.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_web::body::{BodySize, MessageBody};
use awc::{Client, ClientRequest, ClientResponse};
use bytes::Bytes;
use futures_util::Stream as _;
use tokio::time::Sleep;

use super::connection::Dialer;
use super::exchange::{Exchange, Fault, Within, poll_within};
use super::head::Fields;
use super::socket::Phase;
use super::{Answer, AnswerBody, Error, Limits, POOL_IDLE, POOL_LIFETIME, Request, Source};
use crate::clock::{self, Instant};

/// awc's own connect limit, far beyond ours, which it must not forestall.
const NEVER: Duration = Duration::from_secs(86_400);

/// The clients of one worker: one for plain TCP, one for each set of TLS roots. Those of roots that nobody has used for
/// [`POOL_LIFETIME`] are dropped, since each reload may bring further roots.
pub(super) struct Uploads {
    plain: Client,
    tls: RefCell<Vec<Rooted>>,
}

/// The client for one set of TLS roots.
struct Rooted {
    roots: Arc<rustls::ClientConfig>,
    client: Client,
    used: Instant,
}

impl Uploads {
    /// Makes clients with empty pools.
    pub(super) fn new() -> Self {
        Self { plain: client(None), tls: RefCell::new(Vec::new()) }
    }

    /// Sends a request and waits for the answer's head.
    ///
    /// # Errors
    /// Why no head came, in the order of the phases.
    pub(super) async fn send(&self, request: &Request<'_>, limits: Limits) -> Result<Answer, Error> {
        let client = self.client(request.tls, clock::now());
        match exchange_once(&client, request, limits).await {
            Ok(answer) => Ok(answer),
            Err(Missed { is_stale: true, .. }) => match exchange_once(&client, request, limits).await {
                Ok(answer) => Ok(Answer { resent: true, ..answer }),
                Err(missed) => Err(missed.error),
            },
            Err(missed) => Err(missed.error),
        }
    }

    fn client(&self, tls: Option<&Arc<rustls::ClientConfig>>, now: Instant) -> Client {
        let Some(roots) = tls else { return self.plain.clone() };
        let mut clients = self.tls.borrow_mut();
        clients.retain(|client| now.since(client.used) <= POOL_LIFETIME);
        if let Some(known) = clients.iter_mut().find(|known| Arc::ptr_eq(&known.roots, roots)) {
            known.used = now;
            return known.client.clone();
        }
        let client = client(Some(Arc::clone(roots)));
        clients.push(Rooted { roots: Arc::clone(roots), client: client.clone(), used: now });
        client
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
    request.headers.fill(outgoing.headers_mut());
    let sending = Within { exchange: Rc::clone(&exchange), future: outgoing.send_body(Slices::new(request.body)) };
    let outcome = limited(sending, &exchange, limits).await;
    match outcome {
        Ok(Ok(response)) => {
            let status = response.status();
            let fields = Fields::of_map(response.headers().clone());
            let body = AnswerBody(Source::Upload(Box::new(UploadBody { response, exchange, end: None })));
            Ok(Answer { status, fields, body, resent: false, at: clock::now() })
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

/// The body of an answer to an upload.
pub(super) struct UploadBody {
    response: ClientResponse,
    exchange: Rc<Exchange>,
    /// How it has ended.
    end: Option<Result<(), Error>>,
}

impl UploadBody {
    /// The next bytes, `None` at a whole body's end. An error is said again whenever it is asked for more.
    pub(super) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        if let Some(end) = self.end {
            return Poll::Ready(end.err().map(Err));
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
        self.end = match next {
            Some(Ok(_)) => None,
            Some(Err(error)) => Some(Err(error)),
            None => Some(Ok(())),
        };
        Poll::Ready(next)
    }
}

/// Largest piece that awc is handed: it copies each into its write buffer, whole.
const PIECE_BYTES: usize = 64 << 10;

/// A body in slices: what was received, with a few of them replaced, and never copied together.
struct Slices {
    left: VecDeque<Bytes>,
    length: u64,
}

impl Slices {
    fn new(slices: &[Bytes]) -> Self {
        let length = slices.iter().map(|slice| slice.len() as u64).sum();
        Self { left: slices.iter().cloned().collect(), length }
    }
}

impl MessageBody for Slices {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.length)
    }

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        let piece = match self.left.front_mut() {
            Some(slice) if PIECE_BYTES < slice.len() => Some(slice.split_to(PIECE_BYTES)),
            Some(_) | None => self.left.pop_front(),
        };
        Poll::Ready(piece.map(Ok))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tls;
    use super::*;

    #[test]
    fn a_body_is_handed_over_in_pieces_that_are_no_copies() {
        let large = Bytes::from(vec![b'x'; 3 * PIECE_BYTES + 1]);
        let mut slices = Slices::new(&[Bytes::from_static(b"{"), large.clone(), Bytes::from_static(b"}")]);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut pieces = Vec::new();
        while let Poll::Ready(Some(Ok(piece))) = Pin::new(&mut slices).poll_next(&mut cx) {
            pieces.push(piece);
        }
        let sizes: Vec<usize> = pieces.iter().map(Bytes::len).collect();
        assert_eq!(sizes, [1, PIECE_BYTES, PIECE_BYTES, PIECE_BYTES, 1, 1]);
        assert_eq!(pieces[2].as_ptr(), large[PIECE_BYTES..].as_ptr());
    }

    #[test]
    fn clients_of_roots_that_nobody_uses_are_dropped() {
        actix_rt::System::new().block_on(async {
            let (uploads, start) = (Uploads::new(), clock::now());
            let [old, kept, fresh] = [(); 3].map(|()| tls::client_config(None, false).unwrap());
            for roots in [&old, &kept, &kept] {
                uploads.client(Some(roots), start);
            }
            assert_eq!(uploads.tls.borrow().len(), 2);
            uploads.client(Some(&kept), start.plus(POOL_LIFETIME));
            uploads.client(Some(&fresh), start.plus(POOL_LIFETIME).plus(Duration::from_secs(1)));
            let left: Vec<_> = uploads.tls.borrow().iter().map(|client| Arc::clone(&client.roots)).collect();
            assert!(left.len() == 2 && Arc::ptr_eq(&left[0], &kept) && Arc::ptr_eq(&left[1], &fresh));
        });
    }
}
