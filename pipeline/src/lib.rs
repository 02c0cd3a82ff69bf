//! GenStage for Rust: work moves only when somebody asked for it.
//!
//! # The idea
//!
//! Push work into a queue and sooner or later the queue is full or the memory is. A pipeline of
//! *stages* turns this round: the one that does the work says how much it can take, and nobody hands
//! it more than that. Three words are enough:
//!
//! ```text
//!              ◀── demand: "ten more" ──          ◀── demand ──
//!   [producer] ═════════ events ═══════▶ [stage] ═══ events ═══▶ [consumer]
//! ```
//!
//! * A **producer** has events, from its callers or from a [`Source`], and gives them only to those
//!   who asked. What nobody has asked for waits in its *buffer*, which is bounded in events and in
//!   bytes; a full buffer makes callers wait or sheds them ([`Full`]).
//! * A **consumer** *subscribes* to producers and runs each event, or a batch of them, through a
//!   [`tower::Service`]. It asks for [`max_demand`](SubscribeOptions::max_demand) events at first, and
//!   again whenever no more than [`min_demand`](SubscribeOptions::min_demand) of them are not done.
//! * A **producer-consumer** does both: it asks for events when it is asked for some itself. So the
//!   demand of the last stage travels to the first, and the slowest stage sets the pace of all,
//!   without a timer, a limit to tune, or an unbounded queue anywhere.
//!
//! Each pair of a producer and a consumer keeps its own books: what was asked and what was granted.
//! One rule is never broken: **no event is granted that was not asked for**.
//!
//! # Who gets the next event
//!
//! A producer may have many subscribers; its *dispatcher* chooses between them:
//!
//! | dispatcher | an event goes to | use |
//! |---|---|---|
//! | [`Demand`] | the subscriber that asked for most | equal workers |
//! | [`Broadcast`] | all, at the pace of the slowest | everybody must know |
//! | [`Partition`] | the subscriber of its partition | one owner per part of the keys |
//! | [`KeyedProducer`] | any, but one event of a key at a time | a mailbox per actor |
//!
//! # A first pipeline
//!
//! A counter, a stage that doubles, and a consumer that adds up, ten events at a time:
//!
//! ```
//! use std::convert::Infallible;
//! use std::sync::Arc;
//! use std::sync::atomic::{AtomicU64, Ordering};
//! use std::time::Duration;
//!
//! use tidegate_pipeline::{
//!     Consumer, ConsumerOptions, Demand, Drain, Producer, ProducerConsumer, Source,
//!     SubscribeOptions,
//! };
//! use tower::service_fn;
//!
//! /// Makes exactly as many numbers as it is asked for, up to 100.
//! struct Counter(u64);
//!
//! impl Source for Counter {
//!     type Event = u64;
//!     async fn events(&mut self, demand: usize) -> Option<Vec<u64>> {
//!         let events: Vec<u64> = (self.0..100).take(demand).collect();
//!         self.0 += events.len() as u64;
//!         (!events.is_empty()).then_some(events)
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Every task belongs to a drain, which ends them in good order.
//! let drain = Drain::new();
//!
//! let counter = Producer::from_source("counter", Demand::new(), Counter(0), &drain);
//!
//! let double = service_fn(|event: u64| async move { Ok::<_, Infallible>([event * 2]) });
//! let doubler = ProducerConsumer::spawn("doubler", Demand::new(), double, &drain);
//!
//! let sum = Arc::new(AtomicU64::new(0));
//! let add = {
//!     let sum = Arc::clone(&sum);
//!     service_fn(move |event: u64| {
//!         sum.fetch_add(event, Ordering::Relaxed);
//!         async { Ok::<(), Infallible>(()) }
//!     })
//! };
//! let adder = Consumer::spawn(ConsumerOptions { name: "adder", concurrency: 1 }, add, &drain);
//!
//! // Until here nothing has moved: nobody has asked.
//! adder.subscribe(&doubler, SubscribeOptions::max_demand(10))?;
//! doubler.subscribe(&counter, SubscribeOptions::max_demand(10))?;
//!
//! // The counter comes to its end, and with it, one after the other, its subscribers.
//! adder.ended().await;
//! assert_eq!(sum.load(Ordering::Relaxed), 9900);
//! assert!(drain.drain(Duration::from_secs(5)).await.finished);
//! # Ok(())
//! # }
//! ```
//!
//! # Events from outside
//!
//! A producer made with [`Producer::new`] is fed by whoever holds a handle. First a place is taken
//! ([`reserve`](Producer::reserve) waits or sheds as configured, [`try_reserve`](Producer::try_reserve)
//! never waits), then an event is put into it: [`cast`](Producer::cast) and go on, or
//! [`call`](Producer::call) and wait for the answer of the consumer. The same as a tower service, whose
//! readiness is room in the buffer: [`cast_service`](Producer::cast_service), [`call_service`](Producer::call_service).
//!
//! # Mailboxes
//!
//! A [`KeyedProducer`] keeps a queue per key and grants at most one event of a key at a time, first in
//! first out, fair between keys. The consumer gets a [`Turn`]: the event, and a [`Hold`] on its key.
//! Dropping the hold, from any task, frees the key. Work that must be tried again later
//! [parks](Hold::park) the key, which keeps its order and frees the worker for others.
//!
//! # The end
//!
//! A consumer that ends, an event that is dropped, a task that is aborted: every one of them gives back
//! what it held, because everything that is held is a guard. A panic in a service ends its event only.
//! [`Drain::drain`] closes the producers one after the other, lets what was admitted finish, joins all
//! tasks, and ends at a deadline what does not.
//!
//! Policies that any stage can wear (retry, rate limit, limits, timing) are in [`layer`]; what a stage
//! tells of itself is in [`metrics`].

pub mod metrics;
pub mod layer;

mod sealed;
mod sync;
mod refused;
mod demand;
pub mod buffer;
pub mod dispatcher;
pub mod subscription;
pub mod producer;
pub mod keyed_producer;
mod guard;
mod inbox;
mod tally;
mod outcomes;
pub mod consumer;
pub mod batcher;
pub mod producer_consumer;
pub mod drain;

#[cfg(pipeline_loom)]
pub mod modelled;

pub use batcher::BatchOptions;
pub use buffer::{Bound, Full, Permit, Refused, Rejected};
pub use consumer::{Consumer, ConsumerOptions};
pub use dispatcher::{Broadcast, Demand, Dispatcher, Partition};
pub use drain::{Drain, Drainable, Drained};
pub use guard::before_abort;
pub use inbox::Ended;
pub use keyed_producer::{Hold, KeyedEvent, KeyedOptions, KeyedProducer, Parked, Turn};
pub use producer::{
    Call, CallError, CallService, CastFuture, CastService, Producer, ProducerOptions, Reply, Source,
};
pub use producer_consumer::ProducerConsumer;
pub use subscription::{
    Cancel, DemandMode, MAX_DEMAND, Subscribe, SubscribeError, SubscribeOptions, Subscription,
};
