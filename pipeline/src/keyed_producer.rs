//! Keyed producer: a mailbox per key, with one event of a key in flight at a time.
//!
//! It has no task. Whoever pushes an event, asks for one or releases a key runs the machine
//! (`dispatcher::keyed`) for a moment under one lock, and sends the granted events outside the lock.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::future::BoxFuture;

use crate::buffer::{Bound, Full, Permit, Refused, Rejected};
pub use crate::dispatcher::keyed::{Ahead, EventId, MAX_PAUSED, WaitsFor};
use crate::drain::Drainable;
use crate::gate::Gate;
use crate::sealed::Sealed;
use crate::share::Share;
use crate::subscription::{Attach, Link, Subscribe, SubscribeError, SubscribeOptions};

mod control;
mod observe;
mod shared;
mod turn;

pub use control::{Cancelled, EventView, HeldPaused, KeyView, MAX_LOOK, PauseError};
pub use observe::KeySeen;
pub use turn::{Hold, Parked, Turn};

use shared::{KeyedShared, Timed};

/// An event that belongs to a key.
///
/// The producer calls these methods, the key's `Clone`, `Eq` and `Hash`, and the handle's `Clone` and `Drop`, with its
/// lock held. They must read the event and nothing else.
pub trait KeyedEvent: Send + 'static {
    /// The name of a mailbox. Cheap to clone.
    type Key: Clone + Eq + Hash + Send + 'static;

    /// Returns the mailbox of this event.
    fn key(&self) -> &Self::Key;

    /// Returns the class of this event. A class may have a limit of events in flight
    /// ([`KeyedProducer::set_class_limit`]); without one, demand alone bounds them.
    fn class(&self) -> u32;

    /// What a look shows of an event, kept while its turn runs. It may hold the means to cancel the turn. `()` for nothing.
    type Handle: Clone + Send + 'static;

    /// Returns the handle of this event.
    fn handle(&self) -> Self::Handle;
}

/// How a keyed producer is made.
#[derive(Debug, Clone, Copy)]
pub struct KeyedOptions {
    /// Its name in metrics.
    pub name: &'static str,
    /// How much it admits at once, all keys together.
    pub bound: Bound,
    /// How many events may be queued per key.
    pub per_key: usize,
    /// What a full buffer does.
    pub full: Full,
}

/// An event that was queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pushed {
    /// Its name, by which it can be [removed](KeyedProducer::remove).
    pub id: EventId,
    /// What it waits for; `None` when its turn came at once.
    pub waits_for: Option<WaitsFor>,
}

/// A producer with a mailbox per key; see the [module](self). Cheap to clone. It closes when the last
/// handle is dropped.
pub struct KeyedProducer<T: KeyedEvent> {
    shared: Arc<KeyedShared<T>>,
    /// Closes the producer when the last handle is dropped.
    close_on_drop: Arc<CloseOnDrop<T>>,
}

struct CloseOnDrop<T: KeyedEvent>(Arc<KeyedShared<T>>);

impl<T: KeyedEvent> Drop for CloseOnDrop<T> {
    fn drop(&mut self) {
        drop(self.0.close(true));
    }
}

impl<T: KeyedEvent> KeyedProducer<T> {
    /// Makes a producer without subscribers. Events wait for the first one.
    pub fn new(options: KeyedOptions) -> KeyedProducer<T> {
        KeyedProducer::of(Arc::new(KeyedShared::new(&options)))
    }

    /// Makes a producer whose events have to pass a gate before they are granted.
    pub fn gated(options: KeyedOptions, gate: impl Gate<T> + 'static) -> KeyedProducer<T> {
        KeyedProducer::of(KeyedShared::gated(&options, Box::new(gate)))
    }

    fn of(shared: Arc<KeyedShared<T>>) -> KeyedProducer<T> {
        KeyedProducer { close_on_drop: Arc::new(CloseOnDrop(Arc::clone(&shared))), shared }
    }

    /// Whether an event may find a place: one is free now, or it waits for one. Takes nothing.
    ///
    /// # Errors
    /// [`Refused::Full`]; it counts as a refused event.
    pub fn look_for_place(&self) -> Result<(), Refused> {
        if self.shared.capacity.may_take() { Ok(()) } else { self.counted(Err(Refused::Full)) }
    }

