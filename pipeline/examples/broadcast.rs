//! One announcer, three listeners, one of which wants only news of the tide.
//!
//! Every listener gets every announcement, at the pace of the slowest. The selector of the third
//! listener drops other news on its side. `cargo run -p tidegate-pipeline --example broadcast`
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_pipeline::{
    Bound, Broadcast, Consumer, ConsumerOptions, Drain, Full, Producer, ProducerOptions,
    SubscribeOptions,
};
use tower::service_fn;

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> anyhow::Result<()> {
    let drain = Drain::new();
    let options = ProducerOptions {
        name: "announcer",
        bound: Bound { events: 16, bytes: 4096 },
        full: Full::Wait(Duration::from_secs(1)),
    };
    // Every listener gets a clone of an event: `Arc` makes that cheap.
    let announcer: Producer<Arc<str>, Broadcast<Arc<str>>> =
        Producer::new(options, Broadcast::new());

    let heard = Arc::new(Mutex::new(Vec::new()));
    for name in ["harbour", "lighthouse", "pilot"] {
        let heard = Arc::clone(&heard);
        let listen = service_fn(move |news: Arc<str>| {
            println!("{name}: {news}");
            heard.lock().push((name, news));
            ready(Ok::<(), Infallible>(()))
        });
        let listener = Consumer::spawn(ConsumerOptions { name, concurrency: 1 }, listen, &drain);
        let demand = SubscribeOptions::max_demand(4);
        if name == "pilot" {
            listener.subscribe_where(&announcer, demand, |news| news.contains("tide"))?;
        } else {
            listener.subscribe(&announcer, demand)?;
        }
    }

    for news in ["the tide is in", "fog tonight", "the tide is out"] {
        let permit = announcer.reserve(news.len()).await?;
        announcer.cast(news.into(), permit).map_err(|rejected| rejected.reason)?;
    }
    drain.register(announcer);
    assert!(drain.drain(Duration::from_secs(10)).await.finished);

    let count = |name| heard.lock().iter().filter(|(listener, _)| *listener == name).count();
    assert_eq!((count("harbour"), count("lighthouse"), count("pilot")), (3, 3, 2));
    Ok(())
}
