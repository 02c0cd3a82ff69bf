//! An actor is paused, its queue is looked at, and single turns are cancelled.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test; it awaits its tasks")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use support::*;
use tidegate_pipeline::Bound;
use tidegate_stages::blocked_on::{BlockedOn, Cancellation, RetryOf, TurnKind};
use tidegate_stages::error::{Error, ErrorKind};
use tidegate_stages::invocation::Payload;
use tidegate_stages::memory::MemoryStore;
use tidegate_stages::ports::{HostError, StoreError};
use tidegate_stages::topology::Settings;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

/// A counter whose action `slow` waits for a permit.
#[derive(Clone)]
struct Slow {
    permits: Arc<Semaphore>,
    /// Actions that wait, and that were begun.
    waiting: Arc<AtomicUsize>,
    begun: Arc<AtomicUsize>,
}

/// Counts one off when it is dropped.
struct Waits(Arc<AtomicUsize>);

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Slow {
    fn new() -> Self {
        let permits = Arc::new(Semaphore::new(0));
        Self { permits, waiting: Arc::default(), begun: Arc::default() }
    }

    fn host(&self) -> BoxedHost {
        let this = self.clone();
        host(move |invocation| {
            let this = this.clone();
            async move {
                this.begun.fetch_add(1, Ordering::SeqCst);
                if invocation.action == "slow" {
                    this.waiting.fetch_add(1, Ordering::SeqCst);
                    let _waits = Waits(this.waiting.clone());
                    this.permits.acquire().await.unwrap().forget();
                }
                Ok(counted(&invocation))
            }
        })
    }

    fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }
}

async fn slow_world(settings: Settings) -> (Slow, World) {
    let slow = Slow::new();
    let world = world_with(slow.host(), settings, MemoryStore::new()).await;
    world.register(vec![definition("joe"), definition("ann")]).await.unwrap();
    (slow, world)
}

/// What the queued turns of an actor wait for.
fn blocked_on(world: &World, name: &str) -> Vec<BlockedOn> {
    let queue = world.mesh.queue("s", name).unwrap();
    queue.first.iter().map(|turn| turn.blocked_on.unwrap().0).collect()
}

