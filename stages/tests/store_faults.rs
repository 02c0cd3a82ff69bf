//! Faults of the store: no acknowledged change is lost, no caller hangs, and work that can wait does.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test; it awaits its tasks")]

mod support;

use std::time::Duration;

use support::*;
use tidegate_pipeline::Bound;
use tidegate_stages::actor::{Definition, HostAddress};
use tidegate_stages::error::ErrorKind;
use tidegate_stages::invocation::{ActorInvocationResponse, Invocation};
use tidegate_stages::memory::MemoryStore;
use tidegate_stages::ports::StoreError;
use tidegate_stages::rules::{Durability, Revisions};
use tidegate_stages::state::{Any, Status};
use tidegate_stages::testkit::faulty::SaveFault;
use tidegate_stages::topology::Settings;
use tokio::time::{Instant, sleep};

fn unknown() -> SaveFault {
    SaveFault::Lose(StoreError::Unknown("as the test wants it".into()))
}

fn lost() -> SaveFault {
    SaveFault::Lose(StoreError::Unavailable("as the test wants it".into()))
}

#[tokio::test(start_paused = true)]
async fn a_drain_in_doubt_ends_at_its_limit_and_every_caller_gets_an_answer() {
    let world = world(counter()).await;
    world.register(vec![definition("joe")]).await.unwrap();
    for _ in 0..1000 {
        world.store.fail_next_save(unknown());
    }
    let in_doubt = world.start(call("joe", "add"));
    sleep(Duration::from_secs(1)).await;
    let began = Instant::now();
    assert!(!world.mesh.drain(Duration::from_secs(5)).await);
    assert!(in_doubt.await.unwrap().is_err());
    assert!(began.elapsed() < Duration::from_secs(7), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_confirms_nothing_is_blamed_and_not_the_host_that_has_answered() {
    let world = world(counter()).await;
    world.register(["joe", "ann"].map(definition).to_vec()).await.unwrap();
    assert_eq!(world.add("ann").await.unwrap(), 1);
    world.store.hold_saves();
    let began = Instant::now();
    let called = async {
        let error = world.add("joe").await.unwrap_err();
        (error, began.elapsed())
    };
    let ((error, after), kept) = tokio::join!(called, world.mesh.checkpoint("s", "ann"));
    assert_eq!(after, Duration::from_secs(30), "a commit may take so long");
    assert!(error.to_string().contains("an action of this call has run"), "{error}");
    for error in [error, kept.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::StoreUnavailable, "{error}");
        assert!(!error.is_retryable(), "{error}");
        assert!(error.to_string().contains("not known to be kept"), "{error}");
    }
    world.store.release_saves();
}

#[tokio::test(start_paused = true)]
async fn in_doubt_only_the_newest_head_and_the_appends_of_all_are_written_again() {
    let world = world(counter()).await;
    world.register(vec![definition("joe")]).await.unwrap();
    world.store.hold_saves();
    world.store.fail_next_save(unknown());
    world.store.fail_next_save(unknown());
    let calls: Vec<_> = (0..20).map(|_| world.start(call("joe", "add"))).collect();
    until_idle().await;
    let kept = {
        let mesh = world.mesh.clone();
        tokio::task::spawn(async move { mesh.checkpoint("s", "joe").await })
    };
    until_idle().await;
    let later = world.start(call("joe", "add"));
    until_idle().await;
    assert_eq!((world.store.held_saves(), world.store.entries()), (1, 1));
    world.store.release_saves();
    for (count, call) in (1..).zip(calls) {
        assert_eq!(answered(call.await.unwrap().unwrap()), count);
    }
    assert_eq!(kept.await.unwrap().unwrap().revision, 1);
    assert_eq!(answered(later.await.unwrap().unwrap()), 21);
    assert_eq!(number(world.head("joe").await.unwrap().content.state.as_ref()), 21);
    assert_eq!(history(&world, "joe").await, [20]);
    // Once in doubt, two heads at a time: that of the checkpoint and the newest. It was tried once in vain.
    assert_eq!((world.store.saves(), world.store.entries()), (3, 1 + 2 + 2));
}

#[tokio::test(start_paused = true)]
async fn a_commit_of_unknown_outcome_is_written_again_when_a_later_turn_found_no_place() {
    let serving = host(|invocation| async move {
        let mut response = counted(&invocation);
        let is_slow = invocation.action == "slow";
        match invocation.actor.name.as_str() {
            "moe" => sleep(Duration::from_secs(12)).await,
            _ if is_slow => sleep(Duration::from_secs(1)).await,
            _ => {}
        }
        if is_slow || invocation.actor.name == "poe" {
            let value = vec![7; 1 << 20].into();
            response.state = Some(Any { type_url: "test/large".into(), value });
        }
        Ok(response)
    });
    let largest = (1 << 20) + 100;
    // For one large place, the reserve, and maintenance.
    let checkpoint = Bound { events: 64, bytes: 3 * largest };
    let settings = Settings { checkpoint, ..rules(|rules| rules.max_state_bytes = largest) };
    let world = world_with(serving, settings, MemoryStore::new()).await;
    world.register(["joe", "moe", "poe"].map(definition).to_vec()).await.unwrap();
    world.store.hold_saves();
    let older = world.start(call("joe", "add"));
    until_idle().await;
    let large = world.start(call("joe", "slow"));
    let _keeps_its_place = world.start(call("moe", "add"));
    until_idle().await;
    let _uses_the_reserve = world.start(call("poe", "add"));
    sleep(Duration::from_secs(13)).await;
    assert!(large.is_finished(), "it found no place");
    assert_eq!(large.await.unwrap().unwrap_err().kind(), ErrorKind::StoreUnavailable);
    assert!(!older.is_finished());
    world.store.fail_next_save(unknown());
    world.store.release_saves();
    // What the store has of the actor is not known: nobody may build on it yet.
    assert_eq!(world.add("joe").await.unwrap(), 2);
    assert_eq!(answered(older.await.unwrap().unwrap()), 1);
    assert_eq!(number(world.head("joe").await.unwrap().content.state.as_ref()), 2);
}

#[tokio::test(start_paused = true)]
async fn a_slow_commit_of_one_actor_delays_no_other_and_its_own_next_one_waits() {
    let settings = Settings { commits_in_flight: 2, ..Settings::default() };
    let world = world_with(counter(), settings, MemoryStore::new()).await;
    world.register(vec![definition("joe"), definition("moe")]).await.unwrap();
    world.store.fail_next_save(SaveFault::Late(Duration::from_secs(5)));
    let slow = world.start(call("joe", "add"));
    sleep(Duration::from_millis(1)).await;
    let behind = world.start(call("joe", "add"));
    let began = Instant::now();
    assert_eq!(world.add("moe").await.unwrap(), 1);
    assert!(began.elapsed() < Duration::from_secs(1), "moe waited {:?}", began.elapsed());
    assert_eq!(world.store.saves(), 2, "joe's second change is not with the store yet");
    assert_eq!(answered(slow.await.unwrap().unwrap()), 1);
    assert_eq!(answered(behind.await.unwrap().unwrap()), 2);
    assert_eq!(number(world.head("joe").await.unwrap().content.state.as_ref()), 2);
}

#[tokio::test(start_paused = true)]
async fn a_slow_write_delays_no_other_actor_of_its_commit() {
    let settings = Settings { commits_in_flight: 2, ..Settings::default() };
    let world = world_with(counter(), settings, MemoryStore::new()).await;
    world.register(["a", "b", "joe", "moe"].map(definition).to_vec()).await.unwrap();
    // While these are with the store, the others gather in one commit.
    for _ in 0..2 {
        world.store.fail_next_save(SaveFault::Late(Duration::from_secs(1)));
    }
    world.store.fail_next_save(SaveFault::LateFirst(Duration::from_secs(20)));
    let mut before = Vec::new();
    for name in ["a", "b"] {
        before.push(world.start(call(name, "add")));
        until_idle().await;
    }
    let slow = world.start(call("joe", "add"));
    until_idle().await;
    let began = Instant::now();
    let others = [world.start(call("moe", "add")), world.start(call("moe", "add"))];
    for (count, other) in (1..).zip(others) {
        assert_eq!(answered(other.await.unwrap().unwrap()), count);
    }
    assert!(began.elapsed() < Duration::from_secs(6), "moe waited {:?}", began.elapsed());
    assert_eq!(world.store.saves(), 3, "joe and moe are in one commit");
    assert_eq!(answered(slow.await.unwrap().unwrap()), 1);
    for call in before {
        assert_eq!(answered(call.await.unwrap().unwrap()), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_behind_a_commit_that_is_lost_fails_with_it() {
    let settings = Settings { commits_in_flight: 2, ..Settings::default() };
    let world = world_with(counter(), settings, MemoryStore::new()).await;
    world.register(vec![definition("joe")]).await.unwrap();
    world.add("joe").await.unwrap();
    world.store.hold_saves();
    world.store.fail_next_save(lost());
    let calls: Vec<_> = (0..3).map(|_| world.start(call("joe", "add"))).collect();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(world.store.held_saves(), 1);
    world.store.release_saves();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap_err().kind(), ErrorKind::StoreUnavailable);
    }
    sleep(Duration::from_secs(1)).await;
    assert_eq!(world.add("joe").await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_doubt_postpones_snapshots_and_idle_ends_and_cancels_none() {
    let world = world_with(
        counter(),
        rules(|rules| rules.durability = Durability::Snapshot),
        MemoryStore::new(),
    )
    .await;
    let timed = Definition {
        snapshot_every: Some(Duration::from_secs(1)),
        deactivate_after: Some(Duration::from_secs(3)),
        ..definition("joe")
    };
    let often = Definition {
        snapshot_every: Some(Duration::from_secs(1)),
        actions: vec!["add".into(), "other".into()],
        ..definition("moe")
    };
    world.register(vec![timed, often]).await.unwrap();
    world.add("joe").await.unwrap();
    world.add("moe").await.unwrap();
    for _ in 0..20 {
        world.store.fail_next_save(unknown());
    }
    sleep(Duration::from_mins(2)).await;
    let head = world.head("joe").await.unwrap();
    assert_eq!((number(head.content.state.as_ref()), head.status), (1, Status::Deactivated));
    world.add("moe").await.unwrap();
    sleep(Duration::from_secs(3)).await;
    assert_eq!(history(&world, "moe").await, [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_cannot_be_written_loses_nothing_that_memory_has() {
    let world = world_with(
        host(|invocation| async move {
            let checkpoint = invocation.action == "other";
            Ok(ActorInvocationResponse { checkpoint, ..counted(&invocation) })
        }),
        rules(|rules| rules.durability = Durability::Snapshot),
        MemoryStore::new(),
    )
    .await;
    let timed = Definition { snapshot_every: Some(Duration::from_secs(2)), ..definition("joe") };
    world.register(vec![timed]).await.unwrap();
    for n in 1..=5 {
        assert_eq!(world.add("joe").await.unwrap(), n);
    }
    world.store.fail_next_save(lost());
    sleep(Duration::from_secs(5)).await;
    assert_eq!(world.add("joe").await.unwrap(), 6);
    world.store.fail_next_save(lost());
    // The caller waits until the change is written.
    assert_eq!(answered(world.mesh.invoke(call("joe", "other")).await.unwrap()), 7);
    assert_eq!(number(world.head("joe").await.unwrap().content.state.as_ref()), 7);
}

#[tokio::test(start_paused = true)]
async fn a_lost_commit_below_a_written_one_is_settled_not_denied() {
    let world = world_with(
        counter(),
        rules(|rules| rules.revisions = Revisions::Every),
        MemoryStore::new(),
    )
    .await;
    world.register(vec![definition("joe")]).await.unwrap();
    world.store.hold_saves();
    let first = world.start(call("joe", "add"));
    sleep(Duration::from_millis(10)).await;
    let calls = [first, world.start(call("joe", "add")), world.start(call("joe", "add"))];
    sleep(Duration::from_millis(10)).await;
    world.store.release_saves();
    // The second batch contains the other two; the state of the third includes the second.
    let error = StoreError::Unavailable("as the test wants it".into());
    world.store.fail_next_save(SaveFault::LoseFirst(error));
    for (n, call) in (1..).zip(calls) {
        assert_eq!(answered(call.await.unwrap().unwrap()), n);
    }
    assert_eq!(world.add("joe").await.unwrap(), 4);
    assert_eq!(history(&world, "joe").await, [1, 2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn an_actor_with_a_later_owner_closes_the_gate_to_nobody_else() {
    let world = world(counter()).await;
    world.register(["joe", "moe"].map(definition).to_vec()).await.unwrap();
    world.store.fail_next_save(SaveFault::Lose(StoreError::Fenced(7)));
    let error = world.add("joe").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(!error.is_retryable() && error.to_string().contains("epoch 7"), "{error}");
    assert_eq!(world.add("moe").await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_waits_for_its_busy_host_keeps_the_store_closed_to_nobody() {
    let serving = host(|invocation| async move {
        if invocation.action == "slow" {
            sleep(Duration::from_secs(5)).await;
        }
        Ok(counted(&invocation))
    });
    let settings = Settings { host_connections: 1, ..Settings::default() };
    let world = world_with(serving, settings, MemoryStore::new()).await;
    let busy = HostAddress::new("10.0.0.2:8090");
    let there = |name| Definition { hosts: busy.clone().into(), ..definition(name) };
    let slow = Definition { stateful: false, ..there("slow") };
    world.register(vec![definition("joe"), there("moe"), slow]).await.unwrap();
    world.add("moe").await.unwrap();
    world.store.fail_next_save(lost());
    world.add("joe").await.unwrap_err();
    sleep(Duration::from_secs(1)).await;
    // The first one asks the store; meanwhile the second one takes the only permit of their host.
    let waits = world.start(call("moe", "add"));
    let runs = world.start(call("slow", "slow"));
    until_idle().await;
    assert!(!waits.is_finished() && !runs.is_finished());
    assert_eq!(world.add("joe").await.unwrap(), 1);
    assert!(!waits.is_finished(), "it waits for its host still");
    assert_eq!(answered(waits.await.unwrap().unwrap()), 2);
    runs.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_call_that_nobody_waits_for_waits_for_the_store() {
    let world = world(counter()).await;
    world.register(["joe", "moe"].map(definition).to_vec()).await.unwrap();
    world.store.fail_next_save(lost());
    world.add("joe").await.unwrap_err();
    let accepted = Invocation { asynchronous: true, ..call("moe", "add") };
    world.mesh.invoke(accepted).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(number(world.head("moe").await.unwrap().content.state.as_ref()), 1);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_never_answers_a_question_holds_no_actor_for_ever() {
    let world = world(counter()).await;
    world.register(vec![definition("joe")]).await.unwrap();
    world.store.hang_loads(true);
    assert!(world.add("joe").await.is_err());
    world.store.hang_loads(false);
    sleep(Duration::from_secs(15)).await;
    assert_eq!(world.add("joe").await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn after_a_crash_the_head_is_written_under_the_new_epoch_before_the_first_call() {
    let memory = MemoryStore::new();
    let first = world_with(counter(), Settings::default(), memory.clone()).await;
    first.register(vec![definition("joe"), definition("moe")]).await.unwrap();
    first.add("joe").await.unwrap();
    first.add("moe").await.unwrap();
    let crashed = first.head("joe").await.unwrap();
    let world = world_with(counter(), Settings::default(), memory.clone()).await;
    world.store.fail_next_save(lost());
    assert_eq!(answered(world.mesh.invoke(call("joe", "get")).await.unwrap()), 1);
    let head = world.head("joe").await.unwrap();
    assert_eq!((head.epoch, head.version), (crashed.epoch + 1, crashed.version));
    assert!(head.at == crashed.at && head.incarnation > 0);
    assert_eq!(world.add("joe").await.unwrap(), 2);
    // After an orderly drain, no such write is needed.
    assert!(world.mesh.drain(Duration::from_secs(5)).await);
    let again = world_with(counter(), Settings::default(), memory).await;
    assert_eq!(answered(again.mesh.invoke(call("joe", "get")).await.unwrap()), 2);
    assert_eq!(again.store.saves(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_change_that_a_crash_kept_from_the_history_gets_there_without_another_change() {
    let memory = MemoryStore::new();
    let timed = Definition { snapshot_every: Some(Duration::from_secs(2)), ..definition("joe") };
    let first = world_with(counter(), Settings::default(), memory.clone()).await;
    first.register(vec![definition("joe")]).await.unwrap();
    first.add("joe").await.unwrap();
    let world = world_with(counter(), Settings::default(), memory).await;
    world.register(vec![timed]).await.unwrap();
    world.mesh.invoke(call("joe", "get")).await.unwrap();
    sleep(Duration::from_secs(3)).await;
    assert_eq!(history(&world, "joe").await, [1]);
}

#[tokio::test(start_paused = true)]
async fn a_source_with_too_many_pending_effects_answers_that_it_is_overloaded() {
    let runs = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let seen = runs.clone();
    let world = world_with(
        host(move |invocation| {
            let seen = seen.clone();
            async move {
                let mut response = counted(&invocation);
                if invocation.actor.name == "source" {
                    seen.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    response.workflow.effects =
                        (0..4).map(|n| call(&format!("sink-{n}"), "add")).collect();
                }
                Ok(response)
            }
        }),
        rules(|rules| rules.max_pending_effects = 4),
        MemoryStore::new(),
    )
    .await;
    let mut all: Vec<_> = (0..4).map(|n| definition(&format!("sink-{n}"))).collect();
    all.push(definition("source"));
    world.register(all).await.unwrap();
    world.store.hold_saves();
    let first = world.start(call("source", "add"));
    sleep(Duration::from_millis(10)).await;
    let error = world.add("source").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    assert!(error.is_retryable());
    world.store.release_saves();
    first.await.unwrap().unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(world.add("source").await.unwrap(), 2);
    assert_eq!(runs.load(std::sync::atomic::Ordering::SeqCst), 2);
}
