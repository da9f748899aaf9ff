//! The proxy room.
pub mod upstream;
