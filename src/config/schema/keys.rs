//! Every key that is read, as data: what it may hold, and what an editor shows beside it. A test holds it against what the loader
//! really asks for. Defaults are those of spec/config.md 9.

use super::Kind::{
    self, Any, Block, Boolean, Count, CountOrOff, Duration, DurationOrOff, Free, Integer, List, Number, Open, Ratio,
    RatioOrOff, Size, Suggested, Text, Texts, Word, Words,
};

/// A key, what it may hold, and what it is for.
pub(super) type Key = (&'static str, Kind, &'static str);

const STRATEGIES: &[&str] =
    &["weighted_round_robin", "round_robin", "random", "random_weighted", "least_busy", "lowest_latency"];

const LITELLM_STRATEGIES: &[&str] = &[
    "simple-shuffle",
    "least-busy",
    "latency-based-routing",
    "usage-based-routing",
    "usage-based-routing-v2",
    "cost-based-routing",
];

const ERRORS: &[&str] = &[
    "rate_limit_error",
    "insufficient_quota_error",
    "service_unavailable_error",
    "api_connection_error",
    "timeout_error",
    "authentication_error",
    "permission_denied_error",
    "not_found_error",
    "context_window_exceeded_error",
    "content_policy_violation_error",
    "bad_request_error",
];

/// The whole file.
pub(super) const TOP: &[Key] = &[
    ("include", Texts, "Files merged into this one, relative to it: lists are extended, mappings merged."),
    ("model_list", List(&Open(ENTRY)), "The backends: each entry is one deployment of one model."),
    ("router", List(&Block(ROUTE)), "The routes: what clients send as `model`, and which backends stand behind it."),
    ("server", Block(SERVER), "The listener for clients."),
    ("admin", Block(ADMIN), "The listener for operators: /admin/*."),
    ("auth", Block(AUTH), "Who may ask."),
    ("defaults", Block(DEFAULTS), "What holds for all routes and backends beside `resilience`."),
    (
        "resilience",
        Block(RESILIENCE),
        "Breakers, limits, timeouts, retries: for all, unless a route or a backend says otherwise.",
    ),
    ("reload", Block(RELOAD), "How changes of this file are taken over."),
    ("logging", Block(LOGGING), "Events on standard error, one line a request on standard output."),
    ("telemetry", Block(TELEMETRY), "Spans over OTLP/HTTP. Needs a restart."),
    ("router_settings", Open(ROUTER_SETTINGS), "LiteLLM's; our own sections are nearer."),
    ("litellm_settings", Open(LITELLM_SETTINGS), "LiteLLM's; `router_settings` is nearer."),
    ("general_settings", Open(GENERAL_SETTINGS), "LiteLLM's."),
    ("environment_variables", Free, "Looked up before the process environment, never exported."),
    ("credential_list", List(&Open(CREDENTIAL)), "Credentials that entries name by `litellm_credential_name`."),
];

const CREDENTIAL: &[Key] = &[
    ("credential_name", Text, "What entries call it."),
    ("credential_values", Open(CREDENTIAL_VALUES), "What it stands for."),
    ("credential_info", Any, "Free notes."),
];

const CREDENTIAL_VALUES: &[Key] = &[
    ("api_key", Text, "The key."),
    ("api_base", Text, "Where it is valid."),
    ("api_version", Text, "Azure: the API version."),
];

