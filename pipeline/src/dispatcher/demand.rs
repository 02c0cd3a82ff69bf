//! Demand: each event to the subscriber with the largest outstanding demand.

use std::collections::VecDeque;
use std::fmt;

use crate::dispatcher::ledgers::Ledgers;
use crate::dispatcher::{Dispatcher, Entry, Grant, Granted, take};
use crate::sealed::Sealed;
use crate::subscription::{SubscribeError, SubscriberId};

/// Sends each event to the subscriber with the largest outstanding demand, first in first out.
pub struct Demand<T> {
    waiting: VecDeque<Entry<T>>,
    ledgers: Ledgers,
}

impl<T> Demand<T> {
    /// Makes a dispatcher without subscribers.
    pub fn new() -> Demand<T> {
        Demand { waiting: VecDeque::new(), ledgers: Ledgers::default() }
    }
}

impl<T> Default for Demand<T> {
    fn default() -> Demand<T> {
        Demand::new()
    }
}

impl<T> fmt::Debug for Demand<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Demand").field("queued", &self.waiting.len()).finish_non_exhaustive()
    }
}

impl<T> Sealed for Demand<T> {}

impl<T: Send + 'static> Dispatcher<T> for Demand<T> {
    fn subscribe(&mut self, id: SubscriberId, _: Option<u32>) -> Result<(), SubscribeError> {
        self.ledgers.subscribe(id);
        Ok(())
    }

    fn cancel(&mut self, id: SubscriberId) -> bool {
        self.ledgers.cancel(id)
    }

    fn ask(&mut self, id: SubscriberId, events: usize) {
        self.ledgers.ask(id, events);
    }

    fn push(&mut self, entry: Entry<T>) {
        self.waiting.push_back(entry);
    }

    fn grant(&mut self, granted: Granted<'_>) -> Option<Grant<T>> {
        let (to, count) = self.ledgers.grant(self.waiting.len())?;
        let (events, places) = take(&mut self.waiting, count, granted);
        Some(Grant { to, events, places })
    }

    fn wanted(&self) -> usize {
        self.ledgers.total().saturating_sub(self.waiting.len())
    }

    fn queued(&self) -> usize {
        self.waiting.len()
    }

    fn clear(&mut self) -> Vec<Entry<T>> {
        std::mem::take(&mut self.waiting).into()
    }
}
