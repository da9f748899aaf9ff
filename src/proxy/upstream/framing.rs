//! Where one HTTP/1.1 answer ends, by RFC 9112, and strictly: what could be read in two ways is no answer.
//!
//! It says which bytes are a head, which are a body, whether the body was whole, and whether a byte came that nobody asked
//! for. [`super::link`] relies on it alone; under awc [`super::connection`] does, since awc takes an interim 1xx for the final
//! answer, an end of file for the end of a body, and a body that only the end of the connection delimits for an empty one.

#[cfg(test)]
mod tests;

use std::mem::MaybeUninit;
use std::sync::LazyLock;

use bytes::Bytes;
use memchr::memmem;

/// Longest answer head. Providers send about 2 KiB; actix-http itself stops at 128 KiB.
pub(super) const MAX_HEAD_BYTES: usize = 128 << 10;

/// Most header fields in an answer head, as in actix-http.
const MAX_HEADERS: usize = 96;

/// Most digits of a chunk's size: as many as 64 bits have.
const MAX_SIZE_DIGITS: usize = 16;

/// Most digits of a chunk's size that is read at a glance: no read brings more.
const MAX_QUICK_DIGITS: usize = 6;

/// Longest line of chunk framing (size and extensions) and of trailers together.
const MAX_CHUNK_LINE_BYTES: usize = 8 << 10;

/// Finds a head's end. Kept: making a finder costs more than it then takes to search a head.
static HEAD_END: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new(b"\r\n\r\n"));

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
    /// In the line that names the next chunk's size: the size so far, whether extensions have begun, and the line's length.
    Size(u64, bool, usize),
    /// In blanks after the size: the size, and the line's length.
    Blank(u64, usize),
    /// Before the line feed of that line: the size.
    SizeEnd(u64),
    /// In a chunk's data: bytes missing.
    Data(u64),
    /// Before the carriage return after the data.
    DataEnd,
    /// Before the line feed after the data.
    DataLineFeed,
    /// In the trailers: length of the current line and of those before it.
    Trailer(usize, usize),
    /// Before the line feed of such a line.
    TrailerEnd(usize, usize),
}

/// Room for the fields of one head.
pub(super) type Fields<'a> = [MaybeUninit<httparse::Header<'a>>; MAX_HEADERS];

/// Room for the fields of one head, which nobody has to fill beforehand.
pub(super) fn room<'a>() -> Fields<'a> {
    [const { MaybeUninit::uninit() }; MAX_HEADERS]
}

/// A final head as it was read.
pub(super) struct Final<'a, 'b> {
    /// Bytes of the head with its empty line.
    pub(super) length: usize,
    /// Its status.
    pub(super) status: u16,
    /// Whether it says HTTP/1.1, not 1.0.
    pub(super) is_1_1: bool,
    /// Its fields, in order.
    pub(super) fields: &'a [httparse::Header<'b>],
    /// How its body is delimited.
    pub(super) body: Body,
}

/// Whether `bytes`, of which `seen` are known to be of one unfinished head, hold its end, or can be none.
pub(super) fn may_be_over(bytes: &[u8], seen: usize) -> bool {
    let fresh = bytes.get(seen.saturating_sub(2)..).unwrap_or_default();
    let ends = |end| memmem::find(fresh, end).is_some();
    MAX_HEAD_BYTES < bytes.len() || ends(b"\n\r\n") || ends(b"\n\n")
}

