//! Seen: a target forgets sources that have nothing pending, and no other ones (decision 18 i).

use super::*;

fn forgetful() -> Settings {
    rules(|rules| rules.max_seen = 4)
}

fn sources(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("source-{number:02}")).collect()
}

async fn all_registered(world: &World, sources: &[String]) {
    let names: Vec<&str> = sources.iter().map(String::as_str).chain(["sink"]).collect();
    registered(world, &names).await;
}

#[tokio::test(start_paused = true)]
async fn a_target_keeps_a_bounded_number_of_sources_in_mind_and_in_the_store() {
    let runs = Runs::default();
    let world = world_with(emitting(&runs, &["sink"]), forgetful(), MemoryStore::new()).await;
    let sources = sources(20);
    all_registered(&world, &sources).await;
    for round in 1..=3_u64 {
        for (number, source) in (1_u64..).zip(&sources) {
            assert_eq!(world.add(source).await.unwrap(), round);
            delivered().await;
            assert!(seen(&world, "sink").await <= 5, "{number}");
        }
        assert_eq!(count(&world, "sink").await, 20 * round);
    }
    assert_eq!(seen_names(&world, "sink").await.last(), sources.last());
    // What the store has is what is in memory: the next start goes on with it.
    let next = world_with(emitting(&runs, &["sink"]), forgetful(), world.memory).await;
    for source in &sources {
        assert_eq!(next.add(source).await.unwrap(), 4);
    }
    delivered().await;
    assert_eq!(count(&next, "sink").await, 80);
    for _ in 0..5 {
        next.add(&sources[0]).await.unwrap();
        delivered().await;
    }
    let left = seen(&next, "sink").await;
    assert!(left <= 5, "{left} after a burst of sources that had something pending");
}

#[tokio::test(start_paused = true)]
async fn a_source_whose_row_is_not_removed_yet_is_remembered_and_its_effect_counts_once() {
    let runs = Runs::default();
    let world = world_with(emitting(&runs, &["sink"]), forgetful(), MemoryStore::new()).await;
    let sources = sources(12);
    all_registered(&world, &sources).await;
    // All rows are there when the sink has answered, and none is removed: the removals are held back.
    for source in &sources {
        world.add(source).await.unwrap();
    }
    until_idle().await;
    assert_eq!(count(&world, "sink").await, 12);
    assert_eq!(world.memory.pending(None, 99).await.unwrap().items.len(), 12);
    assert_eq!(seen(&world, "sink").await, 12, "none of them may be forgotten");
    // The former start ends here, before it removes a row.
    let next = world_with(emitting(&runs, &["sink"]), forgetful(), world.memory.clone()).await;
    delivered().await;
    assert_eq!((count(&next, "sink").await, runs.of("sink").len()), (12, 12));
    next.add(&sources[0]).await.unwrap();
    delivered().await;
    next.add(&sources[1]).await.unwrap();
    delivered().await;
    assert_eq!(count(&next, "sink").await, 14);
    assert!(seen(&next, "sink").await <= 12);
}
