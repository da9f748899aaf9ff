//! What was written to what is true: everything is combined and checked here, and every problem said.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use sha2::{Digest, Sha256};

use super::context::{At, Context, Located};
use super::endpoint::{self, Endpoint, Gone};
use super::policy::{self, RouteShape};
use super::raw::{Model, Raw};
use super::routes::{Compiler, Draft, Drafts, Entry, Fallback, covers};
use super::settings;
use super::url;
use super::{
    AttemptTimeouts, Backend, BackendId, BaseUrl, Config, IdentityHash, Member, Origin, Provider, Reasoning, Route,
    RouteName, Tier,
};

/// Longest name of a route, a backend or a key, in characters: it becomes a header and a label.
const MAX_NAME: usize = 128;
/// The first dated Azure API that answers `stream_options` (spec/wire.md 2.4).
const FIRST_USAGE_VERSION: &str = "2024-10-21";

/// Combines and checks. The configuration only counts if nothing said is an error.
pub(super) fn validate(context: &Context<'_>, raw: &Raw<'_>, hash: String) -> Config {
    let server = settings::server(&raw.top, &raw.litellm);
    let (auth, key_routes) = settings::auth(&raw.top, &raw.litellm);
    let master_key = auth.keys.iter().find(|key| &*key.name == "master_key");
    let admin = settings::admin(&raw.top, master_key, &server);
    let read = settings::defaults(&raw.top, &raw.litellm);
    let reload = settings::reload(&raw.top);
    let logging = settings::logging(&raw.top, &raw.litellm);
    settings::telemetry(&raw.top);
    if auth.keys.is_empty() && !raw.litellm.has_broken_master_key && !server.host.is_loopback() {
        let message = format!(
            "no client key, and the listener is open to the network ({}): anyone who reaches it can spend the keys",
            server.host
        );
        let help = "set `general_settings.master_key` or `auth.keys`, or `server.host: 127.0.0.1`".to_owned();
        context.warning("BW701", raw.top.at(), message, Some(help));
    }
    policy::check_said_twice(context, &raw.resilience, &raw.litellm.resilience);
    for model in &raw.models {
        policy::check_said_twice(context, &model.resilience, &model.litellm);
    }
    let (entries, unsupported) = entries(context, raw);
    let compiler = Compiler {
        context,
        raw,
        entries: &entries,
        unsupported: &unsupported,
        broken: &raw.broken,
        implicit_routes: read.implicit_routes,
    };
    let drafts = compiler.compile();
    let checker = Checker { context, raw, entries: &entries, drafts: &drafts };
    checker.check(&key_routes, read.default_route.as_ref());
    let builder = Builder { context, raw, entries: &entries, drafts: &drafts };
    let (backends, routes, wildcards) = builder.build();
    Config { server, admin, auth, defaults: read.defaults, reload, logging, backends, routes, wildcards, hash }
}

/// Usable entries with their ids, and the names of those left out for their provider.
fn entries<'r>(context: &Context<'_>, raw: &'r Raw<'_>) -> (Vec<Entry<'r>>, Vec<(String, String)>) {
    let mut usable: Vec<(&Model, Endpoint)> = Vec::new();
    let mut unsupported = Vec::new();
    let mut is_broken = !raw.broken.is_empty();
    for model in &raw.models {
        check_name(context, &model.model_name);
        match endpoint::resolve(context, raw, model) {
            Ok(endpoint) => usable.push((model, endpoint)),
            Err(Gone::Broken) => is_broken = true,
            Err(Gone::Unsupported(provider)) => {
                let message =
                    format!("provider `{provider}` is not supported: `{}` is left out", model.model_name.value);
                let help = "give `api_base` and `custom_llm_provider: openai` if it speaks OpenAI's dialect".to_owned();
                context.warning("BW401", &model.model.at, message, Some(help));
                unsupported.push((model.model_name.value.clone(), provider));
            }
        }
    }
    if usable.is_empty() && !is_broken && !context.has_errors() {
        let help = "list at least one backend under `model_list`".to_owned();
        context.error("BW412", raw.top.at(), "there is no usable backend", Some(help));
    }
    let limited = usable.iter().find_map(|(model, _)| model.litellm_limit.as_ref());
    if let Some(at) = limited.filter(|_| !raw.litellm.enforces_limits) {
        let message = "`rpm` and `tpm` are enforced here; in LiteLLM they only weigh";
        let help = "set `general_settings.enforce_model_rate_limits: true` to say that you know".to_owned();
        context.warning("BW901", at, message, Some(help));
    }
    let ids = ids(context, &usable);
    let entry = |((model, endpoint), id)| Entry { id, model, endpoint };
    (usable.into_iter().zip(ids).map(entry).collect(), unsupported)
}

