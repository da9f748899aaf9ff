//! Selection over real backends and their actors, on a paused clock: what a route's extra attempts add to the load.

mod choice;
mod gates;

use std::collections::HashMap;
use std::time::Duration;

use super::*;
use crate::backend::circuit_breaker::Change;
use crate::backend::outcome::{Class, Outcome};
use crate::backend::{Backend, Observer, Scopes, machine::Edge};
use crate::clock::{self, Instant};
use crate::config::{self, BackendId, SystemSource};
use crate::provider::Target;
use crate::router::table::Ready;
use crate::telemetry::Metrics;

/// Hears nothing.
struct Deaf;

impl Observer for Deaf {
    fn observe(&self, _: &BackendId, _: &Edge) {}

    fn observe_endpoint(&self, _: &str, _: &Change) {}

    fn dropped(&self, backend: &BackendId, messages: usize) {
        panic!("{messages} lost for {backend}");
    }
}

/// A worker's router over the backends `a`, `b`, `c` of route `r`, with this under `resilience:`.
pub(super) fn router(resilience: &str) -> Router {
    pool(&[("a", ""), ("b", ""), ("c", "")], "fallback", resilience)
}

/// A worker's router over these backends of route `r`, each with further `litellm_params`.
pub(crate) fn pool(backends: &[(&str, &str)], strategy: &str, resilience: &str) -> Router {
    let entry = |(name, more): &(&str, &str)| {
        let params = format!("model: m, api_key: k, api_base: 'http://{name}.test/v1'{more}");
        format!("  - {{model_name: {name}, litellm_params: {{{params}}}}}\n")
    };
    let models: String = backends.iter().map(entry).collect();
    let members: Vec<_> = backends.iter().map(|(name, _)| format!("{{name: {name}}}")).collect();
    let route = format!("  - {{model_name: r, routing_strategy: {strategy}, models: [{}]}}\n", members.join(", "));
    from_text(&format!("model_list:\n{models}router:\n{route}resilience: {{{resilience}}}\n"))
}

/// A worker's router over what this file says.
fn from_text(text: &str) -> Router {
    let config = config::load_text("test.yaml", text, &SystemSource).map(|loaded| loaded.config);
    let config = config.unwrap_or_else(|report| panic!("{:?}", report.problems));
    let ready = config.backends.iter().map(|(id, backend)| {
        let target = Arc::new(Target::new(backend).unwrap());
        (
            id.clone(),
            Ready {
                backend: Backend::start(Arc::clone(backend), Scopes::alone(backend), Arc::new(Deaf)),
                target,
                tls: None,
            },
        )
    });
    let ready: HashMap<_, _> = ready.collect();
    let table = Table::build(&config, &ready, &Metrics::new(), None);
    Router::start(CurrentTable::new(table), Arc::new(|| panic!("a router panicked")))
}

fn need() -> Need {
    let deadline = clock::now().plus(Duration::from_secs(600));
    Need { stream: false, reasoning: false, tokens: 1, open_outputs: 0, deadline, attempts_left: 9 }
}

/// Lets time go by, and what was told be heard.
pub(crate) async fn pass(time: Duration) {
    tokio::time::advance(time).await;
    for _ in 0..8 {
        tokio::task::yield_now().await;
    }
}

/// Upstream calls by time; one request every 10 ms for a minute, and every call fails with this.
async fn storm(resilience: &str, class: Class) -> Vec<(Instant, usize)> {
    tokio::time::pause();
    let router = router(resilience);
    let mut requests = Vec::new();
    for _ in 0..6_000 {
        pass(Duration::from_millis(10)).await;
        let mut plan = router.plan("r", need()).unwrap();
        plan.asked().retry_budget.count_request(clock::now());
        let mut called: Vec<BackendId> = Vec::new();
        let most = plan.route().config.policy.max_attempts as usize;
        while called.len() < most {
            let (returned, chosen) = router.next(plan).await.unwrap();
            plan = returned;
            let Ok(chosen) = chosen else { break };
            let id = chosen.permit.backend().id().clone();
            assert!(!called.contains(&id), "{id} was called twice by one request");
            called.push(id);
            chosen.permit.settle(Outcome::failure(class), clock::now());
            pass(Duration::ZERO).await;
        }
        requests.push((clock::now(), called.len()));
    }
    requests
}

