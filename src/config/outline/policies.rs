//! What a configuration says of resilience: for backends, for routes, and for the time of attempts.

use super::super::{
    AttemptTimeouts, BackendPolicy, CircuitBreaker, ClassifyRule, EndpointBreaker, HealthCheck, Hedge, OnExhausted,
    Quota, RoutePolicy,
};
use super::Outline;
use super::words::{list, or_off, ratio, size, statuses, time, times, word};

pub(in crate::config) fn backend_policy(out: &mut Outline, policy: &BackendPolicy) {
    let BackendPolicy {
        circuit_breaker,
        endpoint_breaker: EndpointBreaker { enabled, consecutive_failures },
        quota: Quota { learned, jitter, max_retry_after, ptu_target_utilization },
        classify,
        health_check,
        max_in_flight,
        requests_per_minute,
        tokens_per_minute,
    } = policy;
    breaker(out, circuit_breaker);
    out.put("endpoint_breaker.enabled", enabled);
    out.put("endpoint_breaker.consecutive_failures", consecutive_failures);
    out.put("quota.learned", if *learned { "defer" } else { "off" });
    out.put("quota.jitter", ratio(*jitter));
    out.put("quota.max_retry_after", time(*max_retry_after));
    out.put("quota.ptu_target_utilization", or_off(ptu_target_utilization.map(ratio)));
    for (index, rule) in classify.iter().enumerate() {
        out.put(format!("classify[{index}]"), classify_rule(rule));
    }
    let HealthCheck { kind, interval, timeout, unhealthy_threshold, healthy_threshold, expected_status } = health_check;
    out.put("health_check.type", kind.name());
    out.put("health_check.interval", time(*interval));
    out.put("health_check.timeout", time(*timeout));
    out.put("health_check.unhealthy_threshold", unhealthy_threshold);
    out.put("health_check.healthy_threshold", healthy_threshold);
    out.put("health_check.expected_status", statuses(*expected_status.start(), *expected_status.end()));
    out.put("max_in_flight", max_in_flight);
    out.put("rpm", or_off(*requests_per_minute));
    out.put("tpm", or_off(*tokens_per_minute));
}

fn breaker(out: &mut Outline, breaker: &CircuitBreaker) {
    let CircuitBreaker {
        enabled,
        consecutive_failures,
        minimum_calls,
        failure_rate_threshold,
        sliding_window,
        slow_call_duration,
        slow_call_rate_threshold,
        wait_duration_in_open_state,
        max_wait_duration_in_open_state,
        jitter,
        half_open_calls,
        max_wait_duration_in_half_open_state,
        level_decay,
        slow_start,
        slow_start_min_weight,
    } = breaker;
    out.put("circuit_breaker.enabled", enabled);
    out.put("circuit_breaker.consecutive_failures", or_off(*consecutive_failures));
    out.put("circuit_breaker.minimum_calls", minimum_calls);
    out.put("circuit_breaker.failure_rate_threshold", or_off(failure_rate_threshold.map(ratio)));
    out.put("circuit_breaker.sliding_window", time(*sliding_window));
    out.put("circuit_breaker.slow_call_duration", times(*slow_call_duration));
    out.put("circuit_breaker.slow_call_rate_threshold", ratio(*slow_call_rate_threshold));
    out.put("circuit_breaker.wait_duration_in_open_state", time(*wait_duration_in_open_state));
    out.put("circuit_breaker.max_wait_duration_in_open_state", time(*max_wait_duration_in_open_state));
    out.put("circuit_breaker.jitter", ratio(*jitter));
    out.put("circuit_breaker.half_open_calls", half_open_calls);
    out.put("circuit_breaker.max_wait_duration_in_half_open_state", times(*max_wait_duration_in_half_open_state));
    out.put("circuit_breaker.level_decay", time(*level_decay));
    out.put("circuit_breaker.slow_start", times(*slow_start));
    out.put("circuit_breaker.slow_start_min_weight", ratio(*slow_start_min_weight));
}

fn classify_rule(rule: &ClassifyRule) -> String {
    let ClassifyRule { status, code, kind, message_contains, class } = rule;
    let parts = [
        status.map(|status| format!("status: {status}")),
        code.as_ref().map(|code| format!("code: {}", word(code))),
        kind.as_ref().map(|kind| format!("type: {}", word(kind))),
        message_contains.as_ref().map(|text| format!("message_contains: {}", word(text))),
        Some(format!("class: {}", class.name())),
    ];
    format!("{{{}}}", parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
}

pub(in crate::config) fn route_policy(out: &mut Outline, policy: &RoutePolicy) {
    let RoutePolicy {
        total,
        stream_total,
        attempt_time_share,
        min_attempt,
        max_attempts,
        max_total_attempts,
        same_backend_retries,
        retry_budget_ratio,
        retry_budget_min,
        hedge,
        holdback,
        responses_holdback,
        head_hold,
        keepalive,
        on_exhausted,
        queue_max_wait,
        queue_max_size,
        send_x_should_retry,
        expose_backends,
    } = policy;
    out.put("timeouts.total", time(*total));
    out.put("timeouts.stream_total", time(*stream_total));
    out.put("timeouts.attempt_time_share", ratio(*attempt_time_share));
    out.put("timeouts.min_attempt", time(*min_attempt));
    out.put("attempts.max_attempts", max_attempts);
    out.put("attempts.max_total_attempts", max_total_attempts);
    out.put("attempts.same_backend_retries", same_backend_retries);
    out.put("retry_budget.budget_ratio", ratio(*retry_budget_ratio));
    out.put("retry_budget.min_retries", retry_budget_min);
    out.put("hedge.enabled", hedge.is_some());
    if let Some(Hedge { min_delay, max_extra }) = hedge {
        out.put("hedge.min_delay", time(*min_delay));
        out.put("hedge.max_extra", ratio(*max_extra));
    }
    out.put("stream.holdback", size(*holdback));
    out.put("stream.responses_holdback", size(*responses_holdback));
    out.put("stream.head_hold", times(*head_hold));
    out.put("stream.keepalive", times(*keepalive));
    let words = on_exhausted.iter().map(|word| match word {
        OnExhausted::FallbackRoute => "fallback_route",
        OnExhausted::Queue => "queue",
        OnExhausted::LeastBad => "least_bad",
        OnExhausted::Reject => "reject",
    });
    out.put("on_exhausted", list(words));
    out.put("queue.max_wait", time(*queue_max_wait));
    out.put("queue.max_size", queue_max_size);
    out.put("send_x_should_retry", send_x_should_retry);
    out.put("expose_backends", expose_backends);
}

/// The time limits of one backend on one route.
pub(in crate::config) fn timeouts(timeouts: &AttemptTimeouts) -> Outline {
    let AttemptTimeouts { connect, first_token, first_token_reasoning, first_byte, first_byte_reasoning, idle } =
        timeouts;
    let mut out = Outline::default();
    out.put("timeouts.connect", time(*connect));
    out.put("timeouts.first_token", time(*first_token));
    out.put("timeouts.first_token of reasoning calls", time(*first_token_reasoning));
    out.put("timeouts.first_byte", time(*first_byte));
    out.put("timeouts.first_byte of reasoning calls", time(*first_byte_reasoning));
    out.put("timeouts.idle", time(*idle));
    out
}
