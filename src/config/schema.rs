//! The configuration as JSON Schema 2020-12, for editors and for checks without this program.
//!
//! Our own sections are closed: a key that is not here is an error for the loader as well. LiteLLM's are open, since it has
//! hundreds of keys that mean nothing here. Any scalar may be a placeholder, and most numbers are also taken as text; what the
//! schema takes and the loader refuses is a matter of meaning (names that are unknown, limits in the wrong order).

mod keys;

use serde_json::{Map, Value, json};

use self::keys::{Key, TOP};
use super::litellm_keys::{self, TOP_PROTECTIVE};

/// What a key may hold.
enum Kind {
    Boolean,
    Duration,
    DurationOrOff,
    /// A whole number from 1.
    Count,
    CountOrOff,
    /// A whole number from 0.
    Integer,
    Number,
    Ratio,
    RatioOrOff,
    Size,
    Text,
    /// One of these and nothing else.
    Word(&'static [&'static str]),
    /// One of these, or another text: in LiteLLM's spelling, or of another type.
    Suggested(&'static [&'static str]),
    /// One text or a list.
    Texts,
    /// One of these or a list of them, LiteLLM's spellings included.
    Words(&'static [&'static str]),
    /// A section of ours.
    Block(&'static [Key]),
    /// A section of LiteLLM's.
    Open(&'static [Key]),
    List(&'static Self),
    /// A mapping whose keys are names.
    Free,
    Any,
}

#[cfg(test)]
mod tests;

/// The schema, as it stands in `config/breakwater.schema.json`.
pub fn schema() -> String {
    let mut whole = object(TOP, true);
    if let Value::Object(whole) = &mut whole {
        if let Some(Value::Object(properties)) = whole.get_mut("properties") {
            let about = [
                (TOP_PROTECTIVE, "LiteLLM's, refused here: it would protect nothing."),
                (litellm_keys::TOP, "LiteLLM's, without meaning here."),
            ];
            for (keys, about) in about {
                properties.extend(keys.iter().map(|key| ((*key).to_owned(), json!({"description": about}))));
            }
        }
        // A place for anchors.
        whole.insert("patternProperties".to_owned(), json!({"^x-": true}));
        let head = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "Breakwater configuration",
            "description": "One file, in Breakwater's own dialect, in LiteLLM's, or in both.",
            "$defs": definitions(),
        });
        if let Value::Object(head) = head {
            whole.extend(head);
        }
    }
    let mut text = serde_json::to_string_pretty(&whole).unwrap_or_default();
    text.push('\n');
    text
}

