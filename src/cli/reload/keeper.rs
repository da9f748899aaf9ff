//! The watch's view of the process: what is in force, and the desk where finds are handed in.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::config::Config;
use crate::config::watcher::{Keeper, Listening, Outcome, Trigger};
use crate::server::admin::reloads::Reloads;
use crate::supervisor::Supervisor;

/// What the watch has found; it waits until that is dealt with.
pub(super) struct Found {
    pub(super) trigger: Trigger,
    pub(super) outcome: Outcome,
    /// Dropped when it is done.
    pub(super) _done: oneshot::Sender<()>,
}

/// What the watch's thread holds of the rest.
pub(super) struct Desk {
    pub(super) supervisor: Supervisor,
    pub(super) reloads: Arc<Reloads>,
    pub(super) finds: mpsc::Sender<Found>,
}

impl Keeper for Desk {
    fn in_force(&self) -> Arc<Config> {
        Arc::clone(&self.supervisor.current().get().config)
    }

    fn take(&self, trigger: Trigger, outcome: Outcome) {
        let (done, dealt_with) = oneshot::channel();
        // The process is ending if nobody listens.
        if self.finds.blocking_send(Found { trigger, outcome, _done: done }).is_ok() {
            let _ = dealt_with.blocking_recv();
        }
    }

    fn listens(&self, how: Listening) {
        let gauge = &self.supervisor.metrics().config_watch_info;
        self.reloads.set_watch(how);
        gauge.clear();
        gauge.child(&[how.name()]).set(1);
    }
}
