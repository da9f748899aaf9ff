//! The shell of a backend: the only owner of its [`Machine`], on the control arbiter.

use std::sync::Arc;

use actix::{Actor, ActorContext as _, AsyncContext as _, Context, Handler, Message, SpawnHandle};
use tracing::{error, info, warn};

use super::Observer;
use super::circuit_breaker::{Change, StateName};
use super::machine::{Command, Edge, Event, Machine};
use super::outcome::Block;
use super::quota::Blocked;
use super::status::BackendStatus;
use crate::clock::{self, Instant};
use crate::config::BackendId;

/// Serial owner of one backend's decisions.
pub(super) struct BackendActor {
    pub(super) id: BackendId,
    pub(super) machine: Machine,
    pub(super) status: Arc<BackendStatus>,
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
        self.report();
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        let wake_at = self.machine.wake_at().filter(|at| now < *at);
        self.timer = wake_at.map(|at| ctx.run_later(at.since(now), Self::wake));
    }

    fn wake(&mut self, ctx: &mut Context<Self>) {
        self.step(ctx, |_, _| {});
    }

    fn report(&mut self) {
        for edge in self.machine.take_edges() {
            self.observer.observe(&self.id, &edge);
            match edge {
                Edge::Circuit(change) => self.tell_circuit(change),
                Edge::Blocked(blocked) if blocked.first => self.tell_block(blocked),
                Edge::Override(hand) => {
                    warn!(backend = self.id.as_str(), r#override = hand.name(), "circuit override changed");
                }
                Edge::WouldOpen(cause) => {
                    let (backend, reason) = (self.id.as_str(), cause.name());
                    warn!(backend, reason, "circuit would open, but is forced closed");
                }
                Edge::Blocked(_) | Edge::Probe(_) | Edge::Late => {}
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

    fn tell_block(&self, blocked: Blocked) {
        let (backend, block) = (self.id.as_str(), blocked.block.name());
        let for_ms = blocked.until.since(clock::now()).as_millis() as u64;
        let source = if blocked.hinted { "provider" } else { "backoff" };
        if matches!(blocked.block, Block::Rate | Block::Overload) {
            warn!(backend, block, for_ms, source, "backend blocked");
        } else {
            // An operator must act.
            error!(backend, block, for_ms, source, "backend blocked");
        }
    }
}

impl Actor for BackendActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.step(ctx, |_, _| {});
    }
}

/// Outcomes and claims, in their order.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Settle(pub(super) Vec<Event>);

impl Handler<Settle> for BackendActor {
    type Result = ();

    fn handle(&mut self, Settle(batch): Settle, ctx: &mut Context<Self>) {
        self.step(ctx, |machine, now| machine.settle(&batch, now));
    }
}

/// What an operator or the supervisor wants.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) enum Order {
    /// An operator's command.
    Do(Command),
    /// New settings.
    Reconfigure(Box<crate::config::BackendPolicy>),
    /// The end, after the drain.
    Stop,
    /// Ends by a panic: how a test sees what the supervisor makes of one.
    #[cfg(test)]
    Panic,
}

impl Handler<Order> for BackendActor {
    type Result = ();

    fn handle(&mut self, order: Order, ctx: &mut Context<Self>) {
        match order {
            Order::Do(command) => self.step(ctx, |machine, now| machine.command(command, now)),
            Order::Reconfigure(policy) => {
                self.status.set_limits(&policy);
                self.step(ctx, |machine, now| machine.reconfigure(*policy, now));
            }
            Order::Stop => ctx.stop(),
            #[cfg(test)]
            Order::Panic => panic!("asked to"),
        }
    }
}
