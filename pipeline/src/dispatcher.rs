//! Dispatcher: chooses who gets the next event. Pure state machines without clocks, channels or locks.
//!
//! A dispatcher owns the waiting events and the ledger of every subscriber. It is told what happened
//! (an event came, a subscriber asked or left) and returns what to send.
//!
//! * [`Demand`]: each event to one subscriber, the one with the largest outstanding demand. Of equal
//!   ones, the one that has waited longest.
//! * [`Broadcast`]: each event to every subscriber. The slowest sets the pace.
//! * [`Partition`]: each event to the one subscriber of its partition, by hash.
//! * `Keyed`: one event in flight per key, first in first out per key, fair between keys. It is the
//!   machine behind [`KeyedProducer`](crate::KeyedProducer).

use std::collections::VecDeque;

use tokio::time::Instant;

use crate::sealed::Sealed;
use crate::subscription::{Batch, SubscribeError, SubscriberId};

pub(crate) mod ledgers;
pub(crate) mod demand;
pub(crate) mod broadcast;
pub(crate) mod partition;
pub(crate) mod keyed;
#[cfg(test)]
mod model;

pub use broadcast::Broadcast;
pub use demand::Demand;
pub use partition::Partition;

/// An event that waits in a dispatcher.
#[derive(Debug)]
pub struct Entry<T> {
    pub(crate) event: T,
    /// Its partition; 0 for dispatchers without partitions.
    pub(crate) partition: u32,
    /// The bytes of its place in the producer's buffer; `None` when it has no place there.
    pub(crate) place: Option<u32>,
    /// When it came.
    pub(crate) since: Instant,
}

/// Is told when an event came that is granted now, once.
pub type Granted<'a> = &'a mut dyn FnMut(Instant);

/// Events granted to one subscriber, and the places they free.
#[derive(Debug)]
pub struct Grant<T> {
    pub(crate) to: SubscriberId,
    pub(crate) events: Batch<T>,
    pub(crate) places: Places,
}

/// A sum of places in a buffer.
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

/// Removes the first events of a queue, to grant them together.
pub(crate) fn take<T>(
    waiting: &mut VecDeque<Entry<T>>,
    count: usize,
    granted: Granted<'_>,
) -> (Batch<T>, Places) {
    let mut places = Places::default();
    if count == 1
        && let Some(entry) = waiting.pop_front()
    {
        places.add(entry.place);
        granted(entry.since);
        return (Batch::One(entry.event), places);
    }
    let events = waiting.drain(..count).map(|entry| {
        places.add(entry.place);
        granted(entry.since);
        entry.event
    });
    (Batch::Many(events.collect()), places)
}

/// Chooses who gets the next event; see the [module](self). Only this crate implements it.
pub trait Dispatcher<T>: Sealed + Send + 'static {
    /// Returns the function that names the partition of an event. It is called without the producer's lock.
    #[doc(hidden)]
    fn router(&self) -> Option<partition::Router<T>> {
        None
    }
    /// Adds a subscriber.
    #[doc(hidden)]
    fn subscribe(&mut self, id: SubscriberId, partition: Option<u32>)
    -> Result<(), SubscribeError>;
    /// Removes a subscriber and forgets its demand. Returns whether it was there.
    #[doc(hidden)]
    fn cancel(&mut self, id: SubscriberId) -> bool;
    /// Records demand of a subscriber.
    #[doc(hidden)]
    fn ask(&mut self, id: SubscriberId, events: usize);
    /// Adds an event.
    #[doc(hidden)]
    fn push(&mut self, entry: Entry<T>);
    /// Returns the next grant, if an event waits that somebody asked for.
    #[doc(hidden)]
    fn grant(&mut self, granted: Granted<'_>) -> Option<Grant<T>>;
    /// Returns how many events are asked for beyond those that wait.
    #[doc(hidden)]
    fn wanted(&self) -> usize;
    /// Returns how many events wait.
    #[doc(hidden)]
    fn queued(&self) -> usize;
    /// Removes all waiting events and returns them.
    #[doc(hidden)]
    fn clear(&mut self) -> Vec<Entry<T>>;
}
