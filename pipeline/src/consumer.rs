//! Consumer: runs each event through a tower service.
//!
//! A consumer is one task that reads all its subscriptions. It calls the service for each event and
//! polls the answer once on the spot, so a service that is ready at once costs no task. An answer
//! that is not ready is waited for where it is (`concurrency` 1: one event after the other, in
//! order), or moves to a task of its own, up to `concurrency` of them. A panic or an error ends its
//! event, not the consumer.

use std::fmt::Display;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::Semaphore;
use tower::Service;
use tracing::{error, warn};

use crate::batcher::{self, BatchOptions};
use crate::drain::Drain;
use crate::guard::{self, Panic};
use crate::inbox::{Arrivals, Ended, Inbox, Received};
use crate::metrics::ConsumerMetrics;
use crate::subscription::{
    Batch, Claim, Subscribe, SubscribeError, SubscribeOptions, Subscription,
};

/// How a consumer is made.
#[derive(Debug, Clone, Copy)]
pub struct ConsumerOptions {
    /// Its name in metrics and logs.
    pub name: &'static str,
    /// Most events worked on at once; 1 keeps their order. No more than its subscriptions' maximum
    /// demands together are ever out, whatever this says.
    pub concurrency: usize,
}

/// A running consumer, to subscribe it to producers. Dropping the handle changes nothing: the task is
/// the drain's.
#[derive(Debug)]
pub struct Consumer<E> {
    arrivals: Arc<Arrivals<E>>,
}

impl<E> Clone for Consumer<E> {
    fn clone(&self) -> Consumer<E> {
        Consumer { arrivals: Arc::clone(&self.arrivals) }
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
        let worker = Worker {
            service,
            name: options.name,
            metrics: Arc::new(ConsumerMetrics::new(options.name)),
            slots: (options.concurrency > 1)
                .then(|| Arc::new(Semaphore::new(options.concurrency.min(Semaphore::MAX_PERMITS)))),
            spare: None,
            drain: drain.clone(),
        };
        drain.spawn(worker.run(inbox));
        consumer
    }

    /// Starts a consumer that runs batches of events through `service`. `weigh` says how many bytes
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
        drain.spawn(batcher::run(options, weigh, service, inbox));
        consumer
    }

    pub(crate) fn of(inbox: &Inbox<E>) -> Consumer<E> {
        Consumer { arrivals: inbox.arrivals() }
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
        self.arrivals.subscribe(producer, options, None, None)
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
        self.arrivals.subscribe(producer, options, Some(partition), None)
    }

    /// Subscribes to those events that `selector` wants; the others cost no demand. It runs in the
    /// consumer's task.
    ///
    /// # Errors
    /// See [`SubscribeError`].
    pub fn subscribe_where(
        &self,
        producer: &impl Subscribe<E>,
        options: SubscribeOptions,
        selector: impl FnMut(&E) -> bool + Send + 'static,
    ) -> Result<Subscription, SubscribeError> {
        self.arrivals.subscribe(producer, options, None, Some(Box::new(selector)))
    }

    /// Waits until the consumer has ended.
    pub async fn ended(&self) -> Ended {
        self.arrivals.ended().await
    }
}

/// Counts events that are done and tells the producer now and then.
pub(crate) struct Tally {
    claim: Arc<Claim>,
    done: usize,
}

impl Tally {
    pub(crate) fn new(claim: Arc<Claim>) -> Tally {
        Tally { claim, done: 0 }
    }

    pub(crate) fn one(&mut self) {
        self.done += 1;
        if self.done >= self.claim.stride {
            self.tell();
        }
    }

    pub(crate) fn is_of(&self, claim: &Arc<Claim>) -> bool {
        Arc::ptr_eq(&self.claim, claim)
    }

    pub(crate) fn add(&mut self, events: usize) {
        self.done += events;
    }

    pub(crate) fn tell(&mut self) {
        self.claim.done(std::mem::take(&mut self.done));
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.tell();
    }
}

/// Inline events between two offers to let other tasks run.
pub(crate) const YIELD_EVERY: usize = 64;

struct Worker<S, F> {
    service: S,
    name: &'static str,
    metrics: Arc<ConsumerMetrics>,
    /// Tasks that may run beside the consumer; `None`: one event after the other.
    slots: Option<Arc<Semaphore>>,
    /// A box for the next answer, used again until an answer moves away with it.
    spare: Option<Pin<Box<Option<F>>>>,
    drain: Drain,
}

impl<S, F> Worker<S, F> {
    async fn run<E>(mut self, mut inbox: Inbox<E>)
    where
        E: Send + 'static,
        S: Service<E, Response = (), Future = F>,
        S::Error: Display,
        F: Future<Output = Result<(), S::Error>> + Send + 'static,
    {
        let ended = loop {
            match poll_fn(|cx| inbox.poll(cx)).await {
                Received::Ended(ended) => break ended,
                Received::Events(claim, events) => {
                    if let Err(ended) = self.work(claim, events).await {
                        break ended;
                    }
                }
            }
            tokio::task::coop::consume_budget().await;
        };
        inbox.end(ended);
    }

