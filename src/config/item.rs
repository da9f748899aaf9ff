//! One value with its place: expanded, and read as text, a word, a secret, a list or JSON.

use std::rc::Rc;

use super::context::{At, Context, Located, Secret};
use super::litellm_keys::Scope;
use super::placeholder::{self, Origin};
use super::redact::looks_secret;
use super::scalar::{Misfit, Read};
use super::section::Section;
use super::suggest;
use super::yaml::{Entry, Node, Value};

/// Whose keys a mapping holds: decides how bad an unknown one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Ours: unknown keys are errors.
    Ours,
    /// LiteLLM's: unknown keys are warnings.
    LiteLlm(Scope),
}

/// A scalar's text after expansion.
#[derive(Clone, Debug)]
pub(super) struct Written {
    /// The text.
    pub(super) text: String,
    /// Where it comes from.
    pub(super) origin: Origin,
    /// Whether it stood without quotes.
    pub(super) is_plain: bool,
    /// The scalar before expansion.
    raw: String,
}

impl Written {
    /// How a message may name the value: what came from a placeholder could be a secret in the wrong place.
    pub(super) fn shown(&self) -> String {
        match &self.origin {
            Origin::Literal if looks_secret(&self.text) => "the value".to_owned(),
            Origin::Literal => format!("`{}`", shorten(&self.text)),
            Origin::Variable(name) => format!("the value of `${{{name}}}`"),
            Origin::File(path) => format!("the content of `{path}`"),
            Origin::Template => "the expanded value".to_owned(),
        }
    }
}

/// Longest literal that a message repeats, in characters.
const MAX_SHOWN: usize = 80;

fn shorten(text: &str) -> String {
    match text.chars().count() <= MAX_SHOWN {
        true => text.to_owned(),
        false => text.chars().take(MAX_SHOWN).chain(['…']).collect(),
    }
}

/// Any value with its place.
#[derive(Clone)]
pub(super) struct Item<'c> {
    pub(super) context: &'c Context<'c>,
    pub(super) node: Rc<Node>,
    pub(super) at: At,
}

impl<'c> Item<'c> {
    fn wrong_type(&self, expected: &str) {
        self.context.error("BW204", &self.at, format!("expected {expected}, found {}", self.node.value.kind()), None);
    }

    /// The scalar's text, placeholders expanded. A placeholder whose value is not to be had counts as absent: whatever is
    /// wanted of the text, nobody can say whether it is that.
    pub(super) fn written(&self, expected: &str) -> Option<Located<Written>> {
        self.expanded(expected).filter(|written| !self.context.is_opaque(&written.value.text))
    }

    /// The scalar's text, placeholders expanded, for those whom any text will do.
    fn expanded(&self, expected: &str) -> Option<Located<Written>> {
        let (text, is_plain) = match &self.node.value {
            Value::Scalar { text, is_plain } => (text, *is_plain),
            Value::Null | Value::Refused => return None,
            Value::Sequence(_) | Value::Mapping(_) => {
                self.wrong_type(expected);
                return None;
            }
        };
        if placeholder::has_stray_environ(text) {
            let help = "write `${X}` within longer text".to_owned();
            self.context.warning("BW306", &self.at, "`os.environ/` is only expanded as a whole value", Some(help));
        }
        match placeholder::expand(text, &self.context.lookup(self.at.place.file)) {
            Ok(expanded) => expanded.map(|expanded| Located {
                value: Written { text: expanded.text, origin: expanded.origin, is_plain, raw: text.clone() },
                at: self.at.clone(),
            }),
            Err(failure) => {
                let at = self.within(text, failure.at, failure.code == "BW303");
                self.context.error(failure.code, &at, failure.message, failure.help);
                None
            }
        }
    }

    /// The place of a byte of the scalar, where the file holds it as it is.
    fn within(&self, text: &str, byte: usize, is_exact: bool) -> At {
        let mut at = self.at.clone();
        let rest = &self.context.files[at.place.file].text.text[at.place.offset..];
        let quote = usize::from(rest.starts_with(['"', '\'']));
        if is_exact && rest.get(quote..).is_some_and(|rest| rest.starts_with(&text[..byte])) {
            at.place.offset += quote + byte;
        }
        at
    }

    /// The scalar as a value of some type.
    pub(super) fn read<T>(&self, parse: impl Fn(&str) -> Read<T>) -> Option<Located<T>> {
        // Readers name what they expect only when they refuse, and all refuse this.
        let expected = parse("\u{0}").err().map_or("a single value", |misfit| misfit.expected);
        let written = self.written(expected)?;
        match parse(&written.value.text) {
            Ok(value) => Some(Located { value, at: written.at }),
            Err(Misfit { expected, help }) => {
                let message = format!("{} is not {expected}", written.value.shown());
                self.context.error("BW204", &self.at, message, help);
                None
            }
        }
    }

