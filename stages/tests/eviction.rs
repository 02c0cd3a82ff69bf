//! Actors leave memory when what is in it takes too many bytes.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test; it awaits its tasks")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use support::*;
use tidegate_stages::actor::Definition;
use tidegate_stages::invocation::{ActorInvocationResponse, Payload};
use tidegate_stages::memory::MemoryStore;
use tidegate_stages::ports::StoreError;
use tidegate_stages::rules::Revisions;
use tidegate_stages::state::{Any, Status};
use tidegate_stages::testkit::faulty::SaveFault;
use tidegate_stages::topology::Settings;
use tokio::sync::Semaphore;
use tokio::time::sleep;

/// Bytes of each state.
const SIZE: usize = 10_000;

/// A counter whose states are large. Its action `slow` waits for a permit.
fn large(permits: &Arc<Semaphore>) -> BoxedHost {
    let permits = permits.clone();
    host(move |invocation| {
        let permits = permits.clone();
        async move {
            let count = number(invocation.state.as_ref()) + 1;
            if invocation.action == "slow" {
                permits.acquire().await.unwrap().forget();
            }
            let value = Bytes::from(format!("{count:0SIZE$}"));
            Ok(ActorInvocationResponse {
                state: Some(Any { type_url: "test/count".into(), value }),
                payload: Payload::Value(any(count)),
                ..ActorInvocationResponse::default()
            })
        }
    })
}

/// A mesh with place for five large states.
async fn with_place_for_five(permits: &Arc<Semaphore>, actors: Vec<Definition>) -> World {
    let settings = Settings { max_live_bytes: 5 * (SIZE + 2_000), ..Settings::default() };
    let world = world_with(large(permits), settings, MemoryStore::new()).await;
    world.register(actors).await.unwrap();
    world
}

fn stateless(name: &str) -> Definition {
    Definition { stateful: false, ..definition(name) }
}

async fn add_each(world: &World, names: &[String], expected: u64) {
    for name in names {
        assert_eq!(world.add(name).await.unwrap(), expected, "{name}");
        sleep(Duration::from_millis(2)).await;
    }
}

fn names(kind: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{kind}{number}")).collect()
}

/// Which of them are in memory.
async fn live(world: &World, names: &[String]) -> Vec<String> {
    let mut live = Vec::new();
    for name in names {
        if world.head(name).await.unwrap().status == Status::Activated {
            live.push(name.clone());
        }
    }
    live
}

#[tokio::test(start_paused = true)]
async fn states_beyond_the_bytes_leave_stateful_ones_first_and_the_least_recently_used_of_them() {
    let (stateful, volatile) = (names("a", 5), names("v", 3));
    let actors = stateful.iter().map(|name| definition(name));
    let actors = actors.chain(volatile.iter().map(|name| stateless(name))).collect();
    let world = with_place_for_five(&Arc::new(Semaphore::new(0)), actors).await;
    add_each(&world, &volatile, 1).await;
    add_each(&world, &stateful, 1).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(live(&world, &stateful).await, ["a3", "a4"]);
    // The order of use counts, not that of arrival.
    add_each(&world, &["a3".into(), "a0".into()], 2).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(live(&world, &stateful).await, ["a0", "a3"]);
    // Nothing was lost.
    add_each(&world, &volatile, 2).await;
    add_each(&world, &["a1".into(), "a2".into(), "a4".into()], 2).await;
}

#[tokio::test(start_paused = true)]
async fn stateless_actors_leave_when_no_other_is_left_and_lose_their_memory() {
    let volatile = names("v", 8);
    let actors = volatile.iter().map(|name| stateless(name)).collect();
    let world = with_place_for_five(&Arc::new(Semaphore::new(0)), actors).await;
    add_each(&world, &volatile, 1).await;
    sleep(Duration::from_secs(1)).await;
    add_each(&world, &volatile[3..], 2).await;
    add_each(&world, &volatile[..3], 1).await;
}

