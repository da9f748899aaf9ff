//! The next backend for a request, with leave to call it; where none can serve now, what the route wants to be tried then:
//! another route, a wait in the queue, the least bad, and last the
//! same backend again.

use std::sync::Arc;
use std::time::Duration;

use super::budget::Next;
use super::ending::UNHINTED_WAIT;
use super::failure::{Failure, Said};
use super::trip::Trip;
use super::upstream::{Asked, Fields};
use super::{Proxy, Reply, internal};
use crate::backend::outcome::Class;
use crate::backend::{Reason, Rejection};
use crate::clock::{self, Instant};
use crate::config::{BackendId, OnExhausted};
use crate::router::{Chosen, Plan, Queues};
use crate::telemetry::labels::ExhaustedReason;

/// Longest wait before the first retry on the same backend; it doubles with each further one (spec/resilience.md 7.1).
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// No retry waits longer: its client waits too.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Longest time between two looks of a request that waits: a slot that another worker frees wakes nobody here.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What became of a wait.
enum Waited {
    /// A backend is there.
    Served(Chosen),
    /// None has come, or the line was full; the reason is noted.
    InVain,
}

impl Proxy {
    /// The next backend, or the reply if there is none.
    pub(super) async fn seek(&self, trip: &mut Trip<'_>, mut plan: Plan) -> Result<(Plan, Chosen), Reply> {
        loop {
            let is_behind = trip.is_behind(&plan, self.router.queues());
            if !is_behind {
                plan.need.attempts_left = trip.attempts_left();
                let Some((returned, chosen)) = self.router.next(plan).await else { return Err(internal()) };
                plan = returned;
                match chosen {
                    Ok(chosen) => return Ok((plan, chosen)),
                    Err(exhausted) => trip.pass_over(plan.asked(), exhausted),
                }
            }
            let turn = self.turn_to(trip, plan, is_behind).await?;
            match turn {
                (returned, Turn::Look) => plan = returned,
                (returned, Turn::Take(chosen)) => return Ok((returned, chosen)),
                (returned, Turn::GiveUp) => return Err(trip.exhausted(&returned, Next::Failover)),
            }
        }
    }

    /// Nobody can serve now: what the route's `on_exhausted` says, word by word, and last a retry.
    async fn turn_to(&self, trip: &mut Trip<'_>, mut plan: Plan, is_behind: bool) -> Result<(Plan, Turn), Reply> {
        let route = Arc::clone(plan.route());
        for word in &route.config.policy.on_exhausted {
            match word {
                OnExhausted::FallbackRoute => {
                    if trip.fall_back(&mut plan, None) {
                        return Ok((plan, Turn::Look));
                    }
                }
                OnExhausted::Queue => {
                    let Some(first_look) = trip.first_look(&mut plan, clock::now(), is_behind) else { continue };
                    let (returned, waited) = self.wait(trip, plan, first_look).await?;
                    plan = returned;
                    match waited {
                        Waited::Served(chosen) => return Ok((plan, Turn::Take(chosen))),
                        // It has not asked anybody itself yet.
                        Waited::InVain if is_behind => return Ok((plan, Turn::Look)),
                        Waited::InVain => {}
                    }
                }
                OnExhausted::LeastBad if trip.may_go_on(clock::now()) => {
                    let Some((returned, chosen)) = self.router.least_bad(plan).await else { return Err(internal()) };
                    plan = returned;
                    if let Some(chosen) = chosen {
                        return Ok((plan, Turn::Take(chosen)));
                    }
                }
                OnExhausted::LeastBad => {}
                OnExhausted::Reject => break,
            }
        }
        let Some(at) = trip.retry(&mut plan, clock::now(), fastrand::f64()) else { return Ok((plan, Turn::GiveUp)) };
        let since = clock::now();
        tokio::time::sleep_until(clock::to_tokio(at)).await;
        trip.record.outside += clock::now().since(since);
        Ok((plan, Turn::Look))
    }

