//! A client of raw bytes: the head as it came, the chunks as they were cut, and how the body ended.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use breakwater::clock::{self, Instant};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use serde_json::Value;

use super::PATIENCE;

/// A request as it will be sent.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    method: &'static str,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// The body goes out in chunks of this size instead of under a length.
    chunk: Option<usize>,
}

impl Ask {
    /// A request without a body.
    pub(crate) fn get(target: &str) -> Self {
        Self { method: "GET", target: target.to_owned(), headers: Vec::new(), body: Vec::new(), chunk: None }
    }

    /// A POST of these bytes as JSON.
    pub(crate) fn post(target: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::form(target, "application/json", body)
    }

    /// A POST of these bytes as something else.
    pub(crate) fn form(target: &str, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let ask = Self { method: "POST", body: body.into(), ..Self::get(target) };
        ask.header("content-type", content_type)
    }

    /// A chat request to a route.
    pub(crate) fn chat(route: &str) -> Self {
        Self::chat_with(route, "")
    }

    /// The same with more members, such as `,"max_tokens":5`.
    pub(crate) fn chat_with(route: &str, more: &str) -> Self {
        let body = format!(r#"{{"model":"{route}","messages":[{{"role":"user","content":"hello"}}]{more}}}"#);
        Self::post("/v1/chat/completions", body)
    }

    /// A chat request that asks for a stream.
    pub(crate) fn stream(route: &str) -> Self {
        Self::chat_with(route, r#","stream":true"#)
    }

    /// An embeddings request, whose answer is a function of `input`.
    pub(crate) fn embedding(route: &str, input: &str) -> Self {
        Self::post("/v1/embeddings", serde_json::json!({"model": route, "input": input}).to_string())
    }

    /// The same by another method.
    pub(crate) fn by(self, method: &'static str) -> Self {
        Self { method, ..self }
    }

    /// With one more header.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With its body in chunks of so many bytes, and no length.
    pub(crate) fn in_chunks(self, size: usize) -> Self {
        Self { chunk: Some(size), ..self }
    }

    /// Its body.
    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }

    fn bytes(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\nhost: gateway\r\n", self.method, self.target);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let Some(size) = self.chunk else {
            if self.method != "GET" {
                head.push_str(&format!("content-length: {}\r\n", self.body.len()));
            }
            return [head.as_bytes(), b"\r\n", &self.body].concat();
        };
        head.push_str("transfer-encoding: chunked\r\n\r\n");
        let mut bytes = head.into_bytes();
        for chunk in self.body.chunks(size) {
            bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
        bytes
    }
}

/// How a body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// As its framing says.
    Whole,
    /// The connection ended before that.
    Cut,
}

/// How a body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// So many bytes are to come.
    Length(usize),
    Chunked,
    /// All of it was read.
    Over,
}

/// A connection.
pub(crate) struct Client {
    stream: TcpStream,
    /// TLS over the stream, if it is spoken.
    tls: Option<ClientConnection>,
    buffer: Vec<u8>,
    framing: Framing,
    started: Instant,
    answer: Answer,
}

impl Client {
    /// Connects; a refusal is the error.
    pub(crate) fn connect(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let answer = Answer::default();
        let (buffer, framing) = (Vec::new(), Framing::Over);
        Ok(Self { stream, tls: None, buffer, framing, started: clock::now(), answer })
    }

    /// Connects and shakes hands with whom this certificate is trusted for `localhost`; a refusal is the error.
    pub(crate) fn connect_tls(address: SocketAddr, trusted: &str, protocols: &[&str]) -> std::io::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(trusted.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let mut tls = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
        let mut client = Self::connect(address)?;
        while tls.is_handshaking() {
            tls.complete_io(&mut client.stream)?;
        }
        Ok(Self { tls: Some(tls), ..client })
    }

    /// The protocol that was agreed upon.
    pub(crate) fn protocol(&self) -> Option<&str> {
        self.tls.as_ref()?.alpn_protocol().map(|name| std::str::from_utf8(name).expect("a protocol's name is text"))
    }

