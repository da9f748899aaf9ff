//! The routing table: every route with the backends it may use. Immutable; a reload builds the next one beside it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::HeaderValue;

use super::hedge_budget::HedgeBudget;
use super::picker::Picker;
use super::plan::Need;
use super::retry_budget::RetryBudget;
use crate::backend::Backend;
use crate::config::{self, AttemptTimeouts, BackendId, Config, Reasoning, RouteName};
use crate::provider::{self, Target};
use crate::telemetry::{PairHandles, RouteHandles};

/// Weights are compared in millionths.
const WEIGHT_UNIT: f64 = 1_000_000.0;

/// One backend within one route, with everything a call to it needs.
pub struct Candidate {
    /// The backend.
    pub backend: Arc<Backend>,
    /// How it is spoken to.
    pub target: Arc<Target>,
    /// TLS roots; none: plain TCP.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// Its share in millionths; 0 drains it here.
    pub weight: u64,
    /// Its time limits on this route.
    pub timeouts: AttemptTimeouts,
    /// Its metrics on this route.
    pub handles: Arc<PairHandles>,
}

impl Candidate {
    /// How long an attempt may wait for its first byte or, on a stream, its first content.
    pub fn head_limit(&self, need: &Need) -> Duration {
        match (need.stream, self.is_reasoning(need)) {
            (true, false) => self.timeouts.first_token,
            (true, true) => self.timeouts.first_token_reasoning,
            (false, false) => self.timeouts.first_byte,
            (false, true) => self.timeouts.first_byte_reasoning,
        }
    }

    /// Whether a call is a reasoning call there.
    pub fn is_reasoning(&self, need: &Need) -> bool {
        match self.backend.config().reasoning {
            Reasoning::ByRequest => need.reasoning,
            Reasoning::Always => true,
            Reasoning::Never => false,
        }
    }
}

/// One route.
pub struct RouteEntry {
    /// Its configuration.
    pub config: Arc<config::Route>,
    /// Candidates of equal priority, best first.
    pub tiers: Vec<Vec<Candidate>>,
    /// Its metrics.
    pub handles: Arc<RouteHandles>,
    /// What its requests may add to the load by extra attempts; outlives a reload.
    pub retry_budget: Arc<RetryBudget>,
    /// How many of its requests may be hedged; outlives a reload.
    pub hedge_budget: Arc<HedgeBudget>,
    /// Its name as an answer header.
    pub shown: HeaderValue,
    /// Position in the table, for the pickers of a worker.
    pub index: usize,
}

impl RouteEntry {
    /// What the `*` of this route's name stands for in `model`; none if it is no wildcard.
    pub(super) fn matched<'a>(&self, model: &'a str) -> Option<&'a str> {
        let (prefix, suffix) = self.config.name.as_str().split_once('*')?;
        model.strip_prefix(prefix)?.strip_suffix(suffix)
    }

    /// All candidates in plan order.
    pub fn candidates(&self) -> impl Iterator<Item = &Candidate> {
        self.tiers.iter().flatten()
    }
}

/// All routes.
pub struct Table {
    routes: HashMap<RouteName, Arc<RouteEntry>>,
    wildcards: Vec<Arc<RouteEntry>>,
    size: usize,
    /// Whether any route lets an answer's head leave before the answer is known (`stream.head_hold`).
    pub holds_heads: bool,
    /// The configuration it was built from.
    pub config: Arc<Config>,
}

/// What the supervisor made ready for one backend.
pub struct Ready {
    /// The running backend.
    pub backend: Arc<Backend>,
    /// How it is spoken to.
    pub target: Arc<Target>,
    /// TLS roots, if it speaks TLS.
    pub tls: Option<Arc<rustls::ClientConfig>>,
}

