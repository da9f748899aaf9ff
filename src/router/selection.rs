//! Which backend of a plan's route can serve now, and takes leave for it (spec/resilience.md 6.1).

use std::sync::Arc;
use std::time::Duration;

use super::picker::{Entrant, Picker};
use super::plan::{Chosen, Exhausted, Plan};
use super::table::Candidate;
use crate::backend::{Admission, Call, Outbox, Permit, Reason, Rejection, Standing};
use crate::clock::Instant;
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
    pub(super) now: Instant,
}

/// One candidate as it stands now.
struct Seat {
    place: (usize, usize),
    standing: Standing,
}

/// Chooses a backend and takes leave for it, or says why nobody can serve.
pub(super) fn select(plan: &mut Plan, bench: &mut Bench<'_>) -> Result<Chosen, Exhausted> {
    let mut lost: Vec<(usize, usize)> = Vec::new();
    let mut lost_reasons = Vec::new();
    loop {
        let Survey { seats, denied } = survey(plan, bench.now, &lost);
        let Some(place) = choose(plan, &seats, bench) else {
            count_passed_over(plan, &denied, usize::MAX);
            return Err(reasons(plan, bench.now, &lost_reasons));
        };
        match take(plan, place, bench) {
            Ok(permit) => {
                count_passed_over(plan, &denied, place.0);
                book(plan, place, &seats, bench);
                plan.note_tried(permit.backend().id());
                return Ok(Chosen { place, permit });
            }
            // Another worker was faster, or a limit per minute is used up: go on without this one.
            Err(rejection) => {
                count_passed_over(plan, &[(place, rejection.reason)], place.0);
                lost.push(place);
                lost_reasons.push((candidate(plan, place).backend.id().clone(), rejection));
            }
        }
    }
}

/// Counts those who stand ahead of the tier that serves, or in it, and could not.
fn count_passed_over(plan: &Plan, denied: &[((usize, usize), Reason)], served_tier: usize) {
    for (place, reason) in denied.iter().filter(|(place, _)| place.0 <= served_tier) {
        candidate(plan, *place).handles.rejections(PassedOver::ALL[reason.index()]).inc();
    }
}

fn candidate(plan: &Plan, place: (usize, usize)) -> &Candidate {
    &plan.route().tiers[place.0][place.1]
}

/// Who may be called now, tier by tier, and who may not.
struct Survey {
    seats: Vec<Seat>,
    denied: Vec<((usize, usize), Reason)>,
}

fn survey(plan: &Plan, now: Instant, lost: &[(usize, usize)]) -> Survey {
    let mut survey = Survey { seats: Vec::with_capacity(4), denied: Vec::new() };
    for (tier, members) in plan.route().tiers.iter().enumerate() {
        for (index, member) in members.iter().enumerate() {
            let place = (tier, index);
            if member.weight == 0 || lost.contains(&place) || plan.has_tried(member.backend.id()) {
                continue;
            }
            let standing = member.backend.status().read(now);
            match standing.admission {
                Admission::Free | Admission::Probe(_) => survey.seats.push(Seat { place, standing }),
                Admission::Denied(rejection) => survey.denied.push((place, rejection.reason)),
            }
        }
    }
    survey
}

fn is_probe(seat: &Seat) -> bool {
    matches!(seat.standing.admission, Admission::Probe(_))
}

fn choose(plan: &Plan, seats: &[Seat], bench: &mut Bench<'_>) -> Option<(usize, usize)> {
    // The health gate alone never causes a rejection.
    let any_healthy = seats.iter().any(|seat| seat.standing.healthy);
    let usable: Vec<&Seat> = seats.iter().filter(|seat| seat.standing.healthy || !any_healthy).collect();
    let closed = usable.iter().filter(|seat| !is_probe(seat)).count();
    let may_probe = closed == 0 || can_still_fail_over(plan, bench.now);
    let eligible: Vec<&Seat> = usable.into_iter().filter(|seat| may_probe || !is_probe(seat)).collect();
    let tier = eligible.first()?.place.0;
    let in_tier: Vec<&Seat> = eligible.into_iter().filter(|seat| seat.place.0 == tier).collect();
    // Probes first, so that a recovered backend is found, by a request that another backend can still save.
    let probe = in_tier.iter().filter_map(|seat| match seat.standing.admission {
        Admission::Probe(until) => Some((until, seat.place)),
        Admission::Free | Admission::Denied(_) => None,
    });
    if let Some((_, place)) = probe.min() {
        return Some(place);
    }
    let entrants: Vec<Entrant> = in_tier.iter().map(|seat| entrant(plan, seat)).collect();
    Some((tier, bench.pickers[tier].choose(&entrants, bench.random)))
}

/// A probe must not cost its request: there must be time for another attempt.
fn can_still_fail_over(plan: &Plan, now: Instant) -> bool {
    let policy = &plan.route().config.policy;
    let attempts_left = (policy.max_attempts as usize).saturating_sub(plan.tried().len());
    2 <= attempts_left && policy.min_attempt.saturating_mul(2) <= plan.need.deadline.since(now)
}

fn entrant(plan: &Plan, seat: &Seat) -> Entrant {
    let weight = candidate(plan, seat.place).weight;
    let weight = (weight * u64::from(seat.standing.slow_start) / WHOLE).max(1);
    Entrant { index: seat.place.1, weight, in_flight: seat.standing.in_flight, latency: None }
}

fn take(plan: &Plan, place: (usize, usize), bench: &Bench<'_>) -> Result<Permit, Rejection> {
    let candidate = candidate(plan, place);
    let need = &plan.need;
    let limit = candidate.head_limit(need).min(need.deadline.since(bench.now));
    let tail = if need.stream { Duration::ZERO } else { candidate.timeouts.idle };
    let lease = bench.now.plus(limit).plus(tail).plus(LEASE_GRACE);
    candidate.backend.try_take(Call { tokens: need.tokens, lease }, bench.now, bench.outbox)
}

/// Books the pick among those it was chosen from. Probes go outside the weights' bookkeeping.
fn book(plan: &Plan, place: (usize, usize), seats: &[Seat], bench: &mut Bench<'_>) {
    let in_tier = seats.iter().filter(|seat| seat.place.0 == place.0 && !is_probe(seat));
    let entrants: Vec<Entrant> = in_tier.map(|seat| entrant(plan, seat)).collect();
    if entrants.iter().any(|entrant| entrant.index == place.1) {
        bench.pickers[place.0].commit(&entrants, place.1);
    }
}

/// Why nobody can serve: one reason per backend of the route that was not tried.
fn reasons(plan: &Plan, now: Instant, lost: &[(crate::config::BackendId, Rejection)]) -> Exhausted {
    let untried = plan.route().candidates().filter(|member| !plan.has_tried(member.backend.id()));
    let reason = |member: &Candidate| {
        if let Some((_, rejection)) = lost.iter().find(|(id, _)| id == member.backend.id()) {
            return *rejection;
        }
        match member.backend.status().read(now).admission {
            _ if member.weight == 0 => Rejection::endless(Reason::Draining),
            Admission::Denied(rejection) => rejection,
            // Only a probe that this request may not take stands in the way.
            Admission::Free | Admission::Probe(_) => Rejection::lasting(Reason::HalfOpenBusy, LEASE_GRACE),
        }
    };
    Exhausted { reasons: untried.map(|member| (member.backend.id().clone(), reason(member))).collect() }
}
