//! A call on its path through the stages.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use support::*;
use tidegate_pipeline::Bound;
use tidegate_stages::actor::{Definition, Kind};
use tidegate_stages::error::{Error, ErrorKind};
use tidegate_stages::invocation::{Invocation, Payload};
use tidegate_stages::memory::MemoryStore;
use tidegate_stages::ports::{HostError, StoreError};
use tidegate_stages::reply::Deadlines;
use tidegate_stages::rules::Durability;
use tidegate_stages::testkit::faulty::SaveFault;
use tidegate_stages::topology::Settings;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, sleep};

#[tokio::test(start_paused = true)]
async fn a_call_is_answered_with_what_the_host_said_and_its_state_is_kept() {
    let world = world(counter()).await;
    world.register(vec![definition("joe")]).await.unwrap();
    assert_eq!(world.add("joe").await.unwrap(), 1);
    assert_eq!(world.add("joe").await.unwrap(), 2);
    let head = world.head("joe").await.unwrap();
    assert_eq!((head.version, number(head.content.state.as_ref())), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn unknown_actors_and_actions_are_said_to_be_unknown_at_once() {
    let world = world(counter()).await;
    world.register(vec![definition("joe")]).await.unwrap();
    let began = Instant::now();
    let error = world.add("moe").await.unwrap_err();
    assert_eq!(error.to_string(), "Actor moe not found on ActorSystem s");
    let error = world.mesh.invoke(call("joe", "fly")).await.unwrap_err();
    assert_eq!(error.to_string(), "Action [fly] not found for Actor [joe]");
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn an_actor_without_actions_may_not_be_called() {
    let world = world(counter()).await;
    world.register(vec![Definition { actions: Vec::new(), ..definition("joe") }]).await.unwrap();
    let error = world.mesh.invoke(call("joe", "get")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Forbidden);
}

#[tokio::test(start_paused = true)]
async fn default_actions_are_answered_without_the_host_unless_one_is_registered() {
    let calls = Arc::new(AtomicUsize::new(0));
    let seen = calls.clone();
    let world = world(host(move |invocation| {
        seen.fetch_add(1, Ordering::SeqCst);
        async move { Ok(counted(&invocation)) }
    }))
    .await;
    let own_get = Definition { actions: vec!["Get".into()], ..definition("moe") };
    world.register(vec![definition("joe"), own_get]).await.unwrap();
    assert_eq!(world.mesh.invoke(call("joe", "get")).await.unwrap(), Payload::Unset);
    world.add("joe").await.unwrap();
    assert_eq!(answered(world.mesh.invoke(call("joe", "GetState")).await.unwrap()), 1);
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    assert_eq!(answered(world.mesh.invoke(call("moe", "get_state")).await.unwrap()), 1);
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn one_invocation_at_a_time_per_actor_in_the_order_of_admission() {
    let running = Arc::new(AtomicUsize::new(0));
    let order = Arc::new(Mutex::new(Vec::new()));
    let (inside, seen) = (running.clone(), order.clone());
    let world = world(host(move |invocation| {
        let (inside, seen) = (inside.clone(), seen.clone());
        async move {
            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
            if let Payload::Value(any) = &invocation.payload {
                seen.lock().push(number(Some(any)));
            }
            sleep(Duration::from_millis(5)).await;
            inside.fetch_sub(1, Ordering::SeqCst);
            Ok(counted(&invocation))
        }
    }))
    .await;
    world.register(vec![definition("joe")]).await.unwrap();
    let mut calls = Vec::new();
    for n in 0..50 {
        let payload = Payload::Value(any(n));
        calls.push(world.start(Invocation { payload, ..call("joe", "add") }));
        until_idle().await;
    }
    for (n, call) in (1..).zip(calls) {
        assert_eq!(answered(call.await.unwrap().unwrap()), n);
    }
    assert_eq!(*order.lock(), (0..50).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_slow_actor_delays_nobody_else() {
    let world = world(host(|invocation| async move {
        if invocation.action == "slow" {
            sleep(Duration::from_secs(30)).await;
        }
        Ok(counted(&invocation))
    }))
    .await;
    let names: Vec<String> = (0..3000).map(|n| format!("slow-{n}")).collect();
    let mut all: Vec<_> = names.iter().map(|name| definition(name)).collect();
    all.push(definition("quick"));
    world.register(all).await.unwrap();
    let calls: Vec<_> = names.iter().map(|name| world.start(call(name, "slow"))).collect();
    until_idle().await;
    let began = Instant::now();
    // More quick calls than there are slots left: each slot is free again at once.
    for n in 1..=3000 {
        assert_eq!(world.add("quick").await.unwrap(), n);
    }
    assert!(began.elapsed() < Duration::from_secs(1));
    for call in calls {
        call.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_failing_action_runs_once_and_leaves_the_state_alone() {
    let calls = Arc::new(AtomicUsize::new(0));
    let seen = calls.clone();
    let world = world(host(move |invocation| {
        let n = seen.fetch_add(1, Ordering::SeqCst);
        async move {
            if n == 1 {
                let (address, answer) = ("h".to_owned(), "HTTP 400 with an empty body".to_owned());
                return Err(HostError::Garbled { address, answer });
            }
            Ok(counted(&invocation))
        }
    }))
    .await;
    world.register(vec![definition("joe")]).await.unwrap();
    assert_eq!(world.add("joe").await.unwrap(), 1);
    let error = world.add("joe").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HostFailed);
    assert!(!error.is_retryable());
    assert_eq!(world.add("joe").await.unwrap(), 2);
    assert_eq!(calls.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn a_refused_connection_is_tried_again_in_order_until_the_start_deadline() {
    let up = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let listening = up.clone();
    let world = world(host(move |invocation| {
        let up = listening.load(Ordering::SeqCst);
        async move { if up { Ok(counted(&invocation)) } else { Err(refused()) } }
    }))
    .await;
    world.register(vec![definition("joe")]).await.unwrap();
    let first = world.start(call("joe", "add"));
    until_idle().await;
    let second = world.start(call("joe", "add"));
    sleep(Duration::from_secs(3)).await;
    up.store(true, Ordering::SeqCst);
    assert_eq!(answered(first.await.unwrap().unwrap()), 1);
    assert_eq!(answered(second.await.unwrap().unwrap()), 2);
    up.store(false, Ordering::SeqCst);
    let began = Instant::now();
    let error = world.add("joe").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HostFailed);
    assert!(error.is_retryable());
    assert!(began.elapsed() > Duration::from_secs(8) && began.elapsed() <= Duration::from_secs(10));
}

fn refused() -> HostError {
    HostError::Connect { address: "h".into(), reason: "connection refused".into() }
}

#[tokio::test(start_paused = true)]
async fn a_parked_actor_gives_its_worker_s_slot_back() {
    let settings = Settings { worker_demand: 2, workers: 1, ..Settings::default() };
    let world = world_with(
        host(|invocation| async move {
            if invocation.actor.name == "quick" { Ok(counted(&invocation)) } else { Err(refused()) }
        }),
        settings,
        MemoryStore::new(),
    )
    .await;
    let names = ["a", "b", "c", "d", "quick"];
    world.register(names.map(definition).to_vec()).await.unwrap();
    let _stuck: Vec<_> = names[..4].iter().map(|name| world.start(call(name, "add"))).collect();
    until_idle().await;
    let began = Instant::now();
    assert_eq!(world.add("quick").await.unwrap(), 1);
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_silent_host_ends_at_the_host_limit_and_the_actor_lives_on() {
    let world = world(host(|invocation| async move {
        if invocation.action == "slow" {
            std::future::pending::<()>().await;
        }
        Ok(counted(&invocation))
    }))
    .await;
    world.register(vec![definition("joe")]).await.unwrap();
    let began = Instant::now();
    let error = world.mesh.invoke(call("joe", "slow")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert_eq!(began.elapsed(), Duration::from_mins(1));
    assert_eq!(world.add("joe").await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_caller_s_deadline_ends_only_its_reply() {
    let world = world(host(|invocation| async move {
        sleep(Duration::from_secs(20)).await;
        Ok(counted(&invocation))
    }))
    .await;
    world.register(vec![definition("joe")]).await.unwrap();
    let metadata = [("request-timeout".to_owned(), "500".to_owned())].into();
    let began = Instant::now();
    let bounded = Invocation { metadata, ..call("joe", "add") };
    let error = world.mesh.invoke(bounded).await.unwrap_err();
    assert!(matches!(error, Error::NoAnswer(_)), "{error}");
    assert_eq!(began.elapsed(), Duration::from_millis(500));
    // The first call goes on, is applied and committed; the second one waits for it.
    let metadata = [("request-timeout".to_owned(), "garbage".to_owned())].into();
    let error = world.mesh.invoke(Invocation { metadata, ..call("joe", "add") }).await.unwrap_err();
    assert!(matches!(error, Error::NotStarted(..)), "{error}");
    sleep(Duration::from_secs(11)).await;
    assert_eq!(world.add("joe").await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_client_has_gone_before_its_start_never_runs() {
    let permits = Arc::new(Semaphore::new(0));
    let opened = permits.clone();
    let world = world(host(move |invocation| {
        let permits = opened.clone();
        async move {
            permits.acquire().await.unwrap().forget();
            Ok(counted(&invocation))
        }
    }))
    .await;
    world.register(vec![definition("joe")]).await.unwrap();
    let first = world.start(call("joe", "add"));
    until_idle().await;
    let gone = world.start(call("joe", "add"));
    until_idle().await;
    let last = world.start(call("joe", "add"));
    until_idle().await;
    gone.abort();
    until_idle().await;
    permits.add_permits(10);
    assert_eq!(answered(first.await.unwrap().unwrap()), 1);
    assert_eq!(answered(last.await.unwrap().unwrap()), 2);
    assert_eq!(permits.available_permits(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_started_call_whose_client_has_gone_runs_to_its_end() {
    let world = world(host(|invocation| async move {
        sleep(Duration::from_secs(1)).await;
        Ok(counted(&invocation))
    }))
    .await;
    world.register(vec![definition("joe")]).await.unwrap();
    let gone = world.start(call("joe", "add"));
    until_idle().await;
    gone.abort();
    sleep(Duration::from_secs(2)).await;
    assert_eq!(number(world.head("joe").await.unwrap().content.state.as_ref()), 1);
}

#[tokio::test(start_paused = true)]
async fn an_asynchronous_call_is_answered_on_admission_and_runs() {
    let world = world(counter()).await;
    world.register(vec![definition("joe")]).await.unwrap();
    let asynchronous = Invocation { asynchronous: true, ..call("joe", "add") };
    assert_eq!(world.mesh.invoke(asynchronous.clone()).await.unwrap(), Payload::Unset);
    assert_eq!(world.add("joe").await.unwrap(), 2);
    let unknown = Invocation { asynchronous: true, ..call("moe", "add") };
    assert_eq!(world.mesh.invoke(unknown).await.unwrap_err().kind(), ErrorKind::ActorNotFound);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_built_yet_is_a_typed_error() {
    let world = world(host(|invocation| async move {
        let mut response = counted(&invocation);
        response.workflow.broadcast = Some(tidegate_stages::invocation::Broadcast {
            channel: "news".into(),
            payload: Payload::Noop,
        });
        Ok(response)
    }))
    .await;
    world.register(vec![definition("joe")]).await.unwrap();
    let later = Invocation { scheduled_to: i64::MAX, ..call("joe", "add") };
    assert_eq!(world.mesh.invoke(later).await.unwrap_err().kind(), ErrorKind::Unsupported);
    let pooled = Invocation { pooled: true, ..call("joe", "add") };
    assert_eq!(world.mesh.invoke(pooled).await.unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(world.add("joe").await.unwrap_err().kind(), ErrorKind::Unsupported);
    assert!(world.head("joe").await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_panic_ends_one_call() {
    let world = world(host(|invocation| async move {
        assert_ne!(invocation.action, "other", "as the test wants it");
        Ok(counted(&invocation))
    }))
    .await;
    world.register(vec![definition("joe")]).await.unwrap();
    assert_eq!(world.add("joe").await.unwrap(), 1);
    let error = world.mesh.invoke(call("joe", "other")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert_eq!(world.add("joe").await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn one_hot_actor_cannot_fill_the_door() {
    let settings =
        Settings { admission: Bound { events: 64, bytes: 1 << 20 }, ..Settings::default() };
    let stop = Arc::new(Notify::new());
    let never = stop.clone();
    let world = world_with(
        host(move |invocation| {
            let never = never.clone();
            async move {
                if invocation.actor.name == "hot" {
                    never.notified().await;
                }
                Ok(counted(&invocation))
            }
        }),
        settings,
        MemoryStore::new(),
    )
    .await;
    world.register(vec![definition("hot"), definition("cold")]).await.unwrap();
    let calls: Vec<_> = (0..40).map(|_| world.start(call("hot", "add"))).collect();
    until_idle().await;
    let refused = calls.iter().filter(|call| call.is_finished()).count();
    assert_eq!(refused, 40 - 1 - 64 / 8);
    assert_eq!(world.add("cold").await.unwrap(), 1);
    for call in calls {
        call.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_door_says_when_to_come_back() {
    let settings =
        Settings { admission: Bound { events: 2, bytes: 1 << 20 }, ..Settings::default() };
    let world = world_with(host(|_| std::future::pending()), settings, MemoryStore::new()).await;
    world.register(["a", "b", "c"].map(definition).to_vec()).await.unwrap();
    let _stuck = [world.start(call("a", "add")), world.start(call("b", "add"))];
    until_idle().await;
    let error = world.add("c").await.unwrap_err();
    assert!(
        matches!(error, Error::Overloaded { retry_after, .. } if !retry_after.is_zero()),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn two_systems_with_one_name_are_two_actors() {
    let world = world(counter()).await;
    let mut other = definition("joe");
    other.id.system = "t".into();
    world.register(vec![definition("joe"), other]).await.unwrap();
    assert_eq!(world.add("joe").await.unwrap(), 1);
    let mut elsewhere = call("joe", "add");
    elsewhere.actor.system = "t".into();
    assert_eq!(answered(world.mesh.invoke(elsewhere).await.unwrap()), 1);
}

#[tokio::test(start_paused = true)]
async fn spawned_actors_use_their_template_and_keep_their_own_state() {
    let world = world(host(|invocation| async move {
        assert_eq!(invocation.actor.parent, "template");
        Ok(counted(&invocation))
    }))
    .await;
    let template = Definition { kind: Kind::Unnamed, ..definition("template") };
    world.register(vec![template, definition("other")]).await.unwrap();
    world.spawn("joe", "template").await.unwrap();
    world.spawn("joe", "template").await.unwrap();
    assert_eq!(world.add("joe").await.unwrap(), 1);
    let by_reference = Invocation { register_ref: "template".into(), ..call("moe", "add") };
    assert_eq!(answered(world.mesh.invoke(by_reference.clone()).await.unwrap()), 1);
    assert_eq!(answered(world.mesh.invoke(by_reference).await.unwrap()), 2);
    // The Go SDK's way: its own name as the reference, the definition as the parent.
    let mut go = Invocation { register_ref: "zoe".into(), ..call("zoe", "add") };
    go.actor.parent = "template".into();
    assert_eq!(answered(world.mesh.invoke(go.clone()).await.unwrap()), 1);
    assert_eq!(answered(world.mesh.invoke(go).await.unwrap()), 2);
    assert_eq!(world.spawn("x", "nowhere").await.unwrap_err().kind(), ErrorKind::ActorNotFound);
    assert_eq!(world.spawn("joe", "other").await.unwrap_err().kind(), ErrorKind::Conflict);
    let nameless = world.spawn("", "template").await.unwrap_err();
    assert_eq!(nameless.kind(), ErrorKind::Invalid);
}

#[tokio::test(start_paused = true)]
async fn registered_and_spawned_actors_survive_a_restart() {
    let memory = MemoryStore::new();
    {
        let world = world_with(counter(), Settings::default(), memory.clone()).await;
        world.register(vec![definition("template")]).await.unwrap();
        world.spawn("joe", "template").await.unwrap();
        world.spawn("joe-junior", "joe").await.unwrap();
        assert_eq!(world.add("joe").await.unwrap(), 1);
        assert_eq!(world.add("joe-junior").await.unwrap(), 1);
    }
    let world = world_with(counter(), Settings::default(), memory).await;
    assert_eq!(world.add("joe").await.unwrap(), 2);
    assert_eq!(world.add("joe-junior").await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn registering_again_replaces_the_definition_and_keeps_the_state() {
    let world = world(counter()).await;
    world.register(vec![definition("joe")]).await.unwrap();
    assert_eq!(world.add("joe").await.unwrap(), 1);
    let changed = Definition { actions: vec!["fly".into()], ..definition("joe") };
    world.register(vec![changed]).await.unwrap();
    assert_eq!(world.add("joe").await.unwrap_err().kind(), ErrorKind::ActionNotFound);
    assert_eq!(answered(world.mesh.invoke(call("joe", "fly")).await.unwrap()), 2);
}

#[tokio::test(start_paused = true)]
async fn a_drain_finishes_what_was_admitted_and_refuses_the_rest() {
    let world = world(host(|invocation| async move {
        sleep(Duration::from_secs(3)).await;
        Ok(counted(&invocation))
    }))
    .await;
    world.register(vec![definition("joe")]).await.unwrap();
    let calls = [world.start(call("joe", "add")), world.start(call("joe", "add"))];
    until_idle().await;
    let (drained, ()) = tokio::join!(world.mesh.drain(Duration::from_secs(20)), async {
        until_idle().await;
        assert_eq!(world.add("joe").await.unwrap_err().kind(), ErrorKind::Draining);
        for call in calls {
            call.await.unwrap().unwrap();
        }
    });
    assert!(drained);
    assert_eq!(number(world.head("joe").await.unwrap().content.state.as_ref()), 2);
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_at_its_limit_and_every_caller_gets_an_answer() {
    let world = world(host(|_| std::future::pending())).await;
    world.register(vec![definition("joe")]).await.unwrap();
    let calls = [world.start(call("joe", "add")), world.start(call("joe", "add"))];
    until_idle().await;
    let began = Instant::now();
    assert!(!world.mesh.drain(Duration::from_secs(5)).await);
    assert!(began.elapsed() < Duration::from_secs(8));
    for call in calls {
        assert!(call.await.unwrap().is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_started_when_a_drain_ends_says_so() {
    let world = world(host(|invocation| async move {
        if invocation.actor.name == "away" {
            return Err(refused());
        }
        std::future::pending().await
    }))
    .await;
    world.register(["busy", "away"].map(definition).to_vec()).await.unwrap();
    let running = world.start(call("busy", "add"));
    until_idle().await;
    // Two in the mailbox, and one that is parked for another try.
    let waiting = ["busy", "busy", "away"].map(|name| world.start(call(name, "add")));
    until_idle().await;
    assert!(!world.mesh.drain(Duration::from_secs(5)).await);
    for call in waiting {
        let error = call.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Draining, "{error}");
        assert!(error.is_retryable() && error.to_string().contains("not started"), "{error}");
    }
    let error = running.await.unwrap().unwrap_err();
    assert!(!error.is_retryable() && error.to_string().contains("may have run"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_drain_reports_an_actor_whose_last_change_could_not_be_written() {
    for is_lost in [false, true] {
        let settings = rules(|rules| rules.durability = Durability::Snapshot);
        let world = world_with(counter(), settings, MemoryStore::new()).await;
        world.register(vec![definition("joe")]).await.unwrap();
        assert_eq!(world.add("joe").await.unwrap(), 1);
        if is_lost {
            let lost = StoreError::Fenced(9);
            world.store.fail_next_save(SaveFault::Lose(lost));
        }
        assert_eq!(world.mesh.drain(Duration::from_secs(20)).await, !is_lost);
    }
}

#[tokio::test(start_paused = true)]
async fn the_start_deadline_is_a_setting() {
    let limits = Deadlines { start: Duration::from_millis(100), ..Deadlines::default() };
    let settings = Settings { deadlines: limits, ..Settings::default() };
    let world = world_with(host(|_| async { Err(refused()) }), settings, MemoryStore::new()).await;
    world.register(vec![definition("joe")]).await.unwrap();
    let began = Instant::now();
    world.add("joe").await.unwrap_err();
    assert!(began.elapsed() <= Duration::from_millis(100));
}
