//! Key look: gives the keys of deleted actors back once no rows of effects are left of them.
//!
//! A deleted actor's effects are delivered like those of others. When its last row is gone, so is what its key was kept for.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tracing::debug;

use crate::actor::ActorId;
use crate::error::Error;
use crate::placement::Mailboxes;
use crate::ports::{StateStore, StoreError};
use crate::registry::change::{Asked, ChangeQueue};
use crate::registry::directory::Directory;
use crate::store_limit::in_time;

/// How long between two looks.
const PAUSE: Duration = Duration::from_mins(1);
/// Keys in one look: each costs two reads.
const TOGETHER: usize = 256;

/// The task; see the [module](self).
#[derive(Debug)]
pub(crate) struct KeyLook {
    pub(crate) directory: Arc<Directory>,
    pub(crate) changes: ChangeQueue,
    pub(crate) store: Arc<dyn StateStore>,
    pub(crate) mailboxes: Mailboxes,
}

impl KeyLook {
    /// Looks until clients are refused.
    pub(crate) async fn run(self) {
        let mut skip = 0;
        loop {
            tokio::select! {
                () = sleep(PAUSE) => {}
                () = self.mailboxes.closed() => return,
            }
            let keys = self.directory.kept_keys_from(skip, TOGETHER);
            skip = if keys.len() < TOGETHER { 0 } else { skip + TOGETHER };
            if let Err(error) = self.give_back(keys).await {
                debug!(%error, "keys of deleted actors are looked at later");
            }
        }
    }

    async fn give_back(&self, keys: Vec<Arc<ActorId>>) -> Result<(), Error> {
        for key in keys {
            if !self.has_rows(&key).await? {
                self.changes.put(Asked::GiveBack(key)).await?;
            }
        }
        Ok(())
    }

    async fn has_rows(&self, key: &ActorId) -> Result<bool, StoreError> {
        let outbox = in_time(self.store.outbox(key, None, 1)).await?;
        Ok(!outbox.items.is_empty() || !in_time(self.store.seen(key)).await?.is_empty())
    }
}
