//! Heads as bytes: a request's head written, an answer's head read.

use std::cell::OnceCell;
use std::ops::Range;

use actix_web::http::StatusCode;
use actix_web::http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE,
};
use bytes::Bytes;

use super::Request;
use super::framing::{self, Body, Final, Head};
use crate::telemetry::access_log::push_count;

/// An answer's final head.
pub(super) struct AnswerHead {
    /// Its status.
    pub(super) status: StatusCode,
    /// Its fields as received.
    pub(super) fields: Fields,
    /// How its body is delimited.
    pub(super) body: Body,
    /// Whether its connection may carry another request.
    pub(super) is_kept: bool,
}

/// What fills in a request's headers: a function of a map, or who can write them down without one.
pub trait Headers {
    /// Fills in a map.
    fn fill(&self, out: &mut HeaderMap);

    /// Writes them down, each name once or with all its values.
    fn write(&self, out: &mut Lines<'_>) {
        let mut map = HeaderMap::new();
        self.fill(&mut map);
        map.iter().for_each(|(name, value)| out.put(name, value));
    }
}

impl<F: Fn(&mut HeaderMap)> Headers for F {
    fn fill(&self, out: &mut HeaderMap) {
        self(out);
    }
}

/// The header lines of a request. Fields that belong to the connection are ours to say, whoever puts them there: we ask for no
/// other protocol, no interim answer and no trailers.
pub struct Lines<'a> {
    out: &'a mut Vec<u8>,
    has_host: bool,
}

impl Lines<'_> {
    /// Adds a line.
    pub fn put(&mut self, name: &HeaderName, value: &HeaderValue) {
        if matches!(*name, CONNECTION | CONTENT_LENGTH | EXPECT | TE | TRAILER | TRANSFER_ENCODING | UPGRADE) {
            return;
        }
        self.has_host |= *name == HOST;
        self.out.extend_from_slice(name.as_str().as_bytes());
        self.out.extend_from_slice(b": ");
        self.out.extend_from_slice(value.as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }
}

/// Appends a request's head.
pub(super) fn write(out: &mut Vec<u8>, request: &Request<'_>, body_length: usize) {
    let uri = request.uri;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    push(out, [request.method.as_str(), " ", path, " HTTP/1.1\r\n"]);
    let mut lines = Lines { out, has_host: false };
    request.headers.write(&mut lines);
    let Lines { out, has_host } = lines;
    if let Some(authority) = uri.authority().filter(|_| !has_host) {
        push(out, ["host: ", authority.as_str(), "\r\n", ""]);
    }
    out.extend_from_slice(b"content-length: ");
    push_count(out, body_length as u64, 1);
    out.extend_from_slice(b"\r\n\r\n");
}

fn push(out: &mut Vec<u8>, pieces: [&str; 4]) {
    for piece in pieces {
        out.extend_from_slice(piece.as_bytes());
    }
}

/// The fields of an answer's head, as received. A map of them costs more than all else that is done to a plain answer, so it
/// is made only for those who ask for it.
pub struct Fields {
    /// The head, names in lower case.
    text: Bytes,
    spans: Vec<Span>,
    map: OnceCell<HeaderMap>,
}

/// Where a field's name and value are.
struct Span {
    name: Range<usize>,
    value: Range<usize>,
}

impl Fields {
    /// Takes over a map.
    pub(super) fn of_map(map: HeaderMap) -> Self {
        Self { text: Bytes::new(), spans: Vec::new(), map: OnceCell::from(map) }
    }

    /// All of them.
    pub fn map(&self) -> &HeaderMap {
        self.map.get_or_init(|| {
            let mut map = HeaderMap::with_capacity(self.spans.len());
            self.append_to(&mut map, |_| true);
            map
        })
    }

    /// The first value of a field, empty if it is missing or no text.
    pub fn text(&self, name: &HeaderName) -> &str {
        if let Some(map) = self.map.get() {
            return map.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        }
        let wanted = name.as_str().as_bytes();
        let is_it = |Span { name, .. }: &&Span| name.len() == wanted.len() && self.text[name.clone()] == *wanted;
        let found = self.spans.iter().find(is_it);
        let value = found.map_or(&b""[..], |span| &self.text[span.value.clone()]);
        std::str::from_utf8(value).ok().filter(|text| text.is_ascii()).unwrap_or_default()
    }

    /// Appends those whose names, in lower case, pass.
    pub fn append_to(&self, out: &mut HeaderMap, passes: impl Fn(&[u8]) -> bool) {
        if let Some(map) = self.map.get() {
            let passing = map.iter().filter(|(name, _)| passes(name.as_str().as_bytes()));
            return passing.for_each(|(name, value)| out.append(name.clone(), value.clone()));
        }
        for Span { name, value } in &self.spans {
            let name = &self.text[name.clone()];
            if !passes(name) {
                continue;
            }
            let value = HeaderValue::from_maybe_shared(self.text.slice(value.clone()));
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), value) {
                out.append(name, value);
            }
        }
    }
}

