//! Demand decides how many events move, and when.

use super::*;

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
    let same = service_fn(|event: u64| ready(Ok::<_, Infallible>(Some(event))));
    let stage = ProducerConsumer::spawn("same", Demand::new(), same, &drain);
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
