//! What is registered while actors are deleted and spawned again: the same before and after a restart.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::future::Future;
use std::time::Duration;

use support::*;
use tidegate_stages::error::{Error, ErrorKind};
use tidegate_stages::ports::StateStore;
use tidegate_stages::topology::Settings;

async fn restarted(world: World) -> World {
    let memory = world.memory.clone();
    assert!(world.house.drain(Duration::from_secs(5)).await);
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
    world.house.delete("s", "parent").await.unwrap();
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

    world.house.delete("s", "child").await.unwrap();
    world.house.delete("s", "parent").await.unwrap();
    for _ in 0..2 {
        for name in ["child", "parent"] {
            assert_eq!(kind(world.add(name)).await, ErrorKind::ActorNotFound);
        }
        let orphan = world.spawn("child", "parent").await.unwrap_err();
        assert_eq!(orphan.kind(), ErrorKind::ActorNotFound, "{orphan}");
        world = restarted(world).await;
    }
}
