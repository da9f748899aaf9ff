//! Both dialects: which provider, which credential, which routes, and LiteLLM's keys in our words.

use std::time::Duration;

use super::*;

/// One backend as `provider url model version credential`.
fn backend(fixture: &Fixture, params: &str) -> String {
    let yaml = format!("model_list: [{{model_name: m, litellm_params: {{{params}}}}}]");
    match fixture.load(&yaml) {
        Ok(loaded) => show(&loaded.config.backends[0]),
        Err(report) => report.problems.iter().find(|found| found.severity == Severity::Error).unwrap().code.to_owned(),
    }
}

fn show(backend: &Backend) -> String {
    let credential = match &backend.credential {
        None => "none".to_owned(),
        Some(Credential::Bearer(key)) => format!("bearer {}", key.expose()),
        Some(Credential::ApiKeyHeader(key)) => format!("api-key {}", key.expose()),
        Some(Credential::Entra(it)) => {
            let authority = url::show(&it.authority);
            format!("{} {} {} {} at {authority}", it.tenant, it.client, it.secret.expose(), it.scope)
        }
    };
    let version = match &backend.provider {
        Provider::AzureDated { api_version } => api_version.clone(),
        Provider::AzureV1 => "v1".to_owned(),
        Provider::OpenAi | Provider::Compatible(_) => "-".to_owned(),
    };
    let (provider, url, model) = (backend.provider.name(), url::show(&backend.base_url), &backend.upstream_model);
    format!("{provider} {url} {model} {version} {credential}")
}

#[test]
fn the_environment_fills_in_only_where_it_may() {
    let openai = Fixture::default().with("OPENAI_API_KEY", "ok");
    let moved = Fixture::default().with("OPENAI_API_KEY", "ok").with("OPENAI_BASE_URL", "https://proxy.example/v1");
    let azure = Fixture::default()
        .with("AZURE_API_KEY", "ak")
        .with("AZURE_API_BASE", "https://env.openai.azure.com")
        .with("OPENAI_API_VERSION", "2024-10-21");
    let token =
        Fixture::default().with("AZURE_AD_TOKEN", "at").with("AZURE_OPENAI_ENDPOINT", "https://apim.example/llm");
    let groq = Fixture::default().with("GROQ_API_KEY", "gk");
    let table = [
        (&openai, "model: gpt-4o", "openai https://api.openai.com/v1 gpt-4o - bearer ok"),
        (&openai, "model: gpt-4o, api_key: \"${NONE:-}\"", "openai https://api.openai.com/v1 gpt-4o - bearer ok"),
        (&openai, "model: openai/x, api_base: \"https://h.example/v1\"", "openai https://h.example/v1 x - none"),
        (&openai, "model: x, api_base: \"https://h.example/v1\"", "compatible https://h.example/v1 x - none"),
        (
            &openai,
            "model: x, base_url: \"https://h.example/v1\", api_key: k",
            "compatible https://h.example/v1 x - bearer k",
        ),
        (&moved, "model: gpt-4o", "openai https://proxy.example/v1 gpt-4o - bearer ok"),
        (
            &moved,
            "model: openai/x, api_base: \"https://proxy.example/v2\"",
            "openai https://proxy.example/v2 x - bearer ok",
        ),
        (
            &moved,
            "model: openai/x, api_base: \"https://api.openai.com\"",
            "openai https://api.openai.com/v1 x - bearer ok",
        ),
        (&azure, "model: azure/d", "azure https://env.openai.azure.com d 2024-10-21 api-key ak"),
        (
            &azure,
            "model: azure/d, api_base: \"https://other.openai.azure.com\"",
            "azure https://other.openai.azure.com d 2024-10-21 api-key ak",
        ),
        (
            &azure,
            "model: azure/d, api_base: \"https://apim.example/llm\"",
            "azure https://apim.example/llm d 2024-10-21 none",
        ),
        (&token, "model: azure/d, api_version: v1", "azure https://apim.example/llm d v1 bearer at"),
        (&groq, "model: groq/llama", "groq https://api.groq.com/openai/v1 llama - bearer gk"),
        (&groq, "model: groq/llama, api_base: \"https://h.example/v1\"", "groq https://h.example/v1 llama - none"),
        (&Fixture::default(), "model: gpt-4o", "BW407"),
        (&Fixture::default(), "model: azure/d, api_base: \"https://r.openai.azure.com\", api_version: v1", "BW407"),
        (&Fixture::default(), "model: azure/d, api_key: k", "BW403"),
    ];
    for (fixture, params, expected) in table {
        assert_eq!(backend(fixture, params), expected, "{params}");
    }
}

