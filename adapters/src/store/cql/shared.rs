//! Shared: state shared by the tasks of the lines and the readers.

use std::sync::Arc;

use metrics::Histogram;
use tidegate_stages::ports::StoreError;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::book::Book;
use super::database::{Changes, Database};
use super::fence::Fence;
use super::filling::Filling;
use super::heartbeat::Heart;
use super::known::Memory;
use super::lines::closed;
use super::stamps::Stamps;
use crate::store::records::DecodeDefinition;
use crate::store::vault::Vault;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) database: Arc<Database>,
    pub(super) stamps: Stamps,
    pub(super) fence: Arc<Fence>,
    pub(super) memory: Memory,
    /// Changes to the registry; one at a time.
    pub(super) book: tokio::sync::Mutex<Book>,
    /// The minutes to which due work is on its way.
    pub(super) filling: Filling,
    /// Permits for concurrent writes.
    pub(super) writes: Semaphore,
    pub(super) tasks: TaskTracker,
    pub(super) vault: Arc<Vault>,
    /// Bytes that the server accepts in one write.
    pub(super) limit: usize,
    pub(super) expiry: Expiry,
    pub(super) decode: DecodeDefinition,
    pub(super) commit_seconds: Histogram,
    pub(super) heart: Heart,
    /// Cancelled when the store is closed: requests are refused, and what only watches ends.
    pub(super) closing: CancellationToken,
}

/// Seconds after which the database itself drops rows; 0: never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Expiry {
    /// Revisions.
    pub(super) revisions: i32,
    /// Index rows: just after the last revision of their bucket.
    pub(super) index: i32,
}

impl Shared {
    /// Waits for a permit to write.
    pub(super) async fn turn(&self) -> Result<SemaphorePermit<'_>, StoreError> {
        self.writes.acquire().await.map_err(|_| closed())
    }

    pub(super) async fn stamp(&self) -> Result<i64, StoreError> {
        self.stamps.next(&self.database, &self.fence).await
    }

    /// Claims an epoch above `floor`. All later writes of this owner have timestamps above those of the former owner, whatever
    /// the clocks say.
    pub(super) async fn claim(&self, floor: u64) -> Result<u64, StoreError> {
        let epoch = self.fence.claim(&self.database, floor).await?;
        // The former owner cannot raise it any more.
        self.stamps.continue_above(self.fence.ceiling(&self.database).await?);
        if let Err(error) = self.beat().await {
            warn!(%error, "claimed, but there is no heartbeat yet");
        }
        Ok(epoch)
    }

    pub(super) async fn commit(&self, changes: Changes<'_>, stamp: i64) -> Result<(), StoreError> {
        self.database.commit(changes, stamp).await
    }

    /// Refuses requests after closing.
    pub(super) fn check_open(&self) -> Result<(), StoreError> {
        if self.closing.is_cancelled() { Err(closed()) } else { Ok(()) }
    }

    /// Reads the newest epoch; call this after a write was acknowledged.
    pub(super) async fn look(&self) -> Result<(), StoreError> {
        self.fence.look(&self.database, &self.tasks).await.map_err(|error| {
            StoreError::Unknown(format!("written, but not whether it still may be: {error}"))
        })
    }
}
