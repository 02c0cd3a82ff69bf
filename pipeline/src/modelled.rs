//! Modelled: a subscriber without a task, so that loom can run both ends of a pair on its threads.

use std::sync::Arc;

use crate::subscription::{Attach, Bell, Claim, Link, Subscribe, SubscribeError, SubscribeOptions};

/// The consumer's end of a pair, moved by hand.
#[derive(Debug)]
pub struct Subscriber<E> {
    link: Link<E>,
    ready: Vec<E>,
}

/// Gives demand back, from any thread.
#[derive(Debug, Clone)]
pub struct Done(Arc<Claim>);

impl Done {
    /// Notes that events are done.
    pub fn done(&self, events: usize) {
        self.0.done(events);
    }
}

impl<E> Subscriber<E> {
    /// Subscribes; asks for nothing yet.
    ///
    /// # Errors
    /// See [`SubscribeError`].
    pub fn new(
        producer: &impl Subscribe<E>,
        options: SubscribeOptions,
    ) -> Result<Subscriber<E>, SubscribeError> {
        let request = Attach { bell: Arc::new(Bell::default()) };
        Ok(Subscriber { link: producer.attach(request, options, None)?, ready: Vec::new() })
    }

    /// Starts the demand.
    pub fn open(&self) {
        self.link.claim.open();
    }

    /// Gives demand back for what [`next`](Subscriber::next) brought.
    pub fn done(&self) -> Done {
        Done(Arc::clone(&self.link.claim))
    }

    /// The next event that is there; `Err` when the subscription has ended.
    ///
    /// # Errors
    /// The subscription has ended.
    #[allow(clippy::should_implement_trait, reason = "it is no iterator: it may have more later")]
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
