//! Layers of `resilience:` to policies: the nearest written value, else the default, which gives way where two must be in
//! order (spec/config.md 1, rules 6 and 7).

use std::time::Duration;

use super::context::{At, Context, Located};
use super::raw::Resilience;
use super::{
    AttemptTimeouts, BackendPolicy, CircuitBreaker, EndpointBreaker, HealthCheck, Hedge, Quota, RoutePolicy, Strategy,
};
use crate::error::ErrorSet;

/// Nearest first.
pub(super) type Layers<'l> = &'l [&'l Resilience];

/// The nearest written value.
pub(super) fn nearest<'l, T>(
    layers: Layers<'l>,
    get: impl Fn(&'l Resilience) -> &'l Option<Located<T>>,
) -> Option<&'l Located<T>> {
    layers.iter().find_map(|layer| get(layer).as_ref())
}

/// The nearest written value, else the default.
fn or<'l, T: Clone + 'l>(layers: Layers<'l>, get: impl Fn(&'l Resilience) -> &'l Option<Located<T>>, default: T) -> T {
    nearest(layers, get).map_or(default, |found| found.value.clone())
}

/// Added to the first-token limit for a window that sees slow failures (spec/resilience.md 3.2).
const WINDOW_MARGIN: Duration = Duration::from_secs(10);
/// Open time of a backend that nothing can stand in for (spec/resilience.md 3.9).
const LONE_WAIT: Duration = Duration::from_secs(2);
/// Its cap.
const LONE_MAX_WAIT: Duration = Duration::from_secs(30);

/// A backend's policy but for its limits per minute. `first_token` is its longest limit on any route; `is_lone` says that nothing can stand in for it.
pub(super) fn backend(
    context: &Context<'_>,
    layers: Layers<'_>,
    first_token: Duration,
    is_lone: bool,
) -> BackendPolicy {
    let quota = Quota::default();
    let check = HealthCheck::default();
    let endpoint = EndpointBreaker::default();
    let default = BackendPolicy::default();
    BackendPolicy {
        circuit_breaker: breaker(context, layers, first_token, is_lone),
        endpoint_breaker: EndpointBreaker {
            enabled: or(layers, |layer| &layer.endpoint_enabled, endpoint.enabled),
            consecutive_failures: or(layers, |layer| &layer.endpoint_failures, endpoint.consecutive_failures),
        },
        quota: Quota {
            learned: or(layers, |layer| &layer.quota_learned, quota.learned),
            jitter: or(layers, |layer| &layer.quota_jitter, quota.jitter),
            max_retry_after: or(layers, |layer| &layer.quota_max_retry_after, quota.max_retry_after),
            ptu_target_utilization: or(layers, |layer| &layer.quota_ptu, quota.ptu_target_utilization),
        },
        classify: layers.iter().find_map(|layer| layer.classify.clone()).unwrap_or_default(),
        health_check: HealthCheck {
            kind: or(layers, |layer| &layer.health_check.kind, check.kind),
            interval: or(layers, |layer| &layer.health_check.interval, check.interval),
            timeout: or(layers, |layer| &layer.health_check.timeout, check.timeout),
            unhealthy_threshold: or(layers, |layer| &layer.health_check.unhealthy_threshold, check.unhealthy_threshold),
            healthy_threshold: or(layers, |layer| &layer.health_check.healthy_threshold, check.healthy_threshold),
            expected_status: or(layers, |layer| &layer.health_check.expected_status, check.expected_status),
        },
        max_in_flight: nearest(layers, |layer| &layer.max_in_flight)
            .map_or(default.max_in_flight, |max| max.value.get()),
        requests_per_minute: None,
        tokens_per_minute: None,
    }
}

fn breaker(context: &Context<'_>, layers: Layers<'_>, first_token: Duration, is_lone: bool) -> CircuitBreaker {
    let mut default = CircuitBreaker::default();
    if is_lone {
        default.consecutive_failures = None;
        default.wait_duration_in_open_state = LONE_WAIT;
        default.max_wait_duration_in_open_state = LONE_MAX_WAIT;
    }
    let (wait, max_wait) = in_order(
        context,
        "BW604",
        (
            "wait_duration_in_open_state",
            nearest(layers, |layer| &layer.breaker.wait),
            default.wait_duration_in_open_state,
        ),
        (
            "max_wait_duration_in_open_state",
            nearest(layers, |layer| &layer.breaker.max_wait),
            default.max_wait_duration_in_open_state,
        ),
    );
    CircuitBreaker {
        enabled: or(layers, |layer| &layer.breaker.enabled, default.enabled),
        consecutive_failures: or(layers, |layer| &layer.breaker.consecutive_failures, default.consecutive_failures),
        minimum_calls: or(layers, |layer| &layer.breaker.minimum_calls, default.minimum_calls),
        failure_rate_threshold: or(
            layers,
            |layer| &layer.breaker.failure_rate_threshold,
            default.failure_rate_threshold,
        ),
        sliding_window: window(context, layers, first_token),
        slow_call_duration: or(layers, |layer| &layer.breaker.slow_call_duration, default.slow_call_duration),
        slow_call_rate_threshold: or(
            layers,
            |layer| &layer.breaker.slow_call_rate_threshold,
            default.slow_call_rate_threshold,
        ),
        wait_duration_in_open_state: wait,
        max_wait_duration_in_open_state: max_wait,
        jitter: or(layers, |layer| &layer.breaker.jitter, default.jitter),
        half_open_calls: or(layers, |layer| &layer.breaker.half_open_calls, default.half_open_calls),
        max_wait_duration_in_half_open_state: or(
            layers,
            |layer| &layer.breaker.max_half_open,
            default.max_wait_duration_in_half_open_state,
        ),
        level_decay: or(layers, |layer| &layer.breaker.level_decay, default.level_decay),
        slow_start: or(layers, |layer| &layer.breaker.slow_start, default.slow_start),
        slow_start_min_weight: or(layers, |layer| &layer.breaker.slow_start_min_weight, default.slow_start_min_weight),
    }
}