    /// Takes a place in the buffer if one is free now.
    ///
    /// # Errors
    /// [`Refused::Full`], [`Refused::Closed`] or [`Refused::TooLarge`].
    pub fn try_reserve(&self, bytes: usize) -> Result<Permit, Refused> {
        self.counted(self.shared.capacity.try_reserve(bytes, None))
    }

    /// Takes a place in the buffer. When none is free it waits or fails, as [`Full`] says; first come,
    /// first served. Cancel safe: a dropped future leaves the queue.
    ///
    /// # Errors
    /// As [`try_reserve`](KeyedProducer::try_reserve).
    pub async fn reserve(&self, bytes: usize) -> Result<Permit, Refused> {
        let outcome = self.shared.capacity.reserve(bytes, None, &self.shared.metrics).await;
        self.counted(outcome)
    }

    /// Takes a permit in a share if that needs no wait. A refusal is not counted: [`reserve_in`](Self::reserve_in) comes next.
    pub fn reserve_now_in(&self, share: &Arc<Share>, bytes: usize) -> Option<Permit> {
        self.shared.capacity.try_reserve(bytes, Some(share)).ok()
    }

    /// Takes a place as [`reserve`](KeyedProducer::reserve) does, and counts it against the share of one class. When several
    /// classes have a [limit](KeyedProducer::set_class_limit), a share holds no more of the buffer than is
    /// [fair](crate::share).
    ///
    /// # Errors
    /// As [`try_reserve`](KeyedProducer::try_reserve), and [`Refused::ShareFull`].
    pub async fn reserve_in(&self, share: &Arc<Share>, bytes: usize) -> Result<Permit, Refused> {
        let outcome = self.shared.capacity.reserve(bytes, Some(share), &self.shared.metrics).await;
        self.counted(outcome)
    }

    /// Queues an event behind those of its key. Never waits. The event carries its permit itself.
    ///
    /// # Errors
    /// Returns the event with [`Refused::KeyFull`] or [`Refused::Closed`].
    pub fn push(&self, event: T) -> Result<Pushed, Rejected<T>> {
        self.shared
            .push(event, false)
            .inspect_err(|error| self.shared.metrics.refused(error.reason))
    }

    /// Queues an event that was admitted before (a routed call). The bound of its key does not apply,
    /// and a closed producer still takes it.
    ///
    /// # Errors
    /// Returns the event with [`Refused::Closed`] after [`end`](KeyedProducer::end).
    pub fn push_exempt(&self, event: T) -> Result<Pushed, Rejected<T>> {
        self.shared.push(event, true).inspect_err(|error| self.shared.metrics.refused(error.reason))
    }

    /// Removes the queued events of all keys for which `is_meant` returns true, and returns them. `is_meant` may change the
    /// class of an event, which stays where it is in the queue of its key. It looks at every queued event, with the
    /// producer's lock held.
    pub fn take_where(&self, mut is_meant: impl FnMut(&mut T) -> bool) -> Vec<T> {
        let class_of = |timed: &mut Timed<T>| {
            if is_meant(&mut timed.event) { None } else { Some(timed.event.class()) }
        };
        let taken = self.shared.with(|state| state.machine.take(class_of));
        taken.into_iter().map(|timed| *timed.event).collect()
    }

    /// Returns what is granted before an event of this key and class that is pushed now.
    pub fn ahead(&self, key: &T::Key, class: u32) -> Ahead {
        self.shared.state.lock().machine.ahead(key, class)
    }

    /// Returns how many keys are in line for the gate. Takes no lock.
    pub fn in_line(&self) -> usize {
        self.shared.line_length.load(Ordering::Relaxed)
    }

    /// Removes queued events that would be granted too late, and returns them: events of a key that is held, then of
    /// the last ready keys of a class, then of the last keys in line for the gate. Removes at most `most` events, and looks
    /// at few that are in time. `is_late` runs with the producer's lock held.
    pub fn shed_late(
        &self,
        key: &T::Key,
        class: u32,
        most: usize,
        mut is_late: impl FnMut(Ahead, &T) -> bool,
    ) -> Vec<T> {
        let is_late = |ahead, timed: &Timed<T>| is_late(ahead, &timed.event);
        let late = self.shared.with(|state| state.machine.shed_late(key, class, most, is_late));
        late.into_iter().map(|timed| *timed.event).collect()
    }

