//! Every way in which a file is saved, on real directories: by events and by polling.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::mpsc::{Sender, channel};

use super::super::{SystemSource, load};
use super::*;

/// Longest wait for something that must come.
const LONG: Duration = Duration::from_secs(20);

/// Quiet time and poll interval of these tests.
const SHORT: Duration = Duration::from_millis(20);

/// What the watch told.
#[derive(Debug, PartialEq)]
enum Told {
    /// Loaded, with its backends.
    Loaded(Trigger, String),
    Rejected(Trigger),
    Missing(Trigger),
    Listens(Listening),
}

/// Takes over everything that loads, as a supervisor would.
struct Desk {
    in_force: Mutex<Arc<Config>>,
    told: Sender<Told>,
}

impl Keeper for Desk {
    fn in_force(&self) -> Arc<Config> {
        Arc::clone(&self.in_force.lock().unwrap())
    }

    fn take(&self, trigger: Trigger, outcome: Outcome) {
        let told = match outcome {
            Outcome::Loaded(loaded) => {
                let mut config = Config::clone(&loaded.config);
                config.reload = self.in_force().reload.clone();
                let names = config.backends.keys().map(ToString::to_string).collect::<Vec<_>>().join(" ");
                *self.in_force.lock().unwrap() = Arc::new(config);
                Told::Loaded(trigger, names)
            }
            Outcome::Rejected(_) => Told::Rejected(trigger),
            Outcome::Missing => Told::Missing(trigger),
        };
        // A test that has seen enough listens no more.
        let _ = self.told.send(told);
    }

    fn listens(&self, how: Listening) {
        let _ = self.told.send(Told::Listens(how));
    }
}

fn text(models: &[&str]) -> String {
    let entry = |model: &&str| {
        let params = "{model: m, api_key: k, api_base: 'http://127.0.0.1:9/v1'}";
        format!("  - {{model_name: {model}, litellm_params: {params}}}\n")
    };
    format!("server: {{host: 127.0.0.1}}\nmodel_list:\n{}", models.iter().map(entry).collect::<String>())
}

/// A directory of a test, and the watch on a file below it.
struct Scene {
    room: PathBuf,
    path: PathBuf,
    watch: Watch,
    told: Receiver<Told>,
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.room);
    }
}

impl Scene {
    /// `make` fills the room and says which file is the configuration.
    fn start(name: &str, mode: WatchMode, make: impl FnOnce(&Path) -> PathBuf) -> Self {
        Self::start_with(name, |reload| reload.mode = mode, make)
    }

