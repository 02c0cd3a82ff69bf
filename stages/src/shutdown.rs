//! Shutdown: lets everything that was admitted finish, then ends the stages in order.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};
use tracing::warn;

use crate::call::Task;
use crate::error::Error;
use crate::mesh::Mesh;
use crate::reply::{Reply, Timing};
use crate::store_breaker::FIRST_PAUSE;

impl Mesh {
    /// Refuses clients, waits until everything that was admitted has finished, unloads every actor and joins all tasks. Ends
    /// after `limit` what is not done; a call that was not started gets an error that says so. Returns whether everything
    /// finished and was kept.
    pub async fn drain(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        self.tasks.stop_supervising();
        // What is not under way stays in the outboxes.
        self.effects.stop();
        self.topics.stopped().cancel();
        self.mailboxes.close();
        let finished = timeout_at(deadline, async {
            let mut is_lost = false;
            loop {
                self.finish_calls().await;
                let failed = self.unload_all().await;
                // A commit in doubt is written again: its actor is asked again.
                let in_doubt = failed.iter().filter(|error| is_in_doubt(error)).count();
                is_lost |= in_doubt < failed.len();
                if in_doubt > 0 {
                    sleep(FIRST_PAUSE).await;
                } else if self.is_quiet() {
                    return !is_lost;
                }
            }
        });
        let finished = finished.await;
        if finished.is_err() {
            warn!(
                ?limit,
                in_flight = self.mailboxes.queue.in_flight(),
                queued = self.mailboxes.queue.queued(),
                "drain deadline: ending what has not finished"
            );
        }
        self.stop_timers.cancel();
        self.mailboxes.queue.end();
        self.effects.end();
        self.channels.queue.end();
        self.checkpoint.producer().close();
        self.registrar.changes.producer().close();
        self.growth.end();
        let drained = self.tasks.drain(deadline.saturating_duration_since(Instant::now())).await;
        finished == Ok(true) && drained.finished
    }

    /// Waits until no call, no delivery of an effect and no broadcast is left.
    async fn finish_calls(&self) {
        while !self.is_quiet() {
            self.mailboxes.queue.idle().await;
            self.mailboxes.queue.unused().await;
            self.effects.queue().idle().await;
            self.effects.queue().unused().await;
            self.channels.queue.idle().await;
            self.channels.queue.unused().await;
        }
    }

    /// Whether no call and no delivery is left, those included whose commit is in flight.
    fn is_quiet(&self) -> bool {
        self.mailboxes.queue.is_idle()
            && self.mailboxes.queue.admitted() == 0
            && self.effects.queue().is_idle()
            && self.effects.queue().admitted() == 0
            && self.channels.queue.is_idle()
            && self.channels.queue.admitted() == 0
    }

    /// Takes every actor out of memory. Returns the errors of those that could not leave.
    async fn unload_all(&self) -> Vec<Error> {
        let mut waiting = Vec::new();
        for entry in self.directory.all_live() {
            let limit = self.mailboxes.deadlines().host;
            let (done, unloaded) =
                Reply::new(&Timing::new(self.mailboxes.deadlines(), Some(limit)));
            self.mailboxes.ask(&entry, Task::Deactivate { idle: None, done });
            waiting.push(unloaded);
        }
        let mut failed = Vec::new();
        for unloaded in waiting {
            if let Err(error) = unloaded.answer().await {
                if !is_in_doubt(&error) {
                    warn!(%error, "an actor could not be unloaded");
                }
                failed.push(error);
            }
        }
        failed
    }
}

/// Whether an actor was not unloaded only because the outcome of a commit is not known yet.
fn is_in_doubt(error: &Error) -> bool {
    matches!(error, Error::Overloaded { .. })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::FutureExt;

    use super::*;
    use crate::invocation::{ActorInvocation, ActorInvocationResponse};
    use crate::memory::MemoryStore;
    use crate::ports::HostError;
    use crate::state::Timestamp;
    use crate::testkit::clock::SetClock;
    use crate::topology::{self, Ports, Settings};

    async fn mesh() -> Mesh {
        let host = tower::service_fn(|_: ActorInvocation| {
            std::future::ready(Ok::<_, HostError>(ActorInvocationResponse::default()))
        });
        let (store, clock) = (MemoryStore::new(), Arc::new(SetClock::at(Timestamp(1))));
        let ports = Ports {
            host,
            probe: Arc::new(()),
            store: Arc::new(store.clone()),
            registry: Arc::new(store),
            clock,
        };
        topology::open(Settings::default(), ports).await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_stage_that_ends_by_itself_is_told_by_name_and_those_of_a_drain_are_not() {
        let broken = mesh().await;
        assert_eq!(broken.stage_ended().now_or_never(), None);
        broken.stop_timers.cancel();
        assert!(
            ["eviction", "timers", "actor_timers", "due", "schedules"]
                .contains(&broken.stage_ended().await)
        );
        broken.drain(Duration::from_secs(1)).await;

        let healthy = mesh().await;
        assert!(healthy.drain(Duration::from_secs(1)).await);
        assert_eq!(healthy.stage_ended().now_or_never(), None);
    }
}
