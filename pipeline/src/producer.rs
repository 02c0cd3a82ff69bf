//! Producer: a bounded buffer, a dispatcher, and subscribers with demand.
//!
//! A producer that callers push to ([`Producer::new`]) has no task: whoever pushes or asks runs the
//! dispatcher for a moment under one lock. A producer that pulls from a [`Source`]
//! ([`Producer::from_source`]) has a task, which asks the source for exactly as many events as its
//! subscribers ask for.

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::buffer::{Bound, Full, Permit, Refused, Rejected};
use crate::dispatcher::{Demand, Dispatcher};
use crate::drain::{Drain, Drainable};
use crate::metrics::{StageView, show};
use crate::sealed::Sealed;
use crate::subscription::{Attach, Link, Subscribe, SubscribeError, SubscribeOptions};

mod call;
pub(crate) mod shared;
mod service;
mod source;

pub use call::{Call, CallError, Reply};
pub use service::{CallService, CastFuture, CastService};
pub use source::Source;

use shared::ProducerShared;

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

/// A producer of events; see the [module](self). Cheap to clone. It closes when the last handle is
/// dropped: waiting events are still granted, then the subscriptions end.
pub struct Producer<T: Send + 'static, D: Dispatcher<T> = Demand<T>> {
    pub(crate) shared: Arc<ProducerShared<T, D>>,
    /// Closes the producer when the last handle is dropped; `None` when a task feeds the producer.
    close_on_drop: Option<Arc<CloseOnDrop<T, D>>>,
}

struct CloseOnDrop<T: Send + 'static, D: Dispatcher<T>>(Arc<ProducerShared<T, D>>);

impl<T: Send + 'static, D: Dispatcher<T>> Drop for CloseOnDrop<T, D> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl<T: Send + 'static, D: Dispatcher<T>> Producer<T, D> {
    /// Makes a producer without subscribers. Events wait in the buffer for the first one.
    pub fn new(options: ProducerOptions, dispatcher: D) -> Producer<T, D> {
        let shared = Arc::new(ProducerShared::new(options, dispatcher));
        Producer { close_on_drop: Some(Arc::new(CloseOnDrop(Arc::clone(&shared)))), shared }
    }

    /// Makes a producer that pulls its events from a source. Its task belongs to the drain. When the
    /// source ends, the producer ends after its last event. When the source panics, the producer
    /// fails. Closing the producer drops the source, even while it makes events.
    pub fn from_source(
        name: &'static str,
        dispatcher: D,
        source: impl Source<Event = T>,
        drain: &Drain,
    ) -> Producer<T, D> {
        let producer = Producer::fed(name, dispatcher);
        drain.supervise(name, source::run(Arc::clone(&producer.shared), source));
        producer
    }

    /// Makes a producer that only its own task feeds. Its buffer has no place for other events.
    pub(crate) fn fed(name: &'static str, dispatcher: D) -> Producer<T, D> {
        let bound = Bound { events: 0, bytes: 0 };
        let options = ProducerOptions { name, bound, full: Full::Shed };
        Producer { shared: Arc::new(ProducerShared::new(options, dispatcher)), close_on_drop: None }
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
    /// As [`try_reserve`](Producer::try_reserve).
    pub async fn reserve(&self, bytes: usize) -> Result<Permit, Refused> {
        let outcome = self.shared.capacity.reserve(bytes, None, &self.shared.metrics).await;
        self.counted(outcome)
    }

    /// Puts an event into the place that was taken for it. Never waits. The place is free again when
    /// the event is granted to a subscriber.
    ///
    /// # Errors
    /// Returns the event with [`Refused::Closed`].
    pub fn cast(&self, event: T, permit: Permit) -> Result<(), Rejected<T>> {
        debug_assert!(permit.is_of(&self.shared.capacity), "a permit of another producer");
        self.shared.cast(event, Some(permit)).map_err(|event| {
            self.shared.metrics.refused(Refused::Closed);
            Rejected { event, reason: Refused::Closed }
        })
    }

    /// Puts in an event that takes no place in the buffer. Something else must bound it, such as a permit that it carries.
    ///
    /// # Errors
    /// Returns the event with [`Refused::Closed`].
    pub fn cast_exempt(&self, event: T) -> Result<(), Rejected<T>> {
        self.shared.cast(event, None).map_err(|event| {
            self.shared.metrics.refused(Refused::Closed);
            Rejected { event, reason: Refused::Closed }
        })
    }

    /// Makes a tower service that casts. It is ready when the buffer has a free place. `weigh` returns
    /// how many bytes an event counts for.
    pub fn cast_service(&self, weigh: fn(&T) -> usize) -> CastService<T, D> {
        CastService::new(self.clone(), weigh)
    }

    /// Returns how many events wait in the buffer.
    pub fn queued(&self) -> usize {
        self.shared.queued()
    }

    /// Returns how many events subscribers ask for beyond those that wait.
    pub fn wanted(&self) -> usize {
        self.shared.wanted()
    }

    /// Sets the gauges of this stage to what they are now.
    pub fn observe(&self) {
        let (queued, demand) = (self.queued(), self.wanted());
        let (held, limit) = (self.shared.capacity.held(), self.shared.capacity.limit());
        let view = StageView { queued, in_flight: None, parked: None, demand, held, limit };
        show(self.shared.metrics.stage, &view);
    }

    /// Refuses new events. Waiting events are still granted, then the subscriptions end. Idempotent.
    pub fn close(&self) {
        self.shared.close();
    }

    /// Drops the waiting events and ends the subscriptions. Idempotent.
    pub fn end(&self) {
        self.shared.end(false);
    }

    /// Waits until the producer is closed, all its events are granted, and its consumers have finished them.
    pub async fn finished(&self) {
        self.shared.finished().await;
    }

    fn counted<R>(&self, outcome: Result<R, Refused>) -> Result<R, Refused> {
        outcome.inspect_err(|reason| self.shared.metrics.refused(*reason))
    }
}

impl<T: Send + 'static, D: Dispatcher<T>> Clone for Producer<T, D> {
    fn clone(&self) -> Producer<T, D> {
        Producer { shared: Arc::clone(&self.shared), close_on_drop: self.close_on_drop.clone() }
    }
}

impl<T: Send + 'static, D: Dispatcher<T>> Sealed for Producer<T, D> {}

impl<T: Send + 'static, D: Dispatcher<T>> Subscribe<T> for Producer<T, D> {
    fn attach(
        &self,
        request: Attach,
        options: SubscribeOptions,
        partition: Option<u32>,
    ) -> Result<Link<T>, SubscribeError> {
        self.shared.attach(&request.waker, options, partition)
    }
}

impl<T: Send + 'static, D: Dispatcher<T>> Drainable for Producer<T, D> {
    fn close(&self) {
        self.shared.close();
    }

    fn finished(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.shared.finished())
    }

    fn end(&self) {
        self.shared.end(false);
    }
}

impl<T: Send + 'static, D: Dispatcher<T>> fmt::Debug for Producer<T, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("queued", &self.queued()).finish_non_exhaustive()
    }
}
