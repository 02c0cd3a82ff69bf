//! Pair: the channel between one producer and one consumer, and the bell that wakes the consumer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Context;

use futures_util::task::AtomicWaker;

use crate::dispatcher::SubscriberId;

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
