//! One worker's idle links, and the buffers that its exchanges share.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::task::Context;

use actix_web::http::Uri;

use super::link::Link;
use super::{POOL_IDLE, POOL_LIFETIME};
use crate::clock::Instant;

/// Bytes read in one go. A usual answer fits, and so does a burst of events.
const READ_BYTES: usize = 64 << 10;

/// Idle links kept per endpoint: as many as one worker may well have calls under way.
const MAX_IDLE: usize = 1_024;

/// Buffers for heads and short bodies are kept up to this size.
const MAX_KEPT_BYTES: usize = 64 << 10;

/// Where a link leads: links of one endpoint are worth the same.
pub(super) struct Endpoint {
    authority: String,
    tls: Option<Arc<rustls::ClientConfig>>,
}

impl Endpoint {
    fn is(&self, authority: &str, tls: Option<&Arc<rustls::ClientConfig>>) -> bool {
        let is_same_tls = match (&self.tls, tls) {
            (None, None) => true,
            (Some(own), Some(other)) => Arc::ptr_eq(own, other),
            (Some(_), None) | (None, Some(_)) => false,
        };
        is_same_tls && self.authority == authority
    }
}

fn authority(uri: &Uri) -> &str {
    uri.authority().map_or("", |authority| authority.as_str())
}

/// The idle links of one endpoint, those used last at the end.
struct Shelf {
    endpoint: Arc<Endpoint>,
    idle: Vec<Idle>,
}

/// One of them, and since when.
struct Idle {
    link: Box<Link>,
    since: Instant,
}

impl Idle {
    fn is_old(&self, now: Instant) -> bool {
        POOL_IDLE < now.since(self.since) || POOL_LIFETIME < now.since(self.link.opened)
    }
}

/// One worker's idle links and buffers. Not `Sync`.
pub(super) struct Pool {
    shelves: RefCell<Vec<Shelf>>,
    /// When all shelves were looked through.
    swept: Cell<Instant>,
    /// What a poll reads into. It means nothing beyond that poll, though the bytes stay: only what a read says it has filled
    /// is looked at.
    pub(super) scratch: RefCell<Box<[u8]>>,
    text: Cell<Vec<u8>>,
}

impl Pool {
    pub(super) fn new() -> Self {
        let scratch = RefCell::new(vec![0; READ_BYTES].into_boxed_slice());
        Self { shelves: RefCell::default(), swept: Cell::new(Instant::ZERO), scratch, text: Cell::default() }
    }

    /// Takes the link that was used last, if it is young and has been quiet since. Once per [`POOL_IDLE`] it first drops what is
    /// too old, of every endpoint: those that a reload took away, or that nobody asks, give their sockets back as long as
    /// this worker sends anything at all.
    pub(super) fn take(
        &self,
        uri: &Uri,
        tls: Option<&Arc<rustls::ClientConfig>>,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Option<Box<Link>> {
        let mut shelves = self.shelves.borrow_mut();
        if POOL_IDLE <= now.since(self.swept.get()) {
            self.swept.set(now);
            shelves.iter_mut().for_each(|shelf| shelf.idle.retain(|idle| !idle.is_old(now)));
            shelves.retain(|shelf| !shelf.idle.is_empty());
        }
        let shelf = shelves.iter_mut().find(|shelf| shelf.endpoint.is(authority(uri), tls))?;
        while let Some(mut idle) = shelf.idle.pop() {
            if !idle.is_old(now) && idle.link.is_quiet(cx) {
                return Some(idle.link);
            }
        }
        None
    }

    /// The endpoint that new links of this authority belong to.
    pub(super) fn endpoint(&self, uri: &Uri, tls: Option<&Arc<rustls::ClientConfig>>) -> Arc<Endpoint> {
        let shelves = self.shelves.borrow();
        let known = shelves.iter().find(|shelf| shelf.endpoint.is(authority(uri), tls));
        let made = || Arc::new(Endpoint { authority: authority(uri).to_owned(), tls: tls.cloned() });
        known.map_or_else(made, |shelf| Arc::clone(&shelf.endpoint))
    }

    /// Puts a link back after a whole answer. The oldest of its endpoint goes if it has become too old meanwhile.
    pub(super) fn put(&self, link: Box<Link>, now: Instant) {
        let mut shelves = self.shelves.borrow_mut();
        let own = &link.endpoint;
        if let Some(shelf) = shelves.iter_mut().find(|shelf| shelf.endpoint.is(&own.authority, own.tls.as_ref())) {
            // The longest unused one stands first: one look per answer is enough to keep up.
            if shelf.idle.first().is_some_and(|oldest| oldest.is_old(now)) {
                shelf.idle.remove(0);
            }
            if shelf.idle.len() < MAX_IDLE {
                shelf.idle.push(Idle { link, since: now });
            }
            return;
        }
        shelves.push(Shelf { endpoint: Arc::clone(&link.endpoint), idle: vec![Idle { link, since: now }] });
    }

    /// An empty buffer for a request's bytes.
    pub(super) fn text(&self) -> Vec<u8> {
        self.text.take()
    }

    /// Gives it back.
    pub(super) fn give_back_text(&self, mut text: Vec<u8>) {
        if text.capacity() <= MAX_KEPT_BYTES {
            text.clear();
            self.text.set(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::time::Duration;

    use tokio::net::{TcpListener, TcpStream};

    use super::super::socket::Socket;
    use super::*;

    #[test]
    fn links_of_endpoints_that_nobody_asks_are_dropped_by_the_calls_of_others() {
        actix_rt::System::new().block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let pool = Rc::new(Pool::new());
            let (gone, asked) = (Uri::from_static("http://gone"), Uri::from_static("http://asked"));
            let take = |uri: &Uri, now| pool.take(uri, None, now, &mut Context::from_waker(std::task::Waker::noop()));
            let (start, mut others) = (crate::clock::now(), Vec::new());
            for uri in [&gone, &asked] {
                let socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
                others.push(listener.accept().await.unwrap());
                assert!(take(uri, start).is_none());
                pool.put(Box::new(Link::new(pool.endpoint(uri, None), Socket::Plain(socket))), start);
            }
            let mut now = start;
            for _ in 0..4 {
                assert_eq!(pool.shelves.borrow().len(), 2, "both are young");
                now = now.plus(POOL_IDLE / 4);
                let link = take(&asked, now).unwrap();
                pool.put(link, now);
            }
            now = now.plus(Duration::from_nanos(1));
            let link = take(&asked, now.plus(POOL_IDLE / 2)).unwrap();
            pool.put(link, now.plus(POOL_IDLE / 2));
            // The sweep may have been just before it was too old: the next one takes it.
            let link = take(&asked, now.plus(POOL_IDLE)).unwrap();
            pool.put(link, now.plus(POOL_IDLE));
            let left: Vec<_> = pool.shelves.borrow().iter().map(|shelf| shelf.endpoint.authority.clone()).collect();
            assert_eq!(left, ["asked"]);
        });
    }
}
