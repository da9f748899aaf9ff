//! A connection: requests in, bytes out, waits in which the client is watched, and the three ways to end.

use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::time::{sleep, sleep_until, timeout};

use super::request::{Framing, Request};
use crate::clock::{self, Instant};

/// Largest request body: twice what the gateway takes.
const MAX_BODY_BYTES: usize = 64 << 20;

/// Longest line of chunk framing.
const MAX_CHUNK_LINE_BYTES: usize = 1 << 10;

/// Longest silence within a request.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest wait for a client that does not read.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a closing connection waits for the client to close as well, so that its unread bytes cause no reset.
const LINGER: Duration = Duration::from_secs(1);

/// What is taken out of a buffer by one read.
const READ_BYTES: usize = 16 << 10;

/// Longest body that is copied out of the read buffer; longer ones fill a buffer of their own well enough.
const MAX_COPIED_BYTES: usize = 64 << 10;

/// How often a connection that nobody reads is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// Bytes a client may send ahead while it is being answered; beyond them nothing is read, and its leaving is seen late.
const MAX_AHEAD_BYTES: usize = 1 << 20;

/// The client is gone, or does not speak HTTP.
#[derive(Debug)]
pub(super) enum Broken {
    /// The connection has ended.
    Gone,
    /// It stands, but this is wrong with what came.
    Invalid(u16, &'static str),
}

impl From<io::Error> for Broken {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

/// A connection with what was read ahead.
pub(super) struct Socket {
    stream: TcpStream,
    buffer: BytesMut,
}

impl Socket {
    pub(super) fn new(stream: TcpStream) -> Self {
        // Without it, small writes wait for the acknowledgement of earlier ones: about 40 ms. Nothing else depends on it.
        let _ = stream.set_nodelay(true);
        Self { stream, buffer: BytesMut::with_capacity(READ_BYTES) }
    }

    /// Waits until something of a request is there. May be dropped and called again.
    pub(super) async fn wait_for_request(&mut self) -> Result<(), Broken> {
        while self.buffer.is_empty() {
            self.fill().await?;
        }
        Ok(())
    }

    /// Reads the head of the request whose first bytes are there.
    pub(super) async fn read_head(&mut self) -> Result<Request, Broken> {
        loop {
            match Request::parse(&self.buffer) {
                Ok(Some(request)) => {
                    self.buffer.advance(request.head_length());
                    return Ok(request);
                }
                Ok(None) => self.fill_in_time().await?,
                Err(problem) => return Err(Broken::Invalid(400, problem)),
            }
        }
    }

    /// Reads the body that belongs to a head.
    pub(super) async fn read_body(&mut self, request: &Request) -> Result<Bytes, Broken> {
        let framing = request.framing().map_err(|problem| Broken::Invalid(400, problem))?;
        let is_here = match framing {
            Framing::Length(length) => length <= self.buffer.len(),
            Framing::Chunked => !self.buffer.is_empty(),
        };
        if !is_here && request.header_text("expect").is_some_and(|expect| expect.eq_ignore_ascii_case("100-continue")) {
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        match framing {
            Framing::Length(length) if MAX_BODY_BYTES < length => Err(Broken::Invalid(413, "the body is too large")),
            Framing::Length(length) => self.take(length).await,
            Framing::Chunked => self.read_chunks().await,
        }
    }

    async fn read_chunks(&mut self) -> Result<Bytes, Broken> {
        let mut body = BytesMut::new();
        loop {
            let line = self.take_line().await?;
            let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
            let size = std::str::from_utf8(digits).ok().and_then(|text| usize::from_str_radix(text.trim(), 16).ok());
            let size = size.ok_or(Broken::Invalid(400, "a chunk has no size"))?;
            if MAX_BODY_BYTES < body.len().saturating_add(size) {
                return Err(Broken::Invalid(413, "the body is too large"));
            }
            if size == 0 {
                break;
            }
            body.extend_from_slice(&self.take(size).await?);
            if !self.take_line().await?.is_empty() {
                return Err(Broken::Invalid(400, "a chunk does not end where it should"));
            }
        }
        while !self.take_line().await?.is_empty() {}
        Ok(body.freeze())
    }

    async fn take(&mut self, length: usize) -> Result<Bytes, Broken> {
        while self.buffer.len() < length {
            self.fill_in_time().await?;
        }
        if MAX_COPIED_BYTES < length {
            return Ok(self.buffer.split_to(length).freeze());
        }
        // A short body that is kept must not keep the whole buffer, and the buffer is used again.
        let taken = Bytes::copy_from_slice(&self.buffer[..length]);
        self.buffer.advance(length);
        Ok(taken)
    }

    async fn take_line(&mut self) -> Result<Bytes, Broken> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.buffer) {
                let line = self.buffer.split_to(end + 1).freeze();
                return Ok(line.slice(..line.trim_ascii_end().len()));
            }
            if MAX_CHUNK_LINE_BYTES < self.buffer.len() {
                return Err(Broken::Invalid(400, "a chunk line is too long"));
            }
            self.fill_in_time().await?;
        }
    }

    async fn fill_in_time(&mut self) -> Result<(), Broken> {
        timeout(READ_TIMEOUT, self.fill()).await.unwrap_or(Err(Broken::Gone))
    }

    async fn fill(&mut self) -> Result<(), Broken> {
        self.buffer.reserve(READ_BYTES);
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(Broken::Gone),
            _ => Ok(()),
        }
    }

    /// Sends all of it.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        timeout(WRITE_TIMEOUT, self.stream.write_all(bytes)).await.map_err(|_| Broken::Gone)??;
        Ok(())
    }

    /// Waits, and says at once if the client leaves meanwhile.
    pub(super) async fn wait_until(&mut self, due: Instant) -> Result<(), Broken> {
        if due <= clock::now() {
            return Ok(());
        }
        let timer = sleep_until(clock::to_tokio(due));
        tokio::pin!(timer);
        loop {
            tokio::select! {
                () = &mut timer => return Ok(()),
                filled = self.fill(), if self.buffer.len() < MAX_AHEAD_BYTES => filled?,
            }
        }
    }

    /// Reads nothing until the client leaves or the time is over.
    pub(super) async fn swallow(&self, longest: Duration) {
        let left = async {
            while self.stream.ready(Interest::READABLE).await.is_ok_and(|ready| !ready.is_read_closed()) {
                sleep(LOOK).await;
            }
        };
        // Either way the connection ends with its caller.
        let _ = timeout(longest, left).await;
    }

    /// RST in place of an orderly end.
    pub(super) fn reset(self) {
        let socket = socket2::SockRef::from(&self.stream);
        // If it fails the client is gone already.
        let _ = socket.set_linger(Some(Duration::ZERO));
    }

    /// FIN, after everything sent.
    pub(super) async fn close(mut self) {
        if self.stream.shutdown().await.is_err() {
            return;
        }
        let drained = async {
            loop {
                self.buffer.clear();
                if self.fill().await.is_err() {
                    return;
                }
            }
        };
        // Whoever does not close by then gets a reset, if anything is unread.
        let _ = timeout(LINGER, drained).await;
    }
}
