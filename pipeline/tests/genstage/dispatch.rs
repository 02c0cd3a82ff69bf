//! Who gets which event.

use super::*;

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
