//! The routing table: every route with the backends it may use. Immutable; a reload builds the next one beside it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use actix_web::http::header::HeaderValue;

use super::hedge_budget::HedgeBudget;
use super::plan::Need;
use super::retry_budget::RetryBudget;
use crate::backend::{Admission, Backend, Standing};
use crate::config::{self, AttemptTimeouts, BackendId, Config, Origin, Reasoning, RouteName};
use crate::provider::{self, Target};
use crate::telemetry::{Lazily, Metrics, PairHandles, RouteHandles};

/// Weights are compared in millionths.
const WEIGHT_UNIT: f64 = 1_000_000.0;

/// Whole of a slow start's factor, which is kept in 1/10 000.
const WHOLE: f64 = 10_000.0;

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
    pub handles: Arc<Lazily<PairHandles>>,
}

impl Candidate {
    /// Its share as it was written.
    pub fn share(&self) -> f64 {
        self.weight as f64 / WEIGHT_UNIT
    }

    /// Its share now, slow start included.
    pub fn effective_share(&self, standing: &Standing) -> f64 {
        self.share() * f64::from(standing.slow_start) / WHOLE
    }

    /// Whether it could be picked as it stands.
    pub fn is_selectable(&self, standing: &Standing) -> bool {
        0 < self.weight && !matches!(standing.admission, Admission::Denied(_))
    }

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
    pub handles: Arc<Lazily<RouteHandles>>,
    /// Metrics of its requests on backends that only its fallbacks lead to.
    abroad: HashMap<BackendId, Arc<Lazily<PairHandles>>>,
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

    /// Makes the series that a first failure must find at zero.
    fn make_series(&self, metrics: &Metrics, known: Option<&Arc<Self>>) {
        LazyLock::force(&self.handles);
        for handles in self.candidates().map(|candidate| &candidate.handles).chain(self.abroad.values()) {
            LazyLock::force(handles);
        }
        for candidate in self.candidates().filter(|candidate| candidate.backend.config().prices.is_some()) {
            LazyLock::force(&candidate.handles.cost);
        }
        let ids = |entry: &Self| entry.candidates().map(|candidate| candidate.backend.id().clone()).collect::<Vec<_>>();
        let own = ids(self);
        if known.is_none_or(|known| ids(known) != own) {
            metrics.failovers(self.config.name.as_str(), &own.iter().map(BackendId::as_str).collect::<Vec<_>>());
        }
    }

    /// The metrics of its requests on a backend, be it one of its own or one of its fallbacks'; none if it leads to no such.
    pub(super) fn pair(&self, backend: &BackendId) -> Option<&Arc<Lazily<PairHandles>>> {
        let own = self.candidates().find(|candidate| candidate.backend.id() == backend);
        own.map(|candidate| &candidate.handles).or_else(|| self.abroad.get(backend))
    }

    /// Every backend that its requests may come to, and their metrics there.
    pub fn pairs(&self) -> impl Iterator<Item = (&BackendId, &Arc<Lazily<PairHandles>>)> {
        let own = self.candidates().map(|candidate| (candidate.backend.id(), &candidate.handles));
        own.chain(&self.abroad)
    }

    /// All candidates in plan order.
    pub fn candidates(&self) -> impl Iterator<Item = &Candidate> {
        self.tiers.iter().flatten()
    }
}

