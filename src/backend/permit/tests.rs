//! What each end of a permit gives back and tells, seen in the cell and in the edges, on a paused clock.

use std::panic::AssertUnwindSafe;
use std::sync::{Mutex, PoisonError};

use super::*;
use crate::backend::circuit_breaker::Change;
use crate::backend::machine::{Command, Edge};
use crate::backend::{Observer, Reason, Rejection, Scopes};
use crate::config::{self, BackendId, SystemSource};

/// Writes down what it hears.
#[derive(Default)]
struct Scribe(Mutex<Vec<String>>);

impl Observer for Scribe {
    fn observe(&self, _: &BackendId, edge: &Edge) {
        let word = match edge {
            Edge::Circuit(change) => format!("{} {}", change.to.name(), change.cause.name()),
            Edge::Probe(end) => format!("probe {end}"),
            Edge::Late => "late".to_owned(),
            Edge::Blocked(_)
            | Edge::Lifted(_)
            | Edge::Override(_)
            | Edge::WouldOpen(_)
            | Edge::Checked(_)
            | Edge::Health(_) => return,
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(word);
    }

    fn observe_endpoint(&self, _: &str, _: &Change) {}

    fn dropped(&self, backend: &BackendId, messages: usize) {
        panic!("{messages} lost for {backend}");
    }
}

/// A backend and a worker's outbox.
struct Desk {
    backend: Arc<Backend>,
    outbox: Arc<Outbox>,
    scribe: Arc<Scribe>,
}

impl Desk {
    fn new(more: &str, resilience: &str) -> Self {
        tokio::time::pause();
        Self::on_a_paused_clock(more, resilience)
    }

    fn on_a_paused_clock(more: &str, resilience: &str) -> Self {
        let params = format!("model: m, api_key: k, api_base: 'https://b.test/v1'{more}");
        let text = format!(
            "model_list: [{{model_name: b, litellm_params: {{{params}}}}}]\nresilience: {{circuit_breaker: {{{resilience}}}}}\n"
        );
        let config = config::load_text("test.yaml", &text, &SystemSource).unwrap_or_else(|report| panic!("{report}"));
        let scribe = Arc::new(Scribe::default());
        let wanted = Arc::clone(&config.config.backends[0]);
        let backend =
            Backend::start(Arc::clone(&wanted), Scopes::alone(&wanted), Arc::clone(&scribe) as Arc<dyn Observer>);
        Self { backend, outbox: Outbox::new(), scribe }
    }

    fn take(&self) -> Result<Permit, Rejection> {
        let now = clock::now();
        let limit = Duration::from_secs(60);
        let call = Call { tokens: 100, kind: Kind::Stream, limit, lease: now.plus(limit) };
        self.backend.try_take(call, now, &self.outbox)
    }

