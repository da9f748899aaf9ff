//! Streams on their way through: what an event costs, how long it is held, and what many of them take of memory.
//!
//! ```text
//! cargo bench --bench relay                    # about two minutes
//! cargo bench --bench relay -- --seconds 5 --rounds 5
//! cargo bench --bench relay -- --only paced
//! cargo bench --bench relay -- --short         # as CI runs it: moments, proves that it works
//! ```
//!
//! The upstream lives in this process, and writes into each event when it was sent; the clients beside it read that. So each
//! event's way is measured by one clock, and not only a stream's whole time. Contestants take their windows in turn: `direct`,
//! `breakwater`, and `nginx` without buffering where it is installed. With two cores and `taskset` the contestant has core 0,
//! load and upstream share core 1.
//!
//! | scenario | what |
//! |---|---|
//! | `paced` | 64 streams, an event every 20 ms: the contestant mostly sleeps, and waking up is most of what it costs |
//! | `dense` | 512 streams of the same pace: it is busy |
//! | `burst` | 64 streams of 50 events without pauses: several events are one write |
//! | `slow` | 2,000 streams, an event a second |
//! | `large` | requests of 20 MB, one at a time: memory beyond what the gateway had before |
//!
//! CPU is user and system time of the contestant's process per event that arrived. The run fails on a lost, doubled or broken
//! event. Not measured: TLS, HTTP/2, streams that fail.

#[path = "relay/client.rs"]
mod client;
#[path = "relay/contestants.rs"]
mod contestants;
#[path = "load/folder.rs"]
mod folder;
#[path = "load/inbound.rs"]
mod inbound;
#[path = "load/peers/nginx.rs"]
mod nginx;
#[path = "load/primary.rs"]
#[expect(dead_code, reason = "its upstream is this process: it needs no others")]
mod primary;
#[path = "load/process.rs"]
#[expect(dead_code, reason = "its upstream is this process: it starts none beside it")]
mod process;
#[path = "relay/upstream.rs"]
mod upstream;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use lexopt::prelude::{Long, Short, Value, ValueExt as _};
use tokio::task::LocalSet;

use self::client::{Load, Window};
use self::contestants::{Contestant, Setting};
use self::process::Pinning;
use self::upstream::Pace;

/// Bytes of a request of `large`: some images, as base64.
const LARGE_BYTES: usize = 20 << 20;

/// What may run alone.
const SCENARIOS: [&str; 5] = ["paced", "dense", "burst", "slow", "large"];

/// What a run may be told.
#[derive(Clone)]
struct Options {
    only: Option<String>,
    seconds: f64,
    rounds: usize,
    slow_streams: usize,
}

