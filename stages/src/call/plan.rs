//! Planned: a turn whose change is applied in memory: what has to be written, and what leaves after that.

use std::fmt;
use std::sync::Arc;

use crate::activation::incarnation::{Incarnation, Unsettled};
use crate::call::Committed;
use crate::error::Error;
use crate::places::Place;
use crate::ports::{Save, StoreError};
use crate::registry::entry::Entry;

/// A turn on its way to the store. Dropped before its outcome is known, it abandons its activation: the write may have
/// happened, so nothing may build on it.
pub(crate) struct Planned {
    pub(crate) entry: Arc<Entry>,
    pub(crate) incarnation: Arc<Incarnation>,
    /// What is written; `None` for a turn that changed nothing.
    pub(crate) save: Option<Save>,
    /// Its place, which is free again when the outcome is known.
    pub(crate) place: Option<Place>,
    /// `None` once taken.
    rest: Option<Committed>,
    _unsettled: Unsettled,
}

/// A planned turn as it travels: a queue or a batch of them moves pointers.
pub(crate) type BoxPlanned = Box<Planned>;

impl Planned {
    /// Records the turn as unsettled in its activation, and what it writes and answers as what its actor's turn moves.
    pub(crate) fn new(
        entry: Arc<Entry>,
        incarnation: Arc<Incarnation>,
        save: Option<Save>,
        place: Option<Place>,
        rest: Committed,
    ) -> Box<Self> {
        let answered = rest.completion.bytes();
        let (unsettled, rest) = (Unsettled::new(&incarnation), Some(rest));
        let planned =
            Box::new(Self { entry, incarnation, save, place, rest, _unsettled: unsettled });
        planned.entry.add_turn_bytes(planned.record_bytes() + answered);
        planned
    }

    /// Bytes that it counts for.
    pub(crate) fn bytes(&self) -> usize {
        self.save.as_ref().map_or(0, Save::bytes)
    }

    /// Bytes of the records that are written: of the head, and of the revision with the same content.
    pub(crate) fn record_bytes(&self) -> usize {
        self.save.as_ref().map_or(0, |save| save.bytes() * (1 + usize::from(save.append)))
    }

    /// Notes for the trace of its call that it is being written.
    pub(crate) fn writing(&self) {
        if let Some(rest) = &self.rest {
            rest.writing();
        }
    }

    /// What leaves, now that the change is durable.
    pub(crate) fn committed(mut self: Box<Self>) -> Committed {
        self.rest.take().unwrap_or_default()
    }

    /// Ends it with an error.
    pub(crate) fn fail(self: Box<Self>, error: Error) {
        let entry = self.entry.clone();
        self.committed().fail(&entry.actor, error);
    }
}

impl Drop for Planned {
    fn drop(&mut self) {
        if self.rest.is_some() {
            self.incarnation.abandon(&StoreError::Unknown("the commit was abandoned".into()));
        }
    }
}

impl fmt::Debug for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Planned").field("entry", &self.entry).finish_non_exhaustive()
    }
}
