//! Line: the keys whose first event a gate has refused, first in first out.

use std::hash::Hash;

use crate::dispatcher::keyed::Keyed;
use crate::dispatcher::keyed::ready_queue::{Linked, ReadyQueue};
use crate::dispatcher::keyed::slot::KeyState;
use crate::gate::{Entry, Gated, GivenUp};

/// The line in front of a gate.
#[derive(Debug)]
pub(crate) struct Line<T> {
    gate: Option<Gated<T>>,
    keys: ReadyQueue,
    /// Whether the gate has said that nothing is free. Then each further event joins the line without asking.
    is_full: bool,
    /// Whether the gate was woken since the line was last tried.
    may_move: bool,
    /// What an event of a paused key gave back, until [`take_left`](Keyed::take_left) takes it.
    left: Option<GivenUp>,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self {
            gate: None,
            keys: ReadyQueue::default(),
            is_full: false,
            may_move: false,
            left: None,
        }
    }
}

impl<T> Line<T> {
    /// A line in front of this gate.
    pub(crate) fn before(gate: Gated<T>) -> Self {
        Self { gate: Some(gate), ..Self::default() }
    }

    /// Whether [`Keyed::next_in_line`] may find a key.
    pub(crate) fn may_move(&self) -> bool {
        self.may_move && !self.keys.is_empty()
    }
}

impl<K: Clone + Eq + Hash, T, R> Keyed<K, T, R> {
    /// Puts a gate before all grants.
    pub(crate) fn set_gate(&mut self, gate: Gated<T>) {
        self.line = Line::before(gate);
    }

    /// Notes that the gate may have something to give again.
    pub(crate) fn reopen(&mut self) {
        self.line.is_full = false;
        self.line.may_move = true;
    }

    /// Takes the first key out of the line whose class has a permit and whose first event the gate lets in.
    pub(super) fn next_in_line(&mut self) -> Option<u32> {
        if !self.line.may_move {
            return None;
        }
        let mut next = self.line.keys.first();
        while let Some(slot) = next {
            next = self.slots.links(slot).after();
            let head = self.slots.get_mut(slot).waiting.front();
            let Some(class) = head.map(|head| head.class) else { continue };
            let has_permit = self.classes.entry(class).or_default().has_permit();
            if !has_permit || !self.may_share(class) {
                // It waits for its class, not for the gate: others may pass.
                self.line.keys.remove(&mut self.slots, slot);
                self.slots.get_mut(slot).state = KeyState::Ready(class);
                self.classes.entry(class).or_default().ready.push_front(&mut self.slots, slot);
                continue;
            }
            let Some(head) = self.slots.get_mut(slot).waiting.front_mut() else { continue };
            let gate = self.line.gate.as_ref();
            match gate.map_or(Entry::Entered, |gate| gate.enter(&mut head.event)) {
                Entry::Entered => {
                    self.line.keys.remove(&mut self.slots, slot);
                    return Some(slot);
                }
                Entry::Waits => {}
                Entry::Full => {
                    self.line.is_full = true;
                    break;
                }
            }
        }
        self.line.may_move = false;
        None
    }

    /// Whether the first event of a key passes the gate. Otherwise the key joins the line. The key is in no queue.
    pub(super) fn passes(&mut self, slot: u32) -> bool {
        let Some(gate) = &self.line.gate else { return true };
        let Some(head) = self.slots.get_mut(slot).waiting.front_mut() else { return true };
        let is_full = self.line.is_full && gate.gate.concerns(&head.event);
        match if is_full { Entry::Full } else { gate.enter(&mut head.event) } {
            Entry::Entered => return true,
            Entry::Waits => {}
            Entry::Full => self.line.is_full = true,
        }
        self.slots.get_mut(slot).state = KeyState::InLine;
        self.line.keys.push_back(&mut self.slots, slot);
        false
    }

    /// Takes a key out of the line. The next one may need less.
    pub(super) fn leave_line(&mut self, slot: u32) {
        self.line.keys.remove(&mut self.slots, slot);
        self.reopen();
    }

    /// Takes from the first event of a key what the gate gave it before it was parked.
    pub(super) fn give_up(&mut self, slot: u32) {
        if let Some(gate) = &self.line.gate
            && let Some(head) = self.slots.get_mut(slot).waiting.front_mut()
        {
            self.line.left = gate.gate.leave(&mut head.event);
        }
    }

