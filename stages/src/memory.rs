//! Memory: a store and registry without a disk; the simplest implementation that passes the conformance suite.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::StreamExt;
use futures_util::future::{BoxFuture, ready};
use futures_util::stream::{self, BoxStream};
use parking_lot::Mutex;

use crate::actor::{ActorId, ActorRef};
use crate::due::{DueEntry, DueKey};
use crate::history::{Interval, Keep, Page};
use crate::outbox::{EffectId, EffectRows, EffectSource, OutboxKey, OutboxRow, Seen};
use crate::ports::{
    DueStore, Outcome, Pause, PauseStore, Registered, Registry, RegistryChange, Save,
    ScheduleStore, StateStore, StoreError, TakenOver,
};
use crate::schedules::{ScheduleKey, ScheduleRow};
use crate::state::{Head, Revision, Timestamp};

/// Keeps everything in this process: content is lost when the last clone is dropped. Clones share their content.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore(Arc<Mutex<Content>>);

#[derive(Debug, Default)]
struct Content {
    actors: BTreeMap<ActorId, Kept>,
    rows: BTreeMap<ActorId, Rows>,
    registry: BTreeMap<(String, String), Registered>,
    due: BTreeMap<DueKey, DueEntry>,
    pauses: BTreeMap<(String, String), Pause>,
    schedules: BTreeMap<ScheduleKey, ScheduleRow>,
    epoch: u64,
}

#[derive(Debug, Default)]
struct Kept {
    head: Option<Head>,
    history: BTreeMap<u64, Revision>,
}

/// The rows of effects of one actor; they outlive its head.
#[derive(Debug, Default)]
struct Rows {
    outbox: BTreeMap<OutboxKey, OutboxRow>,
    seen: BTreeMap<Arc<EffectSource>, EffectId>,
}

impl Rows {
    fn apply(&mut self, mut rows: EffectRows) {
        rows.reduce();
        self.outbox.extend(rows.appends.into_iter().map(|row| (row.key, row)));
        for key in rows.acknowledged {
            self.outbox.remove(&key);
        }
        self.seen.extend(rows.seen.into_iter().map(|seen| (seen.source, seen.id)));
        for source in rows.forgotten {
            self.seen.remove(&source);
        }
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.iter().map(|(source, id)| Seen { source: source.clone(), id: *id }).collect()
    }
}

impl Content {
    fn save(&mut self, save: Save) -> Result<(), StoreError> {
        let Save { actor, epoch, head, append, rows } = save;
        if epoch < self.epoch {
            return Err(StoreError::Fenced(self.epoch));
        }
        if let Some(head) = head {
            let kept = self.actors.entry(actor.as_ref().clone()).or_default();
            if append {
                kept.history.insert(head.revision, head.as_revision());
            }
            kept.head = Some(head);
        }
        if let Some(rows) = rows {
            self.rows.entry(actor.as_ref().clone()).or_default().apply(*rows);
        }
        Ok(())
    }
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
    fn save(&self, batch: Vec<Save>) -> BoxStream<'static, Outcome> {
        let mut content = self.0.lock();
        let outcomes = batch.into_iter().map(|save| content.save(save)).enumerate();
        stream::iter(outcomes.collect::<Vec<_>>()).boxed()
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
        done(Ok(page(inside, limit).fitting(|entry| entry.content.bytes())))
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

    fn outbox(
        &self,
        actor: &ActorId,
        after: Option<OutboxKey>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Page<OutboxRow>, StoreError>> {
        let content = self.0.lock();
        let all = content.rows.get(actor).into_iter().flat_map(|rows| rows.outbox.values());
        let after = all.filter(|row| after.is_none_or(|after| row.key > after));
        done(Ok(page(after.cloned(), limit).fitting(OutboxRow::bytes)))
    }

    fn seen(&self, actor: &ActorId) -> BoxFuture<'static, Result<Vec<Seen>, StoreError>> {
        done(Ok(self.0.lock().rows.get(actor).map(Rows::seen).unwrap_or_default()))
    }

