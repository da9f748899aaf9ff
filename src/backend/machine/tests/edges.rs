//! What a machine says of its steps, and what it makes of a word that workers have changed.

use super::*;

/// Edges as words.
fn told(edges: &[Edge]) -> Vec<String> {
    let word = |edge: &Edge| match edge {
        Edge::Circuit(change) => format!("{}>{} {}", change.from.name(), change.to.name(), change.cause.name()),
        Edge::Blocked(blocked) => format!("blocked {}", blocked.block.name()),
        Edge::Probe(end) => format!("probe {end}"),
        Edge::Late => "late".to_owned(),
        Edge::Override(hand) => format!("override {}", hand.name()),
        Edge::WouldOpen(cause) => format!("would open {}", cause.name()),
        Edge::Lifted(_) | Edge::Checked(_) | Edge::Health(_) => unreachable!("nobody checks here"),
    };
    edges.iter().map(word).collect()
}

fn failed(class: Class) -> What {
    What::Failed { class, hint: None, after: Duration::ZERO }
}

fn succeeded() -> What {
    What::Succeeded { after: Duration::ZERO }
}

fn policy() -> BackendPolicy {
    let mut policy = BackendPolicy::default();
    policy.circuit_breaker.jitter = 0;
    policy
}

impl World {
    /// One call from its start to its end.
    fn call(&mut self, what: What, now: Instant) -> Vec<String> {
        let (call, began) = self.take(LEASE, now).unwrap();
        self.end(call, began, what, now)
    }

    fn end(&mut self, call: Call, began: Event, what: What, now: Instant) -> Vec<String> {
        self.status.release();
        told(&self.step(now, |machine, now| machine.settle(&[began, call.event(what)], now)))
    }

    /// A circuit that has just opened, and the end of its open time.
    fn opened() -> (Self, Instant) {
        let mut world = Self::new(policy(), 1);
        (0..4).for_each(|_| assert!(world.call(failed(Class::ServerError), START).is_empty()));
        assert_eq!(world.machine.run(), 4);
        assert_eq!(world.call(failed(Class::ServerError), START), ["closed>open run"]);
        assert_eq!((world.machine.run(), world.machine.level()), (0, 1));
        let until = world.status.open_until();
        (world, until)
    }
}

#[test]
fn each_end_of_a_probe_has_its_word() {
    let (world, until) = World::opened();
    let generation = world.status.circuit().generation;
    let ends = [
        (failed(Class::ServerError), vec!["open>half_open wait_over", "probe failure", "half_open>open probe_failed"]),
        (failed(Class::Policy), vec!["open>half_open wait_over", "probe neutral"]),
        (What::Dropped { after: Duration::ZERO }, vec!["open>half_open wait_over", "probe neutral"]),
        (succeeded(), vec!["open>half_open wait_over", "probe success"]),
    ];
    for (what, expected) in ends {
        let (mut world, _) = World::opened();
        assert_eq!(world.call(what, until), expected, "{what:?}");
        let word = world.status.circuit();
        let changes = if word.state == StateName::Open { 2 } else { 1 };
        assert_eq!((word.generation, word.probes), (generation + changes, 0), "{what:?}");
    }
    let (mut world, _) = World::opened();
    (0..2).for_each(|_| drop(world.call(succeeded(), until)));
    assert_eq!(world.call(succeeded(), until), ["probe success", "half_open>closed probes_succeeded"]);
    assert_eq!(world.status.circuit().generation, generation + 2);
    assert!(world.call(succeeded(), until).is_empty(), "a closed circuit has no probes");
}

#[test]
fn a_probe_under_way_keeps_its_place_until_its_lease_is_over() {
    let (mut world, until) = World::opened();
    let (probe, claimed) = world.take(LEASE, until).unwrap();
    world.step(until, |machine, now| machine.settle(&[claimed], now));
    assert_eq!(world.machine.wake_at(), Some(until.plus(LEASE)));
    // It is published again and again meanwhile.
    let early = until.plus(LEASE).minus(Duration::from_nanos(1));
    assert!(world.step(early, |_, _| {}).is_empty());
    assert_eq!((world.status.circuit().probes, world.status.circuit().ok), (1, 0));
    assert_eq!(world.take(LEASE, early).err().map(|no| no.reason), Some(Reason::HalfOpenBusy));
    assert_eq!(told(&world.step(until.plus(LEASE), |_, _| {})), ["probe expired"]);
    assert_eq!(world.status.circuit().probes, 0);
    // What it says later is late, and its place is given back once.
    let late = world.step(until.plus(LEASE), |machine, now| machine.settle(&[probe.event(succeeded())], now));
    assert_eq!((told(&late), world.status.circuit().probes), (vec!["late".to_owned()], 0));
    assert!(world.take(LEASE, until.plus(LEASE)).is_ok());
}