/// Reads the head at the start of `bytes`; what is no final one is the error.
pub(super) fn read_final<'a, 'b>(bytes: &'b [u8], room: &'a mut Fields<'b>) -> Result<Final<'a, 'b>, Head> {
    let Some(end) = HEAD_END.find(bytes) else {
        return Err(if may_be_over(bytes, 0) { Head::Invalid } else { Head::Partial });
    };
    let length = end + 4;
    if length > MAX_HEAD_BYTES {
        return Err(Head::Invalid);
    }
    let mut response = httparse::Response::new(&mut []);
    let parser = httparse::ParserConfig::default();
    // A head that ends before that place has lines that end in a bare line feed.
    match parser.parse_response_with_uninit_headers(&mut response, &bytes[..length], room) {
        Ok(httparse::Status::Complete(parsed)) if parsed == length => {}
        Ok(httparse::Status::Complete(_) | httparse::Status::Partial) | Err(_) => return Err(Head::Invalid),
    }
    let (Some(status), Some(version)) = (response.code, response.version) else { return Err(Head::Invalid) };
    let is_1_1 = version == 1;
    let fields: &[httparse::Header<'b>] = response.headers;
    let body = match status {
        // Nobody asked for another protocol.
        101 => return Err(Head::Invalid),
        100..200 => return Err(Head::Interim(length)),
        204 | 304 => Body::Complete,
        _ => body_of(fields, is_1_1).ok_or(Head::Invalid)?,
    };
    Ok(Final { length, status, is_1_1, fields, body })
}

/// Reads the head at the start of `bytes`.
pub(super) fn read_head(bytes: &[u8]) -> Head {
    match read_final(bytes, &mut room()) {
        Ok(Final { length, is_1_1, body, .. }) => {
            Head::Final { length, body, close_delimited: is_1_1 && body == Body::UntilClose }
        }
        Err(other) => other,
    }
}

/// The body's delimitation by RFC 9112 section 6.3; none if the fields contradict each other or repeat themselves.
fn body_of(fields: &[httparse::Header<'_>], is_1_1: bool) -> Option<Body> {
    let (mut length, mut chunked) = (None, false);
    for field in fields {
        if field.name.eq_ignore_ascii_case("content-length") {
            let digits = Some(field.value.trim_ascii()).filter(|text| text.iter().all(u8::is_ascii_digit))?;
            let value: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
            if length.replace(value).is_some() {
                return None;
            }
        } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
            if chunked || !is_1_1 || !field.value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                return None;
            }
            chunked = true;
        }
    }
    match (chunked, length) {
        (true, Some(_)) => None,
        (true, None) => Some(Body::Chunked(Chunk::START)),
        (false, Some(0)) => Some(Body::Complete),
        (false, Some(length)) => Some(Body::Length(length)),
        (false, None) => Some(Body::UntilClose),
    }
}

impl Body {
    /// Takes in bytes of the body and says how many of them belong to it; the rest is surplus.
    pub(super) fn take(&mut self, bytes: &[u8]) -> usize {
        self.take_content(bytes, |_| {})
    }

    /// The same, and hands over what the body consists of, without the framing of chunks.
    pub(super) fn take_content<'a>(&mut self, bytes: &'a [u8], mut content: impl FnMut(&'a [u8])) -> usize {
        match self {
            Self::Length(missing) => {
                let taken = (*missing).min(bytes.len() as u64);
                *missing -= taken;
                if *missing == 0 {
                    *self = Self::Complete;
                }
                content(&bytes[..taken as usize]);
                taken as usize
            }
            Self::Chunked(_) => self.take_chunked(bytes, content),
            Self::UntilClose => {
                content(bytes);
                bytes.len()
            }
            Self::Complete | Self::Broken => 0,
        }
    }

    /// The same, as one piece of memory that is as large as the content.
    pub(super) fn take_bytes(&mut self, bytes: &[u8]) -> (Bytes, usize) {
        let (mut only, mut joined) = (&b""[..], Vec::new());
        let taken = self.take_content(bytes, |piece| {
            if only.is_empty() && joined.is_empty() {
                only = piece;
                return;
            }
            if joined.is_empty() {
                joined.reserve(bytes.len());
                joined.extend_from_slice(only);
            }
            joined.extend_from_slice(piece);
        });
        let content = if joined.is_empty() { Bytes::copy_from_slice(only) } else { Bytes::from(joined) };
        (content, taken)
    }

    /// Whether nothing of the body is missing once the connection has ended.
    pub(super) fn is_complete_at_end(self) -> bool {
        match self {
            Self::Complete | Self::UntilClose => true,
            Self::Length(_) | Self::Chunked(_) | Self::Broken => false,
        }
    }

