//! Producer-consumer: takes events, makes others of them, passes demand on.
//!
//! It works only while its own subscribers ask for more than is there, and asks its producers for the
//! first time when it is first asked itself, so demand travels from the last consumer to the first
//! producer. What one answer of the service makes beyond that waits in its buffer, and nothing more
//! is worked on until that is gone.

use std::fmt::Display;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tower::Service;
use tracing::error;

use crate::consumer::{Consumer, Tally, YIELD_EVERY, note};
use crate::dispatcher::{Demand, Dispatcher, sealed};
use crate::drain::Drain;
use crate::guard::{self, Panic};
use crate::inbox::{Ended, Inbox, Received};
use crate::metrics::ConsumerMetrics;
use crate::producer::Producer;
use crate::producer::cell::Cell;
use crate::subscription::{
    Attach, Batch, Claim, Link, Subscribe, SubscribeError, SubscribeOptions, Subscription,
};

/// A running stage between a producer and a consumer; see the [module](self).
#[derive(Debug)]
pub struct ProducerConsumer<E, T: Send + 'static, D: Dispatcher<T> = Demand<T>> {
    consumer: Consumer<E>,
    producer: Producer<T, D>,
}

impl<E: Send + 'static, T: Send + 'static, D: Dispatcher<T>> ProducerConsumer<E, T, D> {
    /// Starts a stage that runs each event through `service`, one after the other, and produces what
    /// its answers hold (an `Option`, an array, a `Vec`).
    pub fn spawn<S>(name: &'static str, dispatcher: D, service: S, drain: &Drain) -> Self
    where
        S: Service<E> + Send + 'static,
        S::Response: IntoIterator<Item = T> + Send,
        S::Future: Send + 'static,
        S::Error: Display + Send,
    {
        ProducerConsumer::start(name, dispatcher, drain, |stage, inbox| {
            Worker { stage, service }.run(inbox)
        })
    }

    /// Starts a stage that runs all events that came together, as many as are asked of it, through
    /// `service` at once.
    pub fn spawn_batched<S>(name: &'static str, dispatcher: D, service: S, drain: &Drain) -> Self
    where
        S: Service<Vec<E>> + Send + 'static,
        S::Response: IntoIterator<Item = T> + Send,
        S::Future: Send + 'static,
        S::Error: Display + Send,
    {
        ProducerConsumer::start(name, dispatcher, drain, |stage, inbox| {
            Batched { stage, service }.run(inbox)
        })
    }

    fn start<F>(
        name: &'static str,
        dispatcher: D,
        drain: &Drain,
        run: impl FnOnce(Stage<T, D>, Inbox<E>) -> F,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let producer = Producer::fed(name, dispatcher);
        let inbox = Inbox::new(drain, false);
        let consumer = Consumer::of(&inbox);
        let metrics = ConsumerMetrics::new(name);
        let stage = Stage { cell: Arc::clone(&producer.cell), name, metrics };
        drain.spawn(run(stage, inbox));
        ProducerConsumer { consumer, producer }
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
        self.consumer.subscribe(producer, options)
    }

    /// Its consuming side.
    pub fn consumer(&self) -> &Consumer<E> {
        &self.consumer
    }

    /// Its producing side.
    pub fn producer(&self) -> &Producer<T, D> {
        &self.producer
    }
}

impl<E, T: Send + 'static, D: Dispatcher<T>> sealed::Sealed for ProducerConsumer<E, T, D> {}

impl<E, T: Send + 'static, D: Dispatcher<T>> Subscribe<T> for ProducerConsumer<E, T, D> {
    fn attach(
        &self,
        request: Attach,
        options: SubscribeOptions,
        partition: Option<u32>,
    ) -> Result<Link<T>, SubscribeError> {
        self.producer.attach(request, options, partition)
    }
}

/// The producing side, as the stage's task sees it.
struct Stage<T: Send + 'static, D: Dispatcher<T>> {
    cell: Arc<Cell<T, D>>,
    name: &'static str,
    metrics: ConsumerMetrics,
}

/// Subscribers learn how the stage ended, also when its task is aborted.
impl<T: Send + 'static, D: Dispatcher<T>> Drop for Stage<T, D> {
    fn drop(&mut self) {
        if !self.cell.is_closed() {
            self.cell.end(true);
        }
    }
}

impl<T: Send + 'static, D: Dispatcher<T>> Stage<T, D> {
    /// How many events subscribers wait for, when they do.
    async fn wanted(&self) -> Result<usize, Ended> {
        poll_fn(|cx| self.cell.poll_wanted(cx)).await.ok_or(Ended::Finished)
    }

    /// The next events, when somebody waits for what becomes of them.
    async fn next<E>(&self, inbox: &mut Inbox<E>) -> Result<(Arc<Claim>, Batch<E>), Ended> {
        self.wanted().await?;
        inbox.open();
        poll_fn(|cx| match inbox.poll(cx) {
            Poll::Ready(Received::Events(claim, events)) => Poll::Ready(Ok((claim, events))),
            Poll::Ready(Received::Ended(ended)) => Poll::Ready(Err(ended)),
            Poll::Pending => self.cell.poll_closed(cx).map(|()| Err(Ended::Finished)),
        })
        .await
    }

    fn feed(&self, events: &mut Vec<T>) -> Result<(), Ended> {
        if events.is_empty() {
            return Ok(());
        }
        self.cell.feed(std::mem::take(events)).map_err(|_| Ended::Finished)
    }

    fn ready<X: Display>(&self, ready: Result<Result<(), X>, Panic>) -> Result<(), Ended> {
        match ready {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error!(stage = self.name, %error, "the service takes no more events"),
            Err(panic) => {
                error!(stage = self.name, %panic, "the service panicked when asked for readiness");
            }
        }
        Err(Ended::ServiceFailed)
    }

    /// Tells both sides how it ended; what waits is still granted.
    fn end<E>(&self, inbox: &Inbox<E>, ended: Ended) {
        inbox.end(ended);
        if ended == Ended::Finished { self.cell.close() } else { self.cell.close_failed() }
    }

    /// What an answer holds; `None` when there was none, which is noted.
    fn answer<O, X: Display>(&self, outcome: Result<Result<O, X>, Panic>) -> Option<O> {
        match outcome {
            Ok(Ok(answer)) => Some(answer),
            Ok(Err(error)) => {
                note(self.name, &self.metrics, Ok(Err(error)));
                None
            }
            Err(panic) => {
                note::<X>(self.name, &self.metrics, Err(panic));
                None
            }
        }
    }
}

