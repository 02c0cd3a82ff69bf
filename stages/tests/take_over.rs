//! A new owner takes an actor over before its first turn, where there are rows of effects (decision 18 d).
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test; it awaits its tasks")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use support::*;
use tidegate_stages::actor::Definition;
use tidegate_stages::error::ErrorKind;
use tidegate_stages::memory::MemoryStore;
use tidegate_stages::outbox::EffectRows;
use tidegate_stages::ports::{Save, StateStore, StoreError};
use tidegate_stages::state::{Head, Status};
use tidegate_stages::testkit::conformance::effects::{appends, seen};
use tidegate_stages::testkit::faulty::SaveFault;
use tidegate_stages::topology::Settings;
use tokio::time::sleep;

/// What a start of the proxy finds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Former {
    /// It crashed.
    Crashed,
    /// It ended in order.
    Ended,
}

async fn write(memory: &MemoryStore, save: Save) -> Result<(), StoreError> {
    memory.save_all(vec![save]).await.pop().unwrap()
}

/// A world that finds an actor `joe`, counted to one by a former start, with these rows of effects.
async fn after(former: Former, rows: EffectRows) -> (World, u64) {
    let memory = MemoryStore::new();
    let first = world_with(counter(), Settings::default(), memory.clone()).await;
    let idle = Some(Duration::from_secs(2));
    let joe = Definition { deactivate_after: idle, ..definition("joe") };
    first.register(vec![joe]).await.unwrap();
    first.add("joe").await.unwrap();
    let epoch = first.head("joe").await.unwrap().epoch;
    if former == Former::Ended {
        assert!(first.mesh.drain(Duration::from_secs(5)).await);
    }
    write(&memory, Save::of_rows(id("joe").into(), epoch, rows)).await.unwrap();
    (world_with(counter(), Settings::default(), memory).await, epoch)
}

fn each_kind_of_rows() -> [EffectRows; 2] {
    [appends(0..2), EffectRows { seen: vec![seen("moe", 7)], ..EffectRows::default() }]
}

async fn got(world: &World) -> u64 {
    answered(world.mesh.invoke(call("joe", "get")).await.unwrap())
}

