//! No client ever receives a byte of another's answer, whatever happens on the connections that all of them share.

use std::collections::{BTreeMap, BTreeSet};

use breakwater::simulator::{CutAt, Delay, Fault, Malformed, Match, Rule, Stale, Truncate};
use serde_json::{Value, json};

use crate::support::{
    Answer, Ask, Client, Ending, Gateway, Providers, Scripted, Setup, in_chunks, status, with_length, words_of,
};

/// Clients at the same time.
const CLIENTS: usize = 12;

/// Requests of each.
const REQUESTS: usize = 60;

/// No circuit and no limit takes the faulty backend away from the test.
const STUBBORN: &str = "resilience: {circuit_breaker: {enabled: false}, endpoint_breaker: {enabled: false}}\n";

/// A JSON object as a body that names itself.
fn named(name: &str) -> String {
    json!({"name": name, "choices": []}).to_string()
}

/// A gateway with one worker, and so one pool, in front of this.
fn one_worker(upstream: &Scripted) -> Gateway {
    Setup::new(upstream.yaml("")).workers(1).start()
}

fn input(client: usize, request: usize) -> String {
    format!("input {client}/{request}")
}

/// Every vector of every input, as a provider gives them to one who asks it directly: a function of model and input.
fn vectors(providers: &Providers, backend: &str) -> BTreeMap<String, Value> {
    let inputs: Vec<String> =
        (0..CLIENTS).flat_map(|client| (0..REQUESTS).map(move |request| input(client, request))).collect();
    let path = match backend {
        "azure" => "/openai/deployments/gpt-4o-prod/embeddings?api-version=2024-10-21",
        _ => "/v1/embeddings",
    };
    let body = json!({"model": "gpt-4o", "input": inputs}).to_string();
    let ask = Ask::post(path, body).header("authorization", "Bearer k");
    let answer = Client::connect(providers.address(backend)).unwrap().ask(&ask).json();
    let vectors = answer["data"].as_array().unwrap().iter().map(|vector| vector["embedding"].clone());
    inputs.into_iter().zip(vectors).collect()
}

/// An answer's backend, which must be one of the two.
fn backend(answer: &Answer) -> &str {
    let backend = answer.header("x-breakwater-backend").unwrap_or_default();
    assert!(["openai", "azure"].contains(&backend), "{answer:?}");
    backend
}

