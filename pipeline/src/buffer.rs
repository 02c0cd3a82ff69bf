//! Buffer: how much may wait, in events and in bytes, and what happens when it is full (I5).
//!
//! The capacity only counts; the events themselves wait in the dispatcher. A *place* is the capacity
//! for one event and its bytes. A caller takes a place before its event enters the pipeline. The place
//! is free again when its [`Permit`] is dropped, so a permit inside an event bounds that event for as
//! long as it exists.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
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
        if self.is_charged_to(share) {
            return;
        }
        share.add(self.bytes());
        if let Some(former) = self.share.replace(Arc::clone(share)) {
            former.remove(self.bytes());
        }
    }

    /// Whether it counts against this share.
    pub fn is_charged_to(&self, share: &Arc<Share>) -> bool {
        self.share.as_ref().is_some_and(|own| Arc::ptr_eq(own, share))
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
    /// How many callers wait for a place.
    waiting: AtomicUsize,
}

/// Counts a caller that waits for a place.
struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn new(waiting: &'a AtomicUsize) -> Waits<'a> {
        waiting.fetch_add(1, Ordering::Relaxed);
        Waits(waiting)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
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
            waiting: AtomicUsize::new(0),
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

    /// Whether a place is free now, or is waited for.
    pub(crate) fn may_take(&self) -> bool {
        self.events.available_permits() > 0 || matches!(self.full, Full::Wait(_))
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
        let _waits = Waits::new(&self.waiting);
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

    /// How many callers wait for a place.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// How many events and bytes it may hold.
    pub(crate) fn limit(&self) -> (usize, usize) {
        (self.bound.events, self.bound.bytes)
    }

    /// How many events and bytes are taken.
    pub(crate) fn held(&self) -> (usize, usize) {
        (self.used(), self.bound.bytes.saturating_sub(self.bytes.available_permits()))
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
mod tests;
