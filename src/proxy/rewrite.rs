//! Splices a scanned body for one backend: a list of slices, never a second copy of a large body (spec/wire.md 2.3, 2.4).

use std::borrow::Cow;
use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use smallvec::{SmallVec, smallvec};

use super::json::{self, Members};
use super::request::RequestBody;

/// What one backend needs changed.
#[derive(Clone, Copy, Debug)]
pub struct Rewrite<'a> {
    /// What becomes of `model`.
    pub model: ModelRewrite<'a>,
    /// Whether `stream_options.include_usage` is set; the caller knows that the operation has it and that it streams.
    pub inject_usage: bool,
    /// Body fields added when the caller sent none of that name: name, and value as JSON text.
    pub defaults: &'a [(String, String)],
    /// Whether `priority` is removed (OpenAI and Azure).
    pub strip_priority: bool,
}

/// What becomes of `model`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelRewrite<'a> {
    /// All values become this; a body without one stays without.
    Replace(&'a str),
    /// All values become this; a body without one gets one (the route came from the path or a header).
    ReplaceOrAdd(&'a str),
}

/// A body to send: slices in order and how long they are together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// The slices; never empty.
    pub slices: SmallVec<[Bytes; 1]>,
    /// Their length together, in bytes: the content-length.
    pub length: usize,
}

impl Parts {
    /// One unchanged buffer.
    pub fn whole(bytes: Bytes) -> Self {
        Self { length: bytes.len(), slices: smallvec![bytes] }
    }
}

/// Bodies up to this size are joined, so that they leave in one write with the head (spec/wire.md 2.2).
const JOIN_BELOW: usize = 16 << 10;

/// One replacement: these bytes of the original become that text.
pub(super) struct Edit<'a> {
    pub(super) span: Range<usize>,
    pub(super) text: Cow<'a, str>,
}

/// Most bodies have their model replaced, and nothing else.
type Edits<'a> = SmallVec<[Edit<'a>; 1]>;

/// Applies edits that are sorted and do not overlap.
pub(super) fn splice(bytes: &Bytes, edits: &[Edit<'_>]) -> Parts {
    if edits.is_empty() {
        return Parts::whole(bytes.clone());
    }
    let removed: usize = edits.iter().map(|edit| edit.span.len()).sum();
    let added: usize = edits.iter().map(|edit| edit.text.len()).sum();
    let length = bytes.len() - removed + added;
    let mut at = 0;
    if length <= JOIN_BELOW {
        let mut joined = BytesMut::with_capacity(length);
        for edit in edits {
            joined.put_slice(&bytes[at..edit.span.start]);
            joined.put_slice(edit.text.as_bytes());
            at = edit.span.end;
        }
        joined.put_slice(&bytes[at..]);
        return Parts::whole(joined.freeze());
    }
    let mut slices = SmallVec::with_capacity(2 * edits.len() + 1);
    for edit in edits {
        slices.push(bytes.slice(at..edit.span.start));
        slices.push(Bytes::copy_from_slice(edit.text.as_bytes()));
        at = edit.span.end;
    }
    slices.push(bytes.slice(at..));
    slices.retain(|slice: &mut Bytes| !slice.is_empty());
    Parts { slices, length }
}

/// Whether a JSON string says it by the same bytes.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| (b' '..0x7f).contains(&byte) && byte != b'"' && byte != b'\\')
}

/// Text as a JSON string with its quotes.
pub(super) fn quote(text: &str) -> String {
    if is_plain(text) {
        let mut quoted = String::with_capacity(text.len() + 2);
        quoted.push('"');
        quoted.push_str(text);
        quoted.push('"');
        return quoted;
    }
    serde_json::Value::from(text).to_string()
}

