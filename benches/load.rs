//! The gateway under load beside its peers, from socket to socket, on this machine alone.
//!
//! ```text
//! benches/install-peers                                      # once: what it is compared with
//! cargo bench --bench load                                   # every scenario, about a quarter of an hour
//! cargo bench --bench load -- --only plain --connections 64  # one scenario at one concurrency
//! cargo bench --bench load -- --seconds 3 --rounds 9         # longer windows, more of them
//! cargo bench --bench load -- --plot load.svg                # and a drawing
//! cargo bench --bench load -- --alone                        # the gateway without its peers
//! cargo bench --bench load -- --endure 30                     # half an hour of faults and edits: does anything fail or grow
//! BREAKWATER_BIN=FILE cargo bench --bench load                # another build of the gateway, such as the release
//! cargo bench --bench load -- --short                        # as CI runs it: moments, proves that each scenario works
//! ```
//!
//! The gateway that cargo builds with a bench has the features of the tests and so other names, for which the release's profile
//! has no counts: to measure the release, build that, name it, and give the bench a `--target-dir` of its own.
//!
//! All stand in front of the same simulated providers, which run in processes of their own, and take their windows in turn:
//! `direct` (nobody in between), `breakwater`, nginx and `HAProxy` as plain proxies, and where they are installed `LiteLLM` and
//! the Portkey gateway. With two cores and `taskset` a contestant has core 0 and one worker; load and providers share core 1.
//!
//! | scenario | what |
//! |---|---|
//! | `start` | a process is started: time to its first answer, memory when idle |
//! | `plain` | a short chat, about 700 bytes answered; also without an access log |
//! | `calm`, `brisk` | the same by the clock, 50 and 5,000 a second: an open loop, times count from when a request was due |
//! | `stream`, `paced` | 50 events without pauses, and every 20 ms |
//! | `large`, `huge` | 20 kB and 1 MB asked |
//! | `failover`, `refused` | the primary answers 503, takes no connection: every request fails over, no circuit breaker helps |
//! | `hang` | the primary takes requests and never answers, until it is given up |
//! | `open`, `half` | the primary, half of eight equals have been given up |
//! | `tls` | the upstream speaks TLS |
//! | `reload` | the file changes all the while |
//! | `many`, `keys` | a thousand backends in three hundred routes; ten thousand client keys |
//! | `workers` | two workers on both cores, which they share with the load, against one |
//! | `slow` | two thousand streams at once: memory |
//!
//! The closed loops are keep-alive connections that each send a request, read the whole answer, send the next. CPU is user and
//! system time of the contestant's process, by the scheduler's count. `added` compares medians with those of `direct`. The run
//! fails on any wrong answer of the gateway, and where requests failed over that should not have, or did not where they should.
//!
//! Not measured: networks with a delay, HTTP/2, the highest rate of a contestant where the load's core is the narrower one (then
//! only CPU per request says what it costs). Starts of the same binary differ by about 2 µs per request: a difference below a
//! tenth needs several runs. The gateway has on what its users have on (metrics, access log, a client key, circuit breakers,
//! quotas); the log goes to nowhere. The peers do less: nginx and `HAProxy` neither read the body nor write a log.

#[path = "load/client.rs"]
mod client;
#[path = "load/endurance.rs"]
mod endurance;
#[path = "load/folder.rs"]
mod folder;
#[path = "load/inbound.rs"]
mod inbound;
#[path = "load/open.rs"]
mod open;
#[path = "load/options.rs"]
mod options;
#[path = "load/peers.rs"]
mod peers;
#[path = "load/plot.rs"]
mod plot;
#[path = "load/primary.rs"]
mod primary;
#[path = "load/process.rs"]
#[expect(dead_code, reason = "`relay` asks for peaks, this bench does not")]
mod process;
#[path = "load/provider.rs"]
mod provider;
#[path = "load/report.rs"]
mod report;
#[path = "load/scenario.rs"]
mod scenario;
#[path = "load/setting.rs"]
mod setting;
#[path = "load/tls.rs"]
mod tls;
#[path = "load/window.rs"]
mod window;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;

use self::options::Options;
use self::peers::Kind;
use self::process::Pinning;
use self::report::{Row, Spread, Table};
use self::scenario::{Form, Scenario};
use self::setting::Setting;
use self::window::{Contestant, Span, Window};

/// Beyond the windows themselves: starting, connecting, waiting for last answers.
const GRACE: Duration = Duration::from_secs(240);

