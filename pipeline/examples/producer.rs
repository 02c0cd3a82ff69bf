//! A producer that callers push to: a bounded buffer, a refusal when it is full, calls with a reply.
//!
//! `cargo run -p tidegate-pipeline --example producer`
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::time::Duration;

use tidegate_pipeline::{
    Bound, Call, Consumer, ConsumerOptions, Demand, Drain, Full, Producer, ProducerOptions,
    Refused, SubscribeOptions,
};
use tower::{Service, ServiceExt, service_fn};

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> anyhow::Result<()> {
    let drain = Drain::new();

    // `Full::Wait` would make callers wait for a place, first come first served.
    let options = ProducerOptions {
        name: "orders",
        bound: Bound { events: 2, bytes: 1024 },
        full: Full::Shed,
    };
    let orders: Producer<Call<u64, u64>> = Producer::new(options, Demand::new());

    // A place is taken before the event exists. The third is refused: nothing of it has run.
    let first = orders.try_reserve(8)?;
    let second = orders.try_reserve(8)?;
    assert_eq!(orders.try_reserve(8).err(), Some(Refused::Full));

    let price = service_fn(|order: Call<u64, u64>| async move {
        order.reply.send(order.request * 3).map_err(|_| "the caller has left")
    });
    let clerk = Consumer::spawn(ConsumerOptions { name: "clerk", concurrency: 1 }, price, &drain);
    clerk.subscribe(&orders, SubscribeOptions::max_demand(10))?;
    assert_eq!(orders.call(14, first).await?, 42);
    assert_eq!(orders.call(15, second).await?, 45);

    // The same as a tower service, which is ready when a place is free.
    let mut service = orders.call_service(|_| 8);
    let price = service.ready().await?.call(16).await?;
    assert_eq!(price, 48);
    println!("16 pieces cost {price}");

    // Closes the producer, waits until its events are done, joins the consumer's task.
    drain.register(orders);
    assert!(drain.drain(Duration::from_secs(10)).await.finished);
    Ok(())
}
