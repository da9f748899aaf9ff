//! What one call wants: the model it names, how it is to be sent, what it may cost. Read once, used by every attempt.

use std::borrow::Cow;
use std::time::Duration;

use actix_web::http::Method;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName};
use bytes::Bytes;

use super::Call;
use super::forward;
use super::multipart::{self, Form};
use super::operation::{Group, Operation};
use super::request::{self, ClientLimits, RequestBody, parse_seconds};
use super::rewrite::{ModelRewrite, Parts, Rewrite};
use super::sse::Api;
use super::unary::Expected;
use crate::clock::Instant;
use crate::config::{Backend, ClientKey, Provider};
use crate::error::Fault;
use crate::provider::Target;
use crate::router::Need;
use crate::telemetry::labels::Asked;

/// Longest model name that is echoed, in characters.
const SHOWN_MODEL: usize = 128;

/// Headers that limit the whole request, in seconds.
const TIMEOUTS: [HeaderName; 4] = [
    HeaderName::from_static("x-request-timeout"),
    HeaderName::from_static("x-litellm-timeout"),
    HeaderName::from_static("x-stainless-read-timeout"),
    HeaderName::from_static("x-stainless-timeout"),
];
/// One that limits a stream up to its first content.
const STREAM_TIMEOUT: HeaderName = HeaderName::from_static("x-litellm-stream-timeout");
/// One that lowers the attempts.
const NUM_RETRIES: HeaderName = HeaderName::from_static("x-litellm-num-retries");

/// A read call.
pub(super) struct Wanted {
    /// The name to route by; none: what it names, a header or the default decides.
    pub(super) model: Option<String>,
    /// Whether it creates an object in one provider account.
    pub(super) creates_object: bool,
    /// Whether what its answer names is remembered as its backend's.
    pub(super) makes_pins: bool,
    body: Body,
    limits: ClientLimits,
    names_model_in_path: bool,
}

enum Body {
    Json(Box<RequestBody>),
    Form(Form),
    /// Nothing to read in it.
    Raw(Bytes),
}

impl Wanted {
    /// Reads a call's body and headers.
    ///
    /// # Errors
    /// What is wrong with the request.
    pub(super) fn read(call: &Call<'_>) -> Result<Self, Fault> {
        let coding = forward::text(call.headers, &CONTENT_ENCODING);
        if !coding.is_empty() && !coding.eq_ignore_ascii_case("identity") {
            return Err(Fault::ContentEncoding(coding.chars().take(SHOWN_MODEL).collect()));
        }
        let operation = &call.operation;
        let content_type = forward::text(call.headers, &CONTENT_TYPE);
        let is_raw = call.method != Method::POST || operation.group == Group::Object && call.body.is_empty();
        let body = if is_raw {
            Body::Raw(call.body.clone())
        } else if multipart::is_multipart(content_type) {
            Body::Form(multipart::scan(content_type, call.body.clone())?)
        } else {
            Body::Json(Box::new(request::scan(call.body.clone())?))
        };
        let model = match (&operation.path_model, &body) {
            (Some(model), _) => Some(model.clone()),
            (None, body) if operation.group != Group::Model => body.model().map(str::to_owned),
            (None, Body::Json(json)) => match json.required_model() {
                Err(Fault::MissingModel) if operation.model_is_optional() => None,
                model => Some(model?.to_owned()),
            },
            (None, body) if operation.model_is_optional() => body.model().map(str::to_owned),
            (None, body) => Some(body.model().ok_or(Fault::MissingModel)?.to_owned()),
        };
        let (store, is_background, limits) = match &body {
            Body::Json(json) => (json.store(), json.background(), json.client_limits()),
            Body::Form(_) | Body::Raw(_) => (None, false, ClientLimits::default()),
        };
        // To look is to change nothing.
        let changes_objects =
            operation.creates_object() && (operation.group == Group::List || call.method != Method::GET);
        let stores = store.unwrap_or(matches!(&*operation.text, "responses"));
        let makes_pins = stores
            || is_background
            || operation.creates_object() && operation.group != Group::List && call.method != Method::DELETE;
        let names_model_in_path = operation.path_model.is_some();
        let limits = with_headers(limits, call.headers);
        let creates_object = store == Some(true) || is_background || changes_objects;
        Ok(Self { model, creates_object, makes_pins, body, limits, names_model_in_path })
    }

