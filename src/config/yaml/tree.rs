//! The parser's events to a tree, and its failures to faults.

mod document;
mod syntax;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;
use std::rc::Rc;

use serde::de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};

use self::document::{Nested, Root, TOO_DEEP};
use super::super::text::{Place, Text};
use super::peek::{Access, Elements, Keys, Kind, KindSeed, MarkSeed, TextSeed, Values};
use super::{Entry, Fault, Node, Value, child_path};

/// Most nodes of a file, aliases counted as what they stand for.
const MAX_NODES: usize = 200_000;
/// Deepest nesting. Ours is 7; the rest is for request defaults.
const MAX_DEPTH: usize = 64;
/// Nesting of nearly every file.
const SHALLOW: usize = 14;
/// Deepest nesting that the parser takes, newtypes in each other counted.
const PARSER_DEPTH: usize = 128;
/// Nesting that questions to the parser use up below the node that they are about.
const ASKING: usize = 4;

#[derive(Default)]
struct State {
    faults: Vec<Fault>,
    anchors: HashMap<String, Rc<Node>>,
    nodes: usize,
    /// Set by a fault that ends the parse, so that the parser's own error for it is not reported too.
    is_over: bool,
    /// Set where the file is nested deeper than it is read for: it is read once more.
    is_too_deep: bool,
}

/// Builds the tree of one file.
pub(super) struct Builder<'t> {
    file: usize,
    text: &'t Text,
    /// Deepest nesting that is read.
    max_depth: Cell<usize>,
    state: RefCell<State>,
}

impl<'t> Builder<'t> {
    /// Begins with a file, the `file`th of those that are loaded.
    pub(super) fn new(file: usize, text: &'t Text) -> Self {
        Self { file, text, max_depth: Cell::new(SHALLOW), state: RefCell::default() }
    }

    /// Everything found wrong, in the order it was met.
    pub(super) fn faults(self) -> Vec<Fault> {
        self.state.into_inner().faults
    }

    fn place(&self, offset: usize) -> Place {
        Place { file: self.file, offset }
    }

    /// Says what is wrong.
    pub(super) fn fault(&self, code: &'static str, offset: usize, path: &str, message: &str) {
        self.fault_with(code, offset, path, message, None);
    }

    fn fault_with(&self, code: &'static str, offset: usize, path: &str, message: &str, help: Option<&str>) {
        let fault =
            Fault { code, offset, path: path.to_owned(), message: message.to_owned(), help: help.map(str::to_owned) };
        self.state.borrow_mut().faults.push(fault);
    }

    /// Reports a fault after which nothing can be read.
    fn give_up<E: de::Error>(&self, code: &'static str, offset: usize, path: &str, message: &str) -> E {
        self.fault(code, offset, path, message);
        self.state.borrow_mut().is_over = true;
        E::custom(message)
    }

    /// The first document; a second one is a fault.
    pub(super) fn documents(&self) -> Option<Rc<Node>> {
        let root = self.first_document();
        if !self.state.borrow().is_too_deep {
            return root;
        }
        self.state.take();
        self.max_depth.set(MAX_DEPTH);
        self.first_document()
    }

    fn first_document(&self) -> Option<Rc<Node>> {
        let mut documents = serde_yaml::Deserializer::from_str(&self.text.text);
        let first = documents.next()?;
        let levels = PARSER_DEPTH.saturating_sub(self.max_depth.get() + ASKING);
        let root = match (Nested { levels, root: Root { builder: self } }).deserialize(first) {
            Ok(root) => root,
            Err(error) => {
                let is_limit = || error.to_string().starts_with(TOO_DEEP);
                let mut state = self.state.borrow_mut();
                state.is_too_deep |= self.max_depth.get() < MAX_DEPTH && is_limit();
                if !state.is_over && !state.is_too_deep {
                    drop(state);
                    self.syntax_error(&error);
                }
                return None;
            }
        };
        if documents.next().is_some() {
            let offset = syntax::second_document(self.text);
            let help = "keep one document a file; `include:` joins files";
            self.fault_with("BW104", offset, "", "a second document begins here", Some(help));
        }
        root
    }

    fn syntax_error(&self, error: &serde_yaml::Error) {
        let offset = error.location().map_or(0, |at| self.text.offset(at.line(), at.column()));
        let whole = error.to_string();
        let message = whole.split(" at line ").next().unwrap_or_default();
        let help = syntax::help(self.text, &whole, offset);
        self.fault_with("BW102", offset, "", &format!("this is no YAML: {message}"), help);
    }

    /// Where the node of a peeking error stands; the error itself if it was not ours.
    fn peeked<E: de::Error>(&self, error: E) -> Result<usize, E> {
        let message = error.to_string();
        match message.strip_prefix(TOO_DEEP) {
            None => Err(error),
            Some(at) => Ok(position(at).map_or(0, |(line, column)| self.text.offset(line, column))),
        }
    }

