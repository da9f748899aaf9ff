//! What most backends or routes say, which stands once for all, and what each of them says beside it.

use std::collections::BTreeMap;
use std::time::Duration;

use indexmap::IndexMap;

use super::super::outline;
use super::super::{
    AttemptTimeouts, BackendId, BackendPolicy, Config, Member, Origin, Reasoning, Route, RoutePolicy, policy,
};
use super::{Settings, settings, settings_of_backend, settings_of_route};

/// Added to the first-token limit for a window that nobody wrote (spec/resilience.md 3.2).
const WINDOW_MARGIN: Duration = Duration::from_secs(10);

/// What is said of backends, and what of all of them.
pub(super) struct Backends<'c> {
    /// What stands under `resilience` because most share it; absent where that is the default.
    pub(super) general: Settings,
    /// What each says beside it.
    pub(super) own: BTreeMap<&'c BackendId, Settings>,
}

impl<'c> Backends<'c> {
    /// What `config` says.
    pub(super) fn of(config: &'c Config) -> Self {
        let longest = longest_first_tokens(config);
        let mut all: BTreeMap<&BackendId, Settings> = BTreeMap::new();
        for backend in config.backends.values() {
            let mut settings = settings_of_backend(&backend.policy);
            let automatic = longest.get(&backend.id).map(|limit| policy::show(limit.saturating_add(WINDOW_MARGIN)));
            let window = "circuit_breaker.sliding_window";
            if automatic.as_ref() == settings.get(window) {
                settings.insert(window.to_owned(), "auto".to_owned());
            }
            all.insert(&backend.id, settings);
        }
        let mut default = settings_of_backend(&BackendPolicy::default());
        default.insert("circuit_breaker.sliding_window".to_owned(), "auto".to_owned());
        // It concerns hosts, not backends, and stands at the top alone.
        let is_of_hosts = |key: &str| key.starts_with("endpoint_breaker.");
        let (general, own) = share(&default, all.iter().map(|(id, settings)| (*id, settings)), is_of_hosts);
        Self { general, own }
    }
}

/// Splits what many say into what most of them say and what each says beside it. Keys that can only be said of all are.
fn share<'s, K: Ord + Copy>(
    default: &Settings,
    all: impl Iterator<Item = (K, &'s Settings)> + Clone,
    is_of_all: impl Fn(&str) -> bool,
) -> (Settings, BTreeMap<K, Settings>) {
    let (mut general, mut own) = (Settings::new(), BTreeMap::<K, Settings>::new());
    for (key, usual) in default {
        let mut counts: IndexMap<&String, usize> = IndexMap::new();
        for (_, settings) in all.clone() {
            *counts.entry(settings.get(key).unwrap_or(usual)).or_default() += 1;
        }
        let most = counts.iter().max_by_key(|(_, count)| **count).map_or(usual, |(value, _)| *value);
        if most != usual {
            general.insert(key.clone(), most.clone());
        }
        for (who, settings) in all.clone() {
            let value = settings.get(key).unwrap_or(usual);
            if value != most && !is_of_all(key) {
                own.entry(who).or_default().insert(key.clone(), value.clone());
            }
        }
    }
    (general, own)
}

/// Each backend's longest first-token limit on any route.
fn longest_first_tokens(config: &Config) -> BTreeMap<BackendId, Duration> {
    let mut longest = BTreeMap::new();
    for (_, member) in seats(config) {
        let Some(backend) = config.backends.get(&member.backend) else { continue };
        let limit = match backend.reasoning {
            Reasoning::Always => member.timeouts.first_token_reasoning,
            Reasoning::ByRequest | Reasoning::Never => member.timeouts.first_token,
        };
        let known: &mut Duration = longest.entry(member.backend.clone()).or_default();
        *known = limit.max(*known);
    }
    longest
}

/// Routes that are written down: a backend's own comes with it.
pub(super) fn named(config: &Config) -> impl Iterator<Item = &Route> {
    all_routes(config).filter(|route| route.origin != Origin::BackendId)
}

/// A route with nothing of its own: it shows what holds in general. None where every backend's name is another route's.
pub(super) fn in_general(config: &Config) -> Option<&Route> {
    all_routes(config).find(|route| route.origin == Origin::BackendId)
}

fn all_routes(config: &Config) -> impl Iterator<Item = &Route> {
    config.routes.values().chain(&config.wildcards).map(|route| &**route)
}

/// Every place of a backend on a route.
fn seats(config: &Config) -> impl Iterator<Item = (&Route, &Member)> {
    all_routes(config).flat_map(|route| {
        route.tiers.iter().flat_map(move |tier| tier.members.iter().map(move |member| (route, member)))
    })
}

/// Time limits in the words of a file; those of reasoning calls only where they are not what a written value makes them.
pub(super) fn limits_as_settings(limits: &AttemptTimeouts) -> Settings {
    let all = settings(|outline| *outline = outline::timeouts(limits));
    all.into_iter().filter(|(key, _)| !key.contains(' ')).collect()
}

/// The parts of time limits that are written together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Limit {
    Connect,
    FirstToken,
    FirstByte,
    Idle,
}

impl Limit {
    const ALL: [Self; 4] = [Self::Connect, Self::FirstToken, Self::FirstByte, Self::Idle];

