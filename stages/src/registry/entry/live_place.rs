//! Live place: where an entry is among the actors in memory.

use std::sync::atomic::{AtomicUsize, Ordering};

/// A place in one of the lists of live actors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LivePlace {
    pub(crate) stateful: bool,
    pub(crate) index: usize,
}

/// A [`LivePlace`] or none, in one word.
#[derive(Debug, Default)]
pub(crate) struct PlaceCell(AtomicUsize);

impl PlaceCell {
    pub(crate) fn get(&self) -> Option<LivePlace> {
        let word = self.0.load(Ordering::Relaxed).checked_sub(1)?;
        Some(LivePlace { stateful: word % 2 == 1, index: word / 2 })
    }

    pub(crate) fn set(&self, place: Option<LivePlace>) {
        let word = place.map_or(0, |place| 2 * place.index + usize::from(place.stateful) + 1);
        self.0.store(word, Ordering::Relaxed);
    }

    pub(crate) fn take(&self) -> Option<LivePlace> {
        let place = self.get();
        self.set(None);
        place
    }
}
