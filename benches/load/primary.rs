//! What stands behind a proxy, by what is wrong with it.

use std::net::SocketAddr;

/// The backend that a route tries first. Behind each but `Half` a working one stands by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Primary {
    /// Answers at once.
    Working,
    /// Streams an event every 20 ms.
    Paced,
    /// Streams an event a second.
    Slow,
    /// Answers 503. Nobody stops trying it.
    Failing,
    /// Answers 503 until it is tried no more.
    Tripped,
    /// Takes no connection. Nobody stops trying it.
    Refusing,
    /// Takes connections, and never answers.
    Hanging,
    /// Eight equal ones, of which four answer 503 until they are tried no more.
    Half,
    /// Answers at once, by TLS.
    Tls,
    /// Breaks in one way after the other, and works in between.
    Troubled,
}

impl Primary {
    /// All of them.
    pub(crate) const ALL: [Self; 10] = [
        Self::Working,
        Self::Paced,
        Self::Slow,
        Self::Failing,
        Self::Tripped,
        Self::Refusing,
        Self::Hanging,
        Self::Half,
        Self::Tls,
        Self::Troubled,
    ];

    /// Its word, as part of names in configurations.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Working => "working",
            Self::Paced => "paced",
            Self::Slow => "slow",
            Self::Failing => "failing",
            Self::Tripped => "tripped",
            Self::Refusing => "refusing",
            Self::Hanging => "hanging",
            Self::Half => "half",
            Self::Tls => "tls",
            Self::Troubled => "troubled",
        }
    }

    /// Whether a proxy is to stop trying it once it has failed.
    pub(crate) const fn is_given_up(self) -> bool {
        matches!(self, Self::Tripped | Self::Hanging | Self::Half)
    }
}

/// How long a proxy waits for a first byte of `Hanging`, in milliseconds: far above any answer here, and short enough that a
/// window has answers even if every request waits.
pub(crate) const PATIENCE_MS: u32 = 250;

/// Where the simulated backends listen.
#[derive(Clone, Copy)]
pub(crate) struct Upstreams {
    pub(crate) working: SocketAddr,
    pub(crate) paced: SocketAddr,
    pub(crate) slow: SocketAddr,
    pub(crate) failing: SocketAddr,
    pub(crate) hanging: SocketAddr,
    pub(crate) refusing: SocketAddr,
    pub(crate) tls: SocketAddr,
    pub(crate) troubled: SocketAddr,
}

impl Upstreams {
    /// Those to be tried first, as equals.
    pub(crate) fn first(&self, primary: Primary) -> Vec<SocketAddr> {
        match primary {
            Primary::Working => vec![self.working],
            Primary::Paced => vec![self.paced],
            Primary::Slow => vec![self.slow],
            Primary::Failing | Primary::Tripped => vec![self.failing],
            Primary::Refusing => vec![self.refusing],
            Primary::Hanging => vec![self.hanging],
            Primary::Half => [self.working, self.failing].repeat(4),
            Primary::Tls => vec![self.tls],
            Primary::Troubled => vec![self.troubled],
        }
    }

    /// The one that stands by.
    pub(crate) fn spare(&self, primary: Primary) -> Option<SocketAddr> {
        (primary != Primary::Half).then_some(self.working)
    }
}
