//! The command line.

use std::time::Duration;

use lexopt::prelude::{Long, Short, Value, ValueExt as _};

use crate::scenario::Scenario;
use crate::window::Span;

/// From a single caller to a busy gateway.
const CONNECTIONS: [usize; 4] = [1, 16, 64, 256];

/// Most connections: each holds a descriptor here, two in the gateway and one in the simulator.
const MAX_CONNECTIONS: usize = 512;

/// Longest window; beyond it a run says no more.
const MAX_SECONDS: f64 = 60.0;

/// Most windows of each contestant.
const MAX_ROUNDS: usize = 50;

/// Connections are made and caches filled before a window begins.
const WARM_UP: Duration = Duration::from_millis(200);

/// What to run.
pub(crate) struct Options {
    /// Concurrencies, one after the other.
    pub(crate) connections: Vec<usize>,
    /// Windows of each contestant.
    pub(crate) rounds: usize,
    /// Length of a window.
    pub(crate) span: Span,
    only: Option<Scenario>,
}

impl Options {
    /// Reads the command line.
    ///
    /// # Errors
    /// What was not understood.
    pub(crate) fn read() -> Result<Self, String> {
        Self::parse(lexopt::Parser::from_env()).map_err(|error| {
            format!("{error}; the options are --short, --connections N, --seconds S, --rounds R and --only SCENARIO")
        })
    }

    fn parse(mut parser: lexopt::Parser) -> Result<Self, lexopt::Error> {
        let span = Span { warm_up: WARM_UP, measured: Duration::from_secs(1) };
        let mut options = Self { connections: CONNECTIONS.to_vec(), rounds: 3, span, only: None };
        while let Some(argument) = parser.next()? {
            match argument {
                // What cargo hands to every bench.
                Long("bench") => {}
                // Options behind it still count.
                Long("short") => options = Self { only: options.only, ..Self::short() },
                Long("connections") => {
                    options.connections = vec![parser.value()?.parse::<usize>()?.clamp(1, MAX_CONNECTIONS)];
                }
                Long("seconds") => {
                    let seconds: f64 = parser.value()?.parse()?;
                    options.span.measured = Duration::from_secs_f64(seconds.clamp(0.05, MAX_SECONDS));
                }
                Long("rounds") => options.rounds = parser.value()?.parse::<usize>()?.clamp(1, MAX_ROUNDS),
                Long("only") => options.only = Some(Scenario::named(&parser.value()?.string()?)?),
                Long(_) | Short(_) | Value(_) => return Err(argument.unexpected()),
            }
        }
        Ok(options)
    }

    /// Enough to see that every scenario works.
    fn short() -> Self {
        let span = Span { warm_up: Duration::from_millis(50), measured: Duration::from_millis(150) };
        Self { connections: vec![1, 16], rounds: 1, span, only: None }
    }

    /// The scenarios in order.
    pub(crate) fn scenarios(&self) -> impl Iterator<Item = Scenario> {
        let only = self.only;
        Scenario::ALL.into_iter().filter(move |scenario| only.is_none_or(|only| only == *scenario))
    }

    /// How long all windows take, at three contestants.
    pub(crate) fn expected(&self) -> Duration {
        let windows = self.scenarios().count() * self.connections.len() * self.rounds * 3;
        (self.span.warm_up + self.span.measured) * windows as u32
    }
}
