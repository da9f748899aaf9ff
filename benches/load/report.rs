//! The table, and what in it must not be.

use std::io::Write as _;
use std::time::Duration;

use crate::peers::Kind;

/// How far the failovers per request may be off: requests cut by a window's end are counted on one side only.
const FAILOVER_TOLERANCE: f64 = 0.02;

/// Microseconds of a second.
const MICROS: f64 = 1e6;

/// Least, median and greatest of several windows.
#[derive(Clone, Copy, Default)]
pub(crate) struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

impl Spread {
    /// Of some values; zeros if there is none.
    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let (Some(least), Some(most)) = (values.first(), values.last()) else { return Self::default() };
        Self { least: *least, median: values[values.len() / 2], most: *most }
    }

    /// The one in the middle.
    pub(crate) fn median(&self) -> f64 {
        self.median
    }

    fn shown(&self, unit: f64, digits: usize) -> String {
        let [least, median, most] = [self.least, self.median, self.most].map(|value| value * unit);
        format!("{least:.digits$}/{median:.digits$}/{most:.digits$}")
    }
}

/// One contestant in one scenario at one concurrency.
pub(crate) struct Row {
    pub(crate) scenario: &'static str,
    pub(crate) connections: usize,
    pub(crate) contestant: Kind,
    /// Requests per second.
    pub(crate) rates: Spread,
    /// CPU per request in seconds.
    pub(crate) costs: Spread,
    /// Half of the answers came within this, in seconds.
    pub(crate) median: Spread,
    /// 99 % did.
    pub(crate) late: Spread,
    /// All did.
    pub(crate) latest: Duration,
    /// The median without anyone in between.
    pub(crate) direct: Option<Duration>,
    /// Resident memory in bytes.
    pub(crate) resident: Option<u64>,
    /// Failovers per request, where they are counted.
    pub(crate) failovers: Option<f64>,
    /// How many there must be; none where that is not the same each time.
    pub(crate) expected_failovers: Option<f64>,
    /// Wrong answers and lost connections.
    pub(crate) errors: u64,
}

impl Row {
    /// The median of the medians.
    pub(crate) fn median_latency(&self) -> Duration {
        Duration::from_secs_f64(self.median.median)
    }

    fn shown(&self) -> String {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let has_cost = 0.0 < self.costs.most;
        let added = self.direct.map(|direct| format!("{:.0}", (self.median.median - direct.as_secs_f64()) * MICROS));
        format!(
            "{:<9} {:>5} {:<10} {:>20} {:>8.0} {:>8.0} {:>8.0} {:>7} {:>17} {:>7} {:>9} {:>6}",
            self.scenario,
            self.connections,
            self.contestant.name(),
            self.rates.shown(1.0, 0),
            self.median.median * MICROS,
            self.late.median * MICROS,
            self.latest.as_secs_f64() * MICROS,
            or_dash(added),
            or_dash(has_cost.then(|| self.costs.shown(MICROS, 1))),
            or_dash(self.resident.map(|bytes| format!("{:.1}", bytes as f64 / f64::from(1 << 20)))),
            or_dash(self.failovers.map(|failovers| format!("{failovers:.3}"))),
            self.errors,
        )
    }

    /// What is wrong with it.
    fn problem(&self) -> Option<String> {
        let place = format!("{} at {} connections, {}", self.scenario, self.connections, self.contestant.name());
        let is_off = |failovers: f64| {
            self.expected_failovers.is_some_and(|expected| FAILOVER_TOLERANCE < (failovers - expected).abs())
        };
        match self.failovers {
            _ if !self.contestant.is_own() && self.contestant != Kind::Direct => None,
            _ if 0 < self.errors => Some(format!("{place}: {} wrong answers or lost connections", self.errors)),
            _ if self.rates.least == 0.0 => Some(format!("{place}: a window without an answer")),
            Some(failovers) if is_off(failovers) => {
                let expected = self.expected_failovers.unwrap_or_default();
                Some(format!("{place}: {failovers:.3} failovers per request, not {expected:.0}"))
            }
            Some(_) | None => None,
        }
    }
}

/// Prints rows as they come and keeps what is wrong with them.
pub(crate) struct Table {
    rows: Vec<Row>,
    problems: Vec<String>,
}

impl Table {
    /// Prints the setting and the head. Three figures with slashes are the least, median and greatest window.
    pub(crate) fn begin(setting: &str) -> Self {
        say(setting);
        say(&format!(
            "{:<9} {:>5} {:<10} {:>20} {:>8} {:>8} {:>8} {:>7} {:>17} {:>7} {:>9} {:>6}",
            "scenario",
            "conns",
            "through",
            "requests/s",
            "p50 us",
            "p99 us",
            "max us",
            "added",
            "CPU us/request",
            "RSS MiB",
            "failovers",
            "errors"
        ));
        Self { rows: Vec::new(), problems: Vec::new() }
    }

    /// Prints a row.
    pub(crate) fn add(&mut self, row: Row) {
        say(&row.shown());
        self.problems.extend(row.problem());
        self.rows.push(row);
    }

    /// Prints how the first contestant's CPU per request compares with each other one's, window by window: its peers' as a share
    /// of theirs, its own variants' as a multiple of its.
    pub(crate) fn compare(&self, costs: &[(Kind, Vec<f64>)]) {
        let Some(((first, ours), others)) = costs.split_first() else { return };
        for (kind, theirs) in others {
            let ratio = |(ours, theirs): (&f64, &f64)| if kind.is_own() { theirs / ours } else { ours / theirs };
            let ratios = Spread::of(ours.iter().zip(theirs).map(ratio));
            let (one, other) = if kind.is_own() { (kind, first) } else { (first, kind) };
            say(&format!("{:<16} CPU per request: {} {} x {}", "", one.name(), ratios.shown(1.0, 3), other.name()));
        }
    }

    /// Prints a line beside the rows.
    pub(crate) fn remark(&self, text: &str) {
        say(&format!("{:<16} {text}", ""));
    }

    /// The rows so far.
    pub(crate) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Ends the run.
    ///
    /// # Errors
    /// What was wrong.
    pub(crate) fn finish(self) -> Result<(), String> {
        match self.problems.as_slice() {
            [] => Ok(()),
            problems => Err(problems.join("\n")),
        }
    }
}

/// A reader that is gone is no error.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
