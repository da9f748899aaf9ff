//! A window of load: connections in a closed loop, for a while.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use breakwater::clock;
use bytes::Bytes;
use tokio::task::JoinSet;

use crate::client::{Answer, Connection};
use crate::process::Process;

/// After the window, for answers that are under way.
const LAST_ANSWERS: Duration = Duration::from_secs(10);

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
    fn is_met(self, answer: &Answer<'_>) -> bool {
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
    /// Its name in the table.
    pub(crate) name: &'static str,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// What it is sent.
    pub(crate) request: Bytes,
    /// What it must answer.
    pub(crate) wanted: Wanted,
    /// Whose CPU and memory count; none for the simulator, which shares its core with the load.
    pub(crate) process: Option<&'a Process>,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    WarmUp,
    Measured,
    Over,
}

/// What all connections of a window note. They run on one thread.
struct Tally {
    phase: Cell<Phase>,
    latencies: RefCell<Vec<Duration>>,
    answered: Cell<u64>,
    errors: Cell<u64>,
}

impl Tally {
    fn note(&self, is_good: bool, took: Duration) {
        if !is_good {
            self.errors.set(self.errors.get() + 1);
            return;
        }
        self.answered.set(self.answered.get() + 1);
        if self.phase.get() == Phase::Measured {
            self.latencies.borrow_mut().push(took);
        }
    }
}

/// Drives a window. Must run inside a `LocalSet`.
///
/// # Errors
/// Answers that do not come, even long after the window.
pub(crate) async fn drive(contestant: &Contestant<'_>, connections: usize, span: Span) -> Result<Window, String> {
    let tally = Rc::new(Tally {
        phase: Cell::new(Phase::WarmUp),
        latencies: RefCell::default(),
        answered: Cell::new(0),
        errors: Cell::new(0),
    });
    let mut loops = JoinSet::new();
    for _ in 0..connections {
        let (address, request, wanted) = (contestant.address, contestant.request.clone(), contestant.wanted);
        loops.spawn_local(keep_asking(address, request, wanted, Rc::clone(&tally)));
    }
    tokio::time::sleep(span.warm_up).await;
    let cpu = || contestant.process.and_then(Process::cpu);
    let (begun, cpu_before) = (clock::now(), cpu());
    tally.phase.set(Phase::Measured);
    tokio::time::sleep(span.measured).await;
    tally.phase.set(Phase::Over);
    let (elapsed, cpu_after) = (clock::now().since(begun), cpu());
    let resident = contestant.process.and_then(Process::resident);
    let drained = tokio::time::timeout(LAST_ANSWERS, async { while loops.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        return Err(format!("{} owes {} answers", contestant.name, loops.len()));
    }
    let mut latencies = tally.latencies.take();
    latencies.sort_unstable();
    let spent = cpu_after.zip(cpu_before).map(|(after, before)| after.saturating_sub(before));
    Ok(Window {
        requests: latencies.len() as u64,
        answered: tally.answered.get(),
        errors: tally.errors.get(),
        median: quantile(&latencies, 0.5),
        late: quantile(&latencies, 0.99),
        latest: quantile(&latencies, 1.0),
        resident,
        elapsed,
        cpu: spent,
    })
}

/// One connection: a request, its answer, the next request.
async fn keep_asking(address: SocketAddr, request: Bytes, wanted: Wanted, tally: Rc<Tally>) {
    while tally.phase.get() != Phase::Over {
        let Ok(mut connection) = Connection::open(address).await else {
            tally.note(false, Duration::ZERO);
            tokio::time::sleep(RECONNECT).await;
            continue;
        };
        while tally.phase.get() != Phase::Over {
            let begun = clock::now();
            let Ok(answer) = connection.exchange(&request).await else {
                tally.note(false, Duration::ZERO);
                tokio::time::sleep(RECONNECT).await;
                break;
            };
            tally.note(wanted.is_met(&answer), clock::now().since(begun));
        }
    }
}

/// The value that this share of sorted values does not exceed; zero if there is none.
fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}
