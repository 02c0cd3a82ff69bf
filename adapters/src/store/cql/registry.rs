//! Registry: what is registered, spread over partitions.
//!
//! A change may have more names than one write takes, in many partitions. Its rows are written first, each with the
//! change's number. Then one row *flips*: it holds the number of the last change of this owner's epoch that counts. Until
//! then no read returns the new rows, so a change is applied as a whole or not at all. Before an owner reads what is registered
//! it writes these rows of former epochs again and deletes all others of former epochs: a flip that comes late changes nothing.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::stream::{StreamExt, TryStreamExt, iter};
use scylla::response::PagingState;
use tidegate_stages::ports::{Registered, RegistryChange, StoreError};
use tracing::debug;

use super::book::{Book, CHUNK, Entry, PARTITIONS, Slot, Unfinished, entry_bytes};
use super::database::{Changes, Rows};
use super::errors::{damage, unwritten};
use super::rows::signed;
use super::shared::Shared;
use crate::store::records;

/// Entries in one page.
const PAGE: usize = 512;
/// Concurrent requests.
const ABREAST: usize = 8;
/// How often what is registered is read again when it changes during the read.
const TRIES: u32 = 8;

impl Shared {
    /// Returns all entries that count.
    pub(super) async fn registered(&self) -> Result<Vec<Registered>, StoreError> {
        let mut visible = self.visible().await?;
        self.keep_visible(&visible).await?;
        for _ in 0..TRIES {
            let shards: Vec<_> =
                (0..PARTITIONS).map(|shard| self.registered_in(shard, &visible)).collect();
            let found: Vec<_> = iter(shards).buffer_unordered(ABREAST).try_collect().await?;
            // A change removes the rows that it replaces.
            let now = self.visible().await?;
            if now == visible {
                return Ok(found.into_iter().flatten().collect());
            }
            visible = now;
        }
        Err(StoreError::Unavailable(format!("what is registered changed {TRIES} times")))
    }

    /// Returns the last change that counts, by epoch.
    async fn visible(&self) -> Result<BTreeMap<i64, i64>, StoreError> {
        let found: Vec<(i64, Option<i64>)> =
            self.database.read(&self.database.cql.visible, ()).await?;
        Ok(found.into_iter().map(|(epoch, change)| (epoch, change.unwrap_or(0))).collect())
    }

    /// Makes nothing count of former epochs but what was read, whatever arrives late. Only by an owner, whose timestamps are
    /// later than those of all former ones.
    async fn keep_visible(&self, visible: &BTreeMap<i64, i64>) -> Result<(), StoreError> {
        let own = signed(self.fence.own())?;
        if own == 0 {
            return Ok(());
        }
        self.fence.check_own()?;
        let cql = &self.database.cql;
        // The rows are later than the deletion, and there before it.
        let deletion = self.stamp().await?;
        let former: Vec<_> = visible.range(..own).collect();
        for rows in former.chunks(CHUNK) {
            let mut changes = Changes::default();
            for (epoch, change) in rows {
                changes.add(&cql.put_visible, (**epoch, **change));
            }
            self.commit(changes, self.stamp().await?).await?;
        }
        self.database.write(&cql.drop_visible, (own,), deletion).await
    }

    async fn registered_in(
        &self,
        shard: i8,
        visible: &BTreeMap<i64, i64>,
    ) -> Result<Vec<Registered>, StoreError> {
        let (mut all, mut from, mut last) = (Vec::new(), PagingState::start(), None);
        loop {
            let cql = &self.database.cql;
            let page = self.database.read_page(&cql.registrations, (shard,), PAGE, from);
            let Rows { rows, next } = page.await?;
            for row in rows {
                let (system, name, epoch, change, record): (_, _, i64, i64, Option<Bytes>) = row;
                let name: (String, String) = (system, name);
                let counts = visible.get(&epoch).is_some_and(|last| change <= *last);
                // The newest row of a name comes first.
                if !counts || last.as_ref() == Some(&name) {
                    continue;
                }
                last = Some(name);
                if let Some(record) = record {
                    let entry = records::decode_registered(&record, self.decode);
                    all.push(entry.map_err(|error| damage("a registered entry", error))?);
                }
            }
            match next {
                Some(next) => from = next,
                None => return Ok(all),
            }
        }
    }

    /// Applies changes: all of them, or none.
    pub(super) async fn register(&self, changes: Vec<RegistryChange>) -> Result<(), StoreError> {
        self.fence.check_own()?;
        // Keeps the last change of each name.
        let mut entries = BTreeMap::new();
        for change in changes {
            let (id, record) = match &change {
                RegistryChange::Put(entry) => (entry.id(), Some(records::encode_registered(entry))),
                RegistryChange::Remove(id) => (id.as_ref(), None),
            };
            self.check_size(entry_bytes(&id.name, record.as_ref()))?;
            entries.insert(Slot::new(id.system.clone(), id.name.clone()), record);
        }
        if entries.is_empty() {
            return Ok(());
        }
        let entries: Vec<Entry> = entries.into_iter().collect();
        let _turn = self.turn().await?;
        let mut book = self.book.lock().await;
        self.finish_former(&mut book).await.map_err(unwritten)?;
        let (epoch, change) = (book.epoch, book.last + 1);
        let names = || entries.iter().map(|(name, _)| name.clone()).collect();
        book.unfinished = Unfinished::Rows(names());
        self.put_entries(epoch, change, &entries).await.map_err(unwritten)?;
        book.unfinished = Unfinished::Flip;
        if let Err(error) = self.flip(epoch, change).await {
            if !error.may_have_happened() {
                book.unfinished = Unfinished::Rows(names());
            }
            return Err(error);
        }
        (book.last, book.unfinished) = (change, Unfinished::Nothing);
        self.look().await?;
        self.fence.check_own()?;
        if let Err(error) = self.drop_replaced(epoch, change, &entries).await {
            debug!(%error, "rows of the registry that were replaced are left");
        }
        Ok(())
    }

    /// Cleans up after a failed change; claims an epoch if there is none yet.
    async fn finish_former(&self, book: &mut Book) -> Result<(), StoreError> {
        let epoch = match self.fence.own() {
            0 => self.claim(0).await?,
            own => own,
        };
        let epoch = signed(epoch)?;
        if book.epoch != epoch {
            // No other process writes under the new epoch, and rows of this owner's earlier epoch never count again.
            *book = Book::new(epoch, 0);
        }
        match &book.unfinished {
            Unfinished::Nothing => {}
            Unfinished::Rows(names) => {
                let cql = &self.database.cql;
                let of_shards = names.chunk_by(|one, next| one.shard == next.shard);
                for names in of_shards.flat_map(|names| names.chunks(CHUNK)) {
                    let mut changes = Changes::default();
                    for Slot { shard, system, name } in names {
                        let values = (shard, system, name, epoch, book.last + 1);
                        changes.add(&cql.drop_registration, values);
                    }
                    self.commit(changes, self.stamp().await?).await?;
                }
            }
            Unfinished::Flip => {
                self.flip(epoch, book.last + 1).await?;
                book.last += 1;
            }
        }
        book.unfinished = Unfinished::Nothing;
        Ok(())
    }

    /// Makes all rows of an epoch count up to this change.
    pub(super) async fn flip(&self, epoch: i64, change: i64) -> Result<(), StoreError> {
        let cql = &self.database.cql;
        self.database.write(&cql.put_visible, (epoch, change), self.stamp().await?).await
    }
}
