//! The status document (spec/observability.md 6), built from cells and counters: no actor is asked, so that it may be polled
//! every second. Names and hosts, never a key, a path or anything of a client.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::LazyLock;
use std::time::Duration;

use serde_json::{Value, json};

use super::reloads::{Reloads, Shown, Standing};
use crate::backend::circuit_breaker::StateName;
use crate::backend::latency::Tail;
use crate::backend::ledger::Known;
use crate::backend::outcome::Block;
use crate::backend::scope::Reach;
use crate::backend::status::Override;
use crate::backend::{Admission, Backend, Kind, Reason, Rejection};
use crate::clock::{self, Instant};
use crate::config::Origin;
use crate::config::watcher::Listening;
use crate::router::{Candidate, RouteEntry, Table};
use crate::server::worker::Shared;
use crate::telemetry::events;
use crate::telemetry::figures::write_time;
use crate::telemetry::labels::{AttemptOutcome, Label as _, ReloadResult};

/// The shape's number: fields are only added to it.
const SCHEMA: u32 = 1;

/// One moment on both clocks.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    now: Instant,
    unix: Duration,
}

impl Moment {
    /// This one.
    pub(super) fn now() -> Self {
        Self { now: clock::now(), unix: clock::unix_now() }
    }

    /// An earlier point as a date.
    fn past_date(self, at: Instant) -> String {
        time(self.unix.saturating_sub(self.now.since(at)))
    }

    /// A later point as a date.
    fn date(self, at: Instant) -> String {
        time(self.unix.saturating_add(at.since(self.now)))
    }
}

/// What the document is made from.
pub(super) struct Facts<'a> {
    pub(super) table: &'a Table,
    pub(super) shared: &'a Shared,
    pub(super) reloads: &'a Reloads,
    pub(super) moment: Moment,
}

/// RFC 3339 of a time since the epoch.
pub(super) fn time(since_epoch: Duration) -> String {
    let mut text = Vec::with_capacity(24);
    write_time(&mut text, since_epoch);
    String::from_utf8(text).unwrap_or_default()
}

/// The whole document.
pub(super) fn whole(facts: &Facts<'_>) -> Value {
    let Facts { table, shared, moment, .. } = facts;
    let config = &table.config;
    let totals = Totals::of(table);
    let known: HashMap<&str, _> = table.backends().map(|backend| (backend.id().as_str(), backend)).collect();
    let in_order = config.backends.keys().filter_map(|id| known.get(id.as_str()));
    let shown = in_order.map(|known| backend(known, totals.get(known), shared, moment));
    let reloads = facts.reloads.shown();
    json!({
        "schema": SCHEMA,
        "now": time(moment.unix),
        "revision": null,
        "gateway": {
            "version": env!("CARGO_PKG_VERSION"),
            "state": if shared.is_draining() { "draining" } else { "ready" },
            "started_at": time(Duration::from_secs(shared.started_at)),
            "workers": shared.workers(),
            "requests_in_flight": shared.live(),
            "streams_in_flight": streams(table),
        },
        "config": configuration(facts, &reloads),
        "routes": table.entries().into_iter().map(|entry| route(entry, moment)).collect::<Vec<_>>(),
        "backends": shown.collect::<Vec<_>>(),
        "reloads": reloads.recent.iter().map(|report| report.shown()).collect::<Vec<_>>(),
        "events": events::recent(),
    })
}

fn streams(table: &Table) -> i64 {
    let handles = table.entries().into_iter().filter_map(|entry| LazyLock::get(&entry.handles));
    handles.map(|handles| handles.streams_in_flight.get()).sum()
}

/// What changes with every request, and tells nobody that the gateway is in another state: neither counts nor clocks.
const VOLATILE: [&str; 17] = [
    "now",
    "in_flight",
    "requests_in_flight",
    "streams_in_flight",
    "queue",
    "retry_budget_left",
    "totals",
    "latency",
    "window",
    "probes",
    "provider_quota",
    "remaining_ms",
    "last_at",
    "last_errors",
    "actor",
    "until",
    "effective_weight",
];

/// A number for everything in a document that is not volatile: equal where the gateway is in the same state.
pub(super) fn essence(document: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    hash(document, &mut hasher);
    hasher.finish()
}

