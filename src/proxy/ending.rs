//! What a request ends with when no backend served it: status, words and waits (spec/resilience.md 9.2, 9.3;
//! spec/wire.md 3.3, 3.4).

use std::time::Duration;

use super::failure::{Failure, Said};
use crate::backend::outcome::{Block, Class, TimeoutKind};
use crate::backend::{Reason, Rejection};
use crate::config::BackendId;
use crate::telemetry::labels::ExhaustedReason;

/// From this wait on an SDK should not wait for us (spec/wire.md 3.3, rule W).
const LONG_WAIT: Duration = Duration::from_secs(60);

/// No shorter Retry-After is sent: SDKs would come back at once.
const LEAST_WAIT: Duration = Duration::from_secs(1);

/// Wait assumed for a rate limit without a hint, which is the first step of its back-off.
pub const UNHINTED_WAIT: Duration = Duration::from_secs(1);

/// Why one backend of the plan did not serve.
#[derive(Clone, Debug)]
pub struct Ground {
    /// Which backend.
    pub backend: BackendId,
    /// Why.
    pub why: Why,
}

/// Why a backend did not serve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Why {
    /// It was tried and failed; how long its own gates now keep it away, if anybody knows.
    Tried(Class, Option<Duration>),
    /// It was passed over.
    PassedOver(Rejection),
}

impl Ground {
    /// The ground that a failed attempt leaves.
    pub fn tried(failure: &Failure) -> Self {
        let remaining = match failure.class {
            Class::RateLimited => Some(failure.hint.unwrap_or(UNHINTED_WAIT)),
            Class::Overloaded | Class::ServerError | Class::QuotaExhausted => failure.hint,
            Class::Connect(_)
            | Class::Reset
            | Class::Truncated
            | Class::Malformed
            | Class::Timeout(_)
            | Class::Auth
            | Class::Permission
            | Class::NotFound
            | Class::ContextWindow
            | Class::Policy
            | Class::CallerFault
            | Class::Local
            | Class::ClientGone
            | Class::Cut => None,
        };
        Self { backend: failure.backend.clone(), why: Why::Tried(failure.class, remaining) }
    }

    fn remaining(&self) -> Option<Duration> {
        match self.why {
            Why::Tried(_, remaining) => remaining,
            Why::PassedOver(rejection) => rejection.remaining,
        }
    }

    fn is_rate(&self) -> bool {
        match self.why {
            Why::Tried(class, _) => matches!(class, Class::RateLimited | Class::QuotaExhausted),
            Why::PassedOver(rejection) => rejection.reason.is_rate(),
        }
    }

    fn is_quota(&self) -> bool {
        match self.why {
            Why::Tried(class, _) => class == Class::QuotaExhausted,
            Why::PassedOver(rejection) => rejection.reason == Reason::Blocked(Block::Money),
        }
    }

    fn words(&self) -> String {
        let reason = match self.why {
            Why::Tried(class, _) => class.error_type().map_or("local_error", |kind| kind.name()),
            Why::PassedOver(rejection) => rejection.reason.name(),
        };
        match self.remaining() {
            Some(remaining) => format!("{} {reason} {:.1} s", self.backend, remaining.as_secs_f64()),
            None => format!("{} {reason}", self.backend),
        }
    }
}

/// What an answer says about coming back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waits {
    /// `retry-after` (rounded up to seconds) and `retry-after-ms`.
    pub retry_after: Option<Duration>,
    /// `x-should-retry: false`.
    pub should_not_retry: bool,
}

impl Waits {
    /// Rule W: on 429 and 503.
    fn of_wait(wait: Option<Duration>) -> Self {
        let retry_after = wait.map(|wait| wait.max(LEAST_WAIT));
        Self { retry_after, should_not_retry: retry_after.is_none_or(|wait| LONG_WAIT <= wait) }
    }

    /// Rule X: the retries are spent.
    fn after_attempts(attempts: usize) -> Self {
        Self { retry_after: None, should_not_retry: 2 <= attempts }
    }
}

/// The gateway's own error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    /// The HTTP status.
    pub status: u16,
    /// `error.type`.
    pub kind: &'static str,
    /// `error.code`.
    pub code: &'static str,
    /// `error.message`.
    pub message: String,
}

/// How a request ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Final {
    /// With the gateway's own words.
    Own(Words),
    /// With the last attempt's answer, under this status.
    Provider(u16),
}

