//! The shell of a router: one per HTTP worker, on that worker's own arbiter, so that asking it costs a mailbox turn.

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;

use actix::{Actor, Context, Handler, Message};
use tokio::sync::mpsc;

use super::View;
use super::desk::Desk;
use super::plan::{Chosen, Exhausted, Plan};
use super::table::Table;
use crate::backend::{Outbox, Told};
use crate::clock;

/// Owner of one worker's desk.
pub(super) struct RouterActor {
    desk: Desk,
    view: View,
}

impl RouterActor {
    pub(super) fn new(view: View, outbox: Arc<Outbox>) -> Self {
        let table = Rc::clone(&view).borrow().clone();
        Self { desk: Desk::new(table, outbox, fastrand::Rng::new()), view }
    }
}

impl Actor for RouterActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        // Every request of the worker may ask at once; the bound is the worker's connections.
        ctx.set_mailbox_capacity(usize::MAX >> 4);
    }
}

/// Who is next?
#[derive(Message)]
#[rtype(result = "(Plan, Result<Chosen, Exhausted>)")]
pub(super) struct Next(pub(super) Plan, pub(super) Told);

/// Nobody is: who is the least bad?
#[derive(Message)]
#[rtype(result = "(Plan, Option<Chosen>)")]
pub(super) struct LeastBad(pub(super) Plan, pub(super) Told);

impl Handler<LeastBad> for RouterActor {
    type Result = actix::MessageResult<LeastBad>;

    fn handle(&mut self, LeastBad(mut plan, _told): LeastBad, _: &mut Context<Self>) -> Self::Result {
        let chosen = self.desk.least_bad(&mut plan, clock::now());
        actix::MessageResult((plan, chosen))
    }
}

impl Handler<Next> for RouterActor {
    type Result = actix::MessageResult<Next>;

    fn handle(&mut self, Next(mut plan, _told): Next, _: &mut Context<Self>) -> Self::Result {
        let chosen = self.desk.next(&mut plan, clock::now());
        actix::MessageResult((plan, chosen))
    }
}

/// Who is there for a second call beside the one at this place?
#[derive(Message)]
#[rtype(result = "Option<(Plan, Chosen)>")]
pub(super) struct Beside(pub(super) Plan, pub(super) (usize, usize), pub(super) Told);

impl Handler<Beside> for RouterActor {
    type Result = Option<(Plan, Chosen)>;

    fn handle(&mut self, Beside(mut plan, place, _told): Beside, _: &mut Context<Self>) -> Self::Result {
        let chosen = self.desk.beside(&mut plan, place, clock::now())?;
        Some((plan, chosen))
    }
}

/// Dropped where a worker routes by a new table, or never will. An answer would not do: actix takes a message back whose
/// sender has stopped waiting.
pub(super) type Taken = mpsc::Sender<Infallible>;

/// The table of a new configuration is in force.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Swap(pub(super) Arc<Table>, pub(super) Taken);

impl Handler<Swap> for RouterActor {
    type Result = ();

    fn handle(&mut self, Swap(table, taken): Swap, _: &mut Context<Self>) {
        self.desk.carry_over(&table);
        self.view.replace(table);
        drop(taken);
    }
}
