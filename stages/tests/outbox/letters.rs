//! Letters: dead letters are looked at, delivered again and dropped.

use super::*;
use tidegate_stages::access::Pattern;
use tidegate_stages::outbox::view::{DeadLetterChange, DeadLettersChanged, EffectFilter};

/// A source whose effects nobody takes yet.
async fn with_dead_letters(runs: &Runs, count: u64) -> World {
    let world = world(emitting(runs, &["sink"])).await;
    registered(&world, &["source"]).await;
    for expected in 1..=count {
        assert_eq!(world.add("source").await.unwrap(), expected);
    }
    delivered().await;
    world
}

async fn change(world: &World, what: DeadLetterChange, filter: EffectFilter) -> DeadLettersChanged {
    world.mesh.change_dead_letters(what, filter, None, false).await.unwrap()
}

async fn retry(world: &World) -> DeadLettersChanged {
    change(world, DeadLetterChange::Retry, EffectFilter::default()).await
}

async fn letters(world: &World) -> usize {
    rows(world, "source").await.iter().filter(|record| record.dead.is_some()).count()
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_is_shown_with_its_target_and_why_it_died() {
    let world = with_dead_letters(&Runs::default(), 2).await;
    let page = world.mesh.effects(&EffectFilter::default(), None, 1).await.unwrap();
    let next = page.next.unwrap();
    let first = &page.effects[0];
    assert_eq!((&*first.source_name(), &*first.target_name()), ("s/source", "s/sink"));
    let dead = first.dead.as_ref().unwrap();
    assert!(dead.reason.contains("not found"), "{}", dead.reason);
    assert_eq!((dead.attempts, &*first.action), (1, "add"));
    let rest = world.mesh.effects(&EffectFilter::default(), Some(next), 9).await.unwrap();
    assert_eq!((rest.effects.len(), rest.next), (1, None));
    assert_eq!(world.mesh.effect("s", "source", first.id).await.unwrap(), *first);
    let other = world.mesh.effect("s", "sink", first.id).await.unwrap_err();
    assert_eq!(other.kind(), ErrorKind::NotFound);
    let pending = EffectFilter { dead: Some(false), ..EffectFilter::default() };
    assert_eq!(world.mesh.effects(&pending, None, 9).await.unwrap().effects, []);
}

#[tokio::test(start_paused = true)]
async fn pages_of_every_size_show_each_effect_of_each_source_once() {
    let runs = Runs::default();
    let world = world(emitting(&runs, &["sink"])).await;
    let sources = ["source one", "source three", "source two"];
    registered(&world, &sources).await;
    for source in sources {
        world.add(source).await.unwrap();
        world.add(source).await.unwrap();
    }
    delivered().await;
    for limit in 1..=7 {
        let (mut found, mut next) = (Vec::new(), None);
        for _ in 0..9 {
            let page = world.mesh.effects(&EffectFilter::default(), next, limit).await.unwrap();
            found.extend(page.effects.iter().map(|effect| (effect.source_name(), effect.key)));
            next = page.next;
            if next.is_none() {
                break;
            }
        }
        assert_eq!(found.len(), 6, "pages of {limit}: {found:?}");
        found.dedup();
        assert_eq!(found.len(), 6, "pages of {limit}: {found:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn dead_letters_that_are_tried_again_count_once_and_in_order_also_after_newer_effects() {
    let runs = Runs::default();
    let world = with_dead_letters(&runs, 3).await;
    registered(&world, &["sink"]).await;
    assert_eq!(world.add("source").await.unwrap(), 4);
    delivered().await;
    let (mesh, filter) = (world.mesh.clone(), EffectFilter::default);
    let [one, other] = [mesh.clone(), mesh].map(|mesh| async move {
        mesh.change_dead_letters(DeadLetterChange::Retry, filter(), None, false).await.unwrap()
    });
    let (one, other) = tokio::join!(one, other);
    assert_eq!((one.done + other.done, one.matched), (3, 3));
    delivered().await;
    assert_eq!(runs.of("sink"), [4, 1, 2, 3]);
    assert_eq!(count(&world, "sink").await, 4);
    assert_eq!(rows(&world, "source").await, []);
    assert_eq!(retry(&world).await, DeadLettersChanged::default());
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_of_a_former_start_is_tried_again_though_its_source_is_not_loaded() {
    let runs = Runs::default();
    let world = with_dead_letters(&runs, 2).await;
    let next = world_with(emitting(&runs, &["sink"]), Settings::default(), world.memory).await;
    registered(&next, &["sink"]).await;
    assert_eq!(retry(&next).await.done, 2);
    assert_eq!(next.add("source").await.unwrap(), 3);
    delivered().await;
    assert_eq!(runs.of("sink"), [1, 2, 3]);
    assert_eq!(count(&next, "sink").await, 3);
    assert_eq!(rows(&next, "source").await, []);
}

#[tokio::test(start_paused = true)]
async fn what_dies_again_is_left_for_another_look() {
    let world = with_dead_letters(&Runs::default(), 2).await;
    world.clock.advance(Duration::from_secs(1));
    let tried = retry(&world).await;
    assert_eq!((tried.done, tried.next), (2, None));
    delivered().await;
    assert_eq!(letters(&world).await, 2);
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(retry(&world).await.done, 2);
}

#[tokio::test(start_paused = true)]
async fn only_those_that_the_filter_means_are_dropped_and_a_dry_run_only_counts() {
    let runs = Runs::default();
    let world = world(emitting(&runs, &["sink", "other-sink"])).await;
    registered(&world, &["source"]).await;
    world.add("source").await.unwrap();
    delivered().await;
    let other = EffectFilter { target: Pattern::parse("s/other-*"), ..EffectFilter::default() };
    let drop = DeadLetterChange::Drop;
    let counted = world.mesh.change_dead_letters(drop, other.clone(), None, true).await.unwrap();
    assert_eq!((counted.matched, counted.done, letters(&world).await), (1, 0, 2));
    assert_eq!(change(&world, drop, other).await.done, 1);
    registered(&world, &["sink", "other-sink"]).await;
    assert_eq!(retry(&world).await.done, 1);
    delivered().await;
    assert_eq!((runs.of("sink"), runs.of("other-sink")), (vec![1], vec![]));
}

#[tokio::test(start_paused = true)]
async fn dead_letters_of_a_deleted_source_are_dropped_and_not_tried_again() {
    let world = with_dead_letters(&Runs::default(), 1).await;
    world
        .register(vec![Definition { kind: Kind::Unnamed, ..definition("template") }])
        .await
        .unwrap();
    world.spawn("source-2", "template").await.unwrap();
    world.add("source-2").await.unwrap();
    delivered().await;
    world.mesh.delete("s", "source-2").await.unwrap();
    let tried = retry(&world).await;
    assert_eq!((tried.matched, tried.done, tried.unregistered), (2, 1, 1));
    let source = EffectFilter { source: Pattern::parse("s/source-2"), ..EffectFilter::default() };
    assert_eq!(change(&world, DeadLetterChange::Drop, source).await.done, 1);
    assert_eq!(
        world.memory.outbox(&stored_id("source-2", "template"), None, 9).await.unwrap().items,
        []
    );
}

#[tokio::test(start_paused = true)]
async fn a_source_with_too_many_effects_keeps_its_dead_letters() {
    let runs = Runs::default();
    let settings = rules(|rules| rules.max_pending_effects = 2);
    let held = host(move |invocation| {
        let response = emit(&runs, &["sink"], &invocation);
        async move { if invocation.actor.name == "sink" { Err(broken()) } else { Ok(response) } }
    });
    let world = world_with(held, settings, MemoryStore::new()).await;
    registered(&world, &["source"]).await;
    for _ in 0..3 {
        world.add("source").await.unwrap();
        delivered().await;
    }
    registered(&world, &["sink"]).await;
    let tried = retry(&world).await;
    assert_eq!((tried.matched, tried.done, tried.full), (3, 2, 1));
    assert_eq!(letters(&world).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_whose_commit_is_lost_or_in_doubt_is_neither_lost_nor_doubled() {
    for is_written in [false, true] {
        let runs = Runs::default();
        let world = with_dead_letters(&runs, 1).await;
        registered(&world, &["sink"]).await;
        let away = "as the test wants it".to_owned();
        world.store.fail_next_save(if is_written {
            SaveFault::WriteAndFail(StoreError::Unknown(away))
        } else {
            SaveFault::Lose(StoreError::Unavailable(away))
        });
        let mesh = world.mesh.clone();
        let tried =
            mesh.change_dead_letters(DeadLetterChange::Retry, EffectFilter::default(), None, false);
        assert_eq!(tried.await.is_ok(), is_written);
        delivered().await;
        retry(&world).await;
        delivered().await;
        assert_eq!((runs.of("sink"), count(&world, "sink").await), (vec![1], 1), "{is_written}");
        assert_eq!(world.add("source").await.unwrap(), 2);
        delivered().await;
        assert_eq!(runs.of("sink"), [1, 2]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_whose_write_gets_no_answer_is_not_told_as_not_started() {
    let world = with_dead_letters(&Runs::default(), 1).await;
    world.clock.advance(Duration::from_secs(1));
    world.store.hold_saves();
    let filter = EffectFilter::default();
    let tried = world.mesh.change_dead_letters(DeadLetterChange::Retry, filter, None, false).await;
    let error = tried.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StoreUnavailable, "{error}");
    assert!(!error.is_retryable(), "{error}");
    world.store.release_saves();
}
