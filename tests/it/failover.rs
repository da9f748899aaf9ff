//! Failover within the request: whatever a backend does before its answer is whole, the client sees the next one's answer;
//! and what must not fail over does not.

use std::num::NonZeroU64;
use std::time::Duration;

use breakwater::simulator::{CutAt, Dialect, Fault, HangAt, Malformed, Rule, Slow, Template, Truncate};

use crate::support::{Answer, Ask, Client, Gateway, Providers, rate_limited, route, status, status_as, words_of};

/// A failover took less than this: none of the limits that are not written, 30 s and more, was waited for.
const NOT_A_TIMEOUT: Duration = Duration::from_secs(10);

/// Short limits of the first backend alone, for the faults that only a limit ends.
const SHORT: &str = "    resilience: {timeouts: {first_byte: 300ms, first_token: 300ms, idle: 300ms}}\n";

/// The pair with short limits on `openai`.
fn short(providers: &Providers) -> String {
    let yaml = providers.yaml("");
    let (first, rest) = yaml.split_once("  - model_name: azure").unwrap();
    format!("{first}{SHORT}  - model_name: azure{rest}")
}

/// One request while `openai` has this fault: `azure` must answer it, and `openai` must have been called once.
fn check(yaml: &dyn Fn(&Providers) -> String, fault: Fault, stream: bool, kind: &str) {
    let providers = Providers::pair();
    let gateway = Gateway::start(yaml(&providers));
    let reachable = fault != Fault::Refuse;
    providers.fault("openai", fault.clone());
    let answer = gateway.ask(&if stream { Ask::stream("r") } else { Ask::chat("r") });
    assert_eq!(answer.status(), 200, "{fault:?}: {answer:?}");
    assert_eq!(answer.words(), words_of("azure", 16), "{fault:?}: {answer:?}");
    assert_eq!(answer.trail(), format!("openai={kind};azure=200"), "{fault:?}");
    assert_eq!(answer.header("x-breakwater-backend"), Some("azure"), "{fault:?}");
    let calls = (providers.calls("openai"), providers.calls("azure"));
    assert_eq!(calls, (u64::from(reachable), 1), "{fault:?}");
    assert!(answer.elapsed < NOT_A_TIMEOUT, "{fault:?}: {:?}", answer.elapsed);
}

fn at_once(fault: Fault, kind: &str) {
    check(&|providers| providers.yaml(""), fault, false, kind);
}

fn by_limit(fault: Fault, stream: bool) {
    check(&short, fault, stream, "timeout_error");
}

#[test]
fn no_connection_and_no_answer() {
    let kind = "api_connection_error";
    at_once(Fault::Refuse, kind);
    at_once(Fault::AcceptReset, kind);
    at_once(Fault::Reset(CutAt::AfterRequest), kind);
    at_once(Fault::Close(CutAt::AfterRequest), kind);
    at_once(Fault::Reset(CutAt::AfterHeaders), kind);
}

#[test]
fn statuses() {
    let table = [
        (500, "service_unavailable_error"),
        (502, "service_unavailable_error"),
        (503, "service_unavailable_error"),
        (504, "service_unavailable_error"),
        (529, "service_unavailable_error"),
        (408, "timeout_error"),
        (401, "authentication_error"),
        (402, "insufficient_quota_error"),
        (403, "permission_denied_error"),
        (404, "not_found_error"),
        (429, "rate_limit_error"),
    ];
    for (code, kind) in table {
        at_once(status(code), kind);
    }
    at_once(rate_limited(Duration::from_secs(2)), "rate_limit_error");
    at_once(status_as(429, Template::InsufficientQuota), "insufficient_quota_error");
    for template in [Template::Html, Template::Empty, Template::Ollama, Template::Vllm] {
        at_once(status_as(503, template), "service_unavailable_error");
    }
}

#[test]
fn unusable_answers() {
    let kind = "api_connection_error";
    for how in [Truncate::ContentLength, Truncate::Chunked] {
        at_once(Fault::Truncate(how), kind);
    }
    for how in [Malformed::JsonCut, Malformed::Html, Malformed::Empty, Malformed::Gzip, Malformed::Redirect] {
        at_once(Fault::Malformed(how), kind);
    }
    at_once(Fault::Reset(CutAt::AfterBytes(40)), kind);
    at_once(Fault::Close(CutAt::AfterBytes(40)), kind);
}

