//! Where files and variables come from: the disk and the environment, or what a test says.

use std::io;
use std::path::Path;
use std::sync::OnceLock;

/// Where files and variables come from; tests bring their own.
pub trait Source {
    /// The bytes of a file.
    ///
    /// # Errors
    /// The system's error, whose text is shown.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// The value of an environment variable, none if it is unset.
    fn variable(&self, name: &str) -> Option<String>;

    /// Whether variables and secret files are not to be had: placeholders then stand for themselves, and a configuration can be
    /// checked where no secret is.
    fn is_blind(&self) -> bool {
        false
    }

    /// The key under which literal secrets are fingerprinted. The same for all loads of one process, so that state can be
    /// carried over a reload; never written anywhere.
    fn fingerprint_key(&self) -> [u8; 32] {
        [0; 32]
    }
}

/// The disk and the process environment.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemSource;

/// The disk without any environment: placeholders stand for themselves.
#[derive(Clone, Copy, Debug, Default)]
pub struct BlindSource;

impl Source for BlindSource {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        SystemSource.read(path)
    }

    fn variable(&self, _name: &str) -> Option<String> {
        None
    }

    fn is_blind(&self) -> bool {
        true
    }
}

/// Largest file that is read into memory. Beyond what any configuration, secret or certificate needs.
const MAX_READ: u64 = 8 << 20;

impl Source for SystemSource {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let about = std::fs::metadata(path)?;
        if !about.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "this is no regular file"));
        }
        if about.len() > MAX_READ {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the file is too large"));
        }
        std::fs::read(path)
    }

    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn fingerprint_key(&self) -> [u8; 32] {
        static KEY: OnceLock<[u8; 32]> = OnceLock::new();
        *KEY.get_or_init(|| {
            let mut random = fastrand::Rng::new();
            std::array::from_fn(|_| random.u8(..))
        })
    }
}
