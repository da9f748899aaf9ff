//! `router[]` as written.

use super::super::Strategy;
use super::super::context::{At, Located};
use super::super::item::{Dialect, Item};
use super::super::scalar;
use super::super::section::Section;
use super::resilience::{self, Resilience};
use super::words;
use crate::error::ErrorSet;

/// `routing_strategy`: how members without a priority are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum RoutingStrategy {
    /// The position in the list is the priority.
    Fallback,
    /// One tier.
    LoadBalance,
}

/// One entry.
pub(in super::super) struct RouteEntry {
    pub(in super::super) at: At,
    pub(in super::super) model_name: Located<String>,
    pub(in super::super) routing_strategy: Option<Located<RoutingStrategy>>,
    pub(in super::super) load_balance_strategy: Option<Located<Strategy>>,
    pub(in super::super) fallback_on_error_types: Option<Located<ErrorSet>>,
    pub(in super::super) members: Vec<MemberEntry>,
    /// Members that could not be read, so that "no members" is not said beside that.
    pub(in super::super) broken_members: usize,
    pub(in super::super) fallbacks: Vec<Located<String>>,
    pub(in super::super) context_window_fallbacks: Vec<Located<String>>,
    pub(in super::super) content_policy_fallbacks: Vec<Located<String>>,
    pub(in super::super) hidden: bool,
    pub(in super::super) resilience: Resilience,
}

/// One of its `models[]`.
#[derive(Clone)]
pub(in super::super) struct MemberEntry {
    pub(in super::super) name: Located<String>,
    pub(in super::super) priority: Option<Located<u32>>,
    pub(in super::super) weight: Option<Located<f64>>,
    /// Whether priority or weight was refused, which has been said: then it is not missing.
    pub(in super::super) is_refused: bool,
}

/// Largest priority.
const MAX_PRIORITY: u32 = 1_000;
/// Largest weight: weights are compared in millionths of 64 bits.
const MAX_WEIGHT: f64 = 1e6;

pub(super) fn read(item: &Item<'_>) -> Option<RouteEntry> {
    let section = item.section(Dialect::Ours)?;
    let model_name = section.required("model_name");
    const STRATEGIES: [(&str, RoutingStrategy); 2] =
        [("fallback", RoutingStrategy::Fallback), ("load_balance", RoutingStrategy::LoadBalance)];
    let routing_strategy = section.word("routing_strategy", &STRATEGIES);
    let models = section.items("models");
    if !section.holds("models") {
        section.missing("models");
    }
    let members: Vec<MemberEntry> = models.iter().filter_map(member).collect();
    let texts = |key| section.item(key).map(|item| item.strings()).unwrap_or_default();
    let entry = RouteEntry {
        at: section.at().clone(),
        model_name: model_name.clone().unwrap_or(Located { value: String::new(), at: section.at().clone() }),
        routing_strategy,
        load_balance_strategy: section.item("load_balance_strategy").and_then(|item| words::strategy(&item)),
        fallback_on_error_types: section.item("fallback_on_error_types").and_then(|item| words::error_types(&item)),
        broken_members: models.len() - members.len() + usize::from(!section.holds("models")),
        members,
        fallbacks: texts("fallbacks"),
        context_window_fallbacks: texts("context_window_fallbacks"),
        content_policy_fallbacks: texts("content_policy_fallbacks"),
        hidden: section.boolean("hidden").is_some_and(|hidden| hidden.value),
        resilience: section.section("resilience").map(resilience::read_route).unwrap_or_default(),
    };
    section.finish();
    model_name.is_some().then_some(entry)
}

fn member(item: &Item<'_>) -> Option<MemberEntry> {
    let section = item.section(Dialect::Ours)?;
    let name = section.required("name");
    let priority = priority(&section);
    let weight = weight(&section, "weight");
    let is_refused = section.item("priority").is_some() && priority.is_none()
        || section.item("weight").is_some() && weight.is_none();
    section.finish();
    Some(MemberEntry { name: name?, priority, weight, is_refused })
}

fn priority(section: &Section<'_>) -> Option<Located<u32>> {
    let item = section.item("priority")?;
    let written = item.written("a priority")?;
    match scalar::integer(&written.value.text).ok().and_then(|value| u32::try_from(value).ok()) {
        Some(value) if value <= MAX_PRIORITY => Some(Located { value, at: written.at }),
        Some(_) | None => {
            let message = format!("{} is no priority", written.value.shown());
            let help = format!("priorities are whole numbers from 0 to {MAX_PRIORITY}, the lowest first");
            item.context.error("BW506", &written.at, message, Some(help));
            None
        }
    }
}

/// A weight ≥ 0.
pub(super) fn weight(section: &Section<'_>, key: &'static str) -> Option<Located<f64>> {
    let read = section.read(key, scalar::number)?;
    if (0.0..=MAX_WEIGHT).contains(&read.value) {
        return Some(read);
    }
    section.item.context.error("BW507", &read.at, format!("`{key}` must lie in 0 to {MAX_WEIGHT}"), None);
    None
}
