//! Inbox: all subscriptions of one consumer, read in turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use flume::TryRecvError;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::drain::Drain;
use crate::subscription::{
    Attach, Batch, Bell, Cancel, Claim, Link, Selector, Subscribe, SubscribeError,
    SubscribeOptions, Subscription,
};

/// Most subscriptions of one consumer.
const MAX_SUBSCRIPTIONS: usize = 4096;

/// How a consumer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// Its producers ended or its subscription was cancelled, and all that was granted is done.
    Finished,
    /// A producer that it could not do without failed.
    ProducerFailed,
    /// Its service can take no more.
    ServiceFailed,
    /// It was aborted at the deadline of a drain.
    Aborted,
}

/// What came in.
pub(crate) enum Received<E> {
    Events(Arc<Claim>, Batch<E>),
    Ended(Ended),
}

/// The side of an inbox through which subscriptions come.
#[derive(Debug)]
pub(crate) struct Arrivals<E> {
    bell: Arc<Bell>,
    /// `None` when the consumer has ended.
    links: Mutex<Option<Vec<Link<E>>>>,
    some: AtomicBool,
    ended: watch::Sender<Option<Ended>>,
}

impl<E> Arrivals<E> {
    pub(crate) fn subscribe(
        &self,
        producer: &impl Subscribe<E>,
        options: SubscribeOptions,
        partition: Option<u32>,
        selector: Option<Selector<E>>,
    ) -> Result<Subscription, SubscribeError> {
        let request = Attach { bell: Arc::clone(&self.bell) };
        let mut link = producer.attach(request, options, partition)?;
        link.selector = selector;
        let subscription = Subscription::new(&link.claim);
        let mut links = self.links.lock();
        match links.as_mut() {
            None => return Err(SubscribeError::ConsumerEnded),
            Some(links) if links.len() >= MAX_SUBSCRIPTIONS => return Err(SubscribeError::TooMany),
            Some(links) => links.push(link),
        }
        drop(links);
        self.some.store(true, Ordering::Release);
        self.bell.ring();
        Ok(subscription)
    }

    pub(crate) async fn ended(&self) -> Ended {
        let mut watch = self.ended.subscribe();
        let ended = watch.wait_for(Option::is_some).await.map(|ended| *ended);
        ended.ok().flatten().unwrap_or(Ended::Aborted)
    }
}

/// The side of an inbox that the consumer's task reads.
#[derive(Debug)]
pub(crate) struct Inbox<E> {
    arrivals: Arc<Arrivals<E>>,
    links: Vec<Link<E>>,
    next: usize,
    /// Links that came before this is set start their demand when it is.
    is_open: bool,
    drain: Drain,
}

impl<E> Inbox<E> {
    pub(crate) fn new(drain: &Drain, is_open: bool) -> Inbox<E> {
        let arrivals = Arc::new(Arrivals {
            bell: Arc::new(Bell::default()),
            links: Mutex::new(Some(Vec::new())),
            some: AtomicBool::new(false),
            ended: watch::Sender::new(None),
        });
        drain.watch(&arrivals.bell);
        Inbox { arrivals, links: Vec::new(), next: 0, is_open, drain: drain.clone() }
    }

    pub(crate) fn arrivals(&self) -> Arc<Arrivals<E>> {
        Arc::clone(&self.arrivals)
    }

    /// Starts the demand of all subscriptions, also of those to come.
    pub(crate) fn open(&mut self) {
        if !self.is_open {
            self.is_open = true;
            self.links.iter().for_each(|link| link.claim.open());
        }
    }

    /// Tells those who wait how the consumer ended.
    pub(crate) fn end(&self, ended: Ended) {
        self.arrivals.ended.send_replace(Some(ended));
    }

    /// What came in next. Cancel safe.
    pub(crate) fn poll(&mut self, cx: &Context<'_>) -> Poll<Received<E>> {
        if let Some(received) = self.try_next() {
            return Poll::Ready(received);
        }
        self.arrivals.bell.listen(cx);
        // What came between the first look and the bell would ring nobody.
        self.try_next().map_or(Poll::Pending, Poll::Ready)
    }

    /// What is there already.
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
                        return Some(Received::Events(Arc::clone(&link.claim), batch));
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
        if !self.arrivals.some.swap(false, Ordering::AcqRel) {
            return;
        }
        let come = self.arrivals.links.lock().as_mut().map(std::mem::take);
        for link in come.into_iter().flatten() {
            if self.is_open {
                link.claim.open();
            }
            self.links.push(link);
        }
    }
}

/// Applies the subscriber's selector; what it does not want costs no demand.
fn select<E>(link: &mut Link<E>, batch: Batch<E>) -> Option<Batch<E>> {
    let Some(selector) = &mut link.selector else { return Some(batch) };
    let before = batch.len();
    let batch = batch.retain(selector);
    link.claim.unwanted(before - batch.as_ref().map_or(0, Batch::len));
    batch
}

/// How the consumer ends because of a subscription that has; `None` when it goes on.
fn after<E>(link: &Link<E>) -> Option<Ended> {
    match (link.cancel, link.pair.has_failed()) {
        (Cancel::Permanent | Cancel::Transient, true) => Some(Ended::ProducerFailed),
        (Cancel::Permanent, false) => Some(Ended::Finished),
        (Cancel::Transient, false) | (Cancel::Temporary, _) => None,
    }
}

impl<E> Drop for Inbox<E> {
    fn drop(&mut self) {
        let late = self.arrivals.links.lock().take();
        drop(late);
        self.arrivals.ended.send_if_modified(|ended| {
            let aborted = ended.is_none();
            ended.get_or_insert(Ended::Aborted);
            aborted
        });
    }
}
