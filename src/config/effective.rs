//! A configuration written down again, in our own dialect and with everything it means: what a file with includes, placeholders
//! and two dialects comes to, and what a LiteLLM file becomes here.
//!
//! It is written from the compiled value, so it cannot forget a key. What most backends or routes share stands once under
//! `resilience`; values that nobody wrote stand there as comments, since some of them give way to others (spec/config.md 1 rule
//! 7) and would not if they were written. Secrets are shown as their placeholders, literal ones not at all. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use indexmap::IndexMap;

use super::outline::{self, Outline, word};
use super::{
    AttemptTimeouts, Backend, BackendId, BackendPolicy, Config, Credential, Member, Origin, Provider, Reasoning, Route,
    RoutePolicy, Strategy, policy, url,
};
use crate::error::ErrorSet;

#[cfg(test)]
mod tests;

/// Added to the first-token limit for a window that nobody wrote (spec/resilience.md 3.2).
const WINDOW_MARGIN: Duration = Duration::from_secs(10);

/// Settings by dotted key, in order.
type Settings = IndexMap<String, String>;

/// The configuration as YAML that loads to the same again, literal secrets aside.
pub fn effective(config: &Config) -> String {
    let mut out = Page::default();
    out.comment("The configuration in effect, defaults as comments.");
    process(&mut out, config);
    let (backends, routes) = (Backends::of(config), Routes::of(config));
    model_list(&mut out, config, &backends, &routes);
    router(&mut out, config, &routes);
    out.line(0, "resilience:");
    let defaults = (settings_of_backend(&BackendPolicy::default()), settings_of_route(&RoutePolicy::default()));
    let mut general = Tree::default();
    let (strategy, failover_on) = choice(config);
    general.insert("load_balance_strategy", strategy.name(), strategy == Strategy::WeightedRoundRobin);
    general.insert("fallback_on_error_types", &errors(&failover_on), failover_on == ErrorSet::default_failover());
    for (known, defaults) in [(&backends.general, &defaults.0), (&routes.general, &defaults.1)] {
        for (key, default) in defaults {
            match known.get(key) {
                Some(value) => general.put(key, value),
                None => general.put_default(key, default),
            }
        }
    }
    for (key, value) in limits_as_settings(&AttemptTimeouts::default()) {
        general.put_default(&key, &value);
    }
    general.write(&mut out, 1);
    out.0
}

/// Strategy and error types of a route that has none of its own.
fn choice(config: &Config) -> (Strategy, ErrorSet) {
    in_general(config).map_or((Strategy::WeightedRoundRobin, ErrorSet::default_failover()), |route| {
        (route.strategy, route.failover_on)
    })
}

/// Lines of YAML.
#[derive(Default)]
struct Page(String);

impl Page {
    fn line(&mut self, indent: usize, text: &str) {
        self.0.push_str(&"  ".repeat(indent));
        self.0.push_str(text);
        self.0.push('\n');
    }

    fn comment(&mut self, text: &str) {
        self.line(0, &format!("# {text}"));
    }
}

/// A mapping under way: nested by the dots of its keys.
#[derive(Default)]
struct Tree(IndexMap<String, Branch>);

enum Branch {
    Value { text: String, is_default: bool },
    Tree(Tree),
}

impl Tree {
    fn put(&mut self, key: &str, value: &str) {
        self.insert(key, value, false);
    }

    /// A value that nobody wrote.
    fn put_default(&mut self, key: &str, value: &str) {
        self.insert(key, value, true);
    }

    fn insert(&mut self, key: &str, value: &str, is_default: bool) {
        match key.split_once('.') {
            None => {
                self.0.insert(key.to_owned(), Branch::Value { text: value.to_owned(), is_default });
            }
            Some((first, rest)) => {
                let branch = self.0.entry(first.to_owned()).or_insert_with(|| Branch::Tree(Self::default()));
                if let Branch::Tree(tree) = branch {
                    tree.insert(rest, value, is_default);
                }
            }
        }
    }

    fn is_written(&self) -> bool {
        self.0.values().any(|branch| match branch {
            Branch::Value { is_default, .. } => !is_default,
            Branch::Tree(tree) => tree.is_written(),
        })
    }

