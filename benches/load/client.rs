//! One keep-alive connection: ready-made bytes out, a whole answer in. It understands lengths and chunks, and no more.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;

use bytes::BytesMut;
use memchr::memmem;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Room for an answer; a larger one makes it grow.
const BUFFER_BYTES: usize = 64 << 10;

/// Largest answer: the simulator gives none like it.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// Most header fields of an answer.
const MAX_HEADERS: usize = 64;

/// How a chunked body ends. Content never looks like it: JSON has no bare carriage return.
const LAST_CHUNK: &[u8] = b"\r\n0\r\n\r\n";

/// A simulated stream's first word.
const FIRST_CONTENT: &[u8] = b"\"content\":\"slow:0";

/// A connection that is used for one exchange after the other.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: BytesMut,
}

/// An answer that was read to its end.
pub(crate) struct Answer<'a> {
    /// Its status.
    pub(crate) status: u16,
    /// Its body; chunks with their frames.
    pub(crate) body: &'a [u8],
}

/// Where a body ends.
enum Framing {
    Length(usize),
    Chunked,
}

struct Head {
    status: u16,
    length: usize,
    framing: Framing,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// The system's.
    pub(crate) async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: BytesMut::with_capacity(BUFFER_BYTES) })
    }

    /// Sends a request and reads its whole answer.
    ///
    /// # Errors
    /// The system's, or `InvalidData` for an answer that this client does not understand.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> io::Result<Answer<'_>> {
        self.buffer.clear();
        self.stream.write_all(request).await?;
        let head = loop {
            self.read().await?;
            if let Some(head) = Head::parse(&self.buffer)? {
                break head;
            }
        };
        while !head.is_whole(&self.buffer) {
            self.read().await?;
        }
        Ok(Answer { status: head.status, body: &self.buffer[head.length..] })
    }

    /// The last answer as it was received, with its head.
    pub(crate) fn received(&self) -> &[u8] {
        &self.buffer
    }

    /// Sends a request and reads its stream to no end; says when the first content has come.
    ///
    /// # Errors
    /// The system's, `InvalidData` where no stream is answered, `UnexpectedEof` at its end.
    pub(crate) async fn watch(&mut self, request: &[u8], started: impl FnOnce()) -> io::Result<Infallible> {
        self.buffer.clear();
        self.stream.write_all(request).await?;
        while memmem::find(&self.buffer, FIRST_CONTENT).is_none() {
            self.read().await?;
        }
        if Head::parse(&self.buffer)?.is_none_or(|head| head.status != 200) {
            return Err(invalid("the answer is no stream"));
        }
        started();
        loop {
            self.buffer.clear();
            self.read().await?;
        }
    }

    async fn read(&mut self) -> io::Result<()> {
        if MAX_ANSWER_BYTES < self.buffer.len() {
            return Err(invalid("the answer is too large"));
        }
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

impl Head {
    fn parse(bytes: &[u8]) -> io::Result<Option<Self>> {
        let Some(end) = memmem::find(bytes, b"\r\n\r\n") else { return Ok(None) };
        let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut parsed = httparse::Response::new(&mut fields);
        parsed.parse(&bytes[..end + 4]).map_err(|_| invalid("the answer's head is malformed"))?;
        let field = |name: &str| parsed.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
        let framing = match (field("content-length"), field("transfer-encoding")) {
            (Some(length), _) => Framing::Length(number(length.value)?),
            (None, Some(_)) => Framing::Chunked,
            (None, None) => return Err(invalid("the answer says not how long it is")),
        };
        Ok(Some(Self { status: parsed.code.unwrap_or_default(), length: end + 4, framing }))
    }

    fn is_whole(&self, bytes: &[u8]) -> bool {
        match self.framing {
            Framing::Length(length) => self.length + length <= bytes.len(),
            Framing::Chunked => bytes[self.length - 2..].ends_with(LAST_CHUNK),
        }
    }
}

fn number(text: &[u8]) -> io::Result<usize> {
    let number = std::str::from_utf8(text).ok().and_then(|text| text.trim().parse().ok());
    number.ok_or_else(|| invalid("the answer's length is no number"))
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
