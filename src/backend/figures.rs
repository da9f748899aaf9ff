//! What a backend's actor publishes for people, beside what decides: nobody routes by it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::circuit_breaker::Cause;
use crate::clock::Instant;

/// Errors kept, newest first: enough to see what an outage looks like.
const MAX_ERRORS: usize = 10;

/// One failed call, or several in a row that failed alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed {
    /// When the outcome of the last of them came.
    pub at: Instant,
    /// Its error type.
    pub kind: &'static str,
    /// What exactly broke in transport and time, where it was that.
    pub detail: Option<&'static str>,
    /// How many they are.
    pub count: u64,
}

/// The breaker's books at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// Opens not yet forgiven.
    pub level: u32,
    /// Length of the run of failures.
    pub run: u64,
    /// Failures in the window.
    pub failures: u64,
    /// Calls in the window whose end counts.
    pub resolved: u64,
    /// Calls under way of which no end is known.
    pub pending: u64,
}

/// The figures of one backend.
#[derive(Debug, Default)]
pub struct Figures {
    books: [AtomicU64; 5],
    /// Touched at failures and edges by the actor, and by whoever looks: never on the request path.
    rare: Mutex<Rare>,
}

#[derive(Debug, Default)]
struct Rare {
    changed_at: Option<Instant>,
    cause: Option<Cause>,
    errors: VecDeque<Failed>,
}

impl Figures {
    /// Publishes the books.
    pub(super) fn publish(&self, books: Books) {
        let Books { level, run, failures, resolved, pending } = books;
        for (cell, value) in self.books.iter().zip([u64::from(level), run, failures, resolved, pending]) {
            cell.store(value, Ordering::Relaxed);
        }
    }

    /// The circuit changed.
    pub(super) fn note_change(&self, cause: Cause, now: Instant) {
        let mut rare = self.rare();
        (rare.changed_at, rare.cause) = (Some(now), Some(cause));
    }

    /// A call failed.
    pub(super) fn note_error(&self, kind: &'static str, detail: Option<&'static str>, at: Instant) {
        let errors = &mut self.rare().errors;
        if let Some(last) = errors.front_mut().filter(|last| (last.kind, last.detail) == (kind, detail)) {
            (last.at, last.count) = (at, last.count + 1);
            return;
        }
        errors.truncate(MAX_ERRORS - 1);
        errors.push_front(Failed { at, kind, detail, count: 1 });
    }

    /// The breaker's books; each figure by itself is right.
    pub fn books(&self) -> Books {
        let [level, run, failures, resolved, pending] = self.books.each_ref().map(|cell| cell.load(Ordering::Relaxed));
        Books { level: u32::try_from(level).unwrap_or(u32::MAX), run, failures, resolved, pending }
    }

    /// When the circuit last changed, and why.
    pub fn last_change(&self) -> Option<(Instant, Cause)> {
        let rare = self.rare();
        rare.changed_at.zip(rare.cause)
    }

    /// The latest failures, newest first.
    pub fn errors(&self) -> Vec<Failed> {
        self.rare().errors.iter().copied().collect()
    }

    fn rare(&self) -> MutexGuard<'_, Rare> {
        self.rare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_errors_are_kept_newest_first_and_equal_ones_folded() {
        let figures = Figures::default();
        for at in 1..=15 {
            let kind = ["timeout_error", "api_connection_error"][at as usize % 2];
            figures.note_error(kind, None, Instant::from_nanos(at));
        }
        figures.note_error("api_connection_error", None, Instant::from_nanos(20));
        let kept: Vec<_> = figures.errors().iter().map(|failed| (failed.at.as_nanos(), failed.count)).collect();
        let expected: Vec<_> = std::iter::once((20, 2)).chain((6..=14).rev().map(|at| (at, 1))).collect();
        assert_eq!(kept, expected);
        figures.note_error("api_connection_error", Some("dns"), Instant::from_nanos(21));
        assert_eq!(figures.errors()[0].count, 1, "another detail is another error");
    }

    #[test]
    fn books_are_read_as_they_were_published() {
        let figures = Figures::default();
        let books = Books { level: 1, run: 2, failures: 3, resolved: 4, pending: 5 };
        figures.publish(books);
        assert_eq!(figures.books(), books);
        assert_eq!(figures.last_change(), None);
        figures.note_change(Cause::Run, Instant::from_nanos(7));
        assert_eq!(figures.last_change(), Some((Instant::from_nanos(7), Cause::Run)));
    }
}
