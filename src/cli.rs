//! The commands: serve, check, explain, diff, schema, demo, simulate.

mod arguments;
mod check;
mod demo;
mod diff;
mod explain;
mod reload;
mod serve;

use std::ffi::OsString;
use std::process::ExitCode;

use self::arguments::{Arguments, Command};
use crate::config::schema;

/// Invalid configuration.
const INVALID: u8 = 1;
/// Wrong usage, or a file that cannot be read.
const USAGE: u8 = 2;
/// An address that cannot be had.
const NO_ADDRESS: u8 = 3;

/// Runs the command line: the words after the program's name.
pub fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    match Arguments::read(arguments) {
        Ok(Arguments { command: Command::Help, .. }) => say(HELP),
        Ok(Arguments { command: Command::Version, .. }) => say(concat!("breakwater ", env!("CARGO_PKG_VERSION"))),
        Ok(Arguments { command: Command::Serve, options }) => serve::run(&options),
        Ok(Arguments { command: Command::Check, options }) => check::run(&options),
        Ok(Arguments { command: Command::Explain, options }) => explain::run(&options),
        Ok(Arguments { command: Command::Diff, options }) => diff::run(&options),
        Ok(Arguments { command: Command::Schema, .. }) => say(schema::schema().trim_end()),
        Ok(Arguments { command: Command::Demo, options }) => demo::run(&options),
        Ok(Arguments { command: Command::Simulate(words), .. }) => demo::simulate(words),
        Err(problem) => fail(USAGE, &format!("{problem}\n\nTry `breakwater --help`.")),
    }
}

/// Says something on standard output and ends well. A reader that is gone is no error.
fn say(text: &str) -> ExitCode {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout(), "{text}");
    ExitCode::SUCCESS
}

/// Says something on standard error.
fn tell(text: &str) {
    use std::io::Write as _;
    let _ = write!(std::io::stderr(), "{text}");
}

/// Says what is wrong on standard error and ends with `code`.
fn fail(code: u8, text: &str) -> ExitCode {
    tell(text);
    tell("\n");
    ExitCode::from(code)
}

const HELP: &str = "\
breakwater: one OpenAI-compatible endpoint in front of many backends

usage:
  breakwater [serve] [--config FILE] [--host ADDRESS] [--port PORT] [--admin-port PORT] [--workers N]
  breakwater check   [--config FILE] [--strict] [--no-env] [--format human|short|json|github]
  breakwater check   [--config FILE] --print-effective   the whole configuration in our own dialect, without secrets
  breakwater explain [--config FILE] --model NAME [--stream] [--fail BACKEND=ERROR]… [--format human|json]
  breakwater explain --admin URL --model NAME      the same from a running gateway, as it stands now
  breakwater diff OLD NEW [--format human|json]   what a reload from one file to the other would change
  breakwater schema                  the configuration as JSON Schema, for editors
  breakwater demo                    the gateway and two simulated providers in one process
  breakwater simulate [OPTIONS]      fault-injecting providers; `breakwater simulate --help`

options:
  -c, --config FILE   default: $BREAKWATER_CONFIG, ./breakwater.yaml, ./litellm_config.yaml, ./config.yaml,
                      /etc/breakwater/breakwater.yaml
      --host ADDRESS  listen here instead of server.host
      --port PORT     listen here instead of server.port (4000)
      --admin-port PORT  the operators' listener, instead of admin.port (4001)
      --workers N     HTTP workers instead of server.workers (one per core)
      --no-env        check without environment and secret files: placeholders stand for themselves
  -h, --help          this text
  -V, --version       the version

exit codes: 0 ended as asked, 1 invalid configuration, no such route, or a difference, 2 wrong usage or unreadable file,
            3 address not to be had";
