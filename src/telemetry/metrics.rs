//! Families of series keyed by the tuple of their label values.
//!
//! prometheus' own vectors hash label values without a separator, so that ("ab","c") and ("a","bc") share one series. Here the
//! key is the tuple, children carry their labels as constants, and whoever counts holds the child.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, Histogram, HistogramOpts, IntCounter, IntGauge, Opts};

use super::names::Name;

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

struct Inner<M> {
    name: Name,
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
    pub fn new(name: Name, labels: &'static [&'static str], buckets: &'static [f64]) -> Self {
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

    /// Drops every series: those of another configuration.
    pub fn clear(&self) {
        self.0.children.lock().unwrap_or_else(PoisonError::into_inner).clear();
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
}
