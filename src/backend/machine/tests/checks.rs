//! What health checks may do to a backend, and what they never do.

use super::*;
use crate::backend::health::{Checked, Found, clears};
use crate::config::{HealthCheck, HealthCheckKind};

const SECOND: Duration = Duration::from_secs(1);

const GOOD: Found = Found::Good { is_listed: true };

fn bad(class: Class) -> Found {
    Found::Bad { class, hint: None, is_told: false }
}

fn policy(kind: HealthCheckKind) -> BackendPolicy {
    BackendPolicy { health_check: HealthCheck { kind, ..HealthCheck::default() }, ..BackendPolicy::default() }
}

fn world(kind: HealthCheckKind) -> World {
    World::new(policy(kind), 1)
}

/// A check that began a second before `now`.
fn check(world: &mut World, found: Found, now: Instant) -> Vec<Edge> {
    let kind = world.machine.policy.health_check.kind;
    world.step(now, |machine, now| machine.checked(&Checked { kind, started: now.minus(SECOND), found }, now))
}

/// A call that begins and fails.
fn fail(world: &mut World, class: Class, hint: Option<Duration>, now: Instant) {
    let (call, began) = world.take(LEASE, now).unwrap();
    world.status.release();
    let failed = call.event(What::Failed { class, hint, after: Duration::ZERO });
    world.step(now, |machine, now| machine.settle(&[began, failed], now));
}

#[test]
fn failing_checks_close_the_gate_and_no_circuit() {
    let mut world = world(HealthCheckKind::Models);
    let mut changes = Vec::new();
    for round in 1..=40 {
        let edges = check(&mut world, bad(Class::ServerError), START.plus(SECOND * round));
        for edge in &edges {
            if let Edge::Health(change) = edge {
                changes.push((round, change.is_healthy, change.failures, change.detail));
            }
        }
        assert_eq!(edges.iter().filter(|edge| matches!(edge, Edge::Checked("failure"))).count(), 1, "{edges:?}");
    }
    let now = START.plus(SECOND * 41);
    assert_eq!(changes, [(3, false, 3, "service_unavailable_error")], "one edge");
    assert_eq!((world.machine.breaker.window(now), world.machine.run()), ((0, 0), 0));
    assert!(!world.status.read(now).healthy && world.take(LEASE, now).is_ok(), "it is advice");
    check(&mut world, GOOD, now);
    assert!(!world.status.is_healthy());
    let edges = check(&mut world, GOOD, now);
    assert!(edges.iter().any(|edge| matches!(edge, Edge::Health(change) if change.is_healthy)), "{edges:?}");
    assert!(world.status.is_healthy());
    assert_eq!(world.status.health().checked_at, now);
}

#[test]
fn a_success_lifts_the_blocks_of_its_row_and_no_other() {
    let setting = [
        (Block::Rate, Class::RateLimited),
        (Block::Overload, Class::Overloaded),
        (Block::Money, Class::QuotaExhausted),
        (Block::Auth, Class::Auth),
        (Block::Permission, Class::Permission),
        (Block::NotFound, Class::NotFound),
    ];
    for kind in [HealthCheckKind::Connect, HealthCheckKind::Models, HealthCheckKind::Completion] {
        for (block, class) in setting {
            for is_listed in [false, true] {
                let mut world = world(kind);
                // An overload has no wait of its own.
                let hint = (block == Block::Overload).then_some(SECOND * 60);
                fail(&mut world, class, hint, START);
                // Within the least of the own waits.
                let now = START.plus(Duration::from_millis(900));
                let found = Found::Good { is_listed };
                let checked = Checked { kind, started: START, found };
                let edges = world.step(now, |machine, now| machine.checked(&checked, now));
                let is_lifted = world.blocks.until(block) <= now;
                assert_eq!(is_lifted, clears(kind, block, is_listed), "{kind:?} {block:?} {is_listed}");
                let told = edges.iter().any(|edge| matches!(edge, Edge::Lifted(lifted) if *lifted == block));
                assert_eq!(told, is_lifted, "{edges:?}");
            }
        }
    }
}

#[test]
fn what_the_provider_named_or_what_came_later_stays() {
    let mut world = world(HealthCheckKind::Completion);
    fail(&mut world, Class::QuotaExhausted, Some(SECOND * 1_800), START);
    check(&mut world, GOOD, START.plus(SECOND * 5));
    assert_eq!(world.blocks.until(Block::Money), START.plus(SECOND * 1_800), "hinted");
    // A key that was refused after the check had begun.
    let mut world = self::world(HealthCheckKind::Completion);
    fail(&mut world, Class::Auth, None, START.plus(SECOND));
    let until = world.blocks.until(Block::Auth);
    let early = Checked { kind: HealthCheckKind::Completion, started: START, found: GOOD };
    world.step(START.plus(SECOND * 2), |machine, now| machine.checked(&early, now));
    assert_eq!(world.blocks.until(Block::Auth), until);
}