#[test]
fn silence() {
    by_limit(Fault::Blackhole, false);
    by_limit(Fault::Hang(HangAt::BeforeHeaders), false);
    by_limit(Fault::Hang(HangAt::AfterHeaders), false);
    by_limit(Fault::Slow(Slow { head_byte_ms: 20, body_bytes_per_second: None }), false);
}

#[test]
fn streams_before_their_first_content() {
    let at_once = |fault, kind: &str| check(&|providers| providers.yaml(""), fault, true, kind);
    at_once(status(503), "service_unavailable_error");
    at_once(rate_limited(Duration::from_secs(2)), "rate_limit_error");
    for fault in [
        Fault::Refuse,
        Fault::Reset(CutAt::AfterHeaders),
        Fault::Reset(CutAt::AfterEvents(1)),
        Fault::Close(CutAt::AfterEvents(1)),
        Fault::Close(CutAt::AfterBytes(30)),
        Fault::Malformed(Malformed::JsonToStream),
        Fault::Malformed(Malformed::Html),
        Fault::Malformed(Malformed::Empty),
        Fault::Malformed(Malformed::ContentType),
        Fault::Malformed(Malformed::Gzip),
        Fault::Malformed(Malformed::Redirect),
    ] {
        at_once(fault, "api_connection_error");
    }
    by_limit(Fault::Hang(HangAt::BeforeHeaders), true);
    by_limit(Fault::Hang(HangAt::AfterHeaders), true);
    by_limit(Fault::Hang(HangAt::BeforeFirstContent), true);
    // Comments are no content: they must not keep the attempt alive.
    by_limit(Fault::Hang(HangAt::CommentsBeforeFirstContent(NonZeroU64::new(50).unwrap())), true);
}

#[test]
fn one_failure_hides_nobody() {
    let providers = Providers::pair();
    let gateway = Gateway::start(providers.yaml(""));
    providers.rules("openai", vec![Rule::from(status(503)).times(1)]);
    let mut client = gateway.connect();
    assert_eq!(client.ask(&Ask::chat("r")).trail(), "openai=service_unavailable_error;azure=200");
    assert_eq!(client.ask(&Ask::chat("r")).trail(), "openai=200");
}

#[test]
fn error_types_that_are_not_listed_stay_where_they_are() {
    let providers = Providers::pair();
    let yaml = |listed: &str| {
        let more = format!("fallback_on_error_types: [{listed}]");
        format!("{}router:\n{}", providers.models(&[]), route("r", &["openai", "azure"], &more))
    };
    let table = [
        (status(503), "timeout_error", 503),
        (status(429), "timeout_error, service_unavailable_error", 429),
        (Fault::Refuse, "timeout_error, rate_limit_error", 502),
        (status(408), "rate_limit_error", 504),
        (Fault::Malformed(Malformed::Html), "service_unavailable_error", 502),
    ];
    for (fault, listed, expected) in table {
        providers.reset();
        providers.fault("openai", fault.clone());
        let gateway = Gateway::start(yaml(listed));
        let answer = gateway.ask(&Ask::chat("r"));
        assert_eq!((answer.status(), providers.calls("azure")), (expected, 0), "{fault:?}: {answer:?}");
        assert!(answer.json()["error"]["message"].is_string(), "{answer:?}");
    }
}

#[test]
fn caller_faults_pass_verbatim() {
    let providers = Providers::pair();
    let gateway = Gateway::start(providers.yaml(""));
    let table = [
        status(400),
        status(409),
        status(422),
        status_as(400, Template::ContentFilter),
        status_as(400, Template::ContextLength),
        status_as(400, Template::Raw("{\"error\": {\"message\":\"odd \\u00e9\", \"extra\":[1.00]} }".to_owned())),
    ];
    for fault in table {
        providers.fault("openai", fault.clone());
        let key = "Bearer key-openai";
        let direct = Ask::post("/v1/chat/completions", Ask::chat("gpt-4o").body()).header("authorization", key);
        let expected = Client::connect(providers.address("openai")).unwrap().ask(&direct);
        let before = providers.calls("openai");
        let answer = gateway.ask(&Ask::chat("r"));
        assert_eq!((answer.status(), answer.text()), (expected.status(), expected.text()), "{fault:?}");
        assert_eq!((providers.calls("openai") - before, providers.calls("azure")), (1, 0), "{fault:?}");
        assert_eq!(answer.header("x-should-retry"), None, "{fault:?}: {answer:?}");
    }
}