    /// Its key.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Connect => "timeouts.connect",
            Self::FirstToken => "timeouts.first_token",
            Self::FirstByte => "timeouts.first_byte",
            Self::Idle => "timeouts.idle",
        }
    }

    /// Its value for usual calls and for reasoning calls.
    fn of(self, limits: &AttemptTimeouts) -> (Duration, Duration) {
        match self {
            Self::Connect => (limits.connect, limits.connect),
            Self::FirstToken => (limits.first_token, limits.first_token_reasoning),
            Self::FirstByte => (limits.first_byte, limits.first_byte_reasoning),
            Self::Idle => (limits.idle, limits.idle),
        }
    }

    /// Its value where nobody wrote one, under that limit of a whole request.
    fn usual(self, total: Duration) -> (Duration, Duration) {
        let (plain, reasoning) = self.of(&AttemptTimeouts::default());
        match self {
            Self::FirstToken | Self::FirstByte => (plain.min(total), reasoning.min(total)),
            Self::Connect | Self::Idle => (plain, reasoning),
        }
    }
}

/// What is said of routes and of time limits, which belong to a backend or to a route.
pub(super) struct Routes<'c> {
    /// What holds for all.
    pub(super) general: Settings,
    /// What each route says beside it.
    pub(super) own: BTreeMap<&'c str, Settings>,
    /// Time limits of a backend wherever it is used.
    pub(super) of_backends: BTreeMap<&'c BackendId, Vec<(Limit, Duration)>>,
    /// `litellm_params.timeout`, where first tokens are only lowered by it.
    pub(super) lowered: BTreeMap<&'c BackendId, Duration>,
}

impl<'c> Routes<'c> {
    /// What `config` says.
    pub(super) fn of(config: &'c Config) -> Self {
        let mut all: BTreeMap<&str, Settings> = BTreeMap::new();
        for route in named(config) {
            all.insert(route.name.as_str(), written_of_route(route));
        }
        let default = settings_of_route(&RoutePolicy::default());
        let is_of_all = |key: &str| matches!(key, "send_x_should_retry" | "expose_backends");
        let all = all.iter().map(|(name, settings)| (*name, settings));
        let (general, own) = match in_general(config).map(written_of_route) {
            None => share(&default, all, is_of_all),
            Some(base) => {
                let beside = |settings: &Settings, base: &Settings| -> Settings {
                    let other = settings.iter().filter(|(key, value)| base.get(*key) != Some(*value));
                    other.map(|(key, value)| (key.clone(), value.clone())).collect()
                };
                (beside(&base, &default), all.map(|(name, settings)| (name, beside(settings, &base))).collect())
            }
        };
        let mut routes = Self { general, own, of_backends: BTreeMap::new(), lowered: BTreeMap::new() };
        routes.read_limits(config);
        routes
    }

    fn read_limits(&mut self, config: &'c Config) {
        for backend in config.backends.values() {
            let places: Vec<(&Route, &Member)> =
                seats(config).filter(|(_, member)| member.backend == backend.id).collect();
            for limit in Limit::ALL {
                // None where it is what a route without a word on it gives.
                let written = |(route, member): &(&Route, &Member)| {
                    let value = limit.of(&member.timeouts);
                    (value != limit.usual(route.policy.total)).then_some(value)
                };
                let values: Vec<_> = places.iter().map(written).collect();
                match values.first() {
                    Some(Some(first)) if values.iter().all(|value| *value == Some(*first)) => {
                        self.note_of_backend(&backend.id, limit, *first);
                    }
                    // It differs by route, so the routes say it.
                    Some(_) => {
                        for ((route, _), value) in places.iter().zip(&values) {
                            let Some((time, _)) = value else { continue };
                            let own = self.own.entry(route.name.as_str()).or_default();
                            own.insert(limit.key().to_owned(), policy::show(*time));
                        }
                    }
                    None => {}
                }
            }
        }
    }

    fn note_of_backend(&mut self, id: &'c BackendId, limit: Limit, (plain, reasoning): (Duration, Duration)) {
        if plain == reasoning {
            self.of_backends.entry(id).or_default().push((limit, plain));
        } else {
            self.lowered.insert(id, reasoning);
        }
    }
}

/// A route's policy, without what only follows from other values.
fn written_of_route(route: &Route) -> Settings {
    let default = RoutePolicy::default();
    let mut settings = settings_of_route(&route.policy);
    let members = || route.tiers.iter().flat_map(|tier| &tier.members).map(|member| &member.timeouts);
    let attempt = members().map(|limits| limits.first_token.max(limits.first_byte)).max().unwrap_or_default();
    let idle = members().map(|limits| limits.idle).max().unwrap_or_default();
    let follows = [
        ("timeouts.total", route.policy.total == default.total.max(attempt), policy::show(default.total)),
        (
            "timeouts.stream_total",
            route.policy.stream_total == default.stream_total.max(idle),
            policy::show(default.stream_total),
        ),
        (
            "attempts.max_total_attempts",
            route.policy.max_total_attempts == default.max_total_attempts.max(route.policy.max_attempts),
            default.max_total_attempts.to_string(),
        ),
    ];
    for (key, follows, usual) in follows {
        if follows {
            settings.insert(key.to_owned(), usual);
        }
    }
    settings
}
