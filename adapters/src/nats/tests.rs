//! Two meshes over a broker that loses, delays and repeats messages, on paused time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hashbrown::HashMap;
use parking_lot::Mutex;
use tidegate_stages::actor::{ActorId, Definition, Encoding, HostAddress, Kind};
use tidegate_stages::error::Error;
use tidegate_stages::invocation::{
    ActorInvocation, ActorInvocationResponse, Invocation, Payload, REQUEST_TIMEOUT, Registration,
    Workflow,
};
use tidegate_stages::memory::MemoryStore;
use tidegate_stages::mesh::Mesh;
use tidegate_stages::outbox::view::EffectFilter;
use tidegate_stages::ports::{Bus, HostError, OtherSystems};
use tidegate_stages::state::{Any, Tags, Timestamp};
use tidegate_stages::testkit::broker::{Broker, BrokerFaults};
use tidegate_stages::testkit::clock::SetClock;
use tidegate_stages::topology::{self, Ports, Settings};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::{NatsCalls, NatsServing};

const SEEDS: u64 = 40;
const CALLS: u64 = 60;
const HOST: &str = "127.0.0.1:8090";

/// How often each call has run, by its number.
type Runs = Arc<Mutex<HashMap<u64, u32>>>;

/// A mesh that serves a system with actors `0` to `3`, and calls the others over a bus.
async fn mesh(system: &str, bus: &Arc<dyn Bus>, runs: Runs) -> (Mesh, NatsServing) {
    let host = tower::service_fn(move |invocation: ActorInvocation| {
        let runs = runs.clone();
        async move {
            let payload = invocation.payload.clone();
            if let Some(number) = number(&payload) {
                *runs.lock().entry(number).or_insert(0) += 1;
            }
            sleep(Duration::from_millis(5)).await;
            let mut response = ActorInvocationResponse { payload, ..Default::default() };
            if invocation.action == "tell" {
                let effect = Invocation {
                    asynchronous: true,
                    // No client waits for it.
                    metadata: [(REQUEST_TIMEOUT.to_owned(), "0".to_owned())].into(),
                    ..call("b", number(&response.payload).unwrap_or(0))
                };
                response.workflow = Workflow { effects: vec![effect], ..Workflow::default() };
            }
            Ok::<_, HostError>(response)
        }
    });
    let calls: Arc<dyn OtherSystems> = Arc::new(NatsCalls::new(bus.clone(), 64));
    let store = MemoryStore::new();
    let ports = Ports {
        host,
        probe: Arc::new(()),
        store: Arc::new(store.clone()),
        registry: Arc::new(store),
        clock: Arc::new(SetClock::at(Timestamp(1_800_000_000_000_000))),
    };
    let settings = Settings { other_systems: Some(calls), ..Settings::default() };
    let mesh = topology::open(settings, ports).await.unwrap();
    let (system, host) = (system.to_owned(), HostAddress::new(HOST));
    let definitions = (0..4).map(|name| definition(&system, &name.to_string())).collect();
    mesh.register(Registration { system, host, definitions }).await.unwrap();
    let serving = NatsServing::start(mesh.clone(), bus.clone(), 64);
    (mesh, serving)
}

fn definition(system: &str, name: &str) -> Definition {
    Definition {
        id: ActorId { name: name.into(), system: system.into(), parent: String::new() },
        hosts: HostAddress::new(HOST).into(),
        kind: Kind::Named,
        stateful: true,
        snapshot_every: None,
        deactivate_after: None,
        actions: vec!["add".into(), "tell".into()],
        timers: Vec::new(),
        channels: None,
        initial_state: None,
        initial_tags: Tags::new(),
        retired: false,
        encoding: Encoding::Protobuf,
        raw: Bytes::from_static(b"a"),
    }
}

fn call(system: &str, number: u64) -> Invocation {
    let value = Bytes::from(number.to_string());
    Invocation {
        actor: ActorId {
            name: (number % 4).to_string(),
            system: system.into(),
            parent: String::new(),
        },
        action: "add".into(),
        payload: Payload::Value(Any { type_url: "test/number".into(), value }),
        ..Invocation::default()
    }
}

fn number(payload: &Payload) -> Option<u64> {
    match payload {
        Payload::Value(any) => std::str::from_utf8(&any.value).ok()?.parse().ok(),
        _ => None,
    }
}

