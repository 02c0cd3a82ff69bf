//! Partition: each event to the one subscriber of its partition.

use std::collections::VecDeque;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use hashbrown::DefaultHashBuilder;

use crate::demand::Ledger;
use crate::dispatcher::{Dispatcher, Entry, Grant, SubscriberId, sealed, take};
use crate::subscription::SubscribeError;

/// Says to which partition an event belongs; taken modulo the number of partitions.
pub(crate) type Router<T> = Arc<dyn Fn(&T) -> u32 + Send + Sync>;

/// Sends each event to the subscriber of its partition, first in first out within a partition.
///
/// Each partition has one subscriber at a time; events of a partition without one wait for it. What
/// waits for one partition counts against the demand of all, so a stuck partition stops the others
/// when as much waits for it as the others have asked for: nothing is lost and nothing grows.
pub struct Partition<T> {
    router: Router<T>,
    partitions: Vec<Lot<T>>,
    /// Where the next search for a grant starts, so that no partition is always first.
    next: usize,
    queued: usize,
}

#[derive(Debug)]
struct Lot<T> {
    waiting: VecDeque<Entry<T>>,
    subscriber: Option<(SubscriberId, Ledger)>,
}

impl<T> Partition<T> {
    /// Makes a dispatcher for partitions `0..partitions`; `hash` is taken modulo that number. At
    /// least one partition is made.
    pub fn new(partitions: u32, hash: impl Fn(&T) -> u64 + Send + Sync + 'static) -> Partition<T> {
        let count = partitions.max(1);
        let lot = || Lot { waiting: VecDeque::new(), subscriber: None };
        Partition {
            router: Arc::new(move |event| {
                u32::try_from(hash(event) % u64::from(count)).unwrap_or_default()
            }),
            partitions: std::iter::repeat_with(lot).take(count as usize).collect(),
            next: 0,
            queued: 0,
        }
    }

    /// Makes a dispatcher that partitions by the hash of a part of the event.
    pub fn by<K: Hash>(
        partitions: u32,
        key: impl Fn(&T) -> K + Send + Sync + 'static,
    ) -> Partition<T> {
        let hasher = DefaultHashBuilder::default();
        Partition::new(partitions, move |event| hasher.hash_one(key(event)))
    }

    fn outstanding(&self) -> usize {
        let pairs = self.partitions.iter().filter_map(|lot| lot.subscriber.as_ref());
        pairs.map(|(_, ledger)| ledger.outstanding()).sum()
    }
}

impl<T> fmt::Debug for Partition<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Partition")
            .field("partitions", &self.partitions.len())
            .field("queued", &self.queued)
            .finish_non_exhaustive()
    }
}

impl<T> sealed::Sealed for Partition<T> {}

impl<T: Send + 'static> Dispatcher<T> for Partition<T> {
    fn router(&self) -> Option<Router<T>> {
        Some(Arc::clone(&self.router))
    }

    fn subscribe(
        &mut self,
        id: SubscriberId,
        partition: Option<u32>,
    ) -> Result<(), SubscribeError> {
        let partition = partition.ok_or(SubscribeError::PartitionMissing)?;
        let lot = self
            .partitions
            .get_mut(partition as usize)
            .ok_or(SubscribeError::PartitionUnknown(partition))?;
        if lot.subscriber.is_some() {
            return Err(SubscribeError::PartitionTaken(partition));
        }
        lot.subscriber = Some((id, Ledger::default()));
        Ok(())
    }

    fn cancel(&mut self, id: SubscriberId) -> bool {
        let is_its_own =
            |lot: &&mut Lot<T>| lot.subscriber.as_ref().is_some_and(|(other, _)| *other == id);
        let lot = self.partitions.iter_mut().find(is_its_own);
        lot.is_some_and(|lot| lot.subscriber.take().is_some())
    }

    fn ask(&mut self, id: SubscriberId, events: usize) {
        let mut pairs = self.partitions.iter_mut().filter_map(|lot| lot.subscriber.as_mut());
        if let Some((_, ledger)) = pairs.find(|(other, _)| *other == id) {
            ledger.ask(events);
        }
    }

    fn push(&mut self, entry: Entry<T>) {
        let lot = entry.partition as usize % self.partitions.len();
        self.partitions[lot].waiting.push_back(entry);
        self.queued += 1;
    }

    fn grant(&mut self) -> Option<Grant<T>> {
        let all = self.partitions.len();
        for at in (self.next..all).chain(0..self.next) {
            let Lot { waiting, subscriber } = &mut self.partitions[at];
            let Some((to, ledger)) = subscriber else { continue };
            let count = ledger.outstanding().min(waiting.len());
            if count == 0 {
                continue;
            }
            ledger.grant(count);
            let to = *to;
            let (events, places) = take(waiting, count);
            self.queued -= count;
            self.next = (at + 1) % all;
            return Some(Grant { to, events, places });
        }
        None
    }

    fn wanted(&self) -> usize {
        self.outstanding().saturating_sub(self.queued)
    }

    fn queued(&self) -> usize {
        self.queued
    }

    fn clear(&mut self) -> Vec<Entry<T>> {
        self.queued = 0;
        self.partitions.iter_mut().flat_map(|lot| lot.waiting.drain(..)).collect()
    }
}
