//! Whom a second call beside a slow one goes to, and whether it may be made at all (spec/resilience.md 7.6).

use super::{Bench, Place, Seat, candidate, entrant, take};
use crate::backend::{Admission, Permit, Standing};
use crate::clock::Instant;
use crate::router::plan::{Chosen, Plan};
use crate::router::table::Candidate;

/// Chooses a backend for a call beside the one at `beside`, and takes leave for it; none if there is no good one or the
/// budgets do not allow it.
pub(in crate::router) fn hedge(plan: &mut Plan, beside: Place, bench: &mut Bench<'_>) -> Option<Chosen> {
    let mut lost = Vec::new();
    let mut place = choose(plan, beside, &lost, bench)?;
    if !is_granted(plan, bench.now) {
        return None;
    }
    loop {
        if let Some(permit) = take_no_probe(plan, place, bench) {
            if 1 < bench.scratch.entrants.len() {
                bench.pickers[place.0].commit(&bench.scratch.entrants, place.1);
            }
            plan.note_tried(permit.backend().id());
            return Some(Chosen { place, permit, is_again: false });
        }
        lost.push(place);
        let Some(next) = choose(plan, beside, &lost, bench) else {
            give_back(plan, bench.now);
            return None;
        };
        place = next;
    }
}

/// Asks both budgets: hedges among the route's requests, and extra attempts of the route that was asked for, from which a
/// hedge is never exempt.
fn is_granted(plan: &Plan, now: Instant) -> bool {
    let (route, asked) = (plan.route(), plan.asked());
    let Some(policy) = &route.config.policy.hedge else { return false };
    if !route.hedge_budget.try_hedge(policy, now) {
        return false;
    }
    if !asked.retry_budget.try_extra(&asked.config.policy, now) {
        asked.handles.retry_budget_exhausted.inc();
        route.hedge_budget.give_back(now);
        return false;
    }
    true
}

fn give_back(plan: &Plan, now: Instant) {
    plan.asked().retry_budget.give_back(now);
    plan.route().hedge_budget.give_back(now);
}

/// Those of another host first, then those of the best tier, then whom the strategy names.
fn choose(plan: &Plan, beside: Place, lost: &[Place], bench: &mut Bench<'_>) -> Option<Place> {
    let mut seats = Vec::new();
    for (tier, members) in plan.route().tiers.iter().enumerate() {
        for (index, member) in members.iter().enumerate() {
            let place = (tier, index);
            let standing = member.backend.read(plan.need.tokens_at(&member.backend), bench.now);
            if may_serve(plan, member) && is_good(&standing) && !lost.contains(&place) {
                seats.push(Seat { place, standing });
            }
        }
    }
    let host = |place: Place| candidate(plan, place).backend.config().base_url.endpoint();
    let slow = host(beside);
    if seats.iter().any(|seat| host(seat.place) != slow) {
        seats.retain(|seat| host(seat.place) != slow);
    }
    let tier = seats.first()?.place.0;
    let (picker, entrants) = (&bench.pickers[tier], &mut bench.scratch.entrants);
    entrants.clear();
    let in_tier = seats.iter().filter(|seat| seat.place.0 == tier);
    entrants.extend(in_tier.map(|seat| entrant(plan, seat, picker, bench.now)));
    match entrants.as_slice() {
        [only] => Some((tier, only.index)),
        several => Some((tier, picker.choose(several, bench.random))),
    }
}

/// Whether this request may call it beside another: new to it, and no reasoning call there, which takes long by its nature.
fn may_serve(plan: &Plan, member: &Candidate) -> bool {
    plan.is_new(member.backend.id()) && 0 < member.weight && plan.fits(member) && !member.is_reasoning(&plan.need)
}

/// Whether it is fit to save a request: a hedge is no trial.
fn is_good(standing: &Standing) -> bool {
    let Standing { admission, failing, healthy, deferred, in_flight: _, slow_start: _ } = standing;
    *admission == Admission::Free && !failing && *healthy && !deferred
}

/// A circuit that has opened meanwhile may have made it a probe: then it is given back.
fn take_no_probe(plan: &Plan, place: Place, bench: &Bench<'_>) -> Option<Permit> {
    take(plan, place, bench).ok().filter(|permit| !permit.is_any_probe())
}
