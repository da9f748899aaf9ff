//! No rejection while a backend can serve, and an answer that says when one can (spec/resilience.md 9.3, promise 12): pools
//! of one to five real backends, each in any state of its gates, against a list of what they must say.

use std::sync::Arc;
use std::time::Duration;

use super::ending::{Facts, Final, Ground, Why, decide};
use crate::backend::health::{Checked, Found};
use crate::backend::machine::Command;
use crate::backend::outcome::{Class, Outcome};
use crate::backend::status::Override;
use crate::backend::{Backend, Call, Kind, Outbox, Permit};
use crate::clock;
use crate::config::HealthCheckKind;
use crate::router::tests::{pass, pool};
use crate::router::{Need, Router};

/// Pools that are drawn.
const POOLS: u64 = 200;

/// Between the last change of a gate and the request.
const LATER: Duration = Duration::from_secs(2);

/// The limiter counts in its own fractions.
const TOLERANCE: Duration = Duration::from_millis(5);

/// Exact waits, and failures enough to open any circuit.
const RESILIENCE: &str = "circuit_breaker: {consecutive_failures: 5, jitter: 0, wait_duration_in_open_state: 30s, \
     max_wait_duration_in_open_state: 30s}, quota: {jitter: 0}, health_check: {type: connect}";

/// A state of one backend's gates: its further `litellm_params`, and what a rejection must say.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Gate {
    Closed,
    /// Open, and its time is over: it may be probed.
    Due,
    /// Closed, and its health checks fail.
    Sick,
    Open,
    /// Its one probe is taken.
    Probed,
    Blocked(Class),
    Rpm,
    Tpm,
    Full,
    Draining,
    Forced,
}

impl Gate {
    const ALL: [Self; 16] = [
        Self::Closed,
        Self::Due,
        Self::Sick,
        Self::Open,
        Self::Probed,
        Self::Blocked(Class::RateLimited),
        Self::Blocked(Class::QuotaExhausted),
        Self::Blocked(Class::Auth),
        Self::Blocked(Class::Permission),
        Self::Blocked(Class::NotFound),
        Self::Blocked(Class::Overloaded),
        Self::Rpm,
        Self::Tpm,
        Self::Full,
        Self::Draining,
        Self::Forced,
    ];

    fn params(self) -> &'static str {
        match self {
            Self::Rpm => ", rpm: 6",
            Self::Tpm => ", tpm: 1000",
            Self::Full => ", max_parallel_requests: 1",
            Self::Due | Self::Probed => {
                // It ends the parameters, and its own last brace is theirs.
                "}, resilience: {circuit_breaker: {wait_duration_in_open_state: 1s, max_wait_duration_in_open_state: 1s}"
            }
            Self::Closed | Self::Sick | Self::Open | Self::Blocked(_) | Self::Draining | Self::Forced => "",
        }
    }

    fn can_serve(self) -> bool {
        matches!(self, Self::Closed | Self::Due | Self::Sick)
    }

    /// Whether it makes for a 429, and whether one of spent credit.
    fn is_rate(self) -> (bool, bool) {
        let is_quota = self == Self::Blocked(Class::QuotaExhausted);
        (is_quota || matches!(self, Self::Blocked(Class::RateLimited) | Self::Rpm | Self::Tpm), is_quota)
    }

    /// What a request `LATER` must be told.
    fn reason(self) -> (&'static str, Option<u64>) {
        match self {
            Self::Closed | Self::Due | Self::Sick => ("", None),
            Self::Open => ("circuit_open", Some(28_000)),
            Self::Probed => ("half_open_busy", Some(1_000)),
            Self::Blocked(Class::RateLimited) => ("rate_limited", Some(5_500)),
            Self::Blocked(Class::QuotaExhausted) => ("quota_exhausted", Some(298_000)),
            Self::Blocked(Class::Auth) => ("auth_blocked", Some(58_000)),
            Self::Blocked(Class::Permission) => ("permission_blocked", Some(58_000)),
            Self::Blocked(Class::NotFound) => ("not_found", Some(58_000)),
            Self::Blocked(_) => ("overloaded", Some(5_500)),
            Self::Rpm => ("local_rpm", Some(8_000)),
            Self::Tpm => ("local_tpm", Some(58_000)),
            Self::Full => ("saturated", Some(2_000)),
            Self::Draining => ("draining", None),
            Self::Forced => ("forced_open", None),
        }
    }
}

