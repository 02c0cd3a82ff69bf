//! A mailbox is paused, looked at, and loses a letter that nobody wants any more.
//!
//! `cargo run -p tidegate-pipeline --example pause`
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_pipeline::{
    Bound, Cancelled, Consumer, ConsumerOptions, Drain, Full, KeyedEvent, KeyedOptions,
    KeyedProducer, SubscribeOptions, Turn, WaitsFor,
};
use tokio_util::sync::CancellationToken;
use tower::service_fn;

struct Letter {
    recipient: &'static str,
    number: u32,
    /// Tells the task that delivers it to stop.
    stop: CancellationToken,
}

impl KeyedEvent for Letter {
    type Key = &'static str;

    fn key(&self) -> &&'static str {
        &self.recipient
    }

    fn class(&self) -> u32 {
        0
    }

    type Handle = CancellationToken;

    fn handle(&self) -> CancellationToken {
        self.stop.clone()
    }
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> anyhow::Result<()> {
    let drain = Drain::new();
    let mailboxes = KeyedProducer::new(KeyedOptions {
        name: "mailboxes",
        bound: Bound { events: 100, bytes: 4096 },
        per_key: 10,
        full: Full::Shed,
    });
    let delivered = Arc::new(Mutex::new(Vec::new()));
    let deliver = {
        let delivered = Arc::clone(&delivered);
        service_fn(move |turn: Turn<Letter>| {
            let Letter { recipient, number, .. } = turn.event();
            println!("{recipient} {number} after {:?}", turn.waited());
            delivered.lock().push((*recipient, *number));
            ready(Ok::<(), Infallible>(()))
        })
    };
    let options = ConsumerOptions { name: "postman", concurrency: 1 };
    let postman = Consumer::spawn(options, deliver, &drain);
    postman.subscribe(&mailboxes, SubscribeOptions::max_demand(1))?;

    // Ben is away: his letters wait, up to the bound of his mailbox. Ann gets hers.
    mailboxes.pause(&"ben")?;
    for number in 0..3 {
        for recipient in ["ann", "ben"] {
            let letter = Letter { recipient, number, stop: CancellationToken::new() };
            mailboxes.push(letter).map_err(|rejected| rejected.reason)?;
        }
    }
    let view = mailboxes.look(&"ben", 10);
    assert_eq!((view.queued, view.waits_for), (3, Some(WaitsFor::Resume)));

    // The second letter to Ben is taken back.
    match mailboxes.cancel(&"ben", view.first[1].id) {
        Some(Cancelled::Queued(letter)) => assert_eq!(letter.number, 1),
        // On its way already: the postman is told, and may stop or not.
        Some(Cancelled::Running(stop)) => stop.cancel(),
        None => println!("delivered already"),
    }

    assert!(mailboxes.resume(&"ben"));
    drain.register(mailboxes);
    assert!(drain.drain(Duration::from_secs(10)).await.finished);
    let of_ben = |(recipient, _): &&(&str, u32)| *recipient == "ben";
    let delivered = delivered.lock();
    assert_eq!(delivered.iter().filter(of_ben).collect::<Vec<_>>(), [&("ben", 0), &("ben", 2)]);
    assert_eq!(delivered.len(), 5);
    Ok(())
}
