//! The explanation from a running gateway's status document: who would be chosen now, and what stands in the others' way.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{Form, Refused};
use crate::router::table::matches;

/// Explains a model name.
///
/// # Errors
/// No such route.
pub(super) fn explain(document: &Value, model: &str, form: Form) -> Result<String, Refused> {
    let routes = document["routes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let exact = routes.iter().find(|route| route["name"] == model);
    let covers = |route: &&Value| route["name"].as_str().is_some_and(|pattern| matches(pattern, model));
    let Some(route) = exact.or_else(|| routes.iter().find(covers)) else {
        return Err(Refused::NoRoute(format!("the gateway has no route with the name `{model}`")));
    };
    Ok(match form {
        Form::Human => human(document, model, route),
        Form::Json => json(document, model, route).to_string(),
    })
}

/// A backend on its route.
struct Candidate<'a> {
    priority: u64,
    name: &'a str,
    /// Weight as slow start now leaves it.
    weight: f64,
    reasons: &'a [Value],
    is_selectable: bool,
    /// What health checks say: passed over while another can serve.
    is_healthy: bool,
    /// What its provider says is left would not do: passed over while another can serve.
    is_deferred: bool,
}

impl Candidate<'_> {
    /// As [`crate::backend::Standing::rank`].
    fn rank(&self) -> u8 {
        match (self.is_healthy, self.is_deferred) {
            (true, false) => 0,
            (true, true) => 1,
            (false, _) => 2,
        }
    }
}

/// All candidates in plan order.
fn candidates(route: &Value) -> Vec<Candidate<'_>> {
    let mut found = Vec::new();
    for tier in items(&route["tiers"]) {
        for member in items(&tier["backends"]) {
            found.push(Candidate {
                priority: tier["priority"].as_u64().unwrap_or_default(),
                name: member["backend"].as_str().unwrap_or_default(),
                weight: member["effective_weight"].as_f64().unwrap_or_default(),
                reasons: items(&member["why_not"]),
                is_selectable: member["selectable"] == true,
                is_healthy: member["healthy"] != false,
                is_deferred: member["deferred"] == true,
            });
        }
    }
    found
}

