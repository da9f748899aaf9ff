//! What one HTTP worker has for itself: its proxy, its log, its keys; and what it shares with the others.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};

use prometheus::IntCounter;

use super::admin::reloads::Depth;
use super::auth::Keys;
use super::cors::Cors;
use super::key_limits::KeyLimits;
use super::scrape::Scrapes;
use crate::backend::Waiting;
use crate::proxy::Proxy;
use crate::proxy::drain_limit::DrainLimit;
use crate::proxy::pins::Pins;
use crate::proxy::record::Live;
use crate::router::{CurrentTable, Table};
use crate::telemetry::access_log::{AccessLog, WorkerLog};
use crate::telemetry::event_loop;
use crate::telemetry::labels::{AuthFailure, Label as _};
use crate::telemetry::tracer::Tracer;
use crate::telemetry::{Lazily, Metrics, RouteHandles};

/// What all workers share.
pub(super) struct Shared {
    /// The metrics.
    pub(super) metrics: Arc<Metrics>,
    /// The table in force.
    pub(super) current: CurrentTable,
    /// Counts requests that found no route.
    pub(super) unrouted: Arc<Lazily<RouteHandles>>,
    /// The access log, where one is written.
    pub(super) log: Option<AccessLog>,
    /// Traces requests, where spans go anywhere.
    pub(super) tracer: Option<Tracer>,
    /// Clients turned away, in the order of [`AuthFailure::ALL`]: a flood of them must not queue at a look-up.
    pub(super) auth_failures: Vec<IntCounter>,
    /// What scrapers get.
    pub(super) scrapes: Scrapes,
    /// The limits of client keys.
    pub(super) key_limits: KeyLimits,
    /// Who holds which object.
    pub(super) pins: Arc<Pins>,
    /// How many finds of the file's watch wait, where one runs.
    pub(super) watcher_depth: OnceLock<Depth>,
    /// When the gateway started, in seconds since the epoch.
    pub(super) started_at: u64,
    /// From SIGTERM on: not ready, and every answer closes its connection.
    draining: AtomicBool,
    /// The drain limit is over.
    cut: AtomicBool,
    /// Every worker's, as its waits know it.
    drain_limits: Mutex<Vec<Arc<DrainLimit>>>,
    /// Questions that each worker's router has not answered yet.
    router_waiting: Mutex<Vec<Waiting>>,
    /// Requests under way, one count per worker.
    live: Mutex<Vec<Arc<AtomicU32>>>,
}

impl Shared {
    /// Shared state of a gateway that is about to start.
    pub(super) fn new(
        metrics: Arc<Metrics>,
        current: CurrentTable,
        log: Option<AccessLog>,
        tracer: Option<Tracer>,
    ) -> Arc<Self> {
        let unrouted = metrics.route("_none");
        LazyLock::force(&unrouted);
        let auth_failures =
            AuthFailure::ALL.iter().map(|failure| metrics.auth_failures.child(&[failure.name()])).collect();
        Arc::new(Self {
            metrics,
            current,
            unrouted,
            log,
            tracer,
            auth_failures,
            scrapes: Scrapes::default(),
            key_limits: KeyLimits::default(),
            pins: Pins::new(),
            watcher_depth: OnceLock::new(),
            started_at: crate::clock::unix_now().as_secs(),
            draining: AtomicBool::new(false),
            cut: AtomicBool::new(false),
            drain_limits: Mutex::default(),
            router_waiting: Mutex::default(),
            live: Mutex::default(),
        })
    }

    /// Whether it is shutting down.
    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Whether the drain limit is over.
    pub(super) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }

    /// Shutting down begins.
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.metrics.draining.child(&[]).set(1);
    }

    /// The drain limit is over: every wait ends.
    pub(super) fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
        self.drain_limits.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(|limit| limit.end());
    }

    /// Workers that have started.
    pub(super) fn workers(&self) -> usize {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The most questions that a worker's router has not answered yet.
    pub(super) fn router_waiting(&self) -> usize {
        let waiting = self.router_waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.iter().map(Waiting::count).max().unwrap_or(0)
    }

    /// Requests under way on all workers.
    pub(super) fn live(&self) -> u32 {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

/// One worker. Not `Send`.
pub(super) struct Worker {
    /// Its proxy.
    pub(super) proxy: Proxy,
    /// What it shares.
    pub(super) shared: Arc<Shared>,
    log: Option<WorkerLog>,
    keys: RefCell<Rc<Keys>>,
    /// Which pages may call; as long as the process lives.
    pub(super) cors: Option<Cors>,
    /// Its dice.
    pub(super) random: RefCell<fastrand::Rng>,
    live: Arc<AtomicU32>,
}

impl Worker {
    /// A worker on the calling thread. `make` gets the signal that ends its waits when the drain limit is over.
    pub(super) fn new(shared: Arc<Shared>, make: impl FnOnce(Arc<DrainLimit>) -> Proxy) -> Rc<Self> {
        let drain_limit = Arc::<DrainLimit>::default();
        shared.drain_limits.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&drain_limit));
        let live = Arc::new(AtomicU32::new(0));
        shared.live.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&live));
        let log = shared.log.as_ref().map(AccessLog::worker);
        if let Some(log) = &log {
            actix_rt::spawn(log.clone().run());
        }
        let proxy = make(drain_limit);
        let waiting = proxy.router().waiting().clone();
        shared.router_waiting.lock().unwrap_or_else(PoisonError::into_inner).push(waiting);
        actix_rt::spawn(event_loop::watch(shared.metrics.event_loop_lag.child(&["worker"])));
        let keys = RefCell::new(Rc::new(Keys::of(&proxy.router().table().config, &shared.key_limits, &shared.metrics)));
        let random = RefCell::new(fastrand::Rng::new());
        let cors = Cors::of(&proxy.router().table().config.server.cors_origins);
        Rc::new(Self { proxy, shared, log, keys, cors, random, live })
    }

    /// The table this worker routes by.
    pub(super) fn table(&self) -> Arc<Table> {
        self.proxy.router().table()
    }

    /// The keys of the configuration in force, indexed anew after a reload.
    pub(super) fn keys(&self, table: &Table) -> Rc<Keys> {
        if !self.keys.borrow().is_of(&table.config) {
            self.keys.replace(Rc::new(Keys::of(&table.config, &self.shared.key_limits, &self.shared.metrics)));
        }
        Rc::clone(&self.keys.borrow())
    }

    /// The log, where the configuration in force wants lines, and of which share of the plain successes.
    pub(super) fn log(&self) -> Option<(WorkerLog, f64)> {
        let log = self.log.as_ref()?;
        let share = self.proxy.router().look(|table| {
            let logging = &table.config.logging;
            logging.access_log.then_some(logging.access_log_sample)
        });
        Some((log.clone(), share?))
    }

    /// A request begins.
    pub(super) fn begin(&self) -> Live {
        Live::begin(&self.live)
    }
}