/// Event by event.
struct Worker<T: Send + 'static, D: Dispatcher<T>, S> {
    stage: Stage<T, D>,
    service: S,
}

impl<T: Send + 'static, D: Dispatcher<T>, S> Worker<T, D, S> {
    async fn run<E>(mut self, mut inbox: Inbox<E>)
    where
        S: Service<E>,
        S::Response: IntoIterator<Item = T>,
        S::Error: Display,
    {
        let ended = loop {
            let worked = match self.stage.next(&mut inbox).await {
                Ok((claim, events)) => self.work(claim, events).await,
                Err(ended) => Err(ended),
            };
            if let Err(ended) = worked {
                break ended;
            }
            tokio::task::coop::consume_budget().await;
        };
        self.stage.end(&inbox, ended);
    }

    async fn work<E>(&mut self, claim: Arc<Claim>, events: Batch<E>) -> Result<(), Ended>
    where
        S: Service<E>,
        S::Response: IntoIterator<Item = T>,
        S::Error: Display,
    {
        let Worker { stage, service } = self;
        let mut wanted = stage.wanted().await?;
        let mut made = Vec::with_capacity(wanted.min(events.len()));
        let mut tally = Tally::new(claim);
        for (count, event) in (1..).zip(events) {
            if made.len() >= wanted {
                stage.feed(&mut made)?;
                tally.tell();
                wanted = stage.wanted().await?;
            }
            stage.ready(guard::catch(poll_fn(|cx| service.poll_ready(cx))).await)?;
            let outcome = match guard::run(|| service.call(event)) {
                Err(panic) => Err(panic),
                Ok(answer) => {
                    let mut answer = pin!(answer);
                    let first = poll_fn(|cx| Poll::Ready(guard::poll(answer.as_mut(), cx))).await;
                    if let Poll::Ready(outcome) = first {
                        outcome
                    } else {
                        // What is done is passed on before a wait that may be long.
                        stage.feed(&mut made)?;
                        tally.tell();
                        let outcome = guard::catch(answer).await;
                        wanted = stage.cell.wanted();
                        outcome
                    }
                }
            };
            made.extend(stage.answer(outcome).into_iter().flatten());
            tally.one();
            if count % YIELD_EVERY == 0 {
                tokio::task::coop::consume_budget().await;
            }
        }
        stage.feed(&mut made)
    }
}

/// All at once.
struct Batched<T: Send + 'static, D: Dispatcher<T>, S> {
    stage: Stage<T, D>,
    service: S,
}

impl<T: Send + 'static, D: Dispatcher<T>, S> Batched<T, D, S> {
    async fn run<E>(mut self, mut inbox: Inbox<E>)
    where
        S: Service<Vec<E>>,
        S::Response: IntoIterator<Item = T>,
        S::Error: Display,
    {
        let ended = loop {
            let worked = match self.stage.next(&mut inbox).await {
                Ok((claim, events)) => self.work(claim, events).await,
                Err(ended) => Err(ended),
            };
            if let Err(ended) = worked {
                break ended;
            }
            tokio::task::coop::consume_budget().await;
        };
        self.stage.end(&inbox, ended);
    }

    async fn work<E>(&mut self, claim: Arc<Claim>, events: Batch<E>) -> Result<(), Ended>
    where
        S: Service<Vec<E>>,
        S::Response: IntoIterator<Item = T>,
        S::Error: Display,
    {
        let Batched { stage, service } = self;
        let mut tally = Tally::new(claim);
        let mut left = match events {
            Batch::One(event) => vec![event],
            Batch::Many(events) => events,
        };
        while !left.is_empty() {
            let wanted = stage.wanted().await?;
            let later = if left.len() > wanted { left.split_off(wanted) } else { Vec::new() };
            let now = std::mem::replace(&mut left, later);
            let count = now.len();
            stage.ready(guard::catch(poll_fn(|cx| service.poll_ready(cx))).await)?;
            let outcome = match guard::run(|| service.call(now)) {
                Err(panic) => Err(panic),
                Ok(answer) => guard::catch(answer).await,
            };
            let answer = stage.answer(outcome);
            let mut made = answer.map(|answer| answer.into_iter().collect()).unwrap_or_default();
            stage.feed(&mut made)?;
            tally.add(count);
            tally.tell();
        }
        Ok(())
    }
}
