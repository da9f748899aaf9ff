//! What the gateway tells about itself: metrics, the access log, events.

pub mod access_log;
pub mod event_loop;
pub mod events;
pub mod figures;
mod handles;
pub mod labels;
mod metrics;
pub mod names;
pub mod spans;
pub mod trace_context;
pub mod tracer;

pub use self::handles::{ClientHandles, Lazily, Metrics, PairHandles, RouteHandles};
pub use self::metrics::{Family, Name, Owner};
