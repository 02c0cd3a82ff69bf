//! Members: two proxies with a system in common and one each of their own, over a broker that loses, delays and repeats messages, on a
//! network that fails.
//!
//! Each call to the other system has one answer, and runs at most once unless the broker repeats messages; each broadcast reaches
//! the subscribers of its own proxy once and in order, and those of the other one at most once and in order. What does not come there is
//! counted, to the last one.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tidegate::nats::{NatsCalls, NatsListening, NatsMembers, NatsServing};
use tidegate_pipeline::{Bound, randomness};
use tidegate_stages::actor::{ActorId, Channel, Definition, Encoding, HostAddress, Kind};
use tidegate_stages::error::Error;
use tidegate_stages::identity::Identity;
use tidegate_stages::invocation::{
    ActorInvocation, ActorInvocationResponse, Broadcast, Invocation, Payload, Registration,
};
use tidegate_stages::memory::MemoryStore;
use tidegate_stages::mesh::Mesh;
use tidegate_stages::ports::{Bus, HostError, OtherMembers, OtherSystems};
use tidegate_stages::state::{Any, Tags};
use tidegate_stages::testkit::broker::BrokerFaults;
use tidegate_stages::topology::{self, Ports, Settings};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use turmoil::{Builder, Sim};

use crate::millis;
use crate::proxy::DEADLINES;
use crate::wire_bus::{BROKER, WireBus, run_broker};
use crate::wires::SimulatedClock;

const SEEDS: Range<u64> = 0..40;
/// The proxies. Each is also the name of a system of its own.
const MEMBERS: [&str; 2] = ["one", "two"];
const SHARED: &str = "shared";
const TOPICS: [&str; 2] = ["news", "sport"];
const SUBSCRIBERS: [&str; 2] = ["joe", "moe"];
const HOST: &str = "127.0.0.1:8090";
/// When the proxies know each other, and until when there are faults of the network.
const BEGIN: Duration = millis(300);
const FAULTS: Duration = millis(1_800);
/// Until when they broadcast.
const END: Duration = millis(2_600);
/// A simulation that lasts longer hangs.
const LONGEST: Duration = Duration::from_mins(1);

/// What happened.
#[derive(Debug, Default)]
struct Facts {
    /// The numbers that were sent to a topic, by publisher and topic: from 1 to this one.
    sent: BTreeMap<(String, String), u64>,
    /// What a subscriber heard, by member, subscriber, publisher and topic.
    heard: BTreeMap<(String, String, String, String), Vec<u64>>,
    /// How often a call ran, and what its caller was told.
    runs: BTreeMap<String, u64>,
    answers: BTreeMap<String, Result<Payload, Error>>,
    /// The metrics of each member at its end.
    metrics: BTreeMap<String, String>,
}

type Shared = Arc<Mutex<Facts>>;

fn text(text: &str) -> Payload {
    let value = Bytes::from(text.to_owned());
    Payload::Value(Any { type_url: "test/text".into(), value })
}

fn text_of(payload: &Payload) -> String {
    let Payload::Value(any) = payload else { panic!("a text: {payload:?}") };
    String::from_utf8(any.value.to_vec()).expect("a text")
}

fn definition(system: &str, name: &str, topics: &[&str]) -> Definition {
    let channel = |topic: &&str| Channel { topic: (*topic).into(), action: "hear".into() };
    Definition {
        id: ActorId { name: name.into(), system: system.into(), parent: String::new() },
        hosts: HostAddress::new(HOST).into(),
        kind: Kind::Named,
        stateful: false,
        snapshot_every: None,
        deactivate_after: None,
        actions: vec!["hear".into(), "run".into()],
        timers: Vec::new(),
        channels: Some(topics.iter().map(channel).collect()),
        initial_state: None,
        initial_tags: Tags::new(),
        retired: false,
        encoding: Encoding::Protobuf,
        raw: Bytes::from_static(b"a"),
    }
}

/// A proxy, and what goes over its bus.
struct Member {
    mesh: Mesh,
    serving: NatsServing,
    listening: NatsListening,
    metrics: PrometheusHandle,
}

