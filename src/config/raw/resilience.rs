//! The blocks of `resilience:` as written, wherever they stand: at the top, in a route or in a backend.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::context::Located;
use super::super::item::{Dialect, Item};
use super::super::section::Section;
use super::super::{ClassifyRule, HealthCheckKind, OnExhausted, Strategy};
use super::words;
use crate::error::ErrorSet;

/// A value that may be absent.
pub(super) type Maybe<T> = Option<Located<T>>;
/// A value that may be absent, or written as off.
type MaybeOff<T> = Option<Located<Option<T>>>;

/// All blocks; absent ones are empty.
#[derive(Clone, Default)]
pub(in super::super) struct Resilience {
    pub(in super::super) load_balance_strategy: Maybe<Strategy>,
    pub(in super::super) fallback_on_error_types: Maybe<ErrorSet>,
    pub(in super::super) max_in_flight: Maybe<NonZeroU32>,
    pub(in super::super) breaker: Breaker,
    pub(in super::super) endpoint_enabled: Maybe<bool>,
    pub(in super::super) endpoint_failures: Maybe<u32>,
    pub(in super::super) quota_learned: Maybe<bool>,
    pub(in super::super) quota_jitter: Maybe<u32>,
    pub(in super::super) quota_max_retry_after: Maybe<Duration>,
    pub(in super::super) quota_ptu: MaybeOff<u32>,
    pub(in super::super) classify: Option<Vec<ClassifyRule>>,
    pub(in super::super) timeouts: Timeouts,
    pub(in super::super) max_attempts: Maybe<u32>,
    pub(in super::super) max_total_attempts: Maybe<u32>,
    pub(in super::super) same_backend_retries: Maybe<u32>,
    /// LiteLLM's `num_retries`, which means at least one attempt per tier.
    pub(in super::super) num_retries: Maybe<u32>,
    pub(in super::super) budget_ratio: Maybe<u32>,
    pub(in super::super) budget_min: Maybe<u32>,
    pub(in super::super) hedge_enabled: Maybe<bool>,
    pub(in super::super) hedge_min_delay: Maybe<Duration>,
    pub(in super::super) hedge_max_extra: Maybe<u32>,
    pub(in super::super) stream: Stream,
    pub(in super::super) health_check: HealthCheck,
    pub(in super::super) on_exhausted: Maybe<Vec<OnExhausted>>,
    pub(in super::super) queue_max_wait: Maybe<Duration>,
    pub(in super::super) queue_max_size: Maybe<u32>,
    pub(in super::super) send_x_should_retry: Maybe<bool>,
    pub(in super::super) expose_backends: Maybe<bool>,
}

/// `circuit_breaker`; a preset has already filled in its two keys.
#[derive(Clone, Default)]
pub(in super::super) struct Breaker {
    pub(in super::super) enabled: Maybe<bool>,
    pub(in super::super) consecutive_failures: MaybeOff<u32>,
    pub(in super::super) minimum_calls: Maybe<u32>,
    pub(in super::super) failure_rate_threshold: MaybeOff<u32>,
    /// None within is `auto`.
    pub(in super::super) sliding_window: MaybeOff<Duration>,
    pub(in super::super) slow_call_duration: MaybeOff<Duration>,
    pub(in super::super) slow_call_rate_threshold: Maybe<u32>,
    pub(in super::super) wait: Maybe<Duration>,
    pub(in super::super) max_wait: Maybe<Duration>,
    pub(in super::super) jitter: Maybe<u32>,
    pub(in super::super) half_open_calls: Maybe<u32>,
    pub(in super::super) max_half_open: MaybeOff<Duration>,
    pub(in super::super) level_decay: Maybe<Duration>,
    pub(in super::super) slow_start: MaybeOff<Duration>,
    pub(in super::super) slow_start_min_weight: Maybe<u32>,
}

