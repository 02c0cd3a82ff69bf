//! A consumer that takes five events every two seconds, whatever the producer could do.
//!
//! Manual demand: the subscription asks for nothing by itself, a timer asks. `cargo run -p
//! tidegate-pipeline --example rate_limited`.
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::convert::Infallible;
use std::future::{Future, ready};
use std::time::Duration;

use tidegate_pipeline::{
    Consumer, ConsumerOptions, Demand, DemandMode, Drain, Producer, Source, SubscribeOptions,
};
use tokio::time::{MissedTickBehavior, interval};
use tower::service_fn;

const EVENTS: usize = 5;
const INTERVAL: Duration = Duration::from_secs(2);

/// Counts for ever.
struct Counter {
    next: u64,
}

impl Source for Counter {
    type Event = u64;

    fn events(&mut self, demand: usize) -> impl Future<Output = Option<Vec<u64>>> + Send {
        let until = self.next + demand as u64;
        let events = (self.next..until).collect();
        self.next = until;
        ready(Some(events))
    }
}

/// Asks `times` times; `print` gets each event.
pub(crate) async fn run(
    times: u32,
    mut print: impl FnMut(u64) + Send + 'static,
) -> anyhow::Result<()> {
    let drain = Drain::new();
    let counter = Producer::from_source("counter", Demand::new(), Counter { next: 0 }, &drain);
    let print = service_fn(move |event: u64| {
        print(event);
        ready(Ok::<(), Infallible>(()))
    });
    let options = ConsumerOptions { name: "printer", concurrency: 1 };
    let printer = Consumer::spawn(options, print, &drain);
    let subscription = printer.subscribe(
        &counter,
        SubscribeOptions {
            max_demand: EVENTS,
            min_demand: 0,
            demand: DemandMode::Manual,
            ..SubscribeOptions::default()
        },
    )?;

    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for _ in 0..times {
        ticks.tick().await;
        // What is not done yet is taken off: a slow consumer is asked for less.
        subscription.ask(EVENTS);
    }

    drain.register(counter);
    drain.drain(Duration::from_secs(10)).await;
    Ok(())
}

#[allow(dead_code, reason = "a test runs the example without its main")]
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    run(5, |event| println!("{event}")).await
}
