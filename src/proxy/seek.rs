//! The next backend for a request, with leave to call it; where none can serve now, what the route wants to be tried then:
//! another route, and last the same backend again.

use std::time::Duration;

use actix_web::http::header::{HeaderMap, HeaderName};

use super::budget::Next;
use super::failure::{Failure, Said};
use super::{Proxy, Reply, Trip, forward, internal};
use crate::backend::outcome::Class;
use crate::clock::{self, Instant};
use crate::router::{Chosen, Plan};

/// Longest wait before the first retry on the same backend; it doubles with each further one (spec/resilience.md 7.1).
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// No retry waits longer: its client waits too.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How a provider says that trying again is pointless.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

impl Proxy {
    /// The next backend, or the reply if there is none.
    pub(super) async fn seek(&self, trip: &mut Trip<'_>, mut plan: Plan) -> Result<(Plan, Chosen), Reply> {
        loop {
            let Some((returned, chosen)) = self.router.next(plan).await else { return Err(internal()) };
            plan = returned;
            match chosen {
                Ok(chosen) => return Ok((plan, chosen)),
                Err(exhausted) => trip.pass_over(plan.asked(), exhausted),
            }
            if trip.fall_back(&mut plan, None) {
                continue;
            }
            let Some(at) = trip.retry(&mut plan, clock::now(), fastrand::f64()) else {
                return Err(trip.exhausted(&plan, Next::Failover));
            };
            tokio::time::sleep_until(clock::to_tokio(at)).await;
        }
    }
}

impl Trip<'_> {
    /// Allows the backend that failed last once more, after a pause; none where that is not wanted or would not help.
    fn retry(&mut self, plan: &mut Plan, now: Instant, random: f64) -> Option<Instant> {
        let last = self.last.as_ref()?;
        let at = now.plus(pause(self.retries, random));
        let may = self.retries < plan.route().config.policy.same_backend_retries
            && !self.is_out_of_budget
            && may_help(last)
            && (!self.wanted.creates_object || last.left_nothing_behind())
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

fn forbids(headers: &HeaderMap) -> bool {
    forward::text(headers, &SHOULD_RETRY).eq_ignore_ascii_case("false")
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;
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
                headers.insert(SHOULD_RETRY, HeaderValue::from_static(word));
            }
            Said::Answer(ErrorAnswer { status: 503, headers, content_type: String::new(), body: Bytes::new() })
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
