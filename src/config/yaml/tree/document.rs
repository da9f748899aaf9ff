//! The top of a document: a mapping, or a word on what stands there instead.

use std::fmt;
use std::rc::Rc;

use serde::de::{self, DeserializeSeed, EnumAccess, MapAccess, SeqAccess, Visitor};

use super::super::Node;
use super::super::peek::MarkSeed;
use super::Builder;

/// What the parser says to nesting beyond its limit.
pub(super) const TOO_DEEP: &str = "recursion limit exceeded";

/// Reads the top of a file behind that many newtypes: questions about places end when the parser's limit is met, so the nearer
/// it is the less each of them costs.
pub(super) struct Nested<'a, 't> {
    /// How many.
    pub(super) levels: usize,
    /// Behind them.
    pub(super) root: Root<'a, 't>,
}

impl<'de> DeserializeSeed<'de> for Nested<'_, '_> {
    type Value = Option<Rc<Node>>;
    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        match self.levels.checked_sub(1) {
            Some(levels) => deserializer.deserialize_newtype_struct("", Self { levels, ..self }),
            None => deserializer.deserialize_any(self.root),
        }
    }
}

impl<'de> Visitor<'de> for Nested<'_, '_> {
    type Value = Option<Rc<Node>>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping")
    }
    fn visit_newtype_struct<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        self.deserialize(deserializer)
    }
}

/// Reads the top of a file, which must be a mapping.
pub(super) struct Root<'a, 't> {
    /// What it is read by.
    pub(super) builder: &'a Builder<'t>,
}

impl Root<'_, '_> {
    fn refuse<E: de::Error>(self, message: &str) -> E {
        self.builder.give_up("BW106", 0, "", message)
    }
}

const NO_MAPPING: &str = "the file is no mapping: it must begin with keys such as `model_list:`";
const EMPTY: &str = "the file is empty";

impl<'de> Visitor<'de> for Root<'_, '_> {
    type Value = Option<Rc<Node>>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let offset = match access.next_key_seed(MarkSeed) {
            Err(error) => self.builder.peeked(error)?,
            Ok(_) => 0,
        };
        let (value, size) = self.builder.mapping(access, "", 0)?;
        Ok(Some(Rc::new(Node { at: self.builder.place(offset), used_at: None, value, size })))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, _access: A) -> Result<Self::Value, A::Error> {
        Err(self.refuse(NO_MAPPING))
    }
    fn visit_enum<A: EnumAccess<'de>>(self, _access: A) -> Result<Self::Value, A::Error> {
        Err(self.builder.give_up("BW108", 0, "", "the file itself has a tag"))
    }
    fn visit_str<E: de::Error>(self, _text: &str) -> Result<Self::Value, E> {
        Err(self.refuse(NO_MAPPING))
    }
    fn visit_bool<E: de::Error>(self, _value: bool) -> Result<Self::Value, E> {
        Err(self.refuse(NO_MAPPING))
    }
    fn visit_i64<E: de::Error>(self, _value: i64) -> Result<Self::Value, E> {
        Err(self.refuse(NO_MAPPING))
    }
    fn visit_u64<E: de::Error>(self, _value: u64) -> Result<Self::Value, E> {
        Err(self.refuse(NO_MAPPING))
    }
    fn visit_i128<E: de::Error>(self, _value: i128) -> Result<Self::Value, E> {
        Err(self.refuse(NO_MAPPING))
    }
    fn visit_u128<E: de::Error>(self, _value: u128) -> Result<Self::Value, E> {
        Err(self.refuse(NO_MAPPING))
    }
    fn visit_f64<E: de::Error>(self, _value: f64) -> Result<Self::Value, E> {
        Err(self.refuse(NO_MAPPING))
    }
    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Err(self.refuse(EMPTY))
    }
    fn visit_none<E: de::Error>(self) -> Result<Self::Value, E> {
        Err(self.refuse(EMPTY))
    }
}
