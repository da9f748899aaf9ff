//! The same counts under LiteLLM's names, for those whose dashboards and alerts know these (spec/observability.md 1.6).
//!
//! Written anew for each scrape out of the families as they stand: a request pays nothing for it. Labels for users, teams and
//! keys are left out, which PromQL reads as empty.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use prometheus::Histogram;
use prometheus::core::Metric as _;

use super::Metrics;
use crate::config::{Backend, Config};
use crate::telemetry::metrics::{Child, Family, label_text, write_head};
use crate::telemetry::names::Name;

/// Values by their labels as they are written.
type Values = BTreeMap<String, f64>;

/// Sums of histograms by their labels as they are written.
type Histograms = BTreeMap<String, Sum>;

/// Several histograms with the same buckets, added.
#[derive(Default)]
struct Sum {
    buckets: Vec<(f64, u64)>,
    sum: f64,
    count: u64,
}

impl Sum {
    fn add(&mut self, histogram: &Histogram) {
        let metric = histogram.metric();
        let histogram = metric.get_histogram();
        let buckets = histogram.get_bucket();
        if self.buckets.is_empty() {
            self.buckets = buckets.iter().map(|bucket| (bucket.upper_bound(), 0)).collect();
        }
        for (own, bucket) in self.buckets.iter_mut().zip(buckets) {
            own.1 += bucket.cumulative_count();
        }
        self.sum += histogram.get_sample_sum();
        self.count += histogram.get_sample_count();
    }
}

/// A backend in LiteLLM's words.
struct Deployment {
    model: String,
    id: String,
    base: String,
    provider: &'static str,
}

impl Deployment {
    fn of(backend: &Backend) -> Self {
        let scheme = if backend.base_url.tls { "https" } else { "http" };
        Self {
            model: backend.upstream_model.clone(),
            id: backend.id.as_str().to_owned(),
            base: format!("{scheme}://{}", backend.base_url.authority()),
            provider: backend.provider.name(),
        }
    }

