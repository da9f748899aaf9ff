//! Which names exist and which backends stand behind each: `router`, groups, aliases, `model_name`s, backend ids, wildcards
//! (spec/config.md 1, rules 1 to 5).

mod fallbacks;
mod model_names;

use std::collections::HashMap;

use indexmap::IndexMap;

use super::context::{At, Context, Located};
use super::endpoint::Endpoint;
use super::policy::{self, Layers};
use super::raw::{MemberEntry, Model, Raw, Resilience, RouteEntry, RoutingStrategy};
use super::settings::ImplicitRoutes;
use super::suggest;
use super::{BackendId, Origin, Strategy};
use crate::error::ErrorSet;
use model_names::Ranked;

/// A usable backend.
pub(super) struct Entry<'r> {
    pub(super) id: BackendId,
    pub(super) model: &'r Model,
    pub(super) endpoint: Endpoint,
}

/// A route whose members are positions in the list of entries.
#[derive(Clone)]
pub(super) struct Draft<'r> {
    pub(super) name: String,
    pub(super) origin: Origin,
    pub(super) hidden: bool,
    pub(super) at: At,
    pub(super) tiers: Vec<DraftTier>,
    pub(super) strategy: Strategy,
    pub(super) failover_on: ErrorSet,
    pub(super) fallbacks: Vec<Fallback>,
    pub(super) context_window_fallbacks: Vec<Fallback>,
    pub(super) content_policy_fallbacks: Vec<Fallback>,
    /// Whether members are missing for a reason that has been said.
    pub(super) is_partial: bool,
    /// The (r) blocks of its own, if it has any.
    pub(super) resilience: Option<&'r Resilience>,
}

/// Members of equal priority.
#[derive(Clone)]
pub(super) struct DraftTier {
    pub(super) priority: u32,
    pub(super) members: Vec<DraftMember>,
}

/// One backend and its share.
#[derive(Clone, Copy)]
pub(super) struct DraftMember {
    pub(super) entry: usize,
    pub(super) weight: f64,
}

/// A further route.
#[derive(Clone)]
pub(super) struct Fallback {
    pub(super) target: Located<String>,
    /// Whether an unknown one is only left out, as in LiteLLM's sections.
    pub(super) is_litellm: bool,
    /// Whether it stands for all routes, so that a cycle is no surprise.
    pub(super) is_default: bool,
}

impl Draft<'_> {
    /// Positions of all members that can be picked.
    pub(super) fn live(&self) -> Vec<usize> {
        let members = self.tiers.iter().flat_map(|tier| &tier.members);
        members.filter(|member| member.weight > 0.0).map(|member| member.entry).collect()
    }

    /// Positions of all members.
    pub(super) fn all(&self) -> impl Iterator<Item = usize> {
        self.tiers.iter().flat_map(|tier| tier.members.iter().map(|member| member.entry))
    }

    fn is_wildcard(&self) -> bool {
        self.name.contains('*')
    }
}

/// All routes.
pub(super) struct Drafts<'r> {
    /// By exact name.
    pub(super) exact: IndexMap<String, Draft<'r>>,
    /// Longest literal prefix first.
    pub(super) wildcards: Vec<Draft<'r>>,
}

impl<'r> Drafts<'r> {
    /// Whether a name is a route, a wildcard included.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.exact.contains_key(name) || self.wildcards.iter().any(|draft| covers(&draft.name, name))
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Draft<'r>> {
        self.exact.values().chain(&self.wildcards)
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut Draft<'r>> {
        self.exact.values_mut().chain(&mut self.wildcards)
    }
}

/// Whether a pattern with one `*` covers a name.
pub(super) fn covers(pattern: &str, name: &str) -> bool {
    let Some((prefix, suffix)) = pattern.split_once('*') else { return pattern == name };
    prefix.len() + suffix.len() <= name.len() && name.starts_with(prefix) && name.ends_with(suffix)
}

/// Entries by what they are called: routes name thousands of them.
pub(super) struct Names<'r> {
    by_model_name: HashMap<&'r str, Vec<usize>>,
    by_id: HashMap<&'r str, usize>,
}

impl<'r> Names<'r> {
    /// Looks through all entries.
    pub(super) fn of(entries: &'r [Entry<'r>]) -> Self {
        let mut names = Self { by_model_name: HashMap::new(), by_id: HashMap::new() };
        for (at, entry) in entries.iter().enumerate() {
            names.by_model_name.entry(entry.model.model_name.value.as_str()).or_default().push(at);
            names.by_id.entry(entry.id.as_str()).or_insert(at);
        }
        names
    }

    /// All entries of that `model_name`, else the one of that id.
    fn find(&self, name: &str) -> Option<Vec<usize>> {
        self.by_model_name.get(name).cloned().or_else(|| self.by_id.get(name).map(|at| vec![*at]))
    }
}

