//! A provider in this process, whose events say when they were sent.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use breakwater::clock;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};

use crate::inbound::read_request;

/// What begins an event's stamp; digits and a quote follow.
pub(crate) const STAMP: &str = "\"content\":\"t";

const STREAM_HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n";

const WHOLE: &str =
    "{\"id\":\"c\",\"object\":\"chat.completion\",\"choices\":[{\"message\":{\"content\":\"whole\"}}],\"x\":1234}";

/// How a stream goes.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    /// Content events.
    pub(crate) events: usize,
    /// Between two of them.
    pub(crate) gap: Duration,
}

/// The provider.
pub(crate) struct Upstream {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    pace: Rc<Cell<Pace>>,
}

impl Upstream {
    /// Starts it. Must run inside a `LocalSet`.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn start(socket: std::net::TcpListener) -> std::io::Result<Self> {
        socket.set_nonblocking(true)?;
        let listener = TcpListener::from_std(socket)?;
        let address = listener.local_addr()?;
        let pace = Rc::new(Cell::new(Pace { events: 1, gap: Duration::ZERO }));
        let shared = Rc::clone(&pace);
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let pace = Rc::clone(&shared);
                tokio::task::spawn_local(async move {
                    // A client that leaves ends it.
                    let _ = serve(stream, &pace).await;
                });
            }
        });
        Ok(Self { address, pace })
    }

    /// How streams that begin from now on go.
    pub(crate) fn set(&self, pace: Pace) {
        self.pace.set(pace);
    }
}

async fn serve(mut stream: TcpStream, pace: &Cell<Pace>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(8 << 10);
    loop {
        let streams = match read_request(&mut stream, &mut buffer).await? {
            Some(streams) => streams,
            None => return Ok(()),
        };
        if streams {
            send_events(&mut stream, pace.get()).await?;
        } else {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}", WHOLE.len());
            stream.write_all(format!("{head}\r\n\r\n{WHOLE}").as_bytes()).await?;
        }
    }
}

async fn send_events(stream: &mut TcpStream, pace: Pace) -> std::io::Result<()> {
    let mut out = STREAM_HEAD.to_vec();
    let event = |out: &mut Vec<u8>, delta: &str, finish: &str| {
        let text = format!(
            "data: {{\"id\":\"chatcmpl-relay\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\
             \"model\":\"gpt-4o-2024-08-06\",\"system_fingerprint\":\"fp_1\",\"choices\":[{{\"index\":0,\"delta\":{{{delta}}},\
             \"logprobs\":null,\"finish_reason\":{finish}}}]}}\n\n"
        );
        out.extend_from_slice(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes());
    };
    event(&mut out, "\"role\":\"assistant\",\"content\":\"\"", "null");
    stream.write_all(&out).await?;
    // Streams that begin together must not tick together.
    let mut at = clock::now().plus(pace.gap.mul_f64(fastrand::f64()));
    for _ in 0..pace.events {
        if !pace.gap.is_zero() {
            tokio::time::sleep_until(clock::to_tokio(at)).await;
            at = at.plus(pace.gap);
        }
        out.clear();
        event(&mut out, &format!("{STAMP}{}\"", clock::now().as_nanos()), "null");
        stream.write_all(&out).await?;
    }
    out.clear();
    event(&mut out, "", "\"stop\"");
    out.extend_from_slice(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n");
    stream.write_all(&out).await
}
