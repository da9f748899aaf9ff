//! Rules: which requests meet which fault.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use serde::{Deserialize, Serialize};

use super::fault::{Fault, Quota, Scope};
use super::meter::{Limits, Meter, Reading};
use super::request::Request;
use crate::clock::Instant;

/// Most rules of one backend: each request walks through them.
const MAX_RULES: usize = 1000;

/// One rule. Of a backend's rules the first that matches, wins its draw and has count left decides about a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Which requests; all if empty.
    #[serde(default, rename = "match", skip_serializing_if = "Match::is_empty")]
    pub matches: Match,
    /// The chance that it applies to a matching request.
    #[serde(default = "certain")]
    pub probability: f64,
    /// How often it applies; without end if absent.
    #[serde(default)]
    pub count: Option<u64>,
    /// What then happens.
    pub fault: Fault,
}

fn certain() -> f64 {
    1.0
}

/// Conditions on a request; all that are given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Match {
    /// The request's path contains this, for example `chat/completions`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The model or deployment asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Whether a stream is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<bool>,
    /// A header that is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<HeaderMatch>,
    /// Of the requests that pass the conditions above and reach this rule, only this one, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nth: Option<NonZeroU64>,
    /// Of those, only each so-many-th.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<NonZeroU64>,
    /// Only while the rule is in its on phase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alternating: Option<Alternating>,
}

/// A header that must be there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderMatch {
    /// Its name, in any case.
    pub name: String,
    /// Its exact value; any if absent.
    #[serde(default)]
    pub value: Option<String>,
}

/// Phases in turn, from the moment the rule was set: on, off, on …
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alternating {
    /// Length of the phases in which the rule applies.
    pub on_ms: NonZeroU64,
    /// Length of the phases in which it does not.
    pub off_ms: NonZeroU64,
}

impl Match {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn asks(&self, asked: &Asked<'_>) -> bool {
        self.path.as_ref().is_none_or(|part| asked.request.path().contains(part.as_str()))
            && self.model.as_ref().is_none_or(|model| asked.model == Some(model))
            && self.stream.is_none_or(|stream| asked.stream == stream)
            && self.header.as_ref().is_none_or(|header| match (&header.value, asked.request.header(&header.name)) {
                (_, None) => false,
                (None, Some(_)) => true,
                (Some(value), Some(seen)) => value.as_bytes() == seen,
            })
    }

    fn is_turn(&self, turn: u64) -> bool {
        self.nth.is_none_or(|nth| nth.get() == turn) && self.every.is_none_or(|every| turn % every == 0)
    }
}

impl Alternating {
    fn is_on(&self, since: Duration) -> bool {
        let cycle = self.on_ms.get().saturating_add(self.off_ms.get());
        since.as_millis() % u128::from(cycle) < u128::from(self.on_ms.get())
    }
}

impl From<Fault> for Rule {
    fn from(fault: Fault) -> Self {
        Self { matches: Match::default(), probability: 1.0, count: None, fault }
    }
}

impl Rule {
    /// The same rule for so many requests only.
    pub fn times(self, count: u64) -> Self {
        Self { count: Some(count), ..self }
    }

    /// The same rule for requests that match.
    pub fn matching(self, matches: Match) -> Self {
        Self { matches, ..self }
    }

    /// The same rule with a chance.
    pub fn with_probability(self, probability: f64) -> Self {
        Self { probability, ..self }
    }

    fn check(&self) -> Result<(), String> {
        if !(0.0..=1.0).contains(&self.probability) {
            return Err("probability: must be 0 to 1".to_owned());
        }
        match self.fault.scope() {
            Scope::Listener if !self.matches.is_empty() || self.probability < 1.0 || self.count.is_some() => {
                Err("refuse: a closed listener sees nothing to `match`, draw or `count`".to_owned())
            }
            Scope::Connection if !self.matches.is_empty() => {
                Err("match: blackhole and accept_reset are judged before there is a request".to_owned())
            }
            Scope::Listener | Scope::Connection | Scope::Request | Scope::Stream => self.fault.check(),
        }
    }
}

/// What the rules look at.
pub(super) struct Asked<'a> {
    pub(super) request: &'a Request,
    pub(super) model: Option<&'a str>,
    pub(super) stream: bool,
    /// What the request will cost a quota.
    pub(super) tokens: u64,
}

/// The rule that applies.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    /// Its place in the list.
    pub(super) index: usize,
    /// How often it applied before.
    pub(super) turn: u64,
    pub(super) fault: Arc<Fault>,
    /// The window of a quota fault.
    pub(super) quota: Option<Reading>,
}

/// A backend's rules and how far they are used up.
#[derive(Default)]
pub(super) struct Book {
    pages: Vec<Page>,
    set_at: Instant,
}

struct Page {
    rule: Rule,
    fault: Arc<Fault>,
    seen: u64,
    applied: u64,
    meter: Meter,
}

impl Page {
    fn has_count_left(&self) -> bool {
        self.rule.count.is_none_or(|count| self.applied < count)
    }

    fn take(&mut self, index: usize, rng: &mut Rng) -> Option<Chosen> {
        if !self.has_count_left() || (self.rule.probability < 1.0 && self.rule.probability <= rng.f64()) {
            return None;
        }
        self.applied += 1;
        Some(Chosen { index, turn: self.applied - 1, fault: Arc::clone(&self.fault), quota: None })
    }
}

