//! Routes that come of `model_name`s, LiteLLM's way: several entries of one name, ranked by `order`, and aliases of them.

use indexmap::IndexMap;

use super::super::Origin;
use super::super::context::Located;
use super::super::raw::Model;
use super::super::suggest;
use super::{Compiler, Draft, DraftMember, DraftTier, Drafts, add};

/// An entry and its rank, if it has one.
pub(super) struct Ranked {
    entry: usize,
    rank: Option<u32>,
}

impl<'r> Compiler<'r, '_> {
    /// The own weights of entries: the first of `weight`, `rpm`, `tpm` that any of them has; a missing one is the mean of the others. Drained ones weigh nothing.
    pub(super) fn shares(&self, entries: &[usize]) -> Vec<f64> {
        let models: Vec<&Model> = entries.iter().map(|entry| self.entries[*entry].model).collect();
        let by_weight: Vec<Option<f64>> = models.iter().map(|model| Some(model.weight.as_ref()?.value)).collect();
        let by_rpm =
            models.iter().map(|model| Some(f64::from(model.requests_per_minute.as_ref()?.value.get()))).collect();
        let by_tpm =
            models.iter().map(|model| Some(f64::from(model.tokens_per_minute.as_ref()?.value.get()))).collect();
        let basis = [("weight", by_weight), ("rpm", by_rpm), ("tpm", by_tpm)];
        let Some((key, given)) = basis.into_iter().find(|(_, given)| given.iter().any(Option::is_some)) else {
            return models.iter().map(|model| if model.is_blocked { 0.0 } else { 1.0 }).collect();
        };
        let known: Vec<f64> = given.iter().flatten().copied().collect();
        let mean = known.iter().sum::<f64>() / known.len() as f64;
        if let Some(at) =
            given.iter().position(Option::is_none).filter(|_| known.len() < given.len() && given.len() > 1)
        {
            let message =
                format!("no `{key}` beside others of the same name that have one: their mean, {mean}, is used");
            self.context.warning("BW507", &models[at].at, message, None);
        }
        let weigh =
            |(model, weight): (&&Model, Option<f64>)| if model.is_blocked { 0.0 } else { weight.unwrap_or(mean) };
        models.iter().zip(given).map(weigh).collect()
    }

    pub(super) fn ranked(&self, name: &Located<String>, rank: Option<&Located<u32>>) -> Vec<Ranked> {
        let found = self.find(name, "the group").unwrap_or_default();
        found.into_iter().map(|entry| Ranked { entry, rank: rank.map(|rank| rank.value) }).collect()
    }

    /// Tiers by rank; those without one come last.
    pub(super) fn ranked_tiers(&self, members: Vec<Ranked>) -> Vec<DraftTier> {
        let last = members.iter().filter_map(|member| member.rank).max().map_or(1, |rank| rank.saturating_add(1));
        let mut tiers: Vec<(u32, Vec<usize>)> = Vec::new();
        for member in members {
            let priority = member.rank.unwrap_or(last);
            match tiers.iter_mut().find(|(known, _)| *known == priority) {
                Some((_, entries)) => entries.push(member.entry),
                None => tiers.push((priority, vec![member.entry])),
            }
        }
        tiers.sort_by_key(|(priority, _)| *priority);
        let tier = |(priority, entries): (u32, Vec<usize>)| {
            let shares = self.shares(&entries);
            let members = entries.into_iter().zip(shares).map(|(entry, weight)| DraftMember { entry, weight });
            DraftTier { priority, members: members.collect() }
        };
        tiers.into_iter().map(tier).collect()
    }

    /// One route per distinct `model_name`.
    pub(super) fn implicit(&self) -> Vec<Draft<'r>> {
        let mut names: IndexMap<&str, Vec<usize>> = IndexMap::new();
        for (at, entry) in self.entries.iter().enumerate() {
            names.entry(entry.model.model_name.value.as_str()).or_default().push(at);
        }
        let route = |(name, entries): (&str, Vec<usize>)| {
            let at = self.entries[entries[0]].model.at.clone();
            let origin = if name.contains('*') { Origin::Wildcard } else { Origin::Implicit };
            let rank = |entry: usize| self.entries[entry].model.order.as_ref().map(|order| order.value);
            let members = entries.into_iter().map(|entry| Ranked { entry, rank: rank(entry) }).collect();
            Draft { tiers: self.ranked_tiers(members), ..self.draft(name.to_owned(), origin, at) }
        };
        names.into_iter().map(route).collect()
    }

    pub(super) fn aliases(&self, drafts: &mut Drafts<'r>, implicit: &[Draft<'r>]) {
        for alias in &self.raw.litellm.aliases {
            self.check_shadow(&alias.name, "this alias");
            let target = &alias.target.value;
            let found = drafts.exact.get(target).or_else(|| implicit.iter().find(|draft| draft.name == *target));
            let Some(found) = found else {
                let known =
                    drafts.exact.keys().map(String::as_str).chain(implicit.iter().map(|draft| draft.name.as_str()));
                let help = suggest::nearest(target, known).map(|near| format!("did you mean `{near}`?"));
                let message = format!("the alias `{}` stands for `{target}`, which is no route", alias.name.value);
                self.context.warning("BW501", &alias.target.at, message, help);
                continue;
            };
            let (name, at) = (alias.name.value.clone(), alias.name.at.clone());
            let draft = Draft { name, at, origin: Origin::Alias, hidden: alias.hidden, ..found.clone() };
            match drafts.exact.contains_key(&draft.name) {
                true => {
                    let message = format!("the alias `{}` has the name of a route, which wins", draft.name);
                    self.context.warning("BW505", &draft.at, message, None);
                }
                false => add(drafts, draft),
            }
        }
    }
}
