//! A limit of calls per customer, as a layer around a producer's call service.
//!
//! A call that comes too early fails before it takes a place in the buffer, and its error says when to
//! try again. `cargo run -p tidegate-pipeline --example rate_limit`
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::num::NonZeroU32;
use std::time::Duration;

use tidegate_pipeline::layer::{RateLimitError, RateLimitLayer, RateLimitOptions};
use tidegate_pipeline::{
    Bound, Call, Consumer, ConsumerOptions, Demand, Drain, Full, Producer, ProducerOptions,
    SubscribeOptions,
};
use tokio::time::sleep;
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

#[derive(Clone, Copy)]
struct Order {
    customer: u32,
    pieces: u64,
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> anyhow::Result<()> {
    let drain = Drain::new();
    let options = ProducerOptions {
        name: "orders",
        bound: Bound { events: 16, bytes: 1024 },
        full: Full::Shed,
    };
    let orders: Producer<Call<Order, u64>> = Producer::new(options, Demand::new());
    let price = service_fn(|order: Call<Order, u64>| async move {
        order.reply.send(order.request.pieces * 3).map_err(|_| "the caller has left")
    });
    Consumer::spawn(ConsumerOptions { name: "clerk", concurrency: 1 }, price, &drain)
        .subscribe(&orders, SubscribeOptions::max_demand(10))?;

    // One call per second and customer on average, two at once after a time without calls.
    let limit = RateLimitOptions {
        calls: NonZeroU32::MIN,
        period: Duration::from_secs(1),
        burst: NonZeroU32::MIN.saturating_add(1),
        max_keys: 10_000,
    };
    let mut service = ServiceBuilder::new()
        .layer(RateLimitLayer::new(limit, |order: &Order| Some(order.customer)))
        .service(orders.call_service(|_| size_of::<Order>()));

    let order = Order { customer: 1, pieces: 14 };
    assert_eq!(service.ready().await?.call(order).await?, 42);
    assert_eq!(service.ready().await?.call(order).await?, 42);
    let Err(RateLimitError::TooMany { retry_after }) = service.ready().await?.call(order).await
    else {
        anyhow::bail!("the third call within a second was not refused");
    };
    println!("customer 1 may call again in {retry_after:?}");

    let other = Order { customer: 2, ..order };
    assert_eq!(service.ready().await?.call(other).await?, 42, "another customer has its own limit");
    sleep(retry_after).await;
    assert_eq!(service.ready().await?.call(order).await?, 42);

    drain.register(orders);
    assert!(drain.drain(Duration::from_secs(10)).await.finished);
    Ok(())
}
