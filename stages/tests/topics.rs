//! Durable topics: each event of a committed state reaches each subscriber in order, once if it is stateful, whatever fails.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test; it awaits its tasks")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use support::*;
use tidegate_stages::access::Pattern;
use tidegate_stages::actor::{Channel, Definition};
use tidegate_stages::history::{Interval, Retention};
use tidegate_stages::identity::Identity;
use tidegate_stages::invocation::{
    ActorInvocation, ActorInvocationResponse, Broadcast, Invocation, Payload, Reached,
};
use tidegate_stages::memory::MemoryStore;
use tidegate_stages::mesh::TopicView;
use tidegate_stages::outbox::record::Record;
use tidegate_stages::ports::{HostError, StateStore, StoreError};
use tidegate_stages::rules::{ChangeRules, Durability};
use tidegate_stages::state::Any;
use tidegate_stages::testkit::faulty::SaveFault;
use tidegate_stages::topics::rules::{Start, TopicRule, TopicRules};
use tidegate_stages::topology::Settings;
use tokio::time::sleep;

fn durable(rule: TopicRule) -> Settings {
    let topics = TopicRules::new(vec![(Pattern::parse("news").unwrap(), rule)]);
    Settings { topics, ..Settings::default() }
}

fn any_text(text: &str) -> Any {
    Any { type_url: "test/text".into(), value: text.to_owned().into() }
}

fn text(value: Option<&Any>) -> String {
    value.map_or_else(String::new, |any| String::from_utf8(any.value.to_vec()).unwrap())
}

fn payload(payload: &Payload) -> String {
    let Payload::Value(value) = payload else { return String::new() };
    text(Some(value))
}

/// A definition that binds `news` to `add`.
fn subscriber(name: &str) -> Definition {
    let channel = Channel { topic: "news".into(), action: "add".into() };
    Definition { channels: Some(vec![channel]), ..definition(name) }
}

/// What actors got, in order.
type Heard = Arc<Mutex<BTreeMap<String, Vec<String>>>>;

/// Actors note what they get. The action `other` of any actor broadcasts its payload.
fn listening(heard: &Heard) -> BoxedHost {
    let heard = heard.clone();
    host(move |invocation| {
        let heard = heard.clone();
        async move { Ok(listen(&heard, &invocation)) }
    })
}

fn listen(heard: &Heard, invocation: &ActorInvocation) -> ActorInvocationResponse {
    let mut response = counted(invocation);
    if invocation.action == "other" {
        let payload = invocation.payload.clone();
        response.workflow.broadcast = Some(Broadcast { channel: "news".into(), payload });
    } else {
        let name = invocation.actor.name.clone();
        heard.lock().entry(name).or_default().push(payload(&invocation.payload));
    }
    response
}

async fn publish(world: &World, message: &str) -> Result<Reached, tidegate_stages::error::Error> {
    let client = Identity::default();
    let announced = world.mesh.announce(&client, "s").unwrap();
    let payload = Payload::Value(any_text(message));
    let broadcast = Broadcast { channel: "news".into(), payload };
    world.mesh.publish(client, "s", broadcast, String::new(), announced).await
}

fn send(message: &str) -> Invocation {
    Invocation { payload: Payload::Value(any_text(message)), ..call("source", "other") }
}

fn view(world: &World) -> TopicView {
    world.mesh.durable_topics().pop().unwrap()
}

/// The position of each subscriber, and what it lags behind.
fn positions(world: &World) -> Vec<(String, u64, u64)> {
    let (_, page) = world.mesh.topic_subscribers("s", "news", "", 100).unwrap();
    page.items.into_iter().map(|of| (of.actor, of.position, of.lag)).collect()
}

async fn caught_up(world: &World) {
    for _ in 0..2_000 {
        sleep(Duration::from_secs(1)).await;
        if positions(world).iter().all(|(.., lag)| *lag == 0) {
            return;
        }
    }
    panic!("{:?}", positions(world));
}