    fn pending(
        &self,
        after: Option<&ActorId>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Page<Arc<ActorId>>, StoreError>> {
        let content = self.0.lock();
        let all = content.rows.iter().filter(|(_, rows)| !rows.outbox.is_empty());
        let after = all.map(|(id, _)| id).filter(|id| after.is_none_or(|after| *id > after));
        done(Ok(page(after.cloned().map(Arc::new), limit)))
    }

    fn take_over(
        &self,
        actor: Arc<ActorId>,
        epoch: u64,
    ) -> BoxFuture<'static, Result<TakenOver, StoreError>> {
        let mut content = self.0.lock();
        if epoch < content.epoch {
            return done(Err(StoreError::Fenced(content.epoch)));
        }
        let head = content.actors.get_mut(&*actor).and_then(|kept| kept.head.as_mut());
        let head = head.map(|head| {
            head.epoch = epoch;
            head.clone()
        });
        let seen = content.rows.get(&*actor).map(Rows::seen).unwrap_or_default();
        done(Ok(TakenOver { head, seen }))
    }

    fn delete(&self, actor: &ActorId) -> BoxFuture<'static, Result<(), StoreError>> {
        let mut content = self.0.lock();
        let first = ActorId { parent: String::new(), ..actor.clone() };
        let is_named = |id: &&ActorId| id.name == actor.name && id.system == actor.system;
        let named = content.actors.range(first..).map(|(id, _)| id).take_while(is_named);
        for id in named.cloned().collect::<Vec<_>>() {
            content.actors.remove(&id);
        }
        done(Ok(()))
    }

    fn claim_epoch_above(&self, floor: u64) -> BoxFuture<'static, Result<u64, StoreError>> {
        let mut content = self.0.lock();
        content.epoch = content.epoch.max(floor) + 1;
        done(Ok(content.epoch))
    }
}

impl DueStore for MemoryStore {
    fn put_due(&self, entries: Vec<DueEntry>) -> BoxFuture<'static, Result<(), StoreError>> {
        let entries = entries.into_iter().map(|entry| (entry.key.clone(), entry));
        self.0.lock().due.extend(entries);
        done(Ok(()))
    }

    fn due(
        &self,
        after: Option<&DueKey>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Page<DueEntry>, StoreError>> {
        let after = after.map_or(Bound::Unbounded, Bound::Excluded);
        let content = self.0.lock();
        let all = content.due.range::<DueKey, _>((after, Bound::Unbounded));
        done(Ok(page(all.map(|(_, entry)| entry.clone()), limit).fitting(DueEntry::bytes)))
    }

    fn remove_due(&self, keys: Vec<DueKey>) -> BoxFuture<'static, Result<(), StoreError>> {
        let mut content = self.0.lock();
        for key in keys {
            content.due.remove(&key);
        }
        done(Ok(()))
    }
}

impl PauseStore for MemoryStore {
    fn pauses(&self) -> BoxFuture<'static, Result<Vec<Pause>, StoreError>> {
        done(Ok(self.0.lock().pauses.values().cloned().collect()))
    }

    fn put_pauses(&self, pauses: Vec<Pause>) -> BoxFuture<'static, Result<(), StoreError>> {
        let name = |pause: &Pause| (pause.actor.system().to_owned(), pause.actor.name().to_owned());
        let pauses = pauses.into_iter().map(|pause| (name(&pause), pause));
        self.0.lock().pauses.extend(pauses);
        done(Ok(()))
    }

    fn remove_pauses(&self, actors: Vec<ActorRef>) -> BoxFuture<'static, Result<(), StoreError>> {
        let mut content = self.0.lock();
        for actor in actors {
            content.pauses.remove(&(actor.system().to_owned(), actor.name().to_owned()));
        }
        done(Ok(()))
    }
}

impl ScheduleStore for MemoryStore {
    fn put_schedule(&self, row: ScheduleRow) -> BoxFuture<'static, Result<(), StoreError>> {
        self.0.lock().schedules.insert(row.key.clone(), row);
        done(Ok(()))
    }

    fn schedule(
        &self,
        key: &ScheduleKey,
    ) -> BoxFuture<'static, Result<Option<ScheduleRow>, StoreError>> {
        done(Ok(self.0.lock().schedules.get(key).cloned()))
    }

    fn schedules(
        &self,
        after: Option<&ScheduleKey>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Page<ScheduleRow>, StoreError>> {
        let after = after.map_or(Bound::Unbounded, Bound::Excluded);
        let content = self.0.lock();
        let all = content.schedules.range::<ScheduleKey, _>((after, Bound::Unbounded));
        done(Ok(page(all.map(|(_, row)| row.clone()), limit).fitting(ScheduleRow::bytes)))
    }

    fn remove_schedule(&self, key: &ScheduleKey) -> BoxFuture<'static, Result<(), StoreError>> {
        self.0.lock().schedules.remove(key);
        done(Ok(()))
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
