//! The body of whatever a worker answers: what is whole already, and what still comes.

use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, MessageBody};
use bytes::Bytes;

use super::hold::Held;
use super::record::Record;
use super::relay::{Aborted, Relay};
use crate::telemetry::labels::RequestOutcome;

/// The body of any answer.
pub enum ReplyBody {
    /// All of it is here; the record is closed when it has been handed over.
    Whole(Option<Bytes>, Option<Box<Record>>),
    /// All of it is here and nothing is counted: health and metrics.
    Plain(Option<Bytes>),
    /// It is still coming.
    Relay(Box<Relay>),
    /// Nobody knows yet what it will be.
    Held(Box<Held>),
}

impl ReplyBody {
    /// A whole body. An empty one is handed over by itself.
    pub fn whole(bytes: Bytes, mut record: Box<Record>, outcome: RequestOutcome) -> Self {
        if bytes.is_empty() {
            record.end(outcome);
            return Self::Whole(None, None);
        }
        record.will_end(outcome);
        record.response_bytes = bytes.len() as u64;
        Self::Whole(Some(bytes), Some(record))
    }
}

impl MessageBody for ReplyBody {
    type Error = Aborted;

    fn size(&self) -> BodySize {
        match self {
            Self::Whole(None, _) | Self::Plain(None) => BodySize::Sized(0),
            Self::Whole(Some(bytes), _) | Self::Plain(Some(bytes)) => BodySize::Sized(bytes.len() as u64),
            Self::Relay(relay) => relay.length().map_or(BodySize::Stream, BodySize::Sized),
            Self::Held(_) => BodySize::Stream,
        }
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Aborted>>> {
        match self.get_mut() {
            Self::Whole(bytes, record) => {
                if let Some(mut record) = record.take() {
                    record.handed_over();
                }
                Poll::Ready(bytes.take().map(Ok))
            }
            Self::Plain(bytes) => Poll::Ready(bytes.take().map(Ok)),
            Self::Relay(relay) => relay.poll(cx),
            Self::Held(held) => held.poll(cx),
        }
    }
}
