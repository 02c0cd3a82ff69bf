//! Key look: gives the keys of deleted actors back once none of their rows of effects is needed.
//!
//! A deleted actor's effects are delivered like those of others, and those that it has seen come to their end. Then there is
//! nothing any more that its key was kept for.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tracing::debug;

use crate::actor::ActorId;
use crate::error::Error;
use crate::placement::Mailboxes;
use crate::registry::change::{Asked, ChangeQueue};
use crate::registry::directory::Directory;
use crate::registry::kept_rows::KeptRows;

/// How long between two looks.
const PAUSE: Duration = Duration::from_mins(1);
/// Keys in one look: each costs two reads.
const TOGETHER: usize = 256;

/// The task; see the [module](self).
#[derive(Debug)]
pub(crate) struct KeyLook {
    pub(crate) directory: Arc<Directory>,
    pub(crate) changes: ChangeQueue,
    pub(crate) rows: KeptRows,
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
            let given_back = tokio::select! {
                given_back = self.give_back(keys) => given_back,
                () = self.mailboxes.closed() => return,
            };
            if let Err(error) = given_back {
                debug!(%error, "keys of deleted actors are looked at later");
            }
        }
    }

    async fn give_back(&self, keys: Vec<Arc<ActorId>>) -> Result<(), Error> {
        for key in keys {
            if !self.rows.are_needed(&key).await? {
                self.changes.put(Asked::GiveBack(key)).await?;
            }
        }
        Ok(())
    }
}
