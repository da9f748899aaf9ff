//! The explanation from a file: how the name is found, the plan, and what failures lead to. Nothing is called.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::walk::{self, End, Step};
use super::{Form, Refused};
use crate::cli::arguments::Explain;
use crate::config::{self, Config, Member, Origin, Reasoning, Route};

/// Names listed where one is not found: more would hide the message.
const MAX_LISTED: usize = 20;

/// Explains a model name.
///
/// # Errors
/// No such route, or a failing backend that is not there.
pub(super) fn explain(config: &Config, model: &str, asked: &Explain, form: Form) -> Result<String, Refused> {
    let route = walk::find(config, model).ok_or_else(|| no_route(config, model))?;
    if let Some((name, _)) = asked.failing.iter().find(|(name, _)| !config.backends.contains_key(name.as_str())) {
        let known: Vec<&str> = config.backends.keys().take(MAX_LISTED).map(|id| id.as_str()).collect();
        return Err(Refused::Usage(format!("--fail: no backend is called `{name}`; there are {}", known.join(", "))));
    }
    let (steps, end) = walk::walk(config, route, asked.stream, &asked.failing);
    let facts = Facts { config, model, route, stream: asked.stream, steps, end };
    Ok(match form {
        Form::Human => facts.human(),
        Form::Json => facts.json().to_string(),
    })
}

fn no_route(config: &Config, model: &str) -> Refused {
    let known: Vec<&str> = config.routes.keys().take(MAX_LISTED).map(|name| name.as_str()).collect();
    Refused::NoRoute(format!("no route has the name `{model}`; there are {}", known.join(", ")))
}

struct Facts<'a> {
    config: &'a Config,
    model: &'a str,
    route: &'a Arc<Route>,
    stream: bool,
    steps: Vec<Step>,
    end: End,
}

/// One backend of the plan.
struct Shown<'a> {
    backend: &'a config::Backend,
    share: f64,
    upstream_model: String,
    /// Longest wait for the first content or the answer's head.
    head: Duration,
    connect: Duration,
    idle: Duration,
}

