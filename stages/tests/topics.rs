//! Durable topics: each event of a committed state reaches each subscriber in order, once if it is stateful, whatever fails.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test; it awaits its tasks")]

mod support;
#[path = "support/durable_topic.rs"]
mod durable_topic;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use durable_topic::*;
use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Label, Metadata, Recorder, SharedString, Unit,
    set_default_local_recorder,
};
use parking_lot::Mutex;
use support::*;
use tidegate_stages::access::Pattern;
use tidegate_stages::actor::{Channel, Definition};
use tidegate_stages::error::ErrorKind;
use tidegate_stages::history::{Interval, Retention};
use tidegate_stages::identity::Identity;
use tidegate_stages::invocation::{
    ActorInvocation, ActorInvocationResponse, Broadcast, Invocation, Payload, Reached,
};
use tidegate_stages::memory::MemoryStore;
use tidegate_stages::mesh::TopicView;
use tidegate_stages::outbox::record::Record;
use tidegate_stages::ports::{HostError, StateStore};
use tidegate_stages::rules::ChangeRules;
use tidegate_stages::state::Any;
use tidegate_stages::topics::rules::{Start, TopicRule, TopicRules};
use tidegate_stages::topology::Settings;
use tokio::time::sleep;

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
    publish_to(world, "news", message).await
}

async fn publish_to(
    world: &World,
    topic: &str,
    message: &str,
) -> Result<Reached, tidegate_stages::error::Error> {
    let client = Identity::default();
    let announced = world.mesh.announce(&client, "s").unwrap();
    let payload = Payload::Value(any_text(message));
    let broadcast = Broadcast { channel: topic.into(), payload };
    world.mesh.publish(client, "s", broadcast, String::new(), announced).await
}

/// How many events the store has of the topic.
async fn kept(world: &World) -> usize {
    let topic = tidegate_stages::actor::ActorId { name: "news\u{1}topic".into(), ..id("") };
    world.memory.load_by_interval(&topic, Interval::ALL, 100).await.unwrap().items.len()
}

/// Counters, by name and outcome.
#[derive(Debug, Clone, Default)]
struct Counted(Arc<Mutex<BTreeMap<String, Arc<AtomicU64>>>>);

