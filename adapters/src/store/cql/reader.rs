//! Reader: reads an actor's latest state and single revisions of its history.

use tidegate_stages::actor::ActorId;
use tidegate_stages::ports::StoreError;
use tidegate_stages::state::{Head, Revision, Timestamp};
use tracing::warn;

use super::rows::{self, HEAD, HeadIn, Key, OWNER, RevisionIn, bound};
use super::shared::Shared;

/// Buckets that one step back in time reads.
const BACK: i32 = 8;

/// A place in the history: time, then number.
pub(super) type Position = (i64, i64);

impl Shared {
    /// Returns the latest state: the head of the highest epoch, unless a later owner found none.
    pub(super) async fn load(&self, actor: &ActorId) -> Result<Option<Head>, StoreError> {
        let key = Key::of(actor)?;
        let rows: Vec<HeadIn> = self.database.read(&self.database.cql.head, key).await?;
        // The highest epoch of each kind comes first.
        let owner = rows.iter().find(|row| row.kind == OWNER).and_then(|row| row.epoch);
        let head = rows.into_iter().find(|row| row.kind == HEAD);
        let Some(head) = head.filter(|head| head.epoch >= owner) else { return Ok(None) };
        if head.outbox > 0 {
            warn!(%actor, rows = head.outbox, "the outbox of schema 1 is dropped");
        }
        rows::head(&key.named(), head, &self.vault).map(Some)
    }

    pub(super) async fn load_revision(
        &self,
        actor: &ActorId,
        revision: u64,
    ) -> Result<Option<Revision>, StoreError> {
        let (key, cql) = (Key::of(actor)?, &self.database.cql);
        let Ok(revision) = i64::try_from(revision) else { return Ok(None) };
        let Key { system, actor, parent } = key;
        let named = self.database.read_one(&cql.bucket_of, (system, actor, parent, revision));
        let named: Option<(Option<i64>,)> = named.await?;
        if let Some((Some(bucket),)) = named {
            // The newest revision is requested most often, and it costs least.
            let last = self.last_until(&key, bucket, i64::MAX).await?;
            let last = match last {
                Some(last) if last.place().1 > revision => {
                    let values = (system, actor, parent, bucket, revision);
                    let found: Vec<RevisionIn> = self.database.read(&cql.by_number, values).await?;
                    found.into_iter().max_by_key(RevisionIn::owner)
                }
                last => last.filter(|last| last.place().1 == revision),
            };
            if let Some(found) = last {
                return found.open(&key.named(), &self.vault).map(Some);
            }
        }
        let newest = self.newest(&key).await?.filter(|newest| newest.place().1 == revision);
        newest.map(|newest| newest.open(&key.named(), &self.vault)).transpose()
    }

    /// Returns the newest revision at or before a time.
    pub(super) async fn load_at(
        &self,
        actor: &ActorId,
        at: Timestamp,
    ) -> Result<Option<Revision>, StoreError> {
        let (key, at) = (Key::of(actor)?, bound(at.0));
        let (last, newest) = tokio::join!(self.last_before(&key, at), self.newest_position(&key));
        let (last, newest) = (last?, newest?);
        let is_beyond = |newest: &Position| {
            newest.0 <= at && last.as_ref().is_none_or(|last| last.place() < *newest)
        };
        if newest.as_ref().is_some_and(is_beyond) {
            let newest = self.newest(&key).await?;
            if let Some(newest) = newest.filter(|newest| is_beyond(&newest.place())) {
                return newest.open(&key.named(), &self.vault).map(Some);
            }
        }
        last.map(|last| last.open(&key.named(), &self.vault)).transpose()
    }

    /// Returns the newest row at or before a time, from the last bucket that still has such a row.
    async fn last_before(&self, key: &Key<'_>, at: i64) -> Result<Option<RevisionIn>, StoreError> {
        let mut until = at;
        loop {
            let buckets = self.buckets_until(key, until, BACK).await?;
            for bucket in &buckets {
                let found = self.last_until(key, bucket.start, at).await?;
                if found.is_some() {
                    return Ok(found);
                }
            }
            match buckets.last().and_then(|oldest| oldest.start.checked_sub(1)) {
                Some(before) => until = before,
                None => return Ok(None),
            }
        }
    }

    async fn last_until(
        &self,
        key: &Key<'_>,
        bucket: i64,
        at: i64,
    ) -> Result<Option<RevisionIn>, StoreError> {
        let values = (key.system, key.actor, key.parent, bucket, at, i64::MAX);
        self.database.read_one(&self.database.cql.last_until, values).await
    }

    /// Returns the place of the newest revision, if it is stored separately because revisions expire.
    pub(super) async fn newest_position(
        &self,
        key: &Key<'_>,
    ) -> Result<Option<Position>, StoreError> {
        let found = self.database.read_one(&self.database.cql.newest_position, *key).await?;
        Ok(found.and_then(|(at, revision): (Option<i64>, Option<i64>)| at.zip(revision)))
    }

    /// Returns the newest revision, if it is stored separately because revisions expire.
    pub(super) async fn newest(&self, key: &Key<'_>) -> Result<Option<RevisionIn>, StoreError> {
        let found: Option<HeadIn> = self.database.read_one(&self.database.cql.newest, *key).await?;
        Ok(found.map(RevisionIn::from))
    }
}
