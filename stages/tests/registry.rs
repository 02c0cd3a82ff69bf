//! Registrations while actors are deleted and spawned again: the same before and after a restart.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test; it awaits its tasks")]

mod support;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use support::*;
use tidegate_stages::actor::HostAddress;
use tidegate_stages::error::{Error, ErrorKind};
use tidegate_stages::invocation::{Invocation, Registration};
use tidegate_stages::memory::MemoryStore;
use tidegate_stages::mesh::Mesh;
use tidegate_stages::ports::{Registered, Registry, RegistryChange, StateStore, StoreError};
use tidegate_stages::state::Timestamp;
use tidegate_stages::testkit::clock::SetClock;
use tidegate_stages::topology::{self, Ports, Settings};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

async fn restarted(world: World) -> World {
    let memory = world.memory.clone();
    assert!(world.mesh.drain(Duration::from_secs(5)).await);
    world_with(counter(), Settings::default(), memory).await
}

async fn kind(answer: impl Future<Output = Result<u64, Error>>) -> ErrorKind {
    answer.await.unwrap_err().kind()
}

#[tokio::test(start_paused = true)]
async fn a_deleted_actor_stays_registered_while_others_are_made_from_it() {
    let mut world = world(counter()).await;
    world.register(vec![definition("template")]).await.unwrap();
    world.spawn("parent", "template").await.unwrap();
    world.spawn("child", "parent").await.unwrap();
    world.add("parent").await.unwrap();
    assert_eq!(world.add("child").await.unwrap(), 1);
    world.mesh.delete("s", "parent").await.unwrap();
    let stored = stored_id("parent", "template");
    assert!(StateStore::load(&world.memory, &stored).await.unwrap().is_none(), "its state is gone");

    for restarts in 0..2 {
        assert_eq!(world.add("child").await.unwrap(), 2 + restarts);
        assert_eq!(world.add("parent").await.unwrap(), 1 + restarts);
        let circle = world.spawn("parent", "child").await.unwrap_err();
        assert_eq!(circle.kind(), ErrorKind::Conflict, "{circle}");
        world.spawn("parent", "template").await.unwrap();
        world = restarted(world).await;
    }

    world.mesh.delete("s", "child").await.unwrap();
    world.mesh.delete("s", "parent").await.unwrap();
    for _ in 0..2 {
        for name in ["child", "parent"] {
            assert_eq!(kind(world.add(name)).await, ErrorKind::ActorNotFound);
        }
        let orphan = world.spawn("child", "parent").await.unwrap_err();
        assert_eq!(orphan.kind(), ErrorKind::ActorNotFound, "{orphan}");
        world = restarted(world).await;
    }
}

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

fn deleting(mesh: &Mesh, name: &'static str) -> JoinHandle<()> {
    let mesh = mesh.clone();
    tokio::task::spawn(async move { mesh.delete("s", name).await.unwrap() })
}

fn by_reference(name: &str) -> Invocation {
    Invocation { register_ref: "template".into(), ..call(name, "add") }
}

#[tokio::test(start_paused = true)]
async fn calls_that_name_a_definition_spawn_their_actor_anew_behind_a_delete_in_order() {
    let permits = Arc::new(Semaphore::new(0));
    let world = world(gated(&permits)).await;
    world.register(vec![definition("template")]).await.unwrap();
    world.spawn("joe", "template").await.unwrap();
    for round in 0..3 {
        let running = world.start(call("joe", "slow"));
        until_idle().await;
        let delete = deleting(&world.mesh, "joe");
        until_idle().await;
        let plain = world.start(call("joe", "add"));
        until_idle().await;
        let mut calls = Vec::new();
        for _ in 0..3 {
            calls.push(world.start(by_reference("joe")));
            until_idle().await;
        }
        permits.add_permits(1);
        assert_eq!(answered(running.await.unwrap().unwrap()), if round == 0 { 1 } else { 4 });
        delete.await.unwrap();
        assert_eq!(plain.await.unwrap().unwrap_err().kind(), ErrorKind::ActorNotFound);
        for (expected, call) in (1..).zip(calls) {
            assert_eq!(answered(call.await.unwrap().unwrap()), expected);
        }
    }
    let mut world = restarted(world).await;
    assert_eq!(world.add("joe").await.unwrap(), 4, "it is registered for good");

    // A caller that has disconnected spawns nothing.
    world.mesh.delete("s", "joe").await.unwrap();
    world = world_with(gated(&permits), Settings::default(), world.memory.clone()).await;
    world.spawn("joe", "template").await.unwrap();
    let running = world.start(call("joe", "slow"));
    until_idle().await;
    let delete = deleting(&world.mesh, "joe");
    until_idle().await;
    let gone = world.start(by_reference("joe"));
    until_idle().await;
    gone.abort();
    permits.add_permits(1);
    running.await.unwrap().unwrap();
    delete.await.unwrap();
    until_idle().await;
    assert_eq!(kind(world.add("joe")).await, ErrorKind::ActorNotFound);
}

