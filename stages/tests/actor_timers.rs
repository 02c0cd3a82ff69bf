//! Timers of actors: when they tick, what they skip, and when they end.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_pipeline::Bound;
use tidegate_stages::actor::{Definition, Kind, Timer};
use tidegate_stages::invocation::{ActorInvocation, Invocation, Payload};
use tidegate_stages::memory::MemoryStore;
use tidegate_stages::ports::{StateStore, StoreError};
use tidegate_stages::topology::Settings;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use support::{
    BoxedHost, World, call, counted, definition, host, id, number, stored_id, until_idle, world,
    world_with,
};

const SECOND: Duration = Duration::from_secs(1);

/// A definition that is warmed up and has a timer.
fn timed(name: &str, action: &str, period: Duration) -> Definition {
    let timers = vec![Timer { action: action.into(), period }];
    Definition { timers, channels: Some(Vec::new()), ..definition(name) }
}

/// What the host was called with, and after how many milliseconds.
type Log = Arc<Mutex<Vec<(u64, ActorInvocation)>>>;

/// A counter that notes its calls.
fn noting() -> (BoxedHost, Log) {
    let (log, began) = (Log::default(), Instant::now());
    let noted = log.clone();
    let host = host(move |invocation: ActorInvocation| {
        let at_ms = u64::try_from(began.elapsed().as_millis()).unwrap();
        let answer = counted(&invocation);
        noted.lock().push((at_ms, invocation));
        async move { Ok(answer) }
    });
    (host, log)
}

/// A pool whose members have a timer.
fn timed_pool(name: &str, min: u32, max: u32) -> Definition {
    let kind = Kind::Pooled { min, max };
    Definition { kind, stateful: false, ..timed(name, "tick", SECOND) }
}

fn pooled(name: &str, action: &str) -> Invocation {
    Invocation { pooled: true, ..call(name, action) }
}

/// Calls a pool so often that each of its few members is called.
async fn call_members(world: &World, name: &str) {
    for _ in 0..60 {
        world.mesh.invoke(pooled(name, "add")).await.unwrap();
    }
}

/// The ticks of five and a half seconds, by the parents of their actors.
async fn ticks_by_parent(log: &Log) -> BTreeMap<String, usize> {
    log.lock().clear();
    sleep(Duration::from_millis(5_500)).await;
    let mut ticks = BTreeMap::new();
    for (_, of) in log.lock().drain(..) {
        *ticks.entry(of.actor.parent.clone()).or_default() += 1;
    }
    ticks
}

fn times(log: &Log) -> Vec<u64> {
    log.lock().iter().map(|(at_ms, _)| *at_ms).collect()
}

#[tokio::test(start_paused = true)]
async fn a_timer_calls_its_action_at_a_fixed_rate_from_the_activation_on() {
    let (host, log) = noting();
    let world = world(host).await;
    world.register(vec![timed("joe", "tick", SECOND)]).await.unwrap();
    sleep(Duration::from_millis(3_500)).await;
    let at = times(&log);
    assert_eq!(at.len(), 3, "{at:?}");
    for (expected, at) in [1_000, 2_000, 3_000].into_iter().zip(at) {
        assert!((expected..expected + 20).contains(&at), "{at} ms");
    }
    let (_, last) = log.lock().pop().unwrap();
    assert_eq!(last.action, "tick");
    assert_eq!(last.payload, Payload::Noop);
    assert_eq!(last.caller, Some(id("joe")), "it calls in its own name");
    assert_eq!(number(last.state.as_ref()), 2, "each tick saw the state of the one before");
}

