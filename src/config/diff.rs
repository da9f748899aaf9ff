//! What one configuration changes about another, in words for people. Pure.
//!
//! A backend that goes on under the same identity keeps its state (spec/resilience.md 10); every line says which. A change
//! that meets all backends or all routes is said once. No secret is shown: only that it is another one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::outline::{self, Outline, Setting};
use super::{AttemptTimeouts, Backend, BackendId, Config, Member, Origin, Route};

#[cfg(test)]
mod tests;

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What kind of thing it is about, and what becomes of it.
    pub sign: Sign,
    /// Such as `backend azure-gpt4o`.
    pub what: String,
    /// What is different; for what comes, what it is. May be empty.
    pub details: Vec<String>,
}

/// What becomes of a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It is new.
    Added,
    /// It goes on, otherwise.
    Changed,
    /// It is gone.
    Removed,
    /// The value waits for a restart.
    Restart,
}

impl Sign {
    /// The mark in front of a line.
    pub const fn mark(self) -> char {
        match self {
            Self::Added => '+',
            Self::Changed => '~',
            Self::Removed => '-',
            Self::Restart => '!',
        }
    }

    /// The word of the admin API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Removed => "removed",
            Self::Restart => "restart_required",
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.sign.mark(), self.what)?;
        match (self.sign, self.details.as_slice()) {
            (_, []) => Ok(()),
            (Sign::Added, details) => write!(f, " ({})", details.join("; ")),
            (Sign::Changed | Sign::Removed, details) => write!(f, ": {}", details.join("; ")),
            (Sign::Restart, details) => write!(f, " {}", details.join("; ")),
        }
    }
}

/// Whether two configurations mean the same, their files' hashes aside.
pub fn is_same(before: &Config, after: &Config) -> bool {
    let Config { server, admin, auth, defaults, reload, logging, telemetry, backends, routes, wildcards, hash: _ } =
        before;
    let process = *server == after.server && *admin == after.admin && *auth == after.auth;
    let told = *logging == after.logging && *telemetry == after.telemetry;
    let settings = *defaults == after.defaults && *reload == after.reload && told;
    // The order of routes is that of their names' precedence; of backends, that of metrics and documents.
    let lists = backends.iter().eq(&after.backends) && routes.iter().eq(&after.routes) && *wildcards == after.wildcards;
    process && settings && lists
}

/// Everything that `after` changes about `before`; what waits for a restart is measured against what the process was
/// `started` with, and stands at the end.
pub fn changes(started: &Config, before: &Config, after: &Config) -> Vec<Change> {
    let mut changes = backends(before, after);
    changes.extend(routes(before, after));
    changes.extend(client_keys(before, after));
    let (process, known) = (outline::process(after), outline::process(before));
    let live = |setting: &Setting| !outline::needs_restart(&setting.key);
    changes.extend(differences(&known, &process, live).into_iter().map(|detail| Change {
        sign: Sign::Changed,
        what: detail,
        details: Vec::new(),
    }));
    let first = outline::process(started);
    changes.extend(differences(&first, &process, |setting| !live(setting)).into_iter().map(|detail| Change {
        sign: Sign::Restart,
        what: "restart needed:".to_owned(),
        details: vec![detail],
    }));
    changes
}

/// Keys whose value in `after` waits for a restart of a process that was `started` otherwise.
pub fn needs_restart(started: &Config, after: &Config) -> Vec<String> {
    let (first, last) = (outline::process(started), outline::process(after));
    let changed = |setting: &&Setting| outline::needs_restart(&setting.key) && !first.0.contains(setting);
    last.0.iter().filter(changed).map(|setting| setting.key.to_string()).collect()
}

/// The keys in which two outlines differ, as `key old -> new`.
fn differences(before: &Outline, after: &Outline, is_meant: impl Fn(&Setting) -> bool) -> Vec<String> {
    let find = |outline: &'_ Outline, key: &str| outline.0.iter().position(|setting| setting.key == key);
    let mut found = Vec::new();
    for setting in after.0.iter().filter(|setting| is_meant(setting)) {
        match find(before, &setting.key).map(|index| &before.0[index]) {
            Some(known) if known == setting => {}
            Some(known) if known.shown == setting.shown => found.push(format!("{} changed", setting.key)),
            Some(known) if known.is_secret() || setting.is_secret() => {
                found.push(format!("{} now from {}", setting.key, setting.shown));
            }
            Some(known) => found.push(format!("{} {} -> {}", setting.key, known.shown, setting.shown)),
            None => found.push(format!("{} {}", setting.key, setting.shown)),
        }
    }
    for setting in before.0.iter().filter(|setting| is_meant(setting)) {
        if find(after, &setting.key).is_none() {
            found.push(format!("without {}", setting.key));
        }
    }
    found
}

