//! One event of a key at a time, in order; keys and classes do not hold each other up.

use super::*;

#[tokio::test(start_paused = true)]
async fn one_event_of_a_key_is_in_flight_and_the_next_follows_in_order() {
    let (producer, drain) = (mailboxes(), Drain::new());
    let mut turns = start(&producer, 10, &drain);
    for number in 0..3 {
        producer.push(event(1, number)).unwrap();
    }
    producer.push(event(2, 0)).unwrap();
    let (first, hold) = turns.recv().await.unwrap().into_parts();
    let (other, _other) = turns.recv().await.unwrap().into_parts();
    assert_eq!((first.key, first.number, other.key), (1, 0, 2));
    quiesce().await;
    assert!(turns.try_recv().is_err(), "the key is held");
    assert_eq!((producer.queued(), producer.in_flight()), (2, 2));
    drop(hold);
    assert_eq!(turns.recv().await.unwrap().event().number, 1);
    assert_eq!(turns.recv().await.unwrap().event().number, 2);
}

#[tokio::test(start_paused = true)]
async fn no_more_is_granted_than_was_asked_and_keys_take_turns() {
    let (producer, drain) = (mailboxes(), Drain::new());
    let mut turns = start(&producer, 2, &drain);
    for key in 0..3 {
        for number in 0..2 {
            producer.push(event(key, number)).unwrap();
        }
    }
    let mut seen = Vec::new();
    let mut held = std::collections::VecDeque::new();
    for _ in 0..6 {
        quiesce().await;
        while let Ok(turn) = turns.try_recv() {
            held.push_back(turn);
        }
        assert!(held.len() <= 2, "I1");
        let turn = held.pop_front().unwrap();
        seen.push((turn.event().key, turn.event().number));
    }
    assert_eq!(seen, [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_parked_key_gives_its_slot_to_others_and_resumes_at_the_head() {
    let (producer, drain) = (mailboxes(), Drain::new());
    let mut turns = start(&producer, 1, &drain);
    for number in 0..2 {
        producer.push(event(1, number)).unwrap();
    }
    producer.push(event(2, 0)).unwrap();
    let (first, hold) = turns.recv().await.unwrap().into_parts();
    let parked = hold.park();
    let other = turns.recv().await.unwrap();
    assert_eq!(other.event().key, 2);
    drop(other);
    quiesce().await;
    assert!(turns.try_recv().is_err(), "the key is parked");
    assert!(!producer.is_idle());
    parked.resume(first);
    let again = turns.recv().await.unwrap();
    assert_eq!((again.event().key, again.event().number), (1, 0));
    drop(again);
    let parked = turns.recv().await.unwrap().into_parts().1.park();
    drop(parked);
    producer.idle().await;
}

#[tokio::test(start_paused = true)]
async fn a_full_class_keeps_its_own_keys_waiting_and_nobody_elses() {
    let (producer, drain) = (mailboxes(), Drain::new());
    producer.set_class_limit(7, 1);
    let mut turns = start(&producer, 10, &drain);
    for key in 0..3 {
        producer.push(of_class(7, event(key, 0))).unwrap();
    }
    producer.push(event(9, 0)).unwrap();
    let first = turns.recv().await.unwrap();
    let other = turns.recv().await.unwrap();
    assert_eq!((first.event().key, other.event().key), (0, 9));
    quiesce().await;
    assert!(turns.try_recv().is_err(), "the class is full");
    producer.set_class_limit(7, 2);
    assert_eq!(turns.recv().await.unwrap().event().key, 1);
    assert_eq!(turns.recv().await.unwrap().event().key, 2, "released with the one before");
}

#[tokio::test(start_paused = true)]
async fn a_key_s_queue_is_bounded_and_routed_events_are_not() {
    let (producer, drain) = (
        KeyedProducer::new(KeyedOptions {
            name: "test",
            bound: Bound { events: 1000, bytes: 1 << 20 },
            per_key: 2,
            full: Full::Shed,
        }),
        Drain::new(),
    );
    producer.push(event(1, 0)).unwrap();
    producer.push(event(1, 1)).unwrap();
    let rejected = producer.push(event(1, 2)).unwrap_err();
    assert_eq!((rejected.reason, rejected.event.number), (Refused::KeyFull, 2));
    producer.push_exempt(event(1, 3)).unwrap();
    producer.push(event(2, 0)).unwrap();
    assert_eq!(producer.queued(), 4);
    let mut turns = start(&producer, 1, &drain);
    let turn = turns.recv().await.unwrap();
    producer.push(event(1, 4)).unwrap();
    drop(turn);
}

#[tokio::test(start_paused = true)]
async fn a_slow_key_delays_no_other_and_every_event_runs_once_in_order() {
    let (producer, drain) = (mailboxes(), Drain::new());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let service = {
        let seen = Arc::clone(&seen);
        service_fn(move |turn: Turn<Event>| {
            let seen = Arc::clone(&seen);
            async move {
                let (event, hold) = turn.into_parts();
                sleep(Duration::from_millis(if event.key == 0 { 1000 } else { 1 })).await;
                seen.lock().push((event.key, event.number));
                drop(hold);
                Ok::<(), Infallible>(())
            }
        })
    };
    let options = ConsumerOptions { name: "test", concurrency: 100 };
    let consumer = Consumer::spawn(options, service, &drain);
    consumer.subscribe(&producer, demand(8)).unwrap();
    for number in 0..5 {
        for key in 0..5 {
            producer.push(event(key, number)).unwrap();
        }
    }
    drain.register(producer.clone());
    assert_eq!(drain.drain(Duration::from_mins(1)).await, Drained { finished: true, left: 0 });
    let seen = seen.lock();
    assert_eq!(seen.len(), 25);
    assert!(seen[..20].iter().all(|(key, _)| *key != 0), "{seen:?}");
    for key in 0..5 {
        let numbers: Vec<u32> = seen.iter().filter(|(k, _)| *k == key).map(|(_, n)| *n).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_ends_its_event_and_releases_the_key() {
    let (producer, drain) = (mailboxes(), Drain::new());
    let done = Arc::new(Semaphore::new(0));
    let service = {
        let done = Arc::clone(&done);
        service_fn(move |turn: Turn<Event>| {
            let done = Arc::clone(&done);
            let number = turn.event().number;
            assert_ne!(number, 0, "in the call");
            async move {
                assert_ne!(number, 1, "at once");
                sleep(Duration::from_millis(1)).await;
                assert_ne!(number, 2, "later");
                drop(turn);
                done.add_permits(1);
                Ok::<(), Infallible>(())
            }
        })
    };
    let options = ConsumerOptions { name: "test", concurrency: 4 };
    Consumer::spawn(options, service, &drain).subscribe(&producer, demand(4)).unwrap();
    for number in 0..4 {
        producer.push(event(1, number)).unwrap();
    }
    done.acquire().await.unwrap().forget();
    producer.idle().await;
}
