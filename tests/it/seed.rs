//! The guide's configurations, as their users run them: who answers, with which URL and credential, and in which shares.

use std::time::Duration;

use breakwater::simulator::{Dialect, Match, Rule};

use crate::support::{Ask, Gateway, Providers, Setup, rate_limited, status, words_of};

const BLOCKS: [&str; 8] = [
    include_str!("../../src/config/tests/seed/block_1.yaml"),
    include_str!("../../src/config/tests/seed/block_2.yaml"),
    include_str!("../../src/config/tests/seed/block_3.yaml"),
    include_str!("../../src/config/tests/seed/block_4.yaml"),
    include_str!("../../src/config/tests/seed/block_5.yaml"),
    include_str!("../../src/config/tests/seed/block_6.yaml"),
    include_str!("../../src/config/tests/seed/block_7.yaml"),
    include_str!("../../src/config/tests/seed/block_8.yaml"),
];

/// Requests of a run that counts shares.
const MANY: u64 = 2_000;

/// Connections that send them.
const CONNECTIONS: u64 = 8;

const ROUTER: &str = "gpt-4-router";

/// Block `number`, completed by the `model_list` of the first where the guide shows only a part.
fn block(number: usize) -> String {
    let (models, _) = BLOCKS[0].split_once("router:").unwrap();
    let block = BLOCKS[number - 1];
    match number {
        2 | 4 | 5 | 7 => format!("{models}{block}"),
        3 => {
            let (entry, _) = BLOCKS[1].split_once("    models:").unwrap();
            let inner: String = block.lines().map(|line| format!("    {line}\n")).collect();
            format!("{models}{entry}{inner}")
        }
        _ => block.to_owned(),
    }
}

/// With the variables that the guide exports; `OPENAI_BASE_URL` leads OpenAI's client library elsewhere, and so us.
fn setup(yaml: String, providers: &Providers) -> Setup {
    Setup::new(yaml)
        .variable("OPENAI_API_KEY", "sk-openai")
        .variable("OPENAI_BASE_URL", format!("{}/v1", providers.url("openai")))
        .variable("AZURE_OPENAI_API_KEY", "azure-key")
        .variable("AZURE_OPENAI_ENDPOINT", format!("{}/", providers.url("azure")))
        .variable("AZURE_OPENAI_API_VERSION", "2024-02-01")
}

fn start(yaml: String, providers: &Providers) -> Gateway {
    setup(yaml, providers).start()
}

/// Sends many requests over a few connections; all must be served.
fn send_many(gateway: &Gateway) {
    std::thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(|| {
                let mut client = gateway.connect();
                for _ in 0..MANY / CONNECTIONS {
                    let answer = client.ask(&Ask::chat_with(ROUTER, r#","max_tokens":1"#));
                    assert_eq!(answer.status(), 200, "{answer:?}");
                }
            });
        }
    });
}

#[test]
fn the_end_to_end_block_serves_from_openai_and_fails_over_to_azure() {
    let providers = Providers::pair();
    let gateway = start(block(8), &providers);
    let body = concat!(
        "{ \"model\" : \"gpt-4-router\",\r\n\t\"messages\":[{\"role\":\"user\",",
        "\"content\":\"say \\\"model\\\":\\\"gpt-4-router\\\" \\u00e9\"}] , \"temperature\":1.00e0}"
    );
    let ask = Ask::post("/v1/chat/completions", body)
        .header("authorization", "Bearer the-clients-own")
        .header("api-key", "the-clients-own")
        .header("cookie", "session=the-clients-own");

    let served = gateway.ask(&ask);
    assert_eq!((served.status(), served.words()), (200, words_of("openai", 16)));
    assert_eq!(served.trail(), "openai-gpt4o=200");
    assert_eq!(served.header("x-breakwater-backend"), Some("openai-gpt4o"));
    assert_eq!(served.header("x-breakwater-route"), Some(ROUTER));
    let call = providers.last("openai");
    assert_eq!((call.method.as_str(), call.target.as_str()), ("POST", "/v1/chat/completions"));
    assert_eq!(call.header("authorization"), Some("Bearer sk-openai"));
    let expected = body.replacen("gpt-4-router", "gpt-4o", 1);
    assert_eq!(String::from_utf8_lossy(call.body()), expected);
    assert_eq!(providers.calls("azure"), 0);

    providers.fault("openai", status(503));
    let saved = gateway.ask(&ask);
    assert_eq!((saved.status(), saved.words()), (200, words_of("azure", 16)));
    assert_eq!(saved.trail(), "openai-gpt4o=service_unavailable_error;azure-gpt4o=200");
    assert_eq!(saved.header("x-litellm-attempted-fallbacks"), Some("1"));
    let call = providers.last("azure");
    let target = "/openai/deployments/gpt-4o-azure-prod/chat/completions?api-version=2024-02-01";
    assert_eq!(call.target, target);
    assert_eq!((call.header("api-key"), call.header("authorization")), (Some("azure-key"), None));
    assert_eq!(String::from_utf8_lossy(call.body()), body.replacen("gpt-4-router", "gpt-4o-azure-prod", 1));

    for name in ["openai", "azure"] {
        for call in providers.requests(name) {
            let leaked = call.headers.iter().find(|(_, value)| value.contains("the-clients-own"));
            assert_eq!(leaked, None, "{name}");
        }
    }
}

