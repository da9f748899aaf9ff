//! The moment in which a gateway that shuts down gives up what is still under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

/// One worker's drain limit: whether it is over, and a way to wait for that.
#[derive(Debug, Default)]
pub struct DrainLimit {
    is_over: AtomicBool,
    waiting: Arc<Notify>,
}

impl DrainLimit {
    /// It is over: every wait ends, and none begins any more.
    pub fn end(&self) {
        // First the word, then the call: whoever begins to wait in between reads it.
        self.is_over.store(true, Ordering::Release);
        self.waiting.notify_waiters();
    }

    /// Whether it is over. One load: it may be asked at every event of a stream.
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// Ends when the limit is over after this call: ask [`DrainLimit::is_over`] for what was before.
    pub fn ended(&self) -> OwnedNotified {
        Arc::clone(&self.waiting).notified_owned()
    }
}
