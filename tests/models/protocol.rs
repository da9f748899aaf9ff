//! Promises 1, 2 and 13 of the permit protocol, as scenes of two workers and the backend's actor (spec/resilience.md 3.7, 3.8,
//! 12). A model plays each of them in many orders of their steps; what a scene asserts must hold in all of them.

use std::sync::Arc;
use std::time::Duration;

use super::circuit_breaker::StateName;
use super::machine::Command;
use super::outcome::{Class, Outcome};
use super::permit::Permit;
use super::stage::{Control, LEASE, START, Worker};
use super::status::{Admission, Override, Reason};
use super::sync::{AtomicBool, Ordering, thread};
use crate::clock::Instant;
use crate::config::BackendPolicy;

/// A scene and its name.
pub struct Scene {
    pub name: String,
    pub play: Arc<dyn Fn() + Send + Sync>,
}

/// All scenes.
pub fn scenes() -> Vec<Scene> {
    let scene = |name: &str, play: Arc<dyn Fn() + Send + Sync>| Scene { name: name.to_owned(), play };
    let mut scenes = vec![
        scene("claims at the open deadline admit one", Arc::new(claims_admit_one)),
        scene("the cap of calls in flight is exact", Arc::new(the_cap_is_exact)),
        scene("probes are staged by their successes", Arc::new(probes_are_staged)),
        scene("a trip is obeyed after its publication", Arc::new(a_trip_is_obeyed)),
        scene("a block is obeyed after its publication", Arc::new(a_block_is_obeyed)),
        scene("force_open is obeyed after its publication", Arc::new(force_open_is_obeyed)),
        scene("force_open lets no probe slip out of an open circuit", Arc::new(force_open_lets_nothing_slip)),
        scene("a result meets the end of its lease", Arc::new(a_result_meets_its_lease)),
        scene("of early claims one goes", Arc::new(early_claims_admit_one)),
        scene("early claims meet claims at the deadline", Arc::new(early_claims_meet_due_ones)),
        scene("a reload wants fewer probes than have succeeded", Arc::new(a_reload_wants_fewer_probes)),
    ];
    let orders = [
        ("force_open", Order::Command(Command::Override(Override::ForceOpen))),
        ("force_open with a time", Order::Command(Command::ForceOpenFor(LEASE))),
        ("force_closed", Order::Command(Command::Override(Override::ForceClosed))),
        ("a reset", Order::Command(Command::Reset { blocks: true })),
        ("a reload", Order::Reload),
        ("a new actor", Order::Restart),
    ];
    for (name, order) in orders {
        scenes.push(scene(&format!("claims meet {name}"), Arc::new(move || claims_meet(order))));
    }
    for (index, first) in End::ALL.into_iter().enumerate() {
        for second in End::ALL.into_iter().skip(index) {
            let name = format!("probes end: {first:?}, {second:?}");
            scenes.push(scene(&name, Arc::new(move || probes_end(first, second))));
        }
    }
    scenes
}

pub fn policy() -> BackendPolicy {
    let mut policy = BackendPolicy::default();
    policy.circuit_breaker.consecutive_failures = Some(2);
    policy.circuit_breaker.jitter = 0;
    policy
}

fn failure() -> Outcome {
    Outcome::failure(Class::ServerError)
}

/// Two workers at once, each doing the same; what they come to.
fn both<T: Send + 'static>(control: &Control, act: fn(&Worker) -> T) -> [thread::JoinHandle<T>; 2] {
    [control.worker(), control.worker()].map(|worker| thread::spawn(move || act(&worker)))
}

fn join<T>(workers: [thread::JoinHandle<T>; 2]) -> [T; 2] {
    workers.map(|worker| worker.join().unwrap())
}

/// The end of every scene: what was held is given back, and half-open does not outlive a lease.
pub fn check_rest(control: &mut Control, now: Instant, leaked: u32) {
    control.hear(now);
    let status = control.status();
    assert_eq!(status.in_flight(), leaked, "calls in flight");
    let after = now.plus(LEASE);
    control.step(after, |_, _| {});
    let word = control.status().circuit();
    assert_eq!(word.probes, 0, "{word:?}");
    if word.state == StateName::HalfOpen {
        assert!(matches!(control.status().read(after).admission, Admission::Probe(_)), "stuck: {word:?}");
    }
}

