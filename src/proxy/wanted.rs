//! What one call wants: the model it names, how it is to be sent, what it may cost. Read once, used by every attempt.

use std::time::Duration;

use actix_web::http::Method;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName};

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
    /// The name to route by.
    pub(super) model: String,
    /// Whether it creates an object in one provider account.
    pub(super) creates_object: bool,
    body: Body,
    limits: ClientLimits,
    names_model_in_path: bool,
}

enum Body {
    Json(Box<RequestBody>),
    Form(Form),
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
        if operation.group != Group::Model && call.method != Method::POST {
            return Err(not_served(call.method, operation));
        }
        let content_type = forward::text(call.headers, &CONTENT_TYPE);
        let body = if multipart::is_multipart(content_type) {
            Body::Form(multipart::scan(content_type, call.body.clone())?)
        } else {
            Body::Json(Box::new(request::scan(call.body.clone())?))
        };
        let model = match (&operation.path_model, &body) {
            (Some(model), _) => model.clone(),
            (None, Body::Json(_)) if operation.group != Group::Model && body.model().is_none() => {
                return Err(not_served(call.method, operation));
            }
            (None, Body::Json(json)) => json.required_model()?.to_owned(),
            (None, Body::Form(form)) => form.model().ok_or(Fault::MissingModel)?.to_owned(),
        };
        let (creates, limits) = match &body {
            Body::Json(json) => (json.store() || json.background(), json.client_limits()),
            Body::Form(_) => (false, ClientLimits::default()),
        };
        let names_model_in_path = operation.path_model.is_some();
        let limits = with_headers(limits, call.headers);
        Ok(Self { model, creates_object: creates || operation.creates_object(), body, limits, names_model_in_path })
    }

    /// The model as asked for, cut for messages and logs.
    pub(super) fn shown_model(&self) -> String {
        if self.model.len() <= SHOWN_MODEL && self.model.bytes().all(|byte| byte.is_ascii_graphic()) {
            return self.model.clone();
        }
        self.model.chars().take(SHOWN_MODEL).flat_map(char::escape_debug).collect()
    }

    /// Whether a stream was asked for.
    pub(super) fn streams(&self) -> bool {
        match &self.body {
            Body::Json(json) => json.stream(),
            Body::Form(_) => false,
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
            Body::Form(_) => false,
        }
    }
}

impl Body {
    fn model(&self) -> Option<&str> {
        match self {
            Self::Json(json) => json.model(),
            Self::Form(form) => form.model(),
        }
    }
}

fn not_served(method: &Method, operation: &Operation) -> Fault {
    let why = "calls that name no model are not served yet";
    Fault::Unsupported(format!("{method} {}: {why}", operation.text))
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
pub(super) fn expected(operation: &Operation) -> Expected {
    match &*operation.text {
        text if text.starts_with("audio/") || text.ends_with("/content") => Expected::Anything,
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
        Wanted::read(&Call { method: &method, operation, headers: &map, body, key: None, hold: None })
    }

    #[test]
    fn the_path_wins_over_the_body() {
        let wanted = read(Method::POST, "/openai/deployments/d%2F1/chat/completions", &[], r#"{"model":"m"}"#).unwrap();
        assert_eq!(wanted.model, "d/1");
        assert_eq!(read(Method::POST, "/v1/embeddings", &[], r#"{"model":"m"}"#).unwrap().model, "m");
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
        assert!(matches!(post("/v1/files", &[], "{}"), Some(Fault::Unsupported(_))));
        assert!(matches!(read(Method::GET, "/v1/files/f", &[], ""), Err(Fault::Unsupported(_))));
    }
}
