//! What the cell says to whom, and what each kind of writer may change.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use super::*;
use crate::config::BackendPolicy;

const NOW: Instant = Instant::from_nanos(1_000_000_000_000);

fn idle() -> Beside {
    let (open_until, slow_start_from) = (Instant::ZERO, Instant::ZERO);
    Beside { open_until, slow_start_from, failing: false, health: Health::default() }
}

fn open(status: &BackendStatus, until: Instant) {
    let seen = status.circuit();
    let next = Circuit { generation: seen.generation + 1, state: StateName::Open, ..seen };
    let beside = Beside { open_until: until, ..idle() };
    status.publish_beside(&beside);
    status.publish_word(seen, next, &beside).unwrap();
}

#[test]
fn the_word_packs_and_unpacks() {
    for state in [StateName::Closed, StateName::HalfOpen, StateName::Open] {
        for hand in Override::ALL {
            let circuit = Circuit { generation: u32::MAX - 1, state, hand, probes: 3, ok: 2 };
            assert_eq!(Circuit::unpack(circuit.pack()), circuit);
        }
    }
}

#[test]
fn an_open_circuit_denies_until_its_time_and_then_admits_one_probe() {
    let status = BackendStatus::new(&BackendPolicy::default());
    open(&status, NOW.plus(Duration::from_secs(5)));
    let denied = status.try_take(NOW).unwrap_err();
    assert_eq!(denied, Rejection::lasting(Reason::CircuitOpen, Duration::from_secs(5)));
    let later = NOW.plus(Duration::from_secs(5));
    assert_eq!(status.state(later), StateName::HalfOpen);
    assert_eq!(status.circuit().state, StateName::Open, "a read changes nothing");
    assert!(status.try_take(later).unwrap().probe);
    assert_eq!(status.try_take(later).unwrap_err().reason, Reason::HalfOpenBusy);
    assert_eq!(status.in_flight(), 1);
}

#[test]
fn a_thousand_claims_at_the_deadline_admit_exactly_one() {
    for _ in 0..20 {
        let status = Arc::new(BackendStatus::new(&BackendPolicy::default()));
        open(&status, NOW);
        let admitted = Arc::new(AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let taken = (0..125).filter(|_| status.try_take(NOW).is_ok()).count();
                    admitted.fetch_add(taken, Ordering::Relaxed);
                });
            }
        });
        assert_eq!(admitted.load(Ordering::Relaxed), 1);
        assert_eq!(status.in_flight(), 1);
    }
}

#[test]
fn the_cap_of_calls_in_flight_is_exact() {
    let status = BackendStatus::new(&BackendPolicy { max_in_flight: 2, ..BackendPolicy::default() });
    assert!(status.try_take(NOW).is_ok());
    assert_eq!(status.read(NOW).admission, Admission::Free);
    assert!(status.try_take(NOW).is_ok());
    let full = Rejection::lasting(Reason::Saturated, SATURATED_RETRY);
    assert_eq!(status.read(NOW).admission, Admission::Denied(full));
    assert_eq!(status.try_take(NOW).unwrap_err().reason, Reason::Saturated);
    status.release();
    assert!(status.try_take(NOW).is_ok());
}

#[test]
fn a_reading_says_what_was_published() {
    let status = BackendStatus::new(&BackendPolicy::default());
    for (failing, healthy) in [(true, true), (false, false), (false, true)] {
        let mut health = Health::default();
        health.is_healthy = healthy;
        status.publish_beside(&Beside { failing, health, ..idle() });
        let standing = status.read(NOW);
        assert_eq!((standing.failing, standing.healthy), (failing, healthy));
    }
    assert_eq!((status.read(NOW).admission, status.read(NOW).in_flight), (Admission::Free, 0));
    status.set_draining(true);
    assert_eq!(status.read(NOW).admission, Admission::Denied(Rejection::endless(Reason::Draining)));
    assert_eq!(status.try_take(NOW), Err(Rejection::endless(Reason::Draining)));
    status.set_draining(false);
    assert!(status.try_take(NOW).is_ok());
    let rates = Reason::ALL.into_iter().filter(|reason| reason.is_rate()).map(Reason::name);
    assert_eq!(rates.collect::<Vec<_>>(), ["rate_limited", "quota_exhausted", "local_rpm", "local_tpm"]);
}

