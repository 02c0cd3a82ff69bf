//! Control: looks at a mailbox without stopping it, pauses it, and takes single events out of it.

use std::fmt;

use tokio::time::Instant;

use crate::dispatcher::keyed::{EventId, MAX_PAUSED, WaitsFor};
use crate::keyed_producer::shared::Phase;
use crate::keyed_producer::{KeyedEvent, KeyedProducer, Parked};

/// Most queued events that one look shows.
pub const MAX_LOOK: usize = 1_024;

/// What a key did, and what waited for it, at one moment.
#[derive(Debug, Clone)]
pub struct KeyView<H> {
    /// Since when it is paused.
    pub paused: Option<Instant>,
    /// Its event in flight or parked; its `since` is the time of the grant.
    pub running: Option<EventView<H>>,
    /// When that event was parked.
    pub parked: Option<Instant>,
    /// How many events are queued.
    pub queued: usize,
    /// The first queued events, in order.
    pub first: Vec<EventView<H>>,
    /// What the first queued event waits for. The others wait for their turn.
    pub waits_for: Option<WaitsFor>,
}

impl<H> KeyView<H> {
    /// A key of which nothing is queued, in flight or paused.
    fn idle() -> KeyView<H> {
        let first = Vec::new();
        KeyView { paused: None, running: None, parked: None, queued: 0, first, waits_for: None }
    }
}

/// A copy of what is known of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventView<H> {
    /// Its name.
    pub id: EventId,
    /// Its class.
    pub class: u32,
    /// Since when it waits, or runs.
    pub since: Instant,
    /// Its handle.
    pub handle: H,
}

/// A guard on a paused key. Dropping it releases the key.
#[derive(Debug)]
pub struct HeldPaused<T: KeyedEvent>(
    #[expect(dead_code, reason = "held until it is dropped")] Parked<T>,
);

/// Why a key could not be paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PauseError {
    /// As many keys are paused as may be.
    #[error("{MAX_PAUSED} keys are paused already")]
    TooMany,
    /// The producer is closed.
    #[error("the stage is closed")]
    Closed,
}

/// What [`KeyedProducer::cancel`] found of an event.
pub enum Cancelled<T: KeyedEvent> {
    /// It was queued. It is removed and will not run.
    Queued(T),
    /// Its turn runs or is parked, and goes on until its task ends it: tell it through the handle.
    Running(T::Handle),
}

/// Does not show the event, which may be of any type.
impl<T: KeyedEvent> fmt::Debug for Cancelled<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cancelled::Queued(_) => "Queued",
            Cancelled::Running(_) => "Running",
        })
    }
}

impl<T: KeyedEvent> KeyedProducer<T> {
    /// Removes an event if it is still queued, and returns it. It does not look at the other events of its key.
    pub fn remove(&self, key: &T::Key, id: EventId) -> Option<T> {
        self.shared.with(|state| state.machine.remove(key, id)).map(|timed| *timed.event)
    }

    /// Removes an event if it is queued, or returns its handle if its turn runs or is parked. Returns `None` when it
    /// is neither: its turn is over.
    pub fn cancel(&self, key: &T::Key, id: EventId) -> Option<Cancelled<T>> {
        self.shared.with(|state| {
            if let Some(timed) = state.machine.remove(key, id) {
                return Some(Cancelled::Queued(*timed.event));
            }
            let running = state.machine.look(key)?.running.filter(|running| running.id == id)?;
            Some(Cancelled::Running(running.handle.clone()))
        })
    }

    /// Pauses a key: nothing of the key is granted until it is [resumed](KeyedProducer::resume). An event in flight goes
    /// on. A queued event leaves the line of the [gate](crate::gate). Events queue up to the bound of the key; other keys
    /// are not held up. A key without events can be paused, and a paused key stays paused.
    ///
    /// # Errors
    /// When too many keys are paused, or the producer is closed. Closing it ends all pauses.
    pub fn pause(&self, key: &T::Key) -> Result<(), PauseError> {
        let now = Instant::now();
        let (paused, left) = self.shared.with_at(now, |state| {
            let paused = match state.phase {
                Phase::Open if state.machine.pause(key, now) => Ok(()),
                Phase::Open => Err(PauseError::TooMany),
                Phase::Closed | Phase::Ended => Err(PauseError::Closed),
            };
            (paused, state.machine.take_left())
        });
        drop(left);
        paused
    }

    /// Ends the pause of a key: it gets its turn behind the other keys. Returns whether it was paused.
    pub fn resume(&self, key: &T::Key) -> bool {
        self.shared.with(|state| state.machine.resume_key(key))
    }

    /// Holds a paused key, so that something can be done that must not run beside a turn of it. `None` when the key is not
    /// paused, or a turn of it runs or is parked. The key stays held when its pause ends meanwhile.
    pub fn hold_paused(&self, key: &T::Key) -> Option<HeldPaused<T>> {
        let parked = self.shared.with(|state| state.machine.hold_paused(key))?;
        Some(HeldPaused(Parked::new(self.shared.clone(), parked)))
    }

    /// Looks at a key without stopping it. Shows the first `most` queued events, at most [`MAX_LOOK`].
    pub fn look(&self, key: &T::Key, most: usize) -> KeyView<T::Handle> {
        let state = self.shared.state.lock();
        let Some(look) = state.machine.look(key) else { return KeyView::idle() };
        let running = look.running.map(|running| EventView {
            id: running.id,
            class: running.class,
            since: running.since,
            handle: running.handle.clone(),
        });
        let first = look.waiting.iter().take(most.min(MAX_LOOK)).map(|queued| EventView {
            id: queued.id,
            class: queued.class,
            since: queued.event.since,
            handle: queued.event.event.handle(),
        });
        KeyView {
            paused: look.paused,
            running,
            parked: look.running.and_then(|running| running.parked),
            queued: look.waiting.len(),
            first: first.collect(),
            waits_for: look.waits_for,
        }
    }
}