fn items(list: &Value) -> &[Value] {
    list.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Who would be chosen now, each with its share: those of the first tier in which anybody can serve.
fn chosen<'a>(candidates: &'a [Candidate<'a>]) -> Vec<(&'a str, f64)> {
    let selectable = || candidates.iter().filter(|candidate| candidate.is_selectable);
    let rank = selectable().map(Candidate::rank).min();
    let usable = || selectable().filter(|candidate| Some(candidate.rank()) <= rank);
    let Some(priority) = usable().map(|candidate| candidate.priority).next() else { return Vec::new() };
    let tier: Vec<_> = usable().filter(|candidate| candidate.priority == priority).collect();
    let total: f64 = tier.iter().map(|candidate| candidate.weight).sum();
    let share = |weight: f64| if 0.0 < total { weight / total } else { 0.0 };
    tier.into_iter().map(|candidate| (candidate.name, share(candidate.weight))).collect()
}

fn human(document: &Value, model: &str, route: &Value) -> String {
    let word = |value: &'_ Value| value.as_str().unwrap_or("?").to_owned();
    let mut text = format!(
        "{model}: route {} ({}, {}) at {}\n",
        word(&route["name"]),
        word(&route["origin"]),
        word(&route["strategy"]),
        word(&document["now"]),
    );
    let candidates = candidates(route);
    let chosen = chosen(&candidates);
    for candidate in &candidates {
        let Candidate { priority, name, .. } = candidate;
        let share = chosen.iter().find(|(other, _)| other == name).map(|(_, share)| 100.0 * share);
        let standing = match (candidate.is_selectable, share) {
            (true, Some(share)) => format!("yes, {share:.0} %"),
            (true, None) if !candidate.is_healthy => "unhealthy, only if nobody healthy can".to_owned(),
            (true, None) if candidate.is_deferred => "learned_quota, only if nobody else can".to_owned(),
            (true, None) => "only if nobody before it can".to_owned(),
            (false, _) => format!("no: {}", reasons(candidate.reasons)),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  priority {priority}: {name} {standing}");
    }
    for fallback in items(&route["fallbacks"]) {
        let _ = writeln!(text, "  then: {}", word(fallback));
    }
    if chosen.is_empty() {
        let _ = writeln!(text, "nobody of this route can serve now");
    }
    text
}

/// `circuit_open for 3.1 s, rate_limited for 20.0 s`.
fn reasons(reasons: &[Value]) -> String {
    let told = reasons.iter().map(|no| {
        let reason = no["reason"].as_str().unwrap_or("?");
        match no["remaining_ms"].as_u64() {
            Some(millis) => format!("{reason} for {:.1} s", millis as f64 / 1_000.0),
            None => reason.to_owned(),
        }
    });
    told.collect::<Vec<_>>().join(", ")
}

fn json(document: &Value, model: &str, route: &Value) -> Value {
    let candidates = candidates(route);
    let chosen = chosen(&candidates).into_iter().map(|(name, share)| json!({"backend": name, "share": share}));
    json!({
        "model": model,
        "route": route["name"],
        "at": document["now"],
        "chosen": chosen.collect::<Vec<_>>(),
        "tiers": route["tiers"],
        "fallbacks": route["fallbacks"],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> Value {
        let no = |reason: &str, remaining: Value| json!({"reason": reason, "until": null, "remaining_ms": remaining});
        let member = |name: &str, weight: f64, why: Vec<Value>| json!({"backend": name, "effective_weight": weight, "selectable": why.is_empty(), "why_not": why});
        json!({"now": "2026-01-01T00:00:00.000Z", "routes": [{
            "name": "chat/*", "origin": "wildcard", "strategy": "weighted_round_robin", "fallbacks": ["other"],
            "tiers": [
                {"priority": 1, "backends": [
                    member("a", 1.0, vec![no("circuit_open", json!(3_120)), no("rate_limited", json!(20_000))]),
                    member("b", 1.0, vec![no("draining", Value::Null)]),
                ]},
                {"priority": 2, "backends": [member("c", 3.0, vec![]), member("d", 1.0, vec![])]},
                {"priority": 3, "backends": [member("e", 1.0, vec![])]},
            ],
        }]})
    }

    #[test]
    fn a_deferred_backend_is_passed_over_while_another_can_serve() {
        let member = |name: &str, deferred: bool| json!({"backend": name, "effective_weight": 1.0, "selectable": true, "deferred": deferred, "why_not": []});
        for (deferred, expected) in [
            ([true, false], ["  priority 1: a learned_quota, only if nobody else can", "  priority 2: b yes, 100 %"]),
            ([true, true], ["  priority 1: a yes, 100 %", "  priority 2: b learned_quota, only if nobody else can"]),
        ] {
            let tiers = json!([{"priority": 1, "backends": [member("a", deferred[0])]}, {"priority": 2, "backends": [member("b", deferred[1])]}]);
            let document = json!({"routes": [{"name": "r", "fallbacks": [], "tiers": tiers}]});
            let told = explain(&document, "r", Form::Human).unwrap();
            assert_eq!(told.lines().skip(1).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn an_unhealthy_backend_is_passed_over_while_another_can_serve() {
        let member = |name: &str, healthy: bool| json!({"backend": name, "effective_weight": 1.0, "selectable": true, "healthy": healthy, "why_not": []});
        let told = |first: bool, second: bool| {
            let tiers = json!([{"priority": 1, "backends": [member("a", first)]}, {"priority": 2, "backends": [member("b", second)]}]);
            let document = json!({"routes": [{"name": "r", "fallbacks": [], "tiers": tiers}]});
            explain(&document, "r", Form::Human).unwrap().lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
        };
        let unhealthy = "  priority 1: a unhealthy, only if nobody healthy can";
        assert_eq!(told(false, true), [unhealthy, "  priority 2: b yes, 100 %"]);
        let last = "  priority 2: b unhealthy, only if nobody healthy can";
        assert_eq!(told(true, false), ["  priority 1: a yes, 100 %", last]);
        assert_eq!(told(false, false), ["  priority 1: a yes, 100 %", last]);
    }

    #[test]
    fn each_backend_is_told_with_its_reasons_and_times() {
        let expected = "\
chat/x: route chat/* (wildcard, weighted_round_robin) at 2026-01-01T00:00:00.000Z
  priority 1: a no: circuit_open for 3.1 s, rate_limited for 20.0 s
  priority 1: b no: draining
  priority 2: c yes, 75 %
  priority 2: d yes, 25 %
  priority 3: e only if nobody before it can
  then: other
";
        assert_eq!(explain(&document(), "chat/x", Form::Human).unwrap(), expected);
        let shown: Value = serde_json::from_str(&explain(&document(), "chat/x", Form::Json).unwrap()).unwrap();
        assert_eq!(shown["chosen"], json!([{"backend": "c", "share": 0.75}, {"backend": "d", "share": 0.25}]));
        assert!(matches!(explain(&document(), "talk/x", Form::Human), Err(Refused::NoRoute(_))));
    }
}
