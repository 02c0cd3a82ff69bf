//! Kept keys: the keys of deleted actors of which rows of effects are left.
//!
//! The rows outlive a delete (decision 18 k), so an actor that is spawned again, under whatever parent, goes on with its
//! key (decision 48). A [look](super::key_look) at them finds those without rows.

use std::sync::Arc;

use hashbrown::HashTable;
use parking_lot::Mutex;

use crate::actor::{ActorId, ActorRef};
use crate::registry::live_set::is_sparse;

/// Keys by (system, name); see the [module](self).
#[derive(Debug, Default)]
pub(super) struct KeptKeys(Mutex<HashTable<Arc<ActorId>>>);

impl KeptKeys {
    /// Returns the key of a deleted actor.
    pub(super) fn find(&self, system: &str, name: &str) -> Option<Arc<ActorId>> {
        let is_meant = |key: &Arc<ActorId>| key.name == name && key.system == system;
        self.0.lock().find(ActorRef::hash_of(system, name), is_meant).cloned()
    }

    /// Returns at most `count` keys, without the first `skip` of them.
    pub(super) fn some(&self, skip: usize, count: usize) -> Vec<Arc<ActorId>> {
        self.0.lock().iter().skip(skip).take(count).cloned().collect()
    }

    /// Adds a key, or replaces the one of its name. Returns whether the name is new.
    pub(super) fn add(&self, key: Arc<ActorId>) -> bool {
        let is_new = !self.remove(&key);
        let hash = hash_of(&key);
        self.0.lock().insert_unique(hash, key, |key| hash_of(key));
        is_new
    }

    /// Removes the key of this (system, name). Returns whether there was one.
    pub(super) fn remove(&self, id: &ActorId) -> bool {
        let is_meant = |key: &Arc<ActorId>| key.name == id.name && key.system == id.system;
        let mut keys = self.0.lock();
        let Ok(found) = keys.find_entry(hash_of(id), is_meant) else { return false };
        found.remove();
        if is_sparse(keys.len(), keys.capacity()) {
            let len = 2 * keys.len();
            keys.shrink_to(len, |key| hash_of(key));
        }
        true
    }
}

fn hash_of(id: &ActorId) -> u64 {
    ActorRef::hash_of(&id.system, &id.name)
}
