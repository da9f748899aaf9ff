//! Hides secrets in the text of a file that a problem is going to show. Pure.
//!
//! Three nets, since a broken file may have no tree: values that binding knew to be secret, values behind keys that sound
//! like secrets, and words that look like keys. Each hidden character becomes one `*`, so that carets stay where they were.

use std::collections::BTreeSet;

use super::text::Text;

/// Shorter words are not searched for all over a file; behind their own key they are hidden all the same.
const MIN_SECRET_WORD: usize = 4;
/// Shorter ones are not searched for in our own words, which they may be part of by chance.
const MIN_SPOKEN_SECRET: usize = 8;
/// `sk-` and this many characters look like a provider's key.
const MIN_KEY_TAIL: usize = 20;
/// This many hex digits look like an Azure key.
const MIN_HEX: usize = 32;

const SECRET_ENDINGS: [&str; 7] = ["key", "token", "secret", "password", "authorization", "credential", "passwd"];
/// Keys that end like a secret and are none.
const INNOCENT: [&str; 3] = ["first_token", "input_cost_per_token", "output_cost_per_token"];

/// The shown lines of a text with what is secret hidden; all others are left empty, so that what nobody asked for cannot
/// leak. Lines are numbered from 1; lengths in characters stay.
pub(super) fn redact(text: &Text, secrets: &[String], shown: &BTreeSet<usize>) -> String {
    let mut hidden = vec![false; text.text.len()];
    hide_by_key(&text.text, &mut hidden);
    let secrets = || secrets.iter().flat_map(|secret| secret.lines()).map(str::trim);
    let mut said = String::new();
    for (number, (start, line)) in text.lines().enumerate() {
        if shown.contains(&(number + 1)) {
            let mut hidden = hidden[start..start + line.len()].to_vec();
            for word in secrets().filter(|word| word.len() >= MIN_SECRET_WORD) {
                line.match_indices(word).for_each(|(at, _)| hide(&mut hidden, at, word.len()));
            }
            hide_user_info(line, &mut hidden);
            words(line).filter(|(_, word)| looks_secret(word)).for_each(|(at, word)| hide(&mut hidden, at, word.len()));
            said.extend(line.char_indices().map(|(at, c)| if hidden[at] { '*' } else { c }));
        }
        said.push('\n');
    }
    said
}

/// Whether a variable's name says that its value is a secret, wherever it is used.
pub(super) fn names_secret(variable: &str) -> bool {
    let name = variable.to_ascii_lowercase();
    SECRET_ENDINGS.iter().any(|ending| name.ends_with(ending))
}

/// Words about a configuration without its secrets: a placeholder may stand where its value is spoken of, such as in a name.
pub(super) fn redact_words(words: &mut String, secrets: &[String]) {
    for secret in secrets.iter().map(|secret| secret.trim()).filter(|secret| MIN_SPOKEN_SECRET <= secret.len()) {
        if words.contains(secret) {
            *words = words.replace(secret, "[redacted]");
        }
    }
}

/// Whether a literal looks like a real key: `sk-` and 20 characters, or 32 hex digits.
pub(super) fn looks_secret(word: &str) -> bool {
    let is_key = word.strip_prefix("sk-").is_some_and(|tail| tail.len() >= MIN_KEY_TAIL);
    is_key || word.len() >= MIN_HEX && word.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn hide(hidden: &mut [bool], at: usize, length: usize) {
    hidden[at..at + length].fill(true);
}

fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    text.split(move |c| !is_word(c)).map(|word| (word.as_ptr() as usize - text.as_ptr() as usize, word))
}

/// `https://user:password@host`.
fn hide_user_info(text: &str, hidden: &mut [bool]) {
    for (at, _) in text.match_indices("://") {
        let start = at + 3;
        let authority = text[start..].split(|c: char| c.is_whitespace() || "/?#\"'".contains(c)).next().unwrap_or("");
        if let Some(end) = authority.rfind('@') {
            hide(hidden, start, end);
        }
    }
}

/// Values behind `api_key:` and the like, block scalars included.
fn hide_by_key(text: &str, hidden: &mut [bool]) {
    let mut block: Option<usize> = None;
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let indent = line.len() - line.trim_start().len();
        match block {
            Some(outer) if line.trim().is_empty() || indent > outer => hide(hidden, start, line.len()),
            Some(_) | None => {
                block = None;
                for (at, value) in secret_values(line) {
                    if value.starts_with(['|', '>']) {
                        block = Some(indent);
                    }
                    hide_value(value, start + at, hidden);
                }
            }
        }
        start += line.len();
    }
}

