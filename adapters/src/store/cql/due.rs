//! Due: the table of due work: a partition per minute and shard, dropped whole when its minute is over.
//!
//! `due_minutes` lists the partitions that there are, by day. Its row is written with the entries of a partition, and an
//! entry counts only when both are. Minutes are dropped long after they are over, with a timestamp from before they were found
//! empty, and not while an entry is on its way to them: calls for a time that is over come, too.

use std::collections::BTreeSet;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::future::{BoxFuture, try_join_all};
use futures_util::stream::{StreamExt, TryStreamExt, iter};
use tidegate_stages::due::{DueEntry, DueKey};
use tidegate_stages::history::{PAGE_BYTES, Page};
use tidegate_stages::outbox::EffectSource;
use tidegate_stages::ports::{DueStore, StoreError};
use tidegate_stages::state::Timestamp;
use tracing::debug;

use super::CqlStore;
use super::effects::{effect_source, source};
use super::errors::damage;
use super::rows::{bound, open, signed, unsigned};
use super::shards::hash;
use super::shared::Shared;
use crate::store::place::{Place as Sealed, due_source};

/// Partitions of a minute.
const SHARDS: u64 = 8;
const MINUTE_US: i64 = 60_000_000;
const DAY_MINUTES: i64 = 24 * 60;
/// Minutes after which a minute without entries is dropped.
const KEPT_MINUTES: i64 = 10;
/// Rows that are read of one partition together: each may be large.
const CHUNK: usize = 16;
/// Rows of `due_minutes` that are read together.
const MINUTES: i32 = 256;
/// Concurrent writes of one request.
const ABREAST: usize = 16;
/// First byte of a record.
const FORMAT: u8 = 1;
/// Bytes of a row beside its content.
const ROW_BYTES: usize = 128;

/// An entry as it is stored: time, id, record, whether that is sealed.
type Stored = (i64, String, Option<Bytes>, Option<bool>);

/// The partition of an entry, and its place there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    minute: i64,
    shard: i16,
    at: i64,
    id: String,
}

impl Place {
    fn of(key: &DueKey) -> Result<Self, StoreError> {
        let (kind, system, name) = source(&key.source)?;
        let id = format!("{kind}:{}:{system}:{name}", system.len());
        let shard = i16::try_from(hash(&[&id]) % SHARDS).unwrap_or(0);
        let at = signed(key.at.0)?;
        Ok(Self { minute: at / MINUTE_US, shard, at, id })
    }
}

fn day(minute: i64) -> i32 {
    i32::try_from(minute / DAY_MINUTES).unwrap_or(i32::MAX)
}

/// Parses the source from the id of an entry.
fn parse(id: &str) -> Option<EffectSource> {
    let (kind, rest) = id.split_once(':')?;
    let (length, rest) = rest.split_once(':')?;
    let (system, name) = rest.split_at_checked(length.parse().ok()?)?;
    let name = name.strip_prefix(':')?;
    effect_source((kind.parse().ok()?, system.into(), name.into())).ok()
}

impl DueStore for CqlStore {
    fn put_due(&self, entries: Vec<DueEntry>) -> BoxFuture<'static, Result<(), StoreError>> {
        self.read(async move |shared| shared.put_due(entries).await)
    }

    fn due(
        &self,
        after: Option<&DueKey>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Page<DueEntry>, StoreError>> {
        let after = after.map(Place::of).transpose();
        self.read(async move |shared| shared.due(after?, limit).await)
    }

    fn remove_due(&self, keys: Vec<DueKey>) -> BoxFuture<'static, Result<(), StoreError>> {
        self.read(async move |shared| shared.remove_due(keys).await)
    }
}

impl Shared {
    async fn put_due(&self, entries: Vec<DueEntry>) -> Result<(), StoreError> {
        if entries.is_empty() {
            return Ok(());
        }
        self.fence.check_own()?;
        let _turn = self.turn().await?;
        let cql = &self.database.cql;
        let mut rows = Vec::with_capacity(entries.len());
        for DueEntry { key, record } in entries {
            let (place, source) = (Place::of(&key)?, due_source(&key));
            let sealed = self.vault.seal(&record, Sealed::due(&source, &key));
            let is_sealed = sealed.is_some();
            let content = sealed.unwrap_or(record);
            self.check_size(ROW_BYTES + place.id.len() + content.len())?;
            let mut record = BytesMut::with_capacity(1 + content.len());
            record.put_u8(FORMAT);
            record.put_slice(&content);
            rows.push((place, record.freeze(), is_sealed));
        }
        let partitions: BTreeSet<_> =
            rows.iter().map(|(place, ..)| (place.minute, place.shard)).collect();
        let _filling = self.filling.begin(partitions.iter().map(|(minute, _)| *minute));
        let partitions = partitions.into_iter().map(async |(minute, shard)| {
            let values = (day(minute), minute, shard);
            self.database.write(&cql.put_minute, values, self.stamp().await?).await
        });
        iter(partitions).buffer_unordered(ABREAST).try_collect::<()>().await?;
        let rows = rows.into_iter().map(async |(place, record, is_sealed)| {
            let Place { minute, shard, at, id } = place;
            let values = (minute, shard, at, id, record, is_sealed);
            self.database.write(&cql.put_due, values, self.stamp().await?).await
        });
        iter(rows).buffer_unordered(ABREAST).try_collect::<()>().await?;
        self.look().await?;
        self.fence.check_own()
    }