    /// Sends a request.
    pub(crate) fn send(&mut self, ask: &Ask) {
        self.send_in_two(ask, 0, || {});
    }

    /// Sends a request, of its body the `last` bytes only after `meanwhile`.
    pub(crate) fn send_in_two(&mut self, ask: &Ask, last: usize, meanwhile: impl FnOnce()) {
        self.started = clock::now();
        self.answer = Answer::default();
        let bytes = ask.bytes();
        let (first, last) = bytes.split_at(bytes.len() - last);
        self.write(first);
        meanwhile();
        self.write(last);
    }

    fn write(&mut self, bytes: &[u8]) {
        // A server may have answered and closed before it has read all of a body that it does not want.
        let _ = match &mut self.tls {
            Some(tls) => rustls::Stream::new(tls, &mut self.stream).write_all(bytes),
            None => self.stream.write_all(bytes),
        };
    }

    /// Sends a request and reads its whole answer.
    pub(crate) fn ask(&mut self, ask: &Ask) -> Answer {
        self.send(ask);
        self.finish()
    }

    /// Says that nothing more will be sent, and goes on reading.
    pub(crate) fn half_close(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Reads up to the end of the head, interim answers passed over. False if the connection ended before it.
    pub(crate) fn read_head(&mut self) -> bool {
        loop {
            if !self.read_any_head() {
                self.answer.ending = Some(Ending::Cut);
                return false;
            }
            if !self.answer.head.starts_with("HTTP/1.1 1") {
                break;
            }
        }
        self.framing = match (self.answer.header("content-length"), self.answer.header("transfer-encoding")) {
            (_, Some(_)) => Framing::Chunked,
            (Some(length), None) => Framing::Length(length.parse().unwrap()),
            (None, None) => Framing::Length(0),
        };
        true
    }

    fn read_any_head(&mut self) -> bool {
        let end = loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                break end + 4;
            }
            if !self.read_some() {
                return false;
            }
        };
        let head: Vec<u8> = self.buffer.drain(..end).collect();
        self.answer.head = String::from_utf8(head).expect("a head is text");
        true
    }

    /// Reads the next piece of the body; none at its end, whichever.
    pub(crate) fn read_piece(&mut self) -> Option<Vec<u8>> {
        let piece = match self.framing {
            Framing::Over | Framing::Length(0) => Err(Ending::Whole),
            Framing::Length(left) => self.read_plain(left),
            Framing::Chunked => self.read_chunk(),
        };
        match piece {
            Ok(piece) => {
                self.answer.body.extend_from_slice(&piece);
                self.answer.pieces += 1;
                Some(piece)
            }
            Err(ending) => {
                self.framing = Framing::Over;
                self.answer.ending.get_or_insert(ending);
                None
            }
        }
    }

    /// Reads the head, then pieces until the body holds this text.
    pub(crate) fn read_until(&mut self, text: &str) {
        assert!(!self.answer.head.is_empty() || self.read_head(), "it ended before its head");
        while find(&self.answer.body, text.as_bytes()).is_none() {
            assert!(self.read_piece().is_some(), "it ended before {text:?}: {:?}", self.answer);
        }
    }

    /// Reads the rest of the answer.
    pub(crate) fn finish(&mut self) -> Answer {
        if self.answer.head.is_empty() && !self.read_head() {
            return self.answer.clone();
        }
        while self.read_piece().is_some() {}
        self.answer.elapsed = clock::now().since(self.started);
        self.answer.clone()
    }

    /// Reads the answer to the next of several requests that were sent in one breath.
    pub(crate) fn next(&mut self) -> Answer {
        self.answer = Answer::default();
        self.finish()
    }

    /// What has been read so far.
    pub(crate) fn so_far(&self) -> &Answer {
        &self.answer
    }

    fn read_plain(&mut self, left: usize) -> Result<Vec<u8>, Ending> {
        if self.buffer.is_empty() && !self.read_some() {
            return Err(Ending::Cut);
        }
        let take = left.min(self.buffer.len());
        self.framing = Framing::Length(left - take);
        Ok(self.buffer.drain(..take).collect())
    }

    fn read_chunk(&mut self) -> Result<Vec<u8>, Ending> {
        loop {
            if let Some(line) = find(&self.buffer, b"\r\n") {
                let text = std::str::from_utf8(&self.buffer[..line]).expect("a chunk's size is text");
                let size = usize::from_str_radix(text, 16).expect("a chunk's size is a number");
                let whole = line + 2 + size + 2;
                if whole <= self.buffer.len() {
                    let chunk: Vec<u8> = self.buffer.drain(..whole).collect();
                    return if size == 0 { Err(Ending::Whole) } else { Ok(chunk[line + 2..line + 2 + size].to_vec()) };
                }
            }
            if !self.read_some() {
                return Err(Ending::Cut);
            }
        }
    }

    /// False at the connection's end, by FIN or RST.
    fn read_some(&mut self) -> bool {
        let mut bytes = [0; 16 << 10];
        let read = match &mut self.tls {
            Some(tls) => rustls::Stream::new(tls, &mut self.stream).read(&mut bytes),
            None => self.stream.read(&mut bytes),
        };
        match read {
            Ok(0) => false,
            Ok(read) => {
                self.buffer.extend_from_slice(&bytes[..read]);
                true
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("nothing came within {PATIENCE:?}; so far: {:?}", self.answer)
            }
            Err(_) => false,
        }
    }
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, part)
}

