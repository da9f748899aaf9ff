//! Splits an event stream into whole blocks with their original bytes, whatever the chunking (spec/wire.md 4.1).
//!
//! A block that lies within one chunk is a slice of it. Each byte is looked at once. A carriage return at the end of what has
//! arrived is not judged before the next byte or the end of the stream: a line feed may belong to it.

use std::borrow::Cow;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use memchr::memchr2;

use super::MAX_EVENT_BYTES;

/// One block: its lines and the empty line that ends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The original bytes, line ends included.
    pub bytes: Bytes,
    fields: Fields,
}

/// What was seen of a block so far; spans count from its first byte.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Fields {
    data: DataLines,
    event: Option<Range<usize>>,
    has_id: bool,
    has_comment: bool,
    has_other: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum DataLines {
    #[default]
    None,
    One(Range<usize>),
    Many(Vec<Range<usize>>),
}

impl Block {
    /// The data, several lines joined by a line feed; none without a `data` field.
    pub fn data(&self) -> Option<Cow<'_, [u8]>> {
        match &self.fields.data {
            DataLines::None => None,
            DataLines::One(span) => Some(Cow::Borrowed(&self.bytes[span.clone()])),
            DataLines::Many(spans) => {
                let lines: Vec<&[u8]> = spans.iter().map(|span| &self.bytes[span.clone()]).collect();
                Some(Cow::Owned(lines.join(&b'\n')))
            }
        }
    }

    /// The event's name, empty if it has none.
    pub fn event(&self) -> &[u8] {
        self.fields.event.clone().map_or(&[], |span| &self.bytes[span])
    }

    /// Whether an `id` field stands in it.
    pub fn has_id(&self) -> bool {
        self.fields.has_id
    }

    /// Whether it holds comments and nothing else.
    pub fn is_comment(&self) -> bool {
        let Fields { data, event, has_id, has_comment, has_other } = &self.fields;
        *has_comment && *data == DataLines::None && event.is_none() && !has_id && !has_other
    }
}

/// What has arrived and is not yet a block.
#[derive(Debug)]
enum Held {
    /// The rest of one chunk.
    Slice(Bytes),
    /// A block that began in an earlier chunk, and all after it.
    Joined(BytesMut),
}

/// Turns chunks into blocks.
#[derive(Debug)]
pub struct Splitter {
    held: Held,
    /// Where the line that is not yet complete begins, and up to where it was searched; both count from the held start.
    line: usize,
    searched: usize,
    fields: Fields,
    is_started: bool,
}

impl Default for Splitter {
    fn default() -> Self {
        Self { held: Held::Slice(Bytes::new()), line: 0, searched: 0, fields: Fields::default(), is_started: false }
    }
}

/// The UTF-8 byte order mark, dropped at the start of a stream.
const MARK: &[u8] = b"\xef\xbb\xbf";

impl Splitter {
    /// Takes the next chunk.
    pub fn push(&mut self, chunk: Bytes) {
        match &mut self.held {
            Held::Slice(rest) if rest.is_empty() => self.held = Held::Slice(chunk),
            Held::Slice(rest) => {
                let mut joined = BytesMut::with_capacity(2 * (rest.len() + chunk.len()));
                joined.extend_from_slice(rest);
                joined.extend_from_slice(&chunk);
                self.held = Held::Joined(joined);
            }
            Held::Joined(joined) => joined.extend_from_slice(&chunk),
        }
        if !self.is_started {
            self.drop_mark();
        }
    }

    /// Takes the next block if it is one `data` line that lies within one chunk, and `passes` what it says: what nearly every
    /// block is, without the search for anything else. None leaves all as it was.
    pub fn next_plain(&mut self, passes: impl FnOnce(&[u8]) -> bool) -> Option<Bytes> {
        let Held::Slice(rest) = &mut self.held else { return None };
        if !self.is_started || self.searched != 0 {
            return None;
        }
        let line = rest.strip_prefix(b"data:")?;
        let (data, after) = line.split_at(memchr2(b'\n', b'\r', line)?);
        let length = rest.len() - after.len() + 2;
        let is_plain = after.starts_with(b"\n\n") && length <= MAX_EVENT_BYTES;
        (is_plain && passes(data.strip_prefix(b" ").unwrap_or(data))).then(|| rest.split_to(length))
    }

