//! Batched: the task of a producer-consumer that runs its service on many events at once.

use std::fmt::Display;
use std::sync::Arc;

use tower::Service;

use super::producing_side::ProducingSide;
use crate::dispatcher::Dispatcher;
use crate::guard;
use crate::inbox::{Ended, Inbox};
use crate::subscription::{Batch, DemandSender};
use crate::tally::Tally;

pub(super) struct Batched<T: Send + 'static, D: Dispatcher<T>, S> {
    pub(super) side: ProducingSide<T, D>,
    pub(super) service: S,
}

impl<T: Send + 'static, D: Dispatcher<T>, S> Batched<T, D, S> {
    pub(super) async fn run<E>(mut self, mut inbox: Inbox<E>)
    where
        S: Service<Vec<E>>,
        S::Response: IntoIterator<Item = T>,
        S::Error: Display,
    {
        let ended = loop {
            let worked = match self.side.next(&mut inbox).await {
                Ok((demand, events)) => self.work(demand, events).await,
                Err(ended) => Err(ended),
            };
            if let Err(ended) = worked {
                break ended;
            }
            tokio::task::coop::consume_budget().await;
        };
        self.side.end(&inbox, ended);
    }

    async fn work<E>(&mut self, demand: Arc<DemandSender>, events: Batch<E>) -> Result<(), Ended>
    where
        S: Service<Vec<E>>,
        S::Response: IntoIterator<Item = T>,
        S::Error: Display,
    {
        let Batched { side, service } = self;
        let mut tally = Tally::new(demand);
        let mut left = events.into_vec();
        while !left.is_empty() {
            let wanted = side.wanted().await?;
            let later = if left.len() > wanted { left.split_off(wanted) } else { Vec::new() };
            let now = std::mem::replace(&mut left, later);
            let count = now.len();
            side.ready(service).await?;
            let outcome = match guard::run(|| service.call(now)) {
                Err(panic) => Err(panic),
                Ok(future) => guard::catch(future).await,
            };
            let mut made = side.outcomes.record(outcome).into_iter().flatten().collect();
            side.feed(&mut made)?;
            tally.add(count);
            tally.report();
        }
        Ok(())
    }
}