    fn write(&self, out: &mut Page, indent: usize) {
        for (key, branch) in &self.0 {
            match branch {
                Branch::Value { text, is_default: false } => out.line(indent, &format!("{key}: {text}")),
                Branch::Value { text, is_default: true } => out.line(indent, &format!("# {key}: {text}")),
                Branch::Tree(tree) => {
                    // A key above comments alone would be a mapping without anything in it.
                    out.line(indent, &format!("{}{key}:", if tree.is_written() { "" } else { "# " }));
                    tree.write(out, indent + 1);
                }
            }
        }
    }
}

/// A shown value as YAML: lists stand as they are, words may need quotes.
fn value(shown: &str) -> String {
    let is_list = shown.starts_with('[') && shown.ends_with(']');
    if is_list || matches!(shown, "true" | "false" | "off") {
        shown.to_owned()
    } else {
        word(&shown.replace("${", "$${"))
    }
}

/// A placeholder, or what stands for a literal; `whose` keeps two literals apart.
fn secret(reference: &str, whose: &str) -> String {
    match outline::reference(reference) {
        shown if shown.starts_with("${") => serde_json::Value::from(shown).to_string(),
        _ => format!("\"[redacted {}]\"", whose.replace(['"', '\\'], "")),
    }
}

fn errors(set: &ErrorSet) -> String {
    let names: Vec<&str> = set.iter().map(|kind| kind.name()).collect();
    format!("[{}]", names.join(", "))
}

fn names<'n>(list: impl Iterator<Item = &'n str>) -> String {
    format!("[{}]", list.map(word).collect::<Vec<_>>().join(", "))
}

fn settings(fill: impl FnOnce(&mut Outline)) -> Settings {
    let mut outline = Outline::default();
    fill(&mut outline);
    outline.0.into_iter().map(|setting| (setting.key.into_owned(), setting.shown)).collect()
}

fn settings_of_backend(policy: &BackendPolicy) -> Settings {
    let mut settings = settings(|outline| outline::backend_policy(outline, policy));
    // They stand in the entry itself.
    settings.shift_remove("rpm");
    settings.shift_remove("tpm");
    let rules: Vec<String> =
        settings.iter().filter(|(key, _)| key.starts_with("classify[")).map(|(_, rule)| rule.clone()).collect();
    settings.retain(|key, _| !key.starts_with("classify["));
    settings.insert("classify".to_owned(), format!("[{}]", rules.join(", ")));
    settings
}

fn settings_of_route(policy: &RoutePolicy) -> Settings {
    settings(|outline| outline::route_policy(outline, policy))
}

/// What belongs to no backend and no route.
fn process(out: &mut Page, config: &Config) {
    let outline = outline::process(config);
    let mut tree = Tree::default();
    for setting in &outline.0 {
        let (key, shown) = (setting.key.as_ref(), setting.shown.as_str());
        match key {
            // Its files say it.
            "server.tls" => {}
            "server.tls.cert_file" | "server.tls.key_file" => tree.put(key, &word(shown)),
            "server.workers" if config.server.workers.is_none() => tree.put_default(key, "one per core"),
            "admin.token" if config.admin.token.is_some() => {
                tree.put(key, &secret(&config.admin.token_reference, "admin token"));
            }
            _ if shown == "none" => {}
            // A word in brackets is a list, but for a filter.
            "logging.level" => tree.put(key, &serde_json::Value::from(shown).to_string()),
            _ => tree.put(key, &value(shown)),
        }
    }
    // All routes stand under `router`.
    tree.put("defaults.implicit_routes", "none");
    tree.write(out, 0);
    let (master, keys): (Vec<_>, Vec<_>) = config.auth.keys.iter().partition(|key| &*key.name == "master_key");
    if let Some(master) = master.first() {
        out.line(0, "general_settings:");
        out.line(1, &format!("master_key: {}", secret(&master.key_reference, "master key")));
        out.line(1, "enforce_model_rate_limits: true");
    }
    if !keys.is_empty() {
        // `auth` has been begun above with its header names: a second mapping of that name would be a mistake.
        let begun = out.0.find("auth:\n").map_or(out.0.len(), |at| at + "auth:\n".len());
        let mut lines = Page::default();
        lines.line(1, "keys:");
        for key in keys {
            lines.line(2, &format!("- name: {}", word(&key.name)));
            lines.line(3, &format!("key: {}", secret(&key.key_reference, &key.name)));
            if !key.routes.is_empty() {
                lines.line(3, &format!("routes: {}", names(key.routes.iter().map(String::as_str))));
            }
            for (name, limit) in [("rpm", key.requests_per_minute), ("max_in_flight", key.max_in_flight)] {
                if let Some(limit) = limit {
                    lines.line(3, &format!("{name}: {limit}"));
                }
            }
        }
        out.0.insert_str(begun, &lines.0);
    }
}

