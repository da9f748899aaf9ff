//! Handles that a routing table holds, so that counting is an index and an add.

mod client;
mod litellm;
mod pair;
mod route;

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use prometheus::core::Collector as _;
use prometheus::process_collector::ProcessCollector;
use prometheus::{Counter, Histogram, IntCounter, IntGauge, TextEncoder};

pub use self::client::ClientHandles;
pub use self::pair::PairHandles;
pub use self::route::RouteHandles;
use super::labels::{AuthFailure, BlockKind, Label, ProbeResult, ReloadResult};
use super::metrics::{Child, Family, Name, Rows, Series};
use super::names;

/// One handle per value of a label.
struct Set<M>(Vec<M>);

impl<M: Child> Set<M> {
    fn new<L: Label>(child: impl Fn(&'static str) -> M) -> Self {
        Self(L::ALL.iter().map(|label| child(label.name())).collect())
    }

    fn at<L: Label>(&self, label: L) -> &M {
        &self.0[label.index()]
    }
}

/// Handles that are made when they are first needed: series that nobody may ever count in are not exported, and a configuration
/// of a thousand backends costs what is used of it.
pub type Lazily<T> = LazyLock<T, Box<dyn FnOnce() -> T + Send>>;

/// The edges of a circuit: from, to, reason (spec/observability.md 1.2).
const EDGES: [(&str, &str, &str); 13] = [
    ("closed", "open", "run"),
    ("closed", "open", "ratio"),
    ("closed", "open", "slow"),
    ("open", "half_open", "wait_over"),
    ("half_open", "closed", "probes_succeeded"),
    ("half_open", "closed", "caller_faults"),
    ("half_open", "open", "probe_failed"),
    ("half_open", "open", "probes_expired"),
    ("half_open", "open", "half_open_timeout"),
    ("open", "closed", "reset"),
    ("half_open", "closed", "reset"),
    ("open", "closed", "actor_restart"),
    ("half_open", "closed", "actor_restart"),
];

/// The commit that was built, where whoever builds says so: reading it from a repository would build everything anew after
/// each commit, and find none in a package of the sources.
const REVISION: &str = match option_env!("BREAKWATER_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

/// All metrics of a process.
pub struct Metrics {
    gathered: Gathered,
    /// Of the last text: the next is about as long.
    last_length: AtomicUsize,
    /// CPU, memory, descriptors, threads, start time.
    process: ProcessCollector,
    requests: Family<IntCounter>,
    responses: Family<IntCounter>,
    in_flight: Family<IntGauge>,
    durations: Family<Histogram>,
    overheads: Family<Histogram>,
    unattempted: Family<IntCounter>,
    recovered: Family<IntCounter>,
    exhausted: Family<IntCounter>,
    retry_budget_exhausted: Family<IntCounter>,
    retries: Family<IntCounter>,
    queue_depth: Family<IntGauge>,
    queue_wait: Family<Histogram>,
    client_retries: Family<IntCounter>,
    client_requests: Family<IntCounter>,
    client_tokens: Family<IntCounter>,
    started: Family<IntCounter>,
    attempts: Family<IntCounter>,
    attempts_in_flight: Family<IntGauge>,
    attempt_durations: Family<Histogram>,
    details: Family<IntCounter>,
    resends: Family<IntCounter>,
    failovers: Family<IntCounter>,
    streams: Family<IntCounter>,
    first_token: Family<Histogram>,
    attempt_first_token: Family<Histogram>,
    output_token: Family<Histogram>,
    tokens: Family<IntCounter>,
    token_details: Family<IntCounter>,
    usage_missing: Family<IntCounter>,
    cost: Family<Counter>,
    streams_in_flight: Family<IntGauge>,
    rejections: Family<IntCounter>,
    fallbacks: Family<IntCounter>,
    hedges: Family<IntCounter>,
    /// Backend.
    pub late_results: Family<IntCounter>,
    /// Backend; set at scrape.
    pub circuit_state: Rows,
    /// Backend; set at scrape.
    pub selectable: Rows,
    /// Backend; set at scrape.
    pub healthy: Rows,
    /// Backend, override; set at scrape.
    pub circuit_override: Rows,
    /// Backend; set at scrape.
    pub circuit_open_until: Rows,
    /// Arbiter.
    pub event_loop_lag: Family<Histogram>,
    /// Actor; set at scrape.
    pub mailbox_depth: Rows,
    /// Backend, limit; set at scrape.
    pub backend_limit: Rows,
    /// Route; set at scrape.
    pub route_selectable: Rows,
    /// Route, backend, tier; set at scrape.
    pub candidate_weight: Rows,
    /// Backend, result.
    pub health_checks: Family<IntCounter>,
    /// Backend, from, to, reason.
    pub transitions: Family<IntCounter>,
    /// Endpoint; set at scrape.
    pub endpoint_state: Rows,
    /// Endpoint, to.
    pub endpoint_transitions: Family<IntCounter>,
    /// Backend, block; set at scrape.
    pub blocked_until: Rows,
    /// Backend, unit; set at scrape.
    pub ratelimit_limit: Rows,
    /// Backend, unit; set at scrape.
    pub ratelimit_remaining: Rows,
    /// Backend, result.
    pub probes: Family<IntCounter>,
    /// Backend, block.
    pub blocks: Family<IntCounter>,
    /// Backend, provider, upstream model, host.
    pub backend_info: Family<IntGauge>,
    /// Reason.
    pub auth_failures: Family<IntCounter>,
    /// Hash.
    pub config_info: Family<IntGauge>,
    /// Mode.
    pub config_watch_info: Family<IntGauge>,
    /// Result.
    pub config_reloads: Family<IntCounter>,
    /// Returns to the configuration before.
    pub config_rollbacks: Family<IntCounter>,
    /// Whether the file on disk is in force.
    pub config_last_successful: Family<IntGauge>,
    /// When a configuration was last put in force, in seconds since the epoch.
    pub config_last_success_at: Family<IntGauge>,
    /// Whether the file has values that wait for a restart.
    pub config_restart_required: Family<IntGauge>,
    /// Whether the process is draining.
    pub draining: Family<IntGauge>,
    /// Actor.
    pub actor_restarts: Family<IntCounter>,
    /// Actor.
    pub messages_dropped: Family<IntCounter>,
    /// Log.
    pub lines_dropped: Family<IntCounter>,
    /// Result.
    pub trace_spans: Family<IntCounter>,
}

/// What is gathered at a scrape.
#[derive(Default)]
struct Gathered {
    all: Vec<Box<dyn Series>>,
    readings: Vec<Rows>,
}

/// Makes a family that will be gathered.
fn family<M: Child>(
    gathered: &mut Gathered,
    name: names::Name,
    labels: &'static [&'static str],
    buckets: &'static [f64],
) -> Family<M> {
    let family = Family::new(name, labels, buckets);
    gathered.all.push(Box::new(family.clone()));
    family
}

/// Makes a family of gauges that a scrape reads.
fn rows(gathered: &mut Gathered, name: names::Name, labels: &'static [&'static str]) -> Rows {
    let rows = Rows::new(name, labels);
    gathered.all.push(Box::new(rows.clone()));
    gathered.readings.push(rows.clone());
    rows
}

