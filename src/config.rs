//! The validated truth: what a configuration file means, as one immutable value.
//!
//! A [`Config`] cannot be wrong: `validate` has met every odd value and explained it. Nothing here is `Deserialize`; what the
//! YAML says is `raw`'s business. Defaults are those of spec/config.md 9, whose numbers spec/resilience.md owns.

mod build;
mod check;
mod context;
mod detect;
mod endpoint;
mod item;
mod litellm_keys;
mod load;
mod placeholder;
mod policy;
mod problem;
mod raw;
mod redact;
mod routes;
mod scalar;
mod section;
mod settings;
mod source;
mod suggest;
mod text;
mod url;
mod validate;
mod yaml;

pub use load::{load, load_text};
pub use problem::{Problem, ProblemFormat, Report, Severity};
pub use source::{Source, SystemSource};

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;

use crate::error::{ErrorSet, ErrorType};

/// The name of one backend: `model_info.id`, else its `model_name`. Used in headers, logs and metric labels.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendId(Arc<str>);

/// The name a client asks for as `model`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteName(Arc<str>);

macro_rules! name_type {
    ($name:ident) => {
        impl $name {
            /// Takes a name that has been checked: 1 to 128 printable characters.
            pub fn new(name: impl Into<Arc<str>>) -> Self {
                Self(name.into())
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

name_type!(BackendId);
name_type!(RouteName);

/// A secret: no `Debug`, no `Display`, no `Serialize`. Its text leaves only through [`ApiKey::expose`].
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(Arc<str>);

impl ApiKey {
    /// Wraps a secret.
    pub fn new(secret: impl Into<Arc<str>>) -> Self {
        Self(secret.into())
    }

    /// The secret itself: for a header to its owner or for a digest, never for a log or an error.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Everything a configuration says, compiled and checked.
pub struct Config {
    /// The listener for clients.
    pub server: Server,
    /// The listener for operators.
    pub admin: Admin,
    /// Who may call.
    pub auth: Auth,
    /// Small choices that belong to no route.
    pub defaults: Defaults,
    /// How the file is watched.
    pub reload: Reload,
    /// What is written where.
    pub logging: Logging,
    /// Every backend by its id, in the file's order.
    pub backends: IndexMap<BackendId, Arc<Backend>>,
    /// Every exact route by its name, `router` entries first, then groups, aliases and implicit ones. A name stands once:
    /// the first in the order of spec/config.md 1 rule 5.
    pub routes: IndexMap<RouteName, Arc<Route>>,
    /// Routes whose name holds one `*`, longest literal prefix first.
    pub wildcards: Vec<Arc<Route>>,
    /// First 12 hex digits of SHA-256 over the loaded files in order.
    pub hash: String,
}

/// `server:`.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// Address to listen on.
    pub host: IpAddr,
    /// Port to listen on.
    pub port: u16,
    /// HTTP workers; none means one per core.
    pub workers: Option<NonZeroU32>,
    /// Largest request body, in bytes.
    pub max_request_bytes: usize,
    /// Most requests at once over all routes.
    pub max_in_flight: Option<NonZeroU32>,
    /// How long an idle client connection stays open.
    pub keep_alive: Duration,
    /// Unready but serving for this long when asked to stop.
    pub shutdown_delay: Duration,
    /// Then running answers may take this long to finish.
    pub shutdown_timeout: Duration,
    /// Whether `/metrics` is served.
    pub metrics_enabled: bool,
    /// Whether `/metrics` needs a client key.
    pub metrics_require_auth: bool,
    /// Which of our headers answers carry.
    pub response_headers: ResponseHeaders,
    /// Certificate chain and key as PEM files, both or none.
    pub tls: Option<(String, String)>,
    /// Origins that browsers may call from; empty means no CORS header at all.
    pub cors_origins: Vec<String>,
}

/// `server.response_headers` (spec/wire.md 1.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseHeaders {
    /// All of them and LiteLLM's aliases.
    Full,
    /// The request id alone.
    Minimal,
    /// None.
    None,
}

/// `admin:`.
#[derive(Clone, PartialEq)]
pub struct Admin {
    /// Whether the listener exists.
    pub enabled: bool,
    /// Its address.
    pub host: IpAddr,
    /// Its port.
    pub port: u16,
    /// Whether the file named host or port: then a taken address is an error, else a warning.
    pub explicit: bool,
    /// Bearer token; none: open, which only loopback may be.
    pub token: Option<ApiKey>,
}

/// `auth:` and `general_settings.master_key`.
#[derive(Clone, Default, PartialEq)]
pub struct Auth {
    /// Header names read after `Authorization`, `api-key` and `x-api-key`, in lower case.
    pub header_names: Vec<String>,
    /// All keys; empty means open.
    pub keys: Vec<ClientKey>,
}

/// One client key and what it may do.
#[derive(Clone, PartialEq)]
pub struct ClientKey {
    /// Its label in logs and metrics; `master_key` for `general_settings.master_key`.
    pub name: Arc<str>,
    /// The key itself.
    pub key: ApiKey,
    /// Globs over route names; empty means all.
    pub routes: Vec<String>,
    /// Requests per minute of this key.
    pub requests_per_minute: Option<NonZeroU32>,
    /// Most requests at once of this key.
    pub max_in_flight: Option<NonZeroU32>,
}

/// `defaults:`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Defaults {
    /// Route for calls without a model and without a pin.
    pub default_route: Option<RouteName>,
    /// Whether list endpoints that show every tenant's objects are served.
    pub list_endpoints: bool,
    /// Whether `model` in answers becomes the route's name.
    pub rewrite_response_model: bool,
    /// Client headers to forward beside spec/wire.md 1.6: names or `x-*` globs, in lower case.
    pub forward_client_headers: Vec<String>,
    /// Extra root certificates for all backends.
    pub ca_file: Option<String>,
}

/// `reload:`.
#[derive(Clone, Debug, PartialEq)]
pub struct Reload {
    /// Whether file events reload; SIGHUP and the admin call always do.
    pub enabled: bool,
    /// How changes are noticed.
    pub mode: WatchMode,
    /// Quiet time before a file is read.
    pub debounce: Duration,
    /// Between looks when polling.
    pub poll_interval: Duration,
    /// Between comparisons of all inputs in any mode.
    pub rescan_interval: Duration,
}

/// `reload.mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchMode {
    /// Events, or polling where watching is impossible.
    Auto,
    /// Events only.
    Notify,
    /// Polling only.
    Poll,
}

/// `logging:`.
#[derive(Clone, Debug, PartialEq)]
pub struct Logging {
    /// A tracing filter, such as `info` or `breakwater=debug`.
    pub level: String,
    /// How lines look.
    pub format: LogFormat,
    /// Whether each request writes a line.
    pub access_log: bool,
    /// Share of first-attempt successes that is written, in 0..=1.
    pub access_log_sample: f64,
    /// Whether the line names the client's address.
    pub client_address: bool,
}

/// `logging.format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, else JSON.
    Auto,
    /// logfmt.
    Text,
    /// One JSON object a line.
    Json,
}

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
    /// Extra root certificates for this host.
    pub ca_file: Option<String>,
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