/// What is said of backends, and what of all of them.
struct Backends<'c> {
    /// What stands under `resilience` because most share it; absent where that is the default.
    general: Settings,
    own: BTreeMap<&'c BackendId, Settings>,
}

impl<'c> Backends<'c> {
    fn of(config: &'c Config) -> Self {
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
fn named(config: &Config) -> impl Iterator<Item = &Route> {
    all_routes(config).filter(|route| route.origin != Origin::BackendId)
}

/// A route with nothing of its own: it shows what holds in general. None where every backend's name is another route's.
fn in_general(config: &Config) -> Option<&Route> {
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
fn limits_as_settings(limits: &AttemptTimeouts) -> Settings {
    let all = settings(|outline| *outline = outline::timeouts(limits));
    all.into_iter().filter(|(key, _)| !key.contains(' ')).collect()
}

/// The parts of time limits that are written together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Limit {
    Connect,
    FirstToken,
    FirstByte,
    Idle,
}

impl Limit {
    const ALL: [Self; 4] = [Self::Connect, Self::FirstToken, Self::FirstByte, Self::Idle];

    fn key(self) -> &'static str {
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
struct Routes<'c> {
    general: Settings,
    own: BTreeMap<&'c str, Settings>,
    /// Time limits of a backend wherever it is used.
    of_backends: BTreeMap<&'c BackendId, Vec<(Limit, Duration)>>,
    /// `litellm_params.timeout`, where first tokens are only lowered by it.
    lowered: BTreeMap<&'c BackendId, Duration>,
}

impl<'c> Routes<'c> {
    fn of(config: &'c Config) -> Self {
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

/// The name of an entry: its own where that means it alone, else its id.
fn entry_name<'b>(config: &Config, backend: &'b Backend) -> &'b str {
    let is_taken = config.backends.values().any(|other| {
        other.id != backend.id && (other.model_name == backend.model_name || other.id.as_str() == backend.model_name)
    });
    if is_taken { backend.id.as_str() } else { &backend.model_name }
}

fn model_list(out: &mut Page, config: &Config, backends: &Backends<'_>, routes: &Routes<'_>) {
    out.line(0, "model_list:");
    for backend in config.backends.values() {
        out.line(1, &format!("- model_name: {}", word(entry_name(config, backend))));
        out.line(2, "litellm_params:");
        for (key, text) in params(backend, routes.lowered.get(&backend.id)) {
            out.line(3, &format!("{key}: {text}"));
        }
        out.line(2, "model_info:");
        out.line(3, &format!("id: {}", word(backend.id.as_str())));
        if backend.drained {
            out.line(3, "blocked: true");
        }
        if let Some(tokens) = backend.max_input_tokens {
            out.line(3, &format!("max_input_tokens: {tokens}"));
        }
        for (key, price) in backend.prices.iter().flat_map(|prices| prices.pairs()) {
            out.line(3, &format!("{key}: {price}"));
        }
        for (key, limit) in [("rpm", backend.policy.requests_per_minute), ("tpm", backend.policy.tokens_per_minute)] {
            if let Some(limit) = limit {
                out.line(2, &format!("{key}: {limit}"));
            }
        }
        out.line(2, &format!("inject_usage: {}", backend.inject_usage));
        match backend.reasoning {
            Reasoning::ByRequest => {}
            Reasoning::Always => out.line(2, "reasoning: true"),
            Reasoning::Never => out.line(2, "reasoning: false"),
        }
        if let Some(file) = &backend.ca_file {
            out.line(2, &format!("ca_file: {}", word(file)));
        }
        if let Some(http2) = backend.http2 {
            out.line(2, &format!("http2: {http2}"));
        }
        let mut own = Tree::default();
        for (key, shown) in backends.own.get(&backend.id).into_iter().flatten() {
            own.put(key, shown);
        }
        for (limit, time) in routes.of_backends.get(&backend.id).into_iter().flatten() {
            own.put(limit.key(), &policy::show(*time));
        }
        if own.is_written() {
            out.line(2, "resilience:");
            own.write(out, 3);
        }
    }
}

fn params(backend: &Backend, lowered: Option<&Duration>) -> Vec<(String, String)> {
    let text = |text: &str| word(&text.replace("${", "$${"));
    let mut params = vec![("model".to_owned(), text(&backend.upstream_model))];
    let mut put = |key: &str, shown: String| params.push((key.to_owned(), shown));
    match &backend.provider {
        Provider::OpenAi => put("custom_llm_provider", "openai".to_owned()),
        Provider::Compatible(name) => put("custom_llm_provider", (*name).to_owned()),
        Provider::AzureDated { .. } | Provider::AzureV1 => {
            put("api_type", "azure".to_owned());
            put("azure_deployment", text(&backend.upstream_model));
        }
    }
    put("api_base", text(&url::show(&backend.base_url)));
    match &backend.provider {
        Provider::AzureDated { api_version } => put("api_version", text(api_version)),
        Provider::AzureV1 => put("api_version", "v1".to_owned()),
        Provider::OpenAi | Provider::Compatible(_) => {}
    }
    match &backend.credential {
        Some(Credential::Bearer(_)) if backend.provider.name() == "azure" => {
            put("azure_ad_token", secret(&backend.credential_reference, backend.id.as_str()));
        }
        Some(Credential::Bearer(_) | Credential::ApiKeyHeader(_)) => {
            put("api_key", secret(&backend.credential_reference, backend.id.as_str()));
        }
        Some(Credential::Entra(identity)) => {
            put("tenant_id", text(&identity.tenant));
            put("client_id", text(&identity.client));
            put("client_secret", secret(&identity.secret_reference, backend.id.as_str()));
            put("azure_scope", text(&identity.scope));
            put("azure_authority_host", text(&url::show(&identity.authority)));
        }
        None => {}
    }
    if let Some(organization) = &backend.organization {
        put("organization", text(organization));
    }
    if let Some(time) = lowered {
        put("timeout", policy::show(*time));
    }
    let map = |pairs: Vec<String>| format!("{{{}}}", pairs.join(", "));
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    if !backend.extra_headers.is_empty() {
        let pairs = backend.extra_headers.iter().map(|(name, _)| format!("{}: \"[redacted]\"", quoted(name)));
        put("extra_headers", map(pairs.collect()));
    }
    if !backend.extra_query.is_empty() {
        let pairs = backend.extra_query.iter().map(|(name, value)| format!("{}: {}", quoted(name), text(value)));
        put("extra_query", map(pairs.collect()));
    }
    if !backend.request_defaults.is_empty() {
        let pairs = backend
            .request_defaults
            .iter()
            .map(|(name, json)| format!("{}: {}", quoted(name), json.replace("${", "$${")));
        put("extra_body", map(pairs.collect()));
    }
    params
}

fn router(out: &mut Page, config: &Config, routes: &Routes<'_>) {
    out.line(0, "router:");
    let (strategy, failover_on) = choice(config);
    for route in named(config) {
        out.line(1, &format!("- model_name: {}", word(route.name.as_str())));
        if route.strategy != strategy {
            out.line(2, &format!("load_balance_strategy: {}", route.strategy.name()));
        }
        if route.failover_on != failover_on {
            out.line(2, &format!("fallback_on_error_types: {}", errors(&route.failover_on)));
        }
        out.line(2, "models:");
        for tier in &route.tiers {
            // A weight that could have no effect is a mistake, and one for some members only as well.
            let is_weighed = 1 < tier.members.len() && tier.members.iter().any(|member| member.weight > 0.0);
            for member in &tier.members {
                let named = config
                    .backends
                    .get(&member.backend)
                    .map_or(member.backend.as_str(), |backend| entry_name(config, backend));
                let weight = if is_weighed { format!(", weight: {}", member.weight) } else { String::new() };
                out.line(3, &format!("- {{name: {}, priority: {}{weight}}}", word(named), tier.priority));
            }
        }
        let further = [
            ("fallbacks", &route.fallbacks),
            ("context_window_fallbacks", &route.context_window_fallbacks),
            ("content_policy_fallbacks", &route.content_policy_fallbacks),
        ];
        for (key, list) in further.into_iter().filter(|(_, list)| !list.is_empty()) {
            out.line(2, &format!("{key}: {}", names(list.iter().map(|name| name.as_str()))));
        }
        if route.hidden {
            out.line(2, "hidden: true");
        }
        let mut own = Tree::default();
        for (key, shown) in routes.own.get(route.name.as_str()).into_iter().flatten() {
            own.put(key, shown);
        }
        if own.is_written() {
            out.line(2, "resilience:");
            own.write(out, 3);
        }
    }
}
