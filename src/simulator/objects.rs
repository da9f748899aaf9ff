//! Objects that a provider account holds: responses, files, batches. Bounded, and gone when the simulator stops.

use bytes::Bytes;
use indexmap::IndexMap;
use serde_json::Value;

use super::paths::Operation;

/// Most objects of one backend; the oldest goes first.
const MAX_OBJECTS: usize = 1000;

/// Largest content of all files together.
const MAX_CONTENT_BYTES: usize = 64 << 20;

/// One object.
#[derive(Debug)]
pub(super) struct Object {
    /// `Response`, `File` or `Batch`: the operation that reads it.
    pub(super) kind: Operation,
    pub(super) json: Value,
    pub(super) content: Bytes,
}

/// All objects of a backend by id, in order of creation.
#[derive(Debug, Default)]
pub(super) struct Objects {
    by_id: IndexMap<String, Object>,
}

impl Objects {
    pub(super) fn get(&self, id: &str) -> Option<&Object> {
        self.by_id.get(id)
    }

    pub(super) fn get_mut(&mut self, id: &str) -> Option<&mut Object> {
        self.by_id.get_mut(id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Object> {
        self.by_id.values()
    }

    pub(super) fn insert(&mut self, id: String, object: Object) {
        self.by_id.insert(id, object);
        while MAX_OBJECTS < self.by_id.len() || MAX_CONTENT_BYTES < self.content_bytes() {
            self.by_id.shift_remove_index(0);
        }
    }

    pub(super) fn remove(&mut self, id: &str) {
        self.by_id.shift_remove(id);
    }

    fn content_bytes(&self) -> usize {
        self.by_id.values().map(|object| object.content.len()).sum()
    }
}
