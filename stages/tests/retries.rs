//! Retries never multiply an outage, calls survive a short one, and stored states are told in any.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test; it awaits its tasks")]

mod support;

use std::collections::HashMap;
use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use support::*;
use tidegate_stages::actor::{Definition, HostAddress};
use tidegate_stages::error::{Error, ErrorKind};
use tidegate_stages::invocation::{Invocation, Payload, Routing};
use tidegate_stages::memory::MemoryStore;
use tidegate_stages::ports::{HostError, HostProbe, StoreError};
use tidegate_stages::topology::{RetryRates, Settings};
use tokio::time::{Instant, sleep};

/// Calls that wait for a host or a store, each of an actor of its own.
const CALLS: usize = 500;
/// How long it is away; less than a call may wait.
const OUTAGE: Duration = Duration::from_secs(5);

/// Most attempts of an outage, the first ones included: a fifth of the calls, and 10 for each second
/// and the one that is saved up.
const MOST: usize = CALLS + CALLS / 5 + 10 * 6;

fn refused() -> HostError {
    HostError::Connect { address: "h".into(), reason: "refused".into() }
}

/// A host that refuses connections until it is told to accept them.
#[derive(Clone, Default)]
struct Refusing {
    is_back: Arc<AtomicBool>,
    refused: Arc<AtomicUsize>,
    /// What each actor was called with, in order.
    served: Arc<Mutex<HashMap<String, Vec<u64>>>>,
}