/// What clients ask for: tiers of weighted backends.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Its name; for a wildcard the pattern.
    pub name: RouteName,
    /// Where it comes from.
    pub origin: Origin,
    /// Callable but not listed.
    pub hidden: bool,
    /// Backends of equal priority, best first. Never empty, no tier is empty.
    pub tiers: Vec<Tier>,
    /// Choice within a tier.
    pub strategy: Strategy,
    /// Which failures fail over.
    pub failover_on: ErrorSet,
    /// Routes tried next.
    pub fallbacks: Vec<RouteName>,
    /// Routes tried next when the prompt was too long.
    pub context_window_fallbacks: Vec<RouteName>,
    /// Routes tried next when a content policy refused.
    pub content_policy_fallbacks: Vec<RouteName>,
    /// The (r) blocks.
    pub policy: RoutePolicy,
}

/// Where a route comes from (spec/config.md 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A `router[]` entry.
    Router,
    /// `routing_groups[]`.
    Group,
    /// `model_group_alias`.
    Alias,
    /// A `model_name`.
    Implicit,
    /// A backend's own id.
    BackendId,
    /// A `model_name` with `*`.
    Wildcard,
}

/// Backends of equal priority.
#[derive(Clone, Debug, PartialEq)]
pub struct Tier {
    /// As written, or the position.
    pub priority: u32,
    /// Its backends in file order.
    pub members: Vec<Member>,
}

/// One backend within one route.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Which.
    pub backend: BackendId,
    /// Its share; 0 drains it here.
    pub weight: f64,
    /// The time limits of a call, nearest value first (spec/config.md 1 rule 6).
    pub timeouts: AttemptTimeouts,
}

/// Time limits of one attempt (spec/resilience.md 7.2).
#[derive(Clone, Debug, PartialEq)]
pub struct AttemptTimeouts {
    /// DNS, TCP and TLS.
    pub connect: Duration,
    /// Stream: to the first content.
    pub first_token: Duration,
    /// Stream of a reasoning call: to the first content.
    pub first_token_reasoning: Duration,
    /// Unary: to the answer's head.
    pub first_byte: Duration,
    /// Unary reasoning call: to the answer's head.
    pub first_byte_reasoning: Duration,
    /// Gap between bytes or events.
    pub idle: Duration,
}

