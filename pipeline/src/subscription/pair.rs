//! Pair: the channel between one producer and one consumer.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::task::AtomicWaker;

use crate::subscription::SubscriberId;

/// What both sides of a pair share.
#[derive(Debug)]
pub(crate) struct Pair {
    /// Wakes the consumer's task.
    pub(crate) waker: Arc<AtomicWaker>,
    /// Set before the channel closes, when the producer failed.
    failed: AtomicBool,
}

impl Pair {
    pub(crate) fn new(waker: &Arc<AtomicWaker>) -> Arc<Pair> {
        Arc::new(Pair { waker: Arc::clone(waker), failed: AtomicBool::new(false) })
    }

    pub(crate) fn fail(&self) {
        self.failed.store(true, Ordering::Release);
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }
}

/// One message of the channel: events that were granted together.
pub(crate) enum Batch<E> {
    /// One event, without an allocation. Calls mostly come one by one.
    One(E),
    /// More events, at most the subscriber's demand.
    Many(Vec<E>),
    /// Events that other subscribers get too. Each consumer clones them in its own task.
    Shared(Arc<dyn SharedEvents<E>>),
}

/// Events that are cloned where they are needed.
pub(crate) trait SharedEvents<E>: Send + Sync {
    fn len(&self) -> usize;
    fn clone_all(&self) -> Vec<E>;
}

impl<E: Clone + Send + Sync> SharedEvents<E> for Vec<E> {
    fn len(&self) -> usize {
        self.len()
    }

    fn clone_all(&self) -> Vec<E> {
        self.clone()
    }
}

/// Does not show the events, which may be of any type.
impl<E> fmt::Debug for Batch<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl<E> Batch<E> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Batch::One(_) => 1,
            Batch::Many(events) => events.len(),
            Batch::Shared(events) => events.len(),
        }
    }

    pub(crate) fn retain(self, mut wanted: impl FnMut(&E) -> bool) -> Option<Batch<E>> {
        if let Batch::One(event) = self {
            return wanted(&event).then_some(Batch::One(event));
        }
        let mut events = self.into_vec();
        events.retain(wanted);
        (!events.is_empty()).then_some(Batch::Many(events))
    }

    pub(crate) fn into_vec(self) -> Vec<E> {
        match self {
            Batch::One(event) => vec![event],
            Batch::Many(events) => events,
            Batch::Shared(events) => events.clone_all(),
        }
    }
}

impl<E> IntoIterator for Batch<E> {
    type Item = E;
    type IntoIter = std::iter::Chain<std::option::IntoIter<E>, std::vec::IntoIter<E>>;

    fn into_iter(self) -> Self::IntoIter {
        let (one, many) = match self {
            Batch::One(event) => (Some(event), Vec::new()),
            many => (None, many.into_vec()),
        };
        one.into_iter().chain(many)
    }
}

/// The producer's side of a pair. The subscription ends when it is dropped and the channel is empty. The
/// order of the fields matters: first the channel closes, then the consumer is woken.
#[derive(Debug)]
pub(crate) struct Output<E> {
    sender: flume::Sender<Batch<E>>,
    pub(crate) pair: WakeOnDrop,
    pub(crate) id: SubscriberId,
}

/// Wakes the consumer when it is dropped.
#[derive(Debug)]
pub(crate) struct WakeOnDrop(pub(crate) Arc<Pair>);

impl Drop for WakeOnDrop {
    fn drop(&mut self) {
        self.0.waker.wake();
    }
}

impl<E> Output<E> {
    /// Sends events that were asked for. Returns them when the consumer has left.
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

/// Makes the channel of a pair. It holds as many messages as events may be asked for.
pub(crate) fn channel<E>(
    id: SubscriberId,
    pair: &Arc<Pair>,
    max_demand: usize,
) -> (Output<E>, flume::Receiver<Batch<E>>) {
    let (sender, receiver) = flume::bounded(max_demand);
    (Output { sender, pair: WakeOnDrop(Arc::clone(pair)), id }, receiver)
}