/// Reads the final head at the start of `bytes`, and says how long it is; what is no final one is the error.
pub(super) fn read(bytes: &[u8]) -> Result<(usize, AnswerHead), Head> {
    let mut room = framing::room();
    let Final { length, status, is_1_1, fields, body } = framing::read_final(bytes, &mut room)?;
    let status = StatusCode::from_u16(status).map_err(|_| Head::Invalid)?;
    let mut text = bytes[..length].to_vec();
    let mut spans = Vec::with_capacity(fields.len());
    let mut is_kept = is_1_1 && body != Body::UntilClose;
    let place = |part: &[u8]| {
        let start = (part.as_ptr() as usize).saturating_sub(bytes.as_ptr() as usize);
        start..start + part.len()
    };
    for field in fields {
        let name = place(field.name.as_bytes());
        text[name.clone()].make_ascii_lowercase();
        if text[name.clone()] == *CONNECTION.as_str().as_bytes() && says_close(field.value) {
            is_kept = false;
        }
        let value = if field.value.is_empty() { 0..0 } else { place(field.value) };
        spans.push(Span { name, value });
    }
    let fields = Fields { text: Bytes::from(text), spans, map: OnceCell::new() };
    Ok((length, AnswerHead { status, fields, body, is_kept }))
}

fn says_close(value: &[u8]) -> bool {
    value.split(|byte| *byte == b',').any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
}

#[cfg(test)]
mod tests {
    use actix_web::http::{Method, Uri};

    use super::*;

    #[test]
    fn a_head_says_what_is_asked_and_nothing_of_the_connection() {
        let fill = |out: &mut HeaderMap| {
            for (name, value) in [("expect", "100-continue"), ("upgrade", "h2c"), ("te", "trailers"), ("x-a", "1")] {
                out.append(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            for (name, value) in [("connection", "close"), ("transfer-encoding", "chunked"), ("content-length", "7")] {
                out.append(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
        };
        let written = |method: &Method, uri: &str, headers: &dyn Headers, length| {
            let mut out = Vec::new();
            let uri: Uri = uri.parse().unwrap();
            write(&mut out, &Request { uri: &uri, method, tls: None, headers, body: &[] }, length);
            String::from_utf8(out).unwrap()
        };
        let text = written(&Method::POST, "http://h:81/v1/x?y=z", &fill, 12);
        assert_eq!(text, "POST /v1/x?y=z HTTP/1.1\r\nx-a: 1\r\nhost: h:81\r\ncontent-length: 12\r\n\r\n");
        let fill = |out: &mut HeaderMap| drop(out.insert(HOST, HeaderValue::from_static("elsewhere")));
        let text = written(&Method::GET, "http://h", &fill, 0);
        assert_eq!(text, "GET / HTTP/1.1\r\nhost: elsewhere\r\ncontent-length: 0\r\n\r\n");
    }

    #[test]
    fn an_answers_head_keeps_every_field_and_tells_whether_its_connection_goes_on() {
        let text = b"HTTP/1.1 200 OK\r\nX-A: 1\r\nx-a:2 \r\nx-empty:\r\nContent-Length: 3\r\n\r\nabc";
        let (length, head) = read(text).ok().unwrap();
        assert_eq!((length, head.status, head.body), (text.len() - 3, StatusCode::OK, Body::Length(3)));
        let (one, empty) = (HeaderName::from_static("x-a"), HeaderName::from_static("x-empty"));
        let mut some = HeaderMap::new();
        head.fields.append_to(&mut some, |name| name != b"content-length");
        // Before and after there is a map.
        for _ in 0..2 {
            let texts = [&one, &empty, &CONTENT_LENGTH, &HOST].map(|name| head.fields.text(name));
            assert_eq!(texts, ["1", "", "3", ""]);
            let map = head.fields.map();
            let values: Vec<_> = map.get_all("x-a").map(HeaderValue::as_bytes).collect();
            assert_eq!(
                (values, map.get("x-empty").unwrap().as_bytes(), map.len()),
                (vec![&b"1"[..], b"2"], &b""[..], 4)
            );
            let mut again = HeaderMap::new();
            head.fields.append_to(&mut again, |name| name != b"content-length");
            assert_eq!((some.len(), again.len(), some.get_all("x-a").count()), (3, 3, 2));
        }
        for (fields, is_kept) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 3", true),
            ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: keep-alive", true),
            ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: x, Close", false),
            ("HTTP/1.0 200 OK\r\ncontent-length: 3\r\nconnection: keep-alive", false),
            ("HTTP/1.1 200 OK", false),
            ("HTTP/1.1 204 No Content", true),
        ] {
            let found = read(format!("{fields}\r\n\r\n").as_bytes()).ok().map(|(_, head)| head.is_kept);
            assert_eq!(found, Some(is_kept), "{fields}");
        }
        assert!(matches!(read(b"HTTP/1.1 099 X\r\n\r\n"), Err(Head::Invalid)));
    }
}
