//! Calls under way, so that failures which come back fast are not judged before slower successes had their chance.

use std::time::Duration;

use foldhash::HashMap;

use super::pace::{Expected, Kind};
use crate::clock::Instant;

/// Most calls noted; those beyond are not waited for. Only permits that were leaked could ever come near it.
const MAX_PENDING: usize = 65_536;

/// The calls of this generation without an end.
#[derive(Clone, Debug, Default)]
pub(super) struct Pending {
    calls: HashMap<u64, Call>,
}

#[derive(Clone, Copy, Debug)]
struct Call {
    started: Instant,
    kind: Kind,
    limit: Duration,
}

impl Pending {
    /// A call began. `limit` is its own: what it may take at most.
    pub(super) fn begin(&mut self, permit: u64, started: Instant, kind: Kind, limit: Duration) {
        if self.calls.len() < MAX_PENDING {
            self.calls.insert(permit, Call { started, kind, limit });
        }
    }

    /// A call ended.
    pub(super) fn end(&mut self, permit: u64) {
        self.calls.remove(&permit);
    }

    /// All of them belong to an earlier generation.
    pub(super) fn clear(&mut self) {
        self.calls.clear();
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.calls.len()
    }

    /// Those begun at `from` or later that may still be expected to succeed.
    pub(super) fn young(&self, from: Instant, now: Instant, expected: Expected) -> u64 {
        let is_young = |call: &&Call| {
            let patience = expected.of(call.kind).unwrap_or(call.limit);
            from <= call.started && now.since(call.started) <= patience
        };
        self.calls.values().filter(is_young).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_are_noted_than_there_is_room_for() {
        let mut pending = Pending::default();
        let begin = |pending: &mut Pending, permit| pending.begin(permit, Instant::ZERO, Kind::Unary, Duration::ZERO);
        (0..MAX_PENDING as u64 + 5).for_each(|permit| begin(&mut pending, permit));
        assert_eq!(pending.len(), MAX_PENDING);
        pending.end(3);
        begin(&mut pending, u64::MAX);
        assert_eq!(pending.len(), MAX_PENDING, "what ends makes room");
    }
}
