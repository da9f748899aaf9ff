//! Clients that read when each event was sent.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use breakwater::clock::{self, Instant};
use bytes::{Buf as _, BytesMut};
use memchr::memmem;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::contestants::Contestant;
use crate::upstream::{Pace, STAMP};

/// An event that takes longer met Nagle's algorithm and a delayed acknowledgement: 40 ms, less what timers lose.
const STALL: Duration = Duration::from_millis(35);

/// What a window does.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    /// Streams at a time.
    pub(crate) streams: usize,
    /// How each goes.
    pub(crate) pace: Pace,
    /// How long it is measured.
    pub(crate) span: Duration,
}

/// What a window brought.
pub(crate) struct Window {
    /// Each event's time on the way, in order of size.
    delays: Vec<Duration>,
    /// Half of the streams' first events took at most this.
    pub(crate) first: Duration,
    /// Events that took 35 ms or more.
    pub(crate) stalls: usize,
    /// Resident memory at its end.
    pub(crate) resident: Option<u64>,
    elapsed: Duration,
    cpu: Option<Duration>,
}

impl Window {
    /// Events per second.
    pub(crate) fn rate(&self) -> f64 {
        self.delays.len() as f64 / self.elapsed.as_secs_f64()
    }

    /// CPU per event in seconds; none if none arrived.
    pub(crate) fn cost(&self) -> Option<f64> {
        let cpu = self.cpu.filter(|_| !self.delays.is_empty())?;
        Some(cpu.as_secs_f64() / self.delays.len() as f64)
    }

    /// The delay that this share of all events does not exceed.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        quantile(&self.delays, share)
    }
}

fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

#[derive(Default)]
struct Tally {
    is_measured: Cell<bool>,
    delays: RefCell<Vec<Duration>>,
    firsts: RefCell<Vec<Duration>>,
    problem: RefCell<Option<String>>,
}

/// Drives a window. Must run inside a `LocalSet`.
///
/// # Errors
/// A stream that was not whole.
pub(crate) async fn drive(contestant: &Contestant<'_>, load: Load) -> Result<Window, String> {
    let tally = Rc::new(Tally::default());
    let mut clients = JoinSet::new();
    for _ in 0..load.streams {
        let (address, model, tally) = (contestant.address, contestant.model, Rc::clone(&tally));
        clients.spawn_local(async move {
            if let Err(problem) = keep_streaming(address, model, load.pace.events, &tally).await {
                tally.problem.borrow_mut().get_or_insert(problem);
            }
        });
    }
    // All are connected, and out of step.
    tokio::time::sleep(load.span.mul_f64(0.5).max(load.pace.gap * 2)).await;
    let cpu = || contestant.process.and_then(|process| process.cpu());
    let (begun, before) = (clock::now(), cpu());
    tally.is_measured.set(true);
    tokio::time::sleep(load.span).await;
    tally.is_measured.set(false);
    let (elapsed, after) = (clock::now().since(begun), cpu());
    let resident = contestant.process.and_then(|process| process.resident());
    clients.abort_all();
    while clients.join_next().await.is_some() {}
    if let Some(problem) = tally.problem.take() {
        return Err(format!("{}: {problem}", contestant.name));
    }
    let (mut delays, mut firsts) = (tally.delays.take(), tally.firsts.take());
    delays.sort_unstable();
    firsts.sort_unstable();
    Ok(Window {
        stalls: delays.iter().filter(|delay| STALL <= **delay).count(),
        first: quantile(&firsts, 0.5),
        delays,
        resident,
        elapsed,
        cpu: after.zip(before).map(|(after, before)| after.saturating_sub(before)),
    })
}

fn request(address: SocketAddr, body: &str) -> Vec<u8> {
    let head = "POST /v1/chat/completions HTTP/1.1\r\nauthorization: Bearer bench\r\ncontent-type: application/json";
    format!("{head}\r\nhost: {address}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// One connection: a stream, the next stream. Each must have its events once and in order.
async fn keep_streaming(address: SocketAddr, model: &str, events: usize, tally: &Tally) -> Result<(), String> {
    let lost = |error: std::io::Error| format!("a connection was lost: {error}");
    let mut stream = TcpStream::connect(address).await.map_err(lost)?;
    stream.set_nodelay(true).map_err(lost)?;
    let body = format!(
        r#"{{"model":"{model}","messages":[{{"role":"user","content":"Explain streaming vs batching."}}],"stream":true,"stream_options":{{"include_usage":true}}}}"#
    );
    let request = request(address, &body);
    let mut buffer = BytesMut::with_capacity(16 << 10);
    loop {
        stream.write_all(&request).await.map_err(lost)?;
        let (mut seen, mut last, mut is_over) = (0, Instant::ZERO, false);
        while !is_over {
            if stream.read_buf(&mut buffer).await.map_err(lost)? == 0 {
                return Err("a stream was cut".to_owned());
            }
            let now = clock::now();
            while let Some(at) = memmem::find(&buffer, STAMP.as_bytes()) {
                let digits = &buffer[at + STAMP.len()..];
                let Some(end) = memchr::memchr(b'"', digits) else { break };
                let sent = std::str::from_utf8(&digits[..end]).ok().and_then(|digits| digits.parse().ok());
                let sent = Instant::from_nanos(sent.ok_or("an event is broken")?);
                if sent < last {
                    return Err("events came out of order".to_owned());
                }
                buffer.advance(at + STAMP.len() + end);
                if tally.is_measured.get() {
                    tally.delays.borrow_mut().push(now.since(sent));
                    if seen == 0 {
                        tally.firsts.borrow_mut().push(now.since(sent));
                    }
                }
                (seen, last) = (seen + 1, sent);
            }
            is_over = memmem::find(&buffer, b"data: [DONE]").is_some() && buffer.ends_with(b"\r\n0\r\n\r\n");
        }
        if seen != events {
            return Err(format!("{seen} events of {events}: {}", String::from_utf8_lossy(&buffer)));
        }
        buffer.clear();
    }
}

/// Sends a body of about so many bytes and reads the answer.
///
/// # Errors
/// A lost connection, or an answer that is no 200.
pub(crate) async fn send_large(address: SocketAddr, model: &str, bytes: usize) -> Result<(), String> {
    let lost = |error: std::io::Error| format!("a connection was lost: {error}");
    let image = "A".repeat(bytes);
    let body = format!(
        r#"{{"model":"{model}","messages":[{{"role":"user","content":[{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{image}"}}}}]}}]}}"#
    );
    let request = request(address, &body);
    let mut stream = TcpStream::connect(address).await.map_err(lost)?;
    stream.write_all(&request).await.map_err(lost)?;
    let mut answer = Vec::new();
    while memmem::find(&answer, b"1234}").is_none() {
        if stream.read_buf(&mut answer).await.map_err(lost)? == 0 {
            break;
        }
    }
    match answer.starts_with(b"HTTP/1.1 200") {
        true => Ok(()),
        false => Err(format!("a large request is answered {}", String::from_utf8_lossy(&answer))),
    }
}
