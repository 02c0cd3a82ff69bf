//! Producer: a bounded buffer, a dispatcher, and subscribers with demand.
//!
//! A producer that is pushed to ([`Producer::new`]) has no task: whoever pushes or asks runs the
//! dispatcher for a moment under one lock. A producer that pulls from a [`Source`]
//! ([`Producer::from_source`]) has one, which asks the source for exactly what its subscribers ask for.

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::buffer::{Bound, Full, Permit, Refused, Rejected};
use crate::dispatcher::{Demand, Dispatcher, sealed};
use crate::drain::{Door, Drain};
use crate::subscription::{Attach, Link, Subscribe, SubscribeError, SubscribeOptions};

mod call;
pub(crate) mod cell;
mod door;
mod source;

pub use call::{Call, CallError, Reply};
pub use door::{CallDoor, CastDoor, Casting};
pub use source::Source;

use cell::Cell;

/// How a producer is made.
#[derive(Debug, Clone, Copy)]
pub struct ProducerOptions {
    /// Its name in metrics.
    pub name: &'static str,
    /// How much may wait in its buffer.
    pub bound: Bound,
    /// What a full buffer does.
    pub full: Full,
}

/// Producer of events; see the [module](self). Cheap to clone. When the last handle is dropped it
/// closes: what waits is granted, then the subscriptions end.
pub struct Producer<T: Send + 'static, D: Dispatcher<T> = Demand<T>> {
    pub(crate) cell: Arc<Cell<T, D>>,
    /// Closes with the last handle; `None` for producers that are fed by a task of their own.
    owner: Option<Arc<Owner<T, D>>>,
}

struct Owner<T: Send + 'static, D: Dispatcher<T>>(Arc<Cell<T, D>>);

impl<T: Send + 'static, D: Dispatcher<T>> Drop for Owner<T, D> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl<T: Send + 'static, D: Dispatcher<T>> Producer<T, D> {
    /// Makes a producer without subscribers; events wait in the buffer for the first one.
    pub fn new(options: ProducerOptions, dispatcher: D) -> Producer<T, D> {
        let cell = Arc::new(Cell::new(options, dispatcher));
        Producer { owner: Some(Arc::new(Owner(Arc::clone(&cell)))), cell }
    }

    /// Makes a producer that pulls its events from a source, in a task of the drain's. It ends, after
    /// its last event, when the source does; it fails when the source panics. Closing it drops the
    /// source, also while it makes events.
    pub fn from_source(
        name: &'static str,
        dispatcher: D,
        source: impl Source<Event = T>,
        drain: &Drain,
    ) -> Producer<T, D> {
        let producer = Producer::fed(name, dispatcher);
        drain.spawn(source::run(Arc::clone(&producer.cell), source));
        producer
    }

    /// Makes a producer that only its own task feeds: it has no room for events of others.
    pub(crate) fn fed(name: &'static str, dispatcher: D) -> Producer<T, D> {
        let bound = Bound { events: 0, bytes: 0 };
        let options = ProducerOptions { name, bound, full: Full::Shed };
        Producer { cell: Arc::new(Cell::new(options, dispatcher)), owner: None }
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
    /// As [`try_reserve`](Producer::try_reserve).
    pub async fn reserve(&self, bytes: usize) -> Result<Permit, Refused> {
        let outcome = self.cell.room.reserve(bytes, &self.cell.metrics).await;
        self.noted(outcome)
    }

    /// Puts an event into the place that was taken for it. Never waits; the place is free again when
    /// the event is granted to a subscriber.
    ///
    /// # Errors
    /// Hands the event back with [`Refused::Closed`].
    pub fn cast(&self, event: T, permit: Permit) -> Result<(), Rejected<T>> {
        debug_assert!(permit.is_of(&self.cell.room), "a permit of another producer");
        self.cell.cast(event, permit).map_err(|event| {
            self.cell.metrics.refused(Refused::Closed);
            Rejected { event, reason: Refused::Closed }
        })
    }

    /// Makes a tower service that casts: its readiness is room in the buffer. `weigh` says how many
    /// bytes an event counts for.
    pub fn cast_door(&self, weigh: fn(&T) -> usize) -> CastDoor<T, D> {
        CastDoor::new(self.clone(), weigh)
    }

    /// Events that wait in the buffer.
    pub fn queued(&self) -> usize {
        self.cell.queued()
    }

    /// Events that subscribers ask for and that are not there.
    pub fn wanted(&self) -> usize {
        self.cell.wanted()
    }

    /// Refuses new events; what waits is granted, then the subscriptions end. Idempotent.
    pub fn close(&self) {
        self.cell.close();
    }

    /// Drops what waits and ends the subscriptions. Idempotent.
    pub fn end(&self) {
        self.cell.end(false);
    }

    /// Waits until it is closed, everything was granted, and the consumers are done with it.
    pub async fn finished(&self) {
        self.cell.finished().await;
    }

    fn noted<R>(&self, outcome: Result<R, Refused>) -> Result<R, Refused> {
        outcome.inspect_err(|reason| self.cell.metrics.refused(*reason))
    }
}

impl<T: Send + 'static, D: Dispatcher<T>> Clone for Producer<T, D> {
    fn clone(&self) -> Producer<T, D> {
        Producer { cell: Arc::clone(&self.cell), owner: self.owner.clone() }
    }
}

impl<T: Send + 'static, D: Dispatcher<T>> sealed::Sealed for Producer<T, D> {}

impl<T: Send + 'static, D: Dispatcher<T>> Subscribe<T> for Producer<T, D> {
    fn attach(
        &self,
        request: Attach,
        options: SubscribeOptions,
        partition: Option<u32>,
    ) -> Result<Link<T>, SubscribeError> {
        self.cell.attach(&request.bell, options, partition)
    }
}

impl<T: Send + 'static, D: Dispatcher<T>> Door for Producer<T, D> {
    fn close(&self) {
        self.cell.close();
    }

    fn finished(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.cell.finished())
    }

    fn end(&self) {
        self.cell.end(false);
    }
}

impl<T: Send + 'static, D: Dispatcher<T>> fmt::Debug for Producer<T, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("queued", &self.queued()).finish_non_exhaustive()
    }
}