fn main() -> ExitCode {
    let done = read_options().and_then(|options| {
        // Before the runtime, so that all of this process is on its core.
        let pinning = Pinning::find();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("no runtime: {error}"))?;
        runtime.block_on(LocalSet::new().run_until(run(options, pinning)))
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            let _ = writeln!(std::io::stderr(), "relay: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn read_options() -> Result<Options, String> {
    let mut options = Options { only: None, seconds: 3.0, rounds: 5, slow_streams: 2_000 };
    let mut parser = lexopt::Parser::from_env();
    let wrong =
        |error: lexopt::Error| format!("{error}; the options are --short, --seconds S, --rounds R and --only SCENARIO");
    while let Some(argument) = parser.next().map_err(wrong)? {
        match argument {
            // What cargo hands to every bench.
            Long("bench") => {}
            Long("short") => options = Options { seconds: 0.5, rounds: 1, slow_streams: 50, ..options },
            Long("only") => {
                let name = parser.value().and_then(|value| value.string()).map_err(wrong)?;
                if !SCENARIOS.contains(&name.as_str()) {
                    return Err(format!("`{name}` is no scenario; there are {}", SCENARIOS.join(", ")));
                }
                options.only = Some(name);
            }
            Long("seconds") => {
                let seconds: f64 = parser.value().and_then(|value| value.parse()).map_err(wrong)?;
                options.seconds = seconds.clamp(0.2, 60.0);
            }
            Long("rounds") => {
                let rounds: usize = parser.value().and_then(|value| value.parse()).map_err(wrong)?;
                options.rounds = rounds.clamp(1, 50);
            }
            Long(_) | Short(_) | Value(_) => return Err(wrong(argument.unexpected())),
        }
    }
    Ok(options)
}

async fn run(options: Options, pinning: Pinning) -> Result<(), String> {
    let setting = Setting::start(pinning).await?;
    say(&setting.describe());
    say(&format!(
        "{:<6} {:>6} {:<10} {:>9} {:>8} {:>8} {:>8} {:>9} {:>8} {:>20} {:>8}",
        "",
        "streams",
        "through",
        "events/s",
        "p50 us",
        "p99 us",
        "max us",
        "first p50",
        ">35 ms",
        "CPU us/event",
        "RSS MiB"
    ));
    let span = Duration::from_secs_f64(options.seconds);
    let paced = Pace { events: 50, gap: Duration::from_millis(20) };
    let burst = Pace { events: 50, gap: Duration::ZERO };
    let is_wanted = |name: &str| options.only.as_deref().is_none_or(|only| only == name);
    let scenarios = [("paced", 64, paced), ("dense", 512, paced), ("burst", 64, burst)];
    for (name, streams, pace) in scenarios.into_iter().filter(|(name, ..)| is_wanted(name)) {
        compare(&setting, name, Load { streams, pace, span }, options.rounds).await?;
    }
    let pace = Pace { events: 600, gap: Duration::from_secs(1) };
    let load = Load { streams: options.slow_streams, pace, span: span.max(Duration::from_secs(3)) };
    if is_wanted("slow") {
        compare(&setting, "slow", load, options.rounds.div_ceil(3)).await?;
    }
    if is_wanted("large") {
        large(&setting).await?;
    }
    Ok(())
}

/// Windows in turn, then a row for each.
async fn compare(setting: &Setting, name: &str, load: Load, rounds: usize) -> Result<(), String> {
    let contestants = setting.contestants();
    let mut windows: Vec<Vec<Window>> = contestants.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        for (contestant, windows) in contestants.iter().zip(&mut windows) {
            setting.upstream.set(load.pace);
            windows.push(client::drive(contestant, load).await?);
        }
    }
    for (contestant, windows) in contestants.iter().zip(&windows) {
        say(&row(name, load.streams, contestant, windows));
    }
    let costs = |name: &str| {
        let of_that_name = contestants.iter().zip(&windows).filter(move |(contestant, _)| contestant.name == name);
        of_that_name.flat_map(|(_, windows)| windows.iter().filter_map(Window::cost)).collect::<Vec<f64>>()
    };
    let mut ratios: Vec<f64> =
        costs("breakwater").iter().zip(costs("nginx")).map(|(ours, theirs)| ours / theirs).collect();
    ratios.sort_by(f64::total_cmp);
    if let (Some(least), Some(most)) = (ratios.first(), ratios.last()) {
        let median = ratios[ratios.len() / 2];
        say(&format!("{:<24} {least:.2}/{median:.2}/{most:.2} x the CPU per event of nginx", ""));
    }
    Ok(())
}

fn row(name: &str, streams: usize, contestant: &Contestant<'_>, windows: &[Window]) -> String {
    let median = |of: &dyn Fn(&Window) -> f64| {
        let mut values: Vec<f64> = windows.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    let mut costs: Vec<f64> = windows.iter().filter_map(Window::cost).map(|cost| cost * 1e6).collect();
    costs.sort_by(f64::total_cmp);
    let cost = match (costs.first(), costs.last()) {
        (Some(least), Some(most)) => format!("{least:.2}/{:.2}/{most:.2}", costs[costs.len() / 2]),
        _ => "-".to_owned(),
    };
    let resident = windows.iter().filter_map(|window| window.resident).max();
    format!(
        "{name:<6} {streams:>6} {:<10} {:>9.0} {:>8.0} {:>8.0} {:>8.0} {:>9.0} {:>8} {cost:>20} {:>8}",
        contestant.name,
        median(&Window::rate),
        median(&|window| micros(window.quantile(0.5))),
        median(&|window| micros(window.quantile(0.99))),
        median(&|window| micros(window.quantile(1.0))),
        median(&|window| micros(window.first)),
        windows.iter().map(|window| window.stalls).sum::<usize>(),
        resident.map_or_else(|| "-".to_owned(), |bytes| format!("{:.1}", bytes as f64 / f64::from(1 << 20))),
    )
}

/// A fresh gateway's memory before and after some large requests.
async fn large(setting: &Setting) -> Result<(), String> {
    for contestant in setting.contestants() {
        let Some(process) = contestant.process else { continue };
        process.forget_peak();
        let before = process.resident().unwrap_or_default();
        for _ in 0..3 {
            client::send_large(contestant.address, contestant.model, LARGE_BYTES).await?;
        }
        let peak = process.peak().unwrap_or_default();
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        say(&format!(
            "large  {:<10} {} MiB asked, {:.1} MiB at most beyond the {:.1} MiB before",
            contestant.name,
            LARGE_BYTES >> 20,
            mib(peak.saturating_sub(before)),
            mib(before),
        ));
    }
    Ok(())
}

/// A reader that is gone is no error.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
