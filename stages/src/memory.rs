//! Memory: a store and registry without a disk, the plainest thing that passes the conformance suite.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use parking_lot::Mutex;

use crate::actor::ActorId;
use crate::ports::{Registered, Registry, RegistryChange, Save, StateStore, StoreError};
use crate::state::{Head, Revision, Timestamp};

/// Keeps everything in this process: "durable" lasts as long as the value does. Clones share their content.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore(Arc<Mutex<Content>>);

#[derive(Debug, Default)]
struct Content {
    actors: BTreeMap<ActorId, Kept>,
    registry: BTreeMap<(String, String), Registered>,
    epoch: u64,
}

#[derive(Debug, Default)]
struct Kept {
    head: Head,
    history: BTreeMap<u64, Revision>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }
}

fn done<T: Send + 'static>(value: T) -> BoxFuture<'static, T> {
    ready(value).boxed()
}

impl StateStore for MemoryStore {
    fn save(&self, batch: Vec<Save>) -> BoxFuture<'static, Vec<Result<(), StoreError>>> {
        let mut content = self.0.lock();
        let results = batch.into_iter().map(|save| {
            let kept = content.actors.entry(save.actor.as_ref().clone()).or_default();
            if save.append {
                kept.history.insert(save.head.revision, save.head.as_revision());
            }
            kept.head = save.head;
            Ok(())
        });
        done(results.collect())
    }

    fn load(&self, actor: &ActorId) -> BoxFuture<'static, Result<Option<Head>, StoreError>> {
        done(Ok(self.0.lock().actors.get(actor).map(|kept| kept.head.clone())))
    }

    fn load_revision(
        &self,
        actor: &ActorId,
        revision: u64,
    ) -> BoxFuture<'static, Result<Option<Revision>, StoreError>> {
        let content = self.0.lock();
        let found = content.actors.get(actor).and_then(|kept| kept.history.get(&revision));
        done(Ok(found.cloned()))
    }

    fn load_by_interval(
        &self,
        actor: &ActorId,
        from: Timestamp,
        to: Timestamp,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<Revision>, StoreError>> {
        let content = self.0.lock();
        let history = content.actors.get(actor).into_iter().flat_map(|kept| kept.history.values());
        let inside = history.filter(|entry| from <= entry.at && entry.at <= to);
        done(Ok(inside.take(limit).cloned().collect()))
    }

    fn delete(&self, actor: &ActorId) -> BoxFuture<'static, Result<(), StoreError>> {
        self.0.lock().actors.remove(actor);
        done(Ok(()))
    }

    fn claim_epoch(&self) -> BoxFuture<'static, Result<u64, StoreError>> {
        let mut content = self.0.lock();
        content.epoch += 1;
        done(Ok(content.epoch))
    }
}

impl Registry for MemoryStore {
    fn load(&self) -> BoxFuture<'static, Result<Vec<Registered>, StoreError>> {
        done(Ok(self.0.lock().registry.values().cloned().collect()))
    }

    fn apply(&self, changes: Vec<RegistryChange>) -> BoxFuture<'static, Result<(), StoreError>> {
        let mut content = self.0.lock();
        for change in changes {
            match change {
                RegistryChange::Put(entry) => {
                    let key = (entry.id().system.clone(), entry.id().name.clone());
                    content.registry.insert(key, entry);
                }
                RegistryChange::Remove(id) => {
                    content.registry.remove(&(id.system.clone(), id.name.clone()));
                }
            }
        }
        done(Ok(()))
    }
}
