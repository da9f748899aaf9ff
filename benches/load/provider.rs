//! The provider that works and the one that answers 503: a process of this program that says again and again what the
//! simulated ones said once.
//!
//! Simulating costs more than passing on does. Load and upstream share a core, and while that one is the narrower, a contestant
//! idles and wakes up for each request, the cheapest one most: nginx then looks twice as dear as it is. This one leaves the
//! contestant as the narrow place.

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;

use memchr::memmem;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

use crate::client::Connection;
use crate::folder::Folder;
use crate::inbound::read_request;
use crate::process::{Core, Pinning, Process};

/// What makes this program one: `load --provide WORKING FAILING`, in the folder of the answers.
const WORD: &str = "--provide";

/// The files of the answers: heads, and bodies with the frames of their chunks.
const WHOLE: &str = "whole.http";
const STREAM: &str = "stream.http";
const FAILURE: &str = "failure.http";

/// How an event ends, with the frame of its chunk. Each leaves by itself, as the simulator's do.
const EVENT_END: &[u8] = b"\n\n\r\n";

/// The two who are imitated, or where they are.
#[derive(Clone, Copy)]
pub(crate) struct Pair {
    /// Answers.
    pub(crate) working: SocketAddr,
    /// Answers 503.
    pub(crate) failing: SocketAddr,
}

/// Where this process is to provide, if that is what it was started for.
///
/// # Errors
/// What is no address.
pub(crate) fn asked() -> Result<Option<Pair>, String> {
    let mut words = std::env::args().skip(1);
    if words.next().as_deref() != Some(WORD) {
        return Ok(None);
    }
    let mut address = || {
        let word = words.next().unwrap_or_default();
        word.parse().map_err(|_| format!("{word} is no address"))
    };
    Ok(Some(Pair { working: address()?, failing: address()? }))
}

/// Asks the simulated ones for their answers, and starts a process that gives them.
///
/// # Errors
/// What the simulator did not answer, or the process did not start.
pub(crate) async fn start(
    folder: &Folder,
    pinning: &Pinning,
    simulated: Pair,
    at: Pair,
    [whole, stream]: [&[u8]; 2],
) -> Result<Process, String> {
    let answers = [
        (WHOLE, simulated.working, whole, 200),
        (STREAM, simulated.working, stream, 200),
        (FAILURE, simulated.failing, whole, 503),
    ];
    for (name, address, request, wanted) in answers {
        let failed = |error: std::io::Error| format!("the simulator does not answer: {error}");
        let mut connection = Connection::open(address).await.map_err(failed)?;
        let status = connection.exchange(request).await.map_err(failed)?.status;
        if status != wanted {
            return Err(format!("the simulator answers {status}, not {wanted}"));
        }
        folder.write(name, &String::from_utf8_lossy(connection.received()))?;
    }
    let own = std::env::current_exe().map_err(|error| format!("this program does not know itself: {error}"))?;
    let words = [WORD.into(), OsString::from(at.working.to_string()), OsString::from(at.failing.to_string())];
    Process::start("provider", (pinning, Core::Load), OsStr::new(&own), &words, (folder.path(), at.failing)).await
}

/// Provides until the process is killed.
///
/// # Errors
/// The system's.
pub(crate) fn serve(at: Pair) -> std::io::Result<()> {
    let read = |name| std::fs::read(name).map(|answer| &*answer.leak());
    let (whole, stream, failure): (&[u8], &[u8], &[u8]) = (read(WHOLE)?, read(STREAM)?, read(FAILURE)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(LocalSet::new().run_until(async move {
        let working = TcpListener::bind(at.working).await?;
        let failing = TcpListener::bind(at.failing).await?;
        let accepted = tokio::try_join!(accept(working, whole, events(stream).leak()), accept(failing, failure, &[]));
        accepted.map(drop)
    }))
}

/// `events` are the pieces of a stream; none where `whole` is all there is.
async fn accept(listener: TcpListener, whole: &'static [u8], events: &'static [&[u8]]) -> std::io::Result<Infallible> {
    loop {
        let (connection, _) = listener.accept().await?;
        tokio::task::spawn_local(async move {
            // Whoever leaves ends it.
            let _ = answer(connection, whole, events).await;
        });
    }
}

async fn answer(mut stream: TcpStream, whole: &[u8], events: &[&[u8]]) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(8 << 10);
    while let Some(streams) = read_request(&mut stream, &mut buffer).await? {
        if !streams || events.is_empty() {
            stream.write_all(whole).await?;
            continue;
        }
        for event in events {
            stream.write_all(event).await?;
        }
    }
    Ok(())
}

/// A stream's pieces: the head with the first event, then each event, the last with the end.
fn events(stream: &[u8]) -> Vec<&[u8]> {
    let mut ends: Vec<usize> = memmem::find_iter(stream, EVENT_END).map(|at| at + EVENT_END.len()).collect();
    // What follows the last event ends the body.
    ends.pop();
    let starts = std::iter::once(0).chain(ends.iter().copied());
    starts.zip(ends.iter().copied().chain([stream.len()])).map(|(start, end)| &stream[start..end]).collect()
}
