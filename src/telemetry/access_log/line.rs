//! What a line of the log says, and how: one JSON object, or words for people.

use std::io::Write as _;
use std::time::Duration;

use super::super::figures::{Clockface, push_count, push_millis, write_time};

/// Room for one line.
pub(super) const LINE_ROOM: usize = 2 << 10;

/// Longest text of a field, in characters. What a client chose is cut before, at 128.
const SHOWN: usize = 512;

/// The name of a field, and how it begins in JSON: written out beforehand, since every line has twenty of them.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The name alone.
    pub name: &'static str,
    /// `,"name":`
    pub json: &'static str,
}

/// Makes a [`Key`] of a literal that needs no escaping.
macro_rules! key {
    ($name:literal) => {
        $crate::telemetry::access_log::line::Key { name: $name, json: concat!(",\"", $name, "\":") }
    };
}
pub(crate) use key;

/// What a line says, in this order (spec/observability.md 2.1). Empty values are left out.
#[derive(Clone, Debug, Default)]
pub struct Line<'a> {
    /// Wall-clock time since the epoch.
    pub at: Duration,
    /// `info`, `warn` or `error`.
    pub level: &'static str,
    /// Words: key and value; a value that is empty is left out.
    pub words: &'a [(Key, Word<'a>)],
    /// Numbers: key and value.
    pub numbers: &'a [(Key, Option<Number>)],
}

/// A word of a line.
#[derive(Clone, Copy, Debug)]
pub enum Word<'a> {
    /// One of ours, which needs no escaping.
    Own(&'static str),
    /// A name or what a client wrote.
    Free(&'a str),
}

impl<'a> Word<'a> {
    fn text(self) -> &'a str {
        match self {
            Self::Own(text) => text,
            Self::Free(text) => text,
        }
    }
}

/// A number of a line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// A count.
    Count(u64),
    /// A time, written in milliseconds with three decimals.
    Millis(Duration),
    /// A share of 1, or an amount of money.
    Ratio(f64),
}

impl Line<'_> {
    /// Appends the line as one JSON object and a line feed.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        self.write_json_by(&mut Clockface::default(), out);
    }

    /// The same with a clock that remembers its last second.
    pub(super) fn write_json_by(&self, clockface: &mut Clockface, out: &mut Vec<u8>) {
        out.reserve(LINE_ROOM);
        out.extend_from_slice(b"{\"ts\":\"");
        clockface.write(out, self.at);
        push_all(out, ["\",\"level\":\"", self.level, "\",\"msg\":\"request\""]);
        for (key, word) in self.words.iter().filter(|(_, word)| !word.text().is_empty()) {
            out.extend_from_slice(key.json.as_bytes());
            out.push(b'"');
            match word {
                Word::Own(text) => out.extend_from_slice(text.as_bytes()),
                Word::Free(text) => escape(out, text),
            }
            out.push(b'"');
        }
        for (key, value) in self.numbers {
            if let Some(value) = value {
                out.extend_from_slice(key.json.as_bytes());
                write_number(out, *value);
            }
        }
        out.extend_from_slice(b"}\n");
    }

    /// Appends the line as text for people.
    pub(super) fn write_text(&self, out: &mut Vec<u8>) {
        write_time(out, self.at);
        let _ = write!(out, " {} request", self.level.to_ascii_uppercase());
        for (key, value) in self.words.iter().map(|(key, word)| (key, word.text())).filter(|(_, text)| !text.is_empty())
        {
            let plain = value.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\');
            let _ = write!(out, " {}=", key.name);
            if plain {
                out.extend_from_slice(value.as_bytes());
            } else {
                out.push(b'"');
                escape(out, value);
                out.push(b'"');
            }
        }
        for (key, value) in self.numbers {
            if let Some(value) = value {
                let _ = write!(out, " {}=", key.name);
                write_number(out, *value);
            }
        }
        out.push(b'\n');
    }
}

