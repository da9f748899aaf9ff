//! The shell of a backend: the only owner of its [`Machine`], on the control arbiter.

use std::sync::Arc;

use actix::{Actor, ActorContext as _, AsyncContext as _, Context, Handler, Message, SpawnHandle};
use tracing::{error, info, warn};

use super::circuit_breaker::{Change, StateName};
use super::endpoint::Endpoint;
use super::health::Checked;
use super::latency::Latency;
use super::machine::{Command, Edge, Event, HealthChange, Machine, What};
use super::outcome::Block;
use super::quota::Blocked;
use super::scope::Reach;
use super::status::BackendStatus;
use super::waiting::Told;
use super::{Observer, Scopes};
use crate::clock::{self, Instant};
use crate::config::{self, BackendId};

/// Serial owner of one backend's decisions.
pub(super) struct BackendActor {
    pub(super) id: BackendId,
    pub(super) machine: Machine,
    pub(super) latency: Latency,
    pub(super) status: Arc<BackendStatus>,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) timer: Option<SpawnHandle>,
}

impl BackendActor {
    /// The one place that reads the clock, has the cell published, reports a change and arms the timer (at `until`: for the
    /// gauges only).
    fn step(&mut self, ctx: &mut Context<Self>, change: impl FnOnce(&mut Machine, Instant)) {
        let now = clock::now();
        self.machine.advance(self.status.circuit(), now);
        change(&mut self.machine, now);
        self.machine.publish(&self.status, now);
        self.status.figures().publish(self.machine.books(now));
        self.report(now);
        self.tell_endpoint(self.endpoint.advance(now));
        self.arm(ctx, now);
    }

    fn arm(&mut self, ctx: &mut Context<Self>, now: Instant) {
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        let wake_at =
            [self.machine.wake_at(), self.endpoint.wake_at()].into_iter().flatten().filter(|at| now < *at).min();
        self.timer = wake_at.map(|at| ctx.run_later(at.since(now), Self::wake));
    }

    fn wake(&mut self, ctx: &mut Context<Self>) {
        self.step(ctx, |_, _| {});
    }

    fn report(&mut self, now: Instant) {
        for edge in self.machine.take_edges() {
            self.observer.observe(&self.id, &edge);
            match edge {
                Edge::Circuit(change) => {
                    self.status.figures().note_change(change.cause, now);
                    self.tell_circuit(change);
                }
                Edge::Blocked(blocked) if blocked.first => self.tell_block(blocked),
                Edge::Override(hand) => {
                    warn!(backend = self.id.as_str(), r#override = hand.name(), "circuit override changed");
                }
                Edge::WouldOpen(cause) => {
                    let (backend, reason) = (self.id.as_str(), cause.name());
                    warn!(backend, reason, "circuit would open, but is forced closed");
                }
                Edge::Lifted(block) => {
                    info!(backend = self.id.as_str(), block = block.name(), "backend unblocked");
                }
                Edge::Health(change) => self.tell_health(change),
                Edge::Blocked(_) | Edge::Checked(_) | Edge::Probe(_) | Edge::Late => {}
            }
        }
    }

    fn note_errors(&self, batch: &[Event], now: Instant) {
        for event in batch {
            if let What::Failed { class, .. } | What::BrokeLater { class, .. } = event.what
                && let Some(kind) = class.error_type()
            {
                self.status.figures().note_error(kind.name(), class.detail(), now);
            }
        }
    }

    fn tell_endpoint(&self, changes: Vec<Change>) {
        for change in changes {
            self.observer.observe_endpoint(self.endpoint.name(), &change);
            let (endpoint, reason) = (self.endpoint.name(), change.cause.name());
            let (from, to) = (change.from.name(), change.to.name());
            if change.to == StateName::Open {
                warn!(endpoint, from, to, reason, "endpoint changed");
            } else {
                info!(endpoint, from, to, reason, "endpoint changed");
            }
        }
    }

    fn tell_circuit(&self, change: Change) {
        let (backend, level, run) = (self.id.as_str(), self.machine.level(), self.machine.run());
        let (from, to, reason) = (change.from.name(), change.to.name(), change.cause.name());
        if change.to == StateName::Open {
            let open_for_ms = self.status.open_until().since(clock::now()).as_millis() as u64;
            warn!(backend, from, to, reason, level, open_for_ms, "circuit changed");
        } else {
            info!(backend, from, to, reason, level, run, "circuit changed");
        }
    }

    fn tell_health(&self, change: HealthChange) {
        let HealthChange { is_healthy, check, failures, detail } = change;
        let backend = self.id.as_str();
        if is_healthy {
            info!(backend, healthy = is_healthy, check, failures, detail, "backend health changed");
        } else {
            warn!(backend, healthy = is_healthy, check, failures, detail, "backend health changed");
        }
    }

    fn tell_block(&self, blocked: Blocked) {
        let (backend, block) = (self.id.as_str(), blocked.block.name());
        let for_ms = blocked.until.since(clock::now()).as_millis() as u64;
        let source = if blocked.hinted { "provider" } else { "backoff" };
        let scope = Reach::of(blocked.block).name();
        if matches!(blocked.block, Block::Rate | Block::Overload) {
            warn!(backend, block, scope, for_ms, source, "backend blocked");
        } else {
            // An operator must act.
            error!(backend, block, scope, for_ms, source, "backend blocked");
        }
    }
}

impl Actor for BackendActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.latency.publish(self.status.latency());
        self.step(ctx, |_, _| {});
    }
}

/// Outcomes and claims, in their order.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Settle(pub(super) Vec<Event>, pub(super) Told);

impl Handler<Settle> for BackendActor {
    type Result = ();

    fn handle(&mut self, Settle(batch, _told): Settle, ctx: &mut Context<Self>) {
        let now = clock::now();
        let heard = self.endpoint.settle(&batch, now);
        self.tell_endpoint(heard);
        self.note_errors(&batch, now);
        self.step(ctx, |machine, now| machine.settle(&batch, now));
        self.latency.settle(&batch);
        self.latency.publish(self.status.latency());
    }
}

/// An operator or the supervisor wants something.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Order(pub(super) Wish, pub(super) Told);

/// What an operator or the supervisor wants.
pub(super) enum Wish {
    /// An operator's command.
    Do(Command),
    /// What a turn of its checker brought.
    Checked(Checked),
    /// New settings.
    Reconfigure(Arc<config::Backend>, Scopes),
    /// The end, after the drain.
    Stop,
    /// Ends by a panic: how a test sees what the supervisor makes of one.
    #[cfg(test)]
    Panic,
}

impl Handler<Order> for BackendActor {
    type Result = ();

    fn handle(&mut self, Order(wish, _told): Order, ctx: &mut Context<Self>) {
        match wish {
            Wish::Do(command) => self.step(ctx, |machine, now| machine.command(command, now)),
            Wish::Checked(checked) => {
                self.step(ctx, |machine, now| machine.checked(&checked, now));
                if checked.found.shows_host() {
                    let now = clock::now();
                    self.tell_endpoint(self.endpoint.connected(now));
                    self.arm(ctx, now);
                }
            }
            Wish::Reconfigure(config, scopes) => {
                let policy = config.policy.clone();
                // State follows the upstream, and its name may have changed.
                self.id = config.id.clone();
                self.status.set_limits(&policy);
                self.endpoint = scopes.endpoint;
                self.step(ctx, |machine, now| {
                    machine.share(scopes.blocks, now);
                    machine.reconfigure(policy, now);
                });
            }
            Wish::Stop => ctx.stop(),
            #[cfg(test)]
            Wish::Panic => panic!("asked to"),
        }
    }
}
