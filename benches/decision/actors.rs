//! Decisions as a request meets them: through the router actor and the handles, with outcomes told and booked.
//!
//! Everything runs on one thread, so that what the actors do off the request's path is part of each figure.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use actix_rt::SystemRunner;
use breakwater::backend::machine::Command;
use breakwater::backend::outcome::Outcome;
use breakwater::backend::status::Override;
use breakwater::backend::{Backend, Call, Kind, Outbox};
use breakwater::clock;
use breakwater::config::{self, SystemSource};
use breakwater::proxy::attempt::Attempt;
use breakwater::proxy::record::{Live, Record};
use breakwater::proxy::trail::{AttemptResult, Entry};
use breakwater::proxy::usage::Usage;
use breakwater::router::{Chosen, Need, RouteEntry, Router};
use breakwater::supervisor::Supervisor;
use breakwater::telemetry::labels::{AttemptKind, AttemptOutcome, Endpoint, RequestOutcome};
use breakwater::telemetry::{Lazily, Metrics, RouteHandles};

use crate::meter::Meter;

/// The one route.
pub(crate) const ROUTE: &str = "gpt-4-router";

/// How long a request may take; beyond any run.
const LIMIT: Duration = Duration::from_secs(600);

/// Tokens a call may cost.
const TOKENS: u64 = 1_000;

/// After so many turns the other tasks of the thread get theirs, as a worker's do between requests.
const TURNS: u64 = 64;

/// A gateway without sockets.
pub(crate) struct Rig {
    pub(crate) system: SystemRunner,
    supervisor: Supervisor,
    pub(crate) router: Router,
}

pub(crate) fn measure(meter: &mut Meter) -> Result<(), String> {
    let two = Rig::start(2)?;
    two.measure_permit(meter)?;
    two.measure_attempt(meter)?;
    two.measure_record(meter)?;
    two.measure_plan(meter);
    two.measure_selection(meter, "router: plan, take and settle, 2 candidates");
    two.open_first()?;
    two.measure_selection(meter, "router: plan, take and settle, 1 of 2 is open");
    let twenty = Rig::start(20)?;
    twenty.measure_selection(meter, "router: plan, take and settle, 20 candidates");
    Ok(())
}

impl Rig {
    /// Starts the actors of a route with so many equal backends. Nothing ever calls them.
    pub(crate) fn start(backends: usize) -> Result<Self, String> {
        let loaded = config::load_text("bench.yaml", &yaml(backends), &SystemSource);
        let config = loaded.map_err(|report| report.to_string())?.config;
        let system = actix_rt::System::new();
        let (supervisor, router) = system.block_on(async {
            let supervisor = Supervisor::start(&config, Metrics::new())?;
            let router = Router::start(supervisor.current().clone(), Arc::new(|| {}));
            // Every actor has its first turn here: one that starts while its runtime is dropped would panic.
            tokio::task::yield_now().await;
            Ok::<_, String>((supervisor, router))
        })?;
        Ok(Self { system, supervisor, router })
    }

    fn route(&self) -> Result<Arc<RouteEntry>, String> {
        self.router.table().find(ROUTE).cloned().ok_or_else(|| format!("the table has no route {ROUTE}"))
    }

    fn first(&self) -> Result<Arc<Backend>, String> {
        let route = self.route()?;
        let first = route.candidates().next().ok_or("the route has no candidate")?;
        Ok(Arc::clone(&first.backend))
    }

    /// Opens the first backend's circuit and waits until it stands in its cell.
    fn open_first(&self) -> Result<(), String> {
        let first = self.first()?;
        first.command(Command::Override(Override::ForceOpen));
        self.system.block_on(async {
            while first.status().circuit().hand != Override::ForceOpen {
                tokio::task::yield_now().await;
            }
        });
        Ok(())
    }

    fn measure_permit(&self, meter: &mut Meter) -> Result<(), String> {
        let backend = self.first()?;
        let outbox = Outbox::new();
        let mut denied = 0_u64;
        meter.measure("permit: take and settle, booked by the actor", |count| {
            self.system.block_on(in_turns(count, || {
                let now = clock::now();
                let call = Call { tokens: TOKENS, kind: Kind::Unary, limit: LIMIT, lease: now.plus(LIMIT) };
                match black_box(&backend).try_take(call, now, &outbox) {
                    Ok(permit) => permit.settle(Outcome::Success, now),
                    Err(_) => denied += 1,
                }
            }));
        });
        outbox.flush();
        meter.check(denied == 0, "a free backend denied a permit");
        meter.check(backend.status().in_flight() == 0, "a settled permit still counts as in flight");
        Ok(())
    }

