//! What reloads have brought, and the levers that start one.
//!
//! The file and its watch are the command line's; the front door gets these two functions at birth and keeps the reports.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{broadcast, mpsc, oneshot};

use super::document::time;
use crate::clock::Instant;
use crate::config::Problem;
use crate::config::diff::Change;
use crate::config::watcher::{Listening, Trigger};
use crate::telemetry::labels::{Label as _, ReloadResult};

/// Reports that are kept (spec/observability.md 6).
const KEPT: usize = 20;

/// Most problems that a report shows: a file with more is wrong as a whole.
const MAX_PROBLEMS: usize = 100;

/// Most changes that a report shows: who rewrites a whole file compares the files.
const MAX_CHANGES: usize = 100;

/// Longest wait for the report of a reload: a load takes milliseconds, a half-written file a second look.
const REPORT_WAIT: Duration = Duration::from_secs(10);

/// Why the configuration changed, or was to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Its file was read.
    File(Trigger),
    /// It did worse than the one before (`reload.rollback`).
    Rollback,
    /// An operator wanted the one before.
    RollbackByHand,
}

impl Cause {
    /// For the log and the status document.
    pub const fn name(self) -> &'static str {
        match self {
            Self::File(trigger) => trigger.name(),
            Self::Rollback => "rollback",
            Self::RollbackByHand => "rollback by hand",
        }
    }
}

/// What one reload brought, or what one would bring.
#[derive(Clone, Debug)]
pub struct ReloadReport {
    /// When it ended, since the epoch.
    pub at: Duration,
    /// What came of it.
    pub result: ReloadResult,
    /// What set it off.
    pub cause: Cause,
    /// Whether it was a rehearsal: then nothing has changed.
    pub dry_run: bool,
    /// Hash of the configuration before.
    pub from: String,
    /// Hash of the one that was loaded; none if it cannot be used.
    pub to: Option<String>,
    /// How long it took to apply.
    pub took: Duration,
    /// What comes, goes and changes.
    pub changes: Vec<Change>,
    /// Keys whose values in the file wait for a restart.
    pub restart: Vec<String>,
    /// Everything to say about the file, without secrets.
    pub problems: Vec<Problem>,
    /// Why a file without an error could not be applied; without secrets.
    pub refused: Option<String>,
    /// Why the configuration before came back.
    pub because: Option<String>,
}

impl ReloadReport {
    /// Of a reload that has begun at `at`, the time since the epoch, over the configuration with the hash `from`: nothing
    /// stands against it yet.
    pub(crate) fn begun(cause: Cause, from: String, at: Duration) -> Self {
        Self {
            at,
            result: ReloadResult::Applied,
            cause,
            dry_run: false,
            from,
            to: None,
            took: Duration::ZERO,
            changes: Vec::new(),
            restart: Vec::new(),
            problems: Vec::new(),
            refused: None,
            because: None,
        }
    }

    /// What comes, goes and changes, a line each; beyond `most` the rest is counted.
    pub fn told(&self, most: usize) -> Vec<String> {
        let mut lines: Vec<String> = self.changes.iter().take(most).map(Change::to_string).collect();
        if most < self.changes.len() {
            lines.push(format!("and {} more", self.changes.len() - most));
        }
        lines
    }

    /// Whether the file cannot be used.
    pub fn is_rejected(&self) -> bool {
        self.result == ReloadResult::Rejected
    }

    /// The report as operators read it.
    pub(super) fn shown(&self) -> Value {
        let problems = self.problems.iter().take(MAX_PROBLEMS).map(|problem| {
            json!({
                "code": problem.code, "severity": problem.severity.name(), "file": problem.file, "path": problem.path,
                "line": problem.line, "message": problem.message, "help": problem.help,
            })
        });
        json!({
            "at": time(self.at),
            "result": self.result.name(),
            "trigger": self.cause.name(),
            "dry_run": self.dry_run,
            "from": self.from,
            "to": self.to,
            "took_ms": self.took.as_millis() as u64,
            "changes": self.told(MAX_CHANGES),
            "restart_required": self.restart,
            "problems": problems.collect::<Vec<_>>(),
            "refused": self.refused,
            "because": self.because,
        })
    }
}

