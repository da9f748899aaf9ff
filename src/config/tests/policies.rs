//! Which value wins, what gives way, and what a reload recognises.

use std::time::Duration;

use super::*;

/// Two backends and a route over both; blocks of the backend `a`, of the route `r`, of the top and of LiteLLM.
fn layers(backend: &str, params: &str, route: &str, top: &str, router_settings: &str) -> String {
    format!(
        "\
model_list:
  - {{model_name: a, litellm_params: {{model: x, api_key: k{params}}}, resilience: {{{backend}}}}}
  - {{model_name: b, litellm_params: {{model: y, api_key: l}}}}
router: [{{model_name: r, models: [{{name: a}}, {{name: b}}], resilience: {{{route}}}}}]
resilience: {{{top}}}
router_settings: {{{router_settings}}}
"
    )
}

fn limits(yaml: &str, route: &str, member: usize) -> AttemptTimeouts {
    let config = loaded(yaml).config;
    let members: Vec<&Member> = config.routes[route].tiers.iter().flat_map(|tier| &tier.members).collect();
    members[member].timeouts.clone()
}

#[test]
fn the_nearest_value_wins_key_by_key() {
    let first_byte = |seconds: u32| format!("timeouts: {{first_byte: {seconds}}}");
    let table = [
        (layers(&first_byte(10), ", timeout: 20", &first_byte(30), &first_byte(40), "timeout: 50"), 10, 30),
        (layers("", ", timeout: 20", &first_byte(30), &first_byte(40), "timeout: 50"), 20, 30),
        (layers("", "", &first_byte(30), &first_byte(40), "timeout: 50"), 30, 30),
        (layers("", "", "", &first_byte(40), "timeout: 50"), 40, 40),
        (layers("", "", "", "", "timeout: 50"), 50, 50),
        (layers("", "", "", "", ""), 120, 120),
    ];
    for (yaml, of_a, of_b) in table {
        let said = [0, 1].map(|member| limits(&yaml, "r", member).first_byte.as_secs());
        assert_eq!(said, [of_a, of_b], "{yaml}");
    }
    // The route's block says nothing about the implicit route of the same backend.
    let yaml = layers("", "", &first_byte(30), &first_byte(40), "");
    assert_eq!(limits(&yaml, "a", 0).first_byte, Duration::from_secs(40));
}

#[test]
fn defaults_give_way_and_written_values_hold_for_reasoning_too() {
    let seconds = |yaml: &str| {
        let AttemptTimeouts { connect, first_token, first_token_reasoning, first_byte, first_byte_reasoning, idle } =
            limits(yaml, "r", 0);
        [connect, first_token, first_token_reasoning, first_byte, first_byte_reasoning, idle]
            .map(|limit| limit.as_secs())
    };
    let top = |block: &str| layers("", "", "", &format!("timeouts: {{{block}}}"), "");
    let table = [
        (top(""), [5, 30, 120, 120, 300, 60]),
        (top("total: 10"), [5, 10, 10, 10, 10, 60]),
        (top("total: 3"), [3, 3, 3, 3, 3, 60]),
        (top("first_token: 15"), [5, 15, 15, 120, 300, 60]),
        (top("first_token: 2"), [2, 2, 2, 120, 300, 60]),
        (top("connect: 40"), [40, 40, 120, 120, 300, 60]),
        (top("first_byte: 900"), [5, 30, 120, 900, 900, 60]),
        (top("stream_total: 30"), [5, 30, 120, 120, 300, 30]),
        (layers("", ", timeout: 5", "", "", ""), [5, 5, 5, 5, 5, 60]),
        (layers("", ", timeout: 5, stream_timeout: 8", "", "", ""), [5, 8, 8, 5, 5, 8]),
    ];
    for (yaml, expected) in table {
        assert_eq!(seconds(&yaml), expected, "{yaml}");
    }
    let total = loaded(&top("first_byte: 900")).config.routes["r"].policy.total;
    assert_eq!(total, Duration::from_secs(900));
}

