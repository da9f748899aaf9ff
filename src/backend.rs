//! One backend: what it publishes, the leave to call it, and the actor that decides about it.
//!
//! [`Backend`] is the handle that routing tables hold. Workers read its [`Standing`] and take [`Permit`]s by atomics; nobody
//! asks its actor anything. What came of an attempt is told through the worker's [`Outbox`].

mod actor;
pub mod circuit_breaker;
pub mod endpoint;
pub mod figures;
pub mod health;
pub mod latency;
pub mod ledger;
mod limiter;
pub mod machine;
mod outbox;
pub mod outcome;
mod permit;
pub mod quota;
pub mod scope;
pub mod status;
mod sync;
mod times;
mod waiting;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::{Actor as _, Addr, Handler, Message};

use self::actor::{BackendActor, Order, Settle, Wish};
pub use self::circuit_breaker::Kind;
use self::circuit_breaker::{Cause, Change, StateName};
use self::endpoint::Endpoint;
use self::health::Checked;
use self::latency::Latency;
use self::ledger::Ledger;
pub use self::limiter::{GatewayClock, Limiter};
use self::machine::{Command, Edge, Event, Machine};
pub use self::outbox::Outbox;
use self::outcome::Block;
pub use self::permit::Permit;
use self::permit::Taken;
use self::scope::Blocks;
pub use self::status::{Admission, BackendStatus, Reason, Rejection, Standing};
use self::status::{Override, Slot};
pub use self::waiting::{Told, Waiting};
use crate::clock::{self, Instant};
use crate::config::{self, BackendId, Provider};

/// Who hears of edges: given at birth, so that no decision knows a metric.
pub trait Observer: Send + Sync {
    /// Something became visible about a backend.
    fn observe(&self, backend: &BackendId, edge: &Edge);

    /// The circuit of a host (`host:port`) has changed.
    fn observe_endpoint(&self, endpoint: &str, change: &Change);

    /// News could not be told: the actor is gone and not yet replaced.
    fn dropped(&self, backend: &BackendId, messages: usize);
}

/// The handle of one backend.
pub struct Backend {
    config: Arc<config::Backend>,
    status: Arc<BackendStatus>,
    scopes: Scopes,
    limiter: Arc<Limiter>,
    mailbox: Arc<Mailbox>,
}

/// What a backend may have in common with others.
#[derive(Clone)]
pub struct Scopes {
    /// Its blocks: its own, its credential's, its quota's.
    pub blocks: Blocks,
    /// What the provider says is left of its quota.
    pub ledger: Arc<Ledger>,
    /// The circuit of its host.
    pub endpoint: Arc<Endpoint>,
}

impl Scopes {
    /// Those of a backend that shares nothing.
    pub fn alone(config: &config::Backend) -> Self {
        let policy = endpoint::policy(&config.policy);
        let endpoint = Endpoint::new(config.base_url.endpoint(), policy, fastrand::u64(..), clock::now());
        Self { blocks: Blocks::default(), ledger: Arc::default(), endpoint }
    }
}

/// Where the backend's actor is reached, also after it was replaced.
struct Mailbox {
    line: Mutex<Line>,
    /// How often it was replaced.
    restarts: AtomicU32,
    observer: Arc<dyn Observer>,
}

/// The way to one life of an actor.
#[derive(Clone)]
struct Line {
    addr: Addr<BackendActor>,
    /// Messages told and not yet handled.
    waiting: Waiting,
}

impl Line {
    fn tell<M>(&self, message: impl FnOnce(Told) -> M)
    where
        M: Message<Result = ()> + Send + 'static,
        BackendActor: Handler<M>,
    {
        self.addr.do_send(message(self.waiting.one_more()));
    }

    fn order(&self, wish: Wish) {
        self.tell(|told| Order(wish, told));
    }
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
    pub fn start(config: Arc<config::Backend>, scopes: Scopes, observer: Arc<dyn Observer>) -> Arc<Self> {
        let now = clock::now();
        let status = Arc::new(BackendStatus::new(&config.policy));
        let machine = Machine::new(config.policy.clone(), fastrand::u64(..), now);
        let line = Mutex::new(launch(&config, machine, &status, &scopes, &observer));
        let limiter = limiter(&config);
        Arc::new(Self {
            config,
            status,
            scopes,
            limiter,
            mailbox: Arc::new(Mailbox { line, restarts: AtomicU32::new(0), observer }),
        })
    }

