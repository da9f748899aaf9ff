//! A mapping with known keys, each read by the type that it wants. A key that nobody asks for is unknown, so that there is no
//! second list of keys to keep in step.

use std::cell::RefCell;
use std::num::NonZeroU32;
use std::time::Duration;

use super::context::{At, Located, Secret};
use super::item::{Dialect, Item};
use super::litellm_keys::{self, Scope};
use super::placeholder;
use super::scalar::{self, Read};
use super::suggest;
use super::yaml::{Entry, Value, child_path};

/// How ratios are kept: in 1/10 000.
const RATIO_UNIT: f64 = 10_000.0;

/// A mapping with known keys.
pub(super) struct Section<'c> {
    /// The mapping itself.
    pub(super) item: Item<'c>,
    dialect: Dialect,
    asked: RefCell<Vec<&'static str>>,
}

impl<'c> Section<'c> {
    /// Wraps a mapping of which no key has been asked for.
    pub(super) fn new(item: Item<'c>, dialect: Dialect) -> Self {
        Self { item, dialect, asked: RefCell::default() }
    }

    /// Where the mapping begins.
    pub(super) fn at(&self) -> &At {
        &self.item.at
    }

    /// All pairs as they stand there.
    pub(super) fn entries(&self) -> &[Entry] {
        match &self.item.node.value {
            Value::Mapping(entries) => entries,
            Value::Null | Value::Scalar { .. } | Value::Sequence(_) | Value::Refused => &[],
        }
    }

    /// Where a pair's key stands.
    pub(super) fn key_at(&self, entry: &Entry) -> At {
        let path = child_path(&self.item.at.path, &entry.key);
        At { place: entry.at, used_at: self.item.at.used_at, path: path.into() }
    }

