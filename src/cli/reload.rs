//! A saved file is taken over while serving: whole, or not at all. What does worse than before goes back again.

mod keeper;
mod rollback;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{Receiver, channel};
use tracing::{debug, error, info, warn};

use self::keeper::{Desk, Found};
use self::rollback::{LOOK_EVERY, Past, reason, tallies};
use super::arguments::Options;
use super::serve::with_flags;
use crate::clock;
use crate::config::watcher::{Outcome, Trigger, Watch};
use crate::config::{self, Config, Inputs, Loaded, ProblemFormat, Report, SystemSource, diff};
use crate::server::admin::reloads::{BackCall, Cause, Depth, Levers, OnDisk, ReloadReport, Reloads, Standing, Trial};
use crate::supervisor::Supervisor;
use crate::telemetry::events;
use crate::telemetry::labels::{Label as _, ReloadResult};

/// Reloads under way: the watcher makes one at a time.
const WAITING: usize = 1;

/// Most changes that an event names; the status document has more.
const LOGGED_CHANGES: usize = 20;

/// Operators who wait for a rollback at the same time.
const CALLERS: usize = 4;

/// Watches the file and applies what it becomes; the levers are for operators. Must run on the control arbiter.
///
/// Also says how many finds wait.
///
/// # Errors
/// The system's, if it gives no thread or no signal handler.
pub(super) fn watch(
    supervisor: &Supervisor,
    path: PathBuf,
    loaded: &Loaded,
    options: &Options,
) -> std::io::Result<(Levers, Depth)> {
    let (finds, found) = channel(WAITING);
    // Who has ended lets nothing wait.
    let waiting = finds.downgrade();
    let depth: Depth = Arc::new(move || waiting.upgrade().map_or(0, |finds| finds.max_capacity() - finds.capacity()));
    let (calls, called) = channel(CALLERS);
    let started = Arc::clone(&supervisor.current().get().config);
    let reloads = Arc::new(Reloads::new(started.hash.clone()));
    let desk = Desk { supervisor: supervisor.clone(), reloads: Arc::clone(&reloads), finds };
    let watch = Arc::new(Watch::start(path.clone(), loaded.inputs.clone(), Box::new(SystemSource), desk)?);
    let mut hangup = signal(SignalKind::hangup())?;
    let hung_up = Arc::clone(&watch);
    actix_rt::spawn(async move {
        while hangup.recv().await.is_some() {
            hung_up.reload(Trigger::Signal);
        }
    });
    let reloader = Reloader { supervisor: supervisor.clone(), started, options: options.clone() };
    let rehearsed = reloader.clone();
    let office = Office { reloader, reloads: Arc::clone(&reloads), past: Past::default(), on_disk: OnDisk::default() };
    actix_rt::spawn(office.run(found, called));
    let trip = Box::new(move || watch.reload(Trigger::Admin));
    let rehearse = Arc::new(move || rehearsed.rehearse(&path));
    Ok((Levers::new(reloads, trip, rehearse, calls), depth))
}

/// Where one thing at a time changes the configuration: a find of the watch, an operator's call, a trial that has failed.
struct Office {
    reloader: Reloader,
    reloads: Arc<Reloads>,
    past: Past,
    /// How the file was last seen.
    on_disk: OnDisk,
}

impl Office {
    async fn run(mut self, mut finds: Receiver<Found>, mut calls: Receiver<BackCall>) {
        loop {
            let is_watching = self.past.is_watching(&self.in_force());
            tokio::select! {
                found = finds.recv() => match found {
                    Some(Found { trigger, outcome, _done }) => self.deal_with(trigger, outcome).await,
                    None => return,
                },
                Some(call) = calls.recv() => {
                    let report = match self.past.last() {
                        Some(config) => Some(self.go_back(Cause::RollbackByHand, &config, None).await),
                        None => None,
                    };
                    // Who has stopped waiting finds it in the status document.
                    let _ = call.send(report);
                }
                () = tokio::time::sleep(LOOK_EVERY), if is_watching => self.look().await,
            }
        }
    }

    /// Has the status document show what has become, before anybody is told.
    fn show(&self, report: Option<&ReloadReport>) {
        let trial = self.past.trial().map(|(routes, until)| Trial { routes, until });
        let (hash, earlier) = (self.in_force().hash.clone(), self.past.hashes());
        self.reloads.show(Standing { hash, on_disk: self.on_disk, earlier, trial }, report.cloned());
    }

