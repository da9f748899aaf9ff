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
    /// What a poll reads into; empty again when the poll ends.
    pub(super) scratch: RefCell<Box<[u8]>>,
    text: Cell<Vec<u8>>,
}

impl Pool {
    pub(super) fn new() -> Self {
        let scratch = RefCell::new(vec![0; READ_BYTES].into_boxed_slice());
        Self { shelves: RefCell::default(), scratch, text: Cell::default() }
    }

    /// Takes the link that was used last, if it is young and has been quiet since.
    pub(super) fn take(
        &self,
        uri: &Uri,
        tls: Option<&Arc<rustls::ClientConfig>>,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Option<Box<Link>> {
        let mut shelves = self.shelves.borrow_mut();
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

    /// Puts a link back after a whole answer. What has become too old meanwhile goes.
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
        // Endpoints come and go with reloads.
        shelves.retain(|shelf| shelf.idle.last().is_some_and(|latest| !latest.is_old(now)));
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
