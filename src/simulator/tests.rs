//! The simulator over real sockets, seen by a client that knows only bytes.

mod client;
mod control;
mod dialects;
mod faults;
mod journal;

use super::{Dialect, Options, Simulator, start};

/// A simulator with one backend per dialect on free ports.
async fn simulator() -> Simulator {
    seeded(0).await
}

async fn seeded(seed: u64) -> Simulator {
    let backends = [Dialect::OpenAi, Dialect::Azure, Dialect::Compat].map(|dialect| (dialect.name(), dialect));
    start(Options { seed, ..Options::on_free_ports(&backends) }).await.unwrap()
}

#[actix::test]
async fn presets_apply_from_the_start_and_taken_ports_are_told() {
    let mut options = Options::on_free_ports(&[("a", Dialect::OpenAi)]);
    options.presets = vec![("a".to_owned(), "outage".to_owned())];
    let simulator = start(options).await.unwrap();
    let address = simulator.address("a").unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
    simulator.clear_rules("a").unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_ok());

    let mut options = Options::on_free_ports(&[("b", Dialect::OpenAi)]);
    options.backends[0].address = address;
    let error = start(options).await.err().unwrap();
    assert!(error.to_string().contains(&format!("backend b cannot listen on {address}")), "{error}");
    simulator.stop().await;
}
