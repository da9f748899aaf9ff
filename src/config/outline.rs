//! What a configuration says, key by key and as the YAML would write it: what differences are made of.
//!
//! Each structure is taken apart without `..`, so that a new field does not compile until somebody has said how it is shown.

use std::borrow::Cow;
use std::fmt::Display;
use std::time::Duration;

use super::{
    Admin, ApiKey, AttemptTimeouts, Auth, Backend, BackendPolicy, CircuitBreaker, ClassifyRule, ClientKey, Credential,
    Defaults, EndpointBreaker, EntraIdentity, HealthCheck, Hedge, LogFormat, Logging, OnExhausted, Prices, Provider,
    Quota, Reasoning, Reload, ResponseHeaders, Rollback, Route, RoutePolicy, Server, Telemetry, WatchMode, policy, url,
};
use crate::error::ErrorSet;

/// Whole of a ratio kept in 1/10 000.
const WHOLE: u32 = 10_000;

/// What stands for a secret that no reference names.
const REDACTED: &str = "[redacted]";

/// One key and its value. A secret is compared and never shown.
#[derive(Clone, PartialEq)]
pub(super) struct Setting {
    /// Its path below what it belongs to.
    pub(super) key: Cow<'static, str>,
    /// Its value as it may be shown.
    pub(super) shown: String,
    secret: Option<ApiKey>,
}

impl Setting {
    /// Whether it is a secret that changes behind the same words.
    pub(super) fn is_secret(&self) -> bool {
        self.secret.is_some()
    }
}

/// Settings in order.
#[derive(Default)]
pub(super) struct Outline(pub(super) Vec<Setting>);

impl Outline {
    fn put(&mut self, key: impl Into<Cow<'static, str>>, value: impl Display) {
        self.0.push(Setting { key: key.into(), shown: value.to_string(), secret: None });
    }

    fn secret(&mut self, key: impl Into<Cow<'static, str>>, shown: String, secret: &ApiKey) {
        self.0.push(Setting { key: key.into(), shown, secret: Some(secret.clone()) });
    }
}

/// A value or `off`.
fn or_off<T: Display>(value: Option<T>) -> String {
    value.map_or_else(|| "off".to_owned(), |value| value.to_string())
}

fn time(span: Duration) -> String {
    policy::show(span)
}

fn times(span: Option<Duration>) -> String {
    or_off(span.map(time))
}

/// A ratio kept in 1/10 000, as a decimal.
fn ratio(share: u32) -> f64 {
    f64::from(share) / f64::from(WHOLE)
}

fn size(bytes: usize) -> String {
    match bytes {
        0 => "0".to_owned(),
        bytes if bytes.is_multiple_of(1 << 20) => format!("{}MiB", bytes >> 20),
        bytes if bytes.is_multiple_of(1 << 10) => format!("{}KiB", bytes >> 10),
        bytes => bytes.to_string(),
    }
}

fn statuses(first: u16, last: u16) -> String {
    match (first % 100, last.saturating_sub(first)) {
        (0, 99) => format!("{}xx", first / 100),
        (_, 0) => first.to_string(),
        _ => format!("{first}-{last}"),
    }
}

fn list<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| word(item.as_ref())).collect();
    format!("[{}]", items.join(", "))
}

/// A word as YAML takes it, within `[…]` as well: in quotes where something in it would mean something.
pub(super) fn word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
    let is_other = matches!(
        text.to_ascii_lowercase().as_str(),
        "" | "~" | "null" | "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n"
    );
    match text.chars().all(is_plain) && text.starts_with(|c: char| c.is_ascii_alphanumeric()) && !is_other {
        true => text.to_owned(),
        // JSON's strings are YAML's.
        false => serde_json::Value::from(text).to_string(),
    }
}

fn errors(set: &ErrorSet) -> String {
    list(set.iter().map(|kind| kind.name()))
}

/// How a credential is named where it may be read: by its placeholder, never by its value.
pub(super) fn reference(reference: &str) -> String {
    match reference.split_once(':') {
        Some(("env", name)) => format!("${{{name}}}"),
        Some(("file", path)) => format!("${{file:{path}}}"),
        Some(_) | None => REDACTED.to_owned(),
    }
}

/// Who a backend is, in a few words.
pub(super) fn about(backend: &Backend) -> String {
    format!("{} {} at {}", backend.provider.name(), backend.upstream_model, backend.base_url.authority())
}

