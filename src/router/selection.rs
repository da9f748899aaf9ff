//! Which backend of a plan's route can serve now, and takes leave for it (spec/resilience.md 6.1).

mod hedge;

use std::sync::Arc;
use std::time::Duration;

pub(super) use self::hedge::hedge;
use super::picker::{Entrant, Picker};
use super::plan::{Chosen, Exhausted, Plan, Turn};
use super::table::Candidate;
use crate::backend::circuit_breaker::StateName;
use crate::backend::outcome::Block;
use crate::backend::{Admission, Call, Kind, Outbox, Permit, Reason, Rejection, Standing};
use crate::clock::Instant;
use crate::config::Strategy;
use crate::telemetry::labels::{Label as _, PassedOver};

/// A probe's right outlives its attempt's deadline by this.
const LEASE_GRACE: Duration = Duration::from_secs(1);

/// Whole of a ratio kept in 1/10 000.
const WHOLE: u64 = 10_000;

/// What a worker brings to a selection.
pub(super) struct Bench<'a> {
    pub(super) pickers: &'a mut [Picker],
    pub(super) outbox: &'a Arc<Outbox>,
    pub(super) random: &'a mut fastrand::Rng,
    pub(super) scratch: &'a mut Scratch,
    pub(super) now: Instant,
}

/// Room that selections of one worker use again and again.
#[derive(Default)]
pub(super) struct Scratch {
    /// Who may be called now, tier by tier.
    seats: Vec<Seat>,
    /// Who may not.
    denied: Vec<(Place, Reason)>,
    /// Among whom the strategy chose; empty if a probe was taken.
    entrants: Vec<Entrant>,
    /// Recovering tiers that were asked whether they keep this pick, and their credit if it is taken.
    kept: Vec<(usize, i64)>,
}

/// Tier and position in it.
type Place = (usize, usize);

/// One candidate as it stands now.
struct Seat {
    place: Place,
    standing: Standing,
}

/// Chooses a backend and takes leave for it, or says why nobody can serve.
pub(super) fn select(plan: &mut Plan, bench: &mut Bench<'_>) -> Result<Chosen, Exhausted> {
    let mut out = Out::default();
    loop {
        survey(plan, &out, bench);
        let Some(place) = choose(plan, bench) else {
            count_passed_over(plan, &bench.scratch.denied, usize::MAX);
            return Err(reasons(plan, bench.now, &out));
        };
        let leave = leave(plan, place, bench);
        if leave == Leave::Denied {
            out.held.push(place);
            continue;
        }
        match take(plan, place, bench) {
            Ok(permit) => {
                count_passed_over(plan, &bench.scratch.denied, place.0);
                for (tier, credit) in bench.scratch.kept.drain(..) {
                    bench.pickers[tier].commit_kept(credit);
                }
                // A pick without a choice moves no credit.
                if 1 < bench.scratch.entrants.len() {
                    bench.pickers[place.0].commit(&bench.scratch.entrants, place.1);
                }
                let is_again = plan.has_tried(permit.backend().id());
                plan.note_tried(permit.backend().id());
                return Ok(Chosen { place, permit, is_again });
            }
            // Another worker was faster, or a limit per minute is used up: go on without this one.
            Err(rejection) => {
                if leave == Leave::Counted {
                    plan.asked().retry_budget.give_back(bench.now);
                }
                count_passed_over(plan, &[(place, rejection.reason)], place.0);
                out.lost.push((place, rejection));
            }
        }
    }
}

/// Where nobody can serve: the open circuit that comes back soonest, before its time, if nothing else stands in its way and
/// nobody is there already (spec/resilience.md 9.1).
pub(super) fn least_bad(plan: &mut Plan, bench: &Bench<'_>) -> Option<Chosen> {
    let mut open: Vec<(Instant, Place)> = Vec::new();
    for (tier, members) in plan.route().tiers.iter().enumerate() {
        for (index, member) in members.iter().enumerate() {
            let status = member.backend.status();
            let is_open = status.circuit().state == StateName::Open && status.in_flight() == 0;
            if 0 < member.weight
                && is_open
                && plan.turn(member.backend.id(), bench.now) == Turn::First
                && plan.fits(member)
            {
                open.push((status.open_until(), (tier, index)));
            }
        }
    }
    open.sort_unstable();
    for (_, place) in open {
        let route = plan.asked();
        if 0 < plan.attempts() && !route.retry_budget.try_extra(&route.config.policy, bench.now) {
            route.handles.retry_budget_exhausted.inc();
            return None;
        }
        let call = call(plan, place, bench.now);
        match candidate(plan, place).backend.try_take_early(call, bench.now, bench.outbox) {
            Ok(permit) => {
                plan.note_tried(permit.backend().id());
                return Some(Chosen { place, permit, is_again: false });
            }
            Err(_) if 0 < plan.attempts() => plan.asked().retry_budget.give_back(bench.now),
            Err(_) => {}
        }
    }
    None
}