/// `model_info.id`, else the `model_name`, with `#2`, `#3` … for repeats in file order.
fn ids<'r>(context: &Context<'_>, usable: &[(&'r Model, Endpoint)]) -> Vec<BackendId> {
    let mut taken: HashSet<String> = HashSet::new();
    for (model, _) in usable {
        let Some(id) = &model.id else { continue };
        check_name(context, id);
        if !taken.insert(id.value.clone()) {
            context.error("BW410", &id.at, format!("two backends have the id `{}`", id.value), None);
        }
    }
    let mut numbers: HashMap<&'r str, usize> = HashMap::new();
    let mut id = |model: &'r Model| {
        if let Some(id) = &model.id {
            return BackendId::new(id.value.as_str());
        }
        let name = &model.model_name.value;
        if taken.insert(name.clone()) {
            return BackendId::new(name.as_str());
        }
        if !numbers.contains_key(name.as_str()) {
            let help = "give each a `model_info.id`: labels then survive reordering".to_owned();
            context.note("BW410", &model.at, format!("several backends are named `{name}`"), Some(help));
        }
        let number = numbers.entry(name.as_str()).or_insert(1);
        loop {
            *number += 1;
            let id = format!("{name}#{number}");
            if taken.insert(id.clone()) {
                return BackendId::new(id);
            }
        }
    };
    usable.iter().map(|(model, _)| id(model)).collect()
}

fn check_name(context: &Context<'_>, name: &Located<String>) {
    let length = name.value.chars().count();
    let is_printable = !name.value.chars().any(char::is_control) && name.value.trim() == name.value;
    if length == 0 || length > MAX_NAME || !is_printable {
        let message = format!("a name has 1 to {MAX_NAME} printable characters and no blanks around it");
        context.error("BW205", &name.at, message, None);
    }
    if name.value.matches('*').count() > 1 {
        context.error("BW205", &name.at, "a pattern holds one `*` at most", None);
    }
}

struct Checker<'r, 'c> {
    context: &'r Context<'c>,
    raw: &'r Raw<'c>,
    entries: &'r [Entry<'r>],
    drafts: &'r Drafts<'r>,
}

impl Checker<'_, '_> {
    fn check(&self, key_routes: &[settings::KeyRoutes], default_route: Option<&Located<String>>) {
        for draft in self.drafts.iter() {
            self.check_route(draft);
        }
        let litellm = &self.raw.litellm;
        let routers = self.raw.router.iter().map(|entry| &entry.model_name);
        let groups = litellm.groups.iter().map(|group| &group.name);
        for name in routers.chain(groups).chain(litellm.aliases.iter().map(|alias| &alias.name)) {
            check_name(self.context, name);
        }
        self.check_reach();
        for glob in key_routes.iter().flatten() {
            if !self.drafts.iter().any(|draft| covers(&glob.value, &draft.name) || covers(&draft.name, &glob.value)) {
                let message = format!("no route is named `{}`", glob.value);
                self.context.error("BW704", &glob.at, message, self.near(&glob.value));
            }
        }
        if let Some(route) = default_route.filter(|route| !self.drafts.knows(&route.value)) {
            let message = format!("`default_route` names `{}`, which is no route", route.value);
            self.context.error("BW513", &route.at, message, self.near(&route.value));
        }
    }

