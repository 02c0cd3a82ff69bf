//! A deleted actor of which rows of effects are left goes on with its key when it is spawned again (decision 48).
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test; it awaits its tasks")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use support::*;
use tidegate_stages::actor::ActorId;
use tidegate_stages::error::ErrorKind;
use tidegate_stages::memory::MemoryStore;
use tidegate_stages::outbox::{EffectId, EffectRows, EffectSource, Seen, SourceKind};
use tidegate_stages::ports::{HostError, Registered, Registry, Save, StateStore};
use tidegate_stages::testkit::conformance::effects::appends;
use tidegate_stages::topology::Settings;
use tokio::time::sleep;

async fn restarted(world: World) -> World {
    let memory = world.memory.clone();
    assert!(world.mesh.drain(Duration::from_secs(5)).await);
    world_with(counter(), Settings::default(), memory).await
}

fn key(parent: &str) -> Arc<ActorId> {
    Arc::new(stored_id("joe", parent))
}

/// Writes rows of effects of an actor, which no action can ask for yet.
async fn put_rows(memory: &MemoryStore, actor: &Arc<ActorId>, rows: EffectRows) {
    let save = Save::of_rows(actor.clone(), u64::MAX >> 1, rows);
    memory.save_all(vec![save]).await.pop().unwrap().unwrap();
}

/// The acknowledgement of what `appends(0..1)` asks for.
fn delivered() -> EffectRows {
    let acknowledged = appends(0..1).appends.iter().map(|row| row.key).collect();
    EffectRows { acknowledged, ..EffectRows::default() }
}

async fn registered(memory: &MemoryStore, name: &str) -> Option<Registered> {
    let all = Registry::load(memory).await.unwrap();
    all.into_iter().find(|one| one.id().name == name)
}

async fn has_head(memory: &MemoryStore, parent: &str) -> bool {
    StateStore::load(memory, &key(parent)).await.unwrap().is_some()
}

