//! Places: how much may be on its way to the store.
//!
//! A *place* is one event and its bytes. A turn that is expected to write takes its place before it is granted, and keeps
//! it until the outcome of its commit is known: so no action runs for a change that has no place to go. Its size is what
//! is known before the action runs: twice the actor's last state, at least [`SMALLEST`], at most a largest state. When
//! the turn is over, the place shrinks to what is written. A larger answer of its host grows it before it is read (see
//! [`answering`]), and so does what is written when it is larger still: from free places, else it waits in one line for
//! the *reserve* of one largest state, one turn at a time.
//!
//! Part of the places is kept for snapshots and deactivations, which free memory. One actor holds at most 1/8 of the
//! places when it asks for another one, and always one. When several hosts are known, the actors of one may hold as many
//! as are free.

pub(crate) mod answering;
pub(crate) mod held;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_pipeline::{Bound, Entry as GateEntry};
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, timeout};

use crate::registry::entry::{Entry, Hosted};
use crate::registry::known_host::KnownHost;
use crate::store_breaker::Probe;

/// The least bytes of a place: what an actor that is not in memory, or that is small, counts for.
const SMALLEST: usize = 16 << 10;

/// One actor may hold this part of all places, and so much of them is kept for maintenance.
const SHARE: usize = 8;
const KEPT: usize = 16;

/// Bytes that places need for states of at most this size: for one turn, for the reserve, and for maintenance.
pub fn least_bytes(max_state_bytes: usize) -> usize {
    max_state_bytes.saturating_mul(3)
}

/// The fewest places: one of each kind.
const LEAST_EVENTS: usize = 3;

/// All places; see the [module](self). Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Places(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Most that one actor may hold when it asks for another place.
    share: Bound,
    /// How many hosts are known.
    hosts: Arc<AtomicUsize>,
    largest: usize,
    /// What there is in all, without the reserve.
    bound: Bound,
    free: Mutex<Free>,
    /// Those whose change is larger than their place: one at a time may use the reserve.
    line: Semaphore,
    /// How long they wait.
    patience: Duration,
    /// Notified when places are freed.
    freed: Notify,
}

/// What is free.
#[derive(Debug)]
struct Free {
    general: Count,
    /// Kept for maintenance.
    kept: Count,
    /// Wakes the mailboxes, some of which wait for places.
    waker: Option<Waker>,
}

/// Events and bytes. Below zero, the reserve is in use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Count {
    events: isize,
    bytes: isize,
}

impl Count {
    fn of(events: usize, bytes: usize) -> Self {
        let signed = |number| isize::try_from(number).unwrap_or(isize::MAX);
        Self { events: signed(events), bytes: signed(bytes) }
    }

    /// Takes this much if it is there; `reserve` may be missing.
    fn take(&mut self, wanted: Self, reserve: Self) -> bool {
        let events = self.events + reserve.events - wanted.events;
        let bytes = self.bytes.saturating_add(reserve.bytes) - wanted.bytes;
        let is_there = events >= 0 && bytes >= 0;
        if is_there {
            self.events -= wanted.events;
            self.bytes -= wanted.bytes;
        }
        is_there
    }

    /// Whether this much is there.
    fn has(self, wanted: Self) -> bool {
        self.events >= wanted.events && self.bytes >= wanted.bytes
    }

    /// What is there, nothing when the reserve is in use.
    fn bound(self) -> Bound {
        let unsigned = |number: isize| usize::try_from(number).unwrap_or(0);
        Bound { events: unsigned(self.events), bytes: unsigned(self.bytes) }
    }

    fn give(&mut self, back: Self) {
        self.events += back.events;
        self.bytes += back.bytes;
    }
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Places,
    entry: Arc<Entry>,
    /// The host that it counts for, when several are known.
    host: Option<Arc<KnownHost>>,
    events: usize,
    bytes: usize,
    is_kept: bool,
    /// A place that it shares with another turn of its actor.
    shared: Option<Arc<Place>>,
    /// Its turn is the store breaker's probe.
    pub(crate) probe: Option<Probe>,
    /// When its turn has read from the store as a probe.
    pub(crate) read_at: Option<Instant>,
}

