//! Demand and the keyed hand-over in every interleaving.
//!
//! `RUSTFLAGS="--cfg pipeline_loom" cargo test -p tidegate-pipeline --release --test loom`, with a
//! target directory of its own. Only the locks of this crate are modelled: flume and tokio's
//! semaphore are called, but not modelled (`tests/handoff.rs` stresses flume).
#![cfg(pipeline_loom)]

mod control;
mod demand;
mod gate;
mod turns;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use loom::thread;
use tidegate_pipeline::modelled::Subscriber;
use tidegate_pipeline::*;

#[derive(Debug)]
struct Event {
    key: u8,
    number: u8,
    _alive: Alive,
}

/// Counts the events that exist.
#[derive(Debug)]
struct Alive(Arc<AtomicUsize>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl KeyedEvent for Event {
    type Key = u8;
    fn key(&self) -> &u8 {
        &self.key
    }
    /// Keys from 100 to 199 are of class 1, and so on.
    fn class(&self) -> u32 {
        u32::from(self.key / 100)
    }

    type Handle = ();

    fn handle(&self) {}
}

#[derive(Clone)]
struct Mailboxes {
    producer: KeyedProducer<Event>,
    alive: Arc<AtomicUsize>,
}

impl Mailboxes {
    fn new() -> Mailboxes {
        Mailboxes { producer: KeyedProducer::new(options()), alive: Arc::default() }
    }

    fn event(&self, key: u8, number: u8) -> Event {
        self.alive.fetch_add(1, SeqCst);
        Event { key, number, _alive: Alive(Arc::clone(&self.alive)) }
    }

    fn push(&self, key: u8, number: u8) -> bool {
        self.try_push(key, number).is_some()
    }

    fn try_push(&self, key: u8, number: u8) -> Option<EventId> {
        Some(self.producer.push(self.event(key, number)).ok()?.id)
    }

    fn subscriber(&self, max_demand: usize) -> Subscriber<Turn<Event>> {
        Subscriber::new(&self.producer, asking(max_demand)).unwrap()
    }
}

fn options() -> KeyedOptions {
    KeyedOptions {
        name: "loom",
        bound: Bound { events: 10, bytes: 10 },
        per_key: 10,
        full: Full::Shed,
    }
}

fn asking(max_demand: usize) -> SubscribeOptions {
    SubscribeOptions { max_demand, min_demand: max_demand - 1, ..SubscribeOptions::default() }
}

/// Finishes all turns that are or become granted. Returns their events in order.
fn finish(subscriber: &mut Subscriber<Turn<Event>>) -> Vec<(u8, u8)> {
    let mut seen = Vec::new();
    while let Ok(Some(turn)) = subscriber.next() {
        seen.push((turn.event().key, turn.event().number));
        assert!(!matches!(subscriber.next(), Ok(Some(_))), "I3: a second turn of a held key");
        drop(turn);
    }
    seen
}