const ENTRY: &[Key] = &[
    (
        "model_name",
        Text,
        "Its name, and an implicit route. Several entries of one name are one route; `*` makes a wildcard.",
    ),
    ("litellm_params", Open(PARAMS), "Where it is and how it is spoken to."),
    ("model_info", Open(INFO), "What is known about it."),
    ("resilience", Block(BACKEND_RESILIENCE), "What holds for this backend alone."),
    ("rpm", Count, "Requests a minute, enforced. Default: no limit."),
    ("tpm", Count, "Tokens a minute, enforced. Default: no limit."),
    ("max_in_flight", Count, "Calls at a time. Default 1024."),
    ("weight", Number, "Share among the entries of the same name. Default 1; 0 drains."),
    (
        "inject_usage",
        Suggested(&["auto"]),
        "Whether `stream_options.include_usage` is asked for where the client did not: auto or a boolean.",
    ),
    ("reasoning", Suggested(&["auto"]), "Whether calls take as long as those of reasoning models: auto or a boolean."),
    ("ca_file", Text, "Extra root certificates for this host (PEM)."),
    ("http2", Boolean, "Whether HTTP/2 is offered to it over TLS. Default: `defaults.http2`."),
];

const PARAMS: &[Key] = &[
    (
        "model",
        Text,
        "The upstream's model or deployment, with an optional provider prefix such as `azure/` or `openai/`.",
    ),
    ("api_key", Text, "The key; default: the provider's environment variable."),
    ("azure_ad_token", Text, "An Entra ID token, sent as bearer."),
    (
        "tenant_id",
        Text,
        "The directory of an application whose tokens the gateway gets and renews; default AZURE_TENANT_ID.",
    ),
    ("client_id", Text, "That application's id; default AZURE_CLIENT_ID."),
    ("client_secret", Text, "That application's secret; default AZURE_CLIENT_SECRET."),
    ("azure_scope", Text, "What its tokens are for. Default https://cognitiveservices.azure.com/.default."),
    ("azure_authority_host", Text, "Who gives them. Default https://login.microsoftonline.com."),
    ("api_base", Text, "Where it is; default: the provider's own address."),
    ("base_url", Text, "Another word for `api_base`."),
    ("api_type", Suggested(&["openai", "azure", "azure_ad"]), "Which provider."),
    ("azure_deployment", Text, "The deployment; default: `model`."),
    ("api_version", Text, "Azure: dated, or `v1`. Default 2025-02-01-preview."),
    ("custom_llm_provider", Text, "Which provider, over any prefix."),
    ("organization", Text, "Sent to OpenAI as OpenAI-Organization."),
    ("extra_headers", Free, "Headers for the upstream; values are secrets."),
    ("extra_query", Free, "Query parameters for the upstream."),
    ("litellm_credential_name", Text, "An entry of `credential_list`; own keys win."),
    ("weight", Number, "Share among the entries of the same name."),
    ("order", Integer, "Priority among the entries of the same name; lower first, without: last."),
    ("rpm", Count, "Requests a minute, enforced here."),
    ("tpm", Count, "Tokens a minute, enforced here."),
    ("max_parallel_requests", Count, "LiteLLM's word for `max_in_flight`."),
    ("timeout", Duration, "A whole answer: `timeouts.first_byte`; lowers a default `first_token`."),
    ("stream_timeout", Duration, "`timeouts.first_token` and `timeouts.idle`."),
    ("cooldown_time", Duration, "`circuit_breaker.wait_duration_in_open_state`."),
    ("extra_body", Free, "Body fields for callers who sent none of that name."),
    ("input_cost_per_token", Number, "US dollars for a prompt token."),
    ("output_cost_per_token", Number, "US dollars for a completion token."),
    ("cache_read_input_token_cost", Number, "US dollars for a prompt token from a cache. Default: as any other."),
    (
        "cache_creation_input_token_cost",
        Number,
        "US dollars for a prompt token written to a cache. Default: as any other.",
    ),
];

