//! Buffer: how much may wait, in events and in bytes, and what happens when it is full (I5).
//!
//! The capacity only counts; the events themselves wait in the dispatcher. A *place* is the capacity
//! for one event and its bytes. A caller takes a place before its event enters the pipeline. The place
//! is free again when its [`Permit`] is dropped, so a permit inside an event bounds that event for as
//! long as it exists.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, TryAcquireError};
use tokio::time::{Instant, timeout_at};

use crate::metrics::ProducerMetrics;

pub use crate::refused::{Refused, Rejected};

/// How much a buffer may hold.
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
    /// The event waits for a place this long, first come first served, and is refused after that.
    Wait(Duration),
    /// The event is refused at once.
    Shed,
}

/// A place in a bounded buffer: one event and its bytes, taken until the permit is dropped.
#[derive(Debug)]
pub struct Permit {
    /// `None` after [`into_bytes`](Permit::into_bytes).
    capacity: Option<Arc<Capacity>>,
    bytes: u32,
}

impl Permit {
    /// How many bytes it was taken for.
    pub fn bytes(&self) -> usize {
        self.bytes as usize
    }

    /// Adds bytes to the place, if they are free now.
    pub(crate) fn widen(mut self, bytes: usize) -> Result<Permit, Refused> {
        if let Some(capacity) = &self.capacity {
            let more = capacity.check(bytes)?;
            if more > 0 {
                capacity.bytes.try_acquire_many(more).map_err(refused)?.forget();
            }
            self.bytes += more;
        }
        Ok(self)
    }

    /// Ends the guard and keeps the place taken. [`Capacity::give_back`] frees it.
    pub(crate) fn into_bytes(mut self) -> u32 {
        self.capacity = None;
        self.bytes
    }

    /// Whether it is a place of this capacity.
    pub(crate) fn is_of(&self, capacity: &Arc<Capacity>) -> bool {
        self.capacity.as_ref().is_some_and(|own| Arc::ptr_eq(own, capacity))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(capacity) = self.capacity.take() {
            capacity.give_back(1, self.bytes as usize);
        }
    }
}

/// Counts places with two semaphores, always taken in this order: events, then bytes. A caller that
/// waits for bytes already has its event permit and is next in the queue for bytes, so the order is
/// fair and large events do not starve.
#[derive(Debug)]
pub(crate) struct Capacity {
    events: Semaphore,
    bytes: Semaphore,
    bound: Bound,
    full: Full,
    /// Notified when no place is taken.
    unused: Notify,
}

impl Capacity {
    pub(crate) fn new(bound: Bound, full: Full) -> Arc<Capacity> {
        let events = bound.events.min(Semaphore::MAX_PERMITS);
        let bytes = bound.bytes.min(Semaphore::MAX_PERMITS);
        Arc::new(Capacity {
            events: Semaphore::new(events),
            bytes: Semaphore::new(bytes),
            bound: Bound { events, bytes },
            full,
            unused: Notify::new(),
        })
    }

    /// Takes a place if one is free now. Freed places go to waiting callers first.
    pub(crate) fn try_reserve(self: &Arc<Capacity>, bytes: usize) -> Result<Permit, Refused> {
        let bytes = self.check(bytes)?;
        let event = self.events.try_acquire().map_err(refused)?;
        if bytes > 0 {
            self.bytes.try_acquire_many(bytes).map_err(refused)?.forget();
        }
        event.forget();
        Ok(Permit { capacity: Some(Arc::clone(self)), bytes })
    }

