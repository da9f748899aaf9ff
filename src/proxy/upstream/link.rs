//! One upstream connection that carries one short request after the other: HTTP/1.1 written by ourselves.
//!
//! The relay of a plain request is what the gateway does all day, and awc's exchange cost a quarter of it: a codec, two
//! buffers, a spawned task and four look-ups of headers for each. Here a request goes out in one write and a usual answer
//! comes in by one read into a buffer that all links share. [`framing`] says what the bytes are; nothing else is believed.

#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_web::http::Uri;
use bytes::{Bytes, BytesMut};
use tokio::io::ReadBuf;
use tokio::task::unconstrained;

use super::framing::{self, Body, Head};
use super::head::{self, AnswerHead};
use super::names::Names;
use super::pool::{Endpoint, Pool};
use super::socket::{Phase, Socket, dial};
use super::{Answer, AnswerBody, Error, Limits, Request, Sight, Source};
use crate::clock::{self, Instant};

/// A body with at least this much missing is read in place instead of through the shared buffer, to save the copy.
const LARGE_BYTES: u64 = 16 << 10;

/// Most of it in one go, and the size of the blocks that its pieces share: as much as the allocator gives without asking the
/// system.
const LARGE_PIECE: usize = 64 << 10;

/// With less room than this in a block the next one is begun: reads stay few, and an eighth of a block is wasted at most.
const LEAST_ROOM: usize = LARGE_PIECE / 8;

/// Most interim answers before the final one: none was asked for, so there is hardly ever one.
const MAX_INTERIM: usize = 16;

/// One connection. It is closed by dropping it.
pub(super) struct Link {
    /// Where it leads.
    pub(super) endpoint: Arc<Endpoint>,
    /// When it was opened.
    pub(super) opened: Instant,
    socket: Socket,
    /// Whether it has carried a request before.
    is_reused: bool,
    /// How much of the request has been written.
    sent: usize,
    /// Whether anything of the answer has come.
    has_heard: bool,
    /// A head in pieces: what has come of it is not its end.
    held: Vec<u8>,
    /// Interim answers to this request.
    interim: usize,
    /// The names of the last answer's fields.
    names: Names,
}

/// A head, with what came of the body behind it.
struct Arrived {
    head: AnswerHead,
    content: Bytes,
    /// The request was whole, and no byte came that nobody asked for.
    is_in_step: bool,
}

/// A failed exchange, and what was seen of it.
struct Missed {
    error: Error,
    sight: Sight,
}

impl Missed {
    /// Whether a free resend is right, this long after the exchange began.
    fn is_stale(&self, lasted: Duration) -> bool {
        self.error == Error::Reset && self.sight.is_stale(lasted)
    }
}

/// Sends a request whose body fits into one write, and waits for the answer's head.
///
/// # Errors
/// Why no head came.
pub(super) async fn send(pool: &Rc<Pool>, request: &Request<'_>, limits: Limits) -> Result<Answer, Error> {
    let (uri, tls, now) = (request.uri, request.tls, limits.begun);
    // Unconstrained: a socket that is not asked because the task has done enough would look quiet.
    let idle = unconstrained(poll_fn(|cx| Poll::Ready(pool.take(uri, tls, now, cx)))).await;
    let resent = idle.is_some();
    if let Some(link) = idle {
        match exchange(pool, link, request, limits).await {
            Ok(answer) => return Ok(answer),
            // As good as certain: the connection had ended before, and nobody has worked on the request.
            Err(missed) if missed.is_stale(clock::now().since(now)) => {}
            Err(Missed { error, .. }) => return Err(error),
        }
    }
    // In a box, like all that is rare: every request would carry its room.
    let link = Box::pin(open(pool, request, limits)).await?;
    match exchange(pool, link, request, limits).await {
        Ok(answer) => Ok(Answer { resent, ..answer }),
        Err(Missed { error, .. }) => Err(error),
    }
}

/// Opens a socket.
///
/// # Errors
/// Why there is none by `limit`.
pub(super) async fn connect(
    uri: &Uri,
    tls: Option<&Arc<rustls::ClientConfig>>,
    limit: Instant,
) -> Result<Socket, Error> {
    let phase = Cell::new(Phase::Waiting);
    let dialled = within(limit, dial(uri, tls, |next| phase.set(next))).await;
    let Some(opened) = dialled else { return Err(Error::ConnectTimeout) };
    opened.map_err(|_| match phase.get() {
        Phase::Resolving => Error::Dns,
        Phase::Handshaking => Error::Tls,
        Phase::Waiting | Phase::Connecting | Phase::Sent => Error::Connect,
    })
}

async fn open(pool: &Pool, request: &Request<'_>, limits: Limits) -> Result<Box<Link>, Error> {
    let socket = connect(request.uri, request.tls, limits.connect.min(limits.head)).await?;
    let endpoint = pool.endpoint(request.uri, request.tls);
    Ok(Box::new(Link::new(endpoint, socket)))
}

