//! Lines: one queue per actor; work of an actor runs in the order of its requests, even if nobody waits for
//! the result.
//!
//! A line is a queue of work and the task that runs it; both exist only while there is work. A save that
//! builds on a failed save must not be applied. So an actor is *failing* from the moment its save fails
//! until the caller has taken or dropped that result. All saves requested for the actor in this time fail
//! with the same error.

use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tidegate_pipeline::randomness::Seeded;
use tidegate_stages::actor::ActorId;
use tidegate_stages::ports::{Save, StoreError};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

/// The owner of a line.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Line {
    Actor(Arc<ActorId>),
    Registry,
}

/// The result of a save; while it exists, an actor whose save failed counts as failing.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) result: Result<(), StoreError>,
    _untaken: Option<Untaken>,
}

/// The caller that waits for a save of a batch.
#[derive(Debug)]
pub(super) struct Waiter {
    /// Index of the save.
    pub(super) index: usize,
    /// Its capacity is the number of saves.
    pub(super) answers: mpsc::Sender<(usize, Answer)>,
}

/// One entry of a line.
pub(super) enum Work {
    /// A save; `Err` when it must fail.
    Save(Result<Save, StoreError>, Waiter),
    /// Any other work; it sends its own result.
    Other(BoxFuture<'static, ()>),
    /// No work: reports that earlier work is done.
    Reached(oneshot::Sender<()>),
}

pub(super) trait Saver: Send + Sync + 'static {
    fn save(&self, save: Save) -> impl Future<Output = Result<(), StoreError>> + Send;
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Work>,
    is_running: bool,
    failing: Option<(usize, StoreError)>,
}

struct Inner {
    lines: HashMap<Line, Queue, Seeded>,
    is_closed: bool,
}

/// All lines. Cheap to clone.
#[derive(Clone)]
pub(super) struct Lines {
    inner: Arc<Mutex<Inner>>,
    tasks: TaskTracker,
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lines")
            .field("lines", &self.inner.lock().lines.len())
            .finish_non_exhaustive()
    }
}

/// Returns the error of a closed store.
pub(super) fn closed() -> StoreError {
    StoreError::Unavailable("it is closed".into())
}

impl Lines {
    /// Creates no line yet; `tasks` tracks the tasks of later lines.
    pub(super) fn new(tasks: TaskTracker) -> Self {
        let inner = Inner { lines: HashMap::default(), is_closed: false };
        Self { inner: Arc::new(Mutex::new(inner)), tasks }
    }

    /// Queues work during the call.
    ///
    /// # Errors
    /// When the store is closed: the work is not done.
    pub(super) fn put<S: Saver>(
        &self,
        saver: &Arc<S>,
        owner: Line,
        mut work: Work,
    ) -> Result<(), StoreError> {
        let mut inner = self.inner.lock();
        if inner.is_closed {
            return Err(closed());
        }
        let queue = inner.lines.entry(owner.clone()).or_default();
        if let (Work::Save(save, _), Some((_, error))) = (&mut work, &queue.failing) {
            *save = Err(error.clone());
        }
        queue.waiting.push_back(work);
        if !std::mem::replace(&mut queue.is_running, true) {
            self.tasks.spawn(self.clone().run(saver.clone(), owner));
        }
        Ok(())
    }

    /// Resolves when all work now in a line is done; `None` when the line is empty.
    pub(super) fn behind(&self, owner: &Line) -> Option<oneshot::Receiver<()>> {
        let mut inner = self.inner.lock();
        let queue = inner.lines.get_mut(owner).filter(|queue| queue.is_running)?;
        let (reached, behind) = oneshot::channel();
        queue.waiting.push_back(Work::Reached(reached));
        Some(behind)
    }

    /// Closes all lines to new work; queued work is still done.
    pub(super) fn close(&self) {
        self.inner.lock().is_closed = true;
    }

    /// Runs the work of a line until the line is empty.
    async fn run<S: Saver>(self, saver: Arc<S>, owner: Line) {
        let working = AssertUnwindSafe(self.work(&saver, &owner)).catch_unwind();
        if working.await.is_err() {
            // Without its task the line's order is lost: a restart is safer (decision 5).
            tracing::error!("a writer of the store panicked, ending the process");
            crate::log::abort();
        }
    }

    async fn work<S: Saver>(&self, saver: &Arc<S>, owner: &Line) {
        while let Some(work) = self.next(owner) {
            match work {
                Work::Other(work) => work.await,
                // Ignored when nobody waits.
                Work::Reached(reached) => reached.send(()).unwrap_or_default(),
                Work::Save(save, Waiter { index, answers }) => {
                    let result = match save {
                        Ok(save) => saver.save(save).await,
                        Err(error) => Err(error),
                    };
                    let answer = self.answer(owner, result);
                    // Dropped when nobody waits for it.
                    drop(answers.try_send((index, answer)));
                }
            }
        }
    }

    fn next(&self, owner: &Line) -> Option<Work> {
        let mut inner = self.inner.lock();
        let queue = inner.lines.get_mut(owner)?;
        let next = queue.waiting.pop_front();
        if next.is_none() {
            queue.is_running = false;
            if queue.failing.is_none() {
                inner.lines.remove(owner);
            }
        }
        next
    }

    fn answer(&self, owner: &Line, result: Result<(), StoreError>) -> Answer {
        let Err(error) = &result else { return Answer { result, _untaken: None } };
        let mut inner = self.inner.lock();
        let queue = inner.lines.entry(owner.clone()).or_default();
        queue.failing.get_or_insert_with(|| (0, error.clone())).0 += 1;
        for waiting in &mut queue.waiting {
            if let Work::Save(save @ Ok(_), _) = waiting {
                *save = Err(error.clone());
            }
        }
        let untaken = Untaken { lines: self.clone(), owner: owner.clone() };
        Answer { result, _untaken: Some(untaken) }
    }
}

/// A failure that no caller has taken yet.
#[derive(Debug)]
struct Untaken {
    lines: Lines,
    owner: Line,
}

impl Drop for Untaken {
    fn drop(&mut self) {
        let mut inner = self.lines.inner.lock();
        let Some(queue) = inner.lines.get_mut(&self.owner) else { return };
        if let Some((count, _)) = &mut queue.failing {
            *count -= 1;
            if *count > 0 {
                return;
            }
        }
        queue.failing = None;
        if !queue.is_running {
            inner.lines.remove(&self.owner);
        }
    }
}

#[cfg(test)]
mod tests;
