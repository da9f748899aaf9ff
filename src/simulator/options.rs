//! What the simulator is started with: addresses, dialects, seed, and how a command line says so.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};

use super::preset;

/// Most virtual backends of one simulator: each holds a port, a journal and a task.
const MAX_BACKENDS: usize = 256;

/// The simulator's addresses and seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where the control API listens.
    pub control: SocketAddr,
    /// The virtual backends, each on a port of its own.
    pub backends: Vec<BackendOptions>,
    /// The seed of every random choice: the same requests in the same order meet the same faults.
    pub seed: u64,
    /// Presets to start with: backend name and preset name.
    pub presets: Vec<(String, String)>,
}

/// One virtual backend's name, address and dialect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendOptions {
    /// The name in the control API and in the answers' words: letters, digits, `.`, `_`, `-`.
    pub name: String,
    /// Where it listens; port 0 takes a free one.
    pub address: SocketAddr,
    /// Whom it imitates.
    pub dialect: Dialect,
}

/// Whom a virtual backend imitates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// OpenAI: `/v1/…`, `Authorization: Bearer`.
    OpenAi,
    /// Azure OpenAI: `/openai/deployments/…?api-version=` and `/openai/v1/…`, `api-key` or Bearer.
    Azure,
    /// A compatible server: OpenAI's paths, any credential or none.
    Compat,
}

impl Dialect {
    /// The word on the command line and in the control API.
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Azure => "azure",
            Self::Compat => "compat",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::OpenAi, Self::Azure, Self::Compat].into_iter().find(|dialect| dialect.name() == name)
    }
}

impl Default for Options {
    fn default() -> Self {
        let backend = |dialect: Dialect, port| BackendOptions {
            name: dialect.name().to_owned(),
            address: loopback(port),
            dialect,
        };
        Self {
            control: loopback(4100),
            backends: vec![
                backend(Dialect::OpenAi, 4101),
                backend(Dialect::Azure, 4102),
                backend(Dialect::Compat, 4103),
            ],
            seed: 0,
            presets: Vec::new(),
        }
    }
}

impl Options {
    /// The options as `--help` tells them.
    pub const HELP: &str = "\
Usage: breakwater simulate [OPTIONS]

  --backend NAME=[ADDR:]PORT[:openai|azure|compat]
                            a virtual backend; repeats. Default: openai=4101, azure=4102, compat=4103
  --control [ADDR:]PORT     the control port (default 127.0.0.1:4100)
  --seed N                  makes every random choice repeatable (default 0)
  --preset BACKEND=NAME     starts with a fault: outage, brownout, azure_429_burst, role_only_stall,
                            die_mid_stream, flapping; repeats

Everything listens on loopback unless an address says otherwise.
";

    /// Backends of these names and dialects on free ports of loopback, the control port too: for tests.
    pub fn on_free_ports(backends: &[(&str, Dialect)]) -> Self {
        let backend = |&(name, dialect): &(&str, Dialect)| BackendOptions {
            name: name.to_owned(),
            address: loopback(0),
            dialect,
        };
        let backends = backends.iter().map(backend).collect();
        Self { control: loopback(0), backends, seed: 0, presets: Vec::new() }
    }

