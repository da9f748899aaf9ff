//! Sends spans to a collector: OTLP over HTTP, JSON. One task on the control arbiter, so that no worker waits for it.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderValue};
use actix_web::http::{Method, Uri};
use bytes::Bytes;
use prometheus::IntCounter;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use crate::clock;
use crate::config::{BaseUrl, Config};
use crate::proxy::upstream::{Limits, Request, Upstream, tls};
use crate::telemetry::labels::{Label as _, SpanResult};
use crate::telemetry::tracer::{Parcel, Tracer};
use crate::telemetry::{Metrics, spans};

/// Where a collector takes spans, below what `telemetry.otlp_endpoint` names.
const PATH: &str = "/v1/traces";

/// Spans that are sent at once.
const BATCH: usize = 512;

/// Longest time that a span waits for others: as long as OpenTelemetry's own exporters take.
const LINGER: Duration = Duration::from_secs(5);

/// Longest time that a collector may take, which spans behind it have to wait.
const SEND_LIMIT: Duration = Duration::from_secs(10);

/// Between two warnings that spans are lost.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// Where spans go.
struct Exporter {
    uri: Uri,
    host: HeaderValue,
    tls: Option<Arc<rustls::ClientConfig>>,
    service: String,
    instance: String,
    upstream: Upstream,
    exported: IntCounter,
    failed: IntCounter,
    warned_at: clock::Instant,
}

/// Starts to export, where the configuration wants it. Must run on the control arbiter.
///
/// # Errors
/// A sentence: certificates that cannot be used.
pub(super) fn start(config: &Config, metrics: &Metrics) -> Result<Option<Tracer>, String> {
    let telemetry = &config.telemetry;
    let Some(base) = &telemetry.otlp_endpoint else { return Ok(None) };
    let (tracer, parcels) = Tracer::new(telemetry.sample_ratio, &metrics.trace_spans);
    let count = |result: SpanResult| metrics.trace_spans.child(&[result.name()]);
    let tls = if base.tls { Some(tls::client_config(config.defaults.ca_file.as_deref(), false)?) } else { None };
    let not_a_url = |_| "telemetry.otlp_endpoint is no usable URL".to_owned();
    let exporter = Exporter {
        uri: uri(base).map_err(not_a_url)?,
        host: HeaderValue::from_str(&base.authority()).map_err(|_| "telemetry.otlp_endpoint has no usable host")?,
        tls,
        service: telemetry.service_name.clone(),
        instance: format!("{:016x}", fastrand::u64(..)),
        upstream: Upstream::new(),
        exported: count(SpanResult::Exported),
        failed: count(SpanResult::Failed),
        warned_at: clock::Instant::ZERO,
    };
    actix_rt::spawn(exporter.run(parcels));
    Ok(Some(tracer))
}

/// `…/v1/traces`, which may be written out.
fn uri(base: &BaseUrl) -> Result<Uri, actix_web::http::uri::InvalidUri> {
    let scheme = if base.tls { "https" } else { "http" };
    let path = base.path.strip_suffix(PATH).unwrap_or(&base.path);
    format!("{scheme}://{}{path}{PATH}", base.authority()).parse()
}

impl Exporter {
    async fn run(mut self, mut parcels: mpsc::Receiver<Parcel>) {
        let mut batch = Vec::new();
        while let Some(parcel) = parcels.recv().await {
            let mut flushed = take(parcel, &mut batch);
            let until = clock::to_tokio(clock::now().plus(LINGER));
            while flushed.is_none() && batch.len() < BATCH {
                match tokio::time::timeout_at(until, parcels.recv()).await {
                    Ok(Some(parcel)) => flushed = take(parcel, &mut batch),
                    Ok(None) | Err(_) => break,
                }
            }
            if !batch.is_empty() {
                self.send(std::mem::take(&mut batch)).await;
            }
            if let Some(flushed) = flushed {
                // Whoever asked may have gone.
                let _ = flushed.send(());
            }
        }
    }

    /// Sends spans. They are lost if the collector does not take them: it would not take more either.
    async fn send(&mut self, batch: Vec<Value>) {
        let count = batch.len() as u64;
        match self.try_send(batch).await {
            Ok(()) => self.exported.inc_by(count),
            Err(problem) => {
                self.failed.inc_by(count);
                let now = clock::now();
                if WARN_EVERY <= now.since(self.warned_at) {
                    self.warned_at = now;
                    warn!(count, problem, "spans lost");
                }
            }
        }
    }

    async fn try_send(&self, batch: Vec<Value>) -> Result<(), String> {
        let body = [Bytes::from(spans::export(&self.service, &self.instance, batch).to_string())];
        let headers = |out: &mut HeaderMap| {
            out.insert(HOST, self.host.clone());
            out.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        };
        let (uri, method) = (&self.uri, &Method::POST);
        let request = Request { uri, method, tls: self.tls.as_ref(), headers: &headers, body: &body };
        let begun = clock::now();
        let until = begun.plus(SEND_LIMIT);
        let limits = Limits { begun, connect: until, head: until };
        let mut answer = self.upstream.send(&request, limits).await.map_err(|error| format!("{error:?}"))?;
        // Read to its end, so that its connection can be used again.
        let rest = async { while let Some(Ok(_)) = answer.body.chunk().await {} };
        let _ = tokio::time::timeout_at(clock::to_tokio(until), rest).await;
        if answer.status.is_success() { Ok(()) } else { Err(format!("status {}", answer.status.as_u16())) }
    }
}

/// Puts spans into a batch; whoever wants to know when they are sent is given back.
fn take(parcel: Parcel, batch: &mut Vec<Value>) -> Option<oneshot::Sender<()>> {
    match parcel {
        Parcel::Spans(spans) => {
            batch.extend(spans);
            None
        }
        Parcel::Flush(done) => Some(done),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_may_be_written_out() {
        let base = |path: &str, tls| BaseUrl { tls, host: "h".to_owned(), port: 4_318, path: path.to_owned() };
        for (path, tls, expected) in [
            ("", false, "http://h:4318/v1/traces"),
            ("/v1/traces", true, "https://h:4318/v1/traces"),
            ("/otlp", false, "http://h:4318/otlp/v1/traces"),
        ] {
            assert_eq!(uri(&base(path, tls)).unwrap().to_string(), expected);
        }
    }
}
