//! One worker's idle links, and the buffers that its exchanges share.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use actix_web::http::Uri;
use actix_web::http::header::HeaderMap;

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
#[derive(Clone)]
pub(super) struct Endpoint {
    authority: String,
    tls: Option<Arc<rustls::ClientConfig>>,
}

impl Endpoint {
    pub(super) fn new(uri: &Uri, tls: Option<&Arc<rustls::ClientConfig>>) -> Self {
        Self { authority: authority(uri).to_owned(), tls: tls.cloned() }
    }

    fn is(&self, uri: &Uri, tls: Option<&Arc<rustls::ClientConfig>>) -> bool {
        let is_same_tls = match (&self.tls, tls) {
            (None, None) => true,
            (Some(own), Some(other)) => Arc::ptr_eq(own, other),
            (Some(_), None) | (None, Some(_)) => false,
        };
        is_same_tls && self.authority == authority(uri)
    }
}

fn authority(uri: &Uri) -> &str {
    uri.authority().map_or("", |authority| authority.as_str())
}

/// The idle links of one endpoint, those used last at the end.
struct Shelf {
    endpoint: Arc<Endpoint>,
    links: Vec<Link>,
}

/// One worker's idle links and buffers. Not `Sync`.
pub(super) struct Pool {
    shelves: RefCell<Vec<Shelf>>,
    /// What a poll reads into; empty again when the poll ends.
    pub(super) scratch: RefCell<Box<[u8]>>,
    text: Cell<Vec<u8>>,
    headers: Cell<HeaderMap>,
}

impl Pool {
    pub(super) fn new() -> Self {
        let scratch = RefCell::new(vec![0; READ_BYTES].into_boxed_slice());
        Self { shelves: RefCell::default(), scratch, text: Cell::default(), headers: Cell::default() }
    }

    /// Takes the link that was used last, if it is young and has been quiet since.
    pub(super) fn take(
        &self,
        uri: &Uri,
        tls: Option<&Arc<rustls::ClientConfig>>,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Option<Link> {
        let mut shelves = self.shelves.borrow_mut();
        let shelf = shelves.iter_mut().find(|shelf| shelf.endpoint.is(uri, tls))?;
        while let Some(mut link) = shelf.links.pop() {
            if !is_old(&link, now) && link.is_quiet(cx) {
                return Some(link);
            }
        }
        None
    }

    /// The endpoint that new links of this authority belong to.
    pub(super) fn endpoint(&self, uri: &Uri, tls: Option<&Arc<rustls::ClientConfig>>) -> Arc<Endpoint> {
        let shelves = self.shelves.borrow();
        let known = shelves.iter().find(|shelf| shelf.endpoint.is(uri, tls));
        known.map_or_else(|| Arc::new(Endpoint::new(uri, tls)), |shelf| Arc::clone(&shelf.endpoint))
    }

    /// Puts a link back after a whole answer. What has become too old meanwhile goes.
    pub(super) fn put(&self, mut link: Link, now: Instant) {
        link.used = now;
        let mut shelves = self.shelves.borrow_mut();
        if let Some(shelf) = shelves.iter_mut().find(|shelf| Arc::ptr_eq(&shelf.endpoint, &link.endpoint)) {
            // The longest unused one stands first: one look per answer is enough to keep up.
            if shelf.links.first().is_some_and(|oldest| is_old(oldest, now)) {
                shelf.links.remove(0);
            }
            if shelf.links.len() < MAX_IDLE {
                shelf.links.push(link);
            }
            return;
        }
        // Endpoints come and go with reloads.
        shelves.retain(|shelf| shelf.links.last().is_some_and(|link| !is_old(link, now)));
        shelves.push(Shelf { endpoint: Arc::clone(&link.endpoint), links: vec![link] });
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

    /// Fills an empty map by `fill` and lets `read` see it.
    pub(super) fn with_headers(&self, fill: &dyn Fn(&mut HeaderMap), read: impl FnOnce(&HeaderMap)) {
        let mut headers = self.headers.take();
        fill(&mut headers);
        read(&headers);
        headers.clear();
        self.headers.set(headers);
    }
}

fn is_old(link: &Link, now: Instant) -> bool {
    older(now, link.used, POOL_IDLE) || older(now, link.opened, POOL_LIFETIME)
}

fn older(now: Instant, since: Instant, most: Duration) -> bool {
    most < now.since(since)
}
