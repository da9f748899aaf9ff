//! A window of load: connections in a closed loop for a while, or streams that are looked at while they run.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use breakwater::clock;
use bytes::Bytes;
use tokio::task::JoinSet;

use crate::client::{Answer, Connection};
use crate::peers::Kind;
use crate::process::Process;

/// After the window, for answers that are under way.
pub(crate) const LAST_ANSWERS: Duration = Duration::from_secs(10);

/// Before a lost connection is made anew, so that a dead contestant is not asked in a tight loop.
const RECONNECT: Duration = Duration::from_millis(10);

/// The stream's last event lies in so many of its last bytes.
const TAIL_BYTES: usize = 64;

/// How long a window lasts.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    /// Before anything is noted.
    pub(crate) warm_up: Duration,
    /// While everything is.
    pub(crate) measured: Duration,
}

/// What an answer must be, beside a 200.
#[derive(Clone, Copy)]
pub(crate) enum Wanted {
    /// A body.
    Whole,
    /// A stream that ends with `[DONE]`.
    Stream,
}

impl Wanted {
    /// Whether an answer is one.
    pub(crate) fn is_met(self, answer: &Answer<'_>) -> bool {
        let tail = &answer.body[answer.body.len().saturating_sub(TAIL_BYTES)..];
        let is_whole = match self {
            Self::Whole => !answer.body.is_empty(),
            Self::Stream => memchr::memmem::find(tail, b"data: [DONE]").is_some(),
        };
        answer.status == 200 && is_whole
    }
}

/// Whom the load goes to, and with what.
pub(crate) struct Contestant<'a> {
    /// Who.
    pub(crate) kind: Kind,
    /// What it is sent.
    pub(crate) load: Load,
    /// Whose CPU and memory count; none for the simulator, which shares its core with the load.
    pub(crate) process: Option<&'a Process>,
}

/// What each connection needs.
#[derive(Clone)]
pub(crate) struct Load {
    /// Where to.
    pub(crate) address: SocketAddr,
    /// The request.
    pub(crate) request: Bytes,
    /// What must be answered.
    pub(crate) wanted: Wanted,
}

/// What a window brought.
pub(crate) struct Window {
    /// Good answers while it was measured.
    pub(crate) requests: u64,
    /// Good answers with those before and after.
    pub(crate) answered: u64,
    /// Wrong answers and lost connections at any time.
    pub(crate) errors: u64,
    /// Half of the answers came within this.
    pub(crate) median: Duration,
    /// 99 % did.
    pub(crate) late: Duration,
    /// All did.
    pub(crate) latest: Duration,
    /// Resident memory at its end.
    pub(crate) resident: Option<u64>,
    elapsed: Duration,
    cpu: Option<Duration>,
}

impl Window {
    /// Requests per second.
    pub(crate) fn rate(&self) -> f64 {
        self.requests as f64 / self.elapsed.as_secs_f64()
    }

    /// CPU per request in seconds; none if nothing was answered.
    pub(crate) fn cost(&self) -> Option<f64> {
        let cpu = self.cpu.filter(|_| 0 < self.requests)?;
        Some(cpu.as_secs_f64() / self.requests as f64)
    }
}

/// Where a window is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    WarmUp,
    Measured,
    Over,
}

/// What all connections of a window note. They run on one thread.
#[derive(Default)]
pub(crate) struct Notes {
    phase: Cell<Phase>,
    latencies: RefCell<Vec<Duration>>,
    answered: Cell<u64>,
    errors: Cell<u64>,
}

impl Notes {
    /// From now on it counts.
    pub(crate) fn begin(&self) {
        self.phase.set(Phase::Measured);
    }

    /// An answer, or none.
    pub(crate) fn note(&self, is_good: bool, took: Duration) {
        if !is_good {
            self.errors.set(self.errors.get() + 1);
            return;
        }
        self.answered.set(self.answered.get() + 1);
        if self.phase.get() == Phase::Measured {
            self.latencies.borrow_mut().push(took);
        }
    }

    fn is_over(&self) -> bool {
        self.phase.get() == Phase::Over
    }

