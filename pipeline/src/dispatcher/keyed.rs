//! Keyed: one event in flight per key, first in first out per key, fair between keys.
//!
//! The machine has one *slot* per key that has an event queued or in flight, or is paused. A key is in one of four
//! states: *idle*, *ready* (its first event may be granted), *in line* (its first event was refused by
//! the [gate](crate::gate)), or *held* (its event is in flight or parked). A *paused* key is idle or held. Each event
//! belongs to a *class*, which may limit its events in flight. A
//! class has a queue of its ready keys. Classes that can grant take turns: they are in *rotation*.
//!
//! A grant needs three things at once: demand of a subscriber, a permit of the class, and a ready key. With a gate it needs
//! a fourth: what the gate gives. When several classes have a limit, none of them takes all demand: see
//! [`share`](crate::share).

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hash};

use hashbrown::hash_table::Entry as TableEntry;
use hashbrown::{HashMap, HashTable};

use crate::demand::Account;
use crate::randomness::Seeded;
use crate::subscription::SubscriberId;

mod class;
mod grant;
mod late;
mod line;
mod look;
mod pause;
mod remove;
mod ready_queue;
mod slot;
mod subscribers;
mod waiting;
mod take;
#[cfg(test)]
mod model;
#[cfg(test)]
mod properties;

pub use late::Ahead;
pub use look::WaitsFor;
pub use pause::MAX_PAUSED;
pub use waiting::EventId;

use class::Class;
use line::Line;
use slot::{KeyState, Slots};
use subscribers::Subscribers;
use waiting::Queued;

/// How many classes without a limit and without events are kept.
const KEPT_CLASSES: usize = 64;

/// Proof that a key is held by an event in flight. [`Keyed::release`] needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    slot: u32,
    id: EventId,
    class: u32,
    subscriber: SubscriberId,
}

impl Held {
    /// The name of the event.
    pub(crate) fn id(self) -> EventId {
        self.id
    }
}

/// Proof that a key is parked: held without demand and without a permit of its class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ParkedKey {
    slot: u32,
    id: EventId,
}

/// An event and the subscriber it is granted to.
#[derive(Debug)]
pub(crate) struct KeyedGrant<T> {
    pub(crate) to: SubscriberId,
    pub(crate) held: Held,
    pub(crate) event: T,
}

/// The machine; see the [module](self). It keeps an `R` of each event in flight or parked.
#[derive(Debug)]
pub(crate) struct Keyed<K, T, R = ()> {
    /// Finds the slot of a key.
    table: HashTable<u32>,
    hasher: Seeded,
    slots: Slots<K, T, R>,
    classes: HashMap<u32, Class>,
    /// How many of them have a limit.
    limited: usize,
    /// Classes that can grant, each once, in the order of their turns.
    rotation: VecDeque<u32>,
    line: Line<T>,
    subscribers: Subscribers,
    per_key: usize,
    /// The number of the next event.
    next: u64,
    queued: usize,
    in_flight: usize,
    parked: usize,
    /// How many keys are paused.
    paused: usize,
}

impl<K: Clone + Eq + Hash, T, R> Keyed<K, T, R> {
    /// How many events may be queued per key.
    pub(crate) fn per_key(&self) -> usize {
        self.per_key
    }

    /// `per_key` bounds the queue of each key.
    pub(crate) fn new(per_key: usize) -> Keyed<K, T, R> {
        Keyed {
            table: HashTable::new(),
            hasher: Seeded::default(),
            slots: Slots::default(),
            classes: HashMap::new(),
            limited: 0,
            rotation: VecDeque::new(),
            line: Line::default(),
            subscribers: Subscribers::default(),
            per_key,
            next: 0,
            queued: 0,
            in_flight: 0,
            parked: 0,
            paused: 0,
        }
    }

