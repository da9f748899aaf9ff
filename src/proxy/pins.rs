//! Which backend holds an object that a provider made: a response, a file, a batch (spec/wire.md 1.4).
//!
//! An object lives in one provider account, so what asks for it must go there. [`Pins`] is the process's memory of that; a
//! `Board` is one part of it, a plain type that is handed `now`.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::json::{self, Members};
use crate::clock::Instant;
use crate::config::{ClientKey, IdentityHash};

/// Most ids that are remembered (spec/wire.md 1.4): about 20 MB at most.
const MAX_PINS: usize = 100_000;

/// An id that nobody used for this long is forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// Longest id that is remembered, in bytes. Providers' ids have up to about 70.
const MAX_ID_BYTES: usize = 128;

/// The memory has this many parts, so that two workers seldom meet at one.
const PARTS: usize = 16;

/// Members of an answer that name objects in the same account: its own id, and what a batch or a run leaves there.
const ID_KEYS: [&str; 4] = ["id", "output_file_id", "error_file_id", "thread_id"];

/// Who made an object: the digest of the client's key, none where no keys are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner(Option<[u8; 32]>);

impl Owner {
    /// The owner of what this key makes.
    pub fn of(key: Option<&ClientKey>) -> Self {
        Self(key.map(|key| Sha256::digest(key.key.expose().as_bytes()).into()))
    }
}

/// What is known of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pin {
    /// Nothing.
    Unknown,
    /// It belongs to another client: to this one it does not exist.
    Foreign,
    /// The backend of this identity holds it. Whoever is renamed goes on as itself.
    Held(IdentityHash),
}

/// The memory of the process. Only calls that make or name a provider's object come here.
pub struct Pins {
    parts: Vec<Mutex<Board>>,
    hasher: RandomState,
}

impl Pins {
    /// An empty memory.
    pub fn new() -> Arc<Self> {
        let parts = (0..PARTS).map(|_| Mutex::new(Board::new(MAX_PINS / PARTS))).collect();
        Arc::new(Self { parts, hasher: RandomState::new() })
    }

    /// Who holds an object.
    pub fn find(&self, id: &str, owner: Owner, now: Instant) -> Pin {
        self.with(id, |board| board.find(id, owner, now))
    }

    /// An object of this owner is at a backend.
    pub fn put(&self, id: &str, owner: Owner, backend: IdentityHash, now: Instant) {
        self.with(id, |board| board.put(id, owner, backend, now));
    }

    /// Remembers what an answer says is there.
    pub fn put_named(&self, answer: &[u8], owner: Owner, backend: IdentityHash, now: Instant) {
        // One walk, whatever the length: an answer may hold images.
        for member in Members::of(answer).map_while(Result::ok) {
            if ID_KEYS.iter().any(|key| json::is_key(&answer[member.key.clone()], key))
                && let Some(id) = json::string(&answer[member.value])
            {
                self.put(&id, owner, backend, now);
            }
        }
    }

    /// An object is gone.
    pub fn remove(&self, id: &str) {
        self.with(id, |board| board.remove(id));
    }

    fn with<T>(&self, id: &str, act: impl FnOnce(&mut Board) -> T) -> T {
        let part = self.hasher.hash_one(id) as usize % PARTS;
        act(&mut self.parts[part].lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The object that a block of an event stream says was made: that of `response.created`, or of a run.
pub fn created_in_event(block: &[u8]) -> Option<Cow<'_, str>> {
    let data = block.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"data:"))?.trim_ascii();
    let object = json::find(data, "response").unwrap_or(data);
    json::string(json::find(object, "id")?)
}

/// Ids with who holds them, the least recently used first to go.
struct Board {
    most: usize,
    pins: HashMap<Arc<str>, Entry>,
    /// Ids by the turn in which each was last used.
    by_turn: BTreeMap<u64, Arc<str>>,
    turn: u64,
}

struct Entry {
    backend: IdentityHash,
    owner: Owner,
    turn: u64,
    used: Instant,
}

impl Board {
    fn new(most: usize) -> Self {
        Self { most, pins: HashMap::new(), by_turn: BTreeMap::new(), turn: 0 }
    }

