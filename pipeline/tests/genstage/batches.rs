//! How much runs at once, and batches.

use super::*;

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
