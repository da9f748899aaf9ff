//! The way of one request through a configuration in which everything works but what is said to fail. The rules are those of
//! `Proxy::travel`, with its budget; the stories compare both.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::clock::Instant;
use crate::config::{Config, Member, OnExhausted, Route, RouteName};
use crate::error::ErrorType;
use crate::proxy::budget::{Budget, Next};
use crate::proxy::request::ClientLimits;
use crate::router::table::matches;

/// When it happens: no time passes on this way.
const START: Instant = Instant::from_nanos(1);

/// What is supposed to fail, and how.
pub(super) type Failing = [(String, ErrorType)];

/// One thing that happens.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// A backend is asked and fails.
    Fails {
        /// Which.
        backend: String,
        /// The tier it stands in.
        priority: u32,
        /// How.
        error: ErrorType,
    },
    /// One of these serves: each with its share of the requests that come this far.
    Serves {
        /// Backend and share.
        among: Vec<(String, f64)>,
        /// Their tier.
        priority: u32,
    },
    /// The request goes on with another route.
    FallsBack {
        /// Which.
        to: RouteName,
    },
}

/// How it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// With an answer.
    Served,
    /// This failure does not fail over: it is the answer.
    Unmoved(ErrorType),
    /// Every backend that may be used has been tried, or none may be.
    NobodyLeft,
    /// There are more, but no more attempts.
    AttemptsSpent,
}

impl End {
    /// The stable word.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Served => "served",
            Self::Unmoved(_) => "unmoved",
            Self::NobodyLeft => "nobody_left",
            Self::AttemptsSpent => "attempts_spent",
        }
    }
}

/// The route that a model name finds: exact names first, then wildcards, as the table does.
pub(super) fn find<'a>(config: &'a Config, name: &str) -> Option<&'a Arc<Route>> {
    let wildcard = || config.wildcards.iter().find(|route| matches(route.name.as_str(), name));
    config.routes.get(name).or_else(wildcard)
}

/// Walks a request for `route`. In a tier, what fails is met first.
pub(super) fn walk(config: &Config, route: &Arc<Route>, stream: bool, failing: &Failing) -> (Vec<Step>, End) {
    let budget = Budget::new(&route.policy, route.tiers.len(), ClientLimits::default(), stream, START);
    let way = Way {
        config,
        route: Arc::clone(route),
        budget,
        tried: Vec::new(),
        waiting: VecDeque::new(),
        visited: Vec::new(),
        steps: Vec::new(),
    };
    way.go(failing)
}

struct Way<'a> {
    config: &'a Config,
    route: Arc<Route>,
    budget: Budget,
    tried: Vec<String>,
    waiting: VecDeque<RouteName>,
    visited: Vec<RouteName>,
    steps: Vec<Step>,
}

impl Way<'_> {
    fn go(mut self, failing: &Failing) -> (Vec<Step>, End) {
        loop {
            let Some((priority, members)) = self.usable() else {
                match self.fall_back(None) {
                    true => continue,
                    false => return (self.steps, End::NobodyLeft),
                }
            };
            self.budget.spend();
            let of = |member: &Member| failing.iter().find(|(name, _)| name == member.backend.as_str());
            let Some((backend, error)) = members.iter().find_map(of) else {
                self.steps.push(Step::Serves { among: shares(&members), priority });
                return (self.steps, End::Served);
            };
            self.steps.push(Step::Fails { backend: backend.clone(), priority, error: *error });
            self.tried.push(backend.clone());
            if let Some(end) = self.after(*error) {
                return (self.steps, end);
            }
        }
    }

    /// The first tier with backends that may be used and were not tried.
    fn usable(&self) -> Option<(u32, Vec<Member>)> {
        let is_usable =
            |member: &&Member| 0.0 < member.weight && !self.tried.iter().any(|id| id == member.backend.as_str());
        let members = |members: &[Member]| members.iter().filter(is_usable).cloned().collect::<Vec<_>>();
        let tiers = self.route.tiers.iter().map(|tier| (tier.priority, members(&tier.members)));
        tiers.into_iter().find(|(_, members)| !members.is_empty())
    }

    /// What follows a failure: nothing, if there is a next attempt.
    fn after(&mut self, error: ErrorType) -> Option<End> {
        let fails_over = self.route.failover_on.contains(error);
        if !fails_over && special(&self.route, Some(error)).is_empty() {
            return Some(End::Unmoved(error));
        }
        let next = match self.budget.after(START) {
            Next::Failover if !fails_over => Next::Fallback,
            next @ (Next::Failover | Next::Fallback | Next::Spent | Next::NoTime) => next,
        };
        match next {
            Next::Failover => None,
            Next::Fallback if self.fall_back(Some(error)) => None,
            Next::Fallback | Next::Spent | Next::NoTime if self.usable().is_some() => Some(End::AttemptsSpent),
            Next::Fallback | Next::Spent | Next::NoTime => Some(End::NobodyLeft),
        }
    }

    /// Goes on with the next fallback route that was not visited. False if there is none, or the route does not want it.
    fn fall_back(&mut self, after: Option<ErrorType>) -> bool {
        let wants = self.route.policy.on_exhausted.contains(&OnExhausted::FallbackRoute);
        if !wants || self.budget.after(START) == Next::Spent {
            return false;
        }
        self.visited.push(self.route.name.clone());
        self.waiting.extend(special(&self.route, after).iter().chain(&self.route.fallbacks).cloned());
        while let Some(name) = self.waiting.pop_front() {
            if self.visited.contains(&name) {
                continue;
            }
            if let Some(route) = find(self.config, name.as_str()) {
                self.route = Arc::clone(route);
                self.budget.enter(&route.policy, route.tiers.len(), ClientLimits::default());
                self.steps.push(Step::FallsBack { to: name });
                return true;
            }
        }
        false
    }
}

