//! What the YAML says, key by key, before anything is combined. Every value keeps its place; nothing has a default yet.

mod entra;
mod litellm;
mod model;
mod resilience;
mod route;
mod words;

use std::rc::Rc;

use super::context::{At, Context, Located, Secret};
use super::item::{Dialect, Item};
use super::litellm_keys::Scope;
use super::section::Section;
use super::yaml::Node;
use model::Unusable;

pub(super) use entra::Entra;
pub(super) use litellm::{LiteLlm, Targets};
pub(super) use model::{ApiType, Foreign, Model};
pub(super) use resilience::Resilience;
pub(super) use route::{MemberEntry, RouteEntry, RoutingStrategy};

/// One entry of `credential_list`.
pub(super) struct CredentialEntry {
    /// `credential_name`.
    pub(super) name: String,
    /// `credential_values.api_key`.
    pub(super) api_key: Option<Located<Secret>>,
    /// `credential_values.api_base`.
    pub(super) api_base: Option<Located<String>>,
    /// `credential_values.api_version`.
    pub(super) api_version: Option<Located<String>>,
}

/// A whole configuration as written.
pub(super) struct Raw<'c> {
    /// The top mapping, for the sections that `settings` reads.
    pub(super) top: Section<'c>,
    /// `model_list`.
    pub(super) models: Vec<Model>,
    /// Names of entries that are too broken to use; what names them is not to blame.
    pub(super) broken: Vec<String>,
    /// Entries whose provider is not supported.
    pub(super) foreign: Vec<Foreign>,
    /// `router`.
    pub(super) router: Vec<RouteEntry>,
    /// `router_settings`, `litellm_settings`, `general_settings`.
    pub(super) litellm: LiteLlm,
    /// `resilience`.
    pub(super) resilience: Resilience,
    /// `credential_list`.
    pub(super) credentials: Vec<CredentialEntry>,
}

/// Reads the tree. Keys of the top that others read are left to them.
pub(super) fn read<'c>(context: &'c Context<'c>, root: &Rc<Node>) -> Option<Raw<'c>> {
    let at = At { place: root.at, used_at: None, path: "".into() };
    let top = Item { context, node: Rc::clone(root), at }.section(Dialect::Ours)?;
    // The loader has already followed it.
    let _ = top.key("include");
    // First of all, since the placeholders of everything else may need them.
    declare_variables(&top);
    if let Some(defaults) = top.section("defaults") {
        let paths = defaults.item("ignore_unsupported").map(|item| item.strings()).unwrap_or_default();
        context.ignore(paths.into_iter().map(|path| path.value).collect());
    }
    let credentials = top.items("credential_list").iter().filter_map(credential).collect();
    let litellm = litellm::read(&top);
    let mut models = Vec::new();
    let mut broken = Vec::new();
    let mut foreign = Vec::new();
    for item in top.items("model_list") {
        match model::read(&item, litellm.default_params.as_ref()) {
            Ok(model) => models.push(model),
            Err(Unusable::Broken(name)) => broken.extend(name),
            Err(Unusable::Foreign(entry)) => foreign.push(*entry),
        }
    }
    let router = top.items("router").iter().filter_map(route::read).collect();
    let resilience = top.section("resilience").map(resilience::read_everywhere).unwrap_or_default();
    Some(Raw { top, models, broken, foreign, router, litellm, resilience, credentials })
}

fn declare_variables(top: &Section<'_>) {
    let Some(item) = top.item("environment_variables") else { return };
    for (name, value) in item.pairs() {
        if let Some(written) = value.string() {
            // They are secrets more often than not.
            item.context.hide(&written.value);
            item.context.declare(name.value, written.value);
        }
    }
}

fn credential(item: &Item<'_>) -> Option<CredentialEntry> {
    let entry = item.section(Dialect::LiteLlm(Scope::Other))?;
    let name = entry.required("credential_name");
    let values = entry.section("credential_values");
    let _ = entry.key("credential_info");
    let found = name.map(|name| CredentialEntry {
        api_key: values
            .as_ref()
            .and_then(|values| values.secret("api_key"))
            .map(|key| key.map(|secret| Secret { reference: format!("credential_list:{}", name.value), ..secret })),
        api_base: values.as_ref().and_then(|values| values.string("api_base")),
        api_version: values.as_ref().and_then(|values| values.string("api_version")),
        name: name.value,
    });
    values.into_iter().for_each(Section::finish);
    entry.finish();
    found
}
