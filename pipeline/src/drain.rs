//! Drain: ends a pipeline in order and within a deadline.
//!
//! A [`Drain`] owns every task of a pipeline. Producers are registered in the order in which events
//! pass them. Draining closes the first producer, waits until none of its events is queued or in
//! flight, and goes on with the next, so an event that the first producer admitted passes all later
//! ones. Then it joins all tasks. At the deadline it ends whatever is not finished.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::supervision::{Supervised, Supervision};

/// How long a drain waits for aborted tasks.
const ABORT_GRACE: Duration = Duration::from_secs(1);

/// A producer that a drain can close.
pub trait Drainable: Send + Sync + 'static {
    /// Refuses new events. Admitted events go on.
    fn close(&self);
    /// Waits until it is closed and none of its events is queued or in flight.
    fn finished(&self) -> BoxFuture<'_, ()>;
    /// Drops the queued events and ends the subscriptions.
    fn end(&self);
}

/// What a drain achieved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Whether all admitted events finished before the deadline.
    pub finished: bool,
    /// Tasks that did not end when they were aborted, because they never yield.
    pub left: usize,
}

/// Owns the tasks of a pipeline and ends them in order; see the [module](self). Cheap to clone.
#[derive(Clone, Default)]
pub struct Drain {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    tracker: TaskTracker,
    producers: Mutex<Vec<Arc<dyn Drainable>>>,
    stopping: AtomicBool,
    tasks: Mutex<Tasks>,
    supervision: Arc<Supervision>,
}

/// What is needed to end tasks. Entries of ended tasks are removed when their number has doubled, so
/// the lists stay in proportion to the running tasks.
#[derive(Default)]
struct Tasks {
    aborted: bool,
    handles: Vec<AbortHandle>,
    sweep_at: usize,
    wakers: Vec<Weak<AtomicWaker>>,
}

impl Drain {
    /// Makes a drain that owns nothing yet.
    pub fn new() -> Drain {
        Drain::default()
    }

    /// Registers a producer that [`drain`](Drain::drain) closes. Register producers in the order in
    /// which events pass them. A producer-consumer needs no registration: it ends with the producers
    /// that it subscribes to.
    pub fn register(&self, producer: impl Drainable) {
        self.shared.producers.lock().push(Arc::new(producer));
    }

    /// Spawns a task. Draining joins it, and aborts it at the deadline.
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

    /// Spawns the task of a stage, which runs until the pipeline is drained: see [`stage_ended`](Drain::stage_ended).
    pub fn supervise(&self, name: &'static str, stage: impl Future<Output = ()> + Send + 'static) {
        let supervised = Supervised { supervision: Arc::clone(&self.shared.supervision), name };
        // As one type, because the runtime's code for a task is made for each type of future.
        let stage: BoxFuture<'static, ()> = Box::pin(stage);
        self.spawn(async move {
            stage.await;
            drop(supervised);
        });
    }

    /// Waits until the task of a stage ends or panics before the drain. Returns the name of the first one. A stage also ends
    /// when all that it reads from has ended: call [`stop_supervising`](Drain::stop_supervising) before you end a producer
    /// by hand. Cancel safe.
    pub async fn stage_ended(&self) -> &'static str {
        self.shared.supervision.stage_ended().await
    }

    /// The stage that [`stage_ended`](Drain::stage_ended) would return now.
    pub fn ended_stage(&self) -> Option<&'static str> {
        self.shared.supervision.ended()
    }

    /// Stages may end from now on. [`drain`](Drain::drain) calls it; call it earlier to end producers by hand.
    pub fn stop_supervising(&self) {
        self.shared.supervision.stop();
    }

    /// Returns how many tasks have not ended.
    pub fn tasks(&self) -> usize {
        self.shared.tracker.len()
    }

    /// Whether draining has closed all producers. A consumer without subscriptions ends then.
    pub fn is_stopping(&self) -> bool {
        self.shared.stopping.load(Ordering::Acquire)
    }

    /// Wakes this waker when [`is_stopping`](Drain::is_stopping) becomes true.
    pub(crate) fn watch(&self, waker: &Arc<AtomicWaker>) {
        let mut tasks = self.shared.tasks.lock();
        tasks.wakers.retain(|waker| waker.strong_count() > 0);
        tasks.wakers.push(Arc::downgrade(waker));
    }

    /// Closes the producers one after the other, waits until their admitted events are finished, and
    /// joins all tasks. After `limit` it drops queued events and aborts tasks.
    ///
    /// Dropping the future stops the wait and leaves the producers closed. A second call goes on from
    /// there; a limit of zero ends everything at once.
    pub async fn drain(&self, limit: Duration) -> Drained {
        self.stop_supervising();
        let producers = self.shared.producers.lock().clone();
        let orderly = async {
            for producer in &producers {
                producer.close();
                producer.finished().await;
                producer.end();
            }
            self.stop();
            self.shared.tracker.wait().await;
        };
        let finished = timeout(limit, orderly).await.is_ok();
        if !finished {
            for producer in &producers {
                producer.close();
                producer.end();
            }
            self.stop();
            self.abort();
            // Tasks that do not end in this time are counted below.
            timeout(ABORT_GRACE, self.shared.tracker.wait()).await.ok();
        }
        self.shared.producers.lock().clear();
        Drained { finished, left: self.shared.tracker.len() }
    }

    fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Release);
        self.shared.tracker.close();
        let wakers = std::mem::take(&mut self.shared.tasks.lock().wakers);
        wakers.iter().filter_map(Weak::upgrade).for_each(|waker| waker.wake());
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
