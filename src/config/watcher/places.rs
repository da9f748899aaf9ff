//! Where a change of a file can show: its directory, and that of every symbolic link on the way to it.
//!
//! Kubernetes swaps a link that the file's own name does not hold; an administrator swaps a whole directory. So each step of the
//! path is followed as the system follows it, and what it passes is noted: which directory, which name in it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

/// As many links as the system itself follows (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// What tells a directory from another one of the same path. A number alone does not: filesystems give it out again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
    created: Option<SystemTime>,
}

impl Identity {
    fn of(about: &Metadata) -> Self {
        Self { device: about.dev(), inode: about.ino(), created: about.created().ok() }
    }
}

/// Directories to watch, and the names in them that count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    /// Each directory, without links in its path; none where it does not exist now.
    pub(super) directories: BTreeMap<PathBuf, Option<Identity>>,
    /// Names of files, links and missing directories.
    pub(super) names: BTreeSet<OsString>,
}

impl Places {
    /// Follows the ways to all those files.
    pub(super) fn of<'p>(files: impl Iterator<Item = &'p Path>) -> Self {
        let mut places = Self::default();
        for file in files {
            places.follow(file);
        }
        places
    }

    fn note(&mut self, directory: &Path, name: &OsString) {
        self.names.insert(name.clone());
        if !self.directories.contains_key(directory) {
            let identity = std::fs::metadata(directory).ok().filter(Metadata::is_dir).map(|about| Identity::of(&about));
            self.directories.insert(directory.to_owned(), identity);
        }
    }

    fn follow(&mut self, file: &Path) {
        let Ok(whole) = std::path::absolute(file) else { return };
        let mut here = PathBuf::from("/");
        let mut ahead = steps(&whole);
        let mut links = 0;
        while let Some(name) = ahead.pop() {
            if name == ".." {
                here.pop();
                continue;
            }
            let next = here.join(&name);
            match std::fs::read_link(&next) {
                Ok(target) if links < MAX_LINKS => {
                    links += 1;
                    self.note(&here, &name);
                    if target.is_absolute() {
                        here = PathBuf::from("/");
                    }
                    ahead.extend(steps(&target));
                }
                // The file itself, or the first step that is missing: what comes there is an event here.
                Ok(_) | Err(_) if ahead.is_empty() || !next.exists() => return self.note(&here, &name),
                Ok(_) | Err(_) => here = next,
            }
        }
    }
}

/// The names along a path, the last one first.
fn steps(path: &Path) -> Vec<OsString> {
    let named = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    let mut names: Vec<OsString> = named.collect();
    names.reverse();
    names
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn room(name: &str) -> PathBuf {
        let room = std::env::temp_dir().join(format!("breakwater-places-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&room);
        fs::create_dir_all(&room).unwrap();
        room.canonicalize().unwrap()
    }

    /// The places of one file, as paths below the room.
    fn seen(room: &Path, file: &str) -> (Vec<String>, Vec<String>) {
        let places = Places::of(std::iter::once(room.join(file).as_path()));
        let below = |path: &PathBuf| path.strip_prefix(room).unwrap_or(path).to_string_lossy().into_owned();
        let names = places.names.iter().map(|name| name.to_string_lossy().into_owned());
        (places.directories.keys().map(below).collect(), names.collect())
    }

    fn both(directories: &[&str], names: &[&str]) -> (Vec<String>, Vec<String>) {
        let own = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        (own(directories), own(names))
    }

    #[test]
    fn every_link_on_the_way_is_noted() {
        let room = room("links");
        fs::create_dir_all(room.join("map/v1")).unwrap();
        fs::create_dir_all(room.join("real")).unwrap();
        fs::write(room.join("map/v1/config.yaml"), "").unwrap();
        fs::write(room.join("real/plain.yaml"), "").unwrap();
        symlink("v1", room.join("map/..data")).unwrap();
        symlink("..data/config.yaml", room.join("map/config.yaml")).unwrap();
        symlink(room.join("real"), room.join("alias")).unwrap();
        symlink("../alias/plain.yaml", room.join("map/far.yaml")).unwrap();
        symlink("loop", room.join("loop")).unwrap();
        assert_eq!(seen(&room, "real/plain.yaml"), both(&["real"], &["plain.yaml"]));
        assert_eq!(seen(&room, "map/config.yaml"), both(&["map", "map/v1"], &["..data", "config.yaml"]));
        assert_eq!(seen(&room, "map/far.yaml"), both(&["", "map", "real"], &["alias", "far.yaml", "plain.yaml"]));
        assert_eq!(seen(&room, "real/../alias/plain.yaml"), both(&["", "real"], &["alias", "plain.yaml"]));
        assert_eq!(seen(&room, "real/absent/more/x.yaml"), both(&["real"], &["absent"]));
        assert_eq!(seen(&room, "loop").1, ["loop"], "links in a circle come to an end");
        fs::remove_dir_all(&room).unwrap();
    }

    #[test]
    fn another_directory_of_the_same_path_is_another_place() {
        let room = room("identity");
        let make = || {
            fs::create_dir_all(room.join("d")).unwrap();
            fs::write(room.join("d/x"), "").unwrap();
            Places::of(std::iter::once(room.join("d/x").as_path()))
        };
        let (first, again) = (make(), make());
        assert_eq!(first, again);
        fs::remove_dir_all(room.join("d")).unwrap();
        assert_ne!(make(), first);
        fs::remove_dir_all(&room).unwrap();
    }
}