    /// A pair's value.
    pub(super) fn child_item(&self, entry: &Entry) -> Item<'c> {
        self.item.child(&entry.value, child_path(&self.item.at.path, &entry.key))
    }

    fn entry(&self, key: &'static str) -> Option<&Entry> {
        self.asked.borrow_mut().push(key);
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// Where a key stands, if it does, whatever its value.
    pub(super) fn key(&self, key: &'static str) -> Option<At> {
        self.entry(key).map(|entry| self.key_at(entry))
    }

    /// A key's value; none if it is absent or nothing.
    pub(super) fn item(&self, key: &'static str) -> Option<Item<'c>> {
        let item = self.child_item(self.entry(key)?);
        match &item.node.value {
            Value::Null | Value::Refused => None,
            Value::Scalar { .. } | Value::Sequence(_) | Value::Mapping(_) => Some(item),
        }
    }

    /// A key's mapping, in the same dialect.
    pub(super) fn section(&self, key: &'static str) -> Option<Self> {
        self.item(key)?.section(self.dialect)
    }

    /// A key's mapping, in another dialect.
    pub(super) fn section_in(&self, key: &'static str, dialect: Dialect) -> Option<Self> {
        self.item(key)?.section(dialect)
    }

    /// A key's list; empty if it is absent.
    pub(super) fn items(&self, key: &'static str) -> Vec<Item<'c>> {
        self.item(key).map(|item| item.items()).unwrap_or_default()
    }

    /// A key's value of some type.
    pub(super) fn read<T>(&self, key: &'static str, parse: impl Fn(&str) -> Read<T>) -> Option<Located<T>> {
        self.item(key)?.read(parse)
    }

    /// The same where the key may be `off` or null: then `Some(None)`.
    pub(super) fn or_off<T>(
        &self,
        key: &'static str,
        read: impl Fn(&Self, &'static str) -> Option<Located<T>>,
    ) -> Option<Located<Option<T>>> {
        let entry = self.entry(key)?;
        let item = self.child_item(entry);
        match &entry.value.value {
            Value::Null => return Some(Located { value: None, at: item.at }),
            Value::Scalar { text, .. } if scalar::is_off(text) => return Some(Located { value: None, at: item.at }),
            Value::Scalar { .. } => {}
            Value::Sequence(_) | Value::Mapping(_) | Value::Refused => return None,
        }
        Some(read(self, key)?.map(Some))
    }

    /// Text.
    pub(super) fn string(&self, key: &'static str) -> Option<Located<String>> {
        self.item(key)?.string()
    }

    /// Text that must be there.
    pub(super) fn required(&self, key: &'static str) -> Option<Located<String>> {
        match self.entry(key).map(|entry| &entry.value.value) {
            None | Some(Value::Null) => {
                self.missing(key);
                None
            }
            Some(Value::Scalar { .. } | Value::Sequence(_) | Value::Mapping(_) | Value::Refused) => {
                let found = self.string(key).filter(|found| !found.value.is_empty());
                if found.is_none() && !self.is_broken(key) {
                    self.missing(key);
                }
                found
            }
        }
    }

    /// Says that a required key is missing.
    pub(super) fn missing(&self, key: &str) {
        let known = self.entries().iter().map(|entry| entry.key.as_str());
        let help = suggest::nearest(key, known).map(|near| format!("`{near}` looks like it"));
        self.item.context.error("BW206", self.at(), format!("`{key}` is required and missing"), help);
    }

    /// A boolean.
    pub(super) fn boolean(&self, key: &'static str) -> Option<Located<bool>> {
        self.read(key, scalar::boolean)
    }

    /// A secret.
    pub(super) fn secret(&self, key: &'static str) -> Option<Located<Secret>> {
        self.item(key)?.secret()
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&self, key: &'static str, words: &[(&'static str, T)]) -> Option<Located<T>> {
        self.item(key)?.word(words)
    }

    /// A whole number ≥ 0 that fits.
    pub(super) fn integer(&self, key: &'static str) -> Option<Located<u32>> {
        let read = self.read(key, scalar::integer)?;
        match u32::try_from(read.value) {
            Ok(value) => Some(Located { value, at: read.at }),
            Err(_) => {
                self.item.context.error("BW205", &read.at, format!("{} is too large", read.value), None);
                None
            }
        }
    }

    /// A limit or count ≥ 1.
    pub(super) fn count(&self, key: &'static str) -> Option<Located<NonZeroU32>> {
        let read = self.integer(key)?;
        match NonZeroU32::new(read.value) {
            Some(value) => Some(Located { value, at: read.at }),
            None => {
                let help = "omit it for unlimited; `weight: 0` drains".to_owned();
                self.item.context.error("BW603", &read.at, format!("`{key}` is 0"), Some(help));
                None
            }
        }
    }

    /// The same as a bare number.
    pub(super) fn count_number(&self, key: &'static str) -> Option<Located<u32>> {
        Some(self.count(key)?.map(NonZeroU32::get))
    }

    /// A duration > 0.
    pub(super) fn duration(&self, key: &'static str) -> Option<Located<Duration>> {
        let read = self.read(key, scalar::duration)?;
        match read.value.is_zero() {
            false => Some(read),
            true => {
                let help = "use `off` where the key may be off".to_owned();
                self.item.context.error("BW601", &read.at, format!("`{key}` is zero"), Some(help));
                None
            }
        }
    }

    /// A time limit of a call: a duration > 0, with a warning where it is hardly meant.
    pub(super) fn time_limit(&self, key: &'static str) -> Option<Located<Duration>> {
        let read = self.duration(key)?;
        let context = self.item.context;
        if read.value < Duration::from_millis(100) {
            context.warning("BW601", &read.at, format!("`{key}` is below 100ms: hardly any call will make it"), None);
        } else if read.value > Duration::from_secs(3_600) {
            context.warning("BW601", &read.at, format!("`{key}` is longer than an hour"), None);
        }
        Some(read)
    }

    /// A ratio in (0, 1], in 1/10 000.
    pub(super) fn ratio(&self, key: &'static str) -> Option<Located<u32>> {
        let read = self.read(key, scalar::ratio)?;
        if read.value > 0.0 && read.value <= 1.0 {
            return Some(read.map(|value| ((value * RATIO_UNIT).round() as u32).max(1)));
        }
        let help = "write 0.5 or 50%".to_owned();
        self.item.context.error("BW604", &read.at, format!("`{key}` must lie in (0, 1]"), Some(help));
        None
    }

    /// A share by which something varies, in [0, 1), in 1/10 000.
    pub(super) fn jitter(&self, key: &'static str) -> Option<Located<u32>> {
        let read = self.read(key, scalar::ratio)?;
        if (0.0..1.0).contains(&read.value) {
            return Some(read.map(|value| ((value * RATIO_UNIT).round() as u32).min(9_999)));
        }
        self.item.context.error("BW604", &read.at, format!("`{key}` must lie in [0, 1)"), None);
        None
    }

    /// Whether a key's value cannot be read, rather than being absent or expanding to nothing.
    pub(super) fn is_broken(&self, key: &'static str) -> bool {
        let Some(item) = self.item(key) else { return false };
        match &item.node.value {
            Value::Scalar { text, .. } => placeholder::expand(text, &item.context.lookup(item.at.place.file)).is_err(),
            Value::Sequence(_) | Value::Mapping(_) | Value::Refused => true,
            Value::Null => false,
        }
    }

    /// Whether a key stands here, whatever its value.
    pub(super) fn holds(&self, key: &str) -> bool {
        self.entries().iter().any(|entry| entry.key == key)
    }

    /// Complains about every key that nobody asked for.
    pub(super) fn finish(self) {
        let asked = self.asked.borrow();
        #[cfg(test)]
        asked_for::note(&self.item.at.path, &asked);
        let context = self.item.context;
        let mut not_applicable = Vec::new();
        for entry in self.entries().iter().filter(|entry| !asked.contains(&entry.key.as_str())) {
            let at = self.key_at(entry);
            if self.item.at.path.is_empty() && entry.key.starts_with("x-") {
                continue;
            }
            match self.dialect {
                Dialect::Ours if self.item.at.path.is_empty() => match litellm_keys::meaning(Scope::Top, &entry.key) {
                    litellm_keys::Meaning::Protective => self.protective(&at, &entry.key),
                    litellm_keys::Meaning::NotApplicable => not_applicable.push((at, entry.key.as_str())),
                    // As in LiteLLM, which takes no notice of it there; but somebody meant it.
                    _ if litellm_keys::is_misplaced(&entry.key) => {
                        let message = format!("`{}` is not read here", entry.key);
                        context.warning("BW201", &at, message, self.help(&entry.key, &asked));
                    }
                    litellm_keys::Meaning::Silent | litellm_keys::Meaning::Free | litellm_keys::Meaning::Unknown => {
                        context.error(
                            "BW201",
                            &at,
                            format!("unknown key `{}`", entry.key),
                            self.help(&entry.key, &asked),
                        );
                    }
                },
                Dialect::Ours => {
                    context.error("BW201", &at, format!("unknown key `{}`", entry.key), self.help(&entry.key, &asked))
                }
                Dialect::LiteLlm(scope) if litellm_keys::is_of_virtual_keys(scope, &entry.key) => {
                    let message =
                        format!("`{}` holds back LiteLLM's virtual keys, of which there are none here", entry.key);
                    let help = "give each of `auth.keys` its `routes`".to_owned();
                    context.warning("BW203", &at, message, Some(help));
                }
                Dialect::LiteLlm(scope) => match litellm_keys::meaning(scope, &entry.key) {
                    litellm_keys::Meaning::Silent => {}
                    litellm_keys::Meaning::NotApplicable => not_applicable.push((at, entry.key.as_str())),
                    litellm_keys::Meaning::Protective => self.protective(&at, &entry.key),
                    litellm_keys::Meaning::Free => self.near_miss(&at, &entry.key, &asked),
                    litellm_keys::Meaning::Unknown => {
                        context.warning(
                            "BW201",
                            &at,
                            format!("unknown key `{}`", entry.key),
                            self.help(&entry.key, &asked),
                        );
                    }
                },
            }
        }
        if let Some((at, _)) = not_applicable.first() {
            let keys = suggest::list(not_applicable.iter().map(|(_, key)| *key)).replace(" or ", ", ");
            context.warning("BW202", at, format!("not applicable here, ignored: {keys}"), None);
        }
    }

    fn protective(&self, at: &At, key: &str) {
        let context = self.item.context;
        let message = format!("`{key}` protects something in LiteLLM and is not done here");
        if context.is_ignored(&at.path) {
            context.warning("BW203", at, message, None);
            return;
        }
        let help = format!("to start without it, list `{}` in `defaults.ignore_unsupported`", at.path);
        context.error("BW203", at, message, Some(help));
    }

    /// Free metadata: only what is nearly one of our keys, or means routing elsewhere, is said.
    fn near_miss(&self, at: &At, key: &str, asked: &[&'static str]) {
        if suggest::nearest(key, asked.iter().copied()).is_some()
            || litellm_keys::elsewhere(&self.item.at.path, key).is_some()
        {
            let message = format!("`{key}` is not read here");
            self.item.context.warning("BW201", at, message, self.help(key, asked));
        }
    }

    fn help(&self, key: &str, asked: &[&'static str]) -> Option<String> {
        if let Some(hint) = litellm_keys::elsewhere(&self.item.at.path, key) {
            return Some(hint.to_owned());
        }
        if self.item.context.is_full() {
            return None;
        }
        let mut known: Vec<&str> = asked.to_vec();
        known.sort_unstable();
        known.dedup();
        match suggest::nearest(key, known.iter().copied()) {
            Some(near) => Some(format!("did you mean `{near}`?")),
            None => Some(format!("keys here are {}", suggest::list(known).replace(" or ", ", "))),
        }
    }
}

/// What the loader asks of which section, for the test that holds the schema against it.
#[cfg(test)]
pub(super) mod asked_for {
    use std::cell::RefCell;
    use std::collections::{BTreeMap, BTreeSet};

    /// Keys by the path of their section, without indices.
    pub(in super::super) type Asked = BTreeMap<String, BTreeSet<&'static str>>;

    thread_local! {
        static ASKED: RefCell<Asked> = RefCell::default();
    }

    pub(super) fn note(path: &str, keys: &[&'static str]) {
        let digits = |c: char| c.is_ascii_digit();
        let bare: String = path.split('[').map(|part| part.trim_start_matches(digits)).collect::<Vec<_>>().join("[");
        ASKED.with_borrow_mut(|asked| asked.entry(bare).or_default().extend(keys));
    }

    /// What this thread's loads have asked for.
    pub(in super::super) fn all() -> Asked {
        ASKED.take()
    }
}
