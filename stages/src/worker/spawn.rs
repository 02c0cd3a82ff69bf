//! Spawn: a call that names its actor's definition finds the actor deleted and spawns it again.

use tidegate_pipeline::Hold;
use tokio::time::sleep;
use tracing::debug;

use crate::caller::Work;
use crate::error::Error;
use crate::ports::{Host, StoreError};
use crate::worker::Worker;

impl<H: Host> Worker<H> {
    /// Spawns the actor of this call again, with the key parked: the call stays the next one of its
    /// actor, and the worker's slot is free meanwhile (I6).
    pub(super) fn spawn_again(&self, mut work: Work, hold: Hold<Work>) {
        let parked = hold.park();
        let registrar = self.registrar.clone();
        self.tasks.spawn(async move {
            let failed = loop {
                match registrar.spawn_again(&work.entry).await {
                    Ok(entry) => {
                        work.host_limit = entry.spec().hosted.host_limit;
                        work.entry = entry;
                        return parked.resume(work);
                    }
                    Err(error) => {
                        let pause = if may_pass(&error) { work.retries.next() } else { None };
                        let Some(pause) = pause else { break error };
                        debug!(actor = %work.entry.actor, %error, "not spawned again yet");
                        sleep(pause).await;
                    }
                }
            };
            drop(parked);
            work.fail(failed);
        });
    }
}

/// Whether another try may succeed.
fn may_pass(error: &Error) -> bool {
    matches!(error, Error::Overloaded { .. } | Error::Store(StoreError::Unavailable(_)))
}