#[tokio::test(start_paused = true)]
async fn a_stateless_actor_without_channels_ticks_although_nobody_calls() {
    let (host, log) = noting();
    let world = world(host).await;
    let joe = Definition { stateful: false, ..timed("joe", "tick", SECOND) };
    world.register(vec![joe]).await.unwrap();
    sleep(Duration::from_millis(3_500)).await;
    assert_eq!(times(&log).len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_tick_is_skipped_while_the_one_before_runs_and_delays_no_other_actor() {
    let (log, free) = (Log::default(), Arc::new(Semaphore::new(0)));
    let (noted, gate) = (log.clone(), free.clone());
    let host = host(move |invocation: ActorInvocation| {
        noted.lock().push((0, invocation.clone()));
        let gate = gate.clone();
        async move {
            if invocation.actor.name == "slow" {
                gate.acquire().await.unwrap().forget();
            }
            Ok(counted(&invocation))
        }
    });
    let world = world(host).await;
    let both = vec![timed("slow", "tick", SECOND), timed("quick", "tick", SECOND)];
    world.register(both).await.unwrap();
    let ticks = |name: &str| log.lock().iter().filter(|(_, of)| of.actor.name == name).count();
    sleep(Duration::from_millis(5_500)).await;
    assert_eq!((ticks("slow"), ticks("quick")), (1, 5));
    free.add_permits(1_000);
    sleep(2 * SECOND).await;
    assert_eq!((ticks("slow"), ticks("quick")), (3, 7), "skipped ticks do not come later");
}

#[tokio::test(start_paused = true)]
async fn timers_go_on_after_their_actor_has_left_memory() {
    let (host, log) = noting();
    let world = world(host).await;
    let idle = Some(Duration::from_secs(2));
    let joe = Definition { deactivate_after: idle, ..timed("joe", "tick", 10 * SECOND) };
    world.register(vec![joe]).await.unwrap();
    sleep(Duration::from_secs(35)).await;
    assert_eq!(times(&log).len(), 3);
    let last = log.lock().pop().unwrap().1;
    assert_eq!(number(last.state.as_ref()), 2, "its state was kept");
}

#[tokio::test(start_paused = true)]
async fn a_changed_definition_replaces_its_timers() {
    let (host, log) = noting();
    let world = world(host).await;
    world.register(vec![timed("joe", "first", Duration::from_hours(1))]).await.unwrap();
    sleep(SECOND).await;
    world.register(vec![timed("joe", "second", 2 * SECOND)]).await.unwrap();
    sleep(Duration::from_secs(3)).await;
    let actions: Vec<_> = log.lock().iter().map(|(_, of)| of.action.clone()).collect();
    assert_eq!(actions, ["second"]);
    // The same definition again changes nothing, and starts no second timer.
    world.register(vec![timed("joe", "second", 2 * SECOND)]).await.unwrap();
    sleep(Duration::from_hours(2)).await;
    let second = log.lock().iter().filter(|(_, of)| of.action == "second").count();
    assert!((3_601..=3_602).contains(&second), "{second} ticks in two hours");
    assert!(log.lock().iter().all(|(_, of)| of.action == "second"));
}

#[tokio::test(start_paused = true)]
async fn the_timers_of_retired_and_of_deleted_actors_end() {
    let (host, log) = noting();
    let world = world(host).await;
    let three = ["kept", "retired", "deleted"].map(|name| timed(name, "tick", SECOND));
    let template = timed("template", "tick", SECOND);
    world.register(three.into_iter().chain([template.clone()]).collect()).await.unwrap();
    world.spawn("test", "template").await.unwrap();
    world.spawn("test-1", "template").await.unwrap();
    for name in ["test", "test-1", "deleted"] {
        world.mesh.invoke(call(name, "add")).await.unwrap();
    }
    sleep(Duration::from_millis(1_500)).await;
    let stays = ["kept", "deleted"].map(|name| timed(name, "tick", SECOND));
    world.register(stays.into_iter().chain([template]).collect()).await.unwrap();
    for name in ["test", "deleted"] {
        world.mesh.delete("s", name).await.unwrap();
    }
    log.lock().clear();
    sleep(5 * SECOND).await;
    let ticks = |name: &str| log.lock().iter().filter(|(_, of)| of.actor.name == name).count();
    assert_eq!((ticks("retired"), ticks("test"), ticks("deleted")), (0, 0, 0));
    assert_eq!((ticks("kept"), ticks("test-1")), (5, 5), "those of others go on");
    // A definition that was deleted begins anew with its next call, before a tick of its former timers was due.
    world.mesh.invoke(call("deleted", "add")).await.unwrap();
    world.mesh.delete("s", "deleted").await.unwrap();
    world.mesh.invoke(call("deleted", "add")).await.unwrap();
    log.lock().clear();
    sleep(Duration::from_millis(5_500)).await;
    assert_eq!(ticks("deleted"), 5, "each once");
}

#[tokio::test(start_paused = true)]
async fn the_members_of_a_deleted_pool_end_with_their_timers_and_with_what_they_know() {
    let (host, log) = noting();
    let world = world(host).await;
    world.register(vec![timed_pool("defined", 1, 3)]).await.unwrap();
    for name in ["spawned", "defined"] {
        let each_five: BTreeMap<_, _> = (1..=3).map(|n| (format!("{name}-{n}"), 5)).collect();
        for _ in 0..2 {
            if name == "spawned" {
                world.spawn(name, "defined").await.unwrap();
            }
            call_members(&world, name).await;
            let is_new = |of: &ActorInvocation| number(of.state.as_ref()) == 0;
            let new = log.lock().iter().filter(|(_, of)| is_new(of)).count();
            assert_eq!(new, 3, "each member knows nothing at first");
            assert_eq!(ticks_by_parent(&log).await, each_five);
            world.mesh.delete("s", name).await.unwrap();
            assert_eq!(ticks_by_parent(&log).await, BTreeMap::new());
            assert_eq!(world.mesh.observe().live_actors, 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_shrinks_and_grows_again_has_one_tick_of_each_member_in_each_period() {
    let (host, log) = noting();
    let world = world(host).await;
    for (min, max) in [(1, 3), (1, 1), (1, 3), (2, 4)] {
        world.register(vec![timed_pool("pool", min, max)]).await.unwrap();
        world.spawn("spawned", "pool").await.unwrap();
        for name in ["pool", "spawned"] {
            call_members(&world, name).await;
        }
        let ticks = ticks_by_parent(&log).await;
        let of = |name: &'static str| (min..=max).map(move |number| format!("{name}-{number}"));
        assert!(ticks.keys().cloned().eq(of("pool").chain(of("spawned"))), "{ticks:?}");
        assert!(ticks.values().all(|ticks| (5..=6).contains(ticks)), "{ticks:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_becomes_a_named_actor_has_no_members_and_what_waits_for_them_still_runs() {
    let (log, free) = (Log::default(), Arc::new(Semaphore::new(0)));
    let (noted, gate) = (log.clone(), free.clone());
    let host = host(move |invocation: ActorInvocation| {
        noted.lock().push((0, invocation.clone()));
        let gate = gate.clone();
        async move {
            if invocation.action == "slow" {
                gate.acquire().await.unwrap().forget();
            }
            Ok(counted(&invocation))
        }
    });
    let world = world(host).await;
    world.register(vec![timed_pool("pool", 1, 2)]).await.unwrap();
    let waiting: Vec<_> = (0..6).map(|_| world.start(pooled("pool", "slow"))).collect();
    until_idle().await;
    assert_eq!(log.lock().len(), 2, "the others wait for the members");
    world.register(vec![timed("pool", "tick", SECOND)]).await.unwrap();
    free.add_permits(1_000);
    for call in waiting {
        call.await.unwrap().unwrap();
    }
    let ticks = ticks_by_parent(&log).await;
    assert!(ticks.keys().eq([""]), "those of the named actor only: {ticks:?}");
    assert_eq!(world.mesh.observe().live_actors, 1);
    for number in 1..=2 {
        let name = format!("pool\u{1}{number}");
        let key = stored_id(&name, &format!("pool-{number}"));
        assert!(world.memory.load(&key).await.unwrap().is_none(), "a member keeps no state");
    }
}

#[tokio::test(start_paused = true)]
async fn instances_of_a_template_that_gets_timers_tick_without_another_call() {
    let (host, log) = noting();
    let world = world(host).await;
    world.register(vec![definition("template")]).await.unwrap();
    world.spawn("joe", "template").await.unwrap();
    world.mesh.invoke(call("joe", "add")).await.unwrap();
    log.lock().clear();
    let template = Definition { channels: None, ..timed("template", "tick", SECOND) };
    world.register(vec![template]).await.unwrap();
    sleep(Duration::from_millis(4_500)).await;
    let names: Vec<_> = log.lock().iter().map(|(_, of)| of.actor.name.clone()).collect();
    assert!(names.len() >= 3 && names.iter().all(|name| name == "joe"), "{names:?}");
}

#[tokio::test(start_paused = true)]
async fn timers_that_change_within_a_second_of_others_are_all_replaced() {
    let (host, log) = noting();
    let world = world(host).await;
    let slow = |name| timed(name, "tick", 86_400 * SECOND);
    let busy = timed("busy", "tick", SECOND / 10);
    world.register(vec![busy.clone(), slow("a"), slow("b")]).await.unwrap();
    for name in ["busy", "a", "b"] {
        world.mesh.invoke(call(name, "add")).await.unwrap();
    }
    sleep(5 * SECOND).await;
    let a = timed("a", "tick", SECOND);
    world.register(vec![busy.clone(), a.clone(), slow("b")]).await.unwrap();
    sleep(SECOND / 4).await;
    world.register(vec![busy, a, timed("b", "tick", SECOND)]).await.unwrap();
    log.lock().clear();
    sleep(5 * SECOND).await;
    let ticks = |name: &str| log.lock().iter().filter(|(_, of)| of.actor.name == name).count();
    assert!(ticks("a") >= 3 && ticks("b") >= 3, "{} and {}", ticks("a"), ticks("b"));
}

#[tokio::test(start_paused = true)]
async fn timers_start_again_after_a_restart_although_nobody_calls() {
    let (host, log) = noting();
    let memory = MemoryStore::new();
    let first = world_with(host.clone(), Settings::default(), memory.clone()).await;
    first.register(vec![timed("joe", "tick", SECOND)]).await.unwrap();
    sleep(Duration::from_millis(2_500)).await;
    assert!(first.mesh.drain(10 * SECOND).await);
    log.lock().clear();
    let _second = world_with(host, Settings::default(), memory).await;
    sleep(Duration::from_millis(2_500)).await;
    assert_eq!(log.lock().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn timers_start_although_the_store_refuses_the_warm_up_and_nobody_calls() {
    let (host, log) = noting();
    let world = world(host).await;
    world.store.refuse_loads(Some(StoreError::Unavailable("away".into())));
    world.register(vec![timed("joe", "tick", SECOND)]).await.unwrap();
    sleep(30 * SECOND).await;
    assert_eq!(log.lock().len(), 0);
    world.store.refuse_loads(None);
    sleep(100 * SECOND).await;
    assert!(log.lock().len() > 10, "{} ticks", log.lock().len());
}

#[tokio::test(start_paused = true)]
async fn ticks_at_a_full_admission_are_skipped_and_take_no_memory() {
    const ACTORS: usize = 1_000;
    let (running, most) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
    let (now, peak) = (running.clone(), most.clone());
    let host = host(move |invocation: ActorInvocation| {
        let (now, peak) = (now.clone(), peak.clone());
        async move {
            peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            sleep(SECOND / 2).await;
            now.fetch_sub(1, Ordering::SeqCst);
            Ok(counted(&invocation))
        }
    });
    let admission = Bound { events: 16, bytes: 1 << 20 };
    let settings = Settings { admission, worker_demand: 16, ..Settings::default() };
    let world = world_with(host, settings, MemoryStore::new()).await;
    let all = (0..ACTORS).map(|number| timed(&format!("a{number}"), "tick", SECOND)).collect();
    world.register(all).await.unwrap();
    sleep(20 * SECOND).await;
    assert!((1..=32).contains(&most.load(Ordering::SeqCst)), "{most:?} at once");
    assert!(world.mesh.drain(30 * SECOND).await);
    assert_eq!(running.load(Ordering::SeqCst), 0);
}