    /// Waits in the route's line until a backend is there: at most `queue.max_wait`, and never more than half the time left.
    async fn wait(&self, trip: &mut Trip<'_>, mut plan: Plan, first_look: Instant) -> Result<(Plan, Waited), Reply> {
        let route = Arc::clone(plan.route());
        let mut now = clock::now();
        let until = trip.waits_until(&plan, now);
        let queues = self.router.queues();
        let Some(ticket) = queues.try_join(&route, plan.attempts() == 0, now) else {
            trip.queued = Some(ExhaustedReason::QueueFull);
            return Ok((plan, Waited::InVain));
        };
        let mut look_at = first_look;
        let waited = loop {
            let at = if ticket.is_first() { look_at.min(now.plus(LOOK_EVERY)).min(until) } else { until };
            ticket.turn(at).await;
            plan.need.attempts_left = trip.attempts_left();
            let Some((returned, chosen)) = self.router.next(plan).await else { return Err(internal()) };
            plan = returned;
            now = clock::now();
            match chosen {
                Ok(chosen) => break Waited::Served(chosen),
                Err(exhausted) => {
                    look_at = earliest(&exhausted.reasons, now).unwrap_or(Instant::NEVER);
                    trip.pass_over(plan.asked(), exhausted);
                }
            }
            ticket.pass_on();
            if until <= now {
                trip.queued = Some(ExhaustedReason::QueueTimeout);
                plan.allow_none_again();
                break Waited::InVain;
            }
        };
        let age = ticket.age(clock::now());
        trip.record.outside += age;
        trip.record.queued += age;
        Ok((plan, waited))
    }
}

/// What follows when nobody could serve.
enum Turn {
    /// Somebody may be able to now.
    Look,
    /// A backend has come.
    Take(Chosen),
    /// Nothing.
    GiveUp,
}

/// When the first of these gates opens; none if no end is known.
fn earliest(reasons: &[(BackendId, Rejection)], now: Instant) -> Option<Instant> {
    reasons.iter().filter_map(|(_, rejection)| rejection.remaining).min().map(|remaining| now.plus(remaining))
}

impl Trip<'_> {
    /// Whether others wait for the same backends with the same right: then it stands behind them before it asks.
    fn is_behind(&self, plan: &Plan, queues: &Queues) -> bool {
        let config = &plan.route().config;
        config.policy.on_exhausted.first() == Some(&OnExhausted::Queue)
            && self.queued.is_none()
            && plan.attempts() == 0
            && queues.has_fresh(&config.name)
    }

    /// Attempts left on this route; one where nothing may follow a failure.
    fn attempts_left(&self) -> u32 {
        if self.errand.wanted.creates_object { 1 } else { self.budget.left() }
    }

    /// Whether an attempt is left on this route, and the budget does not stand before it.
    fn may_go_on(&self, now: Instant) -> bool {
        !self.is_out_of_budget && self.budget.after(now) == Next::Failover
    }

    /// When a request that waits has to look for the first time; none if waiting is pointless: no attempt left, nobody who
    /// could come back in time, or it has waited already.
    fn first_look(&mut self, plan: &mut Plan, now: Instant, is_behind: bool) -> Option<Instant> {
        if self.queued.is_some() || !self.may_go_on(now) {
            return None;
        }
        if is_behind {
            return Some(now);
        }
        for (backend, at) in self.limited.iter().filter_map(|(backend, at)| Some((backend, (*at)?))) {
            plan.allow_again(backend, at);
        }
        let returning = self.limited.iter().filter_map(|(_, at)| *at).min();
        let gates = self.passed.iter().filter_map(|rejection| {
            // A full backend has a place again when a call ends, which may be at once.
            let is_full = rejection.reason == Reason::Saturated;
            rejection.remaining.map(|remaining| if is_full { now } else { now.plus(remaining) })
        });
        let first = gates.chain(returning).min()?;
        (first <= self.waits_until(plan, now)).then_some(first)
    }

    fn waits_until(&self, plan: &Plan, now: Instant) -> Instant {
        let left = self.budget.deadline().since(now);
        now.plus(plan.route().config.policy.queue_max_wait.min(left / 2))
    }

    /// Keeps in mind who has only said "later" to this request.
    pub(super) fn note_limited(&mut self, failure: &Failure, now: Instant) {
        let at = (failure.class == Class::RateLimited).then(|| now.plus(failure.hint.unwrap_or(UNHINTED_WAIT)));
        match self.limited.iter_mut().find(|(backend, _)| *backend == failure.backend) {
            Some((_, known)) => *known = known.and(at),
            None => self.limited.push((failure.backend.clone(), at)),
        }
    }

    /// Allows the backend that failed last once more, after a pause; none where that is not wanted or would not help.
    fn retry(&mut self, plan: &mut Plan, now: Instant, random: f64) -> Option<Instant> {
        let last = self.last.as_ref()?;
        let at = now.plus(pause(self.retries, random));
        let may = self.retries < plan.route().config.policy.same_backend_retries
            && !self.is_out_of_budget
            && may_help(last)
            && (!self.errand.wanted.creates_object || last.left_nothing_behind())
            && self.budget.after(at) == Next::Failover;
        if !may {
            return None;
        }
        plan.allow_again(&last.backend, at);
        self.retries += 1;
        Some(at)
    }
}

