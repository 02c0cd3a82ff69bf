//! Kept: how many dead letters there are at most.

use super::*;
use tidegate_pipeline::Bound;
use tidegate_stages::topology::DeadLetterBounds;

fn bounded(events: usize) -> Settings {
    let of_source = Bound { events, bytes: 1 << 20 };
    let dead_letters = DeadLetterBounds { of_source, ..DeadLetterBounds::default() };
    Settings { dead_letters, ..Settings::default() }
}

/// What the dead letters of the source were to send.
async fn kept(world: &World) -> Vec<u64> {
    let rows = rows(world, "source").await;
    let value = |record: Record| match record.invocation.payload {
        Payload::Value(any) => number(Some(&any)),
        _ => 0,
    };
    rows.into_iter().map(value).collect()
}

#[tokio::test(start_paused = true)]
async fn the_first_dead_letters_of_a_source_are_dropped_when_there_are_too_many() {
    let host = || emitting(&Runs::default(), &["sink"]);
    let world = world_with(host(), bounded(3), MemoryStore::new()).await;
    registered(&world, &["source"]).await;
    for _ in 0..5 {
        world.add("source").await.unwrap();
        delivered().await;
    }
    assert_eq!(kept(&world).await, [3, 4, 5]);
    let next = world_with(host(), bounded(2), world.memory.clone()).await;
    delivered().await;
    assert_eq!(kept(&next).await, [4, 5], "a start drops those beyond a smaller bound");
    next.add("source").await.unwrap();
    delivered().await;
    assert_eq!(kept(&next).await, [5, 6]);
}
