//! What Elixir's GenStage documents of its behaviour, tested on this crate.

use std::convert::Infallible;
use std::future::{pending, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_pipeline::*;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep};
use tower::{Service, ServiceExt, service_fn};

/// Counts from 0 to `end` and records what it was asked for.
struct Counter {
    next: u64,
    end: u64,
    asked: Arc<Mutex<Vec<usize>>>,
}

impl Source for Counter {
    type Event = u64;
    async fn events(&mut self, demand: usize) -> Option<Vec<u64>> {
        self.asked.lock().push(demand);
        let until = self.end.min(self.next + demand as u64);
        let events: Vec<u64> = (self.next..until).collect();
        self.next = until;
        (!events.is_empty()).then_some(events)
    }
}

fn count_to(end: u64, drain: &Drain) -> (Producer<u64>, Arc<Mutex<Vec<usize>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let source = Counter { next: 0, end, asked: Arc::clone(&asked) };
    (Producer::from_source("counter", Demand::new(), source, drain), asked)
}

fn buffered<D: Dispatcher<u64>>(events: usize, full: Full, dispatcher: D) -> Producer<u64, D> {
    let options = ProducerOptions { name: "test", bound: Bound { events, bytes: 1 << 20 }, full };
    Producer::new(options, dispatcher)
}

fn cast<D: Dispatcher<u64>>(producer: &Producer<u64, D>, events: impl IntoIterator<Item = u64>) {
    for event in events {
        let permit = producer.try_reserve(8).expect("a place is free");
        producer.cast(event, permit).expect("it is open");
    }
}

fn demand(max_demand: usize, min_demand: usize) -> SubscribeOptions {
    SubscribeOptions { max_demand, min_demand, ..SubscribeOptions::default() }
}

fn manual(max_demand: usize) -> SubscribeOptions {
    SubscribeOptions { demand: DemandMode::Manual, ..demand(max_demand, 0) }
}

const ONE: ConsumerOptions = ConsumerOptions { name: "test", concurrency: 1 };

/// Makes a consumer that records its events.
fn noting<E: Send + 'static>(drain: &Drain) -> (Consumer<E>, Arc<Mutex<Vec<E>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let service = {
        let seen = Arc::clone(&seen);
        service_fn(move |event: E| {
            seen.lock().push(event);
            ready(Ok::<(), Infallible>(()))
        })
    };
    (Consumer::spawn(ONE, service, drain), seen)
}

/// Makes a consumer that finishes one event for each permit that the test adds.
fn stepping<E: Send + 'static>(drain: &Drain) -> (Consumer<E>, Arc<Mutex<Vec<E>>>, Arc<Semaphore>) {
    let (seen, steps) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Semaphore::new(0)));
    let service = {
        let (seen, steps) = (Arc::clone(&seen), Arc::clone(&steps));
        service_fn(move |event: E| {
            let (seen, steps) = (Arc::clone(&seen), Arc::clone(&steps));
            async move {
                steps.acquire().await.map_err(|_| "the test has ended")?.forget();
                seen.lock().push(event);
                Ok::<(), &'static str>(())
            }
        })
    };
    (Consumer::spawn(ONE, service, drain), seen, steps)
}

/// Runs all tasks until none can go on: paused time advances only then.
async fn quiesce() {
    sleep(Duration::from_millis(1)).await;
}

const LIMIT: Duration = Duration::from_mins(1);

#[tokio::test(start_paused = true)]
async fn a_consumer_asks_for_max_demand_and_again_when_min_demand_is_reached() {
    let drain = Drain::new();
    let (producer, asked) = count_to(10_000, &drain);
    let (consumer, seen, steps) = stepping::<u64>(&drain);
    consumer.subscribe(&producer, demand(1000, 750)).unwrap();
    quiesce().await;
    assert_eq!(*asked.lock(), [1000]);
    steps.add_permits(249);
    quiesce().await;
    assert_eq!(*asked.lock(), [1000]);
    steps.add_permits(1);
    quiesce().await;
    assert_eq!(*asked.lock(), [1000, 250]);
    steps.add_permits(500);
    quiesce().await;
    let later = asked.lock()[2..].to_vec();
    assert!(later.iter().all(|again| *again >= 250), "{later:?}");
    let not_asked_again = 750 - 250 - later.iter().sum::<usize>().min(500);
    assert!(not_asked_again < 250, "{later:?}");
    assert_eq!(*seen.lock(), (0..750).collect::<Vec<u64>>());
}

