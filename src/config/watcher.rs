//! Notices that the configuration's files have changed, and loads them again.
//!
//! It watches directories, not files: editors and Kubernetes replace a file, and a watch on the file itself is then deaf for
//! ever. Names of events are not trusted; after a quiet moment the contents are compared. A slow comparison runs beside it in
//! any mode. What was loaded, or why not, goes to the function given at birth: no supervisor is known here.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use sha2::{Digest, Sha256};
use tracing::{debug, info, warn};

use super::{Loaded, Report, Source, WatchMode};

/// Longest time that events which do not end may put off a reload.
const MAX_QUIET_WAIT: Duration = Duration::from_secs(2);

/// A file that does not load may be half-written: it is looked at once more after this.
const SECOND_LOOK: Duration = Duration::from_secs(1);

/// Wake-ups under way: one more makes no difference, since contents are compared.
const WAKE_UPS: usize = 16;

/// What Kubernetes swaps when a ConfigMap changes; the file itself is never named.
const CONFIG_MAP_LINK: &str = "..data";

/// Why a reload happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// A file event.
    File,
    /// The slow comparison found another content.
    Poll,
    /// SIGHUP.
    Signal,
    /// An operator's call, who waits for the outcome.
    Admin,
}

impl Trigger {
    /// For the log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::File => "file event",
            Self::Poll => "polling",
            Self::Signal => "SIGHUP",
            Self::Admin => "admin call",
        }
    }

    /// Whether somebody asked for a load, so that one happens whatever the contents are.
    const fn is_asked(self) -> bool {
        match self {
            Self::File | Self::Poll => false,
            Self::Signal | Self::Admin => true,
        }
    }
}

/// What a reload brought: what was loaded, or everything that is wrong with it.
pub type Outcome = Result<Loaded, Report>;

/// A running watch. Dropped, it ends.
pub struct Watch {
    wake: SyncSender<Trigger>,
    _events: Option<RecommendedWatcher>,
}

impl Watch {
    /// Starts to watch what `path` was loaded from. Every other content is loaded and handed to `then`, on a thread of the
    /// watch's own, one at a time; also one that was saved since `loaded` was read.
    ///
    /// # Errors
    /// The system's, if it gives no thread.
    pub fn start(
        path: PathBuf,
        loaded: &Loaded,
        source: Box<dyn Source + Send>,
        then: impl Fn(Trigger, Outcome) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (settings, inputs) = (&loaded.config.reload, loaded.inputs.clone());
        let (wake, woken) = sync_channel(WAKE_UPS);
        let events = if settings.enabled { watch_events(&inputs, settings.mode, &wake) } else { None };
        let interval = match (settings.enabled, &events) {
            (false, _) => None,
            (true, Some(_)) => Some(settings.rescan_interval),
            (true, None) => Some(settings.poll_interval),
        };
        let seen = fingerprint(&inputs, source.as_ref());
        let mut looker = Looker { path, inputs, seen, debounce: settings.debounce, interval, source };
        let first = loaded.config.hash.clone();
        std::thread::Builder::new().name("config-watcher".to_owned()).spawn(move || {
            looker.catch_up(&first, &then);
            looker.run(&woken, &then);
        })?;
        Ok(Self { wake, _events: events })
    }

    /// Loads again whatever the contents are, as SIGHUP and operators ask.
    pub fn reload(&self, trigger: Trigger) {
        // A full channel means that a reload is due anyway.
        let _ = self.wake.try_send(trigger);
    }
}

/// Watches the directories of all inputs; none where that is not wanted or not possible, which is said once.
fn watch_events(inputs: &[PathBuf], mode: WatchMode, wake: &SyncSender<Trigger>) -> Option<RecommendedWatcher> {
    if mode == WatchMode::Poll {
        return None;
    }
    let names: BTreeSet<_> = inputs.iter().filter_map(|input| input.file_name().map(ToOwned::to_owned)).collect();
    let wake = wake.clone();
    let handler = move |event: notify::Result<notify::Event>| {
        let is_ours = match &event {
            Ok(event) => event.need_rescan() || (is_change(&event.kind) && names_one(event, &names)),
            Err(_) => true,
        };
        if is_ours {
            // A full channel means that a look is due anyway.
            let _ = wake.try_send(Trigger::File);
        }
    };
    let watched = notify::recommended_watcher(handler).and_then(|mut watcher| {
        for directory in directories(inputs) {
            watcher.watch(&directory, RecursiveMode::NonRecursive)?;
        }
        Ok(watcher)
    });
    watched.map_err(|error| warn!(%error, "files cannot be watched, polling instead")).ok()
}