/// A backend on its way into a state.
struct Bench {
    backend: Arc<Backend>,
    outbox: Arc<Outbox>,
    held: Vec<Permit>,
}

impl Bench {
    fn take(&self) -> Option<Permit> {
        let now = clock::now();
        let limit = Duration::from_secs(600);
        let call = Call { tokens: 1_000, kind: Kind::Unary, limit, lease: now.plus(limit) };
        self.backend.try_take(call, now, &self.outbox).ok()
    }

    fn fail(&self, class: Class) {
        let hint = matches!(class, Class::RateLimited | Class::Overloaded).then_some(Duration::from_millis(7_500));
        if let Some(permit) = self.take() {
            permit.settle(Outcome::Failure { class, hint }, clock::now());
        }
    }

    fn fail_check(&self) {
        let found = Found::Bad { class: Class::Reset, hint: None, is_told: false };
        self.backend.checked(Checked { kind: HealthCheckKind::Connect, started: clock::now(), found });
    }

    async fn enter(&mut self, gate: Gate) {
        match gate {
            Gate::Closed => {}
            Gate::Sick => (0..3).for_each(|_| self.fail_check()),
            Gate::Draining => self.backend.status().set_draining(true),
            Gate::Forced => self.backend.command(Command::Override(Override::ForceOpen)),
            Gate::Full | Gate::Rpm | Gate::Tpm => self.held.extend(self.take()),
            Gate::Blocked(class) => self.fail(class),
            // A lone backend opens by its ratio only, after ten.
            Gate::Open | Gate::Due | Gate::Probed => {
                for _ in 0..12 {
                    self.fail(Class::ServerError);
                    pass(Duration::ZERO).await;
                }
            }
        }
        // What was told is heard now, not after the time that is to pass.
        pass(Duration::ZERO).await;
        assert_eq!(self.backend.status().is_healthy(), gate != Gate::Sick);
        if matches!(gate, Gate::Rpm | Gate::Tpm) {
            self.held.clear();
        }
    }
}

fn need(seconds: u64) -> Need {
    let deadline = clock::now().plus(Duration::from_secs(seconds));
    Need { stream: false, reasoning: false, tokens: 1_000, open_outputs: 0, deadline, attempts_left: 9 }
}

