//! Rows: commits that change rows of effects and no state, and which rows a deleted actor keeps.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tracing::debug;

use super::MaintenanceInner;
use crate::activation::incarnation::Incarnation;
use crate::activation::seen::FORGOTTEN;
use crate::call::{Committed, Completion, Emitted, Planned};
use crate::error::Error;
use crate::outbox::{EffectRows, Seen};
use crate::ports::Save;
use crate::registry::entry::Entry;
use crate::reply::{Deadlines, Reply};
use crate::store_limit::in_time;

impl MaintenanceInner {
    /// Whether rows of effects of a deleted actor stay: effects that it has not delivered, or that it has seen. When no effect
    /// that it has seen can come again, it forgets all of them (decision 18 i).
    pub(super) async fn keeps_rows(&self, entry: &Arc<Entry>) -> Result<bool, Error> {
        let outbox = in_time(self.store.outbox(&entry.key, None, 1)).await?;
        let seen = in_time(self.store.seen(&entry.key)).await?;
        let effects = &self.side_effects.0.effects;
        let may_go = |seen: &Seen| effects.has_nothing_pending(&seen.source);
        if !seen.iter().all(may_go) {
            return Ok(true);
        }
        let forgotten = self.forget_seen(entry, &seen).await;
        if let Err(error) = &forgotten {
            debug!(actor = %entry.actor, %error, "what it has seen stays, and so does its key");
        }
        Ok(forgotten.is_err() || !outbox.items.is_empty())
    }

    /// Removes rows of effects that a deleted actor has seen.
    async fn forget_seen(&self, entry: &Arc<Entry>, seen: &[Seen]) -> Result<(), Error> {
        if seen.is_empty() {
            return Ok(());
        }
        // A store removes such rows under the epoch of their owner.
        self.lookup.take_over_early(entry).await?;
        for seen in seen.chunks(FORGOTTEN) {
            let forgotten = seen.iter().map(|seen| seen.source.clone()).collect();
            let rows = EffectRows { forgotten, ..EffectRows::default() };
            self.commit(entry, self.incarnation(entry), rows, None).await?;
        }
        entry.has_seen.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// The activation under which the commit is made: the one in memory, or one of its own.
    pub(super) fn incarnation(&self, entry: &Entry) -> Arc<Incarnation> {
        let mut memory = entry.memory.lock();
        let in_memory = memory.incarnation.as_ref().filter(|_| memory.live.is_some());
        if let Some(known) = in_memory.filter(|known| !known.is_abandoned()) {
            return known.clone();
        }
        let own = self.lookup.incarnation_of(entry);
        (memory.live, memory.incarnation) = (None, Some(own.clone()));
        own
    }

    /// Makes the rows durable.
    pub(super) async fn commit(
        &self,
        entry: &Arc<Entry>,
        incarnation: Arc<Incarnation>,
        rows: EffectRows,
        emitted: Option<Box<Emitted>>,
    ) -> Result<(), Error> {
        let queue = &self.submit.0.queue;
        let place = queue.places().try_maintain(entry, rows.bytes());
        let Some(place) = place else { return Err(super::no_place()) };
        let (reply, written) = Reply::started(Deadlines::default().host);
        let save = Save::of_rows(entry.key.clone(), incarnation.epoch, rows);
        let completion = Completion::Done(reply);
        let rest = Committed { completion, emitted, ..Committed::default() };
        let entry = entry.clone();
        queue.hand_in(Planned::new(entry, incarnation, Some(save), Some(place), rest));
        written.answer().await
    }
}
