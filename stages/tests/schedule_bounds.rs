//! How many schedules there may be.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::time::Duration;

use tidegate_stages::error::{Error, ErrorKind};
use tidegate_stages::identity::Identity;
use tidegate_stages::memory::MemoryStore;
use tidegate_stages::mesh::ScheduleAsk;
use tidegate_stages::ports::{Clock, ScheduleStore, StoreError};
use tidegate_stages::schedules::{CatchUp, Overlap, ScheduleBounds, ScheduleKey, Spec, When};
use tidegate_stages::state::Timestamp;
use tidegate_stages::topology::Settings;

use support::{World, call, counter, definition, world_with};

const HOUR: Duration = Duration::from_hours(1);

async fn start(memory: MemoryStore) -> World {
    let schedules = ScheduleBounds { system: 3, all: 5 };
    let settings = Settings { schedules, ..Settings::default() };
    let world = world_with(counter(), settings, memory).await;
    let mut definitions = vec![definition("joe")];
    for system in ["t", "u"] {
        let mut other = definition("joe");
        other.id.system = system.into();
        definitions.push(other);
    }
    world.register(definitions).await.unwrap();
    world
}

async fn put(world: &World, system: &str, name: &str, replaces: bool) -> Result<(), Error> {
    let first = Timestamp(world.clock.now().0 + 3_600_000_000);
    let mut call = call("joe", "add");
    call.actor.system = system.into();
    let spec = Spec {
        when: When::Every { period: HOUR, first },
        overlap: Overlap::Skip,
        catch_up: CatchUp::default(),
        jitter: Duration::ZERO,
        end: None,
        call,
    };
    let (name, spec) = (name.to_owned(), Box::new(spec));
    let ask = ScheduleAsk::Put { name, spec, is_paused: false, replaces, keeps_first: false };
    world.mesh.ask_schedule(Identity::default(), ask).await.map(drop)
}

async fn delete(world: &World, system: &str, name: &str) -> Result<(), Error> {
    let key = ScheduleKey { system: system.into(), name: name.into() };
    world.mesh.ask_schedule(Identity::default(), ScheduleAsk::Delete(key)).await.map(drop)
}

async fn refused(world: &World, system: &str, says: &str) {
    let error = put(world, system, "more", false).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    assert!(error.is_retryable() && error.to_string().contains(says), "{error}");
}

#[tokio::test(start_paused = true)]
async fn schedules_are_bounded_per_system_and_in_all_also_after_a_restart() {
    let memory = MemoryStore::new();
    let mut world = start(memory.clone()).await;
    for number in 0..3 {
        put(&world, "s", &format!("n{number}"), false).await.unwrap();
    }
    refused(&world, "s", "ActorSystem s has 3 schedules").await;
    refused(&world, "s", "TIDEGATE_MAX_SCHEDULES_PER_SYSTEM is 3").await;
    put(&world, "s", "n1", true).await.unwrap();
    for number in 0..2 {
        put(&world, "t", &format!("n{number}"), false).await.unwrap();
    }
    refused(&world, "u", "there are 5 schedules").await;
    for _ in 0..2 {
        refused(&world, "u", "TIDEGATE_MAX_SCHEDULES is 5").await;
        assert!(world.mesh.drain(HOUR).await);
        world = start(memory.clone()).await;
    }
    delete(&world, "s", "n1").await.unwrap();
    assert!(delete(&world, "s", "n1").await.is_err(), "it counts once");
    put(&world, "u", "n", false).await.unwrap();
    refused(&world, "s", "there are 5 schedules").await;
}

#[tokio::test(start_paused = true)]
async fn schedules_that_failed_to_be_written_or_removed_are_counted_as_they_are() {
    let world = start(MemoryStore::new()).await;
    put(&world, "s", "n", false).await.unwrap();
    for round in 0..10 {
        world.store.refuse_saves(Some(StoreError::Unavailable("as the test wants it".into())));
        put(&world, "s", &format!("failed{round}"), false).await.unwrap_err();
        delete(&world, "s", "n").await.unwrap_err();
        world.store.refuse_saves(None);
    }
    let found = world.memory.schedules(None, 100).await.unwrap().items.len();
    for number in found..3 {
        put(&world, "s", &format!("n{number}"), false).await.unwrap();
    }
    refused(&world, "s", "ActorSystem s has 3 schedules").await;
}
