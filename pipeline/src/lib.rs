//! GenStage for Rust.

pub mod metrics;
pub mod layer;

mod sync;
mod demand;
mod buffer;
mod dispatcher;
mod subscription;
mod producer;
mod keyed_producer;
mod guard;
mod inbox;
mod consumer;
mod batcher;
mod producer_consumer;
mod drain;

#[cfg(pipeline_loom)]
pub mod modelled;

pub use batcher::BatchOptions;
pub use buffer::{Bound, Full, Permit, Refused, Rejected};
pub use consumer::{Consumer, ConsumerOptions};
pub use dispatcher::{Broadcast, Demand, Dispatcher, Partition};
pub use drain::{Door, Drain, Drained};
pub use inbox::Ended;
pub use keyed_producer::{Hold, KeyedEvent, KeyedOptions, KeyedProducer, Parked, Turn};
pub use producer::{
    Call, CallDoor, CallError, CastDoor, Casting, Producer, ProducerOptions, Reply, Source,
};
pub use producer_consumer::ProducerConsumer;
pub use subscription::{
    Cancel, DemandMode, MAX_DEMAND, Subscribe, SubscribeError, SubscribeOptions, Subscription,
};
