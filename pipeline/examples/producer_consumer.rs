//! A counter, a multiplier and a printer: the first example of GenStage.
//!
//! The printer asks the multiplier for ten events, the multiplier asks the counter, and only then
//! does an event move. `cargo run -p tidegate-pipeline --example producer_consumer`
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_pipeline::{
    Consumer, ConsumerOptions, Demand, Drain, Producer, ProducerConsumer, Source, SubscribeOptions,
};
use tower::service_fn;

/// Makes as many numbers as it is asked for, up to `end`.
struct Counter {
    next: u64,
    end: u64,
}

impl Source for Counter {
    type Event = u64;

    async fn events(&mut self, demand: usize) -> Option<Vec<u64>> {
        let until = self.end.min(self.next + demand as u64);
        let events: Vec<u64> = (self.next..until).collect();
        self.next = until;
        (!events.is_empty()).then_some(events)
    }
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> anyhow::Result<()> {
    let drain = Drain::new();

    let counter = Counter { next: 0, end: 30 };
    let counter = Producer::from_source("counter", Demand::new(), counter, &drain);

    // The response holds the events to produce: none, one or many.
    let multiply = service_fn(|event: u64| ready(Ok::<_, Infallible>(Some(event * 2))));
    let multiplier = ProducerConsumer::spawn("multiplier", Demand::new(), multiply, &drain);

    let seen = Arc::new(Mutex::new(Vec::new()));
    let print = {
        let seen = Arc::clone(&seen);
        service_fn(move |event: u64| {
            println!("{event}");
            seen.lock().push(event);
            ready(Ok::<(), Infallible>(()))
        })
    };
    let options = ConsumerOptions { name: "printer", concurrency: 1 };
    let printer = Consumer::spawn(options, print, &drain);

    printer.subscribe(&multiplier, SubscribeOptions::max_demand(10))?;
    multiplier.subscribe(&counter, SubscribeOptions::max_demand(10))?;

    // The source ends, and so do the stages, one after the other.
    printer.ended().await;
    assert_eq!(*seen.lock(), (0..30).map(|event| event * 2).collect::<Vec<u64>>());
    assert!(drain.drain(Duration::from_secs(10)).await.finished);
    Ok(())
}
