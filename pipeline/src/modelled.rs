//! Modelled: a subscriber without a task, so that loom can run both sides of a pair on its threads.

use std::sync::Arc;

use futures_util::task::AtomicWaker;

use crate::subscription::{
    Attach, DemandSender, Link, Subscribe, SubscribeError, SubscribeOptions,
};

/// The consumer's side of a pair, which the test drives.
#[derive(Debug)]
pub struct Subscriber<E> {
    link: Link<E>,
    ready: Vec<E>,
}

/// Gives demand back. Works on any thread.
#[derive(Debug, Clone)]
pub struct Done(Arc<DemandSender>);

impl Done {
    /// Gives back the demand of finished events.
    pub fn done(&self, events: usize) {
        self.0.done(events);
    }
}

impl<E> Subscriber<E> {
    /// Subscribes. Asks for nothing yet.
    ///
    /// # Errors
    /// See [`SubscribeError`].
    pub fn new(
        producer: &impl Subscribe<E>,
        options: SubscribeOptions,
    ) -> Result<Subscriber<E>, SubscribeError> {
        let request = Attach { waker: Arc::new(AtomicWaker::new()) };
        Ok(Subscriber { link: producer.attach(request, options, None)?, ready: Vec::new() })
    }

    /// Starts the demand.
    pub fn open(&self) {
        self.link.demand.open();
    }

    /// Returns a handle that gives demand back.
    pub fn done(&self) -> Done {
        Done(Arc::clone(&self.link.demand))
    }

    /// Returns the next event if one was sent.
    ///
    /// # Errors
    /// The subscription has ended.
    #[allow(
        clippy::should_implement_trait,
        reason = "not an iterator: after None, more may follow"
    )]
    pub fn next(&mut self) -> Result<Option<E>, ()> {
        if self.ready.is_empty() {
            match self.link.events.try_recv() {
                Ok(batch) => self.ready.extend(batch),
                Err(flume::TryRecvError::Empty) => return Ok(None),
                Err(flume::TryRecvError::Disconnected) => return Err(()),
            }
        }
        Ok(Some(self.ready.remove(0)))
    }
}
