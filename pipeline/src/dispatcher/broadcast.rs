//! Broadcast: each event to every subscriber; the slowest sets the pace.

use std::collections::VecDeque;
use std::fmt;

use crate::demand::Ledger;
use crate::dispatcher::{Dispatcher, Entry, Grant, Places, SubscriberId, sealed, take};
use crate::subscription::{Batch, SubscribeError};

/// Sends a copy of each event to every subscriber, when all of them have asked for it.
///
/// A subscriber that comes late gets what is granted from then on. Events are cloned: make them
/// cheap to clone (`Arc`, `Bytes`). A subscriber's selector
/// ([`subscribe_where`](crate::Consumer::subscribe_where)) is applied on its own side, where an event
/// that it does not want costs no demand.
pub struct Broadcast<T> {
    waiting: VecDeque<Entry<T>>,
    pairs: Vec<(SubscriberId, Ledger)>,
    /// Events of the grant that is being handed out, and to how many of `pairs` it went already.
    current: Option<(Batch<T>, usize)>,
}

impl<T> Broadcast<T> {
    /// Makes a dispatcher without subscribers.
    pub fn new() -> Broadcast<T> {
        Broadcast { waiting: VecDeque::new(), pairs: Vec::new(), current: None }
    }

    fn pace(&self) -> usize {
        self.pairs.iter().map(|(_, ledger)| ledger.outstanding()).min().unwrap_or(0)
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

impl<T> sealed::Sealed for Broadcast<T> {}

impl<T: Clone + Send + 'static> Dispatcher<T> for Broadcast<T> {
    fn subscribe(&mut self, id: SubscriberId, _: Option<u32>) -> Result<(), SubscribeError> {
        self.pairs.push((id, Ledger::default()));
        Ok(())
    }

    fn cancel(&mut self, id: SubscriberId) -> bool {
        let before = self.pairs.len();
        self.pairs.retain(|(other, _)| *other != id);
        self.pairs.len() < before
    }

    fn ask(&mut self, id: SubscriberId, events: usize) {
        if let Some((_, ledger)) = self.pairs.iter_mut().find(|(other, _)| *other == id) {
            ledger.ask(events);
        }
    }

    fn push(&mut self, entry: Entry<T>) {
        self.waiting.push_back(entry);
    }

    fn grant(&mut self) -> Option<Grant<T>> {
        let mut places = Places::default();
        let (events, served) = if let Some(current) = self.current.take() {
            current
        } else {
            let count = self.pace().min(self.waiting.len());
            if count == 0 {
                return None;
            }
            let (events, left) = take(&mut self.waiting, count);
            places = left;
            (events, 0)
        };
        let (to, ledger) = self.pairs.get_mut(served)?;
        ledger.grant(events.len());
        let (to, last) = (*to, served + 1 == self.pairs.len());
        if last {
            return Some(Grant { to, events, places });
        }
        let copy = events.clone();
        self.current = Some((events, served + 1));
        Some(Grant { to, events: copy, places })
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
