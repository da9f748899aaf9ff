//! A saved file is taken over while serving: whole, or not at all.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{Receiver, channel};
use tracing::{debug, error, info, warn};

use super::arguments::Options;
use super::serve::with_flags;
use crate::clock;
use crate::config::watcher::{Outcome, Trigger, Watch};
use crate::config::{self, Config, Loaded, ProblemFormat, Report, SystemSource};
use crate::server::admin::reloads::{Levers, ReloadReport, Reloads};
use crate::supervisor::Supervisor;
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
    let (send, outcomes) = channel(WAITING);
    let then = move |trigger, outcome| {
        // The process is ending if nobody listens.
        let _ = send.blocking_send((trigger, outcome));
    };
    let watch = Arc::new(Watch::start(path.clone(), loaded, Box::new(SystemSource), then)?);
    let mut hangup = signal(SignalKind::hangup())?;
    let hung_up = Arc::clone(&watch);
    actix_rt::spawn(async move {
        while hangup.recv().await.is_some() {
            hung_up.reload(Trigger::Signal);
        }
    });
    let started = Arc::clone(&supervisor.current().get().config);
    let reloader = Reloader { supervisor: supervisor.clone(), started, options: options.clone() };
    let (reloads, rehearsed) = (Arc::new(Reloads::default()), reloader.clone());
    actix_rt::spawn(apply_all(reloader, outcomes, Arc::clone(&reloads)));
    let trip = Box::new(move || watch.reload(Trigger::Admin));
    let rehearse = Arc::new(move || rehearsed.rehearse(&path));
    Ok(Levers::new(reloads, trip, rehearse))
}

async fn apply_all(reloader: Reloader, mut outcomes: Receiver<(Trigger, Outcome)>, reloads: Arc<Reloads>) {
    let metrics = Arc::clone(reloader.supervisor.metrics());
    while let Some((trigger, outcome)) = outcomes.recv().await {
        let report = reloader.apply(trigger, outcome).await;
        metrics.config_reloads.child(&[report.result.name()]).inc();
        metrics.config_last_successful.child(&[]).set(i64::from(!report.is_rejected()));
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
        if let Some(config) = config
            && let Err(problem) = self.supervisor.apply(&config).await
        {
            refuse(&mut report, problem);
        }
        report.took = clock::now().since(began);
        report
    }

    /// What the file as it now stands would bring. Changes nothing.
    fn rehearse(&self, path: &Path) -> ReloadReport {
        let began = clock::now();
        let (mut report, config) = self.read(Trigger::Admin, config::load(path, &SystemSource));
        if let Some(config) = config
            && let Err(problem) = Supervisor::check(&config)
        {
            refuse(&mut report, problem);
        }
        ReloadReport { dry_run: true, took: clock::now().since(began), ..report }
    }

    /// What is known before anything is applied; with the configuration, if it is another one.
    fn read(&self, trigger: Trigger, outcome: Outcome) -> (ReloadReport, Option<Arc<Config>>) {
        let before = Arc::clone(&self.supervisor.current().get().config);
        let mut report = ReloadReport::begun(trigger, before.hash.clone(), clock::unix_now());
        let loaded = match outcome {
            Ok(loaded) => loaded,
            Err(rejected) => {
                report.result = ReloadResult::Rejected;
                report.problems = rejected.problems;
                return (report, None);
            }
        };
        let config = with_flags(loaded.config, &self.options);
        report.to = Some(config.hash.clone());
        report.problems = loaded.warnings;
        if config.hash == before.hash {
            report.result = ReloadResult::Unchanged;
            return (report, None);
        }
        report.changes = changes(&before, &config);
        report.restart = needs_restart(&self.started, &config);
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
        ReloadResult::Unchanged | ReloadResult::NoEffect => debug!(trigger, "config unchanged"),
        ReloadResult::Applied => {
            let (from, to) = (report.from.as_str(), report.to.as_deref());
            info!(trigger, from, to, changes = report.changes.join("; "), "config applied");
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
            let report = Report { problems: report.problems.clone(), sources: BTreeMap::new() };
            report.render(ProblemFormat::Short).trim_end().to_owned()
        }
    }
}

/// What comes, goes and changes.
fn changes(before: &Config, after: &Config) -> Vec<String> {
    let mut words = Vec::new();
    for (id, backend) in &after.backends {
        match before.backends.get(id) {
            None => words.push(format!("+ backend {id}")),
            Some(known) if known.identity != backend.identity => words.push(format!("~ backend {id} (starts fresh)")),
            Some(known) if known != backend => words.push(format!("~ backend {id} (state kept)")),
            Some(_) => {}
        }
    }
    words.extend(
        before.backends.keys().filter(|id| !after.backends.contains_key(*id)).map(|id| format!("- backend {id}")),
    );
    for (name, route) in &after.routes {
        match before.routes.get(name) {
            None => words.push(format!("+ route {name}")),
            Some(known) if known != route => words.push(format!("~ route {name}")),
            Some(_) => {}
        }
    }
    words.extend(
        before.routes.keys().filter(|name| !after.routes.contains_key(*name)).map(|name| format!("- route {name}")),
    );
    words
}

/// Keys whose new value waits for a restart.
fn needs_restart(before: &Config, after: &Config) -> Vec<&'static str> {
    let (old, new) = (&before.server, &after.server);
    let changed = [
        ("server.host", old.host != new.host),
        ("server.port", old.port != new.port),
        ("server.workers", old.workers != new.workers),
        ("server.keep_alive", old.keep_alive != new.keep_alive),
        ("admin.enabled", before.admin.enabled != after.admin.enabled),
        ("admin.host", before.admin.host != after.admin.host),
        ("admin.port", before.admin.port != after.admin.port),
        ("logging", before.logging != after.logging),
        ("reload", before.reload != after.reload),
    ];
    changed.into_iter().filter(|(_, is_changed)| *is_changed).map(|(key, _)| key).collect()
}
