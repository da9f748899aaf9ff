//! Notices that the configuration's files have changed, and loads them again.
//!
//! It watches directories, not files: editors and Kubernetes replace a file, and a watch on the file itself is then deaf for
//! ever. Events are only a reason to look: what counts is whether a file still says what was read (`inputs`). Where events come
//! from is `places` (which directories and names) and `ears` (the system's watch on them); `doubt` says which content must stand
//! a while before it is believed. A slow comparison runs beside the events, and a look at the directories themselves every
//! second: the watch on one that is replaced dies without a word.
//!
//! What was loaded, or why not, goes to the [`Keeper`] given at birth: no supervisor is known here.

mod doubt;
mod ears;
mod mounts;
mod places;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::{debug, info, warn};

use self::ears::Ears;
use self::places::Places;
use super::{Config, Inputs, Loaded, Reload, Report, Source, WatchMode};

/// Longest time that events which do not end may put off a reload.
const MAX_QUIET_WAIT: Duration = Duration::from_secs(2);

/// Between looks at the directories: one that is replaced takes its watch with it.
const TICK: Duration = Duration::from_secs(1);

/// Wake-ups under way: one more makes no difference, since contents are compared.
const WAKE_UPS: usize = 16;

/// Most loads of one look. A file that changes while it is read is read again, and one that is in doubt once more; one that
/// changes for ever is judged as it was last read.
const MAX_LOADS: usize = 8;

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
    pub const fn is_asked(self) -> bool {
        match self {
            Self::File | Self::Poll => false,
            Self::Signal | Self::Admin => true,
        }
    }

    /// Of two reasons the one that more depends on: who waits for the outcome must hear of it.
    const fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Admin, _) | (_, Self::Admin) => Self::Admin,
            (Self::Signal, _) | (_, Self::Signal) => Self::Signal,
            (Self::File, _) | (_, Self::File) => Self::File,
            (Self::Poll, Self::Poll) => Self::Poll,
        }
    }
}

/// What a look at the files brought.
#[derive(Debug)]
pub enum Outcome {
    /// They were loaded; the value may be the one that is in force.
    Loaded(Loaded),
    /// Everything that is wrong with them.
    Rejected(Report),
    /// The file itself is not there.
    Missing,
}

/// How changes are noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listening {
    /// By the system's file events.
    Events,
    /// By comparing the files' contents again and again.
    Polling,
    /// Not at all: only SIGHUP and the admin call load the file.
    Off,
}

impl Listening {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Events, Self::Polling, Self::Off];

    /// As metrics and the admin status call it (spec/config.md 9, `reload.mode`).
    pub const fn name(self) -> &'static str {
        match self {
            Self::Events => "notify",
            Self::Polling => "poll",
            Self::Off => "off",
        }
    }
}

/// Who has the configuration in force and takes over another one. Called on the watch's thread, which waits.
pub trait Keeper: Send {
    /// The configuration in force: what a new one is held against, and whose `reload` settings count.
    fn in_force(&self) -> Arc<Config>;

    /// Takes what was found; back when that is done.
    fn take(&self, trigger: Trigger, outcome: Outcome);

    /// Hears how changes are noticed from now on.
    fn listens(&self, how: Listening);
}

/// A running watch. Dropped, it ends.
pub struct Watch {
    wake: SyncSender<Trigger>,
    said: Arc<Said>,
}

/// What the thread is told beside its wake-ups, which may find their channel full.
#[derive(Default)]
struct Said {
    asked: Mutex<Option<Trigger>>,
    is_over: AtomicBool,
}

impl Said {
    fn ask(&self, trigger: Trigger) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        *asked = Some(asked.map_or(trigger, |before| before.or(trigger)));
    }

    /// The reason to look, with what was asked for meanwhile.
    fn with_asked(&self, trigger: Trigger) -> Trigger {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner).take();
        asked.map_or(trigger, |asked| trigger.or(asked))
    }
}

