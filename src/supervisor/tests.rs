//! A panicking actor is replaced; a reload keeps what is still true.

use std::sync::mpsc;
use std::time::Duration;

use super::*;
use crate::backend::circuit_breaker::StateName;
use crate::backend::machine::Command;
use crate::backend::outcome::{Block, Class, Outcome};
use crate::backend::status::Override;
use crate::backend::{Backend, Call, Kind, Outbox};
use crate::clock::{self, Instant};
use crate::config::{self, SystemSource};
use crate::router::Router;

fn configuration(timeout: u32, second: &str) -> Arc<Config> {
    let entry = |name: &str| {
        // Another name is another upstream.
        let port = name.as_bytes()[0];
        format!(
            "  - {{model_name: {name}, litellm_params: {{model: m, api_key: k, api_base: 'http://127.0.0.1:{port}/v1', timeout: {timeout}}}}}\n"
        )
    };
    let text = format!("server: {{host: 127.0.0.1}}\nmodel_list:\n{}{}", entry("a"), entry(second));
    config::load_text("test.yaml", &text, &SystemSource).map(|loaded| loaded.config).unwrap()
}

/// Lets timers that are due within this fire.
async fn pass(time: Duration) {
    tokio::time::advance(time).await;
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

#[actix::test]
async fn a_panicking_backend_is_replaced_closed_and_counted() {
    tokio::time::pause();
    let supervisor = Supervisor::start(&configuration(5, "b"), Metrics::new()).unwrap();
    let table = supervisor.current().get();
    let backend = table.backends().find(|backend| backend.id().as_str() == "a").unwrap();
    let generation = backend.status().circuit().generation;
    backend.panic();
    pass(Duration::from_millis(1)).await;
    assert!(!backend.is_alive());
    pass(Duration::from_secs(1)).await;
    assert!(backend.is_alive());
    let circuit = backend.status().circuit();
    assert_eq!((circuit.state, circuit.generation), (StateName::Closed, generation + 1), "old permits are late");
    assert_eq!((supervisor.metrics().actor_restarts.child(&["backend"]).get(), backend.restarts()), (1, 1));
    // A second panic at once has to wait: full traffic must not meet a panic loop again and again.
    backend.panic();
    pass(Duration::from_millis(300)).await;
    assert!(!backend.is_alive());
    pass(Duration::from_secs(2)).await;
    assert!(backend.is_alive());
}

#[actix::test]
async fn a_panic_closes_an_open_circuit_and_says_so() {
    tokio::time::pause();
    let supervisor = Supervisor::start(&configuration(5, "b"), Metrics::new()).unwrap();
    let table = supervisor.current().get();
    let backend = table.backends().find(|backend| backend.id().as_str() == "a").unwrap();
    let outbox = Outbox::new();
    for _ in 0..20 {
        let call = Call { tokens: 0, kind: Kind::Unary, limit: Duration::from_secs(60), lease: Instant::NEVER };
        let permit = backend.try_take(call, clock::now(), &outbox).unwrap();
        permit.settle(Outcome::failure(Class::ServerError), clock::now());
    }
    outbox.flush();
    assert!(0 < backend.mailbox_depth(), "told and not yet handled");
    pass(Duration::from_millis(1)).await;
    assert_eq!((backend.mailbox_depth(), backend.status().circuit().state), (0, StateName::Open));
    backend.panic();
    pass(Duration::from_secs(1)).await;
    assert_eq!((backend.status().circuit().state, backend.mailbox_depth()), (StateName::Closed, 0));
    let count = |from, to, reason| supervisor.metrics().transitions.child(&["a", from, to, reason]).get();
    assert_eq!((count("closed", "open", "ratio"), count("open", "closed", "actor_restart")), (1, 1));
}

#[actix::test]
async fn a_reload_keeps_the_cells_of_what_did_not_change() {
    tokio::time::pause();
    let supervisor = Supervisor::start(&configuration(5, "b"), Metrics::new()).unwrap();
    let before = supervisor.current().get();
    supervisor.apply(&configuration(7, "c")).await.unwrap();
    let after = supervisor.current().get();
    let find =
        |table: &crate::router::Table, name: &str| table.backends().find(|known| known.id().as_str() == name).cloned();
    let (old, new) = (find(&before, "a").unwrap(), find(&after, "a").unwrap());
    assert!(new.is_same_cell(&old));
    assert!(find(&after, "b").is_none() && find(&after, "c").is_some());
    assert!(!new.status().is_draining());
    let removed = find(&before, "b").unwrap();
    pass(Duration::from_secs(1)).await;
    assert!(!removed.status().is_draining(), "somebody goes by the earlier table");
    drop(before);
    pass(Duration::from_secs(1)).await;
    assert!(removed.status().is_draining(), "what was removed takes no new calls");
}

#[actix::test]
async fn a_worker_that_is_busy_delays_a_reload_for_a_second_and_takes_it_all_the_same() {
    tokio::time::pause();
    let supervisor = Supervisor::start(&configuration(5, "b"), Metrics::new()).unwrap();
    let wanted = configuration(7, "c");
    let (current, hash) = (supervisor.current().clone(), wanted.hash.clone());
    let (started, remote) = mpsc::channel();
    let (free, busy) = mpsc::channel::<()>();
    let (took, taken) = mpsc::channel();
    let worker = actix_rt::Arbiter::new();
    worker.spawn_fn(move || {
        let router = Router::start(current, Arc::new(|| ()));
        actix_rt::spawn(async move {
            started.send(router.remote()).unwrap();
            busy.recv().unwrap();
            while router.table().config.hash != hash {
                tokio::task::yield_now().await;
            }
            took.send(()).unwrap();
        });
    });
    supervisor.join(remote.recv().unwrap());
    let began = clock::now();
    supervisor.apply(&wanted).await.unwrap();
    let waited = clock::now().since(began);
    assert!((1_000..1_010).contains(&waited.as_millis()), "{waited:?}");
    free.send(()).unwrap();
    taken.recv_timeout(Duration::from_secs(10)).unwrap();
    worker.stop();
}

#[actix::test]
async fn who_goes_by_a_table_before_the_last_finds_its_backends_too() {
    tokio::time::pause();
    let supervisor = Supervisor::start(&configuration(5, "b"), Metrics::new()).unwrap();
    let (before, removed) = (supervisor.current().get(), backends(&supervisor).remove(1));
    for (timeout, second) in [(7, "b"), (7, "c")] {
        supervisor.apply(&configuration(timeout, second)).await.unwrap();
        pass(Duration::from_secs(1)).await;
    }
    assert!(!removed.status().is_draining());
    drop(before);
    pass(Duration::from_secs(1)).await;
    assert!(removed.status().is_draining());
}

#[actix::test]
async fn what_was_removed_takes_no_new_calls_after_a_minute_whoever_holds_on_to_it() {
    tokio::time::pause();
    let supervisor = Supervisor::start(&configuration(5, "b"), Metrics::new()).unwrap();
    let (_before, removed) = (supervisor.current().get(), backends(&supervisor).remove(1));
    supervisor.apply(&configuration(5, "c")).await.unwrap();
    for (passes, drains) in [(59, false), (2, true)] {
        pass(Duration::from_secs(passes)).await;
        assert_eq!(removed.status().is_draining(), drains);
    }
}

#[actix::test]
async fn the_series_of_what_is_gone_stay_for_a_minute_and_come_back_from_nothing() {
    tokio::time::pause();
    let supervisor = Supervisor::start(&configuration(5, "b"), Metrics::new()).unwrap();
    let series = |name: &str| {
        let text = supervisor.metrics().encode();
        text.lines().filter(|line| line.contains(&format!("\"{name}\""))).map(str::to_owned).collect::<Vec<_>>()
    };
    let (full, of_a) = (series("b").len(), series("a").len());
    supervisor.metrics().late_results.child(&["b"]).inc();
    supervisor.apply(&configuration(5, "c")).await.unwrap();
    pass(Duration::from_secs(59)).await;
    assert!(full <= series("b").len(), "its last counts have to be scraped");
    pass(Duration::from_secs(2)).await;
    assert_eq!(series("b"), [""; 0]);
    assert!(!supervisor.metrics().encode().contains("\"127.0.0.1:98\""), "its host went along");
    supervisor.apply(&configuration(5, "b")).await.unwrap();
    let again = series("b");
    assert_eq!(again.len(), full, "{again:?}");
    let late = format!("{}{{backend=\"b\"}} 0", crate::telemetry::names::LATE_RESULTS.0);
    assert!(again.contains(&late), "{again:?}");
    pass(Duration::from_secs(61)).await;
    assert_eq!((series("b").len(), series("c").len(), series("a").len()), (full, 0, of_a));
}

/// The backends of a configuration whose entries are these `litellm_params`.
fn backends(supervisor: &Supervisor) -> Vec<Arc<Backend>> {
    let table = supervisor.current().get();
    let mut backends: Vec<_> = table.backends().cloned().collect();
    backends.sort_by(|one, other| one.id().as_str().cmp(other.id().as_str()));
    backends
}

fn pool(entries: &[&str], key: &str) -> Arc<Config> {
    let entry = |(index, params): (usize, &&str)| {
        format!("  - {{model_name: m{index}, litellm_params: {{api_key: '${{KEY}}', {params}}}}}\n")
    };
    let entries: String = entries.iter().enumerate().map(entry).collect();
    let text = format!("environment_variables: {{KEY: {key}}}\nmodel_list:\n{entries}");
    let loaded = config::load_text("test.yaml", &text, &SystemSource);
    loaded.map(|loaded| loaded.config).unwrap_or_else(|report| panic!("{:?}", report.problems))
}

fn block(backend: &Backend, block: Block) {
    let (now, policy) = (clock::now(), Default::default());
    backend.scopes().blocks.block(block, Some(Duration::from_secs(60)), now, now, &policy, 0.0).unwrap();
}

fn is_blocked(backend: &Backend, block: Block) -> bool {
    clock::now() < backend.blocked_until(block)
}

#[actix::test]
async fn backends_share_what_their_key_their_model_and_their_host_have_in_common() {
    let entries = [
        "model: gpt-4o",
        "model: gpt-4o-mini",
        "model: gpt-4o, organization: other",
        "model: gpt-4o, extra_headers: {OpenAI-Project: p}",
        "model: gpt-4o, api_base: 'http://elsewhere.test/v1'",
        "model: gpt-4o, timeout: 7",
    ];
    let supervisor = Supervisor::start(&pool(&entries, "sk-1"), Metrics::new()).unwrap();
    let all = backends(&supervisor);
    for set in [Block::Rate, Block::Auth, Block::NotFound] {
        block(&all[0], set);
    }
    let with = |set| all.iter().map(|backend| is_blocked(backend, set)).collect::<Vec<_>>();
    assert_eq!(with(Block::Auth), [true, true, false, false, false, true], "the same account");
    assert_eq!(with(Block::Rate), [true, false, false, false, false, true], "and the same model");
    assert_eq!(with(Block::NotFound), [true, false, false, false, false, false]);
    let first = &all[0].scopes().endpoint;
    let same_host: Vec<bool> = all.iter().map(|backend| Arc::ptr_eq(&backend.scopes().endpoint, first)).collect();
    assert_eq!(same_host, [true, true, true, true, false, true]);
}

/// Opens the backend's circuit by an operator's hand, which outlasts a reload.
async fn force_open(backend: &Backend) {
    assert!(backend.carry_out(Command::Override(Override::ForceOpen)).await);
}

fn hand(supervisor: &Supervisor, id: &str) -> Override {
    let all = backends(supervisor);
    all.iter().find(|backend| backend.id().as_str() == id).unwrap().status().circuit().hand
}

#[actix::test]
async fn what_comes_back_within_ten_minutes_is_as_it_was() {
    tokio::time::pause();
    let both = configuration(5, "b");
    let supervisor = Supervisor::start(&both, Metrics::new()).unwrap();
    let gone = backends(&supervisor).remove(1);
    force_open(&gone).await;
    let only = configuration(5, "c");
    supervisor.apply(&only).await.unwrap();
    assert!(gone.status().is_draining());
    for (rests, expected) in [(590, Override::ForceOpen), (610, Override::Auto)] {
        supervisor.apply(&only).await.unwrap();
        pass(Duration::from_secs(1)).await;
        pass(Duration::from_secs(rests)).await;
        pass(Duration::from_secs(1)).await;
        supervisor.apply(&both).await.unwrap();
        assert_eq!(hand(&supervisor, "b"), expected, "after {rests} s");
        assert!(!backends(&supervisor)[1].status().is_draining());
    }
    pass(Duration::from_secs(1)).await;
    assert!(!gone.is_alive(), "what has rested long enough ends");
}

#[actix::test]
async fn a_backend_that_is_renamed_goes_on() {
    let entries = |names: [&str; 2]| {
        let entry = |name: &str| {
            format!(
                "  - {{model_name: {name}, litellm_params: {{model: m, api_key: k, api_base: 'http://127.0.0.1:9/v1'}}}}\n"
            )
        };
        let text = format!("server: {{host: 127.0.0.1}}\nmodel_list:\n{}", names.map(entry).concat());
        config::load_text("test.yaml", &text, &SystemSource).map(|loaded| loaded.config).unwrap()
    };
    let supervisor = Supervisor::start(&entries(["a", "b"]), Metrics::new()).unwrap();
    force_open(&backends(&supervisor)[1]).await;
    // Both are the same upstream: `a` keeps its own, and the other is who is left.
    supervisor.apply(&entries(["z", "a"])).await.unwrap();
    assert_eq!((hand(&supervisor, "a"), hand(&supervisor, "z")), (Override::Auto, Override::ForceOpen));
}

#[actix::test]
async fn a_rotated_key_leaves_the_blocks_of_the_old_one_behind() {
    let entries = ["model: gpt-4o"];
    let supervisor = Supervisor::start(&pool(&entries, "sk-1"), Metrics::new()).unwrap();
    let before = backends(&supervisor).remove(0);
    for set in Block::ALL {
        block(&before, set);
    }
    supervisor.apply(&pool(&entries, "sk-1")).await.unwrap();
    assert!(is_blocked(&backends(&supervisor)[0], Block::Auth), "the same key is still refused");
    supervisor.apply(&pool(&entries, "sk-2")).await.unwrap();
    let after = backends(&supervisor).remove(0);
    assert!(after.is_same_cell(&before));
    let held: Vec<Block> = Block::ALL.into_iter().filter(|set| is_blocked(&after, *set)).collect();
    assert_eq!(held, [Block::Overload, Block::NotFound]);
    // The actor writes where the handle reads.
    let call = Call { tokens: 1, kind: Kind::Unary, limit: Duration::from_secs(1), lease: Instant::NEVER };
    after.scopes().blocks.lift_all();
    let permit = after.try_take(call, clock::now(), &Outbox::new()).unwrap();
    permit.settle(Outcome::failure(Class::Auth), clock::now());
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    assert!(is_blocked(&after, Block::Auth));
}

#[actix::test]
async fn a_checker_outlives_its_backends_actor() {
    /// Looks, far above what three checks and a restart need.
    const LOOKS: usize = 10_000;
    async fn wait(until: impl Fn() -> bool) {
        for _ in 0..LOOKS {
            if until() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("it did not come");
    }
    tokio::time::pause();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let text = format!(
        "server: {{host: 127.0.0.1}}\nmodel_list: [{{model_name: a, litellm_params: {{model: m, api_key: k, api_base: 'http://127.0.0.1:{port}/v1'}}}}]\nresilience: {{health_check: {{type: connect, interval: 1s}}}}\n"
    );
    let config = config::load_text("test.yaml", &text, &SystemSource).map(|loaded| loaded.config).unwrap();
    let supervisor = Supervisor::start(&config, Metrics::new()).unwrap();
    let backend = supervisor.current().get().backends().next().cloned().unwrap();
    wait(|| !backend.status().is_healthy()).await;
    backend.panic();
    wait(|| supervisor.metrics().actor_restarts.child(&["backend"]).get() == 1).await;
    let seen = backend.status().health();
    assert!(!seen.is_healthy, "a panic of the actor is no recovery");
    wait(|| seen.failures < backend.status().health().failures).await;
    // It is as it was only as long as somebody checks.
    let off = text.replace("type: connect", "type: off");
    let config = config::load_text("test.yaml", &off, &SystemSource).map(|loaded| loaded.config).unwrap();
    supervisor.apply(&config).await.unwrap();
    wait(|| backend.status().is_healthy()).await;
    let checked_at = backend.status().health().checked_at;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(backend.status().health().checked_at, checked_at, "nobody checks");
}
