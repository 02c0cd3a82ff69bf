//! Once: what is lost between the commit of a source and that of its target, and what is never lost.

use super::*;

#[tokio::test(start_paused = true)]
async fn an_effect_is_a_row_of_its_commit_until_its_target_has_answered() {
    let runs = Runs::default();
    let world = world(emitting(&runs, &["sink", "other"])).await;
    registered(&world, &["source", "sink", "other"]).await;
    world.store.hold_saves();
    let source = world.start(call("source", "add"));
    sleep(Duration::from_millis(10)).await;
    assert!(!source.is_finished() && runs.of("sink").is_empty(), "not before it is durable");
    world.store.release_saves();
    source.await.unwrap().unwrap();
    delivered().await;
    assert_eq!((runs.of("sink"), runs.of("other")), (vec![1], vec![1]));
    assert_eq!((count(&world, "sink").await, seen(&world, "sink").await), (1, 1));
    assert!(rows(&world, "source").await.is_empty(), "answered rows are removed");
}

#[tokio::test(start_paused = true)]
async fn in_snapshot_mode_a_turn_with_effects_commits_before_its_reply_and_so_does_its_target() {
    let runs = Runs::default();
    let settings = rules_of(Durability::Snapshot);
    let world = world_with(emitting(&runs, &["sink"]), settings, MemoryStore::new()).await;
    registered(&world, &["source", "sink", "idle"]).await;
    world.add("idle").await.unwrap();
    assert_eq!(count(&world, "idle").await, 0, "nothing is written without effects");
    world.add("source").await.unwrap();
    assert_eq!(count(&world, "source").await, 1);
    delivered().await;
    assert_eq!((count(&world, "sink").await, seen(&world, "sink").await), (1, 1));
    assert_eq!(world.head("sink").await.unwrap().revision, 0);
}

