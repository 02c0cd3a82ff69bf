//! Gated: asks the gate of an event for an event in the queue, and tries the line again when the gate wakes it.

use std::sync::{Arc, Weak};
use std::task::{Wake, Waker};

use super::{KeyedShared, Timed};
use crate::gate::{Entry, Gate, GivenUp};
use crate::keyed_producer::KeyedEvent;

/// Asks the gate of an event for an event in the queue.
pub(super) struct TimedGate<T>(pub(super) Box<dyn Gate<T>>);

impl<T> Gate<Timed<T>> for TimedGate<T> {
    fn concerns(&self, timed: &Timed<T>) -> bool {
        self.0.concerns(&timed.event)
    }

    fn enter(&self, timed: &mut Timed<T>, waker: &Waker) -> Entry {
        self.0.enter(&mut timed.event, waker)
    }

    fn leave(&self, timed: &mut Timed<T>) -> Option<GivenUp> {
        self.0.leave(&mut timed.event)
    }
}

/// Tries the line in front of the gate again when the gate wakes it.
pub(super) struct GateWaker<T: KeyedEvent>(pub(super) Weak<KeyedShared<T>>);

impl<T: KeyedEvent> Wake for GateWaker<T> {
    fn wake(self: Arc<Self>) {
        if let Some(shared) = self.0.upgrade() {
            shared.with(|state| state.machine.reopen());
        }
    }
}
