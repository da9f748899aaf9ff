//! The simulator room: providers that misbehave on demand (`breakwater simulate`, spec/wire.md 8).
//!
//! One process, several virtual backends with a port each, and a control port. It stands alone: no parsing code is shared
//! with the gateway's egress, so that one mistake cannot hide the other. What a person types:
//!
//! ```text
//! breakwater simulate --backend openai=4101 --backend azure=4102:azure --seed 7
//!
//! curl localhost:4101/v1/chat/completions -H 'authorization: Bearer sk-any' \
//!      -d '{"model":"gpt-4o","stream":true,"max_tokens":5,"messages":[{"role":"user","content":"hi"}]}'
//!
//! curl localhost:4100/backends                                          # what there is: rules, settings, counts
//! curl -X PUT   localhost:4100/backends/openai/preset/outage            # or brownout, azure_429_burst, role_only_stall,
//!                                                                       #    die_mid_stream, flapping
//! curl -X PUT   localhost:4100/backends/openai/rules -d '[{"fault":{"status":{"code":503}},"count":3}]'
//! curl -X PATCH localhost:4100/backends/openai/rules \
//!      -d '{"match":{"stream":true},"probability":0.2,"fault":{"reset":{"after_events":4}}}'
//! curl -X DELETE localhost:4100/backends/openai/rules                   # healthy again
//! curl -X PATCH localhost:4100/backends/openai/settings -d '{"ttft_ms":{"lognormal":{"p50":300,"p99":2000}}}'
//! curl 'localhost:4100/backends/openai/requests?after=0&wait=1000'      # what arrived, byte by byte, and how it ended
//! curl localhost:4100/backends/openai/counts
//! curl -X POST localhost:4100/reset                                     # everything as at the start, the seed included
//! ```
//!
//! A rule is `{"match"?, "probability"?, "count"?, "fault"}`; the first that matches, wins its draw and has count left decides.
//! Conditions: `path` (part of it), `model`, `stream`, `header`, `nth`, `every`, `alternating`. All faults by example:
//!
//! ```text
//! {"latency":250} {"latency":{"uniform":[100,400]}} {"ttft":{"lognormal":{"p50":300,"p99":4000}}} {"ttft":{"exp":200}}
//! {"ttft":{"list":[10,10,900]}} {"tokens_per_second":20} {"slow":{"head_byte_ms":5,"body_bytes_per_second":1000}}
//! {"status":{"code":503}} {"status":{"code":429,"body":"azure","retry_after":{"seconds":2},"headers":{"x-a":"b"}}}
//! {"status":{"code":500,"body":{"raw":"{}"},"latency":100}} {"quota":{"rpm":60,"tpm":90000,"window_s":10,"style":"ptu"}}
//! "refuse" "blackhole" "accept_reset" {"stale":{"close_idle":0}} {"stale":"reset_on_reuse"}
//! {"hang":"before_headers"} {"hang":"after_headers"} {"hang":"before_first_content"} {"hang":{"after_events":3}}
//! {"hang":{"comments_before_first_content":1000}} {"reset":"after_request"} {"reset":{"after_events":4}}
//! {"close":"after_headers"} {"close":{"after_bytes":900}}
//! {"truncate":"content_length"} {"truncate":"chunked"} {"truncate":"no_done"} {"truncate":"finish_no_done"}
//! {"malformed":"json_cut"} {"malformed":"html"} {"malformed":"empty"} {"malformed":"content_type"} {"malformed":"gzip"}
//! {"malformed":"bad_chunk"} {"malformed":"json_to_stream"} {"malformed":"redirect"}
//! {"in_band_error":{"at":3,"form":"vllm","code":"rate_limit_exceeded","message":"slow down"}}
//! {"wire":{"split_bytes":1,"line_end":"crlf","bom":true,"multi_line_data":true,"ids":true,"retry":true}}
//! {"wire":{"event_without_data":true,"comments_ms":100,"large_event_bytes":1000000,"connection_close":true,"http10":true}}
//! ```
//!
//! A test holds a [`Simulator`] and calls the same things in process. [`Fault`] lists what can go wrong, [`Settings`] what a
//! backend is like when nothing does.
//!
//! A request walks through `connection` (read, decide, play), `respond` (the provider's checks and content), `tamper`
//! (faults of content) and `script` (bytes and waits; faults of the connection). Only `socket`, `door`, `connection` and
//! `control` touch sockets, all else is plain values.