/// Calls from one system to another: which were answered, which may have run, and how often each ran.
async fn run(seed: u64, faults: BrokerFaults) -> (Vec<(u64, Result<Payload, Error>)>, Runs) {
    let bus: Arc<dyn Bus> = Arc::new(Broker::new(seed, faults));
    let (here, there) = (Runs::default(), Runs::default());
    let (caller, _serving) = mesh("a", &bus, here).await;
    let (target, serving) = mesh("b", &bus, there.clone()).await;
    sleep(Duration::from_secs(1)).await;
    let mut calls = JoinSet::new();
    for number in 0..CALLS {
        let caller = caller.clone();
        calls.spawn(async move { (number, caller.invoke(call("b", number)).await) });
    }
    let outcomes = calls.join_all().await;
    serving.leave();
    serving.finish(Duration::from_secs(10)).await;
    assert!(target.drain(Duration::from_secs(10)).await);
    assert!(caller.drain(Duration::from_secs(10)).await);
    (outcomes, there)
}

#[tokio::test(start_paused = true)]
async fn each_call_has_one_answer_and_runs_as_often_as_its_message_comes() {
    let delay = Duration::from_millis(50);
    let (mut answered, mut unknown, mut twice) = (0, 0, 0);
    for seed in 1..=SEEDS {
        let faults = BrokerFaults { lost: seed % 3 * 10, repeated: seed % 2 * 10, delay };
        let (outcomes, runs) = run(seed, faults).await;
        assert_eq!(outcomes.len() as u64, CALLS);
        let runs = runs.lock();
        for (number, outcome) in outcomes {
            let ran = runs.get(&number).copied().unwrap_or(0);
            match outcome {
                Ok(payload) => {
                    assert_eq!(self::number(&payload), Some(number), "the answer of another call");
                    assert!(ran >= 1, "seed {seed}: call {number} was answered and has not run");
                    answered += 1;
                }
                Err(Error::Elsewhere(failed)) => {
                    assert!(!failed.is_retryable || ran == 0, "seed {seed}: {failed:?}");
                    assert!(faults.lost > 0, "seed {seed}: nothing is lost: {failed:?}");
                    unknown += 1;
                }
                Err(error) => panic!("seed {seed}: {error}"),
            }
            // Only a broker that repeats a message has a call run twice: nobody here sends it again.
            assert!(ran <= 1 || faults.repeated > 0, "seed {seed}: call {number} ran {ran} times");
            twice += u32::from(ran > 1);
        }
    }
    assert!(answered > 0 && unknown > 0 && twice > 0, "{answered} {unknown} {twice}");
}

#[tokio::test(start_paused = true)]
async fn an_effect_for_another_system_runs_once_or_is_a_dead_letter_that_says_that_it_may_have() {
    let mut dead_letters = 0;
    for seed in 1..=SEEDS {
        let faults = BrokerFaults { lost: 10, repeated: 0, delay: Duration::from_millis(20) };
        let bus: Arc<dyn Bus> = Arc::new(Broker::new(seed, faults));
        let (here, there) = (Runs::default(), Runs::default());
        let (source, _serving) = mesh("a", &bus, here).await;
        let (target, _there) = mesh("b", &bus, there.clone()).await;
        sleep(Duration::from_secs(1)).await;
        for number in 0..20 {
            let tell = Invocation { action: "tell".into(), ..call("a", number) };
            source.invoke(tell).await.unwrap();
        }
        // Longer than an answer is waited for, as often as one actor may wait in turn.
        sleep(Duration::from_hours(1)).await;
        let runs = there.lock().clone();
        assert!(runs.values().all(|ran| *ran == 1), "seed {seed}: {runs:?}");
        let filter = EffectFilter {
            dead: Some(true),
            reason: Some("may have run".into()),
            ..EffectFilter::default()
        };
        let (mut dead, mut after) = (0, None);
        loop {
            let page = source.effects(&filter, after, 100).await.unwrap();
            dead += page.effects.len();
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert!(
            runs.len() + dead >= 20,
            "seed {seed}: {} have run, {dead} are dead letters",
            runs.len()
        );
        dead_letters += dead;
        assert!(source.drain(Duration::from_secs(10)).await);
        assert!(target.drain(Duration::from_secs(10)).await);
    }
    assert!(dead_letters > 0);
}
