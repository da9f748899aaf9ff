//! A value that fits a JSON schema, so that tool calls and structured answers parse.

use serde_json::{Map, Value};

/// How deep schemas are followed: recursive ones have no bottom.
const MAX_DEPTH: usize = 8;

/// An example of the schema; texts are `text`.
pub(super) fn example(schema: &Value, text: &str) -> Value {
    of(schema, schema, text, MAX_DEPTH)
}

/// A text in three pieces, cut between characters: arguments come in parts.
pub(super) fn pieces(text: &str) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    let size = characters.len().div_ceil(3).max(1);
    characters.chunks(size).map(|piece| piece.iter().collect()).collect()
}

fn of(schema: &Value, root: &Value, text: &str, depth: usize) -> Value {
    if depth == 0 {
        return Value::Null;
    }
    if let Some(reference) = schema["$ref"].as_str() {
        let target = root.pointer(reference.trim_start_matches('#')).unwrap_or(&Value::Null);
        return of(target, root, text, depth - 1);
    }
    for alternatives in ["anyOf", "oneOf", "allOf"] {
        if let Some(first) = schema[alternatives].get(0) {
            return of(first, root, text, depth - 1);
        }
    }
    if let Some(value) = schema.get("const").or_else(|| schema["enum"].get(0)) {
        return value.clone();
    }
    let kind = schema["type"].as_str().or_else(|| schema["type"][0].as_str());
    match kind {
        Some("string") => text.into(),
        Some("integer") => schema["minimum"].as_i64().unwrap_or(1).into(),
        Some("number") => schema["minimum"].as_f64().unwrap_or(1.5).into(),
        Some("boolean") => true.into(),
        Some("array") => Value::Array(vec![of(&schema["items"], root, text, depth - 1)]),
        Some("null") => Value::Null,
        Some(_) | None => object(schema, root, text, depth),
    }
}

fn object(schema: &Value, root: &Value, text: &str, depth: usize) -> Value {
    let Some(properties) = schema["properties"].as_object() else { return Value::Object(Map::new()) };
    let fields = properties.iter().map(|(name, property)| (name.clone(), of(property, root, text, depth - 1)));
    Value::Object(fields.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn examples_fit() {
        let schema = json!({"type": "object", "properties": {
            "name": {"type": "string"}, "age": {"type": "integer", "minimum": 18}, "unit": {"enum": ["c", "f"]},
            "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}}, "maybe": {"type": ["null", "string"]},
        }, "$defs": {"tag": {"anyOf": [{"type": "boolean"}]}}});
        let expected = json!({"name": "w", "age": 18, "unit": "c", "tags": [true], "maybe": null});
        assert_eq!(example(&schema, "w"), expected);
    }

    #[test]
    fn recursion_ends() {
        let schema = json!({"properties": {"next": {"$ref": "#"}}});
        assert!(example(&schema, "w").to_string().len() < 200);
    }

    #[test]
    fn pieces_make_the_text() {
        for text in ["", "ä", "{\"a\":\"öü\"}"] {
            assert_eq!(pieces(text).concat(), text);
            assert!(pieces(text).len() <= 3);
        }
    }
}
