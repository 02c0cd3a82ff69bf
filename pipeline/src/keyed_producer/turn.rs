//! Turn: one event and the guards that hold its key.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::dispatcher::keyed::{Held, ParkedKey};
use crate::keyed_producer::KeyedEvent;
use crate::keyed_producer::shared::{KeyedShared, Phase, Timed};

/// One event and the hold on its key.
pub struct Turn<T: KeyedEvent> {
    event: Box<T>,
    waited: Duration,
    hold: Hold<T>,
}

/// A guard on a key: no other event of the key runs while it exists. Dropping it releases the key and
/// gives the permit of the class and the demand of one event back.
pub struct Hold<T: KeyedEvent> {
    shared: Arc<KeyedShared<T>>,
    /// `None` when the key was parked.
    held: Option<Held>,
}

/// A guard on a key that has no demand and no permit of a class. Dropping it releases the key.
pub struct Parked<T: KeyedEvent> {
    shared: Arc<KeyedShared<T>>,
    /// `None` when the key was resumed.
    parked: Option<ParkedKey>,
}

impl<T: KeyedEvent> Turn<T> {
    pub(super) fn new(
        event: Box<T>,
        waited: Duration,
        shared: Arc<KeyedShared<T>>,
        held: Held,
    ) -> Turn<T> {
        Turn { event, waited, hold: Hold { shared, held: Some(held) } }
    }

    /// How long the event was queued. A resumed event counts from when it was resumed.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Returns the event.
    pub fn event(&self) -> &T {
        &self.event
    }

    /// The event, to change it. Its key must stay what it is.
    pub fn event_mut(&mut self) -> &mut T {
        &mut self.event
    }

    /// Returns the event and the hold.
    pub fn into_parts(self) -> (T, Hold<T>) {
        (*self.event, self.hold)
    }
}

impl<T: KeyedEvent> Hold<T> {
    /// Gives the demand and the permit of the class back and keeps the key. Use it for an event that
    /// is tried again later: the event stays the first of its key and occupies no worker.
    pub fn park(mut self) -> Parked<T> {
        let shared = Arc::clone(&self.shared);
        let parked = self.held.take().map(|held| {
            let now = Instant::now();
            let (parked, asked, since) = shared.with_at(now, |state| {
                let (parked, asked) = state.machine.park(held);
                let running = state.machine.kept_parked(parked);
                let since = running.map(|running| (running.since, running.parked = Some(now)).0);
                (parked, asked, since)
            });
            shared.turn_over(asked, since, now);
            parked
        });
        Parked { shared, parked }
    }
}

impl<T: KeyedEvent> Drop for Hold<T> {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            let now = Instant::now();
            let (asked, since) = self.shared.with_at(now, |state| {
                let since = state.machine.kept(held).map(|running| running.since);
                (state.machine.release(held), since)
            });
            self.shared.turn_over(asked, since, now);
        }
    }
}

impl<T: KeyedEvent> Parked<T> {
    pub(super) fn new(shared: Arc<KeyedShared<T>>, parked: ParkedKey) -> Parked<T> {
        Parked { shared, parked: Some(parked) }
    }

    /// Makes `event` the next event of the key. It is granted when there are demand and a permit. After
    /// [`KeyedProducer::end`](crate::KeyedProducer::end) it is dropped.
    pub fn resume(mut self, event: T) {
        let Some(parked) = self.parked.take() else { return };
        let (class, since, event) = (event.class(), Instant::now(), Box::new(event));
        let refused = self.shared.with_at(since, |state| {
            if state.phase == Phase::Ended {
                state.machine.release_parked(parked);
                return (Some(event), None);
            }
            state.machine.resume(parked, Timed { event, since }, class);
            (None, state.machine.take_left())
        });
        drop(refused);
    }
}

impl<T: KeyedEvent> Drop for Parked<T> {
    fn drop(&mut self) {
        if let Some(parked) = self.parked.take() {
            self.shared.with(|state| state.machine.release_parked(parked));
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