    fn take_chunked<'a>(&mut self, bytes: &'a [u8], mut content: impl FnMut(&'a [u8])) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            let Self::Chunked(place) = *self else { break };
            if place == Chunk::START
                && let Some((data, after)) = whole_chunk(&bytes[at..])
            {
                content(data);
                at += after;
                continue;
            }
            if let Chunk::Data(missing) = place {
                let taken = missing.min((bytes.len() - at) as u64);
                let next = if taken == missing { Chunk::DataEnd } else { Chunk::Data(missing - taken) };
                *self = Self::Chunked(next);
                content(&bytes[at..at + taken as usize]);
                at += taken as usize;
            } else {
                *self = place.step(bytes[at]);
                at += 1;
            }
        }
        at
    }
}

/// A chunk of data that begins and ends in `bytes`, as nearly every one does, and its length with the framing; none where it
/// is to be gone through byte by byte.
fn whole_chunk(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let mut size = 0;
    let mut at = 0;
    while let Some(digit) = (*bytes.get(at)? as char).to_digit(16) {
        size = size << 4 | digit as usize;
        at += 1;
        if at == MAX_QUICK_DIGITS {
            break;
        }
    }
    let data = bytes.get(at..)?.strip_prefix(b"\r\n")?;
    let after = data.get(size..)?.starts_with(b"\r\n");
    (after && 0 < size).then(|| (&data[..size], at + 2 + size + 2))
}

impl Chunk {
    /// At the beginning of a chunk.
    const START: Self = Self::Size(0, false, 0);

    /// Goes on from here, which is not within data, over one byte of framing.
    fn step(self, byte: u8) -> Body {
        let next = match (self, byte) {
            (Self::Size(size, has_extension, length), byte) => {
                return Self::size_byte(size, has_extension, length, byte);
            }
            (Self::Blank(size, length), b' ' | b'\t') if length < MAX_CHUNK_LINE_BYTES => Self::Blank(size, length + 1),
            (Self::Blank(size, length), b';') => Self::Size(size, true, length + 1),
            (Self::Blank(size, _), b'\r') => Self::SizeEnd(size),
            (Self::SizeEnd(0), b'\n') => Self::Trailer(0, 0),
            (Self::SizeEnd(size), b'\n') => Self::Data(size),
            (Self::DataEnd, b'\r') => Self::DataLineFeed,
            (Self::DataLineFeed, b'\n') => Self::START,
            (Self::Trailer(line, before), b'\r') => Self::TrailerEnd(line, before),
            (Self::Trailer(line, before), byte) if byte != b'\n' && line + before < MAX_CHUNK_LINE_BYTES => {
                Self::Trailer(line + 1, before)
            }
            (Self::TrailerEnd(0, _), b'\n') => return Body::Complete,
            (Self::TrailerEnd(line, before), b'\n') => Self::Trailer(0, before + line),
            (
                Self::Blank(..)
                | Self::SizeEnd(_)
                | Self::Data(_)
                | Self::DataEnd
                | Self::DataLineFeed
                | Self::Trailer(..)
                | Self::TrailerEnd(..),
                _,
            ) => return Body::Broken,
        };
        Body::Chunked(next)
    }

    fn size_byte(size: u64, has_extension: bool, length: usize, byte: u8) -> Body {
        let digit = if has_extension { None } else { (byte as char).to_digit(16) };
        let next = match (digit, byte) {
            (Some(_), _) if size >> 58 != 0 || length >= MAX_SIZE_DIGITS => return Body::Broken,
            (Some(digit), _) => Self::Size(size << 4 | u64::from(digit), false, length + 1),
            (None, _) if length == 0 || length > MAX_CHUNK_LINE_BYTES => return Body::Broken,
            (None, b'\r') => Self::SizeEnd(size),
            (None, byte) if has_extension && byte != b'\n' => Self::Size(size, true, length + 1),
            (None, b';') => Self::Size(size, true, length + 1),
            (None, b' ' | b'\t') => Self::Blank(size, length + 1),
            (None, _) => return Body::Broken,
        };
        Body::Chunked(next)
    }
}
