//! Grant: chooses the next event, and takes what its grant needs.

use std::hash::Hash;

use super::slot::KeyState;
use super::waiting::Queued;
use super::{Held, Keyed, KeyedGrant};

impl<K: Clone + Eq + Hash, T, R> Keyed<K, T, R> {
    /// Whether [`grant`](Keyed::grant) would return an event if the gate refused none.
    pub(crate) fn has_grant(&self) -> bool {
        (self.line.may_move() && self.subscribers.has_demand()) || self.next_class().is_some()
    }

    /// The index in `rotation` of the class that is granted next.
    fn next_class(&self) -> Option<usize> {
        if self.rotation.is_empty() || !self.subscribers.has_demand() {
            return None;
        }
        if !self.is_shared() {
            return Some(0);
        }
        self.rotation.iter().position(|class| self.may_share(*class))
    }

    /// Whether a class may use one more of the demand that is left. A class that shares the demand may use its share only.
    pub(super) fn may_share(&self, class: u32) -> bool {
        let free = self.subscribers.demand().saturating_sub(1);
        !self.is_shared() || self.classes.get(&class).is_some_and(|class| class.may_share(free))
    }

    /// How many classes take turns now. A class that shares the demand counts only while it may use more of it.
    pub(super) fn granting(&self) -> usize {
        if !self.is_shared() {
            return self.rotation.len();
        }
        self.rotation.iter().filter(|class| self.may_share(**class)).count()
    }

    /// Grants the next event for which there are demand, a permit of its class, and a ready key, and that passes the
    /// gate. Keys that the gate refuses join the line.
    pub(crate) fn grant(&mut self) -> Option<KeyedGrant<T>> {
        if !self.subscribers.has_demand() {
            return None;
        }
        if let Some(slot) = self.next_in_line() {
            return self.grant_first(slot);
        }
        while let Some(next) = self.next_class() {
            let class = self.rotation.remove(next)?;
            let state = self.classes.get_mut(&class)?;
            state.in_rotation = false;
            let slot = state.ready.first()?;
            state.ready.remove(&mut self.slots, slot);
            if self.passes(slot) {
                return self.grant_first(slot);
            }
            self.class_changed(class);
        }
        None
    }

    /// Grants the first event of a key that is in no queue.
    fn grant_first(&mut self, slot: u32) -> Option<KeyedGrant<T>> {
        let to = self.subscribers.grant_one()?;
        let queue = self.slots.get_mut(slot);
        queue.state = KeyState::Held;
        let Queued { id, event, class, exempt } = queue.waiting.pop_front()?;
        queue.counted -= usize::from(!exempt);
        self.queued -= 1;
        self.in_flight += 1;
        self.classes.entry(class).or_default().in_flight += 1;
        self.class_changed(class);
        Some(KeyedGrant { to, held: Held { slot, id, class, subscriber: to }, event })
    }
}
