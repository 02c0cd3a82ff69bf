//! An actor's memory: commits, snapshots, activation, deactivation, lost commits and commits in doubt.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use support::*;
use tidegate_stages::actor::Definition;
use tidegate_stages::error::ErrorKind;
use tidegate_stages::invocation::{ActorInvocationResponse, Payload, Spawn};
use tidegate_stages::memory::MemoryStore;
use tidegate_stages::ports::{HostError, StateStore, StoreError};
use tidegate_stages::rules::{Durability, EmptyTags, Revisions};
use tidegate_stages::state::{Status, Tags, Timestamp};
use tidegate_stages::testkit::faulty::SaveFault;
use tidegate_stages::topology::Settings;
use tokio::time::sleep;

#[tokio::test(start_paused = true)]
async fn a_reply_waits_until_its_change_is_durable_while_the_next_call_runs() {
    let calls = Arc::new(AtomicUsize::new(0));
    let seen = calls.clone();
    let world = world(host(move |invocation| {
        seen.fetch_add(1, Ordering::SeqCst);
        async move { Ok(counted(&invocation)) }
    }))
    .await;
    world.register(vec![definition("joe")]).await.unwrap();
    world.store.hold_saves();
    let first = world.start(call("joe", "add"));
    let second = world.start(call("joe", "add"));
    let get = world.start(call("joe", "get"));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(calls.load(Ordering::SeqCst), 2);
    // A read of the state also waits for the commit.
    assert!(!first.is_finished() && !second.is_finished() && !get.is_finished());
    world.store.release_saves();
    assert_eq!(answered(first.await.unwrap().unwrap()), 1);
    assert_eq!(answered(second.await.unwrap().unwrap()), 2);
    assert_eq!(answered(get.await.unwrap().unwrap()), 2);
}

