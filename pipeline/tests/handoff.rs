//! Tests the hand-over through flume on many threads, which loom does not model: no event is lost or
//! comes twice, and the order is kept, while consumers come and go.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_pipeline::*;
use tokio_util::task::TaskTracker;
use tower::service_fn;

const LIMIT: Duration = Duration::from_mins(1);
const BOUND: Bound = Bound { events: 256, bytes: 1 << 20 };

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_many_cast_many_get_once_and_in_order() {
    const CASTERS: u64 = 4;
    const EVENTS: u64 = 20_000;
    let drain = Drain::new();
    let options = ProducerOptions { name: "handoff", bound: BOUND, full: Full::Wait(LIMIT) };
    let producer = Producer::new(options, Demand::new());
    let seen: Vec<_> = (0..3)
        .map(|consumer| {
            let seen = Arc::new(Mutex::new(Vec::new()));
            let service = {
                let seen = Arc::clone(&seen);
                service_fn(move |event: (u64, u64)| {
                    seen.lock().push(event);
                    ready(Ok::<(), Infallible>(()))
                })
            };
            let options = ConsumerOptions { name: "handoff", concurrency: 1 };
            let demand = [1, 7, 100][consumer];
            Consumer::spawn(options, service, &drain)
                .subscribe(&producer, SubscribeOptions::max_demand(demand))
                .unwrap();
            seen
        })
        .collect();
    let casters = TaskTracker::new();
    for caster in 0..CASTERS {
        let producer = producer.clone();
        casters.spawn(async move {
            for number in 0..EVENTS {
                let permit = producer.reserve(16).await.unwrap();
                producer.cast((caster, number), permit).unwrap();
            }
        });
    }
    // A fourth consumer comes and goes all the while; it too keeps what it was granted.
    let passing = Arc::new(Mutex::new(Vec::new()));
    let visits = {
        let (producer, passing, drain) = (producer.clone(), Arc::clone(&passing), drain.clone());
        TaskTracker::new().spawn(async move {
            for _ in 0..200 {
                let passing = Arc::clone(&passing);
                let service = service_fn(move |event| {
                    passing.lock().push(event);
                    ready(Ok::<(), Infallible>(()))
                });
                let options = ConsumerOptions { name: "passing", concurrency: 1 };
                let consumer = Consumer::spawn(options, service, &drain);
                let demand = SubscribeOptions::max_demand(5);
                let Ok(subscription) = consumer.subscribe(&producer, demand) else { return };
                tokio::task::yield_now().await;
                subscription.cancel();
                consumer.ended().await;
            }
        })
    };
    casters.close();
    casters.wait().await;
    visits.await.unwrap();
    drain.register(producer);
    assert_eq!(drain.drain(LIMIT).await, Drained { finished: true, left: 0 });
    let mut all = passing.lock().clone();
    for seen in &seen {
        let seen = seen.lock();
        let mut last = BTreeMap::new();
        for (caster, number) in &*seen {
            assert!(last.insert(*caster, *number).is_none_or(|last| last < *number));
        }
        all.extend(&*seen);
    }
    all.sort_unstable();
    let expected: Vec<_> =
        (0..CASTERS).flat_map(|caster| (0..EVENTS).map(move |number| (caster, number))).collect();
    assert!(all == expected, "lost or twice: {} of {}", all.len(), expected.len());
}

#[derive(Debug)]
struct Mail {
    key: u64,
    number: u64,
    #[allow(dead_code, reason = "held for its destructor")]
    permit: Permit,
}

impl KeyedEvent for Mail {
    type Key = u64;
    fn key(&self) -> &u64 {
        &self.key
    }
    fn class(&self) -> u32 {
        u32::try_from(self.key % 3).unwrap_or_default()
    }

    type Handle = ();

    fn handle(&self) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn keys_stay_in_order_and_one_at_a_time_on_many_threads() {
    const KEYS: u64 = 16;
    const EVENTS: u64 = 3_000;
    let drain = Drain::new();
    let options = KeyedOptions {
        name: "keyed",
        bound: BOUND,
        per_key: BOUND.events,
        full: Full::Wait(LIMIT),
    };
    let producer = KeyedProducer::new(options);
    producer.set_class_limit(1, 2);
    let next: Arc<Vec<Mutex<u64>>> = Arc::new((0..KEYS).map(|_| Mutex::new(0)).collect());
    for _ in 0..2 {
        let next = Arc::clone(&next);
        let service = service_fn(move |turn: Turn<Mail>| {
            let next = Arc::clone(&next);
            async move {
                let (mail, hold) = turn.into_parts();
                if mail.number % 50 == 49 && mail.number < 1_000_000 {
                    // Parked, and back at the head: the retry of a call that was not sent.
                    let again = Mail { number: mail.number + 1_000_000, ..mail };
                    hold.park().resume(again);
                    return Ok(());
                }
                let number = mail.number % 1_000_000;
                {
                    let mut next = next[usize::try_from(mail.key).unwrap_or_default()]
                        .try_lock()
                        .expect("I3: one at a time");
                    assert_eq!(*next, number, "I3: in order");
                    *next += 1;
                }
                if number % 7 == 0 {
                    tokio::task::yield_now().await;
                }
                drop(hold);
                Ok::<(), Infallible>(())
            }
        });
        let options = ConsumerOptions { name: "keyed", concurrency: 8 };
        let consumer = Consumer::spawn(options, service, &drain);
        consumer.subscribe(&producer, SubscribeOptions::max_demand(10)).unwrap();
    }
    let pushers = TaskTracker::new();
    for key in 0..KEYS {
        let producer = producer.clone();
        pushers.spawn(async move {
            for number in 0..EVENTS {
                let permit = producer.reserve(8).await.unwrap();
                producer.push(Mail { key, number, permit }).unwrap();
            }
        });
    }
    pushers.close();
    pushers.wait().await;
    drain.register(producer.clone());
    assert_eq!(drain.drain(LIMIT).await, Drained { finished: true, left: 0 });
    assert!(next.iter().all(|next| *next.lock() == EVENTS), "{next:?}");
    assert_eq!(producer.admitted(), 0);
}
