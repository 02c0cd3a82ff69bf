//! What a cancelled call means: to its caller, its actor, the source of an effect, and the table of due work.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test; it awaits its tasks")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use support::*;
use tidegate_stages::actor::Definition;
use tidegate_stages::blocked_on::Cancellation;
use tidegate_stages::error::Error;
use tidegate_stages::invocation::{ActorInvocation, Invocation};
use tidegate_stages::outbox::record::Record;
use tidegate_stages::ports::{Clock, DueStore, StateStore};
use tokio::time::sleep;

/// A counter; `source` has `sink` called. While it hangs, the action of that name never answers.
#[derive(Debug, Clone)]
struct Hanging {
    action: &'static str,
    hangs: Arc<AtomicBool>,
    begun: Arc<AtomicUsize>,
}

impl Hanging {
    fn new(action: &'static str) -> Self {
        Self { action, hangs: Arc::new(AtomicBool::new(true)), begun: Arc::default() }
    }

    fn host(&self) -> BoxedHost {
        let this = self.clone();
        host(move |invocation: ActorInvocation| {
            let this = this.clone();
            async move {
                if invocation.action == this.action {
                    this.begun.fetch_add(1, Ordering::SeqCst);
                    if this.hangs.load(Ordering::SeqCst) {
                        std::future::pending::<()>().await;
                    }
                }
                let mut response = counted(&invocation);
                if invocation.actor.name == "source" {
                    response.workflow.effects = vec![call("sink", "slow")];
                }
                Ok(response)
            }
        })
    }

    fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }
}

/// Cancels the turn of an actor that runs.
fn cancel_running(world: &World, name: &str) -> Cancellation {
    let running = world.mesh.queue("s", name).unwrap().running.unwrap();
    world.mesh.cancel("s", name, running.id).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_caller_is_told_whether_its_action_may_have_run() {
    let hanging = Hanging::new("slow");
    let world = world(hanging.host()).await;
    world.register(vec![definition("joe")]).await.unwrap();
    let running = world.start(call("joe", "slow"));
    wait_until(|| hanging.begun() == 1).await;
    let queued = world.start(call("joe", "add"));
    until_idle().await;
    let id = world.mesh.queue("s", "joe").unwrap().first[0].id;
    assert_eq!(world.mesh.cancel("s", "joe", id).unwrap(), Cancellation::Removed);
    let error = queued.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Cancelled) && error.is_retryable(), "{error}");
    assert!(error.to_string().starts_with("not started, it is safe to retry"), "{error}");
    assert_eq!(cancel_running(&world, "joe"), Cancellation::Told);
    let error = running.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::CancelledRunning) && !error.is_retryable(), "{error}");
    assert_eq!(world.add("joe").await.unwrap(), 1, "the key is free, and nothing is kept");
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_init_action_hangs_is_cancelled_before_its_own_action() {
    let hanging = Hanging::new("init");
    let world = world(hanging.host()).await;
    let actions = vec!["init".into(), "add".into()];
    world.register(vec![Definition { actions, ..definition("joe") }]).await.unwrap();
    let calling = world.start(call("joe", "add"));
    wait_until(|| hanging.begun() == 1).await;
    assert_eq!(cancel_running(&world, "joe"), Cancellation::Told);
    let began = tokio::time::Instant::now();
    assert!(matches!(calling.await.unwrap(), Err(Error::Cancelled)));
    assert_eq!(began.elapsed(), Duration::ZERO);
    hanging.hangs.store(false, Ordering::SeqCst);
    assert_eq!(world.add("joe").await.unwrap(), 2, "the init action counts, too");
    assert_eq!(hanging.begun(), 2, "it runs again");
}

#[tokio::test(start_paused = true)]
async fn an_init_action_that_hangs_is_cancelled_with_a_warm_up_and_with_a_read_of_the_state() {
    let hanging = Hanging::new("init");
    let world = world(hanging.host()).await;
    let actions = vec!["init".into(), "add".into()];
    world.register(vec![Definition { actions, ..warmed("joe") }]).await.unwrap();
    wait_until(|| hanging.begun() == 1).await;
    assert_eq!(cancel_running(&world, "joe"), Cancellation::Told);
    until_idle().await;
    assert!(world.mesh.queue("s", "joe").unwrap().running.is_none(), "the key is free");
    let mesh = world.mesh.clone();
    let reading = tokio::task::spawn(async move { mesh.state("s", "joe").await });
    wait_until(|| hanging.begun() == 2).await;
    let began = tokio::time::Instant::now();
    assert_eq!(cancel_running(&world, "joe"), Cancellation::Told);
    let error = reading.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Cancelled), "{error}");
    assert_eq!(began.elapsed(), Duration::ZERO);
    hanging.hangs.store(false, Ordering::SeqCst);
    assert_eq!(world.add("joe").await.unwrap(), 2, "the init action counts, too");
    assert_eq!(hanging.begun(), 3, "it runs again");
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_effect_is_a_dead_letter_and_the_next_one_comes() {
    let hanging = Hanging::new("slow");
    let world = world(hanging.host()).await;
    world.register(vec![definition("source"), definition("sink")]).await.unwrap();
    world.add("source").await.unwrap();
    wait_until(|| hanging.begun() == 1).await;
    world.add("source").await.unwrap();
    cancel_running(&world, "sink");
    hanging.hangs.store(false, Ordering::SeqCst);
    wait_until(|| hanging.begun() == 2).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(number(world.head("sink").await.unwrap().content.state.as_ref()), 1);
    let rows = world.memory.outbox(&id("source"), None, 9).await.unwrap().items;
    let [row] = &rows[..] else { panic!("{rows:?}") };
    let dead = Record::decode(row.record.clone()).unwrap().dead.unwrap();
    assert!(dead.reason.contains("cancelled"), "{}", dead.reason);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_call_for_a_later_time_is_not_made_again() {
    let hanging = Hanging::new("slow");
    let world = world(hanging.host()).await;
    world.register(vec![definition("joe")]).await.unwrap();
    let at_ms = i64::try_from(world.clock.now().0 / 1_000 + 1_000).unwrap();
    // A target that has answered is called by more than one entry.
    for (action, after_ms) in [("add", 0), ("slow", 1), ("slow", 1)] {
        let later = Invocation { scheduled_to: at_ms + after_ms, ..call("joe", action) };
        world.mesh.invoke(later).await.unwrap();
    }
    world.clock.advance(Duration::from_secs(2));
    wait_until(|| hanging.begun() == 1).await;
    let queued = || world.mesh.queue("s", "joe").unwrap().first;
    wait_until(|| queued().len() == 1).await;
    world.mesh.cancel("s", "joe", queued()[0].id).unwrap();
    cancel_running(&world, "joe");
    sleep(Duration::from_mins(2)).await;
    assert_eq!((hanging.begun(), world.memory.due(None, 9).await.unwrap().items.len()), (1, 0));
}