mod answer;
mod backend;
mod base64;
mod body;
mod connection;
mod content;
mod control;
mod delay;
mod door;
mod fault;
mod journal;
mod meter;
mod objects;
mod options;
mod paths;
mod preset;
mod provider_error;
mod read;
mod record;
mod request;
mod respond;
mod rule;
mod script;
mod settings;
mod socket;
mod tamper;
#[cfg(test)]
mod tests;
mod ticket;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

pub use delay::Delay;
pub use fault::{
    CutAt, ErrorForm, Fault, HangAt, InBandError, LineEnd, Malformed, Quota, QuotaStyle, RetryAfter, Slow, Stale,
    Status, Template, Truncate, Wire,
};
pub use journal::Counts;
pub use options::{BackendOptions, Dialect, Options};
pub use record::{Ended, Recorded, RecordedBody, Times};
pub use rule::{Alternating, HeaderMatch, Match, Rule};
pub use settings::Settings;

use backend::Backend;
use door::Door;

/// A running simulator. Dropping it stops it as well, only without waiting.
pub struct Simulator {
    control: SocketAddr,
    backends: control::Backends,
    stopping: watch::Sender<bool>,
    loops: Vec<JoinHandle<()>>,
}

/// Starts on the calling runtime. Fails if an address cannot be bound or the options contradict themselves.
pub async fn start(options: Options) -> io::Result<Simulator> {
    options.check().map_err(|problem| io::Error::new(io::ErrorKind::InvalidInput, problem))?;
    let origin = crate::clock::now();
    let mut seeds = fastrand::Rng::with_seed(options.seed);
    let mut backends = Vec::with_capacity(options.backends.len());
    for BackendOptions { name, address, dialect } in options.backends {
        let door = Door::open_at(address).map_err(|error| {
            io::Error::new(error.kind(), format!("backend {name} cannot listen on {address}: {error}"))
        })?;
        backends.push(Arc::new(Backend::new(name, dialect, door, seeds.u64(..), origin)));
    }
    let address = options.control;
    let control = Door::open_at(address).map_err(|error| {
        io::Error::new(error.kind(), format!("the control port cannot listen on {address}: {error}"))
    })?;
    let mut simulator = Simulator {
        control: control.address(),
        backends: Arc::new(backends),
        stopping: watch::Sender::new(false),
        loops: Vec::new(),
    };
    for (backend, preset) in &options.presets {
        simulator.preset(backend, preset).map_err(|problem| io::Error::new(io::ErrorKind::InvalidInput, problem))?;
    }
    simulator.spawn(Arc::new(control));
    Ok(simulator)
}

impl Simulator {
    fn spawn(&mut self, control: Arc<Door>) {
        let backends = Arc::clone(&self.backends);
        let serve_control = move |stream| control::serve(Arc::clone(&backends), stream);
        self.loops.push(tokio::spawn(accept_all(Entrance::Control(control), serve_control, self.stopping.subscribe())));
        for backend in self.backends.iter() {
            let entrance = Entrance::Backend(Arc::clone(backend));
            let backend = Arc::clone(backend);
            let serve = move |stream| connection::serve(Arc::clone(&backend), stream);
            self.loops.push(tokio::spawn(accept_all(entrance, serve, self.stopping.subscribe())));
        }
    }

    /// Where the control API listens.
    pub fn control(&self) -> SocketAddr {
        self.control
    }

    /// Where a virtual backend listens.
    pub fn address(&self, backend: &str) -> Option<SocketAddr> {
        self.find(backend).ok().map(|backend| backend.door.address())
    }

