//! Pause: a key whose events are granted to nobody until it is resumed. An event in flight goes on.

use std::hash::{BuildHasher, Hash};

use tokio::time::Instant;

use crate::dispatcher::keyed::slot::KeyState;
use crate::dispatcher::keyed::{EventId, Keyed, ParkedKey};

/// Most keys that may be paused at once. A paused key takes memory also when nothing is queued.
pub const MAX_PAUSED: usize = 65_536;

impl<K: Clone + Eq + Hash, T, R> Keyed<K, T, R> {
    /// Pauses a key. Returns false when too many are paused.
    pub(crate) fn pause(&mut self, key: &K, now: Instant) -> bool {
        let known = self.slot_of(key);
        if known.is_some_and(|slot| self.slots.get(slot).paused.is_some()) {
            return true;
        }
        if self.paused >= MAX_PAUSED {
            return false;
        }
        let slot = known.unwrap_or_else(|| {
            let (slots, hash) = (&mut self.slots, self.hasher.hash_one(key));
            let slot = slots.insert(key.clone(), hash);
            self.table.insert_unique(hash, slot, |at| slots.hash(*at));
            slot
        });
        self.paused += 1;
        let queue = self.slots.get_mut(slot);
        queue.paused = Some(now);
        match std::mem::replace(&mut queue.state, KeyState::Idle) {
            KeyState::Ready(class) => self.make_unready(slot, class),
            KeyState::InLine => self.leave_line(slot),
            KeyState::Idle => {}
            KeyState::Held => {
                self.slots.get_mut(slot).state = KeyState::Held;
                return true;
            }
        }
        self.give_up(slot);
        true
    }

    /// Ends the pause of a key: it becomes ready behind the other keys. Returns whether it was paused.
    pub(crate) fn resume_key(&mut self, key: &K) -> bool {
        let Some(slot) = self.slot_of(key) else { return false };
        let was_paused = self.slots.get_mut(slot).paused.take().is_some();
        if was_paused {
            self.paused -= 1;
            self.resumed(slot);
        }
        was_paused
    }

    /// Holds a paused key of which no event is in flight or parked, as if one were parked.
    pub(crate) fn hold_paused(&mut self, key: &K) -> Option<ParkedKey> {
        let slot = self.slot_of(key)?;
        let queue = self.slots.get_mut(slot);
        if queue.paused.is_none() || queue.state != KeyState::Idle {
            return None;
        }
        queue.state = KeyState::Held;
        self.parked += 1;
        // Of no event, so that none is found under it.
        Some(ParkedKey { slot, id: EventId(u64::MAX) })
    }

    /// Ends all pauses. Returns what was queued for the paused keys.
    pub(crate) fn end_pauses(&mut self) -> Vec<T> {
        let mut all = Vec::new();
        if self.paused == 0 {
            return all;
        }
        self.paused = 0;
        for slot in self.slots.occupied() {
            let queue = self.slots.get_mut(slot);
            if queue.paused.take().is_some() {
                queue.counted = 0;
                let before = all.len();
                all.extend(queue.waiting.drain().map(|queued| queued.event));
                self.queued -= all.len() - before;
                self.resumed(slot);
            }
        }
        all
    }

    fn resumed(&mut self, slot: u32) {
        if self.slots.get(slot).state == KeyState::Idle {
            self.requeue(slot);
        }
    }
}