    /// How many bytes wait for the rest of their block.
    pub fn held_bytes(&self) -> usize {
        self.bytes().len()
    }

    /// Ends the stream: the last block if only its closing was in doubt, and a last `data: [DONE]` without its empty line.
    /// Anything else that is left is a truncated tail and goes.
    pub fn finish(&mut self) -> Option<Block> {
        let is_done = |block: &Block| block.data().is_some_and(|data| data.starts_with(b"[DONE]"));
        let tail = self.bytes();
        let is_whole = [&b"\r\r"[..], b"\n\r"].iter().any(|end| tail.ends_with(end));
        if is_whole {
            // The waiting carriage return was the empty line: one byte that belongs to nobody lets it be judged.
            let length = tail.len();
            self.push(Bytes::from_static(b":"));
            let block = self.next();
            return block.filter(|block| block.bytes.len() == length);
        }
        if tail.is_empty() {
            return None;
        }
        self.push(Bytes::from_static(b"\n\n"));
        let block = self.next().filter(is_done)?;
        Some(Block { bytes: Bytes::from_static(b"data: [DONE]\n\n"), fields: done_fields(block.fields.has_id) })
    }

    fn bytes(&self) -> &[u8] {
        match &self.held {
            Held::Slice(rest) => rest,
            Held::Joined(joined) => joined,
        }
    }

    /// Drops a byte order mark once enough has arrived to tell.
    fn drop_mark(&mut self) {
        let bytes = self.bytes();
        if bytes.len() < MARK.len() && MARK.starts_with(bytes) {
            return;
        }
        let has_mark = bytes.starts_with(MARK);
        self.is_started = true;
        if has_mark {
            self.take(MARK.len());
        }
    }

    fn take(&mut self, length: usize) -> Bytes {
        match &mut self.held {
            Held::Slice(rest) => rest.split_to(length),
            Held::Joined(joined) => {
                let taken = joined.split_to(length).freeze();
                if joined.is_empty() {
                    self.held = Held::Slice(Bytes::new());
                }
                taken
            }
        }
    }

    /// The end of the current line and the start of the next; none if the line is not complete.
    fn line_end(&mut self) -> Option<(usize, usize)> {
        let bytes = match &self.held {
            Held::Slice(rest) => &rest[..],
            Held::Joined(joined) => &joined[..],
        };
        // The empty line behind a usual one is not worth a search.
        let found = match bytes.get(self.searched) {
            Some(b'\n') => Some(0),
            _ => memchr2(b'\n', b'\r', &bytes[self.searched..]),
        };
        let Some(found) = found else {
            self.searched = bytes.len();
            return None;
        };
        let end = self.searched + found;
        match (bytes[end], bytes.get(end + 1)) {
            (b'\n', _) => Some((end, end + 1)),
            (_, Some(b'\n')) => Some((end, end + 2)),
            (_, Some(_)) => Some((end, end + 1)),
            (_, None) => {
                self.searched = end;
                None
            }
        }
    }
}

impl Iterator for Splitter {
    type Item = Block;

    /// The next whole block; none until more has arrived.
    fn next(&mut self) -> Option<Block> {
        if !self.is_started {
            return None;
        }
        loop {
            let (end, next) = self.line_end()?;
            let start = self.line;
            self.line = next;
            self.searched = next;
            if end == start {
                self.line = 0;
                self.searched = 0;
                let fields = std::mem::take(&mut self.fields);
                return Some(Block { bytes: self.take(next), fields });
            }
            let line = match &self.held {
                Held::Slice(rest) => &rest[start..end],
                Held::Joined(joined) => &joined[start..end],
            };
            self.fields.read(line, start);
        }
    }
}

impl Fields {
    fn read(&mut self, line: &[u8], start: usize) {
        let colon = match line {
            // The usual line, without a search for the colon.
            [b'd', b'a', b't', b'a', b':', ..] => 4,
            _ => memchr::memchr(b':', line).unwrap_or(line.len()),
        };
        let blank = usize::from(line.get(colon + 1) == Some(&b' '));
        let value = start + (colon + 1 + blank).min(line.len())..start + line.len();
        match &line[..colon] {
            b"" => self.has_comment = true,
            b"data" => match &mut self.data {
                DataLines::None => self.data = DataLines::One(value),
                DataLines::One(first) => self.data = DataLines::Many(vec![first.clone(), value]),
                DataLines::Many(lines) => lines.push(value),
            },
            b"event" => self.event = Some(value),
            b"id" => self.has_id = true,
            _ => self.has_other = true,
        }
    }
}

