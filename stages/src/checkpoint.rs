//! Checkpoint: makes states durable, many actors in one commit, and completes the turns that waited for it.
//!
//! In [`Planned`](crate::call::Planned), out [`Committed`](crate::call::Committed), which leaves through the
//! [egress](crate::egress). While the
//! store writes one batch, the next one fills. A store that is far away gets several batches at once; no two of them hold
//! the same actor. An actor's next turn runs on the new state meanwhile. Its reply waits here for the older commits of the
//! same actor, and so does every reply that reports a state which is not durable yet (decision 13).
//!
//! A commit that was certainly not written abandons its activation, unless a later commit of the activation was, or may
//! have been, written. The pending turns of an abandoned activation fail, and the next call loads the actor again. A
//! commit of unknown outcome puts the activation in doubt: it is written again until the store acknowledges it, and
//! meanwhile calls of the actor are refused (decision 14). It is written again also when a later turn has abandoned the
//! activation: the next activation must not read a state that may still change.

mod batch;
mod claim;
mod coalesce;
mod gate;
mod queue;
mod submit;

pub(crate) use gate::CheckpointGate;
pub(crate) use queue::CheckpointQueue;
pub(crate) use submit::Submit;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, SelectAll};
use futures_util::{FutureExt, StreamExt};
use metrics::{Counter, Gauge, counter, gauge};
use tidegate_pipeline::Drain;
use tidegate_pipeline::layer::Delays;
use tokio::time::sleep;
use tower::Service;
use tracing::{debug, info, warn};

use crate::activation::incarnation::Unsettled;
use crate::call::BoxPlanned;
use crate::checkpoint::batch::Batch;
use crate::checkpoint::claim::{Claim, Claims, Group, fail_all};
use crate::checkpoint::coalesce::{Outcome, coalesce, outcome_of, reached};
use crate::egress::Egress;
use crate::metrics::{
    COMMITS_IN_DOUBT, COMMITS_TOTAL, REVISIONS_APPENDED_BYTES_TOTAL, REVISIONS_APPENDED_TOTAL,
};
use crate::ports::{StateStore, StoreError};
use crate::retention::Growth;
use crate::rules::Durability;
use crate::store_breaker::{Access, FIRST_PAUSE, LONGEST_PAUSE, StoreBreaker};

/// The stage; see the [module](self). Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Checkpoint {
    store: Arc<dyn StateStore>,
    store_breaker: Arc<StoreBreaker>,
    egress: Egress,
    tasks: Drain,
    durability: Durability,
    growth: Growth,
    claims: Arc<Claims>,
    /// Activations in doubt.
    doubts: Arc<AtomicUsize>,
    written: Counter,
    lost: Counter,
    in_doubt: Gauge,
    appended: Counter,
    appended_bytes: Counter,
}

impl Checkpoint {
    pub(crate) fn new(
        store: Arc<dyn StateStore>,
        store_breaker: Arc<StoreBreaker>,
        queue: &CheckpointQueue,
        tasks: Drain,
        durability: Durability,
        growth: Growth,
    ) -> Self {
        Self {
            store,
            store_breaker,
            egress: queue.egress.clone(),
            tasks,
            durability,
            growth,
            claims: queue.claims.clone(),
            doubts: Arc::default(),
            written: counter!(COMMITS_TOTAL, "outcome" => "written"),
            lost: counter!(COMMITS_TOTAL, "outcome" => "lost"),
            in_doubt: gauge!(COMMITS_IN_DOUBT),
            appended: counter!(REVISIONS_APPENDED_TOTAL),
            appended_bytes: counter!(REVISIONS_APPENDED_BYTES_TOTAL),
        }
    }

    /// Writes groups, and what queues behind them, until all of it is written or in doubt.
    async fn write(&self, groups: Vec<Group>) {
        let mut writing = SelectAll::new();
        writing.push(self.write_once(groups));
        while let Some(group) = writing.next().await {
            // All groups that are ready by now go into one commit.
            let mut groups = vec![group];
            while let Some(Some(group)) = writing.next().now_or_never() {
                groups.push(group);
            }
            writing.push(self.write_once(groups));
        }
    }

