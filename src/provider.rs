//! The provider room.
