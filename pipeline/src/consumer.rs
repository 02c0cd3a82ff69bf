//! Consumer: runs each event, or each batch of events, through a tower service.
//!
//! A consumer is one task that reads all its subscriptions. A panic or an error ends its event, not
//! the consumer. How one event after the other runs is in `consumer/worker.rs`, how batches run in
//! [`batcher`].

use std::fmt::Display;
use std::sync::Arc;

use tower::Service;

use crate::batcher::{self, BatchOptions};
use crate::drain::Drain;
use crate::inbox::{Ended, Inbox, InboxHandle};
use crate::subscription::{Subscribe, SubscribeError, SubscribeOptions, Subscription};

mod worker;

use worker::Worker;

/// Events that run in the consumer's own task before other tasks may run.
pub(crate) const YIELD_EVERY: usize = 64;

/// How a consumer is made.
#[derive(Debug, Clone, Copy)]
pub struct ConsumerOptions {
    /// Its name in metrics and logs.
    pub name: &'static str,
    /// How many events may run at once. 1 keeps their order. The maximum demands of its
    /// subscriptions bound this number too.
    pub concurrency: usize,
}

/// A handle on a running consumer, which subscribes it to producers. Cheap to clone. Dropping it does
/// not end the consumer: its task belongs to the [`Drain`].
#[derive(Debug)]
pub struct Consumer<E> {
    inbox: Arc<InboxHandle<E>>,
}

impl<E> Clone for Consumer<E> {
    fn clone(&self) -> Consumer<E> {
        Consumer { inbox: Arc::clone(&self.inbox) }
    }
}

impl<E: Send + 'static> Consumer<E> {
    /// Starts a consumer that runs each event through `service`.
    pub fn spawn<S>(options: ConsumerOptions, service: S, drain: &Drain) -> Consumer<E>
    where
        S: Service<E, Response = ()> + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Display,
    {
        let inbox = Inbox::new(drain, true);
        let consumer = Consumer::of(&inbox);
        drain.supervise(options.name, Worker::new(options, service, drain).run(inbox));
        consumer
    }

    /// Starts a consumer that runs batches of events through `service`. `weigh` returns how many bytes
    /// an event counts for.
    pub fn spawn_batched<S>(
        options: BatchOptions,
        weigh: fn(&E) -> usize,
        service: S,
        drain: &Drain,
    ) -> Consumer<E>
    where
        S: Service<Vec<E>, Response = ()> + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Display,
    {
        let inbox = Inbox::new(drain, true);
        let consumer = Consumer::of(&inbox);
        drain.supervise(options.name, batcher::run(options, weigh, service, inbox));
        consumer
    }

    pub(crate) fn of(inbox: &Inbox<E>) -> Consumer<E> {
        Consumer { inbox: inbox.handle() }
    }

    /// Subscribes to one more producer.
    ///
    /// # Errors
    /// See [`SubscribeError`].
    pub fn subscribe(
        &self,
        producer: &impl Subscribe<E>,
        options: SubscribeOptions,
    ) -> Result<Subscription, SubscribeError> {
        self.inbox.subscribe(producer, options, None, None)
    }

    /// Subscribes to one partition of a [partitioned](crate::Partition) producer.
    ///
    /// # Errors
    /// See [`SubscribeError`].
    pub fn subscribe_partition(
        &self,
        producer: &impl Subscribe<E>,
        partition: u32,
        options: SubscribeOptions,
    ) -> Result<Subscription, SubscribeError> {
        self.inbox.subscribe(producer, options, Some(partition), None)
    }

    /// Subscribes to the events for which `selector` returns true. The selector runs in the consumer's
    /// task and drops the other events there. They cost no demand: the consumer asks for each of them
    /// again at once.
    ///
    /// # Errors
    /// See [`SubscribeError`].
    pub fn subscribe_where(
        &self,
        producer: &impl Subscribe<E>,
        options: SubscribeOptions,
        selector: impl FnMut(&E) -> bool + Send + 'static,
    ) -> Result<Subscription, SubscribeError> {
        self.inbox.subscribe(producer, options, None, Some(Box::new(selector)))
    }

    /// Waits until the consumer has ended.
    pub async fn ended(&self) -> Ended {
        self.inbox.ended().await
    }
}