/// Builds them. `unsupported` holds the names of entries that were left out, and why.
pub(super) struct Compiler<'r, 'c> {
    pub(super) context: &'r Context<'c>,
    pub(super) raw: &'r Raw<'c>,
    pub(super) entries: &'r [Entry<'r>],
    pub(super) names: Names<'r>,
    pub(super) unsupported: &'r [(String, String)],
    pub(super) broken: &'r [String],
    pub(super) implicit_routes: ImplicitRoutes,
}

impl<'r> Compiler<'r, '_> {
    /// Builds all routes, in the order in which their names count.
    pub(super) fn compile(&self) -> Drafts<'r> {
        let mut drafts = Drafts { exact: IndexMap::new(), wildcards: Vec::new() };
        let mut used = Vec::new();
        for entry in &self.raw.router {
            self.check_shadow(&entry.model_name, "this route");
            let Some(draft) = self.router(entry) else { continue };
            used.extend(draft.all());
            self.add_named(&mut drafts, draft);
        }
        for group in &self.raw.litellm.groups {
            self.check_shadow(&group.name, "this group");
            let members: Vec<Ranked> =
                group.models.iter().flat_map(|(name, rank)| self.ranked(name, rank.as_ref())).collect();
            let mut draft = self.draft(group.name.value.clone(), Origin::Group, group.name.at.clone());
            draft.strategy = group.strategy.as_ref().map_or(draft.strategy, |strategy| strategy.value);
            draft.tiers = self.ranked_tiers(members);
            self.add_named(&mut drafts, draft);
        }
        let implicit = self.implicit();
        self.aliases(&mut drafts, &implicit);
        for draft in implicit {
            let is_routed = draft.all().all(|entry| used.contains(&entry));
            match self.implicit_routes {
                ImplicitRoutes::None => {}
                ImplicitRoutes::Unrouted if is_routed => {}
                ImplicitRoutes::All | ImplicitRoutes::Unrouted => add(&mut drafts, draft),
            }
        }
        self.own_ids(&mut drafts);
        drafts.wildcards.sort_by_key(|draft| std::cmp::Reverse(draft.name.find('*')));
        self.add_fallbacks(&mut drafts);
        drafts
    }

    fn draft(&self, name: String, origin: Origin, at: At) -> Draft<'r> {
        let layers: Layers<'_> = &[&self.raw.resilience];
        let litellm = self.raw.litellm.strategy.as_ref().map(|strategy| strategy.value);
        let own = policy::nearest(layers, |layer| &layer.load_balance_strategy).map(|strategy| strategy.value);
        Draft {
            name,
            origin,
            hidden: false,
            at,
            tiers: Vec::new(),
            strategy: own.or(litellm).unwrap_or(Strategy::WeightedRoundRobin),
            failover_on: policy::failover_on(layers),
            fallbacks: Vec::new(),
            context_window_fallbacks: Vec::new(),
            content_policy_fallbacks: Vec::new(),
            is_partial: false,
            resilience: None,
        }
    }

    /// Adds a route of a section whose names must be unique.
    fn add_named(&self, drafts: &mut Drafts<'r>, draft: Draft<'r>) {
        let same_wildcard = || drafts.wildcards.iter().find(|known| known.name == draft.name);
        if let Some(other) = drafts.exact.get(&draft.name).or_else(same_wildcard) {
            let message = format!("two routes are named `{}`", draft.name);
            self.context.error("BW502", &draft.at, message, Some(format!("the first is `{}`", other.at.path)));
            return;
        }
        if draft.tiers.is_empty() {
            return;
        }
        add(drafts, draft);
    }

    fn check_shadow(&self, name: &Located<String>, what: &str) {
        // Where no `model_name` is callable by itself none is taken away.
        if self.implicit_routes != ImplicitRoutes::None && self.names.by_model_name.contains_key(name.value.as_str()) {
            let message = format!(
                "{what} takes the name of the `model_name` `{}`, which is then not callable by itself",
                name.value
            );
            self.context.warning("BW505", &name.at, message, Some("give it another name".to_owned()));
        }
    }

    fn router(&self, entry: &'r RouteEntry) -> Option<Draft<'r>> {
        if entry.members.is_empty() && entry.broken_members == 0 {
            let message = format!("route `{}` has no members", entry.model_name.value);
            self.context.error("BW503", &entry.at, message, Some("list backends under `models`".to_owned()));
        }
        let has_priorities = entry.members.iter().any(|member| member.priority.is_some());
        if has_priorities
            && let Some(member) = entry.members.iter().find(|member| member.priority.is_none() && !member.is_refused)
        {
            let help = "give every member a priority, or none".to_owned();
            let message = format!("`{}` has no priority, others have", member.name.value);
            self.context.error("BW506", &member.name.at, message, Some(help));
        }
        let has_weights = entry.members.iter().any(|member| member.weight.is_some());
        let strategy = entry.routing_strategy.as_ref().map(|strategy| strategy.value);
        let strategy = strategy.unwrap_or(match has_weights && !has_priorities {
            true => RoutingStrategy::LoadBalance,
            false => RoutingStrategy::Fallback,
        });
        let layers: Layers<'_> = &[&entry.resilience, &self.raw.resilience];
        let own = |fallbacks: &[Located<String>]| {
            let fallback =
                |target: &Located<String>| Fallback { target: target.clone(), is_litellm: false, is_default: false };
            fallbacks.iter().map(fallback).collect()
        };
        self.check_said_twice(entry);
        let mut draft = Draft {
            hidden: entry.hidden,
            strategy: entry.load_balance_strategy.as_ref().map_or_else(|| policy::strategy(layers), |own| own.value),
            failover_on: entry
                .fallback_on_error_types
                .as_ref()
                .map_or_else(|| policy::failover_on(layers), |own| own.value),
            fallbacks: own(&entry.fallbacks),
            context_window_fallbacks: own(&entry.context_window_fallbacks),
            content_policy_fallbacks: own(&entry.content_policy_fallbacks),
            is_partial: entry.broken_members > 0 || entry.members.iter().any(|member| member.is_refused),
            resilience: Some(&entry.resilience),
            ..self.draft(entry.model_name.value.clone(), Origin::Router, entry.at.clone())
        };
        let mut tiers: Vec<(u32, Vec<&MemberEntry>)> = Vec::new();
        for (position, member) in entry.members.iter().enumerate() {
            let position = u32::try_from(position).unwrap_or(u32::MAX).saturating_add(1);
            let priority = match (&member.priority, strategy) {
                (Some(priority), _) => priority.value,
                (None, RoutingStrategy::Fallback) => position,
                (None, RoutingStrategy::LoadBalance) => 1,
            };
            match tiers.iter_mut().find(|(known, _)| *known == priority) {
                Some((_, members)) => members.push(member),
                None => tiers.push((priority, vec![member])),
            }
        }
        tiers.sort_by_key(|(priority, _)| *priority);
        let mut seen = Vec::new();
        for (priority, members) in &tiers {
            self.check_weights(members, draft.strategy, draft.is_partial);
            let mut tier = DraftTier { priority: *priority, members: Vec::new() };
            for member in members {
                let before = tier.members.len();
                self.members(member, &entry.model_name.value, &mut seen, &mut tier.members);
                draft.is_partial |= tier.members.len() == before;
            }
            if !tier.members.is_empty() {
                draft.tiers.push(tier);
            }
        }
        Some(draft)
    }

    fn check_said_twice(&self, entry: &RouteEntry) {
        let say = |key: &str, near: &At, far: &At| {
            let message = format!("`{key}` is also said at `{}`, which wins", near.path);
            self.context.warning("BW207", far, message, Some("keep one of them".to_owned()));
        };
        if let (Some(near), Some(far)) = (&entry.load_balance_strategy, &entry.resilience.load_balance_strategy) {
            say("load_balance_strategy", &near.at, &far.at);
        }
        if let (Some(near), Some(far)) = (&entry.fallback_on_error_types, &entry.resilience.fallback_on_error_types) {
            say("fallback_on_error_types", &near.at, &far.at);
        }
    }

    fn check_weights(&self, members: &[&MemberEntry], strategy: Strategy, is_partial: bool) {
        let weights: Vec<&Located<f64>> = members.iter().filter_map(|member| member.weight.as_ref()).collect();
        if weights.is_empty() || members.iter().any(|member| member.is_refused) {
            return;
        }
        if let Some(without) = members.iter().find(|member| member.weight.is_none()) {
            let message = format!("`{}` has no weight, others of its priority have", without.name.value);
            self.context.error(
                "BW507",
                &without.name.at,
                message,
                Some("give all of them a weight, or none".to_owned()),
            );
            return;
        }
        let zeros: Vec<&&Located<f64>> = weights.iter().filter(|weight| weight.value == 0.0).collect();
        if zeros.len() == members.len() {
            let message = "all weights of this priority are 0: nothing could be picked";
            self.context.error("BW508", &zeros[0].at, message, None);
            return;
        }
        for zero in &zeros {
            let message = "drained: never picked, still reachable by its own name";
            self.context.warning("BW508", &zero.at, message, None);
        }
        let is_ignored = matches!(strategy, Strategy::RoundRobin | Strategy::Random);
        if members.len() == 1 && !is_partial {
            let message = "a weight has no effect here: the member is alone in its priority";
            self.context.warning("BW509", &weights[0].at, message, None);
        } else if is_ignored && zeros.is_empty() {
            let message = format!("weights have no effect under `{}`", strategy.name());
            self.context.warning("BW509", &weights[0].at, message, Some("use `weighted_round_robin`".to_owned()));
        }
    }

    /// Adds what a member stands for: one backend, or all entries of a `model_name`, which share its weight.
    fn members(&self, member: &MemberEntry, route: &str, seen: &mut Vec<usize>, tier: &mut Vec<DraftMember>) {
        let Some(found) = self.find(&member.name, &format!("route `{route}`")) else { return };
        let shares = self.shares(&found);
        let total: f64 = shares.iter().sum();
        let weight = member.weight.as_ref().map_or(1.0, |weight| weight.value);
        for (entry, share) in found.into_iter().zip(shares) {
            if seen.contains(&entry) {
                let message = format!("route `{route}` names the backend `{}` twice", self.entries[entry].id);
                self.context.error("BW504", &member.name.at, message, None);
                continue;
            }
            seen.push(entry);
            let weight = if total > 0.0 { weight * share / total } else { 0.0 };
            tier.push(DraftMember { entry, weight });
        }
    }

    /// The entries of a name; none if it is unknown, which is then said.
    fn find(&self, name: &Located<String>, who: &str) -> Option<Vec<usize>> {
        if let Some(found) = self.names.find(&name.value) {
            return Some(found);
        }
        if self.broken.contains(&name.value) {
            return None;
        }
        if let Some((_, provider)) = self.unsupported.iter().find(|(known, _)| *known == name.value) {
            let message = format!("{who} names `{}`, whose provider `{provider}` is not supported", name.value);
            self.context.error("BW401", &name.at, message, None);
            return None;
        }
        let message = format!("{who} names an unknown backend `{}`", name.value);
        self.context.error("BW501", &name.at, message, self.help_for_unknown(&name.value));
        None
    }

    fn help_for_unknown(&self, name: &str) -> Option<String> {
        if self.raw.router.iter().any(|route| route.model_name.value == name) {
            return Some(format!("`{name}` is a route: list it under `fallbacks`"));
        }
        if self.context.is_full() {
            return None;
        }
        let known = self.entries.iter().flat_map(|entry| [entry.model.model_name.value.as_str(), entry.id.as_str()]);
        let near = suggest::nearest(name, known)?;
        let of_entry = |entry: &&Entry<'_>| entry.model.model_name.value == near || entry.id.as_str() == near;
        let at = &self.entries.iter().find(of_entry)?.model.at;
        let (line, _) = self.context.files[at.place.file].text.position(at.place.offset);
        Some(format!("did you mean `{near}` ({}, line {line})?", at.path))
    }

    /// Every backend by its own id, a drained one too. A name that only reaches drained backends gives way to the id.
    fn own_ids(&self, drafts: &mut Drafts<'r>) {
        for (at, entry) in self.entries.iter().enumerate() {
            let name = entry.id.as_str();
            let is_dead = |draft: &Draft<'_>| draft.origin == Origin::Implicit && draft.live().is_empty();
            if name.contains('*') || drafts.exact.get(name).is_some_and(|draft| !is_dead(draft)) {
                continue;
            }
            let tier = DraftTier { priority: 1, members: vec![DraftMember { entry: at, weight: 1.0 }] };
            let draft = self.draft(name.to_owned(), Origin::BackendId, entry.model.at.clone());
            drafts.exact.insert(name.to_owned(), Draft { tiers: vec![tier], hidden: true, ..draft });
        }
        drafts.exact.retain(|_, draft| draft.origin != Origin::Implicit || !draft.live().is_empty());
    }
}

fn add<'r>(drafts: &mut Drafts<'r>, draft: Draft<'r>) {
    match draft.is_wildcard() {
        true if drafts.wildcards.iter().any(|known| known.name == draft.name) => {}
        true => drafts.wildcards.push(draft),
        false => {
            drafts.exact.entry(draft.name.clone()).or_insert(draft);
        }
    }
}
