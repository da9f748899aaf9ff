//! How long a backend takes to its first content: a peak EWMA for choosing among equals (spec/resilience.md 6.2), and
//! percentiles for hedging (7.6). Streams and whole answers are kept apart: the one takes as long as a first token, the other
//! as long as all of them.
//!
//! The backend's actor keeps the book and publishes its figures; they lie in the cell and so outlive a reload and the actor.
//! They know no generations: how long a call took is true whatever the circuit has become meanwhile.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::circuit_breaker::Kind;
use super::machine::{Event, What};
use super::outcome::{Class, Effect, TimeoutKind};
use super::times::Times;
use crate::clock::Instant;

/// Assumed of a backend that nothing is known of.
pub const UNKNOWN: Duration = Duration::from_millis(30);

/// A failure counts as this long, however fast it was: nobody shall be chosen for failing fast.
const FAILURE: Duration = Duration::from_secs(5);

/// In this time an estimate falls to 1/e, both towards faster calls and where no call comes.
const DECAY: Duration = Duration::from_secs(10);

/// After so long without a call an estimate is next to nothing, and so says nothing: else a burst would go to one backend
/// alone, until its first call ends.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// A tick of the time that a published estimate carries: 2^22 ns, about 4 ms. 32 bits of them are 208 days.
const TICK_BITS: u32 = 22;

/// The percentile that a slow call exceeds.
const SLOW: usize = 95;

/// The usual one.
const MEDIAN: usize = 50;

/// Unit of a published percentile.
const UNIT: Duration = Duration::from_micros(100);

/// Bits of a published percentile: seven hours.
const PERCENTILE_BITS: u32 = 28;

/// Mask of one.
const PERCENTILE: u64 = (1 << PERCENTILE_BITS) - 1;

/// The book of one backend.
#[derive(Clone, Debug, Default)]
pub(super) struct Latency {
    stream: Figures,
    unary: Figures,
}

/// What is known of one kind of calls.
#[derive(Clone, Debug, Default)]
struct Figures {
    peak: Option<Peak>,
    times: Times,
}

/// An estimate that rises at once and falls slowly.
#[derive(Clone, Copy, Debug)]
struct Peak {
    seconds: f64,
    at: Instant,
}

/// What a backend's actor has published of its latencies.
#[derive(Debug, Default)]
pub struct LatencyCell {
    stream: Words,
    unary: Words,
}

/// One kind. Each word is a fact of its own, never seen in halves.
#[derive(Debug, Default)]
struct Words {
    /// Microseconds 32 bits, the tick they were estimated in 32; 0 while unknown.
    peak: AtomicU64,
    /// Samples 8 bits, 95th percentile 28, median 28.
    tail: AtomicU64,
}

/// How the latest times are spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// How many times it is known from: successes and timeouts, 64 at most.
    pub samples: u32,
    /// Half of them keep within this; 0 without samples.
    pub p50: Duration,
    /// 95 % of them keep within this; 0 without samples.
    pub p95: Duration,
}

impl Latency {
    /// Goes on from what a cell shows. Of the times only their estimate is left: percentiles begin anew.
    pub(super) fn resumed(cell: &LatencyCell, now: Instant) -> Self {
        let figures = |kind| {
            let peak = cell.estimate(kind, now).map(|seconds| Peak { seconds, at: now });
            Figures { peak, times: Times::default() }
        };
        Self { stream: figures(Kind::Stream), unary: figures(Kind::Unary) }
    }

    /// Takes in what permits had to say.
    pub(super) fn settle(&mut self, events: &[Event]) {
        for event in events {
            self.settle_one(event);
        }
    }

    fn settle_one(&mut self, &Event { started, kind, what, .. }: &Event) {
        match what {
            What::Started { .. }
            | What::Claimed { .. }
            | What::ClaimedEarly { .. }
            | What::ClaimedHost { .. }
            | What::Reached { .. } => {}
            What::Succeeded { after } => {
                let figures = self.of(kind);
                figures.estimate(after, started.plus(after));
                figures.times.push(after);
            }
            What::Failed { class, after, .. } => match class.effect() {
                Effect::Failure => {
                    self.fail(started.plus(after));
                    if ran_out_of_time(class) {
                        self.of(kind).times.push(after);
                    }
                }
                Effect::Cut | Effect::Gone => self.of(kind).took_longer(after, started.plus(after)),
                Effect::Success | Effect::Neutral | Effect::Caller | Effect::None => {}
            },
            What::BrokeLater { class, after } => {
                if class.effect() == Effect::Failure {
                    self.fail(started.plus(after));
                }
            }
            What::Overtaken { after } | What::Dropped { after } => {
                self.of(kind).took_longer(after, started.plus(after))
            }
        }
    }