fn window(context: &Context<'_>, layers: Layers<'_>, first_token: Duration) -> Duration {
    let least = first_token.saturating_add(WINDOW_MARGIN);
    let Some(written) = nearest(layers, |layer| &layer.breaker.sliding_window) else { return least };
    let Some(window) = written.value else { return least };
    if window < least {
        let message = format!("`sliding_window` is shorter than the first-token limit and 10s, here {}", show(least));
        context.error("BW604", &written.at, message, Some("write `auto`, or lower `timeouts.first_token`".to_owned()));
    }
    window
}

/// One end of an order: its key, what was written, its default.
type End<'l> = (&'static str, Option<&'l Located<Duration>>, Duration);

/// Two durations of which the first must not be longer: an error if both are written, else the default gives way.
fn in_order(context: &Context<'_>, code: &'static str, low: End<'_>, high: End<'_>) -> (Duration, Duration) {
    let (low_key, low_written, low_default) = low;
    let (high_key, high_written, high_default) = high;
    match (low_written, high_written) {
        (Some(low), Some(high)) => {
            if low.value > high.value {
                let message =
                    format!("`{low_key}` ({}) is longer than `{high_key}` ({})", show(low.value), show(high.value));
                let help = format!("`{high_key}` is written at `{}`", high.at.path);
                context.error(code, &low.at, message, Some(help));
            }
            (low.value, high.value)
        }
        (Some(low), None) => (low.value, high_default.max(low.value)),
        (None, Some(high)) => (low_default.min(high.value), high.value),
        (None, None) => (low_default.min(high_default), high_default),
    }
}

/// A duration as people write it.
pub(super) fn show(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    let seconds = duration.as_secs();
    match () {
        () if !milliseconds.is_multiple_of(1_000) => format!("{milliseconds}ms"),
        () if seconds != 0 && seconds.is_multiple_of(3_600) => format!("{}h", seconds / 3_600),
        () if seconds > 90 && seconds.is_multiple_of(60) => format!("{}m", seconds / 60),
        () => format!("{seconds}s"),
    }
}

/// The time limits of one backend on one route. `total` and `stream_total` are the route's.
pub(super) fn timeouts(context: &Context<'_>, layers: Layers<'_>) -> AttemptTimeouts {
    let default = AttemptTimeouts::default();
    let route = RoutePolicy::default();
    let total = nearest(layers, |layer| &layer.timeouts.total);
    let stream_total = nearest(layers, |layer| &layer.timeouts.stream_total);
    let first_token = nearest(layers, |layer| &layer.timeouts.first_token);
    let first_byte = nearest(layers, |layer| &layer.timeouts.first_byte);
    let connect_written = nearest(layers, |layer| &layer.timeouts.connect);
    let lowered = nearest(layers, |layer| &layer.timeouts.whole_call).map_or(Duration::MAX, |whole| whole.value);
    let below_total = |key, written: Option<&Located<Duration>>, default: Duration| {
        in_order(context, "BW602", (key, written, default), ("total", total, route.total)).0
    };
    // The defaults of reasoning calls only hold where nobody wrote a value.
    let reasoning = |written: Option<&Located<Duration>>, own: Duration, default: Duration| match (written, total) {
        (Some(_), _) => own,
        (None, Some(total)) => default.min(total.value),
        (None, None) => default,
    };
    let token = below_total("first_token", first_token, default.first_token.min(lowered));
    let byte = below_total("first_byte", first_byte, default.first_byte);
    let token_reasoning = reasoning(first_token, token, default.first_token_reasoning.min(lowered));
    let byte_reasoning = reasoning(first_byte, byte, default.first_byte_reasoning);
    let above_connect = |key, written: Option<&Located<Duration>>, own: Duration| {
        in_order(context, "BW602", ("connect", connect_written, default.connect), (key, written, own))
    };
    let (connect_of_token, token) = above_connect("first_token", first_token, token);
    let (connect_of_byte, byte) = above_connect("first_byte", first_byte, byte);
    let idle = nearest(layers, |layer| &layer.timeouts.idle);
    let (idle, _) =
        in_order(context, "BW602", ("idle", idle, default.idle), ("stream_total", stream_total, route.stream_total));
    AttemptTimeouts {
        connect: connect_of_token.min(connect_of_byte),
        first_token: token,
        first_token_reasoning: token_reasoning.max(token),
        first_byte: byte,
        first_byte_reasoning: byte_reasoning.max(byte),
        idle,
    }
}

