//! Subscriptions, services and pipelines end.

use super::*;

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
