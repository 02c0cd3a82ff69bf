//! Late: counts what is granted before an event, and removes events that would be granted too late.

use std::hash::{BuildHasher, Hash};
use std::time::Duration;

use crate::dispatcher::keyed::Keyed;
use crate::dispatcher::keyed::class::Class;
use crate::dispatcher::keyed::ready_queue::Linked;
use crate::dispatcher::keyed::slot::KeyState;

/// A search for late events ends after this many queues whose last event is not late.
const IN_TIME: usize = 64;

/// How many events are granted before a given event, if nothing else is pushed. Keys of a class take turns, and so do
/// classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ahead {
    /// Events of its own key.
    pub of_key: usize,
    /// Events of its own class.
    pub of_class: usize,
    /// Events of all classes.
    pub of_all: usize,
    /// How long an event that the gate concerns waits in its line, as that moves now. Zero without a line, and while it is
    /// not known how it moves.
    pub in_line: Duration,
}

/// Where the key of a queue stands.
#[derive(Debug, Clone, Copy)]
enum Standing {
    /// Among the ready keys of this class.
    Ready(u32),
    /// In line for the gate.
    InLine,
}

/// A removal of late events.
struct Shedding<'a, T, F> {
    /// How many events are removed at most.
    most: usize,
    is_late: &'a mut F,
    /// The removed events.
    shed: Vec<T>,
}

impl<K: Clone + Eq + Hash, T, R> Keyed<K, T, R> {
    /// Returns what is granted before an event that is pushed now.
    pub(crate) fn ahead(&mut self, key: &K, class: u32) -> Ahead {
        let keys = self.ready_keys(class);
        let Some(slot) = self.slot_of(key) else { return self.ahead_of(0, keys, class) };
        let queue = self.slots.get_mut(slot);
        let (of_key, is_ready) = (queue.waiting.len(), matches!(queue.state, KeyState::Ready(_)));
        // The position of its key takes long to find: the key counts as the last.
        self.ahead_of(of_key, keys.saturating_sub(usize::from(is_ready)), class)
    }

    /// Removes late events, at most `most`: first those of the held key, then those of the last ready keys of a class, then
    /// those of the last keys in line for the gate. Each queue is looked at from its end, and left alone when its last event
    /// is not late.
    pub(crate) fn shed_late(
        &mut self,
        key: &K,
        class: u32,
        most: usize,
        mut is_late: impl FnMut(Ahead, &T) -> bool,
    ) -> Vec<T> {
        let mut shedding = Shedding { most, is_late: &mut is_late, shed: Vec::new() };
        let ready = Standing::Ready(class);
        if let Some(slot) = self.slot_of(key)
            && self.slots.get_mut(slot).state == KeyState::Held
        {
            // Its key becomes the last ready one.
            self.shed_queue(slot, self.ready_keys(class), ready, &mut shedding);
        }
        self.shed_from_last(ready, &mut shedding);
        self.shed_from_last(Standing::InLine, &mut shedding);
        shedding.shed
    }

