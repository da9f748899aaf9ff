//! `router_settings`, `litellm_settings` and `general_settings` as far as they mean something here.

use std::num::NonZeroU32;
use std::rc::Rc;
use std::time::Duration;

use super::super::context::{Located, Secret};
use super::super::item::{Dialect, Item};
use super::super::litellm_keys::Scope;
use super::super::scalar;
use super::super::section::Section;
use super::super::yaml::Node;
use super::super::{HealthCheckKind, LogFormat, Strategy};
use super::model::{failures, nearer, set_timeouts};
use super::resilience::Resilience;
use super::words::strategy_named;

/// A route and the routes tried after it.
pub(in super::super) struct Targets {
    /// The route; `*` for all.
    pub(in super::super) route: Located<String>,
    /// In order.
    pub(in super::super) targets: Vec<Located<String>>,
}

/// One of `model_group_alias`.
pub(in super::super) struct Alias {
    /// The further name.
    pub(in super::super) name: Located<String>,
    /// The route it stands for.
    pub(in super::super) target: Located<String>,
    /// Callable but not listed.
    pub(in super::super) hidden: bool,
}

/// One of `routing_groups`.
pub(in super::super) struct Group {
    /// Its name.
    pub(in super::super) name: Located<String>,
    /// Its models and each one's priority.
    pub(in super::super) models: Vec<(Located<String>, Option<Located<u32>>)>,
    /// Choice within a tier.
    pub(in super::super) strategy: Option<Located<Strategy>>,
}

/// All of it.
#[derive(Default)]
pub(in super::super) struct LiteLlm {
    /// `routing_strategy` of implicit routes.
    pub(in super::super) strategy: Option<Located<Strategy>>,
    pub(in super::super) aliases: Vec<Alias>,
    pub(in super::super) groups: Vec<Group>,
    pub(in super::super) fallbacks: Vec<Targets>,
    pub(in super::super) context_window_fallbacks: Vec<Targets>,
    pub(in super::super) content_policy_fallbacks: Vec<Targets>,
    pub(in super::super) default_params: Option<Rc<Node>>,
    /// What they say about resilience.
    pub(in super::super) resilience: Resilience,
    /// `json_logs`.
    pub(in super::super) log_format: Option<LogFormat>,
    pub(in super::super) metrics_require_auth: Option<bool>,
    pub(in super::super) max_in_flight: Option<NonZeroU32>,
    pub(in super::super) max_request_bytes: Option<usize>,
    pub(in super::super) forward_client_headers: bool,
    pub(in super::super) master_key: Option<Located<Secret>>,
    /// Whether one is written that could not be read, which has been said.
    pub(in super::super) has_broken_master_key: bool,
    pub(in super::super) key_header: Option<String>,
    pub(in super::super) enforces_limits: bool,
}

/// What stands in both `router_settings` and `litellm_settings`, the former nearer.
#[derive(Default)]
struct Shared {
    timeout: Option<Located<Duration>>,
    stream_timeout: Option<Located<Duration>>,
    num_retries: Option<Located<u32>>,
    allowed_fails: Option<Located<u32>>,
    cooldown_time: Option<Located<Duration>>,
}

pub(super) fn read(top: &Section<'_>) -> LiteLlm {
    let mut read = LiteLlm::default();
    let settings = |key, scope| top.section_in(key, Dialect::LiteLlm(scope));
    let router = settings("router_settings", Scope::Router);
    let litellm = settings("litellm_settings", Scope::LiteLlm);
    let general = settings("general_settings", Scope::General);
    let near = router.as_ref().map(|section| shared(section, "timeout")).unwrap_or_default();
    let far = litellm.as_ref().map(|section| shared(section, "request_timeout")).unwrap_or_default();
    join(top, &mut read.resilience, near, far);
    if let Some(section) = &router {
        router_settings(section, &mut read);
    }
    for section in [&router, &litellm].into_iter().flatten() {
        all_fallbacks(section, &mut read);
    }
    if let Some(section) = &litellm {
        litellm_settings(section, &mut read);
    }
    if let Some(section) = &general {
        general_settings(section, &mut read);
    }
    [router, litellm, general].into_iter().flatten().for_each(Section::finish);
    read
}

fn shared(section: &Section<'_>, timeout: &'static str) -> Shared {
    Shared {
        timeout: section.time_limit(timeout),
        stream_timeout: section.time_limit("stream_timeout"),
        num_retries: section.integer("num_retries"),
        allowed_fails: section.integer("allowed_fails"),
        cooldown_time: section.duration("cooldown_time"),
    }
}

