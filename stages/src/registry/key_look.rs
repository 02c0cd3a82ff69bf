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
    /// Looks until clients are refused. A key whose rows cannot be read ends a look, and the next look begins behind it.
    pub(crate) async fn run(self) {
        let mut skip = 0;
        loop {
            tokio::select! {
                () = sleep(PAUSE) => {}
                () = self.mailboxes.closed() => return,
            }
            let keys = self.directory.kept_keys_from(skip, TOGETHER);
            let is_last = keys.len() < TOGETHER;
            let failed = tokio::select! {
                failed = self.give_back(keys) => failed,
                () = self.mailboxes.closed() => return,
            };
            skip = match failed {
                Some(at) => skip + at + 1,
                None if is_last => 0,
                None => skip + TOGETHER,
            };
        }
    }

    /// Gives back what is not needed. Returns the place of a key for which this failed; those behind it are not looked at.
    async fn give_back(&self, keys: Vec<Arc<ActorId>>) -> Option<usize> {
        for (at, key) in keys.into_iter().enumerate() {
            let looked_at = async {
                if !self.rows.are_needed(&key).await? {
                    self.changes.put(Asked::GiveBack(key.clone())).await?;
                }
                Ok::<_, Error>(())
            };
            if let Err(error) = looked_at.await {
                debug!(key = %key.name, %error, "the key of a deleted actor is looked at later");
                return Some(at);
            }
        }
        None
    }
}
