//! Registered and spawned actors.

use super::*;

#[tokio::test(start_paused = true)]
async fn spawned_actors_use_their_template_and_keep_their_own_state() {
    let world = world(host(|invocation| async move {
        assert_eq!(invocation.actor.parent, "template");
        Ok(counted(&invocation))
    }))
    .await;
    let template = Definition { kind: Kind::Unnamed, ..definition("template") };
    world.register(vec![template, definition("other")]).await.unwrap();
    world.spawn("joe", "template").await.unwrap();
    world.spawn("joe", "template").await.unwrap();
    assert_eq!(world.add("joe").await.unwrap(), 1);
    let by_reference = Invocation { register_ref: "template".into(), ..call("moe", "add") };
    assert_eq!(answered(world.mesh.invoke(by_reference.clone()).await.unwrap()), 1);
    assert_eq!(answered(world.mesh.invoke(by_reference).await.unwrap()), 2);
    // The Go SDK's way: its own name as the reference, the definition as the parent.
    let mut go = Invocation { register_ref: "zoe".into(), ..call("zoe", "add") };
    go.actor.parent = "template".into();
    assert_eq!(answered(world.mesh.invoke(go.clone()).await.unwrap()), 1);
    assert_eq!(answered(world.mesh.invoke(go).await.unwrap()), 2);
    assert_eq!(world.spawn("x", "nowhere").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(world.spawn("joe", "other").await.unwrap_err().kind(), ErrorKind::Conflict);
    let nameless = world.spawn("", "template").await.unwrap_err();
    assert_eq!(nameless.kind(), ErrorKind::Invalid);
}

#[tokio::test(start_paused = true)]
async fn registered_and_spawned_actors_survive_a_restart() {
    let memory = MemoryStore::new();
    {
        let world = world_with(counter(), Settings::default(), memory.clone()).await;
        world.register(vec![definition("template")]).await.unwrap();
        world.spawn("joe", "template").await.unwrap();
        world.spawn("joe-junior", "joe").await.unwrap();
        assert_eq!(world.add("joe").await.unwrap(), 1);
        assert_eq!(world.add("joe-junior").await.unwrap(), 1);
    }
    let world = world_with(counter(), Settings::default(), memory).await;
    assert_eq!(world.add("joe").await.unwrap(), 2);
    assert_eq!(world.add("joe-junior").await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn registering_again_replaces_the_definition_and_keeps_the_state() {
    let world = world(counter()).await;
    world.register(vec![definition("joe")]).await.unwrap();
    assert_eq!(world.add("joe").await.unwrap(), 1);
    let changed = Definition { actions: vec!["fly".into()], ..definition("joe") };
    world.register(vec![changed]).await.unwrap();
    assert_eq!(world.add("joe").await.unwrap_err().kind(), ErrorKind::ActionNotFound);
    assert_eq!(answered(world.mesh.invoke(call("joe", "fly")).await.unwrap()), 2);
}
