//! A request's JSON body, as far as the simulator looks into it.
//!
//! `messages` is walked but not kept: long conversations must not cost a tree per request.

mod known;

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::options::Dialect;
use super::paths::Operation;

/// The top level of a JSON body.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields {
    map: Map<String, Value>,
    text_bytes: u64,
    ends_with_tool: bool,
}

impl Fields {
    /// Reads a body; the error is the parser's sentence.
    pub(super) fn read(body: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(body).map_err(|error| error.to_string())
    }

    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Value::as_str)
    }

    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.get(name).and_then(Value::as_u64)
    }

    pub(super) fn is_true(&self, name: &str) -> bool {
        self.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    /// Whether `stream_options.include_usage` is set.
    pub(super) fn includes_usage(&self) -> bool {
        self.get("stream_options").is_some_and(|options| options["include_usage"] == true)
    }

    /// What the prompt counts as: its text in bytes, by four, rounded up (spec/wire.md 8.1).
    pub(super) fn prompt_tokens(&self) -> u64 {
        self.text_bytes.div_ceil(4)
    }

    /// Whether the last message is a tool's result, so that the model must speak and not call again.
    pub(super) fn ends_with_tool(&self) -> bool {
        self.ends_with_tool
    }

    /// The first top-level field that this operation does not have.
    pub(super) fn unknown(&self, dialect: Dialect, operation: Operation) -> Option<&str> {
        let (own, extra) = (known::fields(operation)?, known::extra_fields(dialect));
        let is_known = |name: &&str| own.split_whitespace().chain(extra.split_whitespace()).any(|known| known == *name);
        self.map.keys().map(String::as_str).find(|name| !is_known(name))
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(TopLevel)
    }
}

struct TopLevel;

impl<'de> Visitor<'de> for TopLevel {
    type Value = Fields;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Fields, A::Error> {
        let mut fields = Fields::default();
        while let Some(name) = access.next_key::<String>()? {
            if name == "messages" {
                let messages = access.next_value::<Messages>()?;
                fields.text_bytes += messages.text_bytes;
                fields.ends_with_tool = messages.ends_with_tool;
                fields.map.insert(name, messages.count.into());
                continue;
            }
            let value: Value = access.next_value()?;
            if ["input", "prompt", "instructions"].contains(&name.as_str()) {
                fields.text_bytes += text_bytes(&value);
            }
            fields.map.insert(name, value);
        }
        Ok(fields)
    }
}

/// Bytes of all texts in a value, names of fields apart.
fn text_bytes(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.len() as u64,
        Value::Array(items) => items.iter().map(text_bytes).sum(),
        Value::Object(fields) => fields.values().map(text_bytes).sum(),
        // An input of token numbers: each counts as one token.
        Value::Number(_) => 4,
        Value::Null | Value::Bool(_) => 0,
    }
}

/// What is kept of `messages`.
#[derive(Default)]
struct Messages {
    count: u64,
    text_bytes: u64,
    ends_with_tool: bool,
}

impl<'de> Deserialize<'de> for Messages {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(MessageList)
    }
}

struct MessageList;

impl<'de> Visitor<'de> for MessageList {
    type Value = Messages;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("messages as an array of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Messages, A::Error> {
        let mut messages = Messages::default();
        while let Some(message) = access.next_element::<Message>()? {
            messages.count += 1;
            messages.text_bytes += message.text_bytes;
            messages.ends_with_tool = message.is_tool;
        }
        Ok(messages)
    }
}

struct Message {
    text_bytes: u64,
    is_tool: bool,
}

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(OneMessage)
    }
}

struct OneMessage;

impl<'de> Visitor<'de> for OneMessage {
    type Value = Message;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a message as an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Message, A::Error> {
        let mut message = Message { text_bytes: 0, is_tool: false };
        while let Some(name) = access.next_key::<String>()? {
            if name == "role" {
                message.is_tool = access.next_value::<String>()? == "tool";
            } else {
                message.text_bytes += access.next_value_seed(TextBytes)?;
            }
        }
        Ok(message)
    }
}

/// Counts the bytes of all texts in a value without keeping any.
struct TextBytes;

impl<'de> DeserializeSeed<'de> for TextBytes {
    type Value = u64;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<u64, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for TextBytes {
    type Value = u64;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any value")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
        Ok(text.len() as u64)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<u64, E> {
        Ok(0)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<u64, E> {
        Ok(0)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<u64, E> {
        Ok(0)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<u64, E> {
        Ok(0)
    }

    fn visit_unit<E: Error>(self) -> Result<u64, E> {
        Ok(0)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<u64, A::Error> {
        let mut sum = 0;
        while let Some(bytes) = access.next_element_seed(Self)? {
            sum += bytes;
        }
        Ok(sum)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<u64, A::Error> {
        let mut sum = 0;
        while access.next_key::<IgnoredAny>()?.is_some() {
            sum += access.next_value_seed(Self)?;
        }
        Ok(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_are_measured_by_their_text() {
        let table = [
            (r#"{"messages":[{"role":"user","content":"12345"}]}"#, 2),
            (r#"{"model":"x","messages":[{"role":"user","content":[{"type":"text","text":"1234"}]}]}"#, 2),
            (r#"{"input":["abcd","efgh"]}"#, 2),
            (r#"{"input":[1,2,3]}"#, 3),
            (r#"{"prompt":"\u00fc"}"#, 1),
        ];
        for (body, tokens) in table {
            assert_eq!(Fields::read(body.as_bytes()).unwrap().prompt_tokens(), tokens, "{body}");
        }
    }

    #[test]
    fn bodies_are_checked() {
        for body in ["", "[]", r#"{"messages":{}}"#, r#"{"messages":["x"]}"#, r#"{"a":1} x"#, r#"{"a":1"#] {
            assert!(Fields::read(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn unknown_fields_are_found() {
        let table = [
            (Dialect::OpenAi, r#"{"model":"m","messages":[],"tags":["a"]}"#, Some("tags")),
            (Dialect::OpenAi, r#"{"model":"m","messages":[],"priority":1}"#, Some("priority")),
            (Dialect::Compat, r#"{"model":"m","messages":[],"priority":1}"#, None),
            (Dialect::Azure, r#"{"messages":[],"data_sources":[]}"#, None),
        ];
        for (dialect, body, expected) in table {
            let fields = Fields::read(body.as_bytes()).unwrap();
            assert_eq!(fields.unknown(dialect, Operation::Chat), expected, "{body}");
        }
    }

    #[test]
    fn the_last_role_is_seen() {
        let fields = Fields::read(br#"{"messages":[{"role":"user","content":"a"},{"role":"tool","content":"b"}]}"#);
        assert!(fields.unwrap().ends_with_tool());
    }
}
