//! One backend: what it publishes, the leave to call it, and the actor that decides about it.
//!
//! [`Backend`] is the handle that routing tables hold. Workers read its [`Standing`] and take [`Permit`]s by atomics; nobody
//! asks its actor anything. What came of an attempt is told through the worker's [`Outbox`].

mod actor;
pub mod circuit_breaker;
mod limiter;
pub mod machine;
mod outbox;
pub mod outcome;
mod permit;
pub mod quota;
pub mod status;
mod sync;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::{Actor as _, Addr};

use self::actor::{BackendActor, Order, Settle};
pub use self::circuit_breaker::Kind;
pub use self::limiter::{GatewayClock, Limiter};
use self::machine::{Command, Edge, Event, Machine};
pub use self::outbox::Outbox;
pub use self::permit::Permit;
pub use self::status::{Admission, BackendStatus, Reason, Rejection, Standing};
use crate::clock::{self, Instant};
use crate::config::{self, BackendId};

/// Who hears of edges: given at birth, so that no decision knows a metric.
pub trait Observer: Send + Sync {
    /// Something became visible about a backend.
    fn observe(&self, backend: &BackendId, edge: &Edge);

    /// News could not be told: the actor is gone and not yet replaced.
    fn dropped(&self, backend: &BackendId, messages: usize);
}

/// The handle of one backend.
pub struct Backend {
    config: Arc<config::Backend>,
    status: Arc<BackendStatus>,
    limiter: Arc<Limiter>,
    mailbox: Arc<Mailbox>,
}

/// Where the backend's actor is reached, also after it was replaced.
struct Mailbox {
    addr: Mutex<Addr<BackendActor>>,
    observer: Arc<dyn Observer>,
}

/// What a call needs to know to be admitted.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// Estimated tokens.
    pub tokens: u64,
    /// When it will count as a success.
    pub kind: Kind,
    /// What it may take at most until then, by its own limits.
    pub limit: Duration,
    /// When a probe's right ends: the attempt's deadline and a second.
    pub lease: Instant,
}

impl Backend {
    /// Starts a backend with a new cell. Must run on the control arbiter.
    pub fn start(config: Arc<config::Backend>, observer: Arc<dyn Observer>) -> Arc<Self> {
        let now = clock::now();
        let status = Arc::new(BackendStatus::new(&config.policy));
        let machine = Machine::new(config.policy.clone(), fastrand::u64(..), now);
        let addr = Mutex::new(launch(&config, machine, &status, &observer));
        let limiter = Limiter::new(&config.policy);
        Arc::new(Self { config, status, limiter, mailbox: Arc::new(Mailbox { addr, observer }) })
    }

    /// The handle for a changed configuration of the same upstream: cell and actor go on. Must run on the control arbiter.
    pub fn reconfigured(&self, config: Arc<config::Backend>) -> Arc<Self> {
        let same_limits = self.config.policy.requests_per_minute == config.policy.requests_per_minute
            && self.config.policy.tokens_per_minute == config.policy.tokens_per_minute;
        let limiter = if same_limits { Arc::clone(&self.limiter) } else { Limiter::new(&config.policy) };
        // One per reload.
        self.addr().do_send(Order::Reconfigure(Box::new(config.policy.clone())));
        Arc::new(Self { config, status: Arc::clone(&self.status), limiter, mailbox: Arc::clone(&self.mailbox) })
    }

    /// Whether its actor is there.
    pub fn is_alive(&self) -> bool {
        self.addr().connected()
    }

    /// Whether both are handles of the same cell.
    pub fn is_same_cell(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.status, &other.status)
    }

    /// Replaces an actor that panicked. Must run on the control arbiter.
    pub fn revive(&self) {
        let now = clock::now();
        let (policy, seen) = (self.config.policy.clone(), self.status.circuit());
        let machine = Machine::restarted(policy, seen, self.status.open_until(), fastrand::u64(..), now);
        let addr = launch(&self.config, machine, &self.status, &self.mailbox.observer);
        *self.mailbox.addr.lock().unwrap_or_else(PoisonError::into_inner) = addr;
    }

    /// Its id.
    pub fn id(&self) -> &BackendId {
        &self.config.id
    }

    /// Its configuration.
    pub fn config(&self) -> &Arc<config::Backend> {
        &self.config
    }

    /// Its cell.
    pub fn status(&self) -> &BackendStatus {
        &self.status
    }

    /// Its limits per minute.
    pub fn limiter(&self) -> &Limiter {
        &self.limiter
    }

    /// Takes leave for one attempt.
    ///
    /// # Errors
    /// Why not now, and when to come back.
    pub fn try_take(self: &Arc<Self>, call: Call, now: Instant, outbox: &Arc<Outbox>) -> Result<Permit, Rejection> {
        let slot = self.status.try_take(now)?;
        let mut permit = Permit::new(self, outbox, slot, now, call);
        // Denied here, the permit drops and gives everything back.
        self.limiter.try_charge(call.tokens)?;
        permit.begin(call.limit);
        Ok(permit)
    }

    /// Tells the actor an operator's wish.
    pub fn command(&self, command: Command) {
        // One per admin call.
        self.addr().do_send(Order::Do(command));
    }

    /// Has the actor do what an operator wants, and waits until the cell shows it: for the admin listener, not for the request
    /// path. False if the actor is gone and not yet replaced.
    pub async fn carry_out(&self, command: Command) -> bool {
        #[expect(clippy::disallowed_methods, reason = "the room's face, once per admin call")]
        let asked = self.addr().send(Order::Do(command));
        asked.await.is_ok()
    }

    /// Makes its actor panic.
    #[cfg(test)]
    pub(crate) fn panic(&self) {
        self.addr().do_send(Order::Panic);
    }

    /// Ends the actor, after the drain.
    pub fn stop(&self) {
        // One per removed backend.
        self.addr().do_send(Order::Stop);
    }

    fn tell(&self, batch: Vec<Event>) {
        let addr = self.addr();
        if !addr.connected() {
            self.mailbox.observer.dropped(self.id(), batch.len());
            return;
        }
        // At most a few per permit, and permits are bounded by `max_in_flight`.
        addr.do_send(Settle(batch));
    }

    fn addr(&self) -> Addr<BackendActor> {
        self.mailbox.addr.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn launch(
    config: &config::Backend,
    machine: Machine,
    status: &Arc<BackendStatus>,
    observer: &Arc<dyn Observer>,
) -> Addr<BackendActor> {
    let (id, status, observer) = (config.id.clone(), Arc::clone(status), Arc::clone(observer));
    BackendActor { id, machine, status, observer, timer: None }.start()
}
