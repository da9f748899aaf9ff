//! The stages in order: read, parse, include, bind, validate. Pure but for the source.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::context::{At, Context, File};
use super::source::Source;
use super::text::{Place, Text};
use super::validate::{self, top_of};
use super::yaml::{self, Entry, Node, Value, child_path};
use super::{Loaded, Report, raw};

/// Deepest chain of includes.
const MAX_INCLUDE_DEPTH: usize = 8;
/// Most files of one configuration.
const MAX_FILES: usize = 64;
/// Hex digits of the configuration's hash.
const HASH_DIGITS: usize = 12;

/// Loads a configuration and everything it includes.
///
/// # Errors
/// All problems at once, if at least one is an error.
pub fn load(path: &Path, source: &dyn Source) -> Result<Loaded, Report> {
    let mut loader = Loader { context: Context::new(source), digest: Sha256::new() };
    let root = loader.files(path);
    let Loader { context, digest } = loader;
    let hash: String = digest.finalize().iter().take(HASH_DIGITS / 2).map(|byte| format!("{byte:02x}")).collect();
    let config = root.and_then(|root| bind(&context, &root, hash));
    let is_usable = !context.has_errors();
    let (problems, sources, inputs) = context.finish();
    match config.filter(|_| is_usable) {
        Some(config) => Ok(Loaded { config: Arc::new(config), warnings: problems, inputs, sources }),
        None => Err(Report { problems, inputs, sources }),
    }
}

fn bind(context: &Context<'_>, root: &Rc<Node>, hash: String) -> Option<super::Config> {
    let raw = raw::read(context, root)?;
    let config = validate::validate(context, &raw, hash);
    raw.top.finish();
    Some(config)
}

/// Loads a configuration from text, as the file `name`. Everything else comes from the source.
///
/// # Errors
/// As [`load`].
pub fn load_text(name: &str, text: &str, source: &dyn Source) -> Result<Loaded, Report> {
    struct OneFile<'s> {
        name: &'s str,
        text: &'s str,
        rest: &'s dyn Source,
    }
    impl Source for OneFile<'_> {
        fn read(&self, path: &Path) -> std::io::Result<Vec<u8>> {
            match path == Path::new(self.name) {
                true => Ok(self.text.as_bytes().to_vec()),
                false => self.rest.read(path),
            }
        }
        fn variable(&self, name: &str) -> Option<String> {
            self.rest.variable(name)
        }
        fn fingerprint_key(&self) -> [u8; 32] {
            self.rest.fingerprint_key()
        }
    }
    load(Path::new(name), &OneFile { name, text, rest: source })
}

struct Loader<'s> {
    context: Context<'s>,
    digest: Sha256,
}

impl Loader<'_> {
    /// The tree of a file with all its includes merged in, breadth first, each file once.
    fn files(&mut self, path: &Path) -> Option<Rc<Node>> {
        let mut tree = self.file(path, None);
        let mut level = tree.as_ref().map(|tree| self.includes(tree)).unwrap_or_default();
        let mut seen = vec![path.to_owned()];
        let mut depth = 0;
        while !level.is_empty() {
            depth += 1;
            let mut next = Vec::new();
            for (path, at) in std::mem::take(&mut level) {
                if seen.contains(&path) {
                    continue;
                }
                if depth > MAX_INCLUDE_DEPTH || seen.len() >= MAX_FILES {
                    let message = format!(
                        "includes go deeper than {MAX_INCLUDE_DEPTH}, or there are more than {MAX_FILES} files"
                    );
                    self.context.error("BW105", &at, message, None);
                    return tree;
                }
                seen.push(path.clone());
                let Some(included) = self.file(&path, Some(&at)) else { continue };
                next.extend(self.includes(&included));
                tree = tree.map(|tree| self.merge(&tree, &included, ""));
            }
            level = next;
        }
        tree
    }

    /// One file's tree; what is wrong with it is said.
    fn file(&mut self, path: &Path, included_at: Option<&At>) -> Option<Rc<Node>> {
        let name = path.to_string_lossy().into_owned();
        let bytes = match self.context.read(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                match included_at {
                    Some(at) => self.context.error("BW107", at, format!("`{name}` cannot be read: {error}"), None),
                    None => self.context.about_file(&name, "BW107", format!("the file cannot be read: {error}"), None),
                }
                return None;
            }
        };
        self.digest.update(&bytes);
        if bytes.len() > yaml::MAX_FILE_BYTES {
            self.context.about_file(&name, "BW105", "the file is larger than 4 MiB".to_owned(), None);
            return None;
        }
        let file = self.context.files.len();
        let (text, not_text) = match Text::decode(&bytes) {
            Ok(text) => (text, None),
            Err(not_text) => (not_text.readable, Some((not_text.offset, not_text.message))),
        };
        let parsed = not_text.is_none().then(|| yaml::parse(file, &text));
        self.context.files.push(File { name, path: path.to_owned(), text });
        if let Some((offset, message)) = not_text {
            let at = At { place: Place { file, offset }, ..top_of(file) };
            self.context.error("BW101", &at, message, None);
        }
        let parsed = parsed?;
        for fault in parsed.faults {
            let at = At { place: Place { file, offset: fault.offset }, used_at: None, path: fault.path.into() };
            self.context.error(fault.code, &at, fault.message, fault.help);
        }
        parsed.root
    }

    /// The files that a tree includes, relative to its own.
    fn includes(&self, tree: &Rc<Node>) -> Vec<(PathBuf, At)> {
        let Value::Mapping(entries) = &tree.value else { return Vec::new() };
        let Some(entry) = entries.iter().find(|entry| entry.key == "include") else { return Vec::new() };
        let at = At { place: entry.value.at, used_at: None, path: "include".into() };
        let item = super::item::Item { context: &self.context, node: Rc::clone(&entry.value), at };
        let resolve =
            |path: super::context::Located<String>| (self.context.resolve(path.at.place.file, &path.value), path.at);
        item.strings().into_iter().map(resolve).collect()
    }

    /// Lists are extended, mappings merged, a scalar that changes an earlier one wins with a warning.
    fn merge(&self, base: &Rc<Node>, addition: &Rc<Node>, path: &str) -> Rc<Node> {
        match (&base.value, &addition.value) {
            (Value::Mapping(own), Value::Mapping(more)) => {
                let mut entries: Vec<Entry> = own.clone();
                for entry in more.iter().filter(|entry| !(path.is_empty() && entry.key == "include")) {
                    let path = child_path(path, &entry.key);
                    match entries.iter_mut().find(|known| known.key == entry.key) {
                        Some(known) => known.value = self.merge(&known.value, &entry.value, &path),
                        None => entries.push(entry.clone()),
                    }
                }
                Node::joined(base.at, Value::Mapping(entries))
            }
            (Value::Sequence(own), Value::Sequence(more)) => {
                Node::joined(base.at, Value::Sequence(own.iter().chain(more).cloned().collect()))
            }
            (_, Value::Null) => Rc::clone(base),
            (Value::Scalar { text: own, .. }, Value::Scalar { text: more, .. }) if own == more => Rc::clone(base),
            (Value::Null, _) => Rc::clone(addition),
            (Value::Scalar { .. } | Value::Sequence(_) | Value::Mapping(_) | Value::Refused, _) => {
                let at = At { place: addition.at, used_at: None, path: path.into() };
                let (line, _) = self.context.files[base.at.file].text.position(base.at.offset);
                let message = format!("this overrides {}, line {line}", self.context.files[base.at.file].name);
                self.context.warning("BW107", &at, message, None);
                Rc::clone(addition)
            }
        }
    }
}
