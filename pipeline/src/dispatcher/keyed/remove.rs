//! Remove: takes one queued event out, whose sender does not want it any more.

use std::hash::Hash;

use crate::dispatcher::keyed::slot::KeyState;
use crate::dispatcher::keyed::{EventId, Keyed};

impl<K: Clone + Eq + Hash, T> Keyed<K, T> {
    /// Removes an event of a key if it is queued. Its place in the queue of its key is free at once.
    pub(crate) fn remove(&mut self, key: &K, id: EventId) -> Option<T> {
        let slot = self.slot_of(key)?;
        let queue = self.slots.get_mut(slot);
        let removed = queue.waiting.remove(id)?;
        queue.counted -= usize::from(!removed.exempt);
        self.queued -= 1;
        // The first event may be another one now, of another class.
        if let KeyState::Ready(class) = queue.state
            && queue.waiting.front().map(|first| first.class) != Some(class)
        {
            self.make_unready(slot, class);
            self.requeue(slot);
        }
        Some(removed.event)
    }
}