    /// Takes a place, and waits for one as [`Full`] says. Cancel safe: a dropped future leaves the queue.
    pub(crate) async fn reserve(
        self: &Arc<Capacity>,
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
            Ok(Permit { capacity: Some(Arc::clone(self)), bytes })
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

    /// Frees places. Waiting callers get them first.
    pub(crate) fn give_back(&self, events: usize, bytes: usize) {
        if bytes > 0 {
            self.bytes.add_permits(bytes);
        }
        if events > 0 {
            self.events.add_permits(events);
            if self.used() == 0 {
                self.unused.notify_waiters();
            }
        }
    }

    /// Waits until no place is taken. Cancel safe.
    pub(crate) async fn unused(&self) {
        loop {
            let mut unused = std::pin::pin!(self.unused.notified());
            // Registered before the check, so that no notification is missed.
            unused.as_mut().enable();
            if self.used() == 0 {
                return;
            }
            unused.await;
        }
    }

    /// Refuses all callers from now on, waiting ones too. Taken places stay valid.
    pub(crate) fn close(&self) {
        self.events.close();
        self.bytes.close();
    }

    /// Returns how many places are taken.
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
    fn the_capacity_is_bounded_in_events_and_in_bytes() {
        let capacity = Capacity::new(Bound { events: 2, bytes: 10 }, Full::Shed);
        let first = capacity.try_reserve(8).unwrap();
        assert_eq!(capacity.try_reserve(3).unwrap_err(), Refused::Full);
        let second = capacity.try_reserve(2).unwrap();
        assert_eq!(capacity.try_reserve(0).unwrap_err(), Refused::Full);
        drop(first);
        assert_eq!(capacity.try_reserve(11).unwrap_err(), Refused::TooLarge);
        let third = capacity.try_reserve(8).unwrap();
        drop((second, third));
        assert_eq!(capacity.used(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_for_unused_capacity_is_woken_by_the_last_place() {
        let capacity = Capacity::new(Bound { events: 2, bytes: 10 }, Full::Shed);
        capacity.unused().await;
        let (first, last) = (capacity.try_reserve(8).unwrap(), capacity.try_reserve(0).unwrap());
        let mut unused = pin!(capacity.unused());
        assert!(poll!(&mut unused).is_pending());
        drop(first);
        assert!(poll!(&mut unused).is_pending());
        drop(last);
        unused.await;
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_at_its_limit_and_a_refusal_leaves_nothing_taken() {
        let limit = Duration::from_secs(3);
        let capacity = Capacity::new(Bound { events: 5, bytes: 10 }, Full::Wait(limit));
        let held = capacity.try_reserve(10).unwrap();
        let started = Instant::now();
        assert_eq!(capacity.reserve(1, &metrics()).await.unwrap_err(), Refused::Full);
        assert_eq!(started.elapsed(), limit);
        assert_eq!(capacity.used(), 1);
        drop(held);
        assert_eq!(capacity.reserve(10, &metrics()).await.unwrap().bytes(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn places_go_to_waiting_callers_in_order_and_a_cancelled_one_leaves_the_queue() {
        let capacity =
            Capacity::new(Bound { events: 1, bytes: 10 }, Full::Wait(Duration::from_secs(9)));
        let metrics = metrics();
        let held = capacity.try_reserve(1).unwrap();
        let mut first = Box::pin(capacity.reserve(1, &metrics));
        let mut second = pin!(capacity.reserve(1, &metrics));
        let mut third = pin!(capacity.reserve(1, &metrics));
        assert!(poll!(&mut first).is_pending());
        assert!(poll!(&mut second).is_pending());
        assert!(poll!(&mut third).is_pending());
        drop(first);
        drop(held);
        assert_eq!(capacity.try_reserve(1).unwrap_err(), Refused::Full, "the place is promised");
        assert!(poll!(&mut third).is_pending());
        drop(second.await.unwrap());
        drop(third.await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn closing_refuses_waiting_callers_and_keeps_taken_places() {
        let capacity =
            Capacity::new(Bound { events: 1, bytes: 1 }, Full::Wait(Duration::from_secs(9)));
        let metrics = metrics();
        let held = capacity.try_reserve(1).unwrap();
        let mut waiting = pin!(capacity.reserve(1, &metrics));
        assert!(poll!(&mut waiting).is_pending());
        capacity.close();
        assert_eq!(waiting.await.unwrap_err(), Refused::Closed);
        drop(held);
        assert_eq!(capacity.try_reserve(1).unwrap_err(), Refused::Closed);
        assert_eq!(capacity.used(), 0);
    }
}