/// What a route's policy depends on beside its layers.
pub(super) struct RouteShape {
    /// Its tiers.
    pub(super) tiers: usize,
    /// The longest attempt that any of its members may take.
    pub(super) longest_attempt: Duration,
    /// The longest gap in a stream.
    pub(super) longest_idle: Duration,
}

/// A route's policy.
pub(super) fn route(layers: Layers<'_>, shape: &RouteShape) -> RoutePolicy {
    let default = RoutePolicy::default();
    let tiers = u32::try_from(shape.tiers).unwrap_or(u32::MAX);
    let max_attempts = match (nearest(layers, |layer| &layer.max_attempts), nearest(layers, |layer| &layer.num_retries))
    {
        (Some(written), _) => written.value,
        (None, Some(retries)) => retries.value.saturating_add(1).max(tiers),
        (None, None) => default.max_attempts,
    };
    let is_hedged = or(layers, |layer| &layer.hedge_enabled, false);
    let hedge = Hedge {
        min_delay: or(layers, |layer| &layer.hedge_min_delay, Duration::from_secs(1)),
        max_extra: or(layers, |layer| &layer.hedge_max_extra, 500),
    };
    RoutePolicy {
        total: or(layers, |layer| &layer.timeouts.total, default.total.max(shape.longest_attempt)),
        stream_total: or(layers, |layer| &layer.timeouts.stream_total, default.stream_total.max(shape.longest_idle)),
        attempt_time_share: or(layers, |layer| &layer.timeouts.attempt_time_share, default.attempt_time_share),
        min_attempt: or(layers, |layer| &layer.timeouts.min_attempt, default.min_attempt),
        max_attempts,
        max_total_attempts: or(layers, |layer| &layer.max_total_attempts, default.max_total_attempts.max(max_attempts)),
        same_backend_retries: or(layers, |layer| &layer.same_backend_retries, default.same_backend_retries),
        retry_budget_ratio: or(layers, |layer| &layer.budget_ratio, default.retry_budget_ratio),
        retry_budget_min: or(layers, |layer| &layer.budget_min, default.retry_budget_min),
        hedge: is_hedged.then_some(hedge),
        holdback: or(layers, |layer| &layer.stream.holdback, default.holdback),
        responses_holdback: or(layers, |layer| &layer.stream.responses_holdback, default.responses_holdback),
        head_hold: or(layers, |layer| &layer.stream.head_hold, default.head_hold),
        keepalive: or(layers, |layer| &layer.stream.keepalive, default.keepalive),
        on_exhausted: or(layers, |layer| &layer.on_exhausted, default.on_exhausted),
        queue_max_wait: or(layers, |layer| &layer.queue_max_wait, default.queue_max_wait),
        queue_max_size: nearest(layers, |layer| &layer.queue_max_size)
            .map_or(default.queue_max_size, |max| max.value as usize),
        send_x_should_retry: or(layers, |layer| &layer.send_x_should_retry, default.send_x_should_retry),
        expose_backends: or(layers, |layer| &layer.expose_backends, default.expose_backends),
    }
}

/// Says where LiteLLM's keys repeat what stands nearer in our words.
pub(super) fn check_said_twice(context: &Context<'_>, near: &Resilience, far: &Resilience) {
    fn places<N, F>(near: &Option<Located<N>>, far: &Option<Located<F>>) -> Option<(At, At)> {
        near.as_ref().zip(far.as_ref()).map(|(near, far)| (near.at.clone(), far.at.clone()))
    }
    let pairs = [
        places(&near.timeouts.first_byte, &far.timeouts.first_byte),
        places(&near.timeouts.first_token, &far.timeouts.first_token),
        places(&near.timeouts.idle, &far.timeouts.idle),
        places(&near.breaker.wait, &far.breaker.wait),
        places(&near.breaker.consecutive_failures, &far.breaker.consecutive_failures),
        places(&near.breaker.enabled, &far.breaker.enabled),
        places(&near.max_in_flight, &far.max_in_flight),
        places(&near.max_attempts, &far.num_retries),
        places(&near.health_check.kind, &far.health_check.kind),
    ];
    for (near, far) in pairs.into_iter().flatten() {
        let message = format!("this is also said at `{}`, which wins", near.path);
        context.warning("BW207", &far, message, Some("keep one of them".to_owned()));
    }
}

/// Choice within a route's tiers.
pub(super) fn strategy(layers: Layers<'_>) -> Strategy {
    or(layers, |layer| &layer.load_balance_strategy, Strategy::WeightedRoundRobin)
}

/// What fails over on a route.
pub(super) fn failover_on(layers: Layers<'_>) -> ErrorSet {
    or(layers, |layer| &layer.fallback_on_error_types, ErrorSet::default_failover())
}
