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

/// All of them.
#[derive(Default)]
pub(super) struct Gone {
    /// In the order in which they left.
    entries: VecDeque<Entry>,
    tables: Tables,
}

/// The tables that were in force, while somebody may go by them: in their order, by number.
#[derive(Default)]
struct Tables {
    earlier: Vec<Earlier>,
    last: u64,
}

struct Earlier {
    number: u64,
    table: Weak<Table>,
    /// It counts no longer then.
    until: Instant,
}

struct Entry {
    backend: Arc<Backend>,
    /// An operator had drained it before it left.
    was_draining: bool,
    /// The last table that leads to it; none: it takes no new calls.
    routed: Option<u64>,
    /// Whether its calls are over.
    is_idle: bool,
    /// When the drain, or the rest, is over.
    until: Instant,
}

impl Gone {
    /// Backends leave with the table that was in force until now: they take no new calls once nobody goes by it any more,
    /// nor by one before it.
    pub(super) fn leave(&mut self, backends: impl IntoIterator<Item = Arc<Backend>>, table: Weak<Table>, now: Instant) {
        let routed = Some(self.tables.retire(table, now));
        for backend in backends {
            let was_draining = backend.status().is_draining();
            let mut entry = Entry { backend, was_draining, routed, is_idle: false, until: now.plus(DRAIN_LIMIT) };
            entry.drain(&self.tables);
            self.entries.push_back(entry);
            if MAX_GONE < self.entries.len()
                && let Some(first) = self.entries.pop_front()
            {
                first.backend.stop();
            }
        }
    }

    /// One that a configuration has again: the same upstream, best by the same id. It takes calls as it did before.
    pub(super) fn take(&mut self, wanted: &config::Backend) -> Option<Arc<Backend>> {
        let is_same = |entry: &Entry, identity: &IdentityHash| entry.backend.config().identity == *identity;
        let by_id =
            self.entries.iter().position(|entry| *entry.backend.id() == wanted.id && is_same(entry, &wanted.identity));
        let place = by_id.or_else(|| self.entries.iter().position(|entry| is_same(entry, &wanted.identity)))?;
        let Entry { backend, was_draining, .. } = self.entries.remove(place)?;
        backend.status().set_draining(was_draining);
        Some(backend)
    }

    /// Whether a backend of this name still has calls.
    pub(super) fn is_busy(&self, name: &str) -> bool {
        self.entries.iter().any(|entry| !entry.is_idle && entry.backend.id().as_str() == name)
    }

    /// Lets those rest whose calls are over, and ends those that have rested.
    pub(super) fn look(&mut self, now: Instant) {
        self.tables.prune(now);
        self.entries.retain_mut(|entry| {
            entry.drain(&self.tables);
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

impl Tables {
    /// One is no longer in force: its number.
    fn retire(&mut self, table: Weak<Table>, now: Instant) -> u64 {
        self.last += 1;
        self.earlier.push(Earlier { number: self.last, table, until: now.plus(ROUTED_LIMIT) });
        self.prune(now);
        self.last
    }

    fn prune(&mut self, now: Instant) {
        self.earlier.retain(|earlier| 0 < earlier.table.strong_count() && now < earlier.until);
    }

    /// Whether somebody may go by this one or one before it.
    fn is_in_use(&self, number: u64) -> bool {
        self.earlier.first().is_some_and(|first| first.number <= number)
    }
}

impl Entry {
    /// It takes no new calls, once that fails nobody.
    fn drain(&mut self, tables: &Tables) {
        if self.routed.take_if(|last| !tables.is_in_use(*last)).is_some() {
            let status = self.backend.status();
            status.set_draining(true);
            info!(backend = self.backend.id().as_str(), in_flight = status.in_flight(), "backend draining");
        }
    }
}
