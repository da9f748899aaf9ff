//! Prometheus' rules against the gateway they are about: what they name is exported, and every alert has its runbook entry and
//! its tests. What the rules do is promtool's business (`.ci/run prometheus`).

use std::collections::BTreeSet;

use crate::support::{Ask, Gateway, Providers};

const ALERTS: &str = include_str!("../../dashboards/prometheus/alerts.yml");
const RECORDING: &str = include_str!("../../dashboards/prometheus/recording.yml");
const TESTS: &str = include_str!("../../dashboards/prometheus/tests/alerts.yml");
const RUNBOOK: &str = include_str!("../../dashboards/RUNBOOK.md");
const TABLE: &str = include_str!("../../dashboards/README.md");

/// Words that begin so, to the first character that no metric's name has.
fn words<'t>(text: &'t str, start: &str) -> BTreeSet<&'t str> {
    let ends = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | ':'));
    text.match_indices(start).filter_map(|(at, _)| text[at..].split(ends).next()).collect()
}

/// The names of all families that a gateway in use exports.
fn exported() -> BTreeSet<String> {
    let providers = Providers::pair();
    let gateway = Gateway::start(providers.yaml(""));
    assert_eq!(gateway.ask(&Ask::stream("r")).status(), 200);
    assert_eq!(gateway.ask(&Ask::chat("r")).status(), 200);
    let text = gateway.ask(&Ask::get("/metrics")).text();
    text.lines().filter_map(|line| Some(line.strip_prefix("# TYPE ")?.split(' ').next()?.to_owned())).collect()
}

/// Families that only exist once something has happened, and so not in that gateway.
const LAZY: [&str; 2] = ["breakwater_upstream_ratelimit_limit", "breakwater_upstream_ratelimit_remaining"];

#[test]
fn rules_name_what_is_exported() {
    let exported = exported();
    let is_known = |name: &str| {
        let family = ["_bucket", "_count", "_sum"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        exported.contains(name) || exported.contains(family) || LAZY.contains(&name)
    };
    for file in [ALERTS, RECORDING] {
        for name in words(file, "breakwater_").into_iter().chain(words(file, "process_")) {
            assert!(is_known(name), "{name} is in the rules, and no gateway exports it");
        }
        for name in words(file, "breakwater:") {
            assert!(RECORDING.contains(&format!("- record: {name}\n")), "{name} is recorded by no rule");
        }
    }
    for name in exported.iter().filter(|name| name.starts_with("breakwater_")) {
        assert!(TABLE.contains(&format!("`{name}`")), "{name} is exported, and dashboards/README.md does not tell");
    }
}

#[test]
fn every_alert_has_its_entry_and_its_tests() {
    let alerts: BTreeSet<&str> = ALERTS.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let entries: BTreeSet<&str> = RUNBOOK.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    assert_eq!(entries, alerts, "entries of the runbook, and alerts");
    for alert in alerts {
        assert!(ALERTS.contains(&format!("RUNBOOK.md#{}\n", alert.to_lowercase())), "{alert} links its entry");
        assert!(
            TESTS.contains(&format!("        alertname: {alert}\n        exp_alerts:\n          - ")),
            "{alert} fires in a test"
        );
        let is_silent = format!("{{eval_time: 80h, alertname: {alert}, exp_alerts: []}}");
        assert!(TESTS.contains(&is_silent), "{alert} is silent when all is well");
    }
}
