//! Prometheus' rules and Grafana's dashboards against the gateway they are about: what they name is exported, what is exported is
//! shown, and every alert has its runbook entry and its tests. What expressions do is Prometheus' business (`.ci/run prometheus`).

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::{Ask, Gateway, Providers};

const ALERTS: &str = include_str!("../../dashboards/prometheus/alerts.yml");
const RECORDING: &str = include_str!("../../dashboards/prometheus/recording.yml");
const TESTS: &str = include_str!("../../dashboards/prometheus/tests/alerts.yml");
const RUNBOOK: &str = include_str!("../../dashboards/RUNBOOK.md");
const TABLE: &str = include_str!("../../dashboards/README.md");

const DASHBOARDS: [(&str, &str); 5] = [
    ("overview", include_str!("../../dashboards/grafana/overview.json")),
    ("backends", include_str!("../../dashboards/grafana/backends.json")),
    ("streaming-and-latency", include_str!("../../dashboards/grafana/streaming-and-latency.json")),
    ("slo", include_str!("../../dashboards/grafana/slo.json")),
    ("runtime", include_str!("../../dashboards/grafana/runtime.json")),
];

/// Words that begin so, to the first character that no metric's name has.
fn words<'t>(text: &'t str, start: &str) -> BTreeSet<&'t str> {
    let ends = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | ':'));
    text.match_indices(start).filter_map(|(at, _)| text[at..].split(ends).next()).collect()
}

/// Where all names stand: those of edges are exported once something has happened.
const NAMES: &str = include_str!("../../src/telemetry/names.rs");

/// The names of all families: our own, and what a gateway exports beside them.
fn exported() -> BTreeSet<String> {
    let providers = Providers::pair();
    let gateway = Gateway::start(providers.yaml(""));
    let text = gateway.ask(&Ask::get("/metrics")).text();
    let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    families.chain(words(NAMES, "breakwater_")).map(str::to_owned).collect()
}

#[test]
fn rules_name_what_is_exported() {
    let exported = exported();
    let is_known = |name: &str| {
        let family = ["_bucket", "_count", "_sum"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        exported.contains(name) || exported.contains(family)
    };
    for file in DASHBOARDS.iter().map(|(_, file)| *file).chain([ALERTS, RECORDING]) {
        for name in words(file, "breakwater_").into_iter().chain(words(file, "process_")) {
            // Part of a dashboard's own name.
            assert!(
                is_known(name) || name == "breakwater_",
                "{name} is in the rules or on a dashboard, and no gateway exports it"
            );
        }
        for name in words(file, "breakwater:") {
            assert!(RECORDING.contains(&format!("- record: {name}\n")), "{name} is recorded by no rule");
        }
    }
    for name in exported.iter().filter(|name| name.starts_with("breakwater_")) {
        assert!(TABLE.contains(&format!("`{name}`")), "{name} is exported, and dashboards/README.md does not tell");
        let is_shown =
            DASHBOARDS.iter().any(|(_, file)| words(file, name).iter().any(|word| word.starts_with(name.as_str())));
        assert!(is_shown, "{name} is exported, and no panel shows it");
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

/// Everything of a dashboard that is no row.
fn panels(dashboard: &Value) -> Vec<&Value> {
    dashboard["panels"].as_array().into_iter().flatten().filter(|panel| panel["type"] != "row").collect()
}

#[test]
fn dashboards_keep_their_form() {
    let mut uids = BTreeSet::new();
    for (name, file) in DASHBOARDS {
        let dashboard: Value = serde_json::from_str(file).unwrap();
        assert!(uids.insert(dashboard["uid"].as_str().unwrap().to_owned()), "{name}");
        assert_eq!((&dashboard["id"], &dashboard["schemaVersion"]), (&Value::Null, &39.into()), "{name}");
        let mut ids = BTreeSet::new();
        let mut taken = BTreeSet::new();
        for panel in panels(&dashboard) {
            let title = format!("{name}: {}", panel["title"]);
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: two panels of one id");
            let text = |key: &str| panel[key].as_str().unwrap_or_default().to_owned();
            assert!(!text("title").is_empty() && 10 < text("description").len(), "{title} says what to do");
            let fields = &panel["fieldConfig"]["defaults"];
            assert!(
                fields["unit"].is_string() && fields["noValue"].is_string(),
                "{title} has a unit and says when there is nothing"
            );
            let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
            for x in at("x")..at("x") + at("w") {
                for y in at("y")..at("y") + at("h") {
                    assert!(x < 24 && taken.insert((x, y)), "{title} lies over another panel, or beside the page");
                }
            }
            for target in panel["targets"].as_array().unwrap() {
                let expression = target["expr"].as_str().unwrap();
                assert!(expression.contains("job=~\"$job\""), "{title} is of the jobs that were chosen: {expression}");
                assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            }
        }
    }
}
