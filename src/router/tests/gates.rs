//! What stands before a choice beside the backend's own circuit: what it shares with others, guesses, recovery.

use super::*;
use crate::backend::circuit_breaker::StateName;
use crate::backend::ledger::{Dimension, Sample};
use crate::backend::machine::Command;
use crate::backend::outcome::{Block, ConnectPhase};
use crate::backend::{Admission, Call, Kind, Reason};

const SECOND: Duration = Duration::from_secs(1);

/// Longer than news are gathered.
const TOLD: Duration = Duration::from_millis(6);

/// The next backend for a request of its own.
async fn next(router: &Router) -> Result<Chosen, Exhausted> {
    router.next(router.plan("r", need()).unwrap()).await.unwrap().1
}

/// Asks, says who it was, and has the call come to this.
async fn call(router: &Router, outcome: Outcome) -> String {
    let chosen = next(router).await.unwrap_or_else(|exhausted| panic!("{exhausted:?}"));
    let id = chosen.permit.backend().id().to_string();
    chosen.permit.settle(outcome, clock::now());
    // The outbox begins to gather, and is emptied.
    pass(Duration::ZERO).await;
    pass(TOLD).await;
    id
}

async fn serve(router: &Router) -> String {
    call(router, Outcome::Success).await
}

/// A backend of the pool.
fn backend(router: &Router, id: &str) -> Arc<Backend> {
    let table = router.table();
    table.backends().find(|backend| backend.id().as_str() == id).cloned().unwrap()
}

/// Its provider says that so many requests are left for the next half minute.
fn say_left(router: &Router, id: &str, remaining: i64) {
    let requests = Dimension { limit: Some(100), remaining: Some(remaining), reset: Some(30 * SECOND) };
    let sample = Sample { requests, tokens: Dimension::default() };
    backend(router, id).scopes().ledger.note(&sample, clock::now());
}

/// Fails until its circuit opens.
async fn open(router: &Router, id: &str) {
    let outbox = Outbox::new();
    while backend(router, id).status().circuit().state != StateName::Open {
        let call = Call { tokens: 1, kind: Kind::Unary, limit: SECOND, lease: clock::now().plus(SECOND) };
        let permit = backend(router, id).try_take(call, clock::now(), &outbox).unwrap();
        permit.settle(Outcome::failure(Class::ServerError), clock::now());
        pass(Duration::from_millis(1)).await;
    }
}

#[actix::test]
async fn a_spent_quota_is_left_before_the_first_refusal_and_taken_where_nothing_else_is() {
    tokio::time::pause();
    let router = router("");
    say_left(&router, "a", 3);
    let mut served = Vec::new();
    for _ in 0..5 {
        served.push(serve(&router).await);
    }
    assert_eq!(served, ["a", "a", "a", "b", "b"]);
    say_left(&router, "b", 0);
    say_left(&router, "c", 0);
    assert_eq!(serve(&router).await, "a", "a guess never rejects");
    pass(30 * SECOND).await;
    assert_eq!(serve(&router).await, "a", "and is over at the reset");
}

#[actix::test]
async fn switched_off_what_a_provider_says_defers_nobody() {
    tokio::time::pause();
    let router = router("quota: {learned: off}");
    say_left(&router, "a", 0);
    assert_eq!(serve(&router).await, "a");
}

#[actix::test]
async fn a_full_deployment_spills_to_the_next_tier() {
    tokio::time::pause();
    let router = router("quota: {ptu_target_utilization: 0.9}");
    let ledger = Arc::clone(&backend(&router, "a").scopes().ledger);
    ledger.note_utilization(8_999, clock::now());
    assert_eq!(serve(&router).await, "a");
    ledger.note_utilization(9_000, clock::now());
    assert_eq!(serve(&router).await, "b");
}

