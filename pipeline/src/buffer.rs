//! Buffer: how much may wait, in events and in bytes, and what happens when it is full (I5).
//!
//! A room only counts: the events themselves wait in the dispatcher. A place is taken before an
//! event exists in the pipeline and is given back when its [`Permit`] is dropped, so a permit that
//! travels inside an event bounds that event for as long as it lives, wherever it is.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, TryAcquireError};
use tokio::time::{Instant, timeout_at};

use crate::metrics::ProducerMetrics;

/// How much a buffer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// Most events at once.
    pub events: usize,
    /// Most bytes at once.
    pub bytes: usize,
}

/// What a full buffer does with the next event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// Lets it wait for a place this long, first come first served; then refuses it.
    Wait(Duration),
    /// Refuses it at once.
    Shed,
}

/// Why an event was not admitted; it has not run and never will.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The buffer is full, and stayed so for as long as the event may wait.
    #[error("the buffer is full")]
    Full,
    /// The queue of the event's key is full.
    #[error("the queue of this key is full")]
    KeyFull,
    /// The stage is draining or has ended.
    #[error("the stage is closed")]
    Closed,
    /// The event alone is larger than the whole buffer.
    #[error("the event is larger than the buffer")]
    TooLarge,
}

/// An event that was handed back, with the reason.
pub struct Rejected<T> {
    /// The event, untouched.
    pub event: T,
    /// Why.
    pub reason: Refused,
}

/// Without the event: it may be anything.
impl<T> fmt::Debug for Rejected<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejected").field("reason", &self.reason).finish_non_exhaustive()
    }
}

/// A place in a bounded buffer, counted in events and bytes until it is dropped.
#[derive(Debug)]
pub struct Permit {
    /// `None` once the place has been taken out of the guard.
    room: Option<Arc<Room>>,
    bytes: u32,
}

impl Permit {
    /// The bytes it was taken for.
    pub fn bytes(&self) -> usize {
        self.bytes as usize
    }

    /// Takes bytes too for a place that was taken without, if they are there now.
    pub(crate) fn widen(mut self, bytes: usize) -> Result<Permit, Refused> {
        if let Some(room) = &self.room {
            let more = room.check(bytes)?;
            if more > 0 {
                room.bytes.try_acquire_many(more).map_err(refused)?.forget();
            }
            self.bytes += more;
        }
        Ok(self)
    }

    /// Takes the place out of the guard; [`Room::give_back`] returns it.
    pub(crate) fn into_bytes(mut self) -> u32 {
        self.room = None;
        self.bytes
    }

    /// Whether it is a place in this room.
    pub(crate) fn is_of(&self, room: &Arc<Room>) -> bool {
        self.room.as_ref().is_some_and(|own| Arc::ptr_eq(own, room))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(room) = self.room.take() {
            room.give_back(1, self.bytes as usize);
        }
    }
}

/// Counts places. Two semaphores, taken in one order: whoever waits for bytes holds an event's place
/// and is next in line for them, so the room is fair and large events do not starve.
#[derive(Debug)]
pub(crate) struct Room {
    events: Semaphore,
    bytes: Semaphore,
    bound: Bound,
    full: Full,
}

impl Room {
    pub(crate) fn new(bound: Bound, full: Full) -> Arc<Room> {
        let events = bound.events.min(Semaphore::MAX_PERMITS);
        let bytes = bound.bytes.min(Semaphore::MAX_PERMITS);
        Arc::new(Room {
            events: Semaphore::new(events),
            bytes: Semaphore::new(bytes),
            bound: Bound { events, bytes },
            full,
        })
    }

    /// Takes a place if there is one now. Those who wait are first: a place is theirs before it is free.
    pub(crate) fn try_reserve(self: &Arc<Room>, bytes: usize) -> Result<Permit, Refused> {
        let bytes = self.check(bytes)?;
        let event = self.events.try_acquire().map_err(refused)?;
        if bytes > 0 {
            self.bytes.try_acquire_many(bytes).map_err(refused)?.forget();
        }
        event.forget();
        Ok(Permit { room: Some(Arc::clone(self)), bytes })
    }