/// Everything about one backend.
pub(super) fn backend(backend: &Backend) -> Outline {
    let Backend {
        id: _,
        model_name,
        provider,
        base_url,
        upstream_model,
        credential,
        organization,
        extra_headers,
        extra_query,
        request_defaults,
        drained,
        inject_usage,
        reasoning,
        max_input_tokens,
        prices,
        ca_file,
        http2,
        policy,
        identity: _,
        credential_reference,
    } = backend;
    let mut out = Outline::default();
    out.put("model_name", model_name);
    out.put("provider", provider.name());
    match provider {
        Provider::AzureDated { api_version } => out.put("api_version", api_version),
        Provider::AzureV1 => out.put("api_version", "v1"),
        Provider::OpenAi | Provider::Compatible(_) => {}
    }
    out.put("api_base", url::show(base_url));
    out.put("model", upstream_model);
    match credential {
        Some(Credential::Bearer(key)) if provider.name() == "azure" => {
            out.secret("azure_ad_token", reference(credential_reference), key);
        }
        Some(Credential::Bearer(key) | Credential::ApiKeyHeader(key)) => {
            out.secret("api_key", reference(credential_reference), key);
        }
        Some(Credential::Entra(identity)) => {
            let EntraIdentity { tenant, client, secret, secret_reference, scope, authority } = &**identity;
            out.put("tenant_id", tenant);
            out.put("client_id", client);
            out.secret("client_secret", reference(secret_reference), secret);
            out.put("azure_scope", scope);
            out.put("azure_authority_host", url::show(authority));
        }
        None => out.put("api_key", "none"),
    }
    out.put("organization", organization.as_deref().unwrap_or("none"));
    for (name, value) in extra_headers {
        out.secret(format!("extra_headers.{name}"), REDACTED.to_owned(), value);
    }
    for (name, value) in extra_query {
        out.put(format!("extra_query.{name}"), value);
    }
    for (name, value) in request_defaults {
        out.put(name.clone(), value);
    }
    out.put("model_info.blocked", drained);
    out.put("inject_usage", inject_usage);
    let reasoning = match reasoning {
        Reasoning::ByRequest => "auto",
        Reasoning::Always => "true",
        Reasoning::Never => "false",
    };
    out.put("reasoning", reasoning);
    out.put("model_info.max_input_tokens", or_off(*max_input_tokens));
    for (key, price) in prices.iter().flat_map(Prices::pairs) {
        out.put(key, price);
    }
    out.put("ca_file", ca_file.as_deref().unwrap_or("none"));
    out.put("http2", http2.map_or("as defaults.http2", |http2| if http2 { "true" } else { "false" }));
    backend_policy(&mut out, policy);
    out
}

