//! LiteLLM's keys as data: which are honoured stands in the readers of `raw`; here are the rest, by section (its settings
//! reference as of 1.109). Pure.

/// A section of a LiteLLM file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// The file itself.
    Top,
    /// `model_list[]`.
    Entry,
    /// `model_list[].litellm_params`.
    Params,
    /// `model_list[].model_info`.
    ModelInfo,
    /// `router_settings`.
    Router,
    /// `litellm_settings`.
    LiteLlm,
    /// `general_settings`.
    General,
    /// `credential_list[]` and other small mappings.
    Other,
}

/// What a key that nobody asked for means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Not worth a word.
    Silent,
    /// LiteLLM's, without meaning here: BW202.
    NotApplicable,
    /// LiteLLM's; ignoring it would open something: BW203.
    Protective,
    /// Free metadata.
    Free,
    /// Nobody's: BW201.
    Unknown,
}

/// Looks a key up.
pub(super) fn meaning(scope: Scope, key: &str) -> Meaning {
    let (protective, not_applicable, silent): (&[&str], &[&str], &[&str]) = match scope {
        Scope::Top => (TOP_PROTECTIVE, TOP, &[]),
        Scope::Entry => (&[], ENTRY, &[]),
        Scope::Params => (&["max_budget"], PARAMS, &["use_in_pass_through", "merge_reasoning_content_in_choices"]),
        Scope::ModelInfo => (&["access_windows"], MODEL_INFO, &[]),
        Scope::Router => (ROUTER_PROTECTIVE, ROUTER, &["set_verbose", "debug_level"]),
        Scope::LiteLlm => {
            (LITELLM_PROTECTIVE, LITELLM, &["drop_params", "telemetry", "set_verbose", "turn_off_message_logging"])
        }
        Scope::General => (GENERAL_PROTECTIVE, GENERAL, &["enforce_model_rate_limits"]),
        Scope::Other => (&[], &["credential_info", "description"], &[]),
    };
    let is_cost = matches!(scope, Scope::Params | Scope::ModelInfo)
        && (key.starts_with("input_cost_") || key.starts_with("output_cost_") || key.ends_with("_by_service_tier"));
    match key {
        _ if silent.contains(&key) => Meaning::Silent,
        _ if protective.contains(&key) => Meaning::Protective,
        _ if not_applicable.contains(&key) || is_cost || key.starts_with("mock_") => Meaning::NotApplicable,
        _ if scope == Scope::ModelInfo => Meaning::Free,
        _ => Meaning::Unknown,
    }
}

/// Whether LiteLLM knows a setting, but not at the top of a file: there it takes no notice of it.
pub(super) fn is_misplaced(key: &str) -> bool {
    const HONOURED: [&str; 14] = [
        "num_retries",
        "timeout",
        "stream_timeout",
        "request_timeout",
        "allowed_fails",
        "cooldown_time",
        "disable_cooldowns",
        "routing_strategy",
        "model_group_alias",
        "fallbacks",
        "default_fallbacks",
        "context_window_fallbacks",
        "content_policy_fallbacks",
        "json_logs",
    ];
    let scopes = [Scope::Router, Scope::LiteLlm, Scope::General];
    HONOURED.contains(&key)
        || scopes.into_iter().any(|scope| matches!(meaning(scope, key), Meaning::Silent | Meaning::NotApplicable))
}

/// Only LiteLLM's own virtual keys are held back by it. There are none here: who may ask at all may ask for every route, or for
/// those of his `auth.keys` entry.
pub(super) fn is_of_virtual_keys(scope: Scope, key: &str) -> bool {
    scope == Scope::ModelInfo && matches!(key, "access_groups" | "team_id" | "team_public_model_name")
}