    fn near(&self, name: &str) -> Option<String> {
        let near = super::suggest::nearest(name, self.drafts.exact.keys().map(String::as_str))?;
        Some(format!("did you mean `{near}`?"))
    }

    fn check_route(&self, draft: &Draft<'_>) {
        let live = draft.live();
        let is_named = matches!(draft.origin, Origin::Router | Origin::Group);
        if is_named && !draft.is_partial && live.len() == 1 && draft.fallbacks.is_empty() {
            let message = format!("route `{}` has one backend and no fallback", draft.name);
            self.context.note("BW515", &draft.at, message, None);
        }
        let is_several = live.len() > 1 && !matches!(draft.origin, Origin::Alias | Origin::BackendId);
        if is_several {
            self.check_members(draft, &live);
        }
    }

    fn check_members(&self, draft: &Draft<'_>, live: &[usize]) {
        let mut doors: HashMap<(&BaseUrl, &str), &BackendId> = HashMap::new();
        let mut first_mode: Option<(&str, &BackendId)> = None;
        for entry in live.iter().map(|at| &self.entries[*at]) {
            let door = (&entry.endpoint.base_url, entry.endpoint.credential_reference.as_str());
            if let Some(other) = doors.insert(door, &entry.id) {
                let message = format!(
                    "in route `{}`, `{other}` and `{}` share host and credential: what stops one often stops both",
                    draft.name, entry.id
                );
                return self.context.warning("BW516", &draft.at, message, None);
            }
            let Some(mode) = entry.model.mode.as_deref() else { continue };
            let (first, other) = *first_mode.get_or_insert((mode, &entry.id));
            if first != mode {
                let message = format!("in route `{}`, `{other}` and `{}` differ in `mode`", draft.name, entry.id);
                return self.context.warning("BW516", &draft.at, message, None);
            }
        }
    }

    fn check_reach(&self) {
        let reached: HashSet<usize> = self
            .drafts
            .iter()
            .filter(|draft| draft.origin != Origin::BackendId)
            .flat_map(|draft| draft.all().collect::<Vec<_>>())
            .collect();
        for (at, entry) in self.entries.iter().enumerate() {
            let is_drained =
                entry.model.is_blocked || entry.model.weight.as_ref().is_some_and(|weight| weight.value == 0.0);
            if !reached.contains(&at) && !is_drained {
                let message = format!("no route reaches `{}`; only its own id does", entry.id);
                self.context.warning("BW411", &entry.model.at, message, None);
            }
        }
    }
}

/// What `build` makes: backends by id, routes by name, wildcards.
type Built = (IndexMap<BackendId, Arc<Backend>>, IndexMap<RouteName, Arc<Route>>, Vec<Arc<Route>>);

struct Builder<'r, 'c> {
    context: &'r Context<'c>,
    raw: &'r Raw<'c>,
    entries: &'r [Entry<'r>],
    drafts: &'r Drafts<'r>,
}

impl Builder<'_, '_> {
    fn build(&self) -> Built {
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

    fn check_attempts(&self, draft: &Draft<'_>, attempts: u32) {
        let candidates = draft.live().len();
        // In one tier every backend gets its turn over time; what is never reached is a lower tier.
        let never = draft.tiers.len() > attempts as usize;
        if never && !matches!(draft.origin, Origin::Alias | Origin::BackendId) {
            let message = format!(
                "route `{}` has {candidates} backends and at most {attempts} attempts: the last are never tried in one request",
                draft.name
            );
            self.context.warning(
                "BW605",
                &draft.at,
                message,
                Some("raise `resilience.attempts.max_attempts`".to_owned()),
            );
        }
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
            ca_file: ca_file
                .map(|file| self.context.resolve(file.at.place.file, &file.value).to_string_lossy().into_owned()),
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

/// The top of a file, for what concerns it as a whole.
pub(super) fn top_of(file: usize) -> At {
    At { place: super::text::Place { file, offset: 0 }, used_at: None, path: "".into() }
}
