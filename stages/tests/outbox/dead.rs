//! Dead: effects that cannot be delivered.

use super::*;

#[tokio::test(start_paused = true)]
async fn an_unknown_target_or_action_is_a_dead_letter_that_blocks_nothing_and_stays() {
    let memory = MemoryStore::new();
    let effects = || vec![call("nobody", "add"), call("sink", "fly"), call("sink", "add")];
    let dead = || {
        host(move |invocation| async move {
            let mut response = counted(&invocation);
            if invocation.actor.name == "source" {
                response.workflow.effects = effects();
            }
            Ok(response)
        })
    };
    let world =
        world_with(dead(), rules(|rules| rules.max_pending_effects = 6), memory.clone()).await;
    registered(&world, &["source", "sink"]).await;
    for expected in 1..=4 {
        assert_eq!(world.add("source").await.unwrap(), expected, "dead letters do not count");
        delivered().await;
    }
    assert_eq!(count(&world, "sink").await, 4);
    let kept = rows(&world, "source").await;
    assert_eq!(kept.len(), 8);
    for record in &kept {
        let reason = &record.dead.as_ref().unwrap().reason;
        assert!(reason.contains("not found"), "{reason}");
    }
    let next = world_with(dead(), Settings::default(), memory).await;
    registered(&next, &["nobody"]).await;
    next.add("source").await.unwrap();
    delivered().await;
    assert_eq!(count(&next, "sink").await, 5);
    assert_eq!(count(&next, "nobody").await, 1, "only the new one");
    assert_eq!(rows(&next, "source").await[..8], kept);
}

#[tokio::test(start_paused = true)]
async fn an_effect_is_dead_after_a_day_of_tries() {
    let tries = Arc::new(AtomicU64::new(0));
    let counted_tries = tries.clone();
    let world = world(host(move |invocation| {
        let mut response = counted(&invocation);
        let tries = counted_tries.clone();
        async move {
            if invocation.actor.name == "source" {
                response.workflow.effects = vec![call("sink", "add")];
                return Ok(response);
            }
            tries.fetch_add(1, Ordering::SeqCst);
            Err(broken())
        }
    }))
    .await;
    registered(&world, &["source", "sink"]).await;
    world.add("source").await.unwrap();
    sleep(Duration::from_hours(1)).await;
    let before = tries.load(Ordering::SeqCst);
    assert!(before > 50, "{before}");
    assert!(rows(&world, "source").await[0].dead.is_none());
    world.clock.advance(Duration::from_hours(24));
    sleep(Duration::from_mins(2)).await;
    let dead = rows(&world, "source").await.remove(0).dead.unwrap();
    assert!(dead.reason.contains("broke off"), "{}", dead.reason);
    let all = tries.load(Ordering::SeqCst);
    sleep(Duration::from_hours(1)).await;
    assert_eq!(tries.load(Ordering::SeqCst), all);
}