/// The pause before a retry, `retries` having been made: uniform up to a limit that doubles.
fn pause(retries: u32, random: f64) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << retries.min(10)).min(LONGEST_PAUSE).mul_f64(random)
}

/// Only what may have passed by itself, and where the provider does not say otherwise.
fn may_help(failure: &Failure) -> bool {
    match (failure.class, &failure.said) {
        (Class::Connect(_) | Class::Reset, _) => true,
        (Class::ServerError, Said::Answer(answer)) => !forbids(&answer.headers),
        (Class::ServerError, Said::Nothing | Said::TooLate(_) | Said::InBand(_)) => false,
        (
            Class::Truncated
            | Class::Malformed
            | Class::Timeout(_)
            | Class::Overloaded
            | Class::RateLimited
            | Class::QuotaExhausted
            | Class::Auth
            | Class::Permission
            | Class::NotFound
            | Class::ContextWindow
            | Class::Policy
            | Class::CallerFault
            | Class::Local
            | Class::ClientGone
            | Class::Cut,
            _,
        ) => false,
    }
}

fn forbids(headers: &Fields) -> bool {
    headers.text(Asked::ShouldRetry).eq_ignore_ascii_case("false")
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderMap, HeaderValue};
    use bytes::Bytes;

    use super::super::failure::ErrorAnswer;
    use super::*;
    use crate::backend::outcome::{ConnectPhase, TimeoutKind};
    use crate::config::BackendId;

    #[test]
    fn pauses_double_up_to_a_second() {
        let longest = |retries| pause(retries, 1.0).as_millis();
        assert_eq!([0, 1, 2, 4, 5, 99].map(longest), [50, 100, 200, 800, 1_000, 1_000]);
        assert_eq!(pause(3, 0.0), Duration::ZERO);
    }

    #[test]
    fn only_connections_and_answered_errors_are_tried_again() {
        let answer = |should_retry: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            if let Some(word) = should_retry {
                headers.insert(Asked::ShouldRetry.name().clone(), HeaderValue::from_static(word));
            }
            let headers = Fields::of_map(headers);
            let content_type = String::new();
            Said::Answer(Box::new(ErrorAnswer { status: 503, headers, content_type, body: Bytes::new() }))
        };
        let table = [
            (Class::Connect(ConnectPhase::Connect), Said::Nothing, true),
            (Class::Reset, Said::Nothing, true),
            (Class::ServerError, answer(None), true),
            (Class::ServerError, answer(Some("true")), true),
            (Class::ServerError, answer(Some("false")), false),
            (Class::ServerError, Said::InBand(Default::default()), false),
            (Class::Timeout(TimeoutKind::Connect), Said::Nothing, false),
            (Class::Truncated, Said::Nothing, false),
            (Class::RateLimited, answer(None), false),
        ];
        for (class, said, expected) in table {
            let failure = Failure { backend: BackendId::new("b"), class, hint: None, said };
            assert_eq!(may_help(&failure), expected, "{failure:?}");
        }
    }
}
