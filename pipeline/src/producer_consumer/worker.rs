//! Worker: the task of a producer-consumer that runs its service once per event.

use std::fmt::Display;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tower::Service;

use super::producing_side::ProducingSide;
use crate::consumer::YIELD_EVERY;
use crate::dispatcher::Dispatcher;
use crate::guard;
use crate::inbox::{Ended, Inbox};
use crate::subscription::{Batch, DemandSender};
use crate::tally::Tally;

pub(super) struct Worker<T: Send + 'static, D: Dispatcher<T>, S> {
    pub(super) side: ProducingSide<T, D>,
    pub(super) service: S,
}

impl<T: Send + 'static, D: Dispatcher<T>, S> Worker<T, D, S> {
    pub(super) async fn run<E>(mut self, mut inbox: Inbox<E>)
    where
        S: Service<E>,
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
        S: Service<E>,
        S::Response: IntoIterator<Item = T>,
        S::Error: Display,
    {
        let Worker { side, service } = self;
        let mut wanted = side.wanted().await?;
        let mut made = Vec::with_capacity(wanted.min(events.len()));
        let mut tally = Tally::new(demand);
        for (count, event) in (1..).zip(events) {
            if made.len() >= wanted {
                side.feed(&mut made)?;
                tally.report();
                wanted = side.wanted().await?;
            }
            side.ready(service).await?;
            let outcome = match guard::run(|| service.call(event)) {
                Err(panic) => Err(panic),
                Ok(future) => {
                    let mut future = pin!(future);
                    let first = poll_fn(|cx| Poll::Ready(guard::poll(future.as_mut(), cx))).await;
                    if let Poll::Ready(outcome) = first {
                        outcome
                    } else {
                        // The wait may be long: finished events are passed on before it.
                        side.feed(&mut made)?;
                        tally.report();
                        let outcome = guard::catch(future).await;
                        wanted = side.wanted_now();
                        outcome
                    }
                }
            };
            made.extend(side.outcomes.record(outcome).into_iter().flatten());
            tally.one();
            if count % YIELD_EVERY == 0 {
                tokio::task::coop::consume_budget().await;
            }
        }
        side.feed(&mut made)
    }
}