/// Waits no longer than `at`.
async fn within<F: Future>(at: Instant, future: F) -> Option<F::Output> {
    tokio::time::timeout_at(clock::to_tokio(at), future).await.ok()
}

async fn exchange(
    pool: &Rc<Pool>,
    mut link: Box<Link>,
    request: &Request<'_>,
    limits: Limits,
) -> Result<Answer, Missed> {
    let mut text = pool.text();
    let length = request.body.iter().map(Bytes::len).sum();
    head::write(&mut text, request, length);
    request.body.iter().for_each(|slice| text.extend_from_slice(slice));
    (link.sent, link.has_heard, link.interim) = (0, false, 0);
    let mut text = Some(text);
    let arrived = within(limits.head, poll_fn(|cx| link.poll_answer(cx, &mut text, pool))).await;
    match arrived {
        Some(Ok(arrived)) => Ok(link.answer(arrived, pool)),
        Some(Err(error)) => Err(Missed { error, sight: link.sight() }),
        None => Err(Missed { error: Error::HeadTimeout, sight: link.sight() }),
    }
}

impl Link {
    /// A link on an open socket that has carried nothing yet.
    pub(super) fn new(endpoint: Arc<Endpoint>, socket: Socket) -> Self {
        let (is_reused, sent, has_heard, held, interim) = (false, 0, false, Vec::new(), 0);
        let (opened, names) = (clock::now(), Names::default());
        Self { endpoint, opened, socket, is_reused, sent, has_heard, held, interim, names }
    }

    fn sight(&self) -> Sight {
        Sight { is_reused: self.is_reused, has_sent: 0 < self.sent, has_heard: self.has_heard }
    }

    /// Whether nothing is known to have come since its last answer, not even its end. What has come since the reactor's last
    /// turn is not known yet.
    pub(super) fn is_quiet(&mut self, cx: &mut Context<'_>) -> bool {
        let mut space = [0; 1];
        self.socket.poll_read(cx, &mut ReadBuf::new(&mut space)).is_pending()
    }