    fn of(&mut self, kind: Kind) -> &mut Figures {
        match kind {
            Kind::Stream => &mut self.stream,
            Kind::Unary => &mut self.unary,
        }
    }

    /// A failure says the same of both kinds.
    fn fail(&mut self, at: Instant) {
        self.stream.estimate(FAILURE, at);
        self.unary.estimate(FAILURE, at);
    }

    /// Shows the figures in the cell.
    pub(super) fn publish(&self, cell: &LatencyCell) {
        self.stream.publish(&cell.stream);
        self.unary.publish(&cell.unary);
    }
}

impl Figures {
    /// Rises to a slower call at once; approaches a faster one the more, the longer the estimate has stood.
    fn estimate(&mut self, took: Duration, at: Instant) {
        let took = took.as_secs_f64();
        let seconds = match self.peak {
            Some(peak) if took < peak.seconds => {
                let kept = kept(at.since(peak.at));
                peak.seconds * kept + took * (1.0 - kept)
            }
            Some(_) | None => took,
        };
        // Outcomes of several workers may come out of order.
        let at = self.peak.map_or(at, |peak| peak.at.max(at));
        self.peak = Some(Peak { seconds, at });
    }

    /// A call was given up before it could tell: it would have taken at least this long. Where others take that long too,
    /// this says nothing.
    fn took_longer(&mut self, waited: Duration, at: Instant) {
        let reading = self.peak.map_or(UNKNOWN.as_secs_f64(), |peak| peak.read(at));
        if reading < waited.as_secs_f64() {
            self.estimate(waited, at);
        }
        if self.times.percentile(SLOW).is_some_and(|slow| slow <= waited) {
            self.times.push(waited);
        }
    }

    fn publish(&self, words: &Words) {
        words.peak.store(self.peak.map_or(0, Peak::pack), Ordering::Relaxed);
        let percentile = |percent| self.times.percentile(percent).unwrap_or_default();
        let samples = self.times.len() as u32;
        let tail = Tail { samples, p50: percentile(MEDIAN), p95: percentile(SLOW) };
        words.tail.store(tail.pack(), Ordering::Relaxed);
    }
}

impl Peak {
    /// The estimate at `now`: where no call comes it falls, so that somebody tries again.
    fn read(self, now: Instant) -> f64 {
        self.seconds * kept(now.since(self.at))
    }

    fn pack(self) -> u64 {
        // At least 1: zero is for what is not known.
        let micros = ((self.seconds * 1e6) as u64).clamp(1, u64::from(u32::MAX));
        micros << 32 | u64::from(tick(self.at))
    }
}

impl Tail {
    fn pack(self) -> u64 {
        let units = |time: Duration| (time.as_nanos().div_ceil(UNIT.as_nanos()) as u64).min(PERCENTILE);
        let samples = u64::from(self.samples.min(u32::from(u8::MAX)));
        samples << (2 * PERCENTILE_BITS) | units(self.p95) << PERCENTILE_BITS | units(self.p50)
    }

    fn unpack(word: u64) -> Self {
        let time = |units: u64| UNIT.saturating_mul((units & PERCENTILE) as u32);
        let samples = (word >> (2 * PERCENTILE_BITS)) as u32;
        Self { samples, p50: time(word), p95: time(word >> PERCENTILE_BITS) }
    }
}

impl LatencyCell {
    /// The peak EWMA of the time to first content at `now`, in seconds; none while nothing is known, or
    /// after a minute without a call.
    pub fn estimate(&self, kind: Kind, now: Instant) -> Option<f64> {
        let word = self.words(kind).peak.load(Ordering::Relaxed);
        let micros = word >> 32;
        // The ticks wrap. A little in the future is now, as is what is older than half of their range.
        let ticks = (tick(now).wrapping_sub(word as u32) as i32).max(0);
        let age = Duration::from_nanos(u64::from(ticks.unsigned_abs()) << TICK_BITS);
        (micros != 0 && age < FORGOTTEN).then(|| micros as f64 / 1e6 * kept(age))
    }

