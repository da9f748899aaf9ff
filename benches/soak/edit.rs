//! The ways in which a configuration file is saved: by editors, by scripts, by Kubernetes.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Between the pieces of a file that is written in place, and between a deletion and what comes after it.
const PAUSE: Duration = Duration::from_millis(30);

/// A way of saving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    /// Written beside it, renamed over it.
    Rename,
    /// Truncated and written at once.
    InPlace,
    /// Truncated and written in three pieces.
    InPieces,
    /// Moved to `file~`, written anew.
    Backup,
    /// Deleted, then made again.
    Recreate,
    /// The file is a link to a version, which is swapped.
    Link,
    /// The file is a link through `..data`, which is swapped, as for a ConfigMap; the version before is removed.
    ConfigMap,
}

impl Way {
    pub(crate) const ALL: [Self; 7] =
        [Self::Rename, Self::InPlace, Self::InPieces, Self::Backup, Self::Recreate, Self::Link, Self::ConfigMap];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rename => "rename over it",
            Self::InPlace => "write in place",
            Self::InPieces => "write in pieces",
            Self::Backup => "move to file~, write anew",
            Self::Recreate => "delete, create",
            Self::Link => "swap a link",
            Self::ConfigMap => "swap ..data",
        }
    }

    /// Saves `bytes` as the `number`-th edit of `path`.
    pub(crate) fn save(self, path: &Path, bytes: &[u8], number: usize) -> std::io::Result<()> {
        let beside = |name: String| path.with_file_name(name);
        match self {
            Self::Rename => {
                fs::write(beside("config.new".to_owned()), bytes)?;
                fs::rename(beside("config.new".to_owned()), path)
            }
            Self::InPlace => fs::write(path, bytes),
            Self::InPieces => {
                let mut file = fs::File::create(path)?;
                let third = bytes.len().div_ceil(3).max(1);
                for piece in bytes.chunks(third) {
                    file.write_all(piece)?;
                    pause();
                }
                Ok(())
            }
            Self::Backup => {
                fs::rename(path, beside("config.yaml~".to_owned()))?;
                fs::write(path, bytes)
            }
            Self::Recreate => {
                fs::remove_file(path)?;
                pause();
                fs::write(path, bytes)
            }
            Self::Link => {
                let version = format!("link-{number}.yaml");
                fs::write(beside(version.clone()), bytes)?;
                self.swap(path, Path::new(&version))
            }
            Self::ConfigMap => {
                let data = beside("..data".to_owned());
                let before = fs::read_link(&data).ok().map(|before| path.with_file_name(before));
                let version = format!("..version-{number}");
                fs::create_dir(beside(version.clone()))?;
                fs::write(beside(version.clone()).join("config.yaml"), bytes)?;
                let through: PathBuf = "..data/config.yaml".into();
                let is_linked = fs::read_link(path).is_ok_and(|target| target == through);
                self.swap(&data, Path::new(&version))?;
                if !is_linked {
                    self.swap(path, &through)?;
                }
                before.map_or(Ok(()), fs::remove_dir_all)
            }
        }
    }

    fn swap(self, link: &Path, target: &Path) -> std::io::Result<()> {
        let next = link.with_file_name("next-link");
        symlink(target, &next)?;
        fs::rename(next, link)
    }
}

#[expect(clippy::disallowed_methods, reason = "a writer takes its time")]
fn pause() {
    std::thread::sleep(PAUSE);
}