#[tokio::test(start_paused = true)]
async fn small_actors_count_too() {
    let settings = Settings { max_live_bytes: 100_000, ..Settings::default() };
    let world = world_with(counter(), settings, MemoryStore::new()).await;
    let names = names("a", 500);
    world.register(names.iter().map(|name| definition(name)).collect()).await.unwrap();
    add_each(&world, &names, 1).await;
    sleep(Duration::from_secs(1)).await;
    let live = live(&world, &names).await.len();
    assert!((50..100).contains(&live), "{live} are in memory");
}

#[tokio::test(start_paused = true)]
async fn a_busy_actor_leaves_later() {
    let permits = Arc::new(Semaphore::new(0));
    let volatile = names("v", 7);
    let actors = volatile.iter().map(|name| stateless(name)).collect();
    let world = with_place_for_five(&permits, actors).await;
    add_each(&world, &volatile[..1], 1).await;
    let busy = world.start(call("v0", "slow"));
    until_idle().await;
    add_each(&world, &volatile[1..], 1).await;
    sleep(Duration::from_secs(1)).await;
    // It is the least recently used, and stays.
    permits.add_permits(1);
    assert_eq!(answered(busy.await.unwrap().unwrap()), 2);
    assert_eq!(world.add("v0").await.unwrap(), 3);
    add_each(&world, &volatile[3..], 2).await;
    add_each(&world, &volatile[1..3], 1).await;
}

#[tokio::test(start_paused = true)]
async fn actors_whose_commit_is_on_its_way_or_in_doubt_leave_once_it_is_known() {
    let in_doubt = SaveFault::LoseFirst(StoreError::Unknown("no answer".into()));
    for outcome in [None, Some(in_doubt)] {
        let stateful = names("a", 7);
        let actors = stateful.iter().map(|name| definition(name)).collect();
        let world = with_place_for_five(&Arc::new(Semaphore::new(0)), actors).await;
        world.store.hold_saves();
        if let Some(outcome) = outcome {
            world.store.fail_next_save(outcome);
        }
        let calls: Vec<_> = stateful.iter().map(|name| world.start(call(name, "add"))).collect();
        sleep(Duration::from_secs(5)).await;
        world.store.release_saves();
        for call in calls {
            assert_eq!(answered(call.await.unwrap().unwrap()), 1);
        }
        sleep(Duration::from_secs(1)).await;
        let live = live(&world, &stateful).await.len();
        assert!((3..=5).contains(&live), "{live} are in memory");
        add_each(&world, &stateful, 2).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_stored_already_is_not_written_once_more_to_make_space() {
    let mut settings = Settings { max_live_bytes: 2 * (SIZE + 2_000), ..Settings::default() };
    settings.rules.revisions = Revisions::Every;
    let world = world_with(large(&Arc::new(Semaphore::new(0))), settings, MemoryStore::new()).await;
    let all = names("a", 6);
    world.register(all.iter().map(|name| definition(name)).collect()).await.unwrap();
    for round in 1..=2 {
        add_each(&world, &all, round).await;
        sleep(Duration::from_secs(1)).await;
        for name in &all {
            let head = world.head(name).await.unwrap();
            assert_eq!((head.version, head.revision), (round, round), "{name}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_is_warmed_up_while_memory_is_full() {
    let permits = Arc::new(Semaphore::new(0));
    let world = with_place_for_five(&permits, Vec::new()).await;
    let busy = names("busy", 6);
    world.register(busy.iter().map(|name| definition(name)).collect()).await.unwrap();
    add_each(&world, &busy, 1).await;
    let calls: Vec<_> = busy.iter().map(|name| world.start(call(name, "slow"))).collect();
    until_idle().await;
    let cold = names("w", 3);
    let warmed = cold
        .iter()
        .map(|name| Definition { actions: vec!["add".into(), "init".into()], ..warmed(name) });
    world.register(warmed.collect()).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    for name in &cold {
        assert!(world.head(name).await.is_none(), "{name} has run its init action");
    }
    permits.add_permits(calls.len());
    for called in calls {
        called.await.unwrap().unwrap();
    }
    // Its init action runs before the first call.
    assert_eq!(world.add("w0").await.unwrap(), 2);
}