    fn find(&mut self, id: &str, owner: Owner, now: Instant) -> Pin {
        let Some(entry) = self.pins.get_mut(id) else { return Pin::Unknown };
        if FORGET_AFTER <= now.since(entry.used) {
            self.remove(id);
            return Pin::Unknown;
        }
        if entry.owner != owner {
            return Pin::Foreign;
        }
        self.turn += 1;
        if let Some(id) = self.by_turn.remove(&entry.turn) {
            self.by_turn.insert(self.turn, id);
        }
        (entry.turn, entry.used) = (self.turn, now);
        Pin::Held(entry.backend)
    }

    fn put(&mut self, id: &str, owner: Owner, backend: IdentityHash, now: Instant) {
        if id.is_empty() || MAX_ID_BYTES < id.len() {
            return;
        }
        // Whoever made it first owns it, for as long as it is remembered: nobody takes it over by naming it.
        if self.find(id, owner, now) == Pin::Foreign {
            return;
        }
        self.remove(id);
        while self.most <= self.pins.len() {
            let Some((_, oldest)) = self.by_turn.pop_first() else { return };
            self.pins.remove(&oldest);
        }
        self.turn += 1;
        let id: Arc<str> = Arc::from(id);
        self.by_turn.insert(self.turn, Arc::clone(&id));
        self.pins.insert(id, Entry { backend, owner, turn: self.turn, used: now });
    }

    fn remove(&mut self, id: &str) {
        if let Some(entry) = self.pins.remove(id) {
            self.by_turn.remove(&entry.turn);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Instant = Instant::from_nanos(1_000_000_000_000);
    const NOBODY: Owner = Owner(None);
    const EVE: Owner = Owner(Some([7; 32]));

    fn backend(number: u8) -> IdentityHash {
        IdentityHash([number; 32])
    }

    #[test]
    fn an_id_is_known_to_its_owner_until_a_day_after_its_last_use() {
        let mut board = Board::new(8);
        board.put("resp_1", NOBODY, backend(1), START);
        let hour = |hours: u64| START.plus(Duration::from_secs(hours * 3_600));
        assert_eq!(board.find("resp_1", NOBODY, hour(23)), Pin::Held(backend(1)));
        assert_eq!(board.find("resp_1", EVE, hour(24)), Pin::Foreign);
        assert_eq!(board.find("resp_1", NOBODY, hour(46)), Pin::Held(backend(1)), "a use keeps it");
        assert_eq!(board.find("resp_1", EVE, hour(71)), Pin::Unknown);
        assert!(board.pins.is_empty() && board.by_turn.is_empty());
    }

    #[test]
    fn nobody_takes_over_what_another_owns() {
        let mut board = Board::new(8);
        board.put("file-1", EVE, backend(1), START);
        board.put("file-1", NOBODY, backend(2), START);
        assert_eq!(board.find("file-1", EVE, START), Pin::Held(backend(1)));
        board.put("file-1", EVE, backend(3), START);
        assert_eq!(board.find("file-1", EVE, START), Pin::Held(backend(3)));
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut board = Board::new(2);
        board.put("a", NOBODY, backend(1), START);
        board.put("b", NOBODY, backend(1), START);
        board.find("a", NOBODY, START);
        board.put("c", NOBODY, backend(1), START);
        let known = ["a", "b", "c"].map(|id| board.find(id, NOBODY, START) != Pin::Unknown);
        assert_eq!(known, [true, false, true]);
        assert_eq!((board.pins.len(), board.by_turn.len()), (2, 2));
        board.put(&"x".repeat(MAX_ID_BYTES + 1), NOBODY, backend(1), START);
        assert_eq!(board.pins.len(), 2, "no id is that long");
    }

    #[test]
    fn ids_in_answers_and_events() {
        let pins = Pins::new();
        let batch = br#"{"id":"batch_1","output_file_id":"file-o","error_file_id":null,"x":{"id":"no"}}"#;
        pins.put_named(batch, NOBODY, backend(1), START);
        let known = ["batch_1", "file-o", "no"].map(|id| pins.find(id, NOBODY, START) != Pin::Unknown);
        assert_eq!(known, [true, true, false]);
        pins.remove("batch_1");
        assert_eq!(pins.find("batch_1", NOBODY, START), Pin::Unknown);
        let block =
            b"event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_1\"}}\n\n";
        assert_eq!(created_in_event(block).as_deref(), Some("resp_1"));
        assert_eq!(created_in_event(b"data: {\"id\":\"run_1\"}\r\n\r\n").as_deref(), Some("run_1"));
        assert_eq!(created_in_event(b": comment\n\n"), None);
        assert_eq!(created_in_event(b"data: [DONE]\n\n"), None);
    }
}
