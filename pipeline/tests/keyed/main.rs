//! Tests the keyed producer, the mailbox of an actor, through its public API.

mod control;
mod end;
mod turns;

use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_pipeline::*;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower::service_fn;

#[derive(Debug)]
struct Event {
    key: u32,
    class: u32,
    number: u32,
    dropped: Arc<AtomicUsize>,
    cancelled: CancellationToken,
}

impl Drop for Event {
    fn drop(&mut self) {
        self.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

impl KeyedEvent for Event {
    type Key = u32;
    fn key(&self) -> &u32 {
        &self.key
    }
    fn class(&self) -> u32 {
        self.class
    }

    type Handle = CancellationToken;

    fn handle(&self) -> CancellationToken {
        self.cancelled.clone()
    }
}

fn event(key: u32, number: u32) -> Event {
    Event { key, class: 0, number, dropped: Arc::default(), cancelled: CancellationToken::new() }
}

fn mailboxes() -> KeyedProducer<Event> {
    KeyedProducer::new(KeyedOptions {
        name: "test",
        bound: Bound { events: 1000, bytes: 1 << 20 },
        per_key: 100,
        full: Full::Shed,
    })
}

fn demand(max_demand: usize) -> SubscribeOptions {
    SubscribeOptions { max_demand, min_demand: max_demand - 1, ..SubscribeOptions::default() }
}

/// Makes a consumer that sends every turn to the test.
fn start(
    producer: &KeyedProducer<Event>,
    max_demand: usize,
    drain: &Drain,
) -> mpsc::Receiver<Turn<Event>> {
    let (sender, receiver) = mpsc::channel(1000);
    let service = service_fn(move |turn: Turn<Event>| {
        ready(sender.try_send(turn).map_err(|_| "the test has ended"))
    });
    let consumer =
        Consumer::spawn(ConsumerOptions { name: "test", concurrency: 1 }, service, drain);
    consumer.subscribe(producer, demand(max_demand)).expect("it is open");
    receiver
}

async fn quiesce() {
    sleep(Duration::from_millis(1)).await;
}

fn of_class(class: u32, mut event: Event) -> Event {
    event.class = class;
    event
}
