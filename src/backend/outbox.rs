//! How news leave a worker: failures and claims in its event loop's next turn, starts and successes gathered for a few
//! milliseconds.
//!
//! Not before all that can run has run: a request whose attempt has failed sends the next one first, and only then wakes the
//! control thread, which may well want the same core.
//!
//! What is urgent takes along all that was gathered before it, so that no failure overtakes a start or a success of its own
//! worker. A success of a backend whose last calls failed is urgent too: else the failures of other workers overtook it.
//!
//! Each worker has one outbox and one task that empties it. The lock is taken by one thread only, so it is never waited for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::Backend;
use super::machine::{Event, What};

/// Longest a start or a success may wait: far below any time a breaker thinks in, and enough that waking the control thread costs
/// nothing per request.
const GATHER: Duration = Duration::from_millis(5);

/// Most gathered events; beyond, they are told in the next turn.
const MAX_GATHERED: usize = 1_024;

/// One worker's news.
#[derive(Default)]
pub struct Outbox {
    gathered: Mutex<Vec<(Arc<Backend>, Event)>>,
    /// Something waits.
    wake: Notify,
    /// Something waits that must not.
    hurry: Notify,
    /// Whether a task empties it; else what is urgent is told at once.
    is_emptied: AtomicBool,
}

impl Outbox {
    /// An empty outbox.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Tells an event, in the next turn or with the next batch.
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
            if self.is_emptied.load(Ordering::Relaxed) {
                self.hurry.notify_one();
            } else {
                self.flush();
            }
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
        let _running = Running::begin(&self.is_emptied);
        loop {
            let waited = async {
                self.wake.notified().await;
                tokio::time::sleep(GATHER).await;
            };
            tokio::select! {
                // Whoever can run now runs first: the way to the next attempt leads through the router's mailbox.
                () = self.hurry.notified() => tokio::task::yield_now().await,
                () = waited => {}
            }
            self.flush();
        }
    }
}

/// A task that empties an outbox. When it ends, however it does, what is urgent is told at once again.
struct Running<'a>(&'a AtomicBool);

impl<'a> Running<'a> {
    fn begin(is_emptied: &'a AtomicBool) -> Self {
        is_emptied.store(true, Ordering::Relaxed);
        Self(is_emptied)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}
