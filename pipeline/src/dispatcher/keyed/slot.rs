//! Slot: what the machine knows of one key that has something queued or in flight.

use std::collections::VecDeque;

use crate::dispatcher::keyed::line::{Linked, Links};

/// An event that waits for its key.
#[derive(Debug)]
pub(crate) struct Queued<T> {
    pub(crate) event: T,
    pub(crate) lane: u32,
    /// Not counted against the bound of its key.
    pub(crate) exempt: bool,
}

/// Where a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nowhere: nothing of it is queued or out.
    Free,
    /// Its head waits in the line of this lane.
    InLine(u32),
    /// Its event is out, or it is parked.
    Held,
}

/// One key.
#[derive(Debug)]
pub(crate) struct Slot<K, T> {
    key: Option<K>,
    hash: u64,
    links: Links,
    pub(crate) place: Place,
    pub(crate) waiting: VecDeque<Queued<T>>,
    /// How many of `waiting` count against the bound.
    pub(crate) counted: usize,
}

/// All slots; free ones are used again and keep a small queue allocated.
#[derive(Debug)]
pub(crate) struct Slots<K, T> {
    slots: Vec<Slot<K, T>>,
    free: Vec<u32>,
}

/// A free slot keeps room for this many events, so that a quiet key costs no allocation per event.
const KEPT: usize = 4;

impl<K, T> Default for Slots<K, T> {
    fn default() -> Slots<K, T> {
        Slots { slots: Vec::new(), free: Vec::new() }
    }
}

impl<K: Eq, T> Slots<K, T> {
    pub(crate) fn is(&self, slot: u32, key: &K) -> bool {
        self.slots[slot as usize].key.as_ref() == Some(key)
    }

    pub(crate) fn hash(&self, slot: u32) -> u64 {
        self.slots[slot as usize].hash
    }

    pub(crate) fn get_mut(&mut self, slot: u32) -> &mut Slot<K, T> {
        &mut self.slots[slot as usize]
    }

    pub(crate) fn insert(&mut self, key: K, hash: u64) -> u32 {
        if let Some(at) = self.free.pop() {
            let slot = self.get_mut(at);
            slot.key = Some(key);
            slot.hash = hash;
            return at;
        }
        let at = u32::try_from(self.slots.len()).expect("fewer keys in use than 2^32");
        self.slots.push(Slot {
            key: Some(key),
            hash,
            links: Links::default(),
            place: Place::Free,
            waiting: VecDeque::new(),
            counted: 0,
        });
        at
    }

    /// Frees a slot; returns the hash of its key.
    pub(crate) fn remove(&mut self, at: u32) -> u64 {
        let slot = self.get_mut(at);
        slot.key = None;
        slot.counted = 0;
        if slot.waiting.capacity() > KEPT {
            slot.waiting = VecDeque::new();
        }
        let hash = slot.hash;
        self.free.push(at);
        if self.free.len() == self.slots.len() {
            self.rest();
        }
        hash
    }

    /// Nothing is in use: gives back what a burst has left.
    fn rest(&mut self) {
        const KEPT_SLOTS: usize = 1024;
        if self.slots.len() > KEPT_SLOTS {
            self.slots = Vec::new();
            self.free = Vec::new();
        }
    }

    pub(crate) fn occupied(&self) -> Vec<u32> {
        let occupied = |at: &u32| self.slots[*at as usize].key.is_some();
        (0..u32::try_from(self.slots.len()).unwrap_or(u32::MAX)).filter(occupied).collect()
    }
}

impl<K, T> Linked for Slots<K, T> {
    fn links(&mut self, slot: u32) -> &mut Links {
        &mut self.slots[slot as usize].links
    }
}