/// State, hand, seconds of open time left: the state that is shown, and the admission.
#[test]
fn a_circuit_is_shown_as_calls_meet_it() {
    use Override::{Auto, Disabled, ForceClosed, ForceOpen};
    use StateName::{Closed, HalfOpen, Open};
    let no = |reason, seconds| Admission::Denied(Rejection::lasting(reason, Duration::from_secs(seconds)));
    let endless = Admission::Denied(Rejection::endless(Reason::ForcedOpen));
    let table = [
        (Closed, Auto, 0, Closed, Admission::Free),
        (Open, Auto, 5, Open, no(Reason::CircuitOpen, 5)),
        (Open, Auto, 0, HalfOpen, Admission::Probe(NOW)),
        (HalfOpen, Auto, 0, HalfOpen, Admission::Probe(NOW)),
        (HalfOpen, Auto, 5, HalfOpen, Admission::Probe(NOW.plus(Duration::from_secs(5)))),
        (Closed, ForceOpen, 5, Open, no(Reason::ForcedOpen, 5)),
        (Open, ForceClosed, 5, Closed, Admission::Free),
        (Open, Disabled, 5, Closed, Admission::Free),
    ];
    for (state, hand, seconds, shown, admission) in table {
        let status = BackendStatus::new(&BackendPolicy::default());
        let beside = Beside { open_until: NOW.plus(Duration::from_secs(seconds)), ..idle() };
        status.publish_beside(&beside);
        let next = Circuit { state, hand, ..status.circuit() };
        status.publish_word(status.circuit(), next, &beside).unwrap();
        assert_eq!((status.state(NOW), status.read(NOW).admission), (shown, admission), "{state:?} {hand:?}");
        // All probes taken.
        let full = Circuit { probes: 1, ..next };
        status.publish_word(next, full, &beside).unwrap();
        let expected = if state == HalfOpen { no(Reason::HalfOpenBusy, 1) } else { admission };
        assert_eq!(status.read(NOW).admission, expected, "{state:?} {hand:?}");
    }
    let status = BackendStatus::new(&BackendPolicy::default());
    let forced = Circuit { hand: ForceOpen, ..status.circuit() };
    status.publish_word(status.circuit(), forced, &idle()).unwrap();
    assert_eq!(status.read(NOW).admission, endless);
}

#[test]
fn probes_are_staged_and_never_barred_for_good() {
    let status = BackendStatus::new(&BackendPolicy::default());
    // N, successes so far: probes that may be under way at once.
    let table = [(1, 0, 1), (3, 0, 1), (3, 1, 2), (3, 2, 1), (5, 2, 3), (5, 4, 1), (1, 1, 1), (1, 2, 1), (2, 4, 1)];
    for (calls, ok, expected) in table {
        status.limits.half_open_calls.store(calls, Ordering::Relaxed);
        let circuit = |probes| Circuit { state: StateName::HalfOpen, probes, ok, ..status.circuit() };
        let taken = (0..10).take_while(|probes| status.has_probe(circuit(*probes))).count();
        assert_eq!(taken, expected, "{ok} of {calls}");
    }
}

#[test]
fn each_claim_takes_a_place_among_the_probes() {
    let status = BackendStatus::new(&BackendPolicy::default());
    let half = Circuit { state: StateName::HalfOpen, ok: 1, ..status.circuit() };
    status.publish_word(status.circuit(), half, &idle()).unwrap();
    for probes in 1..=2 {
        assert_eq!(status.try_take(NOW), Ok(Slot { generation: half.generation, probe: true }));
        assert_eq!(status.circuit(), Circuit { probes, ..half });
    }
    assert_eq!(status.try_take(NOW), Err(Rejection::lasting(Reason::HalfOpenBusy, HALF_OPEN_RETRY)));
    assert_eq!((status.circuit().probes, status.in_flight()), (2, 2));
}

#[test]
fn the_last_place_in_flight_passes_no_other_gate() {
    // Each of them ends sooner than a full backend is asked again.
    let second = NOW.plus(Duration::from_secs(1));
    let last_place = || BackendStatus::new(&BackendPolicy { max_in_flight: 1, ..BackendPolicy::default() });
    let denied = |status: &BackendStatus| status.claim(NOW).unwrap_err().reason;
    let status = last_place();
    open(&status, second);
    status.in_flight.store(1, Ordering::Relaxed);
    assert_eq!(denied(&status), Reason::CircuitOpen);
    let status = last_place();
    let forced = Circuit { hand: Override::ForceOpen, ..status.circuit() };
    status.publish_word(status.circuit(), forced, &Beside { open_until: second, ..idle() }).unwrap();
    status.in_flight.store(1, Ordering::Relaxed);
    assert_eq!(denied(&status), Reason::ForcedOpen);
}

#[test]
fn the_open_time_is_raised_before_the_word_and_lowered_after_it() {
    let status = BackendStatus::new(&BackendPolicy::default());
    let (sooner, later) = (NOW.plus(Duration::from_secs(5)), NOW.plus(Duration::from_secs(9)));
    open(&status, sooner);
    status.publish_beside(&Beside { open_until: later, ..idle() });
    assert_eq!(status.open_until(), later);
    status.publish_beside(&idle());
    assert_eq!(status.open_until(), later, "the word still says open");
    let (seen, forced) = (status.circuit(), Circuit { hand: Override::ForceOpen, ..status.circuit() });
    assert_eq!(status.publish_word(Circuit { ok: 1, ..seen }, forced, &idle()), Err(seen));
    assert_eq!(status.open_until(), later, "it was not swapped");
    status.publish_word(seen, forced, &idle()).unwrap();
    assert_eq!(status.open_until(), Instant::ZERO);
}

#[test]
fn slow_start_grows_from_its_least_to_the_whole() {
    let status = BackendStatus::new(&BackendPolicy::default());
    status.slow_start_from.store(NOW.as_nanos(), Ordering::Relaxed);
    let factor = |seconds| status.read(NOW.plus(Duration::from_secs(seconds))).slow_start;
    assert_eq!([factor(0), factor(2), factor(15), factor(30), factor(90)], [1_000, 1_000, 5_000, 10_000, 10_000]);
    // A reload may take the ramp away meanwhile.
    status.limits.slow_start_nanos.store(0, Ordering::Relaxed);
    assert_eq!(status.read(NOW).slow_start, WHOLE);
}
