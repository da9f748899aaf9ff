//! Why a backend may not be called, and for how long (spec/resilience.md 9.2).

use std::time::Duration;

use super::super::outcome::Block;
use crate::clock::Instant;

/// Why a backend is passed over (spec/resilience.md 9.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Its circuit is open.
    CircuitOpen,
    /// Its host's circuit is open.
    EndpointOpen,
    /// All its probes are taken.
    HalfOpenBusy,
    /// An operator opened its circuit.
    ForcedOpen,
    /// A block.
    Blocked(Block),
    /// Its own requests per minute are used up.
    LocalRpm,
    /// Its own tokens per minute are used up.
    LocalTpm,
    /// Its cap of calls in flight is reached.
    Saturated,
    /// The provider's own figures say that it would refuse.
    LearnedQuota,
    /// Health checks fail.
    Unhealthy,
    /// It is being drained, or its weight is 0.
    Draining,
    /// The request does not fit it.
    Incompatible,
}

impl Reason {
    /// All reasons, in the order of [`Reason::index`].
    pub const ALL: [Self; 17] = [
        Self::CircuitOpen,
        Self::EndpointOpen,
        Self::HalfOpenBusy,
        Self::ForcedOpen,
        Self::Blocked(Block::Rate),
        Self::Blocked(Block::Overload),
        Self::Blocked(Block::Money),
        Self::Blocked(Block::Auth),
        Self::Blocked(Block::Permission),
        Self::Blocked(Block::NotFound),
        Self::LocalRpm,
        Self::LocalTpm,
        Self::Saturated,
        Self::LearnedQuota,
        Self::Unhealthy,
        Self::Draining,
        Self::Incompatible,
    ];

    /// The stable word for logs, labels and error messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CircuitOpen => "circuit_open",
            Self::EndpointOpen => "endpoint_open",
            Self::HalfOpenBusy => "half_open_busy",
            Self::ForcedOpen => "forced_open",
            Self::Blocked(block) => block.name(),
            Self::LocalRpm => "local_rpm",
            Self::LocalTpm => "local_tpm",
            Self::Saturated => "saturated",
            Self::LearnedQuota => "learned_quota",
            Self::Unhealthy => "unhealthy",
            Self::Draining => "draining",
            Self::Incompatible => "incompatible",
        }
    }

    /// Position in [`Reason::ALL`].
    pub fn index(self) -> usize {
        Self::ALL.iter().position(|reason| *reason == self).unwrap_or_default()
    }

    /// Whether it is a matter of rates, which makes a final answer 429 rather than 503 (spec/resilience.md 9.3).
    pub const fn is_rate(self) -> bool {
        matches!(self, Self::Blocked(Block::Rate | Block::Money) | Self::LocalRpm | Self::LocalTpm)
    }
}

/// "No" to a permit, and when to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Why.
    pub reason: Reason,
    /// How long it will last; none if nobody can say.
    pub remaining: Option<Duration>,
}

impl Rejection {
    /// A rejection that ends after `remaining`.
    pub const fn lasting(reason: Reason, remaining: Duration) -> Self {
        Self { reason, remaining: Some(remaining) }
    }

    /// A rejection whose end is unknown.
    pub const fn endless(reason: Reason) -> Self {
        Self { reason, remaining: None }
    }

    fn lasts_longer_than(self, other: Self) -> bool {
        let lasts = |rejection: Self| rejection.remaining.unwrap_or(Duration::MAX);
        lasts(other) < lasts(self)
    }
}

/// Whether a call may go, as one reading of the cell says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Yes.
    Free,
    /// Yes, as a probe; its circuit has been claimable since then.
    Probe(Instant),
    /// No.
    Denied(Rejection),
}

impl Admission {
    /// Both gates must let it through; of two that do not, the one that lasts longer is the reason
    /// (spec/resilience.md 9.2).
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Denied(one), Self::Denied(two)) => Self::Denied(if two.lasts_longer_than(one) { two } else { one }),
            (denied @ Self::Denied(_), _) | (_, denied @ Self::Denied(_)) => denied,
            (Self::Probe(one), Self::Probe(two)) => Self::Probe(one.min(two)),
            (probe @ Self::Probe(_), Self::Free) | (Self::Free, probe @ Self::Probe(_)) => probe,
            (Self::Free, Self::Free) => Self::Free,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_the_labels_of_the_same_index() {
        use crate::telemetry::labels::{Label, PassedOver};
        for (reason, label) in Reason::ALL.into_iter().zip(PassedOver::ALL) {
            assert_eq!((reason.name(), Reason::ALL[reason.index()]), (label.name(), reason));
        }
        assert_eq!(Reason::ALL.len(), PassedOver::ALL.len());
    }
}
