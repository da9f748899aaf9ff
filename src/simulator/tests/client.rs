//! A client of raw bytes: what it sends is written out, what it got is told as it was.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest a test waits for something that must come.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closing {
    Fin,
    Reset,
    Refused,
    /// It stays open.
    Open,
}

/// All that came back.
#[derive(Debug)]
pub(super) struct Got {
    pub(super) bytes: Vec<u8>,
    pub(super) closing: Closing,
}

pub(super) struct Client {
    stream: TcpStream,
}

/// A chat request of `openai` and `compat`.
pub(super) fn chat(more: &str) -> String {
    post(
        "/v1/chat/completions",
        &format!(r#"{{"model":"gpt-4o","messages":[{{"role":"user","content":"hello"}}]{more}}}"#),
    )
}

/// A POST with JSON and a key.
pub(super) fn post(target: &str, body: &str) -> String {
    request("POST", target, "authorization: Bearer sk-test\r\n", body)
}

pub(super) fn request(method: &str, target: &str, headers: &str, body: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: sim\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}

impl Client {
    pub(super) async fn connect(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap() }
    }

    pub(super) async fn send(&mut self, bytes: &str) {
        self.stream.write_all(bytes.as_bytes()).await.unwrap();
    }

    /// Reads until this has come; gives all that came.
    pub(super) async fn read_until(&mut self, end: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let read = async {
            while memchr::memmem::find(&bytes, end).is_none() {
                let read = self.stream.read_buf(&mut bytes).await.unwrap();
                assert_ne!(read, 0, "ended before {:?}", String::from_utf8_lossy(end));
            }
        };
        timeout(PATIENCE, read).await.unwrap();
        bytes
    }

    /// Reads until the connection ends.
    pub(super) async fn read_to_end(&mut self) -> Got {
        let mut bytes = Vec::new();
        let read = async {
            loop {
                match self.stream.read_buf(&mut bytes).await {
                    Ok(0) => return Closing::Fin,
                    Ok(_) => {}
                    Err(_) => return Closing::Reset,
                }
            }
        };
        let closing = timeout(PATIENCE, read).await.unwrap();
        Got { bytes, closing }
    }

    /// Sends a request and reads one whole answer, which leaves the connection open unless it is cut.
    pub(super) async fn ask(&mut self, request: &str) -> Got {
        self.send(request).await;
        let mut bytes = Vec::new();
        let read = async {
            loop {
                if Got::is_whole(&bytes) {
                    return Closing::Open;
                }
                match self.stream.read_buf(&mut bytes).await {
                    Ok(0) => return Closing::Fin,
                    Ok(_) => {}
                    Err(_) => return Closing::Reset,
                }
            }
        };
        let closing = timeout(PATIENCE, read).await.unwrap();
        Got { bytes, closing }
    }
}

/// One request on a connection of its own.
pub(super) async fn ask(address: SocketAddr, request: &str) -> Got {
    match TcpStream::connect(address).await {
        Ok(stream) => Client { stream }.ask(request).await,
        Err(_) => Got { bytes: Vec::new(), closing: Closing::Refused },
    }
}

impl Got {
    fn head_end(bytes: &[u8]) -> Option<usize> {
        memchr::memmem::find(bytes, b"\r\n\r\n").map(|at| at + 4)
    }

    /// Whether the bytes are a whole answer by their own framing.
    fn is_whole(bytes: &[u8]) -> bool {
        let Some(end) = Self::head_end(bytes) else { return false };
        let head = String::from_utf8_lossy(&bytes[..end]);
        match field(&head, "content-length") {
            Some(length) => end + length.parse::<usize>().unwrap() <= bytes.len(),
            None if field(&head, "transfer-encoding").is_some() => dechunk(&bytes[end..]).1,
            None => false,
        }
    }

    pub(super) fn head(&self) -> String {
        let end = Self::head_end(&self.bytes).unwrap_or(0);
        String::from_utf8_lossy(&self.bytes[..end]).into_owned()
    }

    pub(super) fn status(&self) -> Option<u16> {
        self.head().split(' ').nth(1)?.parse().ok()
    }

    pub(super) fn header(&self, name: &str) -> Option<String> {
        field(&self.head(), name)
    }

    /// The body, chunks joined.
    pub(super) fn body(&self) -> Vec<u8> {
        let Some(end) = Self::head_end(&self.bytes) else { return Vec::new() };
        let is_chunked = self.header("transfer-encoding").is_some();
        if is_chunked { dechunk(&self.bytes[end..]).0 } else { self.bytes[end..].to_vec() }
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body()).into_owned()
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body()).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// Whether the body ended as its framing says.
    pub(super) fn is_complete(&self) -> bool {
        Self::is_whole(&self.bytes)
    }

    /// The `data` of all events, for streams with plain line ends.
    pub(super) fn data(&self) -> Vec<String> {
        self.text().lines().filter_map(|line| line.strip_prefix("data: ").map(str::to_owned)).collect()
    }

    /// The streamed content put together.
    pub(super) fn streamed(&self) -> String {
        let chunks = self.data();
        let chunks = chunks.iter().filter_map(|data| serde_json::from_str::<Value>(data).ok());
        chunks
            .map(|chunk| {
                let choice = &chunk["choices"][0];
                let content = choice["delta"]["content"].as_str().or(choice["text"].as_str());
                content.or(chunk["delta"].as_str()).unwrap_or_default().to_owned()
            })
            .collect()
    }
}

fn field(head: &str, name: &str) -> Option<String> {
    head.lines().find_map(|line| {
        let (field, value) = line.split_once(':')?;
        field.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    })
}

/// Joins chunks; says whether the last one came.
fn dechunk(mut bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        let Some(line) = memchr::memmem::find(bytes, b"\r\n") else { return (body, false) };
        let text = std::str::from_utf8(&bytes[..line]).unwrap_or("?");
        let Ok(size) = usize::from_str_radix(text, 16) else { return (body, false) };
        if size == 0 {
            return (body, bytes[line..].starts_with(b"\r\n\r\n"));
        }
        let data = &bytes[line + 2..];
        body.extend_from_slice(&data[..size.min(data.len())]);
        if data.len() < size + 2 {
            return (body, false);
        }
        bytes = &data[size + 2..];
    }
}
