//! The stories: the built binary between a client of raw bytes and simulated providers, over real sockets.
//!
//! One file per story. `tidy` and `shipped` look at the repository itself.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so by a panic, also in its helpers"
)]

mod access_log;
mod admin;
mod bodies;
mod books;
mod cancellation;
mod circuit;
mod cors;
mod entra;
mod explain;
mod failover;
mod health;
mod hedge;
mod hold;
mod http2;
mod identity;
mod latency;
mod limits;
mod litellm;
mod litellm_names;
mod metrics;
mod objects;
mod queue;
mod reload;
mod retries;
mod rollback;
mod rules;
mod scopes;
mod secrets;
mod seed;
mod shipped;
mod shutdown;
mod streaming;
mod support;
mod tidy;
mod tls;
mod tokens;
mod traces;
mod tunnel;
