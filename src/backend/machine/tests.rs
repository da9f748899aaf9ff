//! A machine and its cell without actor and threads: what workers and actor do to them, in simulated time.

mod cell;
mod checks;
mod edges;
mod outages;

use super::*;
use crate::backend::status::{Reason, Rejection};

/// Far from zero, as the process's own clock is.
const START: Instant = Instant::from_nanos(86_400_000_000_000);

/// Right of a probe.
const LEASE: Duration = Duration::from_secs(40);

/// A call under way.
#[derive(Clone, Copy)]
struct Call {
    slot: Slot,
    permit: u64,
    started: Instant,
}

impl Call {
    fn event(&self, what: What) -> Event {
        let Self { slot: Slot { generation, .. }, permit, started } = *self;
        Event { permit, generation, host: Slot::NONE, started, kind: Kind::Stream, what }
    }
}

/// The machine, the cell, and the next permit's number.
struct World {
    machine: Machine,
    blocks: Blocks,
    status: BackendStatus,
    permits: u64,
}

impl World {
    fn new(policy: BackendPolicy, seed: u64) -> Self {
        let status = BackendStatus::new(&policy);
        let blocks = Blocks::default();
        let machine = Machine::new(policy, seed, START).with_blocks(blocks.clone());
        let mut world = Self { machine, blocks, status, permits: 0 };
        world.step(START, |_, _| {});
        world
    }

    /// What the actor does, told as edges.
    fn step(&mut self, now: Instant, change: impl FnOnce(&mut Machine, Instant)) -> Vec<Edge> {
        self.machine.advance(self.status.circuit(), now);
        change(&mut self.machine, now);
        self.machine.publish(&self.status, now);
        self.machine.take_edges()
    }

    /// What a worker does to begin a call, and what it has to tell.
    fn take(&mut self, limit: Duration, now: Instant) -> Result<(Call, Event), Rejection> {
        if let Some((block, until)) = self.blocks.longest(now) {
            return Err(Rejection::lasting(Reason::Blocked(block), until.since(now)));
        }
        let slot = self.status.try_take(now)?;
        self.permits += 1;
        let call = Call { slot, permit: self.permits, started: now };
        let what = if slot.probe { What::Claimed { lease: now.plus(LEASE) } } else { What::Started { limit } };
        Ok((call, call.event(what)))
    }
}

#[test]
fn a_thousand_rate_limits_never_open_and_end_to_the_millisecond() {
    let mut world = World::new(BackendPolicy::default(), 1);
    let millisecond = Duration::from_millis(1);
    let mut now = START;
    for round in 0..1_000_u32 {
        let hint = Duration::from_millis(37) + millisecond * (round % 50);
        let (call, began) = world.take(LEASE, now).unwrap();
        world.status.release();
        let what = What::Failed { class: Class::RateLimited, hint: Some(hint), after: millisecond };
        world.step(now, |machine, now| machine.settle(&[began, call.event(what)], now));
        assert_eq!(world.status.circuit().state, StateName::Closed, "round {round}");
        let until = now.plus(hint);
        let early = world.take(LEASE, until.minus(millisecond)).err();
        assert_eq!(early.and_then(|rejection| rejection.remaining), Some(millisecond), "round {round}");
        now = until;
    }
    assert!(world.take(LEASE, now).is_ok());
}

#[test]
fn a_timed_override_says_when_it_ends_and_lets_a_probe_decide() {
    let mut world = World::new(BackendPolicy::default(), 1);
    let minute = Duration::from_secs(60);
    world.step(START, |machine, now| machine.command(Command::ForceOpenFor(minute), now));
    let denied = |world: &mut World, seconds: u64| world.take(LEASE, START.plus(Duration::from_secs(seconds))).err();
    assert_eq!(denied(&mut world, 20).and_then(|rejection| rejection.remaining), Some(Duration::from_secs(40)));
    assert_eq!(world.machine.wake_at(), Some(START.plus(minute)));
    let edges = world.step(START.plus(minute), |_, _| {});
    assert!(matches!(edges.as_slice(), [Edge::Override(Override::Auto)]), "{edges:?}");
    let (probe, _) = world.take(LEASE, START.plus(minute)).unwrap();
    assert!(probe.slot.probe);
    // Without a time it does not say.
    world.step(START.plus(minute), |machine, now| machine.command(Command::Override(Override::ForceOpen), now));
    assert_eq!(denied(&mut world, 61).map(|rejection| rejection.remaining), Some(None));
}