fn push_all(out: &mut Vec<u8>, pieces: [&str; 3]) {
    for piece in pieces {
        out.extend_from_slice(piece.as_bytes());
    }
}

fn write_number(out: &mut Vec<u8>, number: Number) {
    match number {
        Number::Count(count) => push_count(out, count, 1),
        Number::Millis(span) => push_millis(out, span),
        Number::Ratio(share) => {
            let _ = write!(out, "{share}");
        }
    }
}

/// Bytes looked at in one step.
const WORD: usize = 8;

/// Whether a text needs no escaping: printable ASCII without quotes and backslashes.
fn is_plain(text: &[u8]) -> bool {
    let (words, rest) = text.as_chunks::<WORD>();
    // What is left of a longer text is looked at as the end of its last eight.
    let (last, rest) = text.last_chunk::<WORD>().map_or((None, rest), |last| (Some(last), &[][..]));
    let each = |byte: u8| u64::from_ne_bytes([byte; WORD]);
    // The top bit of each byte that is smaller than `least`, exact while no byte has its own top bit set.
    let below = |word: u64, least: u64| word.wrapping_sub(least) & !word;
    let odd = words.iter().chain(last).fold(0, |odd, bytes| {
        let word = u64::from_ne_bytes(*bytes);
        let is_delete_or_more = word | word.wrapping_add(each(1));
        let is_quote = below(word ^ each(b'"'), each(1)) | below(word ^ each(b'\\'), each(1));
        odd | below(word, each(b' ')) | is_delete_or_more | is_quote
    });
    let is_plain = |byte: &u8| (b' '..0x7f).contains(byte) && *byte != b'"' && *byte != b'\\';
    odd & each(0x80) == 0 && rest.iter().all(is_plain)
}

fn escape(out: &mut Vec<u8>, text: &str) {
    if text.len() <= SHOWN && is_plain(text.as_bytes()) {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    for character in text.chars().take(SHOWN) {
        match character {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            character if character.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(character));
            }
            character => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line<'a>(words: &'a [(Key, Word<'a>)], numbers: &'a [(Key, Option<Number>)]) -> Line<'a> {
        Line { at: Duration::from_millis(1_795_478_462_345), level: "info", words, numbers }
    }

    #[test]
    fn lines_survive_odd_values() {
        let words = [
            (key!("route"), Word::Own("gpt-4-router")),
            (key!("model"), Word::Free("a\"b\\c\nd")),
            (key!("backend"), Word::Free("")),
        ];
        let numbers = [
            (key!("status"), Some(Number::Count(200))),
            (key!("duration_ms"), Some(Number::Millis(Duration::from_nanos(1_234_567)))),
            (key!("ttft_ms"), None),
        ];
        let mut json = Vec::new();
        line(&words, &numbers).write_json(&mut json);
        let read: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(read["model"], "a\"b\\c\nd");
        assert_eq!(read["status"], 200);
        assert_eq!(read["ts"], "2026-11-24T00:01:02.345Z");
        assert!(read.get("backend").is_none() && read.get("ttft_ms").is_none());
        let mut text = Vec::new();
        line(&words, &numbers).write_text(&mut text);
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "2026-11-24T00:01:02.345Z INFO request route=gpt-4-router model=\"a\\\"b\\\\c\\u000ad\" status=200 duration_ms=1.234\n"
        );
    }

    #[test]
    fn plain_is_what_needs_no_escaping() {
        for byte in 0..=255 {
            for before in 0..20 {
                let text: Vec<u8> = std::iter::repeat_n(b'~', before).chain([byte]).chain(*b"  az09!!").collect();
                let expected = (b' '..0x7f).contains(&byte) && byte != b'"' && byte != b'\\';
                assert_eq!(is_plain(&text), expected, "{byte} after {before}");
            }
        }
        assert!(is_plain(b""));
    }
}
