//! Four workers, each with calls of every kind, and an actor that hears, reloads, is ordered about and replaced.

use std::sync::Arc;
use std::time::Duration;

use super::circuit_breaker::StateName;
use super::machine::Command;
use super::outcome::{Class, Outcome};
use super::protocol::{Scene, check_rest, policy};
use super::stage::{Control, LEASE, START, Worker};
use super::status::Override;
use super::sync::thread;
use crate::clock::Instant;

/// Workers at once.
const WORKERS: usize = 4;

/// Calls of each.
const CALLS: u64 = 4;

/// Turns of the actor meanwhile.
const TURNS: usize = 6;

pub fn scene() -> Scene {
    Scene { name: "a storm of workers, orders and reloads".to_owned(), play: Arc::new(storm) }
}

fn draw(below: usize) -> usize {
    use shuttle::rand::Rng as _;
    shuttle::rand::thread_rng().gen_range(0..below)
}

/// A time at which circuits are open, claimable, and leases over.
fn any_time() -> Instant {
    START.plus(Duration::from_secs([0, 3, 5, 15, 45, 60][draw(6)]))
}

fn storm() {
    let (mut control, _) = Control::opened(policy());
    let workers: Vec<_> = (0..WORKERS)
        .map(|_| {
            let worker = control.worker();
            thread::spawn(move || (0..CALLS).map(|_| call(&worker)).sum::<u32>())
        })
        .collect();
    for _ in 0..TURNS {
        turn(&mut control);
        check(&control);
    }
    let leaked = workers.into_iter().map(|worker| worker.join().unwrap()).sum();
    let end = START.plus(Duration::from_secs(100));
    check_rest(&mut control, end, leaked);
    // Whatever was, an operator's reset makes it well.
    control.order(Command::Override(Override::Auto), end.plus(LEASE));
    control.order(Command::Reset { blocks: true }, end.plus(LEASE));
    assert_eq!(control.status().circuit().state, StateName::Closed);
    assert!(control.worker().take(end.plus(LEASE)).is_ok());
}

/// One call. Says how many places in flight it leaves behind for good.
fn call(worker: &Worker) -> u32 {
    let now = any_time();
    let Ok(mut permit) = worker.take(now) else { return 0 };
    match draw(8) {
        0 => permit.settle(Outcome::Success, now),
        1 => {
            permit.first_content(now);
            permit.settle(Outcome::failure(Class::Truncated), now);
        }
        2..5 => permit.settle(Outcome::failure(Class::ServerError), now),
        5 => permit.settle(Outcome::failure(Class::Policy), now),
        6 => drop(permit),
        _ => {
            #[expect(clippy::mem_forget, reason = "a leak is what it is about")]
            std::mem::forget(permit);
            return 1;
        }
    }
    if draw(2) == 0 {
        worker.flush();
    }
    0
}

fn turn(control: &mut Control) {
    let now = any_time();
    let mut small = policy();
    small.circuit_breaker.half_open_calls = 1;
    match draw(10) {
        0 => control.order(Command::Override(Override::ALL[draw(4)]), now),
        1 => control.order(Command::ForceOpenFor(Duration::from_secs(2)), now),
        2 => control.order(Command::Reset { blocks: false }, now),
        3 => control.reload(small, now),
        4 => control.restart(policy(), now),
        _ => control.hear(now),
    }
}

/// What must hold at every publication.
fn check(control: &Control) {
    let word = control.status().circuit();
    assert!(word.probes <= 3.min(word.ok + 1), "{word:?}");
    if word.state != StateName::HalfOpen {
        assert_eq!((word.probes, word.ok), (0, 0), "{word:?}");
    }
}
