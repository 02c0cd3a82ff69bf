//! Mailboxes: one letter of a recipient at a time, in order; a letter that fails is tried again.
//!
//! A letter that must wait parks its key: the key keeps its order, and the worker is free for other
//! recipients. `cargo run -p tidegate-pipeline --example keyed`
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_pipeline::{
    Bound, Consumer, ConsumerOptions, Drain, Full, KeyedEvent, KeyedOptions, KeyedProducer, Permit,
    SubscribeOptions, Turn,
};
use tokio::time::sleep;
use tower::service_fn;

struct Letter {
    recipient: &'static str,
    number: u32,
    /// How many times it fails.
    failures: u32,
    /// Its place in the buffer, until it is delivered.
    _permit: Permit,
}

impl KeyedEvent for Letter {
    type Key = &'static str;

    fn key(&self) -> &&'static str {
        &self.recipient
    }

    /// All letters are of one class, which has no limit.
    fn class(&self) -> u32 {
        0
    }

    type Handle = ();

    fn handle(&self) {}
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
        let (delivered, drain) = (Arc::clone(&delivered), drain.clone());
        service_fn(move |turn: Turn<Letter>| {
            let (delivered, drain) = (Arc::clone(&delivered), drain.clone());
            async move {
                // Nobody else has the key while the hold exists.
                let (mut letter, hold) = turn.into_parts();
                if letter.failures > 0 {
                    letter.failures -= 1;
                    let parked = hold.park();
                    drain.spawn(async move {
                        sleep(Duration::from_millis(10)).await;
                        parked.resume(letter);
                    });
                    return Ok::<(), Infallible>(());
                }
                println!("{} {}", letter.recipient, letter.number);
                delivered.lock().push((letter.recipient, letter.number));
                drop((letter, hold));
                Ok(())
            }
        })
    };
    let options = ConsumerOptions { name: "postman", concurrency: 1 };
    let postman = Consumer::spawn(options, deliver, &drain);
    postman.subscribe(&mailboxes, SubscribeOptions::max_demand(1))?;

    for number in 0..3 {
        for (recipient, failures) in [("ann", 0), ("ben", if number == 0 { 2 } else { 0 })] {
            let permit = mailboxes.reserve(64).await?;
            let letter = Letter { recipient, number, failures, _permit: permit };
            mailboxes.push(letter).map_err(|rejected| rejected.reason)?;
        }
    }
    drain.register(mailboxes);
    assert!(drain.drain(Duration::from_secs(10)).await.finished);

    let of = |name| {
        let delivered = delivered.lock();
        let own = delivered.iter().filter(|(recipient, _)| *recipient == name);
        own.map(|(_, number)| *number).collect::<Vec<_>>()
    };
    assert_eq!((of("ann"), of("ben")), (vec![0, 1, 2], vec![0, 1, 2]), "each mailbox in order");
    Ok(())
}