fn claims_admit_one() {
    let (mut control, until) = Control::opened(policy());
    let before = control.status().circuit().generation;
    assert_eq!(until, START.plus(Duration::from_secs(5)));
    let claim = |worker: &Worker| worker.take(START.plus(Duration::from_secs(5))).ok();
    let workers = both(&control, claim);
    let mine = claim(&control.worker());
    let [first, second] = join(workers);
    let admitted: Vec<Permit> = [mine, first, second].into_iter().flatten().collect();
    assert_eq!(admitted.len(), 1);
    assert!(admitted[0].is_probe());
    let word = control.status().circuit();
    assert_eq!((word.state, word.probes, word.generation), (StateName::HalfOpen, 1, before + 1));
    assert_eq!(control.status().in_flight(), 1);
    admitted.into_iter().for_each(|permit| permit.settle(Outcome::Success, until));
    control.worker().flush();
    check_rest(&mut control, until, 0);
}

/// Before its time an open circuit lets one call through, if somebody asks for the least bad; what it comes to is heard.
fn early_claims_admit_one() {
    let (mut control, _) = Control::opened(policy());
    let second = START.plus(Duration::from_secs(1));
    let claim = |worker: &Worker| worker.take_early(START.plus(Duration::from_secs(1))).ok();
    let workers = both(&control, claim);
    control.step(second, |_, _| {});
    let [first, other] = join(workers);
    let admitted: Vec<Permit> = [first, other].into_iter().flatten().collect();
    assert_eq!((admitted.len(), control.status().in_flight()), (1, 1));
    assert_eq!(control.status().circuit().state, StateName::HalfOpen);
    admitted.into_iter().for_each(|permit| permit.settle(failure(), second));
    control.hear(second);
    assert_eq!(control.status().circuit().state, StateName::Open);
    check_rest(&mut control, second, 0);
}

/// One at its time and one before it, whichever is first: one goes, and none is lost.
fn early_claims_meet_due_ones() {
    let (mut control, until) = Control::opened(policy());
    let [early, due] = [control.worker(), control.worker()];
    let early = thread::spawn(move || early.take_early(START.plus(Duration::from_secs(1))).ok());
    let due = thread::spawn(move || due.take(START.plus(Duration::from_secs(5))).ok());
    let admitted: Vec<Permit> = join([early, due]).into_iter().flatten().collect();
    assert_eq!(admitted.len(), 1);
    drop(admitted);
    check_rest(&mut control, until, 0);
}

fn the_cap_is_exact() {
    let mut control = Control::new(BackendPolicy { max_in_flight: 1, ..policy() });
    let take = |worker: &Worker| worker.take(START).ok();
    let workers = both(&control, take);
    let mine = take(&control.worker());
    let [first, second] = join(workers);
    assert_eq!([mine, first, second].iter().flatten().count(), 1);
    check_rest(&mut control, START, 0);
}

fn probes_are_staged() {
    let (mut control, until) = Control::opened(policy());
    let worker = control.worker();
    worker.take(until).unwrap().settle(Outcome::Success, until);
    worker.flush();
    // The success is told and not yet heard: until it is, there is no second place.
    let workers = both(&control, |worker| {
        let now = START.plus(Duration::from_secs(5));
        let permit = worker.take(now).ok();
        let word = worker.status().circuit();
        assert!(word.probes <= 3.min(word.ok + 1) && word.ok + word.probes <= 3, "{word:?}");
        permit
    });
    control.hear(until);
    let admitted: Vec<Permit> = join(workers).into_iter().flatten().collect();
    assert_eq!(u32::from(control.status().circuit().probes), admitted.len() as u32);
    assert!(admitted.iter().all(Permit::is_probe));
    admitted.into_iter().for_each(|permit| permit.settle(failure(), until));
    check_rest(&mut control, until, 0);
}

