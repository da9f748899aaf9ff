//! Families of series keyed by the tuple of their label values, and their text.
//!
//! prometheus' own vectors hash label values without a separator, so that ("ab","c") and ("a","bc") share one series. Here the
//! key is the tuple, and whoever counts holds the child. The text is written straight from the children: through the crate's
//! own model of it, each scrape would copy every name and label three times.

use std::collections::{BTreeMap, HashSet};
use std::fmt::{Display, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::Metric as _;
use prometheus::{Counter, Histogram, HistogramOpts, IntCounter, IntGauge, Opts};

use super::names::{self, Name as Metric};

/// A metric that a family can make.
pub trait Child: Clone + Send + Sync + 'static {
    /// The word of its kind in the text format.
    const KIND: &'static str;

    /// Makes one; none if its name or buckets are invalid, which a test rules out.
    fn make(name: Metric, buckets: &[f64]) -> Option<Self>;

    /// Writes its lines.
    fn write(&self, text: &mut Text<'_>);
}

impl Child for IntCounter {
    const KIND: &'static str = "counter";

    fn make((name, help): Metric, _: &[f64]) -> Option<Self> {
        Self::with_opts(Opts::new(name, help)).ok()
    }

    fn write(&self, text: &mut Text<'_>) {
        text.line("", None, self.get());
    }
}

impl Child for Counter {
    const KIND: &'static str = "counter";

    fn make((name, help): Metric, _: &[f64]) -> Option<Self> {
        Self::with_opts(Opts::new(name, help)).ok()
    }

    fn write(&self, text: &mut Text<'_>) {
        text.line("", None, self.get());
    }
}

impl Child for IntGauge {
    const KIND: &'static str = "gauge";

    fn make((name, help): Metric, _: &[f64]) -> Option<Self> {
        Self::with_opts(Opts::new(name, help)).ok()
    }

    fn write(&self, text: &mut Text<'_>) {
        text.line("", None, self.get());
    }
}

impl Child for Histogram {
    const KIND: &'static str = "histogram";

    fn make((name, help): Metric, buckets: &[f64]) -> Option<Self> {
        Self::with_opts(HistogramOpts { common_opts: Opts::new(name, help), buckets: buckets.to_vec() }).ok()
    }

    fn write(&self, text: &mut Text<'_>) {
        let metric = self.metric();
        let histogram = metric.get_histogram();
        for bucket in histogram.get_bucket() {
            text.line("_bucket", Some(&bucket.upper_bound()), bucket.cumulative_count());
        }
        text.line("_bucket", Some(&"+Inf"), histogram.get_sample_count());
        text.line("_sum", None, histogram.get_sample_sum());
        text.line("_count", None, histogram.get_sample_count());
    }
}

/// Where the lines of one series go: text format 0.0.4.
pub struct Text<'a> {
    out: &'a mut String,
    name: &'static str,
    /// `one="a",two="b"`, escaped.
    labels: &'a str,
}

impl Text<'_> {
    /// One sample. `bound` is the bucket's upper bound, where it is of one.
    fn line(&mut self, suffix: &str, bound: Option<&dyn Display>, value: impl Display) {
        self.out.push_str(self.name);
        self.out.push_str(suffix);
        if bound.is_some() || !self.labels.is_empty() {
            self.out.push('{');
            self.out.push_str(self.labels);
            if let Some(bound) = bound {
                let comma = if self.labels.is_empty() { "" } else { "," };
                // Writing to a String cannot fail.
                let _ = write!(self.out, "{comma}le=\"{bound}\"");
            }
            self.out.push('}');
        }
        let _ = writeln!(self.out, " {value}");
    }
}

/// What stands above the lines of a family.
pub(super) fn write_head(out: &mut String, (name, help): Metric, kind: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// Labels as the text format has them, in the order of their names.
pub(super) fn label_text(labels: &[&str], values: &[String]) -> String {
    let mut pairs: Vec<(&&str, &String)> = labels.iter().zip(values).collect();
    pairs.sort_unstable();
    let mut text = String::new();
    for (label, value) in pairs {
        if !text.is_empty() {
            text.push(',');
        }
        let _ = write!(text, "{label}=\"");
        for character in value.chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                character => text.push(character),
            }
        }
        text.push('"');
    }
    text
}

