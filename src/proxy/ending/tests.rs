//! Which answer a client gets for what became of its attempts.

use super::super::error_fields::ErrorFields;
use super::super::failure::ErrorAnswer;
use super::super::upstream::Fields;
use super::*;
use crate::backend::outcome::ConnectPhase;

fn failure(class: Class, status: u16) -> Failure {
    let answer = ErrorAnswer {
        status,
        headers: Fields::of_map(Default::default()),
        content_type: String::new(),
        body: bytes::Bytes::new(),
    };
    let said = if status == 0 { Said::Nothing } else { Said::Answer(Box::new(answer)) };
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
    assert_eq!((status(&ending), ending.reason), ((429, "all_backends_rate_limited"), ExhaustedReason::RateLimited));
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
    assert_eq!((status(&ending), ending.reason), ((429, "all_backends_out_of_quota"), ExhaustedReason::QuotaExhausted));
    assert_eq!(
        message(&ending),
        "route r: all 1 backends are out of quota; next in 90.0 s (b insufficient_quota_error 90.0 s)"
    );
    let limited = failure(Class::RateLimited, 0);
    let both = [Ground::tried(&limited), passed("a", Reason::Blocked(Block::Money), Some(300))];
    let ending = end_with(&both, Some(&limited), |facts| facts.out_of_budget = true);
    assert_eq!((status(&ending), ending.reason), ((429, "all_backends_rate_limited"), ExhaustedReason::RetryBudget));
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
