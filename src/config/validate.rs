//! What was written to what is true: everything is combined and checked here, and every problem said.

use std::collections::{HashMap, HashSet};

use super::build::Builder;
use super::check::Checker;
use super::context::{At, Context, Located};
use super::endpoint::{self, Endpoint, Gone};
use super::raw::{Foreign, Model, Raw};
use super::routes::{Compiler, Entry, Names};
use super::{BackendId, Config, policy, settings};

/// Longest name of a route, a backend or a key, in characters: it becomes a header and a label.
const MAX_NAME: usize = 128;

/// Combines and checks. The configuration only counts if nothing said is an error.
pub(super) fn validate(context: &Context<'_>, raw: &Raw<'_>, hash: String) -> Config {
    let server = settings::server(&raw.top, &raw.litellm);
    let (auth, key_routes) = settings::auth(&raw.top, &raw.litellm);
    let master_key = auth.keys.iter().find(|key| &*key.name == "master_key");
    let admin = settings::admin(&raw.top, master_key, &server);
    let read = settings::defaults(&raw.top, &raw.litellm);
    let reload = settings::reload(&raw.top);
    let logging = settings::logging(&raw.top, &raw.litellm);
    let telemetry = settings::telemetry(&raw.top);
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
        names: Names::of(&entries),
        unsupported: &unsupported,
        broken: &raw.broken,
        implicit_routes: read.implicit_routes,
    };
    let drafts = compiler.compile();
    let checker = Checker { context, raw, entries: &entries, drafts: &drafts };
    checker.check(&key_routes, read.default_route.as_ref());
    let builder = Builder { context, raw, entries: &entries, drafts: &drafts };
    let (backends, routes, wildcards) = builder.build();
    Config {
        server,
        admin,
        auth,
        defaults: read.defaults,
        reload,
        logging,
        telemetry,
        backends,
        routes,
        wildcards,
        hash,
    }
}

/// Usable entries with their ids, and the names of those left out for their provider.
fn entries<'r>(context: &Context<'_>, raw: &'r Raw<'_>) -> (Vec<Entry<'r>>, Vec<(String, String)>) {
    let mut usable: Vec<(&Model, Endpoint)> = Vec::new();
    let mut unsupported = Vec::new();
    let mut is_broken = !raw.broken.is_empty();
    for Foreign { model_name, model, provider } in &raw.foreign {
        leave_out(context, model_name, model, provider);
        unsupported.push((model_name.value.clone(), provider.clone()));
    }
    for model in &raw.models {
        check_name(context, &model.model_name);
        match endpoint::resolve(context, raw, model) {
            Ok(endpoint) => usable.push((model, endpoint)),
            Err(Gone::Broken) => is_broken = true,
            Err(Gone::Unsupported(provider)) => {
                leave_out(context, &model.model_name, &model.model, &provider);
                unsupported.push((model.model_name.value.clone(), provider));
            }
            Err(Gone::LeftOut) => unsupported.push((model.model_name.value.clone(), "azure".to_owned())),
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

fn leave_out(context: &Context<'_>, model_name: &Located<String>, model: &Located<String>, provider: &str) {
    let message = format!("provider `{provider}` is not supported: `{}` is left out", model_name.value);
    let help = "give `api_base` and `custom_llm_provider: openai` if it speaks OpenAI's dialect".to_owned();
    context.warning("BW401", &model.at, message, Some(help));
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

/// Names become headers and labels.
pub(super) fn check_name(context: &Context<'_>, name: &Located<String>) {
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

/// The top of a file, for what concerns it as a whole.
pub(super) fn top_of(file: usize) -> At {
    At { place: super::text::Place { file, offset: 0 }, used_at: None, path: "".into() }
}
