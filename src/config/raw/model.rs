//! `model_list[]` as written.

use std::num::NonZeroU32;
use std::rc::Rc;
use std::time::Duration;

use super::super::context::{At, Located, Secret};
use super::super::detect;
use super::super::item::{Dialect, Item};
use super::super::litellm_keys::{BODY_FIELDS, NUMBER_FIELDS, Scope};
use super::super::prices::{self, Prices};
use super::super::scalar;
use super::super::section::Section;
use super::super::yaml::{Node, Value};
use super::entra::Entra;
use super::resilience::{self, Resilience};
use super::route;

/// `api_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum ApiType {
    /// `openai`, `open_ai`.
    OpenAi,
    /// `azure`.
    Azure,
    /// `azure_ad`: Azure whose key is a token.
    AzureAd,
}

/// One entry.
pub(in super::super) struct Model {
    pub(in super::super) at: At,
    pub(in super::super) model_name: Located<String>,
    pub(in super::super) model: Located<String>,
    pub(in super::super) api_key: Option<Located<Secret>>,
    pub(in super::super) azure_ad_token: Option<Located<Secret>>,
    pub(in super::super) api_base: Option<Located<String>>,
    pub(in super::super) api_type: Option<Located<ApiType>>,
    pub(in super::super) azure_deployment: Option<Located<String>>,
    pub(in super::super) api_version: Option<Located<String>>,
    pub(in super::super) custom_llm_provider: Option<Located<String>>,
    pub(in super::super) organization: Option<Located<String>>,
    pub(in super::super) extra_headers: Vec<(Located<String>, Secret)>,
    pub(in super::super) extra_query: Vec<(String, String)>,
    pub(in super::super) credential_name: Option<Located<String>>,
    pub(in super::super) weight: Option<Located<f64>>,
    pub(in super::super) order: Option<Located<u32>>,
    pub(in super::super) requests_per_minute: Option<Located<NonZeroU32>>,
    pub(in super::super) tokens_per_minute: Option<Located<NonZeroU32>>,
    /// A limit among LiteLLM's parameters, where it only weighs.
    pub(in super::super) litellm_limit: Option<At>,
    pub(in super::super) request_defaults: Vec<(String, String)>,
    /// Whether a credential is written that could not be read, which has been said.
    pub(in super::super) has_broken_key: bool,
    /// An application's identity in Entra ID.
    pub(in super::super) entra: Entra,
    pub(in super::super) id: Option<Located<String>>,
    pub(in super::super) base_model: Option<String>,
    pub(in super::super) mode: Option<String>,
    pub(in super::super) is_blocked: bool,
    pub(in super::super) max_input_tokens: Option<u64>,
    /// What its tokens cost.
    pub(in super::super) prices: Option<Prices>,
    pub(in super::super) ca_file: Option<Located<String>>,
    /// Whether HTTP/2 is offered.
    pub(in super::super) http2: Option<bool>,
    /// None is `auto`.
    pub(in super::super) inject_usage: Option<bool>,
    /// None is `auto`.
    pub(in super::super) reasoning: Option<bool>,
    /// `resilience`.
    pub(in super::super) resilience: Resilience,
    /// What `litellm_params` and `model_info` say of the same; less near.
    pub(in super::super) litellm: Resilience,
}

/// An entry whose provider is not supported: nothing else of it is read, so that the secrets of a provider that is not used
/// need not be there.
pub(in super::super) struct Foreign {
    pub(in super::super) model_name: Located<String>,
    pub(in super::super) model: Located<String>,
    pub(in super::super) provider: String,
}

/// Why there is no entry.
pub(super) enum Unusable {
    /// Something is wrong with it, which has been said; its name, if it has one.
    Broken(Option<String>),
    /// It is another provider's.
    Foreign(Box<Foreign>),
}

