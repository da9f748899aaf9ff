//! The rules of the house that no compiler knows: a walk over `src/` that says `path:line: what, and what to do`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The rooms from the top down. A room imports those below it; rooms of one line do not import each other.
const ROOMS: [&[&str]; 9] = [
    &["cli"],
    &["server"],
    &["supervisor"],
    &["health", "tokens"],
    &["proxy"],
    &["provider", "router"],
    &["backend"],
    &["config"],
    &["error"],
];

/// Rooms that stand beside the list, and what they may import.
const BESIDE: [(&str, &[&str]); 4] =
    [("telemetry", &["config", "error", "clock"]), ("clock", &[]), ("simulator", &["clock"]), ("certificate", &[])];

/// Who may import a room that stands beside the list: all but these.
const NOT_FOR: [(&str, &[&str]); 4] = [
    ("certificate", &["error", "simulator", "telemetry"]),
    ("telemetry", &["config", "error", "clock", "simulator"]),
    ("clock", &["error", "config"]),
    // It stands alone, so that one mistake cannot hide the other.
    (
        "simulator",
        &["server", "supervisor", "health", "proxy", "provider", "router", "backend", "config", "error", "telemetry"],
    ),
];

/// Imports that point elsewhere: room, what it imports, why.
const IMPORTS: [(&str, &str, &str); 1] =
    [("router", "provider", "a candidate of the table carries the target that its backend is spoken to by")];

/// Files without IO, clock or global randomness.
const PURE: [&str; 38] = [
    "backend/endpoint.rs",
    "backend/health.rs",
    "backend/latency.rs",
    "backend/ledger.rs",
    "backend/machine.rs",
    "backend/machine/checks.rs",
    "backend/outcome.rs",
    "backend/quota.rs",
    "backend/scope.rs",
    "backend/status.rs",
    "backend/status/rejection.rs",
    "backend/status/word.rs",
    "backend/times.rs",
    "error.rs",
    "health/listing.rs",
    "health/schedule.rs",
    "proxy/budget.rs",
    "proxy/classify.rs",
    "proxy/ending.rs",
    "proxy/error_fields.rs",
    "proxy/failure.rs",
    "proxy/final_error.rs",
    "proxy/forward.rs",
    "proxy/hint.rs",
    "proxy/json.rs",
    "proxy/multipart.rs",
    "proxy/operation.rs",
    "proxy/request.rs",
    "proxy/restamp.rs",
    "proxy/rewrite.rs",
    "proxy/trail.rs",
    "router/hedge_budget.rs",
    "router/picker.rs",
    "router/plan.rs",
    "router/retry_budget.rs",
    "router/window.rs",
    "supervisor/probation.rs",
    "tokens/renewal.rs",
];

/// Folders whose files are all pure.
const PURE_FOLDERS: [&str; 4] = ["backend/circuit_breaker", "config", "proxy/sse", "provider"];

/// Files in those folders that are shells: which, and what they are there for.
const SHELLS: [(&str, &str); 5] = [
    ("config/source.rs", "reads the disk and the environment, the one place that does"),
    ("config/watcher.rs", "hears file events on a thread of its own"),
    ("config/watcher/ears.rs", "the system's file events"),
    ("config/watcher/places.rs", "follows links on the disk"),
    ("provider/token.rs", "the cell of a token, whose readers wait for its first"),
];

/// What a pure file does not mention.
const IMPURE: [&str; 9] =
    ["actix", "actix_rt", "actix_web", "awc", "tokio", "prometheus", "tracing", "Instant::now", "SystemTime::now"];

/// Mentions in pure files that are fine: file, what, why.
const MENTIONS: [(&str, &str, &str); 3] = [
    ("provider.rs", "actix_web::http", "URIs and headers as plain values"),
    ("config/raw/litellm.rs", "\"prometheus\"", "the name of a LiteLLM callback"),
    ("proxy/forward.rs", "actix_web::http", "headers as plain values: which of them pass is all it decides"),
];