fn hash(value: &Value, into: &mut DefaultHasher) {
    match value {
        Value::Object(members) => {
            for (name, value) in members.iter().filter(|(name, _)| !VOLATILE.contains(&name.as_str())) {
                name.hash(into);
                hash(value, into);
            }
        }
        Value::Array(elements) => {
            elements.len().hash(into);
            elements.iter().for_each(|element| hash(element, into));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.hash(into),
    }
}

fn configuration(facts: &Facts<'_>, reloads: &Shown) -> Value {
    let Standing { hash, on_disk, earlier, trial } = &reloads.standing;
    let applied = reloads.recent.iter().find(|report| report.result == ReloadResult::Applied);
    let started = Duration::from_secs(facts.shared.started_at);
    json!({
        "hash": hash,
        "loaded_at": time(applied.map_or(started, |report| report.at)),
        "on_disk": on_disk.name(),
        "restart_required": applied.map(|report| report.restart.clone()).unwrap_or_default(),
        "rollback": {
            "enabled": facts.table.config.reload.rollback.enabled,
            "earlier": earlier,
            "watching": trial.as_ref().map(|trial| trial.routes.as_slice()).unwrap_or_default(),
            "until": trial.as_ref().map(|trial| facts.moment.date(trial.until)),
        },
        "watch": reloads.watch.map(Listening::name),
    })
}

fn route(entry: &RouteEntry, moment: &Moment) -> Value {
    let config = &entry.config;
    let origin = match config.origin {
        Origin::Router => "router",
        Origin::Group => "group",
        Origin::Alias => "alias",
        Origin::Implicit => "implicit",
        Origin::BackendId => "backend_id",
        Origin::Wildcard => "wildcard",
    };
    let tiers = config.tiers.iter().zip(&entry.tiers).map(|(tier, candidates)| {
        let total: u64 = candidates.iter().map(|candidate| candidate.weight).sum();
        let members = candidates.iter().map(|candidate| member(candidate, total, moment));
        json!({"priority": tier.priority, "backends": members.collect::<Vec<_>>()})
    });
    let handles = LazyLock::get(&entry.handles);
    json!({
        "name": config.name.as_str(),
        "origin": origin,
        "strategy": config.strategy.name(),
        "in_flight": handles.map_or(0, |handles| handles.in_flight.get()),
        "queue": handles.map_or(0, |handles| handles.queue_depth.get()),
        "selectable_backends": entry.candidates().filter(|candidate| is_selectable(candidate, moment)).count(),
        "next": next(entry, moment),
        "fallbacks": config.fallbacks.iter().map(|name| name.as_str()).collect::<Vec<_>>(),
        "retry_budget_left": entry.retry_budget.left(&config.policy, moment.now),
        "tiers": tiers.collect::<Vec<_>>(),
    })
}

/// Where a fresh request would go; null where several are equal, since every worker takes turns of its own.
fn next<'a>(entry: &'a RouteEntry, moment: &Moment) -> Option<&'a str> {
    let rank = |candidate: &Candidate| candidate.backend.read(0, moment.now).rank();
    let lowest = entry.candidates().filter(|candidate| is_selectable(candidate, moment)).map(rank).min()?;
    let is_usable = |candidate: &&Candidate| is_selectable(candidate, moment) && rank(candidate) <= lowest;
    let usable = |tier: &'a Vec<Candidate>| -> Vec<&'a Candidate> { tier.iter().filter(is_usable).collect() };
    let tier = entry.tiers.iter().map(usable).find(|tier| !tier.is_empty())?;
    match tier.as_slice() {
        [only] => Some(only.backend.id().as_str()),
        _ => None,
    }
}

fn is_selectable(candidate: &Candidate, moment: &Moment) -> bool {
    candidate.is_selectable(&candidate.backend.read(0, moment.now))
}

fn member(candidate: &Candidate, total: u64, moment: &Moment) -> Value {
    let standing = candidate.backend.read(0, moment.now);
    let mut reasons = why_not(&candidate.backend, moment.now);
    if candidate.weight == 0 && !reasons.iter().any(|no| no.reason == Reason::Draining) {
        reasons.insert(0, Rejection::endless(Reason::Draining));
    }
    json!({
        "backend": candidate.backend.id().as_str(),
        "weight": candidate.share(),
        "effective_weight": candidate.effective_share(&standing),
        "deferred": standing.deferred,
        "share": if total == 0 { 0.0 } else { candidate.weight as f64 / total as f64 },
        "selectable": candidate.is_selectable(&standing),
        "healthy": standing.healthy,
        "why_not": reasons.iter().map(|no| rejection(no, moment)).collect::<Vec<_>>(),
    })
}

