//! Events at edges, through tracing, to standard error (spec/observability.md 2.2). Never per request.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::FormatTime;

use super::access_log::write_time;
use crate::clock;
use crate::config::{LogFormat, Logging};

/// Libraries that would say per request what our own line says once.
const QUIET: &str = "actix_http=off,actix_server=warn,mio=warn,awc=warn,h2=warn,rustls=warn";

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
    let filter = EnvFilter::try_new(format!("{QUIET},{}", logging.level))
        .map_err(|error| format!("logging.level `{}` is no filter: {error}", logging.level))?;
    let is_json = match logging.format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !std::io::IsTerminal::is_terminal(&std::io::stderr()),
    };
    let writer = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_timer(OurTime);
    let writer = writer.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    let started = if is_json {
        writer.json().flatten_event(true).with_target(false).try_init()
    } else {
        writer.with_target(false).try_init()
    };
    // A second gateway in one process, as in tests, writes to the first one's writer.
    drop(started);
    Ok(())
}
