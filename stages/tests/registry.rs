//! Registrations while actors are deleted and spawned again: the same before and after a restart.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test; it awaits its tasks")]

mod support;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, pending, ready};
use support::*;
use tidegate_stages::actor::{ActorId, Definition, HostAddress, Kind};
use tidegate_stages::error::{Error, ErrorKind};
use tidegate_stages::history::Interval;
use tidegate_stages::invocation::{Invocation, Registration, Spawn};
use tidegate_stages::memory::MemoryStore;
use tidegate_stages::mesh::Mesh;
use tidegate_stages::ports::{Registered, Registry, RegistryChange, Save, StateStore, StoreError};
use tidegate_stages::state::{Head, Timestamp};
use tidegate_stages::testkit::clock::SetClock;
use tidegate_stages::topology::{self, Ports, Settings};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

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
        assert_eq!(orphan.kind(), ErrorKind::NotFound, "{orphan}");
        world = restarted(world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_request_spawns_no_actor_under_two_parents() {
    let world = world(counter()).await;
    world.register(vec![definition("one"), definition("other")]).await.unwrap();
    let spawn = |parents: [&str; 2]| {
        let actors = parents.map(|parent| stored_id("joe", parent)).to_vec();
        world.mesh.spawn(Spawn { actors, revision: None })
    };
    let error = spawn(["one", "other"]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert_eq!(kind(world.add("joe")).await, ErrorKind::ActorNotFound);
    spawn(["one", "one"]).await.unwrap();
    assert_eq!(world.add("joe").await.unwrap(), 1);
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

/// A mesh with the definition `template`, its store, and how often its registry will refuse a change of one name.
async fn refusing(host: BoxedHost) -> (Mesh, MemoryStore, Arc<AtomicU32>) {
    let (memory, refusals) = (MemoryStore::new(), Arc::new(AtomicU32::new(0)));
    let ports = Ports {
        host,
        probe: Arc::new(()),
        store: Arc::new(memory.clone()),
        registry: Arc::new(Refusing(memory.clone(), refusals.clone())),
        clock: Arc::new(SetClock::at(Timestamp(1_000_000))),
    };
    let mesh = topology::open(Settings::default(), ports).await.unwrap();
    let host = HostAddress::new("127.0.0.1:8090");
    let definitions = vec![definition("template")];
    mesh.register(Registration { system: "s".into(), host, definitions }).await.unwrap();
    (mesh, memory, refusals)
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_fails_is_tried_again_until_the_call_is_late() {
    let permits = Arc::new(Semaphore::new(0));
    let (mesh, _, refusals) = refusing(gated(&permits)).await;
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
async fn a_spawn_with_a_revision_loads_it_once_however_often_noting_it_fails() {
    let (mesh, memory, refusals) = refusing(counter()).await;
    let joe = || stored_id("joe", "template");
    mesh.spawn(Spawn { actors: vec![joe()], revision: None }).await.unwrap();
    for expected in 1..=2 {
        assert_eq!(mesh.invoke(call("joe", "add")).await.map(answered).unwrap(), expected);
        mesh.checkpoint("s", "joe").await.unwrap();
    }
    mesh.spawn(Spawn { actors: vec![joe()], revision: Some(1) }).await.unwrap();
    mesh.deactivate("s", "joe").await.unwrap();
    refusals.store(3, Ordering::SeqCst);
    assert_eq!(mesh.invoke(call("joe", "add")).await.map(answered).unwrap(), 2);
    let kept = memory.load_by_interval(&joe(), Interval::ALL, 100).await.unwrap().items;
    let counts: Vec<_> = kept.iter().map(|one| number(one.content.state.as_ref())).collect();
    assert_eq!(counts, [1, 2, 1]);
    assert_eq!(refusals.load(Ordering::SeqCst), 0);
}

/// A registry that makes a given number of changes and does not know it, and then refuses a given number.
#[derive(Debug, Clone, Default)]
struct Doubtful(MemoryStore, Arc<AtomicU32>, Arc<AtomicU32>);

impl Registry for Doubtful {
    fn load(&self) -> BoxFuture<'static, Result<Vec<Registered>, StoreError>> {
        Registry::load(&self.0)
    }

    fn apply(&self, changes: Vec<RegistryChange>) -> BoxFuture<'static, Result<(), StoreError>> {
        let less = |left: u32| left.checked_sub(1);
        let is_one_of =
            |left: &AtomicU32| left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok();
        let is_in_doubt = is_one_of(&self.1);
        if !is_in_doubt && is_one_of(&self.2) {
            return ready(Err(StoreError::Unavailable("not now".into()))).boxed();
        }
        let applied = self.0.apply(changes);
        async move {
            applied.await?;
            if is_in_doubt { Err(StoreError::Unknown("no answer".into())) } else { Ok(()) }
        }
        .boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_in_doubt_undoes_nothing_that_is_acknowledged_after_it() {
    let (registry, host) = (Doubtful::default(), HostAddress::new("127.0.0.1:8090"));
    let ports = Ports {
        probe: Arc::new(()),
        host: counter(),
        store: Arc::new(registry.0.clone()),
        registry: Arc::new(registry.clone()),
        clock: Arc::new(SetClock::at(Timestamp(1_000_000))),
    };
    let mesh = topology::open(Settings::default(), ports).await.unwrap();
    let register = async |actions: &[&str]| {
        let mut template = definition("template");
        template.actions.extend(actions.iter().map(ToString::to_string));
        let definitions = vec![template];
        mesh.register(Registration { system: "s".into(), host: host.clone(), definitions }).await
    };
    register(&[]).await.unwrap();
    mesh.invoke(by_reference("joe")).await.unwrap();
    let stored = async || {
        let mut stored = Registry::load(&registry).await.unwrap();
        stored.sort_by_key(|one| one.id().name.clone());
        stored
    };
    let before = stored().await;
    assert_eq!(before.len(), 2);
    let in_doubt = |changes: u32| registry.1.store(changes, Ordering::SeqCst);

    // Each change is in doubt, and so is what is stored of these names at once after it, and at the next change.
    in_doubt(3);
    assert!(!register(&["new"]).await.unwrap_err().is_retryable());
    assert!(stored().await == before, "what is in memory is stored again");
    let behind = register(&[]).await.unwrap_err();
    assert!(behind.is_retryable() && behind.kind() == ErrorKind::StoreUnavailable, "{behind}");

    sleep(Duration::from_secs(2)).await;

    // Nobody asks for another change while the store is away.
    in_doubt(1);
    registry.2.store(3, Ordering::SeqCst);
    register(&["new"]).await.unwrap_err();
    sleep(Duration::from_millis(2_500)).await;
    assert!(stored().await != before);
    sleep(Duration::from_secs(1)).await;
    assert!(stored().await == before);

    // The store fails right after it has made the change.
    for removes in [false, true] {
        in_doubt(1);
        let outcome =
            if removes { mesh.delete("s", "joe").await } else { register(&["new"]).await };
        outcome.unwrap_err();
        until_idle().await;
        // Known already, so nothing of it is stored.
        register(&[]).await.unwrap();
        mesh.invoke(by_reference("joe")).await.unwrap();
        assert!(stored().await == before, "removes: {removes}");
    }
    assert!(mesh.drain(Duration::from_mins(1)).await);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_makes_no_sense_does_not_spawn_its_actor() {
    let world = world(counter()).await;
    world.register(vec![definition("template")]).await.unwrap();
    let unknown = Invocation { action: "fly".into(), ..by_reference("joe") };
    let refused = world.mesh.invoke(unknown).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ActionNotFound);
    assert_eq!(kind(world.add("joe")).await, ErrorKind::ActorNotFound);
    assert_eq!(world.mesh.invoke(by_reference("joe")).await.map(answered).unwrap(), 1);
}

/// A registry of which each change takes 10 ms, and that counts them; while it `hangs`, for ever.
#[derive(Debug, Clone, Default)]
struct Slow {
    memory: MemoryStore,
    applies: Arc<AtomicU32>,
    hangs: Arc<AtomicBool>,
}

impl Registry for Slow {
    fn load(&self) -> BoxFuture<'static, Result<Vec<Registered>, StoreError>> {
        Registry::load(&self.memory)
    }

    fn apply(&self, changes: Vec<RegistryChange>) -> BoxFuture<'static, Result<(), StoreError>> {
        let slow = self.clone();
        Box::pin(async move {
            slow.applies.fetch_add(1, Ordering::SeqCst);
            if slow.hangs.load(Ordering::SeqCst) {
                pending::<()>().await;
            }
            sleep(Duration::from_millis(10)).await;
            slow.memory.apply(changes).await
        })
    }
}

async fn slow(settings: Settings) -> (Mesh, Slow) {
    let slow = Slow::default();
    let ports = Ports {
        probe: Arc::new(()),
        host: counter(),
        store: Arc::new(slow.memory.clone()),
        registry: Arc::new(slow.clone()),
        clock: Arc::new(SetClock::at(Timestamp(1_000_000))),
    };
    let mesh = topology::open(settings, ports).await.unwrap();
    let host = HostAddress::new("127.0.0.1:8090");
    let definitions = vec![definition("template")];
    mesh.register(Registration { system: "s".into(), host, definitions }).await.unwrap();
    slow.applies.store(0, Ordering::SeqCst);
    (mesh, slow)
}

fn first_call(mesh: &Mesh, name: &str) -> JoinHandle<Result<u64, Error>> {
    let (mesh, invocation) = (mesh.clone(), by_reference(name));
    tokio::task::spawn(async move { mesh.invoke(invocation).await.map(answered) })
}

#[tokio::test(start_paused = true)]
async fn spawns_that_come_together_are_stored_together() {
    let (mesh, slow) = slow(Settings::default()).await;
    let calls: Vec<_> = (0..500).map(|n| first_call(&mesh, &format!("a{}", n / 2))).collect();
    for call in calls {
        let added = call.await.unwrap().unwrap();
        assert!(matches!(added, 1 | 2), "{added}");
    }
    let applies = slow.applies.load(Ordering::SeqCst);
    assert!(applies <= 10, "{applies} changes of the registry for 250 actors");
    let stored = Registry::load(&slow.memory).await.unwrap();
    assert_eq!(stored.len(), 251);
}

fn spawning(mesh: &Mesh, actors: Vec<ActorId>) -> JoinHandle<Result<(), Error>> {
    let mesh = mesh.clone();
    tokio::task::spawn(async move { mesh.spawn(Spawn { actors, revision: None }).await })
}

#[tokio::test(start_paused = true)]
async fn changes_keep_the_order_of_their_name_and_see_what_came_before() {
    let (mesh, _slow) = slow(Settings::default()).await;
    let spawning = |name: &str, parent: &str| spawning(&mesh, vec![stored_id(name, parent)]);
    // All of them wait behind a first change.
    let mut spawned = vec![spawning("first", "template")];
    until_idle().await;
    for depth in 0..20 {
        let parent = if depth == 0 { "template".into() } else { format!("d{}", depth - 1) };
        spawned.push(spawning(&format!("d{depth}"), &parent));
        until_idle().await;
    }
    let orphan = spawning("orphan", "d20");
    until_idle().await;
    let other = spawning("d3", "template");
    until_idle().await;
    let again = spawning("d3", "d2");
    for spawned in spawned {
        spawned.await.unwrap().unwrap();
    }
    assert_eq!(orphan.await.unwrap().unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(other.await.unwrap().unwrap_err().kind(), ErrorKind::Conflict);
    again.await.unwrap().unwrap();

    let first = spawning("second", "template");
    until_idle().await;
    let mut deleted = Vec::new();
    for name in ["d19", "d18", "d16"] {
        deleted.push(deleting(&mesh, name));
        until_idle().await;
    }
    first.await.unwrap().unwrap();
    for deleted in deleted {
        deleted.await.unwrap();
    }
    for name in ["d19", "d18"] {
        let called = mesh.invoke(call(name, "add")).await;
        assert_eq!(called.unwrap_err().kind(), ErrorKind::ActorNotFound, "{name}");
    }
    assert_eq!(mesh.invoke(call("d16", "add")).await.map(answered).unwrap(), 1, "a parent stays");
}

#[tokio::test(start_paused = true)]
async fn changes_beyond_the_bound_are_refused_and_what_waits_is_stored_before_the_end() {
    let mut settings = Settings::default();
    settings.admission.bytes = 20_000;
    let (mesh, slow) = slow(settings).await;
    let calls: Vec<_> = (0..200).map(|n| first_call(&mesh, &format!("a{n}"))).collect();
    until_idle().await;
    assert!(mesh.drain(Duration::from_secs(20)).await);
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await.unwrap().map_err(|error| error.kind()));
    }
    let count = |answer| answers.iter().filter(|one| **one == answer).count();
    let (refused, late) = (count(Err(ErrorKind::Overloaded)), count(Err(ErrorKind::Draining)));
    // Stored, and then refused since the proxy ends.
    assert_eq!(refused + late, 200, "{answers:?}");
    assert!((20..100).contains(&late), "{late} were stored");
    assert_eq!(Registry::load(&slow.memory).await.unwrap().len(), 1 + late);
}

#[tokio::test(start_paused = true)]
async fn a_change_that_cannot_begin_in_time_is_never_made() {
    let (mesh, slow) = slow(Settings::default()).await;
    let of = |name: &str| stored_id(name, "template");
    slow.hangs.store(true, Ordering::SeqCst);
    let started = Instant::now();
    let first = spawning(&mesh, vec![of("first")]);
    sleep(Duration::from_secs(1)).await;
    let second = spawning(&mesh, vec![of("second"), of("third")]);
    sleep(Duration::from_secs(1)).await;
    let third = spawning(&mesh, vec![of("third")]);
    let error = third.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StoreUnavailable, "{error}");
    assert!(error.is_retryable(), "{error}");
    assert_eq!(started.elapsed(), Duration::from_secs(12));
    slow.hangs.store(false, Ordering::SeqCst);
    let error = first.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StoreUnavailable, "{error}");
    assert!(
        !error.is_retryable() && error.to_string().contains("may have been changed"),
        "{error}"
    );
    // What the first one left in doubt is stored again meanwhile, which hangs, too.
    assert_eq!(second.await.unwrap().unwrap_err().kind(), ErrorKind::StoreUnavailable);
    spawning(&mesh, vec![of("fourth")]).await.unwrap().unwrap();
    let stored = Registry::load(&slow.memory).await.unwrap();
    let mut names: Vec<_> = stored.iter().map(|one| one.id().name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["fourth", "template"]);
}

