//! Promises 1 and 2 of spec/resilience.md 12, of machine and cell together: random histories, and real threads.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;

/// Operations of one random history.
const HISTORY: usize = 500;

/// Threads that take and settle.
const WORKERS: u64 = 4;

/// Calls of each of them.
const CALLS: u64 = 2_000;

fn policy() -> BackendPolicy {
    let mut policy = BackendPolicy::default();
    policy.circuit_breaker.consecutive_failures = Some(2);
    policy.circuit_breaker.minimum_calls = 4;
    policy
}

fn any_end(random: &mut fastrand::Rng, after: Duration) -> What {
    let class = [Class::ServerError, Class::ContextWindow, Class::CallerFault, Class::Local, Class::Cut];
    match random.u8(..8) {
        0..3 => What::Succeeded { after },
        3 => What::Dropped { after },
        _ => What::Failed { class: class[random.usize(..class.len())], hint: None, after },
    }
}

/// One history of a cell: workers whose news arrive late, an operator, time.
struct History {
    world: World,
    random: fastrand::Rng,
    now: Instant,
    calls: Vec<Call>,
    /// Not yet told.
    gathered: Vec<Event>,
    /// Generation and end of the open time seen last.
    open: Option<(u32, Instant)>,
}

impl History {
    fn new(seed: u64) -> Self {
        let (world, random) = (World::new(policy(), seed), fastrand::Rng::with_seed(seed));
        Self { world, random, now: START, calls: Vec::new(), gathered: Vec::new(), open: None }
    }

    fn play(&mut self) {
        match self.random.u8(..40) {
            0..16 => self.take(),
            16..28 => self.end(),
            28 => self.forget(),
            29..33 => self.now = self.now.plus(Duration::from_millis(self.random.u64(..9_000))),
            33 => {
                let hand = Override::ALL[self.random.usize(..4)];
                self.step(|machine, now| machine.command(Command::Override(hand), now));
            }
            34 => self.step(|machine, now| machine.command(Command::Override(Override::Auto), now)),
            35 => self.step(|machine, now| machine.command(Command::Reset { blocks: false }, now)),
            36 => self.step(|machine, now| machine.reconfigure(policy(), now)),
            _ => self.flush(),
        }
    }

    fn take(&mut self) {
        let hand = self.world.status.circuit().hand;
        let before = (self.world.status.circuit(), self.world.status.open_until());
        let standing = self.world.status.read(self.now);
        assert_eq!(before, (self.world.status.circuit(), self.world.status.open_until()), "a read changes nothing");
        match self.world.take(LEASE, self.now) {
            Ok((call, event)) => {
                self.gathered.push(event);
                self.calls.push(call);
                if call.slot.probe {
                    self.flush();
                }
            }
            Err(rejection) => assert_ne!(hand, Override::Disabled, "{rejection:?} at {standing:?}"),
        }
    }

    fn end(&mut self) {
        if self.calls.is_empty() {
            return;
        }
        let call = self.calls.swap_remove(self.random.usize(..self.calls.len()));
        let after = self.now.since(call.started);
        let what = any_end(&mut self.random, after);
        self.world.status.release();
        self.gathered.push(call.event(what));
        if matches!(what, What::Failed { .. }) {
            self.flush();
        }
    }

    /// A permit that is leaked gives nothing back but its place in flight, which the test takes for it.
    fn forget(&mut self) {
        if self.calls.pop().is_some() {
            self.world.status.release();
        }
    }

    fn flush(&mut self) {
        let gathered = std::mem::take(&mut self.gathered);
        self.step(|machine, now| machine.settle(&gathered, now));
    }

    fn step(&mut self, change: impl FnOnce(&mut Machine, Instant)) {
        self.world.step(self.now, change);
        self.check();
    }

    fn check(&mut self) {
        let (word, until) = (self.world.status.circuit(), self.world.status.open_until());
        let most = u8::try_from(policy().circuit_breaker.half_open_calls).unwrap();
        assert!(word.probes <= most.min(word.ok + 1), "{word:?}");
        let is_open = word.hand == Override::Auto && word.state == StateName::Open;
        match self.open.filter(|(generation, _)| *generation == word.generation) {
            Some((_, before)) => assert_eq!(before, until, "it does not move while open"),
            None if is_open => assert!(Duration::from_secs(1) <= until.since(self.now), "{word:?}"),
            None => {}
        }
        self.open = is_open.then_some((word.generation, until));
    }

