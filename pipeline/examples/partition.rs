//! Accounts by number: each clerk keeps a partition of them, so that no two clerks touch one balance.
//!
//! Events of one account always go to the same clerk, in order.
//! `cargo run -p tidegate-pipeline --example partition`
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_pipeline::{
    Bound, Consumer, ConsumerOptions, Drain, Full, Partition, Producer, ProducerOptions,
    SubscribeOptions,
};
use tower::service_fn;

struct Booking {
    account: u32,
    amount: i64,
}

const CLERKS: u32 = 3;

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> anyhow::Result<()> {
    let drain = Drain::new();
    let options = ProducerOptions {
        name: "bookings",
        bound: Bound { events: 8, bytes: 4096 },
        full: Full::Wait(Duration::from_secs(1)),
    };
    let bookings =
        Producer::new(options, Partition::by(CLERKS, |booking: &Booking| booking.account));

    // What each clerk has in the books at the end: account and balance.
    let books = Arc::new(Mutex::new(vec![BTreeMap::new(); CLERKS as usize]));
    for (clerk, partition) in (0..CLERKS).enumerate() {
        let books = Arc::clone(&books);
        let book = service_fn(move |Booking { account, amount }| {
            *books.lock()[clerk].entry(account).or_insert(0) += amount;
            ready(Ok::<(), Infallible>(()))
        });
        let options = ConsumerOptions { name: "clerk", concurrency: 1 };
        let consumer = Consumer::spawn(options, book, &drain);
        consumer.subscribe_partition(&bookings, partition, SubscribeOptions::max_demand(4))?;
    }

    for number in 0..30 {
        let booking = Booking { account: number % 5, amount: i64::from(number) };
        let permit = bookings.reserve(size_of::<Booking>()).await?;
        bookings.cast(booking, permit).map_err(|rejected| rejected.reason)?;
    }
    drain.register(bookings);
    assert!(drain.drain(Duration::from_secs(10)).await.finished);

    for (clerk, accounts) in books.lock().iter().enumerate() {
        println!("clerk {clerk}: {accounts:?}");
    }
    // Every account is in the books of one clerk, with all its bookings.
    let mut accounts: Vec<(u32, i64)> =
        books.lock().iter().flatten().map(|(a, b)| (*a, *b)).collect();
    accounts.sort_unstable();
    assert_eq!(accounts, [(0, 75), (1, 81), (2, 87), (3, 93), (4, 99)]);
    Ok(())
}
