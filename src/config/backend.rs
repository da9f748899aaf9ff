//! One callable endpoint and its policy. Defaults are those of spec/config.md 9.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::{ApiKey, BackendId, EntraIdentity, Prices};
use crate::error::ErrorType;

/// One entry of `model_list`: one callable endpoint.
#[derive(Clone, PartialEq)]
pub struct Backend {
    /// Its id.
    pub id: BackendId,
    /// Its `model_name`, the implicit route it serves.
    pub model_name: String,
    /// How it is spoken to.
    pub provider: Provider,
    /// Where it is.
    pub base_url: BaseUrl,
    /// The model it is asked for; for Azure the deployment. `*` stands for what a wildcard route matched.
    pub upstream_model: String,
    /// Its credential; none: no header is sent.
    pub credential: Option<Credential>,
    /// `OpenAI-Organization`.
    pub organization: Option<String>,
    /// Extra headers; the values are secrets.
    pub extra_headers: Vec<(String, ApiKey)>,
    /// Extra query parameters, decoded.
    pub extra_query: Vec<(String, String)>,
    /// Body fields added when the caller sent none of that name: name, and value as JSON text.
    pub request_defaults: Vec<(String, String)>,
    /// Never picked, still reachable by its own id.
    pub drained: bool,
    /// Whether `stream_options.include_usage` is added to streams (spec/wire.md 2.4). Already resolved from `auto`.
    pub inject_usage: bool,
    /// Whether calls here count as reasoning calls.
    pub reasoning: Reasoning,
    /// `model_info.max_input_tokens`: whether a prompt fits.
    pub max_input_tokens: Option<u64>,
    /// What its tokens cost, where the file says so.
    pub prices: Option<Prices>,
    /// Extra root certificates for this host.
    pub ca_file: Option<String>,
    /// Whether HTTP/2 is offered to it; none: as `defaults.http2` has it.
    pub http2: Option<bool>,
    /// What governs its breaker, quota, limits and checks.
    pub policy: BackendPolicy,
    /// Key for carrying state over a reload (spec/resilience.md 1).
    pub identity: IdentityHash,
    /// What names the credential's scope: a secret-free reference such as `env:OPENAI_API_KEY`, or `literal:` and a digest.
    pub credential_reference: String,
}

/// SHA-256 over provider, base URL, model or deployment and credential reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IdentityHash(pub [u8; 32]);

/// How a vendor is spoken to (spec/config.md 3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Provider {
    /// api.openai.com, or whatever stands at `api_base` and is declared OpenAI.
    OpenAi,
    /// Azure OpenAI by deployment URLs and `api-version`.
    AzureDated {
        /// Such as `2024-10-21`.
        api_version: String,
    },
    /// Azure OpenAI's v1 API.
    AzureV1,
    /// Any OpenAI-compatible server; the word is its prefix (`groq`, `ollama` …) or `compatible`.
    Compatible(&'static str),
}

impl Provider {
    /// The stable word for logs and `breakwater_backend_info`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::AzureDated { .. } | Self::AzureV1 => "azure",
            Self::Compatible(name) => name,
        }
    }
}

/// A credential and how it is shown.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// OpenAI and compatible: `Authorization: Bearer`. Azure with a token too.
    Bearer(ApiKey),
    /// Azure: `api-key`.
    ApiKeyHeader(ApiKey),
    /// Azure: `Authorization: Bearer` with tokens that the gateway gets and renews.
    Entra(Arc<EntraIdentity>),
}

/// A checked base URL: no user info, no query, no fragment, no trailing slash.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BaseUrl {
    /// Whether TLS is spoken.
    pub tls: bool,
    /// Host in lower case; an IPv6 address without brackets.
    pub host: String,
    /// Port, written or the scheme's.
    pub port: u16,
    /// Path prefix such as `/v1`, empty for none.
    pub path: String,
}

impl BaseUrl {
    /// `host:port`, or the host alone if the port is the scheme's: the `Host` header.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == if self.tls { 443 } else { 80 } { host } else { format!("{host}:{}", self.port) }
    }

    /// `host:port` always: the key of an endpoint and its metric label.
    pub fn endpoint(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// `reasoning:` of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reasoning {
    /// By the body's fields only.
    ByRequest,
    /// By its model's name or by word: always.
    Always,
    /// Never.
    Never,
}

/// The (b) blocks of `resilience:` for one backend, and its own limits.
#[derive(Clone, Debug, PartialEq)]
pub struct BackendPolicy {
    /// The circuit breaker.
    pub circuit_breaker: CircuitBreaker,
    /// The breaker of its host.
    pub endpoint_breaker: EndpointBreaker,
    /// Blocks and learned limits.
    pub quota: Quota,
    /// Own rules before the built-in classification.
    pub classify: Vec<ClassifyRule>,
    /// The active check.
    pub health_check: HealthCheck,
    /// Most calls at once.
    pub max_in_flight: u32,
    /// `rpm`.
    pub requests_per_minute: Option<NonZeroU32>,
    /// `tpm`.
    pub tokens_per_minute: Option<NonZeroU32>,
}