#[test]
fn swapped_priorities_ask_azure_first() {
    let providers = Providers::pair();
    let gateway = start(block(3), &providers);
    assert_eq!(gateway.ask(&Ask::chat(ROUTER)).trail(), "azure-gpt4o=200");
    providers.fault("azure", status(500));
    assert_eq!(gateway.ask(&Ask::chat(ROUTER)).trail(), "azure-gpt4o=service_unavailable_error;openai-gpt4o=200");
}

#[test]
fn what_the_guide_does_not_list_does_not_fail_over() {
    for (number, listed) in [(1, true), (2, false), (4, true), (8, false)] {
        let providers = Providers::pair();
        let gateway = start(block(number), &providers);
        providers.fault("openai", status(401));
        let answer = gateway.ask(&Ask::chat(ROUTER));
        let expected = if listed { (200, 1) } else { (502, 0) };
        assert_eq!((answer.status(), providers.calls("azure")), expected, "block {number}: {answer:?}");
    }
}

#[test]
fn weights_hold_over_two_workers() {
    let providers = Providers::pair();
    let yaml = block(5).replace("random_weighted", "weighted_round_robin");
    send_many(&start(yaml, &providers));
    let (openai, azure) = (providers.calls("openai"), providers.calls("azure"));
    assert_eq!(openai + azure, MANY);
    assert!(openai.abs_diff(1_400) <= 5, "{openai}/{azure}");
}

#[test]
fn random_weights_hold_within_chance() {
    let providers = Providers::pair();
    send_many(&start(block(5), &providers));
    let openai = providers.calls("openai");
    // Four standard deviations, √(2,000 × 0.7 × 0.3) = 20.5 each: seeds are not ours here, and a test must not fail by luck.
    assert!(openai.abs_diff(1_400) <= 82, "{openai}");
}

#[test]
fn weights_hold_while_a_third_comes_and_goes() {
    let providers =
        Providers::start(&[("openai", Dialect::OpenAi), ("azure", Dialect::Azure), ("third", Dialect::OpenAi)]);
    let third = format!(
        "  - model_name: third\n    litellm_params: {{model: gpt-4o, api_key: k, api_base: \"{}/v1\", api_type: openai}}\nrouter:",
        providers.url("third")
    );
    let yaml = block(5)
        .replace("random_weighted", "weighted_round_robin")
        .replace("router:", &third)
        .replace("    models:\n", "    models:\n      - name: third\n        weight: 0.5\n");
    // Each third call is told to come back in 20 ms: until then it stands in no tier.
    let each_third = Match { every: 3.try_into().ok(), ..Match::default() };
    providers.rules("third", vec![Rule::from(rate_limited(Duration::from_millis(20))).matching(each_third)]);
    send_many(&start(yaml, &providers));
    let statuses = providers.counts("third").statuses;
    assert!(10 <= statuses[&429] && 10 <= statuses[&200], "{statuses:?}");
    // Whoever comes and goes, the other two share 7 : 3, each worker within two picks of it.
    let (openai, azure) = (providers.calls("openai") as f64, providers.calls("azure") as f64);
    assert!((0.3 * openai - 0.7 * azure).abs() <= 5.0, "{openai}/{azure}");
}