impl Member {
    async fn start(name: &'static str, facts: &Shared, background: &TaskTracker) -> Self {
        let (bus, connect) = WireBus::new();
        background.spawn(connect);
        let bus: Arc<dyn Bus> = Arc::new(bus);
        let recorder = PrometheusBuilder::new().build_recorder();
        let bound = Bound { events: 1_024, bytes: 1 << 20 };
        let ended = CancellationToken::new();
        let members = metrics::with_local_recorder(&recorder, || {
            NatsMembers::start(bus.clone(), bound, background, ended)
        });
        let facts = facts.clone();
        let host = tower::service_fn(move |invocation: ActorInvocation| {
            let facts = facts.clone();
            async move {
                note(name, &invocation, &mut facts.lock());
                sleep(millis(2)).await;
                let payload = invocation.payload;
                Ok::<_, HostError>(ActorInvocationResponse { payload, ..Default::default() })
            }
        });
        let calls: Arc<dyn OtherSystems> = Arc::new(NatsCalls::new(bus.clone(), 64));
        let others: Arc<dyn OtherMembers> = Arc::new(members.clone());
        let store = MemoryStore::new();
        let ports = Ports {
            host,
            probe: Arc::new(()),
            store: Arc::new(store.clone()),
            registry: Arc::new(store),
            clock: Arc::new(SimulatedClock),
        };
        let settings = Settings {
            other_systems: Some(calls),
            other_members: Some(others),
            deadlines: DEADLINES,
            ..Settings::default()
        };
        let mesh = topology::open(settings, ports).await.expect("it opens");
        let subscribers = SUBSCRIBERS.map(|name| definition(SHARED, name, &TOPICS));
        for (system, definitions) in
            [(SHARED, subscribers.to_vec()), (name, vec![definition(name, "joe", &[])])]
        {
            let (system, host) = (system.to_owned(), HostAddress::new(HOST));
            let registration = Registration { system, host, definitions };
            mesh.register(registration).await.expect("it is registered");
        }
        let serving = NatsServing::start(mesh.clone(), bus.clone(), 64);
        let listening = metrics::with_local_recorder(&recorder, || {
            NatsListening::start(mesh.clone(), bus, &members)
        });
        Self { mesh, serving, listening, metrics: recorder.handle() }
    }

    async fn publish(&self, name: &str, topic: &str, facts: &Shared) {
        let number = {
            let mut facts = facts.lock();
            let sent = facts.sent.entry((name.into(), topic.into())).or_insert(0);
            *sent += 1;
            *sent
        };
        let broadcast =
            Broadcast { channel: topic.into(), payload: text(&format!("{name} {topic} {number}")) };
        let client = Identity::default();
        let announced = self.mesh.announce(&client, SHARED).expect("there are places");
        let reached = self.mesh.publish(client, SHARED, broadcast, String::new(), announced).await;
        assert_eq!(reached.expect("it is published").subscribers, SUBSCRIBERS.len() as u64);
    }

    async fn end(self, name: &str, facts: &Shared) {
        self.serving.leave();
        self.listening.finish().await;
        self.serving.finish(Duration::from_secs(10)).await;
        assert!(self.mesh.drain(Duration::from_secs(10)).await, "all ends in time");
        facts.lock().metrics.insert(name.into(), self.metrics.render());
    }
}

fn note(member: &str, invocation: &ActorInvocation, facts: &mut Facts) {
    let said = text_of(&invocation.payload);
    if invocation.action == "run" {
        *facts.runs.entry(said).or_insert(0) += 1;
        return;
    }
    let [publisher, topic, number] = said.split(' ').collect::<Vec<_>>()[..] else {
        panic!("a broadcast: {said}")
    };
    let subscriber = invocation.actor.name.clone();
    let heard = (member.into(), subscriber, publisher.into(), topic.into());
    facts.heard.entry(heard).or_default().push(number.parse().expect("a number"));
}

