//! Which requests are traced, and the way of their spans from the workers to the exporter: bounded, and never waited for.

use std::sync::Arc;
use std::time::Duration;

use prometheus::IntCounter;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use super::labels::{AttemptKind, Label as _, SpanResult};
use super::metrics::Family;
use super::trace_context::{SpanId, TraceContext};
use crate::clock::Instant;
use crate::config;
use crate::error::ErrorType;

/// Most requests whose spans wait for the exporter: a collector that does not answer must not cost memory without end.
const QUEUE: usize = 512;

/// What the exporter gets.
pub enum Parcel {
    /// The spans of one request, in OTLP's JSON form.
    Spans(Vec<Value>),
    /// Send what there is, then say so.
    Flush(oneshot::Sender<()>),
}

/// Decides which requests are traced, and takes their spans.
#[derive(Clone)]
pub struct Tracer {
    parcels: mpsc::Sender<Parcel>,
    sample_ratio: f64,
    dropped: IntCounter,
}

impl Tracer {
    /// A tracer, and where its spans come out.
    pub fn new(sample_ratio: f64, spans: &Family<IntCounter>) -> (Self, mpsc::Receiver<Parcel>) {
        let (parcels, received) = mpsc::channel(QUEUE);
        SpanResult::ALL.iter().for_each(|result| drop(spans.child(&[result.name()])));
        let dropped = spans.child(&[SpanResult::Dropped.name()]);
        (Self { parcels, sample_ratio, dropped }, received)
    }

    /// The trace of a request, if it is to be recorded: its caller decides where it says so, else the dice.
    pub fn begin(&self, caller: Option<TraceContext>, random: &mut fastrand::Rng) -> Option<Box<RequestTrace>> {
        let context = match caller {
            Some(caller) => Some(caller).filter(|caller| caller.is_sampled),
            None => (random.f64() < self.sample_ratio).then(|| TraceContext::begin(random, true)),
        }?;
        let (span, random) = (SpanId::new(random), random.fork());
        Some(Box::new(RequestTrace { context, span, attempts: Vec::new(), random, tracer: self.clone() }))
    }

    /// Waits until all spans so far have been sent, at most so long.
    pub async fn flush(&self, limit: Duration) {
        let (done, is_done) = oneshot::channel();
        let flushed = async {
            if self.parcels.send(Parcel::Flush(done)).await.is_ok() {
                let _ = is_done.await;
            }
        };
        let _ = tokio::time::timeout(limit, flushed).await;
    }
}

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptEnd {
    /// Its answer with this status was the request's.
    Served(u16),
    /// It failed.
    Failed(ErrorType),
    /// Nobody waited for it any longer.
    Cancelled,
}

/// One attempt of a traced request.
pub struct AttemptTrace {
    /// Its span.
    pub span: SpanId,
    /// Whom it called.
    pub backend: Arc<config::Backend>,
    /// Why.
    pub kind: AttemptKind,
    /// On which tier, from 1.
    pub tier: usize,
    /// When it began.
    pub begun: Instant,
    /// What came of it and when; none while it is under way.
    pub end: Option<(AttemptEnd, Instant)>,
}

/// A request that is traced.
pub struct RequestTrace {
    /// The trace, and the caller's span.
    pub context: TraceContext,
    /// The request's own span.
    pub span: SpanId,
    /// Its attempts so far.
    pub attempts: Vec<AttemptTrace>,
    random: fastrand::Rng,
    tracer: Tracer,
}

impl RequestTrace {
    /// An attempt begins: its span.
    pub fn begin_attempt(
        &mut self,
        backend: &Arc<config::Backend>,
        kind: AttemptKind,
        tier: usize,
        begun: Instant,
    ) -> SpanId {
        let span = SpanId::new(&mut self.random);
        self.attempts.push(AttemptTrace { span, backend: Arc::clone(backend), kind, tier, begun, end: None });
        span
    }

    /// An attempt has ended, or has got its answer's head.
    pub fn end_attempt(&mut self, span: SpanId, end: AttemptEnd, at: Instant) {
        if let Some(attempt) = self.attempts.iter_mut().find(|attempt| attempt.span == span) {
            attempt.end = Some((end, at));
        }
    }

    /// Hands its spans on. Where the exporter cannot keep up they are dropped and counted.
    pub fn hand_on(&self, spans: Vec<Value>) {
        let count = spans.len() as u64;
        if self.tracer.parcels.try_send(Parcel::Spans(spans)).is_err() {
            self.tracer.dropped.inc_by(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::names;

    fn tracer(ratio: f64) -> (Tracer, mpsc::Receiver<Parcel>) {
        Tracer::new(ratio, &Family::new(names::TRACE_SPANS, &["result"], &[]))
    }

    #[test]
    fn the_caller_decides_and_else_the_dice() {
        let mut random = fastrand::Rng::with_seed(3);
        let caller = |is_sampled| {
            let mut caller = TraceContext::begin(&mut fastrand::Rng::new(), true);
            caller.is_sampled = is_sampled;
            caller
        };
        let (never, _spans) = tracer(0.0);
        let (always, _spans) = tracer(1.0);
        assert!(never.begin(None, &mut random).is_none() && always.begin(None, &mut random).is_some());
        assert!(always.begin(Some(caller(false)), &mut random).is_none());
        let known = caller(true);
        let begun = never.begin(Some(known), &mut random).unwrap();
        assert_eq!(begun.context.trace_id(), known.trace_id());
        let (half, _spans) = tracer(0.5);
        let traced = (0..1_000).filter(|_| half.begin(None, &mut random).is_some()).count();
        assert!((400..600).contains(&traced), "{traced}");
    }

    #[test]
    fn what_the_exporter_cannot_take_is_dropped_and_counted() {
        let (tracer, mut spans) = tracer(1.0);
        let trace = tracer.begin(None, &mut fastrand::Rng::with_seed(1)).unwrap();
        for _ in 0..QUEUE + 3 {
            trace.hand_on(vec![Value::Null, Value::Null]);
        }
        assert_eq!(tracer.dropped.get(), 6);
        assert!(matches!(spans.try_recv(), Ok(Parcel::Spans(first)) if first.len() == 2));
    }
}