#[tokio::test(start_paused = true)]
async fn events_of_actors_and_clients_are_kept_and_reach_each_subscriber_in_order() {
    let heard = Heard::default();
    let memory = MemoryStore::new();
    let world = world_with(listening(&heard), durable(TopicRule::default()), memory.clone()).await;
    let stateless = Definition { stateful: false, ..subscriber("bare") };
    world.register(vec![definition("source"), subscriber("joe"), stateless]).await.unwrap();
    for number in 0..100 {
        if number % 2 == 0 {
            world.mesh.invoke(send(&number.to_string())).await.unwrap();
            sleep(Duration::from_millis(100)).await;
        } else {
            let reached = publish(&world, &number.to_string()).await.unwrap();
            assert_eq!((reached.subscribers, reached.dropped), (2, 0));
        }
    }
    caught_up(&world).await;
    let expected: Vec<_> = (0..100).map(|number| number.to_string()).collect();
    assert_eq!(*heard.lock(), [("bare".into(), expected.clone()), ("joe".into(), expected)].into());
    assert_eq!(positions(&world), [("bare".into(), 100, 0), ("joe".into(), 100, 0)]);
    assert!(world.mesh.drain(Duration::from_secs(10)).await);

    heard.lock().clear();
    let next = world_with(listening(&heard), durable(TopicRule::default()), memory).await;
    next.mesh.invoke(send("next")).await.unwrap();
    caught_up(&next).await;
    let once = vec!["next".to_owned()];
    assert_eq!(*heard.lock(), [("bare".into(), once.clone()), ("joe".into(), once)].into());
    let (all, page) = next.mesh.topic_subscribers("s", "news", "bare", 1).unwrap();
    assert_eq!((all.newest, all.subscribers, all.lag), (101, 2, 0));
    assert_eq!((&*page.items[0].actor, page.items.len(), page.more), ("joe", 1, false));
    let (_, page) = next.mesh.topic_subscribers("s", "news", "", 1).unwrap();
    assert_eq!((&*page.items[0].actor, page.items.len(), page.more), ("bare", 1, true));
    assert!(next.mesh.topic_subscribers("s", "sport", "", 1).is_err());
    let other = Broadcast { channel: "sport".into(), payload: Payload::Noop };
    let announced = next.mesh.announce(&Identity::default(), "s").unwrap();
    let sent = next.mesh.publish(Identity::default(), "s", other, String::new(), announced).await;
    assert_eq!(sent.unwrap(), Reached::default());
    assert_eq!(next.mesh.durable_topics().len(), 1, "the other one is not durable");
}

