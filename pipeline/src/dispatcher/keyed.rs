//! Keyed: one event in flight per key, first in first out per key, fair between keys.
//!
//! The machine holds one *slot* per key that has something queued or in flight. A slot is free (then
//! it does not exist), in the *line* of a lane (its head waits to be granted), or held (its event is
//! out, or parked). A *lane* is a class of events with its own limit of events in flight; lanes with
//! a key in line and a permit to spare take turns. An event is granted when three things are there
//! at once: a subscriber's demand, a permit of its lane, and its key.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hash};

use hashbrown::hash_table::Entry as TableEntry;
use hashbrown::{DefaultHashBuilder, HashMap, HashTable};

use crate::demand::Account;
use crate::dispatcher::SubscriberId;
use crate::dispatcher::pairs::Pairs;

mod lane;
mod line;
mod slot;
#[cfg(test)]
mod model;

use lane::Lane;
use slot::{Place, Queued, Slots};

/// Lanes without a limit and without events that are kept all the same.
const KEPT_LANES: usize = 64;

/// A key that is out: what [`Keyed::release`] needs to take it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    slot: u32,
    lane: u32,
    subscriber: SubscriberId,
}

/// A key that is parked: held without demand or lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ParkedKey {
    slot: u32,
}

/// An event that goes to a subscriber.
#[derive(Debug)]
pub(crate) struct KeyedGrant<T> {
    pub(crate) to: SubscriberId,
    pub(crate) held: Held,
    pub(crate) event: T,
}

/// The machine; see the [module](self).
#[derive(Debug)]
pub(crate) struct Keyed<K, T> {
    /// From a key to its slot.
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
    slots: Slots<K, T>,
    lanes: HashMap<u32, Lane>,
    /// Lanes with a key in line and a permit to spare, each once, in turn.
    turns: VecDeque<u32>,
    pairs: Pairs,
    accounts: Vec<(SubscriberId, Account)>,
    per_key: usize,
    queued: usize,
    in_flight: usize,
    parked: usize,
}

impl<K: Clone + Eq + Hash, T> Keyed<K, T> {
    /// `per_key` bounds the queue of each key.
    pub(crate) fn new(per_key: usize) -> Keyed<K, T> {
        Keyed {
            table: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            slots: Slots::default(),
            lanes: HashMap::new(),
            turns: VecDeque::new(),
            pairs: Pairs::default(),
            accounts: Vec::new(),
            per_key,
            queued: 0,
            in_flight: 0,
            parked: 0,
        }
    }

    pub(crate) fn queued(&self) -> usize {
        self.queued
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.queued == 0 && self.in_flight == 0 && self.parked == 0
    }

    /// Queues an event behind those of its key. An exempt one is not counted against the key's bound.
    /// Hands it back when the key's queue is full.
    pub(crate) fn push(&mut self, key: &K, event: T, lane: u32, exempt: bool) -> Result<(), T> {
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
        queue.waiting.push_back(Queued { event, lane, exempt });
        self.queued += 1;
        if queue.place == Place::Free {
            self.join(slot);
        }
        Ok(())
    }

    /// Takes those events of a key out of its queue that `is_gone` names.
    pub(crate) fn sweep(&mut self, key: &K, is_gone: impl Fn(&T) -> bool) -> Vec<T> {
        let slots = &self.slots;
        let hash = self.hasher.hash_one(key);
        let Some(&slot) = self.table.find(hash, |at| slots.is(*at, key)) else {
            return Vec::new();
        };
        let queue = self.slots.get_mut(slot);
        let mut gone = Vec::new();
        for _ in 0..queue.waiting.len() {
            let Some(queued) = queue.waiting.pop_front() else { break };
            if is_gone(&queued.event) {
                queue.counted -= usize::from(!queued.exempt);
                gone.push(queued.event);
            } else {
                queue.waiting.push_back(queued);
            }
        }
        self.queued -= gone.len();
        // The head may be another one now, of another lane.
        if let Place::InLine(lane) = queue.place {
            let head = queue.waiting.front().map(|head| head.lane);
            if head != Some(lane) {
                self.leave(slot, lane);
                self.settle(slot);
            }
        }
        gone
    }

    /// Bounds the events in flight of a lane; `usize::MAX` forgets the limit.
    pub(crate) fn set_lane_limit(&mut self, lane: u32, in_flight: usize) {
        self.lanes.entry(lane).or_default().limit = in_flight;
        self.lane_changed(lane);
    }

    pub(crate) fn subscribe(&mut self, id: SubscriberId, account: Account) {
        self.pairs.subscribe(id);
        self.accounts.push((id, account));
    }

    /// Books a subscriber's first demand; returns how much.
    pub(crate) fn open(&mut self, id: SubscriberId) -> usize {
        self.book(id, Account::open)
    }

    /// Books demand asked for by hand, clipped to the subscriber's maximum; returns how much.
    pub(crate) fn ask(&mut self, id: SubscriberId, events: usize) -> usize {
        self.book(id, |account| account.ask(events))
    }

    /// Forgets a subscriber and its demand. What it holds stays held until released.
    pub(crate) fn cancel(&mut self, id: SubscriberId) -> bool {
        self.accounts.retain(|(other, _)| *other != id);
        self.pairs.cancel(id)
    }

