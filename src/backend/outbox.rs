//! How news leave a worker: failures and claims at once, starts and successes gathered for a few milliseconds.
//!
//! What is urgent takes along all that was gathered before it, so that no failure overtakes a start or a success of its own
//! worker. A success of a backend whose last calls failed is urgent too: else the failures of other workers overtook it.
//!
//! Each worker has one outbox and one task that empties it. The lock is taken by one thread only, so it is never waited for.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::Backend;
use super::machine::{Event, What};

/// Longest a start or a success may wait: far below any time a breaker thinks in, and enough that waking the control thread costs
/// nothing per request.
const GATHER: Duration = Duration::from_millis(5);

/// Most gathered events; beyond, they are told at once.
const MAX_GATHERED: usize = 1_024;

/// One worker's news.
#[derive(Default)]
pub struct Outbox {
    gathered: Mutex<Vec<(Arc<Backend>, Event)>>,
    wake: Notify,
}

impl Outbox {
    /// An empty outbox.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Tells an event, now or with the next batch.
    pub(super) fn tell(&self, backend: &Arc<Backend>, event: Event) {
        let urgent = match event.what {
            What::Failed { .. }
            | What::BrokeLater { .. }
            | What::Claimed { .. }
            | What::ClaimedEarly { .. }
            | What::ClaimedHost { .. }
            | What::Reached { .. } => true,
            What::Succeeded { .. } => backend.status().is_failing(),
            What::Started { .. } | What::Overtaken { .. } | What::Dropped { .. } => false,
        };
        let mut gathered = self.gathered.lock().unwrap_or_else(PoisonError::into_inner);
        gathered.push((Arc::clone(backend), event));
        let full = MAX_GATHERED <= gathered.len();
        let first = gathered.len() == 1;
        drop(gathered);
        if urgent || full {
            self.flush();
        } else if first {
            self.wake.notify_one();
        }
    }

    /// Sends everything gathered, one message per backend.
    pub fn flush(&self) {
        let mut taken = std::mem::take(&mut *self.gathered.lock().unwrap_or_else(PoisonError::into_inner));
        while let Some((backend, _)) = taken.last() {
            let backend = Arc::clone(backend);
            let is_its = |(other, _): &(Arc<Backend>, Event)| Arc::ptr_eq(other, &backend);
            let mut batch = Vec::with_capacity(taken.iter().filter(|told| is_its(told)).count());
            taken.retain(|told| {
                let is_its = is_its(told);
                if is_its {
                    batch.push(told.1);
                }
                !is_its
            });
            backend.tell(batch);
        }
        // Its room is used again.
        let mut gathered = self.gathered.lock().unwrap_or_else(PoisonError::into_inner);
        if gathered.capacity() == 0 {
            *gathered = taken;
        }
    }

    /// Empties the outbox whenever something has waited long enough. Runs as long as its worker.
    pub async fn run(self: Arc<Self>) {
        loop {
            self.wake.notified().await;
            tokio::time::sleep(GATHER).await;
            self.flush();
        }
    }
}