/// Those who are out of this selection.
#[derive(Default)]
struct Out {
    /// By a lost race or a limit per minute.
    lost: Vec<(Place, Rejection)>,
    /// By the retry budget.
    held: Vec<Place>,
}

impl Out {
    fn contains(&self, place: Place) -> bool {
        self.held.contains(&place) || self.lost.iter().any(|(other, _)| *other == place)
    }
}

/// Leave of the retry budget.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leave {
    /// A request's first attempt needs none.
    NotNeeded,
    /// Given, and counted.
    Counted,
    /// Not given.
    Denied,
}

/// Asks the budget of the route that was asked for. To leave a bad backend for a good one is always allowed: that load
/// moves there anyway (spec/resilience.md 7.4).
fn leave(plan: &Plan, place: Place, bench: &Bench<'_>) -> Leave {
    if plan.attempts() == 0 {
        return Leave::NotNeeded;
    }
    let (route, now) = (plan.asked(), bench.now);
    let is_good = bench
        .scratch
        .seats
        .iter()
        .any(|seat| seat.place == place && seat.standing.admission == Admission::Free && !seat.standing.failing);
    if is_good && !plan.has_tried(candidate(plan, place).backend.id()) {
        route.retry_budget.count_extra(now);
        return Leave::Counted;
    }
    if route.retry_budget.try_extra(&route.config.policy, now) { Leave::Counted } else { Leave::Denied }
}

/// Counts those who stand ahead of the tier that serves, or in it, and could not.
fn count_passed_over(plan: &mut Plan, denied: &[(Place, Reason)], served_tier: usize) {
    for (place, reason) in denied.iter().filter(|(place, _)| place.0 <= served_tier) {
        candidate(plan, *place).handles.rejections(PassedOver::ALL[reason.index()]).inc();
        plan.note_passed_over(*place, *reason);
    }
}

fn candidate(plan: &Plan, place: Place) -> &Candidate {
    &plan.route().tiers[place.0][place.1]
}

/// Reads how every candidate stands whose turn it is.
fn survey(plan: &Plan, out: &Out, bench: &mut Bench<'_>) {
    let Scratch { seats, denied, .. } = &mut *bench.scratch;
    seats.clear();
    denied.clear();
    for (tier, members) in plan.route().tiers.iter().enumerate() {
        for (index, member) in members.iter().enumerate() {
            let place = (tier, index);
            let is_in_turn = match plan.turn(member.backend.id(), bench.now) {
                Turn::First | Turn::Again => true,
                Turn::Later(_) | Turn::Over => false,
            };
            if member.weight == 0 || !is_in_turn || out.contains(place) {
                continue;
            }
            if !plan.fits(member) {
                denied.push((place, Reason::Incompatible));
                continue;
            }
            let standing = member.backend.read(plan.need.tokens_at(&member.backend), bench.now);
            match standing.admission {
                Admission::Free | Admission::Probe(_) => seats.push(Seat { place, standing }),
                Admission::Denied(rejection) => denied.push((place, rejection.reason)),
            }
        }
    }
}

fn is_probe(seat: &Seat) -> bool {
    matches!(seat.standing.admission, Admission::Probe(_))
}

/// The first tier with a candidate is used, strictly; in it a probe first, then whom the strategy names.
fn choose(plan: &Plan, bench: &mut Bench<'_>) -> Option<Place> {
    let Scratch { seats, denied, entrants, kept } = &mut *bench.scratch;
    entrants.clear();
    kept.clear();
    let rank = seats.iter().map(|seat| seat.standing.rank()).min()?;
    let is_in = |seat: &Seat| seat.standing.rank() <= rank;
    let any_closed = seats.iter().any(|seat| is_in(seat) && !is_probe(seat));
    let may_probe = !any_closed || can_still_fail_over(plan, bench.now);
    let is_eligible = |seat: &&Seat| is_in(seat) && (may_probe || !is_probe(seat));
    let why = |seat: &Seat| if seat.standing.healthy { Reason::LearnedQuota } else { Reason::Unhealthy };
    denied.extend(seats.iter().filter(|seat| !is_in(seat)).map(|seat| (seat.place, why(seat))));
    let mut from = 0;
    loop {
        let below = seats.iter().filter(is_eligible).filter(|seat| from <= seat.place.0);
        let tier = below.clone().next()?.place.0;
        let in_tier = below.clone().filter(|seat| seat.place.0 == tier);
        // Probes first, so that a recovered backend is found, by a request that another backend can still save.
        let probe = in_tier.clone().filter_map(|seat| match seat.standing.admission {
            Admission::Probe(until) => Some((until, seat.place)),
            Admission::Free | Admission::Denied(_) => None,
        });
        if let Some((_, place)) = probe.min() {
            return Some(place);
        }
        let has_lower = below.clone().any(|seat| tier < seat.place.0 && !is_probe(seat));
        if has_lower && in_tier.clone().all(|seat| u64::from(seat.standing.slow_start) < WHOLE) {
            let (keeps, credit) = bench.pickers[tier].keeps(recovered_share(plan, in_tier.clone()));
            kept.push((tier, credit));
            if !keeps {
                from = tier + 1;
                continue;
            }
        }
        let picker = &bench.pickers[tier];
        entrants.extend(in_tier.map(|seat| entrant(plan, seat, picker, bench.now)));
        return match entrants.as_slice() {
            [only] => Some((tier, only.index)),
            several => Some((tier, picker.choose(several, bench.random))),
        };
    }
}

