//! Where a fault stops an answer.

use std::time::Duration;

use super::End;
use super::spelling::COMMENT;
use crate::simulator::answer::{Event, Payload};
use crate::simulator::fault::{CutAt, Fault, HangAt, Malformed, Truncate};

/// Where an answer stops, and what then happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) place: Place,
    pub(super) end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Nowhere,
    BeforeHead,
    AfterHead,
    BeforeContent,
    AfterEvents(usize),
    AfterBytes(usize),
    /// After half of it, under a content-length that names all of it.
    HalfOfLength,
    /// After half of it, in chunks.
    HalfInChunks,
    /// In the middle by a chunk that is none.
    BadChunk,
}

/// Good events before a broken chunk.
const EVENTS_BEFORE_BAD_CHUNK: usize = 3;

impl Cut {
    /// Where this fault stops an answer with this payload.
    pub(super) fn of(fault: Option<&Fault>, payload: &Payload) -> Self {
        let (place, end) = match fault {
            Some(Fault::Hang(at)) => Self::hang(at),
            Some(Fault::Reset(at)) => (Self::cut(at), End::Reset),
            Some(Fault::Close(at)) => (Self::cut(at), End::Close),
            Some(Fault::Truncate(Truncate::ContentLength)) => (Place::HalfOfLength, End::Close),
            Some(Fault::Truncate(Truncate::Chunked)) => (Place::HalfInChunks, End::Close),
            Some(Fault::Malformed(Malformed::BadChunk)) => (Place::BadChunk, End::Close),
            Some(
                Fault::Latency(_)
                | Fault::Ttft(_)
                | Fault::TokensPerSecond(_)
                | Fault::Slow(_)
                | Fault::Status(_)
                | Fault::Quota(_)
                | Fault::Refuse
                | Fault::Blackhole
                | Fault::AcceptReset
                | Fault::Stale(_)
                | Fault::Truncate(_)
                | Fault::Malformed(_)
                | Fault::InBandError(_)
                | Fault::Wire(_),
            )
            | None => (Place::Nowhere, End::Close),
        };
        let place = match (place, payload) {
            (Place::HalfInChunks, Payload::Events(events)) => Place::AfterEvents(events.len() / 2),
            (Place::BadChunk, Payload::Events(_)) => Place::AfterEvents(EVENTS_BEFORE_BAD_CHUNK),
            (place, Payload::Whole { .. } | Payload::Events(_)) => place,
        };
        Self { place, end }
    }

    fn hang(at: &HangAt) -> (Place, End) {
        match at {
            HangAt::BeforeHeaders => (Place::BeforeHead, End::Hang),
            HangAt::AfterHeaders => (Place::AfterHead, End::Hang),
            HangAt::BeforeFirstContent => (Place::BeforeContent, End::Hang),
            HangAt::CommentsBeforeFirstContent(every) => {
                (Place::BeforeContent, End::Comment { every: Duration::from_millis(every.get()), bytes: COMMENT })
            }
            HangAt::AfterEvents(count) => (Place::AfterEvents(*count), End::Hang),
        }
    }

    fn cut(at: &CutAt) -> Place {
        match at {
            CutAt::AfterRequest => Place::BeforeHead,
            CutAt::AfterHeaders => Place::AfterHead,
            CutAt::AfterEvents(count) => Place::AfterEvents(*count),
            CutAt::AfterBytes(count) => Place::AfterBytes(*count),
        }
    }

    /// Whether it stops before this event.
    pub(super) fn is_before(&self, index: usize, event: &Event) -> bool {
        match self.place {
            Place::AfterEvents(count) => count <= index,
            Place::BeforeContent => event.is_content,
            Place::Nowhere
            | Place::BeforeHead
            | Place::AfterHead
            | Place::AfterBytes(_)
            | Place::HalfOfLength
            | Place::HalfInChunks
            | Place::BadChunk => false,
        }
    }
}