/// Whose names the values of a label are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    /// A route's.
    Route,
    /// A backend's.
    Backend,
    /// A host's, with its port.
    Endpoint,
    /// A client key's.
    Key,
}

impl Owner {
    /// Of a label; none if its values are a closed list.
    fn of(metric: Metric, label: &str) -> Option<Self> {
        match label {
            "route" => Some(Self::Route),
            "backend" => Some(Self::Backend),
            "key" => Some(Self::Key),
            "endpoint" if [names::ENDPOINT_STATE, names::ENDPOINT_TRANSITIONS].contains(&metric) => {
                Some(Self::Endpoint)
            }
            "from" | "to" if metric == names::FAILOVERS => Some(Self::Backend),
            "from" | "to" if metric == names::FALLBACKS => Some(Self::Route),
            _ => None,
        }
    }
}

/// A label value that comes from the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name {
    /// Whose it is.
    pub owner: Owner,
    /// The value.
    pub name: String,
}

struct Inner<M> {
    name: Metric,
    labels: &'static [&'static str],
    buckets: &'static [f64],
    children: Mutex<BTreeMap<Vec<String>, Made<M>>>,
}

/// A series, and its labels as they are written.
#[derive(Clone)]
struct Made<M> {
    child: M,
    labels: Arc<str>,
}

/// All series of one metric.
pub struct Family<M: Child>(Arc<Inner<M>>);

impl<M: Child> Clone for Family<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M: Child> Family<M> {
    /// An empty family.
    pub fn new(name: Metric, labels: &'static [&'static str], buckets: &'static [f64]) -> Self {
        Self(Arc::new(Inner { name, labels, buckets, children: Mutex::new(BTreeMap::new()) }))
    }

    /// The series of these label values, made on first use. For builders and edges, never on the request path.
    ///
    /// # Panics
    /// Never: names and labels are constants, which a test has made children of.
    pub fn child(&self, values: &[&str]) -> M {
        let key: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
        let mut children = self.0.children.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = children.get(&key) {
            return made.child.clone();
        }
        #[expect(
            clippy::expect_used,
            reason = "names are constants of names.rs and a test makes a child of each family"
        )]
        let child = M::make(self.0.name, self.0.buckets).expect("a valid metric name");
        let labels = Arc::from(label_text(self.0.labels, &key));
        children.insert(key, Made { child: child.clone(), labels });
        child
    }

    /// The series of these label values, if it was made.
    pub fn get(&self, values: &[&str]) -> Option<M> {
        let key: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
        self.0.children.lock().unwrap_or_else(PoisonError::into_inner).get(&key).map(|made| made.child.clone())
    }

    /// Every series with its label values, in order.
    pub(super) fn snapshot(&self) -> Vec<(Vec<String>, M)> {
        let children = self.0.children.lock().unwrap_or_else(PoisonError::into_inner);
        children.iter().map(|(values, made)| (values.clone(), made.child.clone())).collect()
    }

    /// Drops the series whose label values are not kept.
    pub fn retain(&self, keep: impl Fn(&[String]) -> bool) {
        self.0.children.lock().unwrap_or_else(PoisonError::into_inner).retain(|values, _| keep(values));
    }

    /// Drops every series: those of another configuration.
    pub fn clear(&self) {
        self.0.children.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// All series of one metric, whatever it is.
pub(super) trait Series: Send + Sync {
    /// Writes them all, with their head; nothing where there are none.
    fn write(&self, out: &mut String);

    /// Drops every series with one of these names. A handle that is still held counts on, unseen.
    fn forget(&self, gone: &HashSet<Name>);
}

impl<M: Child> Series for Family<M> {
    fn write(&self, out: &mut String) {
        // Read outside the lock, so that nobody who makes a series waits for a scrape.
        let children: Vec<Made<M>> =
            self.0.children.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        if children.is_empty() {
            return;
        }
        write_head(out, self.0.name, M::KIND);
        for Made { child, labels } in &children {
            child.write(&mut Text { out: &mut *out, name: self.0.name.0, labels });
        }
    }

    fn forget(&self, gone: &HashSet<Name>) {
        let labels = self.0.labels.iter().enumerate();
        let owners: Vec<(usize, Owner)> =
            labels.filter_map(|(place, label)| Some((place, Owner::of(self.0.name, label)?))).collect();
        if owners.is_empty() {
            return;
        }
        let names = |of: Owner| -> HashSet<&str> {
            gone.iter().filter(|name| name.owner == of).map(|name| name.name.as_str()).collect()
        };
        let gone: Vec<(usize, HashSet<&str>)> =
            owners.into_iter().map(|(place, owner)| (place, names(owner))).collect();
        self.retain(|values| !gone.iter().any(|(place, names)| names.contains(values[*place].as_str())));
    }
}

struct RowsInner {
    name: Metric,
    labels: &'static [&'static str],
    rows: Mutex<Readings>,
}