    /// Writes what is left of the request, then reads the answer's head. An answer that comes before the request is whole
    /// counts, and ends the sending; but before anything was sent on a reused link, whatever comes is no answer to it. A
    /// request that is written leaves its buffer to the next.
    fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        request: &mut Option<Vec<u8>>,
        pool: &Pool,
    ) -> Poll<Result<Arrived, Error>> {
        let Some(text) = request.as_deref() else { return self.poll_head(cx, pool) };
        match self.poll_send(cx, text) {
            Poll::Ready(Ok(())) => {
                request.take().into_iter().for_each(|text| pool.give_back_text(text));
                self.poll_head(cx, pool)
            }
            Poll::Pending if self.is_reused && self.sent == 0 && self.is_quiet(cx) => Poll::Pending,
            Poll::Pending | Poll::Ready(Err(_)) if self.is_reused && self.sent == 0 => Poll::Ready(Err(Error::Reset)),
            Poll::Pending => self.poll_head(cx, pool).map_ok(|early| Arrived { is_in_step: false, ..early }),
            Poll::Ready(Err(_)) => match self.poll_head(cx, pool) {
                Poll::Ready(early) => Poll::Ready(early.map(|early| Arrived { is_in_step: false, ..early })),
                Poll::Pending => Poll::Ready(Err(Error::Reset)),
            },
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, request: &[u8]) -> Poll<io::Result<()>> {
        while self.sent < request.len() {
            match ready!(self.socket.poll_write(cx, &request[self.sent..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.sent += written,
            }
        }
        self.socket.poll_flush(cx)
    }

    fn poll_head(&mut self, cx: &mut Context<'_>, pool: &Pool) -> Poll<Result<Arrived, Error>> {
        let mut scratch = pool.scratch.borrow_mut();
        loop {
            let mut buf = ReadBuf::new(&mut scratch);
            let Ok(()) = ready!(self.socket.poll_read(cx, &mut buf)) else { return Poll::Ready(Err(Error::Reset)) };
            if buf.filled().is_empty() {
                return Poll::Ready(Err(Error::Reset));
            }
            self.has_heard = true;
            match self.take_in(buf.filled()) {
                Ok(None) => {}
                Ok(Some(arrived)) => return Poll::Ready(Ok(arrived)),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Takes in bytes of heads; none as long as the final one is not whole. Interim answers are dropped.
    fn take_in(&mut self, bytes: &[u8]) -> Result<Option<Arrived>, Error> {
        let mut joined = std::mem::take(&mut self.held);
        let mut rest = bytes;
        if !joined.is_empty() {
            let seen = joined.len();
            joined.extend_from_slice(bytes);
            if !framing::may_be_over(&joined, seen) {
                self.held = joined;
                return Ok(None);
            }
            rest = &joined;
        }
        loop {
            match head::read(rest, &mut self.names) {
                Ok((length, mut head)) => {
                    let behind = &rest[length..];
                    let (content, taken) = head.body.take_bytes(behind);
                    if head.body == Body::Broken {
                        return Err(Error::Malformed);
                    }
                    let is_in_step = taken == behind.len();
                    return Ok(Some(Arrived { head, content, is_in_step }));
                }
                Err(Head::Interim(length)) if self.interim < MAX_INTERIM => {
                    self.interim += 1;
                    rest = &rest[length..];
                }
                Err(Head::Partial) => {
                    self.held = rest.to_vec();
                    return Ok(None);
                }
                Err(Head::Interim(_) | Head::Invalid | Head::Final { .. }) => return Err(Error::Malformed),
            }
        }
    }

    fn answer(self: Box<Self>, arrived: Arrived, pool: &Rc<Pool>) -> Answer {
        let Arrived { head: AnswerHead { status, fields, body, is_kept }, content, is_in_step } = arrived;
        let (pool, is_kept) = (Rc::clone(pool), is_kept && is_in_step);
        let mut rest = LinkBody { link: Some(self), pool, body, content, block: BytesMut::new(), is_kept, error: None };
        let at = clock::now();
        rest.let_go(|| at);
        Answer { status, fields, body: AnswerBody(Source::Link(rest)), resent: false, at }
    }
}

/// The body of an answer on a link. Dropped before its end, it closes the link; with its last byte, it gives it back.
pub(super) struct LinkBody {
    /// None once nothing more can come.
    link: Option<Box<Link>>,
    pool: Rc<Pool>,
    body: Body,
    /// What has come and was not handed over yet.
    content: Bytes,
    /// Room for the next pieces of a large body. What was handed over shares it: many small reads hold little more than they
    /// brought.
    block: BytesMut,
    is_kept: bool,
    /// What it broke off with.
    error: Option<Error>,
}

impl LinkBody {
    /// The next bytes, `None` at a whole body's end. An error is said again whenever it is asked for more.
    pub(super) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        while self.content.is_empty() {
            if self.link.is_none() {
                return Poll::Ready(self.error.map(Err));
            }
            match ready!(self.poll_read(cx)) {
                Ok(content) => self.content = content,
                Err(error) => (self.link, self.error) = (None, Some(error)),
            }
            self.let_go(clock::now);
        }
        Poll::Ready(Some(Ok(std::mem::take(&mut self.content))))
    }

    /// Whether nothing more has to come.
    pub(super) fn came_whole(&self) -> bool {
        self.link.is_none() && self.error.is_none()
    }

    /// Parts from the link if the body is whole.
    fn let_go(&mut self, now: impl FnOnce() -> Instant) {
        if self.body != Body::Complete {
            return;
        }
        if let Some(mut link) = self.link.take().filter(|_| self.is_kept) {
            link.is_reused = true;
            self.pool.put(link, now());
        }
    }
}

impl LinkBody {
    /// Reads what has come of the body. Nothing may be left to hand over.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, Error>> {
        let Some(link) = &mut self.link else { return Poll::Ready(Ok(Bytes::new())) };
        if let Body::Length(missing) = self.body
            && LARGE_BYTES <= missing
        {
            return self.poll_large(cx, missing);
        }
        let mut scratch = self.pool.scratch.borrow_mut();
        let mut buf = ReadBuf::new(&mut scratch);
        if ready!(link.socket.poll_read(cx, &mut buf)).is_err() {
            return Poll::Ready(Err(Error::Truncated));
        }
        let bytes = buf.filled();
        if bytes.is_empty() {
            return Poll::Ready(end(&mut self.body));
        }
        let (content, taken) = self.body.take_bytes(bytes);
        self.is_kept &= taken == bytes.len();
        Poll::Ready(if self.body == Body::Broken { Err(Error::Malformed) } else { Ok(content) })
    }

    fn poll_large(&mut self, cx: &mut Context<'_>, missing: u64) -> Poll<Result<Bytes, Error>> {
        let Some(link) = &mut self.link else { return Poll::Ready(Ok(Bytes::new())) };
        if self.block.capacity() < LEAST_ROOM {
            self.block.reserve(usize::try_from(missing).unwrap_or(usize::MAX).min(LARGE_PIECE));
        }
        match ready!(link.socket.poll_read_into(cx, &mut self.block)) {
            Err(_) => Poll::Ready(Err(Error::Truncated)),
            Ok(0) => Poll::Ready(end(&mut self.body)),
            Ok(_) => {
                let taken = self.body.take(&self.block);
                self.is_kept &= taken == self.block.len();
                self.block.truncate(taken);
                Poll::Ready(Ok(self.block.split().freeze()))
            }
        }
    }
}

/// The connection has ended.
fn end(body: &mut Body) -> Result<Bytes, Error> {
    if !body.is_complete_at_end() {
        return Err(Error::Truncated);
    }
    *body = Body::Complete;
    Ok(Bytes::new())
}
