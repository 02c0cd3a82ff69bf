//! Deadlines of calls: the error always says correctly whether the action ran.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test; it awaits its tasks")]

mod support;

use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use support::*;
use tidegate_stages::actor::{Definition, HostAddress};
use tidegate_stages::error::{Error, ErrorKind};
use tidegate_stages::invocation::{ActorInvocationResponse, Invocation, Routing};
use tidegate_stages::memory::MemoryStore;
use tidegate_stages::ports::{HostError, HostProbe};
use tidegate_stages::topology::Settings;
use tokio::time::{Instant, sleep};

/// Finds a host that is away still away.
#[derive(Debug)]
struct NeverBack;

impl HostProbe for NeverBack {
    fn probe(&self, address: &HostAddress) -> BoxFuture<'static, Result<(), HostError>> {
        Box::pin(ready(Err(no_connection(address))))
    }
}

fn no_connection(address: &HostAddress) -> HostError {
    HostError::Connect { address: address.to_string(), reason: "no answer".into() }
}

fn bounded(invocation: Invocation, ms: u64) -> Invocation {
    let metadata = [("request-timeout".to_owned(), ms.to_string())].into();
    Invocation { metadata, ..invocation }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_said_not_to_be_started_never_runs() {
    let runs = Arc::new(AtomicUsize::new(0));
    let seen = runs.clone();
    let world = world(host(move |invocation| {
        let seen = seen.clone();
        async move {
            if invocation.action == "init" {
                sleep(Duration::from_secs(15)).await;
                return Ok(ActorInvocationResponse::default());
            }
            seen.fetch_add(1, Ordering::SeqCst);
            Ok(counted(&invocation))
        }
    }))
    .await;
    let actions = vec!["init".into(), "add".into()];
    world.register(vec![Definition { actions, ..definition("joe") }]).await.unwrap();
    let gone = world.start(call("joe", "add"));
    until_idle().await;
    gone.abort();
    let error = world.add("joe").await.unwrap_err();
    assert!(matches!(error, Error::NotStarted(..)), "{error}");
    sleep(Duration::from_secs(30)).await;
    assert_eq!(runs.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_never_reached_its_host_is_said_not_to_be_started() {
    let world = world(host(|_| async {
        Err(HostError::Connect { address: "h".into(), reason: "refused".into() })
    }))
    .await;
    world.register(vec![definition("joe")]).await.unwrap();
    let began = Instant::now();
    let error = world.mesh.invoke(bounded(call("joe", "add"), 500)).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert!(began.elapsed() <= Duration::from_millis(500));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_brings_no_time_is_not_told_of_a_busy_actor() {
    let world = world(host(|invocation| async move { Ok(counted(&invocation)) })).await;
    world.register(vec![definition("joe")]).await.unwrap();
    let error = world.mesh.invoke(bounded(call("joe", "add"), 0)).await.unwrap_err();
    assert!(matches!(error, Error::NotStarted(..)), "{error}");
    assert!(error.to_string().contains("request-timeout leaves no time"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_host_refuses_after_the_time_to_start_is_answered_at_once() {
    let calls = Arc::new(AtomicUsize::new(0));
    let host = host(move |invocation| {
        let number = calls.fetch_add(1, Ordering::SeqCst);
        async move {
            if number == 0 {
                return Ok(counted(&invocation));
            }
            let seconds = if &*invocation.actor.name == "moe" { 1 } else { 12 };
            sleep(Duration::from_secs(seconds)).await;
            Err(no_connection(&invocation.host))
        }
    });
    let host_grace = Duration::from_mins(1);
    let settings = Settings { host_grace, ..Settings::default() };
    let world = world_of((host, Arc::new(NeverBack)), settings, MemoryStore::new()).await;
    world.register(vec![definition("joe"), definition("moe")]).await.unwrap();
    assert_eq!(world.add("joe").await.unwrap(), 1);
    let began = Instant::now();
    // This one finds out that the host is away, and waits for its return.
    let _other = world.start(call("moe", "add"));
    let error = world.add("joe").await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert_eq!(began.elapsed(), Duration::from_secs(12));
}

#[tokio::test(start_paused = true)]
async fn a_call_behind_one_that_waits_for_a_host_that_is_away_is_told_so() {
    let world = world(host(|invocation| async move {
        if invocation.action == "other" {
            return Err(no_connection(&invocation.host));
        }
        Ok(counted(&invocation))
    }))
    .await;
    world.register(vec![definition("joe")]).await.unwrap();
    assert_eq!(world.add("joe").await.unwrap(), 1);
    let accepted = Invocation { asynchronous: true, ..call("joe", "other") };
    world.mesh.invoke(accepted).await.unwrap();
    let error = world.mesh.invoke(call("joe", "get")).await.unwrap_err();
    assert!(matches!(error, Error::NotStarted(..)), "{error}");
    assert!(error.to_string().contains("waits for its host, which cannot be reached"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_caller_s_own_bound_is_for_the_whole_call_waiting_included() {
    let world = world(host(|invocation| async move {
        sleep(Duration::from_secs(20)).await;
        Ok(counted(&invocation))
    }))
    .await;
    world.register(vec![definition("joe")]).await.unwrap();
    let first = world.start(bounded(call("joe", "add"), 50_000));
    until_idle().await;
    let second = world.start(bounded(call("joe", "add"), 50_000));
    let endless = world.start(bounded(call("joe", "add"), u64::MAX));
    assert_eq!(answered(first.await.unwrap().unwrap()), 1);
    assert_eq!(answered(second.await.unwrap().unwrap()), 2);
    assert_eq!(answered(endless.await.unwrap().unwrap()), 3);
}

#[tokio::test(start_paused = true)]
async fn a_bounded_call_goes_on_to_its_next_actor_within_its_bound() {
    let world = world(host(|invocation| async move {
        sleep(Duration::from_secs(15)).await;
        let mut response = counted(&invocation);
        if invocation.actor.name == "first" {
            let (actor, action) = ("second".into(), "add".into());
            response.workflow.routing = Some(Routing::Forward { actor, action });
        }
        Ok(response)
    }))
    .await;
    world.register(["first", "second"].map(definition).to_vec()).await.unwrap();
    assert_eq!(
        answered(world.mesh.invoke(bounded(call("first", "add"), 40_000)).await.unwrap()),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn a_routed_call_that_is_not_started_in_time_is_told_so_and_its_next_actor_never_runs_it() {
    let world = world(host(|invocation| async move {
        let mut response = counted(&invocation);
        if invocation.actor.name == "first" {
            let to = if invocation.action == "add" { "paused" } else { "busy" };
            let (actor, action) = (to.into(), "add".into());
            response.workflow.routing = Some(Routing::Pipe { actor, action });
        }
        if invocation.action == "slow" {
            sleep(Duration::from_secs(45)).await;
        }
        Ok(response)
    }))
    .await;
    world.register(["first", "paused", "busy"].map(definition).to_vec()).await.unwrap();
    assert!(world.mesh.pause("s", "paused", "a test").await.unwrap());
    let busy = world.start(call("busy", "slow"));
    until_idle().await;
    for (action, why) in [("add", "the actor is paused"), ("other", "the actor was busy")] {
        let began = Instant::now();
        let error = world.mesh.invoke(call("first", action)).await.unwrap_err();
        let Error::ActionRan(source) = &error else { panic!("{error}") };
        assert!(matches!(**source, Error::NotStarted(..)), "{error}");
        assert!(error.to_string().contains(why), "{error}");
        assert!(!error.is_retryable(), "{error}");
        assert_eq!(began.elapsed(), Duration::from_secs(10), "{error}");
    }
    let queued = |name: &str| world.mesh.queue("s", name).unwrap().queued;
    assert_eq!((queued("paused"), queued("busy")), (0, 0), "they hold no place of the others");
    busy.await.unwrap().unwrap();
    assert!(world.mesh.resume("s", "paused").await.unwrap());
    sleep(Duration::from_secs(10)).await;
    let count =
        async |name: &str| world.head(name).await.map(|head| number(head.content.state.as_ref()));
    assert_eq!(count("first").await, Some(2));
    assert_eq!((count("paused").await, count("busy").await), (None, Some(1)));
}

#[tokio::test(start_paused = true)]
async fn an_accepted_asynchronous_call_runs_however_long_it_waits() {
    let world = world(host(|invocation| async move {
        sleep(Duration::from_secs(4)).await;
        Ok(counted(&invocation))
    }))
    .await;
    world.register(vec![definition("joe")]).await.unwrap();
    for _ in 0..10 {
        let accepted = Invocation { asynchronous: true, ..call("joe", "add") };
        world.mesh.invoke(accepted).await.unwrap();
    }
    sleep(Duration::from_mins(1)).await;
    assert_eq!(number(world.head("joe").await.unwrap().content.state.as_ref()), 10);
}

#[tokio::test(start_paused = true)]
async fn a_routed_call_is_not_cancelled_when_its_client_and_another_one_go() {
    let world = world(host(|invocation| async move {
        let mut response = counted(&invocation);
        if invocation.actor.name == "first" {
            let (actor, action) = ("second".into(), "add".into());
            response.workflow.routing = Some(Routing::Forward { actor, action });
        } else {
            sleep(Duration::from_secs(3)).await;
        }
        Ok(response)
    }))
    .await;
    world.register(["first", "second"].map(definition).to_vec()).await.unwrap();
    let running = world.start(call("second", "add"));
    until_idle().await;
    let routed = world.start(call("first", "add"));
    let other = world.start(call("second", "add"));
    until_idle().await;
    routed.abort();
    until_idle().await;
    other.abort();
    running.await.unwrap().unwrap();
    sleep(Duration::from_secs(10)).await;
    assert_eq!(number(world.head("second").await.unwrap().content.state.as_ref()), 2);
}

#[tokio::test(start_paused = true)]
async fn an_error_after_the_action_ran_does_not_invite_to_run_it_again() {
    use tidegate_stages::ports::StoreError;
    use tidegate_stages::testkit::faulty::SaveFault;
    let world = world(host(|invocation| async move {
        let mut response = counted(&invocation);
        if invocation.actor.name == "first" {
            let (actor, action) = ("second".into(), "add".into());
            response.workflow.routing = Some(Routing::Forward { actor, action });
            return Ok(response);
        }
        if invocation.actor.name == "second" {
            return Err(HostError::Connect { address: "h".into(), reason: "refused".into() });
        }
        Ok(response)
    }))
    .await;
    world.register(["first", "second", "joe"].map(definition).to_vec()).await.unwrap();
    let error = world.mesh.invoke(call("first", "add")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HostFailed);
    assert!(!error.is_retryable(), "{error}");
    let lost = StoreError::Unavailable("as the test wants it".into());
    world.store.fail_next_save(SaveFault::Lose(lost));
    let error = world.add("joe").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StoreUnavailable);
    assert!(!error.is_retryable(), "{error}");
}
