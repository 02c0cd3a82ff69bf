//! Line: the keys whose first event a gate has refused, first in first out.

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::dispatcher::keyed::Keyed;
use crate::dispatcher::keyed::ready_queue::{Linked, ReadyQueue};
use crate::dispatcher::keyed::slot::KeyState;
use crate::gate::{Entry, Gated, GivenUp};

/// How many keys must have left the line before its pace is known.
const KNOWN: u32 = 20;
/// After so many the older half counts no more.
const RECENT: u32 = 256;

/// The line in front of a gate.
#[derive(Debug)]
pub(crate) struct Line<T> {
    gate: Option<Gated<T>>,
    keys: ReadyQueue,
    /// How many keys are in line, for others than the holder of the machine.
    length: Arc<AtomicUsize>,
    /// Since when there is a line, and how many keys it has let through.
    since: Option<Instant>,
    let_through: u32,
    /// Whether the gate has said that nothing is free. Then each further event joins the line without asking.
    is_full: bool,
    /// Classes that hold as much as they may.
    refused: Vec<u32>,
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
            length: Arc::default(),
            since: None,
            let_through: 0,
            is_full: false,
            refused: Vec::new(),
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

    pub(super) fn keys(&self) -> &ReadyQueue {
        &self.keys
    }

    /// How long a key waits that has so many turns of others before it, as the line moves now. Zero while that is not known.
    pub(super) fn wait(&self, turns: usize) -> Duration {
        let Some(since) = self.since.filter(|_| self.let_through >= KNOWN) else {
            return Duration::ZERO;
        };
        let turns = u32::try_from(turns).unwrap_or(u32::MAX);
        since.elapsed().saturating_mul(turns) / self.let_through
    }

    /// Notes that keys have come or gone.
    fn changed(&mut self) {
        self.length.store(self.keys.len(), Ordering::Relaxed);
        if self.keys.is_empty() {
            (self.since, self.let_through) = (None, 0);
        } else {
            self.since.get_or_insert_with(Instant::now);
        }
    }

    /// Notes that the gate has let a key through.
    fn moved(&mut self) {
        self.let_through += 1;
        if self.let_through >= RECENT {
            self.let_through /= 2;
            self.since = self.since.map(|since| since + since.elapsed() / 2);
        }
        self.changed();
    }

    /// Whether [`Keyed::next_in_line`] may find a key.
    pub(crate) fn may_move(&self) -> bool {
        self.may_move && !self.keys.is_empty()
    }
}

impl<K: Clone + Eq + Hash, T, R> Keyed<K, T, R> {
    /// Puts a gate before all grants.
    pub(crate) fn set_gate(&mut self, gate: Gated<T>) {
        self.line = Line { length: self.line.length.clone(), ..Line::before(gate) };
    }

    /// How many keys are in line.
    pub(crate) fn line_length(&self) -> Arc<AtomicUsize> {
        self.line.length.clone()
    }

    /// Notes that the gate may have something to give again.
    pub(crate) fn reopen(&mut self) {
        self.line.is_full = false;
        self.line.may_move = true;
        while let Some(class) = self.line.refused.pop() {
            if let Some(state) = self.classes.get_mut(&class) {
                state.is_refused = false;
            }
            self.class_changed(class);
        }
    }