    fn in_force(&self) -> Arc<Config> {
        Arc::clone(&self.reloader.supervisor.current().get().config)
    }

    async fn deal_with(&mut self, trigger: Trigger, outcome: Outcome) {
        let metrics = Arc::clone(self.reloader.supervisor.metrics());
        let is_missing = matches!(outcome, Outcome::Missing);
        if is_missing {
            let known = std::mem::replace(&mut self.on_disk, OnDisk::Missing);
            self.show(None);
            if known != OnDisk::Missing {
                warn!("config missing, the running one stays in force");
            }
        }
        if is_missing && !trigger.is_asked() {
            metrics.config_last_successful.child(&[]).set(0);
            return;
        }
        let before = self.in_force();
        let report = self.reloader.apply(trigger, outcome).await;
        metrics.config_reloads.child(&[report.result.name()]).inc();
        metrics.config_last_successful.child(&[]).set(i64::from(!report.is_rejected()));
        if !is_missing {
            self.on_disk = if report.is_rejected() { OnDisk::Rejected } else { OnDisk::InForce };
        }
        if report.result == ReloadResult::Applied {
            let table = self.reloader.supervisor.current().get();
            self.past.note(&before, &table.config, &tallies(&table));
        }
        self.show(Some(&report));
        tell(&report);
    }

    /// Looks whether the configuration on trial stands.
    async fn look(&mut self) {
        let table = self.reloader.supervisor.current().get();
        match self.past.look(table.config.reload.rollback, tallies(&table)) {
            None => {}
            Some(Ok(())) => {
                self.show(None);
                info!(hash = table.config.hash, "config stands: no changed route has fallen");
            }
            Some(Err((previous, fall))) => {
                self.go_back(Cause::Rollback, &previous, Some(reason(&fall))).await;
            }
        }
    }

    /// Puts an earlier configuration in force again. The file stays as it is, and is not taken over before it changes or
    /// somebody asks for it.
    async fn go_back(&mut self, cause: Cause, config: &Arc<Config>, reason: Option<String>) -> ReloadReport {
        let report = self.reloader.go_back(cause, config, reason).await;
        if report.is_rejected() {
            self.show(Some(&report));
            let refused = report.refused.as_deref();
            error!(trigger = cause.name(), refused, "config cannot be rolled back");
        } else {
            let metrics = self.reloader.supervisor.metrics();
            metrics.config_rollbacks.child(&[]).inc();
            metrics.config_last_successful.child(&[]).set(0);
            self.past.went_back_to(config);
            self.on_disk = OnDisk::RolledBack;
            self.show(Some(&report));
            let (from, to, because) = (report.from.as_str(), report.to.as_deref(), report.because.as_deref());
            let changes = report.told(LOGGED_CHANGES).join(" | ");
            error!(trigger = cause.name(), from, to, because, changes, "config rolled back");
        }
        report
    }
}

/// What a reload needs beside the file.
#[derive(Clone)]
struct Reloader {
    supervisor: Supervisor,
    /// What the process was started with: some keys keep its values.
    started: Arc<Config>,
    options: Options,
}

impl Reloader {
    async fn apply(&self, trigger: Trigger, outcome: Outcome) -> ReloadReport {
        let began = clock::now();
        let (mut report, config) = self.read(trigger, outcome);
        if let Some(config) = config {
            self.put_in_force(&config, &mut report).await;
        }
        report.took = clock::now().since(began);
        report
    }

    async fn go_back(&self, cause: Cause, config: &Arc<Config>, because: Option<String>) -> ReloadReport {
        let began = clock::now();
        let before = Arc::clone(&self.supervisor.current().get().config);
        let mut report = ReloadReport::begun(cause, before.hash.clone(), clock::unix_now());
        self.compare(&before, config, &mut report);
        report.because = because;
        self.put_in_force(config, &mut report).await;
        report.took = clock::now().since(began);
        report
    }

    /// Puts a configuration in force, or says in the report why not.
    async fn put_in_force(&self, config: &Arc<Config>, report: &mut ReloadReport) {
        match self.take_over(config).await {
            Ok(()) => {
                let waits = i64::from(!report.restart.is_empty());
                self.supervisor.metrics().config_restart_required.child(&[]).set(waits);
            }
            Err(problem) => refuse(report, problem),
        }
    }

