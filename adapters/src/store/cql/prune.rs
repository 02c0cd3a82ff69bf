//! Prune: drops revisions that need not be kept, and removes whole actors.
//!
//! A bucket whose revisions are all too old is dropped as a partition; the old part of the next bucket is
//! dropped as one range. Their index rows are removed afterwards, so repeating an interrupted run completes
//! it.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::TryStreamExt;
use futures_util::stream::iter;
use scylla::response::PagingState;
use tidegate_stages::actor::ActorId;
use tidegate_stages::history::Keep;
use tidegate_stages::ports::StoreError;

use super::bucket::Bucket;
use super::database::{Changes, Rows};
use super::reader::Place;
use super::rows::{BUCKET, BUCKET_OF, Key, bound};
use super::shards::shard;
use super::shared::Shared;

/// Buckets that one step drops, so that saves continue in between.
const STEP: usize = 16;
/// Buckets that are dropped concurrently.
const ABREAST: usize = 8;
/// Places in one page.
const PLACES: usize = 2_048;

/// The result of one step of pruning.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Step {
    /// Revisions dropped.
    pub(super) dropped: u64,
    /// Whether more revisions may be left to drop.
    pub(super) goes_on: bool,
}

impl Shared {
    /// Drops some of the revisions that `keep` does not require.
    pub(super) async fn prune(&self, actor: &Arc<ActorId>, keep: Keep) -> Result<Step, StoreError> {
        self.fence.check_own()?;
        let key = Key::of(actor)?;
        let _turn = self.turn().await?;
        let buckets = self.buckets(&key).await?;
        let Some(first_kept) = self.first_kept(&key, &buckets, keep).await? else {
            return Ok(Step::default());
        };
        // Pruning may change the newest bucket that the cache holds.
        self.memory.forget(actor);
        let mut step = Step::default();
        let mut left = STEP;
        for (place, bucket) in buckets.iter().enumerate() {
            let next = buckets.get(place + 1).map(|next| (next.start, i64::MIN));
            if next.is_none_or(|next| first_kept < next) {
                step.dropped += self.drop_before(&key, *bucket, first_kept).await?;
                return Ok(step);
            }
            if left == 0 {
                return Ok(Step { goes_on: true, ..step });
            }
            left -= 1;
            step.dropped += self.places(&key, bucket).await?.len() as u64;
            self.drop_bucket(&key, bucket).await?;
            let mut changes = Changes::default();
            let Key { system, actor, parent } = key;
            for (kind, place) in [(BUCKET, bucket.start), (BUCKET_OF, bucket.first)] {
                changes.add(&self.database.cql.drop_index, (system, actor, parent, kind, place));
            }
            self.commit(changes, self.stamp().await?).await?;
        }
        Ok(step)
    }

    /// Returns the place of the oldest revision to keep; `None` when nothing is dropped.
    async fn first_kept(
        &self,
        key: &Key<'_>,
        buckets: &[Bucket],
        keep: Keep,
    ) -> Result<Option<Place>, StoreError> {
        let Some(newest) = self.newest_of(key, buckets).await? else { return Ok(None) };
        let since = keep.since.map(|since| (bound(since.0), i64::MIN));
        let nth = match keep.newest {
            Some(count) => self.nth_newest(key, buckets, count.max(1)).await?,
            None => None,
        };
        Ok(since.max(nth).map(|first| first.min(newest)))
    }

    /// Returns the place of the newest revision of all.
    async fn newest_of(
        &self,
        key: &Key<'_>,
        buckets: &[Bucket],
    ) -> Result<Option<Place>, StoreError> {
        let apart = self.newest_place(key).await?;
        for bucket in buckets.iter().rev() {
            if let Some(last) = self.places(key, bucket).await?.into_iter().max() {
                return Ok(apart.max(Some(last)));
            }
        }
        Ok(apart)
    }

