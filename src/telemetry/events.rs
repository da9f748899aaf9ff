//! Events at edges, through tracing, to standard error (spec/observability.md 2.2). Never per request.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::{Mutex, OnceLock, PoisonError};

use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use super::figures::write_time;
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

/// Most events that are kept for the status document (spec/observability.md 6).
const MAX_RECENT: usize = 200;

/// Longest text of a field among them, in characters: a rejected file may have much to say, and it is in the log.
const MAX_TEXT: usize = 300;

/// The latest events, oldest first. Written at edges alone, so that nobody waits for it on a request's way.
static RECENT: Mutex<VecDeque<Value>> = Mutex::new(VecDeque::new());

/// The latest events as they were written, newest first.
pub fn recent() -> Vec<Value> {
    RECENT.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().cloned().collect()
}

/// Keeps what the gateway itself says.
struct Recent;

impl<S: Subscriber> Layer<S> for Recent {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        if *metadata.level() > Level::INFO || !metadata.target().starts_with(env!("CARGO_PKG_NAME")) {
            return;
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut at = Vec::with_capacity(24);
        write_time(&mut at, clock::unix_now());
        let level = metadata.level().as_str().to_ascii_lowercase();
        let shown = json!({
            "at": String::from_utf8_lossy(&at), "level": level, "message": fields.message, "fields": fields.others,
        });
        let mut recent = RECENT.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() == MAX_RECENT {
            recent.pop_front();
        }
        recent.push_back(shown);
    }
}

/// The fields of one event.
#[derive(Default)]
struct Fields {
    message: String,
    others: Map<String, Value>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        self.others.insert(field.name().to_owned(), value);
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let text: String = value.chars().take(MAX_TEXT).collect();
        if field.name() == "message" {
            self.message = text;
        } else {
            self.put(field, text.into());
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
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
        if writer.finish().with(Recent).try_init().is_ok() {
            let _ = SET_FILTER.set(Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string())));
        }
    } else {
        let writer = writer.with_filter_reloading();
        let handle = writer.reload_handle();
        if writer.finish().with(Recent).try_init().is_ok() {
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
