//! What there is to say about a configuration, and how it is shown (spec/config.md 6). Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::inputs::Inputs;

/// Most problems that are shown; the rest is counted. A file with more is wrong as a whole.
pub(super) const MAX_SHOWN: usize = 100;
/// Longest part of a line that is shown, in characters.
const MAX_LINE: usize = 160;

/// How bad a [`Problem`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// It can, but something is suspicious.
    Warning,
    /// Worth knowing.
    Note,
}

impl Severity {
    /// The stable word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// One thing to say about a configuration, with its place and the mend (spec/config.md 6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// Stable code such as `BW501`.
    pub code: &'static str,
    /// YAML path such as `router[0].models[1].name`.
    pub path: String,
    /// The file as it was named.
    pub file: String,
    /// Line, from 1; 0 if unknown.
    pub line: u32,
    /// Column in characters, from 1; 0 if unknown.
    pub column: u32,
    /// What is wrong. Never holds a secret.
    pub message: String,
    /// The mend.
    pub help: Option<String>,
}

/// How problems are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProblemFormat {
    /// With the line and carets.
    #[default]
    Human,
    /// One line each.
    Short,
    /// One JSON object a line.
    Json,
    /// Commands that GitHub shows beside the line.
    Github,
}

/// All problems of a file that cannot be used, sorted by file and position; at least one is an error.
#[derive(Clone, Debug)]
pub struct Report {
    /// Errors, warnings and notes.
    pub problems: Vec<Problem>,
    /// Every file that was read or wanted, for the watcher.
    pub inputs: Inputs,
    /// For each file the lines that problems name, for showing them; others are empty and secrets hidden.
    pub sources: BTreeMap<String, String>,
}

impl Report {
    /// Writes all problems, each ending with a line break.
    pub fn render(&self, format: ProblemFormat) -> String {
        render(&self.problems, &self.sources, format)
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.render(ProblemFormat::Human))
    }
}

impl std::error::Error for Report {}

/// Writes problems, the first [`MAX_SHOWN`] in full and the rest as a count.
pub(super) fn render(problems: &[Problem], sources: &BTreeMap<String, String>, format: ProblemFormat) -> String {
    let mut out = String::new();
    for problem in problems.iter().take(MAX_SHOWN) {
        match format {
            ProblemFormat::Human => human(&mut out, problem, sources.get(&problem.file)),
            ProblemFormat::Short => short(&mut out, problem),
            ProblemFormat::Json => json(&mut out, problem),
            ProblemFormat::Github => github(&mut out, problem),
        }
    }
    let rest = problems.len().saturating_sub(MAX_SHOWN);
    if rest > 0 && matches!(format, ProblemFormat::Human | ProblemFormat::Short) {
        let _ = writeln!(out, "and {rest} more");
    }
    out
}

fn human(out: &mut String, problem: &Problem, source: Option<&String>) {
    let Problem { severity, code, path, file, line, column, message, help } = problem;
    let _ = writeln!(out, "{}[{code}]: {message}", severity.name());
    let place = if *line == 0 { file.clone() } else { format!("{file}:{line}:{column}") };
    let _ = writeln!(out, "  --> {}", [place.as_str(), path].join("  ").trim_end());
    let help = help.as_ref().map(|help| format!("help: {help}"));
    let shown = source.and_then(|text| text.lines().nth((*line as usize).checked_sub(1)?));
    let Some(shown) = shown else {
        if let Some(help) = help {
            let _ = writeln!(out, "   {help}");
        }
        out.push('\n');
        return;
    };
    let gutter = line.to_string();
    let blank = " ".repeat(gutter.len());
    let (cut, column) = window(shown, (*column as usize).saturating_sub(1));
    let (before, rest) = cut.split_at(cut.char_indices().nth(column).map_or(cut.len(), |(at, _)| at));
    let pad: String = before.chars().map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
    let carets = "^".repeat(width(rest));
    let _ = writeln!(out, "{gutter} | {}", cut.trim_end());
    let _ = writeln!(out, "{}", format!("{blank} | {pad}{carets} {}", help.unwrap_or_default()).trim_end());
    out.push('\n');
}