impl Places {
    /// `None` when that is too little for states of at most `largest` bytes: see [`least_bytes`]. Who needs the reserve
    /// waits for at most `patience`. `hosts` is how many are known at any time.
    pub(crate) fn new(
        bound: Bound,
        largest: usize,
        patience: Duration,
        hosts: Arc<AtomicUsize>,
    ) -> Option<Self> {
        if bound.events < LEAST_EVENTS || bound.bytes < least_bytes(largest) {
            return None;
        }
        let kept = Bound {
            events: (bound.events / KEPT).max(1),
            bytes: (bound.bytes / KEPT).max(largest),
        };
        let free = Free {
            general: Count::of(bound.events - kept.events - 1, bound.bytes - kept.bytes - largest),
            kept: Count::of(kept.events, kept.bytes),
            waker: None,
        };
        Some(Self(Arc::new(Inner {
            share: Bound { events: bound.events / SHARE, bytes: bound.bytes / SHARE },
            hosts,
            largest,
            bound: Bound { events: bound.events - 1, bytes: bound.bytes - largest },
            free: Mutex::new(free),
            line: Semaphore::new(1),
            patience,
            freed: Notify::new(),
        })))
    }

    /// Takes the place of a turn that is to be granted. When there is none, the waker is woken once there may be.
    pub(crate) fn enter(
        &self,
        entry: &Arc<Entry>,
        host_limit: u32,
        waker: &Waker,
    ) -> Result<Place, GateEntry> {
        let bytes = entry.state_bytes().saturating_mul(2).max(SMALLEST).min(self.0.largest);
        let mut place = self.place(entry, Some(host_limit), false);
        let mut free = self.0.free.lock();
        let is_unfair = |host: &Arc<KnownHost>| host.places.is_unfair(bytes, free.general.bound());
        let refusal = if entry.held_places.is_over(self.0.share, bytes) {
            GateEntry::Waits
        } else if !free.general.has(Count::of(1, bytes)) {
            GateEntry::Full
        } else if place.host.as_ref().is_some_and(is_unfair) {
            GateEntry::ClassFull
        } else {
            free.general.take(Count::of(1, bytes), Count::default());
            place.add(1, bytes);
            return Ok(place);
        };
        if free.waker.is_none() {
            free.waker = Some(waker.clone());
        }
        Err(refusal)
    }

    /// Takes a place for maintenance if one is free now, also of those that are kept for it.
    pub(crate) fn try_maintain(&self, entry: &Arc<Entry>, bytes: usize) -> Option<Place> {
        let bytes = bytes.min(self.0.largest);
        let wanted = Count::of(1, bytes);
        let mut place = self.place(entry, None, true);
        let mut free = self.0.free.lock();
        // Turns that wait for places come first.
        let is_general = free.waker.is_none() && free.general.take(wanted, Count::default());
        if !is_general && !free.kept.take(wanted, Count::default()) {
            return None;
        }
        place.is_kept = !is_general;
        place.add(1, bytes);
        Some(place)
    }

    /// A place that is nothing yet. Without a limit it counts for the only host of its actor, if that has one.
    fn place(&self, entry: &Arc<Entry>, host_limit: Option<u32>, is_kept: bool) -> Place {
        let several = self.0.hosts.load(Ordering::Relaxed) > 1;
        let host_of = |hosted: &Hosted| match host_limit {
            None if hosted.several.is_some() => None,
            limit => Some(hosted.known(limit.unwrap_or_default()).clone()),
        };
        let host = if several { entry.with_hosted(host_of) } else { None };
        Place::nothing(self.clone(), entry.clone(), host, is_kept)
    }

    /// Makes a place as large as what it is for: shrinks it, or grows it from what is free. `None` stands for a turn
    /// that was not expected to write. Returns whether it fits now.
    pub(crate) fn fit(&self, place: &mut Option<Place>, entry: &Arc<Entry>, bytes: usize) -> bool {
        self.fit_with(place, entry, bytes, Count::default())
    }

    /// The same, but waits in line for the reserve when there is not enough. Returns false when that takes too long.
    pub(crate) async fn wait_to_fit(
        &self,
        place: &mut Option<Place>,
        entry: &Arc<Entry>,
        bytes: usize,
    ) -> bool {
        self.in_line(|reserve| self.fit_with(place, entry, bytes, reserve).then_some(()))
            .await
            .is_some()
    }

    /// Waits for its turn at the reserve, and then until `take` takes what it needs. `None` when that takes too long.
    async fn in_line<T>(&self, mut take: impl FnMut(Count) -> Option<T>) -> Option<T> {
        let reserve = Count::of(1, self.0.largest);
        let taking = async {
            let _first = self.0.line.acquire().await.ok()?;
            loop {
                let freed = self.0.freed.notified();
                if let Some(taken) = take(reserve) {
                    return Some(taken);
                }
                freed.await;
            }
        };
        timeout(self.0.patience, taking).await.ok()?
    }

