//! Entries: the rows of a change to the registry, in writes of bounded size.

use futures_util::stream::{StreamExt, TryStreamExt, iter};
use tidegate_stages::ports::StoreError;

use super::book::{Entry, Slot, chunks};
use super::database::Changes;
use super::shared::Shared;

/// Concurrent requests.
const ABREAST: usize = 8;

impl Shared {
    /// Writes the rows of a change, in writes of bounded size.
    pub(super) async fn put_entries(
        &self,
        epoch: i64,
        change: i64,
        entries: &[Entry],
    ) -> Result<(), StoreError> {
        let puts: Vec<_> =
            chunks(entries).into_iter().map(|chunk| self.put_chunk(epoch, change, chunk)).collect();
        iter(puts).buffer_unordered(ABREAST).try_collect().await
    }

    async fn put_chunk(&self, epoch: i64, change: i64, chunk: &[Entry]) -> Result<(), StoreError> {
        let mut changes = Changes::default();
        for (Slot { shard, system, name }, record) in chunk {
            let values = (shard, system, name, epoch, change, record);
            changes.add(&self.database.cql.put_registration, values);
        }
        self.commit(changes, self.stamp().await?).await
    }

    /// Removes the rows that a change has replaced, and the change's own rows of removed names. Rows that a crash leaves do
    /// not count; the next change of their name removes them.
    pub(super) async fn drop_replaced(
        &self,
        epoch: i64,
        change: i64,
        entries: &[Entry],
    ) -> Result<(), StoreError> {
        let drops: Vec<_> = chunks(entries)
            .into_iter()
            .map(|chunk| self.drop_chunk(epoch, change, chunk))
            .collect();
        iter(drops).buffer_unordered(ABREAST).try_collect().await
    }

    async fn drop_chunk(&self, epoch: i64, change: i64, chunk: &[Entry]) -> Result<(), StoreError> {
        let Some((Slot { shard, system, .. }, _)) = chunk.first() else { return Ok(()) };
        let names: Vec<_> = chunk.iter().map(|(name, _)| &name.name).collect();
        let cql = &self.database.cql;
        let found: Vec<(String, i64, i64)> =
            self.database.read(&cql.changes_of, (shard, system, names)).await?;
        let is_removed =
            |name: &str| chunk.iter().any(|(one, record)| record.is_none() && one.name == name);
        let mut changes = Changes::default();
        for (name, of, number) in &found {
            if (*of, *number) < (epoch, change) || is_removed(name) {
                changes.add(&cql.drop_registration, (shard, system, name, of, number));
            }
        }
        self.commit(changes, self.stamp().await?).await
    }
}