/// The part of a line around a character, and that character's place in the part.
fn window(line: &str, column: usize) -> (String, usize) {
    let start = if column + MAX_LINE / 4 < MAX_LINE { 0 } else { column - MAX_LINE / 4 };
    (line.chars().skip(start).take(MAX_LINE).collect(), column - start)
}

/// Characters of the key or value that begins here.
fn width(rest: &str) -> usize {
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''));
    let end = match quote {
        Some(quote) => rest[1..].find(quote).map_or(rest.len(), |end| end + 2),
        None if rest.starts_with("${") => rest.find('}').map_or(rest.len(), |end| end + 1),
        None => [": ", " #", ",", "}", "]"].iter().filter_map(|stop| rest.find(stop)).min().unwrap_or(rest.len()),
    };
    rest[..end].trim_end().trim_end_matches(':').chars().count().clamp(1, MAX_LINE)
}

fn short(out: &mut String, problem: &Problem) {
    let Problem { severity, code, path, file, line, column, message, help } = problem;
    let help = help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
    let path = if path.is_empty() { String::new() } else { format!("{path}: ") };
    let _ = writeln!(out, "{file}:{line}:{column}: {}[{code}]: {path}{message}{help}", severity.name());
}

fn json(out: &mut String, problem: &Problem) {
    let Problem { severity, code, path, file, line, column, message, help } = problem;
    let object = serde_json::json!({
        "severity": severity.name(), "code": code, "path": path, "file": file, "line": line, "column": column,
        "message": message, "help": help, "related": [],
    });
    let _ = writeln!(out, "{object}");
}

fn github(out: &mut String, problem: &Problem) {
    let Problem { severity, code, path, file, line, column, message, help } = problem;
    let command = match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "notice",
    };
    let help = help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
    let text = format!("{path}: {message}{help}").replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let _ = writeln!(out, "::{command} file={file},line={line},col={column},title={code}::{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Report {
        let problem = Problem {
            severity: Severity::Error,
            code: "BW501",
            path: "router[0].models[1].name".to_owned(),
            file: "litellm_config.yaml".to_owned(),
            line: 2,
            column: 15,
            message: "route `gpt-4-router` names an unknown backend `azure-gpt40`".to_owned(),
            help: Some("did you mean `azure-gpt4o` (model_list[1], line 6)?".to_owned()),
        };
        let source = "a: 1\n      - name: azure-gpt40\n".to_owned();
        Report {
            problems: vec![problem],
            inputs: Inputs::default(),
            sources: BTreeMap::from([("litellm_config.yaml".to_owned(), source)]),
        }
    }

    #[test]
    fn the_human_form_shows_the_line_and_carets() {
        let expected = "error[BW501]: route `gpt-4-router` names an unknown backend `azure-gpt40`\n  \
                        --> litellm_config.yaml:2:15  router[0].models[1].name\n\
                        2 |       - name: azure-gpt40\n  \
                        |               ^^^^^^^^^^^ help: did you mean `azure-gpt4o` (model_list[1], line 6)?\n\n";
        assert_eq!(example().render(ProblemFormat::Human), expected);
    }

    #[test]
    fn the_other_forms_take_a_line_each() {
        let table = [
            (ProblemFormat::Short, "litellm_config.yaml:2:15: error[BW501]: router[0].models[1].name: route "),
            (ProblemFormat::Json, "{\"severity\":\"error\",\"code\":\"BW501\",\"path\":\"router[0].models[1].name\","),
            (
                ProblemFormat::Github,
                "::error file=litellm_config.yaml,line=2,col=15,title=BW501::router[0].models[1].name: ",
            ),
        ];
        for (format, beginning) in table {
            let said = example().render(format);
            assert!(said.starts_with(beginning), "{said}");
            assert_eq!(said.lines().count(), 1);
        }
    }

    #[test]
    fn a_hundred_are_shown_and_the_rest_counted() {
        let mut report = example();
        report.problems = vec![report.problems[0].clone(); 103];
        let said = report.render(ProblemFormat::Short);
        assert_eq!(said.lines().count(), 101);
        assert!(said.ends_with("and 3 more\n"));
    }
}
