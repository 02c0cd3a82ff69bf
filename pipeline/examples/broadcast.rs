//! One announcer, three listeners, one of which wants only what concerns it.
//!
//! Every listener gets every announcement, at the pace of the slowest of them; the selector of the
//! third one lets nothing pass but news of the tide. `cargo run -p tidegate-pipeline --example broadcast`.
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use tidegate_pipeline::{
    Bound, Broadcast, Consumer, ConsumerOptions, Drain, Full, Producer, ProducerOptions,
    SubscribeOptions,
};
use tower::service_fn;

/// Announces; `print` gets each listener's name with what it heard.
pub(crate) async fn run(
    print: impl FnMut(&'static str, &str) + Clone + Send + 'static,
) -> anyhow::Result<()> {
    let drain = Drain::new();
    let options = ProducerOptions {
        name: "announcer",
        bound: Bound { events: 16, bytes: 4096 },
        full: Full::Wait(Duration::from_secs(1)),
    };
    // Every listener gets a clone of an event: `Arc` makes that cheap.
    let announcer: Producer<Arc<str>, Broadcast<Arc<str>>> =
        Producer::new(options, Broadcast::new());

    for name in ["harbour", "lighthouse", "pilot"] {
        let mut print = print.clone();
        let listen = service_fn(move |news: Arc<str>| {
            print(name, &news);
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
    drain.drain(Duration::from_secs(10)).await;
    Ok(())
}

#[allow(dead_code, reason = "a test runs the example without its main")]
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    run(|name, news| println!("{name}: {news}")).await
}