    /// The model as asked for, cut for messages and logs.
    pub(super) fn shown_model(&self) -> String {
        self.model.as_deref().map(shown).unwrap_or_default()
    }

    /// Ids of provider objects that the body names, in order.
    pub(super) fn object_ids(&self) -> Vec<Cow<'_, str>> {
        match &self.body {
            Body::Json(json) => json.object_ids(),
            Body::Form(_) | Body::Raw(_) => Vec::new(),
        }
    }

    /// Whether a stream was asked for.
    pub(super) fn streams(&self) -> bool {
        match &self.body {
            Body::Json(json) => json.stream(),
            Body::Form(_) | Body::Raw(_) => false,
        }
    }

    /// The same as a label.
    pub(super) fn asked(&self) -> Asked {
        if self.streams() { Asked::Stream } else { Asked::Whole }
    }

    /// What the caller asked of the gateway.
    pub(super) fn limits(&self) -> ClientLimits {
        self.limits
    }

    /// What choosing a backend must know; the deadline follows from the route.
    pub(super) fn need(&self) -> Need {
        let (reasoning, (tokens, open_outputs)) = match &self.body {
            Body::Json(json) => (json.is_reasoning(), json.token_estimate()),
            Body::Form(form) => (false, (form.bytes().len() as u64 / 4, 0)),
            Body::Raw(_) => (false, (0, 0)),
        };
        Need { stream: self.streams(), reasoning, tokens, open_outputs, deadline: Instant::NEVER, attempts_left: 1 }
    }

    /// The body for one backend, and whether usage was asked for in the client's place.
    pub(super) fn body_for(
        &self,
        operation: &Operation,
        backend: &Backend,
        target: &Target,
        matched: Option<&str>,
    ) -> (Parts, bool) {
        let model = target.model(matched);
        let json = match &self.body {
            Body::Json(json) => json,
            Body::Form(form) => return (form.rewrite(&model), false),
            Body::Raw(bytes) => return (Parts::whole(bytes.clone()), false),
        };
        let inject_usage =
            json.stream() && operation.has_stream_options() && !json.asks_usage() && target.injects_usage();
        let strip_priority = match backend.provider {
            Provider::OpenAi | Provider::AzureDated { .. } | Provider::AzureV1 => true,
            Provider::Compatible(_) => false,
        };
        let model =
            if self.names_model_in_path { ModelRewrite::ReplaceOrAdd(&model) } else { ModelRewrite::Replace(&model) };
        let rewrite = Rewrite { model, inject_usage, defaults: &backend.request_defaults, strip_priority };
        (json.rewrite(&rewrite), inject_usage)
    }

    /// Whether `"background": true` was asked.
    pub(super) fn is_background(&self) -> bool {
        match &self.body {
            Body::Json(json) => json.background(),
            Body::Form(_) | Body::Raw(_) => false,
        }
    }
}

impl Body {
    fn model(&self) -> Option<&str> {
        match self {
            Self::Json(json) => json.model(),
            Self::Form(form) => form.model(),
            Self::Raw(_) => None,
        }
    }
}

/// A name as messages and logs show it: cut, controls escaped.
pub(super) fn shown(name: &str) -> String {
    if name.len() <= SHOWN_MODEL && name.bytes().all(|byte| byte.is_ascii_graphic()) {
        return name.to_owned();
    }
    name.chars().take(SHOWN_MODEL).flat_map(char::escape_debug).collect()
}

/// Limits from headers join those of the body; the lowest holds (spec/wire.md 1.5, resilience 7.3).
fn with_headers(mut limits: ClientLimits, headers: &HeaderMap) -> ClientLimits {
    let seconds = |name: &HeaderName| headers.get(name).and_then(|value| parse_seconds(value.to_str().ok()?));
    let least = |known: Option<Duration>, names: &[HeaderName]| names.iter().filter_map(&seconds).chain(known).min();
    limits.timeout = least(limits.timeout, &TIMEOUTS);
    limits.stream_timeout = least(limits.stream_timeout, &[STREAM_TIMEOUT]);
    let retries = headers.get(&NUM_RETRIES).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    limits.num_retries = limits.num_retries.into_iter().chain(retries).min();
    limits
}

