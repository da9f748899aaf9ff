//! `breakwater diff OLD NEW`: what a reload from one file to the other would change.

use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use super::arguments::Options;
use super::{USAGE, fail, say};
use crate::config::{self, Config, ProblemFormat, SystemSource, diff};

/// The files differ in what they mean.
const DIFFERENT: u8 = 1;

/// Compares.
pub(super) fn run(options: &Options) -> ExitCode {
    let [before, after] = options.files.as_slice() else {
        return fail(USAGE, "diff wants two files: breakwater diff OLD NEW");
    };
    let load = |path: &Path| config::load(path, &SystemSource);
    match (load(before), load(after)) {
        (Ok(before), Ok(after)) => tell(&before.config, &after.config, options.format),
        (before, after) => {
            let reports = [before.err(), after.err()].into_iter().flatten();
            let text: String = reports.map(|report| report.render(options.format)).collect();
            fail(USAGE, text.trim_end())
        }
    }
}

fn tell(before: &Config, after: &Config, format: ProblemFormat) -> ExitCode {
    let is_same = diff::is_same(before, after);
    let changes = diff::changes(before, before, after);
    let lines = || changes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    match format {
        // One object a line, as for problems.
        ProblemFormat::Json => changes.iter().for_each(|change| {
            say(&json!({"change": change.sign.name(), "what": change.what, "details": change.details}).to_string());
        }),
        ProblemFormat::Human | ProblemFormat::Short | ProblemFormat::Github if is_same => {
            say("no difference");
        }
        ProblemFormat::Human | ProblemFormat::Short | ProblemFormat::Github => {
            say(&lines());
        }
    }
    if is_same { ExitCode::SUCCESS } else { ExitCode::from(DIFFERENT) }
}
