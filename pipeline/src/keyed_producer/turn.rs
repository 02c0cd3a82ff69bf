//! Turn: one event with its key, and the guards that hold the key.

use std::fmt;
use std::sync::Arc;

use crate::dispatcher::keyed::{Held, ParkedKey};
use crate::keyed_producer::KeyedEvent;
use crate::keyed_producer::cell::{Cell, Phase};

/// One event, with its key held.
pub struct Turn<T: KeyedEvent> {
    event: T,
    hold: Hold<T>,
}

/// A key that is held. Dropping it releases the key, its lane's permit and the demand of one event.
pub struct Hold<T: KeyedEvent> {
    cell: Arc<Cell<T>>,
    /// `None` once given away.
    held: Option<Held>,
}

/// A key that is held without demand and without a permit of its lane. Dropping it releases the key.
pub struct Parked<T: KeyedEvent> {
    cell: Arc<Cell<T>>,
    /// `None` once given away.
    parked: Option<ParkedKey>,
}

impl<T: KeyedEvent> Turn<T> {
    pub(super) fn new(event: T, cell: Arc<Cell<T>>, held: Held) -> Turn<T> {
        Turn { event, hold: Hold { cell, held: Some(held) } }
    }

    /// The event.
    pub fn event(&self) -> &T {
        &self.event
    }

    /// The event, to change it. Its key must stay what it is.
    pub fn event_mut(&mut self) -> &mut T {
        &mut self.event
    }

    /// Takes the event and its key apart.
    pub fn into_parts(self) -> (T, Hold<T>) {
        (self.event, self.hold)
    }
}

impl<T: KeyedEvent> Hold<T> {
    /// Gives the demand and the lane's permit back and keeps the key: for an event that will be tried
    /// again, so that it neither loses its place nor occupies a worker.
    pub fn park(mut self) -> Parked<T> {
        let cell = Arc::clone(&self.cell);
        let parked = self.held.take().map(|held| {
            let (parked, asked) = cell.with(|state| state.machine.park(held));
            cell.metrics.asked(asked);
            parked
        });
        Parked { cell, parked }
    }
}

impl<T: KeyedEvent> Drop for Hold<T> {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            let asked = self.cell.with(|state| state.machine.release(held));
            self.cell.metrics.asked(asked);
        }
    }
}

impl<T: KeyedEvent> Parked<T> {
    /// Makes this the next event of its key, granted again when there is demand and a permit. After
    /// [`KeyedProducer::end`](crate::KeyedProducer::end) it is dropped.
    pub fn resume(mut self, event: T) {
        let Some(parked) = self.parked.take() else { return };
        let lane = event.lane();
        let refused = self.cell.with(|state| {
            if state.phase == Phase::Ended {
                state.machine.release_parked(parked);
                return Some(event);
            }
            state.machine.resume(parked, event, lane);
            None
        });
        drop(refused);
    }
}

impl<T: KeyedEvent> Drop for Parked<T> {
    fn drop(&mut self) {
        if let Some(parked) = self.parked.take() {
            self.cell.with(|state| state.machine.release_parked(parked));
        }
    }
}

macro_rules! opaque {
    ($($name:ident),*) => {$(
        impl<T: KeyedEvent> fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    )*};
}
opaque!(Turn, Hold, Parked);