#[test]
fn a_lifted_block_that_comes_back_is_the_same_episode_and_waits_longer() {
    let mut world = world(HealthCheckKind::Models);
    fail(&mut world, Class::Auth, None, START);
    check(&mut world, GOOD, START.plus(SECOND * 10));
    let again = START.plus(SECOND * 11);
    let (call, began) = world.take(LEASE, again).unwrap();
    let refused = call.event(What::Failed { class: Class::Auth, hint: None, after: Duration::ZERO });
    let edges = world.step(again, |machine, now| machine.settle(&[began, refused], now));
    let [Edge::Blocked(blocked)] = edges.as_slice() else { panic!("{edges:?}") };
    assert!(!blocked.first, "no second alert before a success");
    assert!(SECOND * 120 <= blocked.until.since(again));
}

#[test]
fn a_check_that_is_turned_away_sets_the_block_and_is_no_failure() {
    for (class, block) in [
        (Class::Auth, Block::Auth),
        (Class::Permission, Block::Permission),
        (Class::NotFound, Block::NotFound),
        (Class::RateLimited, Block::Rate),
    ] {
        let mut world = world(HealthCheckKind::Models);
        let now = START.plus(SECOND);
        for _ in 0..9 {
            check(&mut world, bad(class), now);
        }
        assert!(now < world.blocks.until(block), "{class:?}");
        assert!(world.status.is_healthy(), "{class:?}");
    }
    let mut world = world(HealthCheckKind::Models);
    let hint = Some(Duration::from_millis(43));
    check(&mut world, Found::Bad { class: Class::RateLimited, hint, is_told: false }, START);
    assert_eq!(world.blocks.until(Block::Rate), START.plus(Duration::from_millis(43)));
    // What a permit has told already is not told twice.
    check(&mut world, Found::Bad { class: Class::Auth, hint: None, is_told: true }, START);
    assert_eq!(world.blocks.until(Block::Auth), Instant::ZERO);
}

#[test]
fn no_check_moves_a_circuit_or_a_hand() {
    for kind in [HealthCheckKind::Connect, HealthCheckKind::Models, HealthCheckKind::Completion] {
        let mut world = world(kind);
        (0..5).for_each(|_| fail(&mut world, Class::ServerError, None, START));
        let (circuit, until) = (world.status.circuit(), world.status.open_until());
        assert_eq!(circuit.state, StateName::Open);
        // Also when its time is over: only a claim, by a permit, goes on from there.
        for seconds in [1, 2, 600] {
            check(&mut world, GOOD, START.plus(SECOND * seconds));
            assert_eq!((world.status.circuit(), world.status.open_until()), (circuit, until), "{kind:?}");
        }
        world.step(START.plus(SECOND * 601), |machine, now| {
            machine.command(Command::Override(Override::ForceOpen), now);
        });
        check(&mut world, GOOD, START.plus(SECOND * 602));
        assert_eq!(world.status.circuit().hand, Override::ForceOpen);
    }
}

#[test]
fn traffic_counts_for_the_gate_and_for_nothing_else() {
    let mut world = world(HealthCheckKind::Models);
    fail(&mut world, Class::Auth, None, START);
    (0..3).for_each(|_| drop(check(&mut world, bad(Class::Reset), START.plus(SECOND))));
    assert!(!world.status.is_healthy());
    let checked_at = world.status.health().checked_at;
    for _ in 0..2 {
        let edges = check(&mut world, Found::Served, START.plus(SECOND * 2));
        assert!(!edges.iter().any(|edge| matches!(edge, Edge::Checked(_) | Edge::Lifted(_))), "{edges:?}");
    }
    assert!(world.status.is_healthy());
    assert_eq!(world.status.health().checked_at, checked_at, "nothing was sent");
    assert!(START.plus(SECOND * 2) < world.blocks.until(Block::Auth));
}

#[test]
fn successes_of_calls_are_known_to_the_checker() {
    let mut world = world(HealthCheckKind::Models);
    let (call, began) = world.take(LEASE, START).unwrap();
    let succeeded = call.event(What::Succeeded { after: SECOND * 3 });
    world.step(START.plus(SECOND * 4), |machine, now| machine.settle(&[began, succeeded], now));
    assert_eq!(world.status.health().served_at, START.plus(SECOND * 3), "when it was, not when it was told");
}

#[test]
fn without_checks_nobody_stays_unhealthy() {
    let mut world = world(HealthCheckKind::Connect);
    (0..3).for_each(|_| drop(check(&mut world, bad(Class::Reset), START)));
    let mut restarted =
        Machine::restarted(policy(HealthCheckKind::Connect), world.status.circuit(), Instant::ZERO, 1, START);
    restarted.resume_health(world.status.health());
    assert!(!restarted.beside(START).health.is_healthy, "a panic of the actor is no recovery");
    // Thresholds alone change nothing that was found.
    let mut patient = policy(HealthCheckKind::Connect);
    patient.health_check.unhealthy_threshold = 9;
    world.step(START, |machine, now| machine.reconfigure(patient, now));
    assert!(!world.status.is_healthy());
    let edges = world.step(START, |machine, now| machine.reconfigure(BackendPolicy::default(), now));
    assert!(edges.iter().any(|edge| matches!(edge, Edge::Health(change) if change.is_healthy)), "{edges:?}");
    assert!(world.status.is_healthy());
    // A check that was under way when checks were switched off.
    let late = Checked { kind: HealthCheckKind::Connect, started: START, found: bad(Class::Reset) };
    let edges = world.step(START, |machine, now| (0..9).for_each(|_| machine.checked(&late, now)));
    assert!(edges.is_empty() && world.status.is_healthy(), "{edges:?}");
}