    /// Everything that was told is heard: the edges since the last time.
    async fn heard(&self) -> Vec<String> {
        self.outbox.flush();
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
        std::mem::take(&mut *self.scribe.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Opens the circuit for a second and lets that pass: the next one taken is a probe.
    async fn half_open(&self) {
        self.heard().await;
        self.backend.command(Command::ForceOpenFor(Duration::from_secs(1)));
        self.heard().await;
        tokio::time::advance(Duration::from_millis(1_001)).await;
        self.heard().await;
    }

    fn probes(&self) -> u8 {
        self.backend.status().circuit().probes
    }
}

const BY_RATIO: &str = "consecutive_failures: off, minimum_calls: 10, failure_rate_threshold: 0.5";

fn failure() -> Outcome {
    Outcome::failure(Class::ServerError)
}

async fn second() {
    tokio::time::advance(Duration::from_secs(1)).await;
}

#[actix::test]
async fn a_success_is_told_once_however_it_is_said() {
    let desk = Desk::new("", BY_RATIO);
    for index in 0..5 {
        let mut permit = desk.take().unwrap();
        assert!(!permit.is_probe());
        match index % 3 {
            0 => permit.settle(Outcome::Success, clock::now()),
            1 => {
                permit.first_content(clock::now());
                permit.first_content(clock::now());
                permit.settle(Outcome::Success, clock::now());
            }
            _ => {
                permit.first_content(clock::now());
                drop(permit);
            }
        }
    }
    for _ in 0..4 {
        desk.take().unwrap().settle(failure(), clock::now());
    }
    assert!(desk.heard().await.is_empty(), "five of nine worked");
    desk.take().unwrap().settle(failure(), clock::now());
    assert_eq!(desk.heard().await, ["open ratio"], "and five of ten");
    assert_eq!(desk.backend.status().in_flight(), 0);
}

#[actix::test]
async fn a_stream_that_breaks_is_a_success_and_a_failure() {
    let desk = Desk::new("", BY_RATIO);
    for index in 0..5 {
        assert!(desk.heard().await.is_empty(), "{index}");
        let mut permit = desk.take().unwrap();
        permit.first_content(clock::now());
        second().await;
        assert_eq!(permit.age(clock::now()), Duration::from_secs(1));
        permit.settle(Outcome::failure(Class::Truncated), clock::now());
    }
    assert_eq!(desk.heard().await, ["open ratio"]);
}

#[actix::test]
async fn a_dropped_permit_leaves_nothing_behind() {
    let desk = Desk::new("", BY_RATIO);
    for _ in 0..20 {
        drop(desk.take().unwrap());
    }
    assert!(desk.heard().await.is_empty());
    assert_eq!(desk.backend.status().in_flight(), 0);
    desk.half_open().await;
    let probe = desk.take().unwrap();
    assert!(probe.is_probe());
    assert_eq!(desk.take().err().map(|no| no.reason), Some(Reason::HalfOpenBusy));
    drop(probe);
    assert_eq!(
        (desk.heard().await, desk.probes()),
        (vec!["half_open wait_over".to_owned(), "probe neutral".to_owned()], 0)
    );
    assert!(desk.take().is_ok());
}

#[actix::test]
async fn a_claim_that_a_limit_denies_gives_its_place_back() {
    let desk = Desk::new(", rpm: 1", BY_RATIO);
    drop(desk.take().unwrap());
    desk.half_open().await;
    assert_eq!(desk.take().err().map(|no| no.reason), Some(Reason::LocalRpm));
    assert_eq!((desk.heard().await.len(), desk.probes(), desk.backend.status().in_flight()), (2, 0, 0));
}

#[actix::test]
async fn our_own_panic_says_nothing_about_the_backend() {
    let slow = "slow_call_duration: 1s";
    // A client that left after so long would have found any answer slow.
    let desk = Desk::new("", slow);
    desk.half_open().await;
    let probe = desk.take().unwrap();
    second().await;
    drop(probe);
    assert!(desk.heard().await.contains(&"open probe_failed".to_owned()));
    let desk = Desk::on_a_paused_clock("", slow);
    desk.half_open().await;
    let probe = desk.take().unwrap();
    second().await;
    let panicked = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let _held = probe;
        panic!("asked to");
    }));
    assert!(panicked.is_err());
    assert!(!desk.heard().await.contains(&"open probe_failed".to_owned()));
    assert_eq!((desk.probes(), desk.backend.status().in_flight()), (0, 0));
}

#[actix::test]
async fn what_was_used_beyond_the_estimate_is_owed() {
    let desk = Desk::new(", tpm: 600", BY_RATIO);
    let permit = desk.take().unwrap();
    permit.usage(300, 200);
    assert_eq!(permit.started(), clock::now());
    assert_eq!(desk.take().err().map(|no| no.reason), None, "100 and a debt of 400 fit into 500");
    assert_eq!(desk.take().err().map(|no| no.reason), Some(Reason::LocalTpm));
    assert_eq!(permit.backend().id().as_str(), "b");
}

#[actix::test]
async fn a_failure_is_told_in_the_next_turn_and_takes_along_what_came_before() {
    let desk = Desk::new("", "consecutive_failures: 2");
    let emptying = actix_rt::spawn(Arc::clone(&desk.outbox).run());
    tokio::task::yield_now().await;
    let began = clock::now();
    desk.take().unwrap().settle(failure(), clock::now());
    desk.take().unwrap().settle(failure(), clock::now());
    let heard = || std::mem::take(&mut *desk.scribe.0.lock().unwrap_or_else(PoisonError::into_inner));
    assert!(heard().is_empty());
    for _ in 0..8 {
        tokio::task::yield_now().await;
    }
    assert_eq!(heard(), ["open run"]);
    assert_eq!(clock::now(), began, "it has not waited for the others");
    emptying.abort();
    let _ = emptying.await;
    desk.backend.command(Command::Reset { blocks: true });
    desk.heard().await;
    for _ in 0..2 {
        desk.take().unwrap().settle(failure(), clock::now());
    }
    for _ in 0..8 {
        tokio::task::yield_now().await;
    }
    assert_eq!(heard(), ["open run"], "without the task, at once");
}