    /// Events and bytes that are held, and at most.
    pub(crate) fn view(&self) -> ((usize, usize), (usize, usize)) {
        let (free, bound) = (self.0.free.lock(), self.0.bound);
        let (general, kept) = (free.general.bound(), free.kept.bound());
        let free = (general.events + kept.events, general.bytes + kept.bytes);
        let held = (bound.events.saturating_sub(free.0), bound.bytes.saturating_sub(free.1));
        (held, (bound.events, bound.bytes))
    }

    fn fit_with(
        &self,
        place: &mut Option<Place>,
        entry: &Arc<Entry>,
        bytes: usize,
        reserve: Count,
    ) -> bool {
        let bytes = bytes.min(self.0.largest);
        let place = place.get_or_insert_with(|| self.place(entry, None, false));
        let shared = place.shared.as_ref().map_or(0, |shared| shared.bytes);
        let (events, bytes) = (usize::from(place.shared.is_none()), bytes.saturating_sub(shared));
        if events <= place.events && bytes <= place.bytes {
            let surplus = place.bytes - bytes;
            place.bytes = bytes;
            if surplus > 0 {
                self.release(place, 0, surplus);
            }
            return true;
        }
        self.grow(place, (events, bytes), reserve)
    }

    /// Makes a place at least so large.
    fn grow(&self, place: &mut Place, (events, bytes): (usize, usize), reserve: Count) -> bool {
        let more = (events.saturating_sub(place.events), bytes.saturating_sub(place.bytes));
        let mut free = self.0.free.lock();
        let pool = if place.is_kept { &mut free.kept } else { &mut free.general };
        if !pool.take(Count::of(more.0, more.1), reserve) {
            return false;
        }
        place.add(more.0, more.1);
        true
    }

    fn release(&self, place: &Place, events: usize, bytes: usize) {
        let mut free = self.0.free.lock();
        place.entry.held_places.sub(events, bytes);
        if let Some(host) = &place.host {
            host.places.sub(events, bytes);
        }
        let pool = if place.is_kept { &mut free.kept } else { &mut free.general };
        pool.give(Count::of(events, bytes));
        let waker = free.waker.take();
        drop(free);
        self.0.freed.notify_waiters();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Place {
    fn nothing(
        places: Places,
        entry: Arc<Entry>,
        host: Option<Arc<KnownHost>>,
        is_kept: bool,
    ) -> Self {
        let (shared, probe, read_at) = (None, None, None);
        Self { places, entry, host, events: 0, bytes: 0, is_kept, shared, probe, read_at }
    }

    /// Whether its turn is the store breaker's probe.
    pub(crate) fn is_of_probe(&self) -> bool {
        self.probe.is_some() || self.shared.as_ref().is_some_and(|shared| shared.is_of_probe())
    }

    /// The bytes that it counts.
    fn counts(&self) -> usize {
        self.bytes + self.shared.as_ref().map_or(0, |shared| shared.bytes)
    }

    /// Counts so much more, which was taken. The places are locked.
    fn add(&mut self, events: usize, bytes: usize) {
        self.entry.held_places.add(events, bytes);
        if let Some(host) = &self.host {
            host.places.add(events, bytes);
        }
        self.events += events;
        self.bytes += bytes;
    }

    /// Counts for this host from now on.
    pub(crate) fn charge(&mut self, known: &Arc<KnownHost>) {
        let Some(host) = &mut self.host else { return };
        let _free = self.places.0.free.lock();
        host.places.sub(self.events, self.bytes);
        known.places.add(self.events, self.bytes);
        *host = known.clone();
    }

    /// A place of the same actor and host that is nothing yet.
    fn empty(&self) -> Self {
        Self::nothing(self.places.clone(), self.entry.clone(), self.host.clone(), self.is_kept)
    }

    /// Takes all of another place, which was made [empty](Self::empty) from this one.
    fn absorb(&mut self, other: &mut Self) {
        self.events += std::mem::take(&mut other.events);
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// Makes it the place of two turns of its actor: it is free again when both are over.
    pub(crate) fn share(self) -> (Self, Self) {
        let (mut one, mut other) = (self.empty(), self.empty());
        let whole = Arc::new(self);
        one.shared = Some(whole.clone());
        other.shared = Some(whole);
        (one, other)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.events > 0 || self.bytes > 0 {
            self.places.release(self, self.events, self.bytes);
        }
    }
}
