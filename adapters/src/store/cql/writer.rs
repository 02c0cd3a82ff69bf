//! Writer: one save, from the actor's head to its result.
//!
//! The batch of the actor's partition comes first: head, rows of effects, and the index of the history. The revision
//! follows, in another partition. A crash between the two leaves a head without its revision; the revision
//! is appended again when the actor is activated. Saves of one actor are written one after the other, so no
//! head precedes the last one's revision.

use tidegate_stages::actor::ActorId;
use tidegate_stages::ports::{Save, StoreError};
use tidegate_stages::state::Head;
use tokio::time::Instant;

use super::database::Changes;
use super::effects::EffectsOut;
use super::errors::unwritten;
use super::history::Entered;
use super::known::Known;
use super::lines::Saver;
use super::rows::{Content, FORMER_OUTBOX, HEAD, HeadOut, Key, NEWEST, RevisionOut, bound, signed};
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
        if written? {
            // The outcome of this does not change that of the save.
            let (looked, ()) = tokio::join!(self.look(), self.drop_pending(&actor, bound(epoch)));
            looked?;
        } else {
            self.look().await?;
        }
        self.fence.check(epoch)
    }
}

/// A save, ready to be written.
struct Ready {
    epoch: i64,
    head: Option<Content>,
    /// The revision that is appended, sealed for its own place.
    revision: Option<Content>,
    effects: EffectsOut,
}

impl Shared {
    /// Writes a save. Returns whether it may have emptied the actor's outbox.
    async fn write(&self, save: Save) -> Result<bool, StoreError> {
        let actor = save.actor.clone();
        let key = Key::of(&actor)?;
        let ready = self.ready(&key, save)?;
        let epoch = ready.epoch;
        let _turn = self.turn().await?;
        let mut known = self.memory.of(&actor);
        if ready.effects.appended() > 0 && known.pending != Some(epoch) {
            self.put_pending(&actor, epoch).await.map_err(unwritten)?;
            known.pending = Some(epoch);
        }
        let mut changes = Changes::default();
        let mut entered = None;
        if let Some(content) = &ready.head {
            if !known.is_listed {
                self.list(&actor).await.map_err(unwritten)?;
                known.is_listed = true;
            }
            if let Some(revision) = &ready.revision {
                let found = self.enter(&key, &mut known, revision).await.map_err(unwritten)?;
                self.put_bucket(&key, &found.bucket, &mut changes);
                self.put_number(&key, &found, &mut changes);
                entered = Some((found, revision));
            }
            self.put_head(&key, epoch, content, &mut known, &mut changes);
        }
        self.put_effects(&key, epoch, &ready.effects, &mut changes);
        let stamp = self.stamp().await?;
        self.commit(changes, stamp).await?;
        if let Some((entered, revision)) = entered {
            let appended = self.put_revision(&key, epoch, revision, &entered, stamp).await;
            appended.map_err(|error| {
                StoreError::Unknown(format!(
                    "the state is written, its revision may not be: {error}"
                ))
            })?;
        }
        let (more, fewer) = (ready.effects.appended(), ready.effects.acknowledged());
        known.outstanding = known.outstanding.map(|rows| (rows + more).saturating_sub(fewer));
        self.memory.keep(&actor, known);
        Ok(fewer > 0 && known.outstanding.is_none_or(|rows| rows == 0))
    }

    fn ready(&self, key: &Key<'_>, save: Save) -> Result<Ready, StoreError> {
        let Save { head, append, rows, epoch, .. } = save;
        let (named, vault) = (key.named(), &self.vault);
        let revision = head.as_ref().filter(|_| append).map(Head::as_revision);
        let revision = revision.map(|revision| Content::of(&named, revision, vault)).transpose()?;
        let content = head.map(|head| Content::of_head(&named, head, vault)).transpose()?;
        let effects = rows.map(|rows| EffectsOut::of(&named, *rows, vault));
        let effects = effects.transpose()?.unwrap_or_default();
        let bytes = content.as_ref().map_or(0, Content::bytes) + effects.bytes();
        self.check_size(key.len() + bytes)?;
        Ok(Ready { epoch: signed(epoch)?, head: content, revision, effects })
    }

    /// Refuses a write that the server would refuse, before sending it.
    pub(super) fn check_size(&self, bytes: usize) -> Result<(), StoreError> {
        if bytes <= self.limit {
            return Ok(());
        }
        let limit = self.limit;
        Err(StoreError::TooLarge(format!("{bytes} bytes in one write, the database takes {limit}")))
    }

    /// Adds an actor to the list of its system. This happens before its first head or revision is written, so the list
    /// is complete.
    pub(super) async fn list(&self, actor: &ActorId) -> Result<(), StoreError> {
        let values = (&actor.system, shard(actor), &actor.name, &actor.parent);
        self.database.write(&self.database.cql.put_actor, values, self.stamp().await?).await
    }

    fn put_head<'a>(
        &self,
        key: &Key<'a>,
        epoch: i64,
        content: &'a Content,
        known: &mut Known,
        changes: &mut Changes<'a>,
    ) {
        let (cql, Key { system, actor, parent }) = (&self.database.cql, *key);
        let row = HeadOut { key: *key, kind: HEAD, epoch, place: 0, owner: epoch, content };
        changes.add(&cql.put_head, row);
        if known.cleared != Some(epoch) {
            // Drops heads of older owners, including heads that these owners may still write late.
            for kind in [HEAD, FORMER_OUTBOX] {
                changes.add(&cql.drop_epochs, (system, actor, parent, kind, epoch));
            }
            known.cleared = Some(epoch);
        }
    }

    async fn put_revision(
        &self,
        key: &Key<'_>,
        epoch: i64,
        content: &Content,
        entered: &Entered,
        stamp: i64,
    ) -> Result<(), StoreError> {
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
        let row = HeadOut { key: *key, kind: NEWEST, epoch: 0, place, owner, content };
        changes.add(&cql.put_head, row);
        changes.add(&cql.drop_newest, (key.system, key.actor, key.parent, place));
        self.commit(changes, stamp).await
    }
}
