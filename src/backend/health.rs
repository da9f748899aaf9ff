//! What active checks say about a backend: the health gate, and which blocks their successes may clear (spec/resilience.md 5).
//!
//! The gate is advice: a router passes over an unhealthy backend while it has another. It never touches the breaker's window.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::outcome::{Block, Class};
use crate::clock::Instant;
use crate::config::{HealthCheck, HealthCheckKind};

/// What one turn of a backend's checker brought.
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// What is checked.
    pub kind: HealthCheckKind,
    /// When the check began.
    pub started: Instant,
    /// What came of it.
    pub found: Found,
}

/// What came of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Not sent: the backend has just served a request, which says more than a check.
    Served,
    /// What was asked for.
    Good {
        /// Whether a list of models names the backend's own.
        is_listed: bool,
    },
    /// A status that is no 2xx, and that the configuration expects.
    Expected,
    /// An answer that says nothing about the backend: there is no list of models.
    Mute,
    /// Anything else.
    Bad {
        /// What it means.
        class: Class,
        /// The provider's own wait.
        hint: Option<Duration>,
        /// A permit has already told breaker and blocks.
        is_told: bool,
    },
}

/// What the gate makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// One more in the row of successes.
    Success,
    /// One more in the row of failures.
    Failure,
    /// Neither ends a row nor adds to it.
    Neutral,
}

impl Found {
    /// Whether it shows that the host is there: an answer, or a connection.
    pub const fn shows_host(self) -> bool {
        match self {
            Self::Good { .. } | Self::Expected | Self::Mute => true,
            // Served: no check was sent. Told: the permit has told the host's circuit as well.
            Self::Served | Self::Bad { .. } => false,
        }
    }

    /// What the gate makes of it. Busy, unpaid or refused is not sick.
    pub const fn verdict(self) -> Verdict {
        match self {
            Self::Served | Self::Good { .. } | Self::Expected => Verdict::Success,
            Self::Mute => Verdict::Neutral,
            Self::Bad { class, .. } => match class {
                Class::RateLimited | Class::QuotaExhausted => Verdict::Success,
                Class::Auth
                | Class::Permission
                | Class::NotFound
                | Class::Overloaded
                | Class::Local
                | Class::ClientGone
                | Class::Cut => Verdict::Neutral,
                Class::Connect(_)
                | Class::Reset
                | Class::Truncated
                | Class::Malformed
                | Class::ServerError
                | Class::Timeout(_)
                | Class::ContextWindow
                | Class::Policy
                | Class::CallerFault => Verdict::Failure,
            },
        }
    }

    /// What exactly is wrong, for the log.
    pub fn detail(self) -> &'static str {
        match self {
            Self::Served => "traffic",
            Self::Good { .. } => "good",
            Self::Expected => "expected",
            Self::Mute => "no_list",
            Self::Bad { class, .. } => {
                class.detail().or(class.error_type().map(|kind| kind.name())).unwrap_or("local_error")
            }
        }
    }
}

/// Whether a success of this check shows that what a block waits for is over: the table of spec/resilience.md 5.
pub const fn clears(kind: HealthCheckKind, block: Block, is_listed: bool) -> bool {
    match (kind, block) {
        (HealthCheckKind::Models, Block::Auth) => true,
        (HealthCheckKind::Models, Block::NotFound) => is_listed,
        (HealthCheckKind::Models, Block::Rate | Block::Overload | Block::Money | Block::Permission) => false,
        (HealthCheckKind::Completion, Block::Auth | Block::Money | Block::Permission | Block::NotFound) => true,
        (HealthCheckKind::Completion, Block::Rate | Block::Overload) => false,
        (
            HealthCheckKind::Off | HealthCheckKind::Connect,
            Block::Rate | Block::Overload | Block::Money | Block::Auth | Block::Permission | Block::NotFound,
        ) => false,
    }
}

/// The gate and what is shown beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// The gate. True at first.
    pub is_healthy: bool,
    /// Failures in a row.
    pub failures: u32,
    /// When the last check ended; zero: none has.
    pub checked_at: Instant,
    /// When the backend last served a call; zero: never.
    pub served_at: Instant,
    /// Successes in a row since it became unhealthy.
    successes: u32,
}

impl Default for Health {
    fn default() -> Self {
        let (checked_at, served_at) = (Instant::ZERO, Instant::ZERO);
        Self { is_healthy: true, failures: 0, checked_at, served_at, successes: 0 }
    }
}

