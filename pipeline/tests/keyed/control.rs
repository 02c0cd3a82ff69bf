//! A mailbox is paused, looked at, and loses single events.

use super::*;

/// Drains, and returns whether all admitted events finished before the deadline.
async fn drained(drain: &Drain, producer: &KeyedProducer<Event>) -> bool {
    drain.register(producer.clone());
    drain.drain(Duration::from_secs(5)).await.finished
}

#[tokio::test(start_paused = true)]
async fn a_paused_key_is_granted_nothing_and_holds_up_no_other() {
    let (producer, drain) = (mailboxes(), Drain::new());
    let mut turns = start(&producer, 1, &drain);
    producer.pause(&1).unwrap();
    for number in 0..2 {
        producer.push(event(1, number)).unwrap();
    }
    producer.push(event(2, 0)).unwrap();
    let other = turns.recv().await.unwrap();
    assert_eq!(other.event().key, 2);
    drop(other);
    quiesce().await;
    assert!(turns.try_recv().is_err(), "the key is paused");
    assert!(producer.resume(&1));
    assert!(!producer.resume(&1), "it is paused no more");
    for number in 0..2 {
        assert_eq!(turns.recv().await.unwrap().event().number, number);
    }
    producer.idle().await;
}

#[tokio::test(start_paused = true)]
async fn an_event_in_flight_goes_on_and_one_that_is_parked_waits_for_the_resume() {
    let (producer, drain) = (mailboxes(), Drain::new());
    let mut turns = start(&producer, 2, &drain);
    producer.push(event(1, 0)).unwrap();
    let (first, hold) = turns.recv().await.unwrap().into_parts();
    producer.pause(&1).unwrap();
    assert_eq!(producer.in_flight(), 1);
    hold.park().resume(first);
    quiesce().await;
    assert!(turns.try_recv().is_err(), "the key is paused");
    producer.resume(&1);
    assert_eq!(turns.recv().await.unwrap().event().number, 0);
    // Released while it is paused: the next one waits.
    producer.push(event(1, 1)).unwrap();
    let turn = turns.recv().await.unwrap();
    producer.push(event(1, 2)).unwrap();
    producer.pause(&1).unwrap();
    drop(turn);
    quiesce().await;
    assert!(turns.try_recv().is_err());
    producer.resume(&1);
    assert_eq!(turns.recv().await.unwrap().event().number, 2);
}

#[tokio::test(start_paused = true)]
async fn the_queue_of_a_paused_key_is_bounded() {
    let producer = mailboxes();
    producer.pause(&1).unwrap();
    for number in 0..100 {
        producer.push(event(1, number)).unwrap();
    }
    assert_eq!(producer.push(event(1, 100)).unwrap_err().reason, Refused::KeyFull);
}

#[tokio::test(start_paused = true)]
async fn a_drain_drops_what_is_queued_for_paused_keys_and_waits_for_the_rest() {
    let (producer, drain) = (mailboxes(), Drain::new());
    let mut turns = start(&producer, 1, &drain);
    let dropped = Arc::new(AtomicUsize::new(0));
    producer.pause(&1).unwrap();
    producer.pause(&2).unwrap();
    for number in 0..3 {
        let mut event = event(1, number);
        event.dropped = Arc::clone(&dropped);
        producer.push(event).unwrap();
    }
    producer.push(event(3, 0)).unwrap();
    let (is_drained, ()) = tokio::join!(drained(&drain, &producer), async {
        assert_eq!(turns.recv().await.unwrap().event().key, 3);
        assert_eq!(dropped.load(Ordering::SeqCst), 3);
        assert_eq!(producer.pause(&1), Err(PauseError::Closed));
    });
    assert!(is_drained);
}

#[tokio::test(start_paused = true)]
async fn closing_returns_what_is_queued_for_paused_keys_and_frees_the_keys() {
    let (producer, drain) = (mailboxes(), Drain::new());
    producer.pause(&1).unwrap();
    producer.push(event(1, 0)).unwrap();
    producer.push(event(2, 0)).unwrap();
    let left: Vec<u32> = producer.close().iter().map(|event| event.key).collect();
    assert_eq!(left, [1]);
    producer.push_exempt(event(1, 1)).unwrap();
    let mut turns = start(&producer, 2, &drain);
    assert_eq!(turns.recv().await.unwrap().event().key, 2);
    assert_eq!(turns.recv().await.unwrap().event().number, 1);
}

