//! Retention: drops revisions that need not be kept any more (decision 20), beside everything else.
//!
//! A stage of its own: one producer tells of histories that have grown, another goes round all actors (for age, and after
//! a change of the settings); a consumer with a demand of its own asks the store to prune them. What does not fit
//! is left to the next time: nothing depends on when a revision goes.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use metrics::{Counter, counter};
use tidegate_pipeline::layer::TimedLayer;
use tidegate_pipeline::{
    Bound, Consumer, ConsumerOptions, Demand, Drain, Full, Producer, ProducerOptions, Source,
    SubscribeError, SubscribeOptions,
};
use tokio::time::sleep;
use tower::{Service, ServiceBuilder};
use tracing::debug;

use crate::history::Retention;
use crate::metrics::REVISIONS_DROPPED_TOTAL;
use crate::ports::{Clock, StateStore};
use crate::registry::directory::Directory;
use crate::registry::entry::Entry;
use crate::store_limit::in_time;

/// Histories that have grown and wait to be pruned; more are left to the next round.
const WAITING: usize = 4_096;
/// Histories pruned at the same time.
const AT_ONCE: usize = 4;
/// Revisions beyond those to keep, at most: pruning one by one would cost as much as appending.
const SLACK: u64 = 64;
/// Time between two rounds.
const ROUND: Duration = Duration::from_hours(1);
/// Time before the first round: starting has other things to do.
const FIRST_ROUND: Duration = Duration::from_mins(1);
/// Actors of a round that are looked at before it pauses, and how long: some hundred a second.
const STEP: usize = 16;
const STEP_PAUSE: Duration = Duration::from_millis(50);

/// Where it is told that a history has grown. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Growth {
    /// Both are `None` when everything is kept.
    grown: Option<Producer<Arc<Entry>>>,
    rounds: Option<Producer<Arc<Entry>>>,
    /// A history is looked at whenever it has grown by so much.
    stride: u64,
}

impl Growth {
    /// Starts the stage, unless everything is kept.
    pub(crate) fn start(
        retention: Retention,
        directory: Arc<Directory>,
        store: Arc<dyn StateStore>,
        clock: Arc<dyn Clock>,
        drain: &Drain,
    ) -> Result<Self, SubscribeError> {
        if retention.is_endless() {
            return Ok(Self { grown: None, rounds: None, stride: u64::MAX });
        }
        let bound = Bound { events: WAITING, bytes: usize::MAX };
        let options = ProducerOptions { name: "retention", bound, full: Full::Shed };
        let grown = Producer::new(options, Demand::new());
        let rounds = Rounds { directory, left: Vec::new(), shard: 0, pause: FIRST_ROUND };
        let rounds = Producer::from_source("retention_rounds", Demand::new(), rounds, drain);
        let dropped = counter!(REVISIONS_DROPPED_TOTAL);
        let prune = Prune { retention, store, clock, dropped };
        let prune = ServiceBuilder::new().layer(TimedLayer { stage: "retention" }).service(prune);
        let options = ConsumerOptions { name: "retention", concurrency: AT_ONCE };
        let consumer = Consumer::spawn(options, prune, drain);
        consumer.subscribe(&grown, SubscribeOptions::max_demand(AT_ONCE))?;
        consumer.subscribe(&rounds, SubscribeOptions::max_demand(AT_ONCE))?;
        let slack = retention.revisions.map_or(SLACK, |kept| (kept / 8).clamp(1, SLACK));
        Ok(Self { grown: Some(grown), rounds: Some(rounds), stride: slack })
    }

    /// An actor's history has grown to this revision.
    pub(crate) fn grew(&self, entry: &Arc<Entry>, revision: u64) {
        let Some(grown) = &self.grown else { return };
        if !revision.is_multiple_of(self.stride) {
            return;
        }
        // Without room it is looked at when it has grown again.
        if let Ok(permit) = grown.try_reserve(0)
            && let Err(rejected) = grown.cast(entry.clone(), permit)
        {
            drop(rejected);
        }
    }

    /// Ends the stage, whatever waits.
    pub(crate) fn end(&self) {
        for producer in [&self.grown, &self.rounds].into_iter().flatten() {
            producer.end();
        }
    }
}

/// Goes round all actors that have state.
struct Rounds {
    directory: Arc<Directory>,
    left: Vec<Arc<Entry>>,
    shard: usize,
    /// How long it waits before it goes on.
    pause: Duration,
}

impl Source for Rounds {
    type Event = Arc<Entry>;

    async fn events(&mut self, demand: usize) -> Option<Vec<Arc<Entry>>> {
        // Here, not where it is set: a future that is dropped in between forgets nothing.
        sleep(self.pause).await;
        self.pause = STEP_PAUSE;
        while self.left.is_empty() {
            let Some(entries) = self.directory.shard_entries(self.shard) else {
                (self.shard, self.pause) = (0, ROUND);
                return Some(Vec::new());
            };
            self.shard += 1;
            self.left = entries;
            self.left.retain(|entry| entry.spec().hosted.definition.stateful);
        }
        Some(self.left.split_off(self.left.len().saturating_sub(demand.min(STEP))))
    }
}

/// The consumer's service. Cheap to clone.
#[derive(Debug, Clone)]
struct Prune {
    retention: Retention,
    store: Arc<dyn StateStore>,
    clock: Arc<dyn Clock>,
    dropped: Counter,
}

impl Service<Arc<Entry>> for Prune {
    type Response = ();
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<(), Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, entry: Arc<Entry>) -> Self::Future {
        let keep = self.retention.keep(self.clock.now());
        let pruning = self.store.prune(&entry.id(), keep);
        let dropped = self.dropped.clone();
        Box::pin(async move {
            match in_time(pruning).await {
                Ok(count) => dropped.increment(count),
                Err(error) => debug!(actor = %entry.actor, %error, "history not pruned this time"),
            }
            Ok(())
        })
    }
}