/// In no ten seconds do calls exceed 1.2 × requests + 3, but for the failovers of the onset.
fn check_bound(requests: &[(Instant, usize)]) {
    // Of the first request: its two failovers go to backends that nobody knows to fail.
    const ONSET: usize = 2;
    for (index, (now, _)) in requests.iter().enumerate() {
        let second = |at: &Instant| at.as_nanos() / 1_000_000_000;
        let recent = requests[..=index].iter().rev().take_while(|(at, _)| second(now) < second(at) + 10);
        let (count, extras) =
            recent.fold((0, 0), |(count, extras), (_, calls)| (count + 1, extras + calls.saturating_sub(1)));
        assert!(10 * extras <= 2 * count + 10 * (3 + ONSET), "{extras} extra calls for {count} requests");
    }
}

#[actix::test]
async fn extra_calls_are_bounded_without_breakers() {
    let never = "circuit_breaker: {consecutive_failures: 1000000, failure_rate_threshold: off}";
    let requests = storm(never, Class::ServerError).await;
    check_bound(&requests);
    assert!(requests.iter().all(|(_, calls)| 1 <= *calls), "the first attempt needs no leave");
    let calls: usize = requests.iter().map(|(_, calls)| calls).sum();
    assert!(7_000 < calls, "{calls}: the budget is there to be used");
}

#[actix::test]
async fn extra_calls_are_bounded_with_breakers() {
    let requests = storm("", Class::ServerError).await;
    check_bound(&requests);
    let calls: usize = requests.iter().map(|(_, calls)| calls).sum();
    assert!((15..200).contains(&calls), "{calls}: five failures open each, then probes");
}

#[actix::test]
async fn leaving_a_bad_backend_for_a_good_one_is_always_allowed() {
    tokio::time::pause();
    let router = router(
        "circuit_breaker: {consecutive_failures: 1000000, failure_rate_threshold: off}, retry_budget: {budget_ratio: 0.1, min_retries: 1}",
    );
    for _ in 0..50 {
        let plan = router.plan("r", need()).unwrap();
        let (plan, first) = router.next(plan).await.unwrap();
        let first = first.map_err(|_| "the first").unwrap();
        assert_eq!(first.permit.backend().id().as_str(), "a");
        first.permit.settle(Outcome::failure(Class::ServerError), clock::now());
        pass(Duration::ZERO).await;
        let (_, second) = router.next(plan).await.unwrap();
        let second = second.map_err(|_| "the second").unwrap();
        assert_eq!(second.permit.backend().id().as_str(), "b");
        second.permit.settle(Outcome::Success, clock::now());
        pass(Duration::from_millis(10)).await;
    }
    let route = Arc::clone(router.plan("r", need()).unwrap().asked());
    assert!(!route.retry_budget.try_extra(&route.config.policy, clock::now()), "what was exempt has been counted");
}

/// A hedging route over `a` and `b` on one host and `c` and `d` on others, in tiers of this order.
fn hedging(max_extra: &str, min_retries: u32) -> Router {
    let entry = |name: &str, host: &str| {
        format!(
            "  - {{model_name: {name}, litellm_params: {{model: m-{name}, api_key: k, api_base: 'http://{host}.test/v1'}}}}\n"
        )
    };
    let models = [entry("a", "one"), entry("b", "one"), entry("c", "two"), entry("d", "three")].concat();
    let members = "[{name: a}, {name: b}, {name: c}, {name: d}]";
    from_text(&format!(
        "model_list:\n{models}router:\n  - {{model_name: r, routing_strategy: fallback, models: {members}}}\n\
         resilience: {{hedge: {{enabled: true, max_extra: {max_extra}}}, retry_budget: {{min_retries: {min_retries}, budget_ratio: 0.01}}}}\n"
    ))
}

