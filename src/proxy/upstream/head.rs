//! Heads as bytes: a request's head written, an answer's head read.

use actix_web::http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE,
};
use actix_web::http::{Method, StatusCode, Uri};
use bytes::Bytes;

use super::framing::{self, Body, Final, Head};
use crate::telemetry::access_log::push_count;

/// Room for fields beside the provider's: those that the gateway adds before the answer goes on.
const OWN_FIELDS: usize = 12;

/// An answer's final head.
pub(super) struct AnswerHead {
    /// Its status.
    pub(super) status: StatusCode,
    /// Its headers as received.
    pub(super) headers: HeaderMap,
    /// How its body is delimited.
    pub(super) body: Body,
    /// Whether its connection may carry another request.
    pub(super) is_kept: bool,
}

/// Appends a request's head. Fields that belong to the connection are ours to say, whoever put them there: we ask for no
/// other protocol, no interim answer and no trailers.
pub(super) fn write(out: &mut Vec<u8>, method: &Method, uri: &Uri, headers: &HeaderMap, body_length: usize) {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    push(out, [method.as_str(), " ", path, " HTTP/1.1\r\n"]);
    if !headers.contains_key(HOST)
        && let Some(authority) = uri.authority()
    {
        push(out, ["host: ", authority.as_str(), "\r\n", ""]);
    }
    for (name, value) in headers {
        if matches!(*name, CONNECTION | CONTENT_LENGTH | EXPECT | TE | TRAILER | TRANSFER_ENCODING | UPGRADE) {
            continue;
        }
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
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

/// Reads the final head at the start of `bytes`, and says how long it is; what is no final one is the error.
pub(super) fn read(bytes: &[u8]) -> Result<(usize, AnswerHead), Head> {
    let mut room = framing::room();
    let Final { length, status, is_1_1, fields, body } = framing::read_final(bytes, &mut room)?;
    let status = StatusCode::from_u16(status).map_err(|_| Head::Invalid)?;
    // One copy that all values share.
    let text = Bytes::copy_from_slice(&bytes[..length]);
    let mut headers = HeaderMap::with_capacity(fields.len() + OWN_FIELDS);
    let mut is_kept = is_1_1 && body != Body::UntilClose;
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Head::Invalid)?;
        let value = shared(&text, bytes, field.value).ok_or(Head::Invalid)?;
        if name == CONNECTION && says_close(&value) {
            is_kept = false;
        }
        headers.append(name, value);
    }
    Ok((length, AnswerHead { status, headers, body, is_kept }))
}

/// The part of `text` that `value` is of `bytes`, which begin alike.
fn shared(text: &Bytes, bytes: &[u8], value: &[u8]) -> Option<HeaderValue> {
    if value.is_empty() {
        return Some(HeaderValue::from_static(""));
    }
    let start = value.as_ptr() as usize - bytes.as_ptr() as usize;
    HeaderValue::from_maybe_shared(text.slice(start..start + value.len())).ok()
}

fn says_close(value: &HeaderValue) -> bool {
    value.as_bytes().split(|byte| *byte == b',').any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_says_what_is_asked_and_nothing_of_the_connection() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("expect", "100-continue"), ("upgrade", "h2c"), ("te", "trailers"), ("x-a", "1")] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        for (name, value) in [("connection", "close"), ("transfer-encoding", "chunked"), ("content-length", "7")] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let uri: Uri = "http://h:81/v1/x?y=z".parse().unwrap();
        let mut out = Vec::new();
        write(&mut out, &Method::POST, &uri, &headers, 12);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "POST /v1/x?y=z HTTP/1.1\r\nhost: h:81\r\nx-a: 1\r\ncontent-length: 12\r\n\r\n");
        headers.clear();
        headers.insert(HOST, HeaderValue::from_static("elsewhere"));
        let mut out = Vec::new();
        write(&mut out, &Method::GET, &"http://h".parse().unwrap(), &headers, 0);
        assert_eq!(String::from_utf8(out).unwrap(), "GET / HTTP/1.1\r\nhost: elsewhere\r\ncontent-length: 0\r\n\r\n");
    }

    #[test]
    fn an_answers_head_keeps_every_field_and_tells_whether_its_connection_goes_on() {
        let text = b"HTTP/1.1 200 OK\r\nX-A: 1\r\nx-a:2 \r\nx-empty:\r\nContent-Length: 3\r\n\r\nabc";
        let (length, head) = read(text).ok().unwrap();
        let values: Vec<_> = head.headers.get_all("x-a").map(HeaderValue::as_bytes).collect();
        assert_eq!((length, head.status, values), (text.len() - 3, StatusCode::OK, vec![&b"1"[..], b"2"]));
        assert_eq!((head.headers.get("x-empty").unwrap().as_bytes(), head.body), (&b""[..], Body::Length(3)));
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