/// How a request ends, and what its answer says about coming back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// The answer.
    pub what: Final,
    /// Coming back.
    pub waits: Waits,
    /// Why nothing more could be tried.
    pub reason: ExhaustedReason,
}

/// The facts of a request that found nobody to serve it.
pub struct Facts<'a> {
    /// The route's name.
    pub route: &'a str,
    /// One ground per backend.
    pub grounds: &'a [Ground],
    /// The last failed attempt.
    pub last: Option<&'a Failure>,
    /// Whether the deadline forbade more.
    pub out_of_time: bool,
    /// Whether untried backends are left, which only the number of attempts forbade.
    pub out_of_attempts: bool,
    /// Whether the retry budget forbade more.
    pub out_of_budget: bool,
    /// Attempts made.
    pub attempts: usize,
    /// What was tried, for the message; empty if nothing was.
    pub trail: &'a str,
    /// Whether messages name backends.
    pub expose_backends: bool,
}

/// Decides the end of a request (spec/resilience.md 9.3).
pub fn decide(facts: &Facts<'_>) -> Ending {
    let timed_out = facts.last.is_some_and(|last| matches!(last.class, Class::Timeout(_) | Class::Cut));
    if timed_out || facts.out_of_time {
        let reason = if facts.out_of_time { ExhaustedReason::Deadline } else { spent(facts) };
        return Ending { what: Final::Own(timeout_words(facts)), waits: Waits::after_attempts(facts.attempts), reason };
    }
    let waits = Waits::of_wait(facts.grounds.iter().filter_map(Ground::remaining).min());
    let all_rate = !facts.grounds.is_empty() && facts.grounds.iter().all(Ground::is_rate);
    if all_rate {
        let ending = rate_limited(facts, waits);
        let reason = if facts.out_of_budget { ExhaustedReason::RetryBudget } else { ending.reason };
        return Ending { reason, ..ending };
    }
    let Some(last) = facts.last else {
        let what = Final::Own(no_backend(facts));
        return Ending { what, waits, reason: ExhaustedReason::NoBackend };
    };
    let (what, waits) = by_last_attempt(facts, last, waits);
    Ending { what, waits, reason: spent(facts) }
}

fn spent(facts: &Facts<'_>) -> ExhaustedReason {
    match (facts.out_of_budget, facts.out_of_attempts) {
        (true, _) => ExhaustedReason::RetryBudget,
        (false, true) => ExhaustedReason::AttemptLimit,
        (false, false) => ExhaustedReason::PlanSpent,
    }
}

fn rate_limited(facts: &Facts<'_>, waits: Waits) -> Ending {
    let all_quota = facts.grounds.iter().all(Ground::is_quota);
    let (kind, code, what, reason) = if all_quota {
        let reason = ExhaustedReason::QuotaExhausted;
        ("insufficient_quota_error", "all_backends_out_of_quota", "out of quota", reason)
    } else {
        ("rate_limit_error", "all_backends_rate_limited", "rate limited", ExhaustedReason::RateLimited)
    };
    if let Some(Failure { said: Said::Answer(_), .. }) = facts.last {
        return Ending { what: Final::Provider(429), waits, reason };
    }
    let count = facts.grounds.len();
    let next = waits.retry_after.map_or(String::new(), |wait| format!("; next in {:.1} s", wait.as_secs_f64()));
    let message = format!("route {}: all {count} backends are {what}{next}{}", facts.route, details(facts));
    Ending { what: Final::Own(Words { status: 429, kind, code, message }), waits, reason }
}

fn no_backend(facts: &Facts<'_>) -> Words {
    let message = format!("route {}: no backend can serve now{}", facts.route, details(facts));
    Words { status: 503, kind: "service_unavailable_error", code: "no_backend_available", message }
}

fn details(facts: &Facts<'_>) -> String {
    if !facts.expose_backends || facts.grounds.is_empty() {
        return String::new();
    }
    let grounds: Vec<String> = facts.grounds.iter().map(Ground::words).collect();
    format!(" ({})", grounds.join("; "))
}

