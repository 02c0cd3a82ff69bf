//! Slot: the state of one key that has an event queued or in flight.

use std::ops::Range;

use tokio::time::Instant;

use crate::dispatcher::keyed::ready_queue::{Linked, Links};
use crate::dispatcher::keyed::waiting::Waiting;

/// What a key does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyState {
    /// None of its events is in flight or may be granted: none is queued, or the key is paused.
    Idle,
    /// Its first event may be granted; it is in the ready queue of this class.
    Ready(u32),
    /// The gate refused its first event; it is in the line.
    InLine,
    /// Its event is in flight or parked.
    Held,
}

/// One key.
#[derive(Debug)]
pub(crate) struct Slot<K, T, R> {
    key: Option<K>,
    hash: u64,
    links: Links,
    pub(crate) state: KeyState,
    pub(crate) waiting: Waiting<T>,
    /// How many events of `waiting` count against the bound.
    pub(crate) counted: usize,
    /// What is kept of its event in flight or parked.
    pub(crate) running: Option<R>,
    /// Since when it is paused.
    pub(crate) paused: Option<Instant>,
}

impl<K, T, R> Slot<K, T, R> {
    /// The key that uses it.
    pub(crate) fn key(&self) -> Option<&K> {
        self.key.as_ref()
    }
}

/// All slots. Free slots are used again and keep a small queue allocated.
#[derive(Debug)]
pub(crate) struct Slots<K, T, R> {
    slots: Vec<Slot<K, T, R>>,
    free: Vec<u32>,
}

/// A free slot keeps memory for this many events, so that a key with rare events does not allocate for
/// each of them.
const KEPT: usize = 4;

impl<K, T, R> Default for Slots<K, T, R> {
    fn default() -> Slots<K, T, R> {
        Slots { slots: Vec::new(), free: Vec::new() }
    }
}

impl<K: Eq, T, R> Slots<K, T, R> {
    pub(crate) fn is(&self, slot: u32, key: &K) -> bool {
        self.slots[slot as usize].key.as_ref() == Some(key)
    }

    pub(crate) fn hash(&self, slot: u32) -> u64 {
        self.slots[slot as usize].hash
    }

    pub(crate) fn get(&self, slot: u32) -> &Slot<K, T, R> {
        &self.slots[slot as usize]
    }

    /// How many slots there are, free ones too.
    pub(crate) fn len(&self) -> u32 {
        u32::try_from(self.slots.len()).unwrap_or(u32::MAX)
    }

    /// The slots of this range that are not free.
    pub(crate) fn used(&self, range: Range<u32>) -> impl Iterator<Item = &Slot<K, T, R>> {
        let (start, end) = (range.start as usize, (range.end as usize).min(self.slots.len()));
        let slots = self.slots.get(start..end).unwrap_or_default();
        slots.iter().filter(|slot| slot.key.is_some())
    }

    pub(crate) fn get_mut(&mut self, slot: u32) -> &mut Slot<K, T, R> {
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
            state: KeyState::Idle,
            waiting: Waiting::default(),
            counted: 0,
            running: None,
            paused: None,
        });
        at
    }

    /// Frees a slot and returns the hash of its key.
    pub(crate) fn remove(&mut self, at: u32) -> u64 {
        let slot = self.get_mut(at);
        slot.key = None;
        slot.counted = 0;
        if slot.waiting.capacity() > KEPT {
            slot.waiting = Waiting::default();
        }
        let hash = slot.hash;
        self.free.push(at);
        if self.free.len() == self.slots.len() {
            self.shrink();
        }
        hash
    }

    /// Frees the memory that a burst left. No slot is in use.
    fn shrink(&mut self) {
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

impl<K, T, R> Linked for Slots<K, T, R> {
    fn links(&mut self, slot: u32) -> &mut Links {
        &mut self.slots[slot as usize].links
    }
}
