//! A gateway whose configuration is edited again and again under load: does anything break, and does anything grow.
//!
//! ```text
//! cargo bench --bench soak                    # a thousand edits, about ten minutes
//! cargo bench --bench soak -- --edits 200
//! cargo bench --bench soak -- --short         # as CI runs it: every way of saving and every kind of mistake once
//! ```
//!
//! The gateway is a process of its own, the simulator lives in this one. Clients ask and stream without a pause while the file
//! is saved in every way that editors, scripts and Kubernetes have (`soak/edit.rs`), every third time with a mistake in it.
//! The run fails if a request fails or a stream is cut, if another configuration than the last valid one is in force two
//! seconds after a save, or if the circuit of a backend that no edit touches does not stay open. It prints how long a save took
//! to be in force, by the way it was made, and what memory and descriptors came to. A way whose slowest save took long has had
//! this machine's two cores busy elsewhere, or a file that was read half-written and looked at again.
//!
//! Then a file of a thousand backends in three hundred routes is edited (`soak/large.rs`).

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a run that fails says where, as a story does"
)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it is what the run is for")]

#[path = "../tests/it"]
mod it {
    #[expect(dead_code, unused_imports, reason = "the stories use all of it")]
    pub(crate) mod support;
}

#[path = "soak/edit.rs"]
mod edit;
#[path = "soak/large.rs"]
mod large;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use breakwater::clock::{self, Instant};
use breakwater::simulator::{Dialect, Fault};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use self::edit::Way;
use self::it::support::{Ask, Client, Ending, Gateway, Providers, status, wait_for, words_of};

/// Edits of a whole run (issue of the living configuration: a thousand).
const EDITS: usize = 1_000;

/// Edits of the short form: each way meets each mistake once, and three times a valid file.
const SHORT_EDITS: usize = 63;

/// Edits of a large file, and in the short form.
const LARGE_EDITS: usize = 30;
const SHORT_LARGE_EDITS: usize = 3;

/// Longest time from a save to its being in force.
const IN_FORCE_WITHIN: Duration = Duration::from_secs(2);

/// How long a file with a mistake stands before the next edit: some are judged, some overtaken.
const MISTAKE_STANDS: [Duration; 2] = [Duration::from_millis(1_500), Duration::from_millis(100)];

/// Who asks, and who streams.
const ASKERS: usize = 2;
const STREAMERS: usize = 4;

/// Words of a stream, and how many come a second: it outlives an edit or two.
const WORDS: usize = 300;
const WORDS_PER_SECOND: f64 = 400.0;

/// Growth of resident memory from the first tenth of the run to its end that is more than noise of the allocator.
const MAX_GROWTH_KIB: u64 = 4 << 10;

/// Descriptors that may be open at one moment and not at another: connections of clients that come and go.
const MAX_MORE_DESCRIPTORS: usize = 8;

/// What is wrong with a file.
#[derive(Clone, Copy, Debug)]
enum Mistake {
    Syntax,
    UnknownKey,
    UnknownBackend,
    Cut,
    Empty,
    Binary,
    Duplicate,
}

impl Mistake {
    const ALL: [Self; 7] =
        [Self::Syntax, Self::UnknownKey, Self::UnknownBackend, Self::Cut, Self::Empty, Self::Binary, Self::Duplicate];

    fn make(self, text: &str) -> Vec<u8> {
        match self {
            Self::Syntax => text.replacen("router:", "router: [", 1).into_bytes(),
            Self::UnknownKey => format!("sevrer: {{port: 1}}\n{text}").into_bytes(),
            Self::UnknownBackend => text.replacen("{name: azure", "{name: azuer", 1).into_bytes(),
            Self::Cut => text.as_bytes()[..text.rfind("weight").unwrap_or(0)].to_vec(),
            Self::Empty => Vec::new(),
            Self::Binary => [b"\xff\xfe\0\x01", text.as_bytes()].concat(),
            Self::Duplicate => format!("{text}router: []\n").into_bytes(),
        }
    }
}

