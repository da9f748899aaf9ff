//! Whether a new configuration does worse than the one before (`reload.rollback`, spec/config.md 9). Pure: handed counts and
//! `now`.
//!
//! What counts is what clients felt: requests of a route that ended well, against those that a fault behind us ended. A route
//! that did badly before, or was not there, says nothing about the edit.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Instant;
use crate::config::{Config, Rollback, Route, RouteName};

/// Fewer failures than these condemn nothing: one unlucky call must not undo an edit, and five in a row open a circuit as well.
const MIN_FAILURES: u64 = 5;

/// Samples that a watch's time is divided into: how well the past is known.
const SAMPLES: u32 = 24;

/// Shortest time between two samples.
const MIN_SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// Ratios are kept in 1/10 000.
const WHOLE: u64 = 10_000;

/// How a route's requests have ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Answered well.
    pub good: u64,
    /// Ended by a fault behind the gateway, or in it.
    pub bad: u64,
}

impl Tally {
    /// What has come since an earlier tally. A count that was begun anew meanwhile counts whole.
    fn since(self, earlier: Self) -> Self {
        let gain = |now: u64, then: u64| now.checked_sub(then).unwrap_or(now);
        Self { good: gain(self.good, earlier.good), bad: gain(self.bad, earlier.bad) }
    }

    /// Share of good ends in 1/10 000; none without any end.
    pub fn ratio(self) -> Option<u32> {
        let all = self.good.saturating_add(self.bad);
        (0 < all).then(|| (self.good.saturating_mul(WHOLE) / all) as u32)
    }
}

/// All routes' tallies since the process began.
pub type Tallies = BTreeMap<RouteName, Tally>;

/// The last minutes of all routes' tallies: what "before" means.
#[derive(Default)]
pub struct History(VecDeque<(Instant, Tallies)>);

impl History {
    /// Time between two samples for a watch of that length.
    pub fn interval(watch: Duration) -> Duration {
        (watch / SAMPLES).max(MIN_SAMPLE_INTERVAL)
    }

    /// Keeps one more sample, and those that a watch of that length looks back to.
    pub fn sample(&mut self, now: Instant, watch: Duration, tallies: Tallies) {
        self.0.push_back((now, tallies));
        // The newest of those that are too old is where a look back begins.
        while self.0.get(1).is_some_and(|(at, _)| watch <= now.since(*at)) {
            self.0.pop_front();
        }
    }

    /// When the last sample was taken.
    pub fn last(&self) -> Option<Instant> {
        self.0.back().map(|(at, _)| *at)
    }

    /// How a route did lately; without a sample, since the process began.
    fn lately(&self, route: &RouteName, now: Tally) -> Tally {
        let then = self.0.front().and_then(|(_, tallies)| tallies.get(route));
        now.since(then.copied().unwrap_or_default())
    }
}

/// A new configuration on trial.
pub struct Probation {
    /// What comes back if it fails: the last one that was not on trial itself.
    pub previous: Arc<Config>,
    until: Instant,
    floor: u32,
    watched: BTreeMap<RouteName, Watched>,
}

/// One route on trial.
#[derive(Clone, Copy, Debug)]
struct Watched {
    /// Its ratio before the edit.
    before: u32,
    /// Its tally at the edit.
    start: Tally,
}

/// What a look at a trial says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Open,
    /// The time is over, and nothing spoke against the configuration.
    Passed,
    /// A route has fallen.
    Failed(Fall),
}

/// A route that an edit has made worse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fall {
    /// Which.
    pub route: RouteName,
    /// Its success ratio before, in 1/10 000.
    pub before: u32,
    /// How its requests have ended since.
    pub since: Tally,
}

impl Probation {
    /// Puts a configuration that takes over from `before` on trial; none if no route changes that did well. A trial that is
    /// still open goes on with what it knew: its edit was never proven.
    pub fn begin(
        rule: Rollback,
        now: Instant,
        (before, after): (&Arc<Config>, &Config),
        open: Option<Self>,
        history: &History,
        tallies: &Tallies,
    ) -> Option<Self> {
        let (previous, known) = match open {
            Some(open) => (open.previous, open.watched),
            None => (Arc::clone(before), BTreeMap::new()),
        };
        let changed = changed(&previous, after);
        let watched = changed.into_iter().filter_map(|route| {
            let start = tallies.get(&route).copied().unwrap_or_default();
            let earlier = known.get(&route).map(|watched| watched.before);
            let before = earlier.or_else(|| history.lately(&route, start).ratio())?;
            (rule.min_success_ratio <= before).then_some((route, Watched { before, start }))
        });
        let watched: BTreeMap<_, _> = watched.collect();
        let until = now.plus(rule.watch);
        (!watched.is_empty()).then_some(Self { previous, until, floor: rule.min_success_ratio, watched })
    }

    /// When it ends.
    pub fn until(&self) -> Instant {
        self.until
    }

    /// The routes on trial.
    pub fn routes(&self) -> impl Iterator<Item = &RouteName> {
        self.watched.keys()
    }

    /// Looks at what has come of it.
    pub fn judge(&self, now: Instant, tallies: &Tallies) -> Verdict {
        let falls = self.watched.iter().filter_map(|(route, watched)| {
            let since = tallies.get(route)?.since(watched.start);
            let is_fallen = MIN_FAILURES <= since.bad && since.ratio()? < self.floor;
            is_fallen.then(|| Fall { route: route.clone(), before: watched.before, since })
        });
        match falls.min_by_key(|fall| fall.since.ratio()) {
            Some(fall) => Verdict::Failed(fall),
            None if self.until <= now => Verdict::Passed,
            None => Verdict::Open,
        }
    }
}

