//! Inbox: all subscriptions of one consumer, read in turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use flume::TryRecvError;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::drain::Drain;
use crate::subscription::{
    Attach, Batch, Cancel, DemandSender, Link, Selector, Subscribe, SubscribeError,
    SubscribeOptions, Subscription,
};

/// Most subscriptions of one consumer.
const MAX_SUBSCRIPTIONS: usize = 4096;

/// How a consumer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// Its subscription was cancelled, or its producer ended, and its events are done.
    Finished,
    /// A producer failed, and the subscription was not [`Cancel::Temporary`].
    ProducerFailed,
    /// Its service failed in `poll_ready`.
    ServiceFailed,
    /// Its task was aborted at the deadline of a drain.
    Aborted,
}

/// What an inbox receives.
pub(crate) enum Received<E> {
    Events(Arc<DemandSender>, Batch<E>),
    Ended(Ended),
}

/// The handles' side of an inbox: adds subscriptions and waits for the end.
#[derive(Debug)]
pub(crate) struct InboxHandle<E> {
    waker: Arc<AtomicWaker>,
    /// Subscriptions that the task has not accepted yet; `None` when the consumer has ended.
    links: Mutex<Option<Vec<Link<E>>>>,
    some: AtomicBool,
    ended: watch::Sender<Option<Ended>>,
}

impl<E> InboxHandle<E> {
    pub(crate) fn subscribe(
        &self,
        producer: &impl Subscribe<E>,
        options: SubscribeOptions,
        partition: Option<u32>,
        selector: Option<Selector<E>>,
    ) -> Result<Subscription, SubscribeError> {
        let request = Attach { waker: Arc::clone(&self.waker) };
        let mut link = producer.attach(request, options, partition)?;
        link.selector = selector;
        let subscription = Subscription::new(&link.demand);
        let mut links = self.links.lock();
        match links.as_mut() {
            None => return Err(SubscribeError::ConsumerEnded),
            Some(links) if links.len() >= MAX_SUBSCRIPTIONS => return Err(SubscribeError::TooMany),
            Some(links) => links.push(link),
        }
        drop(links);
        self.some.store(true, Ordering::Release);
        self.waker.wake();
        Ok(subscription)
    }

    pub(crate) async fn ended(&self) -> Ended {
        let mut watch = self.ended.subscribe();
        let ended = watch.wait_for(Option::is_some).await.map(|ended| *ended);
        ended.ok().flatten().unwrap_or(Ended::Aborted)
    }
}

/// The task's side of an inbox.
#[derive(Debug)]
pub(crate) struct Inbox<E> {
    handle: Arc<InboxHandle<E>>,
    links: Vec<Link<E>>,
    next: usize,
    /// Whether subscriptions start their demand as soon as they are accepted.
    is_open: bool,
    drain: Drain,
}

impl<E> Inbox<E> {
    pub(crate) fn new(drain: &Drain, is_open: bool) -> Inbox<E> {
        let handle = Arc::new(InboxHandle {
            waker: Arc::new(AtomicWaker::new()),
            links: Mutex::new(Some(Vec::new())),
            some: AtomicBool::new(false),
            ended: watch::Sender::new(None),
        });
        drain.watch(&handle.waker);
        Inbox { handle, links: Vec::new(), next: 0, is_open, drain: drain.clone() }
    }

    pub(crate) fn handle(&self) -> Arc<InboxHandle<E>> {
        Arc::clone(&self.handle)
    }

    /// Starts the demand of all subscriptions, later ones too.
    pub(crate) fn open(&mut self) {
        if !self.is_open {
            self.is_open = true;
            self.links.iter().for_each(|link| link.demand.open());
        }
    }

    /// Tells all waiting handles how the consumer ended.
    pub(crate) fn end(&self, ended: Ended) {
        self.handle.ended.send_replace(Some(ended));
    }

    /// Returns what is received next. Cancel safe.
    pub(crate) fn poll(&mut self, cx: &Context<'_>) -> Poll<Received<E>> {
        if let Some(received) = self.try_next() {
            return Poll::Ready(received);
        }
        self.handle.waker.register(cx.waker());
        // Events that came before the waker was registered woke nobody.
        self.try_next().map_or(Poll::Pending, Poll::Ready)
    }

    /// Returns what is received already.
    pub(crate) fn try_next(&mut self) -> Option<Received<E>> {
        self.accept();
        let mut looked = 0;
        while looked < self.links.len() {
            if self.next >= self.links.len() {
                self.next = 0;
            }
            let at = self.next;
            let link = &mut self.links[at];
            match link.events.try_recv() {
                Ok(batch) => {
                    self.next += 1;
                    if let Some(batch) = select(link, batch) {
                        return Some(Received::Events(Arc::clone(&link.demand), batch));
                    }
                    looked = 0;
                }
                Err(TryRecvError::Empty) => {
                    self.next += 1;
                    looked += 1;
                }
                Err(TryRecvError::Disconnected) => {
                    let link = self.links.swap_remove(at);
                    if let Some(ended) = after(&link) {
                        return Some(Received::Ended(ended));
                    }
                }
            }
        }
        let is_over = self.links.is_empty() && self.drain.is_stopping();
        is_over.then_some(Received::Ended(Ended::Finished))
    }

    fn accept(&mut self) {
        if !self.handle.some.swap(false, Ordering::AcqRel) {
            return;
        }
        let come = self.handle.links.lock().as_mut().map(std::mem::take);
        for link in come.into_iter().flatten() {
            if self.is_open {
                link.demand.open();
            }
            self.links.push(link);
        }
    }
}

/// Applies the selector of a subscription. Unwanted events cost no demand.
fn select<E>(link: &mut Link<E>, batch: Batch<E>) -> Option<Batch<E>> {
    let Some(selector) = &mut link.selector else { return Some(batch) };
    let before = batch.len();
    let batch = batch.retain(selector);
    link.demand.unwanted(before - batch.as_ref().map_or(0, Batch::len));
    batch
}

/// How the consumer ends when this subscription has ended; `None` when it goes on.
fn after<E>(link: &Link<E>) -> Option<Ended> {
    match (link.cancel, link.pair.has_failed()) {
        (Cancel::Permanent | Cancel::Transient, true) => Some(Ended::ProducerFailed),
        (Cancel::Permanent, false) => Some(Ended::Finished),
        (Cancel::Transient, false) | (Cancel::Temporary, _) => None,
    }
}

impl<E> Drop for Inbox<E> {
    fn drop(&mut self) {
        let late = self.handle.links.lock().take();
        drop(late);
        self.handle.ended.send_if_modified(|ended| {
            let aborted = ended.is_none();
            ended.get_or_insert(Ended::Aborted);
            aborted
        });
    }
}
