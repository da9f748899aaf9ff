//! Routes and backends as they will run, each with its resolved policy.

use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use sha2::{Digest, Sha256};

use super::context::Context;
use super::endpoint::Endpoint;
use super::policy::{self, RouteShape};
use super::raw::Raw;
use super::routes::{Draft, Drafts, Entry, Fallback};
use super::{
    AttemptTimeouts, Backend, BackendId, IdentityHash, Member, Origin, Provider, Reasoning, Route, RouteName, Tier,
    settings, url,
};

/// The first dated Azure API that answers `stream_options` (spec/wire.md 2.4).
const FIRST_USAGE_VERSION: &str = "2024-10-21";

/// What `build` makes: backends by id, routes by name, wildcards.
pub(super) type Built = (IndexMap<BackendId, Arc<Backend>>, IndexMap<RouteName, Arc<Route>>, Vec<Arc<Route>>);

/// Makes them; nothing here can fail.
pub(super) struct Builder<'r, 'c> {
    pub(super) context: &'r Context<'c>,
    pub(super) raw: &'r Raw<'c>,
    pub(super) entries: &'r [Entry<'r>],
    pub(super) drafts: &'r Drafts<'r>,
}

impl Builder<'_, '_> {
    /// Makes all of them.
    pub(super) fn build(&self) -> Built {
        let mut longest = vec![Duration::ZERO; self.entries.len()];
        let exact: IndexMap<RouteName, Arc<Route>> = self
            .drafts
            .exact
            .values()
            .map(|draft| (RouteName::new(draft.name.as_str()), Arc::new(self.route(draft, &mut longest))))
            .collect();
        let wildcards = self.drafts.wildcards.iter().map(|draft| Arc::new(self.route(draft, &mut longest))).collect();
        let lone = self.lone();
        let backend =
            |(at, entry): (usize, &Entry<'_>)| (entry.id.clone(), Arc::new(self.backend(entry, longest[at], lone[at])));
        (self.entries.iter().enumerate().map(backend).collect(), exact, wildcards)
    }

    /// For each backend whether no route that contains it offers another one or a fallback route.
    fn lone(&self) -> Vec<bool> {
        let mut lone = vec![true; self.entries.len()];
        for draft in self.drafts.iter() {
            let live = draft.live();
            for member in draft.all() {
                lone[member] &= draft.fallbacks.is_empty() && live.iter().all(|other| *other == member);
            }
        }
        lone
    }

    fn timeouts(&self, draft: &Draft<'_>, entry: &Entry<'_>) -> AttemptTimeouts {
        let model = entry.model;
        let general = [&self.raw.resilience, &self.raw.litellm.resilience];
        match draft.resilience {
            Some(own) => {
                policy::timeouts(self.context, &[&model.resilience, &model.litellm, own, general[0], general[1]])
            }
            None => policy::timeouts(self.context, &[&model.resilience, &model.litellm, general[0], general[1]]),
        }
    }

    fn route(&self, draft: &Draft<'_>, longest: &mut [Duration]) -> Route {
        let mut shape =
            RouteShape { tiers: draft.tiers.len(), longest_attempt: Duration::ZERO, longest_idle: Duration::ZERO };
        let mut tiers = Vec::new();
        for tier in &draft.tiers {
            let mut members = Vec::new();
            for member in &tier.members {
                let entry = &self.entries[member.entry];
                let timeouts = self.timeouts(draft, entry);
                shape.longest_attempt = shape.longest_attempt.max(timeouts.first_token).max(timeouts.first_byte);
                shape.longest_idle = shape.longest_idle.max(timeouts.idle);
                let first_token = match self.reasoning(entry) {
                    Reasoning::Always => timeouts.first_token_reasoning,
                    Reasoning::ByRequest | Reasoning::Never => timeouts.first_token,
                };
                longest[member.entry] = longest[member.entry].max(first_token);
                let is_drained = entry.model.is_blocked && draft.origin != Origin::BackendId;
                let weight = if is_drained { 0.0 } else { member.weight };
                members.push(Member { backend: entry.id.clone(), weight, timeouts });
            }
            tiers.push(Tier { priority: tier.priority, members });
        }
        let general = [&self.raw.resilience, &self.raw.litellm.resilience];
        let policy = match draft.resilience {
            Some(own) => policy::route(&[own, general[0], general[1]], &shape),
            None => policy::route(&general, &shape),
        };
        self.check_attempts(draft, policy.max_attempts.min(policy.max_total_attempts));
        let names = |fallbacks: &[Fallback]| {
            fallbacks.iter().map(|fallback| RouteName::new(fallback.target.value.as_str())).collect()
        };
        Route {
            name: RouteName::new(draft.name.as_str()),
            origin: draft.origin,
            hidden: draft.hidden,
            tiers,
            strategy: draft.strategy,
            failover_on: draft.failover_on,
            fallbacks: names(&draft.fallbacks),
            context_window_fallbacks: names(&draft.context_window_fallbacks),
            content_policy_fallbacks: names(&draft.content_policy_fallbacks),
            policy,
        }
    }

    /// Within a tier every backend gets its turn over time; a last tier behind too many others never does.
    fn check_attempts(&self, draft: &Draft<'_>, attempts: u32) {
        let Some((_, before)) = draft.tiers.split_last() else { return };
        let live = before.iter().flat_map(|tier| &tier.members).filter(|member| member.weight > 0.0).count();
        if before.is_empty() || live < attempts as usize || matches!(draft.origin, Origin::Alias | Origin::BackendId) {
            return;
        }
        let message = format!(
            "route `{}` makes at most {attempts} attempts, and {live} backends stand before the last priority: it is never tried \
             unless one of them is known to be down",
            draft.name
        );
        let help = "raise `resilience.attempts.max_attempts`".to_owned();
        self.context.warning("BW605", &draft.at, message, Some(help));
    }

    fn reasoning(&self, entry: &Entry<'_>) -> Reasoning {
        match entry.model.reasoning {
            Some(true) => Reasoning::Always,
            Some(false) => Reasoning::Never,
            None => {
                let names = [Some(entry.endpoint.upstream_model.as_str()), entry.model.base_model.as_deref()];
                let written = entry.model.model.value.rsplit('/').next();
                match names.into_iter().chain([written]).flatten().any(is_reasoning_model) {
                    true => Reasoning::Always,
                    false => Reasoning::ByRequest,
                }
            }
        }
    }

    fn backend(&self, entry: &Entry<'_>, first_token: Duration, is_lone: bool) -> Backend {
        let Entry { id, model, endpoint } = entry;
        let layers = [&model.resilience, &model.litellm, &self.raw.resilience, &self.raw.litellm.resilience];
        let mut policy = policy::backend(self.context, &layers, first_token, is_lone);
        policy.requests_per_minute = model.requests_per_minute.as_ref().map(|limit| limit.value);
        policy.tokens_per_minute = model.tokens_per_minute.as_ref().map(|limit| limit.value);
        let ca_file = model.ca_file.as_ref().filter(|file| settings::is_readable(self.context, file).is_some());
        Backend {
            id: id.clone(),
            model_name: model.model_name.value.clone(),
            provider: endpoint.provider.clone(),
            base_url: endpoint.base_url.clone(),
            upstream_model: endpoint.upstream_model.clone(),
            credential: endpoint.credential.clone(),
            organization: self.organization(entry),
            extra_headers: model
                .extra_headers
                .iter()
                .map(|(name, secret)| (name.value.clone(), secret.key.clone()))
                .collect(),
            extra_query: model.extra_query.clone(),
            request_defaults: model.request_defaults.clone(),
            drained: model.is_blocked,
            inject_usage: model.inject_usage.unwrap_or_else(|| injects_usage(&endpoint.provider)),
            reasoning: self.reasoning(entry),
            max_input_tokens: model.max_input_tokens,
            prices: model.prices,
            ca_file: ca_file
                .map(|file| self.context.resolve(file.at.place.file, &file.value).to_string_lossy().into_owned()),
            http2: model.http2,
            policy,
            identity: identity(endpoint),
            credential_reference: endpoint.credential_reference.clone(),
        }
    }

    fn organization(&self, entry: &Entry<'_>) -> Option<String> {
        let written = entry.model.organization.as_ref().map(|organization| organization.value.clone());
        let is_openai = entry.endpoint.provider == Provider::OpenAi && entry.endpoint.base_url.host == "api.openai.com";
        let environment = || {
            let value = |name: &str| self.context.variable(name).filter(|value| !value.is_empty());
            ["OPENAI_ORGANIZATION", "OPENAI_ORG_ID"].into_iter().find_map(value)
        };
        written.or_else(|| if is_openai { environment() } else { None })
    }
}

/// `o<digit>*`, `gpt-5*`, `*-thinking*`, `*-r1*` (spec/resilience.md 7.2).
fn is_reasoning_model(name: &str) -> bool {
    let is_o = name.strip_prefix('o').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    is_o || name.starts_with("gpt-5") || name.contains("-thinking") || name.contains("-r1")
}

fn injects_usage(provider: &Provider) -> bool {
    match provider {
        Provider::OpenAi | Provider::AzureV1 | Provider::Compatible(_) => true,
        Provider::AzureDated { api_version } => api_version.as_str() >= FIRST_USAGE_VERSION,
    }
}

/// Provider, base URL, model and credential reference; the API version is not identity (spec/resilience.md 1).
fn identity(endpoint: &Endpoint) -> IdentityHash {
    let parts = [
        endpoint.provider.name(),
        &url::show(&endpoint.base_url),
        &endpoint.base_url.endpoint(),
        &endpoint.upstream_model,
        &endpoint.credential_reference,
    ];
    // Each part with its length, so that no two sequences of parts read the same.
    let digest = parts
        .iter()
        .fold(Sha256::new(), |digest, part| digest.chain_update((part.len() as u64).to_be_bytes()).chain_update(part));
    IdentityHash(digest.finalize().into())
}
