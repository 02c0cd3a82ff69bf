//! Lanes: what is done to one actor is done in the order in which it was asked for, whoever still waits for the answer.
//!
//! A lane is an actor's line of work and the task that does it; both are there only while there is work. A save built on
//! one that failed must not be applied as if that one had succeeded: so an actor is *failing* from the moment its save
//! fails until the caller has taken (or dropped) that answer, and whatever was called for it in that time fails with the
//! same error.

use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tidegate_stages::actor::ActorId;
use tidegate_stages::ports::{Save, StoreError};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

/// Whose line it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Line {
    Actor(Arc<ActorId>),
    Registry,
}

/// The answer to a save; while it lives, an actor whose save failed counts as failing.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) result: Result<(), StoreError>,
    _untaken: Option<Untaken>,
}

/// What is done in its turn.
pub(super) enum Work {
    /// A save; `Err` when it must fail.
    Save(Result<Save, StoreError>, oneshot::Sender<Answer>),
    /// Anything else, which answers itself.
    Other(BoxFuture<'static, ()>),
    /// Nothing: says that its turn has come.
    Reached(oneshot::Sender<()>),
}

/// Who writes.
pub(super) trait Saver: Send + Sync + 'static {
    /// Writes one save.
    fn save(&self, save: Save) -> impl Future<Output = Result<(), StoreError>> + Send;
}

#[derive(Default)]
struct Lane {
    waiting: VecDeque<Work>,
    is_running: bool,
    failing: Option<(usize, StoreError)>,
}

struct Inner {
    lanes: HashMap<Line, Lane>,
    is_closed: bool,
}

/// All lanes. Cheap to clone.
#[derive(Clone)]
pub(super) struct Lanes {
    inner: Arc<Mutex<Inner>>,
    tasks: TaskTracker,
}

impl std::fmt::Debug for Lanes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lanes")
            .field("lanes", &self.inner.lock().lanes.len())
            .finish_non_exhaustive()
    }
}

/// What is said once the store is closed.
pub(super) fn closed() -> StoreError {
    StoreError::Unavailable("it is closed".into())
}

impl Lanes {
    /// No lanes yet; their tasks are tracked.
    pub(super) fn new(tasks: TaskTracker) -> Self {
        let inner = Inner { lanes: HashMap::new(), is_closed: false };
        Self { inner: Arc::new(Mutex::new(inner)), tasks }
    }

    /// Puts work in line, now.
    ///
    /// # Errors
    /// When the store is closed: it is not done.
    pub(super) fn put<S: Saver>(
        &self,
        saver: &Arc<S>,
        line: Line,
        mut work: Work,
    ) -> Result<(), StoreError> {
        let mut inner = self.inner.lock();
        if inner.is_closed {
            return Err(closed());
        }
        let lane = inner.lanes.entry(line.clone()).or_default();
        if let (Work::Save(save, _), Some((_, error))) = (&mut work, &lane.failing) {
            *save = Err(error.clone());
        }
        lane.waiting.push_back(work);
        if !std::mem::replace(&mut lane.is_running, true) {
            self.tasks.spawn(self.clone().run(saver.clone(), line));
        }
        Ok(())
    }

    /// Resolves when what is in a line now is done; `None` when nothing is.
    pub(super) fn behind(&self, line: &Line) -> Option<oneshot::Receiver<()>> {
        let mut inner = self.inner.lock();
        let lane = inner.lanes.get_mut(line).filter(|lane| lane.is_running)?;
        let (reached, behind) = oneshot::channel();
        lane.waiting.push_back(Work::Reached(reached));
        Some(behind)
    }

    /// Lets nothing more in; what waits is still done.
    pub(super) fn close(&self) {
        self.inner.lock().is_closed = true;
    }

    /// Does what waits in a line until nothing does.
    async fn run<S: Saver>(self, saver: Arc<S>, line: Line) {
        let working = AssertUnwindSafe(self.work(&saver, &line)).catch_unwind();
        if working.await.is_err() {
            // The line's order is gone with its task: a restart is safer than going on (decision 5).
            tracing::error!("a writer of the store panicked, ending the process");
            std::process::abort();
        }
    }

    async fn work<S: Saver>(&self, saver: &Arc<S>, line: &Line) {
        while let Some(work) = self.next(line) {
            match work {
                Work::Other(work) => work.await,
                // Dropped when nobody waits for it.
                Work::Reached(reached) => reached.send(()).unwrap_or_default(),
                Work::Save(save, answer) => {
                    let result = match save {
                        Ok(save) => saver.save(save).await,
                        Err(error) => Err(error),
                    };
                    let answered = self.answer(line, result);
                    // Dropped when nobody waits for it.
                    drop(answer.send(answered));
                }
            }
        }
    }

    fn next(&self, line: &Line) -> Option<Work> {
        let mut inner = self.inner.lock();
        let lane = inner.lanes.get_mut(line)?;
        let next = lane.waiting.pop_front();
        if next.is_none() {
            lane.is_running = false;
            if lane.failing.is_none() {
                inner.lanes.remove(line);
            }
        }
        next
    }

    fn answer(&self, line: &Line, result: Result<(), StoreError>) -> Answer {
        let Err(error) = &result else { return Answer { result, _untaken: None } };
        let mut inner = self.inner.lock();
        let lane = inner.lanes.entry(line.clone()).or_default();
        lane.failing.get_or_insert_with(|| (0, error.clone())).0 += 1;
        for waiting in &mut lane.waiting {
            if let Work::Save(save @ Ok(_), _) = waiting {
                *save = Err(error.clone());
            }
        }
        let untaken = Untaken { lanes: self.clone(), line: line.clone() };
        Answer { result, _untaken: Some(untaken) }
    }
}

/// A failure that a caller has not heard of yet.
#[derive(Debug)]
struct Untaken {
    lanes: Lanes,
    line: Line,
}

impl Drop for Untaken {
    fn drop(&mut self) {
        let mut inner = self.lanes.inner.lock();
        let Some(lane) = inner.lanes.get_mut(&self.line) else { return };
        if let Some((count, _)) = &mut lane.failing {
            *count -= 1;
            if *count > 0 {
                return;
            }
        }
        lane.failing = None;
        if !lane.is_running {
            inner.lanes.remove(&self.line);
        }
    }
}