impl Default for AttemptTimeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            first_token: Duration::from_secs(30),
            first_token_reasoning: Duration::from_secs(120),
            first_byte: Duration::from_secs(120),
            first_byte_reasoning: Duration::from_secs(300),
            idle: Duration::from_secs(60),
        }
    }
}

/// `load_balance_strategy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Smooth, by weight; the default.
    WeightedRoundRobin,
    /// Smooth, equal shares.
    RoundRobin,
    /// One uniform draw.
    Random,
    /// One draw by weight.
    RandomWeighted,
    /// Fewest calls in flight per weight.
    LeastBusy,
    /// Two choices, the faster.
    LowestLatency,
}

impl Strategy {
    /// The word of the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::WeightedRoundRobin => "weighted_round_robin",
            Self::RoundRobin => "round_robin",
            Self::Random => "random",
            Self::RandomWeighted => "random_weighted",
            Self::LeastBusy => "least_busy",
            Self::LowestLatency => "lowest_latency",
        }
    }
}

/// The (r) blocks of `resilience:` for one route.
#[derive(Clone, Debug, PartialEq)]
pub struct RoutePolicy {
    /// The whole request; a stream up to its first content.
    pub total: Duration,
    /// A running stream.
    pub stream_total: Duration,
    /// Share of the time left that one attempt may take, in 1/10 000.
    pub attempt_time_share: u32,
    /// With less time left no further attempt starts.
    pub min_attempt: Duration,
    /// Attempts on this route.
    pub max_attempts: u32,
    /// Attempts with all fallback routes.
    pub max_total_attempts: u32,
    /// Same backend again.
    pub same_backend_retries: u32,
    /// Extra attempts allowed per request, in 1/10 000.
    pub retry_budget_ratio: u32,
    /// Extra attempts always allowed per 10 s.
    pub retry_budget_min: u32,
    /// Hedging, off where none.
    pub hedge: Option<Hedge>,
    /// Bytes held before the first content.
    pub holdback: usize,
    /// The same on /responses.
    pub responses_holdback: usize,
    /// After this time without content: 200 and comments.
    pub head_hold: Option<Duration>,
    /// Gap between comments.
    pub keepalive: Option<Duration>,
    /// What happens when nothing can be selected, in order; `reject` is always the implicit last.
    pub on_exhausted: Vec<OnExhausted>,
    /// Longest wait in the queue.
    pub queue_max_wait: Duration,
    /// Most requests waiting per worker and route.
    pub queue_max_size: usize,
    /// Tell SDKs when retrying is pointless.
    pub send_x_should_retry: bool,
    /// Backend names and reasons in errors and headers.
    pub expose_backends: bool,
}

/// `hedge:` where it is enabled.
#[derive(Clone, Debug, PartialEq)]
pub struct Hedge {
    /// Shortest delay.
    pub min_delay: Duration,
    /// Share of requests that may be hedged, in 1/10 000.
    pub max_extra: u32,
}

/// A word of `on_exhausted`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExhausted {
    /// The next route in `fallbacks`.
    FallbackRoute,
    /// Wait for a backend.
    Queue,
    /// The open backend soonest to expire.
    LeastBad,
    /// Answer now.
    Reject,
}

impl Default for RoutePolicy {
    fn default() -> Self {
        Self {
            total: Duration::from_secs(600),
            stream_total: Duration::from_secs(3_600),
            attempt_time_share: 10_000,
            min_attempt: Duration::from_secs(1),
            max_attempts: 3,
            max_total_attempts: 5,
            same_backend_retries: 0,
            retry_budget_ratio: 2_000,
            retry_budget_min: 3,
            hedge: None,
            holdback: 64 << 10,
            responses_holdback: 256 << 10,
            head_hold: None,
            keepalive: Some(Duration::from_secs(15)),
            on_exhausted: vec![OnExhausted::FallbackRoute, OnExhausted::Reject],
            queue_max_wait: Duration::from_secs(2),
            queue_max_size: 128,
            send_x_should_retry: true,
            expose_backends: true,
        }
    }
}

/// A configuration that was read and found usable.
pub struct Loaded {
    /// What it means.
    pub config: Arc<Config>,
    /// Warnings and notes, sorted by file and position.
    pub warnings: Vec<Problem>,
    /// Every file it was read from, for the watcher.
    pub inputs: Vec<std::path::PathBuf>,
    /// For each file the lines that warnings name, for showing them; others are empty and secrets hidden.
    pub sources: BTreeMap<String, String>,
}

impl Loaded {
    /// Writes all warnings and notes, each ending with a line break.
    pub fn render(&self, format: ProblemFormat) -> String {
        problem::render(&self.warnings, &self.sources, format)
    }
}

#[cfg(test)]
mod tests;
