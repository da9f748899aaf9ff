//! Placeholders in scalar values: `${X}`, `${X:-d}`, `${X:?m}`, `${file:…}`, `os.environ/X`, `$$`. Pure but for the look-ups
//! it is handed.
//!
//! Expanded once: what a variable or a file holds is never read again as a placeholder.

/// Where variables and secret files come from.
pub(super) trait Lookup {
    /// A variable's value.
    fn variable(&self, name: &str) -> Option<String>;
    /// A file's content, trimmed; a sentence if it cannot be had.
    fn file(&self, path: &str) -> Result<String, String>;
    /// Whether neither can be had, so that a placeholder stands for itself.
    fn is_blind(&self) -> bool {
        false
    }
}

/// Whether a value that was read blindly is a placeholder still: nobody knows what it will be.
pub(super) fn is_opaque(text: &str) -> bool {
    text.contains("${")
}

/// A scalar after expansion.
#[derive(Debug, PartialEq)]
pub(super) struct Expanded {
    /// The value.
    pub(super) text: String,
    /// Where it comes from.
    pub(super) origin: Origin,
}

/// Where a value comes from, without the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// As written.
    Literal,
    /// One variable and nothing else.
    Variable(String),
    /// One file and nothing else.
    File(String),
    /// Text with placeholders in it.
    Template,
}

/// Why a placeholder cannot be expanded.
#[derive(Debug, PartialEq)]
pub(super) struct Failure {
    /// BW301 to BW304.
    pub(super) code: &'static str,
    /// Byte in the scalar's text that it is about.
    pub(super) at: usize,
    /// What is wrong.
    pub(super) message: String,
    /// The mend.
    pub(super) help: Option<String>,
}

/// The way to name a variable that LiteLLM knows.
const OS_ENVIRON: &str = "os.environ/";
/// Deepest nesting of defaults within defaults.
const MAX_NESTING: usize = 8;

/// Expands a scalar. `None`: the key counts as absent (`${X:-}` with nothing in X).
pub(super) fn expand(text: &str, lookup: &dyn Lookup) -> Result<Option<Expanded>, Failure> {
    if let Some(name) = text.strip_prefix(OS_ENVIRON) {
        let text = required(name, 0, lookup)?;
        return Ok(Some(Expanded { text, origin: Origin::Variable(name.to_owned()) }));
    }
    let pieces = pieces(text, 0, 0, lookup)?;
    let is_single = pieces.len() == 1;
    let mut origin = match pieces.iter().all(|piece| piece.origin == Origin::Literal) {
        true => Origin::Literal,
        false => Origin::Template,
    };
    if is_single && let Some(piece) = pieces.first() {
        origin = piece.origin.clone();
    }
    let whole: String = pieces.iter().map(|piece| piece.text.as_str()).collect();
    match whole.is_empty() && origin != Origin::Literal {
        true => Ok(None),
        false => Ok(Some(Expanded { text: whole, origin })),
    }
}

/// Whether a text mentions LiteLLM's form where it is not expanded.
pub(super) fn has_stray_environ(text: &str) -> bool {
    text.find(OS_ENVIRON).is_some_and(|at| at > 0)
}

/// Other programs' placeholders, which nobody expands here: `$X`, `%X%`, `{{X}}`, `<your-key>`.
pub(super) fn looks_unexpanded(text: &str) -> bool {
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
    };
    text.strip_prefix('$').is_some_and(is_name)
        || text.strip_prefix('%').and_then(|rest| rest.strip_suffix('%')).is_some_and(is_name)
        || text.starts_with("{{") && text.ends_with("}}")
        || text.starts_with('<') && text.ends_with('>')
}

