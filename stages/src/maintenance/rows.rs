//! Rows: commits that change rows of effects and no state.

use std::sync::Arc;

use super::MaintenanceInner;
use crate::activation::incarnation::Incarnation;
use crate::call::{Committed, Completion, Emitted, Planned};
use crate::error::Error;
use crate::outbox::EffectRows;
use crate::ports::Save;
use crate::registry::entry::Entry;
use crate::reply::{Deadlines, Reply};

impl MaintenanceInner {
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
