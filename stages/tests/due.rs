//! Calls for a later time: when they run, what survives, and what delays nothing.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_pipeline::Bound;
use tidegate_stages::actor::{Definition, Kind};
use tidegate_stages::error::ErrorKind;
use tidegate_stages::invocation::{
    ActorInvocation, Invocation, Metadata, Payload, Routing, SCHEDULE_ID,
};
use tidegate_stages::memory::MemoryStore;
use tidegate_stages::outbox::EffectSource;
use tidegate_stages::ports::{Clock, DueStore, HostError, StoreError};
use tidegate_stages::topology::Settings;
use tokio::time::{advance, sleep};

use support::{
    BoxedHost, World, call, counted, definition, host, later, number, pass, wait_until, world,
    world_with,
};

const SECOND: Duration = Duration::from_secs(1);

/// The names of the called actors, in order.
type Log = Arc<Mutex<Vec<String>>>;

fn noting() -> (BoxedHost, Log) {
    let log = Log::default();
    let noted = log.clone();
    let host = host(move |invocation: ActorInvocation| {
        noted.lock().push(invocation.actor.name.clone());
        let answer = counted(&invocation);
        async move { Ok(answer) }
    });
    (host, log)
}

async fn stored(world: &World) -> usize {
    world.memory.due(None, 100_000).await.unwrap().items.len()
}

async fn count(world: &World, name: &str) -> u64 {
    world.head(name).await.map_or(0, |head| number(head.content.state.as_ref()))
}