/// What changes about things that go on, by name; where all of them share a difference, it is said of all.
fn shared(kind: &str, mut changed: BTreeMap<String, Vec<String>>, going_on: usize) -> Vec<Change> {
    let mut all: Vec<String> = Vec::new();
    if 1 < going_on && changed.len() == going_on {
        let mut lists = changed.values();
        let first = lists.next().cloned().unwrap_or_default();
        let rest: Vec<BTreeSet<&String>> = lists.map(|list| list.iter().collect()).collect();
        all = first.into_iter().filter(|detail| rest.iter().all(|list| list.contains(detail))).collect();
        changed.values_mut().for_each(|list| list.retain(|detail| !all.contains(detail)));
    }
    let of_all = (!all.is_empty()).then(|| Change { sign: Sign::Changed, what: format!("all {kind}s"), details: all });
    let own = changed.into_iter().filter(|(_, details)| !details.is_empty()).map(|(name, details)| Change {
        sign: Sign::Changed,
        what: format!("{kind} {name}"),
        details,
    });
    of_all.into_iter().chain(own).collect()
}

fn backends(before: &Config, after: &Config) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut changed = BTreeMap::new();
    let mut going_on = 0;
    let renamed = renamed(before, after);
    for (id, backend) in &after.backends {
        match (before.backends.get(id), renamed.get(id)) {
            (Some(known), _) => {
                going_on += 1;
                changed.insert(id.to_string(), backend_details(known, backend, (before, after)));
            }
            (None, Some(known)) => {
                let mut details = vec![format!("was {} (state kept)", known.id)];
                details.extend(backend_details(known, backend, (before, after)));
                changes.push(Change { sign: Sign::Changed, what: format!("backend {id}"), details });
            }
            (None, None) => changes.push(Change {
                sign: Sign::Added,
                what: format!("backend {id}"),
                details: vec![outline::about(backend)],
            }),
        }
    }
    changed.retain(|_, details| !details.is_empty());
    changes.extend(shared("backend", changed, going_on));
    let gone = before.backends.keys().filter(|id| !after.backends.contains_key(*id));
    let gone = gone.filter(|id| !renamed.values().any(|known| known.id == **id));
    changes.extend(gone.map(|id| Change { sign: Sign::Removed, what: format!("backend {id}"), details: Vec::new() }));
    changes
}

/// New names of backends whose upstream had another one. As the supervisor matches them: by name first, each once.
fn renamed<'c>(before: &'c Config, after: &'c Config) -> BTreeMap<&'c BackendId, &'c Backend> {
    let mut left: Vec<&Backend> = before
        .backends
        .values()
        .filter(|known| !after.backends.contains_key(&known.id))
        .map(|known| &**known)
        .collect();
    left.sort_by(|one, other| one.id.cmp(&other.id));
    let mut renamed = BTreeMap::new();
    for (id, backend) in after.backends.iter().filter(|(id, _)| !before.backends.contains_key(*id)) {
        if let Some(index) = left.iter().position(|known| known.identity == backend.identity) {
            renamed.insert(id, left.remove(index));
        }
    }
    renamed
}

fn backend_details(known: &Backend, backend: &Backend, (before, after): (&Config, &Config)) -> Vec<String> {
    // Most backends of a large file do not change, and writing down all that they mean takes its time.
    let mut details = match known == backend {
        true => Vec::new(),
        false => differences(&outline::backend(known), &outline::backend(backend), |_| true),
    };
    if let (Some(known), Some(limits)) = (limits(before, known), limits(after, backend)) {
        details.extend(limit_details(known, limits));
    }
    if details.is_empty() {
        return details;
    }
    let fate = if known.identity == backend.identity { "state kept" } else { "starts fresh" };
    if let Some(last) = details.last_mut() {
        *last = format!("{last} ({fate})");
    }
    details
}

/// A backend's time limits on its own route, which hold wherever no route has its own.
fn limits<'c>(config: &'c Config, backend: &Backend) -> Option<&'c AttemptTimeouts> {
    let own = config.routes.get(backend.id.as_str()).or_else(|| config.routes.get(backend.model_name.as_str()))?;
    let member = own.tiers.iter().flat_map(|tier| &tier.members).find(|member| member.backend == backend.id)?;
    Some(&member.timeouts)
}

fn limit_details(known: &AttemptTimeouts, limits: &AttemptTimeouts) -> Vec<String> {
    match known == limits {
        true => Vec::new(),
        false => differences(&outline::timeouts(known), &outline::timeouts(limits), |_| true),
    }
}