/// Values by the values of their labels.
type Reading = BTreeMap<Vec<String>, f64>;

#[derive(Default)]
struct Readings {
    going_on: Reading,
    whole: Reading,
}

/// Gauges that are read somewhere else whenever somebody looks, all anew: what a reading does not bring is gone.
#[derive(Clone)]
pub struct Rows(Arc<RowsInner>);

impl Rows {
    /// Without rows.
    pub fn new(name: Metric, labels: &'static [&'static str]) -> Self {
        Self(Arc::new(RowsInner { name, labels, rows: Mutex::default() }))
    }

    /// One more row of the reading that goes on, or the same once more.
    pub fn push(&self, values: &[&str], value: f64) {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        self.0.rows.lock().unwrap_or_else(PoisonError::into_inner).going_on.insert(values, value);
    }

    /// The rows of the last whole reading.
    pub(super) fn snapshot(&self) -> Vec<(Vec<String>, f64)> {
        let rows = self.0.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.whole.iter().map(|(values, value)| (values.clone(), *value)).collect()
    }

    /// The reading is whole: it takes the place of the one before.
    pub fn publish(&self) {
        let mut rows = self.0.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.whole = std::mem::take(&mut rows.going_on);
    }
}

impl Series for Rows {
    fn write(&self, out: &mut String) {
        let rows = self.0.rows.lock().unwrap_or_else(PoisonError::into_inner);
        if rows.whole.is_empty() {
            return;
        }
        write_head(out, self.0.name, "gauge");
        for (values, value) in &rows.whole {
            let labels = label_text(self.0.labels, values);
            Text { out: &mut *out, name: self.0.name.0, labels: &labels }.line("", None, value);
        }
    }

    /// The next reading does not bring them.
    fn forget(&self, _: &HashSet<Name>) {}
}

#[cfg(test)]
mod tests {
    use prometheus::core::Collector;
    use prometheus::{Gauge, TextEncoder};

    use super::*;

    fn written(series: &dyn Series) -> String {
        let mut out = String::new();
        series.write(&mut out);
        out
    }

