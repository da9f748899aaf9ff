//! A request as the providers of these benches read it: to its end, and whether it wants a stream.

use memchr::memmem;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// A larger body is counted, not kept.
const KEPT_BYTES: usize = 64 << 10;

/// Most header fields of a request.
const MAX_HEADERS: usize = 64;

/// Reads a request to its end; whether it wants a stream, or none where the client has left. `buffer` is room to read into.
///
/// # Errors
/// The system's, or `InvalidData` for what is no request.
pub(crate) async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> std::io::Result<Option<bool>> {
    buffer.clear();
    let head = loop {
        if let Some(end) = memmem::find(buffer, b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    };
    let length = length(&buffer[..head])?;
    let is_small = length < KEPT_BYTES;
    let mut missing = length.saturating_sub(buffer.len() - head);
    while 0 < missing {
        if !is_small {
            buffer.truncate(head);
        }
        let read = stream.read_buf(buffer).await?;
        if read == 0 {
            return Ok(None);
        }
        missing -= read.min(missing);
    }
    Ok(Some(is_small && memmem::find(&buffer[head..], b"\"stream\":true").is_some()))
}

/// What the head says of the body's length; zero where it says nothing.
fn length(head: &[u8]) -> std::io::Result<usize> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut fields);
    let invalid = |what| std::io::Error::new(std::io::ErrorKind::InvalidData, what);
    parsed.parse(head).map_err(|_| invalid("the request's head is malformed"))?;
    let field = parsed.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
    let Some(field) = field else { return Ok(0) };
    let number = std::str::from_utf8(field.value).ok().and_then(|text| text.trim().parse().ok());
    number.ok_or_else(|| invalid("the request's length is no number"))
}
