//! One virtual backend: its door, and all that changes while it runs, behind one lock that is never held across a wait.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use serde_json::{Map, Value};
use tokio::sync::{Notify, watch};

use super::door::Door;
use super::journal::{Counts, Journal, Settled};
use super::meter::{Limits, Meter, Reading};
use super::objects::Objects;
use super::options::Dialect;
use super::record::{Recorded, Times};
use super::rule::{Asked, Book, Chosen, Rule};
use super::settings::Settings;
use crate::clock::{self, Instant};

/// Locks, and goes on after a panic elsewhere: every change under these locks is complete at each step.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A virtual backend.
pub(super) struct Backend {
    pub(super) name: String,
    pub(super) dialect: Dialect,
    pub(super) door: Door,
    pub(super) objects: Mutex<Objects>,
    /// Told whenever a request came or ended.
    pub(super) changed: Notify,
    /// Changes when idle connections are to be closed.
    idle: watch::Sender<()>,
    origin: Instant,
    seed: u64,
    state: Mutex<State>,
}

struct State {
    settings: Arc<Settings>,
    book: Book,
    rng: Rng,
    journal: Journal,
    meter: Meter,
    /// Number of the last request since the last reset.
    sequence: u64,
    /// Number of the last connection.
    connection: u64,
    /// Counts the resets: what began before one must not count after it.
    epoch: u64,
}

/// What was decided about a request when it had been read.
pub(super) struct Begun {
    pub(super) sequence: u64,
    pub(super) epoch: u64,
    pub(super) settings: Arc<Settings>,
    pub(super) rule: Option<Chosen>,
    pub(super) limits: Reading,
    pub(super) rng: Rng,
}

/// Where a request came in.
pub(super) struct Arrival {
    pub(super) connection: u64,
    pub(super) request_on_connection: u64,
    pub(super) times: Times,
    /// The rule of an earlier request that decides about this one, too.
    pub(super) decided: Option<Chosen>,
}

impl Backend {
    pub(super) fn new(name: String, dialect: Dialect, door: Door, seed: u64, origin: Instant) -> Self {
        Self {
            name,
            dialect,
            door,
            objects: Mutex::default(),
            changed: Notify::new(),
            idle: watch::Sender::new(()),
            origin,
            seed,
            state: Mutex::new(State {
                settings: Arc::new(Settings::new(dialect)),
                book: Book::default(),
                rng: Rng::with_seed(seed),
                journal: Journal::default(),
                meter: Meter::default(),
                sequence: 0,
                connection: 0,
                epoch: 0,
            }),
        }
    }

    /// The time since the simulator's start.
    pub(super) fn elapsed(&self) -> Duration {
        clock::now().since(self.origin)
    }

    /// Sees when idle connections are to be closed.
    pub(super) fn watch_idle(&self) -> watch::Receiver<()> {
        self.idle.subscribe()
    }

    /// Counts a connection: its number, and the rule that decides about it.
    pub(super) fn accept(&self) -> (u64, Option<Chosen>) {
        let state = &mut *lock(&self.state);
        state.connection += 1;
        let rule = state.book.at_accept(&mut state.rng);
        let counts = state.journal.counts_mut();
        counts.connections += 1;
        counts.connection_faults += u64::from(rule.is_some());
        (state.connection, rule)
    }

    /// Counts a request that did not arrive whole.
    pub(super) fn count_broken(&self) {
        lock(&self.state).journal.counts_mut().broken_requests += 1;
    }

