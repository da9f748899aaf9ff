//! The validated truth: what a configuration file means, as one immutable value.
//!
//! A [`Config`] cannot be wrong: `validate` has met every odd value and explained it. Nothing here is `Deserialize`; what the
//! YAML says is `raw`'s business. Defaults are those of spec/config.md 9, whose numbers spec/resilience.md owns.
//!
//! The stages of [`load()`], each a file: `text` (bytes to text) → `yaml` (nodes with places) → `load` (includes) → `raw` (keys by
//! the type they want: `section`, `item`, `scalar`, `placeholder`) → `validate` (`settings`, `detect` and `endpoint`, `routes`,
//! `check`) → `build` (with `policy`). All of them tell `context` what is wrong and go on; `problem` shows it, `redact` hides
//! the secrets in what is shown, and `inputs` keeps what was read.
//!
//! Of a compiled value `outline` says key by key what it means; from that `diff` makes what another one changes, and `effective`
//! a file once more. `schema` is the language itself, for editors. `watcher` reads the files again when they change.

mod backend;
mod build;
mod check;
mod context;
mod detect;
pub mod diff;
pub mod effective;
mod endpoint;
mod entra;
mod inputs;
mod item;
mod litellm_keys;
mod load;
mod outline;
mod placeholder;
mod policy;
mod prices;
mod problem;
mod process;
mod raw;
mod redact;
mod route;
mod routes;
mod scalar;
pub mod schema;
mod section;
mod settings;
mod source;
mod suggest;
mod text;
mod url;
mod validate;
pub mod watcher;
mod yaml;

pub use backend::{
    Backend, BackendPolicy, BaseUrl, CircuitBreaker, ClassifyRule, Credential, EndpointBreaker, HealthCheck,
    HealthCheckKind, IdentityHash, Provider, Quota, Reasoning,
};
pub use entra::EntraIdentity;
pub use inputs::Inputs;
pub use load::{load, load_text};
pub use prices::Prices;
pub use problem::{Problem, ProblemFormat, Report, Severity};
pub use process::{
    Admin, Auth, ClientKey, Defaults, LogFormat, Logging, Reload, ResponseHeaders, Rollback, Server, Telemetry,
    WatchMode,
};
pub use route::{AttemptTimeouts, Hedge, Member, OnExhausted, Origin, Route, RoutePolicy, Strategy, Tier};
pub use source::{BlindSource, Source, SystemSource};

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use indexmap::IndexMap;

/// The name of one backend: `model_info.id`, else its `model_name`. Used in headers, logs and metric labels.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendId(Arc<str>);

/// The name a client asks for as `model`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteName(Arc<str>);

macro_rules! name_type {
    ($name:ident) => {
        impl $name {
            /// Takes a name that has been checked: 1 to 128 printable characters.
            pub fn new(name: impl Into<Arc<str>>) -> Self {
                Self(name.into())
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

name_type!(BackendId);
name_type!(RouteName);

/// A secret: no `Debug`, no `Display`, no `Serialize`. Its text leaves only through [`ApiKey::expose`].
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(Arc<str>);

impl ApiKey {
    /// Wraps a secret.
    pub fn new(secret: impl Into<Arc<str>>) -> Self {
        Self(secret.into())
    }

    /// The secret itself: for a header to its owner or for a digest, never for a log or an error.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Everything a configuration says, compiled and checked.
#[derive(Clone)]
pub struct Config {
    /// The listener for clients.
    pub server: Server,
    /// The listener for operators.
    pub admin: Admin,
    /// Who may call.
    pub auth: Auth,
    /// Small choices that belong to no route.
    pub defaults: Defaults,
    /// How the file is watched.
    pub reload: Reload,
    /// What is written where.
    pub logging: Logging,
    /// Where spans go.
    pub telemetry: Telemetry,
    /// Every backend by its id, in the file's order.
    pub backends: IndexMap<BackendId, Arc<Backend>>,
    /// Every exact route by its name, `router` entries first, then groups, aliases and implicit ones. A name stands once:
    /// the first in the order of spec/config.md 1 rule 5.
    pub routes: IndexMap<RouteName, Arc<Route>>,
    /// Routes whose name holds one `*`, longest literal prefix first.
    pub wildcards: Vec<Arc<Route>>,
    /// First 12 hex digits of SHA-256 over the loaded files in order.
    pub hash: String,
}

/// A configuration that was read and found usable.
pub struct Loaded {
    /// What it means.
    pub config: Arc<Config>,
    /// Warnings and notes, sorted by file and position.
    pub warnings: Vec<Problem>,
    /// Every file it was read from, for the watcher.
    pub inputs: Inputs,
    /// For each file the lines that warnings name, for showing them; others are empty and secrets hidden.
    pub sources: BTreeMap<String, String>,
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded")
            .field("hash", &self.config.hash)
            .field("warnings", &self.warnings)
            .finish_non_exhaustive()
    }
}

impl Loaded {
    /// Writes all warnings and notes, each ending with a line break.
    pub fn render(&self, format: ProblemFormat) -> String {
        problem::render(&self.warnings, &self.sources, format)
    }
}

/// Reads a duration as configurations spell it: `30`, `250ms`, `1m30s`, `2h`; none if it is none.
pub fn parse_duration(text: &str) -> Option<std::time::Duration> {
    scalar::duration(text).ok()
}

#[cfg(test)]
mod tests;
