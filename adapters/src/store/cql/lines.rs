//! Lines: what is done to one actor is done in the order in which it was asked for, whoever still waits for the answer.
//!
//! A queue is an actor's line of work and the task that does it; both are there only while there is work. A save built on
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
struct Queue {
    waiting: VecDeque<Work>,
    is_running: bool,
    failing: Option<(usize, StoreError)>,
}

struct Inner {
    lines: HashMap<Line, Queue>,
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

/// What is said once the store is closed.
pub(super) fn closed() -> StoreError {
    StoreError::Unavailable("it is closed".into())
}

impl Lines {
    /// No lines yet; their tasks are tracked.
    pub(super) fn new(tasks: TaskTracker) -> Self {
        let inner = Inner { lines: HashMap::new(), is_closed: false };
        Self { inner: Arc::new(Mutex::new(inner)), tasks }
    }

    /// Puts work in line, now.
    ///
    /// # Errors
    /// When the store is closed: it is not done.
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

    /// Resolves when what is in a line now is done; `None` when nothing is.
    pub(super) fn behind(&self, owner: &Line) -> Option<oneshot::Receiver<()>> {
        let mut inner = self.inner.lock();
        let queue = inner.lines.get_mut(owner).filter(|queue| queue.is_running)?;
        let (reached, behind) = oneshot::channel();
        queue.waiting.push_back(Work::Reached(reached));
        Some(behind)
    }

    /// Lets nothing more in; what waits is still done.
    pub(super) fn close(&self) {
        self.inner.lock().is_closed = true;
    }

    /// Does what waits in a line until nothing does.
    async fn run<S: Saver>(self, saver: Arc<S>, owner: Line) {
        let working = AssertUnwindSafe(self.work(&saver, &owner)).catch_unwind();
        if working.await.is_err() {
            // The line's order is gone with its task: a restart is safer than going on (decision 5).
            tracing::error!("a writer of the store panicked, ending the process");
            crate::log::abort();
        }
    }

    async fn work<S: Saver>(&self, saver: &Arc<S>, owner: &Line) {
        while let Some(work) = self.next(owner) {
            match work {
                Work::Other(work) => work.await,
                // Dropped when nobody waits for it.
                Work::Reached(reached) => reached.send(()).unwrap_or_default(),
                Work::Save(save, answer) => {
                    let result = match save {
                        Ok(save) => saver.save(save).await,
                        Err(error) => Err(error),
                    };
                    let answered = self.answer(owner, result);
                    // Dropped when nobody waits for it.
                    drop(answer.send(answered));
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

/// A failure that a caller has not heard of yet.
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
mod tests {
    use std::time::Duration;

    use tokio::sync::Semaphore;

    use super::*;

    /// Writes versions down, fails those that it is told to, and waits for its permits.
    #[derive(Debug)]
    struct Slow {
        written: Mutex<Vec<u64>>,
        fails: u64,
        permits: Semaphore,
    }

    impl Saver for Slow {
        async fn save(&self, save: Save) -> Result<(), StoreError> {
            self.permits.acquire().await.unwrap().forget();
            if save.head.version == self.fails {
                return Err(StoreError::Unknown("it fails".into()));
            }
            self.written.lock().push(save.head.version);
            Ok(())
        }
    }

    struct Scene {
        lines: Lines,
        slow: Arc<Slow>,
    }

    impl Scene {
        fn new(fails: u64) -> Self {
            let slow = Slow { written: Mutex::default(), fails, permits: Semaphore::new(0) };
            Self { lines: Lines::new(TaskTracker::new()), slow: Arc::new(slow) }
        }

        fn save(&self, name: &str, version: u64) -> oneshot::Receiver<Answer> {
            let actor = Arc::new(ActorId { name: name.into(), ..ActorId::default() });
            let head = tidegate_stages::state::Head { version, ..Default::default() };
            let save = Save { actor: actor.clone(), head, append: false };
            let (answer, answered) = oneshot::channel();
            let work = Work::Save(Ok(save), answer);
            self.lines.put(&self.slow, Line::Actor(actor), work).unwrap();
            answered
        }
    }

    #[tokio::test(start_paused = true)]
    async fn work_of_one_actor_is_done_in_order_and_no_lane_is_left() {
        let scene = Scene::new(0);
        let answers: Vec<_> = (1..=5).map(|version| scene.save("a", version)).collect();
        let actor = Line::Actor(Arc::new(ActorId { name: "a".into(), ..ActorId::default() }));
        let behind = scene.lines.behind(&actor).unwrap();
        scene.slow.permits.add_permits(5);
        behind.await.unwrap();
        assert_eq!(*scene.slow.written.lock(), [1, 2, 3, 4, 5]);
        drop(answers);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(scene.lines.inner.lock().lines.is_empty());
        assert!(scene.lines.behind(&actor).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_called_before_a_failure_is_known_fails_with_it() {
        let scene = Scene::new(2);
        scene.slow.permits.add_permits(99);
        let (first, failing, behind) = (scene.save("a", 1), scene.save("a", 2), scene.save("a", 3));
        assert!(first.await.unwrap().result.is_ok());
        let failed = failing.await.unwrap();
        assert!(failed.result.is_err());
        let other = scene.save("b", 7).await.unwrap();
        assert!(other.result.is_ok(), "another actor");
        let late = scene.save("a", 4).await.unwrap();
        assert!(late.result.is_err() && behind.await.unwrap().result.is_err());
        drop((failed, late));
        assert!(scene.save("a", 5).await.unwrap().result.is_ok());
        assert_eq!(*scene.slow.written.lock(), [1, 7, 5]);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_let_in_after_closing_and_what_waits_is_done() {
        let scene = Scene::new(0);
        let waiting = scene.save("a", 1);
        scene.lines.close();
        let work = Work::Other(async {}.boxed());
        assert!(scene.lines.put(&scene.slow, Line::Registry, work).is_err());
        scene.slow.permits.add_permits(1);
        assert!(waiting.await.unwrap().result.is_ok());
    }
}