/// `timeouts`.
#[derive(Clone, Default)]
pub(in super::super) struct Timeouts {
    pub(in super::super) connect: Maybe<Duration>,
    pub(in super::super) first_token: Maybe<Duration>,
    pub(in super::super) first_byte: Maybe<Duration>,
    pub(in super::super) idle: Maybe<Duration>,
    pub(in super::super) total: Maybe<Duration>,
    pub(in super::super) stream_total: Maybe<Duration>,
    pub(in super::super) attempt_time_share: Maybe<u32>,
    pub(in super::super) min_attempt: Maybe<Duration>,
    /// LiteLLM's `timeout`, which also lowers a first token that nobody wrote.
    pub(in super::super) whole_call: Maybe<Duration>,
}

/// `stream`.
#[derive(Clone, Default)]
pub(in super::super) struct Stream {
    pub(in super::super) holdback: Maybe<usize>,
    pub(in super::super) responses_holdback: Maybe<usize>,
    pub(in super::super) head_hold: MaybeOff<Duration>,
    pub(in super::super) keepalive: MaybeOff<Duration>,
}

/// `health_check`.
#[derive(Clone, Default)]
pub(in super::super) struct HealthCheck {
    pub(in super::super) kind: Maybe<HealthCheckKind>,
    pub(in super::super) interval: Maybe<Duration>,
    pub(in super::super) timeout: Maybe<Duration>,
    pub(in super::super) unhealthy_threshold: Maybe<u32>,
    pub(in super::super) healthy_threshold: Maybe<u32>,
    pub(in super::super) expected_status: Maybe<RangeInclusive<u16>>,
}

/// Reads the top-level section: every block.
pub(in super::super) fn read_everywhere(section: Section<'_>) -> Resilience {
    let mut blocks = Resilience {
        endpoint_enabled: None,
        send_x_should_retry: section.boolean("send_x_should_retry"),
        expose_backends: section.boolean("expose_backends"),
        ..Resilience::default()
    };
    if let Some(endpoint) = section.section("endpoint_breaker") {
        blocks.endpoint_enabled = endpoint.boolean("enabled");
        blocks.endpoint_failures = endpoint.count_number("consecutive_failures");
        endpoint.finish();
    }
    read_of_backend(&section, &mut blocks);
    read_of_route(&section, &mut blocks);
    if let Some(timeouts) = section.section("timeouts") {
        blocks.timeouts = of_both(&timeouts);
        of_route(&timeouts, &mut blocks.timeouts);
        timeouts.finish();
    }
    section.finish();
    blocks
}

/// Reads a route's section: the (r) blocks.
pub(in super::super) fn read_route(section: Section<'_>) -> Resilience {
    let mut blocks = Resilience::default();
    read_of_route(&section, &mut blocks);
    if let Some(timeouts) = section.section("timeouts") {
        blocks.timeouts = of_both(&timeouts);
        of_route(&timeouts, &mut blocks.timeouts);
        timeouts.finish();
    }
    section.finish();
    blocks
}

/// Reads a backend's section: the (b) blocks.
pub(in super::super) fn read_backend(section: Section<'_>) -> Resilience {
    let mut blocks = Resilience::default();
    read_of_backend(&section, &mut blocks);
    if let Some(timeouts) = section.section("timeouts") {
        blocks.timeouts = of_both(&timeouts);
        for key in ["total", "stream_total"] {
            if let Some(at) = timeouts.key(key) {
                let help = "put it under `router[].resilience` or the top-level `resilience`".to_owned();
                let message = format!("`{key}` covers a whole request and cannot belong to one backend");
                section.item.context.error("BW602", &at, message, Some(help));
            }
        }
        timeouts.finish();
    }
    section.finish();
    blocks
}

fn read_of_backend(section: &Section<'_>, blocks: &mut Resilience) {
    blocks.max_in_flight = section.count("max_in_flight");
    if let Some(breaker) = section.section("circuit_breaker") {
        blocks.breaker = read_breaker(&breaker);
        breaker.finish();
    }
    if let Some(quota) = section.section("quota") {
        blocks.quota_learned =
            quota.word("learned", &[("defer", true), ("off", false), ("false", false), ("no", false)]);
        blocks.quota_jitter = quota.jitter("jitter");
        blocks.quota_max_retry_after = quota.duration("max_retry_after");
        blocks.quota_ptu = quota.or_off("ptu_target_utilization", Section::ratio);
        quota.finish();
    }
    if let Some(rules) = section.item("classify") {
        blocks.classify = Some(rules.items().iter().filter_map(classify_rule).collect());
    }
    if let Some(check) = section.section("health_check") {
        blocks.health_check = read_health_check(&check);
        check.finish();
    }
}