    /// Reads `--control ADDR:PORT`, `--backend NAME=[ADDR:]PORT[:DIALECT]` (repeats; the first one replaces the default
    /// backends), `--seed N` and `--preset BACKEND=PRESET` (repeats). The error is a sentence for the user.
    pub fn from_args(args: impl Iterator<Item = OsString>) -> Result<Self, String> {
        let mut options = Self::default();
        let mut backends = Vec::new();
        let mut parser = lexopt::Parser::from_args(args);
        while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
            match argument {
                lexopt::Arg::Long("control") => options.control = address(&value(&mut parser)?)?,
                lexopt::Arg::Long("backend") => backends.push(backend(&value(&mut parser)?)?),
                lexopt::Arg::Long("seed") => options.seed = seed(&value(&mut parser)?)?,
                lexopt::Arg::Long("preset") => options.presets.push(pair("--preset", &value(&mut parser)?)?),
                lexopt::Arg::Long(_) | lexopt::Arg::Short(_) | lexopt::Arg::Value(_) => {
                    let error = argument.unexpected();
                    return Err(format!("{error}; the options are --control, --backend, --seed and --preset"));
                }
            }
        }
        if !backends.is_empty() {
            options.backends = backends;
        }
        options.check()?;
        Ok(options)
    }

    /// Whether names are well-formed and unique and presets name something.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.backends.len() > MAX_BACKENDS {
            return Err(format!("{} backends are more than {MAX_BACKENDS}", self.backends.len()));
        }
        for (index, backend) in self.backends.iter().enumerate() {
            let name = &backend.name;
            if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
                return Err(format!("backend name {name:?} may hold letters, digits, `.`, `_` and `-` only"));
            }
            if self.backends[..index].iter().any(|earlier| earlier.name == *name) {
                return Err(format!("two backends are named {name}"));
            }
        }
        for (backend, name) in &self.presets {
            if !self.backends.iter().any(|known| known.name == *backend) {
                return Err(format!("--preset {backend}={name}: no backend is named {backend}"));
            }
            preset::rules(name).map_err(|error| format!("--preset {backend}={name}: {error}"))?;
        }
        Ok(())
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn value(parser: &mut lexopt::Parser) -> Result<String, String> {
    let value = parser.value().map_err(|error| error.to_string())?;
    value.into_string().map_err(|value| format!("{value:?} is not UTF-8"))
}

fn seed(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("--seed {text}: a whole number is needed"))
}

fn pair(option: &str, text: &str) -> Result<(String, String), String> {
    let (left, right) = text.split_once('=').ok_or_else(|| format!("{option} {text}: `BACKEND=NAME` is needed"))?;
    Ok((left.to_owned(), right.to_owned()))
}

/// `ADDR:PORT`, or a port on loopback.
fn address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.parse() {
        return Ok(loopback(port));
    }
    text.parse().map_err(|_| format!("{text}: an address such as 127.0.0.1:4100 or a port is needed"))
}

fn backend(text: &str) -> Result<BackendOptions, String> {
    let (name, place) = pair("--backend", text)?;
    let (place, dialect) = match place.rsplit_once(':') {
        Some((place, word)) if word.parse::<u16>().is_err() && !word.ends_with(']') => {
            let dialect = Dialect::from_name(word)
                .ok_or_else(|| format!("--backend {text}: the dialect {word} is none of openai, azure, compat"))?;
            (place, dialect)
        }
        Some(_) | None => (place.as_str(), Dialect::from_name(&name).unwrap_or(Dialect::OpenAi)),
    };
    Ok(BackendOptions { name, address: address(place).map_err(|error| format!("--backend {text}: {error}"))?, dialect })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Options, String> {
        Options::from_args(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn arguments_become_options() {
        assert_eq!(read("").unwrap(), Options::default());
        let options =
            read("--control 0.0.0.0:9000 --seed 7 --backend a=9001 --backend b=[::1]:0:azure --preset a=outage")
                .unwrap();
        assert_eq!(options.control, "0.0.0.0:9000".parse().unwrap());
        assert_eq!(options.seed, 7);
        let backends: Vec<_> = options.backends.iter().map(|b| (b.name.as_str(), b.address, b.dialect)).collect();
        assert_eq!(
            backends,
            [("a", loopback(9001), Dialect::OpenAi), ("b", "[::1]:0".parse().unwrap(), Dialect::Azure)]
        );
        assert_eq!(options.presets, [("a".to_owned(), "outage".to_owned())]);
        assert_eq!(read("--backend azure=0").unwrap().backends[0].dialect, Dialect::Azure);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let table = [
            ("--backend a", "BACKEND=NAME"),
            ("--backend a=9001:gemini", "none of openai, azure, compat"),
            ("--backend a=x:openai", "an address such as"),
            ("--backend a=1 --backend a=2", "two backends are named a"),
            ("--backend a/b=1", "letters, digits"),
            ("--seed x", "whole number"),
            ("--preset a=outage", "no backend is named a"),
            ("--preset openai=rain", "outage, brownout"),
            ("--verbose", "the options are"),
        ];
        for (line, part) in table {
            let error = read(line).unwrap_err();
            assert!(error.contains(part), "{line}: {error}");
        }
    }
}
