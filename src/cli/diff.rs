//! `breakwater diff OLD NEW`: what a reload from one file to the other would change.

use std::path::Path;
use std::process::ExitCode;

use super::arguments::Options;
use super::{USAGE, fail, say};
use crate::config::{self, Config, SystemSource, diff};

/// The files differ in what they mean.
const DIFFERENT: u8 = 1;

/// Compares.
pub(super) fn run(options: &Options) -> ExitCode {
    let [before, after] = options.files.as_slice() else {
        return fail(USAGE, "diff wants two files: breakwater diff OLD NEW");
    };
    let load = |path: &Path| config::load(path, &SystemSource);
    match (load(before), load(after)) {
        (Ok(before), Ok(after)) => tell(&before.config, &after.config),
        (before, after) => {
            let reports = [before.err(), after.err()].into_iter().flatten();
            let text: String = reports.map(|report| report.render(options.format)).collect();
            fail(USAGE, text.trim_end())
        }
    }
}

fn tell(before: &Config, after: &Config) -> ExitCode {
    if diff::is_same(before, after) {
        return say("no difference");
    }
    let lines: Vec<String> = diff::changes(before, before, after).iter().map(ToString::to_string).collect();
    say(&lines.join("\n"));
    ExitCode::from(DIFFERENT)
}
