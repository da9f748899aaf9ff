//! Questions to the parser that consume nothing: where a node stands and what it is. They fail on purpose; the answer is in the
//! error or in a cell beside it.

use std::cell::RefCell;
use std::fmt;

use serde::de::{self, DeserializeSeed, EnumAccess, MapAccess, SeqAccess, Visitor};

/// A place that hands its node to any number of seeds, as long as they consume nothing.
pub(super) trait Access<'de> {
    type Error: de::Error;
    fn take<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Self::Error>;
}

pub(super) struct Keys<'a, A>(pub(super) &'a mut A);
pub(super) struct Values<'a, A>(pub(super) &'a mut A);
pub(super) struct Elements<'a, A>(pub(super) &'a mut A);

impl<'de, A: MapAccess<'de>> Access<'de> for Keys<'_, A> {
    type Error = A::Error;
    fn take<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.0.next_key_seed(seed)?.ok_or_else(|| de::Error::custom("the mapping ends early"))
    }
}

impl<'de, A: MapAccess<'de>> Access<'de> for Values<'_, A> {
    type Error = A::Error;
    fn take<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.0.next_value_seed(seed)
    }
}

impl<'de, A: SeqAccess<'de>> Access<'de> for Elements<'_, A> {
    type Error = A::Error;
    fn take<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.0.next_element_seed(seed)?.ok_or_else(|| de::Error::custom("the list ends early"))
    }
}

/// Asks where a node stands: more newtypes in each other than the parser allows, so that it answers with the place.
pub(super) struct MarkSeed;

impl<'de> DeserializeSeed<'de> for MarkSeed {
    type Value = ();
    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_newtype_struct("", self)
    }
}

impl<'de> Visitor<'de> for MarkSeed {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a node")
    }
    fn visit_newtype_struct<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_newtype_struct("", self)
    }
}

#[derive(Debug)]
pub(super) enum Kind {
    Unknown,
    Scalar,
    Sequence,
    Mapping,
    Tagged(String),
}

impl Kind {
    /// Collections refuse to be an enum with a sentence of the parser's own.
    pub(super) fn or_collection<E: fmt::Display>(self, error: Option<&E>) -> Self {
        let (Self::Unknown, Some(error)) = (&self, error) else { return self };
        let message = error.to_string();
        let said = message.rsplit_once(" at line ").map_or(message.as_str(), |(said, _)| said);
        if said.ends_with("invalid type: map, expected a YAML tag starting with '!'") {
            return Self::Mapping;
        }
        if said.ends_with("invalid type: sequence, expected a YAML tag starting with '!'") {
            return Self::Sequence;
        }
        self
    }
}

/// Asks what a node is.
pub(super) struct KindSeed<'k>(pub(super) &'k RefCell<Kind>);

impl<'de> DeserializeSeed<'de> for KindSeed<'_> {
    type Value = ();
    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_enum("", &[], self)
    }
}

impl<'de> Visitor<'de> for KindSeed<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a node")
    }
    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<(), A::Error> {
        access.variant_seed(TagSeed(self.0))?;
        Err(de::Error::custom("only asking"))
    }
}

/// Tells a tag, which comes as text, from an untagged scalar, which comes as itself.
struct TagSeed<'k>(&'k RefCell<Kind>);

impl<'de> DeserializeSeed<'de> for TagSeed<'_> {
    type Value = ();
    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_newtype_struct("", self)
    }
}

impl<'de> Visitor<'de> for TagSeed<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a tag or a scalar")
    }
    fn visit_str<E>(self, tag: &str) -> Result<(), E> {
        *self.0.borrow_mut() = Kind::Tagged(tag.to_owned());
        Ok(())
    }
    fn visit_newtype_struct<D: de::Deserializer<'de>>(self, _scalar: D) -> Result<(), D::Error> {
        *self.0.borrow_mut() = Kind::Scalar;
        Ok(())
    }
}

/// Reads a scalar's text as written, whatever it looks like.
pub(super) struct TextSeed;

impl<'de> DeserializeSeed<'de> for TextSeed {
    type Value = String;
    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for TextSeed {
    type Value = String;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text")
    }
    fn visit_str<E>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }
}
