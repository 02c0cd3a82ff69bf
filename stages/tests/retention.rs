//! Histories are kept as long as retention says; the newest revision is always kept.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::Duration;

use support::*;
use tidegate_stages::history::Retention;
use tidegate_stages::memory::MemoryStore;
use tidegate_stages::ports::StoreError;
use tidegate_stages::rules::Revisions;
use tidegate_stages::topology::Settings;
use tokio::time::sleep;

const HOUR: Duration = Duration::from_hours(1);

async fn keeping(retention: Retention) -> World {
    let mut settings = Settings { retention, ..Settings::default() };
    settings.rules.revisions = Revisions::Every;
    let world = world_with(counter(), settings, MemoryStore::new()).await;
    world.register(vec![definition("joe"), definition("moe")]).await.unwrap();
    world
}

#[tokio::test(start_paused = true)]
async fn a_history_that_grows_is_cut_to_its_newest_revisions() {
    let world = keeping(Retention { revisions: Some(5), age: None }).await;
    for _ in 0..100 {
        world.add("joe").await.unwrap();
    }
    world.add("moe").await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(history(&world, "joe").await, [96, 97, 98, 99, 100]);
    assert_eq!(history(&world, "moe").await, [1]);
}

#[tokio::test(start_paused = true)]
async fn what_is_too_old_goes_though_nobody_calls_and_the_newest_stays() {
    let world = keeping(Retention { revisions: None, age: Some(24 * HOUR) }).await;
    world.add("joe").await.unwrap();
    world.add("joe").await.unwrap();
    world.clock.advance(20 * HOUR);
    world.add("joe").await.unwrap();
    world.add("moe").await.unwrap();
    sleep(2 * HOUR).await;
    assert_eq!(history(&world, "joe").await, [1, 2, 3]);
    world.clock.advance(10 * HOUR);
    sleep(2 * HOUR).await;
    assert_eq!(history(&world, "joe").await, [3]);
    world.clock.advance(1_000 * HOUR);
    sleep(2 * HOUR).await;
    assert_eq!((history(&world, "joe").await, history(&world, "moe").await), (vec![3], vec![1]));
    // The numbers continue from there.
    world.add("joe").await.unwrap();
    assert_eq!(history(&world, "joe").await, [3, 4]);
    assert_eq!(world.head("joe").await.unwrap().revision, 4);
}

#[tokio::test(start_paused = true)]
async fn a_history_that_could_not_be_pruned_is_pruned_a_minute_later() {
    let world = keeping(Retention { revisions: None, age: Some(HOUR) }).await;
    world.add("joe").await.unwrap();
    world.add("joe").await.unwrap();
    world.clock.advance(2 * HOUR);
    world.store.refuse_prunes(Some(StoreError::Full("no space".into())));
    // The first round begins a minute after the start.
    sleep(Duration::from_secs(90)).await;
    assert_eq!(history(&world, "joe").await, [1, 2]);
    world.store.refuse_prunes(None);
    sleep(Duration::from_mins(2)).await;
    assert_eq!(history(&world, "joe").await, [2]);
}

#[tokio::test(start_paused = true)]
async fn a_drain_does_not_wait_for_a_round() {
    let world = keeping(Retention { revisions: Some(5), age: Some(HOUR) }).await;
    world.add("joe").await.unwrap();
    assert!(world.mesh.drain(Duration::from_secs(5)).await);
}