#[test]
fn a_break_after_the_first_content_counts_by_its_class() {
    for (class, run) in [(Class::Truncated, 1), (Class::CallerFault, 0), (Class::Local, 0)] {
        let mut world = World::new(policy(), 1);
        let now = START.plus(Duration::from_secs(1));
        let (call, began) = world.take(LEASE, START).unwrap();
        world.step(START, |machine, now| machine.settle(&[began, call.event(succeeded())], now));
        let broke = call.event(What::BrokeLater { class, after: Duration::from_secs(1) });
        assert!(world.step(now, |machine, now| machine.settle(&[broke], now)).is_empty());
        assert_eq!(world.machine.run(), run, "{class:?}");
    }
    // A rate limit within a stream blocks.
    let mut world = World::new(policy(), 1);
    let (call, began) = world.take(LEASE, START).unwrap();
    let broke = call.event(What::BrokeLater { class: Class::RateLimited, after: Duration::ZERO });
    let edges = world.step(START, |machine, now| machine.settle(&[began, call.event(succeeded()), broke], now));
    assert_eq!(told(&edges), ["blocked rate_limited"]);
}

#[test]
fn what_an_operator_does_is_told_once() {
    let mut world = World::new(policy(), 1);
    let mut order = |command| told(&world.step(START, |machine, now| machine.command(command, now)));
    let hand = Command::Override;
    assert_eq!(order(hand(Override::ForceOpen)), ["closed>open override", "override force_open"]);
    assert!(order(hand(Override::ForceOpen)).is_empty(), "the same again");
    assert_eq!(order(hand(Override::Auto)), ["open>closed override", "override auto"]);
    assert_eq!(order(hand(Override::Disabled)), ["override disabled"]);
    assert_eq!(order(hand(Override::ForceClosed)), ["override force_closed"]);
    assert_eq!(order(hand(Override::Auto)), ["override auto"]);
    assert!(order(Command::Reset { blocks: false }).is_empty(), "it was closed");
    let (mut world, _) = World::opened();
    let reset = Command::Reset { blocks: false };
    assert_eq!(told(&world.step(START, |machine, now| machine.command(reset, now))), ["open>closed reset"]);
    assert_eq!(world.machine.level(), 0);
}

#[test]
fn a_reset_lifts_blocks_if_asked() {
    for blocks in [false, true] {
        let mut world = World::new(policy(), 1);
        world.call(failed(Class::RateLimited), START);
        world.step(START, |machine, now| machine.command(Command::Reset { blocks }, now));
        assert_eq!(world.take(LEASE, START).is_ok(), blocks);
    }
}

#[test]
fn a_reload_is_the_policy_from_then_on() {
    let mut world = World::new(policy(), 1);
    let mut changed = policy();
    changed.quota.max_retry_after = Duration::from_secs(1);
    assert!(world.step(START, |machine, now| machine.reconfigure(changed.clone(), now)).is_empty());
    let hint = Some(Duration::from_secs(9));
    world.call(What::Failed { class: Class::RateLimited, hint, after: Duration::ZERO }, START);
    let denied = world.take(LEASE, START).err();
    assert_eq!(denied.and_then(|no| no.remaining), Some(Duration::from_secs(1)));
    changed.circuit_breaker.enabled = false;
    let off = world.step(START, |machine, now| machine.reconfigure(changed.clone(), now));
    assert_eq!((told(&off), world.status.circuit().hand), (vec!["override disabled".to_owned()], Override::Disabled));
    let on = world.step(START, |machine, now| machine.reconfigure(policy(), now));
    assert_eq!(told(&on), ["override auto"]);
}

/// spec/resilience.md 3.8: closed, in slow start, of the next generation; the override stays as the cell has it.
#[test]
fn a_new_actor_goes_on_from_its_cell() {
    let (mut world, until) = World::opened();
    let (probe, claimed) = world.take(LEASE, until).unwrap();
    let restart = |world: &mut World| {
        let seen = world.status.circuit();
        world.machine = Machine::restarted(policy(), seen, world.status.open_until(), 2, until);
        world.step(until, |_, _| {});
        assert_eq!(world.status.circuit().generation, seen.generation + 1);
        world.status.circuit()
    };
    let word = restart(&mut world);
    assert_eq!((word.state, word.hand, word.probes), (StateName::Closed, Override::Auto, 0));
    assert_eq!(world.status.read(until).slow_start, 1_000);
    let edges = world.step(until, |machine, now| machine.settle(&[claimed, probe.event(succeeded())], now));
    assert_eq!(told(&edges), ["late"]);
    for hand in [Override::ForceClosed, Override::Disabled, Override::ForceOpen] {
        world.step(until, |machine, now| machine.command(Command::Override(hand), now));
        assert_eq!(restart(&mut world).hand, hand);
        assert_eq!(world.machine.wake_at(), None);
    }
    world.step(until, |machine, now| machine.command(Command::ForceOpenFor(LEASE), now));
    assert_eq!(restart(&mut world).hand, Override::ForceOpen);
    assert_eq!(world.machine.wake_at(), Some(until.plus(LEASE)));
}

#[test]
fn the_words_are_stable() {
    assert_eq!(Override::ALL.map(Override::name), ["auto", "force_open", "force_closed", "disabled"]);
    assert_eq!(Override::ALL.map(|hand| hand as usize), [0, 1, 2, 3]);
}