#[test]
fn three_regions_are_tried_in_their_order() {
    let providers =
        Providers::start(&[("openai", Dialect::OpenAi), ("eastus", Dialect::Azure), ("westeurope", Dialect::Azure)]);
    let gateway = Setup::new(block(6))
        .variable("OPENAI_API_KEY", "sk-openai")
        .variable("OPENAI_BASE_URL", format!("{}/v1", providers.url("openai")))
        .variable("AZURE_EASTUS_KEY", "key-eastus")
        .variable("AZURE_EASTUS_ENDPOINT", providers.url("eastus"))
        .variable("AZURE_WESTEUROPE_KEY", "key-westeurope")
        .variable("AZURE_WESTEUROPE_ENDPOINT", providers.url("westeurope"))
        .variable("AZURE_OPENAI_API_VERSION", "2024-10-21")
        .start();
    assert_eq!(gateway.ask(&Ask::chat(ROUTER)).trail(), "openai-gpt4o=200");
    providers.fault("openai", status(503));
    let trail = "openai-gpt4o=service_unavailable_error;azure-gpt4o-eastus=200";
    assert_eq!(gateway.ask(&Ask::chat(ROUTER)).trail(), trail);
    providers.fault("eastus", status(500));
    let answer = gateway.ask(&Ask::chat(ROUTER));
    let trail = "openai-gpt4o=service_unavailable_error;azure-gpt4o-eastus=service_unavailable_error;\
                 azure-gpt4o-westeurope=200";
    assert_eq!((answer.trail(), answer.words()), (trail, words_of("westeurope", 16)));
    for region in ["eastus", "westeurope"] {
        let call = providers.last(region);
        let target = format!("/openai/deployments/gpt-4o-{region}/chat/completions?api-version=2024-10-21");
        assert_eq!((call.target.as_str(), call.header("api-key")), (&*target, Some(&*format!("key-{region}"))));
    }
}

#[test]
fn environments_have_routers_of_their_own() {
    let providers = Providers::pair();
    let gateway = start(block(7), &providers);
    assert_eq!(gateway.ask(&Ask::chat("gpt-4-router-prod")).trail(), "azure-gpt4o=200");
    let mut client = gateway.connect();
    let openai = (0..20).filter(|_| client.ask(&Ask::chat("gpt-4-router-staging")).trail() == "openai-gpt4o=200");
    // One connection is one worker: within two picks.
    assert!((8..=12).contains(&openai.count()));
}

#[test]
fn every_model_name_is_callable_by_itself() {
    let providers = Providers::pair();
    let gateway = start(block(1), &providers);
    for name in ["openai-gpt4o", "azure-gpt4o"] {
        assert_eq!(gateway.ask(&Ask::chat(name)).trail(), format!("{name}=200"));
    }
    providers.fault("openai", status(503));
    let alone = gateway.ask(&Ask::chat("openai-gpt4o"));
    assert_eq!((alone.status(), alone.trail()), (503, "openai-gpt4o=service_unavailable_error"), "{alone:?}");
    let listed = gateway.ask(&Ask::get("/v1/models")).json();
    let ids: Vec<&str> = listed["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["azure-gpt4o", ROUTER, "openai-gpt4o"]);
}

#[test]
fn every_spelling_of_the_path_is_one_route() {
    let providers = Providers::pair();
    let gateway = start(block(8), &providers);
    let body = Ask::chat(ROUTER).body().to_vec();
    for path in [
        "/v1/chat/completions",
        "/chat/completions",
        "/v1//chat/completions/",
        "/openai/v1/chat/completions",
        "/openai/deployments/gpt-4-router/chat/completions?api-version=2023-05-15",
        "/engines/gpt-4-router/chat/completions",
    ] {
        let answer = gateway.ask(&Ask::post(path, body.clone()));
        assert_eq!((answer.status(), answer.trail()), (200, "openai-gpt4o=200"), "{path}: {answer:?}");
        assert_eq!(providers.last("openai").target, "/v1/chat/completions", "{path}");
    }
}
