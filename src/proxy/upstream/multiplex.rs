//! HTTP/2 to an upstream (RFC 9113): many exchanges at a time over one TLS connection, for backends that ask for it.
//!
//! Not the default: what ends a connection ends all that is on it, and what HTTP/1.1 opens more connections for is cheap where
//! they are kept. The protocol itself is h2's; ours are the limits, who shares a connection, and what a lost one means.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_web::http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use actix_web::http::{StatusCode, Uri};
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{PingPong, Reason, RecvStream, SendStream};

use super::head::{Fields, tells_length};
use super::link;
use super::socket::Socket;
use super::tls::only_http1;
use super::{Answer, AnswerBody, Error, Limits, POOL_IDLE, POOL_LIFETIME, Request, Sight, Source};
use crate::clock::{self, Instant};

/// Most exchanges on one connection, whatever the server allows: so many are lost with it.
const MAX_STREAMS: usize = 100;

/// What a server may send ahead on one stream, in bytes: more than any burst of events.
const STREAM_WINDOW: u32 = 1 << 20;

/// And on a whole connection.
const CONNECTION_WINDOW: u32 = 16 << 20;

/// Largest head of an answer, as by HTTP/1.1.
const MAX_HEAD_BYTES: u32 = 128 << 10;

/// A connection with exchanges on it is asked this often whether it still lives.
const PING_EVERY: Duration = Duration::from_secs(15);

/// And must answer within this: else all on it is lost, and knows it.
const PING_LIMIT: Duration = Duration::from_secs(10);

/// Largest piece of a body that is handed over at once.
const PIECE_BYTES: usize = 64 << 10;

/// One worker's HTTP/2 connections. Not `Send`.
#[derive(Default)]
pub(super) struct Multiplex {
    shelves: RefCell<Vec<Rc<Shelf>>>,
    /// When all shelves were looked through.
    swept: Cell<Instant>,
}

/// Why an exchange brought no answer by HTTP/2.
pub(super) enum Missed {
    /// As by HTTP/1.1.
    Failed(Error),
    /// The server does not speak it: by HTTP/1.1 then, with these roots.
    Declined(Arc<rustls::ClientConfig>),
}

/// The connections of one endpoint.
struct Shelf {
    authority: String,
    tls: Arc<rustls::ClientConfig>,
    /// The same roots for a server that does not speak HTTP/2.
    http1: Arc<rustls::ClientConfig>,
    /// Until then such a server is not asked again.
    declined_until: Cell<Instant>,
    connections: RefCell<Vec<Rc<Connection>>>,
    /// A burst of first requests opens one connection, not one each.
    dialing: tokio::sync::Mutex<()>,
    used: Cell<Instant>,
}

/// One connection. Its task ends when nobody holds it and all on it has ended.
struct Connection {
    sender: SendRequest<Bytes>,
    opened: Instant,
    used: Cell<Instant>,
    live: Rc<Cell<usize>>,
    /// How many exchanges the server allows at a time.
    most: Rc<Cell<usize>>,
    is_over: Rc<Cell<bool>>,
}

/// A place on a connection; given back when it is dropped.
struct Seat(Rc<Connection>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.live.set(self.0.live.get() - 1);
        self.0.used.set(clock::now());
    }
}

impl Connection {
    fn is_usable(&self, now: Instant) -> bool {
        let is_young = now.since(self.opened) <= POOL_LIFETIME;
        let is_warm = 0 < self.live.get() || now.since(self.used.get()) <= POOL_IDLE;
        !self.is_over.get() && is_young && is_warm
    }

    fn has_room(&self) -> bool {
        self.live.get() < MAX_STREAMS.min(self.most.get())
    }
}

impl Multiplex {
    /// Sends a request and waits for the answer's head.
    ///
    /// # Errors
    /// Why no head came, or that it has to go by HTTP/1.1.
    pub(super) async fn send(
        &self,
        request: &Request<'_>,
        tls: &Arc<rustls::ClientConfig>,
        limits: Limits,
    ) -> Result<Answer, Missed> {
        let shelf = self.shelf(request.uri, tls, clock::now());
        let mut resent = false;
        loop {
            let begun = clock::now();
            let (seat, is_reused) = shelf.seat(request.uri, limits.connect.min(limits.head)).await?;
            let connection = Rc::clone(&seat.0);
            let lost = match exchange(seat, request, limits).await {
                Ok(answer) => return Ok(Answer { resent, ..answer }),
                Err(lost) => lost,
            };
            // One that is going away serves what it has begun, and nothing more.
            connection.is_over.set(connection.is_over.get() || lost.ends_connection);
            if resent || !lost.is_stale(is_reused, clock::now().since(begun)) {
                return Err(Missed::Failed(lost.error));
            }
            resent = true;
        }
    }