/// Reads an entry.
pub(super) fn read(item: &Item<'_>, defaults: Option<&Rc<Node>>) -> Result<Model, Unusable> {
    let Some(entry) = item.section(Dialect::LiteLlm(Scope::Entry)) else { return Err(Unusable::Broken(None)) };
    let model_name = entry.required("model_name");
    let params = entry.item("litellm_params").map(|params| with_defaults(params, defaults));
    let params = params.and_then(|params| params.section(Dialect::LiteLlm(Scope::Params)));
    let info = entry.section_in("model_info", Dialect::LiteLlm(Scope::ModelInfo));
    if !entry.holds("litellm_params") {
        entry.missing("litellm_params");
    }
    let model = params.as_ref().and_then(|params| params.required("model"));
    let name = model_name.as_ref().map(|name| name.value.clone());
    let (Some(params), Some(model_name), Some(model)) = (params, model_name, model) else {
        return Err(Unusable::Broken(name));
    };
    let custom = params.string("custom_llm_provider").map(|name| name.value);
    let has = |keys: &[&str]| keys.iter().any(|key| params.holds(key));
    let has_type = has(&["api_type", "azure_deployment", "azure_ad_token", "tenant_id"]);
    let has_base = has(&["api_base", "base_url", "litellm_credential_name"]);
    if let Some(provider) = detect::unsupported(custom.as_deref(), &model.value, has_type, has_base) {
        let provider = provider.to_owned();
        return Err(Unusable::Foreign(Box::new(Foreign { model_name, model, provider })));
    }
    // What could not be read must not count as absent: the environment would step in, or a second problem be said.
    let is_broken =
        ["api_base", "base_url", "azure_deployment", "custom_llm_provider"].iter().any(|key| params.is_broken(key));
    let read = whole(&entry, &params, info.as_ref(), model_name, model);
    let is_broken = is_broken || params.holds("api_type") && read.api_type.is_none();
    info.into_iter().for_each(Section::finish);
    params.finish();
    entry.finish();
    if is_broken { Err(Unusable::Broken(name)) } else { Ok(read) }
}

fn whole(
    entry: &Section<'_>,
    params: &Section<'_>,
    info: Option<&Section<'_>>,
    model_name: Located<String>,
    model: Located<String>,
) -> Model {
    let litellm_rpm = params.count("rpm");
    let litellm_tpm = params.count("tpm");
    let litellm_limit = litellm_rpm.as_ref().or(litellm_tpm.as_ref()).map(|limit| limit.at.clone());
    let ours = Dialect::Ours;
    let mut litellm = litellm_layer(params, info);
    let own_cap = entry.count("max_in_flight");
    litellm.max_in_flight = nearer(entry, "max_in_flight", own_cap, litellm.max_in_flight);
    let api_key = params.secret("api_key");
    let azure_ad_token = params.secret("azure_ad_token");
    let is_broken = |key, read: &Option<Located<Secret>>| read.is_none() && params.is_broken(key);
    let has_broken_key = is_broken("api_key", &api_key) || is_broken("azure_ad_token", &azure_ad_token);
    let auto = |key| entry.or_off(key, auto_or_boolean).and_then(|found| found.value.unwrap_or(Some(false)));
    Model {
        at: entry.at().clone(),
        model_name,
        model,
        api_key,
        azure_ad_token,
        has_broken_key,
        api_base: nearer(params, "api_base", params.string("api_base"), params.string("base_url")),
        api_type: params.word("api_type", &API_TYPES),
        azure_deployment: params.string("azure_deployment"),
        api_version: params.string("api_version"),
        custom_llm_provider: params.string("custom_llm_provider"),
        organization: params.string("organization"),
        extra_headers: headers(params),
        extra_query: query(params),
        credential_name: params.string("litellm_credential_name"),
        weight: nearer(entry, "weight", route::weight(entry, "weight"), route::weight(params, "weight")),
        order: params.integer("order").or_else(|| info.and_then(|info| info.integer("order"))),
        requests_per_minute: nearer(entry, "rpm", entry.count("rpm"), litellm_rpm),
        tokens_per_minute: nearer(entry, "tpm", entry.count("tpm"), litellm_tpm),
        litellm_limit,
        request_defaults: request_defaults(params),
        entra: Entra::read(params),
        id: info.and_then(|info| info.string("id")),
        base_model: info.and_then(|info| info.string("base_model")).map(|model| model.value),
        mode: info.and_then(|info| info.string("mode")).map(|mode| mode.value),
        is_blocked: info.and_then(|info| info.boolean("blocked")).is_some_and(|blocked| blocked.value),
        max_input_tokens: info
            .and_then(|info| info.read("max_input_tokens", scalar::integer))
            .map(|tokens| tokens.value),
        prices: prices::read(params, info),
        ca_file: entry.string("ca_file"),
        http2: entry.boolean("http2").map(|http2| http2.value),
        inject_usage: auto("inject_usage"),
        reasoning: auto("reasoning"),
        resilience: entry.section_in("resilience", ours).map(resilience::read_backend).unwrap_or_default(),
        litellm,
    }
}

const API_TYPES: [(&str, ApiType); 4] = [
    ("openai", ApiType::OpenAi),
    ("open_ai", ApiType::OpenAi),
    ("azure", ApiType::Azure),
    ("azure_ad", ApiType::AzureAd),
];

