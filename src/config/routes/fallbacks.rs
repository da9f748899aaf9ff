//! Further routes: whose they are, whether they exist, whether they go in a circle.

use std::collections::HashSet;

use super::super::Origin;
use super::super::context::Located;
use super::super::raw::Targets;
use super::super::suggest;
use super::{Compiler, Draft, Drafts, Fallback};

/// Longest chain of fallbacks that is followed; no request could walk it.
const MAX_CHAIN: usize = 64;

impl Compiler<'_, '_> {
    /// Gives every route its fallbacks, and drops those that lead nowhere.
    pub(super) fn add_fallbacks(&self, drafts: &mut Drafts<'_>) {
        let litellm = &self.raw.litellm;
        for draft in drafts.iter_mut().filter(|draft| draft.origin != Origin::BackendId) {
            fill(&mut draft.fallbacks, &draft.name, &litellm.fallbacks);
            fill(&mut draft.context_window_fallbacks, &draft.name, &litellm.context_window_fallbacks);
            fill(&mut draft.content_policy_fallbacks, &draft.name, &litellm.content_policy_fallbacks);
        }
        self.check_fallback_routes(drafts);
        let mut unknown = Vec::new();
        for draft in drafts.iter() {
            for fallback in
                draft.fallbacks.iter().chain(&draft.context_window_fallbacks).chain(&draft.content_policy_fallbacks)
            {
                self.check_fallback(drafts, draft, fallback, &mut unknown);
            }
        }
        self.check_cycles(drafts);
        for draft in drafts.iter_mut() {
            let name = draft.name.clone();
            let is_good =
                |fallback: &Fallback| fallback.target.value != name && !unknown.contains(&fallback.target.value);
            draft.fallbacks.retain(is_good);
            draft.context_window_fallbacks.retain(is_good);
            draft.content_policy_fallbacks.retain(is_good);
        }
    }

    /// Fallbacks given for a route that does not exist.
    fn check_fallback_routes(&self, drafts: &Drafts<'_>) {
        let litellm = &self.raw.litellm;
        let all =
            litellm.fallbacks.iter().chain(&litellm.context_window_fallbacks).chain(&litellm.content_policy_fallbacks);
        for targets in all.filter(|targets| targets.route.value != "*" && !self.is_gone(&targets.route.value)) {
            if !drafts.knows(&targets.route.value) {
                let message = format!("fallbacks are given for `{}`, which is no route", targets.route.value);
                self.context.warning(
                    "BW513",
                    &targets.route.at,
                    message,
                    self.near_route(drafts, &targets.route.value),
                );
            }
        }
    }

    /// What was left out is not what a wildcard stands for: it would only be asked for another provider's model.
    fn leads_somewhere(&self, drafts: &Drafts<'_>, name: &str) -> bool {
        drafts.exact.contains_key(name) || drafts.knows(name) && !self.is_gone(name)
    }

    fn is_gone(&self, name: &str) -> bool {
        self.broken.iter().any(|known| known == name) || self.unsupported.iter().any(|(known, _)| known == name)
    }

    fn near_route(&self, drafts: &Drafts<'_>, name: &str) -> Option<String> {
        let near = suggest::nearest(name, drafts.exact.keys().map(String::as_str))?;
        Some(format!("did you mean `{near}`?"))
    }

    fn check_fallback(&self, drafts: &Drafts<'_>, draft: &Draft<'_>, fallback: &Fallback, unknown: &mut Vec<String>) {
        let Fallback { target, is_litellm, is_default } = fallback;
        if target.value == draft.name && !is_default {
            let message = format!("route `{}` falls back to itself", draft.name);
            match is_litellm {
                true => self.context.warning("BW514", &target.at, message, None),
                false => self.context.error("BW514", &target.at, message, None),
            }
        } else if !self.leads_somewhere(drafts, &target.value) {
            unknown.push(target.value.clone());
            if self.is_gone(&target.value) {
                return;
            }
            let message = format!("route `{}` falls back to `{}`, which is no route", draft.name, target.value);
            let help = self.near_route(drafts, &target.value);
            match is_litellm {
                true => self.context.warning("BW513", &target.at, message, help),
                false => self.context.error("BW513", &target.at, message, help),
            }
        }
    }

    /// Warns of each cycle once, at the fallback that closes it.
    fn check_cycles(&self, drafts: &Drafts<'_>) {
        let mut done = HashSet::new();
        for draft in drafts.iter() {
            self.follow(drafts, draft, &mut Vec::new(), &mut done);
        }
    }

    fn follow<'d>(
        &self,
        drafts: &'d Drafts<'_>,
        draft: &'d Draft<'_>,
        trail: &mut Vec<&'d str>,
        done: &mut HashSet<&'d str>,
    ) {
        if done.contains(draft.name.as_str()) || trail.len() > MAX_CHAIN {
            return;
        }
        trail.push(&draft.name);
        for fallback in
            draft.fallbacks.iter().filter(|fallback| !fallback.is_default && fallback.target.value != draft.name)
        {
            let target = fallback.target.value.as_str();
            if let Some(at) = trail.iter().position(|name| *name == target) {
                let path = [&trail[at..], &[target]].concat().join(" -> ");
                let message = format!("fallbacks go in a circle: {path}; harmless, since no route is visited twice");
                self.context.warning("BW514", &fallback.target.at, message, None);
            } else if let Some(next) = drafts.exact.get(target) {
                self.follow(drafts, next, trail, done);
            }
        }
        trail.pop();
        done.insert(&draft.name);
    }
}

/// LiteLLM's fallbacks of a route: its own, else those of all routes. A router entry's own win.
fn fill(fallbacks: &mut Vec<Fallback>, name: &str, all: &[Targets]) {
    if !fallbacks.is_empty() {
        return;
    }
    let own = all.iter().filter(|targets| targets.route.value == name);
    let add = |fallbacks: &mut Vec<Fallback>, targets: &Targets, is_default| {
        let fallback = |target: &Located<String>| Fallback { target: target.clone(), is_litellm: true, is_default };
        fallbacks.extend(targets.targets.iter().map(fallback));
    };
    own.for_each(|targets| add(fallbacks, targets, false));
    if fallbacks.is_empty() {
        all.iter().filter(|targets| targets.route.value == "*").for_each(|targets| add(fallbacks, targets, true));
    }
}