#[test]
fn an_application_is_named_by_the_entry_and_the_environment_together() {
    const BASE: &str = "api_base: \"https://r.openai.azure.com\", api_version: v1";
    const SCOPE: &str = "https://cognitiveservices.azure.com/.default";
    let none = Fixture::default();
    let some = Fixture::default().with("AZURE_CLIENT_SECRET", "es").with("AZURE_TENANT_ID", "et");
    let all = Fixture::default()
        .with("AZURE_CLIENT_SECRET", "es")
        .with("AZURE_TENANT_ID", "et")
        .with("AZURE_CLIENT_ID", "ec")
        .with("AZURE_AUTHORITY_HOST", "login.microsoftonline.us")
        .with("AZURE_SCOPE", "z/.default");
    let own = "https://login.microsoftonline.com";
    let table = [
        (&none, "model: azure/d, tenant_id: t, client_id: c, client_secret: s", format!("t c s {SCOPE} at {own}")),
        (&none, "model: d, tenant_id: t, client_id: c, client_secret: s", format!("t c s {SCOPE} at {own}")),
        (
            &none,
            "model: azure/d, tenant_id: t, client_id: c, client_secret: s, azure_scope: x, azure_authority_host: \"http://127.0.0.1:9/a\"",
            "t c s x at http://127.0.0.1:9/a".to_owned(),
        ),
        (&some, "model: azure/d, client_id: c", format!("et c es {SCOPE} at {own}")),
        (&all, "model: azure/d", "et ec es z/.default at https://login.microsoftonline.us".to_owned()),
        (&all, "model: azure/d, tenant_id: t, api_key: k", "api-key k".to_owned()),
    ];
    for (fixture, params, expected) in table {
        let said = backend(fixture, &format!("{params}, {BASE}"));
        assert_eq!(said, format!("azure https://r.openai.azure.com d v1 {expected}"), "{params}");
    }
    let refused = [
        "model: azure/d, tenant_id: t, client_secret: s",
        "model: azure/d, tenant_id: t, client_id: c, client_secret: s, azure_authority_host: \"http://evil.example\"",
        "model: azure/d, tenant_id: t, client_id: c, client_secret: s, azure_authority_host: \"https://u:p@h\"",
    ];
    let codes = refused.map(|params| backend(&none, &format!("{params}, {BASE}")));
    assert_eq!(codes, ["BW407", "BW404", "BW404"]);
    // Half of one in the environment is nobody's intention.
    assert_eq!(backend(&some, &format!("model: azure/d, {BASE}")), "BW407");
}

#[test]
fn azure_is_read_in_every_spelling() {
    let table = [
        ("model: gpt-4o, api_type: azure, azure_deployment: d, api_version: 2024-02-01", "d 2024-02-01 api-key k"),
        ("model: gpt-4o, api_type: azure, api_version: 2024-02-01", "gpt-4o 2024-02-01 api-key k"),
        ("model: gpt-4o, api_type: azure_ad, api_version: 2024-02-01", "gpt-4o 2024-02-01 bearer k"),
        ("model: azure/d, api_version: latest", "d v1 api-key k"),
        ("model: azure/other, azure_deployment: d, api_version: preview", "d v1 api-key k"),
        ("model: gpt-4o, azure_deployment: d, api_version: v1", "d v1 api-key k"),
        ("model: azure/d", "d 2025-02-01-preview api-key k"),
        ("model: azure/d, azure_ad_token: t, api_version: v1", "d v1 bearer t"),
    ];
    for (params, expected) in table {
        let params = format!("{params}, api_key: k, api_base: \"https://r.openai.azure.com/openai/\"");
        let said = backend(&Fixture::default(), &params);
        assert_eq!(said, format!("azure https://r.openai.azure.com {expected}"), "{params}");
    }
    let target = "https://r.openai.azure.com/openai/deployments/d/chat/completions?api-version=2024-10-21";
    let said =
        backend(&Fixture::default(), &format!("model: gpt-4o, api_type: azure, api_key: k, api_base: \"{target}\""));
    assert_eq!(said, "azure https://r.openai.azure.com d 2024-10-21 api-key k");
}