impl Counted {
    fn deliveries(&self, outcome: &str) -> u64 {
        let name = format!("tidegate_topic_deliveries_total {outcome}");
        self.0.lock().get(&name).map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

impl Recorder for Counted {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let outcome = key.labels().find(|label| label.key() == "outcome");
        let name = format!("{} {}", key.name(), outcome.map_or("", Label::value));
        Counter::from_arc(Arc::clone(self.0.lock().entry(name).or_default()))
    }
    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }
    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

fn send(message: &str) -> Invocation {
    Invocation { payload: Payload::Value(any_text(message)), ..call("source", "other") }
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
    let unknown = next.mesh.topic_subscribers("s", "sport", "", 1).err();
    assert_eq!(unknown.map(|error| error.kind()), Some(ErrorKind::NotFound));
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
    let kept = kept(&world).await;
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
async fn what_a_subscriber_misses_that_has_read_nothing_yet_is_counted_too() {
    for start in [Start::Now, Start::Earliest] {
        let heard = Heard::default();
        let retention = Retention { revisions: Some(2), age: None };
        let rule = TopicRule { start, retention };
        let world = world_with(listening(&heard), durable(rule), MemoryStore::new()).await;
        world.register(vec![definition("source"), subscriber("joe")]).await.unwrap();
        sleep(Duration::from_secs(1)).await;
        world.mesh.pause("s", "joe", "a test").await.unwrap();
        for number in 1..=20 {
            publish(&world, &number.to_string()).await.unwrap();
        }
        sleep(Duration::from_secs(5)).await;
        world.mesh.resume("s", "joe").await.unwrap();
        caught_up(&world).await;
        let got = heard.lock()["joe"].len() as u64;
        assert!((2..=3).contains(&got), "{start:?}: {got}");
        assert_eq!(view(&world).missed, 20 - got, "{start:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_too_old_is_not_delivered_though_the_store_has_it() {
    let heard = Heard::default();
    let retention = Retention { revisions: None, age: Some(Duration::from_secs(2)) };
    let rule = TopicRule { start: Start::Earliest, retention };
    let world = world_with(listening(&heard), durable(rule), MemoryStore::new()).await;
    world.register(vec![definition("source"), definition("joe")]).await.unwrap();
    for message in ["1", "2"] {
        publish(&world, message).await.unwrap();
    }
    world.clock.advance(Duration::from_secs(8));
    world.register(vec![definition("source"), subscriber("joe")]).await.unwrap();
    caught_up(&world).await;
    assert_eq!(heard.lock()["joe"], ["2"], "the newest is kept however old it is");
    assert_eq!(view(&world).missed, 0, "it has subscribed later");
    world.mesh.pause("s", "joe", "a test").await.unwrap();
    for message in ["3", "4"] {
        publish(&world, message).await.unwrap();
    }
    world.clock.advance(Duration::from_secs(8));
    publish(&world, "5").await.unwrap();
    world.mesh.resume("s", "joe").await.unwrap();
    caught_up(&world).await;
    assert_eq!(heard.lock()["joe"], ["2", "5"]);
    assert_eq!((view(&world).missed, kept(&world).await), (2, 5));
}

#[tokio::test(start_paused = true)]
async fn a_deleted_subscriber_that_is_spawned_again_is_new() {
    for (start, expected) in [(Start::Now, vec!["3"]), (Start::Earliest, vec!["1", "2", "3"])] {
        for pause in [Duration::ZERO, Duration::from_secs(5)] {
            let heard = Heard::default();
            let rule = TopicRule { start, ..TopicRule::default() };
            let world = world_with(listening(&heard), durable(rule), MemoryStore::new()).await;
            world.register(vec![subscriber("template")]).await.unwrap();
            world.spawn("joe", "template").await.unwrap();
            for message in ["1", "2"] {
                publish(&world, message).await.unwrap();
            }
            caught_up(&world).await;
            assert_eq!(heard.lock()["joe"], ["1", "2"]);
            heard.lock().clear();
            world.mesh.delete("s", "joe").await.unwrap();
            let key = stored_id("joe", "template");
            assert!(world.memory.seen(&key).await.unwrap().is_empty());
            sleep(pause).await;
            world.spawn("joe", "template").await.unwrap();
            publish(&world, "3").await.unwrap();
            caught_up(&world).await;
            assert_eq!(heard.lock()["joe"], expected, "{start:?} {pause:?}");
            assert_eq!(heard.lock()["template"], ["3"], "it was there all the time");
            let state = world.memory.load(&key).await.unwrap().unwrap().content.state;
            assert_eq!(number(state.as_ref()), expected.len() as u64);
            assert_eq!(view(&world).missed, 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_is_spawned_again_does_not_wait_for_the_pause_of_its_predecessor() {
    let heard = Heard::default();
    let noted = heard.clone();
    let failing = host(move |invocation| {
        let noted = noted.clone();
        async move {
            if invocation.actor.name == "joe" && payload(&invocation.payload) == "1" {
                let (address, reason) = ("h".into(), "as the test wants it".into());
                return Err(HostError::Broken { address, reason });
            }
            Ok(listen(&noted, &invocation))
        }
    });
    let rule = TopicRule { start: Start::Now, ..TopicRule::default() };
    let world = world_with(failing, durable(rule), MemoryStore::new()).await;
    world.register(vec![subscriber("template")]).await.unwrap();
    world.spawn("joe", "template").await.unwrap();
    publish(&world, "1").await.unwrap();
    // Pauses of half a minute by then.
    sleep(Duration::from_mins(3)).await;
    world.mesh.delete("s", "joe").await.unwrap();
    world.spawn("joe", "template").await.unwrap();
    publish(&world, "2").await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(heard.lock()["joe"], ["2"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_answered_with_a_failure_or_was_answered_before_is_counted_as_that() {
    let counted = Counted::default();
    let _guard = set_default_local_recorder(&counted);
    let refusing = |heard: &Heard| {
        let heard = heard.clone();
        host(move |invocation| {
            let response = listen(&heard, &invocation);
            let is_refused = payload(&invocation.payload) == "1";
            async move {
                let (address, body) = ("h".into(), "no".into());
                let refused = HostError::Rejected { address, status: 500, body };
                if is_refused { Err(refused) } else { Ok(response) }
            }
        })
    };
    let (heard, memory) = (Heard::default(), MemoryStore::new());
    let world = world_with(refusing(&heard), durable(TopicRule::default()), memory.clone()).await;
    let stateless = Definition { stateful: false, ..subscriber("bare") };
    world.register(vec![definition("source"), subscriber("joe"), stateless]).await.unwrap();
    for message in ["1", "2"] {
        publish(&world, message).await.unwrap();
    }
    caught_up(&world).await;
    let both = vec!["1".to_owned(), "2".to_owned()];
    assert_eq!(*heard.lock(), [("bare".into(), both.clone()), ("joe".into(), both)].into());
    assert_eq!((counted.deliveries("delivered"), counted.deliveries("failed")), (2, 2));
    assert_eq!((counted.deliveries("retried"), counted.deliveries("dead")), (0, 0));
    // It ends before the last positions are stored.
    for message in ["3", "4"] {
        publish(&world, message).await.unwrap();
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!((counted.deliveries("delivered"), counted.deliveries("repeated")), (6, 0));
    let next = world_with(refusing(&heard), durable(TopicRule::default()), memory).await;
    caught_up(&next).await;
    assert!(counted.deliveries("repeated") >= 1);
    assert_eq!(heard.lock()["joe"], ["1", "2", "3", "4"]);
}

#[tokio::test(start_paused = true)]
async fn topics_that_nobody_subscribes_to_leave_memory_and_take_no_place_of_others() {
    let heard = Heard::default();
    let topics = TopicRules::new(vec![(Pattern::parse("ev-*").unwrap(), TopicRule::default())]);
    let settings = Settings { topics, ..Settings::default() };
    let world = world_with(listening(&heard), settings, MemoryStore::new()).await;
    let mut refused = Vec::new();
    for number in 0..1_024 {
        if publish_to(&world, &format!("ev-{number}"), "x").await.is_err() {
            refused.push(number);
        }
    }
    assert_eq!(refused, (768..1_024).collect::<Vec<_>>());
    let channel = Channel { topic: "ev-mine".into(), action: "add".into() };
    let joe = Definition { channels: Some(vec![channel]), ..definition("joe") };
    world.register(vec![joe]).await.unwrap();
    publish_to(&world, "ev-mine", "1").await.unwrap();
    sleep(Duration::from_secs(5)).await;
    assert_eq!(heard.lock()["joe"], ["1"]);
    sleep(Duration::from_mins(5)).await;
    assert_eq!(world.mesh.durable_topics().len(), 1, "the others are in the store");
    for topic in ["ev-1000", "ev-0", "ev-mine"] {
        publish_to(&world, topic, "2").await.unwrap();
    }
    let newest = |view: &TopicView| (view.topic.clone(), view.newest);
    let all: Vec<_> = world.mesh.durable_topics().iter().map(newest).collect();
    assert_eq!(all, [("ev-0".into(), 2), ("ev-1000".into(), 1), ("ev-mine".into(), 2)]);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(heard.lock()["joe"], ["1", "2"]);
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
