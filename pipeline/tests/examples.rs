//! The examples run and print what they say.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;

#[path = "../examples/broadcast.rs"]
mod broadcast;
#[path = "../examples/counter.rs"]
mod counter;
#[path = "../examples/partition.rs"]
mod partition;
#[path = "../examples/rate_limited.rs"]
mod rate_limited;

/// What an example printed.
fn lines<L: Send + 'static>() -> (Arc<Mutex<Vec<L>>>, impl FnMut(L) + Clone + Send + 'static) {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let print = {
        let lines = Arc::clone(&lines);
        move |line| lines.lock().push(line)
    };
    (lines, print)
}

#[tokio::test(start_paused = true)]
async fn the_counter_is_doubled_in_order() {
    let (lines, print) = lines();
    counter::run(print).await.unwrap();
    assert_eq!(*lines.lock(), (0..30).map(|event| event * 2).collect::<Vec<u64>>());
}

#[tokio::test(start_paused = true)]
async fn listeners_hear_everything_and_the_pilot_only_of_the_tide() {
    let (lines, mut print) = lines();
    broadcast::run(move |name, news| print((name, news.to_owned()))).await.unwrap();
    let heard = |name| lines.lock().iter().filter(|(listener, _)| *listener == name).count();
    assert_eq!((heard("harbour"), heard("lighthouse"), heard("pilot")), (3, 3, 2));
}

#[tokio::test(start_paused = true)]
async fn each_account_has_one_clerk_and_its_bookings_come_in_order() {
    let (lines, mut print) = lines();
    partition::run(move |clerk, account, balance| print((clerk, account, balance))).await.unwrap();
    let mut accounts: BTreeMap<u32, (u32, i64)> = BTreeMap::new();
    let mut bookings = BTreeMap::new();
    for (clerk, account, balance) in lines.lock().iter().copied() {
        let booking = bookings.entry(account).or_insert_with(|| i64::from(account));
        let (its_clerk, before) = accounts.entry(account).or_insert((clerk, 0));
        assert_eq!((*its_clerk, *before + *booking), (clerk, balance));
        *before = balance;
        *booking += 5;
    }
    assert_eq!(accounts.len(), 5);
    assert_eq!(lines.lock().len(), 30);
}

#[tokio::test(start_paused = true)]
async fn a_rate_limited_printer_gets_five_events_every_two_seconds() {
    let started = Instant::now();
    let (lines, mut print) = lines();
    rate_limited::run(3, move |event| print((started.elapsed().as_secs(), event))).await.unwrap();
    let expected: Vec<(u64, u64)> = (0..10).map(|event| (event / 5 * 2, event)).collect();
    assert_eq!(lines.lock()[..10], expected);
}