/// Whether `published` was seen, and whether a call was let through after that look.
fn look_and_take(published: &AtomicBool, worker: &Worker, now: Instant) -> (bool, Result<Permit, Reason>) {
    let seen = published.load(Ordering::Acquire);
    (seen, worker.take(now).map_err(|rejection| rejection.reason))
}

/// After `publish` nobody is let through for any reason but this.
fn check_obeyed(mut control: Control, reason: Reason, publish: impl FnOnce(&mut Control)) {
    let published = Arc::new(AtomicBool::new(false));
    let workers = [control.worker(), control.worker()].map(|worker| {
        let published = Arc::clone(&published);
        thread::spawn(move || look_and_take(&published, &worker, START))
    });
    publish(&mut control);
    published.store(true, Ordering::Release);
    let mut taken = 0;
    for (seen, result) in join(workers) {
        match result {
            Ok(permit) => {
                assert!(!seen, "let through after the publication");
                taken += 1;
                permit.settle(failure(), START);
            }
            Err(found) => assert_eq!(found, reason),
        }
    }
    control.hear(START);
    assert!(control.late <= taken);
    if reason != Reason::Blocked(super::outcome::Block::Rate) {
        assert_eq!(control.late, taken, "a permit of the generation that lets nobody through");
    }
    check_rest(&mut control, START, 0);
}

fn a_trip_is_obeyed() {
    check_obeyed(Control::new(policy()), Reason::CircuitOpen, |control| {
        let worker = control.worker();
        let permits: Vec<Permit> = (0..2).filter_map(|_| worker.take(START).ok()).collect();
        permits.into_iter().for_each(|permit| permit.settle(failure(), START));
        control.hear(START);
        assert_eq!(control.status().circuit().state, StateName::Open);
    });
}

fn a_block_is_obeyed() {
    let reason = Reason::Blocked(super::outcome::Block::Rate);
    check_obeyed(Control::new(policy()), reason, |control| {
        let hint = Some(Duration::from_millis(700));
        let permit = control.worker().take(START).unwrap();
        permit.settle(Outcome::Failure { class: Class::RateLimited, hint }, START);
        control.hear(START);
    });
}

fn force_open_is_obeyed() {
    check_obeyed(Control::new(policy()), Reason::ForcedOpen, |control| {
        control.order(Command::Override(Override::ForceOpen), START);
    });
}

fn force_open_lets_nothing_slip() {
    let (mut control, until) = Control::opened(policy());
    let workers =
        both(&control, |worker| worker.take(START.plus(Duration::from_secs(1))).map_err(|no| no.reason).err());
    control.order(Command::Override(Override::ForceOpen), START.plus(Duration::from_secs(1)));
    for reason in join(workers) {
        assert!(matches!(reason, Some(Reason::CircuitOpen | Reason::ForcedOpen)), "let through: {reason:?}");
    }
    check_rest(&mut control, until, 0);
}

/// What an actor is told while workers claim.
#[derive(Clone, Copy)]
enum Order {
    Command(Command),
    Reload,
    Restart,
}

/// A claimed probe is taken over, or it is void: its failure never touches what was ordered.
fn claims_meet(order: Order) {
    let (mut control, until) = Control::opened(policy());
    let workers = both(&control, |worker| {
        let now = START.plus(Duration::from_secs(5));
        let taken = worker.take(now).ok();
        let was_taken = taken.is_some();
        if let Some(permit) = taken {
            permit.settle(failure(), now);
        }
        was_taken
    });
    let patient = || {
        let mut policy = policy();
        policy.circuit_breaker.half_open_calls = 1;
        policy.max_in_flight = 1;
        policy
    };
    match order {
        Order::Command(command) => control.order(command, until),
        Order::Reload => control.reload(patient(), until),
        Order::Restart => control.restart(policy(), until),
    }
    let ordered = control.status().circuit().generation;
    control.hear(until);
    let taken = join(workers).into_iter().filter(|was_taken| *was_taken).count();
    control.hear(until);
    let word = control.status().circuit();
    let (run, failed) = (control.machine.run(), control.probes.iter().filter(|end| **end == "failure").count());
    match order {
        Order::Command(Command::Override(Override::ForceOpen) | Command::ForceOpenFor(_)) => {
            assert_eq!((word.hand, word.state), (Override::ForceOpen, StateName::Open));
            assert_eq!((control.late, run), (taken, 0), "a probe from before it is void");
        }
        Order::Command(_) | Order::Restart => {
            // Calls that began after it count; two of them open the circuit again.
            assert_eq!(failed, 0);
            let opened = u32::from(word.state == StateName::Open);
            assert_eq!(control.late + if opened == 1 { 2 } else { run }, taken);
            assert!(ordered <= word.generation);
        }
        Order::Reload => {
            assert_eq!((control.late, failed), (0, taken), "{word:?}: the cell goes on");
            assert!(taken <= 1);
        }
    }
    check_rest(&mut control, until, 0);
}

