//! Names that a reload has taken out of the configuration: their series stay until their last counts have been scraped, and
//! go then, so that the number of series is a function of the configuration (spec/observability.md 1.5).

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::clock::Instant;
use crate::config::Config;
use crate::telemetry::{Name, Owner};

/// How long series outlive their name: a few scrapes, and time to take a mistaken edit back.
const STAYS: Duration = Duration::from_secs(60);

/// How long a request may still count under a name, and so make a series anew that had gone: as long as a removed backend may
/// drain and its state rest.
const HAUNTS: Duration = Duration::from_secs(4_200);

/// Names of which there are, or may again be, series. No longer than the names of the edits within [`HAUNTS`].
#[derive(Default)]
pub(super) struct Departed(HashMap<Name, Leaving>);

/// When the series of a name go.
struct Leaving {
    next: Instant,
    last: Instant,
}

impl Departed {
    /// A reload has put `after` in the place of `before`.
    pub(super) fn reload(&mut self, before: &Config, after: &Config, now: Instant) {
        let after = names(after);
        self.0.retain(|name, _| !after.contains(name));
        let leaving = || Leaving { next: now.plus(STAYS), last: now.plus(HAUNTS) };
        self.0.extend(names(before).difference(&after).map(|name| (name.clone(), leaving())));
    }

    /// Names whose series go now, and again each [`STAYS`] for the sake of requests that outlive them. A backend that `is_busy`
    /// finishes its calls first.
    pub(super) fn due(&mut self, now: Instant, is_busy: impl Fn(&str) -> bool) -> HashSet<Name> {
        let mut due = HashSet::new();
        self.0.retain(|name, leaving| {
            if now < leaving.next {
                return true;
            }
            leaving.next = now.plus(STAYS);
            if name.owner == Owner::Backend && is_busy(&name.name) {
                return true;
            }
            due.insert(name.clone());
            now < leaving.last
        });
        due
    }
}

/// All names of a configuration that are label values.
fn names(config: &Config) -> HashSet<Name> {
    let of = |owner: Owner| move |name: &str| Name { owner, name: name.to_owned() };
    let routes = config.routes.keys().chain(config.wildcards.iter().map(|route| &route.name));
    let routes = routes.map(|name| of(Owner::Route)(name.as_str()));
    let backends = config.backends.keys().map(|id| of(Owner::Backend)(id.as_str()));
    let endpoints = config.backends.values().map(|backend| of(Owner::Endpoint)(&backend.base_url.endpoint()));
    let keys = config.auth.keys.iter().map(|key| of(Owner::Key)(&key.name));
    routes.chain(backends).chain(endpoints).chain(keys).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, SystemSource};

    fn of(backends: &[&str]) -> std::sync::Arc<Config> {
        let entry = |name: &&str| {
            format!(
                "  - {{model_name: {name}, litellm_params: {{model: m, api_key: k, api_base: 'http://{name}.test/v1'}}}}\n"
            )
        };
        let text = format!("model_list:\n{}", backends.iter().map(entry).collect::<String>());
        config::load_text("test.yaml", &text, &SystemSource).map(|loaded| loaded.config).unwrap()
    }

    fn shown(names: HashSet<Name>) -> Vec<String> {
        let mut shown: Vec<_> = names.into_iter().map(|name| format!("{:?} {}", name.owner, name.name)).collect();
        shown.sort();
        shown
    }

    #[test]
    fn a_name_goes_a_minute_after_its_reload_unless_it_comes_back_or_is_busy() {
        let (start, minute) = (Instant::ZERO.plus(Duration::from_secs(9)), STAYS);
        let mut departed = Departed::default();
        departed.reload(&of(&["a", "b", "c"]), &of(&["a"]), start);
        departed.reload(&of(&["a"]), &of(&["a", "c"]), start.plus(minute / 2));
        assert!(departed.due(start.plus(minute - Duration::from_nanos(1)), |_| false).is_empty());
        let busy = departed.due(start.plus(minute), |backend| backend == "b");
        assert_eq!(shown(busy), ["Endpoint b.test:80", "Route b"]);
        assert!(departed.due(start.plus(minute), |_| false).is_empty(), "not twice at once");
        let all = ["Backend b", "Endpoint b.test:80", "Route b"];
        assert_eq!(shown(departed.due(start.plus(minute * 2), |_| false)), all, "and what has come again");
        assert_eq!(shown(departed.due(start.plus(HAUNTS), |_| false)), all);
        assert!(departed.0.is_empty());
    }
}