#[tokio::test(start_paused = true)]
async fn head_and_rows_are_taken_over_once_before_the_first_turn() {
    for former in [Former::Crashed, Former::Ended] {
        for rows in each_kind_of_rows() {
            let (world, epoch) = after(former, rows.clone()).await;
            assert_eq!(got(&world).await, 1);
            assert_eq!((world.store.take_overs(), world.store.saves()), (1, 0));
            let head = world.head("joe").await.unwrap();
            assert_eq!((head.epoch, head.version > 0), (epoch + 1, true));
            let (memory, joe) = (&world.memory, id("joe"));
            assert_eq!(memory.outbox(&joe, None, 9).await.unwrap().items, rows.appends);
            assert_eq!(memory.seen(&joe).await.unwrap(), rows.seen);
            // A former owner that does not know of its end changes nothing.
            let late = Save::of_rows(joe.into(), epoch, appends(5..6));
            assert!(matches!(write(memory, late).await, Err(StoreError::Fenced(_))));

            // Activated again under the same epoch, it is owned already.
            assert_eq!(world.add("joe").await.unwrap(), 2);
            sleep(Duration::from_secs(5)).await;
            assert_eq!(world.head("joe").await.unwrap().status, Status::Deactivated);
            assert_eq!(world.add("joe").await.unwrap(), 3);
            assert_eq!(world.store.take_overs(), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_actor_without_rows_costs_no_other_write_than_its_head_after_a_crash() {
    for (former, saves) in [(Former::Crashed, 1), (Former::Ended, 0)] {
        let (world, epoch) = after(former, EffectRows::default()).await;
        assert_eq!(got(&world).await, 1);
        assert_eq!((world.store.take_overs(), world.store.saves()), (0, saves));
        let head = world.head("joe").await.unwrap();
        assert_eq!(head.epoch > epoch, former == Former::Crashed);
        assert_eq!(head.status == Status::Deactivated, former == Former::Ended);
    }
}

#[tokio::test(start_paused = true)]
async fn an_actor_with_rows_and_no_state_is_taken_over_too() {
    let memory = MemoryStore::new();
    let epoch = memory.claim_epoch().await.unwrap();
    let rows = EffectRows { seen: vec![seen("moe", 7)], ..EffectRows::default() };
    write(&memory, Save::of_rows(id("joe").into(), epoch, rows.clone())).await.unwrap();
    let world = world_with(counter(), Settings::default(), memory).await;
    world.register(vec![definition("joe"), definition("moe")]).await.unwrap();
    assert_eq!(world.add("joe").await.unwrap(), 1);
    assert_eq!(world.store.take_overs(), 1);
    assert_eq!(world.memory.seen(&id("joe")).await.unwrap(), rows.seen);
    assert_eq!(world.add("moe").await.unwrap(), 1);
    assert_eq!(world.store.take_overs(), 1, "the other has no rows");
}

#[tokio::test(start_paused = true)]
async fn no_action_runs_before_an_actor_is_taken_over() {
    for error in [StoreError::Unavailable("away".into()), StoreError::Unknown("cut".into())] {
        let (former, _) = after(Former::Crashed, appends(0..1)).await;
        let runs = Arc::new(AtomicU64::new(0));
        let counted_runs = runs.clone();
        let host = host(move |invocation| {
            counted_runs.fetch_add(1, Ordering::SeqCst);
            let response = counted(&invocation);
            async move { Ok(response) }
        });
        let world = world_with(host, Settings::default(), former.memory.clone()).await;
        for _ in 0..3 {
            world.store.fail_next_take_over(error.clone());
        }
        let waiting = world.start(call("joe", "add"));
        sleep(Duration::from_millis(1)).await;
        assert!(world.store.take_overs() > 0);
        assert_eq!(runs.load(Ordering::SeqCst), 0);
        assert_eq!(answered(waiting.await.unwrap().unwrap()), 2);
        assert_eq!((world.store.take_overs(), runs.load(Ordering::SeqCst)), (4, 1));

        // It fails for ever: the call ends, and its action never ran.
        world.mesh.drain(Duration::from_secs(5)).await;
        let world = world_with(counter(), Settings::default(), former.memory).await;
        for _ in 0..10_000 {
            world.store.fail_next_take_over(error.clone());
        }
        let failed = world.add("joe").await.unwrap_err();
        // The random delays decide whether its time runs out after a try or between two.
        let kinds =
            [ErrorKind::StoreUnavailable, ErrorKind::Overloaded, ErrorKind::DeadlineExceeded];
        assert!(kinds.contains(&failed.kind()), "{failed}");
        let head = world.head("joe").await.unwrap();
        assert_eq!(number(head.content.state.as_ref()), 2, "nothing was written");
    }
}

#[tokio::test(start_paused = true)]
async fn a_revision_that_a_crash_lost_is_appended_after_the_take_over() {
    let memory = MemoryStore::new();
    let first = world_with(counter(), Settings::default(), memory.clone()).await;
    first.register(vec![definition("joe")]).await.unwrap();
    first.add("joe").await.unwrap();
    let head = first.head("joe").await.unwrap();
    // An orderly end: the head will be taken over once, and looked at no more.
    let head = Head { revision: 5, status: Status::Deactivated, ..head };
    let torn = Save::of_head(id("joe").into(), head, false);
    write(&memory, Save { rows: Some(Box::new(appends(0..1))), ..torn }).await.unwrap();
    let world = world_with(counter(), Settings::default(), memory).await;
    world.store.fail_next_save(SaveFault::Lose(StoreError::Unavailable("away".into())));
    assert_eq!(got(&world).await, 1);
    assert_eq!((world.store.take_overs(), world.store.saves()), (2, 2));
    assert!(world.memory.load_revision(&id("joe"), 5).await.unwrap().is_some());
}
