//! Tests the metrics of a stage, under the names that dashboards query.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::metrics::{
    Counter, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};
use parking_lot::Mutex;
use tidegate_pipeline::layer::TimedLayer;
use tidegate_pipeline::*;
use tokio::time::sleep;
use tower::{ServiceBuilder, service_fn};

/// Records counters, gauges, and of each histogram the sum in milliseconds.
#[derive(Debug, Clone, Default)]
struct Recorded {
    values: Arc<Mutex<BTreeMap<String, Arc<AtomicU64>>>>,
}

impl Recorded {
    fn of(&self, key: &Key) -> Arc<AtomicU64> {
        let labels: Vec<String> =
            key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        let name = format!("{}{{{}}}", key.name(), labels.join(","));
        Arc::clone(self.values.lock().entry(name).or_default())
    }

    fn get(&self, name: &str) -> Option<u64> {
        self.values.lock().get(name).map(|value| value.load(Ordering::SeqCst))
    }
}

impl Recorder for Recorded {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.of(key))
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(Arc::new(Last(self.of(key))))
    }
    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(Arc::new(Sum(self.of(key))))
    }
}

/// The last value of a gauge, which is a whole number here.
struct Last(Arc<AtomicU64>);

impl GaugeFn for Last {
    fn increment(&self, _: f64) {}
    fn decrement(&self, _: f64) {}
    fn set(&self, value: f64) {
        self.0.store(Duration::from_secs_f64(value).as_secs(), Ordering::SeqCst);
    }
}

struct Sum(Arc<AtomicU64>);