    /// Builds a node that `access` can hand out again and again, whose first byte is at `offset`.
    fn node<'de, A: Access<'de>>(
        &self,
        access: &mut A,
        offset: usize,
        path: &str,
        depth: usize,
    ) -> Result<Rc<Node>, A::Error> {
        if self.max_depth.get() < depth && depth <= MAX_DEPTH {
            self.state.borrow_mut().is_too_deep = true;
            return Err(de::Error::custom("to be read once more"));
        }
        if depth > MAX_DEPTH {
            return Err(self.give_up("BW105", offset, path, &format!("nested deeper than {MAX_DEPTH} levels")));
        }
        let rest = &self.text.text[offset..];
        if let Some(name) = rest.strip_prefix('*').map(anchor_name) {
            access.take(PhantomData::<IgnoredAny>)?;
            return self.alias(name, offset, path);
        }
        let kind = RefCell::new(Kind::Unknown);
        // A bracket says what it opens; whatever else begins here has to be asked for.
        let (kind, error) = match rest.starts_with(['{', '[']) {
            true => (Kind::Mapping, None),
            false => {
                let asked = access.take(KindSeed(&kind));
                (kind.into_inner(), asked.err())
            }
        };
        let (value, size) = match kind.or_collection(error.as_ref()) {
            Kind::Scalar => (self.scalar(access, offset)?, 1),
            Kind::Mapping | Kind::Sequence => access.take(Collection { builder: self, path, depth })?,
            Kind::Tagged(tag) => {
                self.fault("BW108", offset, path, &format!("the tag `!{tag}` means nothing here"));
                access.take(PhantomData::<IgnoredAny>)?;
                (Value::Refused, 1)
            }
            Kind::Unknown => return Err(error.unwrap_or_else(|| de::Error::custom("the parser skipped a node"))),
        };
        self.count(1, offset, path)?;
        let node = Rc::new(Node { at: self.place(offset), used_at: None, value, size });
        if let Some(name) = rest.strip_prefix('&').map(anchor_name) {
            self.state.borrow_mut().anchors.insert(name.to_owned(), Rc::clone(&node));
        }
        Ok(node)
    }

    fn scalar<'de, A: Access<'de>>(&self, access: &mut A, offset: usize) -> Result<Value, A::Error> {
        let text = access.take(TextSeed)?;
        let is_plain = is_plain(&self.text.text[offset..]);
        match is_plain && matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL") {
            true => Ok(Value::Null),
            false => Ok(Value::Scalar { text, is_plain }),
        }
    }

    fn alias<E: de::Error>(&self, name: &str, offset: usize, path: &str) -> Result<Rc<Node>, E> {
        if self.text.text[offset + 1 + name.len()..].trim_start_matches([' ', '\t']).starts_with(':') {
            return Err(self.give_up("BW108", offset, path, "an alias cannot be a key"));
        }
        let Some(found) = self.state.borrow().anchors.get(name).cloned() else {
            return Err(self.give_up("BW102", offset, path, &format!("`*{name}` stands within its own anchor")));
        };
        self.count(found.size, offset, path)?;
        // The children keep their own places: a problem points at the anchor's text and says where it was used.
        let used_at = Some(self.place(offset));
        Ok(Rc::new(Node { at: found.at, used_at, value: found.value.share(), size: found.size }))
    }

    fn count<E: de::Error>(&self, nodes: usize, offset: usize, path: &str) -> Result<(), E> {
        let total = self.state.borrow().nodes.saturating_add(nodes);
        self.state.borrow_mut().nodes = total;
        match total <= MAX_NODES {
            true => Ok(()),
            false => Err(self.give_up(
                "BW105",
                offset,
                path,
                &format!("more than {MAX_NODES} values, aliases counted whole"),
            )),
        }
    }

    fn mapping<'de, A: MapAccess<'de>>(
        &self,
        mut access: A,
        path: &str,
        depth: usize,
    ) -> Result<(Value, usize), A::Error> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut first: HashMap<String, usize> = HashMap::new();
        let mut merges = Vec::new();
        while let Some(offset) = peek_key(self, &mut access)? {
            let key = self.key(&mut access, offset, path)?;
            let value_path = child_path(path, key.as_deref().unwrap_or("?"));
            let mut values = Values(&mut access);
            let at = self.peeked(must_fail(values.take(MarkSeed))?)?;
            let value = self.node(&mut values, at, &value_path, depth + 1)?;
            let Some(key) = key else { continue };
            if key == "<<" {
                merges.push(value);
                continue;
            }
            if let Some(earlier) = first.get(&key) {
                let message = format!("`{key}` stands twice; the first is at line {}", self.text.line(*earlier));
                self.fault_with("BW103", offset, &value_path, &message, Some("keep one of them"));
                continue;
            }
            first.insert(key.clone(), offset);
            entries.push(Entry { key, at: self.place(offset), value });
        }
        for merge in merges {
            self.merge(&mut entries, &merge, path);
        }
        let size = entries.iter().map(|entry| entry.value.size + 1).sum::<usize>() + 1;
        Ok((Value::Mapping(entries), size))
    }

    /// Reads a key; none if it is an odd one, which has been said.
    fn key<'de, A: MapAccess<'de>>(
        &self,
        access: &mut A,
        offset: usize,
        path: &str,
    ) -> Result<Option<String>, A::Error> {
        let mut keys = Keys(access);
        let rest = &self.text.text[offset..];
        let kind = RefCell::new(Kind::Unknown);
        if rest.starts_with(['*', '&']) {
            return Err(self.give_up("BW108", offset, path, "a key is plain text: no alias, no anchor"));
        }
        // A key that begins like a word is one.
        let is_word = rest.starts_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '"' | '\''));
        let error = if is_word { None } else { keys.take(KindSeed(&kind)).err() };
        let kind = if is_word { Kind::Scalar } else { kind.into_inner().or_collection(error.as_ref()) };
        match kind {
            Kind::Scalar => {}
            Kind::Mapping | Kind::Sequence | Kind::Tagged(_) => {
                keys.take(PhantomData::<IgnoredAny>)?;
                self.fault("BW108", offset, path, "a key is text, not a list, a mapping or tagged");
                return Ok(None);
            }
            Kind::Unknown => return Err(error.unwrap_or_else(|| de::Error::custom("the parser skipped a key"))),
        }
        let key = keys.take(TextSeed)?;
        if is_plain(rest) && is_odd(&key) {
            let help = format!("quote it: `\"{key}\"`");
            let message = format!("the key `{key}` is no text");
            self.fault_with("BW108", offset, path, &message, Some(&help));
            return Ok(None);
        }
        Ok(Some(key))
    }

    /// Adds what an explicit key does not say.
    fn merge(&self, entries: &mut Vec<Entry>, merge: &Node, path: &str) {
        match &merge.value {
            Value::Mapping(merged) => {
                for entry in merged {
                    if !entries.iter().any(|known| known.key == entry.key) {
                        entries.push(entry.clone());
                    }
                }
            }
            Value::Sequence(several) => several.iter().for_each(|one| self.merge(entries, one, path)),
            Value::Null | Value::Refused => {}
            Value::Scalar { .. } => {
                self.fault("BW108", merge.at.offset, path, "`<<` takes a mapping or a list of mappings");
            }
        }
    }

    fn sequence<'de, A: SeqAccess<'de>>(
        &self,
        mut access: A,
        path: &str,
        depth: usize,
    ) -> Result<(Value, usize), A::Error> {
        let mut elements = Vec::new();
        loop {
            let offset = match access.next_element_seed(MarkSeed) {
                Ok(None) => break,
                Ok(Some(())) => return Err(de::Error::custom("the parser skipped an element")),
                Err(error) => self.peeked(error)?,
            };
            let path = format!("{path}[{}]", elements.len());
            elements.push(self.node(&mut Elements(&mut access), offset, &path, depth + 1)?);
        }
        let size = elements.iter().map(|element| element.size).sum::<usize>() + 1;
        Ok((Value::Sequence(elements), size))
    }
}

