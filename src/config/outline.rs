//! What a configuration says, key by key and as the YAML would write it: what differences are made of.
//!
//! Each structure is taken apart without `..`, so that a new field does not compile until somebody has said how it is shown.

mod policies;
mod process;
mod words;

use std::borrow::Cow;
use std::fmt::Display;

pub(super) use self::policies::{backend_policy, route_policy, timeouts};
pub(super) use self::process::{client_key, needs_restart, process};
use self::words::{REDACTED, errors, list, or_off};
pub(super) use self::words::{reference, word};
use super::{ApiKey, Backend, Credential, EntraIdentity, Prices, Provider, Reasoning, Route, url};

/// One key and its value. A secret is compared and never shown.
#[derive(Clone, PartialEq)]
pub(super) struct Setting {
    /// Its path below what it belongs to.
    pub(super) key: Cow<'static, str>,
    /// Its value as it may be shown.
    pub(super) shown: String,
    secret: Option<ApiKey>,
}

impl Setting {
    /// Whether it is a secret that changes behind the same words.
    pub(super) fn is_secret(&self) -> bool {
        self.secret.is_some()
    }
}

/// Settings in order.
#[derive(Default)]
pub(super) struct Outline(pub(super) Vec<Setting>);

impl Outline {
    fn put(&mut self, key: impl Into<Cow<'static, str>>, value: impl Display) {
        self.0.push(Setting { key: key.into(), shown: value.to_string(), secret: None });
    }

    fn secret(&mut self, key: impl Into<Cow<'static, str>>, shown: String, secret: &ApiKey) {
        self.0.push(Setting { key: key.into(), shown, secret: Some(secret.clone()) });
    }
}

/// Who a backend is, in a few words.
pub(super) fn about(backend: &Backend) -> String {
    format!("{} {} at {}", backend.provider.name(), backend.upstream_model, backend.base_url.authority())
}

/// Everything about one backend.
pub(super) fn backend(backend: &Backend) -> Outline {
    let Backend {
        id: _,
        model_name,
        provider,
        base_url,
        upstream_model,
        credential,
        organization,
        extra_headers,
        extra_query,
        request_defaults,
        drained,
        inject_usage,
        reasoning,
        max_input_tokens,
        prices,
        ca_file,
        http2,
        policy,
        identity: _,
        credential_reference,
    } = backend;
    let mut out = Outline::default();
    out.put("model_name", model_name);
    out.put("provider", provider.name());
    match provider {
        Provider::AzureDated { api_version } => out.put("api_version", api_version),
        Provider::AzureV1 => out.put("api_version", "v1"),
        Provider::OpenAi | Provider::Compatible(_) => {}
    }
    out.put("api_base", url::show(base_url));
    out.put("model", upstream_model);
    match credential {
        Some(Credential::Bearer(key)) if provider.name() == "azure" => {
            out.secret("azure_ad_token", reference(credential_reference), key);
        }
        Some(Credential::Bearer(key) | Credential::ApiKeyHeader(key)) => {
            out.secret("api_key", reference(credential_reference), key);
        }
        Some(Credential::Entra(identity)) => {
            let EntraIdentity { tenant, client, secret, secret_reference, scope, authority } = &**identity;
            out.put("tenant_id", tenant);
            out.put("client_id", client);
            out.secret("client_secret", reference(secret_reference), secret);
            out.put("azure_scope", scope);
            out.put("azure_authority_host", url::show(authority));
        }
        None => out.put("api_key", "none"),
    }
    out.put("organization", organization.as_deref().unwrap_or("none"));
    for (name, value) in extra_headers {
        out.secret(format!("extra_headers.{name}"), REDACTED.to_owned(), value);
    }
    for (name, value) in extra_query {
        out.put(format!("extra_query.{name}"), value);
    }
    for (name, value) in request_defaults {
        out.put(name.clone(), value);
    }
    out.put("model_info.blocked", drained);
    out.put("inject_usage", inject_usage);
    let reasoning = match reasoning {
        Reasoning::ByRequest => "auto",
        Reasoning::Always => "true",
        Reasoning::Never => "false",
    };
    out.put("reasoning", reasoning);
    out.put("model_info.max_input_tokens", or_off(*max_input_tokens));
    for (key, price) in prices.iter().flat_map(Prices::pairs) {
        out.put(key, price);
    }
    out.put("ca_file", ca_file.as_deref().unwrap_or("none"));
    out.put("http2", http2.map_or("as defaults.http2", |http2| if http2 { "true" } else { "false" }));
    backend_policy(&mut out, policy);
    out
}

/// Everything about one route but who its members are and what they get.
pub(super) fn route(route: &Route) -> Outline {
    let Route {
        name: _,
        origin: _,
        hidden,
        tiers: _,
        strategy,
        failover_on,
        fallbacks,
        context_window_fallbacks,
        content_policy_fallbacks,
        policy,
    } = route;
    let mut out = Outline::default();
    out.put("hidden", hidden);
    out.put("load_balance_strategy", strategy.name());
    out.put("fallback_on_error_types", errors(failover_on));
    out.put("fallbacks", list(fallbacks.iter().map(|name| name.as_str())));
    out.put("context_window_fallbacks", list(context_window_fallbacks.iter().map(|name| name.as_str())));
    out.put("content_policy_fallbacks", list(content_policy_fallbacks.iter().map(|name| name.as_str())));
    route_policy(&mut out, policy);
    out
}
