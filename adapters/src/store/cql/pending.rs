//! Pending: which actors may have rows in their outbox, so that a start does not read all actors.
//!
//! An actor's row is written before its first effect of an epoch, and removed after its outbox is durably empty. A row
//! that is left over names an actor whose outbox is empty, which does no harm.

use std::sync::Arc;

use tidegate_stages::actor::ActorId;
use tidegate_stages::history::Page;
use tidegate_stages::ports::StoreError;
use tracing::debug;

use super::rows::Key;
use super::shards::{SHARDS, shard};
use super::shared::Shared;

impl Shared {
    pub(super) async fn put_pending(&self, id: &ActorId, epoch: i64) -> Result<(), StoreError> {
        let values = (shard(id), &id.system, &id.name, &id.parent, epoch);
        self.database.write(&self.database.cql.put_pending, values, self.stamp().await?).await
    }

    /// Removes an actor's row when nothing is in its outbox any more.
    pub(super) async fn drop_pending(&self, id: &Arc<ActorId>, epoch: i64) {
        if let Err(error) = self.try_drop_pending(id, epoch).await {
            debug!(actor = %id, %error, "the actor stays listed as one with effects");
        }
    }

    async fn try_drop_pending(&self, id: &Arc<ActorId>, epoch: i64) -> Result<(), StoreError> {
        let (key, cql) = (Key::of(id)?, &self.database.cql);
        let left: Vec<(i64, i64)> = self.database.read(&cql.outbox_keys, key).await?;
        let mut known = self.memory.of(id);
        let is_empty = left.is_empty();
        known.outstanding = Some(left.len());
        if is_empty {
            // Before it is removed: without an answer it may be gone, and the next effect has to write it again.
            known.pending = None;
        }
        self.memory.keep(id, known);
        if is_empty {
            // Not those of a later owner.
            let values = (shard(id), key.system, key.actor, key.parent, epoch);
            self.database.write(&cql.drop_pending, values, self.stamp().await?).await?;
        }
        Ok(())
    }

    /// Returns a page of the actors that may have rows in their outbox, ordered by shard, then by name.
    pub(super) async fn pending(
        &self,
        after: Option<&ActorId>,
        limit: usize,
    ) -> Result<Page<Arc<ActorId>>, StoreError> {
        let cql = &self.database.cql;
        let count = limit.saturating_add(1);
        let rows = i32::try_from(count).unwrap_or(i32::MAX);
        let mut items: Vec<Arc<ActorId>> = Vec::new();
        let mut last = after.cloned();
        for shard in last.as_ref().map_or(0, shard)..SHARDS {
            loop {
                let ActorId { system, name, parent } = last.take().unwrap_or_default();
                let from = (shard, &system, &name, &parent, rows);
                let found: Vec<(String, String, String)> =
                    self.database.read(&cql.pending_after, from).await?;
                let is_last = found.len() < count;
                for (system, name, parent) in found {
                    let actor = ActorId { name, system, parent };
                    // One row per epoch.
                    if last.as_ref() != Some(&actor) {
                        items.push(Arc::new(actor.clone()));
                        last = Some(actor);
                    }
                }
                if items.len() > limit {
                    items.truncate(limit);
                    return Ok(Page { more: !items.is_empty(), items });
                }
                if is_last {
                    last = None;
                    break;
                }
            }
        }
        Ok(Page { items, more: false })
    }
}