#[tokio::test(start_paused = true)]
async fn a_new_subscriber_begins_now_or_with_the_earliest_event_that_is_kept() {
    for (start, expected) in [(Start::Now, vec!["3"]), (Start::Earliest, vec!["1", "2", "3"])] {
        let heard = Heard::default();
        let rule = TopicRule { start, ..TopicRule::default() };
        let world = world_with(listening(&heard), durable(rule), MemoryStore::new()).await;
        world.register(vec![definition("source"), definition("joe")]).await.unwrap();
        publish(&world, "1").await.unwrap();
        publish(&world, "2").await.unwrap();
        world.register(vec![definition("source"), subscriber("joe")]).await.unwrap();
        // Nothing in between: it was registered before this event.
        publish(&world, "3").await.unwrap();
        caught_up(&world).await;
        assert_eq!(heard.lock()["joe"], expected, "{start:?}");
        // It leaves: what comes then is not for it.
        world.register(vec![definition("source"), definition("joe")]).await.unwrap();
        publish(&world, "4").await.unwrap();
        caught_up(&world).await;
        assert_eq!(heard.lock()["joe"], expected);
        assert!(positions(&world).is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_fails_is_tried_again_for_a_day_and_holds_no_other() {
    let heard = Heard::default();
    let noted = heard.clone();
    let world = world_with(
        host(move |invocation| {
            let noted = noted.clone();
            async move {
                let (address, reason) = ("h".into(), "as the test wants it".into());
                if invocation.actor.name == "ill" && payload(&invocation.payload) == "1" {
                    return Err(HostError::Broken { address, reason });
                }
                Ok(listen(&noted, &invocation))
            }
        }),
        durable(TopicRule::default()),
        MemoryStore::new(),
    )
    .await;
    let channel = Channel { topic: "news".into(), action: "fly".into() };
    let wrong = Definition { channels: Some(vec![channel]), ..definition("wrong") };
    let all = vec![definition("source"), subscriber("ill"), subscriber("joe"), wrong];
    world.register(all).await.unwrap();
    for message in ["1", "2"] {
        world.mesh.invoke(send(message)).await.unwrap();
    }
    sleep(Duration::from_hours(1)).await;
    assert_eq!(heard.lock()["joe"], ["1", "2"]);
    let expected = [("ill".into(), 0, 2), ("joe".into(), 2, 0), ("wrong".into(), 2, 0)];
    assert_eq!(positions(&world), expected);
    let topic = tidegate_stages::actor::ActorId { name: "news\u{1}topic".into(), ..id("") };
    let letters = || async {
        let rows = world.memory.outbox(&topic, None, 10).await.unwrap().items;
        let dead = rows.into_iter().map(|row| Record::decode(row.record).unwrap());
        dead.map(|record| (record.invocation.actor.name, record.dead.unwrap().reason))
            .collect::<Vec<_>>()
    };
    let dead = letters().await;
    assert_eq!(dead.len(), 2, "{dead:?}");
    assert!(dead.iter().all(|(actor, reason)| actor == "wrong" && reason.contains("fly")));
    world.clock.advance(Duration::from_hours(24));
    caught_up(&world).await;
    assert_eq!(heard.lock()["ill"], ["2"]);
    let dead = letters().await;
    assert_eq!((dead.len(), &*dead[2].0), (3, "ill"));
}

#[tokio::test(start_paused = true)]
async fn events_that_were_dropped_before_a_subscriber_got_them_are_counted() {
    let heard = Heard::default();
    let retention = Retention { revisions: Some(10), age: None };
    let rule = TopicRule { retention, ..TopicRule::default() };
    let world = world_with(listening(&heard), durable(rule), MemoryStore::new()).await;
    world.register(vec![definition("source"), subscriber("joe")]).await.unwrap();
    publish(&world, "0").await.unwrap();
    caught_up(&world).await;
    world.mesh.pause("s", "joe", "a test").await.unwrap();
    for number in 1..=50 {
        publish(&world, &number.to_string()).await.unwrap();
    }
    sleep(Duration::from_secs(5)).await;
    let topic = tidegate_stages::actor::ActorId { name: "news\u{1}topic".into(), ..id("") };
    let kept = world.memory.load_by_interval(&topic, Interval::ALL, 100).await.unwrap().items.len();
    assert!((10..=11).contains(&kept), "{kept}");
    assert_eq!(positions(&world), [("joe".into(), 1, 50)]);
    world.mesh.resume("s", "joe").await.unwrap();
    caught_up(&world).await;
    let heard = heard.lock()["joe"].clone();
    let expected: Vec<_> = (51 - kept as u64..=50).map(|number| number.to_string()).collect();
    assert_eq!(heard[1..], expected);
    assert_eq!(view(&world).missed, 50 - kept as u64);
}

#[tokio::test(start_paused = true)]
async fn nobody_calls_a_topic_or_publishes_past_its_policies() {
    let world = world_with(
        host(|invocation| async move {
            let mut response = counted(&invocation);
            response.workflow.effects = vec![call("news\u{1}topic", "publish")];
            Ok(response)
        }),
        durable(TopicRule::default()),
        MemoryStore::new(),
    )
    .await;
    world.register(vec![definition("source"), subscriber("joe")]).await.unwrap();
    publish(&world, "1").await.unwrap();
    for action in ["publish", "get"] {
        let error = world.mesh.invoke(call("news\u{1}topic", action)).await.unwrap_err();
        assert!(error.to_string().contains("control character"), "{error}");
    }
    assert!(world.mesh.state("s", "news\u{1}topic").await.is_err());
    assert!(world.mesh.delete("s", "news\u{1}topic").await.is_err());
    let error = world.add("source").await.unwrap_err();
    assert!(error.to_string().contains("target that no actor is"), "{error}");
    assert_eq!(view(&world).newest, 1);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_larger_than_a_state_may_be_is_refused_and_nothing_is_kept() {
    let heard = Heard::default();
    let rules = ChangeRules { max_state_bytes: 64 << 10, ..ChangeRules::default() };
    let settings = Settings { rules, ..durable(TopicRule::default()) };
    let world = world_with(listening(&heard), settings, MemoryStore::new()).await;
    world.register(vec![definition("source"), subscriber("joe")]).await.unwrap();
    let large = "x".repeat(57 << 10);
    let error = publish(&world, &large).await.unwrap_err().to_string();
    assert!(error.contains("may have 57344 bytes"), "{error}");
    let error = world.mesh.invoke(send(&large)).await.unwrap_err().to_string();
    assert!(error.contains("may have 57344 bytes"), "{error}");
    assert!(world.head("source").await.is_none_or(|head| head.content.state.is_none()));
    let fits = "x".repeat((57 << 10) - 1_024 - "test/text".len());
    publish(&world, &fits).await.unwrap();
    caught_up(&world).await;
    assert_eq!(heard.lock()["joe"], [fits]);
}

// Random interleavings of publications, crashes, store failures and lost answers.

const SOURCES: [&str; 3] = ["source-a", "source-b", "source-c"];
const SUBSCRIBERS: [&str; 3] = ["left", "middle", "right"];
const STARTS: u64 = 4;
const STEPS: u64 = 40;
const SEEDS: u64 = 15;

fn fault(random: &mut Random) -> SaveFault {
    let text = "as the test wants it".to_owned();
    match random.below(7) {
        0 => SaveFault::Lose(StoreError::Unavailable(text)),
        1 => SaveFault::Lose(StoreError::Unknown(text)),
        2 => SaveFault::WriteAndFail(StoreError::Unknown(text)),
        3 => SaveFault::LoseFirst(StoreError::Full(text)),
        4 | 5 => SaveFault::Late(Duration::from_millis(random.below(200))),
        _ => SaveFault::Tear(usize::try_from(random.below(3)).unwrap(), StoreError::Unknown(text)),
    }
}

fn counts(text: &str) -> BTreeMap<String, u64> {
    let pairs = text.lines().map(|line| line.split_once(' ').unwrap());
    pairs.map(|(name, number)| (name.into(), number.parse().unwrap())).collect()
}

/// A source counts, and publishes its count. A subscriber keeps the last count of each, and how many came that were none of
/// those to come next.
fn act(invocation: &ActorInvocation) -> ActorInvocationResponse {
    let name = &*invocation.actor.name;
    let mut response = ActorInvocationResponse::default();
    if SOURCES.contains(&name) {
        let count = text(invocation.state.as_ref()).parse().unwrap_or(0) + 1_u64;
        response.state = Some(any_text(&count.to_string()));
        let payload = Payload::Value(any_text(&format!("{name} {count}")));
        response.workflow.broadcast = Some(Broadcast { channel: "news".into(), payload });
        return response;
    }
    let mut counts = counts(&text(invocation.state.as_ref()));
    let sent = payload(&invocation.payload);
    let (from, count) = sent.split_once(' ').unwrap();
    let count: u64 = count.parse().unwrap();
    let last = counts.entry(from.into()).or_default();
    let is_wrong = count != *last + 1;
    *last = count.max(*last);
    *counts.entry("wrong".into()).or_default() += u64::from(is_wrong);
    let lines: Vec<_> = counts.iter().map(|(name, number)| format!("{name} {number}\n")).collect();
    response.state = Some(any_text(&lines.concat()));
    response
}

fn worker(seed: u64) -> BoxedHost {
    let random = Arc::new(Mutex::new(Random::new(seed)));
    host(move |invocation| {
        let (mood, pause) = {
            let mut random = random.lock();
            (random.below(25), random.below(30))
        };
        let response = act(&invocation);
        async move {
            sleep(Duration::from_millis(pause)).await;
            let (address, reason) = ("h".into(), "as the test wants it".into());
            match mood {
                0 => Err(HostError::Broken { address, reason }),
                1 => Err(HostError::Connect { address, reason }),
                _ => Ok(response),
            }
        }
    })
}

async fn next(former: Option<World>, seed: u64, settings: Settings, memory: &MemoryStore) -> World {
    let world = world_with(worker(seed), settings, memory.clone()).await;
    if let Some(former) = former {
        former.store.forget_faults();
        former.mesh.drain(Duration::ZERO).await;
    }
    world
}

async fn disturb(random: &mut Random, world: &World) {
    let mut calls = Vec::new();
    for _ in 0..STEPS {
        match random.below(10) {
            0 => world.store.fail_next_save(fault(random)),
            1 => world.store.fail_next_load(StoreError::Unavailable("away".into())),
            2 => world.store.fail_next_take_over(StoreError::Unknown("cut".into())),
            3 => sleep(Duration::from_millis(random.below(400))).await,
            _ => {
                let source = SOURCES[usize::try_from(random.below(3)).unwrap()];
                calls.push(world.start(call(source, "add")));
                sleep(Duration::from_millis(random.below(20))).await;
            }
        }
    }
    if random.below(2) == 0 {
        world.store.forget_faults();
        world.mesh.drain(Duration::from_secs(30)).await;
    }
    for call in calls {
        call.abort();
    }
}

async fn state(world: &World, name: &str) -> String {
    let head = world.head(name).await;
    text(head.and_then(|head| head.content.state).as_ref())
}

async fn run(seed: u64, durability: Durability, max_seen: u32) {
    let mut random = Random::new(seed);
    let memory = MemoryStore::new();
    let settings = || Settings {
        rules: ChangeRules { durability, max_seen, ..ChangeRules::default() },
        ..durable(TopicRule::default())
    };
    let mut world = next(None, seed, settings(), &memory).await;
    let brief = |definition: Definition| Definition {
        deactivate_after: Some(Duration::from_millis(100)),
        snapshot_every: (durability == Durability::Snapshot).then_some(Duration::from_secs(1)),
        ..definition
    };
    let sources = SOURCES.iter().map(|name| brief(definition(name)));
    let all = sources.chain(SUBSCRIBERS.iter().map(|name| brief(subscriber(name)))).collect();
    world.register(all).await.unwrap();
    for number in 1..=STARTS {
        disturb(&mut random, &world).await;
        world = next(Some(world), seed + number, settings(), &memory).await;
    }
    let mut sum: u64 = 0;
    let mut expected = BTreeMap::new();
    for _ in 0..600 {
        sleep(Duration::from_secs(5)).await;
        if memory.pending(None, 1).await.unwrap().items.is_empty() {
            break;
        }
    }
    for source in SOURCES {
        let count: u64 = state(&world, source).await.parse().unwrap_or(0);
        sum += count;
        if count > 0 {
            expected.insert(source.to_owned(), count);
        }
    }
    expected.insert("wrong".into(), 0);
    caught_up(&world).await;
    assert_eq!(view(&world).missed, 0, "seed {seed}");
    for subscriber in SUBSCRIBERS {
        let counted = counts(&state(&world, subscriber).await);
        assert!(
            sum == 0 || counted == expected,
            "seed {seed}: {subscriber} {counted:?}, not {expected:?}"
        );
    }
    assert_eq!(view(&world).newest, sum, "seed {seed}: each event is in the log once");
    world.mesh.drain(Duration::ZERO).await;
}

#[tokio::test(start_paused = true)]
async fn each_event_of_a_committed_state_counts_once_whatever_fails() {
    for seed in 0..SEEDS {
        run(seed, Durability::Acknowledged, 1_024).await;
    }
}

#[tokio::test(start_paused = true)]
async fn each_event_of_a_committed_state_counts_once_with_snapshots_too() {
    for seed in 0..SEEDS {
        run(seed, Durability::Snapshot, 1_024).await;
    }
}

#[tokio::test(start_paused = true)]
async fn each_event_counts_once_where_sources_are_forgotten_as_soon_as_they_may_be() {
    for seed in 0..SEEDS {
        run(seed, Durability::Acknowledged, 1).await;
    }
}
