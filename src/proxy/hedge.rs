//! A second call beside a slow one (spec/resilience.md 7.6): the first content wins, and the loser is dropped at once, which
//! ends its upstream call and gives everything back.

use std::cell::Cell;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};

use super::Proxy;
use super::budget::Next;
use super::exchange::Attempted;
use super::failure::Failure;
use super::trail::AttemptResult;
use super::trip::{Errand, Run, Trip};
use crate::backend::latency::Tail;
use crate::clock::{self, Instant};
use crate::config::Hedge;
use crate::router::{Chosen, Plan};
use crate::telemetry::labels::{AttemptKind, HedgeResult};
use crate::telemetry::{Lazily, RouteHandles};

/// Fewer samples say too little about which call is slow.
const LEAST_SAMPLES: u32 = 20;

/// What a race brought.
pub(super) struct Raced {
    /// The plan, in which all are tried.
    pub(super) plan: Plan,
    /// The attempt that does not count.
    pub(super) other: Option<(Run, Instant, Other)>,
    /// The attempt that does.
    pub(super) last: (Run, Attempted),
}

/// What became of the attempt that does not count, and it had ended by then.
pub(super) enum Other {
    /// It failed before the other ended.
    Failed(Failure),
    /// The other answered first.
    Cancelled,
}

/// One hedge among its route's: counted by what came of it, when it drops.
struct Counted {
    handles: Arc<Lazily<RouteHandles>>,
    result: HedgeResult,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.handles.hedges(self.result).inc();
    }
}

/// How long a call may be slow before another goes beside it; none while too little is known.
fn delay(policy: &Hedge, tail: Tail) -> Option<Duration> {
    (LEAST_SAMPLES <= tail.samples).then(|| tail.p95.max(policy.min_delay))
}

impl Trip<'_> {
    /// How long this call may be slow before another goes beside it; none where none may: a request is hedged once, and only
    /// where its route does that, where nothing is created, and where it is no reasoning call.
    pub(super) fn hedges_after(&self, plan: &Plan, run: Run) -> Option<Duration> {
        let policy = plan.route().config.policy.hedge.as_ref()?;
        let candidate = run.candidate(plan);
        if self.is_hedged || self.errand.wanted.creates_object || candidate.is_reasoning(&plan.need) {
            return None;
        }
        delay(policy, candidate.backend.status().latency().tail(plan.need.kind()))
    }

    /// Whether attempts and time are left for a second call.
    fn may_hedge(&self, now: Instant) -> bool {
        self.budget.after(now) == Next::Failover
    }

    /// A second call begins beside the first, which may still be the one that serves.
    fn begin_hedge(&mut self, plan: &Plan, chosen: &Chosen, now: Instant) -> Run {
        self.is_hedged = true;
        self.budget.spend();
        self.record.attempts += 1;
        plan.asked().handles.started(AttemptKind::Hedge).inc();
        self.run(plan, chosen, AttemptKind::Hedge, now)
    }

    /// Keeps in mind what became of the attempt of a race that does not count.
    pub(super) fn note_other(&mut self, (run, at, other): (Run, Instant, Other), plan: &mut Plan) {
        match other {
            Other::Failed(failure) => self.note(&failure, run, plan, at),
            Other::Cancelled => self.track(run, plan, AttemptResult::Cancelled, at),
        }
    }
}

impl Proxy {
    /// Makes one attempt, and another beside it if it is slow.
    pub(super) async fn race(
        &self,
        trip: &mut Trip<'_>,
        plan: Plan,
        chosen: Chosen,
        run: Run,
        delay: Duration,
    ) -> Raced {
        let errand = trip.errand;
        let (hedged, other, last) = {
            let overtaken = Rc::new(Cell::new(false));
            let mut first = pin!(self.attempt(errand, &plan, chosen, run, Some(Rc::clone(&overtaken))));
            let slow = pin!(tokio::time::sleep_until(clock::to_tokio(run.begun.plus(delay))));
            let ended = match select(first.as_mut(), slow).await {
                Either::Left((attempted, _)) => Some(attempted),
                Either::Right(_) => None,
            };
            match ended {
                Some(attempted) => (None, None, (run, attempted)),
                None => match self.hedge(trip, &plan, run).await {
                    None => (None, None, (run, first.await)),
                    Some((hedged, chosen, hedge)) => {
                        let (other, last) = self.both(errand, (first, run), &hedged, (chosen, hedge), &overtaken).await;
                        (Some(hedged), Some(other), last)
                    }
                },
            }
        };
        Raced { plan: hedged.unwrap_or(plan), other, last }
    }

