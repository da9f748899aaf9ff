//! How values are written: as the YAML would have them.

use std::fmt::Display;
use std::time::Duration;

use super::super::policy;
use crate::error::ErrorSet;

/// Whole of a ratio kept in 1/10 000.
const WHOLE: u32 = 10_000;

/// What stands for a secret that no reference names.
pub(super) const REDACTED: &str = "[redacted]";

/// A value or `off`.
pub(super) fn or_off<T: Display>(value: Option<T>) -> String {
    value.map_or_else(|| "off".to_owned(), |value| value.to_string())
}

/// A span, in the words of a file.
pub(super) fn time(span: Duration) -> String {
    policy::show(span)
}

/// A span or `off`.
pub(super) fn times(span: Option<Duration>) -> String {
    or_off(span.map(time))
}

/// A ratio kept in 1/10 000, as a decimal.
pub(super) fn ratio(share: u32) -> f64 {
    f64::from(share) / f64::from(WHOLE)
}

/// Bytes, in the largest unit that keeps them whole.
pub(super) fn size(bytes: usize) -> String {
    match bytes {
        0 => "0".to_owned(),
        bytes if bytes.is_multiple_of(1 << 20) => format!("{}MiB", bytes >> 20),
        bytes if bytes.is_multiple_of(1 << 10) => format!("{}KiB", bytes >> 10),
        bytes => bytes.to_string(),
    }
}

/// A range of statuses.
pub(super) fn statuses(first: u16, last: u16) -> String {
    match (first % 100, last.saturating_sub(first)) {
        (0, 99) => format!("{}xx", first / 100),
        (_, 0) => first.to_string(),
        _ => format!("{first}-{last}"),
    }
}

/// A list in one line.
pub(super) fn list<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| word(item.as_ref())).collect();
    format!("[{}]", items.join(", "))
}

/// A word as YAML takes it, within `[…]` as well: in quotes where something in it would mean something.
pub(in crate::config) fn word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
    let is_other = matches!(
        text.to_ascii_lowercase().as_str(),
        "" | "~" | "null" | "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n"
    );
    match text.chars().all(is_plain) && text.starts_with(|c: char| c.is_ascii_alphanumeric()) && !is_other {
        true => text.to_owned(),
        // JSON's strings are YAML's.
        false => serde_json::Value::from(text).to_string(),
    }
}

/// Error types in one line.
pub(super) fn errors(set: &ErrorSet) -> String {
    list(set.iter().map(|kind| kind.name()))
}

/// How a credential is named where it may be read: by its placeholder, never by its value.
pub(in crate::config) fn reference(reference: &str) -> String {
    match reference.split_once(':') {
        Some(("env", name)) => format!("${{{name}}}"),
        Some(("file", path)) => format!("${{file:{path}}}"),
        Some(_) | None => REDACTED.to_owned(),
    }
}
