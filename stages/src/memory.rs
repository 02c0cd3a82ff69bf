//! Memory: a store and registry without a disk; the simplest implementation that passes the conformance suite.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use parking_lot::Mutex;

use crate::actor::ActorId;
use crate::history::{Interval, Keep, PAGE_BYTES, Page};
use crate::ports::{Registered, Registry, RegistryChange, Save, StateStore, StoreError};
use crate::state::{Head, Revision, Timestamp};

/// Keeps everything in this process: content is lost when the last clone is dropped. Clones share their content.
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
    head: Option<Head>,
    history: BTreeMap<u64, Revision>,
}

impl MemoryStore {
    /// Creates an empty store.
    pub fn new() -> Self {
        Self::default()
    }
}

fn done<T: Send + 'static>(value: T) -> BoxFuture<'static, T> {
    ready(value).boxed()
}

/// Takes the first `limit` items as a page.
fn page<T>(mut all: impl Iterator<Item = T>, limit: usize) -> Page<T> {
    let items: Vec<T> = all.by_ref().take(limit).collect();
    Page { more: !items.is_empty() && all.next().is_some(), items }
}

impl StateStore for MemoryStore {
    fn save(&self, batch: Vec<Save>) -> BoxFuture<'static, Vec<Result<(), StoreError>>> {
        let mut content = self.0.lock();
        let results = batch.into_iter().map(|save| {
            if save.head.epoch < content.epoch {
                return Err(StoreError::Fenced(content.epoch));
            }
            let kept = content.actors.entry(save.actor.as_ref().clone()).or_default();
            if save.append {
                kept.history.insert(save.head.revision, save.head.as_revision());
            }
            kept.head = Some(save.head);
            Ok(())
        });
        done(results.collect())
    }

    fn append(
        &self,
        actor: Arc<ActorId>,
        revisions: Vec<Revision>,
    ) -> BoxFuture<'static, Result<(), StoreError>> {
        let mut content = self.0.lock();
        let kept = content.actors.entry(ActorId::clone(&actor)).or_default();
        kept.history.extend(revisions.into_iter().map(|entry| (entry.revision, entry)));
        done(Ok(()))
    }

    fn load(&self, actor: &ActorId) -> BoxFuture<'static, Result<Option<Head>, StoreError>> {
        done(Ok(self.0.lock().actors.get(actor).and_then(|kept| kept.head.clone())))
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

    fn load_at(
        &self,
        actor: &ActorId,
        at: Timestamp,
    ) -> BoxFuture<'static, Result<Option<Revision>, StoreError>> {
        let content = self.0.lock();
        let mut history =
            content.actors.get(actor).into_iter().flat_map(|kept| kept.history.values().rev());
        done(Ok(history.find(|entry| entry.at <= at).cloned()))
    }

    fn load_by_interval(
        &self,
        actor: &ActorId,
        interval: Interval,
        limit: usize,
    ) -> BoxFuture<'static, Result<Page<Revision>, StoreError>> {
        let content = self.0.lock();
        let history = content.actors.get(actor).into_iter().flat_map(|kept| kept.history.values());
        let inside = history.filter(|entry| interval.holds(entry)).cloned();
        let mut page = page(inside, limit);
        let mut bytes = 0;
        let fitting = page.items.iter().take_while(|entry| {
            let fits = bytes < PAGE_BYTES;
            bytes += entry.content.bytes();
            fits
        });
        let fitting = fitting.count();
        page.more |= fitting < page.items.len();
        page.items.truncate(fitting);
        done(Ok(page))
    }

    fn actors(
        &self,
        system: &str,
        after: Option<&ActorId>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Page<Arc<ActorId>>, StoreError>> {
        let content = self.0.lock();
        let all = content.actors.iter().filter(|(_, kept)| kept.head.is_some());
        let all = all.map(|(id, _)| id).filter(|id| id.system == system);
        let after = all.filter(|id| after.is_none_or(|after| *id > after));
        done(Ok(page(after.cloned().map(Arc::new), limit)))
    }

    fn prune(&self, actor: &ActorId, keep: Keep) -> BoxFuture<'static, Result<u64, StoreError>> {
        let mut content = self.0.lock();
        let Some(kept) = content.actors.get_mut(actor) else { return done(Ok(0)) };
        let before = kept.history.len() as u64;
        let surplus = keep.newest.map_or(0, |newest| before.saturating_sub(newest.max(1)));
        let mut place = 0;
        kept.history.retain(|_, entry| {
            place += 1;
            let is_old = keep.since.is_some_and(|since| entry.at < since);
            place == before || (place > surplus && !is_old)
        });
        done(Ok(before - kept.history.len() as u64))
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