#[tokio::test(start_paused = true)]
async fn a_source_is_asked_for_nothing_before_somebody_subscribes() {
    let drain = Drain::new();
    let (_producer, asked) = count_to(10, &drain);
    quiesce().await;
    assert!(asked.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn events_pass_a_chain_in_order_and_the_end_of_the_source_ends_it() {
    let drain = Drain::new();
    let (counter, _) = count_to(5000, &drain);
    let double = service_fn(|event: u64| ready(Ok::<_, Infallible>(Some(event * 2))));
    let doubler = ProducerConsumer::spawn("double", Demand::new(), double, &drain);
    doubler.subscribe(&counter, demand(100, 50)).unwrap();
    let (consumer, seen) = noting(&drain);
    consumer.subscribe(&doubler, demand(10, 5)).unwrap();
    assert_eq!(consumer.ended().await, Ended::Finished);
    assert_eq!(doubler.consumer().ended().await, Ended::Finished);
    assert_eq!(*seen.lock(), (0..5000).map(|event| event * 2).collect::<Vec<u64>>());
    assert_eq!(drain.drain(LIMIT).await, Drained { finished: true, left: 0 });
}

#[tokio::test(start_paused = true)]
async fn a_producer_consumer_asks_upstream_only_when_it_is_asked() {
    let drain = Drain::new();
    let (counter, asked) = count_to(5000, &drain);
    let same = service_fn(|events: Vec<u64>| ready(Ok::<_, Infallible>(events)));
    let stage = ProducerConsumer::spawn_batched("same", Demand::new(), same, &drain);
    stage.subscribe(&counter, demand(100, 50)).unwrap();
    quiesce().await;
    assert!(asked.lock().is_empty(), "nobody has asked the stage");
    let (consumer, seen) = noting(&drain);
    let subscription = consumer.subscribe(&stage, manual(50)).unwrap();
    quiesce().await;
    assert!(asked.lock().is_empty(), "nobody has asked the stage");
    assert_eq!(subscription.ask(7), 7);
    quiesce().await;
    assert_eq!(asked.lock().iter().sum::<usize>(), 100);
    assert_eq!(*seen.lock(), (0..7).collect::<Vec<u64>>(), "no more than was asked for");
}

#[tokio::test(start_paused = true)]
async fn a_stage_that_makes_many_of_one_waits_until_they_are_gone() {
    let drain = Drain::new();
    let (counter, _) = count_to(1000, &drain);
    let worked = Arc::new(AtomicUsize::new(0));
    let many = {
        let worked = Arc::clone(&worked);
        service_fn(move |event: u64| {
            worked.fetch_add(1, Ordering::SeqCst);
            ready(Ok::<_, Infallible>(vec![event; 10]))
        })
    };
    let stage = ProducerConsumer::spawn("many", Demand::new(), many, &drain);
    stage.subscribe(&counter, demand(100, 50)).unwrap();
    let (consumer, seen) = noting(&drain);
    let subscription = consumer.subscribe(&stage, manual(100)).unwrap();
    subscription.ask(15);
    quiesce().await;
    assert_eq!((seen.lock().len(), worked.load(Ordering::SeqCst)), (15, 2));
    assert_eq!(stage.producer().queued(), 5);
    subscription.ask(5);
    quiesce().await;
    assert_eq!((seen.lock().len(), worked.load(Ordering::SeqCst)), (20, 2));
}

#[tokio::test(start_paused = true)]
async fn the_largest_demand_is_served_first() {
    let drain = Drain::new();
    let producer = buffered(100, Full::Shed, Demand::new());
    let (small, seen_small) = noting(&drain);
    let (large, seen_large) = noting(&drain);
    let small = small.subscribe(&producer, manual(100)).unwrap();
    let large = large.subscribe(&producer, manual(100)).unwrap();
    quiesce().await;
    small.ask(3);
    large.ask(10);
    cast(&producer, 0..13);
    quiesce().await;
    assert_eq!(seen_large.lock()[..7], [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!((seen_small.lock().len(), seen_large.lock().len()), (3, 10));
}

#[tokio::test(start_paused = true)]
async fn a_broadcast_goes_to_all_at_the_pace_of_the_slowest() {
    let drain = Drain::new();
    let producer = buffered(100, Full::Shed, Broadcast::new());
    let (fast, seen_fast) = noting(&drain);
    let (slow, seen_slow) = noting(&drain);
    let fast = fast.subscribe(&producer, manual(100)).unwrap();
    let slow = slow.subscribe(&producer, manual(100)).unwrap();
    quiesce().await;
    fast.ask(50);
    cast(&producer, 0..10);
    quiesce().await;
    assert!(seen_fast.lock().is_empty(), "not everybody has asked");
    slow.ask(4);
    quiesce().await;
    assert_eq!((&*seen_fast.lock(), &*seen_slow.lock()), (&vec![0, 1, 2, 3], &vec![0, 1, 2, 3]));
    slow.cancel();
    quiesce().await;
    assert_eq!(*seen_fast.lock(), (0..10).collect::<Vec<u64>>(), "the slowest has left");
}

#[tokio::test(start_paused = true)]
async fn a_selector_takes_what_it_wants_and_the_rest_costs_no_demand() {
    let drain = Drain::new();
    let producer = buffered(100, Full::Shed, Broadcast::new());
    let (all, seen_all) = noting(&drain);
    let (even, seen_even) = noting(&drain);
    all.subscribe(&producer, demand(10, 5)).unwrap();
    let even = even.subscribe_where(&producer, manual(10), |event| event % 2 == 0).unwrap();
    quiesce().await;
    even.ask(5);
    cast(&producer, 0..20);
    quiesce().await;
    assert_eq!(*seen_even.lock(), [0, 2, 4, 6, 8]);
    assert_eq!(seen_all.lock().len(), 9, "the tenth waits until everybody asks again");
}

#[tokio::test(start_paused = true)]
async fn a_partition_gets_its_own_events_in_order() {
    let drain = Drain::new();
    let producer = buffered(1000, Full::Shed, Partition::new(3, |event: &u64| *event));
    let consumers: Vec<_> = (0..3).map(|_| noting(&drain)).collect();
    for (partition, (consumer, _)) in (0..).zip(&consumers[..2]) {
        consumer.subscribe_partition(&producer, partition, demand(10, 5)).unwrap();
    }
    let (late, _) = &consumers[2];
    assert_eq!(
        late.subscribe_partition(&producer, 1, demand(10, 5)).unwrap_err(),
        SubscribeError::PartitionTaken(1)
    );
    assert_eq!(
        late.subscribe_partition(&producer, 3, demand(10, 5)).unwrap_err(),
        SubscribeError::PartitionUnknown(3)
    );
    assert_eq!(
        late.subscribe(&producer, demand(10, 5)).unwrap_err(),
        SubscribeError::PartitionMissing
    );
    cast(&producer, 0..300);
    quiesce().await;
    assert_eq!(producer.queued(), 100, "the partition without a subscriber waits for one");
    late.subscribe_partition(&producer, 2, demand(10, 5)).unwrap();
    quiesce().await;
    for (partition, (_, seen)) in (0..).zip(&consumers) {
        assert_eq!(*seen.lock(), (0..100).map(|n| n * 3 + partition).collect::<Vec<u64>>());
    }
}

#[tokio::test(start_paused = true)]
async fn events_wait_in_the_buffer_for_the_first_subscriber_and_a_full_buffer_sheds() {
    let drain = Drain::new();
    let producer = buffered(3, Full::Shed, Demand::new());
    cast(&producer, 0..3);
    assert_eq!(producer.try_reserve(8).unwrap_err(), Refused::Full);
    let (consumer, seen) = noting(&drain);
    consumer.subscribe(&producer, demand(10, 5)).unwrap();
    quiesce().await;
    assert_eq!(*seen.lock(), [0, 1, 2]);
    cast(&producer, 3..6);
}

#[tokio::test(start_paused = true)]
async fn a_consumer_keeps_separate_demand_with_each_of_its_producers() {
    let drain = Drain::new();
    let (first, asked_first) = count_to(1_000_000, &drain);
    let (second, asked_second) = count_to(1_000_000, &drain);
    let (consumer, seen, steps) = stepping::<u64>(&drain);
    consumer.subscribe(&first, demand(10, 5)).unwrap();
    consumer.subscribe(&second, demand(20, 10)).unwrap();
    quiesce().await;
    assert_eq!((&*asked_first.lock(), &*asked_second.lock()), (&vec![10], &vec![20]));
    steps.add_permits(200);
    quiesce().await;
    assert_eq!(seen.lock().len(), 200);
    assert!(asked_first.lock().len() > 5 && asked_second.lock().len() > 5, "both get their turns");
}

#[tokio::test(start_paused = true)]
async fn a_permanent_consumer_ends_with_its_producer_a_transient_one_if_it_failed_a_temporary_one_never()
 {
    for fails in [false, true] {
        let drain = Drain::new();
        let mut ended = Vec::new();
        for cancel in [Cancel::Permanent, Cancel::Transient, Cancel::Temporary] {
            let source = Failing { fails };
            let producer = Producer::from_source("failing", Demand::new(), source, &drain);
            let (consumer, _) = noting(&drain);
            let options = SubscribeOptions { cancel, ..demand(10, 5) };
            consumer.subscribe(&producer, options).unwrap();
            quiesce().await;
            ended.push(tokio::time::timeout(LIMIT, consumer.ended()).await.ok());
        }
        let expected = if fails {
            [Some(Ended::ProducerFailed), Some(Ended::ProducerFailed), None]
        } else {
            [Some(Ended::Finished), None, None]
        };
        assert_eq!(ended, expected, "fails: {fails}");
        let drained = drain.drain(LIMIT).await;
        assert!(drained.finished, "those that go on end when all is drained");
    }
}

/// Ends or fails at once.
struct Failing {
    fails: bool,
}

impl Source for Failing {
    type Event = u64;
    async fn events(&mut self, _: usize) -> Option<Vec<u64>> {
        assert!(!self.fails, "as told");
        None
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_subscription_finishes_what_was_granted() {
    let drain = Drain::new();
    let producer = buffered(100, Full::Shed, Demand::new());
    let (consumer, seen, steps) = stepping::<u64>(&drain);
    let subscription = consumer.subscribe(&producer, demand(5, 2)).unwrap();
    cast(&producer, 0..10);
    quiesce().await;
    subscription.cancel();
    steps.add_permits(100);
    assert_eq!(consumer.ended().await, Ended::Finished);
    assert_eq!(*seen.lock(), [0, 1, 2, 3, 4]);
    assert_eq!(producer.queued(), 5);
    assert!(subscription.has_ended());
    assert_eq!(subscription.ask(1), 0);
    let (next, seen) = noting(&drain);
    next.subscribe(&producer, demand(5, 2)).unwrap();
    quiesce().await;
    assert_eq!(*seen.lock(), [5, 6, 7, 8, 9], "what was not granted is the next one's");
}

#[tokio::test(start_paused = true)]
async fn manual_demand_gets_what_it_asks_for_and_never_more_than_max_is_out() {
    let drain = Drain::new();
    let (producer, asked) = count_to(100, &drain);
    let (consumer, seen) = noting(&drain);
    let subscription = consumer.subscribe(&producer, manual(10)).unwrap();
    quiesce().await;
    assert!(seen.lock().is_empty());
    assert_eq!(subscription.ask(4), 4);
    quiesce().await;
    assert_eq!((seen.lock().len(), &*asked.lock()), (4, &vec![4]));
    assert_eq!(subscription.ask(1000), 10);
    quiesce().await;
    assert_eq!(seen.lock().len(), 14);
}

#[tokio::test(start_paused = true)]
async fn a_timer_that_asks_by_hand_sets_the_rate() {
    const TICK: Duration = Duration::from_secs(2);
    let drain = Drain::new();
    let (producer, _) = count_to(u64::MAX, &drain);
    let (consumer, seen) = noting(&drain);
    let subscription = consumer.subscribe(&producer, manual(5)).unwrap();
    for tick in 1..=3 {
        assert_eq!(subscription.ask(5), 5);
        sleep(TICK).await;
        assert_eq!(*seen.lock(), (0..tick * 5).collect::<Vec<u64>>());
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_gets_its_reply_and_a_dropped_one_is_an_error() {
    let drain = Drain::new();
    let options = ProducerOptions {
        name: "test",
        bound: Bound { events: 10, bytes: 1000 },
        full: Full::Shed,
    };
    let producer: Producer<Call<u64, u64>> = Producer::new(options, Demand::new());
    let service = service_fn(|call: Call<u64, u64>| async move {
        assert_ne!(call.request, 3, "as told");
        if call.request != 2 {
            call.reply.send(call.request + 1).map_err(|_| "the caller has left")?;
        }
        Ok::<(), &'static str>(())
    });
    Consumer::spawn(ONE, service, &drain).subscribe(&producer, demand(10, 5)).unwrap();
    let call = |request| {
        let permit = producer.try_reserve(8).unwrap();
        producer.call(request, permit)
    };
    assert_eq!(call(1).await, Ok(2));
    assert_eq!(call(2).await, Err(CallError::NoReply));
    assert_eq!(call(3).await, Err(CallError::NoReply), "its service panicked");
    assert_eq!(call(4).await, Ok(5));
    let mut service = producer.call_service(|_| 8);
    assert_eq!(service.ready().await.unwrap().call(7).await, Ok(8));
    producer.close();
    assert_eq!(service.ready().await.unwrap().call(7).await, Err(Refused::Closed.into()));
}

#[tokio::test(start_paused = true)]
async fn a_cast_service_is_ready_when_a_place_is_free_and_fails_after_its_limit() {
    let drain = Drain::new();
    let limit = Duration::from_secs(5);
    let producer = buffered(1, Full::Wait(limit), Demand::new());
    let mut service = producer.cast_service(|_| 8);
    service.ready().await.unwrap().call(0).await.unwrap();
    let started = Instant::now();
    let refused = service.ready().await.unwrap().call(1).await;
    assert_eq!((refused, started.elapsed()), (Err(Refused::Full), limit));
    let mut waiting = service.clone();
    let waiting = async move { waiting.ready().await.unwrap().call(2).await };
    let (consumer, seen) = noting(&drain);
    let subscribing = async {
        sleep(Duration::from_secs(1)).await;
        consumer.subscribe(&producer, demand(10, 5)).unwrap();
    };
    let (outcome, ()) = tokio::join!(waiting, subscribing);
    outcome.unwrap();
    quiesce().await;
    assert_eq!(*seen.lock(), [0, 2]);
}

#[tokio::test(start_paused = true)]
async fn concurrency_bounds_what_runs_at_once_and_demand_what_is_out() {
    let drain = Drain::new();
    let producer = buffered(100, Full::Shed, Demand::new());
    let running = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
    let service = {
        let running = Arc::clone(&running);
        service_fn(move |_: u64| {
            let running = Arc::clone(&running);
            async move {
                let now = running.0.fetch_add(1, Ordering::SeqCst) + 1;
                running.1.fetch_max(now, Ordering::SeqCst);
                sleep(Duration::from_secs(1)).await;
                running.0.fetch_sub(1, Ordering::SeqCst);
                Ok::<(), Infallible>(())
            }
        })
    };
    let options = ConsumerOptions { name: "test", concurrency: 4 };
    let consumer = Consumer::spawn(options, service, &drain);
    consumer.subscribe(&producer, demand(10, 9)).unwrap();
    cast(&producer, 0..20);
    let started = Instant::now();
    drain.register(producer);
    assert!(drain.drain(LIMIT).await.finished);
    assert_eq!(running.1.load(Ordering::SeqCst), 4);
    assert_eq!(started.elapsed(), Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_batch_goes_out_when_it_is_full_in_events_or_bytes_or_has_lingered() {
    let drain = Drain::new();
    let producer = buffered(100, Full::Shed, Demand::new());
    let (sender, mut batches) = mpsc::channel(100);
    let service = service_fn(move |batch: Vec<u64>| {
        ready(sender.try_send((Instant::now(), batch)).map_err(|_| "the test has ended"))
    });
    let linger = Duration::from_secs(2);
    let options = BatchOptions { max_bytes: 100, linger, ..BatchOptions::new("test", 4) };
    let weigh = |event: &u64| usize::try_from(*event).unwrap_or(usize::MAX);
    let consumer = Consumer::spawn_batched(options, weigh, service, &drain);
    consumer.subscribe(&producer, demand(50, 25)).unwrap();
    let started = Instant::now();
    cast(&producer, [1, 2, 3, 4, 60, 41, 300, 5]);
    let mut next = async || {
        let (at, batch) = batches.recv().await.unwrap();
        (at - started, batch)
    };
    assert_eq!(next().await, (Duration::ZERO, vec![1, 2, 3, 4]));
    assert_eq!(next().await, (Duration::ZERO, vec![60]), "101 bytes would be too many");
    assert_eq!(next().await, (Duration::ZERO, vec![41]));
    assert_eq!(next().await, (Duration::ZERO, vec![300]), "larger than a batch: alone");
    assert_eq!(next().await, (linger, vec![5]));
    cast(&producer, [6]);
    producer.close();
    assert_eq!(next().await.1, [6], "nothing is left behind at the end");
    assert_eq!(consumer.ended().await, Ended::Finished);
}

#[tokio::test(start_paused = true)]
async fn the_next_batch_fills_while_one_is_out_and_no_more_are_out_than_allowed() {
    let drain = Drain::new();
    let producer = buffered(100, Full::Shed, Demand::new());
    let (sender, mut batches) = mpsc::channel(100);
    let service = service_fn(move |batch: Vec<u64>| {
        let sent = sender.try_send(batch);
        async move {
            sent.map_err(|_| "the test has ended")?;
            sleep(Duration::from_secs(1)).await;
            Ok::<(), &'static str>(())
        }
    });
    let consumer = Consumer::spawn_batched(BatchOptions::new("test", 10), |_| 8, service, &drain);
    consumer.subscribe(&producer, demand(20, 10)).unwrap();
    cast(&producer, 0..1);
    quiesce().await;
    cast(&producer, 1..15);
    quiesce().await;
    assert_eq!(batches.try_recv().unwrap(), [0]);
    assert!(batches.try_recv().is_err(), "one at a time");
    assert_eq!(batches.recv().await.unwrap(), (1..11).collect::<Vec<u64>>());
    assert_eq!(batches.recv().await.unwrap(), (11..15).collect::<Vec<u64>>());
}

#[tokio::test(start_paused = true)]
async fn a_drain_finishes_what_was_admitted_producer_by_producer() {
    let drain = Drain::new();
    let outer = buffered(100, Full::Shed, Demand::new());
    let inner = buffered(100, Full::Shed, Demand::new());
    let service = {
        let inner = inner.clone();
        service_fn(move |event: u64| {
            let inner = inner.clone();
            async move {
                sleep(Duration::from_millis(100)).await;
                let permit = inner.try_reserve(8)?;
                inner.cast(event, permit).map_err(|rejected| rejected.reason)
            }
        })
    };
    let consumer = Consumer::spawn(ONE, service, &drain);
    consumer.subscribe(&outer, demand(10, 5)).unwrap();
    let (last, seen) = noting(&drain);
    last.subscribe(&inner, demand(10, 5)).unwrap();
    drain.register(outer.clone());
    drain.register(inner.clone());
    cast(&outer, 0..50);
    quiesce().await;
    assert_eq!(drain.drain(LIMIT).await, Drained { finished: true, left: 0 });
    assert_eq!(*seen.lock(), (0..50).collect::<Vec<u64>>());
    assert_eq!(outer.try_reserve(8).unwrap_err(), Refused::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_what_does_not_finish() {
    let drain = Drain::new();
    let producer = buffered(100, Full::Shed, Demand::new());
    let service = service_fn(|_: u64| pending::<Result<(), Infallible>>());
    let options = ConsumerOptions { name: "test", concurrency: 3 };
    let consumer = Consumer::spawn(options, service, &drain);
    consumer.subscribe(&producer, demand(10, 5)).unwrap();
    drain.register(producer.clone());
    cast(&producer, 0..20);
    quiesce().await;
    let (started, limit) = (Instant::now(), Duration::from_secs(25));
    assert_eq!(drain.drain(limit).await, Drained { finished: false, left: 0 });
    assert_eq!(started.elapsed(), limit);
    assert_eq!(consumer.ended().await, Ended::Aborted);
    assert_eq!(producer.queued(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_second_drain_without_a_limit_ends_everything_at_once() {
    let drain = Drain::new();
    let producer = buffered(100, Full::Shed, Demand::new());
    let service = service_fn(|_: u64| pending::<Result<(), Infallible>>());
    Consumer::spawn(ONE, service, &drain).subscribe(&producer, demand(10, 5)).unwrap();
    drain.register(producer.clone());
    cast(&producer, 0..20);
    quiesce().await;
    let started = Instant::now();
    let first = tokio::time::timeout(Duration::from_secs(3), drain.drain(LIMIT));
    assert!(first.await.is_err());
    assert_eq!(drain.drain(Duration::ZERO).await, Drained { finished: false, left: 0 });
    assert_eq!(started.elapsed(), Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_fails_its_events_goes_on_and_one_that_is_never_ready_again_ends() {
    struct Broken;
    impl Service<u64> for Broken {
        type Response = ();
        type Error = &'static str;
        type Future = std::future::Ready<Result<(), &'static str>>;
        fn poll_ready(
            &mut self,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), &'static str>> {
            std::task::Poll::Ready(Err("broken for good"))
        }
        fn call(&mut self, _: u64) -> Self::Future {
            unreachable!("it was never ready")
        }
    }
    let drain = Drain::new();
    let failures = Arc::new(AtomicUsize::new(0));
    let failing = {
        let failures = Arc::clone(&failures);
        service_fn(move |_: u64| {
            failures.fetch_add(1, Ordering::SeqCst);
            ready(Err::<(), _>("not this one"))
        })
    };
    let producer = buffered(100, Full::Shed, Demand::new());
    Consumer::spawn(ONE, failing, &drain).subscribe(&producer, demand(2, 1)).unwrap();
    cast(&producer, 0..10);
    quiesce().await;
    assert_eq!(failures.load(Ordering::SeqCst), 10);
    let other = buffered(100, Full::Shed, Demand::new());
    let broken = Consumer::spawn(ONE, Broken, &drain);
    broken.subscribe(&other, demand(2, 1)).unwrap();
    cast(&other, 0..1);
    assert_eq!(broken.ended().await, Ended::ServiceFailed);
    assert_eq!(broken.subscribe(&other, demand(2, 1)).unwrap_err(), SubscribeError::ConsumerEnded);
}