/// The toolchain that the sources are pinned to, and so built by.
fn toolchain() -> &'static str {
    let pinned = include_str!("../../rust-toolchain.toml");
    let channel = pinned.lines().find_map(|line| line.strip_prefix("channel = "));
    channel.map_or("unknown", |channel| channel.trim_matches('"'))
}

impl Metrics {
    /// All families, empty but for the process's own series.
    pub fn new() -> Arc<Self> {
        // No `Registry`: it wants descriptions before there are children, and two families without any would collide.
        let mut gathered = Gathered::default();
        let r = &mut gathered;
        let build: Family<IntGauge> = family(r, names::BUILD_INFO, &["version", "revision", "rustc", "features"], &[]);
        let features = if cfg!(feature = "models") { "models" } else { "" };
        build.child(&[env!("CARGO_PKG_VERSION"), REVISION, toolchain(), features]).set(1);
        let metrics = Self {
            requests: family(r, names::REQUESTS, &["route", "outcome", "stream"], &[]),
            responses: family(r, names::RESPONSES, &["route", "endpoint", "code"], &[]),
            in_flight: family(r, names::REQUESTS_IN_FLIGHT, &["route"], &[]),
            durations: family(r, names::REQUEST_DURATION, &["route", "stream"], &names::LATENCY),
            overheads: family(r, names::OVERHEAD_SECONDS, &["stream"], &names::OVERHEAD),
            unattempted: family(r, names::UNATTEMPTED, &["route"], &[]),
            recovered: family(r, names::RECOVERED, &["route"], &[]),
            exhausted: family(r, names::EXHAUSTED, &["route", "reason"], &[]),
            retry_budget_exhausted: family(r, names::RETRY_BUDGET_EXHAUSTED, &["route"], &[]),
            retries: family(r, names::RETRIES, &["route", "backend"], &[]),
            queue_depth: family(r, names::QUEUE_DEPTH, &["route"], &[]),
            queue_wait: family(r, names::QUEUE_WAIT, &["route"], &names::LATENCY),
            client_requests: family(r, names::CLIENT_REQUESTS, &["key", "outcome"], &[]),
            client_tokens: family(r, names::CLIENT_TOKENS, &["key", "type"], &[]),
            client_retries: family(r, names::CLIENT_RETRIES, &["route"], &[]),
            started: family(r, names::ATTEMPTS_STARTED, &["route", "kind"], &[]),
            attempts: family(r, names::ATTEMPTS, &["route", "backend", "outcome"], &[]),
            attempts_in_flight: family(r, names::ATTEMPTS_IN_FLIGHT, &["backend"], &[]),
            attempt_durations: family(r, names::ATTEMPT_DURATION, &["backend", "result"], &names::LATENCY),
            details: family(r, names::FAILURE_DETAILS, &["backend", "detail"], &[]),
            resends: family(r, names::RESENDS, &["backend", "reason"], &[]),
            failovers: family(r, names::FAILOVERS, &["route", "from", "to"], &[]),
            streams: family(r, names::STREAMS_ENDED, &["route", "backend", "reason"], &[]),
            first_token: family(r, names::TIME_TO_FIRST_TOKEN, &["route"], &names::FIRST_TOKEN),
            attempt_first_token: family(r, names::ATTEMPT_FIRST_TOKEN, &["backend"], &names::FIRST_TOKEN),
            output_token: family(r, names::TIME_PER_OUTPUT_TOKEN, &["backend"], &names::OUTPUT_TOKEN),
            tokens: family(r, names::TOKENS, &["route", "backend", "type"], &[]),
            token_details: family(r, names::TOKEN_DETAILS, &["backend", "type"], &[]),
            cost: family(r, names::COST, &["route", "backend"], &[]),
            usage_missing: family(r, names::USAGE_MISSING, &["route", "backend"], &[]),
            streams_in_flight: family(r, names::STREAMS_IN_FLIGHT, &["route"], &[]),
            rejections: family(r, names::REJECTIONS, &["backend", "reason"], &[]),
            fallbacks: family(r, names::FALLBACKS, &["from", "to", "after", "result"], &[]),
            hedges: family(r, names::HEDGES, &["route", "result"], &[]),
            late_results: family(r, names::LATE_RESULTS, &["backend"], &[]),
            circuit_state: rows(r, names::CIRCUIT_STATE, &["backend"]),
            selectable: rows(r, names::BACKEND_SELECTABLE, &["backend"]),
            healthy: rows(r, names::BACKEND_HEALTHY, &["backend"]),
            circuit_override: rows(r, names::CIRCUIT_OVERRIDE, &["backend", "override"]),
            circuit_open_until: rows(r, names::CIRCUIT_OPEN_UNTIL, &["backend"]),
            event_loop_lag: family(r, names::EVENT_LOOP_LAG, &["arbiter"], &names::LAG),
            mailbox_depth: rows(r, names::ACTOR_MAILBOX_DEPTH, &["actor"]),
            backend_limit: rows(r, names::BACKEND_LIMIT, &["backend", "limit"]),
            route_selectable: rows(r, names::ROUTE_SELECTABLE, &["route"]),
            candidate_weight: rows(r, names::CANDIDATE_WEIGHT, &["route", "backend", "tier"]),
            health_checks: family(r, names::HEALTH_CHECKS, &["backend", "result"], &[]),
            transitions: family(r, names::CIRCUIT_TRANSITIONS, &["backend", "from", "to", "reason"], &[]),
            endpoint_state: rows(r, names::ENDPOINT_STATE, &["endpoint"]),
            endpoint_transitions: family(r, names::ENDPOINT_TRANSITIONS, &["endpoint", "to"], &[]),
            blocked_until: rows(r, names::BLOCKED_UNTIL, &["backend", "block"]),
            ratelimit_limit: rows(r, names::RATELIMIT_LIMIT, &["backend", "unit"]),
            ratelimit_remaining: rows(r, names::RATELIMIT_REMAINING, &["backend", "unit"]),
            probes: family(r, names::CIRCUIT_PROBES, &["backend", "result"], &[]),
            blocks: family(r, names::BLOCKS, &["backend", "block"], &[]),
            backend_info: family(r, names::BACKEND_INFO, &["backend", "provider", "upstream_model", "host"], &[]),
            auth_failures: family(r, names::AUTH_FAILURES, &["reason"], &[]),
            config_info: family(r, names::CONFIG_INFO, &["hash"], &[]),
            config_watch_info: family(r, names::CONFIG_WATCH_INFO, &["mode"], &[]),
            config_reloads: family(r, names::CONFIG_RELOADS, &["result"], &[]),
            config_rollbacks: family(r, names::CONFIG_ROLLBACKS, &[], &[]),
            config_last_successful: family(r, names::CONFIG_LAST_SUCCESSFUL, &[], &[]),
            config_last_success_at: family(r, names::CONFIG_LAST_SUCCESS_AT, &[], &[]),
            config_restart_required: family(r, names::CONFIG_RESTART_REQUIRED, &[], &[]),
            draining: family(r, names::DRAINING, &[], &[]),
            actor_restarts: family(r, names::ACTOR_RESTARTS, &["actor"], &[]),
            messages_dropped: family(r, names::MESSAGES_DROPPED, &["actor"], &[]),
            lines_dropped: family(r, names::LINES_DROPPED, &["log"], &[]),
            trace_spans: family(r, names::TRACE_SPANS, &["result"], &[]),
            gathered,
            last_length: AtomicUsize::new(0),
            process: ProcessCollector::for_self(),
        };
        metrics.stand_at_zero();
        Arc::new(metrics)
    }