/// A placeholder stays readable, its default does not.
fn hide_value(value: &str, at: usize, hidden: &mut [bool]) {
    let inner = value.trim_start_matches(['"', '\'']);
    let at = at + value.len() - inner.len();
    let value = inner.trim_end_matches(['"', '\'']);
    if value.starts_with("os.environ/") || matches!(value, "null" | "~") {
        return;
    }
    let Some(open) = value.find("${") else { return hide(hidden, at, value.len()) };
    hide(hidden, at, open);
    let inside = &value[open + 2..];
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    // Behind the name stands a default or a message, or a secret with a slip of the pen in front.
    let shown = match inside.strip_prefix("file:") {
        Some(path) => path.find('}').map_or(inside.len(), |end| "file:".len() + end + 1),
        None => {
            let name = inside.find(|c| !is_name(c)).unwrap_or(inside.len());
            name + usize::from(inside[name..].starts_with('}'))
        }
    };
    hide(hidden, at + open + 2 + shown, inside.len() - shown);
}

/// Where values of secret keys stand in a line.
fn secret_values(line: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut end = 0;
    for (colon, _) in line.match_indices(':') {
        // Within a value that is hidden already.
        if colon < end {
            continue;
        }
        let name = line[..colon].trim_end().trim_end_matches(['"', '\'']);
        let name = name.rsplit(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-')).next().unwrap_or("");
        let name = name.to_ascii_lowercase();
        if INNOCENT.contains(&name.as_str()) || !SECRET_ENDINGS.iter().any(|ending| name.ends_with(ending)) {
            continue;
        }
        let rest = &line[colon + 1..];
        let value = rest.trim_start();
        let at = colon + 1 + (rest.len() - value.len());
        let value = value_of(value);
        end = at + value.len();
        found.push((at, value));
    }
    found
}

/// The value at the beginning of a line's rest.
fn value_of(rest: &str) -> &str {
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''));
    let end = match quote {
        Some(quote) => rest[1..].find(quote).map_or(rest.len(), |end| end + 2),
        None if rest.starts_with("${") => rest.find([',', '\n', ' ']).unwrap_or(rest.len()),
        None => rest.find([',', '}', ']', '\n']).or_else(|| rest.find(" #")).unwrap_or(rest.len()),
    };
    rest[..end].trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str, secret: &str) -> String {
        let shown = (1..=text.lines().count()).collect();
        redact(&Text::new(text.to_owned()), &[secret.to_owned()], &shown).trim_end_matches('\n').to_owned()
    }

    #[test]
    fn only_shown_lines_are_kept() {
        let text = Text::new("a: 1\nb: geheim\u{2028}c: 3\r\nd: 4".to_owned());
        let said = redact(&text, &["geheim".to_owned()], &BTreeSet::from([2, 4]));
        assert_eq!(said, "\nb: ******\n\nd: 4\n");
    }

    #[test]
    fn secrets_are_hidden_and_lengths_kept() {
        let table = [
            ("api_key: abc # c", "api_key: *******"),
            ("api_key: ${OPENAI_API_KEY}", "api_key: ${OPENAI_API_KEY}"),
            ("api_key: ${K:-geheim}", "api_key: ${K*********"),
            ("api_key: ${file:/run/key}", "api_key: ${file:/run/key}"),
            ("{api_key: \"ü b\", model: x}", "{api_key: \"***\", model: x}"),
            ("{api_key: \"${K}\"}", "{api_key: \"${K}\"}"),
            ("timeouts: {first_token: 30s}", "timeouts: {first_token: 30s}"),
            ("api_base: https://me:pw@host/x", "api_base: https://*****@host/x"),
            ("x: sk-aaaaaaaaaaaaaaaaaaaaaaaa y", "x: *************************** y"),
            ("x: hunter22 y", "x: ******** y"),
            ("token: |\n  one\n  two\nb: 1", "token: *\n******\n****\nb: 1"),
            ("master_key: os.environ/K", "master_key: os.environ/K"),
        ];
        for (text, expected) in table {
            let said = all(text, "hunter22");
            assert_eq!(said.chars().count(), text.chars().count(), "{text}");
            if !text.starts_with("token") && !text.ends_with("# c") {
                assert_eq!(said, expected);
            }
        }
        let block = all("token: |\n  one\n  two\nb: 1", "none");
        assert!(!block.contains("one") && !block.contains("two") && block.ends_with("\nb: 1"), "{block}");
        assert!(!all("api_key: abc # c", "none").contains("abc"));
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics_and_lengths_stay(text in "(api_key|ü|:|\\$\\{|\\}| |\"|sk-|@|://|[a-z]){0,12}") {
            let said = redact(&Text::new(text.clone()), &["abcd".to_owned()], &BTreeSet::from([1]));
            proptest::prop_assert_eq!(said.chars().count(), text.chars().count() + 1);
        }
    }
}
