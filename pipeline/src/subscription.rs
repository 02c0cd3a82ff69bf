//! Subscription: one producer and one consumer; demand goes up, events come down.
//!
//! Each pair has its own bounded flume channel, whose capacity is the consumer's maximum demand: what
//! is in it was asked for (I1), so sending never waits. One channel message is a batch of events that
//! were granted together. All channels of a consumer ring one bell.

use std::fmt;
use std::sync::{Arc, Weak};

use crate::demand::Account;

mod claim;
mod pair;

pub(crate) use claim::{Claim, Upstream};
pub(crate) use pair::{Batch, Bell, Output, Pair, channel};

/// What a consumer does when a subscription ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Cancel {
    /// Ends too, however the subscription ended.
    #[default]
    Permanent,
    /// Ends too if the producer failed; goes on if it ended in good order or was cancelled.
    Transient,
    /// Goes on without.
    Temporary,
}

/// Who asks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DemandMode {
    /// The subscription itself: `max_demand` at first, and again whenever `min_demand` is reached.
    #[default]
    Automatic,
    /// [`Subscription::ask`].
    Manual,
}

/// How a consumer subscribes to a producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubscribeOptions {
    /// Most events that may be asked for and not done. At least 1.
    pub max_demand: usize,
    /// Asks again when no more than this many are not done. Below `max_demand`.
    pub min_demand: usize,
    /// What the consumer does when the subscription ends.
    pub cancel: Cancel,
    /// Who asks.
    pub demand: DemandMode,
}

impl Default for SubscribeOptions {
    /// 1,000 events, asked for again at 500; permanent; automatic.
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
    /// Automatic demand of `max`, asked for again at half of it.
    pub fn max_demand(max: usize) -> SubscribeOptions {
        SubscribeOptions { max_demand: max, min_demand: max / 2, ..SubscribeOptions::default() }
    }

    /// Events done between two asks.
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

/// The largest maximum demand: each pair's channel has that capacity.
pub const MAX_DEMAND: usize = 1 << 24;

/// Why a subscription was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// Minimum demand is not below maximum demand, or the maximum is above [`MAX_DEMAND`].
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
    /// The consumer has as many subscriptions as it may.
    #[error("the consumer has too many subscriptions")]
    TooMany,
    /// The producer is partitioned and no partition was named.
    #[error("the producer is partitioned: name a partition")]
    PartitionMissing,
    /// There is no such partition.
    #[error("there is no partition {0}")]
    PartitionUnknown(u32),
    /// The partition has a subscriber.
    #[error("partition {0} has a subscriber already")]
    PartitionTaken(u32),
}

/// Says which events a subscriber wants.
pub(crate) type Selector<E> = Box<dyn FnMut(&E) -> bool + Send>;

/// The consumer's end of a pair.
pub struct Link<E> {
    pub(crate) claim: Arc<Claim>,
    pub(crate) events: flume::Receiver<Batch<E>>,
    pub(crate) pair: Arc<Pair>,
    pub(crate) cancel: Cancel,
    pub(crate) selector: Option<Selector<E>>,
}

impl<E> fmt::Debug for Link<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("claim", &self.claim).finish_non_exhaustive()
    }
}

/// A consumer that lets go drops what it was granted, so that guards inside the events run.
impl<E> Drop for Link<E> {
    fn drop(&mut self) {
        self.claim.upstream.cancel(self.claim.id);
        self.events.drain().for_each(drop);
    }
}

/// A producer that consumers can subscribe to: [`Producer`](crate::Producer) with its events,
/// [`KeyedProducer`](crate::KeyedProducer) with turns. Implemented by this crate only.
pub trait Subscribe<E>: crate::dispatcher::sealed::Sealed {
    /// Makes the pair; `partition` for partitioned producers.
    #[doc(hidden)]
    fn attach(
        &self,
        request: Attach,
        options: SubscribeOptions,
        partition: Option<u32>,
    ) -> Result<Link<E>, SubscribeError>;
}

/// Who wants to subscribe.
#[derive(Debug)]
pub struct Attach {
    pub(crate) bell: Arc<Bell>,
}

/// A consumer's subscription to one producer, to ask by hand or to cancel. Dropping it changes nothing.
#[derive(Debug, Clone)]
pub struct Subscription {
    claim: Weak<Claim>,
}

impl Subscription {
    pub(crate) fn new(claim: &Arc<Claim>) -> Subscription {
        Subscription { claim: Arc::downgrade(claim) }
    }

    /// Asks for up to `events`, clipped so that no more than the maximum demand is asked for and not
    /// done; returns how many were asked for. 0 when the subscription has ended.
    pub fn ask(&self, events: usize) -> usize {
        self.claim.upgrade().map_or(0, |claim| claim.ask(events))
    }

    /// Ends the subscription: what was granted is finished, nothing more comes. What the consumer
    /// does then is its [`Cancel`] mode.
    pub fn cancel(&self) {
        if let Some(claim) = self.claim.upgrade() {
            claim.upstream.cancel(claim.id);
        }
    }

    /// Whether it has ended and all that came through it is done.
    pub fn has_ended(&self) -> bool {
        self.claim.strong_count() == 0
    }
}
