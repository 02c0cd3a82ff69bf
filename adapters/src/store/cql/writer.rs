//! Writer: one save, from the actor's head to its result.
//!
//! The batch of the actor's partition comes first: head, outbox, and the index of the history. The revision
//! follows, in another partition. A crash between the two leaves a head without its revision; the revision
//! is appended again when the actor is activated. Saves of one actor are written one after the other, so no
//! head precedes the last one's revision.

use std::sync::Arc;

use bytes::Bytes;
use tidegate_stages::actor::ActorId;
use tidegate_stages::ports::{Save, StoreError};
use tidegate_stages::state::{Head, Revision};
use tokio::time::Instant;

use super::database::Changes;
use super::errors::unwritten;
use super::history::Entered;
use super::known::Known;
use super::lines::Saver;
use super::ports::no_rows;
use super::rows::{Content, HEAD, HeadOut, Key, NEWEST, OUTBOX, RevisionOut, signed};
use super::shards::shard;
use super::shared::Shared;

impl Saver for Shared {
    async fn save(&self, save: Save) -> Result<(), StoreError> {
        let epoch = save.epoch;
        self.fence.check(epoch)?;
        let (actor, started) = (save.actor.clone(), Instant::now());
        let written = self.write(save).await;
        if written.is_err() {
            self.memory.forget(&actor);
        } else {
            self.commit_seconds.record(started.elapsed());
        }
        written?;
        self.look().await?;
        self.fence.check(epoch)
    }
}

/// A save, ready to be written.
struct Ready {
    epoch: i64,
    content: Content,
    outbox: Vec<(Bytes, bool)>,
    append: bool,
}

impl Shared {
    async fn write(&self, save: Save) -> Result<(), StoreError> {
        let actor = save.actor.clone();
        let key = Key::of(&actor)?;
        let ready = self.ready(&key, save)?;
        let _turn = self.turn().await?;
        let mut known = self.memory.of(&actor);
        if !known.is_listed {
            self.list(&actor).await.map_err(unwritten)?;
            known.is_listed = true;
        }
        let entered = if ready.append {
            Some(self.enter(&key, &mut known, &ready.content).await.map_err(unwritten)?)
        } else {
            None
        };
        let stamp = self.stamp().await?;
        let mut changes = Changes::default();
        self.put_head(&key, &ready, &mut known, &mut changes)?;
        if let Some(entered) = &entered {
            self.put_bucket(&key, &entered.bucket, &mut changes);
            self.put_number(&key, entered, &mut changes);
        }
        self.commit(changes, stamp).await?;
        if let Some(entered) = entered {
            let appended = self.put_revision(&key, &ready, &entered, stamp).await;
            appended.map_err(|error| {
                StoreError::Unknown(format!(
                    "the state is written, its revision may not be: {error}"
                ))
            })?;
        }
        self.memory.keep(&actor, known);
        Ok(())
    }

    fn ready(&self, key: &Key<'_>, save: Save) -> Result<Ready, StoreError> {
        let Save { head, append, rows, .. } = save;
        let head = head.filter(|_| rows.is_none()).ok_or_else(no_rows)?;
        let Head { version, revision, incarnation, epoch, status, at, content } = head;
        let revision = Revision { revision, version, incarnation, epoch, status, at, content };
        let content = Content::of(revision, &self.vault)?;
        self.check_size(key.len() + content.bytes())?;
        Ok(Ready { epoch: signed(epoch)?, content, outbox: Vec::new(), append })
    }

    /// Refuses a write that the server would refuse, before sending it.
    pub(super) fn check_size(&self, bytes: usize) -> Result<(), StoreError> {
        if bytes <= self.limit {
            return Ok(());
        }
        let limit = self.limit;
        Err(StoreError::TooLarge(format!("{bytes} bytes in one write, the database takes {limit}")))
    }

    /// Adds an actor to the list of its system. This happens before its first head is written, so the list
    /// is complete.
    async fn list(&self, actor: &Arc<ActorId>) -> Result<(), StoreError> {
        let values = (&actor.system, shard(actor), &actor.name, &actor.parent);
        self.database.write(&self.database.cql.put_actor, values, self.stamp().await?).await
    }

    fn put_head<'a>(
        &self,
        key: &Key<'a>,
        ready: &'a Ready,
        known: &mut Known,
        changes: &mut Changes<'a>,
    ) -> Result<(), StoreError> {
        let (cql, epoch) = (&self.database.cql, ready.epoch);
        let Key { system, actor, parent } = *key;
        let count = i32::try_from(ready.outbox.len());
        let count = count.map_err(|_| StoreError::TooLarge("the outbox".into()))?;
        let content = &ready.content;
        let (key, kind, place, outbox) = (*key, HEAD, 0, count);
        changes
            .add(&cql.put_head, HeadOut { key, kind, epoch, place, outbox, owner: epoch, content });
        for (place, (entry, sealed)) in (0_i64..).zip(&ready.outbox) {
            let values = (system, actor, parent, epoch, place, content.version, entry, *sealed);
            changes.add(&cql.put_outbox, values);
        }
        if known.cleared != Some(epoch) {
            // Drops rows of older owners, including rows that these owners may still write late.
            for kind in [HEAD, OUTBOX] {
                changes.add(&cql.drop_epochs, (system, actor, parent, kind, epoch));
            }
            (known.cleared, known.outbox) = (Some(epoch), None);
        }
        if known.outbox.is_none_or(|before| before > count) {
            changes.add(&cql.drop_outbox, (system, actor, parent, epoch, i64::from(count)));
        }
        known.outbox = Some(count);
        Ok(())
    }

    async fn put_revision(
        &self,
        key: &Key<'_>,
        ready: &Ready,
        entered: &Entered,
        stamp: i64,
    ) -> Result<(), StoreError> {
        let (content, epoch) = (&ready.content, ready.epoch);
        let (bucket, ttl) = (entered.bucket.start, self.expiry.revisions);
        let row = RevisionOut { key: *key, bucket, epoch, content, ttl };
        self.database.write(&self.database.cql.put_revision, row, stamp).await?;
        self.put_newest(key, epoch, content, stamp).await
    }

    /// Copies the newest revision to the head's partition if revisions expire; the copy does not expire.
    pub(super) async fn put_newest(
        &self,
        key: &Key<'_>,
        epoch: i64,
        content: &Content,
        stamp: i64,
    ) -> Result<(), StoreError> {
        if self.expiry.revisions == 0 {
            return Ok(());
        }
        let cql = &self.database.cql;
        let (place, owner) = (content.revision, epoch);
        let mut changes = Changes::default();
        let row = HeadOut { key: *key, kind: NEWEST, epoch: 0, place, outbox: 0, owner, content };
        changes.add(&cql.put_head, row);
        changes.add(&cql.drop_newest, (key.system, key.actor, key.parent, place));
        self.commit(changes, stamp).await
    }
}
