//! What one worker decides with: its table, the balancing credits of its tiers, and who is next for a plan.
//!
//! The router actor owns one; time is handed in.

use std::sync::Arc;

use super::picker::{MAX_VIRTUAL_START, Picker};
use super::plan::{Chosen, Exhausted, Plan};
use super::selection::{self, Bench, Scratch};
use super::table::{Candidate, Table};
use crate::backend::Outbox;
use crate::clock::Instant;

/// One worker's table and balancing credits.
pub struct Desk {
    table: Arc<Table>,
    pickers: Vec<Vec<Picker>>,
    outbox: Arc<Outbox>,
    random: fastrand::Rng,
    scratch: Scratch,
}

impl Desk {
    /// Begins with fresh credits.
    pub fn new(table: Arc<Table>, outbox: Arc<Outbox>, mut random: fastrand::Rng) -> Self {
        let pickers = table.pickers(|| random.u32(..MAX_VIRTUAL_START));
        Self { table, pickers, outbox, random, scratch: Scratch::default() }
    }

    /// As if no pick had been made, not even a virtual one.
    #[cfg(test)]
    pub(super) fn without_virtual_start(mut self) -> Self {
        self.pickers = self.table.pickers(|| 0);
        self
    }

    /// The next backend of a plan, with leave to call it.
    ///
    /// # Errors
    /// Why nobody can serve now.
    pub fn next(&mut self, plan: &mut Plan, now: Instant) -> Result<Chosen, Exhausted> {
        self.choose(plan, now, selection::select)
    }

    /// A backend for a second call beside the slow one at `place`, with leave to call it.
    pub(super) fn beside(&mut self, plan: &mut Plan, place: (usize, usize), now: Instant) -> Option<Chosen> {
        self.choose(plan, now, |plan, bench| selection::hedge(plan, place, bench))
    }

    /// Where nobody can serve: who is the least bad, with leave to call it.
    pub(super) fn least_bad(&mut self, plan: &mut Plan, now: Instant) -> Option<Chosen> {
        self.choose(plan, now, |plan, bench| selection::least_bad(plan, bench))
    }

    /// Has a selection made with everything this worker brings to one.
    fn choose<T>(&mut self, plan: &mut Plan, now: Instant, select: impl FnOnce(&mut Plan, &mut Bench<'_>) -> T) -> T {
        // A plan of the table before a reload finds its pickers gone or moved: it balances on fresh ones.
        let mut fresh;
        let pickers = if plan.is_of(&self.table) {
            self.pickers[plan.route().index].as_mut_slice()
        } else {
            let strategy = plan.route().config.strategy;
            let weights = |tier: &Vec<Candidate>| tier.iter().map(|member| member.weight).collect::<Vec<_>>();
            fresh = plan.route().tiers.iter().map(|tier| Picker::new(strategy, &weights(tier), 0)).collect::<Vec<_>>();
            fresh.as_mut_slice()
        };
        let (outbox, random, scratch) = (&self.outbox, &mut self.random, &mut self.scratch);
        select(plan, &mut Bench { pickers, outbox, random, scratch, now })
    }

    /// Goes on with another table: credits of members that stay in their route and tier are kept.
    pub fn carry_over(&mut self, table: &Arc<Table>) {
        let mut pickers = table.pickers(|| self.random.u32(..MAX_VIRTUAL_START));
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
    }
}
