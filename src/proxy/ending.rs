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
mod tests;
