//! Reading an answer's body, each wait with its limit.

use std::collections::VecDeque;
use std::task::Poll;

use bytes::{Bytes, BytesMut};

use super::super::upstream::{self, AnswerBody};
use super::Clocks;
use crate::clock::{self, Instant};

/// Why a body could not be read to its end.
pub(super) enum Unread {
    /// Nothing came in time.
    TimedOut,
    /// It broke off.
    Broken(upstream::Error),
    /// It is longer than allowed: what was read so far.
    TooLong(VecDeque<Bytes>),
}

/// Waits no longer than `at`. The timer is only made where the future is not ready at once.
pub(super) async fn within<F: Future>(at: Instant, future: F) -> Option<F::Output> {
    tokio::time::timeout_at(clock::to_tokio(at), future).await.ok()
}

/// Reads a body to its end: at most `most` bytes, each gap at most the idle limit, all of it before the deadline. One that
/// came in one piece is not copied.
pub(super) async fn read(body: &mut AnswerBody, most: usize, clocks: &Clocks) -> Result<Bytes, Unread> {
    let Some(first) = next(body, clocks).await? else { return Ok(Bytes::new()) };
    if most < first.len() {
        return Err(Unread::TooLong(VecDeque::from([first])));
    }
    let Some(second) = next(body, clocks).await? else { return Ok(first) };
    let mut length = first.len() + second.len();
    let mut chunks = VecDeque::from([first, second]);
    while length <= most {
        let Some(chunk) = next(body, clocks).await? else {
            let mut joined = BytesMut::with_capacity(length);
            chunks.iter().for_each(|chunk| joined.extend_from_slice(chunk));
            return Ok(joined.freeze());
        };
        length += chunk.len();
        chunks.push_back(chunk);
    }
    Err(Unread::TooLong(chunks))
}

/// The next piece of a body, none at its end.
async fn next(body: &mut AnswerBody, clocks: &Clocks) -> Result<Option<Bytes>, Unread> {
    // What has already arrived needs neither clock nor timer.
    let ready = std::future::poll_fn(|cx| match body.poll_chunk(cx) {
        Poll::Ready(piece) => Poll::Ready(Some(piece)),
        Poll::Pending => Poll::Ready(None),
    });
    let piece = match ready.await {
        Some(piece) => Some(piece),
        None => within(clock::now().plus(clocks.idle).min(clocks.deadline), body.chunk()).await,
    };
    match piece {
        Some(Some(Ok(chunk))) => Ok(Some(chunk)),
        Some(Some(Err(error))) => Err(Unread::Broken(error)),
        Some(None) => Ok(None),
        None => Err(Unread::TimedOut),
    }
}
