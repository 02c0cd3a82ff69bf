//! Broadcast: each event to every subscriber. The slowest sets the pace.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use crate::demand::Ledger;
use crate::dispatcher::{Dispatcher, Entry, Grant, Granted, Places, take};
use crate::sealed::Sealed;
use crate::subscription::{Batch, SharedEvents, SubscribeError, SubscriberId};

/// Sends a clone of each event to every subscriber as soon as all of them asked for it.
///
/// A late subscriber gets the events that are granted after it subscribed. Events are cloned in the tasks of the
/// consumers; make them cheap to clone (`Arc`, `Bytes`). A selector ([`subscribe_where`](crate::Consumer::subscribe_where)) runs on the
/// subscriber's side; events it does not want cost no demand.
pub struct Broadcast<T> {
    waiting: VecDeque<Entry<T>>,
    ledgers: Vec<(SubscriberId, Ledger)>,
    /// The events of an unfinished grant, and how many subscribers have got them already.
    current: Option<(Arc<dyn SharedEvents<T>>, usize)>,
}

impl<T> Broadcast<T> {
    /// Makes a dispatcher without subscribers.
    pub fn new() -> Broadcast<T> {
        Broadcast { waiting: VecDeque::new(), ledgers: Vec::new(), current: None }
    }

    fn pace(&self) -> usize {
        self.ledgers.iter().map(|(_, ledger)| ledger.outstanding()).min().unwrap_or(0)
    }
}

impl<T> Default for Broadcast<T> {
    fn default() -> Broadcast<T> {
        Broadcast::new()
    }
}

impl<T> fmt::Debug for Broadcast<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broadcast").field("queued", &self.waiting.len()).finish_non_exhaustive()
    }
}

impl<T> Sealed for Broadcast<T> {}

impl<T: Clone + Send + Sync + 'static> Dispatcher<T> for Broadcast<T> {
    fn subscribe(&mut self, id: SubscriberId, _: Option<u32>) -> Result<(), SubscribeError> {
        self.ledgers.push((id, Ledger::default()));
        Ok(())
    }

    fn cancel(&mut self, id: SubscriberId) -> bool {
        let before = self.ledgers.len();
        self.ledgers.retain(|(other, _)| *other != id);
        self.ledgers.len() < before
    }

    fn ask(&mut self, id: SubscriberId, events: usize) {
        if let Some((_, ledger)) = self.ledgers.iter_mut().find(|(other, _)| *other == id) {
            ledger.ask(events);
        }
    }

    fn push(&mut self, entry: Entry<T>) {
        self.waiting.push_back(entry);
    }

    fn grant(&mut self, granted: Granted<'_>) -> Option<Grant<T>> {
        let mut places = Places::default();
        let (events, served) = if let Some(current) = self.current.take() {
            current
        } else {
            let count = self.pace().min(self.waiting.len());
            if count == 0 {
                return None;
            }
            let (events, left) = take(&mut self.waiting, count, granted);
            places = left;
            if let [(to, ledger)] = &mut *self.ledgers {
                ledger.grant(events.len());
                return Some(Grant { to: *to, events, places });
            }
            (Arc::new(events.into_vec()) as Arc<dyn SharedEvents<T>>, 0)
        };
        let (to, ledger) = self.ledgers.get_mut(served)?;
        ledger.grant(events.len());
        let to = *to;
        if served + 1 < self.ledgers.len() {
            self.current = Some((Arc::clone(&events), served + 1));
        }
        Some(Grant { to, events: Batch::Shared(events), places })
    }

    fn wanted(&self) -> usize {
        self.pace().saturating_sub(self.waiting.len())
    }

    fn queued(&self) -> usize {
        self.waiting.len()
    }

    fn clear(&mut self) -> Vec<Entry<T>> {
        std::mem::take(&mut self.waiting).into()
    }
}