    /// Returns what an event gave back because of a pause. The caller drops it outside the lock.
    pub(crate) fn take_left(&mut self) -> Option<GivenUp> {
        self.line.left.take()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::Waker;

    use parking_lot::Mutex;
    use tokio::time::Instant;

    use super::*;
    use crate::demand::Account;
    use crate::dispatcher::keyed::{EventId, WaitsFor};
    use crate::gate::Gate;
    use crate::subscription::SubscriberId;

    /// So many places; an event says how many it needs, and an odd key may hold one place at a time.
    #[derive(Debug, Clone, Default)]
    struct Places(Arc<Mutex<(usize, Vec<u32>)>>);

    impl Gate<(u32, usize)> for Places {
        fn concerns(&self, event: &(u32, usize)) -> bool {
            event.1 > 0
        }

        fn enter(&self, event: &mut (u32, usize), _: &Waker) -> Entry {
            let mut held = self.0.lock();
            if held.1.contains(&event.0) {
                return Entry::Waits;
            }
            if held.0 < event.1 {
                return Entry::Full;
            }
            held.0 -= event.1;
            if event.0 % 2 == 1 {
                held.1.push(event.0);
            }
            Entry::Entered
        }
    }

    fn machine(places: usize) -> (Keyed<u32, (u32, usize)>, Places) {
        let gate = Places(Arc::new(Mutex::new((places, Vec::new()))));
        let mut machine = Keyed::new(10);
        machine.set_gate(Gated { gate: Box::new(gate.clone()), waker: Waker::noop().clone() });
        machine.subscribe(SubscriberId(0), Account::new(100, 0, true));
        machine.open(SubscriberId(0));
        (machine, gate)
    }

    fn push(machine: &mut Keyed<u32, (u32, usize)>, key: u32, needs: usize, class: u32) -> EventId {
        machine.push(&key, (key, needs), class, false).unwrap()
    }

    fn granted(machine: &mut Keyed<u32, (u32, usize)>) -> Vec<u32> {
        std::iter::from_fn(|| machine.grant()).map(|grant| grant.event.0).collect()
    }

    #[test]
    fn the_line_is_first_in_first_out_and_what_needs_nothing_goes_past_it() {
        let (mut machine, gate) = machine(2);
        for (key, needs) in [(2, 1), (4, 3), (6, 1), (8, 0), (10, 1)] {
            push(&mut machine, key, needs, 0);
        }
        assert_eq!(granted(&mut machine), [2, 8], "6 and 10 would fit, and do not overtake 4");
        gate.0.lock().0 = 4;
        assert!(!machine.has_grant(), "nobody has said that something is free");
        machine.reopen();
        assert!(machine.has_grant());
        assert_eq!(granted(&mut machine), [4, 6]);
        push(&mut machine, 12, 1, 0);
        gate.0.lock().0 = 1;
        machine.reopen();
        assert_eq!(granted(&mut machine), [10]);
    }

    #[test]
    fn a_key_that_waits_for_itself_holds_nobody_up() {
        let (mut machine, gate) = machine(5);
        push(&mut machine, 1, 1, 0);
        let first = machine.grant().unwrap();
        machine.release(first.held);
        push(&mut machine, 1, 1, 0);
        push(&mut machine, 2, 1, 0);
        assert_eq!(granted(&mut machine), [2]);
        gate.0.lock().1.clear();
        machine.reopen();
        assert_eq!(granted(&mut machine), [1]);
    }

    #[test]
    fn a_key_whose_class_has_no_permit_leaves_the_line() {
        let (mut machine, gate) = machine(0);
        machine.set_class_limit(1, 1);
        push(&mut machine, 2, 1, 1);
        push(&mut machine, 4, 1, 2);
        push(&mut machine, 6, 0, 1);
        let of_class_one = machine.grant().unwrap();
        assert_eq!(of_class_one.event.0, 6);
        gate.0.lock().0 = 5;
        machine.reopen();
        assert_eq!(granted(&mut machine), [4]);
        machine.release(of_class_one.held);
        assert_eq!(granted(&mut machine), [2]);
    }

    #[test]
    fn a_paused_key_is_in_no_line_and_the_next_one_may_need_less() {
        let (mut machine, gate) = machine(1);
        for (key, needs) in [(2, 3), (4, 1), (6, 1)] {
            push(&mut machine, key, needs, 0);
        }
        assert!(granted(&mut machine).is_empty());
        assert_eq!(machine.look(&2).unwrap().waits_for, Some(WaitsFor::Gate));
        assert!(machine.pause(&2, Instant::now()));
        assert_eq!(machine.look(&2).unwrap().waits_for, Some(WaitsFor::Resume));
        assert_eq!(granted(&mut machine), [4]);
        gate.0.lock().0 = 5;
        machine.reopen();
        assert_eq!(granted(&mut machine), [6]);
        push(&mut machine, 2, 0, 0);
        assert!(granted(&mut machine).is_empty(), "paused");
        assert!(machine.resume_key(&2));
        assert_eq!(granted(&mut machine), [2]);
        assert_eq!(gate.0.lock().0, 1);
    }

    #[test]
    fn removing_and_clearing_reach_the_line() {
        let (mut machine, gate) = machine(0);
        let first = push(&mut machine, 2, 1, 0);
        let second = push(&mut machine, 2, 1, 0);
        push(&mut machine, 2, 0, 0);
        let other = push(&mut machine, 4, 1, 0);
        assert!(granted(&mut machine).is_empty());
        assert_eq!(machine.remove(&4, other), Some((4, 1)));
        assert_eq!(machine.remove(&2, second), Some((2, 1)));
        assert!(granted(&mut machine).is_empty(), "the first one waits as before");
        assert_eq!(machine.remove(&2, first), Some((2, 1)));
        assert_eq!(granted(&mut machine), [2], "its next event needs nothing");
        push(&mut machine, 6, 1, 0);
        assert!(granted(&mut machine).is_empty());
        assert_eq!(machine.clear(), [(6, 1)]);
        gate.0.lock().0 = 5;
        machine.reopen();
        assert!(!machine.has_grant());
        assert_eq!(machine.queued(), 0);
    }
}
