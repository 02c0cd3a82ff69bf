//! Dispatcher: who gets the next event. Pure state machines, without clocks, channels or locks.
//!
//! A dispatcher owns the events that wait and the ledger of every subscriber. It
//! is told what happens (an event came, a subscriber asked, one left) and says what is to be sent.
//!
//! * [`Demand`]: each event to one subscriber, the one with the largest outstanding demand; of equal
//!   ones the one that has waited longest.
//! * [`Broadcast`]: each event to every subscriber; the slowest sets the pace.
//! * [`Partition`]: each event to the one subscriber of its partition, by hash.
//! * `Keyed`: one event in flight per key, first in first out per key, fair between keys; the
//!   machine behind [`KeyedProducer`](crate::KeyedProducer).

use std::collections::VecDeque;

use crate::subscription::{Batch, SubscribeError};

pub(crate) mod pairs;
pub(crate) mod demand;
pub(crate) mod broadcast;
pub(crate) mod partition;
pub(crate) mod keyed;
#[cfg(test)]
mod model;

pub use broadcast::Broadcast;
pub use demand::Demand;
pub use partition::Partition;

/// Names a subscriber of one producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SubscriberId(pub(crate) u64);

/// An event that waits in a dispatcher.
#[derive(Debug)]
pub struct Entry<T> {
    pub(crate) event: T,
    /// The partition it belongs to; 0 for dispatchers that have none.
    pub(crate) partition: u32,
    /// Its place in the producer's buffer, in bytes; `None` when it takes none.
    pub(crate) place: Option<u32>,
}

/// Events that go to one subscriber, and the places they leave.
#[derive(Debug)]
pub struct Grant<T> {
    pub(crate) to: SubscriberId,
    pub(crate) events: Batch<T>,
    pub(crate) places: Places,
}

/// Places in a buffer, summed up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Places {
    pub(crate) events: usize,
    pub(crate) bytes: usize,
}

impl Places {
    pub(crate) fn add(&mut self, place: Option<u32>) {
        if let Some(bytes) = place {
            self.events += 1;
            self.bytes += bytes as usize;
        }
    }
}

/// Takes the first events out of a queue, to be granted together.
pub(crate) fn take<T>(waiting: &mut VecDeque<Entry<T>>, count: usize) -> (Batch<T>, Places) {
    let mut places = Places::default();
    if count == 1
        && let Some(entry) = waiting.pop_front()
    {
        places.add(entry.place);
        return (Batch::One(entry.event), places);
    }
    let events = waiting.drain(..count).map(|entry| {
        places.add(entry.place);
        entry.event
    });
    (Batch::Many(events.collect()), places)
}

/// Decides who gets the next event; see the [module](self). Implemented by the dispatchers of this
/// crate only.
pub trait Dispatcher<T>: sealed::Sealed + Send + 'static {
    /// Which partition an event belongs to: asked before the producer's lock is taken.
    #[doc(hidden)]
    fn router(&self) -> Option<partition::Router<T>> {
        None
    }
    /// A subscriber comes.
    #[doc(hidden)]
    fn subscribe(&mut self, id: SubscriberId, partition: Option<u32>)
    -> Result<(), SubscribeError>;
    /// A subscriber leaves: what it asked for is forgotten. Whether it was there.
    #[doc(hidden)]
    fn cancel(&mut self, id: SubscriberId) -> bool;
    /// A subscriber asks for more.
    #[doc(hidden)]
    fn ask(&mut self, id: SubscriberId, events: usize);
    /// An event comes.
    #[doc(hidden)]
    fn push(&mut self, entry: Entry<T>);
    /// The next grant, if any event waits that somebody asked for.
    #[doc(hidden)]
    fn grant(&mut self) -> Option<Grant<T>>;
    /// How many more events could be granted if they were there.
    #[doc(hidden)]
    fn wanted(&self) -> usize;
    /// How many events wait.
    #[doc(hidden)]
    fn queued(&self) -> usize;
    /// Hands all waiting events back.
    #[doc(hidden)]
    fn clear(&mut self) -> Vec<Entry<T>>;
}

pub(crate) mod sealed {
    /// Keeps the set of dispatchers closed.
    pub trait Sealed {}
}
