//! Source: where a pulling producer gets its events from.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;

use tracing::error;

use crate::dispatcher::Dispatcher;
use crate::guard;
use crate::producer::cell::Cell;
use std::task::Poll;

/// Makes events on demand.
pub trait Source: Send + 'static {
    /// What it makes.
    type Event: Send + 'static;

    /// Makes up to `demand` events (at least 1 is asked for), waiting for them if there are none yet; an
    /// empty answer is asked again at once, `None` is the end. More than `demand` is allowed: what
    /// is over waits, and nothing more is asked for until it is gone.
    ///
    /// When the producer is closed the future is dropped wherever it is.
    fn events(&mut self, demand: usize) -> impl Future<Output = Option<Vec<Self::Event>>> + Send;
}

/// The task of a pulling producer.
pub(crate) async fn run<S: Source, D: Dispatcher<S::Event>>(
    cell: Arc<Cell<S::Event, D>>,
    mut source: S,
) {
    // However this task ends, its subscribers learn of it; after an orderly end this does nothing.
    let abandoned = FailOnDrop(Arc::clone(&cell));
    while let Some(demand) = poll_fn(|cx| cell.poll_wanted(cx)).await {
        let events = {
            let mut events = pin!(guard::catch(source.events(demand)));
            poll_fn(|cx| match events.as_mut().poll(cx) {
                Poll::Ready(events) => Poll::Ready(Some(events)),
                Poll::Pending => cell.poll_closed(cx).map(|()| None),
            })
            .await
        };
        match events {
            Some(Ok(Some(events))) => {
                if cell.feed(events).is_err() {
                    break;
                }
            }
            Some(Ok(None)) | None => break,
            Some(Err(panic)) => {
                error!(%panic, "source panicked");
                return cell.end(true);
            }
        }
        tokio::task::coop::consume_budget().await;
    }
    cell.close();
    drop(abandoned);
}

struct FailOnDrop<E: Send + 'static, D: Dispatcher<E>>(Arc<Cell<E, D>>);

impl<E: Send + 'static, D: Dispatcher<E>> Drop for FailOnDrop<E, D> {
    fn drop(&mut self) {
        if !self.0.is_closed() {
            self.0.end(true);
        }
    }
}
