//! One backend's checker: a task that takes its turns, one check at a time, and tells the backend's actor what it saw.

use std::cell::RefCell;
use std::rc::Rc;

use actix_rt::task::JoinHandle;

use super::schedule::{Schedule, Turn};
use super::{Errand, Subject, check};
use crate::backend::health::{Checked, Found};
use crate::clock;

/// A running checker. Dropped, it ends, and a check under way with it.
pub(super) struct Checker {
    errand: Rc<RefCell<Rc<Errand>>>,
    task: JoinHandle<()>,
}

impl Checker {
    /// Starts one in place of another, which has ended before this one's first turn.
    pub(super) fn start(errand: Errand, earlier: Option<Self>) -> Self {
        let errand = Rc::new(RefCell::new(Rc::new(errand)));
        let task = actix_rt::spawn(take_turns(Rc::clone(&errand)));
        // Its task is aborted here: the thread drops it before a timer of the other can fire.
        drop(earlier);
        Self { errand, task }
    }

    /// Whether a reload leaves it as it is: the same cell, checked in the same way.
    pub(super) fn goes_on_with(&self, subject: &Subject) -> bool {
        let mine = &self.errand.borrow().subject.backend;
        mine.is_same_cell(&subject.backend)
            && mine.config().policy.health_check == subject.backend.config().policy.health_check
    }

    /// Goes on in its rhythm; from the next turn on with a reload's URL, credential and roots.
    pub(super) fn with(self, errand: Errand) -> Self {
        *self.errand.borrow_mut() = Rc::new(errand);
        self
    }

    /// Whether its task has ended, which only a panic makes it.
    pub(super) fn is_over(&self) -> bool {
        self.task.is_finished()
    }

    /// Goes on after a panic.
    pub(super) fn restart(&mut self) {
        self.task = actix_rt::spawn(take_turns(Rc::clone(&self.errand)));
    }
}

impl Drop for Checker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn take_turns(errand: Rc<RefCell<Rc<Errand>>>) {
    let current = || Rc::clone(&errand.borrow());
    let interval = current().subject.backend.config().policy.health_check.interval;
    let mut random = fastrand::Rng::with_seed(fastrand::u64(..));
    let mut schedule = Schedule::new(interval, clock::now(), random.f64());
    loop {
        tokio::time::sleep_until(clock::to_tokio(schedule.due())).await;
        let errand = current();
        let backend = &errand.subject.backend;
        let started = clock::now();
        let found = match schedule.turn(started, backend.status().health().served_at, random.f64()) {
            Turn::Skip => Found::Served,
            Turn::Check => {
                let seen = check::check(&errand, started).await;
                seen.counted_at.into_iter().for_each(|at| schedule.note_own(at));
                seen.found
            }
        };
        backend.checked(Checked { kind: backend.config().policy.health_check.kind, started, found });
    }
}
