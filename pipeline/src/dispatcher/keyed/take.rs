//! Take: removes queued events of any key, or changes their class where they are.

use std::hash::Hash;

use crate::dispatcher::keyed::Keyed;
use crate::dispatcher::keyed::slot::KeyState;

impl<K: Clone + Eq + Hash, T, R> Keyed<K, T, R> {
    /// Looks at every queued event. `class_of` returns its class, or `None` when it is to be removed. Returns the removed
    /// events, in order per key.
    pub(crate) fn take(&mut self, mut class_of: impl FnMut(&mut T) -> Option<u32>) -> Vec<T> {
        let mut taken = Vec::new();
        for slot in self.slots.occupied() {
            let queue = self.slots.get_mut(slot);
            let first = queue.waiting.front().map(|first| first.id);
            let queued: Vec<_> = queue.waiting.drain().collect();
            for mut queued in queued {
                if let Some(class) = class_of(&mut queued.event) {
                    queued.class = class;
                    queue.waiting.push_back(queued);
                } else {
                    queue.counted -= usize::from(!queued.exempt);
                    self.queued -= 1;
                    taken.push(queued.event);
                }
            }
            let now = queue.waiting.front();
            match queue.state {
                // The first event may be of another class now.
                KeyState::Ready(class) if now.map(|now| now.class) != Some(class) => {
                    self.make_unready(slot, class);
                    self.requeue(slot);
                }
                // The key joined the line with the event that was first.
                KeyState::InLine if now.map(|now| now.id) != first => {
                    self.leave_line(slot);
                    self.requeue(slot);
                }
                KeyState::Idle | KeyState::Held | KeyState::Ready(_) | KeyState::InLine => {}
            }
        }
        taken
    }
}
