//! Every metric's name, help and buckets (spec/observability.md 1.3). No other file holds a metric name.

/// Name and help of one metric.
pub type Name = (&'static str, &'static str);

/// Buckets of a whole call, in seconds.
pub const LATENCY: [f64; 17] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0];
/// Buckets of a time to first token, in seconds.
pub const FIRST_TOKEN: [f64; 15] =
    [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0];
/// Buckets of a time per output token, in seconds.
pub const OUTPUT_TOKEN: [f64; 13] = [0.002, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5];
/// Buckets of a late tick, in seconds.
pub const LAG: [f64; 9] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0];
/// Buckets of our own overhead, in seconds.
pub const OVERHEAD: [f64; 13] =
    [0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0];

/// Requests by how they ended.
pub const REQUESTS: Name = ("breakwater_requests_total", "Requests finished, by how they ended.");
/// Requests by operation and status.
pub const RESPONSES: Name =
    ("breakwater_responses_total", "Requests finished, by operation and status sent; 499 = client gone.");
/// Requests under way.
pub const REQUESTS_IN_FLIGHT: Name = ("breakwater_requests_in_flight", "Requests being served.");
/// Duration of requests.
pub const REQUEST_DURATION: Name = ("breakwater_request_duration_seconds", "Head received to last byte handed over.");
/// Our own share.
pub const OVERHEAD_SECONDS: Name =
    ("breakwater_overhead_seconds", "Time of the gateway itself, attempts and waits excluded.");
/// Requests without an upstream call.
pub const UNATTEMPTED: Name = ("breakwater_requests_unattempted_total", "Requests that cost no upstream call.");
/// Requests saved.
pub const RECOVERED: Name = ("breakwater_requests_recovered_total", "Requests saved by failover, fallback or retry.");
/// Requests that nothing could save.
pub const EXHAUSTED: Name =
    ("breakwater_requests_exhausted_total", "Requests for which nothing more could be tried, by why.");
/// Extra attempts held back.
pub const RETRY_BUDGET_EXHAUSTED: Name =
    ("breakwater_retry_budget_exhausted_total", "Extra attempts that were wanted and not granted.");
/// Same backend again.
pub const RETRIES: Name = ("breakwater_retries_total", "Same backend again, also after a queue wait.");
/// Requests waiting.
pub const QUEUE_DEPTH: Name = ("breakwater_queue_depth", "Requests waiting for a backend.");
/// Their wait.
pub const QUEUE_WAIT: Name = ("breakwater_queue_wait_seconds", "Joining the queue to leaving it, served or not.");
/// SDKs' own retries.
pub const CLIENT_RETRIES: Name = ("breakwater_client_retries_total", "Requests that are an SDK's own retry.");
/// Requests by client key.
pub const CLIENT_REQUESTS: Name =
    ("breakwater_client_requests_total", "Requests finished by name of the client's key; _none without a valid one.");
/// Tokens by client key.
pub const CLIENT_TOKENS: Name = ("breakwater_client_tokens_total", "Tokens as reported by name of the client's key.");
/// Turned away.
pub const AUTH_FAILURES: Name = ("breakwater_auth_failures_total", "Clients turned away.");
/// Attempts begun.
pub const ATTEMPTS_STARTED: Name = ("breakwater_attempts_started_total", "Upstream calls begun, by why.");
/// Attempts ended.
pub const ATTEMPTS: Name = ("breakwater_attempts_total", "Upstream calls ended: who served, who failed, how.");
/// Attempts under way.
pub const ATTEMPTS_IN_FLIGHT: Name = ("breakwater_attempts_in_flight", "Upstream calls running.");
/// Duration of attempts.
pub const ATTEMPT_DURATION: Name = ("breakwater_attempt_duration_seconds", "Call begun to body end or failure.");
/// What exactly broke.
pub const FAILURE_DETAILS: Name =
    ("breakwater_attempt_failure_details_total", "What exactly broke in transport and time.");
/// Free second sends.
pub const RESENDS: Name = ("breakwater_attempt_resends_total", "Free second sends that are no attempt.");
/// Failovers.
pub const FAILOVERS: Name = ("breakwater_failovers_total", "Next backend of the same route after a failure.");
/// Fallbacks.
pub const FALLBACKS: Name = ("breakwater_fallbacks_total", "Another route taken.");
/// Hedges.
pub const HEDGES: Name = ("breakwater_hedges_total", "Second calls beside a slow one, each possibly billed twice.");
/// Passed over.
pub const REJECTIONS: Name = ("breakwater_rejections_total", "Permits not given: why a backend was passed over.");
/// Late results.
pub const LATE_RESULTS: Name = ("breakwater_late_results_total", "Results that no longer counted.");
/// Circuit.
pub const CIRCUIT_STATE: Name = ("breakwater_circuit_state", "0 closed, 1 half_open, 2 open.");
/// Circuit edges.
pub const CIRCUIT_TRANSITIONS: Name = ("breakwater_circuit_transitions_total", "Each edge of the breaker.");
/// Hosts' circuits.
pub const ENDPOINT_STATE: Name =
    ("breakwater_endpoint_circuit_state", "The host's connect breaker: 0 closed, 1 half_open, 2 open.");
/// Their edges.
pub const ENDPOINT_TRANSITIONS: Name =
    ("breakwater_endpoint_circuit_transitions_total", "Each edge of a host's connect breaker.");
/// Blocks in force.
pub const BLOCKED_UNTIL: Name =
    ("breakwater_backend_blocked_until_timestamp_seconds", "When a block ends; 0 = not blocked.");
/// What providers say.
pub const RATELIMIT_LIMIT: Name =
    ("breakwater_upstream_ratelimit_limit", "The whole allowance, as the provider's newest answer says.");