    /// The shelf of an endpoint. On the way, what nobody has used for long goes.
    fn shelf(&self, uri: &Uri, tls: &Arc<rustls::ClientConfig>, now: Instant) -> Rc<Shelf> {
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let mut shelves = self.shelves.borrow_mut();
        if POOL_IDLE <= now.since(self.swept.get()) {
            self.swept.set(now);
            shelves.retain(|shelf| {
                shelf.connections.borrow_mut().retain(|connection| connection.is_usable(now));
                // One that stays empty may still know that its server declines, or have somebody dialing.
                !shelf.connections.borrow().is_empty() || now.since(shelf.used.get()) <= POOL_LIFETIME
            });
        }
        let known = shelves.iter().find(|shelf| Arc::ptr_eq(&shelf.tls, tls) && shelf.authority == authority);
        if let Some(shelf) = known {
            shelf.used.set(now);
            return Rc::clone(shelf);
        }
        let shelf = Rc::new(Shelf {
            authority: authority.to_owned(),
            tls: Arc::clone(tls),
            http1: only_http1(tls),
            declined_until: Cell::new(Instant::ZERO),
            connections: RefCell::default(),
            dialing: tokio::sync::Mutex::new(()),
            used: Cell::new(now),
        });
        shelves.push(Rc::clone(&shelf));
        shelf
    }
}

impl Shelf {
    /// A place on a connection, and whether that has carried others before.
    async fn seat(&self, uri: &Uri, limit: Instant) -> Result<(Seat, bool), Missed> {
        if let Some(seat) = self.free(clock::now())? {
            return Ok((seat, true));
        }
        let until = clock::to_tokio(limit);
        let dialing = tokio::time::timeout_at(until, self.dialing.lock()).await;
        let _dialing = dialing.map_err(|_| Missed::Failed(Error::ConnectTimeout))?;
        // Whoever dialed meanwhile may have left room.
        if let Some(seat) = self.free(clock::now())? {
            return Ok((seat, false));
        }
        let socket = link::connect(uri, Some(&self.tls), limit).await.map_err(Missed::Failed)?;
        if !socket.speaks_http2() {
            self.declined_until.set(clock::now().plus(POOL_LIFETIME));
            return Err(Missed::Declined(Arc::clone(&self.http1)));
        }
        let opened = tokio::time::timeout_at(until, open(socket)).await;
        let opened = opened.map_err(|_| Missed::Failed(Error::ConnectTimeout))?;
        let connection = Rc::new(opened.map_err(|_| Missed::Failed(Error::Connect))?);
        self.connections.borrow_mut().push(Rc::clone(&connection));
        Ok((take(connection), false))
    }

    /// A place on a connection that is there. Those that are of no more use go; what is on them ends by itself.
    fn free(&self, now: Instant) -> Result<Option<Seat>, Missed> {
        if now < self.declined_until.get() {
            return Err(Missed::Declined(Arc::clone(&self.http1)));
        }
        let mut connections = self.connections.borrow_mut();
        connections.retain(|connection| connection.is_usable(now));
        Ok(connections.iter().find(|connection| connection.has_room()).cloned().map(take))
    }
}

fn take(connection: Rc<Connection>) -> Seat {
    connection.live.set(connection.live.get() + 1);
    Seat(connection)
}

async fn open(socket: Socket) -> Result<Connection, h2::Error> {
    let (sender, mut driver) = h2::client::Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEAD_BYTES)
        .enable_push(false)
        .handshake::<_, Bytes>(socket)
        .await?;
    let (live, is_over) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
    let most = Rc::new(Cell::new(driver.max_concurrent_send_streams()));
    let (watched, allowed, over, pings) = (Rc::clone(&live), Rc::clone(&most), Rc::clone(&is_over), driver.ping_pong());
    actix_rt::spawn(async move {
        let driven = poll_fn(|cx| {
            let polled = Pin::new(&mut driver).poll(cx);
            allowed.set(driver.max_concurrent_send_streams());
            polled
        });
        tokio::select! {
            // How it ended is told to all that was on it.
            _ = driven => {}
            () = watch(pings, &watched) => {}
        }
        over.set(true);
    });
    let now = clock::now();
    Ok(Connection { sender, opened: now, used: Cell::new(now), live, most, is_over })
}

/// Returns when the server has not answered a ping.
async fn watch(pings: Option<PingPong>, live: &Cell<usize>) {
    let Some(mut pings) = pings else { return std::future::pending().await };
    loop {
        tokio::time::sleep(PING_EVERY).await;
        if live.get() == 0 {
            continue;
        }
        let pong = tokio::time::timeout(PING_LIMIT, pings.ping(h2::Ping::opaque())).await;
        if !matches!(pong, Ok(Ok(_))) {
            return;
        }
    }
}

/// An exchange that brought no head.
struct Lost {
    error: Error,
    /// The server says that it has not begun to work on it.
    is_refused: bool,
    /// Nothing more can be asked on its connection.
    ends_connection: bool,
}

impl Lost {
    /// Of this one exchange alone.
    const fn by(error: Error) -> Self {
        Self { error, is_refused: false, ends_connection: false }
    }

