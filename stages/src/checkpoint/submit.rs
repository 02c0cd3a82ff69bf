//! Submit: hands what a turn planned to the checkpoint.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::{BoxFuture, Either, Ready, ready};
use tower::Service;

use crate::call::{BoxPlanned, Failed, StageResult};
use crate::checkpoint::CheckpointQueue;
use crate::ports::Save;
use crate::rules::Durability;
use crate::timer::Timers;

/// The end of a turn. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Submit(pub(crate) Arc<SubmitInner>);

/// See [`Submit`].
#[derive(Debug)]
pub(crate) struct SubmitInner {
    pub(crate) queue: CheckpointQueue,
    pub(crate) durability: Durability,
    pub(crate) timers: Timers,
}

impl Submit {
    pub(crate) fn new(queue: CheckpointQueue, durability: Durability, timers: Timers) -> Self {
        Self(Arc::new(SubmitInner { queue, durability, timers }))
    }
}

impl SubmitInner {
    async fn submit(&self, planned: BoxPlanned) {
        let Some((mut planned, error)) = self.queue.submit(planned).await else { return };
        // Without its rows the change is not to be written; nor is an event of a topic.
        let is_topic = planned.entry.topic.is_some();
        let is_late = |save: &Save| save.rows.is_none() && !is_topic;
        if self.durability == Durability::Snapshot
            && planned.save.take_if(|save| is_late(save)).is_some()
        {
            // In this mode memory is ahead of the store anyway: the next snapshot writes it.
            let entry = &planned.entry;
            if let Some(live) = entry.memory.lock().live.as_mut() {
                live.unsaved();
            }
            self.timers.changed(entry, &entry.spec().hosted.definition);
        }
        self.queue.refuse(planned, error);
    }
}

impl Service<BoxPlanned> for Submit {
    type Response = ();
    type Error = Box<Failed>;
    type Future = Either<Ready<StageResult<()>>, BoxFuture<'static, StageResult<()>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<StageResult<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, planned: BoxPlanned) -> Self::Future {
        let Some(planned) = self.0.queue.try_submit(planned) else {
            return Either::Left(ready(Ok(())));
        };
        let stage = self.clone();
        Either::Right(Box::pin(async move {
            stage.0.submit(planned).await;
            Ok(())
        }))
    }
}