/// Where a key that is unknown here is known.
pub(super) fn elsewhere(path: &str, key: &str) -> Option<&'static str> {
    let is_model_info = path.ends_with(".model_info");
    let is_entry = path.starts_with("model_list[") && path.ends_with(']');
    let is_route = path.starts_with("router[");
    match key {
        "priority" if is_model_info => Some("`model_info.priority` is not read: use `litellm_params.order`"),
        "weight" | "rpm" | "tpm" | "timeout" | "max_parallel_requests" if is_model_info => {
            Some("it is not read in `model_info`: put it under `litellm_params`")
        }
        "priority" if is_entry || path.ends_with(".litellm_params") => {
            Some("priorities stand in `router[].models[]`; in `litellm_params` write `order`")
        }
        "model" | "api_key" | "api_base" | "base_url" | "api_version" | "api_type" | "azure_deployment" if is_entry => {
            Some("it belongs under `litellm_params`")
        }
        "cooldown_time" | "allowed_fails" | "num_retries" | "enable_pre_call_checks" | "model_group_alias"
            if path.is_empty() =>
        {
            Some("it belongs under `router_settings`")
        }
        "routing_strategy" if path.is_empty() => Some("it belongs in a `router[]` entry or under `router_settings`"),
        "fallbacks" | "context_window_fallbacks" | "content_policy_fallbacks" | "default_fallbacks"
            if path.is_empty() =>
        {
            Some("it belongs in a `router[]` entry or under `router_settings`")
        }
        "master_key" if !path.starts_with("general_settings") => Some("`master_key` belongs under `general_settings`"),
        "fallback_on_error_types" | "load_balance_strategy" if path.is_empty() => {
            Some("it belongs in a `router[]` entry or under `resilience`")
        }
        "timeouts" | "circuit_breaker" | "attempts" | "health_check" | "quota" | "retry_budget" | "hedge"
        | "stream"
            if path.is_empty() || is_route && path.ends_with(']') || is_entry =>
        {
            Some("it belongs under `resilience`")
        }
        "timeout" | "request_timeout" | "stream_timeout" if path.is_empty() => {
            Some("it belongs under `router_settings`")
        }
        "timeout" if is_route => Some("write `resilience: {timeouts: {first_byte: …}}`"),
        "circuit_breaker" | "quota" | "health_check" | "classify" | "max_in_flight" if is_route => {
            Some("it is per backend: put it under `model_list[].resilience` or the top-level `resilience`")
        }
        "attempts"
        | "retry_budget"
        | "hedge"
        | "stream"
        | "on_exhausted"
        | "queue"
        | "load_balance_strategy"
        | "fallback_on_error_types"
            if path.starts_with("model_list[") && path.ends_with(".resilience") =>
        {
            Some("it is per route: put it under `router[].resilience` or the top-level `resilience`")
        }
        "send_x_should_retry" | "expose_backends" | "endpoint_breaker" => {
            Some("it belongs under the top-level `resilience`")
        }
        "port" | "host" if path.is_empty() => Some("it belongs under `server`"),
        _ => None,
    }
}

/// Sections that hold callers or answers back.
pub(super) const TOP_PROTECTIVE: &[&str] = &["guardrails", "policies", "policy_attachments"];

/// Sections of what LiteLLM does beside routing.
pub(super) const TOP: &[&str] = &[
    "agent_list",
    "agents",
    "assistant_settings",
    "callback_settings",
    "files_settings",
    "finetune_settings",
    "mcp_aliases",
    "mcp_servers",
    "mcp_tools",
    "prompts",
    "search_tools",
    "skills",
    "ui_settings",
    "vector_store_registry",
    "worker_registry",
];

/// OpenAI body fields that may stand in `litellm_params` as request defaults.
pub(super) const BODY_FIELDS: [&str; 33] = [
    "temperature",
    "top_p",
    "max_tokens",
    "max_completion_tokens",
    "n",
    "stop",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "response_format",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "functions",
    "function_call",
    "user",
    "reasoning_effort",
    "reasoning",
    "thinking",
    "service_tier",
    "modalities",
    "audio",
    "metadata",
    "store",
    "verbosity",
    "dimensions",
    "encoding_format",
    "prediction",
    "web_search_options",
    "prompt_cache_key",
];

/// Those of them that are numbers even when quoted.
pub(super) const NUMBER_FIELDS: [&str; 10] = [
    "temperature",
    "top_p",
    "max_tokens",
    "max_completion_tokens",
    "n",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "top_logprobs",
    "dimensions",
];

