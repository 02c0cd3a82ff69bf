//! History: finds the buckets of an actor's revisions, and appends revisions.

use std::sync::Arc;

use tidegate_stages::actor::ActorId;
use tidegate_stages::ports::StoreError;
use tidegate_stages::state::Revision;

use super::bucket::Bucket;
use super::database::Changes;
use super::errors::unwritten;
use super::known::Known;
use super::rows::{BUCKET_OF, Content, Key, RevisionOut, signed};
use super::shared::Shared;

/// Revisions and bytes in one write when many revisions are appended.
const CHUNK: usize = 128;
const CHUNK_BYTES: usize = 1 << 20;
/// Buckets that one read of the index returns.
const WINDOW: i32 = 512;

/// The bucket in which a revision is put.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entered {
    /// The bucket, with the revision counted.
    pub(super) bucket: Bucket,
    named: Named,
}

/// Whether the index finds a bucket by its lowest revision number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named {
    Already,
    /// Not yet.
    Anew,
    /// Not yet: the index holds this number, which is no longer the lowest.
    InsteadOf(i64),
}

impl Shared {
    /// Returns the last buckets that begin at or before a time, newest first.
    pub(super) async fn buckets_until(
        &self,
        key: &Key<'_>,
        time: i64,
        count: i32,
    ) -> Result<Vec<Bucket>, StoreError> {
        let values = (key.system, key.actor, key.parent, time, count);
        self.database.read(&self.database.cql.bucket_at, values).await
    }

    /// Returns the first buckets that begin after `after` and not after `to`, oldest first.
    pub(super) async fn buckets_after(
        &self,
        key: &Key<'_>,
        after: i64,
        to: i64,
        count: i32,
    ) -> Result<Vec<Bucket>, StoreError> {
        let values = (key.system, key.actor, key.parent, after, to, count);
        self.database.read(&self.database.cql.buckets_after, values).await
    }

    /// Returns all buckets, oldest first; each takes some tens of bytes.
    pub(super) async fn buckets(&self, key: &Key<'_>) -> Result<Vec<Bucket>, StoreError> {
        let mut all: Vec<Bucket> = Vec::new();
        loop {
            let after = all.last().map_or(i64::MIN, |bucket| bucket.start);
            let found = self.buckets_after(key, after, i64::MAX, WINDOW).await?;
            let is_last = found.len() < usize::try_from(WINDOW).unwrap_or(0);
            all.extend(found);
            if is_last {
                return Ok(all);
            }
        }
    }

    /// Finds the bucket of a revision and counts the revision there.
    pub(super) async fn enter(
        &self,
        key: &Key<'_>,
        known: &mut Known,
        content: &Content,
    ) -> Result<Entered, StoreError> {
        let (at, revision) = (content.at, content.revision);
        let is_own = known.newest.is_some();
        let open = match known.newest {
            None => self.buckets_until(key, i64::MAX, 1).await?.into_iter().next(),
            known => known,
        };
        let found = match open {
            Some(open) if at >= open.start => Some(open),
            // An old revision: a history is repaired or moved.
            Some(_) => self.buckets_until(key, at, 1).await?.into_iter().next(),
            None => None,
        };
        let found = found.filter(|bucket| bucket.takes(at));
        let mut bucket = found.unwrap_or_else(|| Bucket::open(at, revision));
        let before = bucket.first;
        let is_lower = bucket.add(at, revision, content.bytes());
        let named = match found {
            Some(_) if is_lower => Named::InsteadOf(before),
            Some(_) if is_own => Named::Already,
            // Or named by an owner before: its delete may be on its way still, and remove the name.
            _ => Named::Anew,
        };
        let newest = open.filter(|open| open.start > bucket.start).unwrap_or(bucket);
        known.newest = Some(newest);
        Ok(Entered { bucket, named })
    }

