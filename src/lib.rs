//! Breakwater: one OpenAI-compatible endpoint in front of many backends, that fails over within the request.
//!
//! The map, in reading order (each room's face tells the rest; imports point down this list only):
//!
//! - [`cli`]: the commands.
//! - [`server`]: the front door, one application per worker.
//! - [`supervisor`]: the life of all actors.
//! - [`health`]: active checks of backends, off by default.
//! - [`proxy`]: the walk of one request: plan, permit, send, classify, relay.
//! - [`provider`]: how a vendor is spoken to.
//! - [`router`]: which backend next.
//! - [`backend`]: one backend: its published state, its permits, its actor.
//! - [`config`]: the validated truth.
//! - [`telemetry`]: metrics and the access log.
//! - [`simulator`]: a fault-injecting provider, standing alone.
//! - [`error`], [`clock`]: the words and the time that all of them share.

pub mod backend;
pub mod certificate;
pub mod cli;
pub mod clock;
pub mod config;
pub mod error;
pub mod health;
pub mod provider;
pub mod proxy;
pub mod router;
pub mod server;
pub mod simulator;
pub mod supervisor;
pub mod telemetry;
pub mod tokens;
