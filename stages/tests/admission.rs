//! Admission: what becomes of a call for which there is no capacity, or no time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test; it awaits its tasks")]

mod support;

use std::time::Duration;

use support::*;
use tidegate_pipeline::{Bound, Full};
use tidegate_stages::actor::{Definition, Kind};
use tidegate_stages::error::{Error, ErrorKind};
use tidegate_stages::invocation::{Invocation, Payload, Routing};
use tidegate_stages::memory::MemoryStore;
use tidegate_stages::topology::Settings;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// A host whose actions take that long.
fn slow(takes: Duration) -> BoxedHost {
    host(move |invocation| async move {
        sleep(takes).await;
        Ok(counted(&invocation))
    })
}

/// One call at a time is admitted; the next one waits.
fn one_admitted(full: Full) -> Settings {
    let admission = Bound { events: 1, ..Settings::default().admission };
    Settings { admission, full, ..Settings::default() }
}

fn bounded(invocation: Invocation, ms: u64) -> Invocation {
    let metadata = [("request-timeout".to_owned(), ms.to_string())].into();
    Invocation { metadata, ..invocation }
}

#[tokio::test(start_paused = true)]
async fn waiting_for_capacity_is_part_of_a_call_s_time() {
    let settings = one_admitted(Full::Wait(Duration::from_mins(1)));
    let world = world_with(slow(Duration::from_secs(50)), settings, MemoryStore::new()).await;
    world.register(["joe", "jim"].map(definition).to_vec()).await.unwrap();
    let running = world.start(call("joe", "add"));
    until_idle().await;
    let began = Instant::now();
    let error = world.mesh.invoke(bounded(call("jim", "add"), 300)).await.unwrap_err();
    assert_eq!(
        (error.kind(), began.elapsed()),
        (ErrorKind::Overloaded, Duration::from_millis(300))
    );
    let began = Instant::now();
    let error = world.add("jim").await.unwrap_err();
    assert_eq!((error.kind(), began.elapsed()), (ErrorKind::Overloaded, Duration::from_secs(10)));
    let began = Instant::now();
    let error = world.mesh.state("s", "jim").await.unwrap_err();
    assert_eq!((error.kind(), began.elapsed()), (ErrorKind::Overloaded, Duration::from_secs(10)));
    running.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waited_for_capacity_has_the_rest_of_its_time_to_start() {
    let settings = one_admitted(Full::Wait(Duration::from_mins(1)));
    let settings = Settings { worker_demand: 1, ..settings };
    let world = world_with(slow(Duration::from_secs(4)), settings, MemoryStore::new()).await;
    world.register(["joe", "jim"].map(definition).to_vec()).await.unwrap();
    let running = world.start(call("joe", "add"));
    until_idle().await;
    let began = Instant::now();
    // Four of its five seconds are spent waiting; the action takes four.
    let error = world.mesh.invoke(bounded(call("jim", "add"), 5_000)).await.unwrap_err();
    assert!(matches!(error, Error::NoAnswer(_)), "{error}");
    assert_eq!(began.elapsed(), Duration::from_secs(5));
    running.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_member_that_its_pool_has_no_more_when_its_call_is_admitted_leaves_memory() {
    let settings = one_admitted(Full::Wait(Duration::from_mins(1)));
    let world = world_with(slow(Duration::from_secs(1)), settings, MemoryStore::new()).await;
    let pool = |number| {
        let kind = Kind::Pooled { min: number, max: number };
        Definition { kind, stateful: false, ..definition("pool") }
    };
    world.register(vec![definition("joe"), pool(1)]).await.unwrap();
    let running = world.start(call("joe", "add"));
    until_idle().await;
    let waits = world.start(Invocation { pooled: true, ..call("pool", "add") });
    until_idle().await;
    world.register(vec![definition("joe"), pool(2)]).await.unwrap();
    until_idle().await;
    running.await.unwrap().unwrap();
    waits.await.unwrap().unwrap();
    until_idle().await;
    assert_eq!(world.mesh.observe().live_actors, 1, "the other actor");
}

/// Turns that run at once.
fn at_once(turns: usize) -> Settings {
    Settings { worker_demand: turns, workers: 1, ..Settings::default() }
}

/// What became of a call, and after which time.
struct Ended {
    outcome: Result<Payload, Error>,
    after: Duration,
}

impl Ended {
    fn kind(&self) -> Option<ErrorKind> {
        self.outcome.as_ref().err().map(Error::kind)
    }

    /// When to come back, of a call that was refused.
    fn retry_after(&self) -> Duration {
        match &self.outcome {
            Err(Error::Overloaded { retry_after, .. }) => *retry_after,
            other => panic!("not refused: {other:?}"),
        }
    }
}

/// Makes all of these calls at once.
fn start_all(world: &World, calls: impl Iterator<Item = Invocation>) -> JoinSet<Ended> {
    let mut all = JoinSet::new();
    for call in calls {
        let mesh = world.mesh.clone();
        all.spawn(async move {
            let began = Instant::now();
            let outcome = mesh.invoke(call).await;
            Ended { outcome, after: began.elapsed() }
        });
    }
    all
}

async fn registered(host: BoxedHost, settings: Settings, actors: u32) -> World {
    let world = world_with(host, settings, MemoryStore::new()).await;
    let names = (0..actors).map(|at| definition(&format!("a{at}")));
    world.register(names.collect()).await.unwrap();
    world
}

fn adds(actors: std::ops::Range<u32>) -> impl Iterator<Item = Invocation> {
    actors.map(|at| call(&format!("a{at}"), "add"))
}

/// 2,000 calls of half a second on eight turns at once: 160 can be served in ten seconds.
async fn two_thousand_calls_of(actors: u32) {
    let world = registered(slow(Duration::from_millis(500)), at_once(8), actors).await;
    let calls = (0..2_000).map(|at| call(&format!("a{}", at % actors), "add"));
    let ended = start_all(&world, calls).join_all().await;
    let of = |kind: Option<ErrorKind>| ended.iter().filter(move |ended| ended.kind() == kind);
    let (served, refused) = (of(None), of(Some(ErrorKind::Overloaded)));
    let late = of(Some(ErrorKind::DeadlineExceeded)).count();
    assert!(served.clone().count() >= 144, "{actors}: {}", served.count());
    // A turn for each of the eight, and one more: what an expectation is off by.
    assert!(late <= 16, "{actors}: {late}");
    assert_eq!(served.clone().count() + refused.clone().count() + late, 2_000);
    for ended in served {
        assert!(ended.after <= Duration::from_millis(10_500), "{:?}", ended.after);
    }
    let quickly = refused.clone().filter(|ended| ended.after <= Duration::from_secs(4)).count();
    assert!(quickly * 20 >= refused.clone().count() * 19, "{actors}: {quickly}");
    for ended in refused {
        assert!(ended.retry_after() >= Duration::from_secs(1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_burst_that_cannot_be_served_in_time_is_refused_early_and_the_rest_is_served() {
    two_thousand_calls_of(2_000).await;
}

#[tokio::test(start_paused = true)]
async fn a_burst_that_cannot_be_served_in_time_is_refused_early_also_on_fewer_actors() {
    two_thousand_calls_of(100).await;
    two_thousand_calls_of(20).await;
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_turn_cannot_come_in_time_is_refused_at_once() {
    let world = registered(slow(Duration::from_millis(500)), at_once(8), 400).await;
    start_all(&world, adds(0..24)).join_all().await;
    // 160 of these can start within ten seconds.
    let began = Instant::now();
    let mut calls = start_all(&world, adds(0..400));
    until_idle().await;
    let mut refused = Vec::new();
    while let Some(ended) = calls.try_join_next() {
        refused.push(ended.unwrap().retry_after());
    }
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert!((220..=240).contains(&refused.len()), "{}", refused.len());
    // The backlog is as long as it may be: there is no sense in waiting longer than for the next turns.
    assert!(refused.iter().all(|after| *after == Duration::from_secs(1)), "{refused:?}");
    // A call with more time is let in, one with less is told when to come back.
    let patient = world.start(bounded(call("a399", "add"), 60_000));
    until_idle().await;
    assert!(!patient.is_finished());
    let hasty = start_all(&world, [bounded(call("a398", "add"), 4_000)].into_iter());
    let hasty = hasty.join_all().await.remove(0);
    assert_eq!(hasty.after, Duration::ZERO);
    let after = hasty.retry_after();
    assert!(after > Duration::from_secs(5) && after < Duration::from_secs(7), "{after:?}");
    patient.await.unwrap().unwrap();
    let late = calls.join_all().await.into_iter().filter(|ended| ended.outcome.is_err()).count();
    assert!(late <= 16, "{late}");
}

#[tokio::test(start_paused = true)]
async fn nobody_is_refused_before_twenty_turns_are_known() {
    let world = registered(slow(Duration::from_secs(1)), at_once(1), 60).await;
    for turn in adds(0..19) {
        world.mesh.invoke(turn).await.unwrap();
    }
    let mut calls = start_all(&world, adds(20..60));
    until_idle().await;
    assert!(calls.try_join_next().is_none(), "nineteen turns are known");
    sleep(Duration::from_millis(1_001)).await;
    until_idle().await;
    let mut refused = 0;
    while let Some(ended) = calls.try_join_next() {
        refused += u32::from(ended.unwrap().outcome.is_err());
    }
    assert!((25..=31).contains(&refused), "the first of them was the twentieth: {refused}");
}

#[tokio::test(start_paused = true)]
async fn an_actor_is_refused_by_its_own_queue_and_no_other_because_of_it() {
    let host = host(|invocation| async move {
        let takes = if invocation.actor.name == "a0" { 4_000 } else { 1 };
        sleep(Duration::from_millis(takes)).await;
        Ok(counted(&invocation))
    });
    let world = registered(host, at_once(8), 4).await;
    for _ in 0..20 {
        world.add("a0").await.unwrap();
    }
    let slow = (0..100).map(|_| call("a0", "add"));
    let mut slow = start_all(&world, slow);
    until_idle().await;
    let mut refused = 0;
    while let Some(ended) = slow.try_join_next() {
        refused += u32::from(ended.unwrap().kind() == Some(ErrorKind::Overloaded));
    }
    assert!((96..=97).contains(&refused), "one runs, two or three wait: {refused}");
    for turn in 0..300 {
        world.add(["a1", "a2", "a3"][turn % 3]).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_queue_of_an_actor_that_is_not_known_yet_refuses_no_call_of_another() {
    let host = host(|invocation| async move {
        let takes = if invocation.actor.name == "a0" { 4_000 } else { 500 };
        sleep(Duration::from_millis(takes)).await;
        Ok(counted(&invocation))
    });
    let world = registered(host, at_once(8), 2).await;
    for _ in 0..20 {
        world.add("a1").await.unwrap();
    }
    // 1,000 turns × half a second ÷ 8 is more than ten seconds, but the other actor waits for none of them.
    let slow = start_all(&world, (0..1_000).map(|_| call("a0", "add")));
    until_idle().await;
    for _ in 0..10 {
        world.add("a1").await.unwrap();
    }
    drop(slow);
}

#[tokio::test(start_paused = true)]
async fn calls_that_wait_for_an_actor_that_became_slow_are_refused_before_their_time_is_over() {
    let host = host(|invocation| async move {
        let is_slow = number(invocation.state.as_ref()) >= 20;
        sleep(Duration::from_millis(if is_slow { 2_000 } else { 10 })).await;
        Ok(counted(&invocation))
    });
    let world = registered(host, at_once(8), 1).await;
    for _ in 0..20 {
        world.add("a0").await.unwrap();
    }
    let ended = start_all(&world, (0..40).map(|_| call("a0", "add"))).join_all().await;
    let of = |kind| ended.iter().filter(|ended| ended.kind() == kind).count();
    assert_eq!(of(None), 5, "what starts within ten seconds");
    assert!(of(Some(ErrorKind::Overloaded)) >= 25, "{}", of(Some(ErrorKind::Overloaded)));
}

#[tokio::test(start_paused = true)]
async fn calls_that_nobody_waits_for_and_routed_calls_are_exempt() {
    let world = registered(
        host(|invocation| async move {
            let mut response = counted(&invocation);
            if invocation.action == "other" {
                let (actor, action) = ("a0".into(), "add".into());
                response.workflow.routing = Some(Routing::Forward { actor, action });
            } else {
                sleep(Duration::from_secs(3)).await;
            }
            Ok(response)
        }),
        at_once(8),
        2,
    )
    .await;
    for _ in 0..20 {
        world.add("a0").await.unwrap();
    }
    let accepted = Invocation { asynchronous: true, ..call("a0", "add") };
    for _ in 0..6 {
        world.mesh.invoke(accepted.clone()).await.unwrap();
    }
    assert_eq!(world.add("a0").await.unwrap_err().kind(), ErrorKind::Overloaded);
    // It comes to its actor after its own turn, with time of its own.
    let routed = world.mesh.invoke(bounded(call("a1", "other"), 60_000)).await;
    assert_eq!(answered(routed.unwrap()), 27);
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_place_would_come_too_late_is_refused_early() {
    let checkpoint = Bound { events: 16, ..Settings::default().checkpoint };
    let settings = Settings { checkpoint, ..Settings::default() };
    let world = registered(counter(), settings, 401).await;
    world.add("a400").await.unwrap();
    world.store.hold_saves();
    let store = world.store.clone();
    // Each second, the commits of the 14 that have a place.
    let paced = tokio::spawn(async move {
        loop {
            sleep(Duration::from_secs(1)).await;
            store.release_saves();
            store.hold_saves();
        }
    });
    let mut calls = start_all(&world, adds(0..400));
    sleep(Duration::from_millis(4_500)).await;
    let began = Instant::now();
    let error = world.mesh.invoke(bounded(call("a400", "add"), 2_000)).await.unwrap_err();
    assert_eq!((error.kind(), began.elapsed()), (ErrorKind::Overloaded, Duration::ZERO), "{error}");
    world.mesh.invoke(call("a400", "get")).await.expect("reading needs no place");
    let mut ended = Vec::new();
    while let Some(call) = calls.join_next().await {
        ended.push(call.unwrap());
    }
    paced.abort();
    let of = |kind: Option<ErrorKind>| ended.iter().filter(move |ended| ended.kind() == kind);
    let (served, late) = (of(None).count(), of(Some(ErrorKind::DeadlineExceeded)).count());
    let early =
        of(Some(ErrorKind::Overloaded)).filter(|ended| ended.after < Duration::from_secs(5));
    let early = early.count();
    assert!(served >= 130 && late <= 32 && early >= 220, "{served} {early} {late}");
}