#[test]
fn values_are_read_by_the_type_of_their_key() {
    let fixture = Fixture::default().with("LIMIT", "0").with("RPM", "80_000").with("ON", "Yes").with("KEY", "k");
    let yaml = "\
server: {port: '4100', metrics: {require_auth: ${ON}}, max_request_bytes: '1MiB', host: 127.0.0.1}
logging: {access_log: off, access_log_sample: 50%}
model_list:
  - model_name: 2024
    rpm: ${RPM}
    tpm: 1e5
    litellm_params: {model: 4.10, api_key: '${KEY}', timeout: '0.5', temperature: '0', stop: [a, 1], max_tokens: 1_000}
    model_info: {max_input_tokens: 128_000, blocked: no}
resilience: {circuit_breaker: {consecutive_failures: no, slow_start: null, jitter: ${LIMIT}}}
";
    let yaml = yaml
        .replace("require_auth: ${ON}", "require_auth: \"${ON}\"")
        .replace("jitter: ${LIMIT}", "jitter: \"${LIMIT}\"");
    let loaded = fixture.load(&yaml).unwrap_or_else(|report| panic!("{report}"));
    let config = &loaded.config;
    assert_eq!((config.server.port, config.server.metrics_require_auth), (4100, true));
    assert_eq!((config.server.max_request_bytes, config.logging.access_log), (1 << 20, false));
    assert!((config.logging.access_log_sample - 0.5).abs() < f64::EPSILON);
    let backend = &config.backends["2024"];
    assert_eq!(backend.upstream_model, "4.10");
    assert_eq!(backend.policy.requests_per_minute.map(NonZeroU32::get), Some(80_000));
    assert_eq!(backend.policy.tokens_per_minute.map(NonZeroU32::get), Some(100_000));
    assert_eq!(backend.max_input_tokens, Some(128_000));
    let breaker = &backend.policy.circuit_breaker;
    assert_eq!((breaker.consecutive_failures, breaker.slow_start, breaker.jitter), (None, None, 0));
    let defaults: Vec<String> =
        backend.request_defaults.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(defaults, ["temperature=0", "max_tokens=1000", "stop=[\"a\",1]"]);
    let timeouts = &config.routes["2024"].tiers[0].members[0].timeouts;
    let half = Duration::from_millis(500);
    assert_eq!((timeouts.first_byte, timeouts.first_token, timeouts.connect), (half, half, half));
}