    /// What came of it. `cpu` is the contestant's at the end and at the beginning.
    pub(crate) fn window(&self, elapsed: Duration, cpu: Option<(Duration, Duration)>, resident: Option<u64>) -> Window {
        let mut latencies = self.latencies.take();
        latencies.sort_unstable();
        Window {
            requests: latencies.len() as u64,
            answered: self.answered.get(),
            errors: self.errors.get(),
            median: quantile(&latencies, 0.5),
            late: quantile(&latencies, 0.99),
            latest: quantile(&latencies, 1.0),
            resident,
            elapsed,
            cpu: cpu.map(|(after, before)| after.saturating_sub(before)),
        }
    }
}

/// Drives a window of a closed loop. Must run inside a `LocalSet`.
///
/// # Errors
/// Answers that do not come, even long after the window.
pub(crate) async fn drive(contestant: &Contestant<'_>, connections: usize, span: Span) -> Result<Window, String> {
    let notes = Rc::new(Notes::default());
    let mut loops = JoinSet::new();
    for _ in 0..connections {
        loops.spawn_local(keep_asking(contestant.load.clone(), Rc::clone(&notes)));
    }
    tokio::time::sleep(span.warm_up).await;
    let cpu = || contestant.process.and_then(Process::cpu);
    let (begun, before) = (clock::now(), cpu());
    notes.begin();
    tokio::time::sleep(span.measured).await;
    notes.phase.set(Phase::Over);
    let (elapsed, after) = (clock::now().since(begun), cpu());
    let resident = contestant.process.and_then(Process::resident);
    let drained = tokio::time::timeout(LAST_ANSWERS, async { while loops.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        return Err(format!("{} owes {} answers", contestant.kind.name(), loops.len()));
    }
    Ok(notes.window(elapsed, after.zip(before), resident))
}

/// One connection: a request, its answer, the next request.
async fn keep_asking(load: Load, notes: Rc<Notes>) {
    while !notes.is_over() {
        let Ok(mut connection) = Connection::open(load.address).await else {
            notes.note(false, Duration::ZERO);
            tokio::time::sleep(RECONNECT).await;
            continue;
        };
        while !notes.is_over() {
            let begun = clock::now();
            let Ok(answer) = connection.exchange(&load.request).await else {
                notes.note(false, Duration::ZERO);
                tokio::time::sleep(RECONNECT).await;
                break;
            };
            notes.note(load.wanted.is_met(&answer), clock::now().since(begun));
        }
    }
}

/// Begins streams, waits until each has brought something, and looks at the contestant while all of them run. CPU is per
/// stream. Must run inside a `LocalSet`.
///
/// # Errors
/// A stream that brings nothing.
pub(crate) async fn hold(contestant: &Contestant<'_>, streams: usize, span: Span) -> Result<Window, String> {
    let notes = Rc::new(Notes::default());
    notes.begin();
    let cpu = || contestant.process.and_then(Process::cpu);
    let (begun, before) = (clock::now(), cpu());
    let mut held = JoinSet::new();
    for _ in 0..streams {
        let (load, notes) = (contestant.load.clone(), Rc::clone(&notes));
        held.spawn_local(async move {
            let begun = clock::now();
            let mut connection = Connection::open(load.address).await?;
            connection.watch(&load.request, || notes.note(true, clock::now().since(begun))).await
        });
    }
    let all_run = async {
        while notes.answered.get() < streams as u64 {
            tokio::select! {
                lost = held.join_next() => return Err(format!("{}: a stream ended: {lost:?}", contestant.kind.name())),
                () = tokio::time::sleep(RECONNECT) => {}
            }
        }
        Ok(())
    };
    let running = tokio::time::timeout(LAST_ANSWERS, all_run).await;
    running
        .unwrap_or_else(|_| Err(format!("{}: only {} streams run", contestant.kind.name(), notes.answered.get())))?;
    tokio::time::sleep(span.measured).await;
    let (elapsed, after) = (clock::now().since(begun), cpu());
    let resident = contestant.process.and_then(Process::resident);
    held.abort_all();
    while held.join_next().await.is_some() {}
    Ok(notes.window(elapsed, after.zip(before), resident))
}

/// The value that this share of sorted values does not exceed; zero if there is none.
fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}