#[actix::test]
async fn the_least_bad_is_the_one_that_comes_back_soonest_and_one_call_goes_there() {
    tokio::time::pause();
    let router = router("circuit_breaker: {jitter: 0}");
    for id in ["b", "a", "c"] {
        open(&router, id).await;
        pass(Duration::from_millis(500)).await;
    }
    assert!(next(&router).await.is_err());
    let plan = router.plan("r", need()).unwrap();
    let (plan, first) = router.least_bad(plan).await.unwrap();
    let first = first.unwrap();
    assert_eq!(first.permit.backend().id().as_str(), "b");
    assert!(first.permit.is_probe());
    let (_, second) = router.least_bad(router.plan("r", need()).unwrap()).await.unwrap();
    assert_eq!(second.unwrap().permit.backend().id().as_str(), "a", "b is taken");
    first.permit.settle(Outcome::failure(Class::ServerError), clock::now());
    pass(Duration::ZERO).await;
    let (_, again) = router.least_bad(plan).await.unwrap();
    assert_ne!(again.unwrap().permit.backend().id().as_str(), "b", "never one twice in a request");
}

#[actix::test]
async fn a_block_or_an_operator_is_not_passed_by_being_the_least_bad() {
    tokio::time::pause();
    let router = pool(&[("a", "")], "fallback", "circuit_breaker: {minimum_calls: 5}");
    open(&router, "a").await;
    let least_bad = || async { router.least_bad(router.plan("r", need()).unwrap()).await.unwrap().1 };
    let blocks = backend(&router, "a").scopes().blocks.clone();
    let (now, policy) = (clock::now(), Default::default());
    blocks.block(Block::Money, None, now, now, &policy, 0.0).unwrap();
    assert!(least_bad().await.is_none());
    assert_eq!(backend(&router, "a").status().in_flight(), 0);
    blocks.lift_all();
    assert!(least_bad().await.is_some());
}

#[actix::test]
async fn a_tier_that_recovers_leaves_the_rest_of_its_load_to_the_next() {
    tokio::time::pause();
    let router = pool(&[("a", ""), ("b", "")], "fallback", "circuit_breaker: {jitter: 0, slow_start: 100s}");
    open(&router, "a").await;
    pass(5 * SECOND).await;
    for _ in 0..3 {
        assert_eq!(serve(&router).await, "a", "its probes");
    }
    for (passed, share) in [(10, 1), (40, 5), (50, 10)] {
        pass(passed * SECOND).await;
        let mut kept = 0;
        for _ in 0..10 {
            kept += usize::from(serve(&router).await == "a");
        }
        assert_eq!(kept, share, "of ten");
    }
}

#[actix::test]
async fn a_host_that_takes_no_connection_is_left_for_all_its_deployments() {
    tokio::time::pause();
    let router = pool(&[("a", ""), ("b", "")], "fallback", "circuit_breaker: {jitter: 0}");
    let refused = Outcome::failure(Class::Connect(ConnectPhase::Connect));
    for _ in 0..5 {
        assert_eq!(call(&router, refused).await, "a");
    }
    let endpoint = Arc::clone(&backend(&router, "a").scopes().endpoint);
    assert_eq!(endpoint.state(clock::now()), StateName::Open);
    assert_eq!(serve(&router).await, "b");
    // An operator resets the backend's own circuit: its host is still not there.
    backend(&router, "a").command(Command::Reset { blocks: true });
    pass(Duration::ZERO).await;
    let admission = backend(&router, "a").read(1, clock::now()).admission;
    let Admission::Denied(rejection) = admission else { panic!("{admission:?}") };
    assert_eq!(rejection.reason, Reason::EndpointOpen);
    pass(5 * SECOND).await;
    assert_eq!(serve(&router).await, "a", "its probe");
    assert_eq!(endpoint.state(clock::now()), StateName::Closed);
    assert_eq!(backend(&router, "a").status().in_flight(), 0);
}

