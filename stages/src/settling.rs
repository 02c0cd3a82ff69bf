//! Settling: stores the content of the memory again, after a pause, for the names of a change that failed. The store may have such a
//! change all the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tidegate_pipeline::Drain;
use tokio::time::sleep;

use crate::placement::Mailboxes;

/// How long after a failure what is in memory is stored again.
const PAUSE: Duration = Duration::from_secs(1);

/// The pause; see the [module](self).
#[derive(Debug)]
pub(crate) struct Settling {
    mailboxes: Mailboxes,
    tasks: Drain,
    is_waiting: Arc<AtomicBool>,
}

impl Settling {
    pub(crate) fn new(mailboxes: Mailboxes, tasks: Drain) -> Self {
        Self { mailboxes, tasks, is_waiting: Arc::default() }
    }

    /// Runs `again` after a pause, unless one is under way. A pause ends early in the moment from which clients are refused. Pauses
    /// that begin later have their full length, so that a store that comes back during the drain is still used.
    pub(crate) fn later(&self, again: impl Future<Output = ()> + Send + 'static) {
        if self.is_waiting.swap(true, Ordering::AcqRel) {
            return;
        }
        let (mailboxes, is_waiting) = (self.mailboxes.clone(), self.is_waiting.clone());
        self.tasks.spawn(async move {
            let refused = mailboxes.closed();
            tokio::select! {
                () = sleep(PAUSE) => {}
                () = refused, if !mailboxes.is_closed() => {}
            }
            is_waiting.store(false, Ordering::Release);
            again.await;
        });
    }
}