/// How the file on the disk stands to the configuration in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDisk {
    /// It is in force.
    #[default]
    InForce,
    /// It cannot be used: an earlier one is in force.
    Rejected,
    /// There is none: an earlier one is in force.
    Missing,
    /// It was in force and did worse than the one before, which is in force again.
    RolledBack,
}

/// A configuration that may still go back by itself.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The routes that are watched.
    pub routes: Vec<String>,
    /// Until when.
    pub until: Instant,
}

impl OnDisk {
    /// The word of the status document (spec/observability.md 6).
    pub const fn name(self) -> &'static str {
        match self {
            Self::InForce => "in_force",
            Self::Rejected => "rejected",
            Self::Missing => "missing",
            Self::RolledBack => "rolled_back",
        }
    }
}

/// The configuration in force and its past, as of one moment.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// Hash of the configuration that every worker routes by.
    pub hash: String,
    /// How the file stands to it.
    pub on_disk: OnDisk,
    /// Hashes of the configurations that can come back, the next one first.
    pub earlier: Vec<String>,
    /// The trial under way.
    pub trial: Option<Trial>,
}

/// All that operators are shown.
#[derive(Default)]
struct Known {
    standing: Standing,
    watch: Option<Listening>,
    recent: VecDeque<Arc<ReloadReport>>,
}

/// One moment of what is known: it agrees with itself.
pub(super) struct Shown {
    pub(super) standing: Standing,
    /// How changes of the file are noticed; none before that is known.
    pub(super) watch: Option<Listening>,
    /// All reports that are kept, newest first.
    pub(super) recent: Vec<Arc<ReloadReport>>,
}

/// The last reports, and how the file is doing.
pub struct Reloads {
    known: Mutex<Known>,
    told: broadcast::Sender<Arc<ReloadReport>>,
}

impl Reloads {
    /// Of a process that has begun with the configuration of that hash.
    pub fn new(hash: String) -> Self {
        let known = Known { standing: Standing { hash, ..Standing::default() }, ..Known::default() };
        Self { known: Mutex::new(known), told: broadcast::channel(KEPT).0 }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows what stands now together with the report of what brought it, and tells whoever waits for that.
    pub fn show(&self, standing: Standing, report: Option<ReloadReport>) {
        let report = report.map(Arc::new);
        let mut known = self.known();
        known.standing = standing;
        if let Some(report) = report {
            known.recent.truncate(KEPT - 1);
            known.recent.push_front(Arc::clone(&report));
            drop(known);
            // Nobody has to be waiting.
            let _ = self.told.send(report);
        }
    }

    /// Says how changes of the file are noticed.
    pub fn set_watch(&self, how: Listening) {
        self.known().watch = Some(how);
    }

    /// Everything, as of this moment.
    pub(super) fn shown(&self) -> Shown {
        let known = self.known();
        Shown { standing: known.standing.clone(), watch: known.watch, recent: known.recent.iter().cloned().collect() }
    }
}

/// Starts a reload; its report goes to [`Reloads`].
pub type Trip = Box<dyn Fn() + Send + Sync>;

/// Loads the file and says what it would bring. Reads the disk: not for a worker's thread.
pub type Rehearse = Arc<dyn Fn() -> ReloadReport + Send + Sync>;

/// An operator's call for the configuration before; none comes back where there is none.
pub type BackCall = oneshot::Sender<Option<ReloadReport>>;

/// Who changes configurations did not answer in time.
#[derive(Debug)]
pub struct NoAnswer;

/// How many finds of the watch wait to be dealt with.
pub type Depth = Arc<dyn Fn() -> usize + Send + Sync>;

/// What operators can do about the file.
pub struct Levers {
    /// Where reports are found.
    pub reloads: Arc<Reloads>,
    trip: Trip,
    rehearse: Rehearse,
    back: mpsc::Sender<BackCall>,
    /// One call at a time, so that each hears of a load that began after it.
    turn: tokio::sync::Mutex<()>,
}

impl Levers {
    /// The levers of a watched file.
    pub fn new(reloads: Arc<Reloads>, trip: Trip, rehearse: Rehearse, back: mpsc::Sender<BackCall>) -> Self {
        Self { reloads, trip, rehearse, back, turn: tokio::sync::Mutex::default() }
    }