#[test]
fn answers_belong_to_their_requests_among_faults() {
    let providers = Providers::pair();
    let expected = BTreeMap::from(["openai", "azure"].map(|name| (name, vectors(&providers, name))));
    let sometimes = |fault: Fault, chance: f64| Rule::from(fault).with_probability(chance);
    providers.rules(
        "openai",
        vec![
            sometimes(Fault::Stale(Stale::ResetOnReuse), 0.10),
            sometimes(Fault::Stale(Stale::CloseIdle(1)), 0.10),
            sometimes(Fault::Truncate(Truncate::ContentLength), 0.05),
            sometimes(Fault::Truncate(Truncate::Chunked), 0.05),
            sometimes(Fault::Reset(CutAt::AfterRequest), 0.05),
            sometimes(Fault::Reset(CutAt::AfterBytes(60)), 0.05),
            sometimes(Fault::Close(CutAt::AfterBytes(700)), 0.05),
            // A broken event of a running stream passes as it is.
            sometimes(Fault::Malformed(Malformed::JsonCut), 0.10)
                .matching(Match { stream: Some(false), ..Match::default() }),
            sometimes(status(503), 0.05),
            sometimes(Fault::Latency(Delay::Uniform(0.0, 4.0)), 0.30),
        ],
    );
    providers.fault("azure", Fault::Latency(Delay::Uniform(0.0, 2.0)));
    let gateway = Gateway::start(providers.yaml(STUBBORN));
    let ids: Vec<String> = std::thread::scope(|scope| {
        let clients = (0..CLIENTS).map(|client| {
            let (gateway, expected) = (&gateway, &expected);
            scope.spawn(move || ask_in_turn(gateway, client, expected))
        });
        let clients: Vec<_> = clients.collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    let distinct: BTreeSet<&String> = ids.iter().collect();
    assert_eq!(distinct.len(), ids.len(), "no answer was handed out twice");
    assert!(100 < ids.len(), "most calls are answered: {}", ids.len());
    // The calls of those who left end a little later than they.
    let scrape = gateway
        .wait_scrape("the end of all attempts", |scrape| scrape.sum("breakwater_attempts_in_flight", &[]) == 0.0);
    for outcome in ["success", "api_connection_error", "service_unavailable_error"] {
        let attempts = scrape.sum("breakwater_attempts_total", &[("outcome", outcome)]);
        assert!(0.0 < attempts, "the test met no {outcome}");
    }
    let resends = [("backend", "openai"), ("reason", "stale_connection")];
    assert!(0.0 < scrape.sum("breakwater_attempt_resends_total", &resends));
}

/// One client's requests over its connection, each checked; gives the ids of whole chat answers.
fn ask_in_turn(gateway: &Gateway, client: usize, expected: &BTreeMap<&str, BTreeMap<String, Value>>) -> Vec<String> {
    let mut connection = gateway.connect();
    let mut ids = Vec::new();
    for request in 0..REQUESTS {
        // Lengths of their own, so that an answer says whose it is.
        let count = 1 + (client * REQUESTS + request) % 211;
        let own = format!("own-{client}-{request}");
        let chat = |more: &str| Ask::chat_with("r", &format!(r#","max_tokens":{count}{more}"#));
        match request % 4 {
            0 => {
                let input = input(client, request);
                let answer = connection.ask(&Ask::embedding("r", &input).header("x-request-id", &own));
                assert_eq!(answer.status(), 200, "{answer:?}");
                assert_eq!(answer.header("x-breakwater-request-id"), Some(&*own));
                assert_eq!(answer.json()["data"][0]["embedding"], expected[backend(&answer)][&input]);
            }
            1 => {
                let answer = connection.ask(&chat("").header("x-request-id", &own));
                assert_eq!(answer.words(), words_of(backend(&answer), count), "{answer:?}");
                assert_eq!(answer.header("x-breakwater-request-id"), Some(&*own));
                ids.push(answer.json()["id"].as_str().unwrap().to_owned());
            }
            2 => {
                let answer = connection.ask(&chat(r#","stream":true"#));
                let whole = words_of(backend(&answer), count);
                match answer.ending {
                    Some(Ending::Whole) => assert_eq!(answer.words(), whole, "{answer:?}"),
                    Some(Ending::Cut) => {
                        assert!(whole.starts_with(&answer.words()), "{answer:?}");
                        connection = gateway.connect();
                    }
                    None => panic!("{answer:?}"),
                }
            }
            _ => {
                // Leaves as soon as the answer begins.
                connection.send(&chat(r#","stream":true"#));
                connection.read_until(":0");
                connection = gateway.connect();
            }
        }
    }
    ids
}

#[test]
fn a_stale_connection_is_replaced_for_free() {
    let providers = Providers::pair();
    let gateway = Setup::new(providers.yaml("")).workers(1).start();
    providers.fault("openai", Fault::Stale(Stale::ResetOnReuse));
    let mut client = gateway.connect();
    for _ in 0..10 {
        assert_eq!(client.ask(&Ask::chat("r")).trail(), "openai=200");
    }
    let scrape = gateway.scrape();
    let resends = [("backend", "openai"), ("reason", "stale_connection")];
    assert_eq!(
        scrape.sum("breakwater_attempt_resends_total", &resends),
        9.0,
        "all but the first connection were reused"
    );
    assert_eq!(scrape.sum("breakwater_attempts_total", &[]), 10.0);
    assert_eq!(scrape.sum("breakwater_attempts_total", &[("outcome", "success")]), 10.0);
    assert_eq!(scrape.sum("breakwater_attempt_failure_details_total", &[]), 0.0);
    assert_eq!(providers.calls("azure"), 0);
}

#[test]
fn connections_are_reused_while_they_live() {
    let providers = Providers::pair();
    let gateway = Setup::new(providers.yaml("")).workers(1).start();
    let mut client = gateway.connect();
    for ask in [Ask::chat("r"), Ask::stream("r"), Ask::embedding("r", "a")].iter().cycle().take(30) {
        assert_eq!(client.ask(ask).trail(), "openai=200");
    }
    assert_eq!((providers.calls("openai"), providers.counts("openai").connections), (30, 1));
}

#[test]
fn interim_answers_are_nobodys() {
    let early = b"HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\n\r\n".as_slice();
    let go_on = b"HTTP/1.1 100 Continue\r\n\r\n".as_slice();
    let answers = ["one", "two", "three"].map(|name| [early, go_on, &with_length(&named(name))].concat());
    let upstream = Scripted::start(answers.to_vec());
    let gateway = one_worker(&upstream);
    let mut client = gateway.connect();
    for name in ["one", "two", "three"] {
        let answer = client.ask(&Ask::chat("r"));
        assert_eq!((answer.status(), answer.text()), (200, named(name)), "{answer:?}");
        assert_eq!(answer.header("link"), None, "{answer:?}");
    }
}

#[test]
fn an_answer_nobody_asked_for_is_thrown_away() {
    let poison = with_length(&named("poison"));
    let stream = b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    for first in [with_length(&named("first")), in_chunks(stream, 1 << 20)] {
        let upstream = Scripted::start(vec![[first, poison.clone()].concat(), with_length(&named("second"))]);
        let gateway = one_worker(&upstream);
        let mut client = gateway.connect();
        let ask = Ask::stream("r");
        let first = client.ask(&ask);
        let second = client.ask(&Ask::chat("r"));
        assert!(!first.text().contains("poison"), "{first:?}");
        assert_eq!((second.status(), second.text()), (200, named("second")), "{second:?}");
    }
}

#[test]
fn what_follows_a_stream_on_its_connection_is_its_own() {
    let providers = Providers::pair();
    let gateway = Setup::new(providers.yaml("")).workers(1).start();
    let mut client = gateway.connect();
    for count in 1..40 {
        let limit = format!(r#","max_tokens":{count}"#);
        let streamed = client.ask(&Ask::chat_with("r", &format!(r#"{limit},"stream":true"#)));
        assert_eq!((streamed.words(), streamed.ending), (words_of("openai", count), Some(Ending::Whole)));
        assert_eq!(client.ask(&Ask::chat_with("r", &limit)).words(), words_of("openai", count));
    }
}

#[test]
fn requests_in_one_breath_are_answered_in_turn() {
    let providers = Providers::pair();
    let gateway = Gateway::start(providers.yaml(""));
    // The first takes longest: its answer comes first all the same.
    providers.rules("openai", vec![Rule::from(Fault::Latency(Delay::Fixed(200.0))).times(1)]);
    let mut client = gateway.connect();
    let counts = [5, 3, 9];
    for count in counts {
        client.send(&Ask::chat_with("r", &format!(r#","max_tokens":{count}"#)));
    }
    for count in counts {
        assert_eq!(client.next().words(), words_of("openai", count));
    }
}
