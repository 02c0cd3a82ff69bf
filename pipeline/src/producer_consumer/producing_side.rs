//! Producing side: how the stage's task sees its own producer.

use std::fmt::Display;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use tower::Service;

use crate::dispatcher::Dispatcher;
use crate::guard;
use crate::inbox::{Ended, Inbox, Received};
use crate::outcomes::Outcomes;
use crate::producer::shared::ProducerShared;
use crate::subscription::{Batch, DemandSender};

pub(super) struct ProducingSide<T: Send + 'static, D: Dispatcher<T>> {
    shared: Arc<ProducerShared<T, D>>,
    pub(super) outcomes: Outcomes,
}

/// Subscribers learn that the stage failed, also when its task is aborted.
impl<T: Send + 'static, D: Dispatcher<T>> Drop for ProducingSide<T, D> {
    fn drop(&mut self) {
        if !self.shared.is_closed() {
            self.shared.end(true);
        }
    }
}

impl<T: Send + 'static, D: Dispatcher<T>> ProducingSide<T, D> {
    pub(super) fn new(name: &'static str, shared: &Arc<ProducerShared<T, D>>) -> Self {
        ProducingSide { shared: Arc::clone(shared), outcomes: Outcomes::new(name) }
    }

    /// Waits until subscribers ask for events. Returns how many.
    pub(super) async fn wanted(&self) -> Result<usize, Ended> {
        poll_fn(|cx| self.shared.poll_wanted(cx)).await.ok_or(Ended::Finished)
    }

    /// How many events subscribers ask for now.
    pub(super) fn wanted_now(&self) -> usize {
        self.shared.wanted()
    }

    /// Waits until subscribers ask for events, then for the next events to make them of.
    pub(super) async fn next<E>(
        &self,
        inbox: &mut Inbox<E>,
    ) -> Result<(Arc<DemandSender>, Batch<E>), Ended> {
        self.wanted().await?;
        inbox.open();
        poll_fn(|cx| match inbox.poll(cx) {
            Poll::Ready(Received::Events(demand, events)) => Poll::Ready(Ok((demand, events))),
            Poll::Ready(Received::Ended(ended)) => Poll::Ready(Err(ended)),
            Poll::Pending => self.shared.poll_closed(cx).map(|()| Err(Ended::Finished)),
        })
        .await
    }

    /// Waits until the service is ready.
    pub(super) async fn ready<Q, S>(&self, service: &mut S) -> Result<(), Ended>
    where
        S: Service<Q>,
        S::Error: Display,
    {
        self.outcomes.ready(guard::catch(poll_fn(|cx| service.poll_ready(cx))).await)
    }

    /// Moves events to the producer.
    pub(super) fn feed(&self, events: &mut Vec<T>) -> Result<(), Ended> {
        if events.is_empty() {
            return Ok(());
        }
        self.shared.feed(std::mem::take(events)).map_err(|_| Ended::Finished)
    }

    /// Tells both sides how the stage ended. Events that wait are still granted.
    pub(super) fn end<E>(&self, inbox: &Inbox<E>, ended: Ended) {
        inbox.end(ended);
        if ended == Ended::Finished { self.shared.close() } else { self.shared.close_failed() }
    }
}