impl Book {
    /// These rules, fresh. The error names rule and field.
    pub(super) fn new(rules: Vec<Rule>, now: Instant) -> Result<Self, String> {
        let mut book = Self { pages: Vec::new(), set_at: now };
        book.add(rules)?;
        Ok(book)
    }

    /// Adds rules at the end; all or none.
    pub(super) fn add(&mut self, rules: Vec<Rule>) -> Result<(), String> {
        if MAX_RULES < self.pages.len() + rules.len() {
            return Err(format!("a backend holds at most {MAX_RULES} rules"));
        }
        for (index, rule) in rules.iter().enumerate() {
            rule.check().map_err(|error| format!("rules[{index}].{error}"))?;
        }
        self.pages.extend(rules.into_iter().map(|rule| {
            let fault = Arc::new(rule.fault.clone());
            Page { rule, fault, seen: 0, applied: 0, meter: Meter::default() }
        }));
        Ok(())
    }

    /// The rules, each with how often it applied.
    pub(super) fn rules(&self) -> impl Iterator<Item = (&Rule, u64)> {
        self.pages.iter().map(|page| (&page.rule, page.applied))
    }

    /// Whether a rule keeps the listener closed.
    pub(super) fn refuses(&self) -> bool {
        self.pages.iter().any(|page| page.fault.scope() == Scope::Listener)
    }

    /// Whether a rule judges connections as they come.
    pub(super) fn judges_connections(&self) -> bool {
        self.pages.iter().any(|page| page.fault.scope() == Scope::Connection && page.has_count_left())
    }

    /// The rule for a connection just accepted.
    pub(super) fn at_accept(&mut self, rng: &mut Rng) -> Option<Chosen> {
        let pages = self.pages.iter_mut().enumerate();
        let mut at_accept = pages.filter(|(_, page)| page.fault.scope() == Scope::Connection);
        at_accept.find_map(|(index, page)| page.take(index, rng))
    }

    /// The rule for a request.
    pub(super) fn choose(&mut self, asked: &Asked<'_>, now: Instant, rng: &mut Rng) -> Option<Chosen> {
        let since = now.since(self.set_at);
        for (index, page) in self.pages.iter_mut().enumerate() {
            let is_in_scope = match page.fault.scope() {
                Scope::Listener | Scope::Connection => false,
                Scope::Request => true,
                Scope::Stream => asked.stream,
            };
            if !is_in_scope || !page.rule.matches.asks(asked) {
                continue;
            }
            page.seen += 1;
            let is_on = page.rule.matches.alternating.as_ref().is_none_or(|phases| phases.is_on(since));
            if !is_on || !page.rule.matches.is_turn(page.seen) {
                continue;
            }
            if let Some(mut chosen) = page.take(index, rng) {
                chosen.quota = page.quota(asked.tokens, now);
                return Some(chosen);
            }
        }
        None
    }
}

impl Page {
    fn quota(&mut self, tokens: u64, now: Instant) -> Option<Reading> {
        let Fault::Quota(Quota { rpm, tpm, window_s, .. }) = &*self.fault else { return None };
        let limits = Limits::per_minute(rpm.map(Into::into), tpm.map(Into::into), *window_s);
        Some(self.meter.count(tokens, limits, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn book(rule: serde_json::Value) -> Book {
        Book::new(vec![serde_json::from_value(rule).unwrap()], Instant::ZERO).unwrap()
    }

    /// At which of these milliseconds a rule applies to a plain request.
    fn applies(book: &mut Book, at: &[u64]) -> Vec<u64> {
        let request = Request::parse(b"POST /v1/x HTTP/1.1\r\n\r\n").unwrap().unwrap();
        let asked = Asked { request: &request, model: None, stream: false, tokens: 1 };
        let mut rng = Rng::with_seed(1);
        let mut at_millis = |millis: &u64| {
            let now = Instant::ZERO.plus(Duration::from_millis(*millis));
            book.choose(&asked, now, &mut rng).is_some()
        };
        at.iter().copied().filter(|millis| at_millis(millis)).collect()
    }

    #[test]
    fn conditions_select_requests() {
        let reset = json!({"reset": "after_request"});
        let phases = json!({"alternating": {"on_ms": 3000, "off_ms": 1000}});
        let table = [
            (json!({"match": phases, "fault": reset}), vec![0, 2999, 4000, 6999, 8000]),
            (json!({"match": {"nth": 2}, "fault": reset}), vec![2999]),
            (json!({"match": {"every": 3}, "fault": reset}), vec![3000, 6999]),
            (json!({"count": 2, "fault": reset}), vec![0, 2999]),
            (json!({"probability": 0, "fault": reset}), vec![]),
            (json!({"match": {"stream": true}, "fault": reset}), vec![]),
            (json!({"match": {"model": "m"}, "fault": reset}), vec![]),
            (json!({"match": {"path": "v2"}, "fault": reset}), vec![]),
            (json!({"match": {"header": {"name": "a"}}, "fault": reset}), vec![]),
            (json!({"fault": {"hang": {"after_events": 1}}}), vec![]),
            (json!({"fault": "refuse"}), vec![]),
        ];
        for (rule, expected) in table {
            let seen = applies(&mut book(rule.clone()), &[0, 2999, 3000, 4000, 3999, 6999, 8000]);
            assert_eq!(seen, expected, "{rule}");
        }
    }

    #[test]
    fn draws_come_as_often_as_they_should() {
        let mut book = book(json!({"probability": 0.2, "fault": {"latency": 1}}));
        let applied = applies(&mut book, &vec![0; 10_000]).len();
        assert!((1850..2150).contains(&applied), "{applied}");
    }
}