    async fn remove_due(&self, keys: Vec<DueKey>) -> Result<(), StoreError> {
        self.fence.check_own()?;
        let _turn = self.turn().await?;
        let removals = keys.into_iter().map(async |key| {
            let Place { minute, shard, at, id } = Place::of(&key)?;
            let values = (minute, shard, at, id);
            self.database.write(&self.database.cql.drop_due, values, self.stamp().await?).await
        });
        iter(removals).buffer_unordered(ABREAST).try_collect().await
    }

    async fn due(&self, after: Option<Place>, limit: usize) -> Result<Page<DueEntry>, StoreError> {
        let mut page = DuePage { items: Vec::new(), bytes: 0, limit };
        let first = after.as_ref().map_or(i64::MIN, |after| after.minute);
        // The days that there are take a look at every partition; mostly the day of the page before is enough.
        if let Some(after) = &after
            && !self.due_of_day(day(after.minute), first, Some(after), &mut page).await?
        {
            return Ok(Page { items: page.items, more: true });
        }
        let days: Vec<(i32,)> = self.database.read(&self.database.cql.due_days, ()).await?;
        let mut days: Vec<i32> = days.into_iter().map(|(day,)| day).collect();
        days.sort_unstable();
        days.retain(|found| after.as_ref().is_none_or(|after| *found > day(after.minute)));
        for day in days {
            if !self.due_of_day(day, i64::MIN, None, &mut page).await? {
                return Ok(Page { more: !page.items.is_empty(), items: page.items });
            }
        }
        Ok(Page { items: page.items, more: false })
    }

    /// Adds the entries of a day, from a minute on. Returns false when the page is full.
    async fn due_of_day(
        &self,
        day: i32,
        first: i64,
        after: Option<&Place>,
        page: &mut DuePage,
    ) -> Result<bool, StoreError> {
        let mut from = (first, -1_i16);
        loop {
            let values = (day, from.0, from.1, MINUTES);
            let found: Vec<(i64, i16)> =
                self.database.read(&self.database.cql.minutes_after, values).await?;
            let is_last = found.len() < MINUTES.unsigned_abs() as usize;
            // Of the last minute some shards may not have been read.
            let whole = if is_last { None } else { found.last().map(|(minute, _)| *minute) };
            for shards in found.chunk_by(|one, next| one.0 == next.0) {
                let Some((minute, _)) = shards.first() else { continue };
                if whole == Some(*minute) {
                    break;
                }
                let shards: Vec<i16> = shards.iter().map(|(_, shard)| *shard).collect();
                let after = after.filter(|after| after.minute == *minute);
                if !self.due_of_minute(*minute, &shards, after, page).await? {
                    return Ok(false);
                }
            }
            match whole {
                None => return Ok(true),
                Some(minute) => from = (minute, -1),
            }
        }
    }