#[test]
fn retries_never_switch_failover_off() {
    let attempts = |route: &str, top: &str, settings: &str| {
        let policy = loaded(&layers("", "", route, top, settings)).config.routes["r"].policy.clone();
        (policy.max_attempts, policy.max_total_attempts)
    };
    assert_eq!(attempts("", "", ""), (3, 5));
    assert_eq!(attempts("", "", "num_retries: 0"), (2, 5));
    assert_eq!(attempts("", "", "num_retries: 7"), (8, 8));
    assert_eq!(attempts("", "attempts: {max_attempts: 4}", "num_retries: 7"), (4, 5));
    assert_eq!(
        attempts("attempts: {max_attempts: 2, max_total_attempts: 2}", "attempts: {max_attempts: 4}", ""),
        (2, 2)
    );
}

#[test]
fn saying_it_in_both_dialects_names_the_winner() {
    let yaml =
        layers("timeouts: {first_byte: 10}", ", timeout: 20", "", "attempts: {max_attempts: 2}", "num_retries: 1");
    let said: Vec<String> = loaded(&yaml)
        .warnings
        .iter()
        .filter(|problem| problem.code == "BW207")
        .map(|problem| format!("{}: {}", problem.path, problem.message))
        .collect();
    let expected = [
        "model_list[0].litellm_params.timeout: this is also said at `model_list[0].resilience.timeouts.first_byte`, which wins",
        "router_settings.num_retries: this is also said at `resilience.attempts.max_attempts`, which wins",
    ];
    assert_eq!(said, expected);
}

#[test]
fn a_last_priority_that_is_never_tried_is_noticed() {
    let yaml = |priorities: [u32; 4], attempts: u32| {
        let names = ["a", "b", "c", "d"];
        let models: String = names
            .iter()
            .map(|n| format!("  - {{model_name: {n}, litellm_params: {{model: x, api_key: {n}}}}}\n"))
            .collect();
        let members =
            names.iter().zip(priorities).map(|(name, priority)| format!("{{name: {name}, priority: {priority}}}"));
        let members = members.collect::<Vec<_>>().join(", ");
        format!(
            "model_list:\n{models}router: [{{model_name: r, models: [{members}]}}]\nresilience: {{attempts: {{max_attempts: {attempts}}}}}"
        )
    };
    for (priorities, attempts, is_noticed) in [
        ([1, 2, 3, 4], 3, true),
        ([1, 2, 3, 4], 4, false),
        ([1, 1, 1, 2], 3, true),
        ([1, 1, 2, 2], 3, false),
        ([1, 1, 1, 1], 2, false),
    ] {
        let said = loaded(&yaml(priorities, attempts));
        let has_said = said.warnings.iter().any(|problem| problem.code == "BW605");
        assert_eq!(has_said, is_noticed, "{priorities:?} {attempts}");
    }
}

#[test]
fn a_preset_counts_where_it_stands() {
    let breaker = |backend: &str, top: &str| {
        let yaml =
            layers(&format!("circuit_breaker: {{{backend}}}"), "", "", &format!("circuit_breaker: {{{top}}}"), "");
        let breaker = loaded(&yaml).config.backends["a"].policy.circuit_breaker.clone();
        (breaker.consecutive_failures, breaker.minimum_calls)
    };
    assert_eq!(breaker("", ""), (Some(5), 10));
    assert_eq!(breaker("preset: tolerant", "consecutive_failures: 9"), (Some(7), 50));
    assert_eq!(breaker("preset: tolerant, minimum_calls: 20", ""), (Some(7), 20));
    assert_eq!(breaker("consecutive_failures: off", "preset: strict"), (None, 10));
    assert_eq!(breaker("minimum_calls: 4", "preset: strict"), (Some(3), 4));
}