    /// Limits how many events of a class are in flight at once. `usize::MAX`, the default, means no
    /// limit. When several classes have a limit, each of them has at most as many events in flight as there is demand left:
    /// see [`share`](crate::share).
    pub fn set_class_limit(&self, class: u32, in_flight: usize) {
        self.shared.with(|state| {
            self.shared.capacity.set_shared(state.machine.set_class_limit(class, in_flight));
        });
    }

    /// Whether several classes have a limit and share demand and buffer.
    pub fn is_shared(&self) -> bool {
        self.shared.capacity.is_shared()
    }

    /// Returns how many events are queued.
    pub fn queued(&self) -> usize {
        self.shared.state.lock().machine.queued()
    }

    /// Returns how many events of a class are in flight. Parked keys do not count.
    pub fn in_flight_of(&self, class: u32) -> usize {
        self.shared.state.lock().machine.in_flight_of(class)
    }

    /// Returns how many events of a class may be in flight at once; `usize::MAX` without a limit.
    pub fn class_limit(&self, class: u32) -> usize {
        self.shared.state.lock().machine.limit_of(class)
    }

    /// Returns how many events are in flight. Parked keys do not count.
    pub fn in_flight(&self) -> usize {
        self.shared.state.lock().machine.in_flight()
    }

    /// Returns how many callers wait for a place of the buffer.
    pub fn waiting(&self) -> usize {
        self.shared.capacity.waiting()
    }

    /// Returns how many places of the buffer are taken.
    pub fn admitted(&self) -> usize {
        self.shared.capacity.used()
    }

    /// Closes the producer. [`reserve`](KeyedProducer::reserve), [`push`](KeyedProducer::push) and
    /// [`pause`](KeyedProducer::pause) fail from now on; queued and exempt events go on. All pauses end: what is queued
    /// for a paused key will not run, and is returned.
    pub fn close(&self) -> Vec<T> {
        self.shared.close(false)
    }

    /// Whether no event is queued, in flight or parked.
    pub fn is_idle(&self) -> bool {
        self.shared.state.lock().machine.is_idle()
    }

    /// Waits until no event is queued, in flight or parked. Cancel safe.
    pub async fn idle(&self) {
        self.shared.idle().await;
    }

    /// Waits until no place of the buffer is taken. Cancel safe.
    pub async fn unused(&self) {
        self.shared.capacity.unused().await;
    }

    /// Drops the queued events, refuses new ones and ends the subscriptions. Events in flight go on.
    pub fn end(&self) {
        self.shared.end();
    }

    fn counted<R>(&self, outcome: Result<R, Refused>) -> Result<R, Refused> {
        outcome.inspect_err(|reason| self.shared.metrics.refused(*reason))
    }
}

impl<T: KeyedEvent> Clone for KeyedProducer<T> {
    fn clone(&self) -> KeyedProducer<T> {
        KeyedProducer {
            shared: Arc::clone(&self.shared),
            close_on_drop: Arc::clone(&self.close_on_drop),
        }
    }
}

impl<T: KeyedEvent> Sealed for KeyedProducer<T> {}

impl<T: KeyedEvent> Subscribe<Turn<T>> for KeyedProducer<T> {
    fn attach(
        &self,
        request: Attach,
        options: SubscribeOptions,
        _: Option<u32>,
    ) -> Result<Link<Turn<T>>, SubscribeError> {
        self.shared.attach(&request.waker, options)
    }
}

/// A drain drops what is queued for paused keys when it closes the producer.
impl<T: KeyedEvent> Drainable for KeyedProducer<T> {
    fn close(&self) {
        drop(self.shared.close(false));
    }

    fn finished(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.shared.idle())
    }

    fn end(&self) {
        self.shared.end();
    }
}

impl<T: KeyedEvent> fmt::Debug for KeyedProducer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedProducer")
            .field("queued", &self.queued())
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}