    async fn take_over(&self, config: &Arc<Config>) -> Result<(), String> {
        events::check_level(&config.logging.level).map_err(|problem| format!("logging.level {problem}"))?;
        let before = Arc::clone(&self.supervisor.current().get().config);
        self.supervisor.apply(config).await?;
        // One that an operator has set by hand stands until the file says another.
        if before.logging.level != config.logging.level {
            events::set_level(&config.logging.level)?;
        }
        Ok(())
    }

    /// What the file as it now stands would bring. Changes nothing.
    fn rehearse(&self, path: &Path) -> ReloadReport {
        let began = clock::now();
        let outcome = config::load(path, &SystemSource).map_or_else(Outcome::Rejected, Outcome::Loaded);
        let (mut report, config) = self.read(Trigger::Admin, outcome);
        let checked = config.map_or(Ok(()), |config| {
            events::check_level(&config.logging.level).map_err(|problem| format!("logging.level {problem}"))?;
            Supervisor::check(&config)
        });
        if let Err(problem) = checked {
            refuse(&mut report, problem);
        }
        ReloadReport { dry_run: true, took: clock::now().since(began), ..report }
    }

    /// What is known before anything is applied; with the configuration, if it can be used.
    fn read(&self, trigger: Trigger, outcome: Outcome) -> (ReloadReport, Option<Arc<Config>>) {
        let before = Arc::clone(&self.supervisor.current().get().config);
        let mut report = ReloadReport::begun(Cause::File(trigger), before.hash.clone(), clock::unix_now());
        let loaded = match outcome {
            Outcome::Loaded(loaded) => loaded,
            Outcome::Rejected(rejected) => {
                report.result = ReloadResult::Rejected;
                report.problems = rejected.problems;
                return (report, None);
            }
            Outcome::Missing => {
                refuse(&mut report, "the file is not there".to_owned());
                return (report, None);
            }
        };
        let config = with_flags(loaded.config, &self.options);
        report.problems = loaded.warnings;
        self.compare(&before, &config, &mut report);
        (report, Some(config))
    }

    /// Says what `config` changes about `before`.
    fn compare(&self, before: &Config, config: &Config, report: &mut ReloadReport) {
        report.to = Some(config.hash.clone());
        report.changes = diff::changes(&self.started, before, config);
        report.restart = diff::needs_restart(&self.started, config);
        if diff::is_same(before, config) {
            // The same value may stand on other files: certificates, and comments that only change the hash.
            let is_same_text = config.hash == before.hash;
            report.result = if is_same_text { ReloadResult::Unchanged } else { ReloadResult::NoEffect };
        }
    }
}

/// A file without an error of its own cannot be used after all.
fn refuse(report: &mut ReloadReport, problem: String) {
    report.result = ReloadResult::Rejected;
    report.changes.clear();
    report.restart.clear();
    report.refused = Some(problem);
}

#[expect(clippy::cognitive_complexity, reason = "tracing's macros count as branches")]
fn tell(report: &ReloadReport) {
    let trigger = report.cause.name();
    match report.result {
        ReloadResult::Rejected => {
            let problems = problems(report);
            error!(trigger, problems = problems.as_str(), "config rejected");
        }
        ReloadResult::Unchanged => debug!(trigger, "config unchanged"),
        ReloadResult::NoEffect => info!(trigger, "config changes nothing"),
        ReloadResult::Applied => {
            let (from, to, took_ms) = (report.from.as_str(), report.to.as_deref(), report.took.as_millis() as u64);
            let changes = report.told(LOGGED_CHANGES).join(" | ");
            info!(trigger, from, to, took_ms, changes, "config applied");
        }
    }
    if !report.restart.is_empty() {
        warn!(keys = report.restart.join(", "), "restart needed");
    }
}

/// Why a file was refused, a line each.
fn problems(report: &ReloadReport) -> String {
    match &report.refused {
        Some(problem) => problem.clone(),
        None => {
            let report =
                Report { problems: report.problems.clone(), inputs: Inputs::default(), sources: BTreeMap::new() };
            report.render(ProblemFormat::Short).trim_end().to_owned()
        }
    }
}
