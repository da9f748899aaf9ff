//! Walks JSON text without building a tree: what the relay path may do to every body and every event.
//!
//! All functions are iterative and allocate nothing. They see brackets, strings and commas; the spelling of numbers and words
//! inside values is not their business (spec/wire.md 2.3: the provider answers for those).

use std::borrow::Cow;
use std::ops::Range;

use memchr::memchr2;

/// Where and why a text is not the JSON that was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// Byte offset of the first thing that does not fit.
    pub at: usize,
    /// What was expected there.
    pub what: &'static str,
}

const fn flaw(at: usize, what: &'static str) -> Flaw {
    Flaw { at, what }
}

/// One member of an object, as spans of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Offset of the comma before it, none for the first member.
    pub comma: Option<usize>,
    /// The key without its quotes, escapes as written.
    pub key: Range<usize>,
    /// The value without surrounding blanks, quotes included.
    pub value: Range<usize>,
}

/// The members of one object, in order. Stops after the first flaw.
pub struct Members<'a> {
    text: &'a [u8],
    at: usize,
    place: Place,
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    Start,
    Inside,
    End,
}

impl<'a> Members<'a> {
    /// Begins at the first byte of `text`; blanks may stand before the object.
    pub fn of(text: &'a [u8]) -> Self {
        Self { text, at: 0, place: Place::Start }
    }

    /// The offset after the closing brace, or where the walk stopped.
    pub fn end(&self) -> usize {
        self.at
    }

    fn step(&mut self) -> Result<Option<Member>, Flaw> {
        let text = self.text;
        let mut at = skip_blanks(text, self.at);
        let mut comma = None;
        match self.place {
            Place::End => return Ok(None),
            Place::Start => {
                if text.get(at) != Some(&b'{') {
                    return Err(flaw(at, "expected an object"));
                }
                at = skip_blanks(text, at + 1);
            }
            Place::Inside => {
                comma = Some(at);
                match text.get(at) {
                    Some(b',') => at = skip_blanks(text, at + 1),
                    Some(b'}') => return Ok(self.close(at)),
                    _ => return Err(flaw(at, "expected a comma or a closing brace")),
                }
            }
        }
        match text.get(at) {
            Some(b'"') => {}
            Some(b'}') if self.place == Place::Start => return Ok(self.close(at)),
            _ => return Err(flaw(at, "expected a key in double quotes")),
        }
        let key_end = skip_string(text, at)?;
        let key = at + 1..key_end - 1;
        at = skip_blanks(text, key_end);
        if text.get(at) != Some(&b':') {
            return Err(flaw(at, "expected a colon"));
        }
        at = skip_blanks(text, at + 1);
        let value = at..skip_value(text, at)?;
        self.at = value.end;
        self.place = Place::Inside;
        Ok(Some(Member { comma, key, value }))
    }

    fn close(&mut self, brace: usize) -> Option<Member> {
        self.place = Place::End;
        self.at = brace + 1;
        None
    }
}

impl Iterator for Members<'_> {
    type Item = Result<Member, Flaw>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if step.is_err() {
            self.place = Place::End;
        }
        step.transpose()
    }
}

/// Walks the members of the object that begins at `at` and says where it ends. `visit` is handed each key, without its quotes
/// and escapes as written, with the offset of its value, and says where that value ends: so it may look into a value on the
/// way, and no byte is walked twice.
///
/// # Errors
/// The first flaw, in the object or as `visit` found it.
pub fn walk(text: &[u8], at: usize, mut visit: impl FnMut(&[u8], usize) -> Result<usize, Flaw>) -> Result<usize, Flaw> {
    if text.get(at) != Some(&b'{') {
        return Err(flaw(at, "expected an object"));
    }
    let mut at = skip_blanks(text, at + 1);
    if text.get(at) == Some(&b'}') {
        return Ok(at + 1);
    }
    loop {
        if text.get(at) != Some(&b'"') {
            return Err(flaw(at, "expected a key in double quotes"));
        }
        let key_end = skip_string(text, at)?;
        let key = &text[at + 1..key_end - 1];
        at = skip_blanks(text, key_end);
        if text.get(at) != Some(&b':') {
            return Err(flaw(at, "expected a colon"));
        }
        at = visit(key, skip_blanks(text, at + 1))?;
        at = skip_blanks(text, at);
        match text.get(at) {
            Some(b',') => at = skip_blanks(text, at + 1),
            Some(b'}') => return Ok(at + 1),
            _ => return Err(flaw(at, "expected a comma or a closing brace")),
        }
    }
}

/// The elements of one array as slices of the text. Stops silently at the first flaw or where `text` is no array.
pub struct Elements<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Elements<'a> {
    /// Begins at the first byte of `text`, which is the opening bracket.
    pub fn of(text: &'a [u8]) -> Self {
        Self { text, at: if text.first() == Some(&b'[') { 1 } else { text.len() } }
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<Self::Item> {
        let start = skip_blanks(self.text, self.at);
        let end = skip_value(self.text, start).ok()?;
        let after = skip_blanks(self.text, end);
        self.at = if self.text.get(after) == Some(&b',') { after + 1 } else { self.text.len() };
        Some(&self.text[start..end])
    }
}