fn read_of_route(section: &Section<'_>, blocks: &mut Resilience) {
    blocks.load_balance_strategy = section.item("load_balance_strategy").and_then(|item| words::strategy(&item));
    blocks.fallback_on_error_types = section.item("fallback_on_error_types").and_then(|item| words::error_types(&item));
    if let Some(attempts) = section.section("attempts") {
        blocks.max_attempts = attempts.count_number("max_attempts");
        blocks.max_total_attempts = attempts.count_number("max_total_attempts");
        blocks.same_backend_retries = attempts.integer("same_backend_retries");
        attempts.finish();
    }
    if let Some(budget) = section.section("retry_budget") {
        blocks.budget_ratio = budget.ratio("budget_ratio");
        blocks.budget_min = budget.integer("min_retries");
        budget.finish();
    }
    if let Some(hedge) = section.section("hedge") {
        blocks.hedge_enabled = hedge.boolean("enabled");
        blocks.hedge_min_delay = hedge.duration("min_delay");
        blocks.hedge_max_extra = hedge.ratio("max_extra");
        hedge.finish();
    }
    if let Some(stream) = section.section("stream") {
        blocks.stream = read_stream(&stream);
        stream.finish();
    }
    blocks.on_exhausted = section.item("on_exhausted").and_then(|item| on_exhausted(&item));
    if let Some(queue) = section.section("queue") {
        blocks.queue_max_wait = queue.duration("max_wait");
        blocks.queue_max_size = queue.count_number("max_size");
        queue.finish();
    }
}

fn of_both(timeouts: &Section<'_>) -> Timeouts {
    Timeouts {
        connect: timeouts.time_limit("connect"),
        first_token: timeouts.time_limit("first_token"),
        first_byte: timeouts.time_limit("first_byte"),
        idle: timeouts.time_limit("idle"),
        ..Timeouts::default()
    }
}

fn of_route(timeouts: &Section<'_>, read: &mut Timeouts) {
    read.total = timeouts.time_limit("total");
    read.stream_total = timeouts.duration("stream_total");
    read.attempt_time_share = timeouts.ratio("attempt_time_share");
    read.min_attempt = timeouts.duration("min_attempt");
}

/// Normal error rate up to 10 % (`default`), hardly any (`strict`), more (`tolerant`).
#[derive(Clone, Copy)]
struct Preset {
    consecutive_failures: u32,
    minimum_calls: u32,
}

const PRESETS: [(&str, Preset); 3] = [
    ("strict", Preset { consecutive_failures: 3, minimum_calls: 10 }),
    ("default", Preset { consecutive_failures: 5, minimum_calls: 10 }),
    ("tolerant", Preset { consecutive_failures: 7, minimum_calls: 50 }),
];

fn read_breaker(section: &Section<'_>) -> Breaker {
    let preset = section.word("preset", &PRESETS);
    let preset_failures = preset.clone().map(|preset| preset.map(|preset| Some(preset.consecutive_failures)));
    let preset_calls = preset.map(|preset| preset.map(|preset| preset.minimum_calls));
    Breaker {
        enabled: section.boolean("enabled"),
        consecutive_failures: section.or_off("consecutive_failures", Section::count_number).or(preset_failures),
        minimum_calls: section.count_number("minimum_calls").or(preset_calls),
        failure_rate_threshold: section.or_off("failure_rate_threshold", Section::ratio),
        sliding_window: window(section),
        slow_call_duration: section.or_off("slow_call_duration", Section::duration),
        slow_call_rate_threshold: section.ratio("slow_call_rate_threshold"),
        wait: section.duration("wait_duration_in_open_state"),
        max_wait: section.duration("max_wait_duration_in_open_state"),
        jitter: section.jitter("jitter"),
        half_open_calls: section.count_number("half_open_calls"),
        max_half_open: section.or_off("max_wait_duration_in_half_open_state", Section::duration),
        level_decay: section.duration("level_decay"),
        slow_start: section.or_off("slow_start", Section::duration),
        slow_start_min_weight: section.ratio("slow_start_min_weight"),
    }
}

