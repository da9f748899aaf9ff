//! Where one HTTP/1.1 answer ends: the little of RFC 9112 that the connection wrapper must know for itself.
//!
//! awc takes an interim 1xx for the final answer, an end of file for the end of a body, and a body that only the end of the
//! connection delimits for an empty one. So the wrapper follows each answer's framing and says what awc does not: which bytes
//! are a head, whether the body was whole, and whether a byte came that nobody asked for.

use memchr::memchr;
use memchr::memmem;

/// Longest answer head. Providers send about 2 KiB; awc itself stops at 128 KiB.
pub(super) const MAX_HEAD_BYTES: usize = 128 << 10;

/// Most header fields in an answer head, as in actix-http.
const MAX_HEADERS: usize = 96;

/// Longest line of chunk framing (size and extensions) and of trailers together.
const MAX_CHUNK_LINE_BYTES: usize = 8 << 10;

/// What the first bytes of an answer turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// The head is not complete yet.
    Partial,
    /// An interim 1xx of this many bytes: to be dropped.
    Interim(usize),
    /// The final head, of this many bytes, and how its body is delimited.
    Final {
        /// Bytes of the head with its empty line.
        length: usize,
        /// How its body is delimited.
        body: Body,
        /// Only the end of the connection delimits the body, and awc must be told by an HTTP/1.0 status line.
        close_delimited: bool,
    },
    /// Not an HTTP answer.
    Invalid,
}

/// How far an answer's body has come.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(super) enum Body {
    /// This many bytes are missing.
    Length(u64),
    /// Chunked transfer coding, and where in it.
    Chunked(Chunk),
    /// Whatever comes until the connection ends.
    UntilClose,
    /// Nothing is missing.
    Complete,
    /// The chunk framing is broken.
    Broken,
}

/// A place within chunked transfer coding (RFC 9112 section 7.1).
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(super) enum Chunk {
    /// In the line that names the next chunk's size: the size so far, whether its digits are over, and the line's length.
    Size(u64, bool, usize),
    /// In a chunk's data: bytes missing.
    Data(u64),
    /// In the line end after the data.
    DataEnd,
    /// In the trailers: length of the current line and of all of them.
    Trailer(usize, usize),
}

/// Reads the head at the start of `bytes`.
pub(super) fn read_head(bytes: &[u8]) -> Head {
    if memmem::find(bytes, b"\r\n\r\n").is_none() && memmem::find(bytes, b"\n\n").is_none() {
        return if bytes.len() > MAX_HEAD_BYTES { Head::Invalid } else { Head::Partial };
    }
    let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut fields);
    let length = match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() <= MAX_HEAD_BYTES => return Head::Partial,
        Ok(httparse::Status::Partial) | Err(_) => return Head::Invalid,
    };
    let (Some(status), Some(version)) = (response.code, response.version) else { return Head::Invalid };
    if (100..200).contains(&status) && status != 101 {
        return Head::Interim(length);
    }
    if status == 204 || status == 304 {
        return Head::Final { length, body: Body::Complete, close_delimited: false };
    }
    match body_of(response.headers) {
        None => Head::Invalid,
        Some(Body::UntilClose) => Head::Final { length, body: Body::UntilClose, close_delimited: version == 1 },
        Some(body) => Head::Final { length, body, close_delimited: false },
    }
}

/// The body's delimitation by RFC 9112 section 6.3; none if the fields contradict each other.
fn body_of(fields: &[httparse::Header<'_>]) -> Option<Body> {
    let mut length = None;
    let mut chunked = false;
    for field in fields {
        if field.name.eq_ignore_ascii_case("content-length") {
            let text = std::str::from_utf8(field.value).ok()?.trim();
            let value = Some(text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok()?;
            if length.is_some_and(|earlier: u64| earlier != value) {
                return None;
            }
            length = Some(value);
        } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
            chunked = field.value.trim_ascii().to_ascii_lowercase().ends_with(b"chunked");
            if !chunked {
                return None;
            }
        }
    }
    match (chunked, length) {
        (true, Some(_)) => None,
        (true, None) => Some(Body::Chunked(Chunk::Size(0, false, 0))),
        (false, Some(0)) => Some(Body::Complete),
        (false, Some(length)) => Some(Body::Length(length)),
        (false, None) => Some(Body::UntilClose),
    }
}

impl Body {
    /// Takes in bytes of the body and says how many of them belong to it; the rest is surplus.
    pub(super) fn take(&mut self, bytes: &[u8]) -> usize {
        match self {
            Self::Length(missing) => {
                let taken = (*missing).min(bytes.len() as u64);
                *missing -= taken;
                if *missing == 0 {
                    *self = Self::Complete;
                }
                taken as usize
            }
            Self::Chunked(_) => self.take_chunked(bytes),
            Self::UntilClose => bytes.len(),
            Self::Complete | Self::Broken => 0,
        }
    }

    /// Whether nothing of the body is missing once the connection has ended.
    pub(super) fn is_complete_at_end(self) -> bool {
        match self {
            Self::Complete | Self::UntilClose => true,
            Self::Length(_) | Self::Chunked(_) | Self::Broken => false,
        }
    }

    fn take_chunked(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            let Self::Chunked(place) = *self else { break };
            let (next, taken) = place.step(&bytes[at..]);
            *self = next;
            at += taken;
        }
        at
    }
}