/// How a probe ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Success,
    Failure,
    Neutral,
    Dropped,
    Leaked,
}

impl End {
    const ALL: [Self; 5] = [Self::Success, Self::Failure, Self::Neutral, Self::Dropped, Self::Leaked];
}

fn end(worker: &Worker, end: End, now: Instant) -> u32 {
    let Ok(mut permit) = worker.take(now) else { return 0 };
    match end {
        End::Success => {
            permit.first_content(now);
            permit.settle(Outcome::Success, now);
        }
        End::Failure => permit.settle(failure(), now),
        End::Neutral => permit.settle(Outcome::failure(Class::Policy), now),
        End::Dropped => drop(permit),
        End::Leaked => {
            #[expect(clippy::mem_forget, reason = "a leak is what it is about")]
            std::mem::forget(permit);
            return 1;
        }
    }
    worker.flush();
    0
}

fn probes_end(first: End, second: End) {
    let (mut control, until) = Control::opened(policy());
    let _ = end(&control.worker(), End::Success, until);
    control.hear(until);
    assert_eq!(control.status().circuit().ok, 1);
    let now = until;
    let workers = [(control.worker(), first), (control.worker(), second)]
        .map(|(worker, how)| thread::spawn(move || end(&worker, how, now)));
    control.hear(now);
    let leaked = join(workers).into_iter().sum();
    control.hear(now);
    assert_eq!(control.status().in_flight(), leaked);
    check_rest(&mut control, now, leaked);
}

fn a_result_meets_its_lease() {
    let (mut control, until) = Control::opened(policy());
    let permit = control.worker().take(until).unwrap();
    control.hear(until);
    let worker = control.worker();
    let over = until.plus(LEASE);
    let settled = thread::spawn(move || permit.settle(failure(), over));
    let claimed = thread::spawn(move || worker.take(over).ok().map(|permit| permit.settle(failure(), over)).is_some());
    control.hear(over);
    settled.join().unwrap();
    let was_claimed = claimed.join().unwrap();
    control.hear(over);
    let failed = control.probes.iter().filter(|end| **end == "failure").count();
    let expired = control.probes.iter().filter(|end| **end == "expired").count();
    assert_eq!((control.late, expired), (1, 1), "a result that comes with the end of its lease is late");
    assert_eq!(failed, usize::from(was_claimed));
    check_rest(&mut control, over, 0);
}

fn a_reload_wants_fewer_probes() {
    let (mut control, until) = Control::opened(policy());
    let _ = end(&control.worker(), End::Success, until);
    control.hear(until);
    let worker = control.worker();
    let worker = thread::spawn(move || end(&worker, End::Success, until));
    let mut fewer = policy();
    fewer.circuit_breaker.half_open_calls = 1;
    control.reload(fewer, until);
    control.hear(until);
    let _ = worker.join().unwrap();
    control.hear(until);
    // Whoever was let through closes it; if nobody was, the next one does.
    if control.status().circuit().state == StateName::HalfOpen {
        assert!(control.worker().take(until).is_ok(), "stuck: {:?}", control.status().circuit());
    }
    check_rest(&mut control, until, 0);
}
