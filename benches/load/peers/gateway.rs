//! The gateway itself, with everything on that users have on: metrics, access log, keys, circuit breakers, quotas.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use crate::primary::{PATIENCE_MS, Primary, Upstreams};
use crate::scenario::KEY;

/// What differs between the gateways of a run.
#[derive(Clone, Copy)]
pub(crate) struct Variant {
    /// Whether it writes an access log.
    pub(crate) is_logged: bool,
    /// Client keys it knows; the load's is among them.
    pub(crate) keys: usize,
    /// Backends that work, beside those of the scenarios, and routes over them.
    pub(crate) more: (usize, usize),
    /// Told apart by a reload.
    pub(crate) weight: u32,
}

impl Variant {
    /// What most scenarios run with.
    pub(crate) const USUAL: Self = Self { is_logged: true, keys: 1, more: (0, 0), weight: 1 };
}

/// One route per primary. What would stop trying a failing primary is off, but for the circuit breakers of those that are to be
/// given up, which stay open for longer than any run.
pub(crate) fn yaml(upstreams: &Upstreams, upstream_model: &str, root: &Path, variant: Variant) -> String {
    let mut text = format!(
        "server: {{host: 127.0.0.1}}\nadmin: {{enabled: false}}\nlogging: {{level: warn, access_log: {}}}\nauth:\n  keys:\n    - {{name: load, key: {KEY}}}\n",
        variant.is_logged
    );
    for number in 1..variant.keys {
        line(&mut text, format_args!("    - {{name: client-{number}, key: sk-client-{number:020}}}"));
    }
    text.push_str(
        "resilience:\n  max_in_flight: 8192\n  endpoint_breaker: {enabled: false}\n  timeouts: {stream_total: 1h}\n  \
         retry_budget: {budget_ratio: 1.0, min_retries: 10000}\nmodel_list:\n",
    );
    let entry = |name: &str, (scheme, at): (&str, SocketAddr), resilience: &str| {
        format!(
            "  - model_name: {name}\n    litellm_params: {{model: openai/{upstream_model}, api_base: '{scheme}://{at}/v1', api_key: \
             bench, rpm: 100000000, tpm: 4000000000}}\n    resilience: {{{resilience}}}{}",
            if scheme == "https" { format!("\n    ca_file: '{}'", root.display()) } else { String::new() }
        )
    };
    line(&mut text, format_args!("{}", entry("spare", ("http", upstreams.working), "")));
    let long = "circuit_breaker: {wait_duration_in_open_state: 3600s, max_wait_duration_in_open_state: 3600s}";
    let patient = format!("{long}, timeouts: {{first_byte: {PATIENCE_MS}ms, first_token: {PATIENCE_MS}ms}}");
    let brief = format!(
        "circuit_breaker: {{wait_duration_in_open_state: 1s}}, timeouts: {{first_byte: {PATIENCE_MS}ms, first_token: {PATIENCE_MS}ms}}"
    );
    for primary in Primary::ALL {
        let (scheme, resilience) = match primary {
            Primary::Working | Primary::Paced | Primary::Slow => ("http", ""),
            Primary::Failing | Primary::Refusing => ("http", "circuit_breaker: {enabled: false}"),
            Primary::Tripped | Primary::Half => ("http", long),
            Primary::Hanging => ("http", patient.as_str()),
            Primary::Tls => ("https", ""),
            Primary::Troubled => ("http", brief.as_str()),
        };
        for (place, at) in upstreams.first(primary).into_iter().enumerate() {
            let name = format!("{}-{place}", primary.name());
            line(&mut text, format_args!("{}", entry(&name, (scheme, at), resilience)));
        }
    }
    let (backends, routes) = variant.more;
    for number in 0..backends {
        let name = format!("more-{number}");
        line(&mut text, format_args!("{}", entry(&name, ("http", upstreams.working), "")));
    }
    text.push_str("router:\n");
    for primary in Primary::ALL {
        let first = 0..upstreams.first(primary).len();
        let name = primary.name();
        match upstreams.spare(primary) {
            Some(_) => line(
                &mut text,
                format_args!(
                    "  - {{model_name: {name}, routing_strategy: fallback, models: [{{name: {name}-0, priority: 1}}, {{name: spare, priority: 2}}]}}"
                ),
            ),
            None => {
                let weight = |place| if place == 0 { variant.weight } else { 1 };
                let models: Vec<String> =
                    first.map(|place| format!("{{name: {name}-{place}, weight: {}}}", weight(place))).collect();
                line(&mut text, format_args!("  - {{model_name: {name}, models: [{}]}}", models.join(", ")));
            }
        }
    }
    for route in 0..routes {
        let models: Vec<String> = (route..backends)
            .step_by(routes)
            .enumerate()
            .map(|(place, number)| format!("{{name: more-{number}, priority: {}}}", place + 1))
            .collect();
        line(&mut text, format_args!("  - {{model_name: route-{route}, models: [{}]}}", models.join(", ")));
    }
    text
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // A write into a string does not fail.
    let _ = writeln!(text, "{arguments}");
}
