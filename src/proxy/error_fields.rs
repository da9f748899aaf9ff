//! The parts of a provider's error that classification and wrapping read, out of every known shape (spec/wire.md 5.1).

use serde_json::Value;

/// What a provider says about a failure. All parts are the provider's words and may quote the prompt: not for logs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorFields {
    /// `code`; a number becomes its digits.
    pub code: Option<String>,
    /// `type`.
    pub kind: Option<String>,
    /// `message`.
    pub message: Option<String>,
    /// `param`.
    pub param: Option<String>,
    /// `innererror.code` or `inner_error.code` (Azure).
    pub inner_code: Option<String>,
}

/// An error in a body or an event: its fields and its shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundError {
    /// The fields.
    pub fields: ErrorFields,
    /// How it was written.
    pub shape: Shape,
}

/// How an error was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `{"error":{…,"message":"text"}}`: what clients expect.
    Wrapped,
    /// Anything else: flat, `{"error":"text"}`, `{"statusCode":429,"message":…}`, a Responses event.
    Foreign,
}

/// Reads the error of a JSON body or event; none where it is no JSON object or has no error.
pub fn find_error(text: &[u8]) -> Option<FoundError> {
    let Value::Object(top) = serde_json::from_slice(text).ok()? else { return None };
    let nested = top.get("response").and_then(|response| response.get("error"));
    match top.get("error").filter(|error| !error.is_null()).or(nested.filter(|error| !error.is_null())) {
        Some(Value::Object(error)) => {
            let fields = ErrorFields::of(error);
            let is_wrapped = top.contains_key("error") && fields.message.is_some();
            Some(FoundError { fields, shape: if is_wrapped { Shape::Wrapped } else { Shape::Foreign } })
        }
        Some(Value::String(text)) => {
            let fields = ErrorFields { message: Some(text.clone()), ..ErrorFields::of(&without_event_type(&top)) };
            Some(FoundError { fields, shape: Shape::Foreign })
        }
        Some(_) => Some(FoundError { fields: ErrorFields::default(), shape: Shape::Foreign }),
        None => {
            let is_flat = top.get("object").is_some_and(|object| object == "error")
                || top.get("type").is_some_and(|kind| kind == "error")
                || top.contains_key("statusCode")
                || top.contains_key("message")
                || top.contains_key("detail");
            is_flat.then(|| FoundError { fields: ErrorFields::of(&without_event_type(&top)), shape: Shape::Foreign })
        }
    }
}

/// In a Responses event `type` is the event's name and says nothing about the error.
fn without_event_type(top: &serde_json::Map<String, Value>) -> serde_json::Map<String, Value> {
    let mut flat = top.clone();
    if flat.get("type").is_some_and(|kind| kind == "error" || kind == "response.failed") {
        flat.remove("type");
    }
    flat
}

impl ErrorFields {
    fn of(error: &serde_json::Map<String, Value>) -> Self {
        let text = |name: &str| error.get(name).and_then(as_text);
        let inner = error.get("innererror").or_else(|| error.get("inner_error"));
        Self {
            code: text("code").or_else(|| text("statusCode")),
            kind: text("type"),
            message: error.get("message").or_else(|| error.get("detail")).and_then(Value::as_str).map(str::to_owned),
            param: error.get("param").and_then(Value::as_str).map(str::to_owned),
            inner_code: inner.and_then(|inner| inner.get("code")).and_then(as_text),
        }
    }

    /// A code that is an HTTP status of 400–599, as number or text.
    pub fn status(&self) -> Option<u16> {
        self.code.as_deref()?.parse().ok().filter(|status| (400..600).contains(status))
    }

    /// The body that clients expect: all four keys, missing ones filled from the arguments.
    pub fn to_body(&self, kind: &str, code: &str, message: &str) -> Vec<u8> {
        let or = |part: &Option<String>, other: &str| part.clone().unwrap_or_else(|| other.to_owned());
        let error = serde_json::json!({"error": {
            "message": or(&self.message, message),
            "type": or(&self.kind, kind),
            "param": self.param,
            "code": or(&self.code, code),
        }});
        error.to_string().into_bytes()
    }
}

fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}
