//! Prune: drops revisions that need not be kept, and removes whole actors.
//!
//! A bucket whose revisions are all too old is dropped as a partition; the old part of the next bucket is
//! dropped as one range. Their index rows are removed afterwards, so repeating an interrupted run completes
//! it.

use std::collections::BTreeSet;
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
use super::reader::Position;
use super::rows::{BUCKET, BUCKET_OF, Key, bound};
use super::shards::{SHARDS, shard};
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
    ) -> Result<Option<Position>, StoreError> {
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
    ) -> Result<Option<Position>, StoreError> {
        let apart = self.newest_position(key).await?;
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
    ) -> Result<Option<Position>, StoreError> {
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
    async fn places(&self, key: &Key<'_>, bucket: &Bucket) -> Result<Vec<Position>, StoreError> {
        let values = (key.system, key.actor, key.parent, bucket.start);
        let (mut all, mut from) = (Vec::new(), PagingState::start());
        loop {
            let cql = &self.database.cql;
            let Rows { rows, next } =
                self.database.read_page(&cql.places, values, PLACES, from).await?;
            all.extend::<Vec<Position>>(rows);
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
        first_kept: Position,
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

    /// Removes the states and histories of an actor under its key and under every other parent. What it sent and has
    /// seen stays.
    pub(super) async fn delete(&self, actor: &Arc<ActorId>) -> Result<(), StoreError> {
        self.fence.check_own()?;
        let _turn = self.turn().await?;
        let mut is_begun = false;
        for key in self.keys_of(actor).await? {
            let key = Arc::new(key);
            self.memory.forget(&key);
            self.delete_all(&key).await.map_err(|error| partly(error, is_begun))?;
            is_begun = true;
        }
        self.look().await?;
        self.fence.check_own()
    }

    /// Returns the keys under which a name may have a state.
    async fn keys_of(&self, actor: &ActorId) -> Result<BTreeSet<ActorId>, StoreError> {
        let reads: Vec<_> = (0..SHARDS)
            .map(|shard| {
                let values = (&actor.system, shard, &actor.name);
                self.database.read::<(String,)>(&self.database.cql.parents, values)
            })
            .collect();
        let found: Vec<_> = iter(reads).buffer_unordered(ABREAST).try_collect().await?;
        let other = |(parent,)| ActorId { parent, ..actor.clone() };
        let others = found.into_iter().flatten().map(other);
        Ok(others.chain([actor.clone()]).collect())
    }

    /// Removes a history, the head with the index of the history, and last the entry in the list: without it nothing finds what is
    /// left.
    async fn delete_all(&self, id: &ActorId) -> Result<(), StoreError> {
        let key = Key::of(id)?;
        let buckets = self.buckets(&key).await?;
        let is_begun = !buckets.is_empty();
        let dropping: Vec<_> =
            buckets.iter().map(|bucket| self.drop_bucket(&key, bucket)).collect();
        iter(dropping).buffer_unordered(ABREAST).try_collect::<()>().await?;
        let cql = &self.database.cql;
        let listed = (key.system, shard(id), key.actor, key.parent);
        let stamp = self.stamp().await?;
        let dropped = self.database.write(&cql.drop_heads, key, stamp).await;
        dropped.map_err(|error| partly(error, is_begun))?;
        let stamp = self.stamp().await?;
        let unlisted = self.database.write(&cql.drop_actor, listed, stamp).await;
        unlisted.map_err(|error| partly(error, true))
    }
}

/// A deletion that has begun has an unknown outcome when it fails.
fn partly(error: StoreError, is_begun: bool) -> StoreError {
    match error {
        StoreError::Unavailable(text) if is_begun => {
            StoreError::Unknown(format!("it is removed in part: {text}"))
        }
        other => other,
    }
}
