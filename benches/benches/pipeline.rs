//! The pipeline through its public API: ledger, dispatcher, bounded channel, one tower `Service`.
//!
//! Every payload is checked: events arrive in order, none twice, none missing. Each line is the
//! median of several rounds on a runtime of two workers. `cargo bench -p tidegate-benches -- pipeline [--quick] [FILTER]`.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tidegate_benches::harness::{Bench, Unit};
use tidegate_benches::options::Options;
use tidegate_pipeline::{
    BatchOptions, Bound, Broadcast, Call, Consumer, ConsumerOptions, Demand, Drain, Full,
    KeyedEvent, KeyedOptions, KeyedProducer, Partition, Producer, ProducerConsumer,
    ProducerOptions, Source, SubscribeOptions, Turn,
};
use tokio::task::JoinSet;
use tower::Service;

const LIMIT: Duration = Duration::from_mins(1);

pub(crate) fn run(options: &Options) {
    let bench = Bench::new("event", Unit::Nanoseconds, options.clone());
    bench.run("hop, demand 1000/500, service per event", |n| hop(n, demand(1000, 500)));
    bench.run("hop, demand 1000/500, service per batch", hop_batched);
    bench.run("one at a time: pulled, demand 1/0", |n| hop(n, demand(1, 0)));
    bench.run("one at a time: cast, demand 1/0", |n| cast(n, demand(1, 0)));
    bench.run("one at a time: cast, demand 1000/500", |n| cast(n, demand(1000, 500)));
    bench.run("chain of three", chain);
    bench.run("calls with a reply, 64 clients", calls);
    bench.run("keyed: push, grant, release; one key", |n| keyed(n, 1));
    bench.run("keyed: push, grant, release; 1000 keys", |n| keyed(n, 1000));
    let alone = bench.with_workers(1);
    alone.run("keyed: same, 1000 keys, one worker", |n| keyed(n, 1000));
    bench.run("broadcast to 4, demand 1000/500", broadcast);
    bench.run("partition over 4, demand 1000/500", partition);
}

fn demand(max_demand: usize, min_demand: usize) -> SubscribeOptions {
    SubscribeOptions { max_demand, min_demand, ..SubscribeOptions::default() }
}

/// Counts up to `end`.
struct Counter {
    next: u64,
    end: u64,
}

impl Source for Counter {
    type Event = u64;
    fn events(&mut self, demand: usize) -> impl Future<Output = Option<Vec<u64>>> + Send {
        let until = self.end.min(self.next + demand as u64);
        let events: Vec<u64> = (self.next..until).collect();
        self.next = until;
        ready((!events.is_empty()).then_some(events))
    }
}

fn count_to(end: u64, drain: &Drain) -> Producer<u64> {
    Producer::from_source("counter", Demand::new(), Counter { next: 0, end }, drain)
}

/// Expects `step` between events and reports how many came.
struct Check {
    next: u64,
    step: u64,
    seen: Arc<AtomicU64>,
}

impl Check {
    fn new(step: u64) -> (Check, Arc<AtomicU64>) {
        let seen = Arc::new(AtomicU64::new(0));
        (Check { next: 0, step, seen: Arc::clone(&seen) }, seen)
    }

    fn see(&mut self, event: u64) {
        assert_eq!(event, self.next, "lost, twice or out of order");
        self.next += self.step;
    }
}

impl Drop for Check {
    fn drop(&mut self) {
        self.seen.store(self.next / self.step, Ordering::SeqCst);
    }
}

impl Service<u64> for Check {
    type Response = ();
    type Error = Infallible;
    type Future = Ready<Result<(), Infallible>>;
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, event: u64) -> Self::Future {
        self.see(event);
        ready(Ok(()))
    }
}

impl Service<Vec<u64>> for Check {
    type Response = ();
    type Error = Infallible;
    type Future = Ready<Result<(), Infallible>>;
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, events: Vec<u64>) -> Self::Future {
        for event in events {
            self.see(event);
        }
        ready(Ok(()))
    }
}

const ONE: ConsumerOptions = ConsumerOptions { name: "check", concurrency: 1 };

