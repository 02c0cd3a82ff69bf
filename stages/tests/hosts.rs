//! Several hosts of one definition: which of them is called, and what happens when one refuses, freezes, leaves or returns.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::{BoxFuture, pending};
use parking_lot::Mutex;
use tidegate_pipeline::Bound;
use tidegate_stages::actor::{Definition, HostAddress, HostSet, Kind};
use tidegate_stages::error::{Error, ErrorKind};
use tidegate_stages::invocation::{Invocation, Registration, Spawn};
use tidegate_stages::memory::MemoryStore;
use tidegate_stages::mesh::Mesh;
use tidegate_stages::ports::{HostError, HostProbe, Registered, RegisteredEntry, Registry};
use tidegate_stages::state::Timestamp;
use tidegate_stages::testkit::clock::SetClock;
use tidegate_stages::topology::{self, HostChoice, HostRules, Ports, Settings};
use tokio::time::sleep;

use support::{BoxedHost, answered, call, counted, definition, host, stored_id, until_idle};

/// What a host does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    Serve,
    Refuse,
    Freeze,
    BreakOff,
}

const A: &str = "10.0.0.1:8090";
const B: &str = "10.0.0.2:8090";
const C: &str = "10.0.0.3:8090";

/// Hosts by their address; those that are not named serve.
#[derive(Debug, Clone, Default)]
struct Hosts {
    does: Arc<Mutex<BTreeMap<String, Does>>>,
    /// Which host ran the turns of which actor, in order.
    ran: Arc<Mutex<Vec<(String, String)>>>,
    refused: Arc<AtomicU64>,
}

impl Hosts {
    fn set(&self, address: &str, does: Does) {
        self.does.lock().insert(address.into(), does);
    }

    fn does(&self, address: &HostAddress) -> Does {
        self.does.lock().get(address.as_str()).copied().unwrap_or(Does::Serve)
    }

    fn service(&self) -> BoxedHost {
        let hosts = self.clone();
        host(move |invocation| {
            let hosts = hosts.clone();
            async move {
                let address = invocation.host.to_string();
                let does = hosts.does(&invocation.host);
                if does == Does::Refuse {
                    hosts.refused.fetch_add(1, Ordering::SeqCst);
                    return Err(refused(&invocation.host));
                }
                hosts.ran.lock().push((address.clone(), invocation.actor.name.clone()));
                match does {
                    Does::Freeze => pending().await,
                    Does::BreakOff => {
                        Err(HostError::Broken { address, reason: "as the test wants it".into() })
                    }
                    _ => {
                        if invocation.action == "slow" {
                            sleep(Duration::from_secs(3)).await;
                        }
                        Ok(counted(&invocation))
                    }
                }
            }
        })
    }

    /// How often each host ran a turn since the last look.
    fn take(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for (address, _) in std::mem::take(&mut *self.ran.lock()) {
            *counts.entry(address).or_default() += 1;
        }
        counts
    }
}

impl HostProbe for Hosts {
    fn probe(&self, address: &HostAddress) -> BoxFuture<'static, Result<(), HostError>> {
        let probed =
            if self.does(address) == Does::Refuse { Err(refused(address)) } else { Ok(()) };
        Box::pin(std::future::ready(probed))
    }
}

fn refused(address: &HostAddress) -> HostError {
    HostError::Connect { address: address.to_string(), reason: "refused".into() }
}

fn many(choice: HostChoice) -> Settings {
    let leave_after = Duration::from_mins(1);
    Settings { hosts: HostRules { join: true, choice, leave_after }, ..Settings::default() }
}

async fn open(hosts: &Hosts, settings: Settings, memory: &MemoryStore) -> Mesh {
    let ports = Ports {
        host: hosts.service(),
        probe: Arc::new(hosts.clone()),
        store: Arc::new(memory.clone()),
        registry: Arc::new(memory.clone()),
        clock: Arc::new(SetClock::at(Timestamp(1_000_000_000_000))),
    };
    topology::open(settings, ports).await.unwrap()
}

async fn register(mesh: &Mesh, address: &str, definitions: &[Definition]) -> Result<(), Error> {
    let host = HostAddress::new(address);
    let at = |one: &Definition| Definition { hosts: host.clone().into(), ..one.clone() };
    let definitions = definitions.iter().map(at).collect();
    mesh.register(Registration { system: "s".into(), host: host.clone(), definitions }).await
}