#[test]
fn the_gateways_own_set_up_never_looks_like_the_clients_fault() {
    let providers = Providers::pair();
    let more = "fallback_on_error_types: [rate_limit_error]";
    let yaml = format!("{}router:\n{}", providers.models(&[]), route("r", &["openai", "azure"], more));
    let table = [
        (401, "authentication_error", "upstream_authentication_error"),
        (403, "permission_denied_error", "upstream_permission_denied"),
        (404, "not_found_error", "upstream_model_not_found"),
    ];
    for (code, kind, expected) in table {
        providers.reset();
        let body =
            r#"{"error":{"message":"Incorrect API key provided: key-openai","type":"t","param":null,"code":null}}"#;
        providers.fault("openai", status_as(code, Template::Raw(body.to_owned())));
        let answer = Gateway::start(yaml.clone()).ask(&Ask::chat("r"));
        let error = answer.error();
        let said = (answer.status(), error["type"].as_str(), error["code"].as_str());
        assert_eq!(said, (502, Some(kind), Some(expected)));
        assert_eq!(answer.header("x-should-retry"), Some("false"));
        assert!(!answer.text().contains("key-openai") && !answer.text().contains("Incorrect"), "{answer:?}");
        assert_eq!(providers.calls("azure"), 0);
    }
}

/// Both backends have their faults, and this is the answer.
fn all_fail(yaml: &dyn Fn(&Providers) -> String, openai: Fault, azure: Fault) -> Answer {
    let providers = Providers::pair();
    let gateway = Gateway::start(yaml(&providers));
    providers.fault("openai", openai);
    providers.fault("azure", azure);
    let answer = gateway.ask(&Ask::chat("r"));
    assert!(providers.calls("openai") <= 1 && providers.calls("azure") <= 1, "{answer:?}");
    assert!(answer.elapsed < NOT_A_TIMEOUT, "{answer:?}");
    answer
}