/// Every gate that is closed; first the one that a rejected request is told. Limits per minute are charged, not read, and do
/// not stand here.
fn why_not(backend: &Backend, now: Instant) -> Vec<Rejection> {
    let status = backend.status();
    let Admission::Denied(first) = backend.read(0, now).admission else { return Vec::new() };
    let blocks = Block::ALL.into_iter().map(|block| (Reason::Blocked(block), backend.blocked_until(block)));
    let blocks =
        blocks.filter(|(_, until)| now < *until).map(|(reason, until)| Rejection::lasting(reason, until.since(now)));
    let circuit = status.circuit();
    let by_circuit = match circuit.hand {
        Override::ForceOpen => Some(Rejection::endless(Reason::ForcedOpen)),
        Override::Auto if circuit.state == StateName::Open && now < status.open_until() => {
            Some(Rejection::lasting(Reason::CircuitOpen, status.open_until().since(now)))
        }
        Override::Auto | Override::ForceClosed | Override::Disabled => None,
    };
    let by_host = match backend.scopes().endpoint.admission(now) {
        Admission::Denied(rejection) => Some(rejection),
        Admission::Free | Admission::Probe(_) => None,
    };
    let rest = by_circuit.into_iter().chain(by_host).chain(blocks).filter(|no| no.reason != first.reason);
    std::iter::once(first).chain(rest).collect()
}

fn rejection(no: &Rejection, moment: &Moment) -> Value {
    json!({
        "reason": no.reason.name(),
        "until": no.remaining.map(|remaining| moment.date(moment.now.plus(remaining))),
        "remaining_ms": no.remaining.map(|remaining| remaining.as_millis() as u64),
    })
}

/// One backend. `total` is what it has been asked so far, where that was summed up.
pub(super) fn backend(backend: &Backend, total: Option<Total>, shared: &Shared, moment: &Moment) -> Value {
    let (config, status) = (backend.config(), backend.status());
    let policy = &config.policy;
    let id = backend.id().as_str();
    let denied = why_not(backend, moment.now);
    let health = status.health();
    json!({
        "name": id,
        "provider": config.provider.name(),
        "upstream_model": config.upstream_model,
        "host": config.base_url.host,
        "drained": config.drained || status.is_draining(),
        "in_flight": status.in_flight(),
        "selectable": denied.is_empty(),
        "why_not": denied.iter().map(|no| rejection(no, moment)).collect::<Vec<_>>(),
        "limits": {
            "rpm": policy.requests_per_minute, "tpm": policy.tokens_per_minute, "max_in_flight": policy.max_in_flight,
        },
        "circuit": circuit(backend, moment),
        "endpoint": endpoint(backend, moment),
        "blocks": blocks(backend, moment),
        "provider_quota": provider_quota(backend, moment),
        "health": {
            "check": policy.health_check.kind.name(),
            "healthy": health.is_healthy,
            "last_at": (health.checked_at != Instant::ZERO).then(|| moment.past_date(health.checked_at)),
            "failures": health.failures,
        },
        "latency": latency(backend, moment),
        "totals": {
            "attempts": total.map(|total| total.attempts),
            "success": total.map(|total| total.success),
            "late": shared.metrics.late_results.get(&[id]).map_or(0, |late| late.get()),
        },
        "actor": {"alive": backend.is_alive(), "restarts": backend.restarts(), "mailbox": backend.mailbox_depth()},
        "last_errors": last_errors(backend, moment),
    })
}

/// The latest failures, newest first.
fn last_errors(backend: &Backend, moment: &Moment) -> Vec<Value> {
    let errors = backend.status().figures().errors();
    let shown = errors.iter().map(|failed| {
        json!({"at": moment.past_date(failed.at), "type": failed.kind, "detail": failed.detail, "count": failed.count})
    });
    shown.collect()
}