const INFO: &[Key] = &[
    ("id", Text, "The backend's name in headers, logs and metrics; default: `model_name`, with #2 and so on."),
    ("base_model", Text, "The model behind a deployment's name."),
    ("mode", Text, "The kind of endpoint: chat, embedding and so on."),
    ("blocked", Boolean, "Drained: never picked, still reachable by its own name."),
    ("max_input_tokens", Integer, "Longest prompt that it takes."),
    ("input_cost_per_token", Number, "As `litellm_params.input_cost_per_token`; so are the other prices."),
    ("output_cost_per_token", Number, "As `litellm_params.output_cost_per_token`."),
    ("cache_read_input_token_cost", Number, "As `litellm_params.cache_read_input_token_cost`."),
    ("cache_creation_input_token_cost", Number, "As `litellm_params.cache_creation_input_token_cost`."),
    ("order", Integer, "As `litellm_params.order`."),
    ("allowed_fails", Integer, "`circuit_breaker.consecutive_failures`, less one."),
];

const ROUTE: &[Key] = &[
    ("model_name", Text, "What clients send as `model`."),
    (
        "routing_strategy",
        Word(&["fallback", "load_balance"]),
        "How members without a priority are laid out: by position, or all equal.",
    ),
    ("load_balance_strategy", Suggested(STRATEGIES), "Choice among members of equal priority."),
    ("fallback_on_error_types", Words(ERRORS), "Exactly these errors fail over."),
    ("models", List(&Block(MEMBER)), "Its backends."),
    ("fallbacks", Texts, "Routes tried next."),
    ("context_window_fallbacks", Texts, "Routes tried next when the prompt was too long."),
    ("content_policy_fallbacks", Texts, "Routes tried next when a content policy refused."),
    ("hidden", Boolean, "Callable, but not in /v1/models. Default false."),
    ("resilience", Block(ROUTE_RESILIENCE), "What holds for this route alone."),
];

const MEMBER: &[Key] = &[
    ("name", Text, "A backend's name or a `model_name`."),
    ("priority", Integer, "0 to 1000, lower first; equal: one tier. All members or none."),
    ("weight", Number, "Share in its tier; 0 drains. All members of a tier or none."),
];

const SERVER: &[Key] = &[
    ("host", Text, "Address to listen on. Default 0.0.0.0. Needs a restart."),
    ("port", Integer, "Port to listen on. Default 4000. Needs a restart."),
    ("workers", Count, "Threads that serve; default: one per core. Needs a restart."),
    ("max_request_bytes", Size, "Largest request body; beyond: 413. Default 32MiB."),
    ("max_in_flight", CountOrOff, "Requests at a time; beyond: 503. Default off."),
    ("keep_alive", Duration, "How long an idle client connection stays open. Default 75s. Needs a restart."),
    ("shutdown", Block(SHUTDOWN), "How the process ends."),
    ("tls", Block(TLS), "Certificate and key, both or none."),
    ("metrics", Block(METRICS), "Prometheus metrics at /metrics."),
    (
        "response_headers",
        Word(&["full", "minimal", "none"]),
        "Which x-breakwater-* headers answers carry. Default full.",
    ),
    ("cors_origins", Texts, "Origins that browsers may call from, or \"*\". Needs a restart."),
];

const SHUTDOWN: &[Key] = &[
    ("delay", Duration, "Unready, but still serving. Default 0s."),
    ("timeout", Duration, "Then streams may finish for so long. Default 30s."),
];

const TLS: &[Key] = &[("cert_file", Text, "The certificate chain (PEM)."), ("key_file", Text, "Its key (PEM).")];

const METRICS: &[Key] = &[
    ("enabled", Boolean, "Default true."),
    ("require_auth", Boolean, "Only with a client key. Default false."),
    ("litellm_names", Boolean, "LiteLLM's names as well. Default false."),
];

const ADMIN: &[Key] = &[
    ("enabled", Boolean, "Default true. Needs a restart."),
    ("host", Text, "Default 127.0.0.1; elsewhere a token is needed. Needs a restart."),
    ("port", Integer, "Default 4001. Needs a restart."),
    ("token", Text, "Who knows it may operate; default: the master key."),
];