/// Entra identities other than an application with its secret: an error if nothing else authenticates.
pub(super) const ENTRA: [&str; 3] = ["azure_username", "azure_password", "azure_ad_token_provider"];

const ENTRY: &[&str] = &["model_id", "team_public_model_name", "blocked", "tags"];

const PARAMS: &[&str] = &[
    "num_retries",
    "max_retries",
    "itpm",
    "otpm",
    "rpd",
    "tpd",
    "tags",
    "region_name",
    "drop_params",
    "keepalive_seconds",
    "silent_model",
    "additional_drop_params",
    "allowed_openai_params",
    "model_info",
    "budget_duration",
    "cache_control_injection_points",
    "configurable_clientside_auth_params",
    "default_api_key_rpm_limit",
    "default_api_key_tpm_limit",
    "max_file_size_mb",
    "use_litellm_proxy",
    "guardrails",
    "litellm_trace_id",
    "caching",
    "hf_model_name",
    "preset_cache_key",
    "supports_system_message",
    "aws_access_key_id",
    "aws_secret_access_key",
    "aws_session_token",
    "aws_region_name",
    "aws_bedrock_runtime_endpoint",
    "vertex_project",
    "vertex_location",
    "vertex_credentials",
    "watsonx_region_name",
];

const MODEL_INFO: &[&str] = &[
    "max_tokens",
    "max_output_tokens",
    "litellm_provider",
    "supports_vision",
    "supports_function_calling",
    "supports_response_schema",
    "supports_system_messages",
    "supports_prompt_caching",
    "health_check_model",
    "health_check_timeout",
    "disable_background_health_check",
    "health_check_max_tokens",
    "db_model",
    "created_at",
    "updated_at",
    "created_by",
    "updated_by",
    "key",
    "tier",
];

const ROUTER_PROTECTIVE: &[&str] = &["provider_budget_config"];

const ROUTER: &[&str] = &[
    "redis_host",
    "redis_port",
    "redis_password",
    "redis_url",
    "redis_db",
    "cache_responses",
    "cache_kwargs",
    "caching_groups",
    "client_ttl",
    "polling_interval",
    "retry_policy",
    "model_group_retry_policy",
    "allowed_fails_policy",
    "retry_after",
    "max_fallbacks",
    "enable_pre_call_checks",
    "routing_strategy_args",
    "optional_pre_call_checks",
    "alerting_config",
    "router_general_settings",
    "assistants_config",
    "default_priority",
    "ignore_invalid_deployments",
    "force_default_fallback",
    "tag_filtering_match_any",
    "deployment_affinity_ttl_seconds",
    "model_group_affinity_config",
    "search_tools",
    "guardrail_list",
    "enable_weighted_failover",
    "enable_health_check_routing",
    "health_check_staleness_threshold",
    "max_retries",
    "stream_idle_timeout",
];

const LITELLM_PROTECTIVE: &[&str] = &["max_budget", "guardrails", "policies", "policy_attachments"];

const LITELLM: &[&str] = &[
    "callbacks",
    "success_callback",
    "failure_callback",
    "service_callbacks",
    "callback_settings",
    "cache",
    "cache_params",
    "redact_user_api_key_info",
    "langfuse_default_tags",
    "modify_params",
    "force_ipv4",
    "add_function_to_prompt",
    "disable_end_user_cost_tracking",
    "disable_end_user_cost_tracking_prometheus_only",
    "prometheus_initialize_budget_metrics",
    "custom_prometheus_metadata_labels",
    "custom_prometheus_tags",
    "default_internal_user_params",
    "default_team_settings",
    "default_team_params",
    "default_key_generate_params",
    "upperbound_key_generate_params",
    "key_generation_settings",
    "budget_duration",
    "max_internal_user_budget",
    "internal_user_budget_duration",
    "max_end_user_budget",
    "max_user_budget",
    "public_model_groups",
    "enable_json_schema_validation",
    "disable_copilot_system_to_assistant",
    "enable_preview_features",
    "mcp_aliases",
    "max_ui_session_budget",
    "ui_theme_config",
    "tag_budget_config",
    "s3_callback_params",
    "gcs_bucket_name",
    "priority_reservation",
    "request_correlation_header",
    "json_indent",
    "num_workers",
    "rate_limit_headers",
    "model_alias_map",
    "include_cost_in_streaming_usage",
    "aiohttp_trust_env",
    "user_url_validation",
    "network_mock",
    "max_exception_message_length",
    "turn_on_debug",
];

