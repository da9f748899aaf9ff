//! A panicking actor is replaced; a reload keeps what is still true.

use std::time::Duration;

use super::*;
use crate::backend::circuit_breaker::StateName;
use crate::config::{self, SystemSource};

fn configuration(timeout: u32, second: &str) -> Arc<Config> {
    let entry = |name: &str, port: u16| {
        format!(
            "  - {{model_name: {name}, litellm_params: {{model: m, api_key: k, api_base: 'http://127.0.0.1:{port}/v1', timeout: {timeout}}}}}\n"
        )
    };
    let text = format!("server: {{host: 127.0.0.1}}\nmodel_list:\n{}{}", entry("a", 9), entry(second, 10));
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
    assert_eq!(supervisor.metrics().actor_restarts.child(&["backend"]).get(), 1);
    // A second panic at once has to wait: full traffic must not meet a panic loop again and again.
    backend.panic();
    pass(Duration::from_millis(300)).await;
    assert!(!backend.is_alive());
    pass(Duration::from_secs(2)).await;
    assert!(backend.is_alive());
}

#[actix::test]
async fn a_reload_keeps_the_cells_of_what_did_not_change() {
    let supervisor = Supervisor::start(&configuration(5, "b"), Metrics::new()).unwrap();
    let before = supervisor.current().get();
    supervisor.apply(&configuration(7, "c")).await.unwrap();
    let after = supervisor.current().get();
    let find =
        |table: &crate::router::Table, name: &str| table.backends().find(|known| known.id().as_str() == name).cloned();
    let (old, new) = (find(&before, "a").unwrap(), find(&after, "a").unwrap());
    assert!(new.is_same_cell(&old));
    assert!(find(&after, "b").is_none() && find(&after, "c").is_some());
    assert!(find(&before, "b").unwrap().status().is_draining(), "what was removed takes no new calls");
    assert!(!new.status().is_draining());
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
