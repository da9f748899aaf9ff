//! `breakwater check`: everything that is wrong or suspicious in a file, and what it means.

use std::fmt::Write as _;
use std::process::ExitCode;

use super::arguments::Options;
use super::{INVALID, USAGE, fail, say, serve, tell};
use crate::config::effective::effective;
use crate::config::{Config, Origin, Route, Severity};

/// Checks.
pub(super) fn run(options: &Options) -> ExitCode {
    let path = match serve::find(options) {
        Ok(path) => path,
        Err(problem) => return fail(USAGE, &problem),
    };
    let loaded = match serve::load(&path, options) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    tell(&loaded.render(options.format));
    let is_refused = options.strict && loaded.warnings.iter().any(|problem| problem.severity != Severity::Note);
    if is_refused {
        return fail(INVALID, "refused: with --strict a warning is an error");
    }
    match options.print_effective {
        true => say(effective(&loaded.config).trim_end()),
        false => say(&describe(&loaded.config)),
    }
}

/// Every route: its tiers, shares, providers and hosts.
fn describe(config: &Config) -> String {
    let mut text = format!("valid ({})", config.hash);
    let routes = config.routes.values().chain(&config.wildcards).filter(|route| route.origin != Origin::BackendId);
    for route in routes {
        describe_route(config, route, &mut text);
    }
    text
}

fn describe_route(config: &Config, route: &Route, text: &mut String) {
    let errors: Vec<&str> = route.failover_on.iter().map(|kind| kind.name()).collect();
    // Writing to a String cannot fail.
    let _ = write!(text, "\n\n{} ({})\n  fails over on: {}", route.name, route.strategy.name(), errors.join(", "));
    for tier in &route.tiers {
        let total: f64 = tier.members.iter().map(|member| member.weight).sum();
        for member in &tier.members {
            let share = if total > 0.0 { 100.0 * member.weight / total } else { 0.0 };
            let Some(backend) = config.backends.get(&member.backend) else { continue };
            let (provider, model) = (backend.provider.name(), &backend.upstream_model);
            let host = backend.base_url.authority();
            let _ = write!(
                text,
                "\n  priority {}: {} {share:.0} % ({provider} {model} at {host})",
                tier.priority, member.backend
            );
        }
    }
    for fallback in &route.fallbacks {
        let _ = write!(text, "\n  then: {fallback}");
    }
}