    async fn work<E>(&mut self, claim: Arc<Claim>, events: Batch<E>) -> Result<(), Ended>
    where
        E: Send + 'static,
        S: Service<E, Response = (), Future = F>,
        S::Error: Display,
        F: Future<Output = Result<(), S::Error>> + Send + 'static,
    {
        let mut tally = Tally::new(claim);
        for (count, event) in (1..).zip(events) {
            if let Some(slots) = &self.slots {
                vacancy(slots, &mut tally).await;
            }
            self.ready(&mut tally).await?;
            match guard::run(|| self.service.call(event)) {
                Err(panic) => self.note::<S::Error>(Err(panic)),
                Ok(answer) if self.slots.is_none() => {
                    let outcome = in_place(answer, &mut tally).await;
                    self.note(outcome);
                }
                Ok(answer) => {
                    if !self.beside(answer, &mut tally).await {
                        continue;
                    }
                }
            }
            tally.one();
            if count % YIELD_EVERY == 0 {
                tokio::task::coop::consume_budget().await;
            }
        }
        Ok(())
    }

    async fn ready<E>(&mut self, tally: &mut Tally) -> Result<(), Ended>
    where
        S: Service<E, Response = (), Future = F>,
        S::Error: Display,
    {
        let service = &mut self.service;
        let ready = poll_fn(|cx| {
            let ready = service.poll_ready(cx);
            if ready.is_pending() {
                // What is done is told before a wait that may be long.
                tally.tell();
            }
            ready
        });
        match guard::catch(ready).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                error!(consumer = self.name, %error, "the service takes no more events");
                Err(Ended::ServiceFailed)
            }
            Err(panic) => {
                error!(consumer = self.name, %panic, "the service panicked when asked for readiness");
                Err(Ended::ServiceFailed)
            }
        }
    }

    /// Polls an answer once and moves it to a task if it is not ready; whether it was.
    async fn beside<X>(&mut self, answer: F, tally: &mut Tally) -> bool
    where
        X: Display,
        F: Future<Output = Result<(), X>> + Send + 'static,
    {
        let mut place = self.spare.take().unwrap_or_else(|| Box::pin(None));
        place.set(Some(answer));
        let first = poll_fn(|cx| {
            let answer = place.as_mut().as_pin_mut();
            Poll::Ready(answer.map_or(Poll::Pending, |answer| guard::poll(answer, cx)))
        });
        if let Poll::Ready(outcome) = first.await {
            let dropped = guard::run(|| place.set(None));
            self.note(outcome.and_then(|outcome| dropped.map(|()| outcome)));
            self.spare = Some(place);
            return true;
        }
        // There is one: see `vacancy`.
        let slot = self.slots.as_ref().and_then(|slots| Arc::clone(slots).try_acquire_owned().ok());
        let (name, metrics) = (self.name, Arc::clone(&self.metrics));
        let mut tally = Tally::new(Arc::clone(&tally.claim));
        tally.add(1);
        self.drain.spawn(async move {
            let outcome = guard::catch(poll_fn(|cx| match place.as_mut().as_pin_mut() {
                Some(answer) => answer.poll(cx),
                None => Poll::Ready(Ok(())),
            }));
            note(name, &metrics, outcome.await);
            drop((place, tally, slot));
        });
        false
    }

    fn note<X: Display>(&self, outcome: Result<Result<(), X>, Panic>) {
        note(self.name, &self.metrics, outcome);
    }
}

/// Waits until one more answer may move to a task of its own. Only the consumer takes slots, so what
/// is free now is free later.
async fn vacancy(slots: &Semaphore, tally: &mut Tally) {
    if slots.available_permits() == 0 {
        // What is done is told before a wait that may be long.
        tally.tell();
        // Given back at once; the semaphore is never closed.
        drop(slots.acquire().await);
    }
}

/// Waits for an answer in the consumer's own task.
async fn in_place<F: Future>(answer: F, tally: &mut Tally) -> Result<F::Output, Panic> {
    let mut answer = pin!(answer);
    poll_fn(|cx| {
        let polled = guard::poll(answer.as_mut(), cx);
        if polled.is_pending() {
            // What is done is told before a wait that may be long.
            tally.tell();
        }
        polled
    })
    .await
}

/// Counts and logs an event that did not end well: here is where its error stops.
pub(crate) fn note<X: Display>(
    name: &'static str,
    metrics: &ConsumerMetrics,
    outcome: Result<Result<(), X>, Panic>,
) {
    match outcome {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            metrics.failed.increment(1);
            warn!(consumer = name, %error, "event failed");
        }
        Err(panic) => {
            metrics.panicked.increment(1);
            error!(consumer = name, %panic, "event panicked");
        }
    }
}