/// The fields of `data: [DONE]` as we write it.
fn done_fields(has_id: bool) -> Fields {
    Fields { data: DataLines::One(6..12), has_id, ..Fields::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Seen = (Vec<u8>, Option<Vec<u8>>, Vec<u8>);

    fn seen(block: &Block) -> Seen {
        (block.bytes.to_vec(), block.data().map(Cow::into_owned), block.event().to_vec())
    }

    fn split(text: &[u8], cuts: &[usize]) -> Vec<Seen> {
        let mut splitter = Splitter::default();
        let mut blocks = Vec::new();
        let mut at = 0;
        for cut in cuts.iter().copied().chain([text.len()]) {
            splitter.push(Bytes::copy_from_slice(&text[at.min(cut)..cut.max(at)]));
            at = at.max(cut);
            blocks.extend(splitter.by_ref().map(|block| seen(&block)));
        }
        blocks.extend(splitter.finish().map(|block| seen(&block)));
        blocks
    }

    fn datas(text: &str) -> Vec<String> {
        let lossless = |data: Vec<u8>| String::from_utf8(data).unwrap();
        split(text.as_bytes(), &[]).into_iter().filter_map(|(_, data, _)| data).map(lossless).collect()
    }

    #[test]
    fn line_ends_fields_and_joined_data() {
        for end in ["\n", "\r\n", "\r"] {
            let text = "event: x@data: a@data:b@data@@:c@@data:  d@@".replace('@', end);
            assert_eq!(datas(&text), ["a\nb\n", " d"], "{end:?}");
            assert_eq!(split(text.as_bytes(), &[])[0].2, b"x");
        }
        assert_eq!(datas("\u{feff}data: a\n\n"), ["a"]);
    }

    #[test]
    fn only_a_last_done_is_completed() {
        assert_eq!(split(b"data: [DONE]", &[]), [(b"data: [DONE]\n\n".to_vec(), Some(b"[DONE]".to_vec()), vec![])]);
        assert_eq!(datas("data: [DONE]\n"), ["[DONE]"]);
        assert_eq!(datas("data: [DONE]\r"), ["[DONE]"]);
        assert_eq!(datas("data: {}"), [""; 0]);
        assert_eq!(datas("data: {}\n"), [""; 0]);
        assert_eq!(datas("data: {}\r\n\r"), ["{}"]);
    }

    #[test]
    fn a_block_within_a_chunk_is_a_slice_of_it() {
        let chunk = Bytes::from_static(b"data: a\n\ndata: b\n\nda");
        let mut splitter = Splitter::default();
        splitter.push(chunk.clone());
        assert_eq!(splitter.next().map(|block| block.bytes.as_ptr()), Some(chunk.as_ptr()));
        assert_eq!(splitter.next().map(|block| block.bytes.as_ptr()), Some(chunk[9..].as_ptr()));
        assert_eq!((splitter.next(), splitter.held_bytes()), (None, 2));
    }

    #[test]
    fn a_long_line_byte_by_byte_is_linear() {
        let text = format!("data: {}\n\n", "x".repeat(300_000));
        let cuts: Vec<usize> = (1..text.len()).collect();
        assert_eq!(split(text.as_bytes(), &cuts).len(), 1);
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_blocks(
            text in "(\u{feff})?(data: ?é?|event: e|id: 1|:|retry: 1|\\[DONE\\]|x|\r|\n|\r\n|\n\n){0,30}",
            mut cuts in proptest::collection::vec(0_usize..120, 0..40),
        ) {
            cuts.retain(|cut| *cut < text.len());
            cuts.sort_unstable();
            let whole = split(text.as_bytes(), &[]);
            prop_assert_eq!(&split(text.as_bytes(), &cuts), &whole);
            let each: Vec<usize> = (1..text.len()).collect();
            prop_assert_eq!(&split(text.as_bytes(), &each), &whole);
        }
    }
}
