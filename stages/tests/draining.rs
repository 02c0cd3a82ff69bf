//! Draining: due work and effects stop first, what was admitted finishes, and nothing that waits is lost.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::time::Duration;

use tidegate_stages::invocation::{ActorInvocation, Invocation};
use tidegate_stages::memory::MemoryStore;
use tidegate_stages::ports::{Clock, DueStore, StateStore};
use tidegate_stages::topology::Settings;
use tokio::time::sleep;

use support::*;

const SECOND: Duration = Duration::from_secs(1);
const EFFECTS: u64 = 40;

/// `source` has an effect on `sink` with each call; every action takes a while.
fn sending() -> BoxedHost {
    host(|invocation: ActorInvocation| async move {
        sleep(SECOND / 10).await;
        let mut answer = counted(&invocation);
        if invocation.actor.name == "source" {
            answer.workflow.effects = vec![call("sink", "add")];
        }
        Ok(answer)
    })
}

#[tokio::test(start_paused = true)]
async fn a_drain_stops_effects_and_due_work_first_and_loses_neither() {
    let memory = MemoryStore::new();
    let first = world_with(sending(), Settings::default(), memory.clone()).await;
    first.register(["source", "sink", "later"].map(definition).to_vec()).await.unwrap();
    let at_ms = first.clock.now().0 / 1_000 + 1_000;
    for _ in 0..EFFECTS {
        let scheduled_to = i64::try_from(at_ms).unwrap();
        first.mesh.invoke(Invocation { scheduled_to, ..call("later", "add") }).await.unwrap();
    }
    let calls: Vec<_> = (0..EFFECTS).map(|_| first.start(call("source", "add"))).collect();
    sleep(SECOND).await;
    first.clock.advance(2 * SECOND);
    sleep(SECOND).await;
    // Both have begun, and neither is done.
    assert!(first.mesh.drain(30 * SECOND).await, "all that was admitted finishes");
    for call in calls {
        call.await.unwrap().unwrap();
    }
    let of = |world: &World, name: &'static str| {
        let head = world.memory.load(&id(name));
        async move { head.await.unwrap().map_or(0, |head| number(head.content.state.as_ref())) }
    };
    assert_eq!(of(&first, "source").await, EFFECTS);
    let waiting = memory.outbox(&id("source"), None, 1_000).await.unwrap().items.len();
    let due = memory.due(None, 1_000).await.unwrap().items.len();
    assert!(waiting > 0 && due > 0, "{waiting} effects and {due} due calls are left");

    let second = world_with(sending(), Settings::default(), memory.clone()).await;
    second.clock.advance(10 * SECOND);
    for _ in 0..60 {
        sleep(SECOND).await;
    }
    assert_eq!((of(&second, "sink").await, of(&second, "later").await), (EFFECTS, EFFECTS));
    assert!(memory.outbox(&id("source"), None, 1).await.unwrap().items.is_empty());
    assert!(memory.due(None, 1).await.unwrap().items.is_empty());
}