async fn hop(events: u64, demand: SubscribeOptions) {
    let drain = Drain::new();
    let (check, seen) = Check::new(1);
    let consumer = Consumer::spawn(ONE, check, &drain);
    consumer.subscribe(&count_to(events, &drain), demand).expect("open");
    finish(consumer, drain, &seen, events).await;
}

async fn hop_batched(events: u64) {
    let drain = Drain::new();
    let (check, seen) = Check::new(1);
    let options = BatchOptions::new("check", 500);
    let consumer = Consumer::spawn_batched(options, |_| 8, check, &drain);
    consumer.subscribe(&count_to(events, &drain), demand(1000, 500)).expect("open");
    finish(consumer, drain, &seen, events).await;
}

async fn finish(consumer: Consumer<u64>, drain: Drain, seen: &AtomicU64, events: u64) {
    consumer.ended().await;
    drain.drain(LIMIT).await;
    assert_eq!(seen.load(Ordering::SeqCst), events);
}

/// Doubles each event.
#[derive(Clone)]
struct Double;

impl Service<u64> for Double {
    type Response = Option<u64>;
    type Error = Infallible;
    type Future = Ready<Result<Option<u64>, Infallible>>;
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, event: u64) -> Self::Future {
        ready(Ok(Some(event * 2)))
    }
}

/// Counter, doubler, check: the first example of Elixir's GenStage.
async fn chain(events: u64) {
    let drain = Drain::new();
    let (check, seen) = Check::new(2);
    let middle = ProducerConsumer::spawn("double", Demand::new(), Double, &drain);
    middle.subscribe(&count_to(events, &drain), demand(1000, 500)).expect("open");
    let consumer = Consumer::spawn(ONE, check, &drain);
    consumer.subscribe(&middle, demand(1000, 500)).expect("open");
    finish(consumer, drain, &seen, events).await;
}

async fn cast(events: u64, demand: SubscribeOptions) {
    let drain = Drain::new();
    let (check, seen) = Check::new(1);
    let bound = Bound { events: 4096, bytes: 1 << 20 };
    let options = ProducerOptions { name: "cast", bound, full: Full::Wait(LIMIT) };
    let producer = Producer::new(options, Demand::new());
    let consumer = Consumer::spawn(ONE, check, &drain);
    consumer.subscribe(&producer, demand).expect("open");
    for event in 0..events {
        let permit = producer.reserve(8).await.expect("capacity within the limit");
        producer.cast(event, permit).expect("open");
        if event % 128 == 0 {
            tokio::task::coop::consume_budget().await;
        }
    }
    drop(producer);
    finish(consumer, drain, &seen, events).await;
}

/// Replies to a request with the next number.
struct Answer;

impl Service<Call<u64, u64>> for Answer {
    type Response = ();
    type Error = Infallible;
    type Future = Ready<Result<(), Infallible>>;
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, call: Call<u64, u64>) -> Self::Future {
        call.reply.send(call.request + 1).expect("the client waits");
        ready(Ok(()))
    }
}

async fn calls(events: u64) {
    const CLIENTS: u64 = 64;
    let drain = Drain::new();
    let bound = Bound { events: 1024, bytes: 1 << 20 };
    let options = ProducerOptions { name: "calls", bound, full: Full::Wait(LIMIT) };
    let producer: Producer<Call<u64, u64>> = Producer::new(options, Demand::new());
    let consumer = Consumer::spawn(ONE, Answer, &drain);
    consumer.subscribe(&producer, demand(1000, 500)).expect("open");
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let producer = producer.clone();
        clients.spawn(async move {
            for number in 0..events / CLIENTS {
                let permit = producer.reserve(8).await.expect("capacity within the limit");
                let request = client + number;
                let answer = producer.call(request, permit).await.expect("an answer");
                assert_eq!(answer, request + 1);
            }
        });
    }
    clients.join_all().await;
    drop(producer);
    consumer.ended().await;
    drain.drain(LIMIT).await;
}

struct Mail {
    key: u64,
    number: u64,
}

impl KeyedEvent for Mail {
    type Key = u64;
    fn key(&self) -> &u64 {
        &self.key
    }
    fn class(&self) -> u32 {
        0
    }

    type Handle = ();

    fn handle(&self) {}
}