impl Health {
    /// Takes in a verdict. True if the gate changed by it.
    pub fn note(&mut self, verdict: Verdict, policy: &HealthCheck) -> bool {
        match verdict {
            Verdict::Neutral => false,
            Verdict::Failure => {
                self.failures = self.failures.saturating_add(1);
                self.successes = 0;
                self.set(self.is_healthy && self.failures < policy.unhealthy_threshold)
            }
            Verdict::Success => {
                self.failures = 0;
                self.successes = if self.is_healthy { 0 } else { self.successes.saturating_add(1) };
                self.set(self.is_healthy || policy.healthy_threshold <= self.successes)
            }
        }
    }

    /// As at first, but for what it has served. True if the gate changed by it.
    pub fn forget(&mut self) -> bool {
        let changed = !self.is_healthy;
        *self = Self { served_at: self.served_at, ..Self::default() };
        changed
    }

    /// A call was served.
    pub fn served(&mut self, at: Instant) {
        self.served_at = self.served_at.max(at);
    }

    fn set(&mut self, is_healthy: bool) -> bool {
        let changed = self.is_healthy != is_healthy;
        if changed {
            self.successes = 0;
        }
        self.is_healthy = is_healthy;
        changed
    }
}

/// The part of a backend's cell that shows its health; written by its actor alone.
#[derive(Debug, Default)]
pub struct HealthCell {
    unhealthy: AtomicBool,
    failures: AtomicU32,
    checked_at: AtomicU64,
    served_at: AtomicU64,
}

impl HealthCell {
    /// The gate.
    pub fn is_healthy(&self) -> bool {
        !self.unhealthy.load(Ordering::Relaxed)
    }

    /// All of it, each part as it stands.
    pub fn read(&self) -> Health {
        Health {
            is_healthy: self.is_healthy(),
            failures: self.failures.load(Ordering::Relaxed),
            checked_at: Instant::from_nanos(self.checked_at.load(Ordering::Relaxed)),
            served_at: Instant::from_nanos(self.served_at.load(Ordering::Relaxed)),
            successes: 0,
        }
    }