/// A LiteLLM file with most of what is honoured.
const LITELLM: &str = "\
model_list:
  - model_name: gpt-4o
    litellm_params: {model: azure/eu, api_key: os.environ/AZURE_OPENAI_API_KEY, api_base: os.environ/AZURE_OPENAI_ENDPOINT,
                     api_version: 2024-10-21, order: 1, rpm: 300, cooldown_time: 7, max_parallel_requests: 9}
    model_info: {id: eu, allowed_fails: 1}
  - model_name: gpt-4o
    litellm_params: {model: azure/us, api_key: os.environ/AZURE_OPENAI_API_KEY, api_base: \"https://us.openai.azure.com\",
                     api_version: 2024-10-21, order: 1, rpm: 100, stream_timeout: 20}
  - model_name: gpt-4o
    litellm_params: {model: gpt-4o, api_key: os.environ/OPENAI_API_KEY}
  - model_name: gpt-4o-mini
    litellm_params: {model: openai/gpt-4o-mini, litellm_credential_name: shared}
  - model_name: claude
    litellm_params: {model: anthropic/claude-x, api_key: x}
  - model_name: \"openai/*\"
    litellm_params: {model: \"openai/*\", api_key: os.environ/OPENAI_API_KEY}
  - model_name: \"openai/gpt-*\"
    litellm_params: {model: \"openai/gpt-*\", api_key: os.environ/OPENAI_API_KEY}
credential_list: [{credential_name: shared, credential_values: {api_key: \"${OPENAI_API_KEY}\"}}]
router_settings:
  routing_strategy: simple-shuffle
  num_retries: 1
  timeout: 50
  allowed_fails: 3
  cooldown_time: 30
  model_group_alias: {gpt-4: gpt-4o, hidden-gpt: {model: gpt-4o, hidden: true}}
  fallbacks: [{gpt-4o: [gpt-4o-mini]}]
  default_litellm_params: {temperature: 0.1}
litellm_settings: {default_fallbacks: [gpt-4o-mini], context_window_fallbacks: [{gpt-4o: [gpt-4o-mini]}], drop_params: true, callbacks: [prometheus]}
general_settings: {master_key: sk-1234567890-abcdef, enforce_model_rate_limits: true, background_health_checks: true, health_check_interval: 60}
environment_variables: {OPENAI_API_KEY: declared}
";

#[test]
fn a_litellm_file_means_what_it_says() {
    let loaded = loaded(LITELLM);
    let said: Vec<&str> = loaded.warnings.iter().map(|problem| problem.code).collect();
    assert_eq!(said, ["BW605", "BW410", "BW401"], "{}", loaded.render(ProblemFormat::Short));
    let config = &loaded.config;
    assert_eq!(tiers(config, "gpt-4o"), "1[eu 75%, gpt-4o 25%] 2[gpt-4o#2 100%]");
    assert_eq!(tiers(config, "gpt-4"), tiers(config, "gpt-4o"));
    let alias = &config.routes["hidden-gpt"];
    assert_eq!((alias.origin, alias.hidden, alias.fallbacks.len()), (Origin::Alias, true, 1));
    let route = &config.routes["gpt-4o"];
    assert_eq!((route.strategy, route.policy.max_attempts), (Strategy::RandomWeighted, 2));
    assert_eq!(route.fallbacks[0].as_str(), "gpt-4o-mini");
    assert_eq!(route.context_window_fallbacks[0].as_str(), "gpt-4o-mini");
    assert!(config.routes["gpt-4o-mini"].fallbacks.is_empty());
    let names: Vec<&str> = config.wildcards.iter().map(|route| route.name.as_str()).collect();
    assert_eq!(names, ["openai/gpt-*", "openai/*"]);
    assert_eq!(config.backends["openai/*"].upstream_model, "*");
    assert_eq!(config.wildcards[0].fallbacks[0].as_str(), "gpt-4o-mini");
    let eu = &config.backends["eu"].policy;
    assert_eq!((eu.circuit_breaker.consecutive_failures, eu.max_in_flight), (Some(2), 9));
    assert_eq!(eu.circuit_breaker.wait_duration_in_open_state, Duration::from_secs(7));
    let us = &config.backends["gpt-4o"].policy;
    assert_eq!(us.circuit_breaker.consecutive_failures, Some(4));
    assert_eq!(us.circuit_breaker.wait_duration_in_open_state, Duration::from_secs(30));
    assert_eq!((us.health_check.kind, us.health_check.interval), (HealthCheckKind::Models, Duration::from_secs(60)));
    let limits: Vec<(u64, u64, u64)> = route
        .tiers
        .iter()
        .flat_map(|tier| &tier.members)
        .map(|member| &member.timeouts)
        .map(|limits| (limits.first_byte.as_secs(), limits.first_token.as_secs(), limits.idle.as_secs()))
        .collect();
    assert_eq!(limits, [(50, 30, 60), (50, 20, 20), (50, 30, 60)]);
    let mini = &config.backends["gpt-4o-mini"];
    assert_eq!(
        (show(mini).as_str(), mini.credential_reference.as_str()),
        ("openai https://api.openai.com/v1 gpt-4o-mini - bearer declared", "credential_list:shared")
    );
    assert_eq!(mini.request_defaults, [("temperature".to_owned(), "0.1".to_owned())]);
    assert_eq!(&*config.auth.keys[0].name, "master_key");
    assert!(config.admin.token.as_ref().is_some_and(|token| token.expose() == "sk-1234567890-abcdef"));
}

/// Of the shape that files of LiteLLM's users have: other vendors' models among ours, sections of what it does beside routing,
/// settings in the wrong place, which it takes no notice of.
const MIXED: &str = "\
model_list:
  - {model_name: gpt-4o, litellm_params: {model: azure/gpt-4o-eu, api_base: 'https://eu.openai.azure.com/', api_version: 2024-10-21, api_key: os.environ/AZURE_OPENAI_API_KEY}, model_info: {access_groups: [beta]}}
  - {model_name: claude, litellm_params: {model: anthropic/claude-x, api_key: os.environ/NOBODY_HAS_SET_THIS, vertex_project: p}}
  - {model_name: claude, litellm_params: {model: bedrock/claude-x, aws_region_name: os.environ/NOR_THIS}}
  - {model_name: local, litellm_params: {model: ollama_chat/llama3.1, api_base: 'http://10.0.0.9:11434'}}
  - {model_name: near, litellm_params: {model: ollama/phi3, api_base: 'http://10.0.0.9:11434/v1/'}}
  - {model_name: dall-e-2, litellm_params: {model: azure/, api_base: 'https://eu.openai.azure.com', api_version: 2023-06-01-preview, api_key: k}}
  - {model_name: '*', litellm_params: {model: 'openai/*', api_key: os.environ/OPENAI_API_KEY}}
litellm_settings: {fallbacks: [{gpt-4o: [claude, local]}], drop_params: true}
general_settings: {master_key: sk-1234567890-abcdef}
num_retries: 2
request_timeout: 600
files_settings: [{custom_llm_provider: azure, api_key: os.environ/NEITHER_IS_THIS}]
mcp_servers: {search: {url: 'https://mcp.example'}}
callback_settings: {otel: {message_logging: false}}
";

#[test]
fn what_is_not_done_here_does_not_keep_the_rest_from_serving() {
    let said = codes(MIXED);
    let expected = [
        "BW203W 2:190 model_list[0].model_info.access_groups",
        "BW401W 3:50 model_list[1].litellm_params.model",
        "BW401W 4:50 model_list[2].litellm_params.model",
        "BW407W 5:5 model_list[3]",
        "BW407W 6:5 model_list[4]",
        "BW403W 7:52 model_list[5].litellm_params.model",
        "BW201W 11:1 num_retries",
        "BW201W 12:1 request_timeout",
        "BW202W 13:1 files_settings",
    ];
    let config = loaded(MIXED).config;
    let base = |name: &str| url::show(&config.backends[name].base_url);
    assert_eq!(
        (base("local"), base("near")),
        ("http://10.0.0.9:11434/v1".to_owned(), "http://10.0.0.9:11434/v1".to_owned())
    );
    assert_eq!(
        config.routes["gpt-4o"].fallbacks,
        [RouteName::new("local")],
        "no wildcard stands for what was left out"
    );
    assert!(!config.routes.contains_key("claude") && !config.routes.contains_key("dall-e-2"));
    assert_eq!(said, expected);
}

#[test]
fn groups_and_their_priorities() {
    let yaml = "\
model_list:
  - {model_name: a, litellm_params: {model: x, api_key: k}}
  - {model_name: b, litellm_params: {model: y, api_key: l}}
  - {model_name: c, litellm_params: {model: z, api_key: m}}
router_settings:
  routing_groups:
    - {group_name: g, models: [a, b, c], model_priorities: {b: 1, a: 2}, routing_strategy: least-busy}
";
    let config = loaded(yaml).config;
    assert_eq!(tiers(&config, "g"), "1[b 100%] 2[a 100%] 3[c 100%]");
    assert_eq!((config.routes["g"].origin, config.routes["g"].strategy), (Origin::Group, Strategy::LeastBusy));
}

#[test]
fn a_model_name_with_several_entries_shares_its_weight() {
    let entry = |name: &str, key: &str, more: &str| {
        format!("  - {{model_name: {name}, litellm_params: {{model: x, api_key: {key}{more}}}}}\n")
    };
    let models = format!(
        "model_list:\n{}{}{}",
        entry("p", "k", ", weight: 3"),
        entry("p", "l", ", weight: 1"),
        entry("q", "m", "")
    );
    let table = [
        ("[{name: p, weight: 0.8}, {name: q, weight: 0.2}]", "1[p 60%, p#2 20%, q 20%]"),
        ("[{name: p}, {name: q}]", "1[p 75%, p#2 25%] 2[q 100%]"),
        ("[{name: q, priority: 5}, {name: p, priority: 2}]", "2[p 75%, p#2 25%] 5[q 100%]"),
        ("[{name: \"p#2\"}, {name: q}]", "1[p#2 100%] 2[q 100%]"),
        ("[{name: p, priority: 1, weight: 1}, {name: q, priority: 1, weight: 3}]", "1[p 19%, p#2 6%, q 75%]"),
    ];
    for (members, expected) in table {
        let config = loaded(&format!("{models}router: [{{model_name: r, models: {members}}}]")).config;
        assert_eq!(tiers(&config, "r"), expected, "{members}");
    }
    let config = loaded(&models).config;
    assert_eq!(config.routes["p#2"].origin, Origin::BackendId);
    assert!(config.routes["p#2"].hidden && !config.routes["p"].hidden);
    assert_eq!(config.routes["p"].origin, Origin::Implicit);
}

#[test]
fn drained_backends_are_reached_by_their_own_id_only() {
    let yaml = "\
model_list:
  - {model_name: a, litellm_params: {model: x, api_key: k}, model_info: {blocked: true}}
  - {model_name: b, litellm_params: {model: y, api_key: l, weight: 0}}
  - {model_name: c, litellm_params: {model: z, api_key: m}}
router: [{model_name: r, models: [{name: a}, {name: c}]}]
";
    let config = loaded(yaml).config;
    assert_eq!(tiers(&config, "r"), "1[a 0%] 2[c 100%]");
    for id in ["a", "b"] {
        assert_eq!((config.routes[id].origin, config.routes[id].hidden), (Origin::BackendId, true));
        assert_eq!(tiers(&config, id), format!("1[{id} 100%]"));
    }
    assert!(config.backends["a"].drained && !config.backends["b"].drained);
}

#[test]
fn implicit_routes_can_be_left_out() {
    let yaml = |word: &str| {
        format!(
            "defaults: {{implicit_routes: {word}}}\nmodel_list:\n  - {{model_name: a, litellm_params: {{model: x, api_key: k}}}}\n  - {{model_name: b, litellm_params: {{model: y, api_key: l}}}}\nrouter: [{{model_name: r, models: [{{name: a}}]}}]"
        )
    };
    let table = [
        ("all", "r Router, a Implicit, b Implicit"),
        ("unrouted", "r Router, b Implicit, a BackendId"),
        ("none", "r Router, a BackendId, b BackendId"),
    ];
    for (word, expected) in table {
        let config = loaded(&yaml(word)).config;
        let said: Vec<String> =
            config.routes.values().map(|route| format!("{} {:?}", route.name, route.origin)).collect();
        assert_eq!(said.join(", "), expected, "{word}");
    }
}

#[test]
fn names_count_in_their_order() {
    let yaml = "\
model_list:
  - {model_name: a, litellm_params: {model: x, api_key: k}}
  - {model_name: b, litellm_params: {model: y, api_key: l}, model_info: {id: a-id}}
  - {model_name: c, litellm_params: {model: z, api_key: m}, model_info: {id: d}}
  - {model_name: d, litellm_params: {model: w, api_key: n}, model_info: {id: e}}
router: [{model_name: a, models: [{name: b}]}]
router_settings: {model_group_alias: {a: c, f: c}}
";
    let loaded = loaded(yaml);
    let config = &loaded.config;
    let table =
        [("a", "1[a-id 100%]"), ("f", "1[d 100%]"), ("d", "1[e 100%]"), ("a-id", "1[a-id 100%]"), ("e", "1[e 100%]")];
    for (name, expected) in table {
        assert_eq!(tiers(config, name), expected, "{name}");
    }
    assert_eq!(loaded.warnings.iter().filter(|problem| problem.code == "BW505").count(), 3);
}
