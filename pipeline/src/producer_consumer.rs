//! Producer-consumer: takes events, makes other events of them, and passes demand on.
//!
//! It runs its service only while its own subscribers ask for more events than it has. It first asks
//! its producers when it is first asked itself, so demand travels from the last consumer to the first
//! producer. One response of the service may hold more events than were asked for: the rest waits in
//! the stage, and the service does not run again until the rest is gone.

use std::fmt::Display;

use tower::Service;

use crate::consumer::Consumer;
use crate::dispatcher::{Demand, Dispatcher};
use crate::drain::Drain;
use crate::inbox::Inbox;
use crate::producer::Producer;
use crate::sealed::Sealed;
use crate::subscription::{
    Attach, Link, Subscribe, SubscribeError, SubscribeOptions, Subscription,
};

mod producing_side;
mod worker;

use producing_side::ProducingSide;
use worker::Worker;

/// A handle on a running producer-consumer; see the [module](self).
#[derive(Debug)]
pub struct ProducerConsumer<E, T: Send + 'static, D: Dispatcher<T> = Demand<T>> {
    consumer: Consumer<E>,
    producer: Producer<T, D>,
}

impl<E: Send + 'static, T: Send + 'static, D: Dispatcher<T>> ProducerConsumer<E, T, D> {
    /// Starts a stage that runs each event through `service`, one after the other. It produces the
    /// events that a response holds (an `Option`, an array, a `Vec`). A service that gathers events
    /// returns none until it has enough.
    pub fn spawn<S>(name: &'static str, dispatcher: D, service: S, drain: &Drain) -> Self
    where
        S: Service<E> + Send + 'static,
        S::Response: IntoIterator<Item = T> + Send,
        S::Future: Send + 'static,
        S::Error: Display + Send,
    {
        let producer = Producer::fed(name, dispatcher);
        let inbox = Inbox::new(drain, false);
        let consumer = Consumer::of(&inbox);
        let side = ProducingSide::new(name, &producer.shared);
        drain.supervise(name, Worker { side, service }.run(inbox));
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

impl<E, T: Send + 'static, D: Dispatcher<T>> Sealed for ProducerConsumer<E, T, D> {}

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
