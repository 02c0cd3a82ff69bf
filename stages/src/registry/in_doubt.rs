//! In doubt: names whose last change of the registry may have been stored, or not.
//!
//! What is in memory counts. The entries of these names are stored again as they are in memory, at once, then each second until
//! the store has them, and in any case before another change: a start that found the change in doubt would lose what was
//! acknowledged after it, such as a registration that was known already and therefore not stored, or the calls of an actor
//! whose removal was in doubt.

use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;
use tidegate_pipeline::randomness::Seeded;

use crate::actor::{ActorId, ActorRef};
use crate::error::Error;
use crate::ports::{Registered, RegistryChange, StoreError};
use crate::registry::directory::Directory;

/// The names in doubt, no more than one batch of changes has; see the [module](self).
#[derive(Debug, Default)]
pub(super) struct InDoubt(Mutex<HashMap<ActorRef, Arc<ActorId>, Seeded>>);

impl InDoubt {
    /// Notes the names of a change whose outcome is not known.
    pub(super) fn add(&self, writes: &[RegistryChange]) {
        let mut names = self.0.lock();
        for write in writes {
            let id = match write {
                RegistryChange::Put(one) => Arc::new(one.id().clone()),
                RegistryChange::Remove(id) => id.clone(),
            };
            names.insert(ActorRef::new(&id.system, &id.name), id);
        }
    }

    /// What is to be stored again: each name in doubt as it is in memory.
    pub(super) fn as_in_memory(&self, directory: &Directory) -> Vec<RegistryChange> {
        let as_in_memory = |id: &Arc<ActorId>| {
            if let Some(entry) = directory.find(&id.system, &id.name) {
                RegistryChange::Put(entry.as_registered())
            } else if let Some(key) = directory.kept_key(&id.system, &id.name) {
                RegistryChange::Put(Registered::deleted(key))
            } else {
                RegistryChange::Remove(id.clone())
            }
        };
        self.0.lock().values().map(as_in_memory).collect()
    }

    /// No name is in doubt any more.
    pub(super) fn clear(&self) {
        *self.0.lock() = HashMap::default();
    }
}

/// Whether a change that failed may have been stored.
pub(super) fn may_be_stored(error: &Error) -> bool {
    matches!(error, Error::Store(error) if error.may_have_happened())
}

/// The error of a change that did not begin, because an earlier one is still in doubt.
pub(super) fn behind(error: Error) -> Error {
    match error {
        Error::Store(StoreError::Unknown(reason)) => StoreError::Unavailable(format!(
            "an earlier change of the registry is in doubt: {reason}"
        ))
        .into(),
        error => error,
    }
}