    /// Leave for the second call, and a plan in which it is tried; none where there is no time, no attempt, no good backend
    /// or no budget for it. Asking takes a turn of this thread, in which the first call may go on for all it likes.
    async fn hedge(&self, trip: &mut Trip<'_>, plan: &Plan, first: Run) -> Option<(Plan, Chosen, Run)> {
        if !trip.may_hedge(clock::now()) {
            return None;
        }
        let (plan, chosen) = self.router.hedge(plan.clone(), first.place).await?;
        let run = trip.begin_hedge(&plan, &chosen, clock::now());
        Some((plan, chosen, run))
    }

    /// Runs both to the first answer, or to the later failure.
    async fn both<F: Future<Output = Attempted>>(
        &self,
        errand: &Errand<'_>,
        (first, run): (Pin<&mut F>, Run),
        plan: &Plan,
        (chosen, hedge): (Chosen, Run),
        overtaken: &Rc<Cell<bool>>,
    ) -> ((Run, Instant, Other), (Run, Attempted)) {
        let handles = Arc::clone(&plan.asked().handles);
        let mut counted = Counted { handles, result: HedgeResult::Lost };
        let second = pin!(self.attempt(errand, plan, chosen, hedge, Some(Rc::clone(overtaken))));
        let won_or_failed = |attempted: &Attempted| match attempted {
            Attempted::Served(_) => HedgeResult::Won,
            Attempted::Failed(_) => HedgeResult::Failed,
        };
        match select(first, second).await {
            Either::Left((served @ Attempted::Served(_), _)) => {
                overtaken.set(true);
                ((hedge, clock::now(), Other::Cancelled), (run, served))
            }
            Either::Right((served @ Attempted::Served(_), _)) => {
                overtaken.set(true);
                counted.result = HedgeResult::Won;
                ((run, clock::now(), Other::Cancelled), (hedge, served))
            }
            Either::Left((Attempted::Failed(failure), second)) => {
                let failed_at = self.one_has_failed();
                let attempted = second.await;
                counted.result = won_or_failed(&attempted);
                ((run, failed_at, Other::Failed(failure)), (hedge, attempted))
            }
            Either::Right((Attempted::Failed(failure), first)) => {
                counted.result = HedgeResult::Failed;
                let failed_at = self.one_has_failed();
                ((hedge, failed_at, Other::Failed(failure)), (run, first.await))
            }
        }
    }

    /// Its permit has been given back while the other goes on: somebody may wait for it.
    fn one_has_failed(&self) -> Instant {
        self.router.queues().wake();
        clock::now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_slow_by_what_most_take_and_never_before_the_least_delay() {
        let millis = Duration::from_millis;
        // Samples and their 95th percentile; the delay with at least a second.
        let table = [
            (0, 0, None),
            (19, 5_000, None),
            (20, 5_000, Some(5_000)),
            (20, 1_001, Some(1_001)),
            (64, 1_000, Some(1_000)),
            (64, 7, Some(1_000)),
            (64, 0, Some(1_000)),
        ];
        let policy = Hedge { min_delay: millis(1_000), max_extra: 500 };
        for (samples, p95, expected) in table {
            let tail = Tail { samples, p50: millis(1), p95: millis(p95) };
            assert_eq!(delay(&policy, tail), expected.map(millis), "{samples} samples, {p95} ms");
        }
    }
}
