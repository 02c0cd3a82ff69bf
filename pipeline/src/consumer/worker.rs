//! Worker: the task of a consumer that runs its service once per event.
//!
//! The worker calls the service and polls the returned future once on the spot, so an event that is
//! done at once costs no task. This first poll wakes nobody. A future that is not ready is awaited in place (`concurrency` 1: one
//! event after the other, in order), or moves to a task of its own, up to `concurrency` of them.

use std::fmt::Display;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::sync::Semaphore;
use tower::Service;

use crate::consumer::{ConsumerOptions, YIELD_EVERY};
use crate::drain::Drain;
use crate::guard::{self, Panic};
use crate::inbox::{Ended, Inbox, Received};
use crate::outcomes::Outcomes;
use crate::subscription::{Batch, DemandSender};
use crate::tally::Tally;

pub(super) struct Worker<S, F> {
    service: S,
    outcomes: Arc<Outcomes>,
    /// One permit per task that may run beside the worker; `None` when events run one by one.
    slots: Option<Arc<Semaphore>>,
    /// A box for the next future. It is used again unless a future moved to a task with it.
    spare_box: Option<Pin<Box<Option<F>>>>,
    drain: Drain,
}

impl<S, F> Worker<S, F> {
    pub(super) fn new(options: ConsumerOptions, service: S, drain: &Drain) -> Worker<S, F> {
        let slots = options.concurrency.min(Semaphore::MAX_PERMITS);
        Worker {
            service,
            outcomes: Arc::new(Outcomes::new(options.name)),
            slots: (options.concurrency > 1).then(|| Arc::new(Semaphore::new(slots))),
            spare_box: None,
            drain: drain.clone(),
        }
    }

    pub(super) async fn run<E>(mut self, mut inbox: Inbox<E>)
    where
        E: Send + 'static,
        S: Service<E, Response = (), Future = F>,
        S::Error: Display,
        F: Future<Output = Result<(), S::Error>> + Send + 'static,
    {
        let ended = loop {
            match poll_fn(|cx| inbox.poll(cx)).await {
                Received::Ended(ended) => break ended,
                Received::Events(demand, events) => {
                    if let Err(ended) = self.work(demand, events).await {
                        break ended;
                    }
                }
            }
            tokio::task::coop::consume_budget().await;
        };
        inbox.end(ended);
    }

    async fn work<E>(&mut self, demand: Arc<DemandSender>, events: Batch<E>) -> Result<(), Ended>
    where
        E: Send + 'static,
        S: Service<E, Response = (), Future = F>,
        S::Error: Display,
        F: Future<Output = Result<(), S::Error>> + Send + 'static,
    {
        let mut tally = Tally::new(demand);
        for (count, event) in (1..).zip(events) {
            if let Some(slots) = &self.slots {
                wait_for_slot(slots, &mut tally).await;
            }
            self.ready(&mut tally).await?;
            match guard::run(|| self.service.call(event)) {
                Err(panic) => {
                    self.outcomes.record::<(), S::Error>(Err(panic));
                }
                Ok(future) if self.slots.is_none() => {
                    let outcome = run_in_place(future, &mut tally).await;
                    self.outcomes.record(outcome);
                }
                Ok(future) => {
                    if !self.poll_or_spawn(future, &mut tally) {
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
                // The wait may be long: finished events are reported before it.
                tally.report();
            }
            ready
        });
        self.outcomes.ready(guard::catch(ready).await)
    }

    /// Polls a future once and moves it to a task if it is not ready. Returns whether it was ready.
    fn poll_or_spawn<X>(&mut self, future: F, tally: &mut Tally) -> bool
    where
        X: Display,
        F: Future<Output = Result<(), X>> + Send + 'static,
    {
        let mut boxed = self.spare_box.take().unwrap_or_else(|| Box::pin(None));
        boxed.set(Some(future));
        // Nobody is to be woken: a future that is not ready is polled again, by its own task.
        let mut cx = Context::from_waker(Waker::noop());
        let future = boxed.as_mut().as_pin_mut();
        let first = future.map_or(Poll::Pending, |future| guard::poll(future, &mut cx));
        if let Poll::Ready(outcome) = first {
            let dropped = guard::run(|| boxed.set(None));
            self.outcomes.record(outcome.and_then(|outcome| dropped.map(|()| outcome)));
            self.spare_box = Some(boxed);
            return true;
        }
        // `wait_for_slot` made sure that there is one.
        let slot = self.slots.as_ref().and_then(|slots| Arc::clone(slots).try_acquire_owned().ok());
        let outcomes = Arc::clone(&self.outcomes);
        let mut tally = Tally::new(Arc::clone(tally.demand()));
        tally.add(1);
        self.drain.spawn(async move {
            let outcome = guard::catch(poll_fn(|cx| match boxed.as_mut().as_pin_mut() {
                Some(future) => future.poll(cx),
                None => Poll::Ready(Ok(())),
            }));
            outcomes.record(outcome.await);
            drop((boxed, tally, slot));
        });
        false
    }
}

/// Waits until one more future may move to a task of its own. Only the worker takes slots, so a slot
/// that is free now is still free when the worker needs it.
async fn wait_for_slot(slots: &Semaphore, tally: &mut Tally) {
    if slots.available_permits() == 0 {
        // The wait may be long: finished events are reported before it.
        tally.report();
        // Given back at once; the semaphore is never closed.
        drop(slots.acquire().await);
    }
}

/// Waits for a future in the worker's own task.
async fn run_in_place<F: Future>(future: F, tally: &mut Tally) -> Result<F::Output, Panic> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        let polled = guard::poll(future.as_mut(), cx);
        if polled.is_pending() {
            // The wait may be long: finished events are reported before it.
            tally.report();
        }
        polled
    })
    .await
}