    /// Takes a place as [`Full`] says. Cancel safe: a dropped future leaves the line.
    pub(crate) async fn reserve(
        self: &Arc<Room>,
        bytes: usize,
        metrics: &ProducerMetrics,
    ) -> Result<Permit, Refused> {
        let limit = match (self.try_reserve(bytes), self.full) {
            (Err(Refused::Full), Full::Wait(limit)) => limit,
            (outcome, _) => return outcome,
        };
        let started = Instant::now();
        let acquire = async {
            let event = self.events.acquire().await.map_err(|_| Refused::Closed)?;
            let bytes = self.check(bytes)?;
            if bytes > 0 {
                self.bytes.acquire_many(bytes).await.map_err(|_| Refused::Closed)?.forget();
            }
            event.forget();
            Ok(Permit { room: Some(Arc::clone(self)), bytes })
        };
        let outcome = match started.checked_add(limit) {
            Some(deadline) => timeout_at(deadline, acquire).await.unwrap_or(Err(Refused::Full)),
            None => acquire.await,
        };
        metrics.waited(started.elapsed());
        outcome
    }

    fn check(&self, bytes: usize) -> Result<u32, Refused> {
        let bytes = u32::try_from(bytes).map_err(|_| Refused::TooLarge)?;
        if bytes as usize > self.bound.bytes { Err(Refused::TooLarge) } else { Ok(bytes) }
    }

    /// Returns places; those who wait get them first.
    pub(crate) fn give_back(&self, events: usize, bytes: usize) {
        if events > 0 {
            self.events.add_permits(events);
        }
        if bytes > 0 {
            self.bytes.add_permits(bytes);
        }
    }

    /// Refuses everybody from now on, also those who wait. Places that are taken stay valid.
    pub(crate) fn close(&self) {
        self.events.close();
        self.bytes.close();
    }

    /// Places taken, in events.
    pub(crate) fn used(&self) -> usize {
        self.bound.events - self.events.available_permits()
    }
}

#[expect(clippy::needless_pass_by_value, reason = "handed to map_err by its name")]
fn refused(error: TryAcquireError) -> Refused {
    match error {
        TryAcquireError::Closed => Refused::Closed,
        TryAcquireError::NoPermits => Refused::Full,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::poll;
    use std::pin::pin;

    fn metrics() -> ProducerMetrics {
        ProducerMetrics::new("test")
    }

    #[test]
    fn a_room_is_bounded_in_events_and_in_bytes() {
        let room = Room::new(Bound { events: 2, bytes: 10 }, Full::Shed);
        let first = room.try_reserve(8).unwrap();
        assert_eq!(room.try_reserve(3).unwrap_err(), Refused::Full);
        let second = room.try_reserve(2).unwrap();
        assert_eq!(room.try_reserve(0).unwrap_err(), Refused::Full);
        drop(first);
        assert_eq!(room.try_reserve(11).unwrap_err(), Refused::TooLarge);
        let third = room.try_reserve(8).unwrap();
        drop((second, third));
        assert_eq!(room.used(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_at_its_limit_and_a_refusal_leaves_nothing_taken() {
        let limit = Duration::from_secs(3);
        let room = Room::new(Bound { events: 5, bytes: 10 }, Full::Wait(limit));
        let held = room.try_reserve(10).unwrap();
        let started = Instant::now();
        assert_eq!(room.reserve(1, &metrics()).await.unwrap_err(), Refused::Full);
        assert_eq!(started.elapsed(), limit);
        assert_eq!(room.used(), 1);
        drop(held);
        assert_eq!(room.reserve(10, &metrics()).await.unwrap().bytes(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn places_go_to_those_who_wait_in_order_of_arrival_and_a_cancelled_one_leaves_the_line() {
        let room = Room::new(Bound { events: 1, bytes: 10 }, Full::Wait(Duration::from_secs(9)));
        let metrics = metrics();
        let held = room.try_reserve(1).unwrap();
        let mut first = Box::pin(room.reserve(1, &metrics));
        let mut second = pin!(room.reserve(1, &metrics));
        let mut third = pin!(room.reserve(1, &metrics));
        assert!(poll!(&mut first).is_pending());
        assert!(poll!(&mut second).is_pending());
        assert!(poll!(&mut third).is_pending());
        drop(first);
        drop(held);
        assert_eq!(room.try_reserve(1).unwrap_err(), Refused::Full, "the place is spoken for");
        assert!(poll!(&mut third).is_pending());
        drop(second.await.unwrap());
        drop(third.await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn closing_refuses_those_who_wait_and_honours_places_taken() {
        let room = Room::new(Bound { events: 1, bytes: 1 }, Full::Wait(Duration::from_secs(9)));
        let metrics = metrics();
        let held = room.try_reserve(1).unwrap();
        let mut waiting = pin!(room.reserve(1, &metrics));
        assert!(poll!(&mut waiting).is_pending());
        room.close();
        assert_eq!(waiting.await.unwrap_err(), Refused::Closed);
        drop(held);
        assert_eq!(room.try_reserve(1).unwrap_err(), Refused::Closed);
        assert_eq!(room.used(), 0);
    }
}
