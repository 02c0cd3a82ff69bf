//! A consumer that takes five events per tick, however many the producer could make.
//!
//! With manual demand the subscription asks for nothing by itself: a timer asks. GenStage's rate
//! limiter is made in this way. `cargo run -p tidegate-pipeline --example manual_demand`
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_pipeline::{
    Consumer, ConsumerOptions, Demand, DemandMode, Drain, Producer, Source, SubscribeOptions,
};
use tokio::time::{MissedTickBehavior, interval};
use tower::service_fn;

const EVENTS: usize = 5;

/// Counts for ever.
struct Counter {
    next: u64,
}

impl Source for Counter {
    type Event = u64;

    async fn events(&mut self, demand: usize) -> Option<Vec<u64>> {
        let first = self.next;
        self.next += demand as u64;
        Some((first..self.next).collect())
    }
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> anyhow::Result<()> {
    let drain = Drain::new();
    let counter = Producer::from_source("counter", Demand::new(), Counter { next: 0 }, &drain);
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
    let manual = SubscribeOptions {
        max_demand: EVENTS,
        min_demand: 0,
        demand: DemandMode::Manual,
        ..SubscribeOptions::default()
    };
    let subscription = printer.subscribe(&counter, manual)?;

    let mut ticks = interval(Duration::from_millis(100));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut asked = 0;
    for _ in 0..3 {
        ticks.tick().await;
        // Events that are not done yet count: a slow consumer is asked for fewer.
        asked += subscription.ask(EVENTS);
    }
    // One more tick, in which the last events are printed.
    ticks.tick().await;

    drain.register(counter);
    assert!(drain.drain(Duration::from_secs(10)).await.finished);
    assert!(asked >= EVENTS, "the first tick asks for all");
    assert!(seen.lock().len() <= asked, "no event moves that nobody asked for");
    let seen = seen.lock().clone();
    assert!((0..).zip(&seen).all(|(next, event)| next == *event), "in order");
    Ok(())
}