    fn measure_attempt(&self, meter: &mut Meter) -> Result<(), String> {
        let route = self.route()?;
        let candidate = route.candidates().next().ok_or("the route has no candidate")?;
        let outbox = Outbox::new();
        let mut attempts = 0;
        meter.measure("attempt: permit, metrics, usage, booked", |count| {
            self.system.block_on(in_turns(count, || {
                let now = clock::now();
                let call = Call { tokens: TOKENS, kind: Kind::Unary, limit: LIMIT, lease: now.plus(LIMIT) };
                if let Ok(permit) = candidate.backend.try_take(call, now, &outbox) {
                    let attempt = Attempt::begin(permit, &candidate.handles, None, now);
                    attempt.usage(Usage { input: 17, output: 128, ..Usage::default() });
                    attempt.succeed(clock::now());
                }
            }));
            attempts += count;
        });
        let counted = candidate.handles.attempts(AttemptOutcome::Success).get();
        meter.check(counted == attempts, "the counter of attempts lost some");
        Ok(())
    }

    /// The record of a request from its head to its last byte: its metrics, without a line.
    fn measure_record(&self, meter: &mut Meter) -> Result<(), String> {
        let route = self.route()?;
        let unrouted = self.supervisor.metrics().route("");
        let live = Arc::new(AtomicU32::new(0));
        let id: Arc<str> = Arc::from("019a1b2c-3d4e-7f60-8a9b-0c1d2e3f4a5b");
        meter.measure("record: a request counted, no line", |count| {
            for _ in 0..count {
                black_box(record(&id, &route, &unrouted, &live));
            }
        });
        Ok(())
    }

    fn measure_plan(&self, meter: &mut Meter) {
        let mut missing = 0_u64;
        meter.measure("router: plan", |count| {
            missing += self.system.block_on(async {
                let mut missing = 0;
                for _ in 0..count {
                    missing += u64::from(black_box(self.router.plan(ROUTE, need())).is_none());
                }
                missing
            });
        });
        meter.check(missing == 0, "the router knows no plan for its route");
    }

    fn measure_selection(&self, meter: &mut Meter, name: &str) {
        let mut served = 0;
        let mut asked = 0;
        meter.measure(name, |count| {
            asked += count;
            served += self.system.block_on(async {
                let mut served = 0;
                for _ in 0..count {
                    served += u64::from(self.serve().await);
                }
                served
            });
        });
        meter.check(served == asked, "the router denied although a backend was free");
    }

    /// A request's way through the router. Says whether it was served.
    async fn serve(&self) -> bool {
        let Some(plan) = self.router.plan(ROUTE, need()) else { return false };
        match self.router.next(plan).await {
            Some((_, Ok(Chosen { permit, .. }))) => {
                permit.settle(Outcome::Success, clock::now());
                true
            }
            Some((_, Err(_))) | None => false,
        }
    }
}

/// Does something `count` times and lets the thread's other tasks run in between.
async fn in_turns(count: u64, mut turn: impl FnMut()) {
    for index in 0..count {
        turn();
        if index.is_multiple_of(TURNS) {
            tokio::task::yield_now().await;
        }
    }
}

pub(crate) fn need() -> Need {
    Need {
        stream: false,
        reasoning: false,
        tokens: TOKENS,
        open_outputs: 0,
        deadline: clock::now().plus(LIMIT),
        attempts_left: 9,
    }
}

fn record(
    id: &Arc<str>,
    route: &Arc<RouteEntry>,
    unrouted: &Arc<Lazily<RouteHandles>>,
    live: &Arc<AtomicU32>,
) -> Record {
    let mut record = Record::new(Arc::clone(id), clock::now(), unrouted, None, Live::begin(live));
    record.endpoint = Endpoint::ChatCompletions;
    record.set_route(route);
    if let Some(candidate) = route.candidates().next() {
        let (backend, kind) = (candidate.backend.id().clone(), AttemptKind::First);
        record.trail.push(Entry { backend, result: AttemptResult::Served(200), elapsed: Duration::ZERO, kind });
    }
    record.head(200, clock::now());
    record.end(RequestOutcome::Success);
    record
}

fn yaml(backends: usize) -> String {
    let mut text = String::from("model_list:\n");
    for index in 0..backends {
        text.push_str(&format!(
            "  - {{model_name: b{index}, litellm_params: {{model: openai/gpt-4o, api_base: 'http://127.0.0.1:9/v1', api_key: bench}}}}\n"
        ));
    }
    text.push_str(&format!("router:\n  - model_name: {ROUTE}\n    routing_strategy: load_balance\n    models:\n"));
    for index in 0..backends {
        text.push_str(&format!("      - {{name: b{index}, weight: {}}}\n", 1 + index % 3));
    }
    text
}
