//! Demand and the keyed hand-over in every interleaving.
//!
//! `RUSTFLAGS="--cfg pipeline_loom" cargo test -p tidegate-pipeline --release --test loom`, with a
//! target directory of its own. Only the locks of this crate are modelled: flume and tokio's
//! semaphore are called, but not modelled (`tests/handoff.rs` stresses flume).
#![cfg(pipeline_loom)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::Waker;

use loom::thread;
use tidegate_pipeline::modelled::Subscriber;
use tidegate_pipeline::*;

#[derive(Debug)]
struct Event {
    key: u8,
    number: u8,
    _alive: Alive,
}

/// Counts the events that exist.
#[derive(Debug)]
struct Alive(Arc<AtomicUsize>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl KeyedEvent for Event {
    type Key = u8;
    fn key(&self) -> &u8 {
        &self.key
    }
    /// Keys from 100 to 199 are of class 1, and so on.
    fn class(&self) -> u32 {
        u32::from(self.key / 100)
    }
}

#[derive(Clone)]
struct Mailboxes {
    producer: KeyedProducer<Event>,
    alive: Arc<AtomicUsize>,
}

impl Mailboxes {
    fn new() -> Mailboxes {
        let options = KeyedOptions {
            name: "loom",
            bound: Bound { events: 10, bytes: 10 },
            per_key: 10,
            full: Full::Shed,
        };
        Mailboxes { producer: KeyedProducer::new(options), alive: Arc::default() }
    }

    fn event(&self, key: u8, number: u8) -> Event {
        self.alive.fetch_add(1, SeqCst);
        Event { key, number, _alive: Alive(Arc::clone(&self.alive)) }
    }

    fn push(&self, key: u8, number: u8) -> bool {
        self.producer.push(self.event(key, number)).is_ok()
    }

    fn subscriber(&self, max_demand: usize) -> Subscriber<Turn<Event>> {
        Subscriber::new(&self.producer, demand(max_demand)).unwrap()
    }
}

fn demand(max_demand: usize) -> SubscribeOptions {
    SubscribeOptions { max_demand, min_demand: max_demand - 1, ..SubscribeOptions::default() }
}

/// Finishes all turns that are or become granted. Returns their events in order.
fn finish(subscriber: &mut Subscriber<Turn<Event>>) -> Vec<(u8, u8)> {
    let mut seen = Vec::new();
    while let Ok(Some(turn)) = subscriber.next() {
        seen.push((turn.event().key, turn.event().number));
        assert!(!matches!(subscriber.next(), Ok(Some(_))), "I3: a second turn of a held key");
        drop(turn);
    }
    seen
}

#[test]
fn an_event_pushed_while_its_key_is_released_is_granted() {
    loom::model(|| {
        let mailboxes = Mailboxes::new();
        let mut subscriber = mailboxes.subscriber(2);
        subscriber.open();
        assert!(mailboxes.push(1, 0));
        let turn = subscriber.next().unwrap().unwrap();
        let pusher = {
            let mailboxes = mailboxes.clone();
            thread::spawn(move || assert!(mailboxes.push(1, 1)))
        };
        let releaser = thread::spawn(move || drop(turn));
        pusher.join().unwrap();
        releaser.join().unwrap();
        assert_eq!(finish(&mut subscriber), [(1, 1)]);
        assert!(mailboxes.producer.is_idle());
        assert_eq!(mailboxes.alive.load(SeqCst), 0);
    });
}

#[test]
fn events_pushed_while_demand_opens_are_granted_one_of_a_key_at_a_time() {
    loom::model(|| {
        let mailboxes = Mailboxes::new();
        let mut subscriber = mailboxes.subscriber(3);
        let pushers: Vec<_> = (0..2)
            .map(|number| {
                let mailboxes = mailboxes.clone();
                thread::spawn(move || assert!(mailboxes.push(1, number)))
            })
            .collect();
        subscriber.open();
        for pusher in pushers {
            pusher.join().unwrap();
        }
        let mut seen = finish(&mut subscriber);
        seen.sort_unstable();
        assert_eq!(seen, [(1, 0), (1, 1)]);
        assert!(mailboxes.producer.is_idle());
    });
}

#[test]
fn a_parked_key_lends_its_demand_and_comes_back_first() {
    loom::model(|| {
        let mailboxes = Mailboxes::new();
        let mut subscriber = mailboxes.subscriber(1);
        subscriber.open();
        assert!(mailboxes.push(1, 0) && mailboxes.push(1, 1));
        let (event, hold) = subscriber.next().unwrap().unwrap().into_parts();
        let other = {
            let mailboxes = mailboxes.clone();
            thread::spawn(move || assert!(mailboxes.push(2, 0)))
        };
        let parked = thread::spawn(move || hold.park().resume(event));
        other.join().unwrap();
        parked.join().unwrap();
        let seen = finish(&mut subscriber);
        let of_one: Vec<_> = seen.iter().filter(|(key, _)| *key == 1).copied().collect();
        assert_eq!(of_one, [(1, 0), (1, 1)], "the resumed event is the head of its key");
        assert_eq!(seen.len(), 3);
        assert!(mailboxes.producer.is_idle());
    });
}

#[test]
fn a_class_that_holds_its_share_leaves_demand_for_another_one() {
    loom::model(|| {
        let mailboxes = Mailboxes::new();
        for class in [1, 2] {
            mailboxes.producer.set_class_limit(class, 10);
        }
        let mut subscriber = mailboxes.subscriber(4);
        subscriber.open();
        for key in 100..103 {
            assert!(mailboxes.push(key, 0));
        }
        let first = subscriber.next().unwrap().unwrap();
        let mut turns = vec![subscriber.next().unwrap().unwrap()];
        assert!(matches!(subscriber.next(), Ok(None)), "half of the demand");
        let pusher = {
            let mailboxes = mailboxes.clone();
            thread::spawn(move || assert!(mailboxes.push(200, 0)))
        };
        let releaser = thread::spawn(move || drop(first));
        pusher.join().unwrap();
        releaser.join().unwrap();
        while let Ok(Some(turn)) = subscriber.next() {
            turns.push(turn);
        }
        assert!(turns.iter().any(|turn| turn.event().key == 200), "it waits for nobody");
        let mut seen = Vec::new();
        while let Some(turn) = turns.pop() {
            seen.push(turn.event().key);
            drop(turn);
            while let Ok(Some(turn)) = subscriber.next() {
                turns.push(turn);
            }
        }
        seen.sort_unstable();
        assert_eq!(seen, [101, 102, 200]);
        assert!(mailboxes.producer.is_idle());
        assert_eq!(mailboxes.alive.load(SeqCst), 0);
    });
}

#[test]
fn an_event_pushed_while_the_producer_closes_is_refused_or_served() {
    loom::model(|| {
        let mailboxes = Mailboxes::new();
        let mut subscriber = mailboxes.subscriber(2);
        subscriber.open();
        let pusher = {
            let mailboxes = mailboxes.clone();
            thread::spawn(move || mailboxes.push(1, 0))
        };
        let closer = {
            let producer = mailboxes.producer.clone();
            thread::spawn(move || producer.close())
        };
        let admitted = pusher.join().unwrap();
        closer.join().unwrap();
        assert_eq!(finish(&mut subscriber).len(), usize::from(admitted));
        assert!(!mailboxes.push(1, 1));
        assert!(mailboxes.producer.is_idle());
        assert_eq!(mailboxes.alive.load(SeqCst), 0);
    });
}

#[test]
fn the_end_leaves_no_event_behind() {
    loom::model(|| {
        let mailboxes = Mailboxes::new();
        let mut subscriber = mailboxes.subscriber(1);
        subscriber.open();
        assert!(mailboxes.push(1, 0));
        let turn = subscriber.next().unwrap().unwrap();
        let pusher = {
            let mailboxes = mailboxes.clone();
            thread::spawn(move || {
                mailboxes.push(1, 1);
            })
        };
        let releaser = thread::spawn(move || drop(turn));
        mailboxes.producer.end();
        pusher.join().unwrap();
        releaser.join().unwrap();
        finish(&mut subscriber);
        assert!(subscriber.next().is_err(), "the subscription has ended");
        assert!(mailboxes.producer.is_idle());
        assert_eq!(mailboxes.alive.load(SeqCst), 0);
    });
}

#[test]
fn a_consumer_that_leaves_releases_its_turns_and_the_next_one_goes_on() {
    loom::model(|| {
        let mailboxes = Mailboxes::new();
        let first = mailboxes.subscriber(1);
        first.open();
        let pusher = {
            let mailboxes = mailboxes.clone();
            thread::spawn(move || assert!(mailboxes.push(1, 0)))
        };
        let leaver = thread::spawn(move || drop(first));
        pusher.join().unwrap();
        leaver.join().unwrap();
        // The event went with the first consumer, or waits for the second; its key is free.
        assert!(mailboxes.push(1, 1));
        let mut second = mailboxes.subscriber(2);
        second.open();
        let seen = finish(&mut second);
        assert!(seen == [(1, 1)] || seen == [(1, 0), (1, 1)], "{seen:?}");
        assert!(mailboxes.producer.is_idle());
        assert_eq!(mailboxes.alive.load(SeqCst), 0);
    });
}

/// One place, and who waits for it. The lock is loom's.
#[derive(Clone)]
struct OnePlace(Arc<loom::sync::Mutex<(bool, Option<Waker>)>>);

impl OnePlace {
    fn free(&self) {
        let waker = {
            let mut held = self.0.lock().unwrap();
            held.0 = false;
            held.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Gate<Event> for OnePlace {
    fn concerns(&self, event: &Event) -> bool {
        event.key != 0
    }

    fn enter(&self, _: &mut Event, waker: &Waker) -> Entry {
        let mut held = self.0.lock().unwrap();
        if held.0 {
            held.1 = Some(waker.clone());
            return Entry::Full;
        }
        held.0 = true;
        Entry::Entered
    }
}

#[test]
fn a_place_freed_while_an_event_is_refused_is_not_missed() {
    loom::model(|| {
        let place = OnePlace(Arc::new(loom::sync::Mutex::new((false, None))));
        let options = KeyedOptions {
            name: "loom",
            bound: Bound { events: 10, bytes: 10 },
            per_key: 10,
            full: Full::Shed,
        };
        let producer = KeyedProducer::gated(options, place.clone());
        let mailboxes = Mailboxes { producer, alive: Arc::default() };
        let mut subscriber = mailboxes.subscriber(2);
        subscriber.open();
        assert!(mailboxes.push(1, 0));
        let turn = subscriber.next().unwrap().unwrap();
        let pusher = {
            let mailboxes = mailboxes.clone();
            thread::spawn(move || assert!(mailboxes.push(2, 0)))
        };
        let committer = {
            let place = place.clone();
            thread::spawn(move || {
                // The turn is over before its place is free.
                drop(turn);
                place.free();
            })
        };
        pusher.join().unwrap();
        committer.join().unwrap();
        assert_eq!(finish(&mut subscriber), [(2, 0)]);
        assert!(mailboxes.push(3, 0) && mailboxes.push(0, 0));
        assert_eq!(finish(&mut subscriber), [(0, 0)], "the place is taken still");
        place.free();
        assert_eq!(finish(&mut subscriber), [(3, 0)]);
        assert!(mailboxes.producer.is_idle());
    });
}

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
        let mut subscriber = Subscriber::new(&producer, demand(2)).unwrap();
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
        let mut subscriber = Subscriber::new(&producer, demand(2)).unwrap();
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
                let mut subscriber = Subscriber::new(&producer, demand(2)).unwrap();
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