fn pieces(text: &str, base: usize, depth: usize, lookup: &dyn Lookup) -> Result<Vec<Expanded>, Failure> {
    let mut pieces: Vec<Expanded> = Vec::new();
    let literal = |pieces: &mut Vec<Expanded>, text: &str| match pieces.last_mut() {
        Some(Expanded { text: last, origin: Origin::Literal }) => last.push_str(text),
        _ if text.is_empty() => {}
        _ => pieces.push(Expanded { text: text.to_owned(), origin: Origin::Literal }),
    };
    let mut at = 0;
    while let Some(found) = text[at..].find('$').map(|offset| at + offset) {
        literal(&mut pieces, &text[at..found]);
        let rest = &text[found + 1..];
        at = match rest.chars().next() {
            Some('$') => {
                literal(&mut pieces, "$");
                found + 2
            }
            Some('{') => {
                let Some(length) = closing(&rest[1..]) else {
                    return Err(malformed(base + found, "`${` is not closed"));
                };
                pieces.push(one(&rest[1..=length], base + found, depth, lookup)?);
                found + length + 3
            }
            Some(_) | None => {
                literal(&mut pieces, "$");
                found + 1
            }
        };
    }
    literal(&mut pieces, &text[at..]);
    Ok(pieces)
}

/// Length of a placeholder's inside, nested ones included.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut before = '\0';
    for (at, character) in text.char_indices() {
        match character {
            '{' if before == '$' => depth += 1,
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
        before = character;
    }
    None
}

/// Expands the inside of one `${…}`.
fn one(inside: &str, at: usize, depth: usize, lookup: &dyn Lookup) -> Result<Expanded, Failure> {
    if depth >= MAX_NESTING {
        return Err(malformed(at, "placeholders are nested too deeply"));
    }
    let nested = |text: &str| -> Result<String, Failure> {
        Ok(pieces(text, at, depth + 1, lookup)?.iter().map(|piece| piece.text.as_str()).collect())
    };
    if let Some(path) = inside.strip_prefix("file:") {
        let path = nested(path)?;
        if lookup.is_blind() {
            return Ok(Expanded { text: format!("${{file:{path}}}"), origin: Origin::File(path) });
        }
        let text = lookup.file(&path).map_err(|message| Failure { code: "BW304", at, message, help: None })?;
        return Ok(Expanded { text, origin: Origin::File(path) });
    }
    let end = inside.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(inside.len());
    let (name, rest) = inside.split_at(end);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(malformed(at, &format!("`${{{inside}}}` names no variable")));
    }
    let origin = Origin::Variable(name.to_owned());
    let value = lookup.variable(name).filter(|value| !value.is_empty());
    if rest.is_empty() {
        return Ok(Expanded { text: required(name, at, lookup)?, origin });
    }
    if let Some(default) = rest.strip_prefix(":-") {
        return match value {
            Some(text) => Ok(Expanded { text, origin }),
            None => Ok(Expanded { text: nested(default)?, origin }),
        };
    }
    if let Some(message) = rest.strip_prefix(":?") {
        let message = format!("`{name}` is not set: {message}");
        let value = value.or_else(|| lookup.is_blind().then(|| format!("${{{name}}}")));
        return value.map(|text| Expanded { text, origin }).ok_or(Failure { code: "BW301", at, message, help: None });
    }
    // The inside may hold a secret default behind a mistyped operator, so only the name is shown.
    Err(malformed(at, &format!("after `{name}` only `:-default` or `:?message` may follow")))
}

fn required(name: &str, at: usize, lookup: &dyn Lookup) -> Result<String, Failure> {
    let help = |what: &str| Some(format!("{what} it, or give a default: `${{{name}:-…}}`"));
    match lookup.variable(name) {
        Some(text) if !text.is_empty() => Ok(text),
        Some(_) | None if lookup.is_blind() => Ok(format!("${{{name}}}")),
        Some(_) => {
            Err(Failure { code: "BW302", at, message: format!("the variable `{name}` is empty"), help: help("fill") })
        }
        None => {
            Err(Failure { code: "BW301", at, message: format!("the variable `{name}` is not set"), help: help("set") })
        }
    }
}

