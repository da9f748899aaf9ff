//! What a rollback needs to know: the configurations before, how routes did lately, and the trial under way.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use crate::clock::{self, Instant};
use crate::config::{Config, Rollback};
use crate::router::{RouteEntry, Table};
use crate::supervisor::probation::{Fall, History, Probation, Tallies, Tally, Verdict};
use crate::telemetry::labels::{Asked, Label as _, RequestOutcome};

/// Configurations that are kept to go back to: an operator goes back one or two steps, and each holds a whole file's values.
const KEPT: usize = 8;

/// Between looks at a trial.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The memory of the process's configurations.
#[derive(Default)]
pub(super) struct Past {
    /// In the order they were in force.
    earlier: Vec<Arc<Config>>,
    history: History,
    trial: Option<Probation>,
}

impl Past {
    /// Whether there is anything to look at again and again.
    pub(super) fn is_watching(&self, in_force: &Config) -> bool {
        in_force.reload.rollback.enabled || self.trial.is_some()
    }

    /// `after` has taken over from `before`.
    pub(super) fn note(&mut self, before: &Arc<Config>, after: &Config, tallies: &Tallies) {
        if self.earlier.len() == KEPT {
            self.earlier.remove(0);
        }
        self.earlier.push(Arc::clone(before));
        let rule = after.reload.rollback;
        let open = self.trial.take();
        if rule.enabled {
            self.trial = Probation::begin(rule, clock::now(), (before, after), open, &self.history, tallies);
        }
    }

    /// Takes a sample if one is due, and says how a trial that is over has ended.
    pub(super) fn look(&mut self, rule: Rollback, tallies: Tallies) -> Option<Result<(), (Arc<Config>, Fall)>> {
        let now = clock::now();
        let ended = match self.trial.as_ref().map(|trial| (trial.judge(now, &tallies), &trial.previous)) {
            None | Some((Verdict::Open, _)) => None,
            Some((Verdict::Passed, _)) => Some(Ok(())),
            Some((Verdict::Failed(fall), previous)) => Some(Err((Arc::clone(previous), fall))),
        };
        if ended.is_some() {
            self.trial = None;
        }
        let interval = History::interval(rule.watch);
        if !rule.enabled {
            self.history = History::default();
        } else if self.history.last().is_none_or(|last| interval <= now.since(last)) {
            self.history.sample(now, rule.watch, tallies);
        }
        ended
    }

    /// The configuration before the one in force.
    pub(super) fn last(&self) -> Option<Arc<Config>> {
        self.earlier.last().cloned()
    }

    /// That configuration is in force again: it and what came after it are no past any more, and nothing is on trial.
    pub(super) fn went_back_to(&mut self, config: &Arc<Config>) {
        if let Some(index) = self.earlier.iter().rposition(|known| Arc::ptr_eq(known, config)) {
            self.earlier.truncate(index);
        }
        self.trial = None;
    }

    /// Hashes of the configurations that can come back, the next one first.
    pub(super) fn hashes(&self) -> Vec<String> {
        self.earlier.iter().rev().map(|config| config.hash.clone()).collect()
    }

    /// The routes on trial, and until when.
    pub(super) fn trial(&self) -> Option<(Vec<String>, Instant)> {
        let trial = self.trial.as_ref()?;
        Some((trial.routes().map(ToString::to_string).collect(), trial.until()))
    }
}

/// How the requests of every route have ended.
pub(super) fn tallies(table: &Table) -> Tallies {
    table.entries().into_iter().map(|entry| (entry.config.name.clone(), tally(entry))).collect()
}

fn tally(entry: &RouteEntry) -> Tally {
    let mut tally = Tally::default();
    // Handles that nobody has needed have counted nothing.
    let Some(handles) = LazyLock::get(&entry.handles) else { return tally };
    for asked in Asked::ALL {
        for outcome in RequestOutcome::ALL {
            let ended = handles.requests(*outcome, *asked).get();
            match outcome {
                RequestOutcome::Success => tally.good += ended,
                RequestOutcome::Exhausted
                | RequestOutcome::UpstreamError
                | RequestOutcome::StreamError
                | RequestOutcome::InternalError => tally.bad += ended,
                // The caller's own doing, or ours as we end.
                RequestOutcome::ClientFault
                | RequestOutcome::Rejected
                | RequestOutcome::ClientClosed
                | RequestOutcome::Shutdown => {}
            }
        }
    }
    tally
}

/// Why a configuration did not stand, in words.
pub(super) fn reason(fall: &Fall) -> String {
    let Fall { route, before, since } = fall;
    let percent = |ratio: u32| f64::from(ratio) / 100.0;
    let (calls, after) = (since.good.saturating_add(since.bad), percent(since.ratio().unwrap_or_default()));
    format!("route {route}: {after} % of {calls} requests succeeded, {} % before the change", percent(*before))
}
