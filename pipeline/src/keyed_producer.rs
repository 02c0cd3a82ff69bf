//! Keyed producer: a mailbox per key, one event of a key in flight at a time.
//!
//! It has no task: whoever pushes an event, asks for one or lets go of a key runs the
//! machine (`dispatcher::keyed`) for a moment under one lock and then, outside the lock, hands
//! what was granted to the subscribers.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::buffer::{Bound, Full, Permit, Refused, Rejected};
use crate::dispatcher::sealed;
use crate::drain::Door;
use crate::subscription::{Attach, Link, Subscribe, SubscribeError, SubscribeOptions};

mod cell;
mod turn;

pub use turn::{Hold, Parked, Turn};

use cell::Cell;

/// An event that belongs to a key.
///
/// The methods, and the key's `Clone`, `Eq` and `Hash`, are called with the producer's lock held:
/// they look at the event and nothing else.
pub trait KeyedEvent: Send + 'static {
    /// Names a mailbox. Cheap to clone.
    type Key: Clone + Eq + Hash + Send + 'static;

    /// Whose mailbox it goes to.
    fn key(&self) -> &Self::Key;

    /// Class with its own limit of events in flight ([`KeyedProducer::set_lane_limit`]). A lane
    /// without a limit, by default lane 0 and every other, is bounded by demand alone.
    fn lane(&self) -> u32;

    /// Whether nobody waits for it any more: [`KeyedProducer::sweep`] may drop it while it is queued.
    fn is_abandoned(&self) -> bool {
        false
    }
}

/// How a keyed producer is made.
#[derive(Debug, Clone, Copy)]
pub struct KeyedOptions {
    /// Its name in metrics.
    pub name: &'static str,
    /// How much it admits at once, over all keys.
    pub bound: Bound,
    /// Most events queued per key.
    pub per_key: usize,
    /// What a full buffer does.
    pub full: Full,
}

/// Producer with a mailbox per key; see the [module](self). Cheap to clone; closes when the last
/// handle is dropped.
pub struct KeyedProducer<T: KeyedEvent> {
    cell: Arc<Cell<T>>,
    /// Closes the doors with the last handle.
    owner: Arc<Owner<T>>,
}

struct Owner<T: KeyedEvent>(Arc<Cell<T>>);

impl<T: KeyedEvent> Drop for Owner<T> {
    fn drop(&mut self) {
        self.0.close(true);
    }
}

impl<T: KeyedEvent> KeyedProducer<T> {
    /// Makes a producer without subscribers; events wait for the first one.
    pub fn new(options: KeyedOptions) -> KeyedProducer<T> {
        let cell = Arc::new(Cell::new(&options));
        KeyedProducer { owner: Arc::new(Owner(Arc::clone(&cell))), cell }
    }

    /// Takes a place in the buffer if there is one now.
    ///
    /// # Errors
    /// [`Refused::Full`], [`Refused::Closed`] or [`Refused::TooLarge`].
    pub fn try_reserve(&self, bytes: usize) -> Result<Permit, Refused> {
        self.noted(self.cell.room.try_reserve(bytes))
    }

    /// Takes a place in the buffer, waiting or shedding as [`Full`] says; first come, first served.
    /// Cancel safe: a dropped future leaves the line.
    ///
    /// # Errors
    /// As [`try_reserve`](KeyedProducer::try_reserve).
    pub async fn reserve(&self, bytes: usize) -> Result<Permit, Refused> {
        let outcome = self.cell.room.reserve(bytes, &self.cell.metrics).await;
        self.noted(outcome)
    }

    /// Queues an event behind those of its key. Never waits. The permit travels inside the event.
    ///
    /// # Errors
    /// Hands the event back with [`Refused::KeyFull`] or [`Refused::Closed`].
    pub fn push(&self, event: T) -> Result<(), Rejected<T>> {
        self.cell.push(event, false).inspect_err(|error| self.cell.metrics.refused(error.reason))
    }

    /// Queues an event that was admitted before (a routed call): without the bound of its key, and
    /// also while the doors are closed.
    ///
    /// # Errors
    /// Hands the event back with [`Refused::Closed`] after [`end`](KeyedProducer::end).
    pub fn push_exempt(&self, event: T) -> Result<(), Rejected<T>> {
        self.cell.push(event, true).inspect_err(|error| self.cell.metrics.refused(error.reason))
    }

    /// Drops the [abandoned](KeyedEvent::is_abandoned) events of a key that are still queued;
    /// returns how many.
    pub fn sweep(&self, key: &T::Key) -> usize {
        self.cell.with(|state| state.machine.sweep(key, T::is_abandoned)).len()
    }

    /// Bounds how many events of a lane are in flight at once. `usize::MAX`, the default, is no
    /// limit and forgets the lane when it is quiet.
    pub fn set_lane_limit(&self, lane: u32, in_flight: usize) {
        self.cell.with(|state| state.machine.set_lane_limit(lane, in_flight));
    }

    /// Events that wait for their turn.
    pub fn queued(&self) -> usize {
        self.cell.state.lock().machine.queued()
    }

    /// Events that are out and hold demand; parked keys are not counted.
    pub fn in_flight(&self) -> usize {
        self.cell.state.lock().machine.in_flight()
    }

    /// Places taken in the buffer, wherever the events that hold them are.
    pub fn admitted(&self) -> usize {
        self.cell.room.used()
    }

    /// Closes the doors: [`reserve`](KeyedProducer::reserve) and [`push`](KeyedProducer::push) are
    /// refused, what is queued and what is pushed exempt goes on.
    pub fn close(&self) {
        self.cell.close(false);
    }

    /// Whether nothing is queued, in flight or parked.
    pub fn is_idle(&self) -> bool {
        self.cell.state.lock().machine.is_idle()
    }

    /// Waits until nothing is queued, in flight or parked. Cancel safe.
    pub async fn idle(&self) {
        self.cell.idle().await;
    }

    /// Drops what is queued, refuses everything and ends the subscriptions. What is in flight ends
    /// by itself.
    pub fn end(&self) {
        self.cell.end();
    }

    fn noted<R>(&self, outcome: Result<R, Refused>) -> Result<R, Refused> {
        outcome.inspect_err(|reason| self.cell.metrics.refused(*reason))
    }
}

impl<T: KeyedEvent> Clone for KeyedProducer<T> {
    fn clone(&self) -> KeyedProducer<T> {
        KeyedProducer { cell: Arc::clone(&self.cell), owner: Arc::clone(&self.owner) }
    }
}

impl<T: KeyedEvent> sealed::Sealed for KeyedProducer<T> {}

impl<T: KeyedEvent> Subscribe<Turn<T>> for KeyedProducer<T> {
    fn attach(
        &self,
        request: Attach,
        options: SubscribeOptions,
        _: Option<u32>,
    ) -> Result<Link<Turn<T>>, SubscribeError> {
        self.cell.attach(&request.bell, options)
    }
}

impl<T: KeyedEvent> Door for KeyedProducer<T> {
    fn close(&self) {
        self.cell.close(false);
    }

    fn finished(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.cell.idle())
    }

    fn end(&self) {
        self.cell.end();
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
