//! JSON into our values, with an error that names the field and what may stand there.

use serde::de::DeserializeOwned;
use serde_json::Value;

/// Reads a value; an error begins with the path of the field.
pub(super) fn value<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    at("", value)
}

/// Reads a value that stands at this place of a larger one.
pub(super) fn at<T: DeserializeOwned>(place: &str, value: Value) -> Result<T, String> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let field = error.path().to_string();
        let parts = [place, field.as_str()].into_iter().filter(|part| !part.is_empty() && *part != ".");
        let path = parts.collect::<Vec<_>>().join(".");
        if path.is_empty() { error.inner().to_string() } else { format!("{path}: {}", error.inner()) }
    })
}

/// Reads the JSON text of a body; an empty one is null.
pub(super) fn json(body: &[u8]) -> Result<Value, String> {
    if body.trim_ascii().is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(body).map_err(|error| format!("the body is not JSON: {error}"))
}