async fn add(mesh: &Mesh, name: &str) -> Result<u64, Error> {
    mesh.invoke(call(name, "add")).await.map(answered)
}

#[allow(clippy::disallowed_methods, reason = "the test awaits it")]
fn start(mesh: &Mesh, name: &str, action: &str) -> tokio::task::JoinHandle<Result<u64, Error>> {
    let (mesh, call) = (mesh.clone(), call(name, action));
    tokio::task::spawn(async move { mesh.invoke(call).await.map(answered) })
}

/// The hosts of a definition as the registry has them.
async fn stored(memory: &MemoryStore, name: &str) -> Vec<String> {
    let find = |one: Registered| match one.entry {
        RegisteredEntry::Definition(definition) if definition.id.name == name => {
            Some(definition.hosts.clone())
        }
        _ => None,
    };
    let hosts: HostSet = memory.load().await.unwrap().into_iter().find_map(find).unwrap();
    hosts.all().iter().map(ToString::to_string).collect()
}

#[tokio::test(start_paused = true)]
async fn two_replicas_serve_one_definition_and_both_do_so_after_a_restart() {
    let (hosts, memory) = (Hosts::default(), MemoryStore::new());
    let mesh = open(&hosts, many(HostChoice::RoundRobin), &memory).await;
    register(&mesh, A, &[definition("joe")]).await.unwrap();
    register(&mesh, B, &[definition("joe")]).await.unwrap();
    assert_eq!(stored(&memory, "joe").await, [A, B]);
    for count in 1..=10 {
        assert_eq!(add(&mesh, "joe").await.unwrap(), count, "one state, wherever it runs");
    }
    let each = BTreeMap::from([(A.to_owned(), 5), (B.to_owned(), 5)]);
    assert_eq!(hosts.take(), each);
    assert!(mesh.drain(Duration::from_secs(10)).await);

    let mesh = open(&hosts, many(HostChoice::RoundRobin), &memory).await;
    for count in 11..=20 {
        assert_eq!(add(&mesh, "joe").await.unwrap(), count);
    }
    assert_eq!(hosts.take(), each);
}

#[tokio::test(start_paused = true)]
async fn where_hosts_do_not_join_the_last_registration_has_the_definition() {
    let (hosts, memory) = (Hosts::default(), MemoryStore::new());
    let mesh = open(&hosts, Settings::default(), &memory).await;
    register(&mesh, A, &[definition("joe")]).await.unwrap();
    register(&mesh, B, &[definition("joe")]).await.unwrap();
    assert_eq!(stored(&memory, "joe").await, [B]);
    for _ in 0..10 {
        add(&mesh, "joe").await.unwrap();
    }
    assert_eq!(hosts.take(), [(B.to_owned(), 10)].into());
}

