//! Tests the broadcast dispatcher through its public API.

use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tidegate_pipeline::*;
use tower::service_fn;

/// An event that looks at its producer, on another thread, while it is cloned.
struct Event {
    producer: Producer<Event, Broadcast<Event>>,
    cloned: Arc<AtomicUsize>,
    was_locked: Arc<AtomicBool>,
}

impl Clone for Event {
    fn clone(&self) -> Event {
        let (sender, looked) = mpsc::sync_channel(1);
        let producer = self.producer.clone();
        thread::spawn(move || sender.send(producer.queued()));
        if looked.recv_timeout(Duration::from_secs(5)).is_err() {
            self.was_locked.store(true, Ordering::SeqCst);
        }
        self.cloned.fetch_add(1, Ordering::SeqCst);
        let (producer, cloned) = (self.producer.clone(), Arc::clone(&self.cloned));
        Event { producer, cloned, was_locked: Arc::clone(&self.was_locked) }
    }
}

#[tokio::test]
async fn events_are_cloned_without_the_producer_s_lock() {
    let drain = Drain::new();
    let bound = Bound { events: 10, bytes: 100 };
    let options = ProducerOptions { name: "events", bound, full: Full::Shed };
    let producer = Producer::new(options, Broadcast::new());
    let seen = Arc::new(AtomicUsize::new(0));
    for _ in 0..3 {
        let seen = Arc::clone(&seen);
        let service = service_fn(move |_: Event| {
            seen.fetch_add(1, Ordering::SeqCst);
            ready(Ok::<(), Infallible>(()))
        });
        Consumer::spawn(ConsumerOptions { name: "reader", concurrency: 1 }, service, &drain)
            .subscribe(&producer, SubscribeOptions::max_demand(10))
            .unwrap();
    }
    let (cloned, was_locked) = (Arc::default(), Arc::new(AtomicBool::new(false)));
    let event = Event { producer: producer.clone(), cloned, was_locked: Arc::clone(&was_locked) };
    let cloned = Arc::clone(&event.cloned);
    let permit = producer.try_reserve(1).unwrap();
    assert!(producer.cast(event, permit).is_ok());
    drain.register(producer);
    assert!(drain.drain(Duration::from_mins(1)).await.finished);
    assert_eq!(seen.load(Ordering::SeqCst), 3);
    assert!(cloned.load(Ordering::SeqCst) >= 2);
    assert!(!was_locked.load(Ordering::SeqCst), "user code ran under the lock (I3)");
}
