//! Outages by name: each preset is a list of rules that a person would otherwise write down.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use super::delay::Delay;
use super::fault::{CutAt, Fault, HangAt, RetryAfter, Status, Template};
use super::rule::{Alternating, Match, Rule};

/// The presets' names.
pub(super) const NAMES: [&str; 6] =
    ["outage", "brownout", "azure_429_burst", "role_only_stall", "die_mid_stream", "flapping"];

/// The rules of a preset; the error lists the names.
pub(super) fn rules(name: &str) -> Result<Vec<Rule>, String> {
    match name {
        "outage" => Ok(vec![Fault::Refuse.into()]),
        "brownout" => Ok(brownout()),
        "azure_429_burst" => Ok(azure_429_burst()),
        "role_only_stall" => Ok(vec![Rule::from(Fault::Hang(HangAt::BeforeFirstContent))]),
        "die_mid_stream" => Ok(vec![Rule::from(Fault::Reset(CutAt::AfterEvents(6)))]),
        "flapping" => Ok(flapping()),
        unknown => Err(format!("no preset is named {unknown:?}; there are {}", NAMES.join(", "))),
    }
}

/// Slow and partly failing: a fifth of the requests end in 503 after a while, the others take seconds.
fn brownout() -> Vec<Rule> {
    let slow = Delay::Lognormal { p50: 1500.0, p99: 8000.0 };
    let overloaded = Status { latency: Some(slow.clone()), ..Status::new(503) };
    vec![Rule::from(Fault::Status(overloaded)).with_probability(0.2), Fault::Latency(slow).into()]
}

/// Twenty requests in a row are turned away with the two seconds that Azure likes to name.
fn azure_429_burst() -> Vec<Rule> {
    let headers = [("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-remaining-tokens", "-1250")];
    let limited = Status {
        body: Some(Template::Azure),
        headers: BTreeMap::from(headers.map(|(name, value)| (name.to_owned(), value.to_owned()))),
        retry_after: Some(RetryAfter::Ms(1650)),
        ..Status::new(429)
    };
    vec![Rule::from(Fault::Status(limited)).times(20)]
}

/// Three seconds of 503, three seconds of health, and so on.
fn flapping() -> Vec<Rule> {
    let phase = NonZeroU64::MIN.saturating_add(2999);
    let alternating = Some(Alternating { on_ms: phase, off_ms: phase });
    vec![Rule::from(Fault::Status(Status::new(503))).matching(Match { alternating, ..Match::default() })]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Instant;
    use crate::simulator::rule::Book;

    #[test]
    fn every_name_has_valid_rules() {
        for name in NAMES {
            let rules = rules(name).unwrap();
            assert!(!rules.is_empty());
            assert!(Book::new(rules, Instant::ZERO).is_ok(), "{name}");
        }
        assert!(rules("rain").unwrap_err().contains("die_mid_stream"));
    }
}