impl Watch {
    /// Starts to watch what `path` was loaded from. Every other content is loaded and handed to the keeper, on a thread of the
    /// watch's own, one at a time; also one that was saved since `inputs` were read.
    ///
    /// # Errors
    /// The system's, if it gives no thread.
    pub fn start(
        path: PathBuf,
        inputs: Inputs,
        source: Box<dyn Source + Send>,
        keeper: impl Keeper + 'static,
    ) -> std::io::Result<Self> {
        let (wake, woken) = sync_channel(WAKE_UPS);
        let said = Arc::new(Said::default());
        let watcher = Watcher {
            path,
            inputs,
            source,
            keeper,
            wake: wake.clone(),
            said: Arc::clone(&said),
            ears: None,
            listening: None,
            settings: None,
            unlooked: Duration::ZERO,
        };
        std::thread::Builder::new().name("config-watcher".to_owned()).spawn(move || watcher.run(&woken))?;
        Ok(Self { wake, said })
    }

    /// Loads again whatever the contents are, as SIGHUP and operators ask.
    pub fn reload(&self, trigger: Trigger) {
        self.said.ask(trigger);
        // Only to wake it: a look under way may take the question first, which is then not asked again. A full channel means
        // that the thread will wake anyway.
        let _ = self.wake.try_send(Trigger::File);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.said.is_over.store(true, Ordering::Relaxed);
        // A full channel wakes it as well.
        let _ = self.wake.try_send(Trigger::Poll);
    }
}

/// The thread's own.
struct Watcher<K> {
    path: PathBuf,
    /// What the files held when they were last judged.
    inputs: Inputs,
    source: Box<dyn Source + Send>,
    keeper: K,
    wake: SyncSender<Trigger>,
    said: Arc<Said>,
    ears: Option<Ears>,
    /// How changes are noticed; none before the first time.
    listening: Option<Listening>,
    /// The settings that were last acted on.
    settings: Option<Reload>,
    /// Time since the contents were last compared without an event.
    unlooked: Duration,
}