/// Whether a client key may use a route: its globs with one `*`, none meaning all.
pub fn may_use(key: &ClientKey, route: &str) -> bool {
    let covers = |glob: &String| match glob.split_once('*') {
        None => glob == route,
        Some((prefix, suffix)) => {
            route.len() >= prefix.len() + suffix.len() && route.starts_with(prefix) && route.ends_with(suffix)
        }
    };
    key.routes.is_empty() || key.routes.iter().any(covers)
}

/// What an operation may answer.
pub(super) fn expected(operation: &Operation, method: &Method) -> Expected {
    match &*operation.text {
        // Some answer with nothing.
        _ if *method == Method::DELETE => Expected::Anything,
        text if text.starts_with("audio/") || text.ends_with("/content") => Expected::Anything,
        _ if matches!(operation.group, Group::Object | Group::List) => Expected::Object,
        text if text.starts_with("responses") => Expected::Response,
        _ => Expected::Json,
    }
}

/// Whose stream an operation answers with.
pub(super) fn api(operation: &Operation) -> Api {
    match &*operation.text {
        "chat/completions" | "completions" => Api::Chat,
        text if text.starts_with("responses") => Api::Responses,
        _ => Api::Other,
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};
    use bytes::Bytes;

    use super::*;

    fn read(method: Method, path: &str, headers: &[(&'static str, &'static str)], body: &str) -> Result<Wanted, Fault> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let operation = Operation::of(method.as_str(), path)?;
        let body = Bytes::copy_from_slice(body.as_bytes());
        Wanted::read(&Call { method: &method, operation, query: "", headers: &map, body, key: None, hold: None })
    }

    #[test]
    fn the_path_wins_over_the_body() {
        let wanted = read(Method::POST, "/openai/deployments/d%2F1/chat/completions", &[], r#"{"model":"m"}"#).unwrap();
        assert_eq!(wanted.model.as_deref(), Some("d/1"));
        assert_eq!(read(Method::POST, "/v1/embeddings", &[], r#"{"model":"m"}"#).unwrap().model.as_deref(), Some("m"));
    }

    #[test]
    fn the_lowest_limit_of_headers_and_body_holds() {
        let headers = [("x-request-timeout", "7"), ("x-stainless-read-timeout", "600"), ("x-litellm-num-retries", "1")];
        let wanted = read(Method::POST, "/v1/completions", &headers, r#"{"model":"m","timeout":9,"num_retries":4}"#);
        let limits = wanted.unwrap().limits();
        assert_eq!((limits.timeout, limits.num_retries), (Some(Duration::from_secs(7)), Some(1)));
    }

    #[test]
    fn faults_of_the_request() {
        let post = |path, headers: &[(&'static str, &'static str)], body| read(Method::POST, path, headers, body).err();
        let chat = "/v1/chat/completions";
        assert_eq!(post(chat, &[("content-encoding", "gzip")], "{}"), Some(Fault::ContentEncoding("gzip".into())));
        assert_eq!(post(chat, &[], "{}"), Some(Fault::MissingModel));
        assert_eq!(post(chat, &[], r#"{"model":7}"#), Some(Fault::InvalidModel));
        assert!(matches!(post(chat, &[], "[]"), Some(Fault::InvalidJson { .. })));
    }

    #[test]
    fn what_changes_objects_and_what_is_remembered() {
        let table = [
            (Method::POST, "/v1/chat/completions", r#"{"model":"m"}"#, Some("m"), false, false),
            (Method::POST, "/v1/chat/completions", r#"{"model":"m","store":true}"#, Some("m"), true, true),
            (Method::POST, "/v1/responses", r#"{"model":"m"}"#, Some("m"), false, true),
            (Method::POST, "/v1/responses", r#"{"model":"m","store":false}"#, Some("m"), false, false),
            (Method::POST, "/v1/responses", r#"{"previous_response_id":"r"}"#, None, false, true),
            (Method::POST, "/v1/batches/b/cancel", "", None, true, true),
            (Method::GET, "/v1/files/f", "", None, false, true),
            (Method::DELETE, "/v1/files/f", "", None, true, false),
            (Method::GET, "/v1/files", "", None, true, false),
        ];
        for (method, path, body, model, changes, pins) in table {
            let wanted = read(method.clone(), path, &[], body).unwrap();
            let found = (wanted.model.as_deref(), wanted.creates_object, wanted.makes_pins);
            assert_eq!(found, (model, changes, pins), "{method} {path} {body}");
        }
    }
}
