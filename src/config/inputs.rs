//! What a load has read, and what it said: the watcher watches these files and asks whether they still say the same.

use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::source::Source;

/// Every file that a load has read or tried to read, in that order, with what it held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inputs(Vec<(PathBuf, Held)>);

/// What a file held when it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Held {
    /// SHA-256 of its bytes.
    Bytes([u8; 32]),
    /// It could not be read.
    Nothing,
    /// Two readings in one load did not agree: nothing is as it was read.
    Torn,
}

impl Held {
    fn of(read: &io::Result<Vec<u8>>) -> Self {
        match read {
            Ok(bytes) => Self::Bytes(Sha256::digest(bytes).into()),
            Err(_) => Self::Nothing,
        }
    }
}

impl Inputs {
    /// Remembers what a file held, whether it could be read or not: it may appear later.
    pub(super) fn note(&mut self, path: &Path, read: &io::Result<Vec<u8>>) {
        let held = Held::of(read);
        match self.0.iter_mut().find(|(known, _)| known == path) {
            Some((_, known)) if *known != held => *known = Held::Torn,
            Some(_) => {}
            None => self.0.push((path.to_owned(), held)),
        }
    }

    /// The files.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().map(|(path, _)| path.as_path())
    }

    /// Whether every file still holds what was read.
    pub fn are_current(&self, source: &dyn Source) -> bool {
        self.0.iter().all(|(path, held)| *held != Held::Torn && *held == Held::of(&source.read(path)))
    }

    /// The same files as they are now.
    pub fn looked_at_again(&self, source: &dyn Source) -> Self {
        let mut now = Self::default();
        self.paths().for_each(|path| now.note(path, &source.read(path)));
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Disk(Vec<(&'static str, &'static str)>);

    impl Source for Disk {
        fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
            let file = self.0.iter().find(|(name, _)| path == Path::new(name));
            file.map(|(_, text)| text.as_bytes().to_vec()).ok_or_else(|| io::ErrorKind::NotFound.into())
        }

        fn variable(&self, _name: &str) -> Option<String> {
            None
        }
    }

    fn read(paths: &[&str], source: &dyn Source) -> Inputs {
        let mut inputs = Inputs::default();
        paths.iter().for_each(|path| inputs.note(Path::new(path), &source.read(Path::new(path))));
        inputs
    }

    #[test]
    fn another_content_a_lost_file_and_a_new_one_are_noticed() {
        let before = Disk(vec![("a", "1"), ("b", "2")]);
        let inputs = read(&["a", "b", "absent"], &before);
        assert!(inputs.are_current(&before));
        let others: [&[(&str, &str)]; 3] =
            [&[("a", "1"), ("b", "3")], &[("a", "1")], &[("a", "1"), ("b", "2"), ("absent", "")]];
        for other in others {
            let other = Disk(other.to_vec());
            assert!(!inputs.are_current(&other), "{:?}", other.0);
            assert!(inputs.looked_at_again(&other).are_current(&other));
        }
    }

    #[test]
    fn two_readings_that_differ_are_never_current() {
        let (before, after) = (Disk(vec![("a", "1")]), Disk(vec![("a", "2")]));
        let mut inputs = read(&["a", "a"], &before);
        assert!(inputs.are_current(&before));
        inputs.note(Path::new("a"), &after.read(Path::new("a")));
        assert!(!inputs.are_current(&before) && !inputs.are_current(&after));
    }
}