pub(super) fn backend_policy(out: &mut Outline, policy: &BackendPolicy) {
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

/// Everything about one route but who its members are and what they get.
pub(super) fn route(route: &Route) -> Outline {
    let Route {
        name: _,
        origin: _,
        hidden,
        tiers: _,
        strategy,
        failover_on,
        fallbacks,
        context_window_fallbacks,
        content_policy_fallbacks,
        policy,
    } = route;
    let mut out = Outline::default();
    out.put("hidden", hidden);
    out.put("load_balance_strategy", strategy.name());
    out.put("fallback_on_error_types", errors(failover_on));
    out.put("fallbacks", list(fallbacks.iter().map(|name| name.as_str())));
    out.put("context_window_fallbacks", list(context_window_fallbacks.iter().map(|name| name.as_str())));
    out.put("content_policy_fallbacks", list(content_policy_fallbacks.iter().map(|name| name.as_str())));
    route_policy(&mut out, policy);
    out
}

pub(super) fn route_policy(out: &mut Outline, policy: &RoutePolicy) {
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
pub(super) fn timeouts(timeouts: &AttemptTimeouts) -> Outline {
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

/// Everything that belongs to no backend and no route, client keys aside. Those that wait for a restart are told by
/// [`needs_restart`].
pub(super) fn process(config: &super::Config) -> Outline {
    let super::Config {
        server,
        admin,
        auth,
        defaults,
        reload,
        logging,
        telemetry,
        backends: _,
        routes: _,
        wildcards: _,
        hash: _,
    } = config;
    let mut out = Outline::default();
    of_server(&mut out, server);
    let Admin { enabled, host, port, explicit: _, token, token_reference } = admin;
    out.put("admin.enabled", enabled);
    out.put("admin.host", host);
    out.put("admin.port", port);
    match token {
        Some(token) => out.secret("admin.token", reference(token_reference), token),
        None => out.put("admin.token", "none"),
    }
    let Auth { header_names, keys: _ } = auth;
    out.put("auth.header_names", list(header_names));
    let Defaults { default_route, list_endpoints, rewrite_response_model, forward_client_headers, ca_file, http2 } =
        defaults;
    out.put("defaults.default_route", default_route.as_ref().map_or("none", |name| name.as_str()));
    out.put("defaults.list_endpoints", list_endpoints);
    out.put("defaults.rewrite_response_model", rewrite_response_model);
    out.put("defaults.forward_client_headers", list(forward_client_headers));
    out.put("defaults.ca_file", ca_file.as_deref().unwrap_or("none"));
    out.put("defaults.http2", http2);
    of_reload(&mut out, reload);
    let Logging { level, format, access_log, access_log_sample, client_address } = logging;
    out.put("logging.level", level);
    let format = match format {
        LogFormat::Auto => "auto",
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    };
    out.put("logging.format", format);
    out.put("logging.access_log", access_log);
    out.put("logging.access_log_sample", access_log_sample);
    out.put("logging.client_address", client_address);
    let Telemetry { otlp_endpoint, service_name, sample_ratio } = telemetry;
    out.put("telemetry.otlp_endpoint", otlp_endpoint.as_ref().map_or("none".to_owned(), url::show));
    out.put("telemetry.service_name", service_name);
    out.put("telemetry.sample_ratio", sample_ratio);
    out
}

fn of_server(out: &mut Outline, server: &Server) {
    let Server {
        host,
        port,
        workers,
        max_request_bytes,
        max_in_flight,
        keep_alive,
        shutdown_delay,
        shutdown_timeout,
        metrics_enabled,
        metrics_require_auth,
        metrics_litellm_names,
        response_headers,
        tls,
        cors_origins,
    } = server;
    out.put("server.host", host);
    out.put("server.port", port);
    out.put("server.workers", workers.map_or_else(|| "one per core".to_owned(), |workers| workers.to_string()));
    out.put("server.max_request_bytes", size(*max_request_bytes));
    out.put("server.max_in_flight", or_off(*max_in_flight));
    out.put("server.keep_alive", time(*keep_alive));
    out.put("server.shutdown.delay", time(*shutdown_delay));
    out.put("server.shutdown.timeout", time(*shutdown_timeout));
    out.put("server.metrics.enabled", metrics_enabled);
    out.put("server.metrics.require_auth", metrics_require_auth);
    out.put("server.metrics.litellm_names", metrics_litellm_names);
    let shape = match response_headers {
        ResponseHeaders::Full => "full",
        ResponseHeaders::Minimal => "minimal",
        ResponseHeaders::None => "none",
    };
    out.put("server.response_headers", shape);
    out.put("server.tls", if tls.is_some() { "on" } else { "off" });
    if let Some((cert, key)) = tls {
        out.put("server.tls.cert_file", cert);
        out.put("server.tls.key_file", key);
    }
    out.put("server.cors_origins", list(cors_origins));
}

fn of_reload(out: &mut Outline, reload: &Reload) {
    let Reload { enabled, mode, debounce, poll_interval, rescan_interval, rollback } = reload;
    let Rollback { enabled: returns, watch, min_success_ratio } = rollback;
    out.put("reload.enabled", enabled);
    let mode = match mode {
        WatchMode::Auto => "auto",
        WatchMode::Notify => "notify",
        WatchMode::Poll => "poll",
    };
    out.put("reload.mode", mode);
    out.put("reload.debounce", time(*debounce));
    out.put("reload.poll_interval", time(*poll_interval));
    out.put("reload.rescan_interval", time(*rescan_interval));
    out.put("reload.rollback.enabled", returns);
    out.put("reload.rollback.watch", time(*watch));
    out.put("reload.rollback.min_success_ratio", ratio(*min_success_ratio));
}

/// One client key, its name aside.
pub(super) fn client_key(key: &ClientKey) -> Outline {
    let ClientKey { key_reference, name: _, key, routes, requests_per_minute, max_in_flight } = key;
    let mut out = Outline::default();
    out.secret("key", reference(key_reference), key);
    out.put("routes", if routes.is_empty() { "[*]".to_owned() } else { list(routes) });
    out.put("rpm", or_off(*requests_per_minute));
    out.put("max_in_flight", or_off(*max_in_flight));
    out
}

/// Whether a key of [`process`] waits for a restart (spec/config.md 7).
pub(super) fn needs_restart(key: &str) -> bool {
    const KEYS: [&str; 13] = [
        "server.host",
        "server.port",
        "server.workers",
        "server.keep_alive",
        "server.tls",
        "server.cors_origins",
        "admin.enabled",
        "admin.host",
        "admin.port",
        "logging.format",
        "telemetry.otlp_endpoint",
        "telemetry.service_name",
        "telemetry.sample_ratio",
    ];
    KEYS.contains(&key)
}