fn join(top: &Section<'_>, layer: &mut Resilience, near: Shared, far: Shared) {
    let timeout = nearer(top, "timeout", near.timeout, far.timeout);
    set_timeouts(layer, timeout, nearer(top, "stream_timeout", near.stream_timeout, far.stream_timeout));
    layer.num_retries = nearer(top, "num_retries", near.num_retries, far.num_retries);
    layer.breaker.consecutive_failures =
        nearer(top, "allowed_fails", near.allowed_fails, far.allowed_fails).map(failures);
    layer.breaker.wait = nearer(top, "cooldown_time", near.cooldown_time, far.cooldown_time);
}

fn router_settings(section: &Section<'_>, read: &mut LiteLlm) {
    read.strategy = section.item("routing_strategy").and_then(|item| strategy(&item));
    read.default_params = section.item("default_litellm_params").map(|item| item.node);
    read.resilience.max_in_flight = section.count("default_max_parallel_requests");
    if let Some(disabled) = section.boolean("disable_cooldowns") {
        read.resilience.breaker.enabled = Some(disabled.map(|disabled| !disabled));
    }
    // Off is what we do anyway; on would keep callers apart by their tags.
    if let Some(tags) = section.boolean("enable_tag_filtering")
        && tags.value
    {
        protective(section, &tags, "tag filtering keeps callers apart in LiteLLM and is not done here");
    }
    for (name, item) in section.item("model_group_alias").map(|item| item.pairs()).unwrap_or_default() {
        read.aliases.extend(alias(name, &item));
    }
    read.groups = section.items("routing_groups").iter().filter_map(group).collect();
}

fn litellm_settings(section: &Section<'_>, read: &mut LiteLlm) {
    read.log_format = section.boolean("json_logs").filter(|json| json.value).map(|_| LogFormat::Json);
    read.metrics_require_auth = section.boolean("require_auth_for_metrics_endpoint").map(|auth| auth.value);
    if let Some(verify) = section.boolean("ssl_verify")
        && !verify.value
    {
        protective(section, &verify, "certificates are always verified here");
    }
    // Prometheus is always on; other callbacks are not ours.
    if let Some(item) = section.item("callbacks") {
        let others: Vec<String> =
            item.strings().into_iter().map(|name| name.value).filter(|name| name != "prometheus").collect();
        if !others.is_empty() {
            section.item.context.warning(
                "BW202",
                &item.at,
                format!("callbacks not applicable here: {}", others.join(", ")),
                None,
            );
        }
    }
}

fn general_settings(section: &Section<'_>, read: &mut LiteLlm) {
    read.master_key = section.secret("master_key");
    read.has_broken_master_key = read.master_key.is_none() && section.is_broken("master_key");
    read.key_header = section.string("litellm_key_header_name").map(|name| name.value);
    read.max_in_flight = section.count("global_max_parallel_requests").map(|count| count.value);
    read.max_request_bytes = section
        .read("max_request_size_mb", scalar::number)
        .filter(|size| size.value > 0.0 && size.value.is_finite())
        .map(|size| (size.value * f64::from(1 << 20)) as usize);
    read.forward_client_headers =
        section.boolean("forward_client_headers_to_llm_api").is_some_and(|forward| forward.value);
    let checks = section.boolean("background_health_checks").filter(|checks| checks.value);
    let interval = section.duration("health_check_interval");
    read.resilience.health_check.interval = interval.filter(|_| checks.is_some());
    read.resilience.health_check.kind = checks.map(|checks| checks.map(|_| HealthCheckKind::Models));
    read.enforces_limits = section.boolean("enforce_model_rate_limits").is_some_and(|enforced| enforced.value);
}

fn protective(section: &Section<'_>, key: &Located<bool>, message: &str) {
    let context = section.item.context;
    if context.is_ignored(&key.at.path) {
        context.warning("BW203", &key.at, message, None);
        return;
    }
    let help = format!("to start without it, list `{}` in `defaults.ignore_unsupported`", key.at.path);
    context.error("BW203", &key.at, message, Some(help));
}

