//! The order of a line, and what a failure does to what is behind it.

use std::time::Duration;

use tokio::sync::Semaphore;

use super::*;

/// Records written versions, fails the given version, and waits for a permit per save.
#[derive(Debug)]
struct Slow {
    written: Mutex<Vec<u64>>,
    fails: u64,
    permits: Semaphore,
}

impl Saver for Slow {
    async fn save(&self, save: Save) -> Result<(), StoreError> {
        self.permits.acquire().await.unwrap().forget();
        let version = save.head.unwrap().version;
        if version == self.fails {
            return Err(StoreError::Unknown("it fails".into()));
        }
        self.written.lock().push(version);
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

    fn save(&self, name: &str, version: u64) -> impl Future<Output = Answer> {
        let actor = Arc::new(ActorId { name: name.into(), ..ActorId::default() });
        let head = tidegate_stages::state::Head { version, ..Default::default() };
        let save = Save::of_head(actor.clone(), head, false);
        let (answers, mut answered) = mpsc::channel(1);
        let work = Work::Save(Ok(save), Waiter { index: 0, answers });
        self.lines.put(&self.slow, Line::Actor(actor), work).unwrap();
        async move { answered.recv().await.unwrap().1 }
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
    assert!(first.await.result.is_ok());
    let failed = failing.await;
    assert!(failed.result.is_err());
    let other = scene.save("b", 7).await;
    assert!(other.result.is_ok(), "another actor");
    let late = scene.save("a", 4).await;
    assert!(late.result.is_err() && behind.await.result.is_err());
    drop((failed, late));
    assert!(scene.save("a", 5).await.result.is_ok());
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
    assert!(waiting.await.result.is_ok());
}
