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
}

impl Gate<Event> for Places {
    fn concerns(&self, event: &Event) -> bool {
        event.key != 0
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
}

#[tokio::test(start_paused = true)]
async fn what_the_gate_refuses_waits_in_line_and_holds_no_demand() {
    let places = Places(Arc::new(Mutex::new((2, None))));
    let options = KeyedOptions {
        name: "test",
        bound: Bound { events: 1000, bytes: 1 << 20 },
        per_key: 100,
        full: Full::Shed,
    };
    let (producer, drain) = (KeyedProducer::gated(options, places.clone()), Drain::new());
    let (sender, mut turns) = mpsc::channel(1000);
    let service = service_fn(move |turn: Turn<Event>| {
        ready(sender.try_send(turn).map_err(|_| "the test has ended"))
    });
    let demand = SubscribeOptions { min_demand: 2, ..SubscribeOptions::max_demand(3) };
    let consumer =
        Consumer::spawn(ConsumerOptions { name: "test", concurrency: 1 }, service, &drain);
    consumer.subscribe(&producer, demand).expect("it is open");
    for key in [1, 2, 3, 4, 0] {
        producer.push(Event { key, place: None }).expect("there is room");
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
