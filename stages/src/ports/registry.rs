//! Registry: who is registered, kept across a restart.

use std::fmt::Debug;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::StoreError;
use crate::actor::{ActorId, Definition};

/// An entry of the registry, kept across a restart.
#[derive(Debug, Clone, PartialEq)]
pub struct Registered {
    /// What is registered.
    pub entry: RegisteredEntry,
    /// The key under which the actor's state, history and rows lie: the identity with which the actor was first registered. An
    /// actor whose parent has changed since goes on with it (decision 48), so its parent may differ from the entry's; system
    /// and name are the same.
    pub key: Arc<ActorId>,
}

/// What is registered under a (system, name).
#[derive(Debug, Clone, PartialEq)]
pub enum RegisteredEntry {
    /// A definition that a host registered.
    Definition(Arc<Definition>),
    /// An instance of a definition.
    Spawned {
        /// Identity of the instance; the parent names the definition.
        id: Arc<ActorId>,
        /// Revision that the first activation loads, if any.
        revision: Option<u64>,
    },
    /// A spawned actor that was deleted and whose rows of effects are left, which it goes on with when it is spawned again
    /// (decision 48): its key.
    Deleted(Arc<ActorId>),
}

impl Registered {
    /// A definition whose state lies under its own identity.
    pub fn definition(definition: Arc<Definition>) -> Self {
        let key = Arc::new(definition.id.clone());
        Self { entry: RegisteredEntry::Definition(definition), key }
    }

    /// An instance whose state lies under its own identity.
    pub fn spawned(id: Arc<ActorId>, revision: Option<u64>) -> Self {
        Self { key: id.clone(), entry: RegisteredEntry::Spawned { id, revision } }
    }

    /// What stays registered of an actor that was deleted.
    pub fn deleted(key: Arc<ActorId>) -> Self {
        Self { entry: RegisteredEntry::Deleted(key.clone()), key }
    }

    /// The identity of the entry.
    pub fn id(&self) -> &ActorId {
        match &self.entry {
            RegisteredEntry::Definition(definition) => &definition.id,
            RegisteredEntry::Spawned { id, .. } | RegisteredEntry::Deleted(id) => id,
        }
    }
}

/// A change to the registry.
#[derive(Debug, Clone, PartialEq)]
pub enum RegistryChange {
    /// Adds or replaces an entry under its (system, name).
    Put(Registered),
    /// Removes the entry of this (system, name).
    Remove(Arc<ActorId>),
}

/// Stores definitions and spawned ids across a restart, because hosts do not register again by themselves.
pub trait Registry: Debug + Send + Sync + 'static {
    /// Returns all entries.
    fn load(&self) -> BoxFuture<'static, Result<Vec<Registered>, StoreError>>;

    /// Applies all changes in order, atomically and durably.
    fn apply(&self, changes: Vec<RegistryChange>) -> BoxFuture<'static, Result<(), StoreError>>;
}
