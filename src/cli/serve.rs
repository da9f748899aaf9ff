//! `breakwater serve`: load, say what is suspicious, serve until told to stop.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use tracing::{info, warn};

use super::arguments::Options;
use super::{INVALID, NO_ADDRESS, USAGE, fail, reload, tell};
use crate::config::{self, Admin, BlindSource, Config, Loaded, SystemSource};
use crate::proxy::upstream::tunnel::Outbound;
use crate::server::Server;
use crate::supervisor::Supervisor;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::labels::{Label as _, LogKind};
use crate::telemetry::{Metrics, events};

/// Where a configuration is looked for when none is named.
const PLACES: [&str; 4] = ["breakwater.yaml", "litellm_config.yaml", "config.yaml", "/etc/breakwater/breakwater.yaml"];

/// Serves.
pub(super) fn run(options: &Options) -> ExitCode {
    let path = match find(options) {
        Ok(path) => path,
        Err(problem) => return fail(USAGE, &problem),
    };
    let loaded = match load(&path, options) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    // Before the first event, so that a person sees them above the log.
    tell(&loaded.render(options.format));
    match actix_rt::System::new().block_on(serve(&loaded, path, options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, problem)) => fail(code, &problem),
    }
}

/// The file that is named, or the first that exists.
pub(super) fn find(options: &Options) -> Result<PathBuf, String> {
    if let Some(path) = &options.config {
        return Ok(path.clone());
    }
    let named = std::env::var_os("BREAKWATER_CONFIG").map(PathBuf::from);
    let found = named.or_else(|| PLACES.iter().map(PathBuf::from).find(|path| path.exists()));
    found.ok_or_else(|| {
        format!(
            "no configuration: name one with --config, or put one at {}\n(`breakwater demo` needs none)",
            PLACES.join(", ")
        )
    })
}

/// Loads a configuration or says everything that is wrong with it.
pub(super) fn load(path: &Path, options: &Options) -> Result<Loaded, ExitCode> {
    let loaded = if options.no_env { config::load(path, &BlindSource) } else { config::load(path, &SystemSource) };
    loaded.map_err(|report| {
        let code = if path.exists() { INVALID } else { USAGE };
        fail(code, report.render(options.format).trim_end())
    })
}

/// Command-line flags stay in force over what the file says.
pub(super) fn with_flags(config: Arc<Config>, options: &Options) -> Arc<Config> {
    let flags = (options.host, options.port, options.admin_port, options.workers);
    if flags == (None, None, None, None) {
        return config;
    }
    let mut changed = Config::clone(&config);
    changed.server.host = options.host.unwrap_or(changed.server.host);
    changed.server.port = options.port.unwrap_or(changed.server.port);
    if let Some(port) = options.admin_port {
        (changed.admin.port, changed.admin.explicit) = (port, true);
    }
    changed.server.workers = options.workers.or(changed.server.workers);
    Arc::new(changed)
}

/// Serves a configuration until a signal ends it.
async fn serve(loaded: &Loaded, path: PathBuf, options: &Options) -> Result<(), (u8, String)> {
    let config = with_flags(Arc::clone(&loaded.config), options);
    begin_events(&config)?;
    let admin = bind_admin(&config.admin)?;
    let (mut server, supervisor) = start(&config)?;
    let (levers, depth) = reload::watch(&supervisor, path, loaded, options)
        .map_err(|error| (NO_ADDRESS, format!("the file cannot be watched: {error}")))?;
    server.watched(depth);
    if let Some(listener) = admin {
        let opened = server.open_admin(listener, levers);
        opened.map_err(|error| (NO_ADDRESS, format!("the admin listener cannot serve: {error}")))?;
    }
    server.run().await;
    Ok(())
}

/// Begins to write events.
pub(super) fn begin_events(config: &Config) -> Result<(), (u8, String)> {
    events::start(&config.logging).map_err(|problem| (INVALID, problem))
}

/// Takes the operators' address before anything is started; none where the file wants none, or where the usual address is
/// taken and nobody asked for it: a second gateway on one machine must start.
fn bind_admin(admin: &Admin) -> Result<Option<TcpListener>, (u8, String)> {
    if !admin.enabled {
        return Ok(None);
    }
    if admin.token.is_none() && !admin.host.is_loopback() {
        return Err((INVALID, "BW702: the admin listener would be open to the network: set `admin.token`".to_owned()));
    }
    let address = SocketAddr::from((admin.host, admin.port));
    match Server::bind(address) {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if admin.explicit => Err((NO_ADDRESS, format!("cannot listen on {address} for operators: {error}"))),
        Err(error) => {
            warn!(%address, %error, "no admin listener: its address is taken");
            Ok(None)
        }
    }
}

/// Starts everything but the operators' door. Must run on the control arbiter.
pub(super) fn start(config: &Arc<Config>) -> Result<(Server, Supervisor), (u8, String)> {
    if config.auth.keys.is_empty() && !config.server.host.is_loopback() {
        warn!(host = %config.server.host, "no client key is configured: anyone who reaches this address can spend yours");
    }
    let outbound = Outbound::of(|name| std::env::var(name).ok()).map_err(|problem| (INVALID, problem))?;
    if let Some(outbound) = &outbound {
        info!(proxy = %outbound, "TLS upstreams are reached through a proxy");
    }
    Outbound::install(outbound);
    let address = SocketAddr::from((config.server.host, config.server.port));
    let no_address = |error| (NO_ADDRESS, format!("cannot listen on {address}: {error}"));
    let listener = Server::bind(address).map_err(no_address)?;
    let metrics = Metrics::new();
    let log = open_log(config, &metrics)?;
    let supervisor = Supervisor::start(config, metrics).map_err(|problem| (INVALID, problem))?;
    let server = Server::start(&supervisor, listener, log).map_err(no_address)?;
    Ok((server, supervisor))
}

/// The log's thread, also where no line is wanted yet: a reload may want them.
fn open_log(config: &Config, metrics: &Metrics) -> Result<Option<AccessLog>, (u8, String)> {
    let dropped = metrics.lines_dropped.child(&[LogKind::Access.name()]);
    let log = AccessLog::start(config.logging.format, dropped);
    log.map(Some).map_err(|error| (NO_ADDRESS, format!("the log's thread cannot be started: {error}")))
}