impl RequestBody {
    /// The body for one backend, spliced from the original bytes; the same single buffer if nothing changes.
    pub fn rewrite(&self, rewrite: &Rewrite<'_>) -> Parts {
        let mut edits = Edits::new();
        let mut appended = String::new();
        self.edit_model(rewrite.model, &mut edits, &mut appended);
        let removed = self.edit_removed(rewrite.strip_priority, &mut edits);
        if rewrite.inject_usage && !self.asks_usage() {
            self.edit_usage(&mut edits, &mut appended);
        }
        if !rewrite.defaults.is_empty() {
            self.append_defaults(rewrite, &mut appended);
        }
        edits.sort_by_key(|edit| edit.span.start);
        if !appended.is_empty() {
            // Each appended member begins with a comma; an object left without members wants none before the first.
            let is_bare = self.member_count == removed;
            let text = if is_bare { appended.split_off(1) } else { appended };
            edits.push(Edit { span: self.close..self.close, text: text.into() });
        }
        splice(&self.bytes, &edits)
    }

    fn edit_model<'a>(&self, model: ModelRewrite<'a>, edits: &mut Edits<'a>, appended: &mut String) {
        let (ModelRewrite::Replace(name) | ModelRewrite::ReplaceOrAdd(name)) = model;
        for span in &self.models {
            if json::string(&self.bytes[span.clone()]).is_none_or(|text| text != name) {
                edits.push(replacing(&self.bytes, span.clone(), name));
            }
        }
        if self.models.is_empty() && matches!(model, ModelRewrite::ReplaceOrAdd(_)) {
            append(appended, "model", &quote(name));
        }
    }

    /// Cuts each member with exactly one comma: the one before it, or the one after it while nothing is kept before it.
    fn edit_removed(&self, strip_priority: bool, edits: &mut Edits<'_>) -> usize {
        let mut removed = 0;
        for entry in self.removable.iter().filter(|entry| strip_priority || !entry.is_priority) {
            let (key, value) = (&entry.member.key, &entry.member.value);
            let span = match entry.member.comma {
                Some(comma) if removed < entry.position => comma..value.end,
                _ => {
                    let after = json::skip_blanks(&self.bytes, value.end);
                    let end = if self.bytes[after] == b',' { after + 1 } else { value.end };
                    key.start - 1..end
                }
            };
            edits.push(Edit { span, text: Cow::Borrowed("") });
            removed += 1;
        }
        removed
    }

    fn edit_usage(&self, edits: &mut Edits<'_>, appended: &mut String) {
        const ASK: &str = "{\"include_usage\":true}";
        let Some(span) = self.stream_options.clone() else {
            return append(appended, "stream_options", ASK);
        };
        if let Some(value) = self.include_usage.clone() {
            return edits.push(Edit { span: value, text: Cow::Borrowed("true") });
        }
        match &self.bytes[span.clone()] {
            b"null" => edits.push(Edit { span, text: Cow::Borrowed(ASK) }),
            [b'{', inside @ ..] => {
                let is_empty = inside.get(json::skip_blanks(inside, 0)) == Some(&b'}');
                let text = if is_empty { "\"include_usage\":true" } else { "\"include_usage\":true," };
                edits.push(Edit { span: span.start + 1..span.start + 1, text: Cow::Borrowed(text) });
            }
            // Neither object nor null: the provider answers for it.
            _ => {}
        }
    }

    fn append_defaults(&self, rewrite: &Rewrite<'_>, appended: &mut String) {
        for (name, value) in rewrite.defaults {
            let is_injected = rewrite.inject_usage && name == "stream_options";
            let is_sent = Members::of(&self.bytes)
                .map_while(Result::ok)
                .any(|member| json::is_key(&self.bytes[member.key], name));
            if !is_sent && !is_injected && name != "model" {
                append(appended, name, value);
            }
        }
    }
}

/// The edit that makes the value at `span` the string `name`.
fn replacing<'a>(bytes: &[u8], span: Range<usize>, name: &'a str) -> Edit<'a> {
    match &bytes[span.clone()] {
        [b'"', .., b'"'] if is_plain(name) => Edit { span: span.start + 1..span.end - 1, text: Cow::Borrowed(name) },
        _ => Edit { span, text: Cow::Owned(quote(name)) },
    }
}

fn append(appended: &mut String, name: &str, value: &str) {
    appended.push(',');
    appended.push_str(&quote(name));
    appended.push(':');
    appended.push_str(value);
}