impl Refusing {
    fn host(&self) -> BoxedHost {
        let this = self.clone();
        host(move |invocation| {
            let this = this.clone();
            async move {
                if !this.is_back.load(Ordering::SeqCst) {
                    this.refused.fetch_add(1, Ordering::SeqCst);
                    return Err(refused());
                }
                let number = answered(invocation.payload.clone());
                let name = invocation.actor.name.clone();
                this.served.lock().entry(name).or_default().push(number);
                Ok(counted(&invocation))
            }
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_that_refuses_is_tried_within_its_budget_and_then_serves_all_in_order() {
    let refusing = Refusing::default();
    let world = world(refusing.host()).await;
    let names: Vec<_> = (0..CALLS / 2).map(|n| format!("a{n}")).collect();
    world.register(names.iter().map(|name| definition(name)).collect()).await.unwrap();
    let mut calls = Vec::new();
    for number in [1, 2] {
        for name in &names {
            let payload = Payload::Value(any(number));
            calls.push(world.start(Invocation { payload, ..call(name, "add") }));
        }
        until_idle().await;
    }
    sleep(OUTAGE).await;
    let tried = refusing.refused.load(Ordering::SeqCst);
    assert!(tried <= MOST - CALLS / 2, "{tried} attempts at a host that is away");
    // Fewer would be too few to notice its return.
    assert!(tried >= CALLS / 2 + 10 * 5, "{tried} attempts");
    refusing.is_back.store(true, Ordering::SeqCst);
    for call in calls {
        call.await.unwrap().unwrap();
    }
    let served = refusing.served.lock();
    assert!(names.iter().all(|name| served[name] == [1, 2]), "{served:?}");
}

#[tokio::test(start_paused = true)]
async fn one_host_that_refuses_spends_nothing_of_another_ones_budget() {
    let refusals = Arc::new(AtomicUsize::new(0));
    let seen = refusals.clone();
    let world = world(host(move |invocation| {
        let seen = seen.clone();
        async move {
            // The other one refuses once, as one that restarts.
            if invocation.host.as_str().ends_with(":1") || seen.fetch_add(1, Ordering::SeqCst) == 0
            {
                return Err(refused());
            }
            Ok(counted(&invocation))
        }
    }))
    .await;
    let away = tidegate_stages::actor::HostAddress::new("127.0.0.1:1");
    let names: Vec<_> = (0..CALLS).map(|n| format!("a{n}")).collect();
    let mut definitions: Vec<_> = names.iter().map(|name| definition(name)).collect();
    for definition in &mut definitions {
        definition.hosts = away.clone().into();
    }
    definitions.push(definition("joe"));
    world.register(definitions).await.unwrap();
    let calls: Vec<_> = names.iter().map(|name| world.start(call(name, "add"))).collect();
    sleep(Duration::from_secs(1)).await;
    let began = tokio::time::Instant::now();
    assert_eq!(world.add("joe").await.unwrap(), 1);
    assert!(began.elapsed() < Duration::from_millis(50), "{:?}", began.elapsed());
    calls.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_be_read_is_tried_within_its_budget_and_then_serves_all() {
    let world = world(counter()).await;
    let names: Vec<_> = (0..CALLS).map(|n| format!("a{n}")).collect();
    world.register(names.iter().map(|name| definition(name)).collect()).await.unwrap();
    world.store.refuse_loads(Some(StoreError::Unavailable("as the test wants it".into())));
    let calls: Vec<_> = names.iter().map(|name| world.start(call(name, "add"))).collect();
    sleep(OUTAGE).await;
    let tried = world.store.loads();
    assert!(tried <= MOST, "{tried} attempts at a store that cannot be read");
    assert!((3..20).contains(&tried), "one at a time, after growing pauses: {tried} attempts");
    world.store.refuse_loads(None);
    for call in calls {
        assert_eq!(answered(call.await.unwrap().unwrap()), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn the_rates_are_settings() {
    let retries = RetryRates { percent: 0, per_second: 1 };
    let settings = Settings { retries, ..Settings::default() };
    let refusing = Refusing::default();
    let world = world_with(refusing.host(), settings, MemoryStore::new()).await;
    let names: Vec<_> = (0..CALLS).map(|n| format!("a{n}")).collect();
    world.register(names.iter().map(|name| definition(name)).collect()).await.unwrap();
    let calls: Vec<_> = names.iter().map(|name| world.start(call(name, "add"))).collect();
    sleep(OUTAGE).await;
    let tried = refusing.refused.load(Ordering::SeqCst);
    assert!((CALLS + 4..=CALLS + 6).contains(&tried), "{tried} attempts");
    for call in calls {
        assert!(call.await.unwrap().unwrap_err().is_retryable());
    }
}

/// A counter that accepts connections while it is up.
#[derive(Debug, Clone, Default)]
struct Flaky(Arc<AtomicBool>);

impl Flaky {
    fn set_up(&self, is_up: bool) {
        self.0.store(is_up, Ordering::SeqCst);
    }

    fn check(&self, address: &HostAddress) -> Result<(), HostError> {
        let refused =
            || HostError::Connect { address: address.to_string(), reason: "refused".into() };
        self.0.load(Ordering::SeqCst).then_some(()).ok_or_else(refused)
    }

    async fn world(&self, memory: MemoryStore) -> World {
        let flaky = self.clone();
        let host = host(move |invocation| {
            ready(flaky.check(&invocation.host).map(|()| counted(&invocation)))
        });
        world_of((host, Arc::new(self.clone())), Settings::default(), memory).await
    }
}

impl HostProbe for Flaky {
    fn probe(&self, address: &HostAddress) -> BoxFuture<'static, Result<(), HostError>> {
        Box::pin(ready(self.check(address)))
    }
}

/// The state of joe, read in both ways, at once.
async fn told(world: &World) -> [u64; 2] {
    let began = Instant::now();
    let by_call = answered(world.mesh.invoke(call("joe", "get")).await.unwrap());
    let state = world.mesh.state("s", "joe").await.unwrap();
    assert!(began.elapsed() < Duration::from_millis(100), "{:?}", began.elapsed());
    [by_call, number(state.state.as_ref())]
}

#[tokio::test(start_paused = true)]
async fn a_stored_state_is_told_while_the_host_is_away_and_init_runs_before_the_next_action() {
    let flaky = Flaky::default();
    let with_init = |name| {
        let actions = vec!["init".into(), "add".into()];
        let short = Some(Duration::from_millis(100));
        Definition { actions, deactivate_after: short, ..definition(name) }
    };
    let first = flaky.world(MemoryStore::new()).await;
    first.register(["joe", "new"].map(with_init).to_vec()).await.unwrap();
    flaky.set_up(true);
    assert_eq!(first.add("joe").await.unwrap(), 2, "one of them was its init action's");
    assert!(first.mesh.drain(Duration::from_secs(5)).await);

    // This start has never reached the host.
    flaky.set_up(false);
    let world = flaky.world(first.memory).await;
    assert_eq!(told(&world).await, [2, 2]);
    let error = world.mesh.state("s", "new").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HostFailed, "what was never stored has to be made");
    flaky.set_up(true);
    assert_eq!(world.add("joe").await.unwrap(), 4);

    // It leaves memory; its host goes away.
    sleep(Duration::from_secs(1)).await;
    flaky.set_up(false);
    for when in ["its outage is found out", "it is known", "calls are refused at once"] {
        assert_eq!(told(&world).await, [4, 4], "{when}");
        sleep(Duration::from_secs(3)).await;
    }
    let began = Instant::now();
    for error in [
        world.mesh.state("s", "new").await.map(drop).unwrap_err(),
        world.mesh.invoke(call("new", "get")).await.map(drop).unwrap_err(),
        world.add("joe").await.map(drop).unwrap_err(),
    ] {
        assert!(matches!(error, Error::HostAway { .. }), "{error}");
    }
    assert!(began.elapsed() < Duration::from_millis(100), "{:?}", began.elapsed());
    flaky.set_up(true);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(world.add("joe").await.unwrap(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_call_for_a_later_time_that_is_routed_on_waits_for_a_host_that_is_away() {
    let flaky = Flaky::default();
    flaky.set_up(true);
    let called = flaky.clone();
    let host = host(move |invocation| {
        let outcome = called.check(&invocation.host).map(|()| {
            let mut answer = counted(&invocation);
            if invocation.actor.name == "first" {
                called.set_up(false);
                let (actor, action) = ("next".into(), "add".into());
                answer.workflow.routing = Some(Routing::Forward { actor, action });
            }
            answer
        });
        ready(outcome)
    });
    let probe = Arc::new(flaky.clone());
    let world = world_of((host, probe), Settings::default(), MemoryStore::new()).await;
    world.register(["first", "next"].map(definition).to_vec()).await.unwrap();
    world.mesh.invoke(later(&world, "first", 1)).await.unwrap();
    // Longer than the grace.
    pass(&world, 8).await;
    assert!(world.head("next").await.is_none());
    flaky.set_up(true);
    pass(&world, 5).await;
    for name in ["first", "next"] {
        assert_eq!(number(world.head(name).await.unwrap().content.state.as_ref()), 1, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_init_action_that_a_turn_without_a_host_needs_takes_a_permit_of_the_host() {
    let flaky = Flaky::default();
    let (in_flight, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (called, calls, highest) = (flaky.clone(), in_flight.clone(), most.clone());
    let host = host(move |invocation| {
        let (called, calls, highest) = (called.clone(), calls.clone(), highest.clone());
        async move {
            called.check(&invocation.host)?;
            highest.fetch_max(calls.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            if invocation.action == "slow" {
                sleep(Duration::from_secs(5)).await;
            }
            calls.fetch_sub(1, Ordering::SeqCst);
            Ok(counted(&invocation))
        }
    });
    let settings = Settings { host_connections: 1, ..Settings::default() };
    let world = world_of((host, Arc::new(flaky.clone())), settings, MemoryStore::new()).await;
    let actions = vec!["init".into(), "add".into()];
    let joe = Definition { actions, ..definition("joe") };
    world.register(vec![joe, definition("ann")]).await.unwrap();
    flaky.set_up(true);
    assert_eq!(world.add("joe").await.unwrap(), 2, "one of them was its init action's");
    world.mesh.deactivate("s", "joe").await.unwrap();
    assert!(world.mesh.pause("s", "joe", "a test").await.unwrap());

    flaky.set_up(false);
    let finds_out = world.start(call("ann", "add"));
    until_idle().await;
    let told = world.start(call("joe", "get"));
    until_idle().await;
    flaky.set_up(true);
    finds_out.await.unwrap().unwrap();
    sleep(Duration::from_secs(1)).await;
    let slow = world.start(call("ann", "slow"));
    until_idle().await;
    assert_eq!(in_flight.load(Ordering::SeqCst), 1);
    assert!(world.mesh.resume("s", "joe").await.unwrap());
    assert_eq!(answered(told.await.unwrap().unwrap()), 3);
    slow.await.unwrap().unwrap();
    assert_eq!(most.load(Ordering::SeqCst), 1, "the host has one call at a time");
}
