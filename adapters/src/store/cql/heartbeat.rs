//! Heartbeat: one row in which the owner says that it lives, and where it is.

use std::sync::OnceLock;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use scylla::DeserializeRow;
use tidegate_stages::ports::StoreError;
use tokio::time::sleep;
use tokio_util::task::TaskTracker;

use super::database::Database;
use super::rows::bound;
use crate::store::ownership::Owner;

/// How often the row of a later owner is looked for: it is written just after the claim.
const LOOKS: u32 = 4;
const LOOK: Duration = Duration::from_millis(250);

/// The owner's row of `members`.
#[derive(Debug, Clone, PartialEq, Eq, DeserializeRow)]
pub(super) struct Beat {
    epoch: Option<i64>,
    heartbeat: Option<i64>,
    address: Option<String>,
}

impl Beat {
    pub(super) fn owner(self) -> Owner {
        let epoch = self.epoch.and_then(|epoch| u64::try_from(epoch).ok()).unwrap_or(0);
        Owner { epoch, address: self.address }
    }
}

/// The heartbeat of this store.
#[derive(Debug, Default)]
pub(super) struct Heart {
    /// Where this proxy is; set when it is to have a heartbeat.
    pub(super) address: OnceLock<String>,
    pub(super) count: AtomicI64,
    pub(super) beating: TaskTracker,
}

pub(super) async fn read(database: &Database) -> Result<Option<Beat>, StoreError> {
    database.read_one(&database.cql.beat, ()).await
}

/// Returns where the owner of an epoch is, if it says so.
pub(super) async fn address_of(database: &Database, epoch: u64) -> Option<String> {
    for _ in 0..LOOKS {
        if let Ok(Some(beat)) = read(database).await
            && beat.epoch >= Some(bound(epoch))
        {
            return beat.address;
        }
        sleep(LOOK).await;
    }
    None
}