#[tokio::test(start_paused = true)]
async fn a_lost_commit_fails_its_calls_and_the_next_call_loads_again() {
    let world = world(counter()).await;
    world.register(vec![definition("joe")]).await.unwrap();
    assert_eq!(world.add("joe").await.unwrap(), 1);
    world.store.hold_saves();
    let calls = [
        world.start(call("joe", "add")),
        world.start(call("joe", "add")),
        world.start(call("joe", "add")),
    ];
    sleep(Duration::from_millis(10)).await;
    world
        .store
        .fail_next_save(SaveFault::Lose(StoreError::Unavailable("as the test wants it".into())));
    world.store.release_saves();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap_err().kind(), ErrorKind::StoreUnavailable);
    }
    // The store breaker refuses calls for a moment, so that no action runs whose state would be lost.
    assert_eq!(world.add("joe").await.unwrap_err().kind(), ErrorKind::Overloaded);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(world.add("joe").await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_commit_of_unknown_outcome_is_written_until_it_is_acknowledged() {
    for fault in [
        SaveFault::WriteAndFail(StoreError::Unknown("late".into())),
        SaveFault::Lose(StoreError::Unknown("lost".into())),
    ] {
        let world = world(counter()).await;
        world.register(vec![definition("joe"), definition("moe")]).await.unwrap();
        assert_eq!(world.add("joe").await.unwrap(), 1);
        let before = world.head("joe").await.unwrap();
        world.store.fail_next_save(fault.clone());
        world.store.fail_next_save(fault);
        let in_doubt = world.start(call("joe", "add"));
        sleep(Duration::from_millis(10)).await;
        assert_eq!(world.add("joe").await.unwrap_err().kind(), ErrorKind::Overloaded);
        assert_eq!(answered(in_doubt.await.unwrap().unwrap()), 2);
        assert_eq!(world.add("joe").await.unwrap(), 3);
        let head = world.head("joe").await.unwrap();
        assert_eq!(head.version, 3);
        assert!(head.at > before.at);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_be_read_is_tried_again_and_never_taken_for_empty() {
    let memory = MemoryStore::new();
    {
        let world = world_with(counter(), Settings::default(), memory.clone()).await;
        world.register(vec![definition("joe")]).await.unwrap();
        assert_eq!(world.add("joe").await.unwrap(), 1);
    }
    let world = world_with(counter(), Settings::default(), memory).await;
    for _ in 0..3 {
        world.store.fail_next_load(StoreError::Unavailable("not yet".into()));
    }
    assert_eq!(world.add("joe").await.unwrap(), 2);
    let world = world_with(counter(), Settings::default(), world.memory.clone()).await;
    for _ in 0..1000 {
        world.store.fail_next_load(StoreError::Unavailable("never".into()));
    }
    assert_eq!(world.add("joe").await.unwrap_err().kind(), ErrorKind::StoreUnavailable);
}

#[tokio::test(start_paused = true)]
async fn an_idle_actor_leaves_memory_and_comes_back_with_its_state_and_init() {
    let inits = Arc::new(AtomicUsize::new(0));
    let seen = inits.clone();
    let world = world(host(move |invocation| {
        if invocation.action == "setup" {
            seen.fetch_add(1, Ordering::SeqCst);
            assert_eq!(invocation.payload, Payload::Noop);
            assert_eq!(invocation.caller.as_ref(), Some(&*invocation.actor));
            assert!(!invocation.self_has_parent);
        }
        async move {
            if invocation.action == "setup" {
                return Ok(ActorInvocationResponse::default());
            }
            Ok(counted(&invocation))
        }
    }))
    .await;
    let short = Definition {
        deactivate_after: Some(Duration::from_millis(500)),
        actions: vec!["add".into(), "setup".into(), "init".into()],
        ..definition("joe")
    };
    world.register(vec![short]).await.unwrap();
    for n in 1..=5 {
        assert_eq!(world.add("joe").await.unwrap(), n);
        sleep(Duration::from_millis(400)).await;
    }
    assert_eq!(inits.load(Ordering::SeqCst), 1, "use keeps it in memory");
    sleep(Duration::from_secs(2)).await;
    let head = world.head("joe").await.unwrap();
    assert_eq!(head.status, Status::Deactivated);
    assert_eq!(history(&world, "joe").await, [5]);
    assert_eq!(world.add("joe").await.unwrap(), 6);
    assert_eq!(inits.load(Ordering::SeqCst), 2);
    assert_eq!(world.head("joe").await.unwrap().status, Status::Activated);
}

#[tokio::test(start_paused = true)]
async fn the_init_action_runs_before_the_first_call_and_may_set_the_state() {
    let world = world(host(|invocation| async move {
        if invocation.action == "init" {
            return Ok(ActorInvocationResponse {
                state: Some(any(100)),
                payload: Payload::Value(any(0)),
                ..ActorInvocationResponse::default()
            });
        }
        Ok(counted(&invocation))
    }))
    .await;
    let actions = vec!["add".into(), "init".into()];
    world.register(vec![Definition { actions, ..definition("joe") }]).await.unwrap();
    assert_eq!(world.add("joe").await.unwrap(), 101);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_listens_late_is_waited_for_by_warm_up_and_by_queued_calls() {
    let calls = Arc::new(AtomicUsize::new(0));
    let seen = calls.clone();
    let world = world(host(move |invocation| {
        let early = seen.fetch_add(1, Ordering::SeqCst) < 5;
        async move {
            if early {
                return Err(HostError::Connect { address: "h".into(), reason: "refused".into() });
            }
            Ok(counted(&invocation))
        }
    }))
    .await;
    let actions = vec!["add".into(), "init".into()];
    world.register(vec![Definition { actions, ..warmed("joe") }]).await.unwrap();
    // The init action adds one too.
    assert_eq!(world.add("joe").await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn eligible_actors_are_warmed_up_after_registration() {
    let names = Arc::new(Mutex::new(Vec::new()));
    let seen = names.clone();
    let world = world(host(move |invocation| {
        seen.lock().push(invocation.actor.name.clone());
        async move { Ok(ActorInvocationResponse::default()) }
    }))
    .await;
    let with_init =
        |definition: Definition| Definition { actions: vec!["init".into()], ..definition };
    let stateless = Definition { stateful: false, ..warmed("stateless") };
    let all = [warmed("warm"), definition("no-metadata"), stateless].map(with_init);
    world.register(all.to_vec()).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(*names.lock(), ["warm"]);
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_is_appended_when_something_changed_and_only_then() {
    let world = world(counter()).await;
    let snapshots =
        Definition { snapshot_every: Some(Duration::from_secs(2)), ..definition("joe") };
    world.register(vec![snapshots]).await.unwrap();
    world.add("joe").await.unwrap();
    world.add("joe").await.unwrap();
    assert!(history(&world, "joe").await.is_empty());
    sleep(Duration::from_secs(3)).await;
    assert_eq!(history(&world, "joe").await, [2]);
    let saves = world.store.saves();
    sleep(Duration::from_mins(1)).await;
    assert_eq!(world.store.saves(), saves);
    world.add("joe").await.unwrap();
    sleep(Duration::from_secs(3)).await;
    assert_eq!(history(&world, "joe").await, [2, 3]);
    let head = world.head("joe").await.unwrap();
    assert_eq!(head.revision, 2);
}

#[tokio::test(start_paused = true)]
async fn with_snapshot_durability_the_timer_and_the_end_write() {
    let world = world_with(
        counter(),
        rules(|rules| rules.durability = Durability::Snapshot),
        MemoryStore::new(),
    )
    .await;
    let every =
        |name| Definition { snapshot_every: Some(Duration::from_secs(2)), ..definition(name) };
    world.register(vec![every("joe"), definition("moe")]).await.unwrap();
    for _ in 0..10 {
        world.add("joe").await.unwrap();
        world.add("moe").await.unwrap();
    }
    assert_eq!(world.store.saves(), 0);
    sleep(Duration::from_secs(3)).await;
    assert_eq!(number(world.head("joe").await.unwrap().content.state.as_ref()), 10);
    assert!(world.head("moe").await.is_none());
    assert!(world.mesh.drain(Duration::from_secs(5)).await);
    assert_eq!(number(world.head("moe").await.unwrap().content.state.as_ref()), 10);
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_is_in_the_history_before_the_answer() {
    for durability in [Durability::Acknowledged, Durability::Snapshot] {
        let world = world_with(
            host(|invocation| async move {
                Ok(ActorInvocationResponse { checkpoint: true, ..counted(&invocation) })
            }),
            rules(|rules| rules.durability = durability),
            MemoryStore::new(),
        )
        .await;
        let stateless = Definition { stateful: false, ..definition("stateless") };
        world.register(vec![definition("joe"), stateless]).await.unwrap();
        world.add("joe").await.unwrap();
        world.add("joe").await.unwrap();
        assert_eq!(history(&world, "joe").await, [1, 2]);
        assert_eq!(world.add("stateless").await.unwrap(), 1);
        assert_eq!(world.add("stateless").await.unwrap(), 2);
        assert!(world.head("stateless").await.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn every_change_is_in_the_history_when_asked_for() {
    let world = world_with(
        counter(),
        rules(|rules| rules.revisions = Revisions::Every),
        MemoryStore::new(),
    )
    .await;
    world.register(vec![definition("joe")]).await.unwrap();
    let calls: Vec<_> = (0..5).map(|_| world.start(call("joe", "add"))).collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(history(&world, "joe").await, [1, 2, 3, 4, 5]);
}

#[tokio::test(start_paused = true)]
async fn times_of_records_never_run_backwards() {
    let world = world_with(
        counter(),
        rules(|rules| rules.revisions = Revisions::Every),
        MemoryStore::new(),
    )
    .await;
    world.register(vec![definition("joe")]).await.unwrap();
    world.add("joe").await.unwrap();
    let before = world.head("joe").await.unwrap().at;
    world.clock.set(Timestamp(5));
    world.add("joe").await.unwrap();
    assert!(world.head("joe").await.unwrap().at > before);
    let again = world_with(counter(), Settings::default(), world.memory.clone()).await;
    again.clock.set(Timestamp(6));
    let before = world.head("joe").await.unwrap().at;
    again.add("joe").await.unwrap();
    assert!(world.head("joe").await.unwrap().at > before);
}

#[tokio::test(start_paused = true)]
async fn an_empty_map_of_tags_keeps_them_unless_told_otherwise() {
    let tagged = || {
        host(|invocation| async move {
            if invocation.action == "init" {
                let (address, reason) = ("h".into(), "reset".into());
                return Err(HostError::Broken { address, reason });
            }
            let tags = if invocation.action == "other" {
                [("k".to_owned(), "v".to_owned())].into()
            } else {
                Tags::new()
            };
            Ok(ActorInvocationResponse { tags, ..counted(&invocation) })
        })
    };
    for (empty_tags, kept) in [(EmptyTags::Keep, 1), (EmptyTags::Replace, 0)] {
        let settings = rules(|rules| rules.empty_tags = empty_tags);
        let world = world_with(tagged(), settings, MemoryStore::new()).await;
        let actions = ["init", "add", "other"].map(String::from).to_vec();
        let short = Some(Duration::from_millis(100));
        let joe = Definition { actions, deactivate_after: short, ..definition("joe") };
        world.register(vec![joe]).await.unwrap();
        world.mesh.invoke(call("joe", "other")).await.unwrap();
        // It leaves memory. The init action that fails when it comes back changes nothing.
        sleep(Duration::from_secs(1)).await;
        assert_eq!(world.mesh.state("s", "joe").await.unwrap().tags.len(), 1);
        assert_eq!(world.head("joe").await.unwrap().content.tags.len(), 1);
        world.add("joe").await.unwrap();
        assert_eq!(world.mesh.state("s", "joe").await.unwrap().tags.len(), kept);
        assert_eq!(world.head("joe").await.unwrap().content.tags.len(), kept);
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_of_tags_alone_is_a_change() {
    let world = world(host(|invocation| async move {
        let tags = [("n".to_owned(), invocation.action.clone())].into();
        Ok(ActorInvocationResponse { tags, ..ActorInvocationResponse::default() })
    }))
    .await;
    world.register(vec![definition("joe")]).await.unwrap();
    world.mesh.invoke(call("joe", "add")).await.unwrap();
    world.mesh.invoke(call("joe", "add")).await.unwrap();
    assert_eq!(world.head("joe").await.unwrap().version, 1);
    world.mesh.invoke(call("joe", "other")).await.unwrap();
    assert_eq!(world.head("joe").await.unwrap().version, 2);
}

#[tokio::test(start_paused = true)]
async fn a_state_above_the_limit_is_refused_and_the_old_one_stays() {
    let world = world_with(
        host(|invocation| async move {
            let mut response = counted(&invocation);
            if invocation.action == "other" {
                response.state.as_mut().unwrap().value = vec![b'7'; 2000].into();
            }
            Ok(response)
        }),
        rules(|rules| rules.max_state_bytes = 1000),
        MemoryStore::new(),
    )
    .await;
    world.register(vec![definition("joe")]).await.unwrap();
    world.add("joe").await.unwrap();
    let error = world.mesh.invoke(call("joe", "other")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert_eq!(world.add("joe").await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_state_that_is_above_a_lowered_limit_stays_may_shrink_and_does_not_grow() {
    let sized = |bytes: usize| {
        host(move |invocation| async move {
            let mut sized = any(0);
            sized.value = vec![b'7'; bytes].into();
            let state = match invocation.action.as_str() {
                "add" => Some(sized),
                "other" => invocation.state,
                _ => None,
            };
            Ok(ActorInvocationResponse { state, ..ActorInvocationResponse::default() })
        })
    };
    let bytes = |world: &World| {
        let mesh = world.mesh.clone();
        async move { mesh.state("s", "joe").await.unwrap().state.unwrap().value.len() }
    };
    let world = world_with(sized(3000), rules(|_| ()), MemoryStore::new()).await;
    world.register(vec![definition("joe")]).await.unwrap();
    world.mesh.invoke(call("joe", "add")).await.unwrap();

    for (add, then) in [(2999, 2999), (3000, 2999), (2001, 2001), (500, 500), (2000, 500)] {
        let limited = rules(|rules| rules.max_state_bytes = 1000);
        let world = world_with(sized(add), limited, world.memory.clone()).await;
        for action in ["get", "other", "slow"] {
            world.mesh.invoke(call("joe", action)).await.unwrap();
        }
        let added = world.mesh.invoke(call("joe", "add")).await;
        assert_eq!(
            added.err().map(|error| error.kind()),
            (add != then).then_some(ErrorKind::TooLarge)
        );
        assert_eq!(bytes(&world).await, then);
    }
}

#[tokio::test(start_paused = true)]
async fn the_least_recently_used_leave_beyond_the_cap() {
    let world =
        world_with(counter(), Settings { max_live: 10, ..Settings::default() }, MemoryStore::new())
            .await;
    let names: Vec<String> = (0..100).map(|n| format!("a{n}")).collect();
    world.register(names.iter().map(|name| definition(name)).collect()).await.unwrap();
    for round in 1..=2 {
        for name in &names {
            assert_eq!(world.add(name).await.unwrap(), round);
            sleep(Duration::from_millis(2)).await;
        }
    }
    sleep(Duration::from_secs(1)).await;
    let mut live = 0;
    for name in &names {
        live += usize::from(world.head(name).await.unwrap().status == Status::Activated);
    }
    assert!(live <= 11, "{live} are in memory");
}

#[tokio::test(start_paused = true)]
async fn a_spawn_may_ask_for_an_older_revision_once() {
    let world = world_with(
        counter(),
        rules(|rules| rules.revisions = Revisions::Every),
        MemoryStore::new(),
    )
    .await;
    let short =
        Definition { deactivate_after: Some(Duration::from_millis(100)), ..definition("template") };
    world.register(vec![short]).await.unwrap();
    world.spawn("joe", "template").await.unwrap();
    for _ in 0..5 {
        world.add("joe").await.unwrap();
    }
    sleep(Duration::from_secs(1)).await;
    let actors = vec![stored_id("joe", "template")];
    world.mesh.spawn(Spawn { actors: actors.clone(), revision: Some(2) }).await.unwrap();
    assert_eq!(world.add("joe").await.unwrap(), 3);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(world.add("joe").await.unwrap(), 4, "only the first activation goes back");
    sleep(Duration::from_secs(1)).await;
    world.mesh.spawn(Spawn { actors, revision: Some(999) }).await.unwrap();
    assert_eq!(world.add("joe").await.unwrap(), 5, "no such revision: the current state stays");
}

#[tokio::test(start_paused = true)]
async fn deleting_removes_state_history_and_a_spawned_registration() {
    let world = world_with(
        counter(),
        rules(|rules| rules.revisions = Revisions::Every),
        MemoryStore::new(),
    )
    .await;
    world.register(vec![definition("template")]).await.unwrap();
    world.spawn("joe", "template").await.unwrap();
    world.add("joe").await.unwrap();
    world.add("template").await.unwrap();
    world.mesh.delete("s", "joe").await.unwrap();
    assert_eq!(world.add("joe").await.unwrap_err().kind(), ErrorKind::ActorNotFound);
    assert!(world.memory.load(&stored_id("joe", "template")).await.unwrap().is_none());
    world.mesh.delete("s", "template").await.unwrap();
    assert_eq!(world.add("template").await.unwrap(), 1);
    world.spawn("joe", "template").await.unwrap();
    assert_eq!(world.add("joe").await.unwrap(), 1);
    assert_eq!(world.mesh.delete("s", "zoe").await.unwrap_err().kind(), ErrorKind::ActorNotFound);
}

#[tokio::test(start_paused = true)]
async fn the_state_of_an_actor_is_told_when_there_is_one() {
    let world = world(counter()).await;
    world.register(vec![definition("joe")]).await.unwrap();
    assert_eq!(world.mesh.state("s", "joe").await.unwrap_err().kind(), ErrorKind::NotFound);
    world.add("joe").await.unwrap();
    let state = world.mesh.state("s", "joe").await.unwrap();
    assert_eq!(number(state.state.as_ref()), 1);
    assert_eq!(world.mesh.state("s", "moe").await.unwrap_err().kind(), ErrorKind::ActorNotFound);
}

#[tokio::test(start_paused = true)]
async fn registered_initial_state_is_what_the_first_action_sees() {
    let world = world(counter()).await;
    let initial = Definition { initial_state: Some(any(41)), ..definition("joe") };
    world.register(vec![initial]).await.unwrap();
    assert_eq!(world.add("joe").await.unwrap(), 42);
}
