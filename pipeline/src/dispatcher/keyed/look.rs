//! Look: shows what a key does and what waits for it. It changes nothing.

use std::hash::Hash;
use std::ops::Range;

use tokio::time::Instant;

use crate::dispatcher::keyed::class::Class;
use crate::dispatcher::keyed::slot::{KeyState, Slot};
use crate::dispatcher::keyed::waiting::Waiting;
use crate::dispatcher::keyed::{Held, Keyed, ParkedKey};

/// What the first queued event of a key waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitsFor {
    /// Its key is paused.
    Resume,
    /// Another event of its key is in flight or parked.
    Turn,
    /// Its class has as many events in flight as it may have: its limit, or its [share](crate::share) of the demand.
    Class,
    /// The [gate](crate::gate) refused it: its key is in line.
    Gate,
    /// No subscriber asks for an event, or others are granted first.
    Demand,
}

/// A key that has an event queued or in flight, or is paused.
#[derive(Debug)]
pub(crate) struct KeyLook<'a, K, T, R> {
    /// `None` for a slot that nobody uses.
    pub(crate) key: Option<&'a K>,
    pub(crate) paused: Option<Instant>,
    pub(crate) running: Option<&'a R>,
    pub(crate) waiting: &'a Waiting<T>,
    /// How many of them count against the bound of the key.
    pub(crate) counted: usize,
    /// `None` when nothing is queued.
    pub(crate) waits_for: Option<WaitsFor>,
}

impl<K: Clone + Eq + Hash, T, R> Keyed<K, T, R> {
    /// Keeps something of an event in flight until its turn ends.
    pub(crate) fn keep(&mut self, held: Held, running: R) {
        self.slots.get_mut(held.slot).running = Some(running);
    }

    /// What is kept of an event in flight.
    pub(crate) fn kept(&self, held: Held) -> Option<&R> {
        self.slots.get(held.slot).running.as_ref()
    }

    /// What is kept of a parked event.
    pub(crate) fn kept_parked(&mut self, parked: ParkedKey) -> Option<&mut R> {
        self.slots.get_mut(parked.slot).running.as_mut()
    }

    /// Looks at a key. Returns `None` when it is idle and not paused.
    pub(crate) fn look(&self, key: &K) -> Option<KeyLook<'_, K, T, R>> {
        Some(self.look_at(self.slots.get(self.slot_of(key)?)))
    }

    /// Looks at the keys of these slots. Returns whether there are more slots.
    pub(crate) fn look_from(
        &self,
        slots: Range<u32>,
        mut see: impl FnMut(&KeyLook<'_, K, T, R>),
    ) -> bool {
        let end = slots.end;
        self.slots.used(slots).for_each(|slot| see(&self.look_at(slot)));
        end < self.slots.len()
    }

    fn look_at<'a>(&self, slot: &'a Slot<K, T, R>) -> KeyLook<'a, K, T, R> {
        let waits_for = slot.waiting.front().map(|first| match slot.state {
            KeyState::Held => WaitsFor::Turn,
            _ if slot.paused.is_some() => WaitsFor::Resume,
            KeyState::InLine => WaitsFor::Gate,
            _ if self.classes.get(&first.class).is_some_and(|class| class.is_refused) => {
                WaitsFor::Gate
            }
            _ if self.is_class_full(first.class) => WaitsFor::Class,
            _ => WaitsFor::Demand,
        });
        let (paused, running) = (slot.paused, slot.running.as_ref());
        KeyLook {
            key: slot.key(),
            paused,
            running,
            waiting: &slot.waiting,
            counted: slot.counted,
            waits_for,
        }
    }

    fn is_class_full(&self, class: u32) -> bool {
        let has_permit = self.classes.get(&class).is_none_or(Class::has_permit);
        !has_permit || self.subscribers.has_demand() && !self.may_share(class)
    }
}
