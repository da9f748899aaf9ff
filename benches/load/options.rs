//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use lexopt::prelude::{Long, Short, Value, ValueExt as _};

use crate::scenario::{Form, Scenario};
use crate::window::Span;

/// Most connections: each holds a descriptor here, two in the gateway and one in the simulator.
const MAX_CONNECTIONS: usize = 512;

/// Most in a run that only proves that it works.
const SHORT_CONNECTIONS: usize = 50;

/// Longest run for endurance.
const MAX_MINUTES: f64 = 24.0 * 60.0;

/// That of a run that only proves that it works: the first fault comes and goes.
const SHORT_ENDURANCE: Duration = Duration::from_secs(8);

/// Longest window; beyond it a run says no more.
const MAX_SECONDS: f64 = 60.0;

/// Most windows of each contestant.
const MAX_ROUNDS: usize = 50;

/// Connections are made and caches filled before a window begins.
const WARM_UP: Duration = Duration::from_millis(200);

/// What to run.
pub(crate) struct Options {
    /// Windows of each contestant.
    pub(crate) rounds: usize,
    /// Length of a window.
    pub(crate) span: Span,
    /// How long a run for endurance takes, in place of the scenarios or after them.
    pub(crate) endurance: Option<Duration>,
    /// Where the drawing goes.
    pub(crate) plot: Option<PathBuf>,
    /// The gateway without its peers, which are what takes time: to count what it does, not to compare.
    pub(crate) is_alone: bool,
    connections: Option<usize>,
    is_short: bool,
    only: Option<Scenario>,
}

impl Options {
    /// Reads the command line.
    ///
    /// # Errors
    /// What was not understood.
    pub(crate) fn read() -> Result<Self, String> {
        Self::parse(lexopt::Parser::from_env()).map_err(|error| {
            format!("{error}; the options are --short, --connections N, --seconds S, --rounds R, --only SCENARIO, --alone, --endure MINUTES and --plot FILE")
        })
    }

    fn parse(mut parser: lexopt::Parser) -> Result<Self, lexopt::Error> {
        let span = Span { warm_up: WARM_UP, measured: Duration::from_secs(1) };
        let mut options = Self {
            rounds: 5,
            span,
            endurance: None,
            plot: None,
            is_alone: false,
            connections: None,
            is_short: false,
            only: None,
        };
        while let Some(argument) = parser.next()? {
            match argument {
                // What cargo hands to every bench.
                Long("bench") => {}
                // Options behind it still count.
                Long("short") => {
                    options =
                        Self { only: options.only, plot: options.plot, is_alone: options.is_alone, ..Self::short() }
                }
                Long("connections") => {
                    options.connections = Some(parser.value()?.parse::<usize>()?.clamp(1, MAX_CONNECTIONS));
                }
                Long("seconds") => {
                    let seconds: f64 = parser.value()?.parse()?;
                    options.span.measured = Duration::from_secs_f64(seconds.clamp(0.05, MAX_SECONDS));
                }
                Long("rounds") => options.rounds = parser.value()?.parse::<usize>()?.clamp(1, MAX_ROUNDS),
                Long("endure") => {
                    let minutes: f64 = parser.value()?.parse()?;
                    options.endurance = Some(Duration::from_secs_f64(minutes.clamp(0.05, MAX_MINUTES) * 60.0));
                }
                Long("alone") => options.is_alone = true,
                Long("plot") => options.plot = Some(parser.value()?.into()),
                Long("only") => options.only = Some(Scenario::named(&parser.value()?.string()?)?),
                Long(_) | Short(_) | Value(_) => return Err(argument.unexpected()),
            }
        }
        Ok(options)
    }

    /// Enough to see that every scenario works.
    fn short() -> Self {
        let span = Span { warm_up: Duration::from_millis(50), measured: Duration::from_millis(150) };
        Self {
            rounds: 1,
            span,
            endurance: Some(SHORT_ENDURANCE),
            plot: None,
            is_alone: false,
            connections: None,
            is_short: true,
            only: None,
        }
    }

    /// Whether one scenario alone was asked for.
    pub(crate) fn is_single(&self) -> bool {
        self.only.is_some()
    }

    /// The scenarios in order.
    pub(crate) fn scenarios(&self) -> Vec<Scenario> {
        if self.endurance.is_some() && !self.is_short {
            return Vec::new();
        }
        // A start is compared, or it is nothing: counted, a hundred of them outweigh what a request does.
        let is_wanted = |scenario: &Scenario| {
            self.only.map_or(!self.is_alone || *scenario != Scenario::Start, |only| only == *scenario)
        };
        Scenario::ALL.into_iter().filter(is_wanted).collect()
    }

    /// The concurrencies of a scenario, one after the other.
    pub(crate) fn connections(&self, scenario: Scenario) -> Vec<usize> {
        match (self.connections, scenario.form()) {
            (Some(connections), Form::Closed | Form::Open { .. }) => vec![connections],
            (None | Some(_), _) if self.is_short => vec![scenario.connections()[0].min(SHORT_CONNECTIONS)],
            (None | Some(_), _) => scenario.connections().to_vec(),
        }
    }

    /// How long all windows take.
    pub(crate) fn expected(&self) -> Duration {
        let of_scenario = |scenario: &Scenario| self.connections(*scenario).len() * scenario.contestants().len();
        let windows = self.scenarios().iter().map(of_scenario).sum::<usize>() * self.rounds;
        (self.span.warm_up + self.span.measured) * windows as u32 + self.endurance.unwrap_or_default()
    }
}