#[tokio::test(start_paused = true)]
async fn a_look_shows_who_runs_who_waits_for_what_and_since_when() {
    let (producer, drain) = (mailboxes(), Drain::new());
    let began = Instant::now();
    let at = |seconds| began + Duration::from_secs(seconds);
    let pushed: Vec<_> = (0..4).map(|number| producer.push(event(1, number)).unwrap()).collect();
    assert_eq!(pushed[0].waits_for, Some(WaitsFor::Demand));
    assert_eq!(pushed[1].waits_for, Some(WaitsFor::Turn));
    let ids: Vec<_> = pushed.iter().map(|pushed| pushed.id).collect();
    let view = producer.look(&1, 10);
    assert_eq!((view.queued, view.waits_for), (4, Some(WaitsFor::Demand)));
    assert!(view.running.is_none());
    sleep(Duration::from_secs(1)).await;
    let mut turns = start(&producer, 1, &drain);
    let turn = turns.recv().await.unwrap();
    assert_eq!(turn.waited(), Duration::from_secs(1));
    sleep(Duration::from_secs(1)).await;
    producer.pause(&1).unwrap();
    let view = producer.look(&1, 2);
    let running = view.running.unwrap();
    assert_eq!((running.id, running.since, running.class), (ids[0], at(1), 0));
    assert_eq!(view.first.iter().map(|one| one.id).collect::<Vec<_>>(), ids[1..3]);
    assert!(view.first.iter().all(|one| one.since == began));
    assert_eq!((view.queued, view.waits_for, view.paused), (3, Some(WaitsFor::Turn), Some(at(2))));
    assert_eq!(view.parked, None);
    let (first, hold) = turn.into_parts();
    sleep(Duration::from_secs(1)).await;
    let parked = hold.park();
    assert_eq!(producer.look(&1, 0).parked, Some(at(3)));
    sleep(Duration::from_secs(1)).await;
    parked.resume(first);
    let view = producer.look(&1, 1);
    assert_eq!((view.queued, view.waits_for), (4, Some(WaitsFor::Resume)));
    assert_eq!(producer.push(event(1, 4)).unwrap().waits_for, Some(WaitsFor::Resume));
    assert_eq!((view.first[0].id, view.first[0].since), (ids[0], at(4)), "it keeps its name");
    assert!(view.running.is_none() && view.parked.is_none());
    let nothing = producer.look(&2, 1);
    assert!(nothing.queued == 0 && nothing.running.is_none() && nothing.waits_for.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_full_class_is_what_its_keys_wait_for() {
    let (producer, drain) = (mailboxes(), Drain::new());
    producer.set_class_limit(7, 1);
    let mut turns = start(&producer, 10, &drain);
    producer.push(of_class(7, event(0, 0))).unwrap();
    let _turn = turns.recv().await.unwrap();
    let refused = producer.push(of_class(7, event(1, 0))).unwrap();
    let granted = producer.push(event(2, 0)).unwrap();
    assert_eq!([granted, refused].map(|pushed| pushed.waits_for), [None, Some(WaitsFor::Class)]);
    assert_eq!(producer.look(&1, 0).waits_for, Some(WaitsFor::Class));
}

#[tokio::test(start_paused = true)]
async fn an_event_is_removed_while_it_is_queued_and_the_others_keep_their_order() {
    let (producer, drain) = (mailboxes(), Drain::new());
    let ids: Vec<_> = (0..4).map(|number| producer.push(event(1, number)).unwrap().id).collect();
    assert!(producer.remove(&2, ids[0]).is_none(), "another key");
    for number in [2, 0] {
        assert_eq!(producer.remove(&1, ids[number as usize]).unwrap().number, number);
        assert!(producer.remove(&1, ids[number as usize]).is_none());
    }
    let mut turns = start(&producer, 5, &drain);
    let first = turns.recv().await.unwrap();
    assert!(producer.remove(&1, ids[1]).is_none(), "it runs");
    assert_eq!(first.event().number, 1);
    let (first, hold) = first.into_parts();
    hold.park().resume(first);
    assert_eq!(turns.recv().await.unwrap().event().number, 1);
    assert_eq!(turns.recv().await.unwrap().event().number, 3);
    assert!(producer.is_idle());
}

#[tokio::test(start_paused = true)]
async fn an_event_is_cancelled_queued_running_parked_or_not_at_all() {
    let (producer, drain) = (mailboxes(), Drain::new());
    let mut turns = start(&producer, 5, &drain);
    let ids: Vec<_> = (0..3).map(|number| producer.push(event(1, number)).unwrap().id).collect();
    let turn = turns.recv().await.unwrap();
    let Some(Cancelled::Queued(queued)) = producer.cancel(&1, ids[1]) else { panic!("queued") };
    assert_eq!(queued.number, 1);
    assert!(producer.cancel(&1, ids[1]).is_none());
    let Some(Cancelled::Running(handle)) = producer.cancel(&1, ids[0]) else { panic!("runs") };
    handle.cancel();
    assert!(turn.event().cancelled.is_cancelled(), "its task is told");
    let parked = turn.into_parts().1.park();
    assert!(matches!(producer.cancel(&1, ids[0]), Some(Cancelled::Running(_))));
    drop(parked);
    assert!(producer.cancel(&1, ids[0]).is_none(), "its turn is over");
    assert_eq!(turns.recv().await.unwrap().event().number, 2);
}
