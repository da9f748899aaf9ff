//! Error answers as providers write them (spec/wire.md 5.1).

use serde_json::{Value, json};

use super::answer::Answer;
use super::fault::Template;
use super::options::Dialect;

/// Why a request is turned away by a healthy provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    UnknownUrl { method: String, path: String },
    Method { method: String, path: String },
    NoKey,
    WrongKey,
    UnknownModel(String),
    NoModel,
    InvalidJson(String),
    MissingField(&'static str),
    UnknownField(String),
    NoSuchObject(String),
    InvalidValue { field: &'static str, problem: &'static str },
}

impl Refusal {
    /// The answer in this dialect.
    pub(super) fn answer(&self, dialect: Dialect) -> Answer {
        match dialect {
            Dialect::OpenAi | Dialect::Compat => self.openai(),
            Dialect::Azure => self.azure(),
        }
    }

    fn openai(&self) -> Answer {
        let (status, message, param, code) = match self {
            Self::UnknownUrl { method, path } => (404, format!("Invalid URL ({method} {path})"), None, None),
            Self::Method { method, path } => (405, format!("Not allowed to {method} on {path}."), None, None),
            Self::NoKey => (401, "You didn't provide an API key.".to_owned(), None, None),
            Self::WrongKey => (401, "Incorrect API key provided.".to_owned(), None, Some("invalid_api_key")),
            Self::UnknownModel(model) => (
                404,
                format!("The model `{model}` does not exist or you do not have access to it."),
                None,
                Some("model_not_found"),
            ),
            Self::NoModel => (400, "you must provide a model parameter".to_owned(), None, None),
            Self::InvalidJson(problem) => {
                (400, format!("We could not parse the JSON body of your request: {problem}"), None, None)
            }
            Self::MissingField(name) => {
                (400, format!("Missing required parameter: '{name}'."), Some(*name), Some("missing_required_parameter"))
            }
            Self::UnknownField(name) => {
                (400, format!("Unknown parameter: '{name}'."), Some(name.as_str()), Some("unknown_parameter"))
            }
            Self::NoSuchObject(id) => (404, format!("No such object: {id}"), Some("id"), None),
            Self::InvalidValue { field, problem } => {
                (400, format!("Invalid value for '{field}': {problem}."), Some(*field), Some("invalid_value"))
            }
        };
        let body = json!({"error": {
            "message": message, "type": "invalid_request_error", "param": param, "code": code,
        }});
        Answer::json(status, body.to_string())
    }

    fn azure(&self) -> Answer {
        let (status, code, message) = match self {
            Self::UnknownUrl { .. } => (404, "404", "Resource not found".to_owned()),
            Self::Method { .. } => (405, "405", "Method not allowed".to_owned()),
            Self::NoKey | Self::WrongKey => {
                (401, "401", "Access denied due to invalid subscription key or wrong API endpoint.".to_owned())
            }
            Self::UnknownModel(_) => {
                (404, "DeploymentNotFound", "The API deployment for this resource does not exist.".to_owned())
            }
            Self::NoModel
            | Self::InvalidJson(_)
            | Self::MissingField(_)
            | Self::UnknownField(_)
            | Self::NoSuchObject(_)
            | Self::InvalidValue { .. } => return self.openai(),
        };
        Answer::json(status, json!({"error": {"code": code, "message": message}}).to_string())
    }
}

/// The template that a dialect uses by itself.
pub(super) fn template_of(dialect: Dialect) -> Template {
    match dialect {
        Dialect::OpenAi | Dialect::Compat => Template::Openai,
        Dialect::Azure => Template::Azure,
    }
}

/// An error answer by template.
pub(super) fn answer(template: &Template, status: u16) -> Answer {
    let message = message(status);
    let body = match template {
        Template::Openai => {
            let (error_type, code) = openai_words(status);
            json!({"error": {"message": message, "type": error_type, "param": null, "code": code}})
        }
        Template::InsufficientQuota => json!({"error": {
            "message": "You exceeded your current quota, please check your plan and billing details.",
            "type": "insufficient_quota", "param": null, "code": "insufficient_quota",
        }}),
        Template::Azure => json!({"error": {"code": status.to_string(), "message": message}}),
        Template::AzureFlat => json!({"statusCode": status, "message": message}),
        Template::ContentFilter => content_filter(status),
        Template::ContextLength => json!({"error": {
            "message": "This model's maximum context length is 128000 tokens. However, your messages resulted in more.",
            "type": "invalid_request_error", "param": "messages", "code": "context_length_exceeded",
        }}),
        Template::Anthropic => {
            json!({"type": "error", "error": {"type": anthropic_word(status), "message": message}})
        }
        Template::Vllm => json!({
            "object": "error", "message": message, "type": vllm_word(status), "param": null, "code": status,
        }),
        Template::Ollama => json!({"error": message}),
        Template::Html => {
            let page = format!("<html><head><title>{status}</title></head><body><h1>{message}</h1></body></html>\n");
            return Answer::whole(status, "text/html", page);
        }
        Template::Empty => return Answer::whole(status, "text/plain", ""),
        Template::Raw(body) => return Answer::json(status, body.as_str()),
    };
    Answer::json(status, body.to_string())
}

fn content_filter(status: u16) -> Value {
    let filtered = |is_filtered: bool, severity| json!({"filtered": is_filtered, "severity": severity});
    json!({"error": {
        "message": "The response was filtered due to the prompt triggering the content management policy.",
        "type": null, "param": "prompt", "code": "content_filter", "status": status,
        "innererror": {
            "code": "ResponsibleAIPolicyViolation",
            "content_filter_result": {
                "hate": filtered(false, "safe"), "self_harm": filtered(false, "safe"),
                "sexual": filtered(false, "safe"), "violence": filtered(true, "high"),
            },
        },
    }})
}

fn message(status: u16) -> &'static str {
    match status {
        400 => "The request is invalid.",
        401 => "Incorrect API key provided.",
        403 => "You do not have access to this resource.",
        404 => "The resource does not exist.",
        408 | 504 => "The request timed out.",
        429 => "Rate limit reached for requests.",
        500 => "The server had an error while processing your request.",
        502 => "Bad gateway.",
        503 | 529 => "The server is overloaded or not ready yet.",
        _ => "The simulated provider answers with an error.",
    }
}

fn openai_words(status: u16) -> (&'static str, Option<&'static str>) {
    match status {
        401 => ("invalid_request_error", Some("invalid_api_key")),
        404 => ("invalid_request_error", Some("model_not_found")),
        429 => ("requests", Some("rate_limit_exceeded")),
        503 => ("service_unavailable_error", Some("server_is_overloaded")),
        400..500 => ("invalid_request_error", None),
        _ => ("server_error", None),
    }
}

fn anthropic_word(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        529 => "overloaded_error",
        400..500 => "invalid_request_error",
        _ => "api_error",
    }
}

fn vllm_word(status: u16) -> &'static str {
    match status {
        404 => "NotFoundError",
        400..500 => "BadRequestError",
        _ => "InternalServerError",
    }
}
