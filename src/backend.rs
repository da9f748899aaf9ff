//! One backend.
pub mod circuit_breaker;
pub mod limiter;
pub mod outcome;
pub mod quota;
pub mod status;
