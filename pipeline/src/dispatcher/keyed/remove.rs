//! Remove: takes queued events out: one event by its name, or all.

use std::hash::Hash;

use crate::dispatcher::keyed::slot::KeyState;
use crate::dispatcher::keyed::subscribers::Subscribers;
use crate::dispatcher::keyed::{EventId, Keyed};

impl<K: Clone + Eq + Hash, T, R> Keyed<K, T, R> {
    /// Removes an event of a key if it is queued. Its place in the queue of its key is free at once.
    pub(crate) fn remove(&mut self, key: &K, id: EventId) -> Option<T> {
        let slot = self.slot_of(key)?;
        let queue = self.slots.get_mut(slot);
        let removed = queue.waiting.remove(id)?;
        queue.counted -= usize::from(!removed.exempt);
        self.queued -= 1;
        let first = queue.waiting.front().map(|first| (first.id, first.class));
        match queue.state {
            // The first event may be of another class now.
            KeyState::Ready(class) if first.map(|(_, class)| class) != Some(class) => {
                self.make_unready(slot, class);
                self.requeue(slot);
            }
            // The key joined the line with the event that was removed.
            KeyState::InLine if first.is_none_or(|(first, _)| first > id) => {
                self.leave_line(slot);
                self.requeue(slot);
            }
            KeyState::Idle | KeyState::Held | KeyState::Ready(_) | KeyState::InLine => {}
        }
        Some(removed.event)
    }

    /// Removes all queued events and returns them. Forgets all demand.
    pub(crate) fn clear(&mut self) -> Vec<T> {
        self.rotation.clear();
        self.subscribers = Subscribers::default();
        let mut all = self.end_pauses();
        for slot in self.slots.occupied() {
            let queue = self.slots.get_mut(slot);
            queue.counted = 0;
            all.extend(queue.waiting.drain().map(|queued| queued.event));
            match queue.state {
                KeyState::Ready(class) => self.make_unready(slot, class),
                KeyState::InLine => self.leave_line(slot),
                KeyState::Idle | KeyState::Held => continue,
            }
            self.requeue(slot);
        }
        self.queued = 0;
        all
    }
}
