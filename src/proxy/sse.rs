//! Event streams: whole blocks from any chunking, the commit point, in-band errors and the end (spec/wire.md 4).
//!
//! [`stream::EventStream`] is fed chunks and answers with what to send; [`blocks`] splits, [`judge`] looks into one event
//! where `template` does not know it already, [`dialect`] writes our own error event. Nothing here knows a socket, a timer or a backend.

pub mod blocks;
pub mod dialect;
pub mod judge;
pub mod stream;
mod template;

pub use blocks::{Block, Splitter};
pub use dialect::{Api, error_event};
pub use stream::{End, EventStream, Failure, Options, Step};

/// Largest event: image events are large, and an endless line must not fill the memory.
pub const MAX_EVENT_BYTES: usize = 16 << 20;