    /// Adds the entries of a minute, in the order of time and id. Returns false when the page is full.
    async fn due_of_minute(
        &self,
        minute: i64,
        shards: &[i16],
        after: Option<&Place>,
        page: &mut DuePage,
    ) -> Result<bool, StoreError> {
        let start = (minute * MINUTE_US - 1, String::new());
        let mut from = after.map_or(start, |after| (after.at, after.id.clone()));
        let drop_at = if after.is_none() { self.may_drop(minute).await } else { None };
        let mut is_empty = true;
        loop {
            let limit = i32::try_from(CHUNK).unwrap_or(i32::MAX);
            let reads = shards.iter().map(async |shard| {
                let values = (minute, *shard, from.0, &from.1, limit);
                self.database.read::<Stored>(&self.database.cql.due_after, values).await
            });
            let found = try_join_all(reads).await?;
            // Behind the last row of a partition that has more, rows of that partition may be missing.
            let more = found.iter().filter(|rows| rows.len() == CHUNK);
            let until = more.filter_map(|rows| rows.last()).map(|row| (row.0, row.1.clone())).min();
            let mut rows: Vec<Stored> = found.into_iter().flatten().collect();
            rows.sort_unstable_by(|one, other| (one.0, &one.1).cmp(&(other.0, &other.1)));
            for row in rows {
                if until.as_ref().is_some_and(|until| (row.0, &row.1) > (until.0, &until.1)) {
                    break;
                }
                is_empty = false;
                if page.is_full() {
                    return Ok(false);
                }
                page.add(self.entry(row)?);
            }
            match until {
                Some(until) => from = until,
                None => break,
            }
        }
        if let Some(stamp) = drop_at.filter(|_| is_empty) {
            self.drop_minute(minute, shards, stamp).await;
        }
        Ok(true)
    }

    fn entry(&self, (at, id, record, sealed): Stored) -> Result<DueEntry, StoreError> {
        let source = parse(&id).ok_or_else(|| damage("due work", "its id has not its parts"))?;
        let key = DueKey { at: Timestamp(unsigned(at)?), source: source.into() };
        let mut record = record.unwrap_or_default();
        match record.first() {
            Some(&FORMAT) => drop(record.split_to(1)),
            other => return Err(damage("due work", format!("it has format {other:?}"))),
        }
        // The driver's frame is larger than the record.
        let record = Bytes::copy_from_slice(&record);
        let (source, sealed) = (due_source(&key), sealed.unwrap_or_default());
        let place = Sealed::due(&source, &key);
        let record = open(record, sealed, place, &self.vault, "due work")?;
        Ok(DueEntry { key, record })
    }

    /// Returns the timestamp with which a minute that is about to be read may be dropped if it is empty: one of an owner, of a
    /// minute that has long been over and to which no entry is on its way.
    async fn may_drop(&self, minute: i64) -> Option<i64> {
        let kept_from = bound(self.stamps.now().0) / MINUTE_US - KEPT_MINUTES;
        if minute >= kept_from || self.fence.own() == 0 || self.fence.is_fenced() {
            return None;
        }
        // It is dropped another time when there is none.
        let stamp = self.stamp().await.ok()?;
        (!self.filling.is_filling(minute)).then_some(stamp)
    }

    /// Drops the partitions of a minute.
    async fn drop_minute(&self, minute: i64, shards: &[i16], stamp: i64) {
        let cql = &self.database.cql;
        let dropped = async {
            for shard in shards {
                self.database.write(&cql.drop_due_partition, (minute, shard), stamp).await?;
                let values = (day(minute), minute, shard);
                self.database.write(&cql.drop_minute, values, stamp).await?;
            }
            Ok::<_, StoreError>(())
        };
        if let Err(error) = dropped.await {
            debug!(%error, "a minute of due work that is over is left");
        }
    }
}

/// A page that is being filled.
struct DuePage {
    items: Vec<DueEntry>,
    bytes: usize,
    limit: usize,
}

impl DuePage {
    fn is_full(&self) -> bool {
        self.items.len() >= self.limit || self.bytes >= PAGE_BYTES
    }

    fn add(&mut self, entry: DueEntry) {
        self.bytes += entry.bytes();
        self.items.push(entry);
    }
}

#[cfg(test)]
mod tests {
    use tidegate_stages::outbox::SourceKind;

    use super::*;

    #[test]
    fn an_id_tells_its_source_and_its_shard_never_changes() {
        for (system, name) in [("s", "n"), ("", ""), ("a:b", "c"), ("a", "b:c"), ("ü", "1:x")] {
            let source =
                EffectSource { kind: SourceKind::Due, system: system.into(), name: name.into() };
            let key = DueKey { at: Timestamp(61_000_000), source: source.clone().into() };
            let place = Place::of(&key).unwrap();
            assert_eq!(parse(&place.id), Some(source));
            assert_eq!((place.minute, place.at), (1, 61_000_000));
        }
        for damaged in ["", "1", "1:", "1:9:a:b", "1:1:ab", "9:1:a:b", "1:1:ü:b"] {
            assert_eq!(parse(damaged), None, "{damaged}");
        }
        // Stored: another hash would look for an entry in another partition.
        let source = EffectSource { kind: SourceKind::Due, system: "s".into(), name: "joe".into() };
        let place = Place::of(&DueKey { at: Timestamp(0), source: source.into() }).unwrap();
        assert_eq!(place.shard, 0);
    }
}
