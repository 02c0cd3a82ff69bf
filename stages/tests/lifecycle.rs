//! Lifecycle of actors: delete, spawn again, register again, deactivate, drain.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test; it awaits its tasks")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use support::*;
use tidegate_stages::actor::{Definition, HostAddress, Timer};
use tidegate_stages::error::ErrorKind;
use tidegate_stages::invocation::{ActorInvocationResponse, Invocation, Registration};
use tidegate_stages::memory::MemoryStore;
use tidegate_stages::ports::{
    HostError, Registered, RegisteredEntry, Registry, RegistryChange, StateStore, StoreError,
};
use tidegate_stages::reply::Deadlines;
use tidegate_stages::state::{Status, Timestamp};
use tidegate_stages::testkit::clock::SetClock;
use tidegate_stages::topology::{self, Ports, Settings};
use tokio::sync::Semaphore;
use tokio::time::sleep;

/// A counter whose action `slow` waits for a permit.
fn gated(permits: &Arc<Semaphore>) -> BoxedHost {
    let permits = permits.clone();
    host(move |invocation| {
        let permits = permits.clone();
        async move {
            if invocation.action == "slow" {
                permits.acquire().await.unwrap().forget();
            }
            Ok(counted(&invocation))
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_call_behind_a_delete_does_not_bring_the_actor_back_nor_touch_its_successor() {
    let permits = Arc::new(Semaphore::new(0));
    let world = world(gated(&permits)).await;
    world.register(vec![definition("template")]).await.unwrap();
    world.spawn("joe", "template").await.unwrap();
    let running = world.start(call("joe", "slow"));
    until_idle().await;
    let mesh = world.mesh.clone();
    let delete = tokio::task::spawn(async move { mesh.delete("s", "joe").await });
    until_idle().await;
    let behind = world.start(call("joe", "add"));
    until_idle().await;
    let mesh = world.mesh.clone();
    let again = tokio::task::spawn(async move { mesh.delete("s", "joe").await });
    until_idle().await;
    permits.add_permits(1);
    running.await.unwrap().unwrap();
    delete.await.unwrap().unwrap();
    assert_eq!(again.await.unwrap().unwrap_err().kind(), ErrorKind::ActorNotFound);
    assert_eq!(behind.await.unwrap().unwrap_err().kind(), ErrorKind::ActorNotFound);
    let stored = stored_id("joe", "template");
    assert!(StateStore::load(&world.memory, &stored).await.unwrap().is_none());

    world.spawn("joe", "template").await.unwrap();
    for n in 1..=3 {
        assert_eq!(world.add("joe").await.unwrap(), n);
    }
    assert!(world.mesh.drain(Duration::from_secs(5)).await);
    let head = StateStore::load(&world.memory, &stored).await.unwrap().unwrap();
    assert_eq!((number(head.content.state.as_ref()), head.status), (3, Status::Deactivated));
}

#[tokio::test(start_paused = true)]
async fn a_question_for_the_state_is_admitted_like_a_call() {
    let permits = Arc::new(Semaphore::new(0));
    let settings = Settings {
        admission: tidegate_pipeline::Bound { events: 64, bytes: 1 << 20 },
        ..Settings::default()
    };
    let world = world_with(gated(&permits), settings, MemoryStore::new()).await;
    world.register(vec![definition("joe")]).await.unwrap();
    let _running = world.start(call("joe", "slow"));
    until_idle().await;
    let asked: Vec<_> = (0..40)
        .map(|_| {
            let mesh = world.mesh.clone();
            tokio::task::spawn(async move { mesh.state("s", "joe").await })
        })
        .collect();
    until_idle().await;
    let refused = asked.iter().filter(|asked| asked.is_finished()).count();
    assert_eq!(refused, 40 - 64 / 8, "the mailbox bounds them");
    // Aborted callers return their permits without a turn.
    asked.iter().for_each(tokio::task::JoinHandle::abort);
    until_idle().await;
    let waiting = world.start(call("joe", "add"));
    until_idle().await;
    assert!(!waiting.is_finished());
    permits.add_permits(1);
    assert_eq!(answered(waiting.await.unwrap().unwrap()), 2);
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_activations_ends_at_the_cap() {
    let settings = Settings { max_live: 10, ..Settings::default() };
    let world = world_with(counter(), settings, MemoryStore::new()).await;
    let names: Vec<String> = (0..500).map(|n| format!("a{n}")).collect();
    world.register(names.iter().map(|name| definition(name)).collect()).await.unwrap();
    let calls: Vec<_> = names.iter().map(|name| world.start(call(name, "add"))).collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    sleep(Duration::from_secs(1)).await;
    let mut live = 0;
    for name in &names {
        live += usize::from(world.head(name).await.unwrap().status == Status::Activated);
    }
    assert!((5..=11).contains(&live), "{live} are in memory");
}

#[tokio::test(start_paused = true)]
async fn a_strategy_that_never_comes_due_leaves_the_other_timers_running() {
    let world = world(counter()).await;
    let never = Duration::from_millis(i64::MAX as u64);
    let patient = Definition {
        deactivate_after: Some(never),
        snapshot_every: Some(never),
        ..definition("patient")
    };
    let short = Definition { deactivate_after: Some(Duration::from_secs(1)), ..definition("joe") };
    world.register(vec![patient, short]).await.unwrap();
    world.add("patient").await.unwrap();
    world.add("joe").await.unwrap();
    sleep(Duration::from_secs(3)).await;
    assert_eq!(world.head("joe").await.unwrap().status, Status::Deactivated);
    assert_eq!(world.head("patient").await.unwrap().status, Status::Activated);
}

#[tokio::test(start_paused = true)]
async fn a_retry_holds_no_worker_while_it_sleeps() {
    let settings = Settings { worker_demand: 2, workers: 1, ..Settings::default() };
    let refused = || {
        let (address, reason) = ("h".into(), "connection refused".into());
        Err(HostError::Connect { address, reason })
    };
    let world = world_with(
        host(move |invocation| async move {
            match invocation.actor.name.as_str() {
                "quick" => Ok(counted(&invocation)),
                "source" => {
                    let mut response: ActorInvocationResponse = counted(&invocation);
                    let effects = (0..40).map(|n| Invocation {
                        register_ref: String::new(),
                        ..call(&format!("dead-{n}"), "add")
                    });
                    response.workflow.effects = effects.collect();
                    Ok(response)
                }
                _ => refused(),
            }
        }),
        settings,
        MemoryStore::new(),
    )
    .await;
    let names: Vec<_> = (0..40).map(|n| format!("dead-{n}")).collect();
    let mut all: Vec<_> = names.iter().map(|name| definition(name)).collect();
    all.extend(["quick", "source"].map(definition));
    world.register(all).await.unwrap();
    let _dead: Vec<_> = names.iter().map(|name| world.start(call(name, "add"))).collect();
    sleep(Duration::from_secs(5)).await;
    let began = tokio::time::Instant::now();
    for n in 1..=20 {
        assert_eq!(world.add("quick").await.unwrap(), n);
    }
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_deactivation_strategy_that_came_later_holds_for_actors_in_memory() {
    let world = world(counter()).await;
    world.register(vec![definition("joe")]).await.unwrap();
    world.add("joe").await.unwrap();
    let idle = Definition { deactivate_after: Some(Duration::from_secs(1)), ..definition("joe") };
    world.register(vec![idle]).await.unwrap();
    world.add("joe").await.unwrap();
    sleep(Duration::from_secs(3)).await;
    assert_eq!(world.head("joe").await.unwrap().status, Status::Deactivated);
}

#[tokio::test(start_paused = true)]
async fn idle_time_is_counted_from_the_end_of_the_last_call() {
    let world = world(host(|invocation| async move {
        if invocation.action == "slow" {
            sleep(Duration::from_secs(5)).await;
        }
        Ok(counted(&invocation))
    }))
    .await;
    let short = Definition { deactivate_after: Some(Duration::from_secs(2)), ..definition("joe") };
    world.register(vec![short]).await.unwrap();
    world.mesh.invoke(call("joe", "slow")).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(world.head("joe").await.unwrap().status, Status::Activated);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(world.head("joe").await.unwrap().status, Status::Deactivated);
}

#[tokio::test(start_paused = true)]
async fn a_stateless_actor_is_never_written_whatever_its_spawn_asks_for() {
    let world = world(counter()).await;
    world.register(vec![Definition { stateful: false, ..definition("template") }]).await.unwrap();
    let actors = vec![stored_id("joe", "template")];
    let spawn = tidegate_stages::invocation::Spawn { actors, revision: Some(1) };
    world.mesh.spawn(spawn).await.unwrap();
    let revision =
        tidegate_stages::state::Head { revision: 1, version: 1, epoch: 1, ..Default::default() };
    let joe = Arc::new(stored_id("joe", "template"));
    let save = tidegate_stages::ports::Save::of_head(joe, revision, true);
    world.memory.save_all(vec![save]).await.pop().unwrap().unwrap();
    world.add("joe").await.unwrap();
    assert_eq!(world.store.saves(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_was_stored_under_another_parent_or_skipped_as_stateless_goes_on() {
    let world = world(counter()).await;
    world.register(vec![definition("joe")]).await.unwrap();
    assert_eq!(world.add("joe").await.unwrap(), 1);
    assert_eq!(world.add("joe").await.unwrap(), 2);
    // Its key in the store stays, whatever its parent is now (decision 48).
    let mut other = definition("joe");
    other.id.parent = "joe".into();
    world.register(vec![other]).await.unwrap();
    assert_eq!(world.add("joe").await.unwrap(), 3);
    world.register(vec![definition("joe")]).await.unwrap();
    assert_eq!(world.add("joe").await.unwrap(), 4);
    // Changes made while the actor is stateless are in memory only.
    let short = Some(Duration::from_millis(100));
    let stateless = Definition { stateful: false, deactivate_after: short, ..definition("joe") };
    world.register(vec![stateless]).await.unwrap();
    world.add("joe").await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(world.add("joe").await.unwrap(), 1);
    world.register(vec![definition("joe")]).await.unwrap();
    assert_eq!(world.add("joe").await.unwrap(), 5);
    assert_eq!(world.head("joe").await.unwrap().version, 5);
}

#[tokio::test(start_paused = true)]
async fn registering_again_and_again_does_not_pile_up_warm_ups() {
    let tries = Arc::new(AtomicUsize::new(0));
    let seen = tries.clone();
    let world = world(host(move |_| {
        seen.fetch_add(1, Ordering::SeqCst);
        async { Err(HostError::Connect { address: "h".into(), reason: "refused".into() }) }
    }))
    .await;
    let all: Vec<_> = (0..20)
        .map(|n| Definition { actions: vec!["init".into()], ..warmed(&format!("a{n}")) })
        .collect();
    for _ in 0..50 {
        world.register(all.clone()).await.unwrap();
    }
    // Two rounds, 16 at a time, each tries for ten seconds.
    sleep(Duration::from_secs(25)).await;
    let after_two_rounds = tries.load(Ordering::SeqCst);
    sleep(Duration::from_mins(1)).await;
    assert_eq!(tries.load(Ordering::SeqCst), after_two_rounds);
}

#[tokio::test(start_paused = true)]
async fn effects_of_calls_that_finish_while_draining_are_delivered_by_the_next_start() {
    let chain = || {
        host(|invocation| async move {
            sleep(Duration::from_millis(500)).await;
            let mut response = counted(&invocation);
            let next = match invocation.actor.name.as_str() {
                "a" => Some("b"),
                "b" => Some("c"),
                "c" => Some("d"),
                _ => None,
            };
            response.workflow.effects = next.map(|next| call(next, "add")).into_iter().collect();
            Ok(response)
        })
    };
    let world = world(chain()).await;
    world.register(["a", "b", "c", "d"].map(definition).to_vec()).await.unwrap();
    let first = world.start(call("a", "add"));
    until_idle().await;
    world.store.hold_saves();
    let mesh = world.mesh.clone();
    let drain = tokio::task::spawn(async move { mesh.drain(Duration::from_mins(1)).await });
    // Commits are slow: effects of permitless calls wait for theirs while every mailbox is empty.
    for _ in 0..20 {
        sleep(Duration::from_secs(1)).await;
        world.store.release_saves();
        world.store.hold_saves();
    }
    world.store.release_saves();
    assert!(drain.await.unwrap());
    first.await.unwrap().unwrap();
    assert_eq!(world.head("a").await.unwrap().status, Status::Deactivated);
    assert!(world.head("b").await.is_none(), "a shutdown waits for no effect");
    let next = world_with(chain(), Settings::default(), world.memory.clone()).await;
    sleep(Duration::from_secs(5)).await;
    for name in ["a", "b", "c", "d"] {
        let head = next.head(name).await.unwrap();
        assert_eq!(number(head.content.state.as_ref()), 1, "{name}");
    }
}

/// A registry that returns a second after its write.
#[derive(Debug)]
struct SlowRegistry(MemoryStore);

impl Registry for SlowRegistry {
    fn load(&self) -> BoxFuture<'static, Result<Vec<Registered>, StoreError>> {
        Registry::load(&self.0)
    }

    fn apply(&self, changes: Vec<RegistryChange>) -> BoxFuture<'static, Result<(), StoreError>> {
        let applied = self.0.apply(changes);
        Box::pin(async move {
            sleep(Duration::from_secs(1)).await;
            applied.await
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_registration_whose_client_has_gone_is_complete_all_the_same() {
    let memory = MemoryStore::new();
    let ports = Ports {
        host: counter(),
        probe: Arc::new(()),
        store: Arc::new(memory.clone()),
        registry: Arc::new(SlowRegistry(memory)),
        clock: Arc::new(SetClock::at(Timestamp(1_000_000))),
    };
    let mesh = topology::open(Settings::default(), ports).await.unwrap();
    let (registering, definitions) = (mesh.clone(), vec![definition("joe")]);
    let host = HostAddress::new("127.0.0.1:8090");
    let registration = Registration { system: "s".into(), host, definitions };
    let gone = tokio::task::spawn(async move { registering.register(registration).await });
    until_idle().await;
    gone.abort();
    sleep(Duration::from_secs(2)).await;
    let by_reference = Invocation { register_ref: "joe".into(), ..call("moe", "add") };
    let calling = mesh.clone();
    let gone = tokio::task::spawn(async move { calling.invoke(by_reference).await });
    until_idle().await;
    gone.abort();
    sleep(Duration::from_secs(2)).await;
    for name in ["joe", "moe"] {
        assert_eq!(answered(mesh.invoke(call(name, "add")).await.unwrap()), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_that_registers_without_an_actor_takes_its_timers_and_channels_and_leaves_its_state()
{
    let timed = |name| {
        let action = "add".to_owned();
        let timer = Timer { action, period: Duration::from_secs(1) };
        Definition { timers: vec![timer], ..warmed(name) }
    };
    let memory = MemoryStore::new();
    let world = world_with(counter(), Settings::default(), memory.clone()).await;
    let mut elsewhere = timed("elsewhere");
    elsewhere.hosts = HostAddress::new("127.0.0.1:9999").into();
    world.register(vec![timed("joe"), timed("moe"), elsewhere]).await.unwrap();
    assert_eq!(world.add("joe").await.unwrap(), 1);
    world.register(vec![timed("moe")]).await.unwrap();
    assert_eq!(world.add("joe").await.unwrap(), 2, "its host may still serve it");

    let timers = |registered: &Registered| match &registered.entry {
        RegisteredEntry::Definition(definition) => {
            definition.timers.len() + usize::from(!definition.retired)
        }
        RegisteredEntry::Spawned { .. } | RegisteredEntry::Deleted(_) => 0,
    };
    let kept = |name: &'static str| {
        let memory = memory.clone();
        async move {
            let all = Registry::load(&memory).await.unwrap();
            all.iter().find(|one| one.id().name == name).map(timers)
        }
    };
    assert_eq!(kept("joe").await, Some(0));
    assert_eq!((kept("moe").await, kept("elsewhere").await), (Some(2), Some(2)));
    world.register(vec![timed("joe"), timed("moe")]).await.unwrap();
    assert_eq!(kept("joe").await, Some(2));
    assert_eq!(world.add("joe").await.unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_delete_that_waits_for_a_commit_is_never_said_not_to_be_started_and_done_all_the_same() {
    let limits = Deadlines { start: Duration::from_secs(1), ..Deadlines::default() };
    let settings = Settings { deadlines: limits, ..Settings::default() };
    for takes in [3, 40] {
        let world = world_with(counter(), settings.clone(), MemoryStore::new()).await;
        world.register(vec![definition("joe")]).await.unwrap();
        assert_eq!(world.add("joe").await.unwrap(), 1);
        world.store.hold_saves();
        let late = world.start(call("joe", "add"));
        until_idle().await;
        // It is granted at once, and waits for the commit before it.
        let (deleted, ()) = tokio::join!(world.mesh.delete("s", "joe"), async {
            sleep(Duration::from_secs(takes)).await;
            world.store.release_saves();
        });
        drop(late.await);
        sleep(Duration::from_mins(1)).await;
        let is_there = world.head("joe").await.is_some();
        match deleted {
            Ok(()) => assert!(!is_there),
            Err(error) => assert!(is_there || !error.is_retryable(), "{error}"),
        }
    }
}