    /// Returns the place of the `count`-th newest revision; `None` when there are not more than `count`.
    async fn nth_newest(
        &self,
        key: &Key<'_>,
        buckets: &[Bucket],
        count: u64,
    ) -> Result<Option<Place>, StoreError> {
        // Counts of buckets are never too low.
        let at_most = buckets.iter().map(Bucket::kept).fold(0, u64::saturating_add);
        if at_most <= count {
            return Ok(None);
        }
        let mut left = count;
        for bucket in buckets.iter().rev() {
            let places = self.places(key, bucket).await?;
            let len = places.len() as u64;
            if len >= left {
                let nth = usize::try_from(len - left).ok().and_then(|nth| places.get(nth).copied());
                return Ok(nth);
            }
            left -= len;
        }
        Ok(None)
    }

    /// Returns the places of a bucket's revisions, ascending.
    async fn places(&self, key: &Key<'_>, bucket: &Bucket) -> Result<Vec<Place>, StoreError> {
        let values = (key.system, key.actor, key.parent, bucket.start);
        let (mut all, mut from) = (Vec::new(), PagingState::start());
        loop {
            let cql = &self.database.cql;
            let Rows { rows, next } =
                self.database.read_page(&cql.places, values, PLACES, from).await?;
            all.extend::<Vec<Place>>(rows);
            match next {
                Some(next) => from = next,
                None => return Ok(all),
            }
        }
    }

    async fn drop_before(
        &self,
        key: &Key<'_>,
        mut bucket: Bucket,
        first_kept: Place,
    ) -> Result<u64, StoreError> {
        let places = self.places(key, &bucket).await?;
        let dropped = places.iter().filter(|place| **place < first_kept).count();
        if dropped == 0 {
            return Ok(0);
        }
        let Key { system, actor, parent } = *key;
        let values = (system, actor, parent, bucket.start, first_kept.0, first_kept.1);
        let cql = &self.database.cql;
        self.database.write(&cql.drop_before, values, self.stamp().await?).await?;
        // Corrects the count: revisions counted twice no longer count.
        let kept = i32::try_from(places.len() - dropped).unwrap_or(i32::MAX);
        bucket.dropped = bucket.written.saturating_sub(kept);
        let mut changes = Changes::default();
        self.put_bucket(key, &bucket, &mut changes);
        self.commit(changes, self.stamp().await?).await?;
        Ok(dropped as u64)
    }

    async fn drop_bucket(&self, key: &Key<'_>, bucket: &Bucket) -> Result<(), StoreError> {
        let values = (key.system, key.actor, key.parent, bucket.start);
        self.database.write(&self.database.cql.drop_bucket, values, self.stamp().await?).await
    }

    /// Removes an actor: its history, its entry in the list, and last its partition, which holds the index
    /// of the history.
    pub(super) async fn delete(&self, actor: &Arc<ActorId>) -> Result<(), StoreError> {
        self.fence.check_own()?;
        let key = Key::of(actor)?;
        self.memory.forget(actor);
        self.delete_all(actor, &key).await?;
        self.look().await?;
        self.fence.check_own()
    }

    async fn delete_all(&self, id: &ActorId, key: &Key<'_>) -> Result<(), StoreError> {
        let _turn = self.turn().await?;
        let Key { system, actor, parent } = *key;
        let buckets = self.buckets(key).await?;
        let dropping =
            iter(buckets).map(|bucket| async move { self.drop_bucket(key, &bucket).await });
        let has_history =
            dropping.buffer_unordered(ABREAST).try_fold(false, |_, ()| async { Ok(true) });
        let has_history = has_history.await?;
        let cql = &self.database.cql;
        let told = |error| match error {
            StoreError::Unavailable(text) if has_history => {
                StoreError::Unknown(format!("the history is removed, the head is not: {text}"))
            }
            other => other,
        };
        let listed = (system, shard(id), actor, parent);
        self.database.write(&cql.drop_actor, listed, self.stamp().await?).await.map_err(told)?;
        let stamp = self.stamp().await?;
        self.database.write(&cql.drop_heads, *key, stamp).await.map_err(told)
    }
}