impl Table {
    /// Builds the table. `ready` holds every backend of the configuration; the budgets of routes that `earlier` has go on.
    pub fn build(
        config: &Arc<Config>,
        ready: &HashMap<BackendId, Ready>,
        metrics: &crate::telemetry::Metrics,
        earlier: Option<&Self>,
    ) -> Arc<Self> {
        let mut index = 0;
        let mut entry = |route: &Arc<config::Route>| {
            let tiers = route.tiers.iter().map(|tier| {
                tier.members.iter().filter_map(|member| candidate(route, member, ready, metrics)).collect()
            });
            let ids = route.tiers.iter().flat_map(|tier| &tier.members).map(|member| member.backend.as_str());
            metrics.failovers(route.name.as_str(), &ids.collect::<Vec<_>>());
            let (retry_budget, hedge_budget) = earlier.and_then(|table| table.budgets(&route.name)).unwrap_or_default();
            let entry = RouteEntry {
                config: Arc::clone(route),
                tiers: tiers.collect(),
                handles: metrics.route(route.name.as_str()),
                retry_budget,
                hedge_budget,
                shown: provider::shown(route.name.as_str()),
                index,
            };
            index += 1;
            Arc::new(entry)
        };
        let routes = config.routes.iter().map(|(name, route)| (name.clone(), entry(route))).collect();
        let wildcards = config.wildcards.iter().map(&mut entry).collect();
        let holds_heads = config.routes.values().chain(&config.wildcards).any(|route| route.policy.head_hold.is_some());
        Arc::new(Self { routes, wildcards, size: index, holds_heads, config: Arc::clone(config) })
    }

    /// The route of that name, exact names first.
    pub fn find(&self, name: &str) -> Option<&Arc<RouteEntry>> {
        self.routes.get(name).or_else(|| self.wildcards.iter().find(|route| matches(route.config.name.as_str(), name)))
    }

    /// The budgets of the route of exactly this name.
    fn budgets(&self, name: &RouteName) -> Option<(Arc<RetryBudget>, Arc<HedgeBudget>)> {
        let wildcard = || self.wildcards.iter().find(|route| route.config.name == *name);
        let route = self.routes.get(name).or_else(wildcard)?;
        Some((Arc::clone(&route.retry_budget), Arc::clone(&route.hedge_budget)))
    }

    /// Every exact route.
    pub fn routes(&self) -> impl Iterator<Item = &Arc<RouteEntry>> {
        self.routes.values()
    }

    /// Every route in the configuration's order, wildcards last.
    pub fn entries(&self) -> Vec<&Arc<RouteEntry>> {
        let mut entries: Vec<_> = self.routes.values().chain(&self.wildcards).collect();
        entries.sort_by_key(|entry| entry.index);
        entries
    }

    /// Every backend that a route uses, once.
    pub fn backends(&self) -> impl Iterator<Item = &Arc<Backend>> {
        let all = self.routes.values().chain(&self.wildcards).flat_map(|route| route.candidates());
        let mut seen = std::collections::HashSet::new();
        all.map(|candidate| &candidate.backend).filter(move |backend| seen.insert(backend.id().clone()))
    }

    /// Fresh pickers for a worker, one per route and tier. `start` draws the virtual start.
    pub(super) fn pickers(&self, mut start: impl FnMut() -> u32) -> Vec<Vec<Picker>> {
        let mut pickers = vec![Vec::new(); self.size];
        for route in self.routes.values().chain(&self.wildcards) {
            pickers[route.index] = route
                .tiers
                .iter()
                .map(|tier| {
                    let weights: Vec<u64> = tier.iter().map(|candidate| candidate.weight).collect();
                    Picker::new(route.config.strategy, &weights, start())
                })
                .collect();
        }
        pickers
    }
}

fn candidate(
    route: &config::Route,
    member: &config::Member,
    ready: &HashMap<BackendId, Ready>,
    metrics: &crate::telemetry::Metrics,
) -> Option<Candidate> {
    let known = ready.get(&member.backend)?;
    Some(Candidate {
        backend: Arc::clone(&known.backend),
        target: Arc::clone(&known.target),
        tls: known.tls.clone(),
        weight: (member.weight * WEIGHT_UNIT) as u64,
        timeouts: member.timeouts.clone(),
        handles: metrics.pair(route.name.as_str(), member.backend.as_str()),
    })
}

/// Whether a pattern with one `*` covers a name.
pub fn matches(pattern: &str, name: &str) -> bool {
    let Some((prefix, suffix)) = pattern.split_once('*') else { return false };
    prefix.len() + suffix.len() <= name.len() && name.starts_with(prefix) && name.ends_with(suffix)
}
