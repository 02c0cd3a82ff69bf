//! Subscription: a pair of one producer and one consumer. Demand goes up, events come down.
//!
//! Each pair has its own bounded flume channel. Its capacity is the consumer's maximum demand, and
//! every event in it was asked for (I1), so sending never waits. One message of the channel is a batch
//! of events that were granted together. All producers of a consumer wake the same waker.

use std::fmt;
use std::sync::{Arc, Weak};

use futures_util::task::AtomicWaker;

use crate::demand::Account;
use crate::sealed::Sealed;

mod demand_sender;
mod pair;

pub(crate) use demand_sender::{DemandSender, Upstream};
pub(crate) use pair::{Batch, Output, Pair, SharedEvents, channel};

/// What a consumer does when a subscription ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Cancel {
    /// The consumer ends too, however the subscription ended.
    #[default]
    Permanent,
    /// The consumer ends too if the producer failed. It goes on if the producer finished or the subscription
    /// was cancelled.
    Transient,
    /// The consumer goes on.
    Temporary,
}

/// Who asks for events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DemandMode {
    /// The subscription asks: for `max_demand` events at first, and again whenever at most `min_demand` of
    /// them are not done.
    #[default]
    Automatic,
    /// The program asks, with [`Subscription::ask`].
    Manual,
}

/// How a consumer subscribes to a producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubscribeOptions {
    /// How many events may be asked for and not done. At least 1.
    pub max_demand: usize,
    /// The subscription asks again when at most this many events are not done. Below `max_demand`.
    pub min_demand: usize,
    /// What the consumer does when the subscription ends.
    pub cancel: Cancel,
    /// Who asks for events.
    pub demand: DemandMode,
}

impl Default for SubscribeOptions {
    /// `max_demand` 1000, `min_demand` 500, permanent, automatic.
    fn default() -> SubscribeOptions {
        SubscribeOptions {
            max_demand: 1000,
            min_demand: 500,
            cancel: Cancel::Permanent,
            demand: DemandMode::Automatic,
        }
    }
}

impl SubscribeOptions {
    /// Automatic demand of `max` events, asked for again at half of it.
    pub fn max_demand(max: usize) -> SubscribeOptions {
        SubscribeOptions { max_demand: max, min_demand: max / 2, ..SubscribeOptions::default() }
    }

    /// How many events are done between two demands.
    pub(crate) fn stride(&self) -> usize {
        self.max_demand - self.min_demand
    }

    pub(crate) fn account(&self) -> Result<Account, SubscribeError> {
        let SubscribeOptions { max_demand, min_demand, .. } = *self;
        if min_demand >= max_demand || max_demand > MAX_DEMAND {
            return Err(SubscribeError::Demand { max_demand, min_demand });
        }
        Ok(Account::new(max_demand, min_demand, self.demand == DemandMode::Automatic))
    }
}

/// The largest `max_demand`. The channel of a pair has `max_demand` as its capacity.
pub const MAX_DEMAND: usize = 1 << 24;

/// Why a consumer could not subscribe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// `min_demand` is not below `max_demand`, or `max_demand` is above [`MAX_DEMAND`].
    #[error("min demand {min_demand} must be below max demand {max_demand}, at most {MAX_DEMAND}")]
    Demand {
        /// As given.
        max_demand: usize,
        /// As given.
        min_demand: usize,
    },
    /// The producer is closed or has ended.
    #[error("the producer has ended")]
    ProducerEnded,
    /// The consumer has ended.
    #[error("the consumer has ended")]
    ConsumerEnded,
    /// The consumer has as many subscriptions as are allowed.
    #[error("the consumer has too many subscriptions")]
    TooMany,
    /// The producer is partitioned and no partition was named.
    #[error("the producer is partitioned: name a partition")]
    PartitionMissing,
    /// There is no such partition.
    #[error("there is no partition {0}")]
    PartitionUnknown(u32),
    /// The partition has a subscriber already.
    #[error("partition {0} has a subscriber already")]
    PartitionTaken(u32),
}

/// Names a subscriber of one producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SubscriberId(pub(crate) u64);

/// Returns whether the subscriber wants an event.
pub(crate) type Selector<E> = Box<dyn FnMut(&E) -> bool + Send>;

/// The consumer's side of a pair.
pub struct Link<E> {
    pub(crate) demand: Arc<DemandSender>,
    pub(crate) events: flume::Receiver<Batch<E>>,
    pub(crate) pair: Arc<Pair>,
    pub(crate) cancel: Cancel,
    pub(crate) selector: Option<Selector<E>>,
}

impl<E> fmt::Debug for Link<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("demand", &self.demand).finish_non_exhaustive()
    }
}

/// Cancels, and drops the events that were granted and not read, so that guards inside them run.
impl<E> Drop for Link<E> {
    fn drop(&mut self) {
        self.demand.upstream.cancel(self.demand.id);
        self.events.drain().for_each(drop);
    }
}

/// A producer that consumers can subscribe to: [`Producer`](crate::Producer) with its events,
/// [`KeyedProducer`](crate::KeyedProducer) with turns. Implemented by this crate only.
pub trait Subscribe<E>: Sealed {
    /// Makes the pair. Partitioned producers need a `partition`.
    #[doc(hidden)]
    fn attach(
        &self,
        request: Attach,
        options: SubscribeOptions,
        partition: Option<u32>,
    ) -> Result<Link<E>, SubscribeError>;
}

/// What a subscriber brings to [`Subscribe::attach`].
#[derive(Debug)]
pub struct Attach {
    pub(crate) waker: Arc<AtomicWaker>,
}

/// A handle on a consumer's subscription to one producer: asks for events, or cancels. Dropping it changes
/// nothing.
#[derive(Debug, Clone)]
pub struct Subscription {
    demand: Weak<DemandSender>,
}

impl Subscription {
    pub(crate) fn new(demand: &Arc<DemandSender>) -> Subscription {
        Subscription { demand: Arc::downgrade(demand) }
    }

    /// Asks for up to `events` events, at most what the maximum demand leaves. Returns how many were
    /// asked for; 0 when the subscription has ended.
    pub fn ask(&self, events: usize) -> usize {
        self.demand.upgrade().map_or(0, |demand| demand.ask(events))
    }

    /// Ends the subscription: granted events are finished, and no more are granted. The [`Cancel`] mode
    /// says what the consumer does then.
    pub fn cancel(&self) {
        if let Some(demand) = self.demand.upgrade() {
            demand.upstream.cancel(demand.id);
        }
    }

    /// Whether it has ended and all its events are done.
    pub fn has_ended(&self) -> bool {
        self.demand.strong_count() == 0
    }
}