impl Chunk {
    /// Goes on from here over at least one byte: what comes next, and how many bytes that took.
    fn step(self, bytes: &[u8]) -> (Body, usize) {
        match self {
            Self::Data(missing) => {
                let taken = missing.min(bytes.len() as u64);
                let next = if taken == missing { Self::DataEnd } else { Self::Data(missing - taken) };
                (Body::Chunked(next), taken as usize)
            }
            Self::Size(size, over, length) => (Self::size_byte(size, over, length, bytes[0]), 1),
            Self::DataEnd => match bytes[0] {
                b'\r' => (Body::Chunked(Self::DataEnd), 1),
                b'\n' => (Body::Chunked(Self::Size(0, false, 0)), 1),
                _ => (Body::Broken, 1),
            },
            Self::Trailer(line, total) => {
                let taken = memchr(b'\n', bytes).map_or(bytes.len(), |end| end + 1);
                let ended = bytes[taken - 1] == b'\n';
                let visible = bytes[..taken].iter().filter(|byte| !matches!(byte, b'\r' | b'\n')).count();
                let next = match (ended, line + visible) {
                    _ if total + taken > MAX_CHUNK_LINE_BYTES => Body::Broken,
                    (true, 0) => Body::Complete,
                    (true, _) => Body::Chunked(Self::Trailer(0, total + taken)),
                    (false, line) => Body::Chunked(Self::Trailer(line, total + taken)),
                };
                (next, taken)
            }
        }
    }

    fn size_byte(size: u64, over: bool, length: usize, byte: u8) -> Body {
        if byte == b'\n' {
            return match (length, size) {
                (0, _) => Body::Broken,
                (_, 0) => Body::Chunked(Self::Trailer(0, 0)),
                (_, size) => Body::Chunked(Self::Data(size)),
            };
        }
        let digit = if over { None } else { (byte as char).to_digit(16) };
        match digit {
            Some(_) if size >> 58 != 0 => Body::Broken,
            Some(digit) => Body::Chunked(Self::Size(size << 4 | u64::from(digit), false, length + 1)),
            None if length == 0 || length > MAX_CHUNK_LINE_BYTES => Body::Broken,
            None if !over && !matches!(byte, b';' | b' ' | b'\t' | b'\r') => Body::Broken,
            None => Body::Chunked(Self::Size(size, true, length + 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Head {
        read_head(text.as_bytes())
    }

    #[test]
    fn heads_are_told_apart() {
        let table = [
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", Some(Body::Length(5)), false),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Some(Body::Complete), false),
            ("HTTP/1.1 204 No Content\r\n\r\n", Some(Body::Complete), false),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n",
                Some(Body::Chunked(Chunk::Size(0, false, 0))),
                false,
            ),
            ("HTTP/1.1 200 OK\r\n\r\n", Some(Body::UntilClose), true),
            ("HTTP/1.0 200 OK\r\n\r\n", Some(Body::UntilClose), false),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n", None, false),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n", None, false),
            ("HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\n", None, false),
            ("SSH-2.0-OpenSSH\r\n\r\n", None, false),
        ];
        for (text, body, close_delimited) in table {
            let expected = match body {
                None => Head::Invalid,
                Some(body) => {
                    let length = text.find("\r\n\r\n").unwrap() + 4;
                    Head::Final { length, body, close_delimited }
                }
            };
            assert_eq!(head(text), expected, "{text:?}");
        }
    }

    #[test]
    fn interim_and_partial_heads() {
        assert_eq!(head("HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\nHTTP/1.1 200"), Head::Interim(37));
        assert_eq!(head("HTTP/1.1 100 Continue\r\n\r\n"), Head::Interim(25));
        assert_eq!(head("HTTP/1.1 200 OK\r\ncontent-le"), Head::Partial);
        assert_eq!(read_head(&vec![b'a'; MAX_HEAD_BYTES + 1]), Head::Invalid);
    }

    fn feed(body: Body, wire: &str, step: usize) -> (Body, usize) {
        let mut body = body;
        let mut taken = 0;
        for piece in wire.as_bytes().chunks(step) {
            taken += body.take(piece);
        }
        (body, taken)
    }

    #[test]
    fn chunked_bodies_end_where_they_end_under_any_split() {
        let start = Body::Chunked(Chunk::Size(0, false, 0));
        let table = [
            ("5\r\nhello\r\n0\r\n\r\n", Body::Complete, 15),
            ("5;ext=1\r\nhello\r\n0\r\nx: y\r\n\r\nHTTP", Body::Complete, 27),
            ("A\r\n0123456789\r\n", Body::Chunked(Chunk::Size(0, false, 0)), 15),
            ("5\r\nhel", Body::Chunked(Chunk::Data(2)), 6),
            ("0\r\n", Body::Chunked(Chunk::Trailer(0, 0)), 3),
        ];
        for (wire, expected, taken) in table {
            for step in 1..=wire.len() {
                assert_eq!(feed(start, wire, step), (expected, taken), "{wire:?} by {step}");
            }
        }
        for broken in ["g\r\n", "\r\n", "5\r\nhelloX", "ffffffffffffffffff\r\n"] {
            assert_eq!(feed(start, broken, 1).0, Body::Broken, "{broken:?}");
        }
    }

    #[test]
    fn a_length_takes_no_more_than_its_own() {
        assert_eq!(feed(Body::Length(5), "hello!", 2), (Body::Complete, 5));
        assert_eq!(feed(Body::Length(5), "hel", 1), (Body::Length(2), 3));
        assert!(!Body::Length(2).is_complete_at_end());
        assert!(Body::UntilClose.is_complete_at_end());
    }
}