/// Whom a second call beside `a` goes to, for requests of their own: a priority for each backend, hosts by the first letter.
async fn hedged(members: &[(&str, u32)], more: &str, prepare: impl AsyncFn(&Router), wanted: usize) -> Vec<String> {
    let model = |(name, _): &(&str, u32)| {
        let host = &name[..1];
        format!(
            "  - {{model_name: {name}, litellm_params: {{model: {name}, api_key: k, api_base: 'http://{host}.test/v1'}}}}\n"
        )
    };
    let member = |(name, priority): &(&str, u32)| format!("{{name: {name}, priority: {priority}}}");
    let text = format!(
        "model_list:\n{}router:\n  - {{model_name: r, models: [{}]}}\nresilience: {{hedge: {{enabled: true, max_extra: 1.0}}{more}}}\n",
        members.iter().map(model).collect::<String>(),
        members.iter().map(member).collect::<Vec<_>>().join(", ")
    );
    let router = from_text(&text);
    prepare(&router).await;
    let mut gone_to = Vec::new();
    for _ in 0..wanted {
        let plan = router.plan("r", need()).unwrap();
        let (plan, chosen) = router.next(plan).await.unwrap();
        let first = chosen.unwrap_or_else(|exhausted| panic!("{exhausted:?}"));
        plan.asked().retry_budget.count_request(clock::now());
        plan.asked().hedge_budget.count_request(clock::now());
        let beside = router.hedge(plan, first.place).await;
        gone_to.push(beside.map_or_else(|| "-".to_owned(), |(_, chosen)| chosen.permit.backend().id().to_string()));
        first.permit.settle(Outcome::Success, clock::now());
        pass(TOLD).await;
    }
    gone_to
}

#[actix::test]
async fn a_second_call_goes_to_another_host_and_then_to_the_best_priority() {
    tokio::time::pause();
    let nothing = async |_: &Router| {};
    assert_eq!(hedged(&[("a", 1), ("a2", 2), ("b", 3)], "", nothing, 1).await, ["b"]);
    assert_eq!(hedged(&[("a", 1), ("b", 2), ("c", 3)], "", nothing, 1).await, ["b"]);
    assert_eq!(hedged(&[("a", 1), ("a2", 2)], "", nothing, 1).await, ["a2"], "the same host is better than none");
    assert_eq!(hedged(&[("a", 1)], "", nothing, 1).await, ["-"], "never beside itself");
    let mut turns = hedged(&[("a", 1), ("b", 2), ("c", 2)], "", nothing, 2).await;
    turns.sort_unstable();
    assert_eq!(turns, ["b", "c"], "equals take turns");
}

#[actix::test]
async fn a_second_call_is_no_trial_and_asks_nobody_in_doubt() {
    tokio::time::pause();
    let opened = async |router: &Router| open(router, "b").await;
    assert_eq!(hedged(&[("a", 1), ("b", 2), ("c", 3)], "", opened, 1).await, ["c"]);
    let on_trial = async |router: &Router| {
        open(router, "b").await;
        pass(6 * SECOND).await;
    };
    assert_eq!(
        hedged(&[("a", 1), ("b", 2), ("c", 3)], "", on_trial, 1).await,
        ["c"],
        "its time is over: a trial's turn"
    );
    let spent = async |router: &Router| say_left(router, "b", 0);
    assert_eq!(hedged(&[("a", 1), ("b", 2), ("c", 3)], "", spent, 1).await, ["c"]);
    let all = async |router: &Router| {
        open(router, "b").await;
        say_left(router, "c", 0);
    };
    assert_eq!(hedged(&[("a", 1), ("b", 2), ("c", 3)], "", all, 1).await, ["-"]);
}

#[actix::test]
async fn a_second_call_needs_leave_of_both_budgets() {
    tokio::time::pause();
    let nothing = async |_: &Router| {};
    let members = [("a", 1), ("b", 2)];
    let none = ", retry_budget: {budget_ratio: 0.01, min_retries: 0}";
    assert_eq!(hedged(&members, none, nothing, 3).await, ["-", "-", "-"]);
    let one = ", retry_budget: {budget_ratio: 0.01, min_retries: 1}";
    assert_eq!(hedged(&members, one, nothing, 3).await, ["b", "-", "-"], "and nobody is exempt from it");
}