#[test]
fn a_claim_that_crosses_a_reset_is_late() {
    let mut world = World::new(BackendPolicy::default(), 1);
    world.step(START, |machine, now| {
        machine.command(Command::ForceOpenFor(Duration::from_secs(1)), now);
    });
    let now = START.plus(Duration::from_secs(1));
    world.step(now, |_, _| {});
    // The actor has read the word; a worker claims; the actor, who does not know, resets.
    let before = world.status.circuit();
    let (probe, claimed) = world.take(LEASE, now).unwrap();
    world.machine.advance(before, now);
    world.machine.command(Command::Reset { blocks: false }, now);
    world.step(now, |_, _| {});
    assert_eq!(world.status.circuit().state, StateName::Closed);
    let failed = probe.event(What::Failed { class: Class::ServerError, hint: None, after: Duration::ZERO });
    let edges = world.step(now, |machine, now| machine.settle(&[claimed, failed], now));
    assert!(matches!(edges.as_slice(), [Edge::Late]), "{edges:?}");
    assert_eq!(world.machine.run(), 0);
}

/// A circuit that has just opened for five seconds.
fn opened() -> World {
    let mut policy = BackendPolicy::default();
    policy.circuit_breaker.jitter = 0;
    let mut world = World::new(policy, 1);
    for _ in 0..5 {
        let (call, began) = world.take(LEASE, START).unwrap();
        let failed = What::Failed { class: Class::ServerError, hint: None, after: Duration::ZERO };
        world.status.release();
        world.step(START, |machine, now| machine.settle(&[began, call.event(failed)], now));
    }
    assert_eq!(world.status.circuit().state, StateName::Open);
    world
}

/// Takes the least bad place, and settles it by this.
fn early(world: &mut World, now: Instant, what: What) {
    let slot = world.status.try_take_early(now).unwrap();
    assert_eq!(world.status.try_take_early(now).unwrap_err().reason, Reason::HalfOpenBusy, "one at a time");
    world.permits += 1;
    let call = Call { slot, permit: world.permits, started: now };
    let claimed = call.event(What::ClaimedEarly { lease: now.plus(LEASE) });
    world.status.release();
    world.step(now, |machine, now| machine.settle(&[claimed, call.event(what)], now));
}

#[test]
fn a_probe_before_its_time_that_fails_opens_as_before_and_raises_no_level() {
    let mut world = opened();
    let now = START.plus(Duration::from_secs(1));
    let level = world.machine.level();
    early(&mut world, now, What::Failed { class: Class::ServerError, hint: None, after: Duration::ZERO });
    assert_eq!((world.status.circuit().state, world.machine.level()), (StateName::Open, level));
    assert_eq!(world.status.open_until(), now.plus(Duration::from_secs(5)), "as long as the time before");
    assert_eq!(world.status.in_flight(), 0);
}

#[test]
fn a_probe_before_its_time_that_succeeds_is_a_probe_like_any_other() {
    let mut world = opened();
    let now = START.plus(Duration::from_secs(1));
    early(&mut world, now, What::Succeeded { after: Duration::ZERO });
    let circuit = world.status.circuit();
    assert_eq!((circuit.state, circuit.ok, circuit.probes), (StateName::HalfOpen, 1, 0));
    for _ in 0..2 {
        let (call, claimed) = world.take(LEASE, now).unwrap();
        assert!(call.slot.probe);
        world.status.release();
        let succeeded = call.event(What::Succeeded { after: Duration::ZERO });
        world.step(now, |machine, now| machine.settle(&[claimed, succeeded], now));
    }
    assert_eq!(world.status.circuit().state, StateName::Closed);
}

#[test]
fn a_probe_before_its_time_that_comes_to_nothing_leaves_the_circuit_as_it_was() {
    let mut world = opened();
    let (until, level) = (world.status.open_until(), world.machine.level());
    early(&mut world, START.plus(Duration::from_secs(1)), What::Dropped { after: Duration::ZERO });
    assert_eq!((world.status.circuit().state, world.status.open_until()), (StateName::Open, until));
    assert_eq!(world.machine.level(), level);
    let too_soon = world.take(LEASE, until.minus(Duration::from_millis(1))).err();
    assert_eq!(too_soon.map(|no| no.reason), Some(Reason::CircuitOpen));
    assert!(world.take(LEASE, until).unwrap().0.slot.probe);
}

#[test]
fn nobody_is_the_least_bad_whom_an_operator_closed_off() {
    let mut world = opened();
    world.step(START, |machine, now| machine.command(Command::Override(Override::ForceOpen), now));
    assert_eq!(world.status.try_take_early(START).unwrap_err().reason, Reason::ForcedOpen);
    let draining = opened();
    draining.status.set_draining(true);
    assert_eq!(draining.status.try_take_early(START).unwrap_err().reason, Reason::Draining);
    let closed = World::new(BackendPolicy::default(), 1);
    assert!(closed.status.try_take_early(START).is_err());
    assert_eq!(closed.status.in_flight(), 0);
}