    fn start_with(name: &str, set: impl FnOnce(&mut Reload), make: impl FnOnce(&Path) -> PathBuf) -> Self {
        let room = std::env::temp_dir().join(format!("breakwater-watch-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&room);
        fs::create_dir_all(&room).unwrap();
        let path = make(&room);
        let loaded = load(&path, &SystemSource).unwrap();
        let mut config = Config::clone(&loaded.config);
        let settings = &mut config.reload;
        (settings.debounce, settings.poll_interval, settings.rescan_interval) = (SHORT, SHORT, LONG);
        set(settings);
        let (told, heard) = channel();
        let desk = Desk { in_force: Mutex::new(Arc::new(config)), told };
        let watch = Watch::start(path.clone(), loaded.inputs, Box::new(SystemSource), desk).unwrap();
        Self { room, path, watch, told: heard }
    }

    /// One file in the room, with one backend.
    fn plain(name: &str, mode: WatchMode) -> Self {
        let scene = Self::start(name, mode, |room| {
            fs::write(room.join("config.yaml"), text(&["one"])).unwrap();
            room.join("config.yaml")
        });
        let wanted = if mode == WatchMode::Poll { Listening::Polling } else { Listening::Events };
        assert_eq!(scene.next(), Told::Listens(wanted));
        scene
    }

    fn next(&self) -> Told {
        self.told.recv_timeout(LONG).unwrap()
    }

    /// Waits for those backends. Between an editor's two steps the file may be seen as missing or broken.
    fn wait_loaded(&self, names: &str, why: &str) {
        loop {
            match self.next() {
                Told::Loaded(Trigger::File | Trigger::Poll, found) if found == names => return,
                Told::Missing(_) | Told::Rejected(_) => {}
                other @ (Told::Loaded(..) | Told::Listens(_)) => panic!("{why}: {other:?} instead of {names}"),
            }
        }
    }
}

fn save_in_every_way(name: &str, mode: WatchMode) {
    let scene = Scene::plain(name, mode);
    let path = &scene.path;
    fs::write(path, text(&["two"])).unwrap();
    scene.wait_loaded("two", "written in place");
    let beside = path.with_extension("tmp");
    for model in ["three", "four"] {
        fs::write(&beside, text(&[model])).unwrap();
        fs::rename(&beside, path).unwrap();
        scene.wait_loaded(model, "renamed over");
    }
    fs::rename(path, path.with_extension("yaml~")).unwrap();
    fs::write(path, text(&["five"])).unwrap();
    scene.wait_loaded("five", "moved away and written anew");
    fs::write(path, "model_list: 7\n").unwrap();
    assert!(matches!(scene.next(), Told::Rejected(_)), "a bad file is reported");
    fs::write(path, "").unwrap();
    assert!(matches!(scene.next(), Told::Rejected(_)), "an empty file is reported");
    fs::remove_file(path).unwrap();
    assert!(matches!(scene.next(), Told::Missing(_)), "a deleted file is said to be missing");
    fs::write(path, text(&["six"])).unwrap();
    scene.wait_loaded("six", "deleted and made again");
    assert!(scene.told.try_recv().is_err(), "each is told once");
}

#[test]
fn every_way_of_saving_is_seen_by_events() {
    save_in_every_way("events", WatchMode::Auto);
}

#[test]
fn every_way_of_saving_is_seen_by_polling() {
    save_in_every_way("polling", WatchMode::Poll);
}

/// A ConfigMap's directory: `..data` is a link to a version, and the file a link through it.
fn config_map(room: &Path) -> PathBuf {
    for (version, model) in [("v1", "one"), ("v2", "two"), ("v3", "three")] {
        fs::create_dir_all(room.join(version)).unwrap();
        fs::write(room.join(version).join("config.yaml"), text(&[model])).unwrap();
    }
    symlink("v1", room.join("..data")).unwrap();
    symlink("..data/config.yaml", room.join("config.yaml")).unwrap();
    room.join("config.yaml")
}

fn swap(room: &Path, link: &str, target: &str) {
    symlink(target, room.join("next")).unwrap();
    fs::rename(room.join("next"), room.join(link)).unwrap();
}

fn swap_a_config_map(name: &str, mode: WatchMode) {
    let scene = Scene::start(name, mode, config_map);
    assert!(matches!(scene.next(), Told::Listens(_)));
    for (version, model) in [("v2", "two"), ("v3", "three"), ("v1", "one")] {
        swap(&scene.room, "..data", version);
        scene.wait_loaded(model, "swapped");
        fs::remove_dir_all(scene.room.join("gone")).unwrap_or_default();
    }
}

#[test]
fn a_swapped_config_map_is_seen_by_events() {
    swap_a_config_map("map-events", WatchMode::Auto);
}

#[test]
fn a_swapped_config_map_is_seen_by_polling() {
    swap_a_config_map("map-polling", WatchMode::Poll);
}

/// The directory of the file is a link, which is swapped: nothing happens in the directory itself.
fn swap_the_directory(name: &str, mode: WatchMode) {
    let scene = Scene::start(name, mode, |room| {
        config_map(room);
        symlink("v1", room.join("current")).unwrap();
        room.join("current/config.yaml")
    });
    assert!(matches!(scene.next(), Told::Listens(_)));
    swap(&scene.room, "current", "v2");
    scene.wait_loaded("two", "the directory's link swapped");
    fs::write(scene.room.join("v2/config.yaml"), text(&["again"])).unwrap();
    scene.wait_loaded("again", "the new directory is watched");
}

#[test]
fn a_swapped_directory_is_seen_by_events() {
    swap_the_directory("directory-events", WatchMode::Auto);
}

#[test]
fn a_swapped_directory_is_seen_by_polling() {
    swap_the_directory("directory-polling", WatchMode::Poll);
}

fn remove_the_directory(name: &str, mode: WatchMode) {
    let scene = Scene::start(name, mode, |room| {
        fs::create_dir_all(room.join("deep/er")).unwrap();
        fs::write(room.join("deep/er/config.yaml"), text(&["one"])).unwrap();
        room.join("deep/er/config.yaml")
    });
    assert!(matches!(scene.next(), Told::Listens(_)));
    for model in ["two", "three"] {
        fs::remove_dir_all(scene.room.join("deep")).unwrap();
        assert!(matches!(scene.next(), Told::Missing(_)));
        fs::create_dir_all(scene.room.join("deep/er")).unwrap();
        fs::write(&scene.path, text(&[model])).unwrap();
        scene.wait_loaded(model, "removed and made again");
    }
    fs::rename(scene.room.join("deep/er"), scene.room.join("deep/old")).unwrap();
    fs::create_dir_all(scene.room.join("deep/er")).unwrap();
    fs::write(&scene.path, text(&["four"])).unwrap();
    scene.wait_loaded("four", "moved away and another in its place");
    fs::write(&scene.path, text(&["five"])).unwrap();
    scene.wait_loaded("five", "the new one is watched");
}

#[test]
fn a_removed_directory_that_comes_back_is_seen_by_events() {
    remove_the_directory("removed-events", WatchMode::Auto);
}

#[test]
fn a_removed_directory_that_comes_back_is_seen_by_polling() {
    remove_the_directory("removed-polling", WatchMode::Poll);
}

fn change_what_is_included(name: &str, mode: WatchMode) {
    let scene = Scene::start(name, mode, |room| {
        fs::create_dir_all(room.join("more")).unwrap();
        fs::write(room.join("config.yaml"), text(&["one"])).unwrap();
        room.join("config.yaml")
    });
    assert!(matches!(scene.next(), Told::Listens(_)));
    fs::write(&scene.path, format!("include: [more/part.yaml]\n{}", text(&["one"]))).unwrap();
    assert!(matches!(scene.next(), Told::Rejected(_)), "what it includes is not there yet");
    let part = "model_list:\n  - {model_name: two, litellm_params: {model: m, api_key: '${file:key}', api_base: 'http://127.0.0.1:9/v1'}}\n";
    fs::write(scene.room.join("more/key"), "first").unwrap();
    fs::write(scene.room.join("more/part.yaml"), part).unwrap();
    scene.wait_loaded("one two", "what was missing has come");
    fs::write(scene.room.join("more/key"), "second").unwrap();
    scene.wait_loaded("one two", "a secret file has changed");
}

#[test]
fn a_new_include_and_its_secret_are_seen_by_events() {
    change_what_is_included("include-events", WatchMode::Auto);
}

#[test]
fn a_new_include_and_its_secret_are_seen_by_polling() {
    change_what_is_included("include-polling", WatchMode::Poll);
}

#[test]
fn a_file_cut_between_two_entries_must_stand() {
    let scene = Scene::start("cut", WatchMode::Auto, |room| {
        fs::write(room.join("config.yaml"), text(&["a", "b", "c", "d"])).unwrap();
        room.join("config.yaml")
    });
    assert_eq!(scene.next(), Told::Listens(Listening::Events));
    fs::write(&scene.path, text(&["a"])).unwrap();
    let early = scene.told.recv_timeout(doubt::LOSS_WAIT / 2);
    assert!(early.is_err(), "three of four backends are gone: {early:?}");
    fs::write(&scene.path, text(&["a", "b", "c", "e"])).unwrap();
    scene.wait_loaded("a b c e", "the rest has been written");
    fs::write(&scene.path, text(&["a"])).unwrap();
    scene.wait_loaded("a", "it stands, so it is meant");
}

#[test]
fn an_asked_reload_loads_the_same_content_again_and_says_that_a_file_is_missing() {
    let scene = Scene::plain("asked", WatchMode::Auto);
    scene.watch.reload(Trigger::Signal);
    assert_eq!(scene.next(), Told::Loaded(Trigger::Signal, "one".to_owned()));
    fs::remove_file(&scene.path).unwrap();
    assert_eq!(scene.next(), Told::Missing(Trigger::File));
    scene.watch.reload(Trigger::Admin);
    assert_eq!(scene.next(), Told::Missing(Trigger::Admin));
}

#[test]
fn what_was_saved_before_the_watch_began_is_loaded() {
    let room = std::env::temp_dir().join(format!("breakwater-watch-early-{}", std::process::id()));
    fs::create_dir_all(&room).unwrap();
    let path = room.join("config.yaml");
    fs::write(&path, text(&["one"])).unwrap();
    let loaded = load(&path, &SystemSource).unwrap();
    fs::write(&path, text(&["two"])).unwrap();
    let (told, heard) = channel();
    let desk = Desk { in_force: Mutex::new(Arc::clone(&loaded.config)), told };
    let watch = Watch::start(path.clone(), loaded.inputs, Box::new(SystemSource), desk).unwrap();
    let scene = Scene { room, path, watch, told: heard };
    assert_eq!(scene.next(), Told::Listens(Listening::Events));
    scene.wait_loaded("two", "saved too early");
}

#[test]
fn a_disabled_watch_hears_only_who_asks() {
    let scene = Scene::start_with(
        "disabled",
        |reload| reload.enabled = false,
        |room| {
            fs::write(room.join("config.yaml"), text(&["one"])).unwrap();
            room.join("config.yaml")
        },
    );
    assert_eq!(scene.next(), Told::Listens(Listening::Off));
    fs::write(&scene.path, text(&["two"])).unwrap();
    scene.watch.reload(Trigger::Signal);
    assert_eq!(scene.next(), Told::Loaded(Trigger::Signal, "two".to_owned()), "and nobody else before");
}

#[test]
fn reasons_to_look_add_up_to_the_one_that_somebody_waits_for() {
    use Trigger::{Admin, File, Poll, Signal};
    let rows =
        [(File, Poll, File), (Poll, File, File), (Poll, Signal, Signal), (Signal, Admin, Admin), (Admin, File, Admin)];
    for (one, other, wanted) in rows {
        assert_eq!(one.or(other), wanted, "{one:?} {other:?}");
    }
}