/// How much of its load a tier in slow start takes, in 1/10 000.
fn recovered_share<'a>(plan: &Plan, seats: impl Iterator<Item = &'a Seat> + Clone) -> u64 {
    let weight = |seat: &Seat| u128::from(candidate(plan, seat.place).weight);
    let whole: u128 = seats.clone().map(weight).sum();
    let grown: u128 = seats.map(|seat| weight(seat) * u128::from(seat.standing.slow_start)).sum();
    (grown / whole.max(1)) as u64
}

/// A probe must not cost its request: there must be time for another attempt.
fn can_still_fail_over(plan: &Plan, now: Instant) -> bool {
    let policy = &plan.route().config.policy;
    2 <= plan.need.attempts_left && policy.min_attempt.saturating_mul(2) <= plan.need.deadline.since(now)
}

fn entrant(plan: &Plan, seat: &Seat, picker: &Picker, now: Instant) -> Entrant {
    let candidate = candidate(plan, seat.place);
    let weight = (candidate.weight * u64::from(seat.standing.slow_start) / WHOLE).max(1);
    let latency = match picker.strategy() {
        Strategy::LowestLatency => candidate.backend.status().latency().estimate(plan.need.kind(), now),
        Strategy::WeightedRoundRobin
        | Strategy::RoundRobin
        | Strategy::Random
        | Strategy::RandomWeighted
        | Strategy::LeastBusy => None,
    };
    Entrant { index: seat.place.1, weight, in_flight: seat.standing.in_flight, latency }
}

fn take(plan: &Plan, place: Place, bench: &Bench<'_>) -> Result<Permit, Rejection> {
    let call = call(plan, place, bench.now);
    candidate(plan, place).backend.try_take(call, bench.now, bench.outbox)
}

fn call(plan: &Plan, place: Place, now: Instant) -> Call {
    let candidate = candidate(plan, place);
    let need = &plan.need;
    let kind = need.kind();
    let tail = match kind {
        Kind::Stream => Duration::ZERO,
        Kind::Unary => candidate.timeouts.idle,
    };
    let limit = candidate.head_limit(need).saturating_add(tail);
    let lease = now.plus(limit).min(need.deadline).plus(LEASE_GRACE);
    Call { tokens: need.tokens_at(&candidate.backend), kind, limit, lease }
}

/// Why nobody can serve: one reason per backend of the route that may still be called by this request. Those that only the
/// retry budget holds back have none.
fn reasons(plan: &Plan, now: Instant, out: &Out) -> Exhausted {
    let is_held = |member: &Candidate| out.held.iter().any(|place| std::ptr::eq(candidate(plan, *place), member));
    let left = plan.route().candidates().filter(|member| !is_held(member));
    let left = left.filter(|member| plan.turn(member.backend.id(), now) != Turn::Over);
    let reason = |member: &Candidate| {
        let is_member = |place: Place| candidate(plan, place).backend.id() == member.backend.id();
        if let Turn::Later(wait) = plan.turn(member.backend.id(), now) {
            return Rejection::lasting(Reason::Blocked(Block::Rate), wait);
        }
        if !plan.fits(member) {
            return Rejection::endless(Reason::Incompatible);
        }
        if let Some((_, rejection)) = out.lost.iter().find(|(place, _)| is_member(*place)) {
            return *rejection;
        }
        match member.backend.read(plan.need.tokens_at(&member.backend), now).admission {
            _ if member.weight == 0 => Rejection::endless(Reason::Draining),
            Admission::Denied(rejection) => rejection,
            // Only a probe that this request may not take stands in the way.
            Admission::Free | Admission::Probe(_) => Rejection::lasting(Reason::HalfOpenBusy, LEASE_GRACE),
        }
    };
    let reasons = left.map(|member| (member.backend.id().clone(), reason(member))).collect();
    Exhausted { reasons, is_out_of_budget: !out.held.is_empty() }
}