/// The last value of `key` in the object `text`, as parsers with duplicate keys would read it; none if it is no object.
pub fn find<'a>(text: &'a [u8], key: &str) -> Option<&'a [u8]> {
    let mut found = None;
    for member in Members::of(text) {
        let member = member.ok()?;
        if is_key(&text[member.key], key) {
            found = Some(&text[member.value]);
        }
    }
    found
}

/// Whether a key as written means `name`: escapes are decoded only where there are any.
pub fn is_key(written: &[u8], name: &str) -> bool {
    written == name.as_bytes() || (written.contains(&b'\\') && decode(written).is_some_and(|text| text == name))
}

/// The text of a string value with its quotes; none if it is no string or not valid.
pub fn string(value: &[u8]) -> Option<Cow<'_, str>> {
    let inner = value.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    decode(inner)
}

/// Decodes the inside of a JSON string; none on a bad escape, a lone surrogate or bytes that are no UTF-8.
pub fn decode(inner: &[u8]) -> Option<Cow<'_, str>> {
    if !inner.contains(&b'\\') {
        return std::str::from_utf8(inner).ok().map(Cow::Borrowed);
    }
    let mut quoted = Vec::with_capacity(inner.len() + 2);
    quoted.push(b'"');
    quoted.extend_from_slice(inner);
    quoted.push(b'"');
    serde_json::from_slice::<String>(&quoted).ok().map(Cow::Owned)
}

/// Whether the whole of `text` is one balanced object with nothing but blanks around it.
pub fn is_object(text: &[u8]) -> bool {
    let mut members = Members::of(text);
    members.by_ref().all(|member| member.is_ok()) && skip_blanks(text, members.end()) == text.len()
}

/// The offset of the first byte at or after `at` that is no JSON blank.
pub fn skip_blanks(text: &[u8], mut at: usize) -> usize {
    while matches!(text.get(at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
        at += 1;
    }
    at
}

/// Bytes looked at in one step.
const WORD: usize = 8;

/// Keys and short values end within this many words; only then does starting a vector search pay.
const SHORT_WORDS: usize = 6;

/// The byte `byte` in every place of a word.
const fn everywhere(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; WORD])
}

/// The top bit of each byte of `word` that is zero; the lowest such bit is exact, those above it may be false.
const fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(everywhere(0x01)) & !word & everywhere(0x80)
}

/// The offset of the first quote or backslash at or after `at`.
fn find_quote(text: &[u8], mut at: usize) -> Option<usize> {
    for _ in 0..SHORT_WORDS {
        let Some(bytes) = text.get(at..).and_then(<[u8]>::first_chunk::<WORD>) else { break };
        let word = u64::from_le_bytes(*bytes);
        let hit = zero_bytes(word ^ everywhere(b'"')) | zero_bytes(word ^ everywhere(b'\\'));
        if hit != 0 {
            return Some(at + hit.trailing_zeros() as usize / WORD);
        }
        at += WORD;
    }
    memchr2(b'"', b'\\', text.get(at..)?).map(|found| at + found)
}

/// The offset after the string whose opening quote is at `at`.
///
/// # Errors
/// The string has no end.
pub fn skip_string(text: &[u8], at: usize) -> Result<usize, Flaw> {
    let mut next = at + 1;
    while let Some(found) = find_quote(text, next) {
        if text[found] == b'"' {
            return Ok(found + 1);
        }
        next = found + 2;
    }
    Err(flaw(at, "a string has no end"))
}

/// Bytes at which a walk through nested values must look: brackets and quotes.
const STRUCTURAL: [bool; 256] = {
    let mut table = [false; 256];
    table[b'"' as usize] = true;
    table[b'{' as usize] = true;
    table[b'}' as usize] = true;
    table[b'[' as usize] = true;
    table[b']' as usize] = true;
    table
};

/// The offset after the value that begins at `at`.
///
/// # Errors
/// There is no value, a string has no end, or the brackets do not balance.
pub fn skip_value(text: &[u8], at: usize) -> Result<usize, Flaw> {
    match text.get(at) {
        Some(b'"') => skip_string(text, at),
        Some(b'{' | b'[') => skip_nested(text, at),
        _ => {
            let length = text.get(at..).unwrap_or_default().iter().take_while(|byte| is_scalar(**byte)).count();
            if length == 0 { Err(flaw(at, "expected a value")) } else { Ok(at + length) }
        }
    }
}

const fn is_scalar(byte: u8) -> bool {
    !matches!(byte, b',' | b'}' | b']' | b'{' | b'[' | b':' | b'"' | b' ' | b'\t' | b'\n' | b'\r')
}

