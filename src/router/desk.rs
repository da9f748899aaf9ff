//! What one worker decides with: its table, the balancing credits of its tiers, and who is next for a plan.
//!
//! The router actor owns one; time is handed in.

use std::sync::Arc;

use super::picker::{MAX_VIRTUAL_START, Picker};
use super::plan::{Chosen, Exhausted, Plan};
use super::selection::{self, Bench, Scratch};
use super::table::{Candidate, RouteEntry, Table};
use crate::backend::Outbox;
use crate::clock::Instant;

/// One worker's table and balancing credits.
pub struct Desk {
    table: Arc<Table>,
    /// By the route's position; none where this worker has made no pick yet: of a thousand routes few are asked for.
    pickers: Vec<Option<Box<[Picker]>>>,
    /// Bound of virtual starts.
    virtual_start: u32,
    outbox: Arc<Outbox>,
    random: fastrand::Rng,
    scratch: Scratch,
}

impl Desk {
    /// Begins with fresh credits.
    pub fn new(table: Arc<Table>, outbox: Arc<Outbox>, random: fastrand::Rng) -> Self {
        let pickers = vec![None; table.size()];
        Self { table, pickers, virtual_start: MAX_VIRTUAL_START, outbox, random, scratch: Scratch::default() }
    }

    /// As if no pick had been made, not even a virtual one.
    #[cfg(test)]
    pub(super) fn without_virtual_start(mut self) -> Self {
        self.virtual_start = 1;
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
            let (random, bound) = (&mut self.random, self.virtual_start);
            let pickers = &mut self.pickers[plan.route().index];
            &mut **pickers.get_or_insert_with(|| fresh_pickers(plan.route(), || random.u32(..bound)))
        } else {
            fresh = fresh_pickers(plan.route(), || 0);
            &mut *fresh
        };
        let (outbox, random, scratch) = (&self.outbox, &mut self.random, &mut self.scratch);
        select(plan, &mut Bench { pickers, outbox, random, scratch, now })
    }

    /// Goes on with another table: credits of members that stay in their route and tier are kept.
    pub fn carry_over(&mut self, table: &Arc<Table>) {
        let mut pickers = vec![None; table.size()];
        for route in table.routes() {
            let Some(earlier) = self.table.find(route.config.name.as_str()) else { continue };
            let Some(known) = &self.pickers[earlier.index] else { continue };
            let mut own = fresh_pickers(route, || self.random.u32(..self.virtual_start));
            for (tier, members) in route.tiers.iter().enumerate() {
                let Some(old) = earlier.tiers.get(tier) else { continue };
                let kept = members.iter().enumerate().filter_map(|(new, member)| {
                    let at = old.iter().position(|known| known.backend.id() == member.backend.id())?;
                    Some((new, at))
                });
                own[tier].carry_over(&known[tier], kept);
            }
            pickers[route.index] = Some(own);
        }
        self.pickers = pickers;
        self.table = Arc::clone(table);
    }
}

/// Pickers of a route, one per tier. `start` draws the virtual start.
fn fresh_pickers(route: &RouteEntry, mut start: impl FnMut() -> u32) -> Box<[Picker]> {
    let picker = |tier: &Vec<Candidate>| {
        let weights: Vec<u64> = tier.iter().map(|candidate| candidate.weight).collect();
        Picker::new(route.config.strategy, &weights, start())
    };
    route.tiers.iter().map(picker).collect()
}
