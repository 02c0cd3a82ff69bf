//! Schedules: the table of schedules, over the shards of their names.
//!
//! A record's first byte tells its format, and the label of a sealed value that it is sealed: 1 in the clear, 2 sealed.

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::future::{BoxFuture, try_join_all};
use tidegate_stages::history::{PAGE_BYTES, Page};
use tidegate_stages::ports::{ScheduleStore, StoreError};
use tidegate_stages::schedules::{ScheduleKey, ScheduleRow};

use super::CqlStore;
use super::errors::damage;
use super::rows::{open, signed, unsigned};
use super::shards::{SHARDS, hash};
use super::shared::Shared;
use crate::store::place::{Place, schedule_named};

const CLEAR: u8 = 1;
const SEALED: u8 = 2;
/// Rows that are read of one shard together.
const CHUNK: usize = 64;
/// Bytes of a row beside its content.
const ROW_BYTES: usize = 128;

/// A schedule as it is stored: system, name, runs, record.
type Stored = (String, String, Option<i64>, Option<Bytes>);

fn shard(ScheduleKey { system, name }: &ScheduleKey) -> i8 {
    let shards = u64::from(SHARDS.unsigned_abs());
    i8::try_from(hash(&[system, name]) % shards).unwrap_or(0)
}

impl ScheduleStore for CqlStore {
    fn put_schedule(&self, row: ScheduleRow) -> BoxFuture<'static, Result<(), StoreError>> {
        self.read(async move |shared| shared.put_schedule(row).await)
    }

    fn schedule(
        &self,
        key: &ScheduleKey,
    ) -> BoxFuture<'static, Result<Option<ScheduleRow>, StoreError>> {
        let key = key.clone();
        self.read(async move |shared| shared.schedule(key).await)
    }

    fn schedules(
        &self,
        after: Option<&ScheduleKey>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Page<ScheduleRow>, StoreError>> {
        let after = after.cloned();
        self.read(async move |shared| shared.schedules(after, limit).await)
    }

    fn remove_schedule(&self, key: &ScheduleKey) -> BoxFuture<'static, Result<(), StoreError>> {
        let key = key.clone();
        self.read(async move |shared| shared.remove_schedule(key).await)
    }
}

impl Shared {
    async fn put_schedule(&self, row: ScheduleRow) -> Result<(), StoreError> {
        self.fence.check_own()?;
        let _turn = self.turn().await?;
        let ScheduleRow { key, runs, record } = row;
        let named = schedule_named(&key);
        let (format, content) = match self.vault.seal(&record, Place::schedule(&named, runs)) {
            Some(sealed) => (SEALED, sealed),
            None => (CLEAR, record),
        };
        self.check_size(ROW_BYTES + named.len() + content.len())?;
        let mut record = BytesMut::with_capacity(1 + content.len());
        record.put_u8(format);
        record.put_slice(&content);
        let values = (shard(&key), key.system, key.name, signed(runs)?, record.freeze());
        self.database.write(&self.database.cql.put_schedule, values, self.stamp().await?).await?;
        self.look().await?;
        self.fence.check_own()
    }

    async fn remove_schedule(&self, key: ScheduleKey) -> Result<(), StoreError> {
        self.fence.check_own()?;
        let _turn = self.turn().await?;
        let values = (shard(&key), key.system, key.name);
        self.database.write(&self.database.cql.drop_schedule, values, self.stamp().await?).await?;
        self.look().await?;
        self.fence.check_own()
    }

    async fn schedule(&self, key: ScheduleKey) -> Result<Option<ScheduleRow>, StoreError> {
        let values = (shard(&key), key.system, key.name);
        let found: Vec<Stored> = self.database.read(&self.database.cql.schedule, values).await?;
        found.into_iter().next().map(|row| self.schedule_of(row)).transpose()
    }

    /// Returns schedules in the order of system and name: the first ones of each shard, merged.
    async fn schedules(
        &self,
        after: Option<ScheduleKey>,
        limit: usize,
    ) -> Result<Page<ScheduleRow>, StoreError> {
        let ScheduleKey { system, name } = after.unwrap_or_default();
        let count = limit.min(CHUNK);
        let rows = i32::try_from(count + 1).unwrap_or(i32::MAX);
        let reads = (0..SHARDS).map(async |shard| {
            let values = (shard, &system, &name, rows);
            self.database.read::<Stored>(&self.database.cql.schedules_after, values).await
        });
        let mut found: Vec<Stored> = try_join_all(reads).await?.into_iter().flatten().collect();
        found.sort_unstable_by(|one, other| (&one.0, &one.1).cmp(&(&other.0, &other.1)));
        let mut page = Page { more: found.len() > count, items: Vec::new() };
        let mut bytes = 0;
        for row in found.into_iter().take(count) {
            if bytes >= PAGE_BYTES {
                page.more = true;
                break;
            }
            let row = self.schedule_of(row)?;
            bytes += row.bytes();
            page.items.push(row);
        }
        page.more &= !page.items.is_empty();
        Ok(page)
    }

    fn schedule_of(&self, (system, name, runs, record): Stored) -> Result<ScheduleRow, StoreError> {
        let (key, runs) = (ScheduleKey { system, name }, unsigned(runs.unwrap_or_default())?);
        let mut record = record.unwrap_or_default();
        let sealed = match record.first() {
            Some(&CLEAR) => false,
            Some(&SEALED) => true,
            other => return Err(damage("a schedule", format!("it has format {other:?}"))),
        };
        drop(record.split_to(1));
        // The driver's frame is larger than the record.
        let record = Bytes::copy_from_slice(&record);
        let named = schedule_named(&key);
        let place = Place::schedule(&named, runs);
        Ok(ScheduleRow {
            record: open(record, sealed, place, &self.vault, "a schedule")?,
            key,
            runs,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shard_of_a_schedule_never_changes() {
        // Stored: another hash would not find it.
        let of = |name: &str| shard(&ScheduleKey { system: "s".into(), name: name.into() });
        assert_eq!(["joe", "test", "test-1", "\u{e9}|@"].map(of), [13, 7, 7, 0]);
    }
}