fn malformed(at: usize, message: &str) -> Failure {
    let help = "forms are ${X}, ${X:-default}, ${X:?message}, ${file:/path}; quote a default with `: ` or ` #`, and any \
                placeholder within `[…]` or `{…}`; `$$` is a dollar sign";
    Failure { code: "BW303", at, message: message.to_owned(), help: Some(help.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixture;

    impl Lookup for Fixture {
        fn variable(&self, name: &str) -> Option<String> {
            match name {
                "A" => Some("alpha".to_owned()),
                "DOLLAR" => Some("${A}".to_owned()),
                "EMPTY" => Some(String::new()),
                "DIR" => Some("/run".to_owned()),
                _ => None,
            }
        }
        fn file(&self, path: &str) -> Result<String, String> {
            if path == "/run/key" { Ok("filed".to_owned()) } else { Err(format!("cannot read {path}")) }
        }
    }

    /// The value and its origin, `absent`, or `code@byte`.
    fn said(text: &str) -> String {
        match expand(text, &Fixture) {
            Ok(None) => "absent".to_owned(),
            Ok(Some(Expanded { text, origin })) => format!("{text} {origin:?}"),
            Err(failure) => format!("{}@{}", failure.code, failure.at),
        }
    }

    #[test]
    fn every_form() {
        let table = [
            ("plain", "plain Literal"),
            ("${A}", "alpha Variable(\"A\")"),
            ("x-${A}-${A}", "x-alpha-alpha Template"),
            ("os.environ/A", "alpha Variable(\"A\")"),
            ("os.environ/NONE", "BW301@0"),
            ("${NONE}", "BW301@0"),
            ("x ${EMPTY}", "BW302@2"),
            ("${NONE:-d}", "d Variable(\"NONE\")"),
            ("${EMPTY:-d}", "d Variable(\"EMPTY\")"),
            ("${NONE:-${A}}", "alpha Variable(\"NONE\")"),
            ("${NONE:-${ALSO:-e}x}", "ex Variable(\"NONE\")"),
            ("${NONE:-}", "absent"),
            ("${NONE:?say it}", "BW301@0"),
            ("${A:?say it}", "alpha Variable(\"A\")"),
            ("${file:/run/key}", "filed File(\"/run/key\")"),
            ("${file:${DIR}/key}", "filed File(\"/run/key\")"),
            ("${file:/none}", "BW304@0"),
            ("$$", "$ Literal"),
            ("$${A}", "${A} Literal"),
            ("pa$word$", "pa$word$ Literal"),
            ("${DOLLAR}", "${A} Variable(\"DOLLAR\")"),
            ("a ${}", "BW303@2"),
            ("${1X}", "BW303@0"),
            ("${X:y}", "BW303@0"),
            ("ü${X", "BW303@2"),
            ("", " Literal"),
        ];
        for (text, expected) in table {
            assert_eq!(said(text), expected, "{text}");
        }
    }

    #[test]
    fn failures_name_the_variable_and_never_a_default() {
        let failure = expand("${KEY:sk-secret}", &Fixture).unwrap_err();
        assert!(failure.message.contains("KEY") && !failure.message.contains("sk-secret"));
        assert!(expand("${NONE}", &Fixture).unwrap_err().message.contains("NONE"));
        assert!(expand("${NONE:?ask Ann}", &Fixture).unwrap_err().message.contains("ask Ann"));
    }

    #[test]
    fn other_programs_placeholders_are_noticed() {
        for text in ["$OPENAI_API_KEY", "%KEY%", "{{ key }}", "<your-key>"] {
            assert!(looks_unexpanded(text), "{text}");
        }
        for text in ["pa$word", "sk-abc", "100%", "$", "a<b>"] {
            assert!(!looks_unexpanded(text), "{text}");
        }
        assert!(has_stray_environ("Bearer os.environ/X") && !has_stray_environ("os.environ/X"));
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(text in "[A${}:\\-?ü/]{0,24}") {
            let _ = expand(&text, &Fixture);
        }
    }
}