impl HistogramFn for Sum {
    fn record(&self, value: f64) {
        let millis = Duration::from_secs_f64(value).as_millis();
        self.0.fetch_add(u64::try_from(millis).unwrap_or(u64::MAX), Ordering::SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn demand_grants_waiting_shed_calls_and_times_are_counted_per_stage() {
    let recorded = Recorded::default();
    let _guard = ::metrics::set_default_local_recorder(&recorded);
    let drain = Drain::new();
    let options = ProducerOptions {
        name: "admission",
        bound: Bound { events: 2, bytes: 100 },
        full: Full::Wait(Duration::from_millis(1500)),
    };
    let producer = Producer::new(options, Demand::new());
    for event in 0..2u64 {
        let permit = producer.reserve(8).await.unwrap();
        producer.cast(event, permit).unwrap();
    }
    assert_eq!(producer.reserve(8).await.unwrap_err(), Refused::Full);
    assert_eq!(producer.reserve(8).await.unwrap_err(), Refused::Full);
    assert_eq!(producer.reserve(101).await.unwrap_err(), Refused::TooLarge);
    let service = service_fn(|event: u64| async move {
        sleep(Duration::from_secs(1)).await;
        if event == 0 { Ok(()) } else { Err("not this one") }
    });
    let service = ServiceBuilder::new().layer(TimedLayer { stage: "work" }).service(service);
    let options = ConsumerOptions { name: "work", concurrency: 1 };
    Consumer::spawn(options, service, &drain)
        .subscribe(&producer, SubscribeOptions::max_demand(10))
        .unwrap();
    let panicking = service_fn(|_: u64| {
        assert_eq!(1, 2, "as told");
        ready(Ok::<(), Infallible>(()))
    });
    let other = Producer::new(
        ProducerOptions { name: "other", bound: Bound { events: 2, bytes: 100 }, full: Full::Shed },
        Demand::new(),
    );
    other.cast(0, other.try_reserve(8).unwrap()).unwrap();
    Consumer::spawn(ConsumerOptions { name: "panics", concurrency: 1 }, panicking, &drain)
        .subscribe(&other, SubscribeOptions::max_demand(10))
        .unwrap();
    drain.register(producer.clone());
    drain.register(other);
    assert!(drain.drain(Duration::from_mins(1)).await.finished);
    assert_eq!(producer.try_reserve(1).unwrap_err(), Refused::Closed);

    let expected = [
        ("tidegate_demand_asked_total{stage=admission}", 10),
        ("tidegate_demand_granted_total{stage=admission}", 2),
        ("tidegate_backpressure_seconds_total{stage=admission}", 3),
        // Both events waited until the consumer came.
        ("tidegate_queue_duration_seconds{stage=admission}", 6000),
        ("tidegate_calls_shed_total{stage=admission,reason=full}", 2),
        ("tidegate_calls_shed_total{stage=admission,reason=too_large}", 1),
        ("tidegate_calls_shed_total{stage=admission,reason=closed}", 1),
        ("tidegate_stage_duration_seconds{stage=work,outcome=ok}", 1000),
        ("tidegate_stage_duration_seconds{stage=work,outcome=error}", 1000),
        ("tidegate_events_failed_total{stage=work}", 1),
        ("tidegate_events_panicked_total{stage=panics}", 1),
    ];
    for (name, value) in expected {
        assert_eq!(recorded.get(name), Some(value), "{name} of {recorded:?}");
    }
}

struct Letter;

impl KeyedEvent for Letter {
    type Key = u8;

    fn key(&self) -> &u8 {
        &0
    }

    fn class(&self) -> u32 {
        0
    }

    type Handle = ();

    fn handle(&self) {}
}

#[tokio::test(start_paused = true)]
async fn time_in_a_mailbox_and_time_of_turns_are_apart() {
    let recorded = Recorded::default();
    let _guard = ::metrics::set_default_local_recorder(&recorded);
    let drain = Drain::new();
    let mailboxes = KeyedProducer::new(KeyedOptions {
        name: "mailboxes",
        bound: Bound { events: 10, bytes: 100 },
        per_key: 10,
        full: Full::Shed,
    });
    for _ in 0..2 {
        mailboxes.push(Letter).unwrap();
    }
    sleep(Duration::from_secs(1)).await;
    let service = service_fn(|turn: Turn<Letter>| async move {
        sleep(Duration::from_secs(3)).await;
        drop(turn);
        Ok::<(), Infallible>(())
    });
    Consumer::spawn(ConsumerOptions { name: "worker", concurrency: 4 }, service, &drain)
        .subscribe(&mailboxes, SubscribeOptions::max_demand(4))
        .unwrap();
    mailboxes.idle().await;
    // The first waits a second, the second one also for the turn of the first.
    let queued = recorded.get("tidegate_queue_duration_seconds{stage=mailboxes}");
    let turns = recorded.get("tidegate_turn_duration_seconds{stage=mailboxes}");
    assert_eq!((queued, turns), (Some(1_000 + 4_000), Some(2 * 3_000)));
}

/// Two events come at once and are asked for two seconds later; how long they have waited, in milliseconds.
async fn queued_ms<D: Dispatcher<u64>>(dispatcher: D, is_partitioned: bool) -> u64 {
    let recorded = Recorded::default();
    let _guard = ::metrics::set_default_local_recorder(&recorded);
    let (drain, bound) = (Drain::new(), Bound { events: 2, bytes: 100 });
    let options = ProducerOptions { name: "queue", bound, full: Full::Shed };
    let producer = Producer::new(options, dispatcher);
    for event in 0..2 {
        let permit = producer.try_reserve(1).expect("it is open");
        producer.cast(event, permit).expect("it is open");
    }
    sleep(Duration::from_secs(2)).await;
    let service = service_fn(|_: u64| ready(Ok::<(), Infallible>(())));
    for partition in 0..2 {
        let options = ConsumerOptions { name: "any", concurrency: 1 };
        let consumer = Consumer::spawn(options, service, &drain);
        let demand = SubscribeOptions::max_demand(1);
        if is_partitioned {
            consumer.subscribe_partition(&producer, partition, demand).expect("they fit");
        } else {
            consumer.subscribe(&producer, demand).expect("they fit");
        }
    }
    drain.register(producer);
    assert!(drain.drain(Duration::from_mins(1)).await.finished);
    recorded.get("tidegate_queue_duration_seconds{stage=queue}").expect("it is measured")
}

#[tokio::test(start_paused = true)]
async fn the_time_in_the_queue_is_told_once_for_each_event_whoever_gets_it() {
    assert_eq!(queued_ms(Demand::new(), false).await, 4000);
    assert_eq!(queued_ms(Broadcast::new(), false).await, 4000);
    assert_eq!(queued_ms(Partition::new(2, |event: &u64| *event), true).await, 4000);
}

/// An event of a key, of a class that is its number.
struct Numbered(u8, u32);

impl KeyedEvent for Numbered {
    type Key = u8;

    fn key(&self) -> &u8 {
        &self.0
    }

    fn class(&self) -> u32 {
        self.1
    }

    type Handle = u8;

    fn handle(&self) -> u8 {
        self.0
    }
}

/// An event of one of many keys.
struct Wide(u16);

impl KeyedEvent for Wide {
    type Key = u16;

    fn key(&self) -> &u16 {
        &self.0
    }

    fn class(&self) -> u32 {
        0
    }

    type Handle = ();

    fn handle(&self) {}
}

#[tokio::test(start_paused = true)]
async fn what_a_keyed_producer_holds_and_what_its_keys_wait_for_is_shown_when_it_is_asked() {
    let recorded = Recorded::default();
    let _guard = ::metrics::set_default_local_recorder(&recorded);
    let drain = Drain::new();
    let bound = Bound { events: 9, bytes: 100 };
    let options = KeyedOptions { name: "turns", bound, per_key: 9, full: Full::Shed };
    let producer = KeyedProducer::new(options);
    let permits = [7, 8].map(|bytes| producer.try_reserve(bytes).unwrap());
    producer.set_class_limit(5, 0);
    for event in [Numbered(1, 0), Numbered(1, 0), Numbered(1, 0), Numbered(2, 5), Numbered(3, 0)] {
        assert!(producer.push(event).is_ok());
    }
    producer.pause(&3).unwrap();
    // Key 1 runs, and its turn never ends; then there is no demand.
    let service = service_fn(|turn: Turn<Numbered>| async move {
        std::future::pending::<()>().await;
        drop(turn);
        Ok::<(), Infallible>(())
    });
    Consumer::spawn(ConsumerOptions { name: "work", concurrency: 1 }, service, &drain)
        .subscribe(&producer, SubscribeOptions::max_demand(2))
        .unwrap();
    sleep(Duration::from_secs(3)).await;
    producer.observe();
    for (name, value) in [
        ("tidegate_queued_events{stage=turns}", 4),
        ("tidegate_in_flight_events{stage=turns}", 1),
        ("tidegate_parked_events{stage=turns}", 0),
        ("tidegate_demand_events{stage=turns}", 1),
        ("tidegate_buffer_events{stage=turns}", 2),
        ("tidegate_buffer_bytes{stage=turns}", 15),
        ("tidegate_buffer_limit_events{stage=turns}", 9),
        ("tidegate_buffer_limit_bytes{stage=turns}", 100),
    ] {
        assert_eq!(recorded.get(name), Some(value), "{name} of {recorded:?}");
    }
    let mut seen = Vec::new();
    producer.survey(|key| {
        let first = key.first.map(|(class, since)| (class, since.elapsed().as_secs()));
        seen.push((key.running.copied(), key.queued, key.waits_for, first, key.is_paused));
    });
    seen.sort_by_key(|key| (key.0, key.4));
    let expected = [
        (None, 1, Some(WaitsFor::Class), Some((5, 3)), false),
        (None, 1, Some(WaitsFor::Resume), Some((0, 3)), true),
        (Some(1), 2, Some(WaitsFor::Turn), Some((0, 3)), false),
    ];
    assert_eq!(seen, expected);
    // As many keys as are looked at in one go, and more: each is seen once.
    for count in [256, 1_000] {
        let many = KeyedProducer::new(options);
        for key in 0..count {
            assert!(many.push(Wide(key)).is_ok());
        }
        let mut keys = 0;
        many.survey(|key| keys += key.queued);
        assert_eq!(keys, usize::from(count));
    }
    drop(permits);
}
