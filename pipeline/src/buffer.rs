//! Buffer: how much may wait, in events and in bytes, and what happens when it is full (I5).
//!
//! The capacity only counts; the events themselves wait in the dispatcher. A *place* is the capacity
//! for one event and its bytes. A caller takes a place before its event enters the pipeline. The place
//! is free again when its [`Permit`] is dropped, so a permit inside an event bounds that event for as
//! long as it exists.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, TryAcquireError};
use tokio::time::{Instant, timeout_at};

use crate::metrics::ProducerMetrics;
use crate::share::{Share, is_fair};

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
    /// Whose share it counts against, if anybody's.
    share: Option<Arc<Share>>,
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
            if let Some(share) = &self.share {
                share.widen(more as usize);
            }
            self.bytes += more;
        }
        Ok(self)
    }

    /// Counts the place against another share from now on, even if that is full.
    pub fn charge(&mut self, share: &Arc<Share>) {
        if self.share.as_ref().is_some_and(|own| Arc::ptr_eq(own, share)) {
            return;
        }
        share.add(self.bytes());
        if let Some(former) = self.share.replace(Arc::clone(share)) {
            former.remove(self.bytes());
        }
    }

    /// Ends the guard and keeps the place taken, in nobody's share. [`Capacity::give_back`] frees it.
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
        if let Some(share) = self.share.take() {
            share.remove(self.bytes());
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
    /// Whether several share it: then none may hold more than is [fair](is_fair).
    is_shared: AtomicBool,
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
            is_shared: AtomicBool::new(false),
        })
    }

    /// Whether several share it from now on.
    pub(crate) fn set_shared(&self, is_shared: bool) {
        self.is_shared.store(is_shared, Ordering::Relaxed);
    }

    /// Whether several share it.
    pub(crate) fn is_shared(&self) -> bool {
        self.is_shared.load(Ordering::Relaxed)
    }

    /// Takes a place if one is free now, in that share. Freed places go to waiting callers first.
    pub(crate) fn try_reserve(
        self: &Arc<Capacity>,
        bytes: usize,
        share: Option<&Arc<Share>>,
    ) -> Result<Permit, Refused> {
        let bytes = self.check(bytes)?;
        let event = self.events.try_acquire().map_err(refused)?;
        if bytes > 0 {
            self.bytes.try_acquire_many(bytes).map_err(refused)?.forget();
        }
        event.forget();
        self.claim(self.permit(bytes), share)
    }

    /// Takes a place in that share, and waits for one as [`Full`] says. Cancel safe: a dropped future leaves the queue.
    pub(crate) async fn reserve(
        self: &Arc<Capacity>,
        bytes: usize,
        share: Option<&Arc<Share>>,
        metrics: &ProducerMetrics,
    ) -> Result<Permit, Refused> {
        let limit = match (self.try_reserve(bytes, share), self.full) {
            (Err(Refused::Full | Refused::ShareFull), Full::Wait(limit)) => limit,
            (outcome, _) => return outcome,
        };
        let started = Instant::now();
        let acquire = self.acquire_share(bytes, share);
        let outcome = match started.checked_add(limit) {
            Some(deadline) => match timeout_at(deadline, acquire).await {
                Ok(outcome) => outcome,
                // The last try; it also says which bound it is.
                Err(_) => self.try_reserve(bytes, share),
            },
            None => acquire.await,
        };
        metrics.waited(started.elapsed());
        outcome
    }

    /// Waits for a place, and until the share may hold it.
    async fn acquire_share(
        self: &Arc<Capacity>,
        bytes: usize,
        share: Option<&Arc<Share>>,
    ) -> Result<Permit, Refused> {
        let Some(share) = share else { return self.acquire(bytes).await };
        let _counted = share.wait();
        loop {
            let mut freed = pin!(share.freed.notified());
            // Registered before the check, so that no notification is missed.
            freed.as_mut().enable();
            match self.claim(self.acquire(bytes).await?, Some(share)) {
                Err(Refused::ShareFull) => freed.await,
                outcome => return outcome,
            }
        }
    }

    async fn acquire(self: &Arc<Capacity>, bytes: usize) -> Result<Permit, Refused> {
        let event = self.events.acquire().await.map_err(|_| Refused::Closed)?;
        let bytes = self.check(bytes)?;
        if bytes > 0 {
            self.bytes.acquire_many(bytes).await.map_err(|_| Refused::Closed)?.forget();
        }
        event.forget();
        Ok(self.permit(bytes))
    }

    fn permit(self: &Arc<Capacity>, bytes: u32) -> Permit {
        Permit { capacity: Some(Arc::clone(self)), share: None, bytes }
    }

    /// Counts a taken place against a share. Frees the place if the share would hold too much.
    fn claim(&self, mut permit: Permit, share: Option<&Arc<Share>>) -> Result<Permit, Refused> {
        let Some(share) = share else { return Ok(permit) };
        let (events, bytes) = share.add(permit.bytes());
        let is_allowed = events == 1
            || !self.is_shared()
            || is_fair(events, self.events.available_permits())
                && is_fair(bytes, self.bytes.available_permits());
        if !is_allowed {
            share.undo(permit.bytes());
            return Err(Refused::ShareFull);
        }
        permit.share = Some(Arc::clone(share));
        Ok(permit)
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

    fn metrics() -> ProducerMetrics {
        ProducerMetrics::new("test")
    }

    #[test]
    fn the_capacity_is_bounded_in_events_and_in_bytes() {
        let capacity = Capacity::new(Bound { events: 2, bytes: 10 }, Full::Shed);
        let first = capacity.try_reserve(8, None).unwrap();
        assert_eq!(capacity.try_reserve(3, None).unwrap_err(), Refused::Full);
        let second = capacity.try_reserve(2, None).unwrap();
        assert_eq!(capacity.try_reserve(0, None).unwrap_err(), Refused::Full);
        drop(first);
        assert_eq!(capacity.try_reserve(11, None).unwrap_err(), Refused::TooLarge);
        let third = capacity.try_reserve(8, None).unwrap();
        drop((second, third));
        assert_eq!(capacity.used(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_for_unused_capacity_is_woken_by_the_last_place() {
        let capacity = Capacity::new(Bound { events: 2, bytes: 10 }, Full::Shed);
        capacity.unused().await;
        let first = capacity.try_reserve(8, None).unwrap();
        let last = capacity.try_reserve(0, None).unwrap();
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
        let held = capacity.try_reserve(10, None).unwrap();
        let started = Instant::now();
        assert_eq!(capacity.reserve(1, None, &metrics()).await.unwrap_err(), Refused::Full);
        assert_eq!(started.elapsed(), limit);
        assert_eq!(capacity.used(), 1);
        drop(held);
        assert_eq!(capacity.reserve(10, None, &metrics()).await.unwrap().bytes(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn places_go_to_waiting_callers_in_order_and_a_cancelled_one_leaves_the_queue() {
        let capacity =
            Capacity::new(Bound { events: 1, bytes: 10 }, Full::Wait(Duration::from_secs(9)));
        let metrics = metrics();
        let held = capacity.try_reserve(1, None).unwrap();
        let mut first = Box::pin(capacity.reserve(1, None, &metrics));
        let mut second = pin!(capacity.reserve(1, None, &metrics));
        let mut third = pin!(capacity.reserve(1, None, &metrics));
        assert!(poll!(&mut first).is_pending());
        assert!(poll!(&mut second).is_pending());
        assert!(poll!(&mut third).is_pending());
        drop(first);
        drop(held);
        assert_eq!(
            capacity.try_reserve(1, None).unwrap_err(),
            Refused::Full,
            "the place is promised"
        );
        assert!(poll!(&mut third).is_pending());
        drop(second.await.unwrap());
        drop(third.await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn closing_refuses_waiting_callers_and_keeps_taken_places() {
        let capacity =
            Capacity::new(Bound { events: 1, bytes: 1 }, Full::Wait(Duration::from_secs(9)));
        let metrics = metrics();
        let held = capacity.try_reserve(1, None).unwrap();
        let mut waiting = pin!(capacity.reserve(1, None, &metrics));
        assert!(poll!(&mut waiting).is_pending());
        capacity.close();
        assert_eq!(waiting.await.unwrap_err(), Refused::Closed);
        drop(held);
        assert_eq!(capacity.try_reserve(1, None).unwrap_err(), Refused::Closed);
        assert_eq!(capacity.used(), 0);
    }

    fn shared(events: usize, bytes: usize, full: Full) -> (Arc<Capacity>, Arc<Share>, Arc<Share>) {
        let capacity = Capacity::new(Bound { events, bytes }, full);
        capacity.set_shared(true);
        (capacity, Arc::default(), Arc::default())
    }

    #[test]
    fn one_of_several_holds_as_many_places_and_bytes_as_are_left_free() {
        let (capacity, full_key, other) = shared(8, 100, Full::Shed);
        let held: Vec<_> =
            std::iter::from_fn(|| capacity.try_reserve(1, Some(&full_key)).ok()).collect();
        assert_eq!(held.len(), 4, "half of the places");
        let second: Vec<_> =
            std::iter::from_fn(|| capacity.try_reserve(40, Some(&other)).ok()).collect();
        assert_eq!(second.len(), 1, "80 bytes are more than is left");
        let error = capacity.try_reserve(40, Some(&other)).unwrap_err();
        assert_eq!(error, Refused::ShareFull);
        assert_eq!((capacity.used(), other.events()), (5, 1), "a refusal leaves nothing taken");
        drop((held, second));
        capacity.set_shared(false);
        let alone: Vec<_> =
            std::iter::from_fn(|| capacity.try_reserve(0, Some(&full_key)).ok()).collect();
        assert_eq!(alone.len(), 8);
        drop(alone);
        assert_eq!((capacity.used(), full_key.events()), (0, 0));
    }

    #[test]
    fn a_place_can_change_its_share() {
        let (capacity, one, other) = shared(8, 100, Full::Shed);
        let mut permit = capacity.try_reserve(10, Some(&one)).unwrap();
        permit.charge(&other);
        assert_eq!((one.events(), other.events()), (0, 1));
        drop(permit);
        assert_eq!((other.events(), capacity.used()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_full_share_is_served_when_it_has_given_something_back() {
        let limit = Duration::from_secs(3);
        let (capacity, full_key, _) = shared(4, 10, Full::Wait(limit));
        let metrics = metrics();
        let held = capacity.try_reserve(0, Some(&full_key)).unwrap();
        let more = capacity.try_reserve(0, Some(&full_key)).unwrap();
        let mut waiting = pin!(capacity.reserve(0, Some(&full_key), &metrics));
        assert!(poll!(&mut waiting).is_pending());
        assert!(poll!(&mut waiting).is_pending(), "it woke itself");
        drop(held);
        drop(waiting.await.unwrap());
        let last = capacity.try_reserve(0, Some(&full_key)).unwrap();
        let started = Instant::now();
        let refused = capacity.reserve(0, Some(&full_key), &metrics).await.unwrap_err();
        assert_eq!((refused, started.elapsed()), (Refused::ShareFull, limit));
        drop((more, last));
        assert_eq!((capacity.used(), full_key.events()), (0, 0));
    }
}