    pub(crate) fn queued(&self) -> usize {
        self.queued
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub(crate) fn parked(&self) -> usize {
        self.parked
    }

    /// How many events are asked for and not granted.
    pub(crate) fn demand(&self) -> usize {
        self.subscribers.demand()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.queued == 0 && self.in_flight == 0 && self.parked == 0
    }

    /// Queues an event behind those of its key. An exempt event does not count against the bound of its
    /// key. Returns the event when the queue is full.
    pub(crate) fn push(
        &mut self,
        key: &K,
        event: T,
        class: u32,
        exempt: bool,
    ) -> Result<EventId, T> {
        let hash = self.hasher.hash_one(key);
        let slots = &mut self.slots;
        let entry = self.table.entry(hash, |at| slots.is(*at, key), |at| slots.hash(*at));
        let slot = match entry {
            TableEntry::Occupied(found) => *found.get(),
            TableEntry::Vacant(_) if self.per_key == 0 && !exempt => return Err(event),
            TableEntry::Vacant(free) => {
                let slot = slots.insert(key.clone(), hash);
                free.insert(slot);
                slot
            }
        };
        let queue = self.slots.get_mut(slot);
        if !exempt && queue.counted >= self.per_key {
            return Err(event);
        }
        queue.counted += usize::from(!exempt);
        let id = EventId(self.next);
        self.next += 1;
        queue.waiting.push_back(Queued { id, event, class, exempt });
        self.queued += 1;
        if queue.state == KeyState::Idle {
            self.make_ready(slot);
        }
        Ok(id)
    }

    /// Limits the events of a class in flight. `usize::MAX` removes the limit. Returns whether several classes have one.
    pub(crate) fn set_class_limit(&mut self, class: u32, in_flight: usize) -> bool {
        let state = self.classes.entry(class).or_default();
        let was_limited = state.is_limited();
        state.limit = in_flight;
        self.limited = self.limited + usize::from(state.is_limited()) - usize::from(was_limited);
        self.class_changed(class);
        self.is_shared()
    }

    /// How many events of a class are in flight.
    pub(crate) fn in_flight_of(&self, class: u32) -> usize {
        self.classes.get(&class).map_or(0, |class| class.in_flight)
    }

    /// How many events of a class may be in flight; `usize::MAX`: there is no limit.
    pub(crate) fn limit_of(&self, class: u32) -> usize {
        self.classes.get(&class).map_or(usize::MAX, |class| class.limit)
    }

    /// Whether the demand is shared between several classes.
    fn is_shared(&self) -> bool {
        self.limited > 1
    }

    pub(crate) fn subscribe(&mut self, id: SubscriberId, account: Account) {
        self.subscribers.add(id, account);
    }

    /// Records the first demand of a subscriber. Returns how much.
    pub(crate) fn open(&mut self, id: SubscriberId) -> usize {
        self.subscribers.update(id, Account::open)
    }

    /// Records demand that a program asks for by hand, at most what the subscriber's maximum leaves. Returns how much.
    pub(crate) fn ask(&mut self, id: SubscriberId, events: usize) -> usize {
        self.subscribers.update(id, |account| account.ask(events))
    }

    /// Forgets a subscriber and its demand. The keys it holds stay held until they are released.
    pub(crate) fn cancel(&mut self, id: SubscriberId) -> bool {
        self.subscribers.remove(id)
    }

    /// Releases a key: it becomes ready behind the other keys, or idle. Gives the permit of its class
    /// and the demand of one event back. Returns how much the subscriber asks for again.
    pub(crate) fn release(&mut self, held: Held) -> usize {
        let asked = self.give_back(held);
        self.requeue(held.slot);
        asked
    }

    /// Gives permit and demand back and keeps the key. Returns how much the subscriber asks for again.
    pub(crate) fn park(&mut self, held: Held) -> (ParkedKey, usize) {
        self.parked += 1;
        (ParkedKey { slot: held.slot, id: held.id }, self.give_back(held))
    }

    /// Makes an event the first of a parked key, and the key ready.
    pub(crate) fn resume(&mut self, parked: ParkedKey, event: T, class: u32) {
        self.parked -= 1;
        let queue = self.slots.get_mut(parked.slot);
        queue.waiting.push_front(Queued { id: parked.id, event, class, exempt: true });
        self.queued += 1;
        if queue.paused.is_some() {
            self.give_up(parked.slot);
        }
        self.requeue(parked.slot);
    }

    /// Releases a parked key.
    pub(crate) fn release_parked(&mut self, parked: ParkedKey) {
        self.parked -= 1;
        self.requeue(parked.slot);
    }

    fn give_back(&mut self, held: Held) -> usize {
        self.in_flight -= 1;
        if let Some(class) = self.classes.get_mut(&held.class) {
            class.in_flight -= 1;
        }
        self.class_changed(held.class);
        self.subscribers.update(held.subscriber, |account| account.give_back(1))
    }

    /// Makes a key that is no longer held ready again, or removes its slot when nothing needs it.
    fn requeue(&mut self, slot: u32) {
        let queue = self.slots.get_mut(slot);
        queue.state = KeyState::Idle;
        queue.running = None;
        if queue.waiting.is_empty() && queue.paused.is_none() {
            let hash = self.slots.remove(slot);
            if let Ok(entry) = self.table.find_entry(hash, |at| *at == slot) {
                entry.remove();
            }
        } else {
            self.make_ready(slot);
        }
    }

    fn make_ready(&mut self, slot: u32) {
        let queue = self.slots.get_mut(slot);
        if queue.paused.is_some() {
            return;
        }
        let Some(class) = queue.waiting.front().map(|head| head.class) else { return };
        queue.state = KeyState::Ready(class);
        self.classes.entry(class).or_default().ready.push_back(&mut self.slots, slot);
        self.class_changed(class);
    }

    fn make_unready(&mut self, slot: u32, class: u32) {
        if let Some(state) = self.classes.get_mut(&class) {
            state.ready.remove(&mut self.slots, slot);
        }
        self.class_changed(class);
    }

    /// Updates `rotation` and the set of classes after a change of one class.
    fn class_changed(&mut self, class: u32) {
        let Some(state) = self.classes.get_mut(&class) else { return };
        if state.can_grant() {
            if !state.in_rotation {
                state.in_rotation = true;
                self.rotation.push_back(class);
            }
            return;
        }
        if state.in_rotation {
            state.in_rotation = false;
            self.rotation.retain(|other| *other != class);
        }
        // A few empty classes are kept, so that a class of rare events is not made again for each.
        if state.is_forgettable() && self.classes.len() > KEPT_CLASSES {
            self.classes.remove(&class);
        }
    }
}
