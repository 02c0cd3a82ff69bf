#![doc = include_str!("../README.md")]
//!
//! # Where to read on
//!
//! [`Producer`], [`KeyedProducer`], [`Source`] · [`Consumer`], [`BatchOptions`], [`ProducerConsumer`] ·
//! [`SubscribeOptions`], [`Cancel`], [`DemandMode`] · [`Bound`], [`Full`], [`Refused`], [`Permit`] ·
//! [`Turn`], [`Hold`], [`Parked`], [`Gate`] · [`Drain`] · [`alarm`] · [`layer`] · [`metrics`] · [`randomness`]
//!
//! # The examples in full
//!
//! ## A producer that callers push to
//!
//! ```
#![doc = include_str!("../examples/producer.rs")]
//! ```
//!
//! ## A producer-consumer
//!
//! ```
#![doc = include_str!("../examples/producer_consumer.rs")]
//! ```
//!
//! ## Batching
//!
//! ```
#![doc = include_str!("../examples/batching.rs")]
//! ```
//!
//! ## Partitions
//!
//! ```
#![doc = include_str!("../examples/partition.rs")]
//! ```
//!
//! ## Mailboxes
//!
//! ```
#![doc = include_str!("../examples/keyed.rs")]
//! ```
//!
//! ## A mailbox that is paused
//!
//! ```
#![doc = include_str!("../examples/pause.rs")]
//! ```
//!
//! ## A rate limit
//!
//! ```
#![doc = include_str!("../examples/rate_limit.rs")]
//! ```
//!
//! ## Broadcast
//!
//! ```
#![doc = include_str!("../examples/broadcast.rs")]
//! ```
//!
//! ## Manual demand
//!
//! ```
#![doc = include_str!("../examples/manual_demand.rs")]
//! ```

pub mod metrics;
pub mod layer;

mod sealed;
mod sync;
pub mod randomness;
mod refused;
mod demand;
pub mod gate;
pub mod share;
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
mod supervision;
pub mod drain;
pub mod alarm;

#[cfg(pipeline_loom)]
pub mod modelled;

pub use batcher::BatchOptions;
pub use buffer::{Bound, Full, Permit, Refused, Rejected};
pub use consumer::{Consumer, ConsumerOptions};
pub use dispatcher::{Broadcast, Demand, Dispatcher, Partition};
pub use drain::{Drain, Drainable, Drained};
pub use gate::{Entry, Gate, GivenUp};
pub use guard::before_abort;
pub use inbox::Ended;
pub use keyed_producer::{
    Ahead, Cancelled, EventId, EventView, HeldPaused, Hold, KeySeen, KeyView, KeyedEvent,
    KeyedOptions, KeyedProducer, MAX_PAUSED, Parked, PauseError, Pushed, Turn, WaitsFor,
};
pub use producer::{
    Call, CallError, CallService, CastFuture, CastService, Producer, ProducerOptions, Reply, Source,
};
pub use producer_consumer::ProducerConsumer;
pub use share::Share;
pub use subscription::{
    Cancel, DemandMode, MAX_DEMAND, Subscribe, SubscribeError, SubscribeOptions, Subscription,
};
