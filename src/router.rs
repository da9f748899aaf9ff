//! The router room.
pub mod picker;
