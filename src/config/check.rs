//! What can only be judged once all routes are known.

use std::collections::{HashMap, HashSet};

use super::context::{Context, Located};
use super::raw::Raw;
use super::routes::{Draft, Drafts, Entry, covers};
use super::settings::KeyRoutes;
use super::validate::check_name;
use super::{BackendId, BaseUrl, Origin};

/// Looks at all routes together.
pub(super) struct Checker<'r, 'c> {
    pub(super) context: &'r Context<'c>,
    pub(super) raw: &'r Raw<'c>,
    pub(super) entries: &'r [Entry<'r>],
    pub(super) drafts: &'r Drafts<'r>,
}

impl Checker<'_, '_> {
    /// Says what is wrong with them.
    pub(super) fn check(&self, key_routes: &[KeyRoutes], default_route: Option<&Located<String>>) {
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