#[tokio::test(start_paused = true)]
async fn an_actor_whose_parent_has_changed_goes_on_with_its_state_until_it_is_deleted() {
    let with_parent = |parent: &str| {
        let id = stored_id("joe", parent);
        Definition { id, kind: Kind::Unnamed, ..definition("joe") }
    };
    let mut world = world(counter()).await;
    world.register(vec![definition("joe")]).await.unwrap();
    for expected in 1..=5 {
        assert_eq!(world.add("joe").await.unwrap(), expected);
    }
    world.register(vec![with_parent("family")]).await.unwrap();
    assert_eq!(world.add("joe").await.unwrap(), 6);
    world = restarted(world).await;
    assert_eq!(world.add("joe").await.unwrap(), 7);
    world.register(vec![definition("joe")]).await.unwrap();
    assert_eq!(world.add("joe").await.unwrap(), 8);
    world.register(vec![with_parent("another")]).await.unwrap();
    world = restarted(world).await;
    let state = world.mesh.state("s", "joe").await.unwrap();
    assert_eq!(number(state.state.as_ref()), 8);

    // What an older version has left under another parent goes with it.
    let head = StateStore::load(&world.memory, &id("joe")).await.unwrap().unwrap();
    let old = Arc::new(stored_id("joe", "family"));
    let left_over = Save::of_head(old.clone(), Head { epoch: 99, ..head }, true);
    world.memory.save_all(vec![left_over]).await.pop().unwrap().unwrap();
    world.mesh.delete("s", "joe").await.unwrap();
    assert!(StateStore::load(&world.memory, &old).await.unwrap().is_none());
    for parent in ["another", "family", ""] {
        world.register(vec![with_parent(parent)]).await.unwrap();
        assert_eq!(world.mesh.state("s", "joe").await.unwrap_err().kind(), ErrorKind::NotFound);
    }
    assert_eq!(world.add("joe").await.unwrap(), 1);
    world = restarted(world).await;
    assert_eq!(world.add("joe").await.unwrap(), 2);
}
