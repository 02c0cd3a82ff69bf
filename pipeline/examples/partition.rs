//! Accounts by number: each clerk keeps a partition of them, so that nobody else touches a balance.
//!
//! Events of one account always go to the same clerk, in order. `cargo run -p tidegate-pipeline
//! --example partition`.
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::ready;
use std::time::Duration;

use tidegate_pipeline::{
    Bound, Consumer, ConsumerOptions, Drain, Full, Partition, Producer, ProducerOptions,
    SubscribeOptions,
};
use tower::service_fn;

#[derive(Debug)]
struct Booking {
    account: u32,
    amount: i64,
}

const CLERKS: u32 = 3;

/// Books 30 times; `print` gets the clerk, the account and its balance after each booking.
pub(crate) async fn run(
    print: impl FnMut(u32, u32, i64) + Clone + Send + 'static,
) -> anyhow::Result<()> {
    let drain = Drain::new();
    let options = ProducerOptions {
        name: "bookings",
        bound: Bound { events: 8, bytes: 4096 },
        full: Full::Wait(Duration::from_secs(1)),
    };
    let bookings =
        Producer::new(options, Partition::by(CLERKS, |booking: &Booking| booking.account));

    for clerk in 0..CLERKS {
        let mut print = print.clone();
        let mut balances = BTreeMap::new();
        let keep = service_fn(move |Booking { account, amount }| {
            let balance = balances.entry(account).or_insert(0);
            *balance += amount;
            print(clerk, account, *balance);
            ready(Ok::<(), Infallible>(()))
        });
        let options = ConsumerOptions { name: "clerk", concurrency: 1 };
        let consumer = Consumer::spawn(options, keep, &drain);
        consumer.subscribe_partition(&bookings, clerk, SubscribeOptions::max_demand(4))?;
    }

    for number in 0..30 {
        let booking = Booking { account: number % 5, amount: i64::from(number) };
        let permit = bookings.reserve(size_of::<Booking>()).await?;
        bookings.cast(booking, permit).map_err(|rejected| rejected.reason)?;
    }

    drain.register(bookings);
    drain.drain(Duration::from_secs(10)).await;
    Ok(())
}

#[allow(dead_code, reason = "a test runs the example without its main")]
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    run(|clerk, account, balance| println!("clerk {clerk}: account {account} has {balance}")).await
}