impl<K: Keeper> Watcher<K> {
    fn run(mut self, woken: &Receiver<Trigger>) {
        // What was saved between the first load and the watch is nobody's event.
        let _ = self.listen(true);
        if self.listening != Some(Listening::Off) {
            self.look(Trigger::File, woken);
        }
        while !self.said.is_over.load(Ordering::Relaxed) {
            let trigger = match woken.recv_timeout(self.tick()) {
                Ok(trigger) => Some(self.until_quiet(trigger, woken)),
                Err(RecvTimeoutError::Timeout) => self.after_tick(),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if let Some(trigger) = trigger {
                self.look(trigger, woken);
            }
        }
    }

    /// The wait for the next wake-up.
    fn tick(&self) -> Duration {
        self.interval().map_or(TICK, |interval| interval.min(TICK))
    }

    /// Time between two looks that no event asked for; none where nothing is looked for.
    fn interval(&self) -> Option<Duration> {
        let settings = self.settings.as_ref()?;
        match self.listening? {
            Listening::Events => Some(settings.rescan_interval),
            Listening::Polling => Some(settings.poll_interval),
            Listening::Off => None,
        }
    }

    /// Why to look, now that a tick has passed without an event.
    fn after_tick(&mut self) -> Option<Trigger> {
        self.unlooked = self.unlooked.saturating_add(self.tick());
        let is_moved = self.listen(false);
        let is_due = self.interval().is_some_and(|interval| interval <= self.unlooked);
        match (is_moved, is_due) {
            (true, _) => Some(Trigger::File),
            (false, true) => Some(Trigger::Poll),
            (false, false) => None,
        }
    }

    /// Listens where the files are now and as the settings want it; whether something may have been missed meanwhile. Events
    /// that could not be had are asked for `again` with every load, not with every tick.
    fn listen(&mut self, again: bool) -> bool {
        let settings = self.keeper.in_force().reload.clone();
        let is_other = self.settings.as_ref() != Some(&settings);
        let is_wanted = settings.enabled && settings.mode != WatchMode::Poll;
        let (enabled, is_forced) = (settings.enabled, settings.mode == WatchMode::Notify);
        self.settings = Some(settings);
        if !is_wanted {
            self.ears = None;
            self.tell(if enabled { Listening::Polling } else { Listening::Off });
            return is_other;
        }
        if !is_other && !again && self.listening == Some(Listening::Polling) {
            return false;
        }
        self.open_ears(is_forced) || is_other
    }

    fn open_ears(&mut self, is_forced: bool) -> bool {
        let places = Places::of(self.inputs.paths());
        let turned = match &mut self.ears {
            Some(ears) => ears.turn_to(&places),
            None => Ears::open(&places, is_forced, self.wake.clone()).map(|ears| {
                self.ears = Some(ears);
                true
            }),
        };
        match turned {
            Ok(is_moved) => {
                self.tell(Listening::Events);
                is_moved
            }
            Err(reason) => {
                self.ears = None;
                if self.listening != Some(Listening::Polling) {
                    warn!(reason, "files cannot be watched, polling instead");
                }
                self.tell(Listening::Polling);
                true
            }
        }
    }

    fn tell(&mut self, how: Listening) {
        if self.listening != Some(how) {
            self.listening = Some(how);
            self.keeper.listens(how);
        }
    }

    /// Lets a burst of events end: in-place writes are seen half-done.
    fn until_quiet(&self, mut trigger: Trigger, woken: &Receiver<Trigger>) -> Trigger {
        // None before the first look, which no event brings.
        let debounce = self.settings.as_ref().map_or(Duration::ZERO, |settings| settings.debounce);
        let until = now() + MAX_QUIET_WAIT;
        while let Ok(another) = woken.recv_timeout(debounce) {
            trigger = trigger.or(another);
            if until <= now() {
                break;
            }
        }
        trigger
    }

    /// Judges the files, if there is a reason to.
    fn look(&mut self, trigger: Trigger, woken: &Receiver<Trigger>) {
        self.unlooked = Duration::ZERO;
        let trigger = self.said.with_asked(trigger);
        if !trigger.is_asked() && self.inputs.are_current(self.source.as_ref()) {
            return debug!("config unchanged");
        }
        let (trigger, outcome) = self.load(trigger, woken);
        self.keeper.take(trigger, outcome);
        // The files may have moved with their content, and the settings changed. What is saved while nobody listens is nobody's
        // event.
        if self.listen(true) && !self.inputs.are_current(self.source.as_ref()) {
            let _ = self.wake.try_send(Trigger::File);
        }
    }

    /// Loads the files until what was read stands.
    fn load(&mut self, mut trigger: Trigger, woken: &Receiver<Trigger>) -> (Trigger, Outcome) {
        let before = self.keeper.in_force();
        let mut doubted: Option<(Inputs, Instant)> = None;
        let mut loads = 0;
        loop {
            loads += 1;
            if self.source.read(&self.path).is_err() {
                // Deleted, or between an editor's two steps: the running configuration stays.
                self.inputs = self.inputs.looked_at_again(self.source.as_ref());
                return (trigger, Outcome::Missing);
            }
            let loaded = super::load(&self.path, self.source.as_ref());
            let inputs = match &loaded {
                Ok(loaded) => &loaded.inputs,
                Err(report) => &report.inputs,
            };
            let is_torn = !inputs.are_current(self.source.as_ref());
            let wait = match doubt::wait_for(&before, &loaded, trigger.is_asked()) {
                Some(wait) => match &doubted {
                    // Events that change nothing do not make the time shorter, nor longer.
                    Some((known, until)) if known == inputs => until.checked_duration_since(now()),
                    Some(_) | None => Some(wait),
                },
                None => None,
            };
            if loads == MAX_LOADS || (!is_torn && wait.is_none()) {
                self.inputs = inputs.clone();
                return (trigger, loaded.map_or_else(Outcome::Rejected, Outcome::Loaded));
            }
            doubted = wait.map(|wait| (inputs.clone(), now() + wait));
            let pause = wait.unwrap_or(before.reload.debounce);
            trigger = self.wait(pause, trigger, woken);
        }
    }

    /// Waits that long, or until something happens to the files.
    fn wait(&self, time: Duration, trigger: Trigger, woken: &Receiver<Trigger>) -> Trigger {
        match woken.recv_timeout(time) {
            Ok(another) => {
                info!("config is still being written");
                let trigger = self.until_quiet(trigger.or(another), woken);
                self.said.with_asked(trigger)
            }
            Err(_) => trigger,
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a thread of its own, that real files and nobody's clock drive")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests;