/// What providers say is left.
pub const RATELIMIT_REMAINING: Name =
    ("breakwater_upstream_ratelimit_remaining", "What is left, as the provider's newest answer says.");
/// Probes.
pub const CIRCUIT_PROBES: Name = ("breakwater_circuit_probes_total", "Half-open trial calls, by result.");
/// Blocks.
pub const BLOCKS: Name = ("breakwater_blocks_total", "Block episodes.");
/// Selectable.
pub const BACKEND_SELECTABLE: Name = ("breakwater_backend_selectable", "Whether a permit could be given now.");
/// An operator's hand.
pub const CIRCUIT_OVERRIDE: Name = ("breakwater_circuit_override", "1 = an operator's hand is on the circuit.");
/// When a circuit lets a first trial through.
pub const CIRCUIT_OPEN_UNTIL: Name = (
    "breakwater_circuit_open_until_timestamp_seconds",
    "When an open circuit lets its first trial through; 0 unless open.",
);
/// Blocked threads.
pub const EVENT_LOOP_LAG: Name =
    ("breakwater_event_loop_lag_seconds", "How late a tick of each 100 ms came: a thread that is blocked, or crowded.");
/// Actors that fall behind.
pub const ACTOR_MAILBOX_DEPTH: Name =
    ("breakwater_actor_mailbox_depth", "Messages told and not yet handled, the most of any actor of the kind.");
/// Our own limits.
pub const BACKEND_LIMIT: Name = ("breakwater_backend_limit", "Our own limits of a backend.");
/// Backends of a route that could be picked.
pub const ROUTE_SELECTABLE: Name =
    ("breakwater_route_selectable_backends", "Backends that could be picked now; 0 = the next request is rejected.");
/// Shares.
pub const CANDIDATE_WEIGHT: Name =
    ("breakwater_candidate_weight", "Effective weight of a backend on a route, slow start included.");
/// Time to the first content of an attempt.
pub const ATTEMPT_FIRST_TOKEN: Name =
    ("breakwater_attempt_time_to_first_token_seconds", "An upstream call's begin to its first content.");
/// Health gate.
pub const BACKEND_HEALTHY: Name = ("breakwater_backend_healthy", "0 while health checks fail; 1 without checks.");
/// Health checks.
pub const HEALTH_CHECKS: Name =
    ("breakwater_health_checks_total", "Health checks ended; failures are those that count against the backend.");
/// Backend facts.
pub const BACKEND_INFO: Name = ("breakwater_backend_info", "What does not change about a backend; to be joined.");
/// Streams ended.
pub const STREAMS_ENDED: Name = ("breakwater_streams_ended_total", "Streams by how they ended.");
/// What users feel.
pub const TIME_TO_FIRST_TOKEN: Name =
    ("breakwater_time_to_first_token_seconds", "Receipt to first content, failovers included.");
/// How fast a backend talks once it does.
pub const TIME_PER_OUTPUT_TOKEN: Name = (
    "breakwater_time_per_output_token_seconds",
    "First to last content of a completed stream, by each output token after the first.",
);
/// Streams under way.
pub const STREAMS_IN_FLIGHT: Name = ("breakwater_streams_in_flight", "Streams whose first content has gone out.");
/// What the tokens cost.
pub const COST: Name =
    ("breakwater_cost_usd_total", "Tokens as reported, by the prices of the configuration, in US dollars.");
/// Parts of the tokens.
pub const TOKEN_DETAILS: Name =
    ("breakwater_token_details_total", "Parts of the tokens as reported: cached, written to a cache, reasoning.");
/// Gaps in the token books.
pub const USAGE_MISSING: Name =
    ("breakwater_usage_missing_total", "Answers that should have said what they cost, and did not.");
/// Tokens.
pub const TOKENS: Name = ("breakwater_tokens_total", "Tokens as reported.");
/// Build.
pub const BUILD_INFO: Name = ("breakwater_build_info", "The binary.");
/// Configuration.
pub const CONFIG_INFO: Name = ("breakwater_config_info", "The configuration in force.");
/// The watch on its file.
pub const CONFIG_WATCH_INFO: Name =
    ("breakwater_config_watch_info", "How changes of the file are noticed: by notify, by poll, or off.");
/// Reloads.
pub const CONFIG_RELOADS: Name = ("breakwater_config_reloads_total", "Reloads, by result.");
/// Rollbacks.
pub const CONFIG_ROLLBACKS: Name =
    ("breakwater_config_rollbacks_total", "Returns to the configuration before, by itself or by hand.");
/// Last reload.
pub const CONFIG_LAST_SUCCESSFUL: Name =
    ("breakwater_config_last_reload_successful", "0 = the file on disk is not in force.");
/// Last reload that was taken over.
pub const CONFIG_LAST_SUCCESS_AT: Name = (
    "breakwater_config_last_reload_success_timestamp_seconds",
    "When the start or a reload last put a configuration in force.",
);
/// What waits for a restart.
pub const CONFIG_RESTART_REQUIRED: Name =
    ("breakwater_config_restart_required", "1 = the file has values that wait for a restart.");
/// Draining.
pub const DRAINING: Name = ("breakwater_draining", "1 from SIGTERM on.");
/// Panics survived.
pub const ACTOR_RESTARTS: Name = ("breakwater_actor_restarts_total", "Panics of actors survived.");
/// Lost news.
pub const MESSAGES_DROPPED: Name = ("breakwater_actor_messages_dropped_total", "Outcomes nobody learned.");
/// Lost lines.
pub const LINES_DROPPED: Name = ("breakwater_log_lines_dropped_total", "Log lines lost.");
/// Spans.
pub const TRACE_SPANS: Name = ("breakwater_trace_spans_total", "Spans by what became of them.");
