//! Text to nodes with positions. Pure.
//!
//! serde_yaml is the parser; it gives positions only inside errors. Three of its calls fail on purpose without consuming
//! anything, so every node is looked at before it is read: `peek::MarkSeed` asks for more nested newtypes than the parser allows
//! and gets an error that says where the node stands, `peek::KindSeed` asks for an enum and learns what it is. One pass, every
//! key and value with its place. Aliases are resolved here: a copy of the anchor's node costs nothing and is counted whole, so
//! that neither exponential nor quadratic aliases can hurt.

mod peek;
mod tree;

use std::rc::Rc;

use super::text::{Place, Text};
use tree::Builder;

/// Largest file that is read. A thousand backends with comments need less than one.
pub(super) const MAX_FILE_BYTES: usize = 4 << 20;
/// Brackets open at once before parsing is refused: the parser needs seconds for a megabyte of them.
const MAX_UNCLOSED_BRACKETS: usize = 1_000;

/// A value and where it stands.
pub(super) struct Node {
    /// Its first byte.
    pub(super) at: Place,
    /// Where an alias brought it in, if one did.
    pub(super) used_at: Option<Place>,
    /// What it is.
    pub(super) value: Value,
    /// Nodes in it, itself included.
    size: usize,
}

/// What a node is.
pub(super) enum Value {
    /// `~`, `null` or nothing.
    Null,
    /// Text as written, unquoted.
    Scalar {
        /// The text.
        text: String,
        /// Whether it stood without quotes.
        is_plain: bool,
    },
    /// `- …` or `[…]`.
    Sequence(Vec<Rc<Node>>),
    /// `k: v` or `{…}`, merges done.
    Mapping(Vec<Entry>),
    /// Something that has already been complained about.
    Refused,
}

/// One pair of a mapping.
#[derive(Clone)]
pub(super) struct Entry {
    /// The key.
    pub(super) key: String,
    /// Its first byte.
    pub(super) at: Place,
    /// Its value.
    pub(super) value: Rc<Node>,
}

/// Something wrong with the YAML itself.
pub(super) struct Fault {
    /// BW1xx.
    pub(super) code: &'static str,
    /// The byte it points at.
    pub(super) offset: usize,
    /// YAML path.
    pub(super) path: String,
    /// What is wrong.
    pub(super) message: String,
    /// The mend.
    pub(super) help: Option<String>,
}

/// A file's tree, if it has one, and what is wrong with it.
pub(super) struct Parsed {
    /// The top mapping.
    pub(super) root: Option<Rc<Node>>,
    /// In the order they were met.
    pub(super) faults: Vec<Fault>,
}

/// Joins a key to a YAML path.
pub(super) fn child_path(path: &str, key: &str) -> String {
    let is_word = !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-'));
    match (path.is_empty(), is_word) {
        (true, true) => key.to_owned(),
        (false, true) => format!("{path}.{key}"),
        (_, false) => format!("{path}[{key:?}]"),
    }
}

/// Parses one file, the `file`th of those that are loaded.
pub(super) fn parse(file: usize, text: &Text) -> Parsed {
    let builder = Builder::new(file, text);
    let root = match unclosed_bracket(&text.text) {
        Some(offset) => {
            builder.fault("BW105", offset, "", &format!("more than {MAX_UNCLOSED_BRACKETS} brackets are open at once"));
            None
        }
        None => builder.documents(),
    };
    Parsed { root, faults: builder.faults() }
}

/// The bracket that goes too deep. Comments and quoted text do not count, brackets in plain text do: no sane file has so many.
fn unclosed_bracket(text: &str) -> Option<usize> {
    let (mut depth, mut quote, mut before, mut is_comment) = (0_usize, None, b'\n', false);
    for (offset, byte) in text.bytes().enumerate() {
        match byte {
            b'\n' => (is_comment, quote) = (false, None),
            _ if is_comment => {}
            _ if quote.is_some() => quote = quote.filter(|open| *open != byte),
            b'#' if before.is_ascii_whitespace() => is_comment = true,
            b'"' | b'\'' if !before.is_ascii_alphanumeric() => quote = Some(byte),
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_UNCLOSED_BRACKETS {
            return Some(offset);
        }
        before = byte;
    }
    None
}

impl Node {
    /// A node made of others, as includes do.
    pub(super) fn joined(at: Place, value: Value) -> Rc<Self> {
        Rc::new(Self { at, used_at: None, value, size: 1 })
    }
}

impl Value {
    /// The word for a message.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null | Self::Refused => "nothing",
            Self::Scalar { .. } => "a single value",
            Self::Sequence(_) => "a list",
            Self::Mapping(_) => "a mapping",
        }
    }

    /// The same value once more, its children shared.
    fn share(&self) -> Self {
        match self {
            Self::Null => Self::Null,
            Self::Refused => Self::Refused,
            Self::Scalar { text, is_plain } => Self::Scalar { text: text.clone(), is_plain: *is_plain },
            Self::Sequence(elements) => Self::Sequence(elements.clone()),
            Self::Mapping(entries) => Self::Mapping(entries.clone()),
        }
    }
}

#[cfg(test)]
mod tests;