    /// How the latest times to first content are spread.
    pub fn tail(&self, kind: Kind) -> Tail {
        Tail::unpack(self.words(kind).tail.load(Ordering::Relaxed))
    }

    fn words(&self, kind: Kind) -> &Words {
        match kind {
            Kind::Stream => &self.stream,
            Kind::Unary => &self.unary,
        }
    }
}

/// What is left of an estimate after a time.
fn kept(age: Duration) -> f64 {
    (-age.as_secs_f64() / DECAY.as_secs_f64()).exp()
}

fn tick(at: Instant) -> u32 {
    (at.as_nanos() >> TICK_BITS) as u32
}

/// Whether a failure tells how long a call takes at least. A backend's own 408 tells nothing.
fn ran_out_of_time(class: Class) -> bool {
    matches!(class, Class::Timeout(kind) if kind != TimeoutKind::Status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::outcome::ConnectPhase;
    use crate::backend::status::Slot;

    /// Far from zero, as the process's own clock is.
    const START: Instant = Instant::from_nanos(86_400_000_000_000);

    /// The book and its cell.
    #[derive(Default)]
    struct World {
        latency: Latency,
        cell: LatencyCell,
    }

    impl World {
        /// Something that ends so many milliseconds after the start.
        fn tell(&mut self, kind: Kind, ends: u64, what: What) {
            let after = match what {
                What::Started { .. } | What::Claimed { .. } | What::ClaimedEarly { .. } | What::ClaimedHost { .. } => {
                    Duration::ZERO
                }
                What::Succeeded { after }
                | What::Reached { after }
                | What::Failed { after, .. }
                | What::BrokeLater { after, .. }
                | What::Overtaken { after }
                | What::Dropped { after } => after,
            };
            let started = at(ends).minus(after);
            self.latency.settle(&[Event { permit: 1, generation: 1, host: Slot::NONE, started, kind, what }]);
            self.latency.publish(&self.cell);
        }

        /// The estimates in whole milliseconds, of streams and of whole answers.
        fn estimates(&self, millis: u64) -> [Option<u64>; 2] {
            let estimate = |kind| self.cell.estimate(kind, at(millis)).map(|seconds| (seconds * 1e3).round() as u64);
            [estimate(Kind::Stream), estimate(Kind::Unary)]
        }

        fn samples(&self) -> [u32; 2] {
            [Kind::Stream, Kind::Unary].map(|kind| self.cell.tail(kind).samples)
        }
    }

    fn at(millis: u64) -> Instant {
        START.plus(Duration::from_millis(millis))
    }

    fn succeeded(millis: u64) -> What {
        What::Succeeded { after: Duration::from_millis(millis) }
    }

    fn failed(class: Class, millis: u64) -> What {
        What::Failed { class, hint: None, after: Duration::from_millis(millis) }
    }

    fn dropped(millis: u64) -> What {
        What::Dropped { after: Duration::from_millis(millis) }
    }

    /// A script of streams, "ends what/millis": the estimate at the end of each.
    fn check(script: &str, expected: &[u64]) {
        let mut world = World::default();
        let told = script.split(", ").map(|step| {
            let (ends, what) = step.split_once(' ').unwrap();
            let (what, millis) = what.split_once('/').unwrap();
            let (ends, millis) = (ends.parse().unwrap(), millis.parse().unwrap());
            let what = match what {
                "ok" => succeeded(millis),
                "fail" => failed(Class::ServerError, millis),
                "cut" => failed(Class::Cut, millis),
                "limited" => failed(Class::RateLimited, millis),
                "broke" => What::BrokeLater { class: Class::Truncated, after: Duration::from_millis(millis) },
                "drop" => dropped(millis),
                other => unreachable!("{other}"),
            };
            world.tell(Kind::Stream, ends, what);
            world.estimates(ends)[0].unwrap_or_default()
        });
        assert_eq!(told.collect::<Vec<_>>(), expected, "{script}");
    }

    #[test]
    fn the_estimate_rises_at_once_and_falls_within_ten_seconds() {
        check("0 ok/100, 0 ok/900, 0 ok/100", &[100, 900, 900]);
        // 900 / e + 100 × (1 − 1 / e), and the same again.
        check("0 ok/900, 10000 ok/100, 20000 ok/100", &[900, 394, 208]);
        check("0 ok/900, 60000 ok/100", &[900, 102]);
    }

    #[test]
    fn a_failure_is_slow_and_what_is_nobodys_fault_says_nothing() {
        check("0 ok/100, 0 fail/1", &[100, 5_000]);
        check("0 ok/100, 0 broke/50", &[100, 5_000]);
        check("0 limited/1, 0 ok/100, 0 limited/9000", &[0, 100, 100]);
    }

    #[test]
    fn a_call_that_was_given_up_would_have_taken_longer() {
        check("0 ok/100, 0 drop/50, 0 drop/400, 0 cut/700", &[100, 100, 400, 700]);
        check("0 drop/20, 0 drop/40", &[0, 40]);
    }

    #[test]
    fn an_idle_backend_is_worth_another_try_and_at_last_unknown() {
        let mut world = World::default();
        world.tell(Kind::Stream, 0, failed(Class::Reset, 1));
        assert_eq!([0, 10_000, 30_000].map(|millis| world.estimates(millis)[0]), [Some(5_000), Some(1_840), Some(249)]);
        assert_eq!([59_900, 60_100, 86_400_000].map(|millis| world.estimates(millis)[0]), [Some(13), None, None]);
    }

    #[test]
    fn a_failure_counts_for_both_kinds_and_a_success_for_its_own() {
        let mut world = World::default();
        world.tell(Kind::Unary, 0, succeeded(700));
        assert_eq!((world.estimates(0), world.samples()), ([None, Some(700)], [0, 1]));
        world.tell(Kind::Unary, 0, failed(Class::Connect(ConnectPhase::Connect), 1));
        assert_eq!((world.estimates(0), world.samples()), ([Some(5_000), Some(5_000)], [0, 1]));
    }

    #[test]
    fn percentiles_are_of_successes_and_timeouts() {
        let mut world = World::default();
        (1..=19).for_each(|millis| world.tell(Kind::Stream, 100, succeeded(millis)));
        world.tell(Kind::Stream, 100, failed(Class::ServerError, 1));
        world.tell(Kind::Stream, 100, failed(Class::Timeout(TimeoutKind::Status), 1));
        assert_eq!(world.samples(), [19, 0]);
        world.tell(Kind::Stream, 100, failed(Class::Timeout(TimeoutKind::FirstToken), 30_000));
        let millis = Duration::from_millis;
        let tail = world.cell.tail(Kind::Stream);
        assert_eq!(tail, Tail { samples: 20, p50: millis(10), p95: millis(19) });
        // Given up sooner than most would have answered: nothing. Later than that: as long as it had waited.
        world.tell(Kind::Stream, 100, dropped(18));
        assert_eq!(world.cell.tail(Kind::Stream), tail);
        world.tell(Kind::Stream, 100, dropped(25));
        assert_eq!(world.cell.tail(Kind::Stream), Tail { samples: 21, p50: millis(11), p95: millis(25) });
    }

    #[test]
    fn another_actor_goes_on_with_the_estimate() {
        let mut world = World::default();
        world.tell(Kind::Stream, 0, succeeded(800));
        world.latency = Latency::resumed(&world.cell, at(10_000));
        world.latency.publish(&world.cell);
        assert_eq!((world.estimates(10_000), world.samples()), ([Some(294), None], [0, 0]));
    }

    #[test]
    fn what_is_published_saturates() {
        let endless = Duration::from_secs(u64::MAX);
        assert_eq!(Peak { seconds: 1e300, at: START }.pack() >> 32, u64::from(u32::MAX));
        assert_eq!(Tail::unpack(Tail { samples: 999, p50: endless, p95: endless }.pack()).samples, 255);
        let cell = LatencyCell::default();
        assert_eq!(cell.estimate(Kind::Unary, Instant::NEVER), None);
        cell.unary.peak.store(Peak { seconds: 1.0, at: START }.pack(), Ordering::Relaxed);
        assert_eq!(
            cell.estimate(Kind::Unary, START.minus(Duration::from_secs(9))),
            Some(1.0),
            "no time runs backwards"
        );
    }
}
