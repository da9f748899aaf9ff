//! Heads as bytes: a request's head written, an answer's head read.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::fmt;
use std::ops::Range;

use actix_web::http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE,
};
use actix_web::http::{Method, StatusCode};
use bytes::Bytes;

use super::super::forward::{is_relayed, joined};
use super::Request;
use super::framing::{self, Body, Final, Head};
use super::names::{Asked, Names, REQUEST_IDS};
use crate::telemetry::figures::push_count;

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
    if tells_length(request.method, body_length) {
        out.extend_from_slice(b"content-length: ");
        push_count(out, body_length as u64, 1);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// Whether a request says how long its body is: not where there is none and its method lets nobody expect one (RFC 9110 8.6).
pub(super) fn tells_length(method: &Method, body_length: usize) -> bool {
    0 < body_length || !matches!(*method, Method::GET | Method::HEAD | Method::DELETE | Method::OPTIONS)
}

fn push(out: &mut Vec<u8>, pieces: [&str; 4]) {
    for piece in pieces {
        out.extend_from_slice(piece.as_bytes());
    }
}

/// The fields of an answer's head, as received. A map of them costs more than all else that is done to a plain answer, so it
/// is made only for those who ask for it.
pub struct Fields {
    /// The head.
    text: Bytes,
    names: Names,
    /// Where in the head the value of each name is.
    values: Vec<Range<usize>>,
    map: OnceCell<HeaderMap>,
}

impl Fields {
    /// Takes over a map.
    pub fn of_map(map: HeaderMap) -> Self {
        Self { text: Bytes::new(), names: Names::default(), values: Vec::new(), map: OnceCell::from(map) }
    }

    /// All of them.
    pub fn map(&self) -> &HeaderMap {
        self.map.get_or_init(|| {
            let mut map = HeaderMap::with_capacity(self.values.len());
            self.append(&mut map, |_| true);
            map
        })
    }

    /// The first value of a field, empty if it is missing or no text.
    pub fn text(&self, asked: Asked) -> &str {
        if let Some(map) = self.map.get() {
            return map.get(asked.name()).and_then(|value| value.to_str().ok()).unwrap_or_default();
        }
        let Some(place) = self.names.first(asked).and_then(|index| self.values.get(index)) else { return "" };
        let value = &self.text[place.clone()];
        std::str::from_utf8(value).ok().filter(|text| text.is_ascii()).unwrap_or_default()
    }

    /// The first value of a field that is there and is text.
    pub fn value(&self, asked: Asked) -> Option<HeaderValue> {
        let value = match self.map.get() {
            Some(map) => map.get(asked.name())?.clone(),
            None => self.at(self.values.get(self.names.first(asked)?)?)?,
        };
        Some(value).filter(|value| value.to_str().is_ok_and(|text| !text.is_empty()))
    }

    /// The provider's own id of the answer, by which its support finds it.
    pub fn request_id(&self) -> Option<HeaderValue> {
        (0..REQUEST_IDS.len()).find_map(|index| self.value(Asked::RequestId(index)))
    }

    /// All that is said of the connection. What is no text says nothing.
    fn of_connection(&self) -> Cow<'_, str> {
        if let Some(map) = self.map.get() {
            return joined(map.get_all(CONNECTION).filter_map(|value| value.to_str().ok()));
        }
        if self.names.first(Asked::Connection).is_none() {
            return Cow::Borrowed("");
        }
        let fields = self.names.list().iter().zip(&self.values).filter(|(known, _)| **known == CONNECTION);
        let values = fields.filter_map(|(_, place)| std::str::from_utf8(&self.text[place.clone()]).ok());
        joined(values)
    }

    /// Appends those that a client may see.
    pub fn append_relayed(&self, out: &mut HeaderMap) {
        let connection = self.of_connection();
        let passes = |name: &HeaderName| is_relayed(name.as_str().as_bytes(), &connection);
        if let Some(map) = self.map.get() {
            let passing = map.iter().filter(|(name, _)| passes(name));
            return passing.for_each(|(name, value)| out.append(name.clone(), value.clone()));
        }
        let (names, relayed) = (self.names.list(), self.names.relayed());
        self.append(out, |index| relayed[index] && (connection.is_empty() || passes(&names[index])));
    }

    /// Appends those whose place passes.
    fn append(&self, out: &mut HeaderMap, passes: impl Fn(usize) -> bool) {
        let fields = self.names.list().iter().zip(&self.values).enumerate();
        for (_, (name, place)) in fields.filter(|(index, _)| passes(*index)) {
            if let Some(value) = self.at(place) {
                out.append(name.clone(), value);
            }
        }
    }

    fn at(&self, place: &Range<usize>) -> Option<HeaderValue> {
        HeaderValue::from_maybe_shared(self.text.slice(place.clone())).ok()
    }
}

/// Names alone: values may be anybody's secrets.
impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.map.get() {
            Some(map) => f.debug_set().entries(map.keys()).finish(),
            None => f.debug_set().entries(self.names.list()).finish(),
        }
    }
}

