//! The states of a circuit with the data that is true in each, the words they are told by, and the operator's hand.

use crate::backend::status::Override;
use crate::clock::Instant;

/// The state, with the data that is true in it.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// Calls pass.
    Closed(Closed),
    /// No call passes before `until`.
    Open {
        /// When the first probe may go.
        until: Instant,
    },
    /// A few probes pass.
    HalfOpen(HalfOpen),
}

/// The data of a closed circuit.
#[derive(Clone, Debug, PartialEq)]
pub struct Closed {
    /// When the period began after which one level is forgiven.
    pub since: Instant,
    /// Whether a call succeeded in it.
    pub succeeded: bool,
    /// Whether a call failed in it.
    pub failed: bool,
    /// Probes whose success helped to close it: when one of their streams breaks, that counts here.
    pub probes: Vec<u64>,
}

impl Closed {
    /// A closed time that begins now.
    pub(super) fn from(since: Instant) -> Self {
        Self { since, succeeded: false, failed: false, probes: Vec::new() }
    }

    /// Whether the period so far speaks for the backend: failures without a success do not.
    pub(super) fn forgives(&self) -> bool {
        self.succeeded || !self.failed
    }
}

/// The data of a half-open circuit.
#[derive(Clone, Debug, PartialEq)]
pub struct HalfOpen {
    /// When it was entered, or last saw a success.
    pub since: Instant,
    /// The end of the open time before which it was entered, because nobody else could serve; until a probe has succeeded.
    pub early_until: Option<Instant>,
    /// Successes so far.
    pub ok: u32,
    /// Caller faults in a row.
    pub caller: u32,
    /// Expired leases in a row.
    pub expired: u32,
    /// Probes under way: permit number and end of its right.
    pub probes: Vec<(u64, Instant)>,
    /// Probes that succeeded.
    pub succeeded: Vec<u64>,
}

impl HalfOpen {
    /// Half-open from now on.
    pub(super) fn from(since: Instant) -> Self {
        Self { since, early_until: None, ok: 0, caller: 0, expired: 0, probes: Vec::new(), succeeded: Vec::new() }
    }

    /// Ends a probe's right. False if it has none: its lease is over.
    pub(super) fn give_back(&mut self, permit: u64) -> bool {
        let found = self.probes.iter().position(|(probe, _)| *probe == permit);
        found.map(|at| self.probes.swap_remove(at)).is_some()
    }
}

/// The operator's hand, with the data that is true while it lies there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hand {
    /// None: the breaker decides.
    Auto,
    /// Nothing passes, until told otherwise.
    ForceOpen,
    /// Nothing passes until then.
    ForceOpenUntil(Instant),
    /// Everything passes; the window records.
    ForceClosed {
        /// Whether it was told once that the circuit would have opened.
        told: bool,
    },
    /// Everything passes; nothing is recorded.
    Disabled,
}

impl Hand {
    /// Its word.
    pub fn name(self) -> Override {
        match self {
            Self::Auto => Override::Auto,
            Self::ForceOpen | Self::ForceOpenUntil(_) => Override::ForceOpen,
            Self::ForceClosed { .. } => Override::ForceClosed,
            Self::Disabled => Override::Disabled,
        }
    }
}

impl From<Override> for Hand {
    fn from(word: Override) -> Self {
        match word {
            Override::Auto => Self::Auto,
            Override::ForceOpen => Self::ForceOpen,
            Override::ForceClosed => Self::ForceClosed { told: false },
            Override::Disabled => Self::Disabled,
        }
    }
}

/// The stable word of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StateName {
    /// Calls pass.
    Closed,
    /// Probes pass.
    HalfOpen,
    /// No call passes.
    Open,
}

impl StateName {
    /// For logs and labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }
}

/// Why the circuit changed (spec/observability.md 1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Failures in a row.
    Run,
    /// Share of failures.
    Ratio,
    /// Share of slow calls.
    Slow,
    /// The open time is over.
    WaitOver,
    /// Probes succeeded.
    ProbesSucceeded,
    /// Probes were answered with caller faults.
    CallerFaults,
    /// A probe failed.
    ProbeFailed,
    /// Probes brought no outcome by their lease.
    ProbesExpired,
    /// Half-open lasted too long.
    HalfOpenTimeout,
    /// An operator's reset.
    Reset,
    /// An operator's override came, or went.
    Override,
    /// The actor was re-created after a panic.
    ActorRestart,
}

impl Cause {
    /// For logs and labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Ratio => "ratio",
            Self::Slow => "slow",
            Self::WaitOver => "wait_over",
            Self::ProbesSucceeded => "probes_succeeded",
            Self::CallerFaults => "caller_faults",
            Self::ProbeFailed => "probe_failed",
            Self::ProbesExpired => "probes_expired",
            Self::HalfOpenTimeout => "half_open_timeout",
            Self::Reset => "reset",
            Self::Override => "override",
            Self::ActorRestart => "actor_restart",
        }
    }
}

/// One edge of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// From which state.
    pub from: StateName,
    /// To which state.
    pub to: StateName,
    /// Why.
    pub cause: Cause,
}