#[tokio::test(start_paused = true)]
async fn a_call_for_a_later_time_is_answered_without_payload_and_runs_once_at_its_time() {
    let (host, log) = noting();
    let world = world(host).await;
    world.register(vec![definition("joe")]).await.unwrap();
    let payload = world.mesh.invoke(later(&world, "joe", 5)).await.unwrap();
    assert_eq!(payload, Payload::Unset);
    pass(&world, 4).await;
    assert!(log.lock().is_empty() && stored(&world).await == 1);
    pass(&world, 3).await;
    assert_eq!((count(&world, "joe").await, stored(&world).await, log.lock().len()), (1, 0, 1));
    pass(&world, 700).await;
    assert_eq!(log.lock().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_for_a_later_time_that_is_routed_on_waits_for_a_busy_actor() {
    let world = world(host(|invocation: ActorInvocation| async move {
        let mut answer = counted(&invocation);
        if invocation.actor.name == "first" {
            let (actor, action) = ("busy".into(), "add".into());
            answer.workflow.routing = Some(Routing::Pipe { actor, action });
        }
        if invocation.action == "slow" {
            sleep(20 * SECOND).await;
        }
        Ok(answer)
    }))
    .await;
    world.register(["first", "busy"].map(definition).to_vec()).await.unwrap();
    world.mesh.invoke(later(&world, "first", 1)).await.unwrap();
    let slow = world.start(call("busy", "slow"));
    pass(&world, 30).await;
    slow.await.unwrap().unwrap();
    assert_eq!((count(&world, "first").await, stored(&world).await), (1, 0));
    assert_eq!(count(&world, "busy").await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_pooled_call_for_a_later_time_goes_to_a_member_then() {
    let parents = Log::default();
    let noted = parents.clone();
    let world = world(host(move |invocation: ActorInvocation| {
        noted.lock().push(invocation.actor.parent.clone());
        let answer = counted(&invocation);
        async move { Ok(answer) }
    }))
    .await;
    let pool = Definition { kind: Kind::Pooled { min: 1, max: 1 }, ..definition("pool") };
    world.register(vec![pool]).await.unwrap();
    let pooled = Invocation { pooled: true, ..later(&world, "pool", 2) };
    world.mesh.invoke(pooled).await.unwrap();
    pass(&world, 4).await;
    assert_eq!(*parents.lock(), ["pool-1"]);
    assert_eq!(stored(&world).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_time_is_past_runs_at_once_and_leaves_nothing() {
    let (host, log) = noting();
    let world = world(host).await;
    world.register(vec![definition("joe")]).await.unwrap();
    for (scheduled_to, runs) in [1, -1, i64::MIN].into_iter().zip(1..) {
        let past = Invocation { scheduled_to, ..call("joe", "add") };
        assert_eq!(world.mesh.invoke(past).await.unwrap(), Payload::Unset);
        wait_until(|| log.lock().len() == runs).await;
        sleep(SECOND).await;
        assert_eq!((stored(&world).await, log.lock().len()), (0, runs));
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_time_is_past_is_stored_before_it_is_acknowledged() {
    let memory = MemoryStore::new();
    let hangs = host(|_: ActorInvocation| std::future::pending());
    let first = world_with(hangs, Settings::default(), memory.clone()).await;
    first.register(vec![definition("joe")]).await.unwrap();
    let past = Invocation { scheduled_to: 1, ..call("joe", "add") };
    first.store.refuse_saves(Some(StoreError::Unavailable("as the test wants it".into())));
    let refused = first.mesh.invoke(past.clone()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::StoreUnavailable);
    first.store.refuse_saves(None);
    assert_eq!(first.mesh.invoke(past).await.unwrap(), Payload::Unset);
    let due = memory.due(None, 10).await.unwrap().items;
    assert_eq!(due.len(), 1);
    assert!(due[0].key.at.0 <= first.clock.now().0, "it is due now");
    // As if the proxy was killed while the call was at its host.
    let (stored, (host, log)) = (MemoryStore::new(), noting());
    let before = world_with(host.clone(), Settings::default(), stored.clone()).await;
    before.register(vec![definition("joe")]).await.unwrap();
    assert!(before.mesh.drain(10 * SECOND).await);
    stored.put_due(due).await.unwrap();
    let second = world_with(host, Settings::default(), stored).await;
    pass(&second, 2).await;
    assert_eq!(count(&second, "joe").await, 1);
    assert_eq!(log.lock().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn calls_are_taken_in_the_order_of_their_times_and_new_ones_overtake() {
    let (host, log) = noting();
    let world = world(host).await;
    world.register(["a", "b", "c"].map(definition).to_vec()).await.unwrap();
    for (name, seconds) in [("c", 30), ("a", 3), ("b", 10)] {
        world.mesh.invoke(later(&world, name, seconds)).await.unwrap();
    }
    pass(&world, 31).await;
    assert_eq!(*log.lock(), ["a", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn identical_calls_are_separate_ones_unless_they_have_the_same_id() {
    let (host, log) = noting();
    let world = world(host).await;
    world.register(vec![definition("joe")]).await.unwrap();
    let plain = later(&world, "joe", 5);
    let metadata = [(SCHEDULE_ID.to_owned(), "| @ ü".to_owned())].into();
    let named = Invocation { metadata, ..plain.clone() };
    for invocation in [&plain, &plain, &named, &named, &named] {
        world.mesh.invoke(invocation.clone()).await.unwrap();
    }
    pass(&world, 7).await;
    assert_eq!((count(&world, "joe").await, log.lock().len()), (3, 3));
    let metadata = [(SCHEDULE_ID.to_owned(), "x".repeat(600))].into();
    let error = world.mesh.invoke(Invocation { metadata, ..later(&world, "joe", 5) }).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test(start_paused = true)]
async fn a_call_replaces_one_of_the_same_id_and_time_at_its_actor_only() {
    let (host, log) = noting();
    let world = world(host).await;
    world.register(vec![definition("joe"), definition("ann")]).await.unwrap();
    let longest = "x".repeat(512);
    for (round, id) in (1..).zip(["once", &longest, ""]) {
        let metadata: Metadata = [(SCHEDULE_ID.to_owned(), id.to_owned())].into();
        for name in ["joe", "ann", "ann"] {
            let named = Invocation { metadata: metadata.clone(), ..later(&world, name, 5) };
            assert_eq!(world.mesh.invoke(named).await.unwrap(), Payload::Unset);
        }
        pass(&world, 7).await;
        let of = |name: &str| log.lock().iter().filter(|called| *called == name).count();
        // An empty id is none.
        let ann = round + usize::from(id.is_empty());
        assert_eq!((of("joe"), of("ann")), (round, ann), "{id}");
        assert_eq!(stored(&world).await, 0);
    }
    let metadata: Metadata = [(SCHEDULE_ID.to_owned(), "x".repeat(513))].into();
    let refused = world.mesh.invoke(Invocation { metadata, ..later(&world, "joe", 5) }).await;
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("513") && text.contains("512"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_call_with_an_id_that_a_former_version_has_stored_runs() {
    let (host, log) = noting();
    let memory = MemoryStore::new();
    let first = world_with(host.clone(), Settings::default(), memory.clone()).await;
    first.register(vec![definition("joe")]).await.unwrap();
    let metadata: Metadata = [(SCHEDULE_ID.to_owned(), "once".to_owned())].into();
    let named = Invocation { metadata, ..later(&first, "joe", 5) };
    first.mesh.invoke(named).await.unwrap();
    assert!(first.mesh.drain(10 * SECOND).await);
    let mut entry = memory.due(None, 10).await.unwrap().items.remove(0);
    memory.remove_due(vec![entry.key.clone()]).await.unwrap();
    let source = EffectSource { name: "id/once".into(), ..EffectSource::clone(&entry.key.source) };
    entry.key.source = source.into();
    memory.put_due(vec![entry]).await.unwrap();
    let second = world_with(host, Settings::default(), memory).await;
    pass(&second, 10).await;
    assert_eq!(stored(&second).await, 0);
    assert_eq!(log.lock().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_restart_loses_no_call_that_was_accepted() {
    let (host, log) = noting();
    let memory = MemoryStore::new();
    let first = world_with(host.clone(), Settings::default(), memory.clone()).await;
    first.register(vec![definition("joe")]).await.unwrap();
    for seconds in [5, 6, 3_600] {
        first.mesh.invoke(later(&first, "joe", seconds)).await.unwrap();
    }
    assert!(first.mesh.drain(10 * SECOND).await);
    assert!(log.lock().is_empty());
    let second = world_with(host, Settings::default(), memory).await;
    pass(&second, 10).await;
    assert_eq!((stored(&second).await, log.lock().len()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_refuses_the_call_and_loses_no_accepted_one() {
    let (host, log) = noting();
    let world = world(host).await;
    world.register(vec![definition("joe")]).await.unwrap();
    world.mesh.invoke(later(&world, "joe", 5)).await.unwrap();
    let gone = || StoreError::Unavailable("as the test wants it".into());
    world.store.refuse_saves(Some(gone()));
    let error = world.mesh.invoke(later(&world, "joe", 5)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StoreUnavailable);
    pass(&world, 20).await;
    assert_eq!(count(&world, "joe").await, 0);
    world.store.refuse_saves(None);
    pass(&world, 130).await;
    assert_eq!((count(&world, "joe").await, stored(&world).await), (1, 0));
    assert!(!log.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_refuses_to_read_is_asked_again_after_a_pause() {
    let (host, _) = noting();
    let world = world(host).await;
    sleep(SECOND).await;
    world.store.refuse_loads(Some(StoreError::Unavailable("as the test wants it".into())));
    let before = world.store.due_reads();
    // The whole table is looked at every ten minutes.
    advance(Duration::from_mins(10)).await;
    support::until_idle().await;
    assert_eq!(world.store.due_reads(), before + 1, "without a pause");
    sleep(Duration::from_mins(2)).await;
    let tried = world.store.due_reads() - before;
    assert!((3..=12).contains(&tried), "{tried} reads in two minutes");
    world.store.refuse_loads(None);
    world.register(vec![definition("joe")]).await.unwrap();
    world.mesh.invoke(later(&world, "joe", 5)).await.unwrap();
    pass(&world, 70).await;
    assert_eq!((count(&world, "joe").await, stored(&world).await), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_without_an_answer_is_made_again_and_one_with_an_error_is_not() {
    let log = Log::default();
    let called = log.clone();
    let world = world(host(move |invocation: ActorInvocation| {
        let name = invocation.actor.name.clone();
        let number = {
            let mut called = called.lock();
            called.push(name.clone());
            called.iter().filter(|of| **of == name).count()
        };
        async move {
            let address = "h".to_owned();
            match &name[..] {
                "broken" | "overdue" if number < 3 => {
                    Err(HostError::Broken { address, reason: "reset".into() })
                }
                "unread" if number < 3 => Err(HostError::Unread { address }),
                "garbled" => Err(HostError::Garbled { address, answer: "nonsense".into() }),
                _ => Ok(counted(&invocation)),
            }
        }
    }))
    .await;
    let names = ["broken", "unread", "garbled"];
    world
        .register([&names[..], &["overdue"]].concat().into_iter().map(definition).collect())
        .await
        .unwrap();
    for name in names {
        world.mesh.invoke(later(&world, name, 1)).await.unwrap();
    }
    // What was due before this start has as long as the others.
    world.mesh.invoke(Invocation { scheduled_to: 1, ..call("overdue", "add") }).await.unwrap();
    pass(&world, 30).await;
    assert_eq!(count(&world, "overdue").await, 1);
    for (name, runs, tries) in [("broken", 1, 3), ("unread", 1, 3), ("garbled", 0, 1)] {
        let tried = log.lock().iter().filter(|of| *of == name).count();
        assert_eq!((count(&world, name).await, tried), (runs, tries), "{name}");
    }
    assert_eq!(stored(&world).await, 0);
}

#[tokio::test(start_paused = true)]
async fn pauses_of_a_call_that_fails_grow_also_while_others_are_answered() {
    let tries = Arc::<Mutex<u32>>::default();
    let attempts = tries.clone();
    let world = world(host(move |invocation: ActorInvocation| {
        let is_broken = invocation.actor.name == "broken";
        *attempts.lock() += u32::from(is_broken);
        async move {
            if is_broken {
                return Err(HostError::Broken { address: "h".into(), reason: "reset".into() });
            }
            Ok(counted(&invocation))
        }
    }))
    .await;
    world.register(["broken", "quick"].map(definition).to_vec()).await.unwrap();
    world.mesh.invoke(later(&world, "broken", 1)).await.unwrap();
    for second in 1..=60 {
        world.mesh.invoke(later(&world, "quick", second)).await.unwrap();
    }
    pass(&world, 62).await;
    assert_eq!(count(&world, "quick").await, 60);
    let tries = *tries.lock();
    assert!((5..=7).contains(&tries), "{tries} tries in a minute");
}

#[tokio::test(start_paused = true)]
async fn a_target_that_is_gone_at_its_time_costs_nothing_and_stops_nothing() {
    let (host, log) = noting();
    let world = world(host).await;
    world.register(["template", "joe"].map(definition).to_vec()).await.unwrap();
    for name in ["test", "test-1"] {
        world.spawn(name, "template").await.unwrap();
        world.mesh.invoke(later(&world, name, 5)).await.unwrap();
    }
    world.mesh.invoke(later(&world, "joe", 6)).await.unwrap();
    let unknown = world.mesh.invoke(later(&world, "nobody", 5)).await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::ActorNotFound);
    world.mesh.delete("s", "test").await.unwrap();
    pass(&world, 8).await;
    assert_eq!(*log.lock(), ["test-1", "joe"]);
    assert_eq!(stored(&world).await, 0);
}

#[tokio::test(start_paused = true)]
async fn one_slow_target_delays_no_other() {
    let log = Log::default();
    let noted = log.clone();
    let world = world(host(move |invocation: ActorInvocation| {
        noted.lock().push(invocation.actor.name.clone());
        async move {
            if invocation.actor.name == "slow" {
                sleep(Duration::from_secs(50)).await;
            }
            Ok(counted(&invocation))
        }
    }))
    .await;
    world.register(["slow", "quick"].map(definition).to_vec()).await.unwrap();
    for _ in 0..300 {
        world.mesh.invoke(later(&world, "slow", 1)).await.unwrap();
    }
    world.mesh.invoke(later(&world, "quick", 2)).await.unwrap();
    pass(&world, 10).await;
    let quick = log.lock().iter().filter(|name| *name == "quick").count();
    assert_eq!(quick, 1);
}

#[tokio::test(start_paused = true)]
async fn a_backlog_starts_slowly_is_bounded_and_lets_ordinary_calls_pass() {
    const BACKLOG: usize = 3_000;
    let busy = Arc::<Mutex<(u32, u32)>>::default();
    let of_host = busy.clone();
    let host = host(move |invocation: ActorInvocation| {
        let busy = of_host.clone();
        async move {
            {
                let mut busy = busy.lock();
                busy.0 += 1;
                busy.1 = busy.0.max(busy.1);
            }
            sleep(SECOND / 10).await;
            busy.lock().0 -= 1;
            Ok(counted(&invocation))
        }
    });
    let memory = MemoryStore::new();
    let first = world_with(host.clone(), Settings::default(), memory.clone()).await;
    let names: Vec<_> = (0..100).map(|number| format!("a{number}")).collect();
    first.register(names.iter().map(|name| definition(name)).collect()).await.unwrap();
    for number in 0..BACKLOG {
        first.mesh.invoke(later(&first, &names[number % 100], 1)).await.unwrap();
    }
    assert!(first.mesh.drain(10 * SECOND).await);
    let admission = Bound { events: 1_024, bytes: 64 << 20 };
    let second = world_with(host, Settings { admission, ..Settings::default() }, memory).await;
    second.clock.advance(Duration::from_hours(1));
    sleep(SECOND / 5).await;
    let early = busy.lock().1;
    assert!((1..=64).contains(&early), "{early} at once at first");
    for name in &names[..20] {
        second.mesh.invoke(call(name, "other")).await.unwrap();
    }
    pass(&second, 120).await;
    assert!(busy.lock().1 <= 256 + 1, "{} at once", busy.lock().1);
    assert_eq!(stored(&second).await, 0);
    let mut sum = 0;
    for name in &names {
        sum += count(&second, name).await;
    }
    assert_eq!(sum, BACKLOG as u64 + 20, "each ran once");
}

#[tokio::test(start_paused = true)]
async fn calls_for_a_later_time_can_be_switched_off() {
    let (host, log) = noting();
    let settings = Settings { delayed_calls: false, ..Settings::default() };
    let world = world_with(host, settings, MemoryStore::new()).await;
    let timers = vec![tidegate_stages::actor::Timer { action: "tick".into(), period: SECOND }];
    let joe = tidegate_stages::actor::Definition { timers, ..support::warmed("joe") };
    world.register(vec![joe]).await.unwrap();
    let error = world.mesh.invoke(later(&world, "joe", 5)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("SPAWN_DELAYED_INVOKES"), "{error}");
    pass(&world, 7).await;
    assert!(log.lock().is_empty());
}
