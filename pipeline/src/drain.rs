//! Drain: doors close first, what was admitted finishes, tasks are joined; a deadline ends what does not.
//!
//! A [`Drain`] owns every task of a pipeline. Producers are registered in the order in which events
//! walk; draining closes the first, waits until nothing of it is queued or in flight, and goes on to
//! the next, so an event that was admitted at the first door passes all later ones.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::subscription::Bell;

/// How long aborted tasks have to notice.
const ABORT_GRACE: Duration = Duration::from_secs(1);

/// A producer, as a drain sees it.
pub trait Door: Send + Sync + 'static {
    /// Refuses new events; what was admitted goes on.
    fn close(&self);
    /// Waits until it is closed and nothing of it is queued or in flight.
    fn finished(&self) -> BoxFuture<'_, ()>;
    /// Drops what is queued and ends its subscriptions.
    fn end(&self);
}

/// How a drain went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Whether everything that was admitted finished before the deadline.
    pub finished: bool,
    /// Tasks that did not even end when they were aborted, because they never yield.
    pub left: usize,
}

/// Owns the tasks of a pipeline, and ends it in good order. Cheap to clone.
#[derive(Clone, Default)]
pub struct Drain {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    tracker: TaskTracker,
    doors: Mutex<Vec<Arc<dyn Door>>>,
    stopping: AtomicBool,
    tasks: Mutex<Tasks>,
}

/// What an abort needs. Entries of what has ended are swept when their number has doubled, so both
/// lists are bounded by what is alive.
#[derive(Default)]
struct Tasks {
    aborted: bool,
    handles: Vec<AbortHandle>,
    sweep_at: usize,
    bells: Vec<Weak<Bell>>,
}

impl Drain {
    /// Makes a drain that owns nothing yet.
    pub fn new() -> Drain {
        Drain::default()
    }

    /// Registers a producer; in the order in which events walk. Those that pull from a source or are
    /// pushed to need it, the inner stages of a chain end with what they are subscribed to.
    pub fn door(&self, door: impl Door) {
        self.shared.doors.lock().push(Arc::new(door));
    }

    /// Spawns a task that draining joins, and aborts at the deadline.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let handle = self.shared.tracker.spawn(task).abort_handle();
        let mut tasks = self.shared.tasks.lock();
        if tasks.aborted {
            handle.abort();
            return;
        }
        if tasks.handles.len() >= tasks.sweep_at {
            tasks.handles.retain(|handle| !handle.is_finished());
            tasks.sweep_at = (2 * tasks.handles.len()).max(64);
        }
        tasks.handles.push(handle);
    }

    /// Tasks that have not ended.
    pub fn tasks(&self) -> usize {
        self.shared.tracker.len()
    }

    /// Whether draining has closed all doors: a consumer without subscriptions ends then.
    pub fn is_stopping(&self) -> bool {
        self.shared.stopping.load(Ordering::Acquire)
    }

    /// Rings this bell when [`is_stopping`](Drain::is_stopping) becomes true.
    pub(crate) fn watch(&self, bell: &Arc<Bell>) {
        let mut tasks = self.shared.tasks.lock();
        tasks.bells.retain(|bell| bell.strong_count() > 0);
        tasks.bells.push(Arc::downgrade(bell));
    }

    /// Closes the doors one after the other, lets what was admitted finish and joins all tasks.
    /// What is not done after `limit` is ended: queued events are dropped, tasks aborted.
    ///
    /// Dropping the future stops waiting and leaves the doors closed; draining again, with a limit of
    /// zero for an end at once, goes on from there.
    pub async fn drain(&self, limit: Duration) -> Drained {
        let doors = self.shared.doors.lock().clone();
        let orderly = async {
            for door in &doors {
                door.close();
                door.finished().await;
                door.end();
            }
            self.stop();
            self.shared.tracker.wait().await;
        };
        let finished = timeout(limit, orderly).await.is_ok();
        if !finished {
            for door in &doors {
                door.close();
                door.end();
            }
            self.stop();
            self.abort();
            // What is left after the grace is counted below.
            timeout(ABORT_GRACE, self.shared.tracker.wait()).await.ok();
        }
        self.shared.doors.lock().clear();
        Drained { finished, left: self.shared.tracker.len() }
    }

    fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Release);
        self.shared.tracker.close();
        let bells = std::mem::take(&mut self.shared.tasks.lock().bells);
        bells.iter().filter_map(Weak::upgrade).for_each(|bell| bell.ring());
    }

    fn abort(&self) {
        let handles = {
            let mut tasks = self.shared.tasks.lock();
            tasks.aborted = true;
            std::mem::take(&mut tasks.handles)
        };
        handles.iter().for_each(AbortHandle::abort);
    }
}

impl std::fmt::Debug for Drain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Drain").field("tasks", &self.tasks()).finish_non_exhaustive()
    }
}