    /// Publishes it.
    pub(super) fn publish(&self, health: &Health) {
        self.unhealthy.store(!health.is_healthy, Ordering::Relaxed);
        self.failures.store(health.failures, Ordering::Relaxed);
        self.checked_at.store(health.checked_at.as_nanos(), Ordering::Relaxed);
        self.served_at.store(health.served_at.as_nanos(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::outcome::{ConnectPhase, TimeoutKind};
    use super::*;

    const KINDS: [HealthCheckKind; 4] =
        [HealthCheckKind::Off, HealthCheckKind::Connect, HealthCheckKind::Models, HealthCheckKind::Completion];

    #[test]
    fn an_answer_shows_that_the_host_is_there() {
        let bad = |is_told| Found::Bad { class: Class::ServerError, hint: None, is_told };
        for (found, shows) in [
            (Found::Good { is_listed: true }, true),
            (Found::Expected, true),
            (Found::Mute, true),
            (Found::Served, false),
            (bad(false), false),
            (bad(true), false),
        ] {
            assert_eq!(found.shows_host(), shows, "{found:?}");
        }
    }

    /// Plays verdicts, `s`, `f` or `n`, by the usual thresholds; writes the gate after each: `+` or `-`, doubled at an edge.
    fn play(verdicts: &str) -> String {
        let mut health = Health::default();
        let mut seen = Vec::new();
        for verdict in verdicts.chars() {
            let verdict = match verdict {
                's' => Verdict::Success,
                'f' => Verdict::Failure,
                _ => Verdict::Neutral,
            };
            let is_edge = health.note(verdict, &HealthCheck::default());
            let sign = if health.is_healthy { "+" } else { "-" };
            seen.push(sign.repeat(1 + usize::from(is_edge)));
        }
        seen.join(" ")
    }

    #[test]
    fn three_failures_in_a_row_make_it_unhealthy_and_two_successes_well_again() {
        for (verdicts, expected) in [
            ("sss", "+ + +"),
            ("ff", "+ +"),
            ("ffff", "+ + -- -"),
            ("ffsff", "+ + + + +"),
            ("ffnf", "+ + + --"),
            ("fffsf", "+ + -- - -"),
            ("fffss", "+ + -- - ++"),
            ("fffsns", "+ + -- - - ++"),
            ("fffsfss", "+ + -- - - - ++"),
            ("fffssff", "+ + -- - ++ + +"),
            ("fffssfff", "+ + -- - ++ + + --"),
        ] {
            assert_eq!(play(verdicts), expected, "{verdicts}");
        }
    }

    #[test]
    fn busy_unpaid_and_refused_are_not_sick() {
        let table = [
            (Verdict::Success, vec![Class::RateLimited, Class::QuotaExhausted]),
            (Verdict::Neutral, vec![Class::Auth, Class::Permission, Class::NotFound, Class::Overloaded, Class::Local]),
            (
                Verdict::Failure,
                vec![
                    Class::Connect(ConnectPhase::Dns),
                    Class::Reset,
                    Class::Truncated,
                    Class::Malformed,
                    Class::ServerError,
                    Class::Timeout(TimeoutKind::FirstByte),
                    Class::CallerFault,
                ],
            ),
        ];
        for (verdict, classes) in table {
            for class in classes {
                assert_eq!(Found::Bad { class, hint: None, is_told: false }.verdict(), verdict, "{class:?}");
            }
        }
        let good = [Found::Served, Found::Expected, Found::Good { is_listed: false }];
        assert_eq!(good.map(Found::verdict), [Verdict::Success; 3]);
        assert_eq!(Found::Mute.verdict(), Verdict::Neutral);
    }

    #[test]
    fn each_success_clears_what_it_shows_and_nothing_else() {
        let cleared = |kind, is_listed| -> Vec<&str> {
            Block::ALL.into_iter().filter(|block| clears(kind, *block, is_listed)).map(Block::name).collect()
        };
        for (kind, unlisted, listed) in [
            (HealthCheckKind::Off, vec![], vec![]),
            (HealthCheckKind::Connect, vec![], vec![]),
            (HealthCheckKind::Models, vec!["auth_blocked"], vec!["auth_blocked", "not_found"]),
            (
                HealthCheckKind::Completion,
                vec!["quota_exhausted", "auth_blocked", "permission_blocked", "not_found"],
                vec!["quota_exhausted", "auth_blocked", "permission_blocked", "not_found"],
            ),
        ] {
            assert_eq!((cleared(kind, false), cleared(kind, true)), (unlisted, listed), "{kind:?}");
        }
        for kind in KINDS {
            assert!(!clears(kind, Block::Rate, true) && !clears(kind, Block::Overload, true), "{kind:?}");
        }
    }

    #[test]
    fn without_checks_it_is_healthy_and_what_it_served_stays_known() {
        let mut health = Health::default();
        let at = Instant::from_nanos(7);
        health.served(at);
        for _ in 0..3 {
            health.note(Verdict::Failure, &HealthCheck::default());
        }
        assert!(!health.is_healthy && health.forget() && !health.forget());
        assert_eq!(health, Health { served_at: at, ..Health::default() });
    }

    #[test]
    fn the_cell_shows_what_was_published() {
        let cell = HealthCell::default();
        assert_eq!(cell.read(), Health::default());
        let sick = Health {
            is_healthy: false,
            failures: 4,
            checked_at: Instant::from_nanos(9),
            served_at: Instant::from_nanos(5),
            successes: 0,
        };
        cell.publish(&sick);
        assert_eq!((cell.read(), cell.is_healthy()), (sick, false));
    }

    proptest! {
        /// Against the definition: the gate falls where the last N verdicts that count are failures, rises where the last M
        /// are successes, and changes nowhere else.
        #[test]
        fn the_gate_is_what_the_last_verdicts_say(
            verdicts in proptest::collection::vec(prop_oneof![
                Just(Verdict::Success), Just(Verdict::Failure), Just(Verdict::Neutral)
            ], 0..200),
            unhealthy_threshold in 1..6_u32,
            healthy_threshold in 1..6_u32,
        ) {
            let policy = HealthCheck { unhealthy_threshold, healthy_threshold, ..HealthCheck::default() };
            let mut health = Health::default();
            let mut counted = Vec::new();
            let mut expected = true;
            for verdict in verdicts {
                if verdict != Verdict::Neutral {
                    counted.push(verdict);
                }
                let row = |wanted: Verdict| counted.iter().rev().take_while(|seen| **seen == wanted).count() as u32;
                let before = expected;
                expected = match expected {
                    true => row(Verdict::Failure) < unhealthy_threshold,
                    false => healthy_threshold <= row(Verdict::Success),
                };
                let is_edge = health.note(verdict, &policy);
                prop_assert_eq!(health.is_healthy, expected);
                prop_assert_eq!(is_edge, before != expected);
                prop_assert_eq!(health.failures, row(Verdict::Failure));
            }
        }
    }
}
