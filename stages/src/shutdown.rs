//! Shutdown: lets everything that was admitted finish, then ends the stages in order.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};
use tracing::warn;

use crate::call::Task;
use crate::mesh::Mesh;
use crate::reply::{Reply, Timing};

impl Mesh {
    /// Refuses clients, lets everything that was admitted finish, unloads every actor and joins all tasks. What is not
    /// done within `limit` is ended. Returns whether everything finished.
    pub async fn drain(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        self.mailboxes.close();
        let finished = timeout_at(deadline, async {
            loop {
                self.finish_calls().await;
                self.unload_all().await;
                if self.is_quiet() {
                    return;
                }
            }
        });
        let finished = finished.await.is_ok();
        if !finished {
            warn!(
                ?limit,
                in_flight = self.mailboxes.queue.in_flight(),
                queued = self.mailboxes.queue.queued(),
                "drain deadline: ending what has not finished"
            );
        }
        self.stop_timers.cancel();
        self.mailboxes.queue.end();
        self.effects.queue.end();
        self.checkpoint.producer().close();
        self.growth.end();
        let drained = self.tasks.drain(deadline.saturating_duration_since(Instant::now())).await;
        finished && drained.finished
    }

    /// A call holds its place until its answer has left, an effect until it was delivered, and each
    /// may make the other: finished when there is none of either.
    async fn finish_calls(&self) {
        const LOOK_EVERY: Duration = Duration::from_millis(5);
        loop {
            self.mailboxes.queue.idle().await;
            self.effects.queue.idle().await;
            if self.is_quiet() {
                return;
            }
            // Commits on their way: there is nothing to be woken by.
            sleep(LOOK_EVERY).await;
        }
    }

    /// Whether no call and no effect is under way, counting those whose commit is.
    fn is_quiet(&self) -> bool {
        self.mailboxes.queue.is_idle()
            && self.mailboxes.queue.admitted() == 0
            && self.effects.queue.is_idle()
            && self.effects.queue.admitted() == 0
    }

    async fn unload_all(&self) {
        let mut waiting = Vec::new();
        for entry in self.directory.all_live() {
            let limit = self.mailboxes.deadlines().host;
            let (done, unloaded) =
                Reply::new(&Timing::new(self.mailboxes.deadlines(), Some(limit)));
            self.mailboxes.ask(&entry, Task::Deactivate { idle: None, done });
            waiting.push(unloaded);
        }
        for unloaded in waiting {
            if let Err(error) = unloaded.answer().await {
                warn!(%error, "an actor could not be unloaded");
            }
        }
    }
}