    #[test]
    fn the_text_is_the_one_that_the_crate_writes() {
        let label = r#"a\"b\c
é"#;
        let opts = |name: &str| Opts::new(name, "Some help.").const_label("zone", label).const_label("host", "h");
        let theirs = |collector: &dyn Collector| TextEncoder::new().encode_to_string(&collector.collect()).unwrap();
        let labels: &[&str] = &["zone", "host"];
        let values = [label, "h"];

        let counter: Family<IntCounter> = Family::new(("c_total", "Some help."), labels, &[]);
        counter.child(&values).inc_by(u64::MAX / 3);
        let their_counter = IntCounter::with_opts(opts("c_total")).unwrap();
        their_counter.inc_by(u64::MAX / 3);
        // They write it as a float, and lose what does not fit in one.
        let theirs_whole =
            theirs(&their_counter).replace(&((u64::MAX / 3) as f64).to_string(), &(u64::MAX / 3).to_string());
        assert_eq!(written(&counter), theirs_whole);

        let gauge: Family<IntGauge> = Family::new(("g", "Some help."), labels, &[]);
        gauge.child(&values).set(-7);
        let their_gauge = IntGauge::with_opts(opts("g")).unwrap();
        their_gauge.set(-7);
        assert_eq!(written(&gauge), theirs(&their_gauge));

        let rows = Rows::new(("r", "Some help."), labels);
        let their_rows = Gauge::with_opts(opts("r")).unwrap();
        for value in [0.0, 1.0, 0.1, 1_795_737_600.123, 1e-9] {
            rows.push(&values, value);
            rows.publish();
            their_rows.set(value);
            assert_eq!(written(&rows), theirs(&their_rows));
        }

        let histogram: Family<Histogram> = Family::new(("h_seconds", "Some help."), labels, &names::OVERHEAD);
        let common_opts = opts("h_seconds");
        let their_histogram =
            Histogram::with_opts(HistogramOpts { common_opts, buckets: names::OVERHEAD.to_vec() }).unwrap();
        for value in [0.000_01, 0.003, 0.003, 0.7, 40.0] {
            histogram.child(&values).observe(value);
            their_histogram.observe(value);
        }
        assert_eq!(written(&histogram), theirs(&their_histogram));

        let bare: Family<IntGauge> = Family::new(("bare", "Some help."), &[], &[]);
        assert_eq!(written(&bare), "");
        bare.child(&[]).set(1);
        let their_bare = IntGauge::with_opts(Opts::new("bare", "Some help.")).unwrap();
        their_bare.set(1);
        assert_eq!(written(&bare), theirs(&their_bare));
    }

    #[test]
    fn label_tuples_never_share_a_series() {
        let family: Family<IntCounter> = Family::new(("a_total", "A."), &["one", "two"], &[]);
        for (tuple, count) in [(["ab", "c"], 1), (["a", "bc"], 10), (["", "abc"], 100)] {
            family.child(&tuple).inc_by(count);
        }
        assert_eq!(written(&family).lines().count(), 2 + 3);
        assert_eq!(family.child(&["a", "bc"]).get(), 10);
    }

    #[test]
    fn a_reading_takes_the_place_of_the_one_before_when_it_is_whole() {
        let rows = Rows::new(("g", "G."), &["one"]);
        let shown = || written(&rows);
        rows.push(&["a"], 2.0);
        rows.push(&["\"\\\n"], 0.5);
        rows.push(&["a"], 2.0);
        assert_eq!(shown(), "");
        rows.publish();
        let whole = "# HELP g G.\n# TYPE g gauge\ng{one=\"\\\"\\\\\\n\"} 0.5\ng{one=\"a\"} 2\n";
        assert_eq!(shown(), whole);
        rows.push(&["b"], 1.0);
        assert_eq!(shown(), whole);
        rows.publish();
        assert_eq!(shown(), "# HELP g G.\n# TYPE g gauge\ng{one=\"b\"} 1\n");
    }

    #[test]
    fn a_forgotten_name_takes_its_own_series_along_and_no_other() {
        let transitions: Family<IntCounter> =
            Family::new(names::CIRCUIT_TRANSITIONS, &["backend", "from", "to", "reason"], &[]);
        let failovers: Family<IntCounter> = Family::new(names::FAILOVERS, &["route", "from", "to"], &[]);
        let responses: Family<IntCounter> = Family::new(names::RESPONSES, &["route", "endpoint", "code"], &[]);
        for backend in ["closed", "b"] {
            transitions.child(&[backend, "closed", "open", "run"]);
            failovers.child(&["closed", backend, "c"]);
        }
        responses.child(&["b", "models", "200"]);
        let gone = |owner, name: &str| HashSet::from([Name { owner, name: name.to_owned() }]);
        let left = |family: &dyn Series| written(family).lines().filter(|line| !line.starts_with('#')).count();
        for series in [&transitions as &dyn Series, &failovers, &responses] {
            series.forget(&gone(Owner::Backend, "closed"));
            series.forget(&gone(Owner::Endpoint, "models"));
        }
        assert_eq!((left(&transitions), left(&failovers), left(&responses)), (1, 1, 1));
        failovers.forget(&gone(Owner::Backend, "c"));
        responses.forget(&gone(Owner::Route, "b"));
        assert_eq!((left(&failovers), left(&responses)), (0, 0));
    }
}