fn auto_or_boolean(section: &Section<'_>, key: &'static str) -> Option<Located<Option<bool>>> {
    let written = section.item(key)?.written("auto or a boolean")?;
    match written.value.text.eq_ignore_ascii_case("auto") {
        true => Some(written.map(|_| None)),
        false => Some(section.boolean(key)?.map(Some)),
    }
}

/// The first of two spellings of one setting; says so if both stand there.
pub(super) fn nearer<T>(
    section: &Section<'_>,
    key: &str,
    first: Option<Located<T>>,
    second: Option<Located<T>>,
) -> Option<Located<T>> {
    if let (Some(winner), Some(loser)) = (&first, &second) {
        let message = format!("this is also said at `{}`, which wins (`{key}`)", winner.at.path);
        section.item.context.warning("BW207", &loser.at, message, Some("keep one of them".to_owned()));
    }
    first.or(second)
}

/// `router_settings.default_litellm_params` below an entry's own.
fn with_defaults<'c>(params: Item<'c>, defaults: Option<&Rc<Node>>) -> Item<'c> {
    let (Value::Mapping(own), Some(Value::Mapping(general))) = (&params.node.value, defaults.map(|node| &node.value))
    else {
        return params;
    };
    let missing = general.iter().filter(|entry| own.iter().all(|known| known.key != entry.key));
    let entries = own.iter().chain(missing).cloned().collect();
    let node = Node::joined(params.node.at, Value::Mapping(entries));
    Item { node, ..params }
}

/// What LiteLLM's own keys say about resilience.
fn litellm_layer(params: &Section<'_>, info: Option<&Section<'_>>) -> Resilience {
    let mut layer = Resilience { max_in_flight: params.count("max_parallel_requests"), ..Resilience::default() };
    set_timeouts(&mut layer, params.time_limit("timeout"), params.time_limit("stream_timeout"));
    layer.breaker.wait = params.duration("cooldown_time");
    layer.breaker.consecutive_failures = info.and_then(|info| info.integer("allowed_fails")).map(failures);
    layer
}

/// `timeout` and `stream_timeout` in our words.
pub(super) fn set_timeouts(
    layer: &mut Resilience,
    timeout: Option<Located<Duration>>,
    stream: Option<Located<Duration>>,
) {
    layer.timeouts.first_byte.clone_from(&timeout);
    layer.timeouts.whole_call = timeout;
    layer.timeouts.first_token.clone_from(&stream);
    layer.timeouts.idle = stream;
}

/// `allowed_fails: n` opens at n + 1.
pub(super) fn failures(allowed: Located<u32>) -> Located<Option<u32>> {
    allowed.map(|allowed| Some(allowed.saturating_add(1)))
}

fn headers(params: &Section<'_>) -> Vec<(Located<String>, Secret)> {
    let pairs = params.item("extra_headers").map(|item| item.pairs()).unwrap_or_default();
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
    };
    pairs
        .into_iter()
        .filter_map(|(name, value)| {
            let secret = value.secret()?;
            if !is_name(&name.value) {
                value.context.error("BW205", &name.at, format!("`{}` is no header name", name.value), None);
                return None;
            }
            Some((name, secret.value))
        })
        .collect()
}

fn query(params: &Section<'_>) -> Vec<(String, String)> {
    let pairs = params.item("extra_query").map(|item| item.pairs()).unwrap_or_default();
    pairs.into_iter().filter_map(|(name, value)| Some((name.value, value.string()?.value))).collect()
}

/// Body fields as JSON text; `extra_body` adds free ones, and a field beside it wins.
fn request_defaults(params: &Section<'_>) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    for key in BODY_FIELDS {
        let Some(item) = params.item(key) else { continue };
        let value = match NUMBER_FIELDS.contains(&key) {
            true => item.read(scalar::number).map(|number| json_number(number.value)),
            false => item.json(),
        };
        fields.extend(value.map(|value| (key.to_owned(), value.to_string())));
    }
    for (key, item) in params.item("extra_body").map(|item| item.pairs()).unwrap_or_default() {
        if fields.iter().all(|(known, _)| *known != key.value) {
            fields.extend(item.json().map(|value| (key.value, value.to_string())));
        }
    }
    fields
}

fn json_number(number: f64) -> serde_json::Value {
    match number.fract() == 0.0 && number.abs() < 1e15 {
        true => (number as i64).into(),
        false => number.into(),
    }
}
