//! Families of series keyed by the tuple of their label values.
//!
//! prometheus' own vectors hash label values without a separator, so that ("ab","c") and ("a","bc") share one series. Here the
//! key is the tuple, children carry their labels as constants, and whoever counts holds the child.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{self, MetricFamily};
use prometheus::{Gauge, Histogram, HistogramOpts, IntCounter, IntGauge, Opts};

use super::names::{self, Name as Metric};

/// A metric that a family can make.
pub trait Child: Clone + Send + Sync + Collector + 'static {
    /// Makes one with constant labels; none if a name is invalid, which a test rules out.
    fn make(opts: Opts, buckets: &[f64]) -> Option<Self>;
}

impl Child for IntCounter {
    fn make(opts: Opts, _: &[f64]) -> Option<Self> {
        Self::with_opts(opts).ok()
    }
}

impl Child for IntGauge {
    fn make(opts: Opts, _: &[f64]) -> Option<Self> {
        Self::with_opts(opts).ok()
    }
}

impl Child for Gauge {
    fn make(opts: Opts, _: &[f64]) -> Option<Self> {
        Self::with_opts(opts).ok()
    }
}

impl Child for Histogram {
    fn make(opts: Opts, buckets: &[f64]) -> Option<Self> {
        Self::with_opts(HistogramOpts { common_opts: opts, buckets: buckets.to_vec() }).ok()
    }
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
    children: Mutex<BTreeMap<Vec<String>, M>>,
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
        if let Some(child) = children.get(&key) {
            return child.clone();
        }
        let opts = self
            .0
            .labels
            .iter()
            .zip(values)
            .fold(Opts::new(self.0.name.0, self.0.name.1), |opts, (label, value)| opts.const_label(*label, *value));
        #[expect(
            clippy::expect_used,
            reason = "names are constants of names.rs and a test makes a child of each family"
        )]
        let child = M::make(opts, self.0.buckets).expect("a valid metric name");
        children.insert(key, child.clone());
        child
    }

    /// The series of these label values, if it was made.
    pub fn get(&self, values: &[&str]) -> Option<M> {
        let key: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
        self.0.children.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned()
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
pub(super) trait Series: Collector {
    /// Drops every series with one of these names. A handle that is still held counts on, unseen.
    fn forget(&self, gone: &HashSet<Name>);
}

impl<M: Child> Series for Family<M> {
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

impl<M: Child> Collector for Family<M> {
    fn desc(&self) -> Vec<&Desc> {
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let children: Vec<M> =
            self.0.children.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        let mut merged: Option<MetricFamily> = None;
        for mut part in children.iter().flat_map(Collector::collect) {
            match &mut merged {
                None => merged = Some(part),
                Some(family) => family.mut_metric().extend(part.take_metric()),
            }
        }
        merged.into_iter().collect()
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

    /// The reading is whole: it takes the place of the one before.
    pub fn publish(&self) {
        let mut rows = self.0.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.whole = std::mem::take(&mut rows.going_on);
    }
}

impl Collector for Rows {
    fn desc(&self) -> Vec<&Desc> {
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let rows = self.0.rows.lock().unwrap_or_else(PoisonError::into_inner);
        if rows.whole.is_empty() {
            return Vec::new();
        }
        let metric = |(values, value): (&Vec<String>, &f64)| {
            let pair = |(name, value): (&&str, &String)| {
                let mut pair = proto::LabelPair::default();
                pair.set_name((*name).to_owned());
                pair.set_value(value.clone());
                pair
            };
            let mut gauge = proto::Gauge::default();
            gauge.set_value(*value);
            let mut metric = proto::Metric::from_label(self.0.labels.iter().zip(values).map(pair).collect());
            metric.set_gauge(gauge);
            metric
        };
        let mut family = MetricFamily::default();
        family.set_name(self.0.name.0.to_owned());
        family.set_help(self.0.name.1.to_owned());
        family.set_field_type(proto::MetricType::GAUGE);
        family.set_metric(rows.whole.iter().map(metric).collect());
        vec![family]
    }
}

impl Series for Rows {
    /// The next reading does not bring them.
    fn forget(&self, _: &HashSet<Name>) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_tuples_never_share_a_series() {
        let family: Family<IntCounter> = Family::new(("a_total", "A."), &["one", "two"], &[]);
        for (tuple, count) in [(["ab", "c"], 1), (["a", "bc"], 10), (["", "abc"], 100)] {
            family.child(&tuple).inc_by(count);
        }
        assert_eq!(family.collect()[0].get_metric().len(), 3);
        assert_eq!(family.child(&["a", "bc"]).get(), 10);
    }

    #[test]
    fn a_reading_takes_the_place_of_the_one_before_when_it_is_whole() {
        let rows = Rows::new(("g", "G."), &["one"]);
        let shown = || prometheus::TextEncoder::new().encode_to_string(&rows.collect()).unwrap();
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
        let left = |family: &dyn Collector| family.collect().first().map_or(0, |family| family.get_metric().len());
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
