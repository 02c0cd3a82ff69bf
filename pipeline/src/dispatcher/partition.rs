//! Partition: each event to the one subscriber of its partition.

use std::collections::VecDeque;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use crate::demand::Ledger;
use crate::dispatcher::{Dispatcher, Entry, Grant, Granted, take};
use crate::randomness::Seeded;
use crate::sealed::Sealed;
use crate::subscription::{SubscribeError, SubscriberId};

/// Returns the partition of an event.
pub(crate) type Router<T> = Arc<dyn Fn(&T) -> u32 + Send + Sync>;

/// Sends each event to the subscriber of its partition, first in first out within a partition.
///
/// Each partition has at most one subscriber; the events of a partition without one wait. The events
/// that wait for one partition count against the demand of all: a partition that does not move stops
/// a pulling producer when as many events wait for it as the others ask for. No event is lost, and the
/// number of waiting events stays bounded.
pub struct Partition<T> {
    router: Router<T>,
    partitions: Vec<PartitionQueue<T>>,
    /// The partition where the next search starts, so that no partition is always first.
    next: usize,
    queued: usize,
}

#[derive(Debug)]
struct PartitionQueue<T> {
    waiting: VecDeque<Entry<T>>,
    subscriber: Option<(SubscriberId, Ledger)>,
}

impl<T> Partition<T> {
    /// Makes a dispatcher with the partitions `0..partitions`, at least one. The partition of an event
    /// is `hash` modulo that number.
    pub fn new(partitions: u32, hash: impl Fn(&T) -> u64 + Send + Sync + 'static) -> Partition<T> {
        let count = partitions.max(1);
        let queue = || PartitionQueue { waiting: VecDeque::new(), subscriber: None };
        Partition {
            router: Arc::new(move |event| {
                u32::try_from(hash(event) % u64::from(count)).unwrap_or_default()
            }),
            partitions: std::iter::repeat_with(queue).take(count as usize).collect(),
            next: 0,
            queued: 0,
        }
    }

    /// Makes a dispatcher that partitions by the hash of a key.
    pub fn by<K: Hash>(
        partitions: u32,
        key: impl Fn(&T) -> K + Send + Sync + 'static,
    ) -> Partition<T> {
        let hasher = Seeded::default();
        Partition::new(partitions, move |event| hasher.hash_one(key(event)))
    }

    fn outstanding(&self) -> usize {
        let ledgers = self.partitions.iter().filter_map(|queue| queue.subscriber.as_ref());
        ledgers.map(|(_, ledger)| ledger.outstanding()).sum()
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

impl<T> Sealed for Partition<T> {}

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
        let queue = self
            .partitions
            .get_mut(partition as usize)
            .ok_or(SubscribeError::PartitionUnknown(partition))?;
        if queue.subscriber.is_some() {
            return Err(SubscribeError::PartitionTaken(partition));
        }
        queue.subscriber = Some((id, Ledger::default()));
        Ok(())
    }

    fn cancel(&mut self, id: SubscriberId) -> bool {
        let is_its_own = |queue: &&mut PartitionQueue<T>| {
            queue.subscriber.as_ref().is_some_and(|(other, _)| *other == id)
        };
        let queue = self.partitions.iter_mut().find(is_its_own);
        queue.is_some_and(|queue| queue.subscriber.take().is_some())
    }

    fn ask(&mut self, id: SubscriberId, events: usize) {
        let mut ledgers = self.partitions.iter_mut().filter_map(|queue| queue.subscriber.as_mut());
        if let Some((_, ledger)) = ledgers.find(|(other, _)| *other == id) {
            ledger.ask(events);
        }
    }

    fn push(&mut self, entry: Entry<T>) {
        let queue = entry.partition as usize % self.partitions.len();
        self.partitions[queue].waiting.push_back(entry);
        self.queued += 1;
    }

    fn grant(&mut self, granted: Granted<'_>) -> Option<Grant<T>> {
        let all = self.partitions.len();
        for at in (self.next..all).chain(0..self.next) {
            let PartitionQueue { waiting, subscriber } = &mut self.partitions[at];
            let Some((to, ledger)) = subscriber else { continue };
            let count = ledger.outstanding().min(waiting.len());
            if count == 0 {
                continue;
            }
            ledger.grant(count);
            let to = *to;
            let (events, places) = take(waiting, count, granted);
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
        self.partitions.iter_mut().flat_map(|queue| queue.waiting.drain(..)).collect()
    }
}