const AUTH: &[Key] = &[
    ("header_names", Texts, "Headers read after Authorization, api-key and x-api-key. Default [x-litellm-api-key]."),
    ("keys", List(&Block(CLIENT_KEY)), "Client keys; none and no master key: open to all."),
];

const CLIENT_KEY: &[Key] = &[
    ("name", Text, "Its label in logs and metrics."),
    ("key", Text, "The key."),
    ("routes", Texts, "Globs of routes that it may ask for. Default [\"*\"]."),
    ("rpm", CountOrOff, "Requests a minute. Default off."),
    ("max_in_flight", CountOrOff, "Requests at a time. Default off."),
];

const DEFAULTS: &[Key] = &[
    ("implicit_routes", Word(&["all", "unrouted", "none"]), "Which model_names are routes of their own. Default all."),
    ("default_route", Text, "The route of calls without a model."),
    ("list_endpoints", Boolean, "Serve lists that show every tenant's objects. Default false."),
    ("rewrite_response_model", Boolean, "`model` in answers becomes the name that was asked for. Default false."),
    ("forward_client_headers", Texts, "Names or x-* globs of client headers that the upstream gets too."),
    ("ca_file", Text, "Extra root certificates for all backends (PEM)."),
    ("http2", Boolean, "Whether HTTP/2 is offered to backends over TLS. Default false."),
    ("ignore_unsupported", Texts, "Paths of protective LiteLLM keys that are knowingly ignored."),
];

/// `resilience:` at the top: every block.
const RESILIENCE: &[Key] = &[
    LOAD_BALANCE_STRATEGY,
    FALLBACK_ON_ERROR_TYPES,
    MAX_IN_FLIGHT,
    CIRCUIT_BREAKER,
    ("endpoint_breaker", Block(ENDPOINT_BREAKER), "Per host: DNS, connect and TLS failures."),
    QUOTA,
    CLASSIFY,
    ("timeouts", Block(TIMEOUTS), "Time limits."),
    ATTEMPTS,
    RETRY_BUDGET,
    HEDGE,
    STREAM,
    HEALTH_CHECK,
    ON_EXHAUSTED,
    QUEUE,
    ("send_x_should_retry", Boolean, "Tell SDKs when retrying is pointless. Default true."),
    ("expose_backends", Boolean, "Name backends and reasons in errors and headers. Default true."),
];

const ROUTE_RESILIENCE: &[Key] = &[
    LOAD_BALANCE_STRATEGY,
    FALLBACK_ON_ERROR_TYPES,
    ("timeouts", Block(TIMEOUTS), "Time limits."),
    ATTEMPTS,
    RETRY_BUDGET,
    HEDGE,
    STREAM,
    ON_EXHAUSTED,
    QUEUE,
];

const BACKEND_RESILIENCE: &[Key] = &[
    MAX_IN_FLIGHT,
    CIRCUIT_BREAKER,
    QUOTA,
    CLASSIFY,
    ("timeouts", Block(BACKEND_TIMEOUTS), "Time limits of one attempt."),
    HEALTH_CHECK,
];

const LOAD_BALANCE_STRATEGY: Key = (
    "load_balance_strategy",
    Suggested(STRATEGIES),
    "Choice among members of equal priority. Default weighted_round_robin.",
);
const FALLBACK_ON_ERROR_TYPES: Key = ("fallback_on_error_types", Words(ERRORS), "Exactly these errors fail over.");
const MAX_IN_FLIGHT: Key = ("max_in_flight", Count, "Calls to one backend at a time. Default 1024.");
const CIRCUIT_BREAKER: Key =
    ("circuit_breaker", Block(BREAKER), "When a backend is left alone, and how it comes back.");
const QUOTA: Key = ("quota", Block(QUOTA_KEYS), "What providers say about their limits.");
const CLASSIFY: Key =
    ("classify", List(&Block(CLASSIFY_RULE)), "Rules before the built-in ones: which answer is which error.");
