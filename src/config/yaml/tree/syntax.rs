//! What is wrong with a text that is no YAML, in words that help.

use super::super::super::text::Text;

/// The second `---`, or the first if something stands before it.
pub(super) fn second_document(text: &Text) -> usize {
    let mut has_content = false;
    let mut offset = 0;
    for line in text.text.split_inclusive('\n') {
        let is_marker = line.starts_with("---") && line[3..].chars().next().is_none_or(char::is_whitespace);
        if is_marker && has_content {
            return offset;
        }
        let trimmed = line.trim();
        has_content |= is_marker || !(trimmed.is_empty() || trimmed.starts_with(['#', '%']));
        offset += line.len();
    }
    text.text.len()
}

/// How to mend what the parser says of the text at `offset`, where that is known.
pub(super) fn help(text: &Text, message: &str, offset: usize) -> Option<&'static str> {
    let start = text.text[..offset].rfind('\n').map_or(0, |at| at + 1);
    let line = text.text[start..].lines().next().unwrap_or_default();
    let before = text.text[..start].lines().next_back().unwrap_or_default();
    let has_placeholder = |line: &str| line.contains("${") && line.contains(['{', '[', ',']);
    if line.trim_start_matches(' ').starts_with('\t')
        || message.contains("cannot start any token") && line.contains('\t')
    {
        return Some("indent with spaces, not tabs");
    }
    if message.contains("alias") {
        return Some("a value that begins with `*` must be quoted: `\"*\"`");
    }
    if message.contains("expected ','") && (has_placeholder(line) || has_placeholder(before)) {
        return Some("quote placeholders within `[…]` and `{…}`: `\"${X}\"`");
    }
    if message.contains("mapping values are not allowed") {
        return Some("quote a value that holds `: `, or mend the indentation");
    }
    if message.contains("expected key") || message.contains("expected '-'") || message.contains("block end") {
        return Some("mend the indentation: entries of one mapping or list begin in the same column");
    }
    None
}
