//! Runs one operation many times and says what it cost.

use std::io::Write as _;
use std::time::Duration;

use breakwater::clock;

/// How long to measure.
#[derive(Clone, Copy)]
pub(crate) struct Effort {
    rounds: usize,
    round: Duration,
    operations: u64,
}

impl Effort {
    /// Enough for a median that two runs agree on within a few per cent.
    pub(crate) const WHOLE: Self = Self { rounds: 15, round: Duration::from_millis(30), operations: 400_000 };

    /// Enough to see that a row still runs.
    pub(crate) const SHORT: Self = Self { rounds: 3, round: Duration::from_millis(1), operations: 2_000 };
}

/// Measures, prints a row at a time, and keeps what did not hold.
pub(crate) struct Meter {
    effort: Effort,
    only: String,
    rows: usize,
    problems: Vec<String>,
}

impl Meter {
    /// Measures the rows whose name holds `only`.
    pub(crate) fn new(effort: Effort, only: String) -> Self {
        say(&format!("{:<58} {:>9} {:>9} {:>9} {:>10}", "operation", "min ns", "median ns", "max ns", "allocs/op"));
        Self { effort, only, rows: 0, problems: Vec::new() }
    }

    /// Measures an operation. `run` does it as often as it is told.
    pub(crate) fn measure(&mut self, name: &str, run: impl FnMut(u64)) {
        self.measure_batches(name, 1, run);
    }

    /// Measures an operation that comes in batches of `batch`. `run` does as many batches as it is told.
    pub(crate) fn measure_batches(&mut self, name: &str, batch: u64, mut run: impl FnMut(u64)) {
        if !self.wants(name) {
            return;
        }
        let count = calibrate(self.effort.round, &mut run);
        let operations = (count * batch) as f64;
        let mut rounds: Vec<f64> =
            (0..self.effort.rounds).map(|_| time(count, &mut run).as_nanos() as f64 / operations).collect();
        rounds.sort_by(f64::total_cmp);
        let allocations = allocation_counter::measure(|| run(count)).count_total as f64 / operations;
        let (least, median, most) = (rounds[0], rounds[rounds.len() / 2], rounds[rounds.len() - 1]);
        say(&format!("{name:<58} {least:>9.1} {median:>9.1} {most:>9.1} {allocations:>10.2}"));
        self.rows += 1;
    }

    /// Whether a row is among those to measure.
    pub(crate) fn wants(&self, name: &str) -> bool {
        name.contains(&self.only)
    }

    /// How many operations to time one by one.
    pub(crate) fn operations(&self) -> u64 {
        self.effort.operations
    }

    /// Prints the nanoseconds of single operations by rank.
    pub(crate) fn tell_times(&mut self, name: &str, times: &mut [u64], allocations: f64) {
        if !self.wants(name) || times.is_empty() {
            return;
        }
        times.sort_unstable();
        let rank = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
        let (half, most, rare) = (rank(0.5), rank(0.99), rank(0.999));
        say(&format!("{name:<58} p50 {half} ns, p99 {most} ns, p99.9 {rare} ns; {allocations:.2} allocs/op"));
        self.rows += 1;
    }

    /// Notes what must hold, since a figure of something that does not work is worth nothing.
    pub(crate) fn check(&mut self, holds: bool, what: &str) {
        if !holds {
            self.problems.push(what.to_owned());
        }
    }

    /// Ends the run.
    ///
    /// # Errors
    /// What did not hold, or that no row has the wanted word.
    pub(crate) fn finish(self) -> Result<(), String> {
        match (self.rows, self.problems.as_slice()) {
            (0, _) => Err(format!("no row has `{}` in its name", self.only)),
            (_, []) => Ok(()),
            (_, problems) => Err(problems.join("; ")),
        }
    }
}

/// How many times fill a round.
fn calibrate(round: Duration, run: &mut impl FnMut(u64)) -> u64 {
    let mut count = 1;
    loop {
        let took = time(count, run);
        if round <= took * 2 {
            let per_round = round.as_secs_f64() / took.as_secs_f64();
            return ((count as f64 * per_round) as u64).max(1);
        }
        count *= 2;
    }
}

fn time(count: u64, run: &mut impl FnMut(u64)) -> Duration {
    let begun = clock::now();
    run(count);
    clock::now().since(begun)
}

/// A reader that is gone is no error.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
