//! Places: what deliveries of durable topics hold of memory.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of events that one delivery holds, or one event.
pub(super) const PAGE_BYTES: usize = 64 << 10;
/// What one permit stands for.
const UNIT: usize = 1 << 10;
/// Deliveries under way, at most.
const AT_ONCE: usize = 1_024;
/// Deliveries that wait for a slow answer and hold nothing else.
const WAITING: usize = 1_024;

/// See the [module](self). Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct TopicPlaces {
    units: Arc<Semaphore>,
    all: u32,
    waiting: Arc<Semaphore>,
}

impl TopicPlaces {
    /// Places for so many bytes; for one delivery at least.
    pub(crate) fn new(bytes: usize) -> Self {
        let all = (bytes / UNIT).clamp(units_of(PAGE_BYTES), AT_ONCE * units_of(PAGE_BYTES));
        let (units, waiting) = (Arc::new(Semaphore::new(all)), Arc::new(Semaphore::new(WAITING)));
        Self { units, all: u32::try_from(all).unwrap_or(u32::MAX), waiting }
    }

    /// Takes a place for so many bytes. More than all take all.
    pub(super) async fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(units_of(bytes)).unwrap_or(u32::MAX).min(self.all);
        self.units.clone().acquire_many_owned(units).await.ok()
    }

    /// Takes the place of a delivery that waits.
    pub(super) fn wait(&self) -> Option<OwnedSemaphorePermit> {
        self.waiting.clone().try_acquire_owned().ok()
    }
}

fn units_of(bytes: usize) -> usize {
    bytes.div_ceil(UNIT)
}