fn main() -> ExitCode {
    match begin() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            let _ = writeln!(std::io::stderr(), "load: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn begin() -> Result<(), String> {
    match provider::asked()? {
        Some(at) => provider::serve(at).map_err(|error| format!("no provider: {error}")),
        None => Options::read().and_then(|options| start(&options)),
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
    let mut setting = Setting::start(pinning, if options.is_alone { &Kind::PEERS } else { &[] }).await?;
    let mut table = Table::begin(&setting.describe());
    let scenarios = options.scenarios();
    for (place, scenario) in scenarios.iter().copied().enumerate() {
        if scenario.form() == Form::Starts {
            time_starts(options, &setting, scenario, &mut table).await?;
            continue;
        }
        setting.summon(scenario, &scenarios[place + 1..]).await?;
        setting.prepare(scenario).await;
        for connections in options.connections(scenario) {
            measure(options, &setting, scenario, connections, &mut table).await?;
        }
    }
    if let Some(span) = options.endurance.filter(|_| !options.is_single()) {
        setting.summon(Scenario::Endure, &[]).await?;
        endurance::run(&setting, span).await?;
    }
    if !setting.missing().is_empty() {
        table.remark(&format!("left out: {}", setting.missing()));
    }
    if let Some(file) = &options.plot {
        let drawn = plot::draw(table.rows());
        std::fs::write(file, drawn).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
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
    let route = format!("route=\"{}\"", scenario.primary().name());
    let failovers = || setting.count("breakwater_failovers_total", &route);
    let reloads = || setting.count("breakwater_config_reloads_total", "result=\"applied\"");
    let (failovers_before, reloads_before) = (failovers().await?, reloads().await?);
    for _ in 0..options.rounds {
        for (contestant, windows) in contestants.iter().zip(&mut windows) {
            windows.push(window_of(options, setting, scenario, contestant, connections).await?);
        }
    }
    let failovers = failovers().await? - failovers_before;
    let mut direct = None;
    for (contestant, windows) in contestants.iter().zip(&windows) {
        let row = row(contestant, scenario, connections, windows, failovers, direct);
        direct = direct.or((contestant.kind == Kind::Direct).then(|| row.median_latency()));
        table.add(row);
    }
    let with_cost = contestants.iter().zip(&windows).filter(|(contestant, _)| contestant.process.is_some());
    let costs = |windows: &Vec<Window>| windows.iter().filter_map(Window::cost).collect();
    let costs: Vec<_> = with_cost.map(|(contestant, windows)| (contestant.kind, costs(windows))).collect();
    table.compare(&costs);
    if scenario == Scenario::Reload {
        table.remark(&format!("{} reloads meanwhile", reloads().await? - reloads_before));
    }
    Ok(())
}

async fn window_of(
    options: &Options,
    setting: &Setting,
    scenario: Scenario,
    contestant: &Contestant<'_>,
    connections: usize,
) -> Result<Window, String> {
    let span = Span { measured: options.span.measured.max(scenario.least_span()), ..options.span };
    let driven = async {
        match scenario.form() {
            Form::Closed | Form::Starts => window::drive(contestant, connections, span).await,
            Form::Open { rate } => open::drive(contestant, connections, rate, span).await,
            Form::Held => window::hold(contestant, connections, span).await,
        }
    };
    if scenario != Scenario::Reload {
        return driven.await;
    }
    tokio::select! {
        window = driven => window,
        stopped = setting.keep_editing() => Err(format!("the edits ended: {stopped:?}")),
    }
}

/// A row for each contestant that starts in a moment: the time is that to its first answer.
async fn time_starts(
    options: &Options,
    setting: &Setting,
    scenario: Scenario,
    table: &mut Table,
) -> Result<(), String> {
    for kind in scenario.contestants() {
        let mut starts = Vec::new();
        for _ in 0..options.rounds {
            starts.extend(setting.time_start(*kind).await?);
        }
        if starts.is_empty() {
            continue;
        }
        let times = || starts.iter().map(|(took, _)| took.as_secs_f64());
        table.add(Row {
            scenario: scenario.name(),
            connections: 1,
            contestant: *kind,
            rates: Spread::of(times().map(f64::recip)),
            costs: Spread::default(),
            median: Spread::of(times()),
            late: Spread::of(times()),
            latest: starts.iter().map(|(took, _)| *took).max().unwrap_or_default(),
            direct: None,
            resident: starts.iter().filter_map(|(_, resident)| *resident).max(),
            failovers: None,
            expected_failovers: None,
            errors: 0,
        });
    }
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
    let is_counted = contestant.kind == Kind::Breakwater;
    Row {
        scenario: scenario.name(),
        connections,
        contestant: contestant.kind,
        rates: Spread::of(windows.iter().map(Window::rate)),
        costs: Spread::of(windows.iter().filter_map(Window::cost)),
        median: Spread::of(windows.iter().map(|window| window.median.as_secs_f64())),
        late: Spread::of(windows.iter().map(|window| window.late.as_secs_f64())),
        latest: windows.iter().map(|window| window.latest).max().unwrap_or_default(),
        direct,
        resident: windows.iter().filter_map(|window| window.resident).max(),
        failovers: is_counted.then(|| failovers as f64 / answered.max(1) as f64),
        expected_failovers: scenario.failovers_per_request(),
        errors: windows.iter().map(|window| window.errors).sum(),
    }
}