/// Files that begin without `//!`: which, and why.
const UNTITLED: [(&str, &str); 3] = [
    ("config/yaml/tests.rs", "the tests of yaml.rs, which tells"),
    ("proxy/request/tests.rs", "the tests of request.rs, which tells"),
    ("proxy/sse/stream/tests.rs", "the tests of stream.rs, which tells"),
];

/// File names that say nothing.
const NO_NAMES: [&str; 7] = ["utils", "common", "helpers", "types", "core", "manager", "mod"];

/// One file of `src/`.
struct Source {
    /// Below `src/`, with `/`.
    path: String,
    text: String,
}

impl Source {
    fn room(&self) -> &str {
        let first = self.path.split('/').next().unwrap_or_default();
        first.strip_suffix(".rs").unwrap_or(first)
    }

    /// Lines of code with their numbers, comments left out.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(index, line)| (index + 1, line));
        lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    /// Tests of pure files may bring what they like.
    fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.contains("/tests/")
    }

    fn is_pure(&self) -> bool {
        let is_in = |folder: &str| self.path.starts_with(&format!("{folder}/")) || self.path == format!("{folder}.rs");
        let is_listed = PURE.contains(&self.path.as_str()) || PURE_FOLDERS.iter().any(|folder| is_in(folder));
        let is_shell = SHELLS.iter().any(|(file, _)| *file == self.path);
        is_listed && !is_shell && !self.is_test()
    }
}

fn sources() -> Vec<Source> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&root, &mut found);
    found.sort();
    let source = |path: PathBuf| Source {
        path: path.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/"),
        text: std::fs::read_to_string(&path).unwrap(),
    };
    found.into_iter().map(source).collect()
}

/// Fails with everything that was found.
fn check(rule: impl Fn(&Source, &mut Vec<String>)) {
    let sources = sources();
    assert!(100 < sources.len(), "it walks the whole tree");
    let mut found = Vec::new();
    for source in &sources {
        rule(source, &mut found);
    }
    let told = found.iter().fold(String::new(), |mut told, line| {
        let _ = writeln!(told, "{line}");
        told
    });
    assert!(found.is_empty(), "\n{told}");
}

/// Whether `word` stands there as a word of its own.
fn mentions(line: &str, word: &str) -> bool {
    let is_part = |character: char| character.is_alphanumeric() || character == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

/// The rooms that a line of code names.
fn imports(line: &str) -> impl Iterator<Item = &str> {
    let after = line.match_indices("crate::").map(|(at, part)| &line[at + part.len()..]);
    after.map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default())
}

/// Whether a room may import another by the list.
fn may_import(room: &str, other: &str) -> bool {
    let level = |name: &str| ROOMS.iter().position(|rooms| rooms.contains(&name));
    let beside = BESIDE.iter().find(|(name, _)| *name == room);
    let closed = NOT_FOR.iter().find(|(name, _)| *name == other);
    match (level(room), level(other), beside, closed) {
        _ if room == other => true,
        (_, _, Some((_, allowed)), _) => allowed.contains(&other),
        (Some(_), _, None, Some((_, barred))) => !barred.contains(&room),
        (Some(from), Some(to), None, None) => from < to,
        (Some(_) | None, _, None, _) => false,
    }
}

#[test]
fn imports_point_down_the_list() {
    check(|source, found| {
        let room = source.room();
        if ["main", "lib"].contains(&room) {
            return;
        }
        for (number, line) in source.code() {
            for other in imports(line) {
                let is_listed = IMPORTS.iter().any(|(from, to, _)| (*from, *to) == (room, other));
                if !may_import(room, other) && !is_listed {
                    let path = &source.path;
                    found.push(format!(
                        "src/{path}:{number}: `{room}` imports `{other}`, which is not below it: move what is shared down, \
                         or hand it in at birth"
                    ));
                }
            }
        }
    });
}