/// The fallbacks that serve this error only.
fn special(route: &Route, after: Option<ErrorType>) -> &[RouteName] {
    match after {
        Some(ErrorType::ContextWindowExceeded) => &route.context_window_fallbacks,
        Some(ErrorType::ContentPolicyViolation) => &route.content_policy_fallbacks,
        Some(_) | None => &[],
    }
}

/// Each member with its share of one.
pub(super) fn shares(members: &[Member]) -> Vec<(String, f64)> {
    let total: f64 = members.iter().map(|member| member.weight).sum();
    let share = |weight: f64| if 0.0 < total { weight / total } else { 0.0 };
    members.iter().map(|member| (member.backend.to_string(), share(member.weight))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{SystemSource, load_text};

    const TEXT: &str = "
server: {host: 127.0.0.1}
model_list:
  - {model_name: a, litellm_params: {model: m, api_key: k, api_base: 'http://127.0.0.1:9/v1'}}
  - {model_name: b, litellm_params: {model: m, api_key: k, api_base: 'http://127.0.0.1:10/v1'}}
  - {model_name: c, litellm_params: {model: m, api_key: k, api_base: 'http://127.0.0.1:11/v1'}}
  - {model_name: d, litellm_params: {model: m, api_key: k, api_base: 'http://127.0.0.1:12/v1'}}
router:
  - model_name: r
    models: [{name: a, priority: 1, weight: 3}, {name: b, priority: 1, weight: 1}, {name: c, priority: 2}]
    fallbacks: [s]
  - {model_name: s, models: [{name: c, priority: 1}, {name: d, priority: 2}]}
  - {model_name: t, models: [{name: a, priority: 1}, {name: b, priority: 2}], resilience: {attempts: {max_attempts: 1}}}
  - {model_name: u, models: [{name: a, priority: 1}], context_window_fallbacks: [s]}
";

    /// What happens in a line: `a!timeout → [b 1.00]`.
    fn told(model: &str, failing: &str) -> String {
        let config = load_text("test.yaml", TEXT, &SystemSource).unwrap().config;
        let pair = |word: &str| {
            let (backend, error) = word.split_once('=').unwrap();
            (backend.to_owned(), ErrorType::from_name(&format!("{error}_error")).unwrap())
        };
        let failing: Vec<_> = failing.split_whitespace().map(pair).collect();
        let (steps, end) = walk(&config, find(&config, model).unwrap(), false, &failing);
        let step = |step: &Step| match step {
            Step::Fails { backend, .. } => format!("{backend}!"),
            Step::Serves { among, .. } => {
                among.iter().map(|(name, share)| format!("{name} {share:.2}")).collect::<Vec<_>>().join(" ")
            }
            Step::FallsBack { to } => format!("-> {to}"),
        };
        let steps: Vec<String> = steps.iter().map(step).collect();
        format!("{}; {}", steps.join(", "), end.name())
    }

    #[test]
    fn a_request_goes_where_the_rules_say() {
        let table = [
            ("r", "", "a 0.75 b 0.25; served"),
            ("r", "a=timeout", "a!, b 1.00; served"),
            ("r", "a=timeout b=timeout", "a!, b!, c 1.00; served"),
            ("r", "a=bad_request", "a!; unmoved"),
            ("r", "a=timeout b=timeout c=timeout", "a!, b!, c!, -> s, d 1.00; served"),
            ("r", "a=timeout b=timeout c=timeout d=timeout", "a!, b!, c!, -> s, d!; nobody_left"),
            ("t", "a=timeout", "a!; attempts_spent"),
            ("u", "a=timeout", "a!; nobody_left"),
            ("u", "a=context_window_exceeded", "a!, -> s, c 1.00; served"),
            ("u", "a=content_policy_violation", "a!; unmoved"),
        ];
        for (model, failing, expected) in table {
            assert_eq!(told(model, failing), expected, "{model} {failing}");
        }
    }
}