const GENERAL_PROTECTIVE: &[&str] = &[
    "allowed_ips",
    "custom_auth",
    "enable_jwt_auth",
    "litellm_jwtauth",
    "enforce_user_param",
    "allowed_routes",
    "admin_only_routes",
    "enable_oauth2_auth",
    "enable_oauth2_proxy_auth",
    "guardrails",
    "policies",
    "policy_attachments",
];

const GENERAL: &[&str] = &[
    "database_url",
    "database_connection_pool_limit",
    "database_connection_timeout",
    "database_connection_pool_timeout",
    "database_type",
    "database_args",
    "store_model_in_db",
    "store_prompts_in_spend_logs",
    "supported_db_objects",
    "disable_spend_logs",
    "disable_error_logs",
    "disable_adding_master_key_hash_to_db",
    "disable_reset_budget",
    "disable_master_key_return",
    "disable_retry_on_max_parallel_request_limit_error",
    "completion_model",
    "alerting",
    "alerting_threshold",
    "alerting_args",
    "alert_types",
    "alert_to_webhook_url",
    "spend_report_frequency",
    "proxy_batch_write_at",
    "proxy_budget_rescheduler_min_time",
    "proxy_budget_rescheduler_max_time",
    "max_parallel_requests",
    "max_response_size_mb",
    "pass_through_endpoints",
    "forward_openai_org_id",
    "forward_llm_provider_auth_headers",
    "use_client_credentials_pass_through_routes",
    "use_x_forwarded_for",
    "key_management_system",
    "key_management_settings",
    "use_azure_key_vault",
    "use_google_kms",
    "load_google_kms",
    "infer_model_from_keys",
    "ui_access_mode",
    "proxy_batch_polling_interval",
    "public_routes",
    "health_check_details",
    "health_check_concurrency",
    "health_check_model",
    "service_account_settings",
    "image_generation_model",
    "token_rate_limit_type",
    "user_header_name",
    "user_header_mappings",
    "allow_user_auth",
    "allow_client_side_credentials",
    "maximum_spend_logs_retention_period",
    "maximum_spend_logs_retention_interval",
    "mcp_internal_ip_ranges",
    "always_include_stream_usage",
    "control_plane_url",
    "experimental_pass_through_endpoints",
    "litellm_settings",
    "otel",
    "role_permissions",
    "store_audit_logs",
    "team_id",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_in_their_section_only() {
        let table = [
            (Scope::General, "custom_auth", Meaning::Protective),
            (Scope::General, "database_url", Meaning::NotApplicable),
            (Scope::Router, "redis_host", Meaning::NotApplicable),
            (Scope::LiteLlm, "drop_params", Meaning::Silent),
            (Scope::Params, "input_cost_per_token", Meaning::NotApplicable),
            (Scope::Params, "mock_response", Meaning::NotApplicable),
            (Scope::Params, "max_budget", Meaning::Protective),
            (Scope::ModelInfo, "owner", Meaning::Free),
            (Scope::ModelInfo, "access_windows", Meaning::Protective),
            (Scope::Router, "database_url", Meaning::Unknown),
        ];
        for (scope, key, expected) in table {
            assert_eq!(meaning(scope, key), expected, "{scope:?} {key}");
        }
    }

    #[test]
    fn known_elsewhere() {
        for (path, key, part) in [
            ("model_list[0].model_info", "priority", "litellm_params.order"),
            ("", "cooldown_time", "router_settings"),
            ("model_list[3]", "api_key", "litellm_params"),
            ("router[0].resilience", "circuit_breaker", "per backend"),
            ("model_list[0].resilience", "attempts", "per route"),
        ] {
            assert!(elsewhere(path, key).is_some_and(|hint| hint.contains(part)), "{path} {key}");
        }
        assert_eq!(elsewhere("router[0]", "nonsense"), None);
    }
}
