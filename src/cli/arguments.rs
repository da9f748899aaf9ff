//! The command line as typed.

use std::ffi::OsString;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use crate::config::ProblemFormat;
use crate::error::ErrorType;
use lexopt::prelude::{Long, Short, Value, ValueExt as _};

/// What was asked for.
#[derive(Debug, PartialEq)]
pub(super) struct Arguments {
    pub(super) command: Command,
    pub(super) options: Options,
}

/// Which command.
#[derive(Debug, PartialEq)]
pub(super) enum Command {
    Serve,
    Check,
    Explain,
    Diff,
    Schema,
    Demo,
    /// The simulator reads its own words.
    Simulate(Vec<OsString>),
    Help,
    Version,
}

/// The options of all commands.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Options {
    pub(super) config: Option<PathBuf>,
    pub(super) host: Option<IpAddr>,
    pub(super) port: Option<u16>,
    pub(super) admin_port: Option<u16>,
    pub(super) workers: Option<NonZeroU32>,
    pub(super) strict: bool,
    /// `check` reads no environment.
    pub(super) no_env: bool,
    /// `check` writes the whole configuration down.
    pub(super) print_effective: bool,
    pub(super) format: ProblemFormat,
    pub(super) explain: Explain,
    /// The two files of `diff`.
    pub(super) files: Vec<PathBuf>,
}

/// What only `explain` wants to know.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Explain {
    /// The name that a client asks for.
    pub(super) model: Option<String>,
    /// Whether it asks for a stream.
    pub(super) stream: bool,
    /// Backends that are supposed to fail, and how.
    pub(super) failing: Vec<(String, ErrorType)>,
    /// A running gateway's admin listener.
    pub(super) admin: Option<String>,
}

impl Arguments {
    /// Reads the words after the program's name.
    ///
    /// # Errors
    /// What was not understood.
    pub(super) fn read(words: impl Iterator<Item = OsString>) -> Result<Self, String> {
        let words: Vec<OsString> = words.collect();
        if words.first().is_some_and(|word| word == "simulate") {
            return Ok(Self { command: Command::Simulate(words[1..].to_vec()), options: Options::default() });
        }
        Self::read_own(words).map_err(|error| error.to_string())
    }

    fn read_own(words: Vec<OsString>) -> Result<Self, lexopt::Error> {
        let mut parser = lexopt::Parser::from_args(words);
        let mut command = None;
        let mut options = Options::default();
        while let Some(argument) = parser.next()? {
            match argument {
                Short('h') | Long("help") => command = Some(Command::Help),
                Short('V') | Long("version") => command = Some(Command::Version),
                Short('c') | Long("config") => options.config = Some(PathBuf::from(parser.value()?)),
                Long("host") => options.host = Some(parser.value()?.parse()?),
                Long("port") => options.port = Some(parser.value()?.parse()?),
                Long("admin-port") => options.admin_port = Some(parser.value()?.parse()?),
                Long("workers") => options.workers = Some(parser.value()?.parse()?),
                Long("model") => options.explain.model = Some(parser.value()?.string()?),
                Long("stream") => options.explain.stream = true,
                Long("fail") => options.explain.failing.push(failure(&parser.value()?.string()?)?),
                Long("admin") => options.explain.admin = Some(parser.value()?.string()?),
                Long("strict") => options.strict = true,
                Long("no-env") => options.no_env = true,
                Long("print-effective") => options.print_effective = true,
                Long("format") => {
                    options.format = match parser.value()?.string()?.as_str() {
                        "human" => ProblemFormat::Human,
                        "short" => ProblemFormat::Short,
                        "json" => ProblemFormat::Json,
                        "github" => ProblemFormat::Github,
                        other => return Err(format!("--format is human, short, json or github, not `{other}`").into()),
                    };
                }
                Value(word) if command.is_none() => {
                    command = Some(match word.to_str() {
                        Some("serve") => Command::Serve,
                        Some("check") => Command::Check,
                        Some("explain") => Command::Explain,
                        Some("diff") => Command::Diff,
                        Some("schema") => Command::Schema,
                        Some("demo") => Command::Demo,
                        Some(_) | None => return Err(format!("`{}` is no command", word.display()).into()),
                    });
                }
                Value(file) if command == Some(Command::Diff) && options.files.len() < 2 => {
                    options.files.push(PathBuf::from(file));
                }
                Short(_) | Long(_) | Value(_) => return Err(argument.unexpected()),
            }
        }
        let command = command.unwrap_or(Command::Serve);
        if options.explain != Explain::default() && !matches!(command, Command::Explain | Command::Help) {
            return Err("--model, --stream, --fail and --admin belong to `breakwater explain`".into());
        }
        if (options.print_effective || options.no_env) && !matches!(command, Command::Check | Command::Help) {
            return Err("--print-effective and --no-env belong to `breakwater check`".into());
        }
        Ok(Self { command, options })
    }
}

/// Reads `BACKEND=ERROR`.
fn failure(text: &str) -> Result<(String, ErrorType), String> {
    let read =
        text.rsplit_once('=').and_then(|(backend, error)| Some((backend.to_owned(), ErrorType::from_name(error)?)));
    let known = || ErrorType::ALL.map(ErrorType::name).join(", ");
    read.filter(|(backend, _)| !backend.is_empty())
        .ok_or_else(|| format!("--fail is BACKEND=ERROR, not `{text}`; errors are {}", known()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &str) -> Result<Arguments, String> {
        Arguments::read(words.split_whitespace().map(OsString::from))
    }

    #[test]
    fn words_become_commands() {
        let serve = read("--config a.yaml --host 127.0.0.1 --port 4500 --admin-port 0 --workers 1").unwrap();
        assert_eq!(serve.command, Command::Serve);
        assert_eq!(serve.options.config, Some(PathBuf::from("a.yaml")));
        assert_eq!((serve.options.port, serve.options.workers), (Some(4500), NonZeroU32::new(1)));
        assert_eq!(serve.options.admin_port, Some(0));
        assert_eq!(read("check -c x --strict").unwrap().command, Command::Check);
        assert!(read("check -c x --print-effective").unwrap().options.print_effective);
        let explain = read("explain -c x --model m --stream --fail a=b=timeout_error").unwrap();
        assert_eq!(explain.command, Command::Explain);
        assert_eq!(explain.options.explain.failing, [("a=b".to_owned(), ErrorType::Timeout)]);
        assert_eq!(read("demo").unwrap().command, Command::Demo);
        assert_eq!(read("schema").unwrap().command, Command::Schema);
        let diff = read("diff a.yaml b.yaml --format short").unwrap();
        assert_eq!((diff.command, diff.options.files), (Command::Diff, vec!["a.yaml".into(), "b.yaml".into()]));
        assert_eq!(read("simulate --seed 7").unwrap().command, Command::Simulate(vec!["--seed".into(), "7".into()]));
        assert_eq!(read("--help").unwrap().command, Command::Help);
    }

    #[test]
    fn what_is_not_understood_is_said() {
        let of_explain = [
            "explain --fail a",
            "serve --print-effective",
            "explain --no-env",
            "explain --fail a=timeout",
            "explain --fail =timeout_error",
            "check --model m",
        ];
        let others =
            ["sreve", "--port 99999", "--workers 0", "--prot 1", "check --format xml", "serve demo", "diff a b c"];
        for words in others.into_iter().chain(of_explain) {
            assert!(read(words).is_err(), "{words}");
        }
    }
}