const ATTEMPTS: Key = ("attempts", Block(ATTEMPTS_KEYS), "How often a request is tried.");
const RETRY_BUDGET: Key = ("retry_budget", Block(RETRY_BUDGET_KEYS), "What extra attempts may add to the load.");
const HEDGE: Key = ("hedge", Block(HEDGE_KEYS), "A second attempt beside a slow first one.");
const STREAM: Key = ("stream", Block(STREAM_KEYS), "Streamed answers.");
const HEALTH_CHECK: Key = ("health_check", Block(HEALTH_CHECK_KEYS), "Active checks.");
const ON_EXHAUSTED: Key = (
    "on_exhausted",
    Words(&["fallback_route", "queue", "least_bad", "reject"]),
    "What is done when no backend can be picked, in order. Default [fallback_route, reject].",
);
const QUEUE: Key = ("queue", Block(QUEUE_KEYS), "Requests that wait for a backend.");

const BREAKER: &[Key] = &[
    ("enabled", Boolean, "Default true."),
    (
        "preset",
        Word(&["strict", "default", "tolerant"]),
        "Sets `consecutive_failures` and `minimum_calls`; one beside it wins.",
    ),
    ("consecutive_failures", CountOrOff, "Failures in a row that open it. Default 5."),
    ("minimum_calls", Count, "Calls before a ratio counts. Default 10."),
    ("failure_rate_threshold", RatioOrOff, "Share of failures that opens it. Default 0.5."),
    (
        "sliding_window",
        Suggested(&["auto"]),
        "How far back the ratio looks: a duration, or auto: the first-token limit and 10s.",
    ),
    ("slow_call_duration", DurationOrOff, "Time to the first content from which a call counts as slow. Default off."),
    ("slow_call_rate_threshold", Ratio, "Share of slow calls that opens it. Default 0.8."),
    ("wait_duration_in_open_state", Duration, "First wait; doubles while it keeps failing. Default 5s."),
    ("max_wait_duration_in_open_state", Duration, "Longest wait. Default 300s."),
    ("jitter", Ratio, "By which waits vary. Default 0.2."),
    ("half_open_calls", Count, "Successes that close it. Default 3."),
    ("max_wait_duration_in_half_open_state", DurationOrOff, "Longest time half open. Default off."),
    ("level_decay", Duration, "Quiet time after which an earlier opening counts less. Default 60s."),
    ("slow_start", DurationOrOff, "Ramp after closing. Default 30s."),
    ("slow_start_min_weight", Ratio, "First weight of the ramp. Default 0.1."),
];

const ENDPOINT_BREAKER: &[Key] = &[
    ("enabled", Boolean, "Default true."),
    ("consecutive_failures", Count, "Failures in a row that open it. Default 5."),
];

const QUOTA_KEYS: &[Key] = &[
    (
        "learned",
        Suggested(&["defer", "off"]),
        "Whether a backend whose limit is nearly spent is deferred. Default defer.",
    ),
    ("jitter", Ratio, "By which waits vary. Default 0.1."),
    ("max_retry_after", Duration, "Cap on a provider's wait. Default 300s."),
    (
        "ptu_target_utilization",
        RatioOrOff,
        "Utilization of provisioned throughput from which it is deferred. Default off.",
    ),
];

const CLASSIFY_RULE: &[Key] = &[
    ("status", Integer, "The answer's status."),
    ("code", Text, "`error.code`."),
    ("type", Text, "`error.type`."),
    ("message_contains", Text, "Part of `error.message`."),
    ("class", Suggested(ERRORS), "Which error it is."),
];

const TIMEOUTS: &[Key] = &[
    CONNECT,
    FIRST_TOKEN,
    FIRST_BYTE,
    IDLE,
    ("total", Duration, "A whole request; a stream up to its first content. Default 600s."),
    ("stream_total", Duration, "A running stream. Default 1h."),
    ("attempt_time_share", Ratio, "Share of the time left that one attempt may take. Default 1.0."),
    ("min_attempt", Duration, "With less time left there is no further attempt. Default 1s."),
];

