//! Retention: drops old revisions in the background (decision 20).
//!
//! A separate stage. One producer emits histories that have grown. Another goes through all actors in rounds, for revisions
//! that have become too old and for changed settings. A consumer with its own demand calls the store to prune the histories.
//! When the queue is full, a history waits for the next round: a late prune does no harm.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use metrics::{Counter, counter};
use tidegate_pipeline::layer::TimedLayer;
use tidegate_pipeline::{
    Bound, Consumer, ConsumerOptions, Demand, Drain, Full, Producer, ProducerOptions, Source,
    SubscribeError, SubscribeOptions,
};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceBuilder};
use tracing::{debug, warn};

use crate::history::Retention;
use crate::metrics::REVISIONS_DROPPED_TOTAL;
use crate::ports::{Clock, StateStore};
use crate::registry::directory::Directory;
use crate::registry::entry::Entry;

/// Grown histories that wait to be pruned; more wait for the next round.
const WAITING: usize = 4_096;
/// Histories that are pruned concurrently.
const AT_ONCE: usize = 4;
/// A history is pruned when it is this many revisions too long. Pruning one by one would cost as much as appending.
const SLACK: u64 = 64;
/// Time between two rounds.
const ROUND: Duration = Duration::from_hours(1);
/// Time before the first round, to leave the start its resources; and before one that is repeated.
const SOON: Duration = Duration::from_mins(1);
/// Actors per step of a round, and the pause between two steps: some hundred actors per second.
const STEP: usize = 16;
const STEP_PAUSE: Duration = Duration::from_millis(50);
/// How long one pruning may take. A store may have to read all revisions that are kept to count them.
const PRUNE_LIMIT: Duration = Duration::from_mins(5);

/// Receives word of grown histories. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Growth {
    /// Both producers are `None` when all revisions are kept.
    grown: Option<Producer<Arc<Entry>>>,
    rounds: Option<Producer<Arc<Entry>>>,
    ended: CancellationToken,
    /// A history is pruned each time it has grown by this many revisions.
    stride: u64,
}

impl Growth {
    /// Starts the stage, unless all revisions are kept.
    pub(crate) fn start(
        retention: Retention,
        directory: Arc<Directory>,
        store: Arc<dyn StateStore>,
        clock: Arc<dyn Clock>,
        drain: &Drain,
    ) -> Result<Self, SubscribeError> {
        let ended = CancellationToken::new();
        if retention.is_endless() {
            return Ok(Self { grown: None, rounds: None, ended, stride: u64::MAX });
        }
        let bound = Bound { events: WAITING, bytes: usize::MAX };
        let options = ProducerOptions { name: "retention", bound, full: Full::Shed };
        let grown = Producer::new(options, Demand::new());
        let failed = Arc::new(AtomicBool::new(false));
        let rounds = Rounds {
            directory,
            left: Vec::new(),
            shard: 0,
            pause: SOON,
            is_over: false,
            failed: failed.clone(),
        };
        let rounds = Producer::from_source("retention_rounds", Demand::new(), rounds, drain);
        let dropped = counter!(REVISIONS_DROPPED_TOTAL);
        let prune = Prune { retention, store, clock, dropped, failed, ended: ended.clone() };
        let prune = ServiceBuilder::new().layer(TimedLayer { stage: "retention" }).service(prune);
        let options = ConsumerOptions { name: "retention", concurrency: AT_ONCE };
        let consumer = Consumer::spawn(options, prune, drain);
        consumer.subscribe(&grown, SubscribeOptions::max_demand(AT_ONCE))?;
        consumer.subscribe(&rounds, SubscribeOptions::max_demand(AT_ONCE))?;
        let slack = retention.revisions.map_or(SLACK, |kept| (kept / 8).clamp(1, SLACK));
        Ok(Self { grown: Some(grown), rounds: Some(rounds), ended, stride: slack })
    }

    /// Records that an actor's history has grown to this revision.
    pub(crate) fn grew(&self, entry: &Arc<Entry>, revision: u64) {
        if let Some(log) = &entry.topic {
            // It has a retention of its own.
            return log.appended(revision);
        }
        let Some(grown) = &self.grown else { return };
        if !revision.is_multiple_of(self.stride) {
            return;
        }
        // With a full queue, the history is pruned after its next growth.
        if let Ok(permit) = grown.try_reserve(0)
            && let Err(rejected) = grown.cast(entry.clone(), permit)
        {
            drop(rejected);
        }
    }

    /// Ends the stage, even when histories wait or are being pruned.
    pub(crate) fn end(&self) {
        self.ended.cancel();
        for producer in [&self.grown, &self.rounds].into_iter().flatten() {
            producer.end();
        }
    }
}

/// Iterates over all stateful actors, in rounds.
struct Rounds {
    directory: Arc<Directory>,
    left: Vec<Arc<Entry>>,
    shard: usize,
    /// The pause before the next step.
    pause: Duration,
    /// Whether a round has ended: the next one comes soon if a history of it could not be pruned, for example on a full disk.
    is_over: bool,
    failed: Arc<AtomicBool>,
}

impl Source for Rounds {
    type Event = Arc<Entry>;

    async fn events(&mut self, demand: usize) -> Option<Vec<Arc<Entry>>> {
        // The sleep comes first, so a dropped future loses no actors.
        sleep(self.pause).await;
        if std::mem::take(&mut self.is_over) && !self.failed.swap(false, Ordering::Relaxed) {
            self.pause = ROUND.saturating_sub(SOON);
            return Some(Vec::new());
        }
        self.pause = STEP_PAUSE;
        while self.left.is_empty() {
            let Some(entries) = self.directory.shard_entries(self.shard) else {
                (self.shard, self.pause, self.is_over) = (0, SOON, true);
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
    failed: Arc<AtomicBool>,
    ended: CancellationToken,
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
        let pruning = self.store.prune(&entry.key, keep);
        let (dropped, ended) = (self.dropped.clone(), self.ended.clone());
        let failed = self.failed.clone();
        Box::pin(async move {
            let Some(pruned) = ended.run_until_cancelled(timeout(PRUNE_LIMIT, pruning)).await
            else {
                return Ok(());
            };
            failed.fetch_or(!matches!(pruned, Ok(Ok(_))), Ordering::Relaxed);
            match pruned {
                Ok(Ok(count)) => dropped.increment(count),
                Ok(Err(error)) => {
                    debug!(actor = %entry.actor, %error, "history not pruned this time");
                }
                Err(_) => warn!(actor = %entry.actor, "history not pruned within {PRUNE_LIMIT:?}"),
            }
            Ok(())
        })
    }
}