    /// Names, addresses and dialects, in the order of the options.
    pub fn backends(&self) -> impl Iterator<Item = (&str, SocketAddr, Dialect)> {
        self.backends.iter().map(|backend| (backend.name.as_str(), backend.door.address(), backend.dialect))
    }

    /// Closes all ports and connections and returns when they are closed.
    pub async fn stop(self) {
        self.stopping.send_replace(true);
        for accept_loop in self.loops {
            // A loop that panicked has ended, too.
            let _ = accept_loop.await;
        }
    }

    /// Replaces a backend's rules. They hold for the next request; a rule that refuses holds when this returns.
    pub fn set_rules(&self, backend: &str, rules: Vec<Rule>) -> Result<(), String> {
        self.find(backend)?.set_rules(rules)
    }

    /// Adds rules after those a backend has.
    pub fn add_rules(&self, backend: &str, rules: Vec<Rule>) -> Result<(), String> {
        self.find(backend)?.add_rules(rules)
    }

    /// Removes a backend's rules: it is healthy again.
    pub fn clear_rules(&self, backend: &str) -> Result<(), String> {
        self.set_rules(backend, Vec::new())
    }

    /// Replaces a backend's rules by those of a preset.
    pub fn preset(&self, backend: &str, name: &str) -> Result<(), String> {
        self.find(backend)?.set_rules(preset::rules(name)?)
    }

    /// Changes some of a backend's settings, as `PATCH …/settings` does.
    pub fn patch_settings(&self, backend: &str, changes: Value) -> Result<(), String> {
        let Value::Object(changes) = changes else { return Err("settings: must be an object".to_owned()) };
        self.find(backend)?.patch_settings(changes)
    }

    /// A backend's settings at this moment.
    pub fn settings(&self, backend: &str) -> Result<Settings, String> {
        Ok(Settings::clone(&self.find(backend)?.settings()))
    }

    /// The requests that a backend received, oldest first, those under way included; none if there is no such backend.
    pub fn requests(&self, backend: &str) -> Vec<Recorded> {
        self.find(backend).map(|backend| backend.records(0)).unwrap_or_default()
    }

    /// A backend's counts; zeros if there is no such backend.
    pub fn counts(&self, backend: &str) -> Counts {
        self.find(backend).map(|backend| backend.counts()).unwrap_or_default()
    }

    /// Waits until so many requests of a backend have ended since the start or the last reset; the error tells how many did.
    pub async fn wait_for(&self, backend: &str, ended: u64, deadline: Duration) -> Result<Counts, String> {
        let backend = self.find(backend)?;
        let is_enough = |backend: &Backend| ended <= backend.counts().ended;
        if backend.wait_until(deadline, is_enough).await {
            return Ok(backend.counts());
        }
        let counts = backend.counts();
        Err(format!("after {deadline:?} {} of {ended} requests to {} had ended", counts.ended, backend.name))
    }

    /// Puts everything back as at the start: settings, rules, journals, counts, objects, random choices.
    pub fn reset(&self) -> Result<(), String> {
        self.backends.iter().try_for_each(|backend| backend.reset())
    }

    fn find(&self, name: &str) -> Result<&Arc<Backend>, String> {
        self.backends.iter().find(|backend| backend.name == name).ok_or_else(|| format!("no backend is named {name}"))
    }
}

/// A port that accepts.
enum Entrance {
    Control(Arc<Door>),
    Backend(Arc<Backend>),
}

impl Entrance {
    fn door(&self) -> &Door {
        match self {
            Self::Control(door) => door,
            Self::Backend(backend) => &backend.door,
        }
    }
}

/// Pause after a failed accept: out of file descriptors is the usual cause, and trying on at once would only burn the core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Accepts and serves until the simulator stops, then closes all that is open.
async fn accept_all<F>(entrance: Entrance, serve: impl Fn(TcpStream) -> F, mut stopping: watch::Receiver<bool>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            // Also when the sender is gone: a dropped simulator stops.
            _ = stopping.changed() => break,
            accepted = entrance.door().accept() => match accepted {
                Ok(stream) => drop(connections.spawn(serve(stream))),
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    entrance.door().close();
    connections.shutdown().await;
}
