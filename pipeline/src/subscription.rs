//! Subscription: one producer and one consumer; demand goes up, events come down.
//!
//! Each pair has its own bounded flume channel, whose capacity is the consumer's maximum demand: what
//! is in it was asked for (I1), so sending never waits. One channel message is a batch of events that
//! were granted together. All channels of a consumer ring one bell.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::Context;

use futures_util::task::AtomicWaker;

use crate::demand::Account;
use crate::dispatcher::SubscriberId;
use crate::sync::Mutex;

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

/// What a consumer asks of its producer, whatever the events are.
pub(crate) trait Upstream: Send + Sync {
    /// Books the first demand of a subscriber that keeps its account here.
    fn open(&self, id: SubscriberId);
    /// Books demand; returns how much was booked.
    fn ask(&self, id: SubscriberId, events: usize) -> usize;
    /// Grants no more; what was granted stays granted. Idempotent.
    fn cancel(&self, id: SubscriberId);
    /// The consumer has let go of the subscription and of everything it was granted.
    fn detached(&self, id: SubscriberId);
}

/// Wakes a consumer's task. One per consumer, rung by each of its producers.
#[derive(Debug, Default)]
pub(crate) struct Bell(AtomicWaker);

impl Bell {
    pub(crate) fn ring(&self) {
        self.0.wake();
    }

    pub(crate) fn listen(&self, cx: &Context<'_>) {
        self.0.register(cx.waker());
    }
}

/// What both sides of a pair share.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) bell: Arc<Bell>,
    /// Set before the channel is closed when the producer failed.
    failed: AtomicBool,
}

impl Pair {
    pub(crate) fn new(bell: &Arc<Bell>) -> Arc<Pair> {
        Arc::new(Pair { bell: Arc::clone(bell), failed: AtomicBool::new(false) })
    }

    pub(crate) fn fail(&self) {
        self.failed.store(true, Ordering::Release);
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }
}

/// One channel message: events that were granted together.
#[derive(Debug, Clone)]
pub(crate) enum Batch<E> {
    /// The common case of calls that come one by one, without an allocation.
    One(E),
    /// At most the subscriber's demand.
    Many(Vec<E>),
}

impl<E> Batch<E> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Batch::One(_) => 1,
            Batch::Many(events) => events.len(),
        }
    }

    pub(crate) fn retain(self, mut wanted: impl FnMut(&E) -> bool) -> Option<Batch<E>> {
        match self {
            Batch::One(event) => wanted(&event).then_some(Batch::One(event)),
            Batch::Many(mut events) => {
                events.retain(wanted);
                (!events.is_empty()).then_some(Batch::Many(events))
            }
        }
    }
}

impl<E> IntoIterator for Batch<E> {
    type Item = E;
    type IntoIter = std::iter::Chain<std::option::IntoIter<E>, std::vec::IntoIter<E>>;

    fn into_iter(self) -> Self::IntoIter {
        let (one, many) = match self {
            Batch::One(event) => (Some(event), Vec::new()),
            Batch::Many(events) => (None, events),
        };
        one.into_iter().chain(many)
    }
}

/// The producer's end of a pair's channel. When the last one is dropped the subscription ends, after
/// what is in the channel. The order of the fields matters: the channel closes, then the bell rings.
#[derive(Debug)]
pub(crate) struct Output<E> {
    sender: flume::Sender<Batch<E>>,
    pub(crate) pair: RingOnDrop,
    pub(crate) id: SubscriberId,
}

/// Rings when the producer lets go of the pair.
#[derive(Debug)]
pub(crate) struct RingOnDrop(pub(crate) Arc<Pair>);

impl Drop for RingOnDrop {
    fn drop(&mut self) {
        self.0.bell.ring();
    }
}

impl<E> Output<E> {
    /// Sends what was asked for. Hands it back when the consumer has gone.
    pub(crate) fn send(&self, batch: Batch<E>) -> Result<(), Batch<E>> {
        self.sender.try_send(batch).map_err(|error| {
            debug_assert!(
                !matches!(error, flume::TrySendError::Full(_)),
                "I1: more than asked for"
            );
            error.into_inner()
        })
    }
}

/// Makes the channel of a pair; it holds as many messages as events may be out.
pub(crate) fn channel<E>(
    id: SubscriberId,
    pair: &Arc<Pair>,
    max_demand: usize,
) -> (Output<E>, flume::Receiver<Batch<E>>) {
    let (sender, receiver) = flume::bounded(max_demand);
    (Output { sender, pair: RingOnDrop(Arc::clone(pair)), id }, receiver)
}

/// The consumer's account with a producer, shared by everything that was granted through it.
pub(crate) struct Claim {
    pub(crate) id: SubscriberId,
    pub(crate) upstream: Arc<dyn Upstream>,
    /// `None` when the producer keeps it, because its events give demand back by themselves.
    pub(crate) account: Option<Mutex<Account>>,
    /// How many events to finish before [`done`](Claim::done) is worth telling.
    pub(crate) stride: usize,
}

impl Claim {
    /// Starts the demand.
    pub(crate) fn open(&self) {
        match &self.account {
            Some(account) => self.pass_on(account.lock().open()),
            None => self.upstream.open(self.id),
        }
    }

    /// Notes that events are done, and asks again when it is time.
    pub(crate) fn done(&self, events: usize) {
        if let Some(account) = &self.account
            && events > 0
        {
            let again = account.lock().give_back(events);
            self.pass_on(again);
        }
    }

    /// Notes that events were not wanted: asks again for each of them at once.
    pub(crate) fn unwanted(&self, events: usize) {
        if self.account.is_some() {
            self.pass_on(events);
        }
    }

    fn ask(&self, events: usize) -> usize {
        match &self.account {
            Some(account) => {
                let events = account.lock().ask(events);
                self.pass_on(events);
                events
            }
            None => self.upstream.ask(self.id, events),
        }
    }

    fn pass_on(&self, events: usize) {
        if events > 0 {
            self.upstream.ask(self.id, events);
        }
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.upstream.cancel(self.id);
        self.upstream.detached(self.id);
    }
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