    /// Writes the index row of a bucket.
    pub(super) fn put_bucket<'a>(&self, key: &Key<'a>, bucket: &Bucket, changes: &mut Changes<'a>) {
        let Key { system, actor, parent } = *key;
        let Bucket { start, written, dropped, size, first, last } = *bucket;
        let ttl = self.expiry.index;
        let values = (system, actor, parent, start, written, dropped, size, first, last, ttl);
        changes.add(&self.database.cql.put_bucket, values);
    }

    /// Writes the index row that finds a bucket by its lowest revision number.
    pub(super) fn put_number<'a>(
        &self,
        key: &Key<'a>,
        entered: &Entered,
        changes: &mut Changes<'a>,
    ) {
        let Key { system, actor, parent } = *key;
        let (cql, ttl) = (&self.database.cql, self.expiry.index);
        // While rows expire, index rows still needed are written again.
        if entered.named != Named::Already || ttl > 0 {
            let Bucket { start, first, .. } = entered.bucket;
            changes.add(&cql.put_bucket_of, (system, actor, parent, first, start, ttl));
        }
        if let Named::InsteadOf(before) = entered.named {
            changes.add(&cql.drop_index, (system, actor, parent, BUCKET_OF, before));
        }
    }

    /// Appends many revisions, in writes of bounded size.
    pub(super) async fn append(
        &self,
        actor: &Arc<ActorId>,
        revisions: Vec<Revision>,
    ) -> Result<(), StoreError> {
        let mut known = self.memory.of(actor);
        let appended = self.append_all(actor, &mut known, revisions).await;
        if appended.is_ok() {
            self.memory.keep(actor, known);
        } else {
            self.memory.forget(actor);
        }
        appended
    }

    async fn append_all(
        &self,
        actor: &ActorId,
        known: &mut Known,
        revisions: Vec<Revision>,
    ) -> Result<(), StoreError> {
        let key = Key::of(actor)?;
        let named = key.named();
        let _turn = self.turn().await?;
        if !known.is_listed {
            self.list(actor).await.map_err(unwritten)?;
            known.is_listed = true;
        }
        let mut chunk = Chunk::default();
        let mut has_written = false;
        let told = |error: StoreError, has_written: bool| match error {
            StoreError::Unavailable(text) if has_written => {
                StoreError::Unknown(format!("a part of the revisions is written: {text}"))
            }
            other => other,
        };
        for revision in revisions {
            let epoch = signed(revision.epoch)?;
            let content = Content::of(&named, revision, &self.vault)?;
            self.check_size(key.len() + content.bytes())?;
            if known.newest.is_some_and(|newest| content.at < newest.start) {
                // The bucket is looked up in the database, so earlier changes to buckets must be written
                // first.
                let done = self.append_chunk(&key, std::mem::take(&mut chunk)).await;
                has_written |= done.map_err(|error| told(error, has_written))?;
            }
            let entered = self.enter(&key, known, &content).await;
            let entered = entered.map_err(|error| told(error, has_written))?;
            if !chunk.takes(&entered) {
                let done = self.append_chunk(&key, std::mem::take(&mut chunk)).await;
                has_written |= done.map_err(|error| told(error, has_written))?;
            }
            chunk.add(entered, epoch, content);
        }
        let done = self.append_chunk(&key, chunk).await;
        done.map(drop).map_err(|error| told(error, has_written))
    }

    /// Writes a chunk; returns whether there was something to write. The index comes first, so that reads
    /// find every revision.
    async fn append_chunk(&self, key: &Key<'_>, chunk: Chunk) -> Result<bool, StoreError> {
        let Some(last) = chunk.index.last() else { return Ok(false) };
        let (bucket, ttl) = (last.bucket.start, self.expiry.revisions);
        let stamp = self.stamp().await?;
        let mut changes = Changes::default();
        self.put_bucket(key, &last.bucket, &mut changes);
        for entered in &chunk.index {
            self.put_number(key, entered, &mut changes);
        }
        self.commit(changes, stamp).await?;
        let mut changes = Changes::default();
        for (epoch, content) in &chunk.revisions {
            let row = RevisionOut { key: *key, bucket, epoch: *epoch, content, ttl };
            changes.add(&self.database.cql.put_revision, row);
        }
        self.commit(changes, stamp).await?;
        let newest = chunk.revisions.iter().max_by_key(|(_, content)| content.revision);
        if let Some((epoch, content)) = newest {
            self.put_newest(key, *epoch, content, stamp).await?;
        }
        Ok(true)
    }
}

/// Revisions of one bucket that are written together.
#[derive(Debug, Default)]
struct Chunk {
    index: Vec<Entered>,
    revisions: Vec<(i64, Content)>,
    bytes: usize,
}

impl Chunk {
    fn takes(&self, entered: &Entered) -> bool {
        let Some(last) = self.index.last() else { return true };
        last.bucket.start == entered.bucket.start
            && self.revisions.len() < CHUNK
            && self.bytes < CHUNK_BYTES
    }

    fn add(&mut self, entered: Entered, epoch: i64, content: Content) {
        self.bytes += content.bytes();
        self.index.push(entered);
        self.revisions.push((epoch, content));
    }
}