    /// Notes that a class holds as much as it may. Its key waits as the first of the class, and not in line.
    fn refuse_class(&mut self, slot: u32, class: u32) {
        self.slots.get_mut(slot).state = KeyState::Ready(class);
        let state = self.classes.entry(class).or_default();
        state.is_refused = true;
        state.ready.push_front(&mut self.slots, slot);
        self.line.refused.push(class);
        self.class_changed(class);
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
                self.line.changed();
                self.slots.get_mut(slot).state = KeyState::Ready(class);
                self.classes.entry(class).or_default().ready.push_front(&mut self.slots, slot);
                self.class_changed(class);
                continue;
            }
            let Some(head) = self.slots.get_mut(slot).waiting.front_mut() else { continue };
            let gate = self.line.gate.as_ref();
            match gate.map_or(Entry::Entered, |gate| gate.enter(&mut head.event)) {
                Entry::Entered => {
                    self.line.keys.remove(&mut self.slots, slot);
                    self.line.moved();
                    return Some(slot);
                }
                Entry::Waits => {}
                Entry::ClassFull => {
                    self.line.keys.remove(&mut self.slots, slot);
                    self.line.changed();
                    self.refuse_class(slot, class);
                }
                Entry::Full => {
                    self.line.is_full = true;
                    break;
                }
            }
        }
        self.line.may_move = false;
        None
    }

    /// Whether the first event of a key passes the gate. Otherwise the key joins the line, or goes back to its class when all
    /// of that waits. The key is in no queue.
    pub(super) fn passes(&mut self, slot: u32) -> bool {
        let Some(gate) = &self.line.gate else { return true };
        let Some(head) = self.slots.get_mut(slot).waiting.front_mut() else { return true };
        let is_full = self.line.is_full && gate.gate.concerns(&head.event);
        match if is_full { Entry::Full } else { gate.enter(&mut head.event) } {
            Entry::Entered => return true,
            Entry::Waits => {}
            Entry::ClassFull => {
                let class = head.class;
                self.refuse_class(slot, class);
                return false;
            }
            Entry::Full => self.line.is_full = true,
        }
        self.slots.get_mut(slot).state = KeyState::InLine;
        self.line.keys.push_back(&mut self.slots, slot);
        self.line.changed();
        false
    }

    /// Takes a key out of the line. The next one may need less.
    pub(super) fn leave_line(&mut self, slot: u32) {
        self.line.keys.remove(&mut self.slots, slot);
        self.line.changed();
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
    use std::sync::atomic::AtomicBool;
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

    /// Refuses class 1, keys from 100 on, as long as this is set.
    struct Unfair(Arc<AtomicBool>);

    impl Gate<(u32, usize)> for Unfair {
        fn concerns(&self, event: &(u32, usize)) -> bool {
            event.1 > 0
        }

        fn enter(&self, event: &mut (u32, usize), _: &Waker) -> Entry {
            let is_refused = event.0 >= 100 && self.0.load(Ordering::Relaxed);
            if is_refused { Entry::ClassFull } else { Entry::Entered }
        }
    }

    #[test]
    fn a_class_that_holds_as_much_as_it_may_waits_as_a_whole_and_holds_nobody_up() {
        let mut machine = Keyed::new(10);
        let is_refused = Arc::new(AtomicBool::new(true));
        let gate = Box::new(Unfair(is_refused.clone()));
        machine.set_gate(Gated { gate, waker: Waker::noop().clone() });
        machine.subscribe(SubscriberId(0), Account::new(100, 0, true));
        machine.open(SubscriberId(0));
        for (key, needs, class) in [(100, 1, 1), (2, 1, 2), (101, 0, 1), (4, 1, 2)] {
            push(&mut machine, key, needs, class);
        }
        assert_eq!(granted(&mut machine), [2, 4]);
        assert!(!machine.has_grant());
        assert!(matches!(machine.look(&100).unwrap().waits_for, Some(WaitsFor::Gate)));
        machine.reopen();
        assert_eq!(granted(&mut machine), [], "it is asked again, and refused again");
        is_refused.store(false, Ordering::Relaxed);
        assert_eq!(granted(&mut machine), [], "nobody has said that something is free");
        machine.reopen();
        assert_eq!(granted(&mut machine), [100, 101], "in their order");
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

    #[tokio::test(start_paused = true)]
    async fn the_wait_in_line_is_told_once_its_pace_is_known_and_late_events_leave_its_end() {
        let second = Duration::from_secs(1);
        let (mut machine, gate) = machine(0);
        for key in 0..60 {
            push(&mut machine, 2 * key, 1, 0);
        }
        assert!(granted(&mut machine).is_empty());
        for key in 0..20 {
            assert_eq!(machine.ahead(&999, 0).in_line, Duration::ZERO, "not known yet");
            tokio::time::advance(second).await;
            gate.0.lock().0 = 1;
            machine.reopen();
            assert_eq!(granted(&mut machine), [2 * key]);
        }
        assert_eq!(machine.ahead(&999, 0).in_line, 40 * second);
        let late = machine.shed_late(&999, 0, 100, |ahead, _| ahead.in_line > 30 * second);
        assert_eq!(late, (51..60).rev().map(|key| (2 * key, 1)).collect::<Vec<_>>());
        assert_eq!(machine.line_length().load(Ordering::Relaxed), 31);
        gate.0.lock().0 = 100;
        machine.reopen();
        assert_eq!(granted(&mut machine).len(), 31);
        assert_eq!(machine.ahead(&999, 0).in_line, Duration::ZERO);
        assert_eq!(machine.line_length().load(Ordering::Relaxed), 0);
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