/// Reads the final head at the start of `bytes`, and says how long it is; what is no final one is the error. `known` are the
/// names of the head before it on the same connection, and then of this one.
pub(super) fn read(bytes: &[u8], known: &mut Names) -> Result<(usize, AnswerHead), Head> {
    let mut room = framing::room();
    let Final { length, status, is_1_1, fields, body } = framing::read_final(bytes, &mut room)?;
    let status = StatusCode::from_u16(status).map_err(|_| Head::Invalid)?;
    known.follow(fields).map_err(|_| Head::Invalid)?;
    let place = |field: &httparse::Header<'_>| {
        let start = (field.value.as_ptr() as usize).saturating_sub(bytes.as_ptr() as usize);
        if field.value.is_empty() { 0..0 } else { start..start + field.value.len() }
    };
    let values = fields.iter().map(place).collect();
    let ends = |(name, field): (&HeaderName, &httparse::Header<'_>)| *name == CONNECTION && says_close(field.value);
    let may_end = known.first(Asked::Connection).is_some();
    let is_closed = may_end && known.list().iter().zip(fields).any(ends);
    let is_kept = is_1_1 && body != Body::UntilClose && !is_closed;
    let text = Bytes::copy_from_slice(&bytes[..length]);
    let fields = Fields { text, names: known.clone(), values, map: OnceCell::new() };
    Ok((length, AnswerHead { status, fields, body, is_kept }))
}

fn says_close(value: &[u8]) -> bool {
    value.split(|byte| *byte == b',').any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
}

#[cfg(test)]
mod tests {
    use actix_web::http::Uri;

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
        assert_eq!(text, "GET / HTTP/1.1\r\nhost: elsewhere\r\n\r\n");
    }

    #[test]
    fn an_answers_head_keeps_every_field_and_tells_whether_its_connection_goes_on() {
        let text = b"HTTP/1.1 200 OK\r\nX-A: 1\r\nx-a:2 \r\nContent-Encoding:\r\nContent-Type: a/b\r\nContent-Length: 3\r\n\r\nabc";
        let mut names = Names::default();
        let (length, head) = read(text, &mut names).ok().unwrap();
        assert_eq!((length, head.status, head.body), (text.len() - 3, StatusCode::OK, Body::Length(3)));
        let some = [Asked::ContentType, Asked::ContentEncoding, Asked::RequestId(0)];
        // Before and after there is a map.
        for _ in 0..2 {
            assert_eq!(some.map(|asked| head.fields.text(asked)), ["a/b", "", ""]);
            let values = some.map(|asked| head.fields.value(asked));
            assert_eq!(values, [Some(HeaderValue::from_static("a/b")), None, None]);
            let mut relayed = HeaderMap::new();
            head.fields.append_relayed(&mut relayed);
            assert_eq!((relayed.len(), relayed.get_all("x-a").count()), (4, 2));
            let map = head.fields.map();
            let values: Vec<_> = map.get_all("x-a").map(HeaderValue::as_bytes).collect();
            assert_eq!(
                (values, map.get("content-encoding").unwrap().as_bytes(), map.len()),
                (vec![&b"1"[..], b"2"], &b""[..], 5)
            );
        }
        for (fields, is_kept) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 3", true),
            ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: keep-alive", true),
            ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: x, Close", false),
            ("HTTP/1.0 200 OK\r\ncontent-length: 3\r\nconnection: keep-alive", false),
            ("HTTP/1.1 200 OK", false),
            ("HTTP/1.1 204 No Content", true),
        ] {
            // The names of each head are those of the next, or are not.
            let found = read(format!("{fields}\r\n\r\n").as_bytes(), &mut names).ok().map(|(_, head)| head.is_kept);
            assert_eq!(found, Some(is_kept), "{fields}");
        }
        assert!(matches!(read(b"HTTP/1.1 099 X\r\n\r\n", &mut names), Err(Head::Invalid)));
    }

    #[test]
    fn what_belongs_to_the_connection_stays_in_whichever_field_it_is_named() {
        let fields =
            "Server: s\r\nConnection: x-one, keep-alive\r\nconnection: X-Two\r\nx-one: 1\r\nx-two: 2\r\nx-three: 3\r\n";
        let text = format!("HTTP/1.1 204 X\r\n{fields}\r\n");
        let (_, head) = read(text.as_bytes(), &mut Names::default()).ok().unwrap();
        let as_map = Fields::of_map(head.fields.map().clone());
        let (_, head) = read(text.as_bytes(), &mut Names::default()).ok().unwrap();
        for fields in [head.fields, as_map] {
            let mut relayed = HeaderMap::new();
            fields.append_relayed(&mut relayed);
            assert_eq!(relayed.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-three"]);
        }
    }
    #[test]
    fn names_are_made_once_as_long_as_they_are_the_same() {
        let mut names = Names::default();
        let mut values = |head: &str| {
            let (_, head) = read(head.as_bytes(), &mut names).ok().unwrap();
            let map = head.fields.map();
            let shown = map.iter().map(|(name, value)| format!("{name}={}", value.to_str().unwrap()));
            let shown: std::collections::BTreeSet<String> = shown.collect();
            (shown.into_iter().collect::<Vec<_>>().join(","), names.list().as_ptr())
        };
        let (first, made) = values("HTTP/1.1 204 X\r\nServer: a\r\nX-Own: b\r\n\r\n");
        let (second, kept) = values("HTTP/1.1 204 X\r\nserver: c\r\nX-OWN: d\r\n\r\n");
        assert_eq!((first.as_str(), second.as_str()), ("server=a,x-own=b", "server=c,x-own=d"));
        assert_eq!(made, kept);
        for (head, shown) in [
            ("x-own: d\r\nserver: c", "server=c,x-own=d"),
            ("server: c", "server=c"),
            ("server: c\r\nx-owm: d", "server=c,x-owm=d"),
            ("server: c\r\nx-owm: d\r\nx-own: e", "server=c,x-own=e,x-owm=d"),
        ] {
            let mut shown: Vec<&str> = shown.split(',').collect();
            shown.sort_unstable();
            assert_eq!(values(&format!("HTTP/1.1 204 X\r\n{head}\r\n\r\n")).0, shown.join(","));
        }
    }
}
