//! A producer closes and ends, and what it held is given back.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_closed_producer_refuses_new_events_and_serves_queued_and_routed_ones() {
    let (producer, drain) = (mailboxes(), Drain::new());
    producer.push(event(1, 0)).unwrap();
    producer.close();
    assert_eq!(producer.push(event(1, 1)).unwrap_err().reason, Refused::Closed);
    assert_eq!(producer.try_reserve(1).unwrap_err(), Refused::Closed);
    producer.push_exempt(event(1, 2)).unwrap();
    let mut turns = start(&producer, 5, &drain);
    assert_eq!(turns.recv().await.unwrap().event().number, 0);
    assert_eq!(turns.recv().await.unwrap().event().number, 2);
    producer.idle().await;
    producer.end();
    assert_eq!(producer.push_exempt(event(1, 3)).unwrap_err().reason, Refused::Closed);
    assert!(turns.recv().await.is_none(), "the subscription has ended");
}

#[tokio::test(start_paused = true)]
async fn ending_drops_what_is_queued_and_what_is_in_flight_ends_by_itself() {
    let (producer, drain) = (mailboxes(), Drain::new());
    let dropped = Arc::new(AtomicUsize::new(0));
    for number in 0..3 {
        let mut event = event(1, number);
        event.dropped = Arc::clone(&dropped);
        producer.push(event).unwrap();
    }
    let mut turns = start(&producer, 5, &drain);
    let (first, hold) = turns.recv().await.unwrap().into_parts();
    producer.end();
    assert_eq!(dropped.load(Ordering::SeqCst), 2);
    let parked = hold.park();
    parked.resume(first);
    assert_eq!(dropped.load(Ordering::SeqCst), 3);
    assert!(producer.is_idle());
}

#[tokio::test(start_paused = true)]
async fn a_permit_counts_until_the_event_that_carries_it_is_gone() {
    let producer: KeyedProducer<Event> = KeyedProducer::new(KeyedOptions {
        name: "test",
        bound: Bound { events: 1, bytes: 10 },
        per_key: 1,
        full: Full::Wait(Duration::from_secs(1)),
    });
    let permit = producer.reserve(10).await.unwrap();
    assert_eq!(producer.reserve(1).await.unwrap_err(), Refused::Full);
    assert_eq!(producer.admitted(), 1);
    drop(permit);
    assert_eq!(producer.admitted(), 0);
    let again = timeout(Duration::from_secs(1), producer.reserve(1));
    drop(again.await.unwrap().unwrap());
}

#[tokio::test(start_paused = true)]
async fn the_last_handle_closes_and_the_consumer_ends_when_all_is_done() {
    let (producer, drain) = (mailboxes(), Drain::new());
    let mut turns = start(&producer, 5, &drain);
    producer.push(event(1, 0)).unwrap();
    drop(producer);
    let turn = turns.recv().await.unwrap();
    drop(turn);
    assert!(turns.recv().await.is_none());
}
