//! Backends that no configuration has any more: they finish their calls, and what is known of them rests for a while, in
//! case they come back (spec/resilience.md 10.4).

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tracing::info;

use crate::backend::Backend;
use crate::clock::Instant;
use crate::config::{self, IdentityHash};
use crate::router::Table;

/// A removed backend is given this long to finish its calls: as long as a stream may take by default.
const DRAIN_LIMIT: Duration = Duration::from_secs(3_600);

/// What began under a configuration ends under it, up to this: requests that wait for their first content, and a worker that
/// has not yet heard of the new table. All but the slowest are over sooner.
const ROUTED_LIMIT: Duration = Duration::from_secs(60);

/// How long its state rests then: an edit that was a mistake is taken back within this.
const RESTS: Duration = Duration::from_secs(600);

/// Most of them; beyond, the one that left first is forgotten.
const MAX_GONE: usize = 1_024;

/// All of them, in the order in which they left.
#[derive(Default)]
pub(super) struct Gone(VecDeque<Entry>);

struct Entry {
    backend: Arc<Backend>,
    /// An operator had drained it before it left.
    was_draining: bool,
    /// The table that still leads to it, and until when that counts; none: it takes no new calls.
    routed: Option<(Weak<Table>, Instant)>,
    /// Whether its calls are over.
    is_idle: bool,
    /// When the drain, or the rest, is over.
    until: Instant,
}

impl Gone {
    /// A backend leaves: it takes no new calls once nobody goes by `earlier` any more, the last table that leads to it.
    pub(super) fn leave(&mut self, backend: Arc<Backend>, earlier: &Weak<Table>, now: Instant) {
        let was_draining = backend.status().is_draining();
        let routed = Some((Weak::clone(earlier), now.plus(ROUTED_LIMIT)));
        let mut entry = Entry { backend, was_draining, routed, is_idle: false, until: now.plus(DRAIN_LIMIT) };
        entry.drain(now);
        self.0.push_back(entry);
        if MAX_GONE < self.0.len()
            && let Some(first) = self.0.pop_front()
        {
            first.backend.stop();
        }
    }

    /// One that a configuration has again: the same upstream, best by the same id. It takes calls as it did before.
    pub(super) fn take(&mut self, wanted: &config::Backend) -> Option<Arc<Backend>> {
        let is_same = |entry: &Entry, identity: &IdentityHash| entry.backend.config().identity == *identity;
        let by_id =
            self.0.iter().position(|entry| *entry.backend.id() == wanted.id && is_same(entry, &wanted.identity));
        let place = by_id.or_else(|| self.0.iter().position(|entry| is_same(entry, &wanted.identity)))?;
        let Entry { backend, was_draining, .. } = self.0.remove(place)?;
        backend.status().set_draining(was_draining);
        Some(backend)
    }

    /// Whether a backend of this name still has calls.
    pub(super) fn is_busy(&self, name: &str) -> bool {
        self.0.iter().any(|entry| !entry.is_idle && entry.backend.id().as_str() == name)
    }

    /// Lets those rest whose calls are over, and ends those that have rested.
    pub(super) fn look(&mut self, now: Instant) {
        self.0.retain_mut(|entry| {
            entry.drain(now);
            if entry.routed.is_some() {
                return true;
            }
            let has_calls = 0 < entry.backend.status().in_flight();
            if !entry.is_idle && (!has_calls || entry.until <= now) {
                info!(backend = entry.backend.id().as_str(), "backend removed");
                (entry.is_idle, entry.until) = (true, now.plus(RESTS));
            }
            let stays = !entry.is_idle || now < entry.until;
            if !stays {
                entry.backend.stop();
            }
            stays
        });
    }
}

impl Entry {
    /// It takes no new calls, once that fails nobody.
    fn drain(&mut self, now: Instant) {
        let is_over = |(table, until): &mut (Weak<Table>, Instant)| table.strong_count() == 0 || *until <= now;
        if self.routed.take_if(is_over).is_some() {
            let status = self.backend.status();
            status.set_draining(true);
            info!(backend = self.backend.id().as_str(), in_flight = status.in_flight(), "backend draining");
        }
    }
}