    /// One of a few words, in any case, `-` and `_` alike.
    pub(super) fn word<T: Copy>(&self, words: &[(&'static str, T)]) -> Option<Located<T>> {
        let written = self.written("a word")?;
        let plain = |word: &str| word.to_ascii_lowercase().replace('-', "_");
        let found = words.iter().find(|(word, _)| plain(word) == plain(&written.value.text));
        if let Some((_, value)) = found {
            return Some(Located { value: *value, at: written.at });
        }
        let known = words.iter().map(|(word, _)| *word);
        let help = match suggest::nearest(&written.value.text, known.clone())
            .filter(|_| written.value.origin == Origin::Literal)
        {
            Some(near) => format!("did you mean `{near}`? It can be {}", suggest::list(known)),
            None => format!("it can be {}", suggest::list(known)),
        };
        self.context.error("BW205", &self.at, format!("{} is not known here", written.value.shown()), Some(help));
        None
    }

    /// Text as written.
    pub(super) fn string(&self) -> Option<Located<String>> {
        Some(self.expanded("text")?.map(|written| written.text))
    }

    /// A secret; warns of a literal that looks real and of other programs' placeholders.
    pub(super) fn secret(&self) -> Option<Located<Secret>> {
        let Located { value: written, at } = self.expanded("a secret")?;
        let text = written.text.trim();
        let secret = self.context.secret(text, &written.origin, &written.raw);
        if written.origin == Origin::Literal && placeholder::looks_unexpanded(text) {
            let help = "placeholders are written `${X}`".to_owned();
            self.context.warning("BW306", &at, "this looks like a placeholder that nobody expands", Some(help));
        } else if written.origin == Origin::Literal && looks_secret(text) {
            let help = "use `${X}` or `${file:/path}`, and take a new key".to_owned();
            self.context.warning("BW305", &at, "a secret stands in the file itself", Some(help));
        }
        if text.chars().any(char::is_control) {
            self.context.error("BW205", &at, "a secret holds no line breaks or control characters", None);
            return None;
        }
        (!text.is_empty()).then_some(Located { value: secret, at })
    }

    /// The mapping in it.
    pub(super) fn section(&self, dialect: Dialect) -> Option<Section<'c>> {
        match &self.node.value {
            Value::Mapping(_) => Some(Section::new(self.clone(), dialect)),
            Value::Null | Value::Refused => None,
            Value::Scalar { .. } | Value::Sequence(_) => {
                self.wrong_type("a mapping");
                None
            }
        }
    }

    /// The elements of the list in it.
    pub(super) fn items(&self) -> Vec<Self> {
        match &self.node.value {
            Value::Sequence(elements) => {
                let child = |(index, node): (usize, &Rc<Node>)| self.child(node, format!("{}[{index}]", self.at.path));
                elements.iter().enumerate().map(child).collect()
            }
            Value::Null | Value::Refused => Vec::new(),
            Value::Scalar { .. } | Value::Mapping(_) => {
                self.wrong_type("a list");
                Vec::new()
            }
        }
    }

    /// The elements of a list, or the value itself where one alone may stand.
    pub(super) fn one_or_more(&self) -> Vec<Self> {
        match &self.node.value {
            Value::Scalar { .. } => vec![self.clone()],
            Value::Sequence(_) | Value::Mapping(_) | Value::Null | Value::Refused => self.items(),
        }
    }

    /// Texts of a list.
    pub(super) fn strings(&self) -> Vec<Located<String>> {
        self.one_or_more().iter().filter_map(Self::string).collect()
    }

    /// All pairs of a mapping whose keys are free.
    pub(super) fn pairs(&self) -> Vec<(Located<String>, Self)> {
        let Some(section) = self.section(Dialect::Ours) else { return Vec::new() };
        let pair = |entry: &Entry| {
            (Located { value: entry.key.clone(), at: section.key_at(entry) }, section.child_item(entry))
        };
        section.entries().iter().map(pair).collect()
    }

    /// A value within this one.
    pub(super) fn child(&self, node: &Rc<Node>, path: String) -> Self {
        let at = At { place: node.at, used_at: node.used_at.or(self.at.used_at), path: path.into() };
        Self { context: self.context, node: Rc::clone(node), at }
    }

    /// The value as JSON: plain scalars as YAML 1.2 reads them, placeholders expanded.
    pub(super) fn json(&self) -> Option<serde_json::Value> {
        match &self.node.value {
            Value::Null | Value::Refused => Some(serde_json::Value::Null),
            Value::Scalar { .. } => {
                let Written { text, is_plain, .. } = self.expanded("a value")?.value;
                Some(if is_plain { plain_json(text) } else { serde_json::Value::String(text) })
            }
            Value::Sequence(_) => Some(self.items().iter().filter_map(Self::json).collect()),
            Value::Mapping(_) => {
                let pairs = self.pairs();
                Some(pairs.iter().filter_map(|(key, item)| Some((key.value.clone(), item.json()?))).collect())
            }
        }
    }
}

fn plain_json(text: String) -> serde_json::Value {
    match text.as_str() {
        "true" | "True" | "TRUE" => return true.into(),
        "false" | "False" | "FALSE" => return false.into(),
        _ => {}
    }
    if let Ok(integer) = text.parse::<i64>()
        && !(text.len() > 1 && text.starts_with('0'))
    {
        return integer.into();
    }
    let is_number = text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '.'));
    match text.parse::<f64>().ok().filter(|_| is_number).and_then(serde_json::Number::from_f64) {
        Some(number) => number.into(),
        None => text.into(),
    }
}
