//! The guide's eight YAML blocks, as they stand there.

use std::time::Duration;

use super::*;

const BLOCKS: [&str; 8] = [
    include_str!("seed/block_1.yaml"),
    include_str!("seed/block_2.yaml"),
    include_str!("seed/block_3.yaml"),
    include_str!("seed/block_4.yaml"),
    include_str!("seed/block_5.yaml"),
    include_str!("seed/block_6.yaml"),
    include_str!("seed/block_7.yaml"),
    include_str!("seed/block_8.yaml"),
];

/// The `model_list` of the first block.
fn models() -> &'static str {
    BLOCKS[0].split("router:").next().unwrap()
}

/// Block `number`, completed where the guide shows only a part.
fn whole(number: usize) -> String {
    let block = BLOCKS[number - 1];
    match number {
        2 | 4 | 5 | 7 => format!("{}{block}", models()),
        3 => {
            let entry = BLOCKS[1].split("    models:").next().unwrap();
            let inner: String = block.lines().map(|line| format!("    {line}\n")).collect();
            format!("{}{entry}{inner}", models())
        }
        _ => block.to_owned(),
    }
}

/// The four types that the guide lists, and the one that a rate limit brings along.
const LISTED: [ErrorType; 5] = [
    ErrorType::RateLimit,
    ErrorType::InsufficientQuota,
    ErrorType::ServiceUnavailable,
    ErrorType::ApiConnection,
    ErrorType::Timeout,
];

#[test]
fn every_block_compiles_to_what_its_text_says() {
    let primary = "1[openai-gpt4o 100%] 2[azure-gpt4o 100%]";
    let table = [
        (1, "gpt-4-router", primary, "weighted_round_robin"),
        (2, "gpt-4-router", primary, "weighted_round_robin"),
        (3, "gpt-4-router", "1[azure-gpt4o 100%] 2[openai-gpt4o 100%]", "weighted_round_robin"),
        (4, "gpt-4-router", primary, "weighted_round_robin"),
        (5, "gpt-4-router", "1[openai-gpt4o 70%, azure-gpt4o 30%]", "random_weighted"),
        (
            6,
            "gpt-4-router",
            "1[openai-gpt4o 100%] 2[azure-gpt4o-eastus 100%] 3[azure-gpt4o-westeurope 100%]",
            "weighted_round_robin",
        ),
        (7, "gpt-4-router-prod", "1[azure-gpt4o 100%] 2[openai-gpt4o 100%]", "weighted_round_robin"),
        (7, "gpt-4-router-staging", "1[openai-gpt4o 50%, azure-gpt4o 50%]", "weighted_round_robin"),
        (8, "gpt-4-router", primary, "weighted_round_robin"),
    ];
    for (number, route, expected, strategy) in table {
        let config = loaded(&whole(number)).config;
        assert_eq!(tiers(&config, route), expected, "block {number}");
        assert_eq!(config.routes[route].strategy.name(), strategy, "block {number}");
    }
}

#[test]
fn what_fails_over_is_what_the_guide_lists() {
    for number in [2, 3, 8] {
        let config = loaded(&whole(number)).config;
        let set: Vec<ErrorType> = config.routes["gpt-4-router"].failover_on.iter().collect();
        assert_eq!(set, LISTED, "block {number}");
    }
    let set: Vec<ErrorType> = loaded(&whole(5)).config.routes["gpt-4-router"].failover_on.iter().collect();
    assert_eq!(set, [ErrorType::RateLimit, ErrorType::InsufficientQuota, ErrorType::ServiceUnavailable]);
    assert_eq!(loaded(&whole(1)).config.routes["gpt-4-router"].failover_on, ErrorSet::default_failover());
}

#[test]
fn nothing_but_the_open_listener_is_remarked() {
    for number in 1..=8 {
        let said: Vec<&str> = loaded(&whole(number)).warnings.iter().map(|problem| problem.code).collect();
        assert_eq!(said, ["BW701"], "block {number}");
    }
}

#[test]
fn backends_are_reached_as_the_guide_says() {
    let config = loaded(&whole(6)).config;
    let said: Vec<String> = config
        .backends
        .values()
        .map(|backend| {
            let key = match backend.credential.as_ref().unwrap() {
                Credential::Bearer(key) => format!("bearer {}", key.expose()),
                Credential::ApiKeyHeader(key) => format!("api-key {}", key.expose()),
                Credential::Entra(_) => "entra".to_owned(),
            };
            let version = match &backend.provider {
                Provider::AzureDated { api_version } => api_version.as_str(),
                Provider::OpenAi | Provider::AzureV1 | Provider::Compatible(_) => "-",
            };
            let url = url::show(&backend.base_url);
            let (id, provider, model) = (&backend.id, backend.provider.name(), &backend.upstream_model);
            format!("{id} {provider} {url} {model} {version} {key} {}", backend.credential_reference)
        })
        .collect();
    assert_eq!(
        said,
        [
            "openai-gpt4o openai https://api.openai.com/v1 gpt-4o - bearer openai-secret env:OPENAI_API_KEY",
            "azure-gpt4o-eastus azure https://my-eus.openai.azure.com gpt-4o-eastus 2024-02-01 api-key eastus-secret env:AZURE_EASTUS_KEY",
            "azure-gpt4o-westeurope azure https://my-weu.openai.azure.com gpt-4o-westeurope 2024-02-01 api-key westeurope-secret env:AZURE_WESTEUROPE_KEY",
        ]
    );
}

#[test]
fn every_model_name_is_a_route_of_its_own() {
    let config = loaded(&whole(1)).config;
    let names: Vec<(&str, Origin)> = config.routes.values().map(|route| (route.name.as_str(), route.origin)).collect();
    let expected =
        [("gpt-4-router", Origin::Router), ("openai-gpt4o", Origin::Implicit), ("azure-gpt4o", Origin::Implicit)];
    assert_eq!(names, expected);
    assert_eq!(tiers(&config, "azure-gpt4o"), "1[azure-gpt4o 100%]");
    assert_eq!(config.server.port, 4000);
    assert_eq!(config.backends["openai-gpt4o"].policy.circuit_breaker.sliding_window, Duration::from_secs(40));
    assert_eq!(config.backends["openai-gpt4o"].policy.circuit_breaker.consecutive_failures, Some(5));
}
