//! Places at the checkpoint: no action runs for a change that has no place to go, and waiting holds no worker's slot.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test; it awaits its tasks")]
#![allow(clippy::print_stdout, reason = "the numbers are what the test is for")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use support::*;
use tidegate_pipeline::Bound;
use tidegate_stages::actor::Definition;
use tidegate_stages::error::ErrorKind;
use tidegate_stages::invocation::{ActorInvocation, Invocation};
use tidegate_stages::memory::MemoryStore;
use tidegate_stages::ports::StoreError;
use tidegate_stages::rules::ChangeRules;
use tidegate_stages::state::Any;
use tidegate_stages::testkit::faulty::SaveFault;
use tidegate_stages::topology::Settings;
use tokio::task::JoinHandle;
use tokio::time::sleep;

const PLACES: usize = 16;
const CLIENTS: usize = 200;

/// Clients that call their actors without end, and what became of their calls.
#[derive(Default)]
struct Load {
    ran: AtomicUsize,
    kept: AtomicUsize,
    is_over: AtomicBool,
}

impl Load {
    fn lost(&self) -> usize {
        self.ran.load(SeqCst) - self.kept.load(SeqCst)
    }
}

/// A mesh with few places whose host counts the actions it runs, and clients that call it.
async fn under_load() -> (Arc<World>, Arc<Load>, Vec<JoinHandle<()>>) {
    let load = Arc::new(Load::default());
    let counting = load.clone();
    let host = host(move |invocation| {
        counting.ran.fetch_add(1, SeqCst);
        async move {
            sleep(Duration::from_millis(20)).await;
            Ok(counted(&invocation))
        }
    });
    let checkpoint = Bound { events: PLACES, bytes: 64 << 20 };
    let settings = Settings { checkpoint, ..Settings::default() };
    let world = Arc::new(world_with(host, settings, MemoryStore::new()).await);
    let names: Vec<_> = (0..CLIENTS).map(|client| format!("actor-{client}")).collect();
    world.register(names.iter().map(|name| definition(name)).collect()).await.unwrap();
    let clients = names.into_iter().map(|name| {
        let (world, load) = (world.clone(), load.clone());
        tokio::spawn(async move {
            while !load.is_over.load(SeqCst) {
                match world.add(&name).await {
                    Ok(_) => drop(load.kept.fetch_add(1, SeqCst)),
                    Err(_) => sleep(Duration::from_millis(100)).await,
                }
            }
        })
    });
    let clients = clients.collect();
    (world, load, clients)
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_kept_is_at_most_what_was_in_flight_when_the_store_failed() {
    let (world, load, clients) = under_load().await;
    sleep(Duration::from_secs(5)).await;
    let (ran, kept) = (load.ran.load(SeqCst), load.kept.load(SeqCst));
    println!("healthy: {ran} actions ran, {kept} kept");
    assert!(kept > 1_000, "{kept}");

    // Each commit takes longer than the calls that wait for a place have.
    for _ in 0..20 {
        world.store.fail_next_save(SaveFault::Late(Duration::from_secs(3)));
    }
    sleep(Duration::from_mins(1)).await;
    println!("slow: {} more ran, {} not kept yet", load.ran.load(SeqCst) - ran, load.lost());
    let slow = load.lost();

    world.store.hold_saves();
    sleep(Duration::from_mins(1)).await;
    let silent = load.lost();
    println!("silent: {silent} ran and are not kept");

    world.store.refuse_saves(Some(unavailable()));
    world.store.refuse_loads(Some(unavailable()));
    world.store.release_saves();
    sleep(Duration::from_mins(1)).await;
    let failing = load.lost();
    println!("failing: {failing} ran and were not kept, of {PLACES} places");

    world.store.refuse_saves(None);
    world.store.refuse_loads(None);
    let before = load.kept.load(SeqCst);
    sleep(Duration::from_secs(5)).await;
    assert!(load.kept.load(SeqCst) > before + 1_000, "it goes on when the store works again");
    load.is_over.store(true, SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    println!("in all: {} of {} actions were not kept", load.lost(), load.ran.load(SeqCst));
    assert!(slow <= PLACES, "slow: {slow}");
    assert!(silent <= PLACES, "silent: {silent}");
    assert!(failing <= PLACES, "failing: {failing}");
    assert!(load.lost() <= PLACES);
}

/// Calls an actor again and again; counts what is answered.
fn client(world: &Arc<World>, invocation: Invocation) -> (Arc<AtomicUsize>, JoinHandle<()>) {
    let answered = Arc::new(AtomicUsize::new(0));
    let (world, counting) = (world.clone(), answered.clone());
    let calling = tokio::spawn(async move {
        loop {
            world.mesh.invoke(invocation.clone()).await.unwrap();
            counting.fetch_add(1, SeqCst);
            sleep(Duration::from_millis(1)).await;
        }
    });
    (answered, calling)
}

fn unavailable() -> StoreError {
    StoreError::Unavailable("as the test wants it".into())
}

/// A host that takes ten milliseconds, and a mesh with few slots.
async fn few_slots() -> Arc<World> {
    let host = host(|invocation| async move {
        sleep(Duration::from_millis(10)).await;
        Ok(counted(&invocation))
    });
    let checkpoint = Bound { events: PLACES, bytes: 64 << 20 };
    let settings = Settings { worker_demand: 8, workers: 2, checkpoint, ..Settings::default() };
    Arc::new(world_with(host, settings, MemoryStore::new()).await)
}

#[tokio::test(start_paused = true)]
async fn while_the_store_is_silent_what_does_not_need_it_is_served_at_its_usual_rate() {
    let world = few_slots().await;
    let stateless = Definition { stateful: false, ..definition("stateless") };
    let idle = |n| Definition {
        deactivate_after: Some(Duration::from_secs(4)),
        ..definition(&format!("idle-{n}"))
    };
    let mut definitions = vec![stateless, definition("read")];
    definitions.extend((0..20).map(idle));
    definitions.extend((0..40).map(|n| definition(&format!("busy-{n}"))));
    definitions.extend((0..20).map(|n| definition(&format!("absent-{n}"))));
    world.register(definitions).await.unwrap();
    world.add("read").await.unwrap();
    for n in 0..20 {
        world.add(&format!("idle-{n}")).await.unwrap();
    }
    let (runs, running) = client(&world, call("stateless", "add"));
    let (gets, getting) = client(&world, call("read", "get"));
    sleep(Duration::from_secs(3)).await;
    let before = (runs.swap(0, SeqCst), gets.swap(0, SeqCst));

    world.store.hold_saves();
    world.store.hang_loads(true);
    // More than there are slots of each: changes, loads, deactivations, a delete.
    let mut waiting: Vec<_> =
        (0..40).map(|n| world.start(call(&format!("busy-{n}"), "add"))).collect();
    waiting.extend((0..20).map(|n| world.start(call(&format!("absent-{n}"), "get"))));
    let deleting = {
        let world = world.clone();
        tokio::spawn(async move { world.mesh.delete("s", "busy-0").await })
    };
    sleep(Duration::from_secs(3)).await;
    let during = (runs.load(SeqCst), gets.load(SeqCst));
    println!("in 3 s: {before:?} calls and reads with the store, {during:?} without it");
    assert!(during.0 * 20 >= before.0 * 19 && during.1 * 20 >= before.1 * 19);
    assert_eq!(
        world.mesh.state("s", "read").await.unwrap().state.map(|any| number(Some(&any))),
        Some(1)
    );
    assert!(waiting.iter().all(|call| !call.is_finished()), "they wait meanwhile");

    world.store.hang_loads(false);
    world.store.release_saves();
    sleep(Duration::from_secs(15)).await;
    running.abort();
    getting.abort();
    drop(deleting.await.unwrap());
    assert_eq!(world.add("idle-3").await.unwrap(), 2);
    assert!(world.mesh.drain(Duration::from_secs(20)).await);
}

#[tokio::test(start_paused = true)]
async fn a_read_waits_for_a_pending_commit_up_to_its_deadline_and_is_refused_in_doubt() {
    let world = few_slots().await;
    world.register(vec![definition("joe")]).await.unwrap();
    world.add("joe").await.unwrap();
    world.store.hold_saves();
    let pending = world.start(call("joe", "add"));
    sleep(Duration::from_secs(1)).await;
    let read = world.start(call("joe", "get"));
    sleep(Duration::from_secs(5)).await;
    assert!(!read.is_finished() && !pending.is_finished());
    world.store.fail_next_save(SaveFault::Lose(StoreError::Unknown("as the test wants it".into())));
    world.store.fail_next_save(SaveFault::Late(Duration::from_secs(3)));
    world.store.release_saves();
    sleep(Duration::from_millis(200)).await;
    let error = world.mesh.invoke(call("joe", "get")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
    assert_eq!(answered(pending.await.unwrap().unwrap()), 2);
    assert_eq!(answered(read.await.unwrap().unwrap()), 2);
}

#[tokio::test(start_paused = true)]
async fn when_only_writes_fail_each_pause_costs_one_action_at_most() {
    let (world, load, clients) = under_load().await;
    sleep(Duration::from_secs(1)).await;
    world.store.refuse_saves(Some(unavailable()));
    sleep(Duration::from_secs(1)).await;
    let (ran, began) = (load.ran.load(SeqCst), tokio::time::Instant::now());
    sleep(Duration::from_secs(30)).await;
    let probes = load.ran.load(SeqCst) - ran;
    println!("{probes} actions ran in {:?} with {CLIENTS} clients", began.elapsed());
    assert!(
        (10..=18).contains(&probes),
        "one every two seconds, once the pause has grown: {probes}"
    );
    world.store.refuse_saves(None);
    let before = load.kept.load(SeqCst);
    sleep(Duration::from_secs(10)).await;
    assert!(load.kept.load(SeqCst) > before + 1_000);
    load.is_over.store(true, SeqCst);
    for client in clients {
        client.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn large_answers_take_the_reserve_in_turn_and_all_are_kept() {
    let host = host(|invocation| async move {
        let count = number(invocation.state.as_ref().filter(|any| any.type_url == "test/count"));
        let mut response = counted(&ActorInvocation { state: Some(any(count)), ..invocation });
        let value = vec![7; 1 << 20].into();
        response.state = Some(Any { type_url: "test/large".into(), value });
        Ok(response)
    });
    let rules = ChangeRules { max_state_bytes: (1 << 20) + 100, ..ChangeRules::default() };
    // For one large place, the reserve, and maintenance.
    let checkpoint = Bound { events: 64, bytes: 3 * rules.max_state_bytes };
    let settings = Settings { checkpoint, rules, ..Settings::default() };
    let world = Arc::new(world_with(host, settings, MemoryStore::new()).await);
    let names: Vec<_> = (0..30).map(|n| format!("large-{n}")).collect();
    world.register(names.iter().map(|name| definition(name)).collect()).await.unwrap();
    for _ in 0..100 {
        world.store.fail_next_save(SaveFault::Late(Duration::from_millis(50)));
    }
    let calls: Vec<_> = names.iter().map(|name| world.start(call(name, "add"))).collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    for name in &names {
        assert_eq!(world.head(name).await.unwrap().content.bytes(), (1 << 20) + 10);
    }
}

#[tokio::test(start_paused = true)]
async fn one_actor_takes_an_eighth_of_the_places_and_leaves_the_others_to_others() {
    let ran = Arc::new(AtomicUsize::new(0));
    let counting = ran.clone();
    let host = host(move |invocation| {
        counting.fetch_add(usize::from(invocation.actor.name == "hot"), SeqCst);
        async move { Ok(counted(&invocation)) }
    });
    let checkpoint = Bound { events: 64, bytes: 64 << 20 };
    let settings = Settings { checkpoint, ..Settings::default() };
    let world = Arc::new(world_with(host, settings, MemoryStore::new()).await);
    world.register(["hot", "other"].map(definition).to_vec()).await.unwrap();
    world.store.hold_saves();
    let busy: Vec<_> = (0..50).map(|_| world.start(call("hot", "add"))).collect();
    until_idle().await;
    let other = world.start(call("other", "add"));
    until_idle().await;
    assert_eq!(ran.load(SeqCst), 64 / 8);
    world.store.release_saves();
    assert_eq!(answered(other.await.unwrap().unwrap()), 1);
    for (n, call) in (1..).zip(busy) {
        assert_eq!(answered(call.await.unwrap().unwrap()), n);
    }
}

#[tokio::test(start_paused = true)]
async fn init_and_call_share_a_place_and_both_are_kept() {
    let host = host(|invocation| async move {
        let mut response = counted(&invocation);
        if invocation.action == "init" {
            response.state = Some(any(100));
        }
        Ok(response)
    });
    let checkpoint = Bound { events: 3, bytes: 3 * (4 << 20) };
    let settings = Settings { checkpoint, ..Settings::default() };
    let world = Arc::new(world_with(host, settings, MemoryStore::new()).await);
    let actions = ["init", "add"].map(String::from).to_vec();
    let with_init = |n| Definition { actions: actions.clone(), ..definition(&format!("a{n}")) };
    world.register((0..10).map(with_init).collect()).await.unwrap();
    let calls: Vec<_> = (0..10).map(|n| world.start(call(&format!("a{n}"), "add"))).collect();
    for call in calls {
        assert_eq!(answered(call.await.unwrap().unwrap()), 101);
    }
    // The probe of a store that failed runs both, too.
    world.store.refuse_saves(Some(unavailable()));
    world.add("a0").await.unwrap_err();
    world.store.refuse_saves(None);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(world.add("a0").await.unwrap(), 101, "init ran again, and the call after it");
}