    /// Everything ends, and the leases pass.
    fn finish(&mut self) {
        while !self.calls.is_empty() {
            self.end();
        }
        self.flush();
        assert_eq!(self.world.status.in_flight(), 0);
        self.now = self.now.plus(LEASE);
        self.flush();
        assert_eq!(self.world.status.circuit().probes, 0, "half-open does not outlive a lease");
    }
}

fn check_histories(operations: usize) {
    for seed in 0..(operations / HISTORY) as u64 {
        let mut history = History::new(seed);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            (0..HISTORY).for_each(|_| history.play());
            history.finish();
        }));
        assert!(result.is_ok(), "seed {seed}");
    }
}

#[test]
fn the_cell_keeps_its_promises_in_any_order_of_news() {
    check_histories(100_000);
}

#[test]
#[ignore = "the long form: a million operations"]
fn the_cell_keeps_its_promises_in_a_million_operations() {
    check_histories(1_000_000);
}

#[test]
fn success_and_neutral_ends_alone_never_open() {
    for (seed, class) in
        [Class::ContextWindow, Class::Policy, Class::CallerFault, Class::Overloaded].into_iter().enumerate()
    {
        let mut world = World::new(policy(), seed as u64);
        let mut random = fastrand::Rng::with_seed(seed as u64);
        let mut now = START;
        for _ in 0..2_000 {
            let (call, began) = world.take(LEASE, now).unwrap();
            now = now.plus(Duration::from_millis(random.u64(..3_000)));
            let after = now.since(call.started);
            let what =
                if random.bool() { What::Succeeded { after } } else { What::Failed { class, hint: None, after } };
            world.status.release();
            world.step(now, |machine, now| machine.settle(&[began, call.event(what)], now));
            assert_eq!(world.status.circuit().state, StateName::Closed, "{class:?}");
        }
    }
}

/// Promise 2: workers on threads of their own claim, finish, drop and leak probes while the actor publishes.
#[test]
fn nothing_is_left_in_flight_whatever_threads_do() {
    for seed in 0..5 {
        let World { mut machine, status, .. } = World::new(policy(), seed);
        let (told, clock, is_over) = (Mutex::new(Vec::new()), AtomicU64::new(START.as_nanos()), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..WORKERS)
                .map(|worker| {
                    let (status, told, clock) = (&status, &told, &clock);
                    scope.spawn(move || work(worker, seed, status, told, clock))
                })
                .collect();
            let actor = scope.spawn(|| {
                while !is_over.load(Ordering::Acquire) {
                    let now = Instant::from_nanos(clock.load(Ordering::Acquire));
                    let events = std::mem::take(&mut *told.lock().unwrap());
                    step(&mut machine, &status, &events, now);
                }
            });
            workers.into_iter().for_each(|worker| worker.join().unwrap());
            is_over.store(true, Ordering::Release);
            actor.join().unwrap();
        });
        let now = Instant::from_nanos(clock.into_inner()).plus(LEASE);
        step(&mut machine, &status, &told.into_inner().unwrap(), now);
        step(&mut machine, &status, &[], now.plus(LEASE));
        assert_eq!(status.in_flight(), 0, "seed {seed}");
        assert_eq!(status.circuit().probes, 0, "seed {seed}");
    }
}

fn step(machine: &mut Machine, status: &BackendStatus, events: &[Event], now: Instant) {
    machine.advance(status.circuit(), now);
    machine.settle(events, now);
    machine.publish(status, now);
}

fn work(worker: u64, seed: u64, status: &BackendStatus, told: &Mutex<Vec<Event>>, clock: &AtomicU64) {
    let mut random = fastrand::Rng::with_seed(seed * WORKERS + worker);
    for number in 0..CALLS {
        let passed = random.u64(..40_000_000);
        let now = Instant::from_nanos(clock.fetch_add(passed, Ordering::AcqRel) + passed);
        let Ok(slot) = status.try_take(now) else { continue };
        let call = Call { slot, permit: worker * CALLS + number + 1, started: now };
        let what = if slot.probe { What::Claimed { lease: now.plus(LEASE) } } else { What::Started { limit: LEASE } };
        let mut events = vec![call.event(what)];
        status.release();
        // One in eight is leaked: only its lease ends it.
        if random.u8(..8) != 0 {
            events.push(call.event(any_end(&mut random, Duration::ZERO)));
        }
        told.lock().unwrap().extend(events);
    }
}