/// Checks the order within each key.
struct CheckKeys {
    next: BTreeMap<u64, u64>,
    done: Arc<AtomicU64>,
}

impl Service<Turn<Mail>> for CheckKeys {
    type Response = ();
    type Error = Infallible;
    type Future = Ready<Result<(), Infallible>>;
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, turn: Turn<Mail>) -> Self::Future {
        let mail = turn.event();
        let next = self.next.entry(mail.key).or_default();
        assert_eq!(mail.number, *next, "lost, twice or out of order");
        *next += 1;
        self.done.fetch_add(1, Ordering::Relaxed);
        ready(Ok(()))
    }
}

async fn keyed(events: u64, keys: u64) {
    let drain = Drain::new();
    let producer = KeyedProducer::new(KeyedOptions {
        name: "keyed",
        bound: Bound { events: 4096, bytes: 1 << 20 },
        per_key: 4096,
        full: Full::Wait(LIMIT),
    });
    let done = Arc::new(AtomicU64::new(0));
    let service = CheckKeys { next: BTreeMap::new(), done: Arc::clone(&done) };
    let consumer = Consumer::spawn(ONE, service, &drain);
    consumer.subscribe(&producer, demand(1000, 999)).expect("open");
    let mut pending = std::collections::VecDeque::with_capacity(4096);
    for number in 0..events {
        if pending.len() >= 2048 {
            pending.clear();
            while producer.queued() > 1024 {
                tokio::task::yield_now().await;
            }
        }
        pending.push_back(number);
        producer
            .push(Mail { key: number % keys, number: number / keys })
            .expect("open, and not full");
        if number % 128 == 0 {
            tokio::task::coop::consume_budget().await;
        }
    }
    producer.idle().await;
    drop(producer);
    consumer.ended().await;
    drain.drain(LIMIT).await;
    assert_eq!(done.load(Ordering::SeqCst), events);
}

async fn broadcast(events: u64) {
    const SUBSCRIBERS: u64 = 4;
    let drain = Drain::new();
    let producer = Producer::from_source(
        "broadcast",
        Broadcast::new(),
        Started::new(Counter { next: 0, end: events / SUBSCRIBERS }),
        &drain,
    );
    let mut running = Vec::new();
    for _ in 0..SUBSCRIBERS {
        let (check, seen) = Check::new(1);
        let consumer = Consumer::spawn(ONE, check, &drain);
        consumer.subscribe(&producer, demand(1000, 500)).expect("open");
        running.push((consumer, seen));
    }
    for (consumer, _) in &running {
        consumer.ended().await;
    }
    drain.drain(LIMIT).await;
    let counts: Vec<u64> = running.iter().map(|(_, seen)| seen.load(Ordering::SeqCst)).collect();
    assert_eq!(counts, vec![events / SUBSCRIBERS; 4]);
}

/// Waits a little before the first event, until all consumers have subscribed.
struct Started<S> {
    source: S,
    started: bool,
}

impl<S> Started<S> {
    fn new(source: S) -> Started<S> {
        Started { source, started: false }
    }
}

impl<S: Source> Source for Started<S> {
    type Event = S::Event;
    async fn events(&mut self, demand: usize) -> Option<Vec<S::Event>> {
        if !std::mem::replace(&mut self.started, true) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.source.events(demand).await
    }
}

async fn partition(events: u64) {
    const PARTITIONS: u32 = 4;
    let drain = Drain::new();
    let by_remainder = Partition::new(PARTITIONS, |event| *event);
    let producer =
        Producer::from_source("partition", by_remainder, Counter { next: 0, end: events }, &drain);
    let mut running = Vec::new();
    for partition in 0..PARTITIONS {
        let (mut check, seen) = Check::new(u64::from(PARTITIONS));
        check.next = u64::from(partition);
        let consumer = Consumer::spawn(ONE, check, &drain);
        consumer.subscribe_partition(&producer, partition, demand(1000, 500)).expect("open");
        running.push((consumer, seen));
    }
    for (consumer, _) in &running {
        consumer.ended().await;
    }
    drain.drain(LIMIT).await;
    let total: u64 = running.iter().map(|(_, seen)| seen.load(Ordering::SeqCst)).sum();
    assert_eq!(total, events);
}
