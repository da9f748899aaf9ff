//! The router room.
