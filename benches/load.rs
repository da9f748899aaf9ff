//! A whole gateway under load, from socket to socket, on this machine alone.
//!
//! ```text
//! cargo bench --bench load                                   # every scenario, about three minutes
//! cargo bench --bench load -- --only plain --connections 64  # one scenario at one concurrency
//! cargo bench --bench load -- --seconds 3 --rounds 5         # longer windows, more of them
//! cargo bench --bench load -- --short                        # as CI runs it: moments, proves that each scenario works
//! ```
//!
//! The simulator and the gateway run in processes of their own; this one drives closed-loop keep-alive connections: each
//! sends a request, reads the whole answer, sends the next. Every concurrency is measured in windows that the contestants
//! take in turn: `direct` (straight to the simulator), `breakwater`, and in the `plain` scenario `unlogged` (the same without
//! an access log) and where it is installed `nginx` as a plain proxy. With two cores and `taskset` the contestant has core 0, load and simulator share core 1.
//!
//! | scenario | request | primary |
//! |---|---|---|
//! | `plain` | chat, about 700 bytes answered | works |
//! | `stream` | chat, 50 events without pauses | works |
//! | `large` | chat, 20 kB asked | works |
//! | `failover` | as `plain` | answers 503, its circuit breaker is off: every request fails over |
//! | `open` | as `plain` | answers 503, its circuit is open: no request tries it |
//! | `refused` | as `plain` | takes no connection, its circuit breaker is off: every request fails over |
//!
//! CPU is user and system time of the contestant's process. Latencies are those of a saturated loop: `added` compares the
//! medians of the same loop with and without the gateway. The run fails on any wrong answer, and where requests failed over
//! that should not have, or did not where they should.
//!
//! Not measured: TLS, networks with a delay, HTTP/2, paced streams, the highest rate of the gateway where the load's core is
//! the narrower one (then only its CPU per request says what it costs). Starts of the same binary differ by about 2 µs per
//! request: a difference below a tenth needs several runs. The access log is on and goes to nowhere; nginx writes none.

#[path = "load/client.rs"]
mod client;
#[path = "load/options.rs"]
mod options;
#[path = "load/process.rs"]
#[expect(dead_code, reason = "`relay` asks for peaks, this bench does not")]
mod process;
#[path = "load/report.rs"]
mod report;
#[path = "load/scenario.rs"]
mod scenario;
#[path = "load/setting.rs"]
mod setting;
#[path = "load/window.rs"]
mod window;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;

use self::options::Options;
use self::process::Pinning;
use self::report::{Row, Spread, Table};
use self::scenario::Scenario;
use self::setting::Setting;
use self::window::{Contestant, Window};

/// Beyond the windows themselves: starting, connecting, waiting for last answers.
const GRACE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    match Options::read().and_then(|options| start(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            let _ = writeln!(std::io::stderr(), "load: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn start(options: &Options) -> Result<(), String> {
    // Before the runtime, so that all of this process is on its core.
    let pinning = Pinning::find();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("no runtime: {error}"))?;
    runtime.block_on(LocalSet::new().run_until(guarded(options, pinning)))
}

/// Whatever ends the run, the processes it started are dropped with it, and so killed.
async fn guarded(options: &Options, pinning: Pinning) -> Result<(), String> {
    let hear = |kind| signal(kind).map_err(|error| format!("no signal handler: {error}"));
    let (mut interrupt, mut terminate) = (hear(SignalKind::interrupt())?, hear(SignalKind::terminate())?);
    let limit = options.expected() * 2 + GRACE;
    tokio::select! {
        ended = tokio::time::timeout(limit, run(options, pinning)) => {
            ended.unwrap_or_else(|_| Err(format!("not over after {} s", limit.as_secs())))
        }
        _ = interrupt.recv() => Err("interrupted".to_owned()),
        _ = terminate.recv() => Err("terminated".to_owned()),
    }
}

async fn run(options: &Options, pinning: Pinning) -> Result<(), String> {
    let setting = Setting::start(pinning).await?;
    let mut table = Table::begin(&setting.describe());
    for scenario in options.scenarios() {
        setting.prepare(scenario).await?;
        for connections in &options.connections {
            measure(options, &setting, scenario, *connections, &mut table).await?;
        }
    }
    table.finish()
}

/// One scenario at one concurrency: windows in turn, then a row per contestant.
async fn measure(
    options: &Options,
    setting: &Setting,
    scenario: Scenario,
    connections: usize,
    table: &mut Table,
) -> Result<(), String> {
    let contestants = setting.contestants(scenario);
    let mut windows: Vec<Vec<Window>> = contestants.iter().map(|_| Vec::new()).collect();
    let failovers = setting.failovers(scenario).await?;
    for _ in 0..options.rounds {
        for (contestant, windows) in contestants.iter().zip(&mut windows) {
            windows.push(window::drive(contestant, connections, options.span).await?);
        }
    }
    let failovers = setting.failovers(scenario).await? - failovers;
    let mut direct = None;
    for (contestant, windows) in contestants.iter().zip(&windows) {
        let row = row(contestant, scenario, connections, windows, failovers, direct);
        direct = direct.or(Some(row.median_latency()));
        table.add(row);
    }
    let costs = ["breakwater", "unlogged", "nginx"].map(|name| cost_of(name, &contestants, &windows));
    let [ours, unlogged, nginx] = &costs;
    table.compare(ours, nginx);
    table.subtract(ours, unlogged);
    Ok(())
}

fn row(
    contestant: &Contestant<'_>,
    scenario: Scenario,
    connections: usize,
    windows: &[Window],
    failovers: u64,
    direct: Option<Duration>,
) -> Row {
    let answered: u64 = windows.iter().map(|window| window.answered).sum();
    let is_ours = contestant.name == "breakwater";
    Row {
        scenario: scenario.name(),
        connections,
        contestant: contestant.name,
        rates: Spread::of(windows.iter().map(Window::rate)),
        costs: Spread::of(windows.iter().filter_map(Window::cost)),
        median: Spread::of(windows.iter().map(|window| window.median.as_secs_f64())),
        late: Spread::of(windows.iter().map(|window| window.late.as_secs_f64())),
        latest: windows.iter().map(|window| window.latest).max().unwrap_or_default(),
        direct,
        resident: windows.iter().filter_map(|window| window.resident).max(),
        failovers: is_ours.then(|| failovers as f64 / answered.max(1) as f64),
        expected_failovers: scenario.failovers_per_request(),
        errors: windows.iter().map(|window| window.errors).sum(),
    }
}

/// CPU per request of a contestant's windows; empty where it did not take part.
fn cost_of(name: &str, contestants: &[Contestant<'_>], windows: &[Vec<Window>]) -> Vec<f64> {
    let of_that_name = contestants.iter().zip(windows).filter(|(contestant, _)| contestant.name == name);
    of_that_name.flat_map(|(_, windows)| windows.iter().filter_map(Window::cost)).collect()
}
