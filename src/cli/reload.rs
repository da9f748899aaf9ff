//! A saved file is taken over while serving: whole, or not at all.

mod keeper;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{Receiver, channel};
use tracing::{debug, error, info, warn};

use self::keeper::{Desk, Found};
use super::arguments::Options;
use super::serve::with_flags;
use crate::clock;
use crate::config::watcher::{Outcome, Trigger, Watch};
use crate::config::{self, Config, Inputs, Loaded, ProblemFormat, Report, SystemSource, diff};
use crate::server::admin::reloads::{Levers, OnDisk, ReloadReport, Reloads};
use crate::supervisor::Supervisor;
use crate::telemetry::events;
use crate::telemetry::labels::{Label as _, ReloadResult};

/// Reloads under way: the watcher makes one at a time.
const WAITING: usize = 1;

/// Watches the file and applies what it becomes; the levers are for operators. Must run on the control arbiter.
///
/// # Errors
/// The system's, if it gives no thread or no signal handler.
pub(super) fn watch(
    supervisor: &Supervisor,
    path: PathBuf,
    loaded: &Loaded,
    options: &Options,
) -> std::io::Result<Levers> {
    let (finds, found) = channel(WAITING);
    let reloads = Arc::new(Reloads::default());
    let desk = Desk { supervisor: supervisor.clone(), reloads: Arc::clone(&reloads), finds };
    let watch = Arc::new(Watch::start(path.clone(), loaded.inputs.clone(), Box::new(SystemSource), desk)?);
    let mut hangup = signal(SignalKind::hangup())?;
    let hung_up = Arc::clone(&watch);
    actix_rt::spawn(async move {
        while hangup.recv().await.is_some() {
            hung_up.reload(Trigger::Signal);
        }
    });
    let started = Arc::clone(&supervisor.current().get().config);
    let reloader = Reloader { supervisor: supervisor.clone(), started, options: options.clone() };
    let rehearsed = reloader.clone();
    actix_rt::spawn(apply_all(reloader, found, Arc::clone(&reloads)));
    let trip = Box::new(move || watch.reload(Trigger::Admin));
    let rehearse = Arc::new(move || rehearsed.rehearse(&path));
    Ok(Levers::new(reloads, trip, rehearse))
}

async fn apply_all(reloader: Reloader, mut finds: Receiver<Found>, reloads: Arc<Reloads>) {
    let metrics = Arc::clone(reloader.supervisor.metrics());
    while let Some(Found { trigger, outcome, _done }) = finds.recv().await {
        let is_missing = matches!(outcome, Outcome::Missing);
        if is_missing && reloads.set_on_disk(OnDisk::Missing) != OnDisk::Missing {
            warn!("config missing, the running one stays in force");
        }
        if is_missing && !trigger.is_asked() {
            metrics.config_last_successful.child(&[]).set(0);
            continue;
        }
        let report = reloader.apply(trigger, outcome).await;
        metrics.config_reloads.child(&[report.result.name()]).inc();
        metrics.config_last_successful.child(&[]).set(i64::from(!report.is_rejected()));
        if !is_missing {
            reloads.set_on_disk(if report.is_rejected() { OnDisk::Rejected } else { OnDisk::InForce });
        }
        tell(&report);
        reloads.push(report);
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
            match self.put_in_force(&config).await {
                Ok(()) => {
                    let waits = i64::from(!report.restart.is_empty());
                    self.supervisor.metrics().config_restart_required.child(&[]).set(waits);
                }
                Err(problem) => refuse(&mut report, problem),
            }
        }
        report.took = clock::now().since(began);
        report
    }

    async fn put_in_force(&self, config: &Arc<Config>) -> Result<(), String> {
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
        let outcome = match config::load(path, &SystemSource) {
            Ok(loaded) => Outcome::Loaded(loaded),
            Err(report) => Outcome::Rejected(report),
        };
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

    /// What is known before anything is applied; with the configuration, if it is another one.
    fn read(&self, trigger: Trigger, outcome: Outcome) -> (ReloadReport, Option<Arc<Config>>) {
        let before = Arc::clone(&self.supervisor.current().get().config);
        let mut report = ReloadReport::begun(trigger, before.hash.clone(), clock::unix_now());
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
        report.to = Some(config.hash.clone());
        report.problems = loaded.warnings;
        report.changes = diff::changes(&self.started, &before, &config);
        report.restart = diff::needs_restart(&self.started, &config);
        if !diff::is_same(&before, &config) {
            return (report, Some(config));
        }
        // The same value may stand on other files: certificates, and comments that only change the hash.
        let is_same_text = config.hash == before.hash;
        report.result = if is_same_text { ReloadResult::Unchanged } else { ReloadResult::NoEffect };
        (report, Some(config))
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
    let trigger = report.trigger.name();
    match report.result {
        ReloadResult::Rejected => {
            let problems = problems(report);
            error!(trigger, problems = problems.as_str(), "config rejected");
        }
        ReloadResult::Unchanged => debug!(trigger, "config unchanged"),
        ReloadResult::NoEffect => info!(trigger, "config changes nothing"),
        ReloadResult::Applied => {
            let (from, to, took_ms) = (report.from.as_str(), report.to.as_deref(), report.took.as_millis() as u64);
            let changes: Vec<String> = report.changes.iter().map(ToString::to_string).collect();
            info!(trigger, from, to, took_ms, changes = changes.join(" | "), "config applied");
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