fn is_change(kind: &EventKind) -> bool {
    // Our own reading raises access events: acting on them would never end.
    match kind {
        EventKind::Access(access) => *access == AccessKind::Close(AccessMode::Write),
        EventKind::Any | EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) | EventKind::Other => true,
    }
}

fn names_one(event: &notify::Event, names: &BTreeSet<std::ffi::OsString>) -> bool {
    event.paths.iter().filter_map(|path| path.file_name()).any(|name| name == CONFIG_MAP_LINK || names.contains(name))
}

/// The directory of each input, and of each link on the way to it.
fn directories(inputs: &[PathBuf]) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for input in inputs {
        let mut path = input.clone();
        // As many links as the system itself follows.
        for _ in 0..40 {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            found.insert(parent.to_owned());
            found.extend(parent.canonicalize());
            let Ok(next) = std::fs::read_link(&path) else { break };
            path = parent.join(next);
        }
        found.extend(input.canonicalize().ok().and_then(|real| real.parent().map(Path::to_owned)));
    }
    found
}

/// What all inputs hold; a file that cannot be read counts as such.
fn fingerprint(inputs: &[PathBuf], source: &dyn Source) -> [u8; 32] {
    let mut digest = Sha256::new();
    for input in inputs {
        match source.read(input) {
            Ok(bytes) => digest.update(Sha256::digest(&bytes)),
            Err(_) => digest.update(b"unreadable"),
        }
    }
    digest.finalize().into()
}

/// The thread's own.
struct Looker {
    path: PathBuf,
    inputs: Vec<PathBuf>,
    seen: [u8; 32],
    debounce: Duration,
    interval: Option<Duration>,
    source: Box<dyn Source + Send>,
}