/// The software of a proxy's machine, with those that call it.
async fn run_member(name: &'static str, seed: u64, facts: Shared) -> turmoil::Result {
    let background = TaskTracker::new();
    let member = Member::start(name, &facts, &background).await;
    let other = MEMBERS.into_iter().find(|other| *other != name).expect("there are two");
    let mut random = StdRng::seed_from_u64(seed);
    let now = || turmoil::sim_elapsed().expect("inside the simulation");
    sleep(BEGIN.saturating_sub(now())).await;
    let mut calls = JoinSet::new();
    for number in 0.. {
        if now() >= END {
            break;
        }
        let topic = TOPICS[random.random_range(0..TOPICS.len())];
        member.publish(name, topic, &facts).await;
        if now() < FAULTS && number % 2 == 0 {
            let (mesh, facts) = (member.mesh.clone(), facts.clone());
            let said = format!("{name} calls {number}");
            let actor = ActorId { name: "joe".into(), system: other.into(), parent: String::new() };
            let (action, payload) = ("run".into(), text(&said));
            let call = Invocation { actor, action, payload, ..Invocation::default() };
            calls.spawn(async move {
                let answer = mesh.invoke(call).await;
                facts.lock().answers.insert(said, answer);
            });
        }
        sleep(millis(random.random_range(5..40))).await;
    }
    calls.join_all().await;
    // What was delayed has come.
    sleep(millis(500)).await;
    member.end(name, &facts).await;
    Ok(())
}

