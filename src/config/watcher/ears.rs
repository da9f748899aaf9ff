//! File events: which directories are listened to, and which of their events count.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind, RenameMode};
use notify::{ErrorKind, Event, RecommendedWatcher, RecursiveMode, Watcher as _};

use super::Trigger;
use super::mounts::silent_type;
use super::places::{Identity, Places};

/// What Kubernetes swaps when a ConfigMap changes; the file itself is never named.
const CONFIG_MAP_LINK: &str = "..data";

/// Where the system says what is mounted (proc(5)); elsewhere than on Linux there is none, and events are trusted.
const MOUNTS: &str = "/proc/self/mountinfo";

/// What the system's events are held against, by whichever thread brings them.
#[derive(Default)]
struct Wanted {
    directories: BTreeSet<PathBuf>,
    names: BTreeSet<OsString>,
    /// A directory itself has gone: the watch on it is deaf, whatever stands at its path now.
    is_deaf: bool,
}

impl Wanted {
    /// Whether an event may mean another content.
    fn hears(&mut self, event: &Event) -> bool {
        if is_loss(&event.kind) && event.paths.iter().any(|path| self.directories.contains(path)) {
            self.is_deaf = true;
            return true;
        }
        let mut names = event.paths.iter().filter_map(|path| path.file_name());
        event.need_rescan() || is_change(&event.kind) && names.any(|name| self.names.contains(name))
    }
}

fn is_loss(kind: &EventKind) -> bool {
    let is_moved = matches!(kind, EventKind::Modify(ModifyKind::Name(RenameMode::From | RenameMode::Both)));
    is_moved || kind.is_remove()
}

fn is_change(kind: &EventKind) -> bool {
    // Our own reading raises access events: acting on them would never end.
    match kind {
        EventKind::Access(access) => *access == AccessKind::Close(AccessMode::Write),
        EventKind::Any | EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) | EventKind::Other => true,
    }
}

/// A set of listened-to directories. Dropped, it hears nothing more.
pub(super) struct Ears {
    is_forced: bool,
    watcher: RecommendedWatcher,
    wanted: Arc<Mutex<Wanted>>,
    heard: BTreeMap<PathBuf, Identity>,
}

impl Ears {
    /// Listens to all those places; what counts wakes the thread at the other end. Forced, also where a filesystem is known to
    /// raise no events.
    ///
    /// # Errors
    /// Why events cannot be had: the system has no watch left, or these files lie where none are raised.
    pub(super) fn open(places: &Places, is_forced: bool, wake: SyncSender<Trigger>) -> Result<Self, String> {
        let wanted = Arc::new(Mutex::new(Wanted::default()));
        let held = Arc::clone(&wanted);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // What the system could not tell may have been ours.
            let counts = event.map_or(true, |event| held.lock().unwrap_or_else(PoisonError::into_inner).hears(&event));
            if counts {
                // A full channel means that a look is due anyway.
                let _ = wake.try_send(Trigger::File);
            }
        });
        let watcher = watcher.map_err(|error| error.to_string())?;
        let mut ears = Self { is_forced, watcher, wanted, heard: BTreeMap::new() };
        ears.turn_to(places)?;
        Ok(ears)
    }

    /// Listens to those places and no others; whether anything had to be changed, so that something may have been missed.
    ///
    /// # Errors
    /// As [`Ears::open`].
    pub(super) fn turn_to(&mut self, places: &Places) -> Result<bool, String> {
        // Events of a name that did not count yet have been let pass.
        let (is_deaf, is_new_name) = {
            let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
            let is_new_name = !places.names.is_subset(&wanted.names);
            wanted.names.clone_from(&places.names);
            wanted.names.insert(CONFIG_MAP_LINK.into());
            wanted.directories = places.directories.keys().cloned().collect();
            (std::mem::take(&mut wanted.is_deaf), is_new_name)
        };
        let standing: BTreeMap<PathBuf, Identity> =
            places.directories.iter().filter_map(|(path, identity)| Some((path.clone(), (*identity)?))).collect();
        if !is_deaf && standing == self.heard {
            return Ok(is_new_name);
        }
        if !self.is_forced
            && let Some(reason) = deaf_place(places)
        {
            return Err(reason);
        }
        for (path, identity) in std::mem::take(&mut self.heard) {
            if !is_deaf && standing.get(&path) == Some(&identity) {
                self.heard.insert(path, identity);
            } else {
                // It may be gone, and its watch with it.
                let _ = self.watcher.unwatch(&path);
            }
        }
        for (path, identity) in standing {
            if self.heard.contains_key(&path) {
                continue;
            }
            match self.watcher.watch(&path, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.heard.insert(path, identity);
                }
                // Gone since it was looked at: the next look finds it or what comes instead.
                Err(error) if is_absent(&error) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(true)
    }
}

fn is_absent(error: &notify::Error) -> bool {
    match &error.kind {
        ErrorKind::PathNotFound => true,
        ErrorKind::Io(error) => error.kind() == std::io::ErrorKind::NotFound,
        ErrorKind::Generic(_) | ErrorKind::WatchNotFound | ErrorKind::InvalidConfig(_) | ErrorKind::MaxFilesWatch => {
            false
        }
    }
}

/// Why no event is to be expected of one of those places.
fn deaf_place(places: &Places) -> Option<String> {
    let table = std::fs::read_to_string(MOUNTS).ok()?;
    places.directories.keys().find_map(|directory| {
        let kind = silent_type(&table, directory)?;
        Some(format!("{} lies on {kind}, which raises no events", directory.display()))
    })
}

#[cfg(test)]
mod tests {
    use notify::event::{CreateKind, DataChange, Flag, RemoveKind};

    use super::*;

    #[test]
    fn events_count_by_name_and_kind() {
        let mut wanted = Wanted {
            directories: BTreeSet::from([PathBuf::from("/etc/gateway")]),
            names: BTreeSet::from(["config.yaml".into(), CONFIG_MAP_LINK.into()]),
            is_deaf: false,
        };
        let data = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        let rows = [
            (data, "/etc/gateway/config.yaml", true),
            (data, "/etc/gateway/other.yaml", false),
            (EventKind::Create(CreateKind::Folder), "/etc/gateway/..data", true),
            (EventKind::Modify(ModifyKind::Name(RenameMode::To)), "/etc/gateway/config.yaml", true),
            (EventKind::Access(AccessKind::Close(AccessMode::Write)), "/etc/gateway/config.yaml", true),
            (EventKind::Access(AccessKind::Close(AccessMode::Read)), "/etc/gateway/config.yaml", false),
            (EventKind::Access(AccessKind::Open(AccessMode::Any)), "/etc/gateway/config.yaml", false),
        ];
        for (kind, path, counts) in rows {
            assert_eq!(wanted.hears(&Event::new(kind).add_path(path.into())), counts, "{kind:?} {path}");
        }
        assert!(wanted.hears(&Event::new(EventKind::Other).set_flag(Flag::Rescan)), "what was lost may have been ours");
        assert!(!wanted.is_deaf);
        assert!(wanted.hears(&Event::new(EventKind::Remove(RemoveKind::Folder)).add_path("/etc/gateway".into())));
        assert!(wanted.is_deaf, "a directory that has gone must be listened to anew");
    }
}