fn peek_key<'de, A: MapAccess<'de>>(builder: &Builder<'_>, access: &mut A) -> Result<Option<usize>, A::Error> {
    match access.next_key_seed(MarkSeed) {
        Ok(None) => Ok(None),
        Ok(Some(())) => Err(de::Error::custom("the parser skipped a key")),
        Err(error) => builder.peeked(error).map(Some),
    }
}

fn must_fail<E: de::Error>(asked: Result<(), E>) -> Result<E, E> {
    match asked {
        Ok(()) => Err(E::custom("the parser skipped a node")),
        Err(error) => Ok(error),
    }
}

/// `… at line 3 column 5`, both from 1; the parser leaves it out at the very beginning.
fn position(text: &str) -> Option<(usize, usize)> {
    let (line, column) = text.rsplit_once(" at line ")?.1.split_once(" column ")?;
    Some((line.parse().ok()?, column.parse().ok()?))
}

fn anchor_name(rest: &str) -> &str {
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-').unwrap_or(rest.len());
    &rest[..end]
}

/// Whether the scalar here, behind its anchor and tag, has no quotes and is no block.
fn is_plain(rest: &str) -> bool {
    let mut rest = rest;
    while rest.starts_with(['&', '!']) {
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        rest = rest[end..].trim_start();
    }
    !rest.starts_with(['"', '\'', '|', '>'])
}

/// Whether YAML 1.2 reads a plain key as something else than text.
fn is_odd(key: &str) -> bool {
    matches!(key, "" | "~" | "null" | "Null" | "NULL" | "true" | "True" | "TRUE" | "false" | "False" | "FALSE")
        || key.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.')) && key.parse::<f64>().is_ok()
}

/// Reads a mapping or a sequence.
struct Collection<'a, 't> {
    builder: &'a Builder<'t>,
    path: &'a str,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Collection<'_, '_> {
    type Value = (Value, usize);
    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Collection<'_, '_> {
    type Value = (Value, usize);
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping or a list")
    }
    fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<Self::Value, A::Error> {
        self.builder.mapping(access, self.path, self.depth)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, access: A) -> Result<Self::Value, A::Error> {
        self.builder.sequence(access, self.path, self.depth)
    }
}