const BACKEND_TIMEOUTS: &[Key] = &[CONNECT, FIRST_TOKEN, FIRST_BYTE, IDLE];

const CONNECT: Key = ("connect", Duration, "DNS, TCP and TLS. Default 5s.");
const FIRST_TOKEN: Key =
    ("first_token", Duration, "Stream: to the first content. Default 30s, for reasoning calls 120s.");
const FIRST_BYTE: Key = ("first_byte", Duration, "Whole answer: to its head. Default 120s, for reasoning calls 300s.");
const IDLE: Key = ("idle", Duration, "Gap between events or bytes. Default 60s.");

const ATTEMPTS_KEYS: &[Key] = &[
    ("max_attempts", Count, "On one route. Default 3."),
    ("max_total_attempts", Count, "With fallback routes. Default 5."),
    ("same_backend_retries", Integer, "On the same backend again. Default 0."),
];

const RETRY_BUDGET_KEYS: &[Key] = &[
    ("budget_ratio", Ratio, "Extra calls per request. Default 0.2."),
    ("min_retries", Integer, "Extra calls that are always allowed. Default 3."),
];

const HEDGE_KEYS: &[Key] = &[
    ("enabled", Boolean, "Default false."),
    ("min_delay", Duration, "Earliest moment of the second attempt. Default 1s."),
    ("max_extra", Ratio, "Share of requests that may be hedged. Default 0.05."),
];

const STREAM_KEYS: &[Key] = &[
    ("holdback", Size, "Held before the first content. Default 64KiB."),
    ("responses_holdback", Size, "The same on /responses. Default 256KiB."),
    ("mid_stream", Word(&["error", "continue"]), "What a cut stream ends in. `continue` is not available yet."),
    ("head_hold", DurationOrOff, "Then 200 and comments leave before the first content. Default off: true statuses."),
    ("keepalive", DurationOrOff, "Gap between comments. Default 15s."),
];

const HEALTH_CHECK_KEYS: &[Key] = &[
    ("type", Suggested(&["off", "connect", "models", "completion"]), "Default off."),
    ("interval", Duration, "Default 30s."),
    ("timeout", Duration, "Default 5s."),
    ("unhealthy_threshold", Count, "Failures in a row. Default 3."),
    ("healthy_threshold", Count, "Successes in a row. Default 2."),
    ("expected_status", Text, "2xx, 200 or 200-204. Default 2xx."),
];

const QUEUE_KEYS: &[Key] =
    &[("max_wait", Duration, "Longest wait. Default 2s."), ("max_size", Count, "Requests that wait. Default 128.")];

const RELOAD: &[Key] = &[
    ("enabled", Boolean, "Take over changes by themselves; SIGHUP and /admin/reload always work. Default true."),
    ("mode", Word(&["auto", "notify", "poll"]), "How changes are noticed. Default auto."),
    ("debounce", Duration, "Quiet time before the file is read. Default 250ms."),
    ("poll_interval", Duration, "Between looks when polling. Default 2s."),
    ("rescan_interval", Duration, "Between looks in any mode. Default 30s."),
    ("rollback", Block(ROLLBACK), "Back to the configuration before, if a changed route does worse."),
];

const ROLLBACK: &[Key] = &[
    ("enabled", Boolean, "Default false."),
    ("watch", Duration, "How long changed routes are watched. Default 2m."),
    ("min_success_ratio", Ratio, "Below this a route must not fall. Default 0.9."),
];

const LOGGING: &[Key] = &[
    ("level", Text, "A filter such as info or breakwater=debug. Default info."),
    ("format", Word(&["auto", "text", "json"]), "Default auto: text on a terminal. Needs a restart."),
    ("access_log", Boolean, "One line per request. Default true."),
    ("access_log_sample", Ratio, "Share of plain successes that is written. Default 1.0."),
    ("client_address", Boolean, "Name the client's address. Default false."),
];

