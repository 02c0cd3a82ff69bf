//! Bounds: how many effects there may be, and what happens to more.

use super::*;

#[tokio::test(start_paused = true)]
async fn more_effects_than_memory_holds_are_read_from_the_store_in_order() {
    let runs = Runs::default();
    let away = Arc::new(AtomicU64::new(1));
    let is_away = away.clone();
    let (emitter, log) = (runs.clone(), runs.clone());
    let world = world(host(move |invocation| {
        let mut response = emit(&emitter, &[], &invocation);
        let is_away = is_away.load(Ordering::SeqCst) == 1;
        if invocation.actor.name == "source" {
            let base = number(invocation.state.as_ref()) * 200;
            let effects = (1..=200).map(|n| Invocation {
                payload: Payload::Value(any(base + n)),
                ..call(if n % 2 == 0 { "even" } else { "odd" }, "add")
            });
            response.workflow.effects = effects.collect();
        } else if is_away {
            log.0.lock().pop();
        }
        async move {
            if is_away && invocation.actor.name != "source" { Err(broken()) } else { Ok(response) }
        }
    }))
    .await;
    registered(&world, &["source", "even", "odd"]).await;
    for _ in 0..5 {
        world.add("source").await.unwrap();
    }
    delivered().await;
    away.store(0, Ordering::SeqCst);
    sleep(Duration::from_mins(5)).await;
    let expected = |rest| (1..=1_000).filter(|n| n % 2 == rest).collect::<Vec<u64>>();
    assert_eq!(runs.of("even"), expected(0));
    assert_eq!(runs.of("odd"), expected(1));
    assert!(rows(&world, "source").await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn one_response_has_a_bound_and_so_have_the_pending_effects_of_a_source() {
    let many = Arc::new(AtomicU64::new(257));
    let asked = many.clone();
    let memory = MemoryStore::new();
    let make = move || {
        let asked = asked.clone();
        host(move |invocation| {
            let many = asked.load(Ordering::SeqCst);
            let mut response = counted(&invocation);
            async move {
                if invocation.actor.name == "sink" {
                    return Err(broken());
                }
                response.workflow.effects = (0..many).map(|_| call("sink", "add")).collect();
                Ok(response)
            }
        })
    };
    let world = world_with(make(), Settings::default(), memory.clone()).await;
    registered(&world, &["source", "sink"]).await;
    let error = world.add("source").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
    assert!(error.to_string().contains("not kept"), "{error}");
    assert!(world.head("source").await.is_none() && rows(&world, "source").await.is_empty());
    many.store(256, Ordering::SeqCst);
    for _ in 0..4 {
        world.add("source").await.unwrap();
    }
    let refused = world.add("source").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Overloaded, "{refused}");
    assert!(refused.is_retryable());
    // A next start counts what is there.
    let next = world_with(make(), Settings::default(), memory).await;
    delivered().await;
    let refused = next.add("source").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Overloaded, "{refused}");
    assert_eq!(rows(&next, "source").await.len(), 1_024);
}

#[tokio::test(start_paused = true)]
async fn an_effect_larger_than_the_bound_of_memory_is_delivered_all_the_same() {
    let runs = Runs::default();
    let bound = tidegate_pipeline::Bound { events: 8, bytes: 16 };
    let settings = Settings { effects: bound, ..Settings::default() };
    let world = world_with(emitting(&runs, &["sink", "other"]), settings, MemoryStore::new()).await;
    registered(&world, &["source", "sink", "other"]).await;
    for _ in 0..3 {
        world.add("source").await.unwrap();
    }
    delivered().await;
    assert_eq!((runs.of("sink"), runs.of("other")), (vec![1, 2, 3], vec![1, 2, 3]));
}