#[test]
fn a_lone_backend_has_its_own_profile() {
    // Whether each is lone: alone anywhere, alone but with a fallback, beside another.
    let profile = |yaml: &str, id: &str| {
        let breaker = loaded(yaml).config.backends[id].policy.circuit_breaker.clone();
        let (wait, cap) = (breaker.wait_duration_in_open_state, breaker.max_wait_duration_in_open_state);
        (breaker.consecutive_failures, wait.as_secs(), cap.as_secs())
    };
    let models = "\
model_list:
  - {model_name: a, litellm_params: {model: x, api_key: k}}
  - {model_name: b, litellm_params: {model: y, api_key: l}}
";
    let lone = (None, 2, 30);
    let usual = (Some(5), 5, 300);
    let table = [
        ("", lone, lone),
        ("router: [{model_name: r, models: [{name: a}]}]", lone, lone),
        ("router: [{model_name: r, models: [{name: a}, {name: b}]}]", usual, usual),
        ("router: [{model_name: r, models: [{name: a}], fallbacks: [b]}]", usual, lone),
        ("router: [{model_name: r, models: [{name: a, weight: 1}, {name: b, weight: 0}]}]", lone, usual),
        ("router_settings: {fallbacks: [{a: [b]}]}", usual, lone),
        ("resilience: {circuit_breaker: {consecutive_failures: 4}}", (Some(4), 2, 30), (Some(4), 2, 30)),
        ("resilience: {circuit_breaker: {wait_duration_in_open_state: 50s}}", (None, 50, 50), (None, 50, 50)),
        ("router_settings: {cooldown_time: 1}", (None, 1, 30), (None, 1, 30)),
    ];
    for (addition, of_a, of_b) in table {
        let yaml = format!("{models}{addition}");
        assert_eq!((profile(&yaml, "a"), profile(&yaml, "b")), (of_a, of_b), "{addition}");
    }
}

#[test]
fn the_window_follows_the_first_token_limit() {
    let window = |backend: &str, route: &str| {
        let yaml = layers(backend, "", route, "", "");
        loaded(&yaml).config.backends["a"].policy.circuit_breaker.sliding_window.as_secs()
    };
    assert_eq!(window("", ""), 40);
    assert_eq!(window("timeouts: {first_token: 15}", ""), 25);
    assert_eq!(window("", "timeouts: {first_token: 50}"), 60);
    assert_eq!(window("circuit_breaker: {sliding_window: 90s}", ""), 90);
    let reasoning = "model_list: [{model_name: a, litellm_params: {model: o3-mini, api_key: k}}]";
    let config = loaded(reasoning).config;
    assert_eq!(config.backends["a"].reasoning, Reasoning::Always);
    assert_eq!(config.backends["a"].policy.circuit_breaker.sliding_window.as_secs(), 130);
}

