//! The simulator over real sockets, seen by a client that knows only bytes.

mod client;
mod control;
mod dialects;
mod faults;
mod journal;

use super::{BackendOptions, Dialect, Options, Simulator, start};

/// A simulator with one backend per dialect on free ports.
async fn simulator() -> Simulator {
    seeded(0).await
}

async fn seeded(seed: u64) -> Simulator {
    let backend = |dialect: Dialect| BackendOptions {
        name: dialect.name().to_owned(),
        address: "127.0.0.1:0".parse().unwrap(),
        dialect,
    };
    let options = Options {
        control: "127.0.0.1:0".parse().unwrap(),
        backends: vec![backend(Dialect::OpenAi), backend(Dialect::Azure), backend(Dialect::Compat)],
        seed,
        presets: Vec::new(),
    };
    start(options).await.unwrap()
}