    /// Makes the series of the process itself.
    fn stand_at_zero(&self) {
        self.draining.child(&[]).set(0);
        for log in ["access", "events"] {
            self.lines_dropped.child(&[log]);
        }
        for failure in AuthFailure::ALL {
            self.auth_failures.child(&[failure.name()]);
        }
        self.config_restart_required.child(&[]);
        self.config_rollbacks.child(&[]);
        for result in ReloadResult::ALL {
            self.config_reloads.child(&[result.name()]);
        }
        for actor in ["backend", "router", "config_watcher"] {
            self.actor_restarts.child(&[actor]);
            self.messages_dropped.child(&[actor]);
        }
    }

    /// The handles of a route. Once they are made, every series that is not lazy itself exists.
    pub fn route(self: &Arc<Self>, route: &str) -> Arc<Lazily<RouteHandles>> {
        let (metrics, route) = (Arc::clone(self), route.to_owned());
        Arc::new(LazyLock::new(Box::new(move || RouteHandles::new(&metrics, &route))))
    }

    /// The handles of a client key, by its name. Looked up: for those who index keys.
    pub fn client(&self, key: &str) -> Arc<ClientHandles> {
        Arc::new(ClientHandles::new(self, key))
    }

    /// The handles of a backend on a route.
    pub fn pair(self: &Arc<Self>, route: &str, backend: &str) -> Arc<Lazily<PairHandles>> {
        let (metrics, route, backend) = (Arc::clone(self), route.to_owned(), backend.to_owned());
        Arc::new(LazyLock::new(Box::new(move || PairHandles::new(&metrics, &route, &backend))))
    }