    /// The handle for a changed configuration of the same upstream: cell and actor go on, and so do its own blocks. Must run
    /// on the control arbiter.
    pub fn reconfigured(&self, config: Arc<config::Backend>, scopes: Scopes) -> Arc<Self> {
        let same_limits = self.config.policy.requests_per_minute == config.policy.requests_per_minute
            && self.config.policy.tokens_per_minute == config.policy.tokens_per_minute;
        let limiter = if same_limits { Arc::clone(&self.limiter) } else { limiter(&config) };
        let scopes = Scopes { blocks: self.scopes.blocks.moved_to(&scopes.blocks), ..scopes };
        // One per reload.
        self.line().order(Wish::Reconfigure(Arc::clone(&config), scopes.clone()));
        let (status, mailbox) = (Arc::clone(&self.status), Arc::clone(&self.mailbox));
        Arc::new(Self { config, status, scopes, limiter, mailbox })
    }

    /// Whether its actor is there.
    pub fn is_alive(&self) -> bool {
        self.line().addr.connected()
    }

    /// Whether both are handles of the same cell.
    pub fn is_same_cell(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.status, &other.status)
    }

    /// Replaces an actor that panicked. Must run on the control arbiter.
    pub fn revive(&self) {
        let now = clock::now();
        let (policy, seen) = (self.config.policy.clone(), self.status.circuit());
        // A reload may have met the dead one.
        self.status.set_limits(&policy);
        let is_checked = policy.health_check.kind != config::HealthCheckKind::Off;
        let mut machine = Machine::restarted(policy, seen, self.status.open_until(), fastrand::u64(..), now);
        if is_checked {
            machine.resume_health(self.status.health());
        }
        let endpoint = &self.scopes.endpoint;
        for change in endpoint.recount(now) {
            self.mailbox.observer.observe_endpoint(endpoint.name(), &change);
        }
        let line = launch(&self.config, machine, &self.status, &self.scopes, &self.mailbox.observer);
        *self.mailbox.line.lock().unwrap_or_else(PoisonError::into_inner) = line;
        self.mailbox.restarts.fetch_add(1, Ordering::Relaxed);
        if seen.hand == Override::Auto && seen.state != StateName::Closed {
            // The new one begins closed, and nobody else can tell.
            let change = Change { from: seen.state, to: StateName::Closed, cause: Cause::ActorRestart };
            self.mailbox.observer.observe(self.id(), &Edge::Circuit(change));
        }
    }

    /// How often its actor was replaced after a panic.
    pub fn restarts(&self) -> u32 {
        self.mailbox.restarts.load(Ordering::Relaxed)
    }

    /// Messages that its actor has been told and has not yet handled.
    pub fn mailbox_depth(&self) -> usize {
        self.line().waiting.count()
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

    /// What it may have in common with others.
    pub fn scopes(&self) -> &Scopes {
        &self.scopes
    }

    /// Until when a block lasts; zero if it is not set.
    pub fn blocked_until(&self, block: Block) -> Instant {
        self.scopes.blocks.until(block)
    }

    /// How it stands towards a call of about `tokens` tokens: its cell, its host, its blocks, and what its provider says is
    /// left. Changes nothing.
    pub fn read(&self, tokens: u64, now: Instant) -> Standing {
        let own = self.status.read(now);
        let admission = self.shared_gates(now).map_or(own.admission, |gates| own.admission.and(gates));
        Standing { admission, deferred: self.is_deferred(tokens, now), ..own }
    }

    /// What its blocks and its host say; none: nothing against it.
    fn shared_gates(&self, now: Instant) -> Option<Admission> {
        let block = self
            .scopes
            .blocks
            .longest(now)
            .map(|(block, until)| Admission::Denied(Rejection::lasting(Reason::Blocked(block), until.since(now))));
        match (block, self.scopes.endpoint.admission(now)) {
            (block, Admission::Free) => block,
            (None, host) => Some(host),
            (Some(block), host) => Some(host.and(block)),
        }
    }

    fn is_deferred(&self, tokens: u64, now: Instant) -> bool {
        let quota = &self.config.policy.quota;
        quota.learned && self.scopes.ledger.is_spent(tokens, now)
            || quota.ptu_target_utilization.is_some_and(|target| self.scopes.ledger.is_full(target, now))
    }

    /// Takes leave for one attempt.
    ///
    /// # Errors
    /// Why not now, and when to come back.
    pub fn try_take(self: &Arc<Self>, call: Call, now: Instant, outbox: &Arc<Outbox>) -> Result<Permit, Rejection> {
        self.take(call, now, outbox, false)
    }

    /// Takes leave for one attempt at an open circuit whose time is not over: where nobody else can serve
    /// (spec/resilience.md 9.1, `least_bad`).
    ///
    /// # Errors
    /// Why not even so.
    pub fn try_take_early(
        self: &Arc<Self>,
        call: Call,
        now: Instant,
        outbox: &Arc<Outbox>,
    ) -> Result<Permit, Rejection> {
        self.take(call, now, outbox, true)
    }

    fn take(
        self: &Arc<Self>,
        call: Call,
        now: Instant,
        outbox: &Arc<Outbox>,
        early: bool,
    ) -> Result<Permit, Rejection> {
        if let Some(Admission::Denied(rejection)) = self.shared_gates(now) {
            return Err(rejection);
        }
        let slot = if early { self.status.try_take_early(now) } else { self.status.try_take(now) }?;
        let host = self.scopes.endpoint.claim(now);
        let places = Taken { slot, host: host.unwrap_or(Slot::NONE), early };
        let mut permit = Permit::new(self, outbox, places, now, call);
        // Denied from here on, the permit drops and gives everything back.
        host?;
        self.limiter.try_charge(call.tokens)?;
        self.scopes.ledger.admit(call.tokens);
        permit.begin(call.limit);
        Ok(permit)
    }

    /// Whoever lifts blocks wants it called: what the provider said is left must not keep it from that.
    fn forget_figures(&self, command: Command) {
        if command == (Command::Reset { blocks: true }) {
            self.scopes.ledger.forget();
        }
    }

    /// Tells the actor an operator's wish.
    pub fn command(&self, command: Command) {
        self.forget_figures(command);
        // One per admin call.
        self.line().order(Wish::Do(command));
    }

    /// Has the actor do what an operator wants, and waits until the cell shows it: for the admin listener, not for the request
    /// path. False if the actor is gone and not yet replaced.
    pub async fn carry_out(&self, command: Command) -> bool {
        self.forget_figures(command);
        let line = self.line();
        #[expect(clippy::disallowed_methods, reason = "the room's face, once per admin call")]
        let asked = line.addr.send(Order(Wish::Do(command), line.waiting.one_more()));
        asked.await.is_ok()
    }

    /// Tells the actor what a turn of its checker brought.
    pub fn checked(&self, checked: Checked) {
        // One per turn of its one checker.
        self.line().order(Wish::Checked(checked));
    }

    /// Makes its actor panic.
    #[cfg(test)]
    pub(crate) fn panic(&self) {
        self.line().order(Wish::Panic);
    }

    /// Ends the actor, after the drain.
    pub fn stop(&self) {
        // One per removed backend.
        self.line().order(Wish::Stop);
    }

    fn tell(&self, batch: Vec<Event>) {
        let line = self.line();
        if !line.addr.connected() {
            self.mailbox.observer.dropped(self.id(), batch.len());
            return;
        }
        // At most a few per permit, and permits are bounded by `max_in_flight`.
        line.tell(|told| Settle(batch, told));
    }

    fn line(&self) -> Line {
        self.mailbox.line.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn launch(
    config: &config::Backend,
    machine: Machine,
    status: &Arc<BackendStatus>,
    scopes: &Scopes,
    observer: &Arc<dyn Observer>,
) -> Line {
    let (id, status, observer) = (config.id.clone(), Arc::clone(status), Arc::clone(observer));
    let machine = machine.with_blocks(scopes.blocks.clone());
    let latency = Latency::resumed(status.latency(), clock::now());
    let endpoint = Arc::clone(&scopes.endpoint);
    let actor = BackendActor { id, machine, latency, status, endpoint, observer, timer: None };
    Line { addr: actor.start(), waiting: Waiting::default() }
}

/// Its limits per minute. Azure counts what a call may cost, not what it did (spec/resilience.md 4.1).
fn limiter(config: &config::Backend) -> Arc<Limiter> {
    let earns_credit = match config.provider {
        Provider::OpenAi | Provider::Compatible(_) => true,
        Provider::AzureDated { .. } | Provider::AzureV1 => false,
    };
    Limiter::new(&config.policy, earns_credit)
}
