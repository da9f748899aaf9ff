//! What all stages of one load share: the files, the problems met so far, the secrets to hide, the inputs to watch.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use sha2::{Digest, Sha256};

use super::inputs::Inputs;
use super::placeholder::{Lookup, Origin, is_opaque};
use super::problem::{MAX_SHOWN, Problem, Severity};
use super::redact::{names_secret, redact, redact_words};
use super::source::Source;
use super::text::{Place, Text};

/// Largest secret file. Keys and tokens take a few KiB at most.
const MAX_SECRET_BYTES: usize = 64 << 10;

/// One loaded file.
pub(super) struct File {
    /// As it was named.
    pub(super) name: String,
    /// Where it is.
    pub(super) path: PathBuf,
    /// What it says.
    pub(super) text: Text,
}

/// A place in the configuration that a problem can point at.
#[derive(Clone, Debug)]
pub(super) struct At {
    /// The byte.
    pub(super) place: Place,
    /// Where an alias brought it in, if one did.
    pub(super) used_at: Option<Place>,
    /// YAML path.
    pub(super) path: Rc<str>,
}

/// A value and where it was written.
#[derive(Clone, Debug)]
pub(super) struct Located<T> {
    /// The value.
    pub(super) value: T,
    /// Where it was written.
    pub(super) at: At,
}

impl<T> Located<T> {
    /// The same place with another value.
    pub(super) fn map<U>(self, change: impl FnOnce(T) -> U) -> Located<U> {
        Located { value: change(self.value), at: self.at }
    }
}

/// A secret and the name of where it comes from.
#[derive(Clone)]
pub(super) struct Secret {
    /// The secret.
    pub(super) key: super::ApiKey,
    /// Such as `env:OPENAI_API_KEY`; for a literal its fingerprint. Holds no secret.
    pub(super) reference: String,
}

/// Shared by all stages of one load.
pub(super) struct Context<'s> {
    source: &'s dyn Source,
    /// All files in the order they were loaded.
    pub(super) files: Vec<File>,
    problems: RefCell<Vec<(Option<Place>, Problem)>>,
    /// What has been said, so that a shared anchor or route is not complained about twice.
    said: RefCell<HashSet<(Place, &'static str, String)>>,
    secrets: RefCell<Vec<String>>,
    inputs: RefCell<Inputs>,
    declared: RefCell<HashMap<String, String>>,
    ignored: RefCell<Vec<String>>,
}

impl<'s> Context<'s> {
    /// Begins a load.
    pub(super) fn new(source: &'s dyn Source) -> Self {
        Self {
            source,
            files: Vec::new(),
            problems: RefCell::default(),
            said: RefCell::default(),
            secrets: RefCell::default(),
            inputs: RefCell::default(),
            declared: RefCell::default(),
            ignored: RefCell::default(),
        }
    }

    /// Reads a file and remembers it for the watcher.
    pub(super) fn read(&self, path: &Path) -> std::io::Result<Vec<u8>> {
        let read = self.source.read(path);
        self.inputs.borrow_mut().note(path, &read);
        read
    }

    /// Whether that value is a placeholder whose value is not to be had.
    pub(super) fn is_opaque(&self, text: &str) -> bool {
        self.is_blind() && is_opaque(text)
    }

    /// Whether variables and secret files are not to be had.
    pub(super) fn is_blind(&self) -> bool {
        self.source.is_blind()
    }

    /// Makes `environment_variables` known: looked up before the process environment, never exported.
    pub(super) fn declare(&self, name: String, value: String) {
        self.declared.borrow_mut().insert(name, value);
    }

