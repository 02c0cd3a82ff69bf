//! Supervision: notices a stage that ends before its pipeline is drained.
//!
//! A stage has a task that runs until the drain: a consumer, a producer with a source, a producer-consumer. When such a
//! task ends or panics before, work piles up in front of it. [`Drain::stage_ended`](crate::Drain::stage_ended) returns its
//! name, so that the process can end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Which stage ended first, if one did.
#[derive(Debug, Default)]
pub(crate) struct Supervision {
    /// Whether stages may end from now on.
    over: AtomicBool,
    ended: Mutex<Option<&'static str>>,
    told: Notify,
}

impl Supervision {
    /// Stages may end from now on.
    pub(crate) fn stop(&self) {
        self.over.store(true, Ordering::Release);
    }

    /// The name of the first stage that ended.
    pub(crate) fn ended(&self) -> Option<&'static str> {
        *self.ended.lock()
    }

    /// Waits until a stage has ended. Cancel safe.
    pub(crate) async fn stage_ended(&self) -> &'static str {
        loop {
            let mut told = std::pin::pin!(self.told.notified());
            // Registered before the check, so that no notification is missed.
            told.as_mut().enable();
            if let Some(name) = self.ended() {
                return name;
            }
            told.await;
        }
    }
}

/// A guard in the task of a stage: its drop says that the task has ended.
pub(crate) struct Supervised {
    pub(crate) supervision: Arc<Supervision>,
    pub(crate) name: &'static str,
}

impl Drop for Supervised {
    fn drop(&mut self) {
        if self.supervision.over.load(Ordering::Acquire) {
            return;
        }
        self.supervision.ended.lock().get_or_insert(self.name);
        self.supervision.told.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::Drain;

    #[tokio::test]
    async fn a_stage_that_returns_or_panics_before_the_drain_is_told_by_name() {
        for panics in [false, true] {
            let drain = Drain::new();
            drain.supervise("running", std::future::pending());
            assert_eq!(drain.ended_stage(), None);
            drain.supervise("broken", async move { assert!(!panics, "on purpose") });
            assert_eq!(drain.stage_ended().await, "broken");
            assert_eq!(drain.ended_stage(), Some("broken"));
            drain.drain(Duration::ZERO).await;
        }
    }

    #[tokio::test]
    async fn a_stage_that_the_drain_ends_is_not_told() {
        let drain = Drain::new();
        drain.supervise("aborted", std::future::pending());
        drain.drain(Duration::ZERO).await;
        drain.supervise("late", async {});
        assert_eq!(drain.ended_stage(), None);
        let drain = Drain::new();
        drain.stop_supervising();
        drain.supervise("ended in order", async {});
        drain.drain(Duration::from_secs(10)).await;
        assert_eq!(drain.ended_stage(), None);
    }
}