/// A request whose first call is slow: whom the second goes to.
async fn second(router: &Router) -> Option<String> {
    let plan = router.plan("r", need()).unwrap();
    plan.route().hedge_budget.count_request(clock::now());
    let (plan, first) = router.next(plan).await.unwrap();
    let first = first.map_err(|_| "the first").unwrap();
    let (plan, chosen) = router.hedge(plan, first.place).await?;
    let id = chosen.permit.backend().id();
    assert!(plan.has_tried(id) && plan.attempts() == 2 && !chosen.permit.is_probe());
    Some(id.to_string())
}

fn backend(router: &Router, name: &str) -> Arc<Backend> {
    let table = router.table();
    table.backends().find(|known| known.id().as_str() == name).cloned().unwrap()
}

#[actix::test]
async fn a_second_call_goes_to_a_good_backend_of_another_host() {
    tokio::time::pause();
    let router = hedging("1.0", 100);
    assert_eq!(second(&router).await.as_deref(), Some("c"), "b is nearer, but of the same host");
    let command = |name: &str, hand| backend(&router, name).command(crate::backend::machine::Command::Override(hand));
    use crate::backend::status::Override::{Auto, ForceOpen};
    command("c", ForceOpen);
    pass(Duration::ZERO).await;
    assert_eq!(second(&router).await.as_deref(), Some("d"));
    command("d", ForceOpen);
    pass(Duration::ZERO).await;
    assert_eq!(second(&router).await.as_deref(), Some("b"), "the same host is better than none");
    command("b", ForceOpen);
    pass(Duration::ZERO).await;
    assert_eq!(second(&router).await, None);
    command("b", Auto);
    pass(Duration::ZERO).await;
    backend(&router, "b").status().set_draining(true);
    assert_eq!(second(&router).await, None, "a draining one takes no new calls");
}

#[actix::test]
async fn a_second_call_is_no_probe_and_spares_who_is_failing() {
    tokio::time::pause();
    let router = pool(&[("a", ""), ("b", "")], "fallback", "hedge: {enabled: true, max_extra: 1.0}");
    let fail = |times: usize| {
        let (b, outbox) = (backend(&router, "b"), Outbox::new());
        for _ in 0..times {
            let now = clock::now();
            let call = crate::backend::Call {
                tokens: 1,
                kind: crate::backend::Kind::Unary,
                limit: Duration::from_secs(1),
                lease: now.plus(Duration::from_secs(2)),
            };
            b.try_take(call, now, &outbox).unwrap().settle(Outcome::failure(Class::ServerError), now);
        }
    };
    assert_eq!(second(&router).await.as_deref(), Some("b"));
    fail(1);
    pass(Duration::ZERO).await;
    assert_eq!(second(&router).await, None, "its last call failed");
    fail(4);
    pass(Duration::ZERO).await;
    pass(Duration::from_secs(10)).await;
    assert_eq!(
        backend(&router, "b").status().state(clock::now()),
        crate::backend::circuit_breaker::StateName::HalfOpen
    );
    assert_eq!(second(&router).await, None, "a hedge is no trial");
}

#[actix::test]
async fn second_calls_stay_within_both_budgets() {
    tokio::time::pause();
    for (max_extra, min_retries, expected) in [("0.05", 1_000, 50), ("1.0", 7, 17), ("0.001", 1_000, 1)] {
        let router = hedging(max_extra, min_retries);
        let mut made = 0;
        for _ in 0..1_000 {
            router.plan("r", need()).unwrap().asked().retry_budget.count_request(clock::now());
            made += usize::from(second(&router).await.is_some());
        }
        assert_eq!(
            made, expected,
            "{max_extra} of 1000 requests, {min_retries} and one in a hundred of the retry budget"
        );
    }
}
