//! What a scrape reads from the cells: gauges that nobody writes on the request path (spec/observability.md 1.3, "s").

use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::worker::Shared;
use crate::backend::circuit_breaker::StateName;
use crate::backend::outcome::Block;
use crate::backend::status::Override;
use crate::backend::{Admission, Backend};
use crate::clock::{self, Instant};
use crate::router::{RouteEntry, Table};
use crate::telemetry::labels::{ActorKind, Label as _};

/// What scrapers get. They come one at a time, and whoever had to wait gets what was begun after it had asked.
#[derive(Default)]
pub(super) struct Scrapes(Mutex<Option<(Instant, Bytes)>>);

impl Scrapes {
    /// The text of everything, as of `asked` or later. Takes its time: not for a worker's thread.
    pub(super) fn render(&self, shared: &Shared, table: &Table, asked: Instant) -> Bytes {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, text)) = last.as_ref().filter(|(begun, _)| asked <= *begun) {
            return text.clone();
        }
        let begun = clock::now();
        read_cells(shared, table);
        let mut text = shared.metrics.encode();
        if table.config.server.metrics_litellm_names {
            shared.metrics.encode_litellm(&table.config, &mut text);
        }
        let text = Bytes::from(text);
        *last = Some((begun, text.clone()));
        text
    }
}

/// Gauges that are read from the cells when somebody looks, and written nowhere else.
fn read_cells(shared: &Shared, table: &Table) {
    let (now, unix) = (clock::now(), clock::unix_now());
    let metrics = &shared.metrics;
    let depths = table.backends().map(|backend| backend.mailbox_depth());
    let watcher = shared.watcher_depth.get().map_or(0, |depth| depth());
    let deepest = [
        (ActorKind::Backend, depths.max().unwrap_or(0)),
        (ActorKind::Router, shared.router_waiting()),
        (ActorKind::ConfigWatcher, watcher),
    ];
    for (actor, depth) in deepest {
        metrics.mailbox_depth.push(&[actor.name()], depth as f64);
    }
    for backend in table.backends() {
        let id = backend.id().as_str();
        metrics.circuit_state.push(&[id], number(backend.status().state(now)));
        let selectable = !matches!(backend.read(0, now).admission, Admission::Denied(_));
        metrics.selectable.push(&[id], f64::from(u8::from(selectable)));
        metrics.healthy.push(&[id], f64::from(u8::from(backend.status().is_healthy())));
        read_circuit(shared, backend, (now, unix));
        let policy = &backend.config().policy;
        let per_minute = [("rpm", policy.requests_per_minute), ("tpm", policy.tokens_per_minute)];
        for (limit, value) in per_minute.into_iter().filter_map(|(limit, value)| Some((limit, value?.get()))) {
            metrics.backend_limit.push(&[id, limit], f64::from(value));
        }
        metrics.backend_limit.push(&[id, "max_in_flight"], f64::from(policy.max_in_flight));
        let endpoint = &backend.scopes().endpoint;
        metrics.endpoint_state.push(&[endpoint.name()], number(endpoint.state(now)));
        for block in Block::ALL {
            let until = backend.blocked_until(block);
            let ends = if now < until { unix.saturating_add(until.since(now)).as_secs_f64() } else { 0.0 };
            metrics.blocked_until.push(&[id, block.name()], ends);
        }
        let (requests, tokens) = backend.scopes().ledger.known(now);
        for (unit, known) in [("requests", requests), ("tokens", tokens)] {
            let Some(known) = known else { continue };
            metrics.ratelimit_remaining.push(&[id, unit], known.remaining as f64);
            if let Some(limit) = known.limit {
                metrics.ratelimit_limit.push(&[id, unit], limit as f64);
            }
        }
    }
    table.entries().into_iter().for_each(|entry| read_route(shared, entry, now));
    metrics.publish_readings();
}

fn read_circuit(shared: &Shared, backend: &Backend, (now, unix): (Instant, Duration)) {
    let (id, status, metrics) = (backend.id().as_str(), backend.status(), &shared.metrics);
    let hand = status.circuit().hand;
    for known in Override::ALL.into_iter().filter(|known| *known != Override::Auto) {
        metrics.circuit_override.push(&[id, known.name()], f64::from(u8::from(hand == known)));
    }
    let is_timed = status.state(now) == StateName::Open && hand == Override::Auto;
    let until = if is_timed { unix.saturating_add(status.open_until().since(now)).as_secs_f64() } else { 0.0 };
    metrics.circuit_open_until.push(&[id], until);
}

/// Who could serve a route now, and with which share. Of routes that nobody is expected to ask for and nobody has asked for
/// there is nothing to see.
fn read_route(shared: &Shared, entry: &RouteEntry, now: Instant) {
    if LazyLock::get(&entry.handles).is_none() {
        return;
    }
    let (metrics, route) = (&shared.metrics, entry.config.name.as_str());
    let mut selectable = 0_u32;
    for (tier, candidates) in entry.tiers.iter().enumerate() {
        for candidate in candidates {
            let standing = candidate.backend.read(0, now);
            selectable += u32::from(candidate.is_selectable(&standing));
            let labels = [route, candidate.backend.id().as_str(), &(tier + 1).to_string()];
            metrics.candidate_weight.push(&labels, candidate.effective_share(&standing));
        }
    }
    metrics.route_selectable.push(&[route], f64::from(selectable));
}

/// A state as a metric's value.
fn number(state: StateName) -> f64 {
    match state {
        StateName::Closed => 0.0,
        StateName::HalfOpen => 1.0,
        StateName::Open => 2.0,
    }
}
