//! How many messages an actor has been told and not yet handled.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A count of messages on their way to one actor.
#[derive(Clone, Default)]
pub struct Waiting(Arc<AtomicUsize>);

impl Waiting {
    /// One more is told. It goes with the message: one that is dropped unheard, as when whoever asked has left, waits no
    /// longer.
    pub fn one_more(&self) -> Told {
        self.0.fetch_add(1, Ordering::Relaxed);
        Told(self.clone())
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// A message's part of the count, which ends when it drops.
pub struct Told(Waiting);

impl Drop for Told {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_waits_until_it_is_gone() {
        let waiting = Waiting::default();
        let (first, second) = (waiting.one_more(), waiting.one_more());
        assert_eq!(waiting.count(), 2);
        drop(first);
        drop(second);
        assert_eq!(waiting.count(), 0);
    }
}
