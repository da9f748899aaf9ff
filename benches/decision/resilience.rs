//! The machines of a backend and what workers read of them, on a clock that is handed in.

use std::hint::black_box;
use std::num::NonZeroU32;
use std::time::Duration;

use breakwater::backend::circuit_breaker::{CircuitBreaker, Kind, Record, StateName};
use breakwater::backend::machine::{Event, Machine, What};
use breakwater::backend::outcome::Effect;
use breakwater::backend::status::Slot;
use breakwater::backend::{Admission, BackendStatus, Limiter};
use breakwater::clock::{self, Instant};
use breakwater::config::{BackendPolicy, Strategy};
use breakwater::router::picker::{Entrant, Picker};

use crate::meter::Meter;

/// Where simulated time begins: far from zero, as the process's own clock does.
const START: Instant = Instant::from_nanos(86_400_000_000_000);

/// Simulated time from one outcome to the next: a backend with a thousand calls a second.
const GAP: Duration = Duration::from_millis(1);

/// One failure in so many outcomes stays below every threshold.
const FAILURE_EVERY: u64 = 4;

/// Outcomes that a busy worker gathers before it tells them.
const BATCH: u64 = 64;

/// Draw of the breaker's jitter; any will do.
const JITTER: f64 = 0.5;

/// Weights in the proportion 3, 2, 1.
const WEIGHTS: [u64; 3] = [3_000_000, 2_000_000, 1_000_000];

pub(crate) fn measure(meter: &mut Meter) {
    meter.measure("clock: now, the yardstick", |count| {
        for _ in 0..count {
            black_box(clock::now());
        }
    });
    measure_breaker(meter);
    measure_trip(meter);
    measure_machine(meter);
    measure_cell(meter);
    measure_limiter(meter);
    for size in [2, 20] {
        measure_picker(meter, Strategy::WeightedRoundRobin, size);
    }
    measure_picker(meter, Strategy::LeastBusy, 20);
}

fn breaker() -> CircuitBreaker {
    CircuitBreaker::new(BackendPolicy::default().circuit_breaker, 0, START)
}

fn record(breaker: &CircuitBreaker, effect: Effect, now: Instant) -> Record {
    let (started, kind) = (now.minus(GAP), Kind::Unary);
    Record { permit: 0, generation: breaker.generation(), started, kind, after: GAP, effect }
}

fn measure_breaker(meter: &mut Meter) {
    let (mut calm, mut now) = (breaker(), START);
    meter.measure("circuit breaker: record a success", |count| {
        for _ in 0..count {
            now = now.plus(GAP);
            let record = record(&calm, Effect::Success, now);
            black_box(calm.record(record, now, JITTER));
        }
    });
    let (mut troubled, mut now) = (breaker(), START);
    meter.measure("circuit breaker: record, every 4th a failure", |count| {
        for index in 0..count {
            now = now.plus(GAP);
            let effect = if index.is_multiple_of(FAILURE_EVERY) { Effect::Failure } else { Effect::Success };
            let record = record(&troubled, effect, now);
            black_box(troubled.record(record, now, JITTER));
        }
    });
    let are_closed = [&calm, &troubled].iter().all(|breaker| breaker.name() == StateName::Closed);
    meter.check(are_closed, "a circuit below its thresholds opened");
}

/// The whole way round: failures in a row open it, time makes it half-open, probes close it.
fn measure_trip(meter: &mut Meter) {
    let policy = BackendPolicy::default().circuit_breaker;
    let failures = policy.consecutive_failures.unwrap_or_default();
    let (mut breaker, mut now) = (breaker(), START);
    let mut trips = 0;
    meter.measure("circuit breaker: open, half-open, closed again", |count| {
        for _ in 0..count {
            for _ in 0..failures {
                now = now.plus(GAP);
                let record = record(&breaker, Effect::Failure, now);
                breaker.record(record, now, JITTER);
            }
            // Beyond the longest wait, whatever the level.
            now = now.plus(policy.max_wait_duration_in_open_state * 2);
            breaker.enter_half_open(now);
            for permit in 0..u64::from(policy.half_open_calls) {
                now = now.plus(GAP);
                breaker.claimed(permit, breaker.generation(), now.plus(GAP));
                let record = Record { permit, ..record(&breaker, Effect::Success, now) };
                breaker.record(record, now, JITTER);
            }
            trips += 1;
        }
    });
    let changes_per_trip = 3;
    meter.check(breaker.generation() == trips * changes_per_trip, "a trip through the three states went another way");
}

fn measure_machine(meter: &mut Meter) {
    let mut machine = Machine::new(BackendPolicy::default(), 0, START);
    let mut now = START;
    let what = What::Succeeded { after: GAP };
    let event = |started| Event { permit: 0, generation: 0, host: Slot::NONE, started, kind: Kind::Unary, what };
    let mut batch = Vec::with_capacity(BATCH as usize);
    meter.measure_batches("machine: a success out of a told batch of 64", BATCH, |count| {
        for _ in 0..count {
            batch.clear();
            batch.extend((0..BATCH).map(|index| event(now.plus(GAP * index as u32))));
            now = now.plus(GAP * BATCH as u32);
            machine.settle(&batch, now);
            black_box(&mut machine);
        }
    });
}

fn measure_cell(meter: &mut Meter) {
    let cell = BackendStatus::new(&BackendPolicy::default());
    meter.measure("cell: read the standing", |count| {
        for _ in 0..count {
            black_box(black_box(&cell).read(black_box(START)));
        }
    });
    meter.measure("cell: try_take and release", |count| {
        for _ in 0..count {
            if black_box(&cell).try_take(black_box(START)).is_ok() {
                cell.release();
            }
        }
    });
    meter.check(cell.read(START).admission == Admission::Free, "an idle cell admits nothing");
    meter.check(cell.in_flight() == 0, "a released cell still counts calls in flight");
}

fn measure_limiter(meter: &mut Meter) {
    // Rates so high that the loop cannot use them up: what is measured is saying yes.
    let most = Some(NonZeroU32::MAX);
    let policy = BackendPolicy { requests_per_minute: most, tokens_per_minute: most, ..BackendPolicy::default() };
    let limiter = Limiter::new(&policy, true);
    let mut denied = 0_u64;
    meter.measure("limiter: charge against rpm and tpm", |count| {
        for _ in 0..count {
            denied += u64::from(limiter.try_charge(black_box(1)).is_err());
        }
    });
    meter.check(denied == 0, "a limiter far below its rates denied");
}

fn measure_picker(meter: &mut Meter, strategy: Strategy, size: usize) {
    let weights: Vec<u64> = WEIGHTS.iter().copied().cycle().take(size).collect();
    let entrants: Vec<Entrant> = weights
        .iter()
        .enumerate()
        .map(|(index, weight)| Entrant { index, weight: *weight, in_flight: index as u32 % 3, latency: None })
        .collect();
    let mut picker = Picker::new(strategy, &weights, 0);
    let mut random = fastrand::Rng::with_seed(0);
    let name = format!("picker: choose and commit, {} of {size}", strategy.name());
    meter.measure(&name, |count| {
        for _ in 0..count {
            let chosen = picker.choose(black_box(&entrants), &mut random);
            picker.commit(&entrants, black_box(chosen));
        }
    });
}