#[tokio::test(start_paused = true)]
async fn a_paused_actor_is_not_called_and_the_others_are() {
    let (slow, world) = slow_world(Settings::default()).await;
    let began = Instant::now();
    world.mesh.pause("s", "joe", "a test").await.unwrap();
    let calls: Vec<_> = (0..3).map(|_| world.start(call("joe", "add"))).collect();
    assert_eq!(world.add("ann").await.unwrap(), 1);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(slow.begun.load(Ordering::SeqCst), 1, "only ann's");
    let queue = world.mesh.queue("s", "joe").unwrap();
    assert_eq!((queue.paused, queue.queued, queue.running), (Some(began), 3, None));
    let blocked = |turn: &tidegate_stages::blocked_on::TurnView| turn.blocked_on;
    assert!(queue.first.iter().all(|turn| blocked(turn) == Some((BlockedOn::Paused, began))));
    assert!(world.mesh.resume("s", "joe").await.unwrap());
    assert!(!world.mesh.resume("s", "joe").await.unwrap());
    for (count, call) in (1..).zip(calls) {
        assert_eq!(answered(call.await.unwrap().unwrap()), count, "in order");
    }
    assert_eq!(world.mesh.queue("s", "joe").unwrap().paused, None);
    assert_eq!(
        world.mesh.pause("s", "nobody", "a test").await.unwrap_err().kind(),
        ErrorKind::ActorNotFound
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_of_a_paused_actor_ends_at_its_deadline_and_a_shutdown_refuses_it() {
    let (slow, world) = slow_world(Settings::default()).await;
    assert_eq!(world.add("joe").await.unwrap(), 1);
    world.mesh.pause("s", "joe", "a test").await.unwrap();
    assert!(matches!(world.add("joe").await, Err(Error::NotStarted(..))));
    assert_eq!(world.mesh.queue("s", "joe").unwrap().queued, 0, "it has left the mailbox");
    let waiting = world.start(call("joe", "add"));
    until_idle().await;
    let began = Instant::now();
    assert!(world.mesh.drain(Duration::from_secs(25)).await, "joe is unloaded all the same");
    assert!(matches!(waiting.await.unwrap(), Err(Error::Draining)));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert!(matches!(world.mesh.pause("s", "joe", "a test").await, Err(Error::Draining)));
    assert_eq!(slow.begun.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn pauses_that_a_silent_store_fails_leave_one_task_that_stores_them_later() {
    let (_, world) = slow_world(Settings::default()).await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    until_idle().await;
    let before = tasks();
    world.store.slow_writes(Duration::from_hours(1));
    for _ in 0..8 {
        world.mesh.pause("s", "joe", "a test").await.unwrap_err();
    }
    until_idle().await;
    assert!(tasks() <= before + 2, "{} tasks, and {before} before", tasks());
    world.store.slow_writes(Duration::ZERO);
    assert!(world.mesh.pause("s", "joe", "a test").await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_queued_call_names_the_turn_that_holds_its_actor_and_since_when() {
    let (slow, world) = slow_world(Settings::default()).await;
    let began = Instant::now();
    let first = world.start(call("joe", "slow"));
    wait_until(|| slow.waiting() == 1).await;
    let since = began;
    sleep(Duration::from_secs(2)).await;
    let later = Instant::now();
    let second = world.start(call("joe", "add"));
    until_idle().await;
    let queue = world.mesh.queue("s", "joe").unwrap();
    let running = queue.running.unwrap();
    assert_eq!((running.kind, running.since, running.blocked_on), (TurnKind::Call, since, None));
    let [waits] = &queue.first[..] else { panic!("{queue:?}") };
    let held_by = running.id;
    assert_eq!(waits.blocked_on, Some((BlockedOn::ActorTurn { held_by }, later)));
    assert_eq!(waits.since, later);
    slow.permits.add_permits(1);
    assert_eq!(answered(first.await.unwrap().unwrap()), 1);
    assert_eq!(answered(second.await.unwrap().unwrap()), 2);
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_for_a_worker_or_for_its_host() {
    let few = Settings { worker_demand: 1, workers: 1, ..Settings::default() };
    let (slow, world) = slow_world(few).await;
    let calls = [world.start(call("joe", "slow")), world.start(call("ann", "add"))];
    wait_until(|| slow.waiting() == 1).await;
    assert_eq!(blocked_on(&world, "ann"), [BlockedOn::Worker]);
    slow.permits.add_permits(1);
    for call in calls {
        call.await.unwrap().unwrap();
    }
    let (slow, world) = slow_world(Settings { host_connections: 1, ..Settings::default() }).await;
    let calls = [world.start(call("joe", "slow")), world.start(call("ann", "add"))];
    wait_until(|| slow.waiting() == 1).await;
    assert_eq!(blocked_on(&world, "ann"), [BlockedOn::HostPermit]);
    slow.permits.add_permits(1);
    for call in calls {
        call.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_parked_call_says_what_failed() {
    let refusing = host(|_| async {
        Err(HostError::Connect { address: "h".into(), reason: "refused".into() })
    });
    let world = world(refusing).await;
    world.register(vec![definition("joe")]).await.unwrap();
    let calls = [world.start(call("joe", "add")), world.start(call("joe", "add"))];
    let parked_on = || world.mesh.queue("s", "joe").unwrap().running?.blocked_on;
    wait_until(|| parked_on().is_some()).await;
    assert_eq!(parked_on().unwrap().0, BlockedOn::Retry(RetryOf::Host));
    let held_by = world.mesh.queue("s", "joe").unwrap().running.unwrap().id;
    assert_eq!(blocked_on(&world, "joe"), [BlockedOn::ActorTurn { held_by }]);
    for call in calls {
        call.await.unwrap().unwrap_err();
    }

    let (_, world) = slow_world(Settings::default()).await;
    world.store.refuse_loads(Some(StoreError::Unavailable("as the test wants it".into())));
    let waiting = world.start(call("joe", "add"));
    let parked_on = || world.mesh.queue("s", "joe").unwrap().running?.blocked_on;
    wait_until(|| parked_on().is_some()).await;
    assert_eq!(parked_on().unwrap().0, BlockedOn::Retry(RetryOf::Store));
    world.store.refuse_loads(None);
    assert_eq!(answered(waiting.await.unwrap().unwrap()), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_for_a_place_at_the_checkpoint_but_not_while_its_actor_is_paused() {
    // One actor holds 1/8 of the places.
    let checkpoint = Bound { events: 16, bytes: 64 << 20 };
    let (_, world) = slow_world(Settings { checkpoint, ..Settings::default() }).await;
    world.store.hold_saves();
    let calls: Vec<_> = (0..3).map(|_| world.start(call("joe", "add"))).collect();
    wait_until(|| world.store.held_saves() == 1).await;
    until_idle().await;
    assert_eq!(blocked_on(&world, "joe"), [BlockedOn::CheckpointPlace]);
    world.mesh.pause("s", "joe", "a test").await.unwrap();
    assert_eq!(blocked_on(&world, "joe"), [BlockedOn::Paused]);
    world.store.release_saves();
    until_idle().await;
    assert_eq!(world.add("ann").await.unwrap(), 1);
    assert_eq!(blocked_on(&world, "joe"), [BlockedOn::Paused], "places are free");
    world.mesh.resume("s", "joe").await.unwrap();
    for (count, call) in (1..).zip(calls) {
        assert_eq!(answered(call.await.unwrap().unwrap()), count);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_for_a_host_that_is_away_and_can_be_cancelled() {
    let is_away = Arc::new(AtomicBool::new(false));
    let away = is_away.clone();
    let host = host(move |invocation| {
        let is_away = away.load(Ordering::SeqCst);
        async move {
            let address = definition("joe").host().as_str().into();
            let refused = HostError::Connect { address, reason: "refused".into() };
            if is_away { Err(refused) } else { Ok(counted(&invocation)) }
        }
    });
    let world = world(host).await;
    world.register(vec![definition("joe")]).await.unwrap();
    assert_eq!(world.add("joe").await.unwrap(), 1);
    is_away.store(true, Ordering::SeqCst);
    let waiting = world.start(call("joe", "add"));
    let queued = || world.mesh.queue("s", "joe").unwrap().first;
    wait_until(|| !queued().is_empty()).await;
    until_idle().await;
    assert_eq!(blocked_on(&world, "joe"), [BlockedOn::HostBreaker]);
    let id = queued()[0].id;
    assert_eq!(world.mesh.cancel("s", "joe", id).unwrap(), Cancellation::Removed);
    assert_eq!(waiting.await.unwrap().unwrap_err().kind(), ErrorKind::Conflict);
}

#[tokio::test(start_paused = true)]
async fn replies_that_wait_for_a_commit_are_counted_and_a_delete_waits_for_it() {
    let (_, world) = slow_world(Settings::default()).await;
    world.store.hold_saves();
    let began = Instant::now();
    let calls: Vec<_> = (0..3).map(|_| world.start(call("joe", "add"))).collect();
    wait_until(|| world.store.held_saves() == 1).await;
    let commits = world.mesh.queue("s", "joe").unwrap().commits.unwrap();
    assert_eq!((commits.turns, commits.since, commits.in_doubt), (3, began, false));
    let mesh = world.mesh.clone();
    let deleted = tokio::task::spawn(async move { mesh.delete("s", "joe").await });
    until_idle().await;
    let running = world.mesh.queue("s", "joe").unwrap().running.unwrap();
    assert_eq!(running.kind, TurnKind::Deletion);
    assert_eq!(running.blocked_on.unwrap().0, BlockedOn::Commit);
    world.store.release_saves();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    deleted.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_queued_call_that_is_cancelled_never_runs_and_frees_its_place() {
    let (slow, world) = slow_world(Settings::default()).await;
    let first = world.start(call("joe", "slow"));
    wait_until(|| slow.waiting() == 1).await;
    let second = world.start(call("joe", "add"));
    until_idle().await;
    let queue = world.mesh.queue("s", "joe").unwrap();
    let id = queue.first[0].id;
    assert_eq!(world.mesh.cancel("s", "joe", id).unwrap(), Cancellation::Removed);
    assert_eq!(second.await.unwrap().unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(world.mesh.queue("s", "joe").unwrap().queued, 0);
    slow.permits.add_permits(1);
    assert_eq!(answered(first.await.unwrap().unwrap()), 1);
    assert_eq!(slow.begun.load(Ordering::SeqCst), 1);
    for id in [id, queue.running.unwrap().id] {
        let error = world.mesh.cancel("s", "joe", id).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "its turn is over");
    }
}

#[tokio::test(start_paused = true)]
async fn a_running_call_that_is_cancelled_gives_up_its_host_and_keeps_no_state() {
    let (slow, world) = slow_world(Settings::default()).await;
    assert_eq!(world.add("joe").await.unwrap(), 1);
    let running = world.start(call("joe", "slow"));
    wait_until(|| slow.waiting() == 1).await;
    let next = world.start(call("joe", "add"));
    until_idle().await;
    let id = world.mesh.queue("s", "joe").unwrap().running.unwrap().id;
    let began = Instant::now();
    assert_eq!(world.mesh.cancel("s", "joe", id).unwrap(), Cancellation::Told);
    let error = running.await.unwrap().unwrap_err();
    assert!(error.kind() == ErrorKind::Conflict && !error.is_retryable(), "{error}");
    assert!(error.to_string().contains("started"), "{error}");
    assert_eq!(slow.waiting(), 0, "its call to the host is dropped");
    assert_eq!(answered(next.await.unwrap().unwrap()), 2, "the key is free, the state as before");
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_parked_call_that_is_cancelled_ends_at_once() {
    let (_, world) = slow_world(Settings::default()).await;
    world.store.refuse_loads(Some(StoreError::Unavailable("as the test wants it".into())));
    let parked = world.start(call("joe", "add"));
    let running = || world.mesh.queue("s", "joe").unwrap().running;
    wait_until(|| running().is_some_and(|turn| turn.blocked_on.is_some())).await;
    let began = Instant::now();
    let id = running().unwrap().id;
    assert_eq!(world.mesh.cancel("s", "joe", id).unwrap(), Cancellation::Told);
    let error = parked.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("not started"), "{error}");
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert!(running().is_none());
    world.store.refuse_loads(None);
    assert_eq!(world.add("joe").await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_delete_that_runs_is_not_cancelled() {
    let (_, world) = slow_world(Settings::default()).await;
    world.add("joe").await.unwrap();
    world.store.hold_saves();
    let waiting = world.start(call("joe", "add"));
    wait_until(|| world.store.held_saves() == 1).await;
    let mesh = world.mesh.clone();
    let deleted = tokio::task::spawn(async move { mesh.delete("s", "joe").await });
    until_idle().await;
    let id = world.mesh.queue("s", "joe").unwrap().running.unwrap().id;
    assert_eq!(world.mesh.cancel("s", "joe", id).unwrap_err().kind(), ErrorKind::Conflict);
    world.store.release_saves();
    assert_eq!(waiting.await.unwrap().unwrap(), Payload::Value(any(2)));
    deleted.await.unwrap().unwrap();
}
