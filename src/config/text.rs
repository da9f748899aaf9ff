//! Bytes to text, and byte offsets to lines and columns. Pure.
//!
//! Lines end where libyaml says they end, so that its marks and ours agree; columns count characters.

use std::cell::Cell;

/// A byte in one of the loaded files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Place {
    /// Which of the loaded files.
    pub(super) file: usize,
    /// The byte.
    pub(super) offset: usize,
}

/// A file as text that YAML may be made of.
pub(super) struct Text {
    /// The text without a byte-order mark.
    pub(super) text: String,
    /// Where each line begins, in bytes.
    lines: Vec<usize>,
    /// The last place asked for. Places are mostly asked for in order, and a file may be one long line.
    last: Cell<Cursor>,
}

#[derive(Clone, Copy, Default)]
struct Cursor {
    line: usize,
    column: usize,
    offset: usize,
}

/// Why bytes are no text: the offset into the text as far as it could be read, and a sentence.
pub(super) struct NotText {
    /// What could be read, for showing the line.
    pub(super) readable: Text,
    /// Where it goes wrong, in bytes.
    pub(super) offset: usize,
    /// What is wrong there.
    pub(super) message: String,
}

impl Text {
    /// Reads bytes: UTF-8, a leading byte-order mark cut, no control characters.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, NotText> {
        let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                return Err(NotText {
                    readable: Self::new(String::from_utf8_lossy(bytes).into_owned()),
                    offset: error.valid_up_to(),
                    message: format!("byte 0x{:02X} is not UTF-8", bytes[error.valid_up_to()]),
                });
            }
        };
        match text.char_indices().find(|(_, character)| !is_printable(*character)) {
            None => Ok(Self::new(text.to_owned())),
            Some((offset, character)) => Err(NotText {
                readable: Self::new(text.to_owned()),
                offset,
                message: format!("the control character U+{:04X} is not allowed", u32::from(character)),
            }),
        }
    }

    /// Wraps text and finds its lines.
    pub(super) fn new(text: String) -> Self {
        let mut lines = vec![0];
        let mut characters = text.char_indices().peekable();
        while let Some((offset, character)) = characters.next() {
            let is_break = match character {
                '\r' => characters.peek().is_none_or(|(_, next)| *next != '\n'),
                '\n' | '\u{85}' | '\u{2028}' | '\u{2029}' => true,
                _ => false,
            };
            if is_break {
                lines.push(offset + character.len_utf8());
            }
        }
        Self { text, lines, last: Cell::default() }
    }

    /// Every line without its break, and where it begins.
    pub(super) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let is_break = |c| matches!(c, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}');
        self.lines.iter().enumerate().map(move |(index, start)| {
            let end = self.lines.get(index + 1).copied().unwrap_or(self.text.len());
            (*start, self.text[*start..end].trim_end_matches(is_break))
        })
    }

    /// Line of a byte, from 1.
    pub(super) fn line(&self, offset: usize) -> usize {
        self.lines.partition_point(|start| *start <= offset)
    }

    /// Line and column of a byte, both from 1.
    pub(super) fn position(&self, offset: usize) -> (u32, u32) {
        let offset = self.floor(offset);
        let mut at = self.nearest(self.line(offset), |cursor| cursor.offset <= offset);
        at.column += self.text[at.offset..offset].chars().count();
        at.offset = offset;
        self.last.set(at);
        (u32::try_from(at.line).unwrap_or(u32::MAX), u32::try_from(at.column).unwrap_or(u32::MAX))
    }

    /// The byte at a line and column, both from 1; the end of the text if there is no such place.
    pub(super) fn offset(&self, line: usize, column: usize) -> usize {
        if line == 0 || line > self.lines.len() {
            return self.text.len();
        }
        let mut at = self.nearest(line, |cursor| cursor.column <= column);
        let steps = column.saturating_sub(at.column);
        let rest = &self.text[at.offset..];
        at.offset = rest.char_indices().nth(steps).map_or(self.text.len(), |(byte, _)| at.offset + byte);
        at.column = column;
        self.last.set(at);
        at.offset
    }

    /// The last place if it is in that line and not behind, else the line's beginning.
    fn nearest(&self, line: usize, is_before: impl Fn(&Cursor) -> bool) -> Cursor {
        let last = self.last.get();
        match last.line == line && is_before(&last) {
            true => last,
            false => Cursor { line, column: 1, offset: self.lines[line - 1] },
        }
    }

    fn floor(&self, offset: usize) -> usize {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        offset
    }
}

/// YAML's printable characters; the byte-order mark is not one inside a text.
fn is_printable(character: char) -> bool {
    matches!(character,
        '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{A0}'..='\u{FEFE}' | '\u{FF00}'..='\u{FFFD}' | '\u{10000}'..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_and_agree_both_ways() {
        let text = Text::new("a: ü\r\nbé: x\n\nlast".to_owned());
        for (line, column, expected) in [(1, 1, "a:"), (1, 4, "ü"), (2, 2, "é:"), (2, 5, "x\n"), (4, 1, "last")] {
            let offset = text.offset(line, column);
            assert!(text.text[offset..].starts_with(expected), "{line}:{column}");
            assert_eq!(text.position(offset), (line as u32, column as u32));
        }
        assert_eq!(text.offset(9, 1), text.text.len());
    }

    #[test]
    fn what_is_no_text() {
        let table: [(&[u8], (u32, u32), &str); 4] = [
            (b"a: 1\nb: \xff", (2, 4), "0xFF"),
            (b"a: 1\nb: \x01", (2, 4), "U+0001"),
            (b"\xEF\xBB\xBFa: \x7f", (1, 4), "U+007F"),
            (b"a: \xEF\xBB\xBF", (1, 4), "U+FEFF"),
        ];
        for (bytes, position, part) in table {
            let error = Text::decode(bytes).err().unwrap();
            assert_eq!(error.readable.position(error.offset), position);
            assert!(error.message.contains(part), "{}", error.message);
        }
        assert_eq!(Text::decode(b"\xEF\xBB\xBFa: 1").ok().unwrap().text, "a: 1");
    }
}