    /// Whether a free resend is right: nobody has worked on it, or as good as certainly not.
    fn is_stale(&self, is_reused: bool, lasted: Duration) -> bool {
        let sight = Sight { is_reused, has_sent: true, has_heard: false };
        self.is_refused || self.error == Error::Reset && sight.is_stale(lasted)
    }
}

impl From<h2::Error> for Lost {
    fn from(error: h2::Error) -> Self {
        let is_refused = error.is_remote() && (error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM));
        let is_ours = error.is_library() && !error.is_io();
        let ends_connection = error.is_go_away() || error.is_io();
        Self { error: if is_ours { Error::Malformed } else { Error::Reset }, is_refused, ends_connection }
    }
}

async fn exchange(seat: Seat, request: &Request<'_>, limits: Limits) -> Result<Answer, Lost> {
    let mut sender = seat.0.sender.clone();
    let asked = async {
        poll_fn(|cx| sender.poll_ready(cx)).await?;
        let length: usize = request.body.iter().map(Bytes::len).sum();
        let (answer, body) = sender.send_request(head(request, length)?, length == 0)?;
        both(answer, send_body(body, request.body)).await
    };
    let answer = tokio::time::timeout_at(clock::to_tokio(limits.head), asked).await;
    let answer = answer.map_err(|_| Lost::by(Error::HeadTimeout))??;
    let (parts, stream) = answer.into_parts();
    let status = StatusCode::from_u16(parts.status.as_u16());
    let status = status.map_err(|_| Lost::by(Error::Malformed))?;
    let fields = Fields::of_map(HeaderMap::from(parts.headers));
    let body = AnswerBody(Source::Stream(Box::new(StreamBody { stream, is_over: false, _seat: seat })));
    Ok(Answer { status, fields, body, resent: false, at: clock::now() })
}

/// The request's head. What belongs to a connection has no place here (RFC 9113 8.2.2).
fn head(request: &Request<'_>, length: usize) -> Result<http::Request<()>, Lost> {
    let mut map = HeaderMap::new();
    request.headers.fill(&mut map);
    let uri = request.uri;
    let host = map.get(HOST).and_then(|host| host.to_str().ok());
    let authority = host.or_else(|| uri.authority().map(|authority| authority.as_str())).unwrap_or_default();
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut built = http::Request::builder().method(request.method).uri(format!("https://{authority}{path}"));
    for (name, value) in &map {
        let is_hop =
            matches!(*name, HOST | CONNECTION | CONTENT_LENGTH | EXPECT | TE | TRAILER | TRANSFER_ENCODING | UPGRADE);
        if !is_hop && !matches!(name.as_str(), "keep-alive" | "proxy-connection") {
            built = built.header(name, value);
        }
    }
    if tells_length(request.method, length) {
        built = built.header(CONTENT_LENGTH, length);
    }
    let built = built.body(());
    built.map_err(|_| Lost::by(Error::Malformed))
}

/// Sends until the answer's head has come: one that comes early counts, and ends the sending.
async fn both(
    answer: ResponseFuture,
    sending: impl Future<Output = Result<(), h2::Error>>,
) -> Result<http::Response<RecvStream>, Lost> {
    let (mut answer, mut sending, mut is_sent) = (pin!(answer), pin!(sending), false);
    poll_fn(|cx| {
        if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
            return Poll::Ready(answer.map_err(Lost::from));
        }
        if !is_sent {
            // A stream that takes no more is told of by the answer, or by its end.
            is_sent = sending.as_mut().poll(cx).is_ready();
        }
        Poll::Pending
    })
    .await
}

async fn send_body(mut stream: SendStream<Bytes>, slices: &[Bytes]) -> Result<(), h2::Error> {
    let mut left = slices.iter().filter(|slice| !slice.is_empty()).peekable();
    while let Some(slice) = left.next() {
        let mut slice = slice.clone();
        while !slice.is_empty() {
            stream.reserve_capacity(slice.len().min(PIECE_BYTES));
            let room = match poll_fn(|cx| stream.poll_capacity(cx)).await {
                Some(room) => room?.min(slice.len()),
                None => return Ok(()),
            };
            // A window that has opened and closed again: an empty piece would say nothing.
            if room == 0 {
                continue;
            }
            let piece = slice.split_to(room);
            stream.send_data(piece, slice.is_empty() && left.peek().is_none())?;
        }
    }
    Ok(())
}

/// An answer's body. Dropped before its end, it resets its stream; the connection goes on.
pub(super) struct StreamBody {
    stream: RecvStream,
    is_over: bool,
    _seat: Seat,
}

impl StreamBody {
    /// The next bytes, `None` at a whole body's end.
    pub(super) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        while !self.is_over {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(bytes)) => {
                    // One that was reset meanwhile has no window.
                    let _ = self.stream.flow_control().release_capacity(bytes.len());
                    if !bytes.is_empty() {
                        return Poll::Ready(Some(Ok(bytes)));
                    }
                }
                Some(Err(_)) => {
                    self.is_over = true;
                    return Poll::Ready(Some(Err(Error::Truncated)));
                }
                None => self.is_over = true,
            }
        }
        Poll::Ready(None)
    }
}
