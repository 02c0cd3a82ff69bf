//! Demand of a producer without keys.

use super::*;

fn buffered() -> Producer<u8> {
    let options =
        ProducerOptions { name: "loom", bound: Bound { events: 10, bytes: 10 }, full: Full::Shed };
    Producer::new(options, Demand::new())
}

fn cast(producer: &Producer<u8>, event: u8) -> bool {
    producer.try_reserve(1).is_ok_and(|permit| producer.cast(event, permit).is_ok())
}

#[test]
fn demand_given_back_on_two_threads_is_asked_for_again_exactly_once() {
    loom::model(|| {
        let producer = buffered();
        let mut subscriber = Subscriber::new(&producer, asking(2)).unwrap();
        subscriber.open();
        for event in 0..4 {
            assert!(cast(&producer, event));
        }
        assert_eq!(subscriber.next(), Ok(Some(0)));
        assert_eq!(subscriber.next(), Ok(Some(1)));
        assert_eq!(subscriber.next(), Ok(None), "I1");
        let workers: Vec<_> = (0..2)
            .map(|_| {
                let done = subscriber.done();
                thread::spawn(move || done.done(1))
            })
            .collect();
        for worker in workers {
            worker.join().unwrap();
        }
        assert_eq!(subscriber.next(), Ok(Some(2)));
        assert_eq!(subscriber.next(), Ok(Some(3)));
        assert_eq!((subscriber.next(), producer.wanted()), (Ok(None), 0));
    });
}

#[test]
fn an_event_cast_while_the_producer_closes_is_refused_or_comes_before_the_end() {
    loom::model(|| {
        let producer = buffered();
        let mut subscriber = Subscriber::new(&producer, asking(2)).unwrap();
        let caster = {
            let producer = producer.clone();
            thread::spawn(move || cast(&producer, 7))
        };
        let closer = {
            let producer = producer.clone();
            thread::spawn(move || producer.close())
        };
        subscriber.open();
        let admitted = caster.join().unwrap();
        closer.join().unwrap();
        if admitted {
            assert_eq!(subscriber.next(), Ok(Some(7)));
        }
        assert_eq!(subscriber.next(), Err(()));
    });
}

#[test]
fn two_consumers_share_what_is_cast_without_loss() {
    loom::model(|| {
        let producer = buffered();
        let consumers: Vec<_> = (0..2)
            .map(|_| {
                let mut subscriber = Subscriber::new(&producer, asking(2)).unwrap();
                thread::spawn(move || {
                    subscriber.open();
                    let mut seen = Vec::new();
                    while let Ok(Some(event)) = subscriber.next() {
                        seen.push(event);
                        subscriber.done().done(1);
                    }
                    (subscriber, seen)
                })
            })
            .collect();
        assert!(cast(&producer, 1));
        assert!(cast(&producer, 2));
        let mut all = Vec::new();
        for consumer in consumers {
            let (mut subscriber, seen) = consumer.join().unwrap();
            all.extend(seen);
            while let Ok(Some(event)) = subscriber.next() {
                all.push(event);
            }
        }
        all.sort_unstable();
        assert_eq!(all, [1, 2]);
    });
}
