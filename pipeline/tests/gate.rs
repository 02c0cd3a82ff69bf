//! Tests the gate of a keyed producer through the public API.

use std::future::ready;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_pipeline::*;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tower::service_fn;

/// Places of a later stage; freed when they are dropped.
#[derive(Debug, Clone)]
struct Places(Arc<Mutex<(usize, Option<Waker>)>>);

#[derive(Debug)]
struct Place(Places);

impl Drop for Place {
    fn drop(&mut self) {
        let waker = {
            let mut held = self.0.0.lock();
            held.0 += 1;
            held.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

#[derive(Debug)]
struct Event {
    key: u32,
    place: Option<Place>,
}

impl KeyedEvent for Event {
    type Key = u32;
    fn key(&self) -> &u32 {
        &self.key
    }
    fn class(&self) -> u32 {
        0
    }

    type Handle = ();

    fn handle(&self) {}
}

impl Gate<Event> for Places {
    fn concerns(&self, event: &Event) -> bool {
        event.key != 0 && event.place.is_none()
    }

    fn enter(&self, event: &mut Event, waker: &Waker) -> Entry {
        let mut held = self.0.lock();
        if held.0 == 0 {
            held.1 = Some(waker.clone());
            return Entry::Full;
        }
        held.0 -= 1;
        event.place = Some(Place(self.clone()));
        Entry::Entered
    }

    fn leave(&self, event: &mut Event) -> Option<GivenUp> {
        Some(Box::new(event.place.take()?))
    }
}

/// A producer with so many places, one consumer, and its turns.
fn start(
    free: usize,
    drain: &Drain,
    max_demand: usize,
) -> (Places, KeyedProducer<Event>, mpsc::Receiver<Turn<Event>>) {
    let places = Places(Arc::new(Mutex::new((free, None))));
    let options = KeyedOptions {
        name: "test",
        bound: Bound { events: 1000, bytes: 1 << 20 },
        per_key: 100,
        full: Full::Shed,
    };
    let producer = KeyedProducer::gated(options, places.clone());
    let (sender, turns) = mpsc::channel(1000);
    let service = service_fn(move |turn: Turn<Event>| {
        ready(sender.try_send(turn).map_err(|_| "the test has ended"))
    });
    let demand =
        SubscribeOptions { min_demand: max_demand - 1, ..SubscribeOptions::max_demand(max_demand) };
    let consumer =
        Consumer::spawn(ConsumerOptions { name: "test", concurrency: 1 }, service, drain);
    consumer.subscribe(&producer, demand).expect("it is open");
    (places, producer, turns)
}

#[tokio::test(start_paused = true)]
async fn a_paused_key_keeps_no_place_that_it_was_parked_with() {
    let drain = Drain::new();
    // It is paused while it is parked, or after it has come back and waits for demand.
    for resumed_first in [false, true] {
        let (places, producer, mut turns) = start(1, &drain, 1);
        producer.push(Event { key: 1, place: None }).unwrap();
        let (event, hold) = turns.recv().await.unwrap().into_parts();
        let parked = hold.park();
        producer.push(Event { key: 0, place: None }).unwrap();
        let busy = turns.recv().await.unwrap();
        assert!(event.place.is_some() && places.0.lock().0 == 0);
        if resumed_first {
            parked.resume(event);
            assert_eq!(places.0.lock().0, 0);
            producer.pause(&1).unwrap();
        } else {
            producer.pause(&1).unwrap();
            parked.resume(event);
        }
        assert_eq!(places.0.lock().0, 1, "another key may have it");
        drop(busy);
        producer.push(Event { key: 2, place: None }).unwrap();
        let other = turns.recv().await.unwrap();
        assert!(other.event().place.is_some());
        producer.resume(&1);
        drop(other);
        let again = turns.recv().await.unwrap();
        assert!(again.event().key == 1 && again.event().place.is_some());
        drop(again);
        assert!(producer.is_idle());
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_gate_refuses_waits_in_line_and_holds_no_demand() {
    let drain = Drain::new();
    let (_places, producer, mut turns) = start(2, &drain, 3);
    for key in [1, 2, 3, 4, 0] {
        producer.push(Event { key, place: None }).expect("there is capacity");
    }
    sleep(Duration::from_millis(1)).await;
    let taken: Vec<_> =
        std::iter::from_fn(|| turns.try_recv().ok()).map(Turn::into_parts).collect();
    let keys: Vec<_> = taken.iter().map(|(event, _)| event.key).collect();
    assert_eq!(keys, [1, 2, 0], "0 needs no place and has a slot");
    let mut later = Vec::new();
    for (event, hold) in taken {
        drop(hold);
        later.push(event);
    }
    sleep(Duration::from_millis(1)).await;
    assert!(turns.try_recv().is_err(), "the turns are over, what they made is not");
    later.remove(0);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(turns.try_recv().map(|turn| turn.event().key), Ok(3));
    // That turn was dropped with its place.
    sleep(Duration::from_millis(1)).await;
    assert_eq!(turns.try_recv().map(|turn| turn.event().key), Ok(4));
    drop(later);
    sleep(Duration::from_millis(1)).await;
    assert!(producer.is_idle());
}