impl Facts<'_> {
    fn matched(&self) -> Option<&str> {
        let (prefix, suffix) = self.route.name.as_str().split_once('*')?;
        self.model.strip_prefix(prefix)?.strip_suffix(suffix)
    }

    fn shown<'a>(&'a self, member: &'a Member, share: f64) -> Option<Shown<'a>> {
        let backend = self.config.backends.get(&member.backend)?;
        let timeouts = &member.timeouts;
        let head = match (self.stream, backend.reasoning == Reasoning::Always) {
            (true, false) => timeouts.first_token,
            (true, true) => timeouts.first_token_reasoning,
            (false, false) => timeouts.first_byte,
            (false, true) => timeouts.first_byte_reasoning,
        };
        let upstream_model = match self.matched() {
            Some(matched) => backend.upstream_model.replace('*', matched),
            None => backend.upstream_model.clone(),
        };
        Some(Shown { backend, share, upstream_model, head, connect: timeouts.connect, idle: timeouts.idle })
    }

    fn tiers(&self) -> impl Iterator<Item = (u32, Vec<Shown<'_>>)> {
        self.route.tiers.iter().map(|tier| {
            let shares = walk::shares(&tier.members);
            let shown = tier.members.iter().zip(shares).filter_map(|(member, (_, share))| self.shown(member, share));
            (tier.priority, shown.collect())
        })
    }

    fn human(&self) -> String {
        let Self { route, model, .. } = self;
        let policy = &route.policy;
        let errors: Vec<&str> = route.failover_on.iter().map(|kind| kind.name()).collect();
        let mut text = format!("{model}: {}\n", self.found());
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  chooses by: {}", route.strategy.name());
        let _ = writeln!(
            text,
            "  fails over on: {}",
            if errors.is_empty() { "nothing".to_owned() } else { errors.join(", ") }
        );
        let _ = writeln!(
            text,
            "  at most {} attempts here, {} with fallbacks; {} for all of them{}",
            policy.max_attempts,
            policy.max_total_attempts.max(policy.max_attempts),
            span(policy.total),
            if self.stream { format!(", {} for a running stream", span(policy.stream_total)) } else { String::new() },
        );
        if let Some(hedge) = &policy.hedge {
            let (least, share) = (span(hedge.min_delay), f64::from(hedge.max_extra) / 100.0);
            let _ = writeln!(
                text,
                "  hedges a call slower than {least} and than 95 % of its backend's, at most {share} % of requests"
            );
        }
        for (priority, backends) in self.tiers() {
            for shown in backends {
                self.human_backend(priority, &shown, &mut text);
            }
        }
        for fallback in &route.fallbacks {
            let _ = writeln!(text, "  then: {fallback}");
        }
        self.human_walk(&mut text);
        text
    }

    fn human_backend(&self, priority: u32, shown: &Shown<'_>, text: &mut String) {
        let backend = shown.backend;
        let head = if self.stream { "first token" } else { "first byte" };
        let _ = writeln!(
            text,
            "  priority {priority}: {} {:.0} % ({} {} at {}; connect {}, {head} {}, idle {})",
            backend.id,
            100.0 * shown.share,
            backend.provider.name(),
            shown.upstream_model,
            backend.base_url.authority(),
            span(shown.connect),
            span(shown.head),
            span(shown.idle),
        );
    }

    fn human_walk(&self, text: &mut String) {
        let _ = writeln!(text, "a request:");
        let mut attempt = 0;
        for step in &self.steps {
            let _ = match step {
                Step::Fails { backend, priority, error } => {
                    attempt += 1;
                    writeln!(text, "  {attempt}. {backend} (priority {priority}) fails: {}", error.name())
                }
                Step::Serves { among, priority } => {
                    attempt += 1;
                    let among: Vec<String> =
                        among.iter().map(|(name, share)| format!("{name} {:.0} %", 100.0 * share)).collect();
                    writeln!(text, "  {attempt}. {} (priority {priority}) serves", among.join(" or "))
                }
                Step::FallsBack { to } => writeln!(text, "  falls back to {to}"),
            };
        }
        let _ = match self.end {
            End::Served => Ok(()),
            End::Unmoved(error) => writeln!(text, "  {} does not fail over: it is the answer", error.name()),
            End::NobodyLeft => writeln!(text, "  nobody is left: the client gets an error"),
            End::AttemptsSpent => {
                writeln!(text, "  no attempt is left, though there are more backends: the client gets an error")
            }
        };
    }

    fn found(&self) -> String {
        let name = &self.route.name;
        match self.route.origin {
            Origin::Router => "an entry of `router`".to_owned(),
            Origin::Group => "a routing group".to_owned(),
            Origin::Alias => "an alias".to_owned(),
            Origin::Implicit => "a `model_name`".to_owned(),
            Origin::BackendId => "a backend by its own id".to_owned(),
            Origin::Wildcard => {
                format!("the wildcard `{name}`, whose * stands for `{}`", self.matched().unwrap_or_default())
            }
        }
    }

    fn json(&self) -> Value {
        let route = self.route;
        let tiers = self.tiers().map(|(priority, backends)| {
            let backends = backends.iter().map(|shown| {
                json!({
                    "backend": shown.backend.id.as_str(),
                    "share": shown.share,
                    "provider": shown.backend.provider.name(),
                    "upstream_model": shown.upstream_model,
                    "host": shown.backend.base_url.authority(),
                    "timeouts_ms": {"connect": millis(shown.connect), "head": millis(shown.head), "idle": millis(shown.idle)},
                })
            });
            json!({"priority": priority, "backends": backends.collect::<Vec<_>>()})
        });
        json!({
            "model": self.model,
            "route": route.name.as_str(),
            "found": self.found(),
            "matched": self.matched(),
            "strategy": route.strategy.name(),
            "failover_on": route.failover_on.iter().map(|kind| kind.name()).collect::<Vec<_>>(),
            "hedge": route.policy.hedge.as_ref().map(|hedge| {
                json!({"min_delay_ms": millis(hedge.min_delay), "max_extra": f64::from(hedge.max_extra) / 1e4})
            }),
            "max_attempts": route.policy.max_attempts,
            "max_total_attempts": route.policy.max_total_attempts.max(route.policy.max_attempts),
            "total_ms": millis(route.policy.total),
            "tiers": tiers.collect::<Vec<_>>(),
            "fallbacks": route.fallbacks.iter().map(|name| name.as_str()).collect::<Vec<_>>(),
            "steps": self.steps.iter().map(step).collect::<Vec<_>>(),
            "end": self.end.name(),
        })
    }
}

fn step(step: &Step) -> Value {
    match step {
        Step::Fails { backend, priority, error } => {
            json!({"step": "fails", "backend": backend, "priority": priority, "error": error.name()})
        }
        Step::Serves { among, priority } => {
            let among = among.iter().map(|(name, share)| json!({"backend": name, "share": share}));
            json!({"step": "serves", "among": among.collect::<Vec<_>>(), "priority": priority})
        }
        Step::FallsBack { to } => json!({"step": "falls_back", "to": to.as_str()}),
    }
}

fn millis(span: Duration) -> u64 {
    span.as_millis() as u64
}

/// `5 s`, `0.25 s`.
fn span(span: Duration) -> String {
    format!("{} s", span.as_secs_f64())
}
