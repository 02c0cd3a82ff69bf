//! Take over: makes this epoch the owner of an actor and of its rows of effects, before its first turn (decision 18 d).
//!
//! A former owner may still have a commit under way. Once the rows are taken over, such a commit counts whole or not at
//! all. An actor without rows has nothing to take over: its head is written back with the saves of others, or not at all
//! after an orderly end. So the first activation under an epoch costs two reads of rows that are mostly not there, and
//! no write.

use std::sync::atomic::Ordering;

use futures_util::future::try_join;

use super::{Halt, Inner, Lookup};
use crate::error::Error;
use crate::ports::TakenOver;
use crate::registry::entry::Entry;

impl Inner {
    /// Takes an actor over that was not activated under this epoch before. Returns what was taken over, which may be newer than
    /// what was loaded; `None` when there was nothing to take over. Repeating it changes nothing.
    pub(super) async fn take_over(
        &self,
        entry: &Entry,
        epoch: u64,
    ) -> Result<Option<TakenOver>, Halt> {
        if entry.owned_under.load(Ordering::Relaxed) == epoch {
            return Ok(None);
        }
        let key = &entry.key;
        let rows = try_join(self.store.outbox(key, None, 1), self.store.seen(key));
        let (outbox, seen) = self.read(rows).await?;
        if outbox.items.is_empty() && seen.is_empty() {
            return Ok(None);
        }
        self.written(self.store.take_over(key.clone(), epoch)).await.map(Some)
    }
}

impl Lookup {
    /// The same for an actor that is not loaded, under its key, so that its former effects can be delivered.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn take_over_early(&self, entry: &Entry) -> Result<(), Error> {
        let Self(inner) = self;
        let epoch = inner.placement.owner_epoch(&entry.actor);
        if let Some(taken_over) = inner.take_over(entry, epoch).await.map_err(|halt| halt.error)? {
            entry.has_seen.store(!taken_over.seen.is_empty(), Ordering::Relaxed);
            entry.taken_over_early.store(true, Ordering::Relaxed);
        }
        entry.owned_under.store(epoch, Ordering::Relaxed);
        Ok(())
    }
}
