//! The files under `config/` load, and say nothing but what is expected.

use super::*;

#[test]
fn every_shipped_file_loads_with_the_expected_remarks() {
    let fixture = Fixture::seed()
        .with("BREAKWATER_MASTER_KEY", "a-master-key-that-is-long")
        .with("LITELLM_MASTER_KEY", "a-master-key-that-is-long")
        .with("BATCH_KEY", "a-batch-key-that-is-long")
        .with("AZURE_API_KEY_EU", "eu")
        .with("AZURE_API_KEY_US", "us")
        .with("GROQ_API_KEY", "groq");
    let table: [(&str, &[&str], &str, &str); 6] = [
        ("gateway.yaml", &[], "gpt-4-router", "1[openai-gpt4o 100%] 2[azure-gpt4o 100%]"),
        (
            "multi-region.yaml",
            &["BW701"],
            "gpt-4-router",
            "1[openai-gpt4o 100%] 2[azure-gpt4o-eastus 100%] 3[azure-gpt4o-westeurope 100%]",
        ),
        ("load-balance.yaml", &["BW701"], "gpt-4-router", "1[openai-gpt4o 70%, azure-gpt4o 30%]"),
        ("environments.yaml", &["BW701"], "gpt-4-router-staging", "1[openai-gpt4o 50%, azure-gpt4o 50%]"),
        (
            "litellm-compatible.yaml",
            &["BW901", "BW202"],
            "gpt-4",
            "1[gpt-4o-eu 75%, gpt-4o-us 25%] 2[gpt-4o-openai 100%]",
        ),
        ("reference.yaml", &["BW901"], "gpt-4-router", "1[openai-gpt4o 100%] 2[azure-gpt4o 100%]"),
    ];
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    for (name, expected, route, shape) in table {
        let text = std::fs::read_to_string(directory.join(name)).unwrap();
        assert!(text.starts_with("# yaml-language-server: $schema=./breakwater.schema.json\n"), "{name}");
        let loaded = load_text(name, &text, &fixture).unwrap_or_else(|report| panic!("{report}"));
        let said: Vec<&str> = loaded.warnings.iter().map(|problem| problem.code).collect();
        assert_eq!(said, expected, "{}", loaded.render(ProblemFormat::Human));
        assert_eq!(tiers(&loaded.config, route), shape, "{name}");
    }
}

#[test]
fn the_gateway_file_is_the_guide_and_gives_up_on_a_silent_provider() {
    let text = include_str!("../../../config/gateway.yaml");
    assert!(text.contains(include_str!("seed/block_8.yaml")));
    let config = load_text("gateway.yaml", text, &Fixture::seed()).unwrap_or_else(|report| panic!("{report}")).config;
    let limits = &config.routes["gpt-4-router"].tiers[0].members[0].timeouts;
    assert_eq!(limits.first_token.as_secs(), 15);
    assert!(config.auth.keys.is_empty());
}

/// `reference.yaml` shows the defaults, so it must come to the same as a file that says nothing.
#[test]
fn the_reference_shows_the_defaults() {
    let fixture = Fixture::seed().with("BATCH_KEY", "a-batch-key-that-is-long");
    let text = include_str!("../../../config/reference.yaml");
    let shown = load_text("reference.yaml", text, &fixture).unwrap_or_else(|report| panic!("{report}")).config;
    let silent = loaded(include_str!("seed/block_1.yaml")).config;
    assert_eq!(shown.backends["openai-gpt4o"].policy.circuit_breaker, CircuitBreaker::default());
    assert_eq!(shown.backends["openai-gpt4o"].policy.quota, silent.backends["openai-gpt4o"].policy.quota);
    assert_eq!(shown.backends["openai-gpt4o"].policy.health_check, HealthCheck::default());
    assert_eq!(shown.backends["openai-gpt4o"].policy.endpoint_breaker, EndpointBreaker::default());
    let policy = RoutePolicy {
        on_exhausted: vec![OnExhausted::Queue, OnExhausted::Reject],
        ..silent.routes["gpt-4-router"].policy.clone()
    };
    assert_eq!(shown.routes["gpt-4-router"].policy, policy);
    let server = Server { workers: NonZeroU32::new(2), ..silent.server.clone() };
    assert_eq!(shown.server, server);
    assert_eq!(shown.defaults, silent.defaults);
    assert_eq!(shown.reload, silent.reload);
    assert_eq!(shown.logging, silent.logging);
}

#[test]
fn the_system_source_reads_files_and_nothing_else() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"));
    assert!(SystemSource.read(&directory.join("Cargo.toml")).is_ok_and(|bytes| bytes.starts_with(b"[package]")));
    assert!(SystemSource.read(directory).is_err());
    assert!(SystemSource.read(&directory.join("gone")).is_err_and(|error| error.kind() == io::ErrorKind::NotFound));
    assert!(SystemSource.variable("BREAKWATER_NO_SUCH_VARIABLE").is_none());
}
