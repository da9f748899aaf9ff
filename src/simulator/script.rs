//! From an answer and a fault to what goes over the wire and when: bytes, waits, and an end.
//!
//! Pure: the connection plays a script without knowing what it means.

mod cut;
mod head;
mod spelling;
#[cfg(test)]
mod tests;
mod writer;

use std::time::Duration;

use super::answer::Answer;
use super::fault::{Fault, Stale};
use super::record::Ended;
use cut::{Cut, Place};
use writer::Writer;

/// One thing to do on the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// One write.
    Send {
        /// The bytes.
        bytes: Vec<u8>,
        /// Events that are complete with it.
        events: u64,
    },
    /// A pause, in which the client is watched.
    Wait(Duration),
}

/// What happens to the connection after the last step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The next request may come.
    KeepAlive,
    /// FIN.
    Close,
    /// RST.
    Reset,
    /// Nothing more, until the client leaves.
    Hang,
    /// The same, with a comment now and then.
    Comment {
        /// The pause before each.
        every: Duration,
        /// The comment as it goes over the wire.
        bytes: &'static [u8],
    },
    /// The next request may come, but only for so long.
    CloseIdle(Duration),
    /// The next request is answered by a reset.
    ResetOnReuse,
}

/// All that is done about one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Script {
    pub(super) steps: Vec<Step>,
    pub(super) end: End,
    /// How the request has ended when all steps are done and the client is still there.
    pub(super) ended: Ended,
    /// The status in the head; none if there is no head.
    pub(super) status: Option<u16>,
}

impl Script {
    /// RST and nothing else.
    pub(super) fn reset() -> Self {
        Self { steps: Vec::new(), end: End::Reset, ended: Ended::Fault, status: None }
    }
}

/// How the connection is to be used after a healthy answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Connection {
    /// The client takes chunks: it speaks HTTP/1.1.
    pub(super) takes_chunks: bool,
    /// The client keeps the connection.
    pub(super) keeps_alive: bool,
}

/// Writes the script of an answer under a fault.
pub(super) fn write(answer: &Answer, fault: Option<&Fault>, connection: Connection) -> Script {
    let cut = Cut::of(fault, &answer.payload);
    let mut writer = Writer::new(fault, connection, answer.flushes_events);
    writer.pause(answer.lead);
    if cut.place == Place::BeforeHead {
        return writer.finish(cut.end, Ended::Fault, None);
    }
    let status = Some(answer.status);
    let is_whole = writer.head(answer, &cut).is_continue() && writer.payload(answer, &cut).is_continue();
    if !is_whole {
        return writer.finish(cut.end, Ended::Fault, status);
    }
    writer.last_chunk(&answer.payload);
    let end = match fault {
        Some(Fault::Stale(Stale::CloseIdle(millis))) => End::CloseIdle(Duration::from_millis(*millis)),
        Some(Fault::Stale(Stale::ResetOnReuse)) => End::ResetOnReuse,
        _ if writer.keeps_alive => End::KeepAlive,
        _ => End::Close,
    };
    writer.finish(end, Ended::Complete, status)
}