/// The `number`-th valid file.
fn text(providers: &Providers, number: usize) -> String {
    let weights = (1 + number % 7, 1 + number % 5);
    format!(
        "# edit {number}\nreload: {{rescan_interval: 30s}}\n\
         resilience: {{circuit_breaker: {{wait_duration_in_open_state: 1h, max_wait_duration_in_open_state: 2h}}}}\n\
         {}router:\n  - model_name: live\n    load_balance_strategy: weighted_round_robin\n    models:\n\
         \x20     - {{name: openai, priority: 1, weight: {}}}\n      - {{name: azure, priority: 1, weight: {}}}\n\
         \x20     - {{name: broken, priority: 1, weight: 1}}\n",
        providers.models(&[]),
        weights.0,
        weights.1
    )
}

fn hash(text: &[u8]) -> String {
    Sha256::digest(text).iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// What the load has seen.
#[derive(Default)]
struct Seen {
    is_over: AtomicBool,
    requests: AtomicU64,
    streams: AtomicU64,
}

fn ask(gateway: &Gateway, seen: &Seen) {
    let mut client = gateway.connect();
    while !seen.is_over.load(Ordering::Acquire) {
        let answer = client.ask(&Ask::chat("live"));
        assert_eq!(answer.status(), 200, "{answer:?}");
        seen.requests.fetch_add(1, Ordering::Relaxed);
        pause(Duration::from_millis(5));
    }
}

fn stream(gateway: &Gateway, seen: &Seen) {
    let ask = Ask::chat_with("live", &format!(r#","stream":true,"max_tokens":{WORDS}"#));
    while !seen.is_over.load(Ordering::Acquire) {
        let answer = gateway.connect().ask(&ask);
        let backend = answer.header("x-breakwater-backend").unwrap_or_default().to_owned();
        assert_eq!((answer.status(), answer.words()), (200, words_of(&backend, WORDS)), "{answer:?}");
        assert_eq!(answer.ending, Some(Ending::Whole), "{answer:?}");
        seen.streams.fetch_add(1, Ordering::Relaxed);
    }
}

/// Memory and descriptors of a process.
#[derive(Clone, Copy, Debug)]
struct Footprint {
    resident_kib: u64,
    descriptors: usize,
}

impl Footprint {
    fn of(process: u32) -> Self {
        let about = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let line = about.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident_kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default();
        let descriptors = std::fs::read_dir(format!("/proc/{process}/fd")).map_or(0, Iterator::count);
        Self { resident_kib, descriptors }
    }
}

/// The operators' view.
struct Operator(Client);

impl Operator {
    fn of(gateway: &Gateway) -> Self {
        Self(Client::connect(gateway.admin_address()).unwrap())
    }

    /// How long the last reload took from its comparison to its being in force.
    fn last_took(&mut self) -> Duration {
        let took =
            wait_for("the report", || self.0.ask(&Ask::get("/admin/status")).json()["reloads"][0]["took_ms"].as_u64());
        Duration::from_millis(took)
    }

    fn config(&mut self) -> Value {
        self.0.ask(&Ask::get("/admin/status")).json()["config"].clone()
    }

    /// Waits for a configuration; how long it took since `saved`.
    fn wait(&mut self, wanted: &str, saved: Instant, what: &str) -> Duration {
        loop {
            let config = self.config();
            let took = clock::now().since(saved);
            if config["hash"] == wanted {
                return took;
            }
            assert!(took < IN_FORCE_WITHIN, "{what}: {wanted} is not in force after {took:?}, but {config}");
            pause(Duration::from_millis(5));
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the pace of an editor and of clients")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Edits, and checks after each what is in force. Times by way of saving, and what the process came to.
fn edit(gateway: &Gateway, providers: &Providers, edits: usize) -> (BTreeMap<Way, Vec<Duration>>, [Footprint; 2]) {
    let mut operator = Operator::of(gateway);
    let mut times: BTreeMap<Way, Vec<Duration>> = BTreeMap::new();
    let mut in_force = hash(text(providers, 0).as_bytes());
    let mut early = Footprint::of(gateway.process());
    let (mut valid, mut mistaken) = (0, 0);
    for number in 1..=edits {
        let good = text(providers, number);
        if number % 3 == 0 {
            let (way, mistake) = (Way::ALL[mistaken % Way::ALL.len()], Mistake::ALL[mistaken / 7 % Mistake::ALL.len()]);
            way.save(gateway.path(), &mistake.make(&good), number).unwrap();
            pause(MISTAKE_STANDS[mistaken % MISTAKE_STANDS.len()]);
            mistaken += 1;
            let config = operator.config();
            assert_eq!(config["hash"], in_force.as_str(), "{mistake:?} saved by {way:?}: {config}");
        } else {
            let way = Way::ALL[valid % Way::ALL.len()];
            way.save(gateway.path(), good.as_bytes(), number).unwrap();
            valid += 1;
            in_force = hash(good.as_bytes());
            let took = operator.wait(&in_force, clock::now(), &format!("edit {number} saved by {way:?}"));
            times.entry(way).or_default().push(took);
        }
        if number == (edits / 10).max(1) {
            early = Footprint::of(gateway.process());
        }
    }
    (times, [early, Footprint::of(gateway.process())])
}

fn report(times: BTreeMap<Way, Vec<Duration>>) {
    println!("\n| saved | times | in force after (median) | slowest |\n|---|---|---|---|");
    for (way, mut times) in times {
        times.sort_unstable();
        let (median, slowest) = (times[times.len() / 2], times[times.len() - 1]);
        println!("| {} | {} | {} ms | {} ms |", way.name(), times.len(), median.as_millis(), slowest.as_millis());
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let edits = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] | ["--bench"] => EDITS,
        ["--short"] | ["--short", "--bench"] => SHORT_EDITS,
        ["--edits", number] | ["--edits", number, "--bench"] if number.parse::<usize>().is_ok() => {
            number.parse().unwrap_or(EDITS)
        }
        _ => {
            eprintln!("soak takes --edits NUMBER or --short");
            return ExitCode::from(2);
        }
    };
    let dialects = [("openai", Dialect::OpenAi), ("azure", Dialect::Azure), ("broken", Dialect::OpenAi)];
    let providers = Providers::start(&dialects);
    for name in ["openai", "azure"] {
        providers.fault(name, Fault::TokensPerSecond(WORDS_PER_SECOND));
    }
    providers.fault("broken", status(500));
    let gateway = Gateway::start(text(&providers, 0));
    wait_for("the open circuit", || {
        gateway.ask(&Ask::chat("live"));
        (gateway.scrape().sum("breakwater_circuit_state", &[("backend", "broken")]) == 2.0).then_some(())
    });
    providers.rules("broken", Vec::new());
    let calls = providers.calls("broken");
    println!("{edits} edits, every third with a mistake, under {ASKERS} clients that ask and {STREAMERS} that stream");
    let seen = Seen::default();
    let (times, [early, late]) = std::thread::scope(|scope| {
        let askers: Vec<_> = (0..ASKERS).map(|_| scope.spawn(|| ask(&gateway, &seen))).collect();
        let streamers: Vec<_> = (0..STREAMERS).map(|_| scope.spawn(|| stream(&gateway, &seen))).collect();
        let watched = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| edit(&gateway, &providers, edits)));
        seen.is_over.store(true, Ordering::Release);
        for thread in askers.into_iter().chain(streamers) {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
        watched.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    report(times);
    let scrape = gateway.scrape();
    let reloads = |result| scrape.sum("breakwater_config_reloads_total", &[("result", result)]);
    println!(
        "\n{} requests and {} streams, all whole; reloads: {} applied, {} rejected, {} without effect",
        seen.requests.into_inner(),
        seen.streams.into_inner(),
        reloads("applied"),
        reloads("rejected"),
        reloads("no_effect") + reloads("unchanged"),
    );
    let Footprint { resident_kib, descriptors } = late;
    println!(
        "resident memory {} KiB after a tenth, {resident_kib} KiB at the end; descriptors {} and {descriptors}",
        early.resident_kib, early.descriptors
    );
    assert_eq!(providers.calls("broken"), calls, "an open circuit that no edit touched was tried");
    assert_eq!(scrape.sum("breakwater_circuit_transitions_total", &[("backend", "broken")]), 1.0);
    assert!(resident_kib <= early.resident_kib + MAX_GROWTH_KIB, "memory grows");
    assert!(descriptors <= early.descriptors + MAX_MORE_DESCRIPTORS, "descriptors leak");
    drop(gateway);
    let is_short = edits == SHORT_EDITS;
    large::run(&providers, if is_short { SHORT_LARGE_EDITS } else { LARGE_EDITS }, !is_short);
    ExitCode::SUCCESS
}