/// Scalars. Null counts as a key that is absent.
fn definitions() -> Value {
    let placeholder = json!({"type": "string", "pattern": r"\$\{|^os\.environ/"});
    let scalar = |about: &str, forms: Vec<Value>| {
        let mut forms = forms;
        forms.extend([json!({"$ref": "#/$defs/placeholder"}), json!({"type": "null"})]);
        json!({"description": about, "anyOf": forms})
    };
    let pattern = |pattern: &str| json!({"type": "string", "pattern": pattern});
    let off = json!({"enum": ["off", "Off", "OFF", "no", "No", "NO", "false", false]});
    let duration = || {
        vec![json!({"type": "number", "minimum": 0}), pattern(r"^\s*([0-9][0-9_]*(\.[0-9]+)?\s*(ms|s|m|h|d)?\s*)+$")]
    };
    let count = || vec![json!({"type": "integer", "minimum": 1}), pattern(r"^\s*[0-9][0-9_]*(\.0+|e[0-9]+)?\s*$")];
    let ratio = || vec![json!({"type": "number", "minimum": 0, "maximum": 1}), pattern(r"^\s*[0-9.]+\s*%?\s*$")];
    let or_off = |forms: Vec<Value>| forms.into_iter().chain([off.clone()]).collect::<Vec<Value>>();
    // ECMA 262 knows no flag within a pattern: spelt out.
    let boolean = vec![
        json!({"type": "boolean"}),
        pattern("^([Tt]rue|TRUE|[Ff]alse|FALSE|[Yy]es|YES|[Nn]o|NO|[Oo]n|ON|[Oo]ff|OFF|[YyNn])$"),
    ];
    json!({
        "placeholder": placeholder,
        "boolean": scalar("true or false", boolean),
        "duration": scalar("seconds, or 250ms, 30s, 1m30s, 2h", duration()),
        "duration_or_off": scalar("seconds, or 250ms, 30s, 1m30s, 2h; off", or_off(duration())),
        "count": scalar("a whole number from 1", count()),
        "count_or_off": scalar("a whole number from 1; off", or_off(count())),
        "integer": scalar("a whole number", vec![json!({"type": "integer", "minimum": 0}), pattern(r"^\s*[0-9][0-9_]*\s*$")]),
        "number": scalar("a number", vec![json!({"type": "number", "minimum": 0}), pattern(r"^\s*[0-9][0-9_]*(\.[0-9]+)?\s*$")]),
        "ratio": scalar("0.5 or 50%", ratio()),
        "ratio_or_off": scalar("0.5 or 50%; off", or_off(ratio())),
        "size": scalar("bytes, or 64KiB, 32MiB", vec![json!({"type": "integer", "minimum": 0}), pattern(r"^\s*[0-9][0-9_]*(\.[0-9]+)?\s*([kKmMgG]i?)?[bB]?\s*$")]),
        "text": {"type": ["string", "number", "boolean", "null"]},
    })
}

fn object(keys: &[Key], is_closed: bool) -> Value {
    let properties: Map<String, Value> =
        keys.iter().map(|(name, kind, about)| ((*name).to_owned(), property(kind, about))).collect();
    let mut object = Map::new();
    object.insert("type".to_owned(), json!("object"));
    object.insert("properties".to_owned(), Value::Object(properties));
    if is_closed {
        object.insert("additionalProperties".to_owned(), json!(false));
    }
    Value::Object(object)
}

fn property(kind: &Kind, about: &str) -> Value {
    let mut value = of_kind(kind);
    if let Value::Object(value) = &mut value {
        value.insert("description".to_owned(), json!(about));
    }
    value
}

fn of_kind(kind: &Kind) -> Value {
    let named = |name: &str| json!({"$ref": format!("#/$defs/{name}")});
    match kind {
        Kind::Boolean => named("boolean"),
        Kind::Duration => named("duration"),
        Kind::DurationOrOff => named("duration_or_off"),
        Kind::Count => named("count"),
        Kind::CountOrOff => named("count_or_off"),
        Kind::Integer => named("integer"),
        Kind::Number => named("number"),
        Kind::Ratio => named("ratio"),
        Kind::RatioOrOff => named("ratio_or_off"),
        Kind::Size => named("size"),
        Kind::Text => named("text"),
        Kind::Word(words) => json!({"anyOf": [{"enum": words}, named("placeholder"), {"type": "null"}]}),
        Kind::Suggested(words) => json!({"anyOf": [{"enum": words}, named("text")]}),
        Kind::Texts => json!({"anyOf": [named("text"), {"type": "array", "items": named("text")}]}),
        Kind::Words(words) => {
            let word = json!({"anyOf": [{"enum": words}, named("text")]});
            json!({"anyOf": [word.clone(), {"type": "array", "items": word}]})
        }
        Kind::Block(keys) => nullable(object(keys, true)),
        Kind::Open(keys) => nullable(object(keys, false)),
        Kind::List(item) => json!({"type": ["array", "null"], "items": of_kind(item)}),
        Kind::Free => json!({"type": ["object", "null"]}),
        Kind::Any => json!({}),
    }
}

/// A section that stands there without anything in it is no mistake.
fn nullable(mut object: Value) -> Value {
    if let Value::Object(object) = &mut object {
        object.insert("type".to_owned(), json!(["object", "null"]));
    }
    object
}