#[tokio::test(start_paused = true)]
async fn a_next_start_delivers_what_a_crash_left_once_and_in_order() {
    for orderly in [false, true] {
        let runs = Runs::default();
        // The target never answers.
        let (silent, first) = (runs.clone(), Arc::new(AtomicU64::new(0)));
        let tries = first.clone();
        let memory = MemoryStore::new();
        let world = world_with(
            host(move |invocation| {
                let response = emit(&silent, &["sink", "other"], &invocation);
                let tries = tries.clone();
                async move {
                    if invocation.actor.name == "sink" {
                        tries.fetch_add(1, Ordering::SeqCst);
                        return Err(broken());
                    }
                    Ok(response)
                }
            }),
            Settings::default(),
            memory.clone(),
        )
        .await;
        registered(&world, &["source", "sink", "other"]).await;
        for _ in 0..5 {
            world.add("source").await.unwrap();
        }
        delivered().await;
        assert_eq!(runs.of("other"), [1, 2, 3, 4, 5], "one target delays no other");
        assert!(first.load(Ordering::SeqCst) > 1, "it is tried again");
        assert_eq!(rows(&world, "source").await.len(), 5);
        if orderly {
            assert!(world.mesh.drain(Duration::from_secs(10)).await, "it waits for no target");
            assert_eq!(rows(&world, "source").await.len(), 5);
        }
        // The former start may go on: what it does is lost.
        let runs = Runs::default();
        let next = world_with(emitting(&runs, &["sink"]), Settings::default(), memory).await;
        delivered().await;
        assert_eq!(runs.of("sink"), [1, 2, 3, 4, 5], "nobody has called");
        assert!(runs.of("other").is_empty());
        assert_eq!(count(&next, "sink").await, 5);
        next.add("source").await.unwrap();
        delivered().await;
        assert_eq!(runs.of("sink"), [1, 2, 3, 4, 5, 6]);
        assert!(rows(&next, "source").await.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn an_effect_that_its_target_has_answered_is_not_run_again_after_a_crash() {
    let runs = Runs::default();
    let memory = MemoryStore::new();
    let world = world_with(emitting(&runs, &["sink"]), Settings::default(), memory.clone()).await;
    registered(&world, &["source", "sink"]).await;
    world.add("source").await.unwrap();
    until_idle().await;
    assert_eq!((count(&world, "sink").await, rows(&world, "source").await.len()), (1, 1));
    // It ends between the answer and the removal of the row.
    let next = world_with(emitting(&runs, &["sink"]), Settings::default(), memory).await;
    delivered().await;
    assert_eq!((runs.of("sink"), count(&next, "sink").await), (vec![1], 1));
    assert!(rows(&next, "source").await.is_empty());
    // Nor is it when the target was out of memory meanwhile.
    next.add("source").await.unwrap();
    delivered().await;
    assert_eq!(count(&next, "sink").await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_left_memory_recognises_what_it_has_answered() {
    let runs = Runs::default();
    let world = world(emitting(&runs, &["sink"])).await;
    let idle = Some(Duration::from_secs(1));
    let sink = Definition { deactivate_after: idle, ..definition("sink") };
    world.register(vec![definition("source"), sink]).await.unwrap();
    world.add("source").await.unwrap();
    until_idle().await;
    let row = world.memory.outbox(&id("source"), None, 1).await.unwrap().items.remove(0);
    sleep(Duration::from_secs(5)).await;
    assert!(rows(&world, "source").await.is_empty());
    // The same effect once more, as a start would find it.
    let rows = tidegate_stages::outbox::EffectRows { appends: vec![row], ..Default::default() };
    let save = tidegate_stages::ports::Save::of_rows(id("source").into(), 9, rows);
    world.memory.save_all(vec![save]).await.pop().unwrap().unwrap();
    let next =
        world_with(emitting(&runs, &["sink"]), Settings::default(), world.memory.clone()).await;
    delivered().await;
    assert_eq!((runs.of("sink"), count(&next, "sink").await), (vec![1], 1));
}

#[tokio::test(start_paused = true)]
async fn every_complete_answer_counts_and_a_lost_one_does_not() {
    let tries = Arc::new(Mutex::new(Vec::new()));
    let seen_tries = tries.clone();
    let world = world(host(move |invocation| {
        let name = invocation.actor.name.clone();
        seen_tries.lock().push(name.clone());
        let nth = seen_tries.lock().iter().filter(|of| **of == name).count();
        let mut response = counted(&invocation);
        if name == "source" {
            response.workflow.effects = ["garbled", "rejected", "routed", "large", "lost"]
                .map(|name| call(name, "add"))
                .to_vec();
        }
        async move {
            match name.as_str() {
                "garbled" => {
                    Err(HostError::Garbled { address: "h".into(), answer: "nothing".into() })
                }
                "rejected" => {
                    let (address, body) = ("h".into(), "no".into());
                    Err(HostError::Rejected { address, status: 422, body })
                }
                "routed" => {
                    let (actor, action) = ("nobody".into(), "add".into());
                    let routing = Some(Routing::Pipe { actor, action });
                    let workflow = Workflow { routing, ..Workflow::default() };
                    Ok(ActorInvocationResponse { workflow, ..response })
                }
                "large" => {
                    let effects = (0..257).map(|_| call("sink", "add")).collect();
                    response.workflow.effects = effects;
                    Ok(response)
                }
                "lost" if nth < 3 => Err(broken()),
                _ => Ok(response),
            }
        }
    }))
    .await;
    let names = ["source", "garbled", "rejected", "routed", "large", "lost"];
    registered(&world, &names).await;
    world.add("source").await.unwrap();
    sleep(Duration::from_secs(30)).await;
    let mut tries = tries.lock().clone();
    tries.sort_unstable();
    let once_each = ["garbled", "large", "lost", "lost", "lost", "rejected", "routed", "source"];
    assert_eq!(tries, once_each);
    for name in ["garbled", "rejected", "routed", "large"] {
        assert_eq!((count(&world, name).await, seen(&world, name).await), (0, 1), "{name}");
        assert!(world.head(name).await.is_none(), "a target without a state has none");
    }
    assert_eq!(count(&world, "lost").await, 1);
    assert!(rows(&world, "source").await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_target_whose_commit_is_lost_or_in_doubt_counts_once() {
    for error in [StoreError::Unavailable("away".into()), StoreError::Unknown("cut".into())] {
        for fault in [SaveFault::Lose(error.clone()), SaveFault::WriteAndFail(error.clone())] {
            if matches!((&fault, &error), (SaveFault::WriteAndFail(_), StoreError::Unavailable(_)))
            {
                continue;
            }
            let runs = Runs::default();
            let world = world(emitting(&runs, &["sink"])).await;
            registered(&world, &["source", "sink"]).await;
            world.add("source").await.unwrap();
            // The next save is that of the target.
            world.store.fail_next_save(fault.clone());
            sleep(Duration::from_mins(2)).await;
            assert_eq!(count(&world, "sink").await, 1, "{fault:?}");
            assert_eq!(seen(&world, "sink").await, 1);
            assert!(rows(&world, "source").await.is_empty());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_effect_of_a_lost_state_is_never_delivered_and_one_in_doubt_is_once() {
    let lost = SaveFault::Lose(StoreError::Unavailable("away".into()));
    let doubt = SaveFault::Lose(StoreError::Unknown("cut".into()));
    for (fault, times) in [(lost, 0), (doubt, 1)] {
        let runs = Runs::default();
        let world = world(emitting(&runs, &["sink"])).await;
        registered(&world, &["source", "sink"]).await;
        world.store.fail_next_save(fault);
        drop(world.add("source").await);
        sleep(Duration::from_mins(1)).await;
        assert_eq!((count(&world, "source").await, count(&world, "sink").await), (times, times));
        world.add("source").await.unwrap();
        delivered().await;
        assert_eq!(count(&world, "sink").await, times + 1, "the source is not held up");
    }
}

#[tokio::test(start_paused = true)]
async fn stateless_actors_emit_rows_without_a_head_and_find_the_number_of_an_effect() {
    let numbers = Arc::new(Mutex::new(Vec::new()));
    let found = numbers.clone();
    let world = world(host(move |invocation| {
        let mut response = counted(&invocation);
        let found = found.clone();
        async move {
            if invocation.actor.name == "source" {
                response.workflow.effects = vec![call("sink", "add")];
                return Ok(response);
            }
            found.lock().push(invocation.metadata.get(EFFECT_ID).cloned());
            if found.lock().len() < 3 { Err(broken()) } else { Ok(response) }
        }
    }))
    .await;
    let stateless = |name| Definition { stateful: false, ..definition(name) };
    world.register(["source", "sink"].map(stateless).to_vec()).await.unwrap();
    world.add("source").await.unwrap();
    assert_eq!(rows(&world, "source").await.len(), 1);
    sleep(Duration::from_secs(5)).await;
    let numbers = numbers.lock().clone();
    assert_eq!(numbers.len(), 3);
    assert!(numbers.iter().all(|number| number == &numbers[0]), "{numbers:?}");
    assert!(numbers[0].as_ref().unwrap().starts_with("s/source/"), "{numbers:?}");
    assert!(world.head("source").await.is_none() && world.head("sink").await.is_none());
    assert_eq!(seen(&world, "sink").await, 0);
    assert!(rows(&world, "source").await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_deleted_source_s_effects_are_delivered_and_those_of_its_successor_too() {
    let runs = Runs::default();
    let memory = MemoryStore::new();
    let gone = Arc::new(AtomicU64::new(1));
    let is_gone = gone.clone();
    let log = runs.clone();
    let world = world_with(
        host(move |invocation| {
            let is_gone = is_gone.load(Ordering::SeqCst) == 1 && invocation.actor.name == "sink";
            let response = (!is_gone).then(|| emit(&log, &["sink"], &invocation));
            async move { response.ok_or_else(broken) }
        }),
        Settings::default(),
        memory,
    )
    .await;
    registered(&world, &["template", "sink"]).await;
    for _ in 0..2 {
        world.spawn("source-1", "template").await.unwrap();
        world.add("source-1").await.unwrap();
        world.add("source-1").await.unwrap();
        world.mesh.delete("s", "source-1").await.unwrap();
    }
    gone.store(0, Ordering::SeqCst);
    sleep(Duration::from_mins(2)).await;
    assert_eq!(runs.of("sink"), [1, 2, 1, 2]);
    assert_eq!(count(&world, "sink").await, 4);
}
