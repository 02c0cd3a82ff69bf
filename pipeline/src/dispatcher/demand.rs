//! Demand: each event to the subscriber that asked for most.

use std::collections::VecDeque;
use std::fmt;

use crate::dispatcher::pairs::Pairs;
use crate::dispatcher::{Dispatcher, Entry, Grant, SubscriberId, sealed, take};
use crate::subscription::SubscribeError;

/// First in, first out, to the subscriber with the largest outstanding demand.
pub struct Demand<T> {
    waiting: VecDeque<Entry<T>>,
    pairs: Pairs,
}

impl<T> Demand<T> {
    /// Makes a dispatcher without subscribers.
    pub fn new() -> Demand<T> {
        Demand { waiting: VecDeque::new(), pairs: Pairs::default() }
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

impl<T> sealed::Sealed for Demand<T> {}

impl<T: Send + 'static> Dispatcher<T> for Demand<T> {
    fn subscribe(&mut self, id: SubscriberId, _: Option<u32>) -> Result<(), SubscribeError> {
        self.pairs.subscribe(id);
        Ok(())
    }

    fn cancel(&mut self, id: SubscriberId) -> bool {
        self.pairs.cancel(id)
    }

    fn ask(&mut self, id: SubscriberId, events: usize) {
        self.pairs.ask(id, events);
    }

    fn push(&mut self, entry: Entry<T>) {
        self.waiting.push_back(entry);
    }

    fn grant(&mut self) -> Option<Grant<T>> {
        let (to, count) = self.pairs.grant(self.waiting.len())?;
        let (events, places) = take(&mut self.waiting, count);
        Some(Grant { to, events, places })
    }

    fn wanted(&self) -> usize {
        self.pairs.total().saturating_sub(self.waiting.len())
    }

    fn queued(&self) -> usize {
        self.waiting.len()
    }

    fn clear(&mut self) -> Vec<Entry<T>> {
        std::mem::take(&mut self.waiting).into()
    }
}