    /// Loads the file again and waits for what comes of it; none if that takes too long, as when the file is gone.
    pub(super) async fn reload(&self) -> Option<Arc<ReloadReport>> {
        let _turn = self.turn.lock().await;
        let mut told = self.reloads.told.subscribe();
        (self.trip)();
        let ours = async {
            loop {
                match told.recv().await {
                    Ok(report) if report.cause == Cause::File(Trigger::Admin) => return Some(report),
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        };
        tokio::time::timeout(REPORT_WAIT, ours).await.ok().flatten()
    }

    /// Puts the configuration before in force again; none if there is none.
    ///
    /// # Errors
    /// Nobody answers in time.
    pub(super) async fn roll_back(&self) -> Result<Option<ReloadReport>, NoAnswer> {
        let (call, answered) = oneshot::channel();
        let done = async {
            self.back.send(call).await.map_err(|_| NoAnswer)?;
            answered.await.map_err(|_| NoAnswer)
        };
        tokio::time::timeout(REPORT_WAIT, done).await.map_err(|_| NoAnswer)?
    }

    /// Says what the file as it now stands would bring.
    pub(super) async fn check(&self) -> Option<Arc<ReloadReport>> {
        let rehearse = Arc::clone(&self.rehearse);
        actix_web::web::block(move || rehearse()).await.ok().map(Arc::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(trigger: Trigger, from: &str) -> ReloadReport {
        ReloadReport::begun(Cause::File(trigger), from.to_owned(), Duration::ZERO)
    }

    #[test]
    fn the_newest_are_kept() {
        let reloads = Reloads::new("first".to_owned());
        for number in 0..KEPT + 5 {
            reloads.show(Standing::default(), Some(report(Trigger::File, &number.to_string())));
        }
        let kept: Vec<String> = reloads.shown().recent.iter().map(|report| report.from.clone()).collect();
        assert_eq!((kept.len(), kept[0].as_str(), kept[KEPT - 1].as_str()), (KEPT, "24", "5"));
    }

    #[test]
    fn what_is_shown_is_of_one_moment() {
        let reloads = Reloads::new("first".to_owned());
        assert_eq!((reloads.shown().standing.hash.as_str(), reloads.shown().recent.len()), ("first", 0));
        let second = Standing { hash: "second".to_owned(), earlier: vec!["first".to_owned()], ..Standing::default() };
        reloads.show(second, Some(report(Trigger::File, "first")));
        let Shown { standing, recent, .. } = reloads.shown();
        assert_eq!((standing.hash.as_str(), standing.earlier), ("second", vec![recent[0].from.clone()]));
        reloads.show(Standing { on_disk: OnDisk::Missing, ..Standing::default() }, None);
        assert_eq!((reloads.shown().standing.on_disk, reloads.shown().recent.len()), (OnDisk::Missing, 1));
    }

    #[actix::test]
    async fn a_caller_hears_of_its_own_reload_and_not_of_another() {
        let reloads = Arc::new(Reloads::new(String::new()));
        let tells = Arc::clone(&reloads);
        let trip = Box::new(move || {
            for (trigger, from) in [(Trigger::File, "another"), (Trigger::Admin, "ours")] {
                tells.show(Standing::default(), Some(report(trigger, from)));
            }
        });
        let (back, mut called) = mpsc::channel(1);
        let rehearse: Rehearse = Arc::new(|| report(Trigger::Admin, "rehearsed"));
        let levers = Levers::new(Arc::clone(&reloads), trip, Arc::clone(&rehearse), back.clone());
        assert_eq!(levers.reload().await.unwrap().from, "ours");
        assert_eq!(levers.check().await.unwrap().from, "rehearsed");
        tokio::time::pause();
        let levers = Levers::new(reloads, Box::new(|| {}), rehearse, back);
        assert!(levers.reload().await.is_none(), "nothing comes, and nobody waits for ever");
        assert!(levers.roll_back().await.is_err(), "nor here");
        assert!(called.try_recv().is_ok());
    }
}
