//! Counts the edges that backends' actors report: looked up by label, since an edge is rare.

use std::sync::Arc;

use crate::backend::Observer;
use crate::backend::circuit_breaker::Change;
use crate::backend::machine::Edge;
use crate::config::BackendId;
use crate::telemetry::Metrics;
use crate::telemetry::labels::{ActorKind, Label as _};

/// The one observer of all backends.
pub(super) struct Edges {
    metrics: Arc<Metrics>,
}

impl Edges {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics }
    }
}

impl Observer for Edges {
    fn observe(&self, backend: &BackendId, edge: &Edge) {
        let backend = backend.as_str();
        match edge {
            Edge::Circuit(change) => {
                let labels = [backend, change.from.name(), change.to.name(), change.cause.name()];
                self.metrics.transitions.child(&labels).inc();
            }
            Edge::Blocked(blocked) if blocked.first => {
                self.metrics.blocks.child(&[backend, blocked.block.name()]).inc();
            }
            Edge::Checked(result) => self.metrics.health_checks.child(&[backend, result]).inc(),
            Edge::Probe(result) => self.metrics.probes.child(&[backend, result]).inc(),
            Edge::Late => self.metrics.late_results.child(&[backend]).inc(),
            Edge::Blocked(_) | Edge::Lifted(_) | Edge::Health(_) | Edge::Override(_) | Edge::WouldOpen(_) => {}
        }
    }

    fn observe_endpoint(&self, endpoint: &str, change: &Change) {
        self.metrics.endpoint_transitions.child(&[endpoint, change.to.name()]).inc();
    }

    fn dropped(&self, _: &BackendId, messages: usize) {
        self.metrics.messages_dropped.child(&[ActorKind::Backend.name()]).inc_by(messages as u64);
    }
}