/// A registry that refuses a given number of spawns.
#[derive(Debug)]
struct Refusing(MemoryStore, Arc<AtomicU32>);

impl Registry for Refusing {
    fn load(&self) -> BoxFuture<'static, Result<Vec<Registered>, StoreError>> {
        Registry::load(&self.0)
    }

    fn apply(&self, changes: Vec<RegistryChange>) -> BoxFuture<'static, Result<(), StoreError>> {
        let is_refused = || {
            let less = |left: u32| left.checked_sub(1);
            self.1.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok()
        };
        if matches!(changes.as_slice(), [RegistryChange::Put(_)]) && is_refused() {
            return ready(Err(StoreError::Unavailable("not now".into()))).boxed();
        }
        self.0.apply(changes)
    }
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_fails_is_tried_again_until_the_call_is_late() {
    let permits = Arc::new(Semaphore::new(0));
    let (memory, refusals) = (MemoryStore::new(), Arc::new(AtomicU32::new(0)));
    let ports = Ports {
        host: gated(&permits),
        store: Arc::new(memory.clone()),
        registry: Arc::new(Refusing(memory.clone(), refusals.clone())),
        clock: Arc::new(SetClock::at(Timestamp(1_000_000))),
    };
    let mesh = topology::open(Settings::default(), ports).await.unwrap();
    let host = HostAddress::new("127.0.0.1:8090");
    let definitions = vec![definition("template")];
    mesh.register(Registration { system: "s".into(), host, definitions }).await.unwrap();
    let start = |invocation| {
        let mesh = mesh.clone();
        tokio::task::spawn(async move { mesh.invoke(invocation).await.map(answered) })
    };
    assert_eq!(start(by_reference("joe")).await.unwrap().unwrap(), 1);
    for (refused, answer) in [(3, Ok(1)), (u32::MAX, Err(ErrorKind::StoreUnavailable))] {
        let running = start(call("joe", "slow"));
        until_idle().await;
        let delete = deleting(&mesh, "joe");
        until_idle().await;
        let behind = start(by_reference("joe"));
        until_idle().await;
        refusals.store(refused, Ordering::SeqCst);
        permits.add_permits(1);
        running.await.unwrap().unwrap();
        delete.await.unwrap();
        assert_eq!(behind.await.unwrap().map_err(|error| error.kind()), answer);
    }
    refusals.store(0, Ordering::SeqCst);
    assert_eq!(kind(start(call("joe", "add")).map(Result::unwrap)).await, ErrorKind::ActorNotFound);
    assert!(mesh.drain(Duration::from_mins(1)).await);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_makes_no_sense_does_not_spawn_its_actor() {
    let world = world(counter()).await;
    world.register(vec![definition("template")]).await.unwrap();
    let unknown = Invocation { action: "fly".into(), ..by_reference("joe") };
    let pooled = Invocation { pooled: true, ..by_reference("joe") };
    for (refused, why) in [(unknown, ErrorKind::ActionNotFound), (pooled, ErrorKind::Unsupported)] {
        assert_eq!(world.mesh.invoke(refused).await.unwrap_err().kind(), why);
        assert_eq!(kind(world.add("joe")).await, ErrorKind::ActorNotFound);
    }
    assert_eq!(world.mesh.invoke(by_reference("joe")).await.map(answered).unwrap(), 1);
}
