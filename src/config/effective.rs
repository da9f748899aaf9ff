//! A configuration written down again, in our own dialect and with everything it means: what a file with includes, placeholders
//! and two dialects comes to, and what a LiteLLM file becomes here.
//!
//! It is written from the compiled value, so it cannot forget a key. What most backends or routes share stands once under
//! `resilience`; values that nobody wrote stand there as comments, since some of them give way to others (spec/config.md 1 rule
//! 7) and would not if they were written. Secrets are shown as their placeholders, literal ones not at all. Pure.

mod page;
mod share;
#[cfg(test)]
mod tests;

use std::time::Duration;

use indexmap::IndexMap;

use self::page::{Page, Tree};
use self::share::{Backends, Routes, in_general, limits_as_settings, named};
use super::outline::{self, Outline, word};
use super::{
    AttemptTimeouts, Backend, BackendPolicy, Config, Credential, Provider, Reasoning, RoutePolicy, Strategy, policy,
    url,
};
use crate::error::ErrorSet;

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