    fn whole(&self) -> [(&'static str, &str); 4] {
        [
            ("litellm_model_name", &self.model),
            ("model_id", &self.id),
            ("api_base", &self.base),
            ("api_provider", self.provider),
        ]
    }

    fn short(&self) -> [(&'static str, &str); 3] {
        [("model", &self.model), ("model_id", &self.id), ("api_provider", self.provider)]
    }
}

fn labels(pairs: &[(&'static str, &str)]) -> String {
    let (names, values): (Vec<&str>, Vec<String>) =
        pairs.iter().map(|(name, value)| (*name, (*value).to_owned())).unzip();
    label_text(&names, &values)
}

fn with<const N: usize>(pairs: [(&'static str, &str); N], more: &[(&'static str, &str)]) -> String {
    labels(&[&pairs[..], more].concat())
}

/// LiteLLM's class of an error by ours; none where no provider is to blame.
fn exception_class(outcome: &str) -> Option<&'static str> {
    Some(match outcome {
        "rate_limit_error" | "insufficient_quota_error" => "RateLimitError",
        "service_unavailable_error" => "ServiceUnavailableError",
        "api_connection_error" => "APIConnectionError",
        "timeout_error" => "Timeout",
        "authentication_error" => "AuthenticationError",
        "permission_denied_error" => "PermissionDeniedError",
        "not_found_error" => "NotFoundError",
        "context_window_exceeded_error" => "ContextWindowExceededError",
        "content_policy_violation_error" => "ContentPolicyViolationError",
        "bad_request_error" => "BadRequestError",
        _ => return None,
    })
}

/// What stands in the place of a path.
fn path(endpoint: &str) -> String {
    format!("/v1/{}", endpoint.replace('_', "/"))
}

/// Writes a family of counters or gauges; nothing where there are none.
fn put(out: &mut String, name: Name, kind: &str, values: &Values) {
    if values.is_empty() {
        return;
    }
    write_head(out, name, kind);
    for (labels, value) in values {
        let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{}{labels} {value}", name.0);
    }
}

fn put_histogram(out: &mut String, name: Name, histograms: &Histograms) {
    if histograms.is_empty() {
        return;
    }
    write_head(out, name, "histogram");
    for (labels, sum) in histograms {
        let comma = if labels.is_empty() { "" } else { "," };
        for (bound, count) in &sum.buckets {
            let _ = writeln!(out, "{}_bucket{{{labels}{comma}le=\"{bound}\"}} {count}", name.0);
        }
        let _ = writeln!(out, "{}_bucket{{{labels}{comma}le=\"+Inf\"}} {}", name.0, sum.count);
        let braced = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        let _ = writeln!(out, "{0}_sum{braced} {1}\n{0}_count{braced} {2}", name.0, sum.sum, sum.count);
    }
}

/// Adds up a family's children by what `key` makes of their label values; those of which it makes nothing are left out.
fn add_up<M: Child>(
    family: &Family<M>,
    key: impl Fn(&[String]) -> Option<String>,
    value: impl Fn(&M) -> f64,
) -> Values {
    let mut values = Values::new();
    for (labels, child) in family.snapshot() {
        if let Some(key) = key(&labels) {
            *values.entry(key).or_default() += value(&child);
        }
    }
    values
}

fn add_histograms(family: &Family<Histogram>, key: impl Fn(&[String]) -> Option<String>) -> Histograms {
    let mut sums = Histograms::new();
    for (labels, child) in family.snapshot() {
        if let Some(key) = key(&labels) {
            sums.entry(key).or_default().add(&child);
        }
    }
    sums
}

impl Metrics {
    /// Appends what LiteLLM's names say of this configuration's routes and backends. Text format 0.0.4.
    pub fn encode_litellm(&self, config: &Config, out: &mut String) {
        let deployments: HashMap<&str, Deployment> =
            config.backends.values().map(|backend| (backend.id.as_str(), Deployment::of(backend))).collect();
        self.put_requests(out);
        self.put_calls(&deployments, out);
        self.put_standing(&deployments, out);
        self.put_tokens(&deployments, out);
    }

    fn put_requests(&self, out: &mut String) {
        let of = |v: &[String], status: &'static str| {
            labels(&[("requested_model", &v[0]), ("route", &path(&v[1])), (status, &v[2])])
        };
        let count = |child: &prometheus::IntCounter| child.get() as f64;
        let all = add_up(&self.responses, |v| Some(of(v, "status_code")), count);
        let name = ("litellm_proxy_total_requests_metric_total", "Requests that were answered.");
        put(out, name, "counter", &all);
        let is_failed = |v: &[String]| v[2].parse::<u16>().is_ok_and(|code| 400 <= code);
        let failed = add_up(&self.responses, |v| is_failed(v).then(|| of(v, "exception_status")), count);
        let name = ("litellm_proxy_failed_requests_metric_total", "Requests that were answered by an error.");
        put(out, name, "counter", &failed);
        let route = |v: &[String]| Some(labels(&[("requested_model", &v[0])]));
        let name = ("litellm_request_total_latency_metric", "From a request to the end of its answer, in seconds.");
        put_histogram(out, name, &add_histograms(&self.durations, route));
        let name = ("litellm_overhead_latency_metric", "What the gateway added until an answer's head, in seconds.");
        put_histogram(out, name, &add_histograms(&self.overheads, |_| Some(String::new())));
        let in_flight = add_up(&self.in_flight, |_| Some(String::new()), |child| child.get() as f64);
        put(out, ("litellm_in_flight_requests", "Requests under way."), "gauge", &in_flight);
    }

    fn put_calls(&self, deployments: &HashMap<&str, Deployment>, out: &mut String) {
        let short = |backend: &String| Some(labels(&deployments.get(backend.as_str())?.short()));
        let served = |v: &[String]| if v[1] == "success" { short(&v[0]) } else { None };
        let name = (
            "litellm_llm_api_latency_metric",
            "From a call to the end of its answer, of those that served, in seconds.",
        );
        put_histogram(out, name, &add_histograms(&self.attempt_durations, served));
        let name = ("litellm_llm_api_time_to_first_token_metric", "From a call to its first content, in seconds.");
        put_histogram(out, name, &add_histograms(&self.attempt_first_token, |v| short(&v[0])));
        let deployment = |v: &[String], more: &[(&'static str, &str)]| {
            let more = [&[("requested_model", v[0].as_str())][..], more].concat();
            Some(with(deployments.get(v[1].as_str())?.whole(), &more))
        };
        let count = |child: &prometheus::IntCounter| child.get() as f64;
        let is_success = |v: &[String]| v[2] == "success";
        let counted = |v: &[String]| is_success(v) || exception_class(&v[2]).is_some();
        let all = |v: &[String]| if counted(v) { deployment(v, &[]) } else { None };
        put(
            out,
            ("litellm_deployment_total_requests_total", "Calls to a deployment."),
            "counter",
            &add_up(&self.attempts, all, count),
        );
        let good = |v: &[String]| if is_success(v) { deployment(v, &[]) } else { None };
        put(
            out,
            ("litellm_deployment_success_responses_total", "Calls that a deployment served."),
            "counter",
            &add_up(&self.attempts, good, count),
        );
        let bad = |v: &[String]| deployment(v, &[("exception_class", exception_class(&v[2])?)]);
        put(
            out,
            ("litellm_deployment_failure_responses_total", "Calls that a deployment failed."),
            "counter",
            &add_up(&self.attempts, bad, count),
        );
        for (result, name) in [
            ("served", ("litellm_deployment_successful_fallbacks_total", "Fallbacks that served.")),
            ("failed", ("litellm_deployment_failed_fallbacks_total", "Fallbacks that did not.")),
        ] {
            let of = |v: &[String]| {
                (v[3] == result).then(|| labels(&[("requested_model", &v[0]), ("fallback_model", &v[1])]))
            };
            put(out, name, "counter", &add_up(&self.fallbacks, of, count));
        }
    }

    /// What is known of deployments now; the readings of this scrape.
    fn put_standing(&self, deployments: &HashMap<&str, Deployment>, out: &mut String) {
        let whole = |backend: &str| Some(labels(&deployments.get(backend)?.whole()));
        let mut state = Values::new();
        for (v, value) in self.circuit_state.snapshot() {
            let Some(key) = whole(&v[0]) else { continue };
            state.insert(key, value);
        }
        for (v, value) in self.selectable.snapshot() {
            let Some(key) = whole(&v[0]) else { continue };
            let known = state.entry(key).or_default();
            if value == 0.0 && *known == 0.0 {
                *known = 1.0;
            }
        }
        put(out, ("litellm_deployment_state", "0 healthy, 1 partial outage, 2 complete outage."), "gauge", &state);
        let count = |child: &prometheus::IntCounter| child.get() as f64;
        let mut cooled = add_up(&self.transitions, |v| if v[2] == "open" { whole(&v[0]) } else { None }, count);
        for (key, value) in add_up(&self.blocks, |v| whole(&v[0]), count) {
            *cooled.entry(key).or_default() += value;
        }
        put(out, ("litellm_deployment_cooled_down_total", "Openings of the circuit, and blocks."), "counter", &cooled);
        for (rows, key, name) in [
            (
                &self.ratelimit_remaining,
                "requests",
                ("litellm_remaining_requests_metric", "Requests left, by the provider."),
            ),
            (&self.ratelimit_remaining, "tokens", ("litellm_remaining_tokens_metric", "Tokens left, by the provider.")),
            (
                &self.backend_limit,
                "rpm",
                ("litellm_deployment_rpm_limit", "Requests per minute, by the configuration."),
            ),
            (&self.backend_limit, "tpm", ("litellm_deployment_tpm_limit", "Tokens per minute, by the configuration.")),
        ] {
            let of_key = rows.snapshot().into_iter().filter(|(v, _)| v[1] == key);
            let values = of_key.filter_map(|(v, value)| Some((whole(&v[0])?, value))).collect();
            put(out, name, "gauge", &values);
        }
    }

    fn put_tokens(&self, deployments: &HashMap<&str, Deployment>, out: &mut String) {
        let model = |v: &[String]| {
            Some(labels(&[("requested_model", &v[0]), ("model", &deployments.get(v[1].as_str())?.model)]))
        };
        let count = |child: &prometheus::IntCounter| child.get() as f64;
        for (kind, name) in [
            ("input", ("litellm_input_tokens_metric_total", "Prompt tokens as reported.")),
            ("output", ("litellm_output_tokens_metric_total", "Completion tokens as reported.")),
            ("", ("litellm_total_tokens_metric_total", "Tokens as reported.")),
        ] {
            let of_kind = |v: &[String]| if kind.is_empty() || v[2] == kind { model(v) } else { None };
            put(out, name, "counter", &add_up(&self.tokens, of_kind, count));
        }
        let name = ("litellm_spend_metric_total", "Tokens by their prices, in US dollars.");
        put(out, name, "counter", &add_up(&self.cost, model, prometheus::Counter::get));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorType;
    use crate::telemetry::labels::{AttemptOutcome, Label as _};

    #[test]
    fn every_kind_of_failure_has_a_class() {
        for outcome in AttemptOutcome::ALL {
            let is_failure = matches!(outcome, AttemptOutcome::Failure(_));
            assert_eq!(exception_class(outcome.name()).is_some(), is_failure, "{}", outcome.name());
        }
        let timeout = AttemptOutcome::Failure(ErrorType::Timeout);
        assert_eq!(exception_class(timeout.name()), Some("Timeout"));
        assert_eq!(path("chat_completions"), "/v1/chat/completions");
    }
}