    /// The settings at this moment.
    pub(super) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&lock(&self.state).settings)
    }

    /// Numbers a request, chooses its rule and keeps it.
    pub(super) fn begin(&self, asked: &Asked<'_>, arrival: &Arrival) -> Begun {
        let now = clock::now();
        let state = &mut *lock(&self.state);
        state.sequence += 1;
        let rule = arrival.decided.clone().or_else(|| state.book.choose(asked, now, &mut state.rng));
        state.journal.counts_mut().requests += 1;
        if state.settings.record {
            state.journal.record(Recorded {
                sequence: state.sequence,
                connection: arrival.connection,
                request_on_connection: arrival.request_on_connection,
                rule: rule.as_ref().map(|chosen| chosen.index),
                ..Recorded::new(asked.request, arrival.times)
            });
        }
        let minute =
            Limits::per_minute(Some(state.settings.rpm.get()), Some(state.settings.tpm.get()), MINUTE.as_secs() as u32);
        let limits = state.meter.count(asked.tokens, minute, now);
        self.changed.notify_waiters();
        Begun {
            sequence: state.sequence,
            epoch: state.epoch,
            settings: Arc::clone(&state.settings),
            limits: rule.as_ref().and_then(|chosen| chosen.quota).unwrap_or(limits),
            rule,
            rng: state.rng.fork(),
        }
    }

    /// Notes how a request ended.
    pub(super) fn settle(&self, epoch: u64, sequence: u64, settled: &Settled) {
        let mut state = lock(&self.state);
        if epoch == state.epoch {
            state.journal.settle(sequence, settled);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Replaces the rules.
    pub(super) fn set_rules(&self, rules: Vec<Rule>) -> Result<(), String> {
        let book = Book::new(rules, clock::now())?;
        lock(&self.state).book = book;
        self.apply_rules()
    }

    /// Adds rules after those there are.
    pub(super) fn add_rules(&self, rules: Vec<Rule>) -> Result<(), String> {
        lock(&self.state).book.add(rules)?;
        self.apply_rules()
    }

    /// The rules, each with how often it applied.
    pub(super) fn rules(&self) -> Vec<(Rule, u64)> {
        lock(&self.state).book.rules().map(|(rule, applied)| (rule.clone(), applied)).collect()
    }

    /// What the rules mean for the door and for connections that wait for a request.
    fn apply_rules(&self) -> Result<(), String> {
        // Held to the end, so that the door follows the rules in the order in which they were set.
        let state = lock(&self.state);
        let refuses = state.book.refuses();
        if refuses || state.book.judges_connections() {
            self.idle.send_replace(());
        }
        if refuses {
            self.door.close();
            return Ok(());
        }
        self.door.open().map_err(|error| format!("cannot listen on {} again: {error}", self.door.address()))
    }

    /// Changes some settings.
    pub(super) fn patch_settings(&self, changes: Map<String, Value>) -> Result<(), String> {
        let mut state = lock(&self.state);
        state.settings = Arc::new(state.settings.patched(self.dialect, changes)?);
        Ok(())
    }

    /// Everything as at the start: settings, rules, journal, counts, objects and random choices.
    pub(super) fn reset(&self) -> Result<(), String> {
        {
            let state = &mut *lock(&self.state);
            state.settings = Arc::new(Settings::new(self.dialect));
            state.book = Book::default();
            state.rng = Rng::with_seed(self.seed);
            state.journal = Journal::default();
            state.meter = Meter::default();
            state.sequence = 0;
            state.epoch += 1;
        }
        *lock(&self.objects) = Objects::default();
        self.changed.notify_waiters();
        self.apply_rules()
    }

    /// The records after a sequence, oldest first.
    pub(super) fn records(&self, after: u64) -> Vec<Recorded> {
        lock(&self.state).journal.after(after).cloned().collect()
    }

    /// How many records there are after a sequence, and how many of them have ended.
    pub(super) fn count_records(&self, after: u64) -> (u64, u64) {
        let state = lock(&self.state);
        let ended = state.journal.after(after).filter(|record| record.ended.is_some()).count();
        (state.journal.after(after).count() as u64, ended as u64)
    }

    pub(super) fn clear_records(&self) {
        lock(&self.state).journal.clear();
    }

    pub(super) fn counts(&self) -> Counts {
        lock(&self.state).journal.counts().clone()
    }

    /// Waits until this holds, looked at again whenever something changed; says whether it does.
    pub(super) async fn wait_until(&self, deadline: Duration, holds: impl Fn(&Self) -> bool) -> bool {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                // Registered before the look, so that a change in between is not missed.
                changed.as_mut().enable();
                if holds(self) {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(deadline, wait).await.is_ok()
    }
}

/// The window of `x-ratelimit-*`.
const MINUTE: Duration = Duration::from_secs(60);
