//! Where the cell takes its atomics from: the models in `tests/models/` give it others, by which every order of events is tried.

pub(super) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
