//! What concerns the process: listeners, client keys, reload, logging.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::{ApiKey, BaseUrl, RouteName};

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
    /// Whether the metrics are written under LiteLLM's names as well.
    pub metrics_litellm_names: bool,
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
    /// Where the token comes from, such as `env:ADMIN_TOKEN`; empty without one. Holds no secret.
    pub token_reference: String,
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
    /// Where its key comes from, such as `env:BATCH_KEY`; holds no secret.
    pub key_reference: String,
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
    /// Whether HTTP/2 is offered to backends that say nothing themselves.
    pub http2: bool,
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
    /// What happens if a new configuration does worse than the one before.
    pub rollback: Rollback,
}

/// `reload.rollback`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rollback {
    /// Whether the configuration before comes back by itself.
    pub enabled: bool,
    /// How long changed routes are watched, and how far back "before" reaches.
    pub watch: Duration,
    /// The success ratio below which a changed route must not fall, in 1/10 000.
    pub min_success_ratio: u32,
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

/// `telemetry:`: spans over OTLP/HTTP.
#[derive(Clone, Debug, PartialEq)]
pub struct Telemetry {
    /// The collector; none: no spans are made.
    pub otlp_endpoint: Option<BaseUrl>,
    /// What the process calls itself.
    pub service_name: String,
    /// Share of the requests without a traced caller that are traced, in 0..=1.
    pub sample_ratio: f64,
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