/// LiteLLM's strategies; those that need its database fall back to round robin.
fn strategy(item: &Item<'_>) -> Option<Located<Strategy>> {
    let written = item.written("a strategy")?;
    let found = match written.value.text.as_str() {
        "usage-based-routing" | "usage-based-routing-v2" | "cost-based-routing" | "lar1" => None,
        other => strategy_named(other),
    };
    if found.is_none() {
        let message = format!("{} is not available here: `weighted_round_robin` is used", written.value.shown());
        item.context.warning("BW510", &written.at, message, None);
    }
    Some(Located { value: found.unwrap_or(Strategy::WeightedRoundRobin), at: written.at })
}

fn alias(name: Located<String>, item: &Item<'_>) -> Option<Alias> {
    use super::super::yaml::Value;
    match &item.node.value {
        Value::Mapping(_) => {
            let section = item.section(Dialect::LiteLlm(Scope::Other))?;
            let target = section.required("model");
            let hidden = section.boolean("hidden").is_some_and(|hidden| hidden.value);
            section.finish();
            Some(Alias { name, target: target?, hidden })
        }
        Value::Null | Value::Scalar { .. } | Value::Sequence(_) | Value::Refused => {
            Some(Alias { name, target: item.string()?, hidden: false })
        }
    }
}

fn group(item: &Item<'_>) -> Option<Group> {
    let section = item.section(Dialect::LiteLlm(Scope::Other))?;
    let name = match section.holds("group_name") {
        true => section.required("group_name"),
        false => section.required("model_name"),
    };
    let priorities = section.item("model_priorities").map(|item| item.pairs()).unwrap_or_default();
    let priority = |model: &str| {
        let (_, item) = priorities.iter().find(|(name, _)| name.value == model)?;
        let read = item.read(scalar::integer)?;
        u32::try_from(read.value).ok().map(|value| Located { value, at: read.at })
    };
    let models = section.item("models").map(|item| item.strings()).unwrap_or_default();
    let models = models.into_iter().map(|model| (model.clone(), priority(&model.value))).collect();
    let strategy = section.item("routing_strategy").filter(|item| !is_priority(item)).and_then(|item| strategy(&item));
    let _ = section.key("routing_strategy_args");
    section.finish();
    Some(Group { name: name?, models, strategy })
}

/// `routing_strategy: priority` only says that `model_priorities` count, which they do anyway.
fn is_priority(item: &Item<'_>) -> bool {
    matches!(&item.node.value, super::super::yaml::Value::Scalar { text, .. } if text.starts_with("priority"))
}

fn all_fallbacks(section: &Section<'_>, read: &mut LiteLlm) {
    read.fallbacks.extend(fallbacks(section, "fallbacks"));
    read.context_window_fallbacks.extend(fallbacks(section, "context_window_fallbacks"));
    read.content_policy_fallbacks.extend(fallbacks(section, "content_policy_fallbacks"));
    let Some(item) = section.item("default_fallbacks") else { return };
    let route = Located { value: "*".to_owned(), at: item.at.clone() };
    read.fallbacks.push(Targets { route, targets: item.items().iter().filter_map(target).collect() });
}

/// `[{name: [target, …]}, …]`; one mapping will do as well.
fn fallbacks(section: &Section<'_>, key: &'static str) -> Vec<Targets> {
    use super::super::yaml::Value;
    let Some(item) = section.item(key) else { return Vec::new() };
    if let Value::Scalar { text, .. } = &item.node.value
        && text.trim_start().starts_with('[')
    {
        item.context.error("BW204", &item.at, "expected a list, found text", Some(format!("write `{key}: […]`")));
        return Vec::new();
    }
    let mappings = match &item.node.value {
        Value::Mapping(_) => vec![item],
        Value::Null | Value::Scalar { .. } | Value::Sequence(_) | Value::Refused => item.items(),
    };
    let entry = |(route, targets): (Located<String>, Item<'_>)| Targets {
        route,
        targets: targets.one_or_more().iter().filter_map(target).collect(),
    };
    mappings.iter().flat_map(Item::pairs).map(entry).collect()
}

/// A route's name, or `{model: name, …}` of which the name counts.
fn target(item: &Item<'_>) -> Option<Located<String>> {
    use super::super::yaml::Value;
    match &item.node.value {
        Value::Mapping(_) => {
            let section = item.section(Dialect::LiteLlm(Scope::Other))?;
            item.context.warning("BW202", &item.at, "of this fallback only `model` counts here", None);
            section.required("model")
        }
        Value::Null | Value::Scalar { .. } | Value::Sequence(_) | Value::Refused => item.string(),
    }
}