#[test]
fn every_block_is_read() {
    let blocks = "\
load_balance_strategy: least-busy, fallback_on_error_types: [Timeout], max_in_flight: 7, endpoint_breaker: {enabled: false, consecutive_failures: 2},
  quota: {learned: off, jitter: 0.3, max_retry_after: 1m, ptu_target_utilization: 80%},
  classify: [{status: 403, code: c, type: t, message_contains: m, class: rate_limit_error}],
  timeouts: {attempt_time_share: 0.5, min_attempt: 2s, stream_total: 2h}, attempts: {same_backend_retries: 1},
  retry_budget: {budget_ratio: 0.5, min_retries: 9}, hedge: {enabled: true, min_delay: 2s, max_extra: 10%},
  stream: {holdback: 1KiB, responses_holdback: 2KiB, mid_stream: error, head_hold: 15s, keepalive: off},
  health_check: {type: connect, interval: 1m, timeout: 2s, unhealthy_threshold: 4, healthy_threshold: 1, expected_status: 200-204},
  on_exhausted: [queue, least_bad, reject], queue: {max_wait: 3s, max_size: 5}, send_x_should_retry: no, expose_backends: no";
    let config = loaded(&layers("", "", "", blocks, "")).config;
    let route = &config.routes["r"];
    assert_eq!(route.strategy, Strategy::LeastBusy);
    assert_eq!(route.failover_on, ErrorSet::EMPTY.with(ErrorType::Timeout));
    let expected = RoutePolicy {
        attempt_time_share: 5_000,
        min_attempt: Duration::from_secs(2),
        stream_total: Duration::from_secs(7_200),
        same_backend_retries: 1,
        retry_budget_ratio: 5_000,
        retry_budget_min: 9,
        hedge: Some(Hedge { min_delay: Duration::from_secs(2), max_extra: 1_000 }),
        holdback: 1 << 10,
        responses_holdback: 2 << 10,
        head_hold: Some(Duration::from_secs(15)),
        keepalive: None,
        on_exhausted: vec![OnExhausted::Queue, OnExhausted::LeastBad, OnExhausted::Reject],
        queue_max_wait: Duration::from_secs(3),
        queue_max_size: 5,
        send_x_should_retry: false,
        expose_backends: false,
        ..RoutePolicy::default()
    };
    assert_eq!(route.policy, expected);
    let rule = ClassifyRule {
        status: Some(403),
        code: Some("c".to_owned()),
        kind: Some("t".to_owned()),
        message_contains: Some("m".to_owned()),
        class: ErrorType::RateLimit,
    };
    let expected = BackendPolicy {
        endpoint_breaker: EndpointBreaker { enabled: false, consecutive_failures: 2 },
        quota: Quota {
            learned: false,
            jitter: 3_000,
            max_retry_after: Duration::from_secs(60),
            ptu_target_utilization: Some(8_000),
        },
        classify: vec![rule],
        health_check: HealthCheck {
            kind: HealthCheckKind::Connect,
            interval: Duration::from_secs(60),
            timeout: Duration::from_secs(2),
            unhealthy_threshold: 4,
            healthy_threshold: 1,
            expected_status: 200..=204,
        },
        max_in_flight: 7,
        ..BackendPolicy::default()
    };
    assert_eq!(config.backends["a"].policy, expected);
}

/// The identity of the only backend.
fn identity(fixture: &Fixture, params: &str) -> IdentityHash {
    let loaded = fixture.load(&format!("model_list: [{{model_name: m, {params}}}]"));
    loaded.unwrap_or_else(|report| panic!("{report}")).config.backends[0].identity
}

#[test]
fn identity_is_url_model_and_credential_reference() {
    let fixture = Fixture::seed().with("OTHER", "x").file("key", "filed");
    let base = "litellm_params: {model: openai/x, api_key: \"${OPENAI_API_KEY}\", api_base: \"https://h.example/v1\"}";
    let same = [
        "litellm_params: {model: openai/x, api_key: os.environ/OPENAI_API_KEY, api_base: \"https://H.example:443/v1/\"}",
        "litellm_params: {model: x, custom_llm_provider: openai, api_key: \"${OPENAI_API_KEY}\", api_base: \"https://h.example/v1\", timeout: 5, rpm: 4}, model_info: {id: other}",
    ];
    let other = [
        "litellm_params: {model: openai/y, api_key: \"${OPENAI_API_KEY}\", api_base: \"https://h.example/v1\"}",
        "litellm_params: {model: openai/x, api_key: \"${OTHER}\", api_base: \"https://h.example/v1\"}",
        "litellm_params: {model: openai/x, api_key: \"${OPENAI_API_KEY}\", api_base: \"https://h.example/v2\"}",
        "litellm_params: {model: openai/x, api_key: \"${OPENAI_API_KEY}\", api_base: \"http://h.example/v1\"}",
        "litellm_params: {model: x, api_key: \"${OPENAI_API_KEY}\", api_base: \"https://h.example/v1\"}",
        "litellm_params: {model: openai/x, api_key: \"${file:key}\", api_base: \"https://h.example/v1\"}",
        "litellm_params: {model: openai/x, api_key: openai-secret, api_base: \"https://h.example/v1\"}",
        "litellm_params: {model: openai/x, api_key: another-secret, api_base: \"https://h.example/v1\"}",
    ];
    let first = identity(&fixture, base);
    for params in same {
        assert_eq!(identity(&fixture, params), first, "{params}");
    }
    let hashes: std::collections::BTreeSet<IdentityHash> =
        other.iter().map(|params| identity(&fixture, params)).collect();
    assert_eq!(hashes.len(), other.len());
    assert!(!hashes.contains(&first));
    let rotated = Fixture::seed().with("OPENAI_API_KEY", "rotated");
    assert_eq!(identity(&rotated, base), first);
    let azure = |version: &str| {
        let params = "model: azure/d, api_key: k, api_base: \"https://r.openai.azure.com\"";
        identity(&fixture, &format!("litellm_params: {{{params}, api_version: {version}}}"))
    };
    assert_eq!(azure("2024-02-01"), azure("v1"));
}