fn window(section: &Section<'_>) -> MaybeOff<Duration> {
    let item = section.item("sliding_window")?;
    let written = item.written("a duration or auto")?;
    match written.value.text.eq_ignore_ascii_case("auto") {
        true => Some(written.map(|_| None)),
        false => Some(section.duration("sliding_window")?.map(Some)),
    }
}

fn read_stream(section: &Section<'_>) -> Stream {
    if let Some(word) = section.word("mid_stream", &[("error", true), ("continue", false)])
        && !word.value
    {
        section.item.context.error(
            "BW205",
            &word.at,
            "`continue` is not available yet",
            Some("write `error`".to_owned()),
        );
    }
    Stream {
        holdback: section.read("holdback", super::super::scalar::size),
        responses_holdback: section.read("responses_holdback", super::super::scalar::size),
        head_hold: section.or_off("head_hold", Section::duration),
        keepalive: section.or_off("keepalive", Section::duration),
    }
}

fn read_health_check(section: &Section<'_>) -> HealthCheck {
    const KINDS: [(&str, HealthCheckKind); 6] = [
        ("off", HealthCheckKind::Off),
        ("connect", HealthCheckKind::Connect),
        ("models", HealthCheckKind::Models),
        ("completion", HealthCheckKind::Completion),
        ("false", HealthCheckKind::Off),
        ("no", HealthCheckKind::Off),
    ];
    HealthCheck {
        kind: section.word("type", &KINDS),
        interval: section.duration("interval"),
        timeout: section.duration("timeout"),
        unhealthy_threshold: section.count_number("unhealthy_threshold"),
        healthy_threshold: section.count_number("healthy_threshold"),
        expected_status: section.read("expected_status", statuses),
    }
}

/// `2xx`, `200` or `200-204`.
fn statuses(text: &str) -> super::super::scalar::Read<RangeInclusive<u16>> {
    let refused = super::super::scalar::Misfit { expected: "statuses such as 2xx, 200 or 200-204", help: None };
    let range = match text.trim().to_ascii_lowercase().strip_suffix("xx") {
        Some(class) => {
            class.parse::<u16>().ok().filter(|class| (1..=5).contains(class)).map(|c| c * 100..=c * 100 + 99)
        }
        None => {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            first.trim().parse().ok().zip(last.trim().parse().ok()).map(|(first, last)| first..=last)
        }
    };
    range.filter(|range| 100 <= *range.start() && range.start() <= range.end() && *range.end() <= 599).ok_or(refused)
}

fn classify_rule(item: &Item<'_>) -> Option<ClassifyRule> {
    let section = item.section(Dialect::Ours)?;
    let status = section.integer("status").and_then(|status| u16::try_from(status.value).ok());
    let rule = section.item("class").and_then(|item| words::error_type(&item)).map(|class| ClassifyRule {
        status,
        code: section.string("code").map(|code| code.value),
        kind: section.string("type").map(|kind| kind.value),
        message_contains: section.string("message_contains").map(|part| part.value),
        class,
    });
    if !section.holds("class") {
        section.missing("class");
    } else if let Some(ClassifyRule { status: None, code: None, kind: None, message_contains: None, .. }) = rule {
        let help = "give at least one of `status`, `code`, `type`, `message_contains`".to_owned();
        item.context.error("BW205", section.at(), "the rule matches every answer", Some(help));
    }
    section.finish();
    rule
}

fn on_exhausted(item: &Item<'_>) -> Maybe<Vec<OnExhausted>> {
    const WORDS: [(&str, OnExhausted); 4] = [
        ("fallback_route", OnExhausted::FallbackRoute),
        ("queue", OnExhausted::Queue),
        ("least_bad", OnExhausted::LeastBad),
        ("reject", OnExhausted::Reject),
    ];
    let words: Vec<OnExhausted> =
        item.one_or_more().iter().filter_map(|item| item.word(&WORDS)).map(|word| word.value).collect();
    (!words.is_empty()).then(|| Located { value: words, at: item.at.clone() })
}