    /// Makes the series of a backend that its actor counts at edges, so that a first opening is a rate and not a birth.
    pub fn backend(&self, backend: &str) {
        for (from, to, reason) in EDGES {
            self.transitions.child(&[backend, from, to, reason]);
        }
        for block in BlockKind::ALL {
            self.blocks.child(&[backend, block.name()]);
        }
        for result in ProbeResult::ALL {
            self.probes.child(&[backend, result.name()]);
        }
        for result in ["success", "failure"] {
            self.health_checks.child(&[backend, result]);
        }
        self.late_results.child(&[backend]);
    }

    /// The reading of what is set at scrape alone is whole.
    pub fn publish_readings(&self) {
        self.gathered.readings.iter().for_each(Rows::publish);
    }

    /// Makes the series of a host, which its backends' actors count at edges.
    pub fn endpoint(&self, endpoint: &str) {
        for to in ["closed", "half_open", "open"] {
            self.endpoint_transitions.child(&[endpoint, to]);
        }
    }

    /// Makes the series of failovers between the backends of a route.
    pub fn failovers(&self, route: &str, backends: &[&str]) {
        for from in backends {
            for to in backends.iter().filter(|to| *to != from) {
                self.failovers.child(&[route, from, to]);
            }
        }
    }

    /// Drops every series with one of these names.
    pub fn forget(&self, gone: &HashSet<Name>) {
        self.gathered.all.iter().for_each(|series| series.forget(gone));
    }

    /// Everything in the text format 0.0.4.
    pub fn encode(&self) -> String {
        let mut text = String::with_capacity(self.last_length.load(Ordering::Relaxed) + (64 << 10));
        for series in &self.gathered.all {
            series.write(&mut text);
            // Where all cores are busy, workers go first.
            std::thread::yield_now();
        }
        // A dozen lines.
        let _ = TextEncoder::new().encode_utf8(&self.process.collect(), &mut text);
        self.last_length.store(text.len(), Ordering::Relaxed);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_stand_at_zero_from_the_start() {
        let metrics = Metrics::new();
        let (route, pair) = (metrics.route("r"), metrics.pair("r", "b"));
        assert!(!metrics.encode().contains("route=\"r\""), "nobody has needed them");
        LazyLock::force(&route);
        LazyLock::force(&pair);
        let text = metrics.encode();
        for line in [
            "breakwater_requests_total{outcome=\"success\",route=\"r\",stream=\"true\"} 0",
            "breakwater_attempts_total{backend=\"b\",outcome=\"rate_limit_error\",route=\"r\"} 0",
            "breakwater_actor_restarts_total{actor=\"backend\"} 0",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }
}