/// Routes of both that an edit touches: by what they say, or by a backend of theirs.
fn changed(before: &Config, after: &Config) -> Vec<RouteName> {
    let is_touched = |known: &Route, route: &Route| {
        let mut members = route.tiers.iter().flat_map(|tier| &tier.members);
        known != route
            || members.any(|member| before.backends.get(&member.backend) != after.backends.get(&member.backend))
    };
    let earlier = |name: &RouteName| {
        before.routes.get(name).or_else(|| before.wildcards.iter().find(|known| known.name == *name))
    };
    let all = after.routes.values().chain(&after.wildcards);
    all.filter(|route| earlier(&route.name).is_some_and(|known| is_touched(known, route)))
        .map(|route| route.name.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{SystemSource, load_text};

    const RULE: Rollback = Rollback { enabled: true, watch: Duration::from_secs(120), min_success_ratio: 9_000 };

    fn config(port: u16, other: u16) -> Arc<Config> {
        let entry = |name: &str, port: u16| {
            format!(
                "  - {{model_name: {name}, litellm_params: {{model: m, api_key: k, api_base: 'http://127.0.0.1:{port}/v1'}}}}\n"
            )
        };
        let text = format!("model_list:\n{}{}", entry("a", port), entry("b", other));
        load_text("config.yaml", &text, &SystemSource).unwrap().config
    }

    fn at(seconds: u64) -> Instant {
        Instant::ZERO.plus(Duration::from_secs(seconds))
    }

    fn tallies(rows: &[(&str, u64, u64)]) -> Tallies {
        rows.iter().map(|(name, good, bad)| (RouteName::new(*name), Tally { good: *good, bad: *bad })).collect()
    }

    fn begun(history: &History, start: &[(&str, u64, u64)]) -> Option<Probation> {
        Probation::begin(RULE, at(1_000), (&config(1, 1), &config(2, 1)), None, history, &tallies(start))
    }

    #[test]
    fn a_route_that_falls_after_an_edit_is_found_and_others_are_not_blamed() {
        let trial = begun(&History::default(), &[("a", 100, 0), ("b", 100, 0)]).unwrap();
        assert_eq!(trial.routes().map(RouteName::as_str).collect::<Vec<_>>(), ["a"], "b is what it was");
        let judge = |now, a: (u64, u64)| trial.judge(at(now), &tallies(&[("a", a.0, a.1), ("b", 100, 900)]));
        assert_eq!(judge(1_001, (100, 4)), Verdict::Open, "four failures may be bad luck");
        let fall = |good, bad| {
            Verdict::Failed(Fall { route: RouteName::new("a"), before: 10_000, since: Tally { good, bad } })
        };
        assert_eq!(judge(1_001, (100, 5)), fall(0, 5));
        assert_eq!(judge(1_001, (145, 5)), Verdict::Open, "nine of ten is the floor");
        assert_eq!(judge(1_001, (144, 5)), fall(44, 5));
        assert_eq!(judge(1_119, (100, 0)), Verdict::Open);
        assert_eq!(judge(1_120, (100, 0)), Verdict::Passed);
        assert_eq!(judge(5_000, (100, 5)), fall(0, 5), "a late look still sees it");
    }

    #[test]
    fn a_route_that_did_badly_or_nothing_before_is_not_watched() {
        let rows = [((0, 0), false), ((1, 0), true), ((89, 11), false), ((90, 10), true)];
        for ((good, bad), is_watched) in rows {
            assert_eq!(begun(&History::default(), &[("a", good, bad)]).is_some(), is_watched, "{good} {bad}");
        }
    }

    #[test]
    fn before_means_lately() {
        let mut history = History::default();
        history.sample(at(100), RULE.watch, tallies(&[("a", 0, 1_000)]));
        for second in (800..1_000).step_by(5) {
            history.sample(at(second), RULE.watch, tallies(&[("a", second, 1_000)]));
        }
        assert!(history.0.len() <= 26, "{}", history.0.len());
        assert_eq!(
            history.lately(&RouteName::new("a"), Tally { good: 1_000, bad: 1_000 }),
            Tally { good: 125, bad: 0 }
        );
        assert!(begun(&history, &[("a", 1_000, 1_000)]).is_some(), "it has recovered long since");
        assert!(begun(&history, &[("a", 1_000, 2_000)]).is_none(), "it is failing now");
    }

    #[test]
    fn a_second_edit_during_a_trial_falls_back_to_what_was_proven() {
        let (first, second, third) = (config(1, 1), config(2, 1), config(3, 1));
        let history = History::default();
        let begin = |open, pair: (&Arc<Config>, &Config), counts: &[(&str, u64, u64)]| {
            Probation::begin(RULE, at(1_000), pair, open, &history, &tallies(counts))
        };
        let trial = begin(None, (&first, &second), &[("a", 50, 0)]).unwrap();
        let trial = begin(Some(trial), (&second, &third), &[("a", 50, 50)]).unwrap();
        assert!(Arc::ptr_eq(&trial.previous, &first), "the second was never proven");
        let verdict = trial.judge(at(1_001), &tallies(&[("a", 50, 55)]));
        let fall = Fall { route: RouteName::new("a"), before: 10_000, since: Tally { good: 0, bad: 5 } };
        assert_eq!(verdict, Verdict::Failed(fall), "measured against what was before both");
        assert!(begin(Some(trial), (&third, &first), &[("a", 50, 55)]).is_none(), "what was proven needs no trial");
    }

    #[test]
    fn counts_that_begin_anew_count_whole() {
        assert_eq!(Tally { good: 3, bad: 1 }.since(Tally { good: 10, bad: 0 }), Tally { good: 3, bad: 1 });
        assert_eq!(Tally::default().ratio(), None);
        assert_eq!(Tally { good: 2, bad: 1 }.ratio(), Some(6_666));
    }
}