/// The kinds of open brackets are remembered this deep, as bits; deeper ones are only counted, which no real body reaches.
const REMEMBERED_DEPTH: u32 = u64::BITS;

fn skip_nested(text: &[u8], start: usize) -> Result<usize, Flaw> {
    let (mut depth, mut braces, mut at) = (0_u32, 0_u64, start);
    while let Some(&byte) = text.get(at) {
        if !STRUCTURAL[byte as usize] {
            at += 1;
            continue;
        }
        match byte {
            b'"' => {
                at = skip_string(text, at)?;
                continue;
            }
            b'{' | b'[' => {
                depth += 1;
                if depth <= REMEMBERED_DEPTH {
                    braces = braces << 1 | u64::from(byte == b'{');
                }
            }
            _ => {
                if depth <= REMEMBERED_DEPTH {
                    if (braces & 1 == 1) != (byte == b'}') {
                        return Err(flaw(at, "brackets do not match"));
                    }
                    braces >>= 1;
                }
                depth -= 1;
                if depth == 0 {
                    return Ok(at + 1);
                }
            }
        }
        at += 1;
    }
    Err(flaw(start, "a bracket is not closed"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn members_carry_commas_keys_and_values() {
        let text = br#" { "a" : [1,{"b":"]"}] , "c":"x\"y" }"#;
        let members: Vec<Member> = Members::of(text).map(Result::unwrap).collect();
        assert_eq!(&text[members[0].value.clone()], br#"[1,{"b":"]"}]"#);
        assert_eq!(members[0].comma, None);
        assert_eq!(&text[members[1].value.clone()], br#""x\"y""#);
        assert_eq!(text[members[1].comma.unwrap()], b',');
    }

    #[test]
    fn a_walk_sees_what_the_members_are() {
        for text in [
            "{}",
            " { }",
            "[1]",
            "{",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{\"a\":[1}}",
            "{\"a\":\"b",
            "{\"a\":1 2}",
            "{\"a\":{\"b\":1}",
            "{ \"a\" : 1 , \"b\\n\":[{}], \"c\":\"}\" } ",
        ] {
            let bytes = text.as_bytes();
            let mut members = Members::of(bytes);
            let expected: Result<Vec<_>, _> = members
                .by_ref()
                .map(|member| member.map(|member| (bytes[member.key].to_vec(), member.value)))
                .collect();
            let mut found = Vec::new();
            let end = walk(bytes, skip_blanks(bytes, 0), |key, at| {
                let end = skip_value(bytes, at)?;
                found.push((key.to_vec(), at..end));
                Ok(end)
            });
            assert_eq!(end, expected.clone().map(|_| members.end()), "{text}");
            if let Ok(expected) = expected {
                assert_eq!(found, expected, "{text}");
            }
        }
    }

    #[test]
    fn flaws_have_a_place() {
        for (text, at) in [
            ("[1]", 0),
            ("{", 1),
            ("{\"a\"}", 4),
            ("{\"a\":}", 5),
            ("{\"a\":1,}", 7),
            ("{\"a\":[1}}", 7),
            ("{\"a\":\"b", 5),
            ("{\"a\":1 2}", 7),
            ("{\"a\":{\"b\":1}", 12),
        ] {
            let found = Members::of(text.as_bytes()).find_map(Result::err);
            assert_eq!(found.map(|flaw| flaw.at), Some(at), "{text}");
        }
    }

    #[test]
    fn strings_end_where_they_end_at_every_length_and_offset() {
        for length in 0..120 {
            for before in 0..9 {
                for (inside, escaped) in [("x", false), ("é", false), ("\\\"", true), ("\\\\", true)] {
                    let content = inside.repeat(length);
                    let text = format!("{}\"{content}\" \"", " ".repeat(before));
                    let end = before + content.len() + 2;
                    assert_eq!(skip_string(text.as_bytes(), before), Ok(end), "{text} {escaped}");
                    assert!(skip_string(&text.as_bytes()[..end - 1], before).is_err(), "{text}");
                }
            }
        }
    }

    #[test]
    fn very_deep_nesting_is_walked() {
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(is_object(deep.as_bytes()));
    }

    #[test]
    fn elements_and_find() {
        assert_eq!(Elements::of(br#"[ {"a":1}, 2 ,"x"]"#).count(), 3);
        assert_eq!(Elements::of(b"[]").count(), 0);
        assert_eq!(find(br#"{"a":1,"\u0061":2}"#, "a"), Some(&b"2"[..]));
        assert_eq!(string(br#""\ud83d\ude00""#).as_deref(), Some("😀"));
        assert_eq!(string(br#""\ud83d""#), None);
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Members::of(&bytes).count();
            let _ = Elements::of(&bytes).count();
        }

        #[test]
        fn structure_soup_never_panics(text in "[{}\\[\\]\",:\\\\a1 ]{0,60}") {
            let accepted = is_object(text.as_bytes());
            if serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&text).is_ok() {
                prop_assert!(accepted);
            }
        }
    }
}
