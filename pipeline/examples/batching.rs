//! A store that writes up to four rows at once.
//!
//! A batch is sent when it is full in events or in bytes, when it has lingered, or, without a linger,
//! as soon as no more events are there. `cargo run -p tidegate-pipeline --example batching`
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_pipeline::{
    BatchOptions, Bound, Consumer, Demand, Drain, Full, Producer, ProducerOptions, SubscribeOptions,
};
use tower::service_fn;

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> anyhow::Result<()> {
    let drain = Drain::new();
    let options = ProducerOptions {
        name: "rows",
        bound: Bound { events: 16, bytes: 4096 },
        full: Full::Wait(Duration::from_secs(1)),
    };
    let rows: Producer<String> = Producer::new(options, Demand::new());
    for number in 0..10 {
        let row = format!("row {number}");
        let permit = rows.reserve(row.len()).await?;
        rows.cast(row, permit).map_err(|rejected| rejected.reason)?;
    }

    let written = Arc::new(Mutex::new(Vec::new()));
    let write = {
        let written = Arc::clone(&written);
        service_fn(move |batch: Vec<String>| {
            println!("{batch:?}");
            written.lock().push(batch.len());
            ready(Ok::<(), Infallible>(()))
        })
    };
    // The maximum demand is larger than a batch, so that the next one fills while one is written.
    let options = BatchOptions { max_bytes: 1024, ..BatchOptions::new("store", 4) };
    let store = Consumer::spawn_batched(options, String::len, write, &drain);
    store.subscribe(&rows, SubscribeOptions::max_demand(16))?;

    drain.register(rows);
    assert!(drain.drain(Duration::from_secs(10)).await.finished);
    assert_eq!(*written.lock(), [4, 4, 2]);
    Ok(())
}
