//! A counter, a multiplier and a printer: the first example of GenStage.
//!
//! The printer asks the multiplier for ten events, the multiplier asks the counter, and only then
//! does anything move. `cargo run -p tidegate-pipeline --example counter`.
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::convert::Infallible;
use std::future::{Future, ready};
use std::time::Duration;

use tidegate_pipeline::{
    Consumer, ConsumerOptions, Demand, Drain, Producer, ProducerConsumer, Source, SubscribeOptions,
};
use tower::service_fn;

/// Counts, as far as it is asked to.
struct Counter {
    next: u64,
    end: u64,
}

impl Source for Counter {
    type Event = u64;

    fn events(&mut self, demand: usize) -> impl Future<Output = Option<Vec<u64>>> + Send {
        let until = self.end.min(self.next + demand as u64);
        let events: Vec<u64> = (self.next..until).collect();
        self.next = until;
        ready((!events.is_empty()).then_some(events))
    }
}

/// Sends 0 to 29 through the chain; `print` gets each event at its end.
pub(crate) async fn run(mut print: impl FnMut(u64) + Send + 'static) -> anyhow::Result<()> {
    let drain = Drain::new();

    let counter = Counter { next: 0, end: 30 };
    let counter = Producer::from_source("counter", Demand::new(), counter, &drain);

    let multiply = service_fn(|event: u64| ready(Ok::<_, Infallible>(Some(event * 2))));
    let multiplier = ProducerConsumer::spawn("multiplier", Demand::new(), multiply, &drain);

    let print = service_fn(move |event: u64| {
        print(event);
        ready(Ok::<(), Infallible>(()))
    });
    let options = ConsumerOptions { name: "printer", concurrency: 1 };
    let printer = Consumer::spawn(options, print, &drain);

    printer.subscribe(&multiplier, SubscribeOptions::max_demand(10))?;
    multiplier.subscribe(&counter, SubscribeOptions::max_demand(10))?;

    printer.ended().await;
    drain.drain(Duration::from_secs(10)).await;
    Ok(())
}

#[allow(dead_code, reason = "a test runs the example without its main")]
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    run(|event| println!("{event}")).await
}