const TELEMETRY: &[Key] = &[
    (
        "otlp_endpoint",
        Text,
        "A collector's URL, as http://localhost:4318: spans go to its /v1/traces. Without it there are none.",
    ),
    ("service_name", Text, "Default breakwater."),
    ("sample_ratio", Ratio, "Share of the requests whose caller traces nothing. Default 0.1."),
];

const ROUTER_SETTINGS: &[Key] = &[
    ("routing_strategy", Suggested(LITELLM_STRATEGIES), "Strategy of implicit routes."),
    ("routing_groups", List(&Open(GROUP)), "Routes over several model_names."),
    ("model_group_alias", Free, "Further names of routes: {name: route} or {name: {model: route, hidden: true}}."),
    ("fallbacks", Any, "[{route: [route, …]}]"),
    ("default_fallbacks", Any, "Routes tried after any other."),
    ("context_window_fallbacks", Any, "[{route: [route, …]}]"),
    ("content_policy_fallbacks", Any, "[{route: [route, …]}]"),
    ("num_retries", Integer, "`attempts.max_attempts`, less one, at least one per priority."),
    ("allowed_fails", Integer, "`circuit_breaker.consecutive_failures`, less one."),
    ("cooldown_time", Duration, "`circuit_breaker.wait_duration_in_open_state`."),
    ("disable_cooldowns", Boolean, "`circuit_breaker.enabled`, turned round."),
    ("timeout", Duration, "As `litellm_params.timeout`, for all."),
    ("stream_timeout", Duration, "As `litellm_params.stream_timeout`, for all."),
    ("default_litellm_params", Free, "`litellm_params` of every entry that has no own."),
    ("default_max_parallel_requests", Count, "`max_in_flight` of all backends."),
];

const GROUP: &[Key] = &[
    ("group_name", Text, "What clients send as `model`."),
    ("model_name", Text, "Another word for `group_name`."),
    ("models", Texts, "Its model_names."),
    ("model_priorities", Free, "{model_name: priority}, lower first."),
    ("routing_strategy", Suggested(LITELLM_STRATEGIES), "Choice among equals."),
];

const LITELLM_SETTINGS: &[Key] = &[
    ("fallbacks", Any, "[{route: [route, …]}]"),
    ("default_fallbacks", Any, "Routes tried after any other."),
    ("context_window_fallbacks", Any, "[{route: [route, …]}]"),
    ("content_policy_fallbacks", Any, "[{route: [route, …]}]"),
    ("num_retries", Integer, "`attempts.max_attempts`, less one, at least one per priority."),
    ("allowed_fails", Integer, "`circuit_breaker.consecutive_failures`, less one."),
    ("cooldown_time", Duration, "`circuit_breaker.wait_duration_in_open_state`."),
    ("request_timeout", Duration, "As `litellm_params.timeout`, for all."),
    ("json_logs", Boolean, "`logging.format: json`."),
    ("require_auth_for_metrics_endpoint", Boolean, "`server.metrics.require_auth`."),
];

const GENERAL_SETTINGS: &[Key] = &[
    ("master_key", Text, "A client key for every route."),
    ("litellm_key_header_name", Text, "A header that is read for the key, first of `auth.header_names`."),
    ("global_max_parallel_requests", Count, "`server.max_in_flight`."),
    ("max_request_size_mb", Number, "`server.max_request_bytes`."),
    ("forward_client_headers_to_llm_api", Boolean, "`defaults.forward_client_headers: [x-*]`."),
    ("background_health_checks", Boolean, "`health_check.type: models`."),
    ("health_check_interval", Duration, "`health_check.interval`."),
    ("enforce_model_rate_limits", Boolean, "rpm and tpm are enforced here anyway; this only silences the warning."),
];
