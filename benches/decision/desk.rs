//! The decision itself, as promised by spec/resilience.md 12 (16): select among 20 candidates, acquire, record; without the
//! mailbox turn around it. Each operation is timed by itself, so that slow ones are seen.
//!
//! Recording is what a request does of it: the outcome goes to the worker's outbox. The outbox is emptied between the timed
//! operations, as its own task does, and the actors book on another thread meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use breakwater::backend::Outbox;
use breakwater::backend::outcome::Outcome;
use breakwater::clock::{self, Instant};
use breakwater::router::{Desk, Plan, Table};

use crate::actors::{ROUTE, Rig, need};
use crate::meter::Meter;

/// As the promise has it.
const CANDIDATES: usize = 20;

/// Operations between two looks of the outbox's task: fewer than it gathers at most.
const GATHERED: u64 = 256;

/// Operations after which every buffer has the room it needs.
const WARM_UP: u64 = 4 * GATHERED;

pub(crate) fn measure(meter: &mut Meter) -> Result<(), String> {
    let rig = Rig::start(CANDIDATES)?;
    let table = rig.router.table();
    let count = meter.operations();
    let mut times: Vec<u64> = (0..count).map(|_| nanos_since(clock::now())).collect();
    meter.tell_times("clock: what timing an operation adds to it", &mut times, 0.0);
    for threads in [1, std::thread::available_parallelism().map_or(2, usize::from).max(2)] {
        let name = format!("select, acquire, record: {CANDIDATES} candidates, {threads} threads");
        if !meter.wants(&name) {
            continue;
        }
        let mut done = contend(&rig, &table, threads, count);
        let allocations = done.iter().map(|worker| worker.allocations).sum::<u64>();
        let mut times: Vec<u64> = done.iter_mut().flat_map(|worker| worker.times.drain(..)).collect();
        let served: u64 = done.iter().map(|worker| worker.served).sum();
        meter.tell_times(&name, &mut times, allocations as f64 / (threads as u64 * GATHERED) as f64);
        meter.check(allocations == 0, "a decision allocated after the warm-up");
        meter.check(served == threads as u64 * (WARM_UP + GATHERED + count), "a free backend was not chosen");
    }
    let in_flight = table.backends().any(|backend| backend.status().in_flight() != 0);
    meter.check(!in_flight, "a settled permit still counts as in flight");
    Ok(())
}

/// What one thread saw.
struct Worker {
    times: Vec<u64>,
    allocations: u64,
    served: u64,
}

/// The same work on so many threads at once, each with a desk of its own; the actors run on this one.
fn contend(rig: &Rig, table: &Arc<Table>, threads: usize, count: u64) -> Vec<Worker> {
    let running = Arc::new(AtomicUsize::new(threads));
    let spawn = |_| {
        let (table, running) = (Arc::clone(table), Arc::clone(&running));
        std::thread::spawn(move || {
            let worker = work(&table, count);
            running.fetch_sub(1, Ordering::Release);
            worker
        })
    };
    let workers: Vec<_> = (0..threads).map(spawn).collect();
    rig.system.block_on(async {
        while running.load(Ordering::Acquire) != 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    workers.into_iter().filter_map(|worker| worker.join().ok()).collect()
}

fn work(table: &Arc<Table>, count: u64) -> Worker {
    let outbox = Outbox::new();
    let mut desk = Desk::new(Arc::clone(table), Arc::clone(&outbox), fastrand::Rng::new());
    let mut worker = Worker { times: Vec::with_capacity(count as usize), allocations: 0, served: 0 };
    for index in 0..WARM_UP {
        worker.served += u64::from(decide(table, &mut desk).is_some());
        if index.is_multiple_of(GATHERED) {
            outbox.flush();
        }
    }
    outbox.flush();
    let served = &mut worker.served;
    let counted = allocation_counter::measure(|| {
        *served += (0..GATHERED).filter(|_| decide(table, &mut desk).is_some()).count() as u64;
    });
    worker.allocations = counted.count_total;
    for index in 0..count {
        if index.is_multiple_of(GATHERED) {
            outbox.flush();
        }
        if let Some(time) = decide(table, &mut desk) {
            worker.times.push(time);
            worker.served += 1;
        }
    }
    outbox.flush();
    worker
}

/// One decision and its nanoseconds; none if nobody was chosen.
fn decide(table: &Arc<Table>, desk: &mut Desk) -> Option<u64> {
    let mut plan = Plan::of(table, ROUTE, need())?;
    let begun = clock::now();
    let chosen = desk.next(&mut plan, begun).ok()?;
    chosen.permit.settle(Outcome::Success, begun);
    Some(nanos_since(begun))
}

fn nanos_since(begun: Instant) -> u64 {
    clock::now().since(begun).as_nanos() as u64
}
