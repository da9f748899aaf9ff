//! One connection of a virtual backend, from accept to its end: read a request, write its script, play it.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use super::answer::Answer;
use super::backend::{Arrival, Backend};
use super::fault::{Fault, Template};
use super::provider_error;
use super::record::{Ended, Times};
use super::request::Request;
use super::respond::{self, Understood};
use super::rule::Chosen;
use super::script::{self, Connection, End, Script, Step};
use super::socket::{Broken, Socket};
use super::ticket::Ticket;
use crate::clock;

/// Longest a fault holds a connection whose client does not leave.
const MAX_HOLD: Duration = Duration::from_secs(3600);

/// Serves a connection until it ends.
pub(super) async fn serve(backend: Arc<Backend>, stream: TcpStream) {
    let accept = backend.elapsed();
    let (number, rule) = backend.accept();
    let mut socket = Socket::new(stream);
    match rule.as_ref().map(|chosen| &*chosen.fault) {
        Some(Fault::AcceptReset) => return socket.reset(),
        // The kernel's buffer takes what the client sends, and nobody reads it.
        Some(Fault::Blackhole) => return socket.swallow(MAX_HOLD).await,
        Some(_) | None => {}
    }
    let mut idle = backend.watch_idle();
    let mut idle_limit = Duration::from_millis(backend.settings().idle_timeout_ms);
    // The rule that has decided about the next request already.
    let mut decided: Option<Chosen> = None;
    for request_on_connection in 1.. {
        match wait_for_request(&mut socket, &mut idle, idle_limit).await {
            Waited::Came => {}
            Waited::Gone => return,
            Waited::Close => return socket.close().await,
        }
        let arrived = read(&backend, &mut socket, accept).await;
        let (request, times) = match arrived {
            Ok(arrived) => arrived,
            Err(broken) => return turn_away(&backend, socket, broken).await,
        };
        let arrival = Arrival { connection: number, request_on_connection, times, decided: decided.take() };
        let (script, ticket, rule) = decide(&backend, &request, &arrival);
        let end = script.end;
        if !play(&backend, &mut socket, script, ticket).await {
            return;
        }
        match end {
            End::KeepAlive => {}
            End::ResetOnReuse => decided = rule,
            End::CloseIdle(wait) => idle_limit = wait,
            End::Reset => return socket.reset(),
            End::Close | End::Hang | End::Comment { .. } => return socket.close().await,
        }
    }
}

/// What came of waiting for a request.
enum Waited {
    Came,
    Gone,
    /// It is time to close an idle connection.
    Close,
}

async fn wait_for_request(socket: &mut Socket, idle: &mut watch::Receiver<()>, limit: Duration) -> Waited {
    tokio::select! {
        biased;
        waited = timeout(limit, socket.wait_for_request()) => match waited {
            Ok(Ok(())) => Waited::Came,
            Ok(Err(_)) => Waited::Gone,
            Err(_) => Waited::Close,
        },
        _ = idle.changed() => Waited::Close,
    }
}

async fn read(backend: &Backend, socket: &mut Socket, accept: Duration) -> Result<(Request, Times), Broken> {
    let request = socket.read_head().await?;
    let head = backend.elapsed();
    let body = socket.read_body(&request).await?;
    let times = Times { accept, head, body_end: backend.elapsed(), first_byte: None, end: None };
    Ok((request.with_body(body), times))
}

/// Answers what is no request, as far as there is anyone to answer.
async fn turn_away(backend: &Backend, mut socket: Socket, broken: Broken) {
    backend.count_broken();
    let Broken::Invalid(status, problem) = broken else { return };
    let answer: Answer =
        provider_error::answer(&Template::Raw(format!(r#"{{"error":{{"message":"{problem}"}}}}"#)), status);
    let script = script::write(&answer, None, Connection { takes_chunks: true, keeps_alive: false });
    for step in script.steps {
        let Step::Send { bytes, .. } = step else { continue };
        if socket.send(&bytes).await.is_err() {
            return;
        }
    }
    socket.close().await;
}

/// Chooses the rule, makes the answer, writes the script: all without a wait.
fn decide(backend: &Arc<Backend>, request: &Request, arrival: &Arrival) -> (Script, Ticket, Option<Chosen>) {
    let understood = Understood::read(backend.dialect, request);
    let mut begun = backend.begin(&understood.asked(request), arrival);
    let ticket = Ticket::new(backend, &begun);
    if arrival.decided.is_some() {
        return (Script::reset(), ticket, None);
    }
    let answer = respond::answer(backend, request, &understood, &mut begun);
    let connection = Connection { takes_chunks: 1 <= request.version(), keeps_alive: request.keeps_alive() };
    let fault = begun.rule.as_ref().map(|chosen| &*chosen.fault);
    (script::write(&answer, fault, connection), ticket, begun.rule)
}

/// Plays a script; false if the client left before its end.
async fn play(backend: &Backend, socket: &mut Socket, script: Script, mut ticket: Ticket) -> bool {
    ticket.status = script.status;
    // Waits add up from here: what one of them oversleeps is taken off the next, so that rates above the timer's hold.
    let mut due = clock::now();
    for step in script.steps {
        let done = match step {
            Step::Wait(wait) => {
                due = due.plus(wait);
                socket.wait_until(due).await
            }
            Step::Send { bytes, events } => send(backend, socket, &bytes, events, &mut ticket).await,
        };
        if done.is_err() {
            ticket.end(Ended::ClientClosed);
            return false;
        }
    }
    let held = match script.end {
        End::Hang => socket.wait_until(clock::now().plus(MAX_HOLD)).await,
        End::Comment { every, bytes } => comment(backend, socket, every, bytes, &mut ticket).await,
        End::KeepAlive | End::Close | End::Reset | End::CloseIdle(_) | End::ResetOnReuse => Ok(()),
    };
    ticket.end(if held.is_ok() { script.ended } else { Ended::ClientClosed });
    held.is_ok()
}

async fn send(
    backend: &Backend,
    socket: &mut Socket,
    bytes: &[u8],
    events: u64,
    ticket: &mut Ticket,
) -> Result<(), Broken> {
    socket.send(bytes).await?;
    ticket.first_byte.get_or_insert_with(|| backend.elapsed());
    ticket.bytes += bytes.len() as u64;
    ticket.events += events;
    Ok(())
}

/// A comment every so often, until the client leaves or the hold ends.
async fn comment(
    backend: &Backend,
    socket: &mut Socket,
    every: Duration,
    bytes: &[u8],
    ticket: &mut Ticket,
) -> Result<(), Broken> {
    let until = clock::now().plus(MAX_HOLD);
    while clock::now() < until {
        socket.wait_until(clock::now().plus(every)).await?;
        send(backend, socket, bytes, 0, ticket).await?;
    }
    Ok(())
}
