//! What must be said about a request at its end, said whatever becomes of its task.

use std::sync::Arc;
use std::time::Duration;

use super::backend::{Backend, Begun};
use super::journal::Settled;
use super::record::Ended;

/// A request under way; settled once, as stopped if nobody says otherwise.
pub(super) struct Ticket {
    backend: Arc<Backend>,
    epoch: u64,
    sequence: u64,
    pub(super) status: Option<u16>,
    pub(super) events: u64,
    pub(super) bytes: u64,
    pub(super) first_byte: Option<Duration>,
    ended: Ended,
}

impl Ticket {
    pub(super) fn new(backend: &Arc<Backend>, begun: &Begun) -> Self {
        Self {
            backend: Arc::clone(backend),
            epoch: begun.epoch,
            sequence: begun.sequence,
            status: None,
            events: 0,
            bytes: 0,
            first_byte: None,
            ended: Ended::Stopped,
        }
    }

    /// Ends it this way.
    pub(super) fn end(mut self, ended: Ended) {
        self.ended = ended;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let settled = Settled {
            status: self.status,
            events: self.events,
            bytes: self.bytes,
            first_byte: self.first_byte,
            end: self.backend.elapsed(),
            ended: self.ended,
        };
        self.backend.settle(self.epoch, self.sequence, &settled);
    }
}
