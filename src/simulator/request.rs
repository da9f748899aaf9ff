//! One HTTP/1.x request as it arrived: the head's own bytes and where things are in it.

use std::ops::Range;

use bytes::Bytes;

/// Largest request head; OpenAI's own budget (spec/wire.md 1.3).
pub(super) const MAX_HEAD_BYTES: usize = 64 << 10;

/// Most header fields of a request.
const MAX_HEADERS: usize = 100;

/// How the body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length(usize),
    Chunked,
}

/// A request: its head, and its body once that has been read.
#[derive(Clone, Debug)]
pub(super) struct Request {
    head: Bytes,
    method: Range<usize>,
    target: Range<usize>,
    version: u8,
    fields: Vec<(Range<usize>, Range<usize>)>,
    body: Bytes,
}

impl Request {
    /// Reads the head at the start of `bytes`; none if it is not complete yet.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<Self>, &'static str> {
        let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut parsed = httparse::Request::new(&mut fields);
        let length = match parsed.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if bytes.len() <= MAX_HEAD_BYTES => return Ok(None),
            Ok(httparse::Status::Partial) => return Err("the request head is too large"),
            Err(_) => return Err("the request head is malformed"),
        };
        let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version) else {
            return Err("the request line is malformed");
        };
        let range = |part: &[u8]| {
            let start = part.as_ptr() as usize - bytes.as_ptr() as usize;
            start..start + part.len()
        };
        Ok(Some(Self {
            head: Bytes::copy_from_slice(&bytes[..length]),
            method: range(method.as_bytes()),
            target: range(target.as_bytes()),
            version,
            fields: parsed
                .headers
                .iter()
                // An empty value may be a slice from nowhere.
                .map(|field| {
                    (range(field.name.as_bytes()), if field.value.is_empty() { 0..0 } else { range(field.value) })
                })
                .collect(),
            body: Bytes::new(),
        }))
    }

    /// The same with its body.
    pub(super) fn with_body(self, body: Bytes) -> Self {
        Self { body, ..self }
    }

    /// Bytes of the head.
    pub(super) fn head_length(&self) -> usize {
        self.head.len()
    }

    pub(super) fn method(&self) -> &str {
        self.text(&self.method)
    }

    /// Path and query as sent.
    pub(super) fn target(&self) -> &str {
        self.text(&self.target)
    }

    /// The path as sent.
    pub(super) fn path(&self) -> &str {
        self.target().split('?').next().unwrap_or_default()
    }

    /// The query as sent, without `?`; empty if there is none.
    pub(super) fn query(&self) -> &str {
        self.target().split_once('?').map_or("", |(_, query)| query)
    }

    pub(super) fn version(&self) -> u8 {
        self.version
    }

    pub(super) fn body(&self) -> &Bytes {
        &self.body
    }

    /// The fields in order, names as spelled.
    pub(super) fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.fields.iter().map(|(name, value)| (self.text(name), &self.head[value.clone()]))
    }

    /// The first field of this name.
    pub(super) fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The first field of this name, if it is text.
    pub(super) fn header_text(&self, name: &str) -> Option<&str> {
        self.header(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Whether the client wants the connection kept.
    pub(super) fn keeps_alive(&self) -> bool {
        let asked = self.header_text("connection").unwrap_or_default();
        let has = |word: &str| asked.split(',').any(|part| part.trim().eq_ignore_ascii_case(word));
        if self.version == 0 { has("keep-alive") } else { !has("close") }
    }

    /// How the body is delimited.
    pub(super) fn framing(&self) -> Result<Framing, &'static str> {
        if let Some(coding) = self.header_text("transfer-encoding") {
            let is_chunked = coding.trim().eq_ignore_ascii_case("chunked");
            return if is_chunked { Ok(Framing::Chunked) } else { Err("the transfer-encoding is not chunked") };
        }
        let Some(length) = self.header_text("content-length") else { return Ok(Framing::Length(0)) };
        length.trim().parse().map(Framing::Length).map_err(|_| "the content-length is no number")
    }

    fn text(&self, range: &Range<usize>) -> &str {
        // httparse has checked method, target and names to be ASCII or UTF-8.
        std::str::from_utf8(&self.head[range.clone()]).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Request {
        Request::parse(text.as_bytes()).unwrap().unwrap()
    }

    #[test]
    fn heads_are_read_as_spelled() {
        let request = parse("POST /v1/x?a=b HTTP/1.1\r\nHost: h\r\nX-Empty:\r\nContent-Length: 3\r\n\r\nabc");
        assert_eq!((request.method(), request.path(), request.query()), ("POST", "/v1/x", "a=b"));
        let fields: Vec<_> = request.headers().map(|(name, value)| (name, value.len())).collect();
        assert_eq!(fields, [("Host", 1), ("X-Empty", 0), ("Content-Length", 1)]);
        assert_eq!(request.framing(), Ok(Framing::Length(3)));
        assert_eq!(request.header("HOST"), Some(&b"h"[..]));
    }

    #[test]
    fn incomplete_and_broken_heads() {
        assert!(Request::parse(b"POST / HTTP/1.1\r\nHos").unwrap().is_none());
        assert!(Request::parse(b"\x16\x03\x01").is_err());
        assert!(Request::parse(&[b"GET /".as_slice(), &vec![b'a'; MAX_HEAD_BYTES]].concat()).is_err());
        assert!(parse("POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n").framing().is_err());
    }

    #[test]
    fn connections_are_kept_as_asked() {
        let table = [
            ("HTTP/1.1\r\n", true),
            ("HTTP/1.1\r\nConnection: Close\r\n", false),
            ("HTTP/1.0\r\n", false),
            ("HTTP/1.0\r\nconnection: keep-alive\r\n", true),
        ];
        for (rest, keeps) in table {
            assert_eq!(parse(&format!("GET / {rest}\r\n")).keeps_alive(), keeps, "{rest}");
        }
    }
}
