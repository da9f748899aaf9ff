//! The working provider: a process of this program that says again and again what the simulated one said once.
//!
//! Simulating costs more than passing on does. Load and upstream share a core, and while that one is the narrower, a contestant
//! idles and wakes up for each request, the cheapest one most: nginx then looks twice as dear as it is. This one leaves the
//! contestant as the narrow place.

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

/// What makes this program one: `load --provide ADDRESS`, in the folder of the answers.
const WORD: &str = "--provide";

/// The file of a whole answer, with its head.
const WHOLE: &str = "whole.http";

/// The file of a stream, with its head and the frames of its chunks.
const STREAM: &str = "stream.http";

/// How an event ends, with the frame of its chunk. Each leaves by itself, as the simulator's do.
const EVENT_END: &[u8] = b"\n\n\r\n";

/// Where this process is to provide, if that is what it was started for.
///
/// # Errors
/// The address is none.
pub(crate) fn asked() -> Result<Option<SocketAddr>, String> {
    let mut words = std::env::args().skip(1);
    if words.next().as_deref() != Some(WORD) {
        return Ok(None);
    }
    let address = words.next().unwrap_or_default();
    address.parse().map(Some).map_err(|_| format!("{address} is no address"))
}

/// Asks `simulated` for both answers, and starts a process that gives them.
///
/// # Errors
/// What the simulator did not answer, or the process did not start.
pub(crate) async fn start(
    folder: &Folder,
    pinning: &Pinning,
    simulated: SocketAddr,
    address: SocketAddr,
    [whole, stream]: [&[u8]; 2],
) -> Result<Process, String> {
    for (name, request) in [(WHOLE, whole), (STREAM, stream)] {
        let failed = |error: std::io::Error| format!("the simulator does not answer: {error}");
        let mut connection = Connection::open(simulated).await.map_err(failed)?;
        let status = connection.exchange(request).await.map_err(failed)?.status;
        if status != 200 {
            return Err(format!("the simulator answers {status}"));
        }
        folder.write(name, &String::from_utf8_lossy(connection.received()))?;
    }
    let own = std::env::current_exe().map_err(|error| format!("this program does not know itself: {error}"))?;
    let words = [WORD.into(), OsString::from(address.to_string())];
    Process::start("provider", (pinning, Core::Load), OsStr::new(&own), &words, (folder.path(), address)).await
}

/// Provides until the process is killed.
///
/// # Errors
/// The system's.
pub(crate) fn serve(address: SocketAddr) -> std::io::Result<()> {
    let whole: &[u8] = std::fs::read(WHOLE)?.leak();
    let stream: &[u8] = std::fs::read(STREAM)?.leak();
    let events: &[&[u8]] = events(stream).leak();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(LocalSet::new().run_until(async move {
        let listener = TcpListener::bind(address).await?;
        loop {
            let (connection, _) = listener.accept().await?;
            tokio::task::spawn_local(async move {
                // Whoever leaves ends it.
                let _ = answer(connection, whole, events).await;
            });
        }
    }))
}

async fn answer(mut stream: TcpStream, whole: &[u8], events: &[&[u8]]) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(8 << 10);
    while let Some(streams) = read_request(&mut stream, &mut buffer).await? {
        if !streams {
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