/// Asks for a backend; what must come of it follows from the gates alone.
async fn check(router: &Router, gates: &[Gate], seconds: u64, drawn: &str) {
    let plan = router.plan("r", need(seconds)).unwrap();
    let (_, chosen) = router.next(plan).await.unwrap();
    let exhausted = match chosen {
        Ok(chosen) => {
            let index = usize::from(chosen.permit.backend().id().as_str().as_bytes()[0] - b'a');
            let is_well = |gate: &Gate| gate.can_serve() && *gate != Gate::Sick;
            assert!(gates[index].can_serve(), "{drawn}: {index} was called");
            assert!(is_well(&gates[index]) || !gates.iter().any(is_well), "{drawn}: {index} is sick, and was called");
            return;
        }
        Err(exhausted) => exhausted,
    };
    assert!(!gates.iter().any(|gate| gate.can_serve()), "{drawn}: rejected, {exhausted:?}");
    assert!(!exhausted.is_out_of_budget, "{drawn}: a first attempt needs no budget");
    assert_eq!(exhausted.reasons.len(), gates.len(), "{drawn}: a reason for each");
    let mut least = None;
    for ((_, rejection), gate) in exhausted.reasons.iter().zip(gates) {
        let (name, millis) = gate.reason();
        let wait = millis.map(Duration::from_millis);
        let off = rejection.remaining.unwrap_or_default().abs_diff(wait.unwrap_or_default());
        assert_eq!((rejection.reason.name(), rejection.remaining.is_some()), (name, wait.is_some()), "{drawn}");
        assert!(off <= TOLERANCE, "{drawn}: {rejection:?}");
        least = least.into_iter().chain(wait).min();
    }
    let ground = |(backend, rejection)| Ground { backend, why: Why::PassedOver(rejection) };
    let grounds: Vec<_> = exhausted.reasons.into_iter().map(ground).collect();
    let ending = decide(&Facts {
        route: "r",
        grounds: &grounds,
        last: None,
        out_of_time: false,
        out_of_attempts: false,
        out_of_budget: false,
        attempts: 0,
        trail: "",
        expose_backends: true,
    });
    let Final::Own(words) = ending.what else { unreachable!("{drawn}: no provider has said anything") };
    let expected = match (gates.iter().all(|gate| gate.is_rate().0), gates.iter().all(|gate| gate.is_rate().1)) {
        (_, true) => (429, "insufficient_quota_error"),
        (true, false) => (429, "rate_limit_error"),
        (false, false) => (503, "service_unavailable_error"),
    };
    assert_eq!((words.status, words.kind), expected, "{drawn}");
    let told = ending.waits.retry_after;
    let off =
        told.unwrap_or_default().abs_diff(least.map_or(Duration::ZERO, |least| least.max(Duration::from_secs(1))));
    assert!(told.is_some() == least.is_some() && off <= TOLERANCE, "{drawn}: {told:?}");
    assert_eq!(ending.waits.should_not_retry, least.is_none_or(|least| Duration::from_secs(60) <= least), "{drawn}");
}

#[actix::test]
async fn no_rejection_while_a_backend_can_serve() {
    tokio::time::pause();
    let (mut served, mut rejected) = (0, 0);
    for seed in 0..POOLS {
        let mut random = fastrand::Rng::with_seed(seed);
        // Every second pool has nobody who can serve.
        let from = if seed % 2 == 0 { 0 } else { 3 };
        let gates: Vec<_> = (0..random.usize(1..=5)).map(|_| Gate::ALL[random.usize(from..Gate::ALL.len())]).collect();
        let strategy = if random.bool() { "fallback" } else { "load_balance" };
        // With a second left a request cannot be saved by another backend, and so prefers not to probe.
        let seconds = if random.bool() { 600 } else { 1 };
        let drawn = format!("seed {seed}: {gates:?}, {strategy}, {seconds} s left");
        let names = ["a", "b", "c", "d", "e"];
        let backends: Vec<_> = names.into_iter().zip(gates.iter().map(|gate| gate.params())).collect();
        let router = pool(&backends, strategy, RESILIENCE);
        let table = router.table();
        let outbox = Outbox::new();
        let mut benches = Vec::new();
        for (candidate, gate) in table.find("r").unwrap().candidates().zip(&gates) {
            let backend = Arc::clone(&candidate.backend);
            let mut bench = Bench { backend, outbox: Arc::clone(&outbox), held: Vec::new() };
            bench.enter(*gate).await;
            benches.push(bench);
        }
        pass(LATER).await;
        for (bench, _) in benches.iter_mut().zip(&gates).filter(|(_, gate)| **gate == Gate::Probed) {
            let probe = bench.take();
            assert!(probe.as_ref().is_some_and(Permit::is_probe), "{drawn}");
            bench.held.extend(probe);
        }
        check(&router, &gates, seconds, &drawn).await;
        if gates.iter().any(|gate| gate.can_serve()) {
            served += 1
        } else {
            rejected += 1
        }
        benches.iter().for_each(|bench| bench.backend.stop());
    }
    assert!(25 < served && 75 < rejected, "{served} and {rejected}: both were meant to be drawn");
}