/// What happens to the network.
#[derive(Debug, Clone, Copy)]
enum Event {
    Partition(&'static str),
    Repair(&'static str),
    Hold(&'static str),
    Release(&'static str),
    Crash,
    Bounce,
}

fn faults_of_the_network(random: &mut StdRng) -> Vec<(Duration, Event)> {
    let mut at = BEGIN;
    let mut events = Vec::new();
    loop {
        at += millis(random.random_range(20..150));
        let ends = at + millis(random.random_range(20..350));
        if ends >= FAULTS {
            return events;
        }
        let member = MEMBERS[random.random_range(0..MEMBERS.len())];
        let (begins, is_over) = match random.random_range(0..4) {
            0 => (Event::Crash, Event::Bounce),
            1 => (Event::Hold(member), Event::Release(member)),
            _ => (Event::Partition(member), Event::Repair(member)),
        };
        events.extend([(at, begins), (ends, is_over)]);
        at = ends;
    }
}

fn happen(sim: &mut Sim<'_>, event: Event) {
    match event {
        Event::Partition(member) => sim.partition(member, BROKER),
        Event::Repair(member) => sim.repair(member, BROKER),
        Event::Hold(member) => sim.hold(member, BROKER),
        Event::Release(member) => sim.release(member, BROKER),
        Event::Crash => sim.crash(BROKER),
        Event::Bounce => sim.bounce(BROKER),
    }
}

fn simulate(seed: u64, broker: BrokerFaults, schedule: &[(Duration, Event)]) -> Facts {
    // Names are hashed as in the other simulations of this process.
    randomness::fix(0);
    let facts = Shared::default();
    let mut builder = Builder::new();
    builder.rng_seed(seed).simulation_duration(LONGEST);
    builder.min_message_latency(millis(0)).max_message_latency(millis(5));
    let mut sim = builder.build();
    let lives = AtomicU64::new(seed * 1_000);
    let lives = Arc::new(lives);
    sim.host(BROKER, move || run_broker(lives.fetch_add(1, Ordering::Relaxed), broker));
    for (place, member) in MEMBERS.into_iter().enumerate() {
        sim.client(member, run_member(member, seed * 2 + place as u64, facts.clone()));
    }
    let mut schedule = schedule.iter().copied().peekable();
    loop {
        while let Some((_, event)) = schedule.next_if(|(at, _)| *at <= sim.elapsed()) {
            happen(&mut sim, event);
        }
        if sim.step().unwrap_or_else(|error| panic!("seed {seed}: {error}")) {
            break;
        }
    }
    drop(sim);
    std::mem::take(&mut facts.lock())
}

/// The value of a metric.
fn metric(page: &str, name: &str) -> u64 {
    let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name} in {page}")).parse().expect("a number")
}

/// How much of each there was, in all simulations.
#[derive(Debug, Default)]
struct Sums {
    heard: u64,
    missed: u64,
    repeated: u64,
    unsent: u64,
    answered: u64,
    unknown: u64,
    not_started: u64,
    ran_twice: u64,
}

fn judge_broadcasts(facts: &Facts, sums: &mut Sums) {
    for member in MEMBERS {
        let mut missing = 0;
        for ((publisher, topic), sent) in &facts.sent {
            let heard = SUBSCRIBERS.map(|subscriber| {
                let key = [member, subscriber, publisher, topic].map(str::to_owned);
                facts.heard.get(&key.into()).cloned().unwrap_or_default()
            });
            let [numbers, others] = &heard;
            assert_eq!(numbers, others, "all subscribers of a proxy hear the same");
            if publisher == member {
                assert_eq!(
                    *numbers,
                    (1..=*sent).collect::<Vec<_>>(),
                    "nothing delays what is local"
                );
                continue;
            }
            assert!(
                numbers.is_sorted_by(|one, next| one < next),
                "each once, and in order: {numbers:?}"
            );
            let last = numbers.last().copied().unwrap_or(0);
            assert!(last > sent - 10, "{member} hears {publisher} again: {last} of {sent}");
            sums.heard += numbers.len() as u64;
            missing += last - numbers.len() as u64;
        }
        let page = &facts.metrics[member];
        let missed = metric(page, "tidegate_nats_broadcasts_missed_total");
        assert_eq!(missed, missing, "what {member} did not hear is counted: {facts:?}");
        sums.missed += missed;
        let of = |name: &str| metric(page, &format!("tidegate_nats_broadcasts_{name}"));
        sums.repeated += of("in_total{outcome=\"repeated\"}");
        sums.unsent += of("out_total{outcome=\"unsent\"}");
        assert_eq!(of("in_total{outcome=\"refused\"}") + of("in_total{outcome=\"dropped\"}"), 0);
    }
}

fn judge_calls(facts: &Facts, repeats: bool, sums: &mut Sums) {
    for (call, answer) in &facts.answers {
        let ran = facts.runs.get(call).copied().unwrap_or(0);
        // Only a broker that repeats a message has a call run twice: nobody here sends it again.
        assert!(ran <= 1 || repeats, "{call} ran {ran} times");
        sums.ran_twice += u64::from(ran > 1);
        match answer {
            Ok(payload) => {
                assert_eq!(text_of(payload), *call, "the answer of another call");
                assert!(ran >= 1, "{call} was answered and has not run");
                sums.answered += 1;
            }
            Err(Error::Elsewhere(failed)) if failed.is_retryable => {
                assert_eq!(ran, 0, "{call}: {failed:?}");
                sums.not_started += 1;
            }
            Err(Error::Elsewhere(_)) => sums.unknown += 1,
            Err(error) => panic!("{call}: {error}"),
        }
    }
    assert!(facts.runs.keys().all(|call| facts.answers.contains_key(call)), "each is answered");
}

#[test]
fn calls_and_broadcasts_over_a_broker_that_fails_are_told_as_they_are_and_losses_are_counted() {
    let mut sums = Sums::default();
    for seed in SEEDS {
        let faults = BrokerFaults {
            lost: seed % 3 * 5,
            repeated: seed % 2 * 10,
            delay: millis(seed % 4 * 10),
        };
        let schedule = faults_of_the_network(&mut StdRng::seed_from_u64(seed));
        eprintln!("seed {seed}: {faults:?} {schedule:?}");
        let facts = simulate(seed, faults, &schedule);
        judge_broadcasts(&facts, &mut sums);
        judge_calls(&facts, faults.repeated > 0, &mut sums);
    }
    eprintln!("{sums:?}");
    let Sums { heard, missed, repeated, unsent, answered, unknown, not_started, ran_twice } = sums;
    // Faults that change nothing would show nothing.
    let all = [heard, missed, repeated, unsent, answered, unknown, not_started, ran_twice];
    assert!(all.iter().all(|count| *count > 10), "{all:?}");
}

#[test]
fn on_a_network_and_a_broker_without_faults_nothing_is_missed() {
    let mut sums = Sums::default();
    let faults = BrokerFaults { lost: 0, repeated: 0, delay: Duration::ZERO };
    let facts = simulate(1, faults, &[]);
    judge_broadcasts(&facts, &mut sums);
    judge_calls(&facts, false, &mut sums);
    let sent: u64 = facts.sent.values().sum();
    assert_eq!((sums.heard, sums.missed, sums.unsent), (sent, 0, 0));
    assert_eq!((sums.unknown, sums.not_started), (0, 0), "{facts:?}");
}
