//! What decisions cost: time and allocations of each step that a request takes through the gateway without a socket.
//!
//! ```text
//! cargo bench --bench decision                          # every row, about 20 s
//! cargo bench --bench decision -- --only picker         # the rows whose name holds the word
//! cargo bench --bench decision -- --short               # as CI runs it: a moment per row, proves that each still works
//! ```
//!
//! Each row is run in rounds of equal count on one thread; nanoseconds per operation are the fastest, the median and the
//! slowest round, allocations are counted over one more round. Rows through the router actor include everything that
//! happens on that thread meanwhile: the mailbox turn, the outbox, the backend actor that books the outcome.
//!
//! The last rows time each decision by itself, on one thread and on as many as the machine has cores, against the same cells.
//!
//! Not measured: sockets, HTTP, the wake-up of the control thread (here all actors share one), cold caches. The counting allocator itself adds a few nanoseconds to each allocation, and growing a buffer counts as one.
//! `benches/load.rs` has the whole request.

#[path = "decision/actors.rs"]
mod actors;
#[path = "decision/configuration.rs"]
mod configuration;
#[path = "decision/desk.rs"]
mod desk;
#[path = "decision/meter.rs"]
mod meter;
#[path = "decision/resilience.rs"]
mod resilience;
#[path = "decision/telling.rs"]
mod telling;
#[path = "decision/wire.rs"]
mod wire;

use std::io::Write as _;
use std::process::ExitCode;

use lexopt::prelude::{Long, Short, Value, ValueExt as _};

use self::meter::{Effort, Meter};

fn main() -> ExitCode {
    let ended = read_options().and_then(|(effort, only)| run(Meter::new(effort, only)));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            let _ = writeln!(std::io::stderr(), "decision: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn read_options() -> Result<(Effort, String), String> {
    let mut parser = lexopt::Parser::from_env();
    let (mut effort, mut only) = (Effort::WHOLE, String::new());
    while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
        match argument {
            // What cargo hands to every bench.
            Long("bench") => {}
            Long("short") => effort = Effort::SHORT,
            Long("only") => only = parser.value().and_then(|word| word.string()).map_err(|error| error.to_string())?,
            Long(_) | Short(_) | Value(_) => {
                return Err(format!("{}; the options are --short and --only WORD", argument.unexpected()));
            }
        }
    }
    Ok((effort, only))
}

fn run(mut meter: Meter) -> Result<(), String> {
    resilience::measure(&mut meter);
    wire::measure(&mut meter);
    telling::measure(&mut meter);
    actors::measure(&mut meter)?;
    desk::measure(&mut meter)?;
    configuration::measure(&mut meter)?;
    meter.finish()
}
