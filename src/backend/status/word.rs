//! The circuit word: what must never be seen in halves, in one u64.

use super::super::circuit_breaker::StateName;

/// An operator's hand on the breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Override {
    /// None: the breaker decides.
    Auto,
    /// Nothing passes.
    ForceOpen,
    /// Everything passes, the window records.
    ForceClosed,
    /// Everything passes, the window stays empty.
    Disabled,
}

impl Override {
    /// All of them, in the order of their discriminants.
    pub const ALL: [Self; 4] = [Self::Auto, Self::ForceOpen, Self::ForceClosed, Self::Disabled];

    /// The stable word for the admin API, logs and labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::ForceOpen => "force_open",
            Self::ForceClosed => "force_closed",
            Self::Disabled => "disabled",
        }
    }
}

/// The circuit word, unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Circuit {
    /// Number of changes so far.
    pub generation: u32,
    /// The state.
    pub state: StateName,
    /// The override.
    pub hand: Override,
    /// Probes under way.
    pub probes: u8,
    /// Probes that succeeded.
    pub ok: u8,
}

impl Circuit {
    /// Bits: generation 32, ok 8, probes 8, override 8, state 8.
    pub const fn pack(self) -> u64 {
        (self.generation as u64) << 32
            | (self.ok as u64) << 24
            | (self.probes as u64) << 16
            | (self.hand as u64) << 8
            | self.state as u64
    }

    /// The word read back.
    pub const fn unpack(word: u64) -> Self {
        let state = match word & 0xff {
            0 => StateName::Closed,
            1 => StateName::HalfOpen,
            _ => StateName::Open,
        };
        let hand = match (word >> 8) & 0xff {
            0 => Override::Auto,
            1 => Override::ForceOpen,
            2 => Override::ForceClosed,
            _ => Override::Disabled,
        };
        Self { generation: (word >> 32) as u32, state, hand, probes: (word >> 16) as u8, ok: (word >> 24) as u8 }
    }
}