#[test]
fn a_literal_key_is_known_by_its_fingerprint_only() {
    let config = loaded("model_list: [{model_name: m, litellm_params: {model: x, api_key: a-literal-secret}}]").config;
    let reference = &config.backends["m"].credential_reference;
    assert!(reference.starts_with("literal:") && !reference.contains("secret"), "{reference}");
    let system = SystemSource;
    assert_eq!(system.fingerprint_key(), SystemSource.fingerprint_key());
    assert_ne!(system.fingerprint_key(), [0; 32]);
}

#[test]
fn includes_are_merged_and_watched_and_hashed() {
    let main = "include: [more/a.yaml]\nmodel_list: [{model_name: m, litellm_params: {model: x, api_key: k}}]\nserver: {port: 4100, host: 127.0.0.1}\n";
    let a = "include: [b.yaml, ../main.yaml]\nmodel_list: [{model_name: n, litellm_params: {model: x, api_key: \"${file:key}\"}}]\n";
    let fixture = |b: &str| {
        Fixture::default()
            .file("dir/main.yaml", main)
            .file("dir/more/a.yaml", a)
            .file("dir/more/b.yaml", b)
            .file("dir/more/../main.yaml", "# the same again\nx-nothing: 1")
            .file("dir/more/key", "filed\n")
    };
    let load_with = |b: &str| load(Path::new("dir/main.yaml"), &fixture(b));
    let loaded = load_with("server: {workers: 2}").unwrap_or_else(|report| panic!("{report}"));
    let config = &loaded.config;
    assert_eq!((config.server.port, config.server.workers.map(NonZeroU32::get)), (4100, Some(2)));
    assert_eq!(config.backends.keys().map(BackendId::as_str).collect::<Vec<_>>(), ["m", "n"]);
    assert_eq!(config.backends["n"].credential_reference, "file:key");
    let inputs: Vec<String> = loaded.inputs.paths().map(|path| path.to_string_lossy().into_owned()).collect();
    assert_eq!(
        inputs,
        ["dir/main.yaml", "dir/more/a.yaml", "dir/more/b.yaml", "dir/more/../main.yaml", "dir/more/key"]
    );
    assert_eq!(config.hash.len(), 12);
    let changed = load_with("server: {workers: 3}").unwrap_or_else(|report| panic!("{report}"));
    assert_ne!(changed.config.hash, config.hash);
    let overridden = load_with("server: {port: 4200}").unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(overridden.config.server.port, 4200);
    assert_eq!(overridden.warnings[0].code, "BW107", "{}", overridden.render(ProblemFormat::Human));
    let broken = load_with("nonsense: 1").err().unwrap();
    assert_eq!(
        broken.render(ProblemFormat::Short).lines().next().unwrap().split(": ").next(),
        Some("dir/more/b.yaml:1:1")
    );
    let missing = load(
        Path::new("c.yaml"),
        &Fixture::default().file("c.yaml", "include: [gone.yaml]\nserver: {host: 127.0.0.1}"),
    )
    .err()
    .unwrap();
    assert_eq!(missing.problems[0].code, "BW107");
    assert_eq!((missing.problems[0].line, missing.problems[0].column), (1, 11));
}
