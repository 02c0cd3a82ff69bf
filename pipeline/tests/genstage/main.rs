//! What Elixir's GenStage documents of its behaviour, tested on this crate.

mod batches;
mod calls;
mod demand;
mod dispatch;
mod ends;

use std::convert::Infallible;
use std::future::{pending, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_pipeline::*;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep};
use tower::{Service, ServiceExt, service_fn};

/// Counts from 0 to `end` and records what it was asked for.
struct Counter {
    next: u64,
    end: u64,
    asked: Arc<Mutex<Vec<usize>>>,
}

impl Source for Counter {
    type Event = u64;
    async fn events(&mut self, demand: usize) -> Option<Vec<u64>> {
        self.asked.lock().push(demand);
        let until = self.end.min(self.next + demand as u64);
        let events: Vec<u64> = (self.next..until).collect();
        self.next = until;
        (!events.is_empty()).then_some(events)
    }
}

fn count_to(end: u64, drain: &Drain) -> (Producer<u64>, Arc<Mutex<Vec<usize>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let source = Counter { next: 0, end, asked: Arc::clone(&asked) };
    (Producer::from_source("counter", Demand::new(), source, drain), asked)
}

fn buffered<D: Dispatcher<u64>>(events: usize, full: Full, dispatcher: D) -> Producer<u64, D> {
    let options = ProducerOptions { name: "test", bound: Bound { events, bytes: 1 << 20 }, full };
    Producer::new(options, dispatcher)
}

fn cast<D: Dispatcher<u64>>(producer: &Producer<u64, D>, events: impl IntoIterator<Item = u64>) {
    for event in events {
        let permit = producer.try_reserve(8).expect("a place is free");
        producer.cast(event, permit).expect("it is open");
    }
}

fn demand(max_demand: usize, min_demand: usize) -> SubscribeOptions {
    SubscribeOptions { max_demand, min_demand, ..SubscribeOptions::default() }
}

fn manual(max_demand: usize) -> SubscribeOptions {
    SubscribeOptions { demand: DemandMode::Manual, ..demand(max_demand, 0) }
}

const ONE: ConsumerOptions = ConsumerOptions { name: "test", concurrency: 1 };

/// Makes a consumer that records its events.
fn noting<E: Send + 'static>(drain: &Drain) -> (Consumer<E>, Arc<Mutex<Vec<E>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let service = {
        let seen = Arc::clone(&seen);
        service_fn(move |event: E| {
            seen.lock().push(event);
            ready(Ok::<(), Infallible>(()))
        })
    };
    (Consumer::spawn(ONE, service, drain), seen)
}

/// Makes a consumer that finishes one event for each permit that the test adds.
fn stepping<E: Send + 'static>(drain: &Drain) -> (Consumer<E>, Arc<Mutex<Vec<E>>>, Arc<Semaphore>) {
    let (seen, steps) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Semaphore::new(0)));
    let service = {
        let (seen, steps) = (Arc::clone(&seen), Arc::clone(&steps));
        service_fn(move |event: E| {
            let (seen, steps) = (Arc::clone(&seen), Arc::clone(&steps));
            async move {
                steps.acquire().await.map_err(|_| "the test has ended")?.forget();
                seen.lock().push(event);
                Ok::<(), &'static str>(())
            }
        })
    };
    (Consumer::spawn(ONE, service, drain), seen, steps)
}

/// Runs all tasks until none can go on: paused time advances only then.
async fn quiesce() {
    sleep(Duration::from_millis(1)).await;
}

const LIMIT: Duration = Duration::from_mins(1);
