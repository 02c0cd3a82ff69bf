//! Attach: how a subscriber of a producer comes, asks and leaves.

use std::sync::Arc;

use futures_util::task::AtomicWaker;

use super::{Phase, ProducerShared};
use crate::dispatcher::Dispatcher;
use crate::subscription::{
    DemandSender, Link, Pair, SubscribeError, SubscribeOptions, SubscriberId, Upstream, channel,
};
use crate::sync::Mutex;

impl<T: Send + 'static, D: Dispatcher<T>> ProducerShared<T, D> {
    pub(crate) fn attach(
        self: &Arc<Self>,
        waker: &Arc<AtomicWaker>,
        options: SubscribeOptions,
        partition: Option<u32>,
    ) -> Result<Link<T>, SubscribeError> {
        let account = options.account()?;
        let pair = Pair::new(waker);
        let (id, events) = self.with(|state| {
            if state.phase == Phase::Ended {
                return Err(SubscribeError::ProducerEnded);
            }
            let id = SubscriberId(state.next_id);
            state.dispatcher.subscribe(id, partition)?;
            state.next_id += 1;
            state.attached += 1;
            let (output, events) = channel(id, &pair, options.max_demand);
            state.outputs.push(output);
            Ok((id, events))
        })?;
        let upstream = Arc::clone(self) as Arc<dyn Upstream>;
        let account = Some(Mutex::new(account));
        let demand = Arc::new(DemandSender { id, upstream, account, stride: options.stride() });
        Ok(Link { demand, events, pair, cancel: options.cancel, selector: None })
    }
}

impl<T: Send + 'static, D: Dispatcher<T>> Upstream for ProducerShared<T, D> {
    /// Nothing to do: the consumer keeps the account.
    fn open(&self, _: SubscriberId) {}

    fn ask(&self, id: SubscriberId, events: usize) -> usize {
        self.metrics.asked(events);
        self.with(|state| state.dispatcher.ask(id, events));
        events
    }

    fn cancel(&self, id: SubscriberId) {
        let output = self.with(|state| {
            state.dispatcher.cancel(id);
            let at = state.outputs.iter().position(|output| output.id == id);
            at.map(|at| state.outputs.remove(at))
        });
        drop(output);
    }

    fn detached(&self, _: SubscriberId) {
        self.state.lock().attached -= 1;
        self.changed.notify_waiters();
    }
}