/// What came back.
#[derive(Clone, Default)]
pub(crate) struct Answer {
    /// The raw head; empty if none came.
    pub(crate) head: String,
    /// The body without its framing.
    pub(crate) body: Vec<u8>,
    /// Chunks, or reads, that the body came in.
    pub(crate) pieces: usize,
    /// How it ended; none while it is coming.
    pub(crate) ending: Option<Ending>,
    /// From the request's first byte to the answer's last.
    pub(crate) elapsed: Duration,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} after {:?}\n{}{}", self.ending, self.elapsed, self.head, self.text())
    }
}

impl Answer {
    /// The status; 0 if no head came.
    pub(crate) fn status(&self) -> u16 {
        self.head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    /// The first header of this name, in any case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// `x-breakwater-attempts`.
    pub(crate) fn trail(&self) -> &str {
        self.header("x-breakwater-attempts").unwrap_or_default()
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The `error` object of the body, which has exactly the four keys that SDKs read.
    pub(crate) fn error(&self) -> Value {
        let mut body = self.json();
        let keys: Vec<&str> = body["error"].as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["message", "type", "param", "code"], "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        body["error"].take()
    }

    /// The error's `code`.
    pub(crate) fn code(&self) -> String {
        self.error()["code"].as_str().unwrap_or_default().to_owned()
    }

    /// The `data` of a stream's events, for plain line ends.
    pub(crate) fn data(&self) -> Vec<String> {
        self.text().lines().filter_map(|line| line.strip_prefix("data: ").map(str::to_owned)).collect()
    }

    /// What the model said, streamed or not.
    pub(crate) fn words(&self) -> String {
        if !self.header("content-type").unwrap_or_default().starts_with("text/event-stream") {
            return self.json()["choices"][0]["message"]["content"].as_str().unwrap_or_default().to_owned();
        }
        let said = |data: &String| {
            let event: Value = serde_json::from_str(data).ok()?;
            let said = event["choices"][0]["delta"]["content"].as_str().or(event["delta"].as_str())?;
            Some(said.to_owned())
        };
        self.data().iter().filter_map(said).collect()
    }
}

/// What a healthy simulated provider says in so many words.
pub(crate) fn words_of(backend: &str, count: usize) -> String {
    (0..count).map(|index| format!("{backend}:{index}")).collect::<Vec<_>>().join(" ")
}
