//! Source: makes the events of a pulling producer.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;

use tracing::error;

use crate::dispatcher::Dispatcher;
use crate::guard;
use crate::producer::shared::ProducerShared;
use std::task::Poll;

/// Makes events on demand.
pub trait Source: Send + 'static {
    /// The type of its events.
    type Event: Send + 'static;

    /// Makes up to `demand` events, which is at least 1. Waits when there are none yet. Returns `None` at
    /// the end. After an empty `Vec` it is called again at once. It may return more than `demand`
    /// events: the rest waits, and the source is not called again until the rest is gone.
    ///
    /// When the producer is closed, the future is dropped at its current await point.
    fn events(&mut self, demand: usize) -> impl Future<Output = Option<Vec<Self::Event>>> + Send;
}

/// Runs as the task of a pulling producer.
pub(crate) async fn run<S: Source, D: Dispatcher<S::Event>>(
    shared: Arc<ProducerShared<S::Event, D>>,
    mut source: S,
) {
    // Subscribers learn that the producer failed, also when this task is aborted. After an orderly end
    // this does nothing.
    let abandoned = FailOnDrop(Arc::clone(&shared));
    while let Some(demand) = poll_fn(|cx| shared.poll_wanted(cx)).await {
        let events = {
            let mut events = pin!(guard::catch(source.events(demand)));
            poll_fn(|cx| match events.as_mut().poll(cx) {
                Poll::Ready(events) => Poll::Ready(Some(events)),
                Poll::Pending => shared.poll_closed(cx).map(|()| None),
            })
            .await
        };
        match events {
            Some(Ok(Some(events))) => {
                if shared.feed(events).is_err() {
                    break;
                }
            }
            Some(Ok(None)) | None => break,
            Some(Err(panic)) => {
                error!(%panic, "source panicked");
                return shared.end(true);
            }
        }
        tokio::task::coop::consume_budget().await;
    }
    shared.close();
    drop(abandoned);
}

struct FailOnDrop<E: Send + 'static, D: Dispatcher<E>>(Arc<ProducerShared<E, D>>);

impl<E: Send + 'static, D: Dispatcher<E>> Drop for FailOnDrop<E, D> {
    fn drop(&mut self) {
        if !self.0.is_closed() {
            self.0.end(true);
        }
    }
}