fn routes(before: &Config, after: &Config) -> Vec<Change> {
    let list = |config: &Config| -> BTreeMap<String, std::sync::Arc<Route>> {
        let all = config.routes.values().chain(&config.wildcards);
        all.map(|route| (route.name.to_string(), std::sync::Arc::clone(route))).collect()
    };
    let (known, wanted) = (list(before), list(after));
    // A backend's own routes come and go with it, and have nothing to say that its line does not.
    let is_told = |route: &Route| match route.origin {
        Origin::Router | Origin::Group | Origin::Alias | Origin::Wildcard => true,
        Origin::Implicit => 1 < route.tiers.iter().map(|tier| tier.members.len()).sum::<usize>(),
        Origin::BackendId => false,
    };
    let mut changes = Vec::new();
    let mut changed = BTreeMap::new();
    let mut going_on = 0;
    for (name, route) in &wanted {
        match known.get(name) {
            Some(known) => {
                going_on += 1;
                let details = route_details(known, route, (before, after));
                if !details.is_empty() {
                    changed.insert(name.clone(), details);
                }
            }
            None if is_told(route) => {
                let members = route.tiers.iter().map(|tier| {
                    let members = tier
                        .members
                        .iter()
                        .map(|member| format!("{} {:.0} %", member.backend, 100.0 * share(&tier.members, member)));
                    format!("priority {}: {}", tier.priority, members.collect::<Vec<_>>().join(", "))
                });
                changes.push(Change { sign: Sign::Added, what: format!("route {name}"), details: members.collect() });
            }
            None => {}
        }
    }
    changes.extend(shared("route", changed, going_on));
    let gone = known.iter().filter(|(name, route)| !wanted.contains_key(*name) && is_told(route));
    changes.extend(gone.map(|(name, _)| Change {
        sign: Sign::Removed,
        what: format!("route {name}"),
        details: Vec::new(),
    }));
    changes
}

fn share(members: &[Member], member: &Member) -> f64 {
    let total: f64 = members.iter().map(|member| member.weight).sum();
    if total > 0.0 { member.weight / total } else { 0.0 }
}

/// A backend's place on a route.
struct Seat<'r> {
    priority: u32,
    share: f64,
    member: &'r Member,
}

fn seats(route: &Route) -> Vec<Seat<'_>> {
    let seats = route.tiers.iter().flat_map(|tier| {
        tier.members.iter().map(|member| Seat { priority: tier.priority, share: share(&tier.members, member), member })
    });
    seats.collect()
}

fn route_details(known: &Route, route: &Route, (before, after): (&Config, &Config)) -> Vec<String> {
    let mut details = Vec::new();
    if known == route {
        return details;
    }
    let (old, new) = (seats(known), seats(route));
    for seat in &new {
        let id = &seat.member.backend;
        let Some(was) = old.iter().find(|was| was.member.backend == *id) else {
            details.push(format!("{id} joins at priority {} with {:.0} %", seat.priority, 100.0 * seat.share));
            continue;
        };
        if was.priority != seat.priority {
            details.push(format!("{id} moves from priority {} to {}", was.priority, seat.priority));
        }
        let (was_share, is_share) = (100.0 * was.share, 100.0 * seat.share);
        if was.share != seat.share {
            details.push(format!("{id} share {} % -> {} %", round(was_share), round(is_share)));
        }
        // What is the same everywhere is said at the backend.
        let elsewhere = |config: &Config, member: &Member| {
            let backend = config.backends.get(&member.backend)?;
            limits(config, backend).map(|limits| *limits == member.timeouts)
        };
        let is_own = route.origin != Origin::BackendId
            && (elsewhere(before, was.member) != Some(true) || elsewhere(after, seat.member) != Some(true));
        if is_own {
            let own = limit_details(&was.member.timeouts, &seat.member.timeouts);
            details.extend(own.into_iter().map(|detail| format!("{id} {detail}")));
        }
    }
    let gone = old.iter().filter(|was| !new.iter().any(|seat| seat.member.backend == was.member.backend));
    details.extend(gone.map(|was| format!("{} leaves", was.member.backend)));
    details.extend(differences(&outline::route(known), &outline::route(route), |_| true));
    if details.is_empty() && known != route && 1 < new.len() {
        // Order within a tier, or weights whose shares are the same.
        let is_limits_only = old
            .iter()
            .zip(&new)
            .all(|(was, seat)| was.member.backend == seat.member.backend && was.member.weight == seat.member.weight);
        if !is_limits_only {
            details.push("order or scale of its members".to_owned());
        }
    }
    details
}

/// A percentage without decimals that say nothing.
fn round(percent: f64) -> f64 {
    (percent * 100.0).round() / 100.0
}

fn client_keys(before: &Config, after: &Config) -> Vec<Change> {
    let mut changes = Vec::new();
    for key in &after.auth.keys {
        let what = format!("client key {}", key.name);
        match before.auth.keys.iter().find(|known| known.name == key.name) {
            Some(known) => {
                let details = differences(&outline::client_key(known), &outline::client_key(key), |_| true);
                if !details.is_empty() {
                    changes.push(Change { sign: Sign::Changed, what, details });
                }
            }
            None => changes.push(Change { sign: Sign::Added, what, details: Vec::new() }),
        }
    }
    let gone = before.auth.keys.iter().filter(|known| !after.auth.keys.iter().any(|key| key.name == known.name));
    changes.extend(gone.map(|key| Change {
        sign: Sign::Removed,
        what: format!("client key {}", key.name),
        details: Vec::new(),
    }));
    changes
}
