//! A saved file is taken over while serving: whole, or not at all.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{Receiver, channel};
use tracing::{debug, error, info, warn};

use super::arguments::Options;
use super::serve::with_flags;
use crate::config::watcher::{Outcome, Trigger, Watch};
use crate::config::{Config, Loaded, ProblemFormat, SystemSource};
use crate::supervisor::Supervisor;
use crate::telemetry::labels::{Label as _, ReloadResult};

/// Reloads under way: the watcher makes one at a time.
const WAITING: usize = 1;

/// Watches the file and applies what it becomes. Must run on the control arbiter.
///
/// # Errors
/// The system's, if it gives no thread or no signal handler.
pub(super) fn watch(supervisor: &Supervisor, path: PathBuf, loaded: &Loaded, options: &Options) -> std::io::Result<()> {
    let (send, outcomes) = channel(WAITING);
    let then = move |trigger, outcome| {
        // The process is ending if nobody listens.
        let _ = send.blocking_send((trigger, outcome));
    };
    let watch = Watch::start(path, loaded, Box::new(SystemSource), then)?;
    let mut hangup = signal(SignalKind::hangup())?;
    actix_rt::spawn(async move {
        while hangup.recv().await.is_some() {
            watch.reload();
        }
    });
    actix_rt::spawn(apply_all(supervisor.clone(), outcomes, options.clone()));
    Ok(())
}

async fn apply_all(supervisor: Supervisor, mut outcomes: Receiver<(Trigger, Outcome)>, options: Options) {
    while let Some((trigger, outcome)) = outcomes.recv().await {
        let result = apply(&supervisor, trigger, outcome, &options).await;
        supervisor.metrics().config_reloads.child(&[result.name()]).inc();
        let in_force = i64::from(result != ReloadResult::Rejected);
        supervisor.metrics().config_last_successful.child(&[]).set(in_force);
    }
}

#[expect(clippy::cognitive_complexity, reason = "tracing's macros count as branches")]
async fn apply(supervisor: &Supervisor, trigger: Trigger, outcome: Outcome, options: &Options) -> ReloadResult {
    let trigger = trigger.name();
    let loaded = match outcome {
        Ok(loaded) => loaded,
        Err(report) => {
            let problems = report.render(ProblemFormat::Short);
            error!(trigger, problems = problems.trim_end(), "config rejected");
            return ReloadResult::Rejected;
        }
    };
    let before = Arc::clone(&supervisor.current().get().config);
    let config = with_flags(loaded.config, options);
    if config.hash == before.hash {
        debug!(trigger, "config unchanged");
        return ReloadResult::Unchanged;
    }
    if let Err(problem) = supervisor.apply(&config).await {
        error!(trigger, problems = problem.as_str(), "config rejected");
        return ReloadResult::Rejected;
    }
    let changes = changes(&before, &config);
    info!(
        trigger,
        from = before.hash.as_str(),
        to = config.hash.as_str(),
        changes = changes.as_str(),
        "config applied"
    );
    let stuck = needs_restart(&before, &config);
    if !stuck.is_empty() {
        warn!(keys = stuck.join(", "), "restart needed");
    }
    ReloadResult::Applied
}

/// What comes, goes and changes, in a line.
fn changes(before: &Config, after: &Config) -> String {
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
    words.join("; ")
}

/// Keys whose new value waits for a restart.
fn needs_restart(before: &Config, after: &Config) -> Vec<&'static str> {
    let (old, new) = (&before.server, &after.server);
    let changed = [
        ("server.host", old.host != new.host),
        ("server.port", old.port != new.port),
        ("server.workers", old.workers != new.workers),
        ("server.keep_alive", old.keep_alive != new.keep_alive),
        ("logging", before.logging != after.logging),
        ("reload", before.reload != after.reload),
    ];
    changed.into_iter().filter(|(_, is_changed)| *is_changed).map(|(key, _)| key).collect()
}