#[test]
fn when_all_fail_the_answer_says_what_and_when() {
    let pair = |providers: &Providers| providers.yaml("");
    let retry = |answer: &Answer| {
        let header = |name: &str| answer.header(name).unwrap_or("-").to_owned();
        format!("{} {}", header("retry-after"), header("x-should-retry"))
    };
    let both = |fault: Fault| all_fail(&pair, fault.clone(), fault);
    let table = [
        (status(503), 503, "- false"),
        (status(529), 503, "- false"),
        (status(500), 500, "- false"),
        (rate_limited(Duration::from_secs(7)), 429, "7 -"),
        (rate_limited(Duration::from_secs(90)), 429, "90 false"),
        (status_as(429, Template::InsufficientQuota), 429, "- false"),
    ];
    for (fault, expected, waits) in table {
        let answer = both(fault.clone());
        assert_eq!((answer.status(), retry(&answer).as_str()), (expected, waits), "{fault:?}: {answer:?}");
        assert!(answer.json()["error"]["message"].is_string(), "{answer:?}");
    }
    let own = [
        (Fault::Refuse, 502, "api_connection_error", "upstream_connection_error"),
        (Fault::Malformed(Malformed::Html), 502, "api_connection_error", "upstream_malformed_response"),
        (Fault::Truncate(Truncate::ContentLength), 502, "api_connection_error", "upstream_malformed_response"),
        (status(401), 502, "authentication_error", "upstream_authentication_error"),
    ];
    for (fault, expected, kind, code) in own {
        let answer = both(fault.clone());
        let error = answer.error();
        let said = (answer.status(), error["type"].as_str(), error["code"].as_str());
        assert_eq!(said, (expected, Some(kind), Some(code)));
        assert_eq!(retry(&answer), "- false", "{fault:?}: {answer:?}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("openai") && message.contains("azure"), "{message}");
        assert_eq!(answer.header("x-request-id"), answer.header("x-breakwater-request-id"));
    }
}

#[test]
fn when_all_hang_it_is_a_timeout() {
    let both_short = |providers: &Providers| {
        let more = "resilience: {timeouts: {first_byte: 300ms, first_token: 300ms, idle: 300ms}}\n";
        providers.yaml(more)
    };
    let hang = Fault::Hang(HangAt::BeforeHeaders);
    let answer = all_fail(&both_short, hang.clone(), hang);
    let error = answer.error();
    let said = (answer.status(), error["type"].as_str(), error["code"].as_str());
    assert_eq!(said, (504, Some("timeout_error"), Some("first_byte_timeout")));
    assert_eq!(answer.header("x-should-retry"), Some("false"));
    assert_eq!(answer.trail(), "openai=timeout_error;azure=timeout_error");
}

#[test]
fn a_rate_limit_among_other_faults_is_no_429() {
    let pair = |providers: &Providers| providers.yaml("");
    let answer = all_fail(&pair, status(500), rate_limited(Duration::from_secs(3)));
    assert_eq!((answer.status(), answer.code().as_str()), (503, "no_backend_available"), "{answer:?}");
    assert_eq!(answer.header("retry-after"), Some("3"));
    assert_eq!(answer.header("x-should-retry"), None);
}

fn three() -> Providers {
    Providers::start(&[("one", Dialect::OpenAi), ("two", Dialect::Azure), ("three", Dialect::OpenAi)])
}

#[test]
fn attempts_end_at_their_limit() {
    let providers = three();
    let gateway = Gateway::start(providers.yaml("resilience: {attempts: {max_attempts: 2}}\n"));
    for name in ["one", "two", "three"] {
        providers.fault(name, status(500));
    }
    let answer = gateway.ask(&Ask::chat("r"));
    assert_eq!(answer.trail(), "one=service_unavailable_error;two=service_unavailable_error", "{answer:?}");
    assert_eq!((answer.status(), providers.calls("three")), (500, 0));
    assert_eq!(gateway.wait_lines(1)[0]["exhausted_reason"], "attempt_limit");
}

#[test]
fn a_deadline_of_the_client_ends_it() {
    let providers = Providers::pair();
    let gateway = Gateway::start(providers.yaml(""));
    providers.fault("openai", Fault::Hang(HangAt::BeforeHeaders));
    let answer = gateway.ask(&Ask::chat("r").header("x-request-timeout", "1"));
    assert_eq!((answer.status(), answer.code().as_str()), (504, "total_timeout"), "{answer:?}");
    assert!(answer.elapsed < NOT_A_TIMEOUT, "{answer:?}");
    assert_eq!(providers.calls("azure"), 0, "no time was left for another attempt");
}

#[test]
fn fallback_routes_follow_once_each() {
    let providers = three();
    let yaml = format!(
        "{}router:\n{}{}",
        providers.models(&[]),
        route("a", &["one"], "fallbacks: [b]"),
        route("b", &["one", "two"], "fallbacks: [a]"),
    );
    let gateway = Gateway::start(yaml);
    assert_eq!(gateway.ask(&Ask::chat("a")).trail(), "one=200");
    providers.fault("one", status(503));
    let answer = gateway.ask(&Ask::chat("a"));
    assert_eq!(answer.trail(), "one=service_unavailable_error;two=200", "{answer:?}");
    assert_eq!(answer.header("x-breakwater-route"), Some("a"), "the route asked for");
    providers.fault("two", status(503));
    let before = (providers.calls("one"), providers.calls("two"));
    let answer = gateway.ask(&Ask::chat("a"));
    assert_eq!(answer.status(), 503, "{answer:?}");
    let calls = (providers.calls("one") - before.0, providers.calls("two") - before.1);
    assert_eq!(calls, (1, 1), "never the same backend twice in one request");
}

#[test]
fn a_client_can_decline_fallbacks_and_its_wish_stays_here() {
    let providers = Providers::pair();
    let gateway = Gateway::start(providers.yaml(""));
    let ask = Ask::chat_with("r", r#","disable_fallbacks":true,"num_retries":2,"tags":["a"],"litellm_session_id":"s""#);
    // The simulator refuses fields that OpenAI does not know.
    assert_eq!(gateway.ask(&ask).trail(), "openai=200");
    let sent = String::from_utf8_lossy(providers.last("openai").body()).into_owned();
    assert_eq!(sent, r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hello"}]}"#);
    providers.fault("openai", status(503));
    let answer = gateway.ask(&ask);
    assert_eq!((answer.status(), answer.trail()), (503, "openai=service_unavailable_error"), "{answer:?}");
    assert_eq!(providers.calls("azure"), 0);
}