fn timeout_words(facts: &Facts<'_>) -> Words {
    let kind = facts.last.and_then(|last| if let Class::Timeout(kind) = last.class { Some(kind) } else { None });
    let code = match kind {
        Some(TimeoutKind::Connect) => "connect_timeout",
        Some(TimeoutKind::FirstByte | TimeoutKind::Status) => "first_byte_timeout",
        Some(TimeoutKind::FirstToken) => "first_token_timeout",
        Some(TimeoutKind::Idle) => "idle_timeout",
        Some(TimeoutKind::Total) | None => "total_timeout",
    };
    let what = match facts.last {
        Some(last) if kind.is_some() => said_by(facts, last),
        Some(_) | None => format!("route {}: the request's time was over", facts.route),
    };
    Words { status: 504, kind: "timeout_error", code, message: format!("{what}{}", tried(facts)) }
}

/// The client column of spec/resilience.md 2.1.
fn by_last_attempt(facts: &Facts<'_>, last: &Failure, waits: Waits) -> (Final, Waits) {
    let after = Waits::after_attempts(facts.attempts);
    let never = Waits { retry_after: None, should_not_retry: true };
    let own = |status, code| {
        let message = format!("{}{}", said_by(facts, last), tried(facts));
        Final::Own(Words { status, kind: last.kind().name(), code, message })
    };
    let provider = |status| match &last.said {
        Said::Answer(_) | Said::InBand(_) => Final::Provider(status),
        Said::Nothing | Said::TooLate(_) => own(502, "upstream_malformed_response"),
    };
    match last.class {
        Class::Connect(_) | Class::Reset => (own(502, "upstream_connection_error"), after),
        Class::Truncated | Class::Malformed => (own(502, "upstream_malformed_response"), after),
        Class::Auth => (own(502, "upstream_authentication_error"), never),
        Class::Permission => (own(502, "upstream_permission_denied"), never),
        Class::NotFound => (own(502, "upstream_model_not_found"), never),
        Class::RateLimited | Class::QuotaExhausted => (Final::Own(no_backend(facts)), waits),
        Class::ServerError | Class::Overloaded => {
            let status = status_of(last);
            let status = if status == 529 { 503 } else { status };
            (provider(status), if status == 503 { waits } else { after })
        }
        Class::ContextWindow | Class::Policy | Class::CallerFault => (provider(status_of(last)), Waits::default()),
        Class::Timeout(_) | Class::Cut => (Final::Own(timeout_words(facts)), after),
        Class::Local | Class::ClientGone => {
            let words = Words {
                status: 503,
                kind: "service_unavailable_error",
                code: "gateway_overloaded",
                message: "the gateway could not make the call".to_owned(),
            };
            (Final::Own(words), Waits { retry_after: Some(LEAST_WAIT), should_not_retry: false })
        }
    }
}

/// The status that a provider's final error keeps. In-band errors get theirs from `final_error`.
fn status_of(last: &Failure) -> u16 {
    match &last.said {
        Said::Answer(answer) => answer.status,
        Said::Nothing | Said::TooLate(_) | Said::InBand(_) => 502,
    }
}

fn said_by(facts: &Facts<'_>, last: &Failure) -> String {
    let who = if facts.expose_backends { last.backend.as_str() } else { "a backend" };
    format!("{who}: {}", last.words())
}