    /// Removes the late events of the keys that stand there, from the last key on.
    fn shed_from_last<F>(&mut self, standing: Standing, shedding: &mut Shedding<'_, T, F>)
    where
        F: FnMut(Ahead, &T) -> bool,
    {
        let (mut position, mut next) = match standing {
            Standing::Ready(class) => (
                self.ready_keys(class),
                self.classes.get(&class).and_then(|class| class.ready.last()),
            ),
            Standing::InLine => (self.line.keys().len(), self.line.keys().last()),
        };
        let mut in_time = 0;
        while let Some(slot) = next
            && shedding.shed.len() < shedding.most
            && in_time < IN_TIME
        {
            position = position.saturating_sub(1);
            next = self.slots.links(slot).before();
            self.shed_queue(slot, position, standing, shedding);
            if !self.slots.get_mut(slot).waiting.is_empty() {
                in_time += 1;
                continue;
            }
            match standing {
                Standing::Ready(class) => self.make_unready(slot, class),
                Standing::InLine => self.leave_line(slot),
            }
            self.requeue(slot);
        }
    }

    /// Removes the late events at the end of a queue whose key has that many keys before it.
    fn shed_queue<F>(
        &mut self,
        slot: u32,
        position: usize,
        standing: Standing,
        shedding: &mut Shedding<'_, T, F>,
    ) where
        F: FnMut(Ahead, &T) -> bool,
    {
        while shedding.shed.len() < shedding.most {
            let of_key = self.slots.get_mut(slot).waiting.len().saturating_sub(1);
            let ahead = match standing {
                Standing::Ready(class) => self.ahead_of(of_key, position, class),
                Standing::InLine => {
                    let in_line = self.wait_in_line(of_key, position);
                    Ahead { of_key, of_class: 0, of_all: 0, in_line }
                }
            };
            let queue = self.slots.get_mut(slot);
            let is_late = |event: &T| (shedding.is_late)(ahead, event);
            let Some(last) = queue.waiting.pop_back_if(is_late) else { return };
            queue.counted -= usize::from(!last.exempt);
            self.queued -= 1;
            shedding.shed.push(last.event);
        }
    }

    pub(super) fn slot_of(&self, key: &K) -> Option<u32> {
        let (slots, hash) = (&self.slots, self.hasher.hash_one(key));
        self.table.find(hash, |at| slots.is(*at, key)).copied()
    }

    fn ready_keys(&self, class: u32) -> usize {
        self.classes.get(&class).map_or(0, |class: &Class| class.ready.len())
    }

    /// Counts with a full round between two turns of a key: one turn of each ready key.
    fn ahead_of(&self, of_key: usize, position: usize, class: u32) -> Ahead {
        let of_class = position.saturating_add(of_key.saturating_mul(self.ready_keys(class)));
        let of_all = of_class.saturating_mul(self.granting().max(1));
        let in_line = self.wait_in_line(of_key, self.line.keys().len());
        let (of_class, of_all) = (of_class.min(self.queued), of_all.min(self.queued));
        Ahead { of_key, of_class, of_all, in_line }
    }

    /// Each turn of a key that waits for the gate is followed by one turn of each key in line.
    fn wait_in_line(&self, of_key: usize, position: usize) -> Duration {
        let line = self.line.keys().len();
        self.line.wait(position.saturating_add(of_key.saturating_mul(line)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demand::Account;
    use crate::subscription::SubscriberId;

    /// Keys with that many events each, all of one class.
    fn machine(class: u32, keys: std::ops::Range<u32>, each: u32) -> Keyed<u32, (u32, u32)> {
        let mut machine = Keyed::new(100);
        for key in keys {
            for number in 0..each {
                machine.push(&key, (key, number), class, false).unwrap();
            }
        }
        machine
    }

    fn demand(machine: &mut Keyed<u32, (u32, u32)>, events: usize) {
        machine.subscribe(SubscriberId(0), Account::new(events, 0, true));
        machine.open(SubscriberId(0));
    }

    #[test]
    fn as_many_events_as_were_told_are_granted_before_a_new_one() {
        for (keys, each, own) in [(0, 0, 0), (5, 1, 0), (5, 3, 0), (5, 3, 1), (5, 1, 2)] {
            let mut machine = machine(0, 0..keys, each);
            for number in 0..own {
                machine.push(&99, (99, number), 0, false).unwrap();
            }
            let ahead = machine.ahead(&99, 0);
            assert_eq!(ahead.of_key, own as usize);
            machine.push(&99, (99, own), 0, false).unwrap();
            demand(&mut machine, 1);
            let mut before = 0;
            while let Some(grant) = machine.grant() {
                if grant.event == (99, own) {
                    break;
                }
                before += 1;
                machine.release(grant.held);
            }
            assert_eq!((ahead.of_class, ahead.of_all), (before, before), "{keys} {each} {own}");
        }
    }

    #[test]
    fn keys_of_another_lane_count_for_one_turn_of_each_lane() {
        let mut machine = machine(1, 0..50, 1);
        let ahead = machine.ahead(&99, 2);
        assert_eq!((ahead.of_class, ahead.of_all), (0, 0));
        for key in 100..103 {
            machine.push(&key, (key, 0), 2, false).unwrap();
        }
        let ahead = machine.ahead(&99, 2);
        assert_eq!((ahead.of_class, ahead.of_all), (3, 6));
        // A class that may have no event in flight holds nobody up.
        machine.set_class_limit(1, 0);
        assert_eq!(machine.ahead(&99, 2).of_all, 3);
        // Neither does one that holds its share.
        machine.set_class_limit(1, 100);
        machine.set_class_limit(2, 100);
        demand(&mut machine, 8);
        assert_eq!(machine.ahead(&99, 2).of_all, 6);
        let held: Vec<_> =
            std::iter::from_fn(|| machine.grant()).map(|grant| grant.event.0).collect();
        assert_eq!(held.len(), 5, "{held:?}");
        machine.push(&103, (103, 0), 2, false).unwrap();
        assert_eq!(machine.ahead(&99, 2).of_all, 1);
    }

    #[test]
    fn late_events_are_removed_from_behind_up_to_a_number() {
        let mut machine = machine(0, 0..100, 1);
        let late = |ahead: Ahead, _: &(u32, u32)| ahead.of_class >= 40;
        let mut shed = Vec::new();
        for expected in [32, 28, 0] {
            let some = machine.shed_late(&99, 0, 32, late);
            assert_eq!(some.len(), expected);
            shed.extend(some);
        }
        assert_eq!(shed, (40..100).rev().map(|key| (key, 0)).collect::<Vec<_>>());
        demand(&mut machine, 200);
        let mut left = Vec::new();
        while let Some(grant) = machine.grant() {
            left.push(grant.event);
            machine.release(grant.held);
        }
        assert_eq!(left, (0..40).map(|key| (key, 0)).collect::<Vec<_>>());
        assert!(machine.is_idle());
        assert_eq!((machine.table.len(), machine.slots.occupied().len()), (0, 0));
    }

    #[test]
    fn the_queue_of_a_held_key_is_searched_and_stays_in_order() {
        let mut machine = machine(0, 0..1, 6);
        demand(&mut machine, 1);
        let held = machine.grant().unwrap().held;
        let shed = machine.shed_late(&0, 0, 64, |ahead, _| ahead.of_key >= 2);
        assert_eq!(shed, [(0, 5), (0, 4), (0, 3)]);
        machine.release(held);
        let next = machine.grant().unwrap();
        assert_eq!(next.event, (0, 1));
        machine.shed_late(&0, 0, 64, |_, _| true);
        machine.release(next.held);
        assert!(machine.is_idle());
        machine.push(&0, (0, 9), 0, false).unwrap();
        assert_eq!(machine.grant().unwrap().event, (0, 9));
    }
}