#[tokio::test(start_paused = true)]
async fn the_newest_definition_counts_for_all_hosts_and_a_host_leaves_what_it_does_not_register() {
    let (hosts, memory) = (Hosts::default(), MemoryStore::new());
    let mesh = open(&hosts, many(HostChoice::RoundRobin), &memory).await;
    register(&mesh, A, &[definition("joe"), definition("moe")]).await.unwrap();
    assert_eq!(
        mesh.invoke(call("joe", "new")).await.unwrap_err().kind(),
        ErrorKind::ActionNotFound
    );
    let mut changed = definition("joe");
    changed.actions.push("new".into());
    register(&mesh, B, &[changed, definition("moe")]).await.unwrap();
    mesh.invoke(call("joe", "new")).await.unwrap();
    assert_eq!(stored(&memory, "joe").await, [A, B]);
    let mut changed = definition("joe");
    changed.actions.push("new".into());
    register(&mesh, A, &[changed]).await.unwrap();
    assert_eq!(
        (stored(&memory, "joe").await.len(), stored(&memory, "moe").await),
        (2, vec![B.into()])
    );
    hosts.take();
    for _ in 0..6 {
        add(&mesh, "moe").await.unwrap();
    }
    assert_eq!(hosts.take(), [(B.to_owned(), 6)].into(), "it is not retired");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_one_host_refuses_runs_once_at_another_without_a_wait() {
    let (hosts, memory) = (Hosts::default(), MemoryStore::new());
    let mesh = open(&hosts, many(HostChoice::RoundRobin), &memory).await;
    // A has registered before it listens, and was never reached.
    hosts.set(A, Does::Refuse);
    register(&mesh, A, &[definition("joe")]).await.unwrap();
    register(&mesh, B, &[definition("joe")]).await.unwrap();
    let began = tokio::time::Instant::now();
    for count in 1..=6 {
        assert_eq!(add(&mesh, "joe").await.unwrap(), count);
    }
    assert_eq!(hosts.take(), [(B.to_owned(), 6)].into());
    // It may be about to start, so it is asked each time it is its turn.
    assert_eq!(hosts.refused.load(Ordering::SeqCst), 3);
    assert!(began.elapsed() < Duration::from_millis(10), "{:?}", began.elapsed());
    hosts.set(A, Does::Serve);
    add(&mesh, "joe").await.unwrap();
    add(&mesh, "joe").await.unwrap();
    assert_eq!(hosts.take().len(), 2);

    // One that was reached is left out from its first refusal on.
    hosts.set(A, Does::Refuse);
    hosts.refused.store(0, Ordering::SeqCst);
    for _ in 0..20 {
        add(&mesh, "joe").await.unwrap();
    }
    assert_eq!(hosts.take(), [(B.to_owned(), 20)].into());
    assert_eq!(hosts.refused.load(Ordering::SeqCst), 1);

    // And called again when a probe has found it.
    hosts.set(A, Does::Serve);
    sleep(Duration::from_secs(1)).await;
    for _ in 0..20 {
        add(&mesh, "joe").await.unwrap();
    }
    assert_eq!(hosts.take().values().copied().collect::<Vec<_>>(), [10, 10]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_may_have_run_is_not_tried_at_another_host() {
    let (hosts, memory) = (Hosts::default(), MemoryStore::new());
    let mesh = open(&hosts, many(HostChoice::RoundRobin), &memory).await;
    register(&mesh, A, &[definition("joe")]).await.unwrap();
    register(&mesh, B, &[definition("joe")]).await.unwrap();
    hosts.set(A, Does::BreakOff);
    hosts.set(B, Does::BreakOff);
    let error = add(&mesh, "joe").await.unwrap_err();
    assert!(!error.is_retryable(), "{error}");
    assert_eq!(hosts.ran.lock().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_is_away_for_too_long_leaves_for_good_and_its_registration_brings_it_back() {
    let (hosts, memory) = (Hosts::default(), MemoryStore::new());
    let mesh = open(&hosts, many(HostChoice::RoundRobin), &memory).await;
    register(&mesh, A, &[definition("joe"), definition("only")]).await.unwrap();
    register(&mesh, B, &[definition("joe")]).await.unwrap();
    // One that only A has.
    sleep(Duration::from_secs(11)).await;
    hosts.set(A, Does::Refuse);
    for _ in 0..4 {
        add(&mesh, "joe").await.unwrap();
    }
    assert_eq!(
        hosts.refused.load(Ordering::SeqCst),
        1,
        "it was never reached, and others have its calls"
    );
    sleep(Duration::from_secs(58)).await;
    assert_eq!(stored(&memory, "joe").await, [A, B]);
    sleep(Duration::from_secs(3)).await;
    assert_eq!(stored(&memory, "joe").await, [B]);
    assert_eq!(stored(&memory, "only").await, [A], "the last host of a definition stays");
    hosts.set(A, Does::Serve);
    sleep(Duration::from_secs(1)).await;
    hosts.take();
    for _ in 0..6 {
        add(&mesh, "joe").await.unwrap();
    }
    assert_eq!(hosts.take(), [(B.to_owned(), 6)].into(), "it has left");
    add(&mesh, "only").await.unwrap();
    assert_eq!(hosts.take(), [(A.to_owned(), 1)].into());
    register(&mesh, A, &[definition("joe"), definition("only")]).await.unwrap();
    for _ in 0..6 {
        add(&mesh, "joe").await.unwrap();
    }
    assert_eq!(hosts.take().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_a_host_that_is_gone_costs_one_refusal_and_leaves() {
    let (hosts, memory) = (Hosts::default(), MemoryStore::new());
    let mesh = open(&hosts, many(HostChoice::RoundRobin), &memory).await;
    register(&mesh, A, &[definition("joe")]).await.unwrap();
    register(&mesh, B, &[definition("joe")]).await.unwrap();
    assert!(mesh.drain(Duration::from_secs(10)).await);
    hosts.set(B, Does::Refuse);
    let mesh = open(&hosts, many(HostChoice::RoundRobin), &memory).await;
    for count in 1..=20 {
        assert_eq!(add(&mesh, "joe").await.unwrap(), count);
    }
    assert_eq!(hosts.refused.load(Ordering::SeqCst), 1);
    sleep(Duration::from_secs(62)).await;
    assert_eq!(stored(&memory, "joe").await, [A]);
}

#[tokio::test(start_paused = true)]
async fn while_all_are_away_calls_wait_and_go_to_the_first_that_returns() {
    let (hosts, memory) = (Hosts::default(), MemoryStore::new());
    let mesh = open(&hosts, many(HostChoice::Random), &memory).await;
    let names: Vec<_> = (0..40).map(|number| format!("a{number}")).collect();
    let all: Vec<_> = names.iter().map(|name| definition(name)).collect();
    for address in [A, B, C] {
        register(&mesh, address, &all).await.unwrap();
    }
    sleep(Duration::from_secs(11)).await;
    for address in [A, B, C] {
        hosts.set(address, Does::Refuse);
    }
    let calls: Vec<_> = names.iter().map(|name| start(&mesh, name, "add")).collect();
    sleep(Duration::from_secs(2)).await;
    assert!(calls.iter().all(|call| !call.is_finished()));
    let refused = hosts.refused.load(Ordering::SeqCst);
    assert!(refused <= 120, "{refused} attempts at hosts that are away");
    hosts.set(B, Does::Serve);
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap(), 1);
    }
    assert_eq!(hosts.take(), [(B.to_owned(), 40)].into());

    hosts.set(B, Does::Refuse);
    let call = start(&mesh, "a0", "add");
    let error = call.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::HostAway { .. }), "{error}");
    // The others have refused for longer than the grace too: calls fail at once.
    let began = tokio::time::Instant::now();
    let error = add(&mesh, "a0").await.unwrap_err();
    assert!(error.is_retryable() && matches!(error, Error::HostAway { .. }), "{error}");
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn turns_that_wait_for_a_host_that_refuses_go_to_another_one() {
    let (hosts, memory) = (Hosts::default(), MemoryStore::new());
    let settings = Settings { host_connections: 1, ..many(HostChoice::Sticky) };
    let mesh = open(&hosts, settings, &memory).await;
    let names: Vec<_> = (0..40).map(|number| format!("a{number}")).collect();
    let all: Vec<_> = names.iter().map(|name| definition(name)).collect();
    register(&mesh, A, &all).await.unwrap();
    register(&mesh, B, &all).await.unwrap();
    sleep(Duration::from_secs(11)).await;
    for name in &names {
        add(&mesh, name).await.unwrap();
    }
    let before = hosts.take();
    assert!(
        before.len() == 2 && before.values().all(|count| (10..31).contains(count)),
        "{before:?}"
    );
    // Each host has one call at a time, which takes 3 s; the others wait.
    let calls: Vec<_> = names.iter().map(|name| start(&mesh, name, "slow")).collect();
    until_idle().await;
    hosts.set(A, Does::Refuse);
    sleep(Duration::from_millis(100)).await;
    assert_eq!(hosts.take(), [(A.to_owned(), 1), (B.to_owned(), 1)].into());
    sleep(Duration::from_secs(9)).await;
    let at_b = hosts.take();
    assert_eq!(at_b.keys().collect::<Vec<_>>(), [B], "what waited for A waits for B now");
    let mut ended = BTreeMap::new();
    for call in calls {
        let outcome = call
            .await
            .unwrap()
            .map_or_else(|error| format!("{:?}", error.kind()), |_| "ran".into());
        *ended.entry(outcome).or_insert(0) += 1;
    }
    assert!(ended["ran"] >= 4, "{ended:?}");
    assert!(!ended.contains_key("HostFailed"), "{ended:?}: none waits for A");
}

#[tokio::test(start_paused = true)]
async fn a_frozen_host_takes_what_it_may_and_the_rest_goes_on_at_the_other() {
    let (hosts, memory) = (Hosts::default(), MemoryStore::new());
    let mut settings = many(HostChoice::Random);
    settings.admission = Bound { events: 64, bytes: 1 << 20 };
    settings.worker_demand = 64;
    let mesh = open(&hosts, settings, &memory).await;
    let names: Vec<_> = (0..400).map(|number| format!("a{number}")).collect();
    let all: Vec<_> = names.iter().map(|name| definition(name)).collect();
    register(&mesh, A, &all).await.unwrap();
    register(&mesh, B, &all).await.unwrap();
    hosts.set(A, Does::Freeze);
    let (mut frozen, mut served) = (Vec::new(), 0);
    for name in &names {
        let call = start(&mesh, name, "add");
        until_idle().await;
        if call.is_finished() {
            assert_eq!(call.await.unwrap().unwrap(), 1);
            served += 1;
        } else {
            frozen.push(call);
        }
    }
    let held = hosts.take()[A];
    assert_eq!((served, frozen.len()), (400 - held, held));
    assert!((20..=32).contains(&held), "{held} of 64 places");
    for call in frozen {
        assert_eq!(call.await.unwrap().unwrap_err().kind(), ErrorKind::DeadlineExceeded);
    }
}

#[tokio::test(start_paused = true)]
async fn the_least_loaded_host_is_called_so_a_frozen_one_gets_little() {
    let (hosts, memory) = (Hosts::default(), MemoryStore::new());
    let mesh = open(&hosts, many(HostChoice::LeastLoaded), &memory).await;
    let names: Vec<_> = (0..200).map(|number| format!("a{number}")).collect();
    let all: Vec<_> = names.iter().map(|name| definition(name)).collect();
    register(&mesh, A, &all).await.unwrap();
    register(&mesh, B, &all).await.unwrap();
    hosts.set(A, Does::Freeze);
    let mut frozen = 0;
    for name in &names {
        let call = start(&mesh, name, "add");
        until_idle().await;
        frozen += usize::from(!call.is_finished());
    }
    assert_eq!(frozen, 1);
    assert_eq!(hosts.take(), [(A.to_owned(), 1), (B.to_owned(), 199)].into());
}

#[tokio::test(start_paused = true)]
async fn an_actor_that_sticks_is_at_one_host_until_that_is_away() {
    let (hosts, memory) = (Hosts::default(), MemoryStore::new());
    let mesh = open(&hosts, many(HostChoice::Sticky), &memory).await;
    let names: Vec<_> = (0..20).map(|number| format!("a{number}")).collect();
    let all: Vec<_> = names.iter().map(|name| definition(name)).collect();
    for address in [A, B, C] {
        register(&mesh, address, &all).await.unwrap();
    }
    let mut at: BTreeMap<String, String> = BTreeMap::new();
    for round in 0..3 {
        for name in &names {
            add(&mesh, name).await.unwrap();
        }
        let ran = std::mem::take(&mut *hosts.ran.lock());
        let now: BTreeMap<_, _> = ran.into_iter().map(|(host, actor)| (actor, host)).collect();
        assert!(round == 0 || now == at);
        at = now;
    }
    let of_a = at.values().filter(|host| *host == A).count();
    assert!((1..20).contains(&of_a), "{of_a} of 20 actors");
    sleep(Duration::from_secs(11)).await;
    hosts.set(A, Does::Refuse);
    for _ in 0..2 {
        for name in &names {
            add(&mesh, name).await.unwrap();
        }
    }
    for (host, actor) in std::mem::take(&mut *hosts.ran.lock()) {
        assert!(
            host == at[&actor] || at[&actor] == A,
            "{actor} was at {} and moved to {host}",
            at[&actor]
        );
    }
    hosts.set(A, Does::Serve);
    sleep(Duration::from_secs(1)).await;
    for name in &names {
        add(&mesh, name).await.unwrap();
    }
    for (host, actor) in std::mem::take(&mut *hosts.ran.lock()) {
        assert_eq!(host, at[&actor], "it is back where it was");
    }
}

#[tokio::test(start_paused = true)]
async fn members_of_a_pool_stick_each_to_its_own_host() {
    let (hosts, memory) = (Hosts::default(), MemoryStore::new());
    let mesh = open(&hosts, many(HostChoice::Sticky), &memory).await;
    let pool = Definition { kind: Kind::Pooled { min: 1, max: 16 }, ..definition("pool") };
    register(&mesh, A, std::slice::from_ref(&pool)).await.unwrap();
    register(&mesh, B, &[pool]).await.unwrap();
    let pooled = |mesh: &Mesh| {
        let (mesh, call) = (mesh.clone(), Invocation { pooled: true, ..call("pool", "slow") });
        async move { mesh.invoke(call).await.map(answered) }
    };
    // All at once, so each has a member of its own.
    let calls = (0..16).map(|_| pooled(&mesh));
    for answer in futures_util::future::join_all(calls).await {
        assert_eq!(answer.unwrap(), 1);
    }
    let ran = hosts.take();
    assert!(ran.len() == 2 && ran.values().all(|count| (3..14).contains(count)), "{ran:?}");
}

#[tokio::test(start_paused = true)]
async fn a_drained_host_gets_no_new_turns_and_ends_those_that_run() {
    let (hosts, memory) = (Hosts::default(), MemoryStore::new());
    let settings = Settings { host_connections: 2, ..many(HostChoice::RoundRobin) };
    let mesh = open(&hosts, settings, &memory).await;
    // Actors of one definition, so that hosts have their turns one after the other.
    let names: Vec<_> = (0..8).map(|number| format!("a{number}")).collect();
    let all = [definition("parent")];
    register(&mesh, A, &all).await.unwrap();
    let actors = names.iter().map(|name| stored_id(name, "parent")).collect();
    mesh.spawn(Spawn { actors, revision: None }).await.unwrap();
    let a = HostAddress::new(A);
    let error = mesh.drain_host("s", &a).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    register(&mesh, B, &all).await.unwrap();
    let error = mesh.drain_host("s", &HostAddress::new(C)).await.unwrap_err();
    assert!(error.to_string().contains(C), "{error}");
    assert!(mesh.drain_host("other", &a).await.is_err());
    // Two run at each host for 3 s, two wait for each.
    let calls: Vec<_> = names.iter().map(|name| start(&mesh, name, "slow")).collect();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(hosts.take(), [(A.to_owned(), 2), (B.to_owned(), 2)].into());
    let running = |mesh: &Mesh| {
        let hosts = mesh.hosts("s").into_iter();
        hosts.map(|host| (host.address.to_string(), host.running)).collect::<Vec<_>>()
    };
    assert_eq!(running(&mesh), [(A.to_owned(), 2), (B.to_owned(), 2)]);
    assert!(mesh.hosts("s").iter().all(|host| host.definitions == 1));
    let began = tokio::time::Instant::now();
    assert_eq!(mesh.drain_host("s", &a).await.unwrap(), 0);
    let took = began.elapsed();
    assert!((1_900..2_200).contains(&took.as_millis()), "until its two turns were over: {took:?}");
    assert_eq!(stored(&memory, "parent").await, [B]);
    assert_eq!(running(&mesh).len(), 1);
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap(), 1);
    }
    assert_eq!(hosts.take(), [(B.to_owned(), 4)].into(), "also what waited for A");
    assert!(mesh.drain_host("s", &a).await.is_err(), "it has left");

    register(&mesh, A, &all).await.unwrap();
    for name in &names {
        add(&mesh, name).await.unwrap();
    }
    assert_eq!(hosts.take().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn draining_waits_for_a_frozen_turn_no_longer_than_20_s() {
    let (hosts, memory) = (Hosts::default(), MemoryStore::new());
    let mesh = open(&hosts, many(HostChoice::RoundRobin), &memory).await;
    register(&mesh, A, &[definition("joe"), definition("moe")]).await.unwrap();
    register(&mesh, B, &[definition("joe"), definition("moe")]).await.unwrap();
    hosts.set(A, Does::Freeze);
    // Until one is at A.
    let mut calls = Vec::new();
    while !hosts.take().contains_key(A) {
        calls.push(start(&mesh, "joe", "add"));
        until_idle().await;
    }
    let began = tokio::time::Instant::now();
    assert_eq!(mesh.drain_host("s", &HostAddress::new(A)).await.unwrap(), 1);
    assert_eq!(began.elapsed().as_secs(), 20);
    for call in calls {
        call.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_beyond_the_bound_takes_the_place_of_one_that_is_away_or_is_refused() {
    let (hosts, memory) = (Hosts::default(), MemoryStore::new());
    let mesh = open(&hosts, many(HostChoice::RoundRobin), &memory).await;
    let address = |number: usize| format!("10.0.1.{number}:8090");
    for number in 0..64 {
        register(&mesh, &address(number), &[definition("joe")]).await.unwrap();
    }
    let error = register(&mesh, A, &[definition("joe")]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
    sleep(Duration::from_secs(11)).await;
    hosts.set(&address(7), Does::Refuse);
    for _ in 0..64 {
        add(&mesh, "joe").await.unwrap();
    }
    register(&mesh, A, &[definition("joe")]).await.unwrap();
    let stored = stored(&memory, "joe").await;
    assert!(stored.len() == 64 && stored.contains(&A.to_owned()) && !stored.contains(&address(7)));
}
