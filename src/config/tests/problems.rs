//! Each code with its place and path, and what all problems have in common.

use std::sync::LazyLock;

use super::*;

/// Two good backends with client keys, so that only what a test adds is remarked. Lines 1 to 8.
const GOOD: &str = "\
general_settings: {master_key: \"${MASTER}\"}
model_list:
  - model_name: a
    litellm_params: {model: gpt-4o, api_key: \"${OPENAI_API_KEY}\"}
  - model_name: b
    litellm_params:
      model: azure/dep
      api_key: ${AZURE_OPENAI_API_KEY}
      api_base: ${AZURE_OPENAI_ENDPOINT}
      api_version: 2024-10-21
";

/// A certificate and its key, made once, and a key that is another's.
static TLS: LazyLock<[String; 3]> = LazyLock::new(|| {
    let [one, other] = [(), ()].map(|()| rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap());
    [one.cert.pem(), one.signing_key.serialize_pem(), other.signing_key.serialize_pem()]
});

fn fixture() -> Fixture {
    let [cert, key, other] = TLS.each_ref();
    Fixture::seed()
        .with("MASTER", "a-master-key-that-is-long")
        .with("EMPTY", "")
        .file("none.key", "")
        .file("cert.pem", cert)
        .file("key.pem", key)
        .file("other.pem", other)
        .file("cut.pem", &cert[..cert.len() / 2])
        .file("bad.pem", "no pem")
}

/// What is said about the good file and an addition, as `code line path` with lines counted from the addition.
fn after_good(addition: &str) -> String {
    let first = GOOD.lines().count() as u32;
    let problems = match fixture().load(&format!("{GOOD}{addition}")) {
        Ok(loaded) => loaded.warnings,
        Err(report) => report.problems,
    };
    let said = |problem: &Problem| {
        let mark = match problem.severity {
            Severity::Error => "E",
            Severity::Warning => "W",
            Severity::Note => "N",
        };
        let line = i64::from(problem.line) - i64::from(first);
        format!("{}{mark} {line}:{} {}", problem.code, problem.column, problem.path)
    };
    let said: Vec<String> = problems.iter().map(said).collect();
    said.join("; ")
}

#[test]
fn the_good_file_is_good() {
    assert_eq!(after_good(""), "");
}

/// Checks what is said about additions to the good file.
fn check(table: &[(&str, &str)]) {
    let mut wrong = String::new();
    for (addition, expected) in table {
        let said = after_good(addition);
        if said != *expected {
            let _ = writeln!(wrong, "{addition}\n  said {said}\n  want {expected}");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn keys_and_types_have_their_codes_and_places() {
    check(&[
        ("nonsense: 1", "BW201E 1:1 nonsense"),
        ("x-nonsense: 1", ""),
        ("router_settings: {nonsense: 1}", "BW201W 1:19 router_settings.nonsense"),
        ("router_settings: {redis_host: h, redis_port: 1}", "BW202W 1:19 router_settings.redis_host"),
        ("general_settings2: {}", "BW201E 1:1 general_settings2"),
        ("router_settings: {provider_budget_config: {}}", "BW203E 1:19 router_settings.provider_budget_config"),
        ("router_settings: {enable_tag_filtering: true}", "BW203E 1:41 router_settings.enable_tag_filtering"),
        ("router_settings: {enable_tag_filtering: false}", ""),
        ("litellm_settings: {ssl_verify: no}", "BW203E 1:32 litellm_settings.ssl_verify"),
        (
            "router_settings: {provider_budget_config: {}}\ndefaults: {ignore_unsupported: [router_settings.provider_budget_config]}",
            "BW203W 1:19 router_settings.provider_budget_config",
        ),
        ("server: {port: abc}", "BW204E 1:16 server.port"),
        ("server: {port: 0}", "BW204E 1:16 server.port"),
        ("server: [1]", "BW204E 1:9 server"),
        ("server: {host: [1]}", "BW204E 1:16 server.host"),
        ("reload: {mode: sometimes}", "BW205E 1:16 reload.mode"),
        ("router:\n  - models: [{name: a}, {name: b}]", "BW206E 2:5 router[0]"),
        ("router:\n  - model_name: r", "BW206E 2:5 router[0]"),
        ("router:\n  - model_name: r\n    models: [{priority: 1}]", "BW206E 3:14 router[0].models[0]"),
        (
            "router_settings: {timeout: 30}\nlitellm_settings: {request_timeout: 40}",
            "BW207W 2:37 litellm_settings.request_timeout",
        ),
    ]);
}

#[test]
fn placeholders_have_their_codes_and_places() {
    check(&[
        ("server: {host: \"${NONE}\"}", "BW301E 1:16 server.host"),
        ("server: {host: \"${EMPTY}\"}", "BW302E 1:16 server.host"),
        ("server: {host: \"x${1}\"}", "BW303E 1:18 server.host"),
        ("admin: {token: \"${file:gone.key}\"}", "BW304E 1:16 admin.token"),
        ("admin: {token: \"${file:none.key}\"}", "BW304E 1:16 admin.token"),
        ("admin: {token: sk-aaaaaaaaaaaaaaaaaaaaaaaa}", "BW305W 1:16 admin.token"),
        ("admin: {token: <your-key>}", "BW306W 1:16 admin.token"),
        ("admin: {token: Bearer os.environ/X}", "BW306W 1:16 admin.token"),
    ]);
}

#[test]
fn routes_have_their_codes_and_places() {
    check(&[
        ("router: [{model_name: r, models: [{name: a}, {name: c}]}]", "BW501E 1:53 router[0].models[1].name"),
        (
            "router:\n  - {model_name: r, models: [{name: a}, {name: b}]}\n  - {model_name: r, models: [{name: a}, {name: b}]}",
            "BW502E 3:5 router[1]",
        ),
        ("router: [{model_name: r, models: []}]", "BW503E 1:10 router[0]"),
        ("router: [{model_name: r, models: [{name: a}, {name: a}]}]", "BW504E 1:53 router[0].models[1].name"),
        ("router: [{model_name: a, models: [{name: b}, {name: a}]}]", "BW505W 1:23 router[0].model_name"),
        (
            "router: [{model_name: r, models: [{name: a, priority: 1}, {name: b}]}]",
            "BW506E 1:66 router[0].models[1].name",
        ),
        (
            "router: [{model_name: r, models: [{name: a, priority: 1.5}, {name: b, priority: 2}]}]",
            "BW506E 1:55 router[0].models[0].priority",
        ),
        (
            "router: [{model_name: r, models: [{name: a}, {name: c, priority: x}]}]",
            "BW501E 1:53 router[0].models[1].name; BW506E 1:66 router[0].models[1].priority",
        ),
        (
            "router: [{model_name: r, models: [{name: a, weight: -1}, {name: b, weight: 1}]}]",
            "BW507E 1:53 router[0].models[0].weight",
        ),
        (
            "router: [{model_name: r, models: [{name: a, weight: 1}, {name: b}]}]",
            "BW507E 1:64 router[0].models[1].name",
        ),
        (
            "router: [{model_name: r, models: [{name: a, weight: 0}, {name: b, weight: 0}]}]",
            "BW508E 1:53 router[0].models[0].weight",
        ),
        (
            "router: [{model_name: r, models: [{name: a, weight: 0}, {name: b, weight: 1}]}]",
            "BW515N 1:10 router[0]; BW508W 1:53 router[0].models[0].weight",
        ),
        (
            "router: [{model_name: r, models: [{name: a, weight: 1, priority: 1}, {name: b, priority: 2}]}]",
            "BW509W 1:53 router[0].models[0].weight",
        ),
        (
            "router: [{model_name: r, load_balance_strategy: random, models: [{name: a, weight: 1}, {name: b, weight: 2}]}]",
            "BW509W 1:84 router[0].models[0].weight",
        ),
        (
            "router: [{model_name: r, load_balance_strategy: best, models: [{name: a}, {name: b}]}]",
            "BW510E 1:49 router[0].load_balance_strategy",
        ),
        ("router_settings: {routing_strategy: cost-based-routing}", "BW510W 1:37 router_settings.routing_strategy"),
        (
            "router: [{model_name: r, fallback_on_error_types: [rate_limit], models: [{name: a}, {name: b}]}]",
            "BW511E 1:52 router[0].fallback_on_error_types[0]",
        ),
        (
            "router: [{model_name: r, fallback_on_error_types: [bad_request_error], models: [{name: a}, {name: b}]}]",
            "BW512W 1:52 router[0].fallback_on_error_types[0]",
        ),
        (
            "router: [{model_name: r, fallback_on_error_types: [ContextWindowExceededError], models: [{name: a}, {name: b}]}]",
            "BW512W 1:51 router[0].fallback_on_error_types",
        ),
        (
            "router: [{model_name: r, fallbacks: [q], models: [{name: a}, {name: b}]}]",
            "BW513E 1:38 router[0].fallbacks[0]",
        ),
        ("router_settings: {fallbacks: [{a: [q]}]}", "BW513W 1:36 router_settings.fallbacks[0].a[0]"),
        ("router_settings: {fallbacks: [{q: [a]}]}", "BW513W 1:32 router_settings.fallbacks[0].q"),
        ("router_settings: {fallbacks: [{a: [b]}, {b: [a]}]}", "BW514W 1:46 router_settings.fallbacks[1].b[0]"),
        (
            "router: [{model_name: r, fallbacks: [r], models: [{name: a}, {name: b}]}]",
            "BW514E 1:38 router[0].fallbacks[0]",
        ),
        ("router: [{model_name: r, models: [{name: a}]}]", "BW515N 1:10 router[0]"),
    ]);
}

#[test]
fn limits_have_their_codes_and_places() {
    check(&[
        ("resilience: {timeouts: {connect: 0}}", "BW601E 1:34 resilience.timeouts.connect"),
        ("resilience: {timeouts: {connect: 50ms}}", "BW601W 1:34 resilience.timeouts.connect"),
        ("resilience: {timeouts: {first_byte: 2h}}", "BW601W 1:37 resilience.timeouts.first_byte"),
        ("resilience: {timeouts: {first_token: 20s, total: 10s}}", "BW602E 1:38 resilience.timeouts.first_token"),
        ("resilience: {timeouts: {connect: 20s, first_byte: 10s}}", "BW602E 1:34 resilience.timeouts.connect"),
        ("resilience: {timeouts: {idle: 20s, stream_total: 10s}}", "BW602E 1:31 resilience.timeouts.idle"),
        ("resilience: {timeouts: {total: 10s}}", ""),
        ("resilience: {max_in_flight: 0}", "BW603E 1:29 resilience.max_in_flight"),
        ("resilience: {attempts: {max_attempts: 0}}", "BW603E 1:39 resilience.attempts.max_attempts"),
        (
            "resilience: {circuit_breaker: {failure_rate_threshold: 50}}",
            "BW604E 1:56 resilience.circuit_breaker.failure_rate_threshold",
        ),
        ("resilience: {circuit_breaker: {jitter: 1}}", "BW604E 1:40 resilience.circuit_breaker.jitter"),
        (
            "resilience: {circuit_breaker: {sliding_window: 20s}}",
            "BW604E 1:48 resilience.circuit_breaker.sliding_window",
        ),
        (
            "resilience: {circuit_breaker: {wait_duration_in_open_state: 9s, max_wait_duration_in_open_state: 8s}}",
            "BW604E 1:61 resilience.circuit_breaker.wait_duration_in_open_state",
        ),
        (
            "router: [{model_name: r, models: [{name: a}, {name: b}], resilience: {attempts: {max_attempts: 1}}}]",
            "BW605W 1:10 router[0]",
        ),
        ("resilience: {send_x_should_retry: 1}", "BW204E 1:35 resilience.send_x_should_retry"),
        (
            "router: [{model_name: r, models: [{name: a}, {name: b}], resilience: {circuit_breaker: {}}}]",
            "BW201E 1:71 router[0].resilience.circuit_breaker",
        ),
        ("resilience: {stream: {mid_stream: continue}}", "BW205E 1:35 resilience.stream.mid_stream"),
    ]);
}

#[test]
fn settings_of_the_process_have_their_codes_and_places() {
    check(&[
        ("admin: {host: 0.0.0.0}", ""),
        ("auth: {keys: [{name: k, key: \"${MASTER}\"}]}", "BW704E 1:30 auth.keys[0].key"),
        ("auth: {keys: [{name: k, key: another-long-key, routes: [zz]}]}", "BW704E 1:57 auth.keys[0].routes[0]"),
        ("auth: {keys: [{name: k, key: another-long-key, routes: [\"a*\", b]}]}", ""),
        ("auth: {keys: [{name: k}]}", "BW206E 1:15 auth.keys[0]"),
        ("server: {cors_origins: [\"*\", \"https://App.example:8443\", \"null\"]}", ""),
        ("server: {cors_origins: [\"https://app.example/\"]}", "BW205E 1:25 server.cors_origins[0]"),
        (
            "server: {cors_origins: [app.example, \"https://*.example\"]}",
            "BW205E 1:25 server.cors_origins[0]; BW205E 1:38 server.cors_origins[1]",
        ),
        ("server: {tls: {cert_file: cert.pem}}", "BW705E 1:27 server.tls.cert_file"),
        ("server: {tls: {cert_file: cert.pem, key_file: gone.pem}}", "BW705E 1:47 server.tls.key_file"),
        ("server: {tls: {cert_file: bad.pem, key_file: key.pem}}", "BW705E 1:27 server.tls.cert_file"),
        ("server: {tls: {cert_file: cut.pem, key_file: key.pem}}", "BW705E 1:27 server.tls.cert_file"),
        ("server: {tls: {cert_file: key.pem, key_file: cert.pem}}", "BW705E 1:27 server.tls.cert_file"),
        ("server: {tls: {cert_file: cert.pem, key_file: cert.pem}}", "BW705E 1:47 server.tls.key_file"),
        ("server: {tls: {cert_file: cert.pem, key_file: other.pem}}", "BW705E 1:47 server.tls.key_file"),
        ("server: {tls: {cert_file: cert.pem, key_file: key.pem}}", ""),
        ("admin: {port: 4000}", "BW706E 1:15 admin.port"),
        ("telemetry: {otlp_endpoint: http://h}", ""),
        ("telemetry: {otlp_endpoint: 'h:4318'}", "BW404E 1:28 telemetry.otlp_endpoint"),
        ("telemetry: {otlp_endpoint: 'http://h?x=1'}", "BW404E 1:28 telemetry.otlp_endpoint"),
        ("telemetry: {sample_ratio: 2}", "BW604E 1:27 telemetry.sample_ratio"),
        ("defaults: {default_route: zz}", "BW513E 1:27 defaults.default_route"),
        ("defaults: {implicit_routes: none}", "BW411W -7:5 model_list[0]; BW411W -5:5 model_list[1]"),
    ]);
}

/// Checks whole files, a master key added at their ends.
fn check_whole(table: &[(&str, &str)]) {
    let fixture = Fixture::default().with("MASTER", "a-master-key-that-is-long").with("EMPTY", "");
    let mut wrong = String::new();
    for (yaml, expected) in table {
        let yaml = format!("{yaml}\ngeneral_settings: {{master_key: \"${{MASTER}}\"}}\n");
        let said = codes_with(&fixture, &yaml).join("; ");
        if said != *expected {
            let _ = writeln!(wrong, "{yaml}  said {said}\n  want {expected}");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn prices_are_numbers_that_somebody_could_pay() {
    let table = [
        (
            "model_list:\n  - {model_name: a, litellm_params: {model: x, api_key: k, input_cost_per_token: 2.5e-6}, model_info: {output_cost_per_token: \"1e-5\"}}",
            "",
        ),
        (
            "model_list:\n  - {model_name: a, litellm_params: {model: x, api_key: k, input_cost_per_token: -1, output_cost_per_token: cheap}}",
            "BW205E 2:82 model_list[0].litellm_params.input_cost_per_token; BW204E 2:109 model_list[0].litellm_params.output_cost_per_token",
        ),
    ];
    check_whole(&table);
}

#[test]
fn entries_have_their_own_problems() {
    // Each a whole file: a key, and where it is wrong.
    let table = [
        ("model_list: []", "BW412E 1:1"),
        (
            "model_list:\n  - {model_name: a, litellm_params: {model: anthropic/claude-x, api_key: \"${MASTER}\"}}",
            "BW412E 1:1; BW401W 2:45 model_list[0].litellm_params.model",
        ),
        ("model_list:\n  - {litellm_params: {model: gpt-4o}}", "BW206E 2:5 model_list[0]"),
        ("model_list:\n  - {model_name: a}", "BW206E 2:5 model_list[0]"),
        ("model_list:\n  - {model_name: a, litellm_params: {api_key: x}}", "BW206E 2:37 model_list[0].litellm_params"),
        ("model_list:\n  - {model_name: \"${EMPTY:-}\", litellm_params: {model: x}}", "BW206E 2:5 model_list[0]"),
        (
            "model_list:\n  - {model_name: a, litellm_params: {model: openai/x, api_type: azure}}",
            "BW402E 2:45 model_list[0].litellm_params.model",
        ),
        ("model_list:\n  - {model_name: a, litellm_params: {model: hosted_vllm/x}}", "BW403E 2:5 model_list[0]"),
        (
            "model_list:\n  - {model_name: a, litellm_params: {model: x, api_base: h/v1}}",
            "BW404E 2:58 model_list[0].litellm_params.api_base",
        ),
        (
            "model_list:\n  - {model_name: a, litellm_params: {model: x, api_key: k, api_base: \"http://h.example/v1\"}}",
            "BW405W 2:70 model_list[0].litellm_params.api_base",
        ),
        (
            "model_list:\n  - {model_name: a, litellm_params: {model: x, api_key: k, api_base: \"https://h.example/v1/chat/completions\"}}",
            "BW406W 2:70 model_list[0].litellm_params.api_base",
        ),
        (
            "model_list:\n  - {model_name: a, litellm_params: {model: azure/x, api_key: k, api_base: \"https://r.openai.azure.com/openai/deployments/d\"}}",
            "BW406E 2:76 model_list[0].litellm_params.api_base",
        ),
        ("model_list:\n  - {model_name: a, litellm_params: {model: groq/x}}", "BW407W 2:5 model_list[0]"),
        (
            "model_list:\n  - {model_name: a, litellm_params: {model: azure/x, api_key: k, api_base: \"https://r.openai.azure.com\"}}",
            "BW408W 2:5 model_list[0]",
        ),
        (
            "model_list:\n  - {model_name: a, litellm_params: {model: x, api_key: k, api_version: v1, api_base: \"https://r.openai.azure.com\"}}",
            "BW409W 2:5 model_list[0]",
        ),
        (
            "model_list:\n  - {model_name: a, litellm_params: {model: x, api_key: k}, model_info: {id: i}}\n  - {model_name: b, litellm_params: {model: x, api_key: l}, model_info: {id: i}}",
            "BW410E 3:78 model_list[1].model_info.id",
        ),
        (
            "model_list:\n  - {model_name: a, litellm_params: {model: x, api_key: k}}\n  - {model_name: a, litellm_params: {model: x, api_key: l}}",
            "BW410N 3:5 model_list[1]",
        ),
        (
            "model_list:\n  - {model_name: a, litellm_params: {model: x, api_key: k}}\n  - {model_name: a, litellm_params: {model: y, api_key: k}, model_info: {id: i}}",
            "BW516W 2:5 model_list[0]",
        ),
        (
            "model_list:\n  - {model_name: a, litellm_params: {model: x, api_key: k, rpm: 5}}",
            "BW901W 2:65 model_list[0].litellm_params.rpm",
        ),
        ("model_list:\n  - {model_name: a, rpm: 5, litellm_params: {model: x, api_key: k}}", ""),
        (
            "model_list:\n  - {model_name: a, rpm: 5, litellm_params: {model: x, api_key: k, rpm: 6}}",
            "BW207W 2:73 model_list[0].litellm_params.rpm; BW901W 2:73 model_list[0].litellm_params.rpm",
        ),
        (
            "model_list:\n  - {model_name: a, litellm_params: {model: x, api_key: k}, model_info: {priority: 1}}",
            "BW201W 2:74 model_list[0].model_info.priority",
        ),
        (
            "model_list:\n  - {model_name: a, litellm_params: {model: x, api_key: k}, resilience: {timeouts: {total: 5s}}}",
            "BW602E 2:85 model_list[0].resilience.timeouts.total",
        ),
        (
            "model_list:\n  - {model_name: a, litellm_params: {model: azure/x, tenant_id: t, api_base: \"https://r.openai.azure.com\", api_version: v1}}",
            "BW407E 2:65 model_list[0].litellm_params.tenant_id",
        ),
        (
            "model_list:\n  - {model_name: \"a**\", litellm_params: {model: x, api_key: k}}",
            "BW205E 2:18 model_list[0].model_name",
        ),
        (
            "model_list:\n  - {model_name: a, litellm_params: {model: x, api_key: \"${NONE}\"}}",
            "BW301E 2:57 model_list[0].litellm_params.api_key",
        ),
        (
            "model_list:\n  - {model_name: a, litellm_params: {model: azure/x, api_key: k, api_base: \"${NONE}\"}}\nrouter: [{model_name: r, models: [{name: a}]}]",
            "BW301E 2:76 model_list[0].litellm_params.api_base",
        ),
    ];
    check_whole(&table);
}

#[test]
fn what_protects_is_refused_and_what_only_concerns_virtual_keys_is_told() {
    let info = |info: &str| {
        format!("model_list:\n  - {{model_name: a, litellm_params: {{model: x, api_key: k}}, model_info: {info}}}")
    };
    let guarded = format!("{}\nguardrails: [{{guardrail_name: g}}]", info("{}"));
    let table = [
        (info("{owner: me, team_id: t}"), "BW203W 2:85 model_list[0].model_info.team_id"),
        (info("{access_groups: [g]}"), "BW203W 2:74 model_list[0].model_info.access_groups"),
        (info("{access_windows: []}"), "BW203E 2:74 model_list[0].model_info.access_windows"),
        (guarded.clone(), "BW203E 3:1 guardrails"),
        (format!("{guarded}\ndefaults: {{ignore_unsupported: [guardrails]}}"), "BW203W 3:1 guardrails"),
    ];
    for (yaml, expected) in table {
        let yaml = format!("{yaml}\nserver: {{host: 127.0.0.1}}\n");
        assert_eq!(codes_with(&Fixture::default(), &yaml), [expected], "{yaml}");
    }
}

/// A file without its secrets, as CI has it.
struct Blind(&'static str);

impl Source for Blind {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        match path == Path::new("c.yaml") {
            true => Ok(self.0.as_bytes().to_vec()),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn variable(&self, _name: &str) -> Option<String> {
        None
    }

    fn is_blind(&self) -> bool {
        true
    }
}

#[test]
fn a_file_can_be_checked_without_its_secrets() {
    let good = "\
server: {host: '${HOST}', port: '${PORT}', max_request_bytes: os.environ/SIZE}
general_settings: {master_key: '${file:/run/secrets/master}'}
model_list:
  - {model_name: a, litellm_params: {model: gpt-4o}, rpm: '${RPM}'}
  - {model_name: b, litellm_params: {model: '${MODEL}', api_type: azure, api_base: '${BASE}/x', api_key: '${KEY:?which}', api_version: '${VERSION:-2024-10-21}'}}
  - {model_name: c, litellm_params: {model: azure/d, api_version: 2024-10-21}}
router: [{model_name: r, routing_strategy: '${STRATEGY}', fallback_on_error_types: ['${ERROR}'], models: [{name: a}, {name: b}, {name: c}]}]
resilience: {timeouts: {connect: '${CONNECT}'}, circuit_breaker: {enabled: '${BREAKER}', sliding_window: '${WINDOW}'}}
";
    let loaded = load(Path::new("c.yaml"), &Blind(good)).unwrap_or_else(|report| panic!("{report}"));
    let said: Vec<&str> = loaded.warnings.iter().map(|problem| problem.code).collect();
    assert_eq!(said, [""; 0], "{}", loaded.render(ProblemFormat::Short));
    let config = &loaded.config;
    let base = |name: &str| config.backends[name].base_url.host.clone();
    assert_eq!([base("a"), base("b"), base("c")], ["api.openai.com", "unknown.invalid", "unknown.invalid"]);
    assert_eq!(config.backends["b"].upstream_model, "${MODEL}");
    let bad = "model_list: [{model_name: a, litellm_params: {model: gpt-4o, api_key: '${KEY}'}}]\nrouter: [{model_name: r, models: [{name: '${B}x'}]}]\nserver: {host: 127.0.0.1, prot: '${X}'}\n";
    let report = load(Path::new("c.yaml"), &Blind(bad)).err().unwrap();
    let said: Vec<&str> = report.problems.iter().map(|problem| problem.code).collect();
    assert_eq!(said, ["BW501", "BW201"], "mistakes are found all the same: {report}");
}

#[test]
fn the_process_is_checked_too() {
    let models = "model_list: [{model_name: a, litellm_params: {model: x, api_key: k}}]";
    let table = [
        ("", "BW701W 2:1"),
        ("server: {host: 127.0.0.1}", ""),
        ("general_settings: {master_key: short}", "BW703W 1:32 general_settings.master_key"),
        ("admin: {host: 0.0.0.0}\nserver: {host: 127.0.0.1}", "BW702E 1:15 admin.host"),
        ("server: {host: 127.0.0.1, port: 4001}", "BW706E 1:1"),
    ];
    for (addition, expected) in table {
        let said = codes_with(&Fixture::default(), &format!("{addition}\n{models}")).join("; ");
        assert_eq!(said, expected, "{addition}");
    }
}

#[test]
fn a_file_that_is_no_file() {
    let report = load(Path::new("gone.yaml"), &Fixture::default()).err().unwrap();
    assert_eq!(
        report.render(ProblemFormat::Short),
        "gone.yaml:0:0: error[BW107]: the file cannot be read: no such file\n"
    );
    let huge =
        Fixture { files: HashMap::from([("c.yaml".to_owned(), vec![b'#'; (4 << 20) + 1])]), ..Fixture::default() };
    let report = load(Path::new("c.yaml"), &huge).err().unwrap();
    assert_eq!(report.problems[0].code, "BW105");
}

#[test]
fn twelve_mistakes_are_twelve_problems() {
    let yaml = "\
modellist: []
server: {port: 99999, host: nowhere}
model_list:
  - model_name: a
    litellm_params: {model: gpt-4o, api_key: \"${NONE}\"}
  - model_name: b
    litellm_params: {model: azure/d, api_key: k, api_base: r.openai.azure.com}
  - litellm_params: {model: gpt-4o, api_key: k}
  - model_name: c
    litellm_params: {model: gpt-4o, api_key: k}
router:
  - model_name: r
    routing_strategy: falback
    models: [{name: a}, {name: d}]
  - model_name: s
    fallback_on_error_types: [rate_limit_eror]
    models: [{name: c, weight: -3}]
resilience:
  timeouts: {connect: 0}
  max_in_flight: 0
";
    let said = codes(yaml);
    let errors: Vec<&str> = said.iter().filter(|said| said[..6].ends_with('E')).map(|said| said.as_str()).collect();
    let expected = [
        "BW201E 1:1 modellist",
        "BW204E 2:16 server.port",
        "BW204E 2:29 server.host",
        "BW301E 5:46 model_list[0].litellm_params.api_key",
        "BW404E 7:60 model_list[1].litellm_params.api_base",
        "BW206E 8:5 model_list[2]",
        "BW205E 13:23 router[0].routing_strategy",
        "BW501E 14:32 router[0].models[1].name",
        "BW511E 16:31 router[1].fallback_on_error_types[0]",
        "BW507E 17:32 router[1].models[0].weight",
        "BW601E 19:23 resilience.timeouts.connect",
        "BW603E 20:18 resilience.max_in_flight",
    ];
    assert_eq!(errors, expected);
}

#[test]
fn suggestions_name_what_was_meant() {
    let table = [
        ("modellist: []", "did you mean `model_list`?"),
        ("coldown_time: 5", "keys here are"),
        ("router: [{model_name: r, models: [{name: c}]}]", ""),
        ("router: [{model_name: r, models: [{nam: a}]}]", "`nam` looks like it"),
        (
            "router: [{model_name: rr, models: [{name: a}]}, {model_name: s, models: [{name: rr}]}]",
            "list it under `fallbacks`",
        ),
        ("router: [{model_name: r, routing_strategy: falback, models: [{name: a}]}]", "did you mean `fallback`?"),
        (
            "router: [{model_name: r, fallback_on_error_types: [RateLimitEror], models: [{name: a}]}]",
            "did you mean `rate_limit_error`?",
        ),
        ("router_settings: {fallbacks: \"[{a: [b]}]\"}", "write `fallbacks: […]`"),
        ("resilience: {timeouts: {connect: 010}}", "write 10 or 0o10"),
    ];
    for (addition, part) in table {
        let report = fixture().load(&format!("{GOOD}{addition}")).err().unwrap();
        let said = report.render(ProblemFormat::Short);
        assert!(said.contains(part), "{addition}\n{said}");
    }
}

#[test]
fn no_secret_is_ever_shown() {
    let secret = "geheim-und-lang-1234567890";
    let fixture = Fixture::seed().with("SECRET", secret).file("key", secret);
    let table = [
        format!("{GOOD}admin: {{token: {secret}, nonsense: 1}}"),
        format!("{GOOD}server: {{port: \"${{SECRET}}\"}}"),
        format!("{GOOD}server: {{port: \"${{file:key}}\"}}"),
        format!("model_list: [{{model_name: a, litellm_params: {{model: x, api_key: {secret}, api_base: h}}}}]"),
        format!("model_list: [{{model_name: a, litellm_params: {{model: x, api_base: 'https://me:{secret}@h/v1'}}}}]"),
        format!(
            "model_list: [{{model_name: a, litellm_params: {{model: x, extra_headers: {{x-own: {secret}}}, api_base: h}}}}]"
        ),
        format!("general_settings: {{master_key: \"${{NONE:{secret}}}\"}}"),
        format!("general_settings:\n  master_key: {secret}\n  nonsense: [\n"),
        format!("environment_variables: {{X: {secret}}}\nnonsense: 1"),
        format!("general_settings: {{master_key: |\n  {secret}\n }}"),
    ];
    for yaml in table {
        let (problems, shown) = match fixture.load(&yaml) {
            Ok(loaded) => {
                (loaded.warnings.len(), [ProblemFormat::Human, ProblemFormat::Json].map(|format| loaded.render(format)))
            }
            Err(report) => {
                assert!(!format!("{report:?}").contains(secret), "{report:?}");
                (report.problems.len(), [ProblemFormat::Human, ProblemFormat::Json].map(|format| report.render(format)))
            }
        };
        assert!(problems > 0, "{yaml}");
        assert!(shown.iter().all(|shown| !shown.contains(secret)), "{yaml}\n{}", shown[0]);
    }
}

/// A thousand backends and routes, and as many mistakes: the cost must not grow with their square.
#[test]
fn large_files_are_quick() {
    let mut yaml = "server: {host: 127.0.0.1}\nmodel_list:\n".to_owned();
    for number in 0..1_000 {
        let _ =
            writeln!(yaml, "  - {{model_name: m{number}, litellm_params: {{model: x, api_key: k{number}, wrong: 1}}}}");
    }
    yaml.push_str("router:\n");
    for number in 0..1_000 {
        let _ = writeln!(yaml, "  - {{model_name: r{number}, models: [{{name: m{number}}}, {{name: n{number}}}]}}");
    }
    let report = fixture().load(&yaml).err().unwrap();
    assert_eq!(report.problems.len(), 2_000);
    assert!(report.render(ProblemFormat::Human).ends_with("and 1900 more\n"));
}

#[test]
fn an_alias_says_where_it_was_used() {
    let yaml = format!("{GOOD}x-limits: &limits {{connect: 0}}\nresilience: {{timeouts: *limits}}\n");
    let said = fixture().load(&yaml).err().unwrap().render(ProblemFormat::Short);
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.starts_with("c.yaml:11:29: error[BW601]: resilience.timeouts.connect: "), "{said}");
    assert!(said.contains("(used at 12:24)"), "{said}");
}

proptest::proptest! {
    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        let fixture = Fixture { files: HashMap::from([("c.yaml".to_owned(), bytes)]), ..Fixture::default() };
        if let Err(report) = load(Path::new("c.yaml"), &fixture) {
            report.render(ProblemFormat::Human);
        }
    }

    #[test]
    fn a_damaged_file_never_panics(at in 0..GOOD.len(), insert in "[ \\-:{}\\[\\]&*!<'\"#\n\tü$]{0,4}", cut in 0..40_usize) {
        let yaml = format!("{}{insert}{}", &GOOD[..at], &GOOD[(at + cut).min(GOOD.len())..]);
        if let Err(report) = fixture().load(&yaml) {
            report.render(ProblemFormat::Human);
        }
    }
}