    /// Writes groups once. When the outcome of a group is known, the stream yields the turns that queued behind it; they must
    /// be written next.
    fn write_once(&self, groups: Vec<Group>) -> BoxStream<'_, Group> {
        let batch = Batch::new(groups, &*self.store);
        let written = stream::unfold(batch, move |mut batch| async move {
            loop {
                let (group, covered_by) = batch.next().await?;
                if let Some(next) = self.decide(group, &covered_by, batch.outcomes()) {
                    return Some((next, batch));
                }
            }
        });
        written.boxed()
    }

    /// Completes the turns of one activation in a batch, fails them, or puts them in doubt. Returns the turns that queued
    /// meanwhile; they must be written next.
    fn decide(
        &self,
        group: Group,
        covered_by: &[Option<usize>],
        outcomes: &[Outcome],
    ) -> Option<Group> {
        let Group { claim, mut turns } = group;
        let reached = reached(covered_by, outcomes);
        for covered_by in covered_by {
            let Err(error) = outcome_of(*covered_by, outcomes) else {
                if let Some(planned) = turns.pop_front() {
                    self.written(planned);
                }
                continue;
            };
            // A later state was, or may have been, written, and it holds this change.
            let is_held = reached > *covered_by;
            // In snapshot mode memory may be ahead of the store: it is kept, and written when the store works again.
            let is_kept = self.durability == Durability::Snapshot && !error.is_final();
            let is_unsure = error.may_have_happened() && !error.is_final();
            if !is_held {
                self.store_breaker.record_failure(Access::Write, error);
            }
            if is_unsure || is_held || is_kept {
                self.doubt(claim, turns, error);
                return None;
            }
            self.lost(&claim, turns, error);
            break;
        }
        claim.next()
    }

    /// Completes a turn: its change, if it made one, is durable.
    fn written(&self, planned: BoxPlanned) {
        if let Some(save) = &planned.save {
            self.written.increment(1);
            self.store_breaker.record_success(Access::Write);
            if let Some(head) = save.head.as_ref().filter(|_| save.append) {
                self.appended.increment(1);
                self.appended_bytes.increment(head.content.bytes() as u64);
                self.growth.grew(&planned.entry, head.revision);
            }
        }
        self.egress.complete(planned.committed());
    }

    /// Fails these turns: none of them was written.
    fn lost(&self, claim: &Claim, turns: VecDeque<BoxPlanned>, error: &StoreError) {
        claim.incarnation().abandon(error);
        self.lost.increment(turns.len() as u64);
        fail_all(turns, error);
    }

    /// Puts an activation in doubt, and starts the task that ends the doubt. An abandoned activation stays abandoned. Its turns that
    /// the store may have are written again all the same: the actor's next activation waits until their outcome is known.
    fn doubt(&self, claim: Claim, turns: VecDeque<BoxPlanned>, error: &StoreError) {
        if let Err(abandoned) = claim.incarnation().enter_doubt() {
            // What queues behind it is not written any more.
            fail_all(claim.take(usize::MAX), &abandoned);
        }
        let actor = turns.front().map(|planned| planned.entry.actor.clone());
        let unsure = turns.len();
        claim.put_back(turns);
        // An outage puts every actor that is written in doubt; only the first one is logged.
        self.in_doubt.increment(1);
        if self.doubts.fetch_add(1, Ordering::Relaxed) == 0 {
            warn!(?actor, %error, "commit not confirmed: writing it again, and those that follow it");
        } else {
            debug!(?actor, %error, "commit not confirmed: writing it again");
        }
        self.tasks.spawn(self.clone().resolve(claim, unsure));
    }

    /// Ends a doubt, then writes what queued meanwhile. Boxed, because that may end in a doubt again.
    fn resolve(self, claim: Claim, unsure: usize) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let next = self.write_again(claim, unsure).await;
            self.in_doubt.decrement(1);
            if self.doubts.fetch_sub(1, Ordering::Relaxed) == 1 {
                info!("no commit is in doubt any more");
            }
            self.write(next.into_iter().collect()).await;
        })
    }

    /// Writes what is in doubt, and what queues behind it, until the store acknowledges it. Of an abandoned activation only the
    /// first `unsure` turns are written: those that were with the store before. Returns what queued during the last write.
    async fn write_again(&self, claim: Claim, mut unsure: usize) -> Option<Group> {
        let incarnation = claim.incarnation().clone();
        let mut delays = Delays::new(FIRST_PAUSE, LONGEST_PAUSE);
        loop {
            sleep(delays.next_delay()).await;
            // Only the newest head is written, and those from which a revision is appended. Their times stay the same:
            // a store that keeps revisions by time then replaces the record.
            let most = if incarnation.is_abandoned() { unsure } else { usize::MAX };
            let queued = claim.queued_saves(most);
            let mut saves = Vec::new();
            let covered_by = coalesce(queued.iter().map(Option::as_ref), &mut saves);
            let unsettled = Unsettled::new(&incarnation);
            let outcomes = self.store.save_all(saves).await;
            let failed = |covered_by: &Option<usize>| outcome_of(*covered_by, &outcomes).is_err();
            let durable = covered_by.iter().position(failed).unwrap_or(covered_by.len());
            for planned in claim.take(durable) {
                self.written(planned);
            }
            unsure = queued.len() - durable;
            drop(unsettled);
            match outcomes.into_iter().find_map(Result::err) {
                None => {
                    incarnation.leave_doubt();
                    break;
                }
                Some(error) if error.is_final() => {
                    incarnation.abandon(&error);
                    fail_all(claim.take(unsure), &error);
                    break;
                }
                Some(_) => {}
            }
        }
        claim.next()
    }
}

impl Service<Vec<BoxPlanned>> for Checkpoint {
    type Response = ();
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<(), Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, batch: Vec<BoxPlanned>) -> Self::Future {
        let stage = self.clone();
        Box::pin(async move {
            let groups = stage.claims.group(batch);
            stage.write(groups).await;
            Ok(())
        })
    }
}