#[test]
fn pure_files_stay_pure() {
    check(|source, found| {
        if !source.is_pure() {
            return;
        }
        let path = &source.path;
        let allowed = MENTIONS.iter().find(|(file, ..)| file == path).map(|(_, what, _)| *what);
        for (number, line) in source.code() {
            let rest = allowed.map_or(line.to_owned(), |what| line.replace(what, ""));
            for word in IMPURE.iter().filter(|word| mentions(&rest, word)) {
                found.push(format!(
                    "src/{path}:{number}: a pure file mentions `{word}`: take the value as an argument, or do it in the shell"
                ));
            }
        }
    });
    let sources = sources();
    for file in PURE {
        assert!(
            sources.iter().any(|source| source.path == file),
            "src/{file}:1: listed as pure and gone: strike it out"
        );
    }
}

#[test]
fn no_exception_outlives_its_reason() {
    let sources = sources();
    let text = |path: &str| sources.iter().find(|source| source.path == path).map_or("", |source| &source.text);
    let crosses = |room: &str, other: &str| {
        let of_room = sources.iter().filter(|source| source.room() == room);
        of_room.flat_map(Source::code).any(|(_, line)| imports(line).any(|import| import == other))
    };
    for (room, other, _) in IMPORTS {
        assert!(crosses(room, other), "tests/it/tidy.rs: `{room}` does not import `{other}` any more: strike it out");
    }
    for (path, what, _) in MENTIONS {
        assert!(text(path).contains(what), "tests/it/tidy.rs: {path} does not mention {what} any more: strike it out");
    }
    for path in UNTITLED.iter().chain(&SHELLS).map(|(path, _)| path) {
        assert!(!text(path).is_empty(), "tests/it/tidy.rs: {path} is gone: strike it out");
    }
    for (path, _) in UNTITLED {
        assert!(!text(path).starts_with("//! "), "tests/it/tidy.rs: {path} has its `//!`: strike it out");
    }
}

#[test]
fn every_file_says_why_it_exists() {
    check(|source, found| {
        let path = &source.path;
        let is_listed = UNTITLED.iter().any(|(file, _)| file == path);
        if !source.text.starts_with("//! ") && !is_listed {
            found.push(format!("src/{path}:1: no `//!` on top: say what the file is and why it exists"));
        }
    });
}

#[test]
fn file_names_say_what_is_inside() {
    check(|source, found| {
        for part in source.path.trim_end_matches(".rs").split('/').filter(|part| NO_NAMES.contains(part)) {
            let path = &source.path;
            found.push(format!("src/{path}:1: `{part}` says nothing: name the file by its noun"));
        }
    });
}

#[test]
fn metrics_are_named_in_one_place() {
    check(|source, found| {
        let path = &source.path;
        if path == "telemetry/names.rs" {
            return;
        }
        let tests = source.text.find("#[cfg(test)]").unwrap_or(source.text.len());
        let before = source.text[..tests].lines().count();
        for (number, line) in source.code().filter(|(number, _)| *number <= before) {
            if line.contains("\"breakwater_") {
                found.push(format!("src/{path}:{number}: a metric's name: put it into telemetry/names.rs"));
            }
        }
    });
}

#[test]
fn the_rules_know_right_from_wrong() {
    let table = [
        ("cli", "simulator", true),
        ("cli", "config", true),
        ("server", "proxy", true),
        ("proxy", "server", false),
        ("proxy", "supervisor", false),
        ("supervisor", "health", true),
        ("health", "proxy", true),
        ("proxy", "health", false),
        ("backend", "telemetry", true),
        ("backend", "router", false),
        ("config", "backend", false),
        ("config", "telemetry", false),
        ("error", "clock", false),
        ("simulator", "clock", true),
        ("simulator", "config", false),
        ("proxy", "simulator", false),
        ("telemetry", "config", true),
        ("telemetry", "proxy", false),
        ("proxy", "nothing_known", false),
    ];
    for (room, other, expected) in table {
        assert_eq!(may_import(room, other), expected, "{room} → {other}");
    }
    assert!(mentions("use tokio::time;", "tokio") && !mentions("to_tokio(at)", "tokio"));
    assert_eq!(
        imports("use crate::{a}; crate::clock::now(), crate::error").collect::<Vec<_>>(),
        ["", "clock", "error"]
    );
}