impl Looker {
    fn run(&mut self, woken: &Receiver<Trigger>, then: &impl Fn(Trigger, Outcome)) {
        // Without an interval only a wake-up counts; a day is as good as never and needs no second form of waiting.
        let interval = self.interval.unwrap_or(Duration::from_secs(86_400));
        loop {
            let trigger = match woken.recv_timeout(interval) {
                Ok(trigger) => self.until_quiet(trigger, woken),
                Err(RecvTimeoutError::Timeout) if self.interval.is_some() => Trigger::Poll,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            self.look(trigger, woken, then);
        }
    }

    /// What was saved between the first load and the watch is nobody's event.
    fn catch_up(&mut self, first: &str, then: &impl Fn(Trigger, Outcome)) {
        if self.interval.is_none() {
            return;
        }
        let outcome = super::load(&self.path, self.source.as_ref());
        if outcome.as_ref().map_or(true, |loaded| loaded.config.hash != first) {
            then(Trigger::File, outcome);
        }
    }

    /// Lets a burst of events end: in-place writes are seen half-done.
    fn until_quiet(&self, mut trigger: Trigger, woken: &Receiver<Trigger>) -> Trigger {
        let mut waited = Duration::ZERO;
        while waited < MAX_QUIET_WAIT {
            match woken.recv_timeout(self.debounce) {
                // Who waits for the outcome must hear of it.
                Ok(Trigger::Admin) => trigger = Trigger::Admin,
                Ok(Trigger::Signal) if !trigger.is_asked() => trigger = Trigger::Signal,
                Ok(Trigger::Signal | Trigger::File | Trigger::Poll) => {}
                Err(_) => break,
            }
            waited += self.debounce;
        }
        trigger
    }

    #[expect(clippy::cognitive_complexity, reason = "tracing's macros count as branches")]
    fn look(&mut self, trigger: Trigger, woken: &Receiver<Trigger>, then: &impl Fn(Trigger, Outcome)) {
        let now = fingerprint(&self.inputs, self.source.as_ref());
        if now == self.seen && !trigger.is_asked() {
            debug!("config unchanged");
            return;
        }
        if self.source.read(&self.path).is_err() {
            // Deleted, or between an editor's two steps: the running configuration stays.
            if now != self.seen {
                self.seen = now;
                warn!(file = %self.path.display(), "config missing, the running one stays in force");
            }
            return;
        }
        self.seen = now;
        let mut outcome = super::load(&self.path, self.source.as_ref());
        if outcome.is_err() && woken.recv_timeout(SECOND_LOOK).is_ok() {
            info!("config is still being written");
        }
        if outcome.is_err() {
            self.seen = fingerprint(&self.inputs, self.source.as_ref());
            outcome = super::load(&self.path, self.source.as_ref());
        }
        if let Ok(loaded) = &outcome {
            self.inputs.clone_from(&loaded.inputs);
            self.seen = fingerprint(&self.inputs, self.source.as_ref());
        }
        then(trigger, outcome);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::mpsc::channel;

    use super::super::SystemSource;
    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    fn text(model: &str) -> String {
        format!(
            "server: {{host: 127.0.0.1}}\nmodel_list:\n  - model_name: {model}\n    litellm_params: {{model: m, api_key: k, api_base: 'http://127.0.0.1:9/v1'}}\n"
        )
    }

    fn with_reload(loaded: Loaded, mode: WatchMode, tick: Duration) -> Loaded {
        let mut config = super::super::Config::clone(&loaded.config);
        config.reload =
            super::super::Reload { enabled: true, mode, debounce: tick, poll_interval: tick, rescan_interval: LONG };
        Loaded { config: std::sync::Arc::new(config), ..loaded }
    }

    /// Starts a watch on a fresh directory; the receiver gets the first model of each load, or the number of problems.
    fn started(name: &str, mode: WatchMode) -> (PathBuf, Watch, Receiver<Result<String, usize>>) {
        let directory = std::env::temp_dir().join(format!("breakwater-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("config.yaml");
        fs::write(&path, text("one")).unwrap();
        let loaded = super::super::load(&path, &SystemSource).unwrap();
        let tick = Duration::from_millis(20);
        let loaded = with_reload(loaded, mode, tick);
        let (send, receive) = channel();
        let then = move |_: Trigger, outcome: Outcome| {
            let shown = outcome
                .map(|loaded| loaded.config.backends.keys().next().unwrap().to_string())
                .map_err(|report| report.problems.len());
            send.send(shown).unwrap();
        };
        let watch = Watch::start(path.clone(), &loaded, Box::new(SystemSource), then).unwrap();
        (path, watch, receive)
    }

    fn saves(name: &str, mode: WatchMode) {
        let (path, _watch, loads) = started(name, mode);
        fs::write(&path, text("two")).unwrap();
        assert_eq!(loads.recv_timeout(LONG).unwrap(), Ok("two".to_owned()), "written in place");
        let beside = path.with_extension("tmp");
        fs::write(&beside, text("three")).unwrap();
        fs::rename(&beside, &path).unwrap();
        assert_eq!(loads.recv_timeout(LONG).unwrap(), Ok("three".to_owned()), "renamed over");
        fs::write(&beside, text("four")).unwrap();
        fs::rename(&beside, &path).unwrap();
        assert_eq!(loads.recv_timeout(LONG).unwrap(), Ok("four".to_owned()), "renamed over again");
        fs::write(&path, "model_list: 7\n").unwrap();
        assert!(loads.recv_timeout(LONG).unwrap().is_err(), "a bad file is reported");
        fs::remove_file(&path).unwrap();
        fs::write(&path, text("five")).unwrap();
        assert_eq!(loads.recv_timeout(LONG).unwrap(), Ok("five".to_owned()), "deleted and made again");
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn every_way_of_saving_is_seen_by_events() {
        saves("events", WatchMode::Auto);
    }

    #[test]
    fn every_way_of_saving_is_seen_by_polling() {
        saves("polling", WatchMode::Poll);
    }

    #[test]
    fn a_signal_loads_the_same_content_again() {
        let (path, watch, loads) = started("signal", WatchMode::Auto);
        watch.reload(Trigger::Signal);
        assert_eq!(loads.recv_timeout(LONG).unwrap(), Ok("one".to_owned()));
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn a_swapped_config_map_is_seen() {
        let directory = std::env::temp_dir().join(format!("breakwater-map-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        for (version, model) in [("v1", "one"), ("v2", "two")] {
            fs::create_dir_all(directory.join(version)).unwrap();
            fs::write(directory.join(version).join("config.yaml"), text(model)).unwrap();
        }
        let (data, path) = (directory.join(CONFIG_MAP_LINK), directory.join("config.yaml"));
        std::os::unix::fs::symlink("v1", &data).unwrap();
        std::os::unix::fs::symlink("..data/config.yaml", &path).unwrap();
        let loaded = super::super::load(&path, &SystemSource).unwrap();
        let tick = Duration::from_millis(20);
        let loaded = with_reload(loaded, WatchMode::Auto, tick);
        let (send, loads) = channel();
        let then = move |_: Trigger, outcome: Outcome| {
            send.send(outcome.unwrap().config.backends.keys().next().unwrap().to_string()).unwrap();
        };
        let _watch = Watch::start(path, &loaded, Box::new(SystemSource), then).unwrap();
        let next = directory.join("..data_tmp");
        std::os::unix::fs::symlink("v2", &next).unwrap();
        fs::rename(&next, &data).unwrap();
        assert_eq!(loads.recv_timeout(LONG).unwrap(), "two");
        fs::remove_dir_all(&directory).unwrap();
    }
}