    /// A variable's value; an empty one counts as set.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        let declared = self.declared.borrow().get(name).cloned();
        let value = declared.or_else(|| self.source.variable(name));
        if let Some(secret) = value.as_ref().filter(|_| names_secret(name)) {
            self.hide(secret);
        }
        value
    }

    /// A path as the declaring file means it.
    pub(super) fn resolve(&self, file: usize, path: &str) -> PathBuf {
        match self.files.get(file).and_then(|file| file.path.parent()) {
            Some(directory) => directory.join(path),
            None => PathBuf::from(path),
        }
    }

    /// The placeholders' look-ups for a scalar of that file.
    pub(super) fn lookup(&self, file: usize) -> FileLookup<'_, 's> {
        FileLookup { context: self, file }
    }

    /// Registers a secret, so that no shown line holds it.
    pub(super) fn hide(&self, secret: &str) {
        self.secrets.borrow_mut().push(secret.to_owned());
    }

    /// A secret with the name of where it comes from. `written` is the scalar before expansion.
    pub(super) fn secret(&self, text: &str, origin: &Origin, written: &str) -> Secret {
        self.hide(text);
        let reference = match origin {
            Origin::Variable(name) => format!("env:{name}"),
            Origin::File(path) => format!("file:{path}"),
            Origin::Literal => format!("literal:{}", self.fingerprint(text)),
            Origin::Template => format!("template:{}", self.fingerprint(written)),
        };
        Secret { key: super::ApiKey::new(text), reference }
    }

    fn fingerprint(&self, text: &str) -> String {
        let digest = Sha256::new().chain_update(self.source.fingerprint_key()).chain_update(text).finalize();
        digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Paths of protective keys that are knowingly ignored.
    pub(super) fn ignore(&self, paths: Vec<String>) {
        *self.ignored.borrow_mut() = paths;
    }

    /// Whether a protective key at that path is knowingly ignored; indices may be left out (`model_list[]`).
    pub(super) fn is_ignored(&self, path: &str) -> bool {
        let mut bare = String::new();
        let mut is_inside = false;
        for c in path.chars() {
            is_inside = if is_inside { c != ']' } else { c == '[' };
            if !is_inside || c == '[' {
                bare.push(c);
            }
        }
        self.ignored.borrow().iter().any(|known| known == path || *known == bare)
    }

    /// Says that the configuration cannot be used.
    pub(super) fn error(&self, code: &'static str, at: &At, message: impl Into<String>, help: Option<String>) {
        self.say(Severity::Error, code, at, message.into(), help);
    }

    /// Says that something is suspicious.
    pub(super) fn warning(&self, code: &'static str, at: &At, message: impl Into<String>, help: Option<String>) {
        self.say(Severity::Warning, code, at, message.into(), help);
    }

    /// Says something worth knowing.
    pub(super) fn note(&self, code: &'static str, at: &At, message: impl Into<String>, help: Option<String>) {
        self.say(Severity::Note, code, at, message.into(), help);
    }

    /// Says something, unless it has been said.
    pub(super) fn say(&self, severity: Severity, code: &'static str, at: &At, message: String, help: Option<String>) {
        let file = self.files[at.place.file].name.clone();
        let message = match at.used_at {
            None => message,
            Some(used) => {
                let (line, column) = self.files[used.file].text.position(used.offset);
                format!("{message} (used at {line}:{column})")
            }
        };
        if !self.said.borrow_mut().insert((at.place, code, message.clone())) {
            return;
        }
        let problem = Problem { severity, code, path: at.path.to_string(), file, line: 0, column: 0, message, help };
        self.problems.borrow_mut().push((Some(at.place), problem));
    }

    /// Says something about a file as a whole.
    pub(super) fn about_file(&self, name: &str, code: &'static str, message: String, help: Option<String>) {
        let problem = Problem {
            severity: Severity::Error,
            code,
            path: String::new(),
            file: name.to_owned(),
            line: 0,
            column: 0,
            message,
            help,
        };
        self.problems.borrow_mut().push((None, problem));
    }

    /// Whether so much has been said that suggestions, which cost, are not worth their while.
    pub(super) fn is_full(&self) -> bool {
        self.problems.borrow().len() >= MAX_SHOWN
    }

    /// Whether anything said so far is an error.
    pub(super) fn has_errors(&self) -> bool {
        self.problems.borrow().iter().any(|(_, problem)| problem.severity == Severity::Error)
    }

    /// Everything said, sorted by file and position, and the text of the files concerned without secrets.
    pub(super) fn finish(self) -> (Vec<Problem>, BTreeMap<String, String>, Inputs) {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|(place, _)| *place);
        for (place, problem) in &mut problems {
            if let Some(place) = place {
                (problem.line, problem.column) = self.files[place.file].text.position(place.offset);
            }
        }
        let secrets = self.secrets.into_inner();
        for (_, problem) in &mut problems {
            redact_words(&mut problem.message, &secrets);
            problem.help.iter_mut().for_each(|help| redact_words(help, &secrets));
        }
        let source = |file: &File| {
            let of_file = problems.iter().take(MAX_SHOWN).filter(|(_, problem)| problem.file == file.name);
            let shown: BTreeSet<usize> = of_file.map(|(_, problem)| problem.line as usize).collect();
            (!shown.is_empty()).then(|| (file.name.clone(), redact(&file.text, &secrets, &shown)))
        };
        let sources = self.files.iter().filter_map(source).collect();
        (problems.into_iter().map(|(_, problem)| problem).collect(), sources, self.inputs.into_inner())
    }
}

/// Look-ups for scalars of one file, whose relative paths begin beside it.
pub(super) struct FileLookup<'c, 's> {
    context: &'c Context<'s>,
    file: usize,
}

impl Lookup for FileLookup<'_, '_> {
    fn variable(&self, name: &str) -> Option<String> {
        self.context.variable(name)
    }

    fn is_blind(&self) -> bool {
        self.context.is_blind()
    }

    fn file(&self, path: &str) -> Result<String, String> {
        let bytes = self.context.read(&self.context.resolve(self.file, path));
        let bytes = bytes.map_err(|error| format!("the secret file `{path}` cannot be read: {error}"))?;
        if bytes.len() > MAX_SECRET_BYTES {
            return Err(format!("the secret file `{path}` is larger than 64 KiB"));
        }
        let text = String::from_utf8(bytes).map_err(|_| format!("the secret file `{path}` is not UTF-8"))?;
        match text.trim() {
            "" => Err(format!("the secret file `{path}` is empty")),
            text => Ok(text.to_owned()),
        }
    }
}
