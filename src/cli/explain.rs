//! `breakwater explain`: which backends a request for a model would be sent to, and why: from a file as after a start, or from
//! a gateway that runs.

mod client;
mod cold;
mod running;
mod walk;

use std::process::ExitCode;

use super::arguments::{Explain, Options};
use super::{INVALID, USAGE, fail, say, serve};
use crate::config::ProblemFormat;

/// Variable with the operators' token.
const TOKEN: &str = "BREAKWATER_ADMIN_TOKEN";

/// How an explanation is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// For people.
    Human,
    /// One JSON object.
    Json,
}

/// Why there is no explanation.
#[derive(Debug, PartialEq, Eq)]
enum Refused {
    /// No route has this name; what to say.
    NoRoute(String),
    /// Anything else.
    Usage(String),
}

/// Explains.
pub(super) fn run(options: &Options) -> ExitCode {
    match explain(options) {
        Ok(Ok(text)) => say(text.trim_end()),
        Ok(Err(code)) => code,
        Err(Refused::NoRoute(problem)) => fail(INVALID, &problem),
        Err(Refused::Usage(problem)) => fail(USAGE, &problem),
    }
}

/// The text; or, where the file itself is wrong, what has been said about it.
fn explain(options: &Options) -> Result<Result<String, ExitCode>, Refused> {
    let Explain { model, admin, failing, .. } = &options.explain;
    let form = match options.format {
        ProblemFormat::Human => Form::Human,
        ProblemFormat::Json => Form::Json,
        ProblemFormat::Short | ProblemFormat::Github => {
            return Err(Refused::Usage("an explanation is `--format human` or `json`".to_owned()));
        }
    };
    let model = model.as_deref().ok_or_else(|| Refused::Usage("which one? Name it with `--model`".to_owned()))?;
    let Some(url) = admin else {
        let path = serve::find(options).map_err(Refused::Usage)?;
        return match serve::load(&path, options) {
            Ok(loaded) => cold::explain(&loaded.config, model, &options.explain, form).map(Ok),
            Err(code) => Ok(Err(code)),
        };
    };
    if !failing.is_empty() {
        let problem = "`--fail` rehearses a cold start: leave out `--admin`".to_owned();
        return Err(Refused::Usage(problem));
    }
    let token = std::env::var(TOKEN).ok();
    let document = client::get_status(url, token.as_deref()).map_err(Refused::Usage)?;
    running::explain(&document, model, form).map(Ok)
}
