//! List: the actors of a system, by shard.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::TryStreamExt;
use futures_util::stream::iter;
use tidegate_stages::actor::ActorId;
use tidegate_stages::history::Page;
use tidegate_stages::ports::StoreError;

use super::rows::{HEAD, Key, OWNER};
use super::shards::{SHARDS, shard};
use super::shared::Shared;

/// Concurrent requests.
const ABREAST: usize = 8;

impl Shared {
    /// Returns a page of a system's actors that have a head, ordered by shard, then by name.
    pub(super) async fn actors(
        &self,
        system: &str,
        after: Option<&ActorId>,
        limit: usize,
    ) -> Result<Page<Arc<ActorId>>, StoreError> {
        let id = |(name, parent)| ActorId { name, system: system.into(), parent };
        let count = i32::try_from(limit.saturating_add(1)).unwrap_or(i32::MAX);
        let mut items = Vec::new();
        let mut after = after.filter(|after| after.system == system).cloned();
        let first = after.as_ref().map_or(0, shard);
        for shard in first..SHARDS {
            loop {
                let found = self.listed(system, shard, after.take().as_ref(), count).await?;
                let mut found: VecDeque<ActorId> = found.into_iter().map(id).collect();
                let is_last = found.len() < usize::try_from(count).unwrap_or(usize::MAX);
                after = found.back().cloned();
                let with_head = iter(found.drain(..)).map(|actor| self.if_it_has_a_head(actor));
                let with_head: Vec<_> = with_head.buffered(ABREAST).try_collect().await?;
                items.extend(with_head.into_iter().flatten());
                if items.len() > limit {
                    items.truncate(limit);
                    return Ok(Page { more: !items.is_empty(), items });
                }
                if is_last {
                    after = None;
                    break;
                }
            }
        }
        Ok(Page { items, more: false })
    }

    async fn listed(
        &self,
        system: &str,
        shard: i8,
        after: Option<&ActorId>,
        count: i32,
    ) -> Result<Vec<(String, String)>, StoreError> {
        let cql = &self.database.cql;
        match after {
            Some(after) => {
                let values = (system, shard, &after.name, &after.parent, count);
                self.database.read(&cql.actors_after, values).await
            }
            None => self.database.read(&cql.actors_first, (system, shard, count)).await,
        }
    }

    /// Filters out an actor without a head: an actor is listed before its first head is written.
    async fn if_it_has_a_head(&self, actor: ActorId) -> Result<Option<Arc<ActorId>>, StoreError> {
        let key = Key::of(&actor)?;
        let rows: Vec<(i8, i64)> = self.database.read(&self.database.cql.head_epochs, key).await?;
        let newest = |kind| rows.iter().find(|row| row.0 == kind).map(|row| row.1);
        let has_head = newest(HEAD).is_some_and(|head| Some(head) >= newest(OWNER));
        Ok(has_head.then(|| Arc::new(actor)))
    }
}