/// Times to the first content of streams, and to the end of whole answers.
fn latency(backend: &Backend, moment: &Moment) -> Value {
    let cell = backend.status().latency();
    let millis = |time: Duration| time.as_micros() as f64 / 1e3;
    let estimate = |kind| cell.estimate(kind, moment.now).map(|seconds| (seconds * 1e3).round());
    let (stream, whole) = (cell.tail(Kind::Stream), cell.tail(Kind::Unary));
    let known = |tail: Tail, time: Duration| (0 < tail.samples).then(|| millis(time));
    json!({
        "ttft_p50_ms": known(stream, stream.p50),
        "ttft_p95_ms": known(stream, stream.p95),
        "samples": stream.samples,
        "ttft_ewma_ms": estimate(Kind::Stream),
        "whole_p50_ms": known(whole, whole.p50),
        "whole_p95_ms": known(whole, whole.p95),
        "whole_samples": whole.samples,
        "whole_ewma_ms": estimate(Kind::Unary),
    })
}

fn circuit(backend: &Backend, moment: &Moment) -> Value {
    let status = backend.status();
    let circuit = status.circuit();
    let books = status.figures().books();
    let is_timed =
        circuit.hand == Override::Auto && circuit.state == StateName::Open && moment.now < status.open_until();
    json!({
        "state": status.state(moment.now).name(),
        "override": (circuit.hand != Override::Auto).then(|| circuit.hand.name()),
        "since": status.figures().last_change().map(|(at, _)| moment.past_date(at)),
        "until": is_timed.then(|| moment.date(status.open_until())),
        "level": books.level,
        "generation": circuit.generation,
        "tripped_by": status.figures().last_change().map(|(_, cause)| cause.name()),
        "window": {
            "failures": books.failures, "resolved": books.resolved, "pending": books.pending, "run": books.run,
        },
        "probes": {
            "in_flight": circuit.probes,
            "ok": circuit.ok,
            "needed": backend.config().policy.circuit_breaker.half_open_calls,
        },
    })
}

fn endpoint(backend: &Backend, moment: &Moment) -> Value {
    let endpoint = &backend.scopes().endpoint;
    let is_timed = endpoint.state(moment.now) == StateName::Open;
    json!({
        "host": endpoint.name(),
        "state": endpoint.state(moment.now).name(),
        "until": is_timed.then(|| moment.date(endpoint.open_until())),
    })
}

/// What the provider's own figures say is left; null where it has said nothing.
fn provider_quota(backend: &Backend, moment: &Moment) -> Option<Value> {
    let (requests, tokens) = backend.scopes().ledger.known(moment.now);
    let seen_at = requests.iter().chain(&tokens).map(|known| known.seen_at).max()?;
    let shown = |known: Known| {
        json!({
            "limit": known.limit, "remaining": known.remaining, "predicted": known.predicted,
            "reset_at": known.reset_at.filter(|at| moment.now < *at).map(|at| moment.date(at)),
        })
    };
    Some(json!({"seen_at": moment.past_date(seen_at), "requests": requests.map(shown), "tokens": tokens.map(shown)}))
}

fn blocks(backend: &Backend, moment: &Moment) -> Vec<Value> {
    let set = Block::ALL.into_iter().map(|block| (block, backend.blocked_until(block)));
    set.filter(|(_, until)| moment.now < *until)
        .map(|(block, until)| {
            json!({"block": block.name(), "scope": Reach::of(block).name(), "until": moment.date(until),
                "remaining_ms": until.since(moment.now).as_millis() as u64, "source": null})
        })
        .collect()
}

/// What a backend has been asked so far.
#[derive(Clone, Copy, Default)]
pub(super) struct Total {
    attempts: u64,
    success: u64,
}

/// The totals of all backends over the routes that now use them.
struct Totals(HashMap<String, Total>);

impl Totals {
    fn of(table: &Table) -> Self {
        let mut totals: HashMap<String, Total> = HashMap::new();
        for (backend, handles) in table.entries().into_iter().flat_map(|entry| entry.pairs()) {
            let total = totals.entry(backend.as_str().to_owned()).or_default();
            // Where nobody has counted yet, looking must not make the series.
            let Some(handles) = LazyLock::get(handles) else { continue };
            total.attempts += AttemptOutcome::ALL.iter().map(|outcome| handles.attempts(*outcome).get()).sum::<u64>();
            total.success += handles.attempts(AttemptOutcome::Success).get();
        }
        Self(totals)
    }

    fn get(&self, backend: &Backend) -> Option<Total> {
        self.0.get(backend.id().as_str()).copied()
    }
}
