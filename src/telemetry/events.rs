//! Events at edges, through tracing, to standard error (spec/observability.md 2.2). Never per request.

use std::sync::OnceLock;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::FormatTime;

use super::access_log::write_time;
use crate::clock;
use crate::config::{LogFormat, Logging};

/// Libraries that would say per request what our own line says once.
const QUIET: &str = "actix_http=off,actix_server=warn,mio=warn,awc=warn,h2=warn,rustls=warn";

/// Puts another filter in force; of the first writer of the process, which is the only one.
type SetFilter = Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>;

static SET_FILTER: OnceLock<SetFilter> = OnceLock::new();

/// Writes our clock's time, so that no other clock is read.
struct OurTime;

impl FormatTime for OurTime {
    fn format_time(&self, writer: &mut tracing_subscriber::fmt::format::Writer<'_>) -> std::fmt::Result {
        let mut text = Vec::with_capacity(24);
        write_time(&mut text, clock::unix_now());
        writer.write_str(&String::from_utf8_lossy(&text))
    }
}

/// Starts writing events. Only the first call of a process counts.
///
/// # Errors
/// What is wrong with `logging.level`.
pub fn start(logging: &Logging) -> Result<(), String> {
    let filter = filter(&logging.level).map_err(|problem| format!("logging.level {problem}"))?;
    let is_json = match logging.format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !std::io::IsTerminal::is_terminal(&std::io::stderr()),
    };
    let writer = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_timer(OurTime);
    let writer = writer.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).with_target(false);
    // A second gateway in one process, as in tests, writes to the first one's writer.
    if is_json {
        let writer = writer.json().flatten_event(true).with_filter_reloading();
        let handle = writer.reload_handle();
        if writer.try_init().is_ok() {
            let _ = SET_FILTER.set(Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string())));
        }
    } else {
        let writer = writer.with_filter_reloading();
        let handle = writer.reload_handle();
        if writer.try_init().is_ok() {
            let _ = SET_FILTER.set(Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string())));
        }
    }
    Ok(())
}

/// Changes what is written, until the process ends or it is changed again.
///
/// # Errors
/// What is wrong with the level.
pub fn set_level(level: &str) -> Result<(), String> {
    let filter = filter(level)?;
    let set = SET_FILTER.get().ok_or("events are written by another program's rules")?;
    set(filter)
}

/// Whether events can be written at a level.
///
/// # Errors
/// What is wrong with it.
pub fn check_level(level: &str) -> Result<(), String> {
    filter(level).map(|_| ())
}

fn filter(level: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(format!("{QUIET},{level}")).map_err(|error| format!("`{level}` is no filter: {error}"))
}
