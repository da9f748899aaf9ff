//! When a new content is looked at once more before it is believed: it may be a file that somebody is still writing.

use std::time::Duration;

use super::super::{Config, Loaded, Origin, Report};

/// A file that does not load may be half-written: it is looked at once more after this.
pub(super) const SECOND_LOOK: Duration = Duration::from_secs(1);

/// A file that loads may be half-written as well, cut between two entries: one that loses much has to stand this long.
pub(super) const LOSS_WAIT: Duration = Duration::from_secs(2);

/// How long a load must stand unchanged before it is believed; none where it is believed at once. A person who asked for the
/// reload has finished writing: what is lost then is meant.
pub(super) fn wait_for(before: &Config, outcome: &Result<Loaded, Report>, is_asked: bool) -> Option<Duration> {
    match outcome {
        Err(_) => Some(SECOND_LOOK),
        Ok(loaded) if !is_asked && loses_much(before, &loaded.config) => Some(LOSS_WAIT),
        Ok(_) => None,
    }
}

/// Whether more than half of the backends or of the routes vanish. Numbers count, not names: a file that is cut short has fewer,
/// one whose entries are renamed as many as before.
fn loses_much(before: &Config, after: &Config) -> bool {
    // What an entry of its own stands for: a model's implicit routes come and go with it.
    let routes = |config: &Config| {
        let all = config.routes.values().chain(&config.wildcards);
        all.filter(|route| !matches!(route.origin, Origin::Implicit | Origin::BackendId)).count()
    };
    2 * after.backends.len() < before.backends.len() || 2 * routes(after) < routes(before)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;

    use super::super::super::{Source, load_text};
    use super::*;

    /// Neither files nor variables.
    struct Nothing;

    impl Source for Nothing {
        fn read(&self, _path: &Path) -> io::Result<Vec<u8>> {
            Err(io::ErrorKind::NotFound.into())
        }

        fn variable(&self, _name: &str) -> Option<String> {
            None
        }
    }

    fn load(models: &[&str], routes: &[&str]) -> Result<Loaded, Report> {
        let params = "litellm_params: {model: m, api_key: k, api_base: 'http://127.0.0.1:9/v1'}";
        let entry = |name: &&str| format!("  - {{model_name: {name}, {params}}}\n");
        let route = |name: &&str| format!("  - {{model_name: {name}, models: [{{name: {}}}]}}\n", models[0]);
        let (models, routes) = (models.iter().map(entry).collect::<String>(), routes.iter().map(route));
        let text = format!(
            "defaults: {{implicit_routes: none}}\nmodel_list:\n{models}router:\n{}",
            routes.collect::<String>()
        );
        load_text("config.yaml", &text, &Nothing)
    }

    #[test]
    fn a_file_that_is_cut_short_must_stand() {
        let before = load(&["a", "b", "c", "d"], &["r", "s", "t"]).unwrap().config;
        let rows: [(&[&str], &[&str], Option<Duration>); 5] = [
            (&["a", "b", "c", "d"], &["r", "s", "t"], None),
            (&["a", "b"], &["r", "s"], None),
            (&["a"], &["r", "s", "t"], Some(LOSS_WAIT)),
            (&["a", "b", "c"], &["r"], Some(LOSS_WAIT)),
            (&["e", "f", "g", "h"], &["x", "y", "z"], None),
        ];
        for (models, routes, wanted) in rows {
            let outcome = load(models, routes);
            assert!(outcome.is_ok(), "{models:?} {routes:?} {:?}", outcome.err());
            assert_eq!(wait_for(&before, &outcome, false), wanted, "{models:?} {routes:?}");
            assert_eq!(wait_for(&before, &outcome, true), None, "what is asked for is meant");
        }
        let broken = load(&["a", "a"], &["r", "r"]);
        assert_eq!(wait_for(&before, &broken, true), Some(SECOND_LOOK));
    }
}