/// All routes.
pub struct Table {
    routes: foldhash::HashMap<RouteName, Arc<RouteEntry>>,
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
    /// Builds the table. `ready` holds every backend of the configuration; budgets and handles of what `earlier` has go on.
    pub fn build(
        config: &Arc<Config>,
        ready: &HashMap<BackendId, Ready>,
        metrics: &Arc<Metrics>,
        earlier: Option<&Self>,
    ) -> Arc<Self> {
        let mut index = 0;
        let routed = routed(config);
        let mut entry = |route: &Arc<config::Route>| {
            let known = earlier.and_then(|table| table.named(&route.name));
            let tiers = route.tiers.iter().map(|tier| {
                tier.members.iter().filter_map(|member| candidate(route, member, ready, metrics, known)).collect()
            });
            let entry = RouteEntry {
                config: Arc::clone(route),
                tiers: tiers.collect(),
                abroad: abroad(config, route)
                    .into_iter()
                    .map(|backend| (backend.clone(), pair(route, backend, metrics, known)))
                    .collect(),
                handles: known.map_or_else(|| metrics.route(route.name.as_str()), |known| Arc::clone(&known.handles)),
                retry_budget: known.map(|known| Arc::clone(&known.retry_budget)).unwrap_or_default(),
                hedge_budget: known.map(|known| Arc::clone(&known.hedge_budget)).unwrap_or_default(),
                shown: provider::shown(route.name.as_str()),
                index,
            };
            index += 1;
            if is_expected(route, &routed) {
                entry.make_series(metrics, known);
            }
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

    /// The first route by which one may come to a backend, those on which it has a share before those that keep it drained.
    pub fn route_to(&self, backend: &BackendId, may_use: impl Fn(&str) -> bool) -> Option<&Arc<RouteEntry>> {
        let all = self.routes.values().chain(&self.wildcards).filter(|route| may_use(route.config.name.as_str()));
        let rank = |route: &&Arc<RouteEntry>| {
            let member = route.candidates().find(|member| member.backend.id() == backend)?;
            Some((member.weight == 0, route.index))
        };
        all.filter_map(|route| Some((rank(&route)?, route))).min_by_key(|(rank, _)| *rank).map(|(_, route)| route)
    }

    /// The route of exactly this name.
    fn named(&self, name: &RouteName) -> Option<&Arc<RouteEntry>> {
        self.routes.get(name).or_else(|| self.wildcards.iter().find(|route| route.config.name == *name))
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
        let mut seen = HashSet::new();
        all.map(|candidate| &candidate.backend).filter(move |backend| seen.insert(backend.id().clone()))
    }

    /// How many routes there are: positions are below it.
    pub(super) fn size(&self) -> usize {
        self.size
    }
}

/// Backends that a route of its own stands in front of.
fn routed(config: &Config) -> HashSet<BackendId> {
    let named = config.routes.values().filter(|route| matches!(route.origin, Origin::Router | Origin::Group));
    named.flat_map(|route| &route.tiers).flat_map(|tier| &tier.members).map(|member| member.backend.clone()).collect()
}

/// Whether requests for a route are to be expected, so that its series stand at zero from the start. Nobody writes a name of
/// its own for what he calls by another; a thousand such names would be most of all series.
fn is_expected(route: &config::Route, routed: &HashSet<BackendId>) -> bool {
    match route.origin {
        Origin::Router | Origin::Group | Origin::Alias | Origin::Wildcard => true,
        Origin::Implicit => {
            let mut members = route.tiers.iter().flat_map(|tier| &tier.members);
            members.any(|member| !routed.contains(&member.backend))
        }
        Origin::BackendId => false,
    }
}

fn candidate(
    route: &config::Route,
    member: &config::Member,
    ready: &HashMap<BackendId, Ready>,
    metrics: &Arc<Metrics>,
    earlier: Option<&Arc<RouteEntry>>,
) -> Option<Candidate> {
    let ready = ready.get(&member.backend)?;
    Some(Candidate {
        backend: Arc::clone(&ready.backend),
        target: Arc::clone(&ready.target),
        tls: ready.tls.clone(),
        weight: (member.weight * WEIGHT_UNIT) as u64,
        timeouts: member.timeouts.clone(),
        handles: pair(route, &member.backend, metrics, earlier),
    })
}

/// The metrics of a route's requests on a backend: those it has already, or new ones.
fn pair(
    route: &config::Route,
    backend: &BackendId,
    metrics: &Arc<Metrics>,
    earlier: Option<&Arc<RouteEntry>>,
) -> Arc<Lazily<PairHandles>> {
    let known = earlier.and_then(|entry| entry.pair(backend)).map(Arc::clone);
    known.unwrap_or_else(|| metrics.pair(route.name.as_str(), backend.as_str()))
}

/// Backends that a request for a route can only come to by its fallbacks, and theirs.
fn abroad<'a>(config: &'a Config, route: &'a config::Route) -> HashSet<&'a BackendId> {
    let find = |name: &RouteName| {
        let exact = config.routes.get(name);
        exact.or_else(|| config.wildcards.iter().find(|route| matches(route.name.as_str(), name.as_str())))
    };
    let members =
        |route: &'a config::Route| route.tiers.iter().flat_map(|tier| &tier.members).map(|member| &member.backend);
    let (mut seen, mut reached) = (HashSet::from([&route.name]), vec![route]);
    let mut backends = HashSet::new();
    while let Some(from) = reached.pop() {
        let lists = [&from.fallbacks, &from.context_window_fallbacks, &from.content_policy_fallbacks];
        for to in lists.into_iter().flatten().filter_map(find) {
            if seen.insert(&to.name) {
                backends.extend(members(to));
                reached.push(to);
            }
        }
    }
    for own in members(route) {
        backends.remove(own);
    }
    backends
}

/// Whether a pattern with one `*` covers a name.
pub fn matches(pattern: &str, name: &str) -> bool {
    let Some((prefix, suffix)) = pattern.split_once('*') else { return false };
    prefix.len() + suffix.len() <= name.len() && name.starts_with(prefix) && name.ends_with(suffix)
}
