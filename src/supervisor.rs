//! The supervisor room.