/// The attempts, where there was more than one.
fn tried(facts: &Facts<'_>) -> String {
    if facts.expose_backends && 1 < facts.attempts { format!(" (tried {})", facts.trail) } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::super::error_fields::ErrorFields;
    use super::super::failure::ErrorAnswer;
    use super::*;
    use crate::backend::outcome::ConnectPhase;

    fn failure(class: Class, status: u16) -> Failure {
        let answer = ErrorAnswer {
            status,
            headers: actix_web::http::header::HeaderMap::new(),
            content_type: String::new(),
            body: bytes::Bytes::new(),
        };
        let said = if status == 0 { Said::Nothing } else { Said::Answer(answer) };
        Failure { backend: BackendId::new("b"), class, hint: None, said }
    }

    fn passed(name: &str, reason: Reason, seconds: Option<u64>) -> Ground {
        let remaining = seconds.map(Duration::from_secs);
        Ground { backend: BackendId::new(name), why: Why::PassedOver(Rejection { reason, remaining }) }
    }

    fn end(grounds: &[Ground], last: Option<&Failure>) -> Ending {
        end_with(grounds, last, |_| {})
    }

    fn end_with(grounds: &[Ground], last: Option<&Failure>, change: fn(&mut Facts<'_>)) -> Ending {
        let mut facts = Facts {
            route: "r",
            grounds,
            last,
            out_of_time: false,
            out_of_attempts: false,
            out_of_budget: false,
            attempts: grounds.iter().filter(|ground| matches!(ground.why, Why::Tried(..))).count(),
            trail: "a timeout_error 5 ms; b api_connection_error 2 ms",
            expose_backends: true,
        };
        change(&mut facts);
        decide(&facts)
    }

    fn message(ending: &Ending) -> &str {
        match &ending.what {
            Final::Own(words) => &words.message,
            Final::Provider(_) => "",
        }
    }

    fn status(ending: &Ending) -> (u16, &str) {
        match &ending.what {
            Final::Own(words) => (words.status, words.code),
            Final::Provider(status) => (*status, "provider"),
        }
    }

    #[test]
    fn the_last_attempt_decides() {
        let table = [
            (Class::Connect(ConnectPhase::Connect), 0, (502, "upstream_connection_error")),
            (Class::Reset, 0, (502, "upstream_connection_error")),
            (Class::Malformed, 0, (502, "upstream_malformed_response")),
            (Class::Timeout(TimeoutKind::FirstToken), 0, (504, "first_token_timeout")),
            (Class::Cut, 0, (504, "total_timeout")),
            (Class::ServerError, 500, (500, "provider")),
            (Class::ServerError, 529, (503, "provider")),
            (Class::Overloaded, 529, (503, "provider")),
            (Class::Auth, 401, (502, "upstream_authentication_error")),
            (Class::Permission, 403, (502, "upstream_permission_denied")),
            (Class::NotFound, 404, (502, "upstream_model_not_found")),
            (Class::CallerFault, 422, (422, "provider")),
            (Class::ContextWindow, 400, (400, "provider")),
        ];
        for (class, answered, expected) in table {
            let last = failure(class, answered);
            assert_eq!(status(&end(&[Ground::tried(&last)], Some(&last))), expected, "{class:?}");
        }
        let last = Failure { said: Said::InBand(ErrorFields::default()), ..failure(Class::ServerError, 0) };
        assert_eq!(status(&end(&[Ground::tried(&last)], Some(&last))), (502, "provider"));
    }

    #[test]
    fn all_rate_limited_is_429_and_a_mixture_is_not() {
        let last = Failure { hint: Some(Duration::from_secs(7)), ..failure(Class::RateLimited, 429) };
        let blocked = passed("a", Reason::Blocked(Block::Rate), Some(3));
        let ending = end(&[Ground::tried(&last), blocked.clone()], Some(&last));
        assert_eq!(status(&ending), (429, "provider"));
        assert_eq!(ending.waits, Waits { retry_after: Some(Duration::from_secs(3)), should_not_retry: false });
        let ending = end(&[Ground::tried(&last), passed("a", Reason::CircuitOpen, Some(90))], Some(&last));
        assert_eq!(status(&ending), (503, "no_backend_available"));
        assert_eq!(ending.waits.retry_after, Some(Duration::from_secs(7)));
        let ending = end(std::slice::from_ref(&blocked), None);
        assert_eq!(
            (status(&ending), ending.reason),
            ((429, "all_backends_rate_limited"), ExhaustedReason::RateLimited)
        );
        let money = passed("a", Reason::Blocked(Block::Money), Some(300));
        let ending = end(&[money], None);
        assert_eq!(status(&ending), (429, "all_backends_out_of_quota"));
        assert!(ending.waits.should_not_retry, "300 s is too long to wait for");
    }

    #[test]
    fn nobody_there_is_503_with_the_reasons() {
        let grounds = [passed("a", Reason::CircuitOpen, Some(12)), passed("b", Reason::Draining, None)];
        let ending = end(&grounds, None);
        let Final::Own(words) = &ending.what else { unreachable!("no attempt was made") };
        assert_eq!(words.message, "route r: no backend can serve now (a circuit_open 12.0 s; b draining)");
        assert_eq!((words.status, ending.reason), (503, ExhaustedReason::NoBackend));
        let endless = end(&grounds[1..], None);
        assert_eq!(endless.waits, Waits { retry_after: None, should_not_retry: true });
    }

    #[test]
    fn spent_plans_tell_sdks_not_to_multiply() {
        let first = failure(Class::Reset, 0);
        let last = failure(Class::Connect(ConnectPhase::Connect), 0);
        assert!(!end(&[Ground::tried(&last)], Some(&last)).waits.should_not_retry);
        let ending = end(&[Ground::tried(&first), Ground::tried(&last)], Some(&last));
        assert!(ending.waits.should_not_retry);
        let Final::Own(words) = ending.what else { unreachable!("own words") };
        assert_eq!(
            words.message,
            "b: connection refused or failed (tried a timeout_error 5 ms; b api_connection_error 2 ms)"
        );
    }

    #[test]
    fn time_that_is_over_is_504_whatever_failed_last() {
        let reset = failure(Class::Reset, 0);
        let ending = end_with(&[Ground::tried(&reset)], Some(&reset), |facts| facts.out_of_time = true);
        assert_eq!((status(&ending), ending.reason), ((504, "total_timeout"), ExhaustedReason::Deadline));
        assert_eq!(message(&ending), "route r: the request's time was over");
        let blocked = passed("a", Reason::Blocked(Block::Rate), Some(3));
        let ending = end_with(&[blocked], None, |facts| facts.out_of_time = true);
        assert_eq!((status(&ending), ending.waits), ((504, "total_timeout"), Waits::default()));
        let slow = failure(Class::Timeout(TimeoutKind::Idle), 0);
        let ending = end_with(&[Ground::tried(&slow)], Some(&slow), |facts| facts.out_of_attempts = true);
        assert_eq!((status(&ending), ending.reason), ((504, "idle_timeout"), ExhaustedReason::AttemptLimit));
        assert_eq!(message(&ending), "b: no further data in time");
        let cut = failure(Class::Cut, 0);
        let ending = end(&[Ground::tried(&cut)], Some(&cut));
        assert_eq!(message(&ending), "route r: the request's time was over");
    }

    #[test]
    fn quota_is_all_or_it_is_a_rate() {
        let spent = Failure { hint: Some(Duration::from_secs(90)), ..failure(Class::QuotaExhausted, 0) };
        let ending = end(&[Ground::tried(&spent)], Some(&spent));
        assert_eq!(
            (status(&ending), ending.reason),
            ((429, "all_backends_out_of_quota"), ExhaustedReason::QuotaExhausted)
        );
        assert_eq!(
            message(&ending),
            "route r: all 1 backends are out of quota; next in 90.0 s (b insufficient_quota_error 90.0 s)"
        );
        let limited = failure(Class::RateLimited, 0);
        let both = [Ground::tried(&limited), passed("a", Reason::Blocked(Block::Money), Some(300))];
        let ending = end_with(&both, Some(&limited), |facts| facts.out_of_budget = true);
        assert_eq!(
            (status(&ending), ending.reason),
            ((429, "all_backends_rate_limited"), ExhaustedReason::RetryBudget)
        );
        assert_eq!(ending.waits.retry_after, Some(UNHINTED_WAIT));
    }

    #[test]
    fn a_503_says_when_and_other_answers_only_that_the_retries_are_spent() {
        let table = [(503, true), (529, true), (500, false), (502, false)];
        for (answered, says_when) in table {
            let last = Failure { hint: Some(Duration::from_millis(200)), ..failure(Class::ServerError, answered) };
            let waits = end(&[Ground::tried(&last)], Some(&last)).waits;
            // Never less than a second.
            let expected = says_when.then_some(LEAST_WAIT);
            assert_eq!(waits, Waits { retry_after: expected, should_not_retry: false }, "{answered}");
        }
        for (seconds, should_not_retry) in [(59, false), (60, true)] {
            let ending = end(&[passed("a", Reason::CircuitOpen, Some(seconds))], None);
            let retry_after = Some(Duration::from_secs(seconds));
            assert_eq!(ending.waits, Waits { retry_after, should_not_retry });
        }
    }

    #[test]
    fn backends_are_named_only_where_that_is_wanted() {
        let (first, last) = (failure(Class::Reset, 0), failure(Class::Reset, 0));
        let grounds = [Ground::tried(&first), Ground::tried(&last)];
        let hidden = end_with(&grounds, Some(&last), |facts| facts.expose_backends = false);
        assert_eq!(message(&hidden), "a backend: connection reset before an answer");
        let once = end(&grounds[..1], Some(&last));
        assert_eq!(message(&once), "b: connection reset before an answer");
        let nobody = [passed("a", Reason::Draining, None)];
        let hidden = end_with(&nobody, None, |facts| facts.expose_backends = false);
        assert_eq!(message(&hidden), "route r: no backend can serve now");
        assert_eq!(message(&end(&[], None)), "route r: no backend can serve now");
    }
}