    fn book(&mut self, id: SubscriberId, note: impl FnOnce(&mut Account) -> usize) -> usize {
        let account = self.accounts.iter_mut().find(|(other, _)| *other == id);
        let ask = account.map_or(0, |(_, account)| note(account));
        if ask > 0 {
            self.pairs.ask(id, ask);
        }
        ask
    }

    /// Whether [`grant`](Keyed::grant) has one to give.
    pub(crate) fn has_grant(&self) -> bool {
        !self.turns.is_empty() && self.pairs.largest() > 0
    }

    /// The next event that has demand, a permit of its lane, and its key.
    pub(crate) fn grant(&mut self) -> Option<KeyedGrant<T>> {
        if self.pairs.largest() == 0 {
            return None;
        }
        let lane = self.turns.pop_front()?;
        let state = self.lanes.get_mut(&lane)?;
        state.in_turns = false;
        let slot = state.line.first()?;
        let (to, _) = self.pairs.grant(1)?;
        state.line.leave(&mut self.slots, slot);
        state.in_flight += 1;
        let queue = self.slots.get_mut(slot);
        queue.place = Place::Held;
        let queued = queue.waiting.pop_front()?;
        queue.counted -= usize::from(!queued.exempt);
        self.queued -= 1;
        self.in_flight += 1;
        self.lane_changed(lane);
        Some(KeyedGrant { to, held: Held { slot, lane, subscriber: to }, event: queued.event })
    }

    /// Takes a key back: its next event gets in line behind the other keys, its lane has a permit
    /// again, and its subscriber one more done. Returns what the subscriber asks for.
    pub(crate) fn release(&mut self, held: Held) -> usize {
        let asked = self.give_up_slot(held);
        self.settle(held.slot);
        asked
    }

    /// Gives demand and lane back and keeps the key. Returns what the subscriber asks for.
    pub(crate) fn park(&mut self, held: Held) -> (ParkedKey, usize) {
        self.parked += 1;
        (ParkedKey { slot: held.slot }, self.give_up_slot(held))
    }

    /// Puts an event at the head of a parked key and lets the key get in line.
    pub(crate) fn resume(&mut self, parked: ParkedKey, event: T, lane: u32) {
        self.parked -= 1;
        let queue = self.slots.get_mut(parked.slot);
        queue.waiting.push_front(Queued { event, lane, exempt: true });
        self.queued += 1;
        self.settle(parked.slot);
    }

    /// Takes a parked key back without an event.
    pub(crate) fn release_parked(&mut self, parked: ParkedKey) {
        self.parked -= 1;
        self.settle(parked.slot);
    }

    /// Hands all queued events back and forgets all demand.
    pub(crate) fn clear(&mut self) -> Vec<T> {
        self.turns.clear();
        self.pairs = Pairs::default();
        self.accounts.clear();
        self.queued = 0;
        let mut all = Vec::new();
        for slot in self.slots.occupied() {
            let queue = self.slots.get_mut(slot);
            queue.counted = 0;
            all.extend(queue.waiting.drain(..).map(|queued| queued.event));
            if let Place::InLine(lane) = queue.place {
                self.leave(slot, lane);
                self.settle(slot);
            }
        }
        all
    }

    fn give_up_slot(&mut self, held: Held) -> usize {
        self.in_flight -= 1;
        if let Some(lane) = self.lanes.get_mut(&held.lane) {
            lane.in_flight -= 1;
        }
        self.lane_changed(held.lane);
        self.book(held.subscriber, |account| account.give_back(1))
    }

    /// Puts a slot where it belongs that is in no line and whose key is free: in line or away.
    fn settle(&mut self, slot: u32) {
        let queue = self.slots.get_mut(slot);
        queue.place = Place::Free;
        if queue.waiting.is_empty() {
            let hash = self.slots.remove(slot);
            if let Ok(entry) = self.table.find_entry(hash, |at| *at == slot) {
                entry.remove();
            }
        } else {
            self.join(slot);
        }
    }

    fn join(&mut self, slot: u32) {
        let queue = self.slots.get_mut(slot);
        let Some(lane) = queue.waiting.front().map(|head| head.lane) else { return };
        queue.place = Place::InLine(lane);
        self.lanes.entry(lane).or_default().line.join(&mut self.slots, slot);
        self.lane_changed(lane);
    }

    fn leave(&mut self, slot: u32, lane: u32) {
        if let Some(state) = self.lanes.get_mut(&lane) {
            state.line.leave(&mut self.slots, slot);
        }
        self.lane_changed(lane);
    }

    /// Keeps `turns` and the set of lanes in step with a lane that changed.
    fn lane_changed(&mut self, lane: u32) {
        let Some(state) = self.lanes.get_mut(&lane) else { return };
        if state.is_ready() {
            if !state.in_turns {
                state.in_turns = true;
                self.turns.push_back(lane);
            }
            return;
        }
        if state.in_turns {
            state.in_turns = false;
            self.turns.retain(|other| *other != lane);
        }
        // A few quiet lanes are kept, so that a lane of single events is not made anew for each.
        if state.is_forgettable() && self.lanes.len() > KEPT_LANES {
            self.lanes.remove(&lane);
        }
    }
}