#[tokio::test(start_paused = true)]
async fn an_actor_spawned_again_under_another_parent_goes_on_with_its_key() {
    // It is never known that due work cannot come again.
    let source = EffectSource { kind: SourceKind::Due, system: "s".into(), name: "t".into() };
    let seen = vec![Seen { source: source.into(), id: EffectId::default() }];
    for rows in [appends(0..1), EffectRows { seen, ..EffectRows::default() }] {
        for (restarts_deleted, restarts_spawned) in [(false, true), (true, false), (true, true)] {
            let mut world = world(counter()).await;
            world.register(vec![definition("template"), definition("other")]).await.unwrap();
            world.spawn("joe", "template").await.unwrap();
            assert_eq!(world.add("joe").await.unwrap(), 1);
            put_rows(&world.memory, &key("template"), rows.clone()).await;
            world.mesh.delete("s", "joe").await.unwrap();
            assert_eq!(
                registered(&world.memory, "joe").await,
                Some(Registered::deleted(key("template")))
            );
            if restarts_deleted {
                world = restarted(world).await;
            }
            assert_eq!(world.add("joe").await.unwrap_err().kind(), ErrorKind::ActorNotFound);
            world.spawn("joe", "other").await.unwrap();
            if restarts_spawned {
                world = restarted(world).await;
            }
            assert_eq!(world.add("joe").await.unwrap(), 1, "its state is gone");
            let (memory, kept) = (&world.memory, key("template"));
            assert!(has_head(memory, "template").await && !has_head(memory, "other").await);
            assert_eq!(memory.seen(&kept).await.unwrap(), rows.seen);
            assert_eq!(memory.outbox(&kept, None, 9).await.unwrap().items, rows.appends);
            let spawned = registered(memory, "joe").await.unwrap();
            assert_eq!((spawned.id().parent.as_str(), &spawned.key), ("other", &kept));
            // A delete of the spawned again keeps it, too; and so does a definition of that name.
            world.mesh.delete("s", "joe").await.unwrap();
            world.register(vec![definition("joe")]).await.unwrap();
            assert_eq!(world.add("joe").await.unwrap(), 1);
            assert!(
                has_head(&world.memory, "template").await && !has_head(&world.memory, "").await
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_deleted_actor_has_seen_of_topics_goes_with_it_and_stays_where_it_stays() {
    let source = EffectSource { kind: SourceKind::Topic, system: "s".into(), name: "t".into() };
    let of_topic = || Seen { source: source.clone().into(), id: EffectId::default() };
    let world = world(counter()).await;
    world.register(vec![definition("template"), definition("named")]).await.unwrap();
    world.spawn("joe", "template").await.unwrap();
    for key in [key("template"), Arc::new(id("named"))] {
        put_rows(&world.memory, &key, EffectRows { seen: vec![of_topic()], ..appends(0..1) }).await;
        world.mesh.delete("s", &key.name).await.unwrap();
        let is_left = world.memory.seen(&key).await.unwrap() == [of_topic()];
        assert_eq!(is_left, key.name == "named", "{}", key.name);
        assert_eq!(world.memory.outbox(&key, None, 9).await.unwrap().items.len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_kept_of_a_deleted_actor_without_rows() {
    let world = world(counter()).await;
    world.register(vec![definition("template"), definition("other")]).await.unwrap();
    world.spawn("joe", "template").await.unwrap();
    put_rows(&world.memory, &key("template"), appends(0..1)).await;
    put_rows(&world.memory, &key("template"), delivered()).await;
    world.mesh.delete("s", "joe").await.unwrap();
    assert_eq!(registered(&world.memory, "joe").await, None);
    world.spawn("joe", "other").await.unwrap();
    world.add("joe").await.unwrap();
    assert!(has_head(&world.memory, "other").await);
}

/// A counter. `source` has joe called, who breaks off as long as it is told.
fn calling(breaks: &Arc<AtomicBool>) -> BoxedHost {
    let breaks = breaks.clone();
    host(move |invocation| {
        let breaks = invocation.actor.name == "joe" && breaks.load(Ordering::SeqCst);
        async move {
            let mut response = counted(&invocation);
            if invocation.actor.name == "source" {
                response.workflow.effects = vec![call("joe", "add")];
            }
            let (address, reason) = ("h".into(), "reset".into());
            if breaks { Err(HostError::Broken { address, reason }) } else { Ok(response) }
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_deleted_actor_forgets_what_it_has_seen_when_none_of_it_can_come_again() {
    let breaks = Arc::new(AtomicBool::new(false));
    let mut world = world(calling(&breaks)).await;
    world.register(["template", "source"].map(definition).to_vec()).await.unwrap();
    // After a restart it is not in memory, and what it has seen lies under a former epoch.
    for is_restarted in [false, true] {
        world.spawn("joe", "template").await.unwrap();
        world.add("source").await.unwrap();
        sleep(Duration::from_secs(1)).await;
        assert_eq!(world.memory.seen(&key("template")).await.unwrap().len(), 1);
        if is_restarted {
            let memory = world.memory.clone();
            assert!(world.mesh.drain(Duration::from_secs(5)).await);
            world = world_with(calling(&breaks), Settings::default(), memory).await;
            sleep(Duration::from_secs(1)).await;
        }
        world.mesh.delete("s", "joe").await.unwrap();
        assert_eq!(registered(&world.memory, "joe").await, None);
        assert!(world.memory.seen(&key("template")).await.unwrap().is_empty());
    }
    // One more effect is on its way.
    world.spawn("joe", "template").await.unwrap();
    world.add("source").await.unwrap();
    sleep(Duration::from_secs(1)).await;
    breaks.store(true, Ordering::SeqCst);
    world.add("source").await.unwrap();
    sleep(Duration::from_secs(1)).await;
    world.mesh.delete("s", "joe").await.unwrap();
    let kept = registered(&world.memory, "joe").await;
    assert_eq!(kept, Some(Registered::deleted(key("template"))));
    assert_eq!(world.memory.seen(&key("template")).await.unwrap().len(), 1);
    // It finds no actor, so it is over, and so is what was kept.
    sleep(Duration::from_mins(10)).await;
    assert_eq!(registered(&world.memory, "joe").await, None);
    assert!(world.memory.seen(&key("template")).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_deleted_actor_s_key_goes_with_its_last_effect() {
    let breaks = Arc::new(AtomicBool::new(true));
    let mut settings = Settings::default();
    settings.registry.system = 3;
    let world = world_with(calling(&breaks), settings, MemoryStore::new()).await;
    world.register(["template", "joe"].map(definition).to_vec()).await.unwrap();
    world.spawn("source", "template").await.unwrap();
    world.add("source").await.unwrap();
    sleep(Duration::from_secs(1)).await;
    world.mesh.delete("s", "source").await.unwrap();
    sleep(Duration::from_mins(3)).await;
    assert!(registered(&world.memory, "source").await.is_some(), "its effect is not delivered");
    assert!(world.spawn("moe", "template").await.is_err());
    breaks.store(false, Ordering::SeqCst);
    sleep(Duration::from_mins(10)).await;
    assert_eq!(registered(&world.memory, "source").await, None);
    assert_eq!(world.add("joe").await.unwrap(), 2, "it is delivered");
    world.spawn("moe", "template").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_key_whose_rows_cannot_be_read_holds_up_no_other() {
    let world = world(counter()).await;
    world.register(vec![definition("template")]).await.unwrap();
    for unreadable in ["first", "second"] {
        for name in ["first", "second"] {
            world.spawn(name, "template").await.unwrap();
            put_rows(&world.memory, &Arc::new(stored_id(name, "template")), appends(0..1)).await;
            world.mesh.delete("s", name).await.unwrap();
            put_rows(&world.memory, &Arc::new(stored_id(name, "template")), delivered()).await;
        }
        world.store.refuse_outbox_of(Some(unreadable));
        sleep(Duration::from_mins(5)).await;
        for name in ["first", "second"] {
            assert_eq!(registered(&world.memory, name).await.is_some(), name == unreadable);
        }
        world.store.refuse_outbox_of(None);
        sleep(Duration::from_mins(5)).await;
        assert_eq!(registered(&world.memory, unreadable).await, None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_kept_key_counts_as_registered_and_its_actor_finds_its_capacity_again() {
    let mut settings = Settings::default();
    settings.registry.system = 3;
    let memory = MemoryStore::new();
    let mut world = world_with(counter(), settings.clone(), memory.clone()).await;
    world.register(vec![definition("template"), definition("other")]).await.unwrap();
    world.spawn("joe", "template").await.unwrap();
    put_rows(&memory, &key("template"), appends(0..1)).await;
    world.mesh.delete("s", "joe").await.unwrap();
    for _ in 0..2 {
        let full = world.spawn("moe", "template").await.unwrap_err();
        assert_eq!(full.kind(), ErrorKind::Overloaded, "{full}");
        world.mesh.drain(Duration::from_secs(5)).await;
        world = world_with(counter(), settings.clone(), memory.clone()).await;
    }
    world.spawn("joe", "other").await.unwrap();
    assert_eq!(world.add("joe").await.unwrap(), 1);
    assert!(world.spawn("moe", "template").await.is_err());
}
