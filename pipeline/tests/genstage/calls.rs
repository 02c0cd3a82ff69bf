//! Events of callers: places, calls and casts.

use super::*;

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
