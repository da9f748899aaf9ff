//! The shell of a router: one per HTTP worker, on that worker's own arbiter, so that asking it costs a mailbox turn.

use std::rc::Rc;
use std::sync::Arc;

use actix::{Actor, Context, Handler, Message};

use super::View;
use super::picker::Picker;
use super::plan::{Chosen, Exhausted, Plan};
use super::selection::{self, Bench, Scratch};
use super::table::{Candidate, Table};
use crate::backend::Outbox;
use crate::clock;

/// Owner of one worker's copy of the table and its balancing credits.
pub(super) struct RouterActor {
    table: Arc<Table>,
    view: View,
    pickers: Vec<Vec<Picker>>,
    outbox: Arc<Outbox>,
    random: fastrand::Rng,
    scratch: Scratch,
}

impl RouterActor {
    pub(super) fn new(view: View, outbox: Arc<Outbox>) -> Self {
        let mut random = fastrand::Rng::new();
        let table = Rc::clone(&view).borrow().clone();
        let pickers = table.pickers(&mut random);
        Self { table, view, pickers, outbox, random, scratch: Scratch::default() }
    }

    /// Credits of members that stay in their route and tier go on.
    fn carry_over(&mut self, table: &Arc<Table>) {
        let mut pickers = table.pickers(&mut self.random);
        for route in table.routes() {
            let Some(earlier) = self.table.find(route.config.name.as_str()) else { continue };
            for (tier, members) in route.tiers.iter().enumerate() {
                let Some(old) = earlier.tiers.get(tier) else { continue };
                let kept = members.iter().enumerate().filter_map(|(new, member)| {
                    let at = old.iter().position(|known| known.backend.id() == member.backend.id())?;
                    Some((new, at))
                });
                pickers[route.index][tier].carry_over(&self.pickers[earlier.index][tier], kept);
            }
        }
        self.pickers = pickers;
        self.table = Arc::clone(table);
        self.view.replace(Arc::clone(table));
    }

    /// Has a selection made with everything this worker brings to one.
    fn choose<T>(&mut self, plan: &mut Plan, select: impl FnOnce(&mut Plan, &mut Bench<'_>) -> T) -> T {
        // A plan of the table before a reload finds its pickers gone or moved: it balances on fresh ones.
        let current = plan.is_of(&self.table);
        let mut fresh;
        let pickers = if current {
            self.pickers[plan.route().index].as_mut_slice()
        } else {
            let strategy = plan.route().config.strategy;
            let weights = |tier: &Vec<Candidate>| tier.iter().map(|member| member.weight).collect::<Vec<_>>();
            fresh = plan.route().tiers.iter().map(|tier| Picker::new(strategy, &weights(tier), 0)).collect::<Vec<_>>();
            fresh.as_mut_slice()
        };
        let (outbox, random, scratch) = (&self.outbox, &mut self.random, &mut self.scratch);
        let mut bench = Bench { pickers, outbox, random, scratch, now: clock::now() };
        select(plan, &mut bench)
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
pub(super) struct Next(pub(super) Plan);

/// Nobody is: who is the least bad?
#[derive(Message)]
#[rtype(result = "(Plan, Option<Chosen>)")]
pub(super) struct LeastBad(pub(super) Plan);

impl Handler<LeastBad> for RouterActor {
    type Result = actix::MessageResult<LeastBad>;

    fn handle(&mut self, LeastBad(mut plan): LeastBad, _: &mut Context<Self>) -> Self::Result {
        let (outbox, random, scratch) = (&self.outbox, &mut self.random, &mut self.scratch);
        // Who is the least bad is no matter of balance.
        let bench = Bench { pickers: &mut [], outbox, random, scratch, now: clock::now() };
        let chosen = selection::least_bad(&mut plan, &bench);
        actix::MessageResult((plan, chosen))
    }
}

impl Handler<Next> for RouterActor {
    type Result = actix::MessageResult<Next>;

    fn handle(&mut self, Next(mut plan): Next, _: &mut Context<Self>) -> Self::Result {
        let chosen = self.choose(&mut plan, selection::select);
        actix::MessageResult((plan, chosen))
    }
}

/// Who is there for a second call beside the one at this place?
#[derive(Message)]
#[rtype(result = "Option<(Plan, Chosen)>")]
pub(super) struct Beside(pub(super) Plan, pub(super) (usize, usize));

impl Handler<Beside> for RouterActor {
    type Result = Option<(Plan, Chosen)>;

    fn handle(&mut self, Beside(mut plan, place): Beside, _: &mut Context<Self>) -> Self::Result {
        let chosen = self.choose(&mut plan, |plan, bench| selection::hedge(plan, place, bench))?;
        Some((plan, chosen))
    }
}

/// The table of a new configuration is in force.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Swap(pub(super) Arc<Table>);

impl Handler<Swap> for RouterActor {
    type Result = ();

    fn handle(&mut self, Swap(table): Swap, _: &mut Context<Self>) {
        self.carry_over(&table);
    }
}