/// `circuit_breaker:` (spec/resilience.md 3.2). `None` is `off`. Ratios are kept in 1/10 000.
#[derive(Clone, Debug, PartialEq)]
pub struct CircuitBreaker {
    /// False: records metrics only, admits everything.
    pub enabled: bool,
    /// Length of the run that opens.
    pub consecutive_failures: Option<u32>,
    /// Calls before a ratio counts.
    pub minimum_calls: u32,
    /// Failures among resolved and young calls that open, in 1/10 000.
    pub failure_rate_threshold: Option<u32>,
    /// Ten buckets of this in total. Already resolved from `auto`.
    pub sliding_window: Duration,
    /// Time to first content above which a call is slow.
    pub slow_call_duration: Option<Duration>,
    /// Slow calls that open, in 1/10 000.
    pub slow_call_rate_threshold: u32,
    /// Base of the open time.
    pub wait_duration_in_open_state: Duration,
    /// Its cap.
    pub max_wait_duration_in_open_state: Duration,
    /// Share by which the open time varies either way, in 1/10 000.
    pub jitter: u32,
    /// Successes that close, and most probes at a time.
    pub half_open_calls: u32,
    /// Safety net beside the probes' leases.
    pub max_wait_duration_in_half_open_state: Option<Duration>,
    /// Closed time that forgives one level.
    pub level_decay: Duration,
    /// Ramp after closing.
    pub slow_start: Option<Duration>,
    /// Its first weight, in 1/10 000.
    pub slow_start_min_weight: u32,
}

impl Default for CircuitBreaker {
    fn default() -> Self {
        Self {
            enabled: true,
            consecutive_failures: Some(5),
            minimum_calls: 10,
            failure_rate_threshold: Some(5_000),
            sliding_window: Duration::from_secs(40),
            slow_call_duration: None,
            slow_call_rate_threshold: 8_000,
            wait_duration_in_open_state: Duration::from_secs(5),
            max_wait_duration_in_open_state: Duration::from_secs(300),
            jitter: 2_000,
            half_open_calls: 3,
            max_wait_duration_in_half_open_state: None,
            level_decay: Duration::from_secs(60),
            slow_start: Some(Duration::from_secs(30)),
            slow_start_min_weight: 1_000,
        }
    }
}

/// `endpoint_breaker:` (spec/resilience.md 3.9).
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointBreaker {
    /// False: hosts have no breaker.
    pub enabled: bool,
    /// DNS, connect and TLS failures in a row that open it.
    pub consecutive_failures: u32,
}

impl Default for EndpointBreaker {
    fn default() -> Self {
        Self { enabled: true, consecutive_failures: 5 }
    }
}

/// `quota:` (spec/resilience.md 4).
#[derive(Clone, Debug, PartialEq)]
pub struct Quota {
    /// Whether learned limits defer a backend.
    pub learned: bool,
    /// Upward share by which own back-off varies, in 1/10 000.
    pub jitter: u32,
    /// Cap on a provider's wait.
    pub max_retry_after: Duration,
    /// PTU utilization at which the backend is deferred, in 1/10 000.
    pub ptu_target_utilization: Option<u32>,
}

impl Default for Quota {
    fn default() -> Self {
        Self { learned: true, jitter: 1_000, max_retry_after: Duration::from_secs(300), ptu_target_utilization: None }
    }
}

/// One entry of `classify:`; all given parts must match.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassifyRule {
    /// HTTP status.
    pub status: Option<u16>,
    /// `error.code`.
    pub code: Option<String>,
    /// `error.type`.
    pub kind: Option<String>,
    /// Part of the message, ASCII case ignored.
    pub message_contains: Option<String>,
    /// What it means then.
    pub class: ErrorType,
}

/// `health_check:` (spec/resilience.md 5).
#[derive(Clone, Debug, PartialEq)]
pub struct HealthCheck {
    /// What is checked.
    pub kind: HealthCheckKind,
    /// Between checks.
    pub interval: Duration,
    /// Longest check.
    pub timeout: Duration,
    /// Failures in a row that make it unhealthy.
    pub unhealthy_threshold: u32,
    /// Successes in a row that make it healthy.
    pub healthy_threshold: u32,
    /// Accepted statuses.
    pub expected_status: std::ops::RangeInclusive<u16>,
}

/// `health_check.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthCheckKind {
    /// None.
    Off,
    /// TCP and TLS.
    Connect,
    /// GET the models list.
    Models,
    /// One output token, paid.
    Completion,
}

impl HealthCheckKind {
    /// The word for it in the configuration, in events and in the status document.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Connect => "connect",
            Self::Models => "models",
            Self::Completion => "completion",
        }
    }
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            kind: HealthCheckKind::Off,
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(5),
            unhealthy_threshold: 3,
            healthy_threshold: 2,
            expected_status: 200..=299,
        }
    }
}

impl Default for BackendPolicy {
    fn default() -> Self {
        Self {
            circuit_breaker: CircuitBreaker::default(),
            endpoint_breaker: EndpointBreaker::default(),
            quota: Quota::default(),
            classify: Vec::new(),
            health_check: HealthCheck::default(),
            max_in_flight: 1_024,
            requests_per_minute: None,
            tokens_per_minute: None,
        }
    }
}
