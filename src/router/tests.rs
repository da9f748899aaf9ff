//! Selection over real backends and their actors, on a paused clock: what a route's extra attempts add to the load.

mod choice;

use std::collections::HashMap;
use std::time::Duration;

use super::*;
use crate::backend::outcome::{Class, Outcome};
use crate::backend::{Backend, Observer, machine::Edge};
use crate::clock::{self, Instant};
use crate::config::{self, BackendId, SystemSource};
use crate::provider::Target;
use crate::router::table::Ready;
use crate::telemetry::Metrics;

/// Hears nothing.
struct Deaf;

impl Observer for Deaf {
    fn observe(&self, _: &BackendId, _: &Edge) {}

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
    let text = format!("model_list:\n{models}router:\n{route}resilience: {{{resilience}}}\n");
    start(&text)
}

/// A worker's router over a whole configuration.
fn start(text: &str) -> Router {
    let config = config::load_text("test.yaml", text, &SystemSource).map(|loaded| loaded.config);
    let config = config.unwrap_or_else(|report| panic!("{:?}", report.problems));
    let ready = config.backends.iter().map(|(id, backend)| {
        let target = Arc::new(Target::new(backend).unwrap());
        (id.clone(), Ready { backend: Backend::start(Arc::clone(backend), Arc::new(Deaf)), target, tls: None })
    });
    let ready: HashMap<_, _> = ready.collect();
    let table = Table::build(&config, &ready, &Metrics::new(), None);
    Router::start(CurrentTable::new(table), Arc::new(|| panic!("a router panicked")))
}

fn need() -> Need {
    let deadline = clock::now().plus(Duration::from_secs(600));
    Need { stream: false, reasoning: false, tokens: 1, deadline }
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
