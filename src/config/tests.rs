//! Whole files in, configurations or problems out.

mod dialects;
mod fuzz;
mod policies;
mod problems;
mod seed;
mod shipped;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io;
use std::num::NonZeroU32;
use std::path::Path;

use super::*;
use crate::error::{ErrorSet, ErrorType};

/// Files and variables of a test.
#[derive(Default)]
struct Fixture {
    files: HashMap<String, Vec<u8>>,
    variables: HashMap<String, String>,
}

impl Source for Fixture {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let found = self.files.get(&path.to_string_lossy().into_owned()).cloned();
        found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such file"))
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }
}

impl Fixture {
    /// The variables of the guide, Azure regions included.
    fn seed() -> Self {
        Self::default()
            .with("OPENAI_API_KEY", "openai-secret")
            .with("AZURE_OPENAI_API_KEY", "azure-secret")
            .with("AZURE_OPENAI_ENDPOINT", "https://my-azure-openai.openai.azure.com/")
            .with("AZURE_OPENAI_API_VERSION", "2024-02-01")
            .with("AZURE_EASTUS_KEY", "eastus-secret")
            .with("AZURE_EASTUS_ENDPOINT", "https://my-eus.openai.azure.com")
            .with("AZURE_WESTEUROPE_KEY", "westeurope-secret")
            .with("AZURE_WESTEUROPE_ENDPOINT", "https://my-weu.openai.azure.com")
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    fn file(mut self, name: &str, text: &str) -> Self {
        self.files.insert(name.to_owned(), text.as_bytes().to_vec());
        self
    }

    fn load(&self, yaml: &str) -> Result<Loaded, Report> {
        load_text("c.yaml", yaml, self)
    }
}

/// Loads with the guide's variables; panics with the report if that fails.
fn loaded(yaml: &str) -> Loaded {
    match Fixture::seed().load(yaml) {
        Ok(loaded) => loaded,
        Err(report) => panic!("{}", report.render(ProblemFormat::Human)),
    }
}

/// A route as `name origin strategy: priority[backend share, …] …`.
fn tiers(config: &Config, name: &str) -> String {
    let wildcard = || config.wildcards.iter().find(|route| route.name.as_str() == name);
    let route = config.routes.get(name).or_else(wildcard).unwrap_or_else(|| panic!("no route {name}"));
    let mut said = String::new();
    for tier in &route.tiers {
        let total: f64 = tier.members.iter().map(|member| member.weight).sum();
        let share = |member: &Member| match total > 0.0 {
            true => format!("{} {}%", member.backend, (member.weight / total * 100.0).round()),
            false => format!("{} 0%", member.backend),
        };
        let members: Vec<String> = tier.members.iter().map(share).collect();
        let _ = write!(said, " {}[{}]", tier.priority, members.join(", "));
    }
    said.trim_start().to_owned()
}

/// Everything said about a file, one `code line:column path` a line, the caller's own words left out.
fn codes(yaml: &str) -> Vec<String> {
    codes_with(&Fixture::seed(), yaml)
}

fn codes_with(fixture: &Fixture, yaml: &str) -> Vec<String> {
    let problems = match fixture.load(yaml) {
        Ok(loaded) => loaded.warnings,
        Err(report) => report.problems,
    };
    let said = |problem: &Problem| {
        let mark = match problem.severity {
            Severity::Error => "E",
            Severity::Warning => "W",
            Severity::Note => "N",
        };
        let Problem { code, line, column, path, .. } = problem;
        format!("{code}{mark} {line}:{column} {path}").trim_end().to_owned()
    };
    problems.iter().map(said).collect()
}
