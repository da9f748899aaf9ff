//! A small blocking client for one question to a running gateway: `GET /admin/status` over plain HTTP, since the admin
//! listener speaks nothing else.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use serde_json::Value;

/// Longest wait for the connection and for each part of the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Largest answer: thousands of backends fit.
const MAX_ANSWER_BYTES: u64 = 16 << 20;

/// The port where none is written: the admin listener's usual one.
const USUAL_PORT: u16 = 4001;

/// Asks for the status document.
///
/// # Errors
/// A sentence: the URL, the connection, or what the gateway said.
pub(super) fn get_status(url: &str, token: Option<&str>) -> Result<Value, String> {
    let (authority, address) = parts(url)?;
    let answer = exchange(&address, &request(&authority, token)).map_err(|error| format!("{url}: {error}"))?;
    read(&answer).map_err(|problem| format!("{url}: {problem}"))
}

/// What stands in the `Host` header, and what is connected to.
fn parts(url: &str) -> Result<(String, String), String> {
    let wrong = || format!("--admin: `{url}` is no URL such as http://127.0.0.1:{USUAL_PORT}");
    let rest = url.strip_prefix("http://").ok_or_else(wrong)?;
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let parsed: actix_web::http::uri::Authority = authority.parse().map_err(|_| wrong())?;
    if authority.contains(['@', '/']) {
        return Err(wrong());
    }
    let port = parsed.port_u16().unwrap_or(USUAL_PORT);
    Ok((authority.to_owned(), format!("{}:{port}", parsed.host())))
}

fn request(authority: &str, token: Option<&str>) -> String {
    let mut text = format!("GET /admin/status HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\n");
    if let Some(token) = token.map(str::trim).filter(|token| !token.is_empty() && !token.contains(char::is_control)) {
        text.push_str(&format!("authorization: Bearer {token}\r\n"));
    }
    text + "\r\n"
}

fn exchange(address: &str, request: &str) -> std::io::Result<Vec<u8>> {
    let mut last = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
    for address in address.to_socket_addrs()? {
        let mut stream = match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => stream,
            Err(error) => {
                last = error;
                continue;
            }
        };
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer)?;
        return Ok(answer);
    }
    Err(last)
}

/// Status and body of a whole answer.
fn read(answer: &[u8]) -> Result<Value, String> {
    let strange = || "this is no answer of an admin listener".to_owned();
    let end = memchr::memmem::find(answer, b"\r\n\r\n").ok_or_else(strange)?;
    let head = std::str::from_utf8(&answer[..end]).map_err(|_| strange())?;
    let status = head.split(' ').nth(1).ok_or_else(strange)?;
    let body: Option<Value> = serde_json::from_slice(&answer[end + 4..]).ok();
    match (status, body) {
        ("200", Some(body)) if body["schema"].is_u64() => Ok(body),
        ("401", _) => Err(format!("the token is missing or wrong: put it into ${}", super::TOKEN)),
        (_, body) => {
            let said = body.and_then(|body| body["error"]["message"].as_str().map(str::to_owned));
            Err(said.map_or_else(strange, |said| format!("{status}: {said}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_have_a_host_and_perhaps_a_port() {
        let pair = |host: &str, address: &str| Some((host.to_owned(), address.to_owned()));
        let table = [
            ("http://127.0.0.1:4001", pair("127.0.0.1:4001", "127.0.0.1:4001")),
            ("http://localhost/", pair("localhost", "localhost:4001")),
            ("http://[::1]:9", pair("[::1]:9", "[::1]:9")),
            ("https://localhost:4001", None),
            ("localhost:4001", None),
            ("http://localhost:4001/admin", None),
            ("http://key@localhost", None),
            ("http://", None),
        ];
        for (url, expected) in table {
            assert_eq!(parts(url).ok(), expected, "{url}");
        }
    }

    #[test]
    fn answers_are_told_apart() {
        let read = |status: &str, body: &str| read(format!("HTTP/1.1 {status} X\r\na: b\r\n\r\n{body}").as_bytes());
        assert!(read("200", r#"{"schema": 1}"#).is_ok());
        assert!(read("200", "{}").is_err() && read("200", "no").is_err() && super::read(b"SSH-2.0").is_err());
        assert!(read("401", "{}").unwrap_err().contains("BREAKWATER_ADMIN_TOKEN"));
        assert_eq!(read("403", r#"{"error":{"message":"no"}}"#).unwrap_err(), "403: no");
        assert!(!request("h", Some("a\r\nb")).contains("authorization"));
        assert!(request("h", Some(" t ")).contains("\r\nauthorization: Bearer t\r\n"));
    }
}
