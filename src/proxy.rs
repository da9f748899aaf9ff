//! The walk of one request.
pub mod classify;
pub mod error_fields;
pub mod final_error;
pub mod hint;
pub mod json;
pub mod multipart;
pub mod operation;
pub mod record;
pub mod request;
pub mod rewrite;
pub mod sse;
pub mod trail;
pub mod unary;
pub mod upstream;
pub mod usage;
